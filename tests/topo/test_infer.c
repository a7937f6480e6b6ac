/* SPDX-License-Identifier: MIT */
/*
 * Which pairs are measured of many, and what the others are taken to have: on made-up networks, of which what the rounds
 * would have measured is known and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */
#include "../../tools/topo/infer.h"

#include <cmocka.h>

#define RANKS 128

static struct survey s;
static struct rank_facts ranks[RANKS];
static int32_t via[RANKS * RANKS];
static double truth[RANKS * RANKS], late[RANKS * RANKS], rate[RANKS * RANKS], trip[RANKS * RANKS];
static bool met[RANKS * RANKS];

/* Bytes a second and seconds from host to host. */
typedef double network(int a, int b);

static void forget(void)
{
	free(s.group);
	s.group = NULL;
}

/* Measured at once: pairs that meet in a round. */
static void make(int hosts, int per, network *bytes)
{
	struct rounds r;
	int n = hosts * per;
	assert_in_range(n, 1, RANKS);
	forget();
	s = (struct survey){.n = n, .nhosts = hosts, .ntransports = 2, .rank = ranks, .via = via};
	s.busy = (struct at_once){.bandwidth = rate, .latency = trip, .measured = met};
	memset(met, 0, sizeof(met));
	for (int i = 0; i < n; i++) {
		ranks[i] = (struct rank_facts){.host = i / per, .memory = i / per};
		for (int j = 0; j < n; j++) {
			double noise = 1 + (i * 7 + j * 3) % 10 / 50.0;
			via[i * n + j] = i == j ? -1 : i / per != j / per;
			truth[i * n + j] = (i / per == j / per ? 10e9 : bytes(i / per, j / per)) * noise;
			late[i * n + j] = 20e-6;
		}
	}
	assert_int_equal(rounds_at_once(&r, n), TUTTI_OK);
	memset(rate, 0, sizeof(rate));
	memset(trip, 0, sizeof(trip));
	for (int i = 0; i < r.count * n; i++) {
		int me = i % n, peer = r.partner[i];
		if (peer < 0)
			continue;
		met[me * n + peer] = true;
		rate[me * n + peer] = truth[me * n + peer];
		trip[me * n + peer] = late[me * n + peer];
	}
	rounds_free(&r);
}

static double even(int a, int b)
{
	return a == b ? 0 : 1e9;
}
/* Dealt out to two switches in turn; the last host has a bad cable, and one way of it is worse. */
static double switches(int a, int b)
{
	int last = s.nhosts - 1;
	return a == last ? 0.05e9 : b == last ? 0.1e9 : a % 2 == b % 2 ? 1e9 : 0.2e9;
}
/* One cable between hosts 2 and 6 is bad. */
static double one_cable(int a, int b)
{
	return (a == 2 && b == 6) || (a == 6 && b == 2) ? 0.1e9 : 1e9;
}
/* Four by four on switches. */
static double fours(int a, int b)
{
	return a / 4 == b / 4 ? 1e9 : 0.1e9;
}

static void hosts_that_are_alike_are_a_group(void **state)
{
	(void)state;
	for (int hosts = 17; hosts <= 64; hosts++) {
		make(hosts, 1, even);
		assert_int_equal(infer_groups(&s), TUTTI_OK);
		for (int h = 0; h < hosts; h++)
			assert_int_equal(s.group[h], 0);
		make(hosts, 2, switches);
		assert_int_equal(infer_groups(&s), TUTTI_OK);
		for (int h = 0; h < hosts; h++)
			assert_int_equal(s.group[h], h == hosts - 1 ? 2 : h % 2);
		make(hosts, 1, one_cable);
		assert_int_equal(infer_groups(&s), TUTTI_OK);
		for (int h = 0; h < hosts; h++)
			assert_int_equal(s.group[h], 0);
	}
}

/* A pair that was lucky joins no switches: most between them are slow. */
static void lucky_pairs_join_nobody(void **state)
{
	(void)state;
	for (int hosts = 20; hosts <= 64; hosts += 4) {
		make(hosts, 2, switches);
		for (int i = 8; i < 12; i += 2) { /* the first rank of a host meets that of the next one */
			assert_true(met[i * s.n + i + 2]);
			rate[i * s.n + i + 2] = rate[(i + 2) * s.n + i] = 0.9e9;
		}
		assert_int_equal(infer_groups(&s), TUTTI_OK);
		for (int h = 0; h < hosts; h++)
			assert_int_equal(s.group[h], h == hosts - 1 ? 2 : h % 2);
	}
}

static void groups_are_few(void **state)
{
	(void)state;
	make(40, 1, fours);
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	for (int h = 0; h < 40; h++) {
		assert_int_equal(s.group[h], h / 4 < INFER_GROUPS - 1 ? h / 4 : INFER_GROUPS - 1);
	}
}

