/* SPDX-License-Identifier: MIT */
/* The order of rings, against brute force; which ranks measure with each other in which round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include "../../src/topo/ring.h"
#include "../../src/util/error.h"
#include "../../tools/topo/rounds.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- rings ------------------------------------------------------------------------------------------------------- */

#define RANKS 40

static double next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(*seed >> 40) / (1 << 24);
}

static bool better(struct ring_cost a, struct ring_cost b)
{
	return a.worst < b.worst || (a.worst <= b.worst && a.total < b.total);
}

/* All orders of order[at ..], by another way than the one under test: each rank in turn is put in front. */
static void best_of_all(int n, const double *cost, int *order, int at, struct ring_cost *best)
{
	if (at == n) {
		struct ring_cost c = ring_cost(n, cost, order);
		if (better(c, *best))
			*best = c;
		return;
	}
	for (int i = at; i < n; i++) {
		int chosen = order[i];
		memmove(order + at + 1, order + at, (size_t)(i - at) * sizeof(int));
		order[at] = chosen;
		best_of_all(n, cost, order, at + 1, best);
		memmove(order + at, order + at + 1, (size_t)(i - at) * sizeof(int));
		order[i] = chosen;
	}
}

static void assert_ring(int n, const int *order)
{
	bool seen[RANKS] = {false};
	assert_int_equal(order[0], 0);
	for (int i = 0; i < n; i++) {
		assert_in_range(order[i], 0, n - 1);
		assert_false(seen[order[i]]);
		seen[order[i]] = true;
	}
}

static void test_rings_against_all_orders(void **state)
{
	double cost[RANKS * RANKS];
	uint64_t seed = 1;
	(void)state;
	for (int round = 0; round < 60; round++) {
		int n = 1 + round % 8, order[RANKS], plain[RANKS], values = round % 3 ? 4 : 1 << 20;
		for (int i = 0; i < n * n; i++)
			cost[i] = (double)(1 + (int)(next_random(&seed) * values));
		for (int i = 0; i < n; i++)
			plain[i] = i;
		struct ring_cost best = ring_cost(n, cost, plain);
		best_of_all(n, cost, plain, 0, &best);
		assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
		assert_ring(n, order);
		struct ring_cost found = ring_cost(n, cost, order);
		assert_true(found.worst == best.worst && found.total == best.total);
	}
}

static void fill(int n, double *cost, double value)
{
	for (int i = 0; i < n * n; i++)
		cost[i] = value;
}

static void test_equal_links_keep_rank_order(void **state)
{
	double cost[RANKS * RANKS];
	int order[RANKS];
	(void)state;
	for (int n = 1; n <= RANKS; n++) {
		fill(n, cost, 3);
		assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
		for (int i = 0; i < n; i++)
			assert_int_equal(order[i], i);
	}
}

static void test_a_bad_cable_is_left_out(void **state)
{
	double cost[RANKS * RANKS];
	int order[RANKS];
	(void)state;
	for (int n = 4; n <= RANKS; n++) {
		fill(n, cost, 1);
		cost[1 * n + 2] = cost[2 * n + 1] = 50;
		assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
		assert_ring(n, order);
		assert_true(ring_cost(n, cost, order).worst == 1);
	}
}

/* Ranks dealt out to hosts like cards: the ring must stay in a host as long as it can. */
static void test_hosts_are_crossed_once(void **state)
{
	double cost[RANKS * RANKS];
	int order[RANKS];
	(void)state;
	for (int hosts = 2; hosts <= 5; hosts++)
		for (int n = 2 * hosts; n <= RANKS; n += hosts) {
			for (int i = 0; i < n * n; i++)
				cost[i] = i / n % hosts == i % n % hosts ? 1 : 10;
			assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
			assert_ring(n, order);
			assert_true(ring_cost(n, cost, order).total == n - hosts + 10 * hosts);
		}
}

