/* SPDX-License-Identifier: MIT */
/* The largest group of ranks that all reach each other, against all subsets. */
#include "expect.h"

#include "../../src/control/group.h"

#include <stdlib.h>
#include <string.h>

#define MOST 12

static uint64_t seed = 1;

static unsigned draw(unsigned below)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

static void cut_pair(uint8_t *cut, int n, int a, int b)
{
	if (a != b)
		cut[a * n + b] = cut[b * n + a] = 1;
}

/* The first of the largest, as bits; bit n - 1 - r is rank r, so that a group with lower ranks is a larger number. */
static unsigned by_trying(const uint8_t *cut, const uint8_t *living, int n)
{
	unsigned best = 0;

	for (unsigned set = 0; set < 1u << n; set++) {
		bool good = true;
		for (int a = 0; a < n && good; a++)
			for (int b = 0; b <= a && good; b++)
				if (set >> (n - 1 - a) & set >> (n - 1 - b) & 1)
					good = living[a] && living[b] && !cut[a * n + b];
		if (good && (__builtin_popcount(set) > __builtin_popcount(best) ||
		             (__builtin_popcount(set) == __builtin_popcount(best) && set > best)))
			best = set;
	}
	return best;
}

static void check(const uint8_t *cut, const uint8_t *living, int n)
{
	uint8_t group[MOST];
	unsigned set = 0;

	assert_true(group_largest(cut, living, n, group));
	for (int r = 0; r < n; r++)
		set = set << 1 | group[r];
	assert_int_equal(set, by_trying(cut, living, n));
}

static void test_random_cuts(void **state)
{
	(void)state;
	for (int round = 0; round < 600; round++) {
		int n = 1 + (int)draw(MOST), hosts = 1 + (int)draw(5), ncuts = (int)draw(12);
		uint8_t cut[MOST * MOST] = {0}, living[MOST];
		for (int r = 0; r < n; r++)
			living[r] = draw(8) != 0;
		for (int i = 0; i < ncuts; i++) {
			int a = (int)draw((unsigned)n), b = (int)draw((unsigned)n);
			if (round % 2) /* pairs; else all of two hosts */
				cut_pair(cut, n, a, b);
			for (int x = 0; x < n && round % 2 == 0; x++)
				for (int y = 0; y < n; y++)
					if (x % hosts == a % hosts && y % hosts == b % hosts && a % hosts != b % hosts)
						cut_pair(cut, n, x, y);
		}
		check(cut, living, n);
	}
}

/* Each of two ranks lost two others: leaving out those two keeps four, anything else three. */
static void test_two_bad_ranks(void **state)
{
	uint8_t cut[36] = {0}, living[6] = {1, 1, 1, 1, 1, 1}, group[6];

	(void)state;
	cut_pair(cut, 6, 0, 4);
	cut_pair(cut, 6, 0, 5);
	cut_pair(cut, 6, 1, 2);
	cut_pair(cut, 6, 1, 3);
	assert_true(group_largest(cut, living, 6, group));
	assert_memory_equal(group, ((uint8_t[]){0, 0, 1, 1, 1, 1}), 6);
}

/* A network in three parts of hosts with several ranks each, and one pair of hosts besides. */
static void test_many_ranks(void **state)
{
	enum { N = 600, HOST = 4 };
	uint8_t *cut = calloc(N, N), *living = malloc(N), *group = malloc(N);
	int size = 0;

	(void)state;
	assert_true(cut && living && group);
	memset(living, 1, N);
	for (int a = 0; a < N; a++)
		for (int b = 0; b < a; b++)
			if (a / 250 != b / 250 || (a / HOST == 80 && b / HOST == 70))
				cut_pair(cut, N, a, b);
	assert_true(group_largest(cut, living, N, group));
	for (int r = 0; r < N; r++) {
		assert_int_equal(group[r], r < 250);
		size += group[r];
	}
	assert_int_equal(size, 250);
	free(cut);
	free(living);
	free(group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_two_bad_ranks),
	        cmocka_unit_test(test_random_cuts),
	        cmocka_unit_test(test_many_ranks),
	};
	return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