/* After the missing pairs have been measured as well, every pair has a figure, or that of its class. */
static void expect_truth(double tolerance)
{
	struct pair *list;
	int pairs, n = s.n;
	assert_int_equal(infer_missing(&s, &list, &pairs), TUTTI_OK);
	for (int k = 0; k < pairs; k++)
		for (int turn = 0; turn < 2; turn++) {
			int i = turn ? list[k].i : list[k].j, j = turn ? list[k].j : list[k].i;
			assert_false(met[i * n + j]);
			met[i * n + j] = true;
			rate[i * n + j] = truth[i * n + j];
		}
	free(list);
	assert_int_equal(infer_missing(&s, &list, &pairs), TUTTI_OK);
	assert_int_equal(pairs, 0);
	free(list);
	assert_int_equal(infer_fill(&s, met, rate), TUTTI_OK);
	for (int i = 0; i < n * n; i++)
		if (i % n != i / n && (rate[i] < truth[i] / tolerance || rate[i] > truth[i] * tolerance))
			fail_msg("%d to %d: %g, not %g", i / n, i % n, rate[i], truth[i]);
}

static void what_was_not_measured_is_as_its_class(void **state)
{
	(void)state;
	for (int hosts = 17; hosts <= 64; hosts += 5)
		for (int per = 1; per <= 2; per++) {
			make(hosts, per, even);
			assert_int_equal(infer_groups(&s), TUTTI_OK);
			expect_truth(1.25);
			make(hosts, per, switches);
			assert_int_equal(infer_groups(&s), TUTTI_OK);
			expect_truth(1.25);
		}
	/* the ranks of two hosts have what others of these have: some of them met */
	make(16, 4, one_cable);
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	expect_truth(1.25);
}

/* One cable of another kind, between hosts that didn't meet. */
static void a_rare_class_is_measured(void **state)
{
	struct pair *list;
	int pairs;
	(void)state;
	make(32, 1, even);
	via[3 * 32 + 10] = via[10 * 32 + 3] = 0;
	assert_false(met[3 * 32 + 10]);
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	assert_int_equal(infer_missing(&s, &list, &pairs), TUTTI_OK);
	assert_int_equal(pairs, 1);
	assert_true(list[0].i == 3 && list[0].j == 10);
	free(list);
}

static bool is_listed(const struct pair *list, int pairs, int i, int j)
{
	for (int k = 0; k < pairs; k++)
		if (list[k].i == i && list[k].j == j)
			return true;
	return false;
}

static void a_few_of_each_class_are_measured_alone(void **state)
{
	struct pair *list;
	int pairs, n, of[3][3] = {{0}};
	(void)state;
	make(64, 2, switches);
	n = s.n;
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	assert_int_equal(infer_alone(&s, &list, &pairs), TUTTI_OK);
	/* within hosts; two switches, the bad host: 0-0, 0-1, 0-2, 1-1, 1-2 */
	assert_in_range(pairs, 6 * INFER_EACH, 6 * INFER_EACH);
	for (int k = 0; k < pairs; k++) {
		int a = ranks[list[k].i].host, b = ranks[list[k].j].host;
		assert_true(list[k].i < list[k].j && list[k].j < n);
		if (a != b)
			of[s.group[a]][s.group[b]]++, of[s.group[b]][s.group[a]]++;
	}
	assert_int_equal(of[0][0], 2 * INFER_EACH);
	assert_int_equal(of[0][1], INFER_EACH);
	assert_int_equal(of[0][2], INFER_EACH);
	assert_int_equal(of[1][2], INFER_EACH);
	free(list);
	/* and what stands out: once for two hosts, be it of their ranks what it may */
	make(16, 4, one_cable);
	n = s.n;
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	assert_int_equal(infer_alone(&s, &list, &pairs), TUTTI_OK);
	assert_int_equal(pairs, 2 * INFER_EACH + 1);
	assert_true(ranks[list[pairs - 1].i].host == 2 && ranks[list[pairs - 1].j].host == 6);
	free(list);
	/* also late ones, and of many the worst */
	make(32, 1, even);
	for (int k = 0; k < 20; k++)
		trip[k * 32 + k + 1] = trip[(k + 1) * 32 + k] = 1e-3 * (1 + k);
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	assert_int_equal(infer_alone(&s, &list, &pairs), TUTTI_OK);
	assert_int_equal(pairs, INFER_EACH + INFER_SUSPECTS);
	for (int k = 12; k < 20; k++)
		assert_true(is_listed(list, pairs, k, k + 1));
	free(list);
	/* few pairs: none twice */
	make(2, 1, even);
	assert_int_equal(infer_groups(&s), TUTTI_OK);
	assert_int_equal(infer_alone(&s, &list, &pairs), TUTTI_OK);
	assert_int_equal(pairs, 1);
	free(list);
	forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hosts_that_are_alike_are_a_group),
	        cmocka_unit_test(groups_are_few),
	        cmocka_unit_test(lucky_pairs_join_nobody),
	        cmocka_unit_test(what_was_not_measured_is_as_its_class),
	        cmocka_unit_test(a_rare_class_is_measured),
	        cmocka_unit_test(a_few_of_each_class_are_measured_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