/* Cables that form one ring and no other, in an order that is not that of ranks. */
static void test_a_hidden_ring_is_found(void **state)
{
	double cost[RANKS * RANKS];
	int order[RANKS];
	(void)state;
	for (int n = 3; n <= RANKS; n++) {
		if (n % 7 == 0)
			continue; /* 7 steps on must reach every rank */
		fill(n, cost, 100);
		for (int i = 0; i < n; i++)
			cost[i * n + (i + 7) % n] = cost[(i + 7) % n * n + i] = 1;
		assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
		assert_ring(n, order);
		assert_true(ring_cost(n, cost, order).worst == 1);
	}
}

static void test_never_worse_than_rank_order(void **state)
{
	double cost[RANKS * RANKS];
	int order[RANKS], plain[RANKS];
	uint64_t seed = 7;
	(void)state;
	for (int n = RING_EXACT + 1; n <= RANKS; n++) {
		for (int i = 0; i < n * n; i++)
			cost[i] = next_random(&seed);
		for (int i = 0; i < n; i++) {
			plain[i] = i;
			cost[i * n + (i + 1) % n] /= 8; /* hard to beat */
		}
		assert_int_equal(ring_order(n, cost, order), TUTTI_OK);
		assert_ring(n, order);
		assert_false(better(ring_cost(n, cost, plain), ring_cost(n, cost, order)));
	}
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

static bool is_power_of_two(int v)
{
	return v > 0 && (v & (v - 1)) == 0;
}

/* Few all meet each other; of many, those meet that are 1, 2, 4, ... apart. Nobody meets two at a time, or one twice. */
static void test_who_meets_whom(void **state)
{
	(void)state;
	for (int n = 1; n <= RANKS; n++) {
		int met[RANKS][RANKS] = {{0}};
		struct rounds r;
		assert_int_equal(rounds_at_once(&r, n), TUTTI_OK);
		assert_int_equal(r.count, rounds_count(n));
		for (int round = 0; round < r.count; round++)
			for (int me = 0; me < n; me++) {
				int peer = r.partner[round * n + me];
				assert_in_range(peer + 1, 0, n);
				assert_int_not_equal(peer, me);
				if (peer >= 0) {
					assert_int_equal(r.partner[round * n + peer], me);
					met[me][peer]++;
				}
			}
		rounds_free(&r);
		for (int i = 0; i < n; i++)
			for (int j = 0; j < n; j++)
				assert_int_equal(met[i][j], n <= ROUNDS_ALL ? i != j : is_power_of_two(abs(i - j)));
	}
	assert_int_equal(rounds_count(64), 12);
	assert_int_equal(rounds_count(1000), 20);
	assert_int_equal(rounds_count(65536), 32);
}

static void test_lists_of_pairs_become_rounds(void **state)
{
	static const struct pair list[] = {{0, 1}, {1, 2}, {3, 4}, {0, 2}};
	struct rounds r;
	(void)state;
	assert_int_equal(rounds_one_by_one(&r, 5, list, 4), TUTTI_OK);
	assert_int_equal(r.count, 4);
	assert_memory_equal(r.partner, ((int32_t[]){1, 0, -1, -1, -1, -1, 2, 1, -1, -1}), 10 * sizeof(int32_t));
	rounds_free(&r);
	assert_int_equal(rounds_packed(&r, 5, list, 4), TUTTI_OK);
	assert_int_equal(r.count, 3);
	assert_memory_equal(r.partner, ((int32_t[]){1, 0, -1, 4, 3, -1, 2, 1, -1, -1, 2, -1, 0, -1, -1}),
	                    15 * sizeof(int32_t));
	rounds_free(&r);
	assert_int_equal(rounds_packed(&r, 5, NULL, 0), TUTTI_OK);
	assert_int_equal(r.count, 0);
	rounds_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rings_against_all_orders), cmocka_unit_test(test_equal_links_keep_rank_order),
	        cmocka_unit_test(test_a_bad_cable_is_left_out),  cmocka_unit_test(test_hosts_are_crossed_once),
	        cmocka_unit_test(test_a_hidden_ring_is_found),   cmocka_unit_test(test_never_worse_than_rank_order),
	        cmocka_unit_test(test_who_meets_whom),           cmocka_unit_test(test_lists_of_pairs_become_rounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
