/*
 * How TUTTI_WAIT and the number of ranks decide whether a rank yields at each look: seen in the world, for a wait that spins and
 * one that yields end alike.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/comm.h"
#include "../ranks.h"

static int yields(struct tutti_comm *c, void *arg)
{
	(void)arg;
	RANK_CHECK(c->world->wait.crowded);
	RANK_OK(tutti_barrier(c, NULL));
	return 0;
}

static int keeps_its_core(struct tutti_comm *c, void *arg)
{
	(void)arg;
	RANK_CHECK(!c->world->wait.crowded);
	RANK_OK(tutti_barrier(c, NULL));
	return 0;
}

static int failed(int n, const char *policy, int (*fn)(struct tutti_comm *c, void *arg))
{
	const char *env[] = {policy, NULL};
	return ranks_run(&(struct ranks){.n = n, .env = env}, fn, NULL);
}

static void test_as_told(void **state)
{
	(void)state;
	assert_int_equal(failed(1, "TUTTI_WAIT=yield", yields), 0);
	assert_int_equal(failed(2, "TUTTI_WAIT=yield", yields), 0);
	assert_int_equal(failed(1, "TUTTI_WAIT=auto", keeps_its_core), 0);
	assert_int_equal(failed(1, "TUTTI_WAIT=sleep", keeps_its_core), 0);
}

static void test_more_ranks_than_cores(void **state)
{
	int n = (int)sysconf(_SC_NPROCESSORS_ONLN) + 1;
	(void)state;
	if (n > RANKS_MAX) {
		print_message("%d cores: more than a test's ranks\n", n - 1);
		skip();
	}
	assert_int_equal(failed(n, "TUTTI_WAIT=auto", yields), 0);
	assert_int_equal(failed(n, "TUTTI_WAIT=spin", keeps_its_core), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_as_told),
	        cmocka_unit_test(test_more_ranks_than_cores),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
