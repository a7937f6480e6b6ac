/* SPDX-License-Identifier: MIT */
/*
 * How TUTTI_WAIT and the number of ranks decide whether a rank yields at each look: seen in the world, for a wait that spins and
 * one that yields end alike. And that ranks find out by themselves that they share a core, and that they no longer do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/comm/comm.h"
#include "../../src/util/cpus.h"
#include "../ranks.h"

static int yields(struct tutti_comm *c, void *arg)
{
	(void)arg;
	RANK_CHECK(wait_crowded(&c->world->wait));
	RANK_OK(tutti_barrier(c, NULL));
	return 0;
}

static int keeps_its_core(struct tutti_comm *c, void *arg)
{
	(void)arg;
	RANK_CHECK(!wait_crowded(&c->world->wait));
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

/* ---- ranks that are bound after their start, so that nothing tells them of it ------------------------------------------ */

static int nth_core(int n)
{
	struct cpus set;
	int core = -1;
	if (!cpus_allowed(&set))
		return -1;
	for (int i = 0; i < CPUS_MAX && n >= 0; i++)
		if (cpus_has(&set, (unsigned)i)) {
			core = i;
			n--;
		}
	return n < 0 ? core : -1;
}

static int bind_to(int core)
{
	struct cpus set = {{0}};
	cpus_add(&set, (unsigned)core);
	return cpus_bind(&set) ? 0 : -1;
}

/* Calls until each rank has waited in this manner at some time. */
static int until_all(struct tutti_comm *c, bool yielding)
{
	int32_t mine = 0, all = 0;
	while (!all) {
		mine |= wait_crowded(&c->world->wait) == yielding;
		RANK_OK(tutti_allreduce(&mine, &all, 1, TUTTI_I32, TUTTI_MIN, c, NULL));
	}
	return 0;
}

static int share_and_part(struct tutti_comm *c, void *arg)
{
	int one = nth_core(0), other = nth_core(1);
	(void)arg;
	RANK_CHECK(!wait_crowded(&c->world->wait) && one >= 0 && other >= 0);
	ranks_note("both on core %d", one);
	RANK_CHECK(bind_to(one) == 0);
	RANK_OK(tutti_barrier(c, NULL));
	if (until_all(c, true))
		return 1;
	ranks_note("each on its own core");
	RANK_CHECK(bind_to(tutti_comm_rank(c) ? other : one) == 0);
	RANK_OK(tutti_barrier(c, NULL));
	return until_all(c, false);
}

static void test_a_shared_core_is_found_out(void **state)
{
	static const char *const ways[] = {"TUTTI_TRANSPORT=shm", "TUTTI_TRANSPORT=tcp"};
	(void)state;
	if (nth_core(1) < 0) {
		print_message("one core: all ranks share it from the start\n");
		skip();
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(failed(2, ways[i], share_and_part), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_as_told),
	        cmocka_unit_test(test_more_ranks_than_cores),
	        cmocka_unit_test(test_a_shared_core_is_found_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
