/* SPDX-License-Identifier: MIT */
/* Which part of what ranks want their hosts have memory for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../perf/lib/fit.h"

static void share_is(const struct claim *all, int n, double want)
{
	double is = fit_share(all, n);

	if (is < want * 0.999999 || is > want * 1.000001)
		fail_msg("a share of %g, not %g", is, want);
}

static void test_one_host(void **unused)
{
	struct claim c[4] = {{1, 100, 20}, {1, 100, 20}, {1, 90, 20}, {1, 100, 20}};

	(void)unused;
	share_is(c, 3, 1);
	share_is(c, 4, 90 * FIT_PART / 80); /* the least that a rank saw */
	c[2].available = 0;                 /* one does not know */
	share_is(c, 4, 1);
}

static void test_hosts(void **unused)
{
	struct claim c[4] = {{1, 1000, 20}, {2, 10, 20}, {1, 1000, 20}, {2, 10, 60}};

	(void)unused;
	share_is(c, 4, 10 * FIT_PART / 80);
	c[1].available = c[3].available = 0; /* nothing is known of that host */
	share_is(c, 4, 1);
}

static void test_nothing_wanted(void **unused)
{
	const struct claim c[2] = {{1, 10, 0}, {1, 10, 0}};

	(void)unused;
	share_is(c, 2, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_one_host),
	        cmocka_unit_test(test_hosts),
	        cmocka_unit_test(test_nothing_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
