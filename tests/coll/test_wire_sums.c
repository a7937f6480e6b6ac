/* SPDX-License-Identifier: MIT */
/*
 * Sums that are rounded on their way between hosts: within the bound that docs/design.md says, the same bits on all ranks,
 * by every algorithm; and what TUTTI_WIRE does not concern is as exact as ever.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ranks.h"

#define MOST   60001
#define SMALL  500 /* elements that are too few to be worth it */
#define MOST_N 6

struct way {
	const char *wire, *algo; /* algo NULL: as chosen */
	int per_host;
	bool coded; /* the algorithm can do it */
};

static void live_on_a_host(int rank, void *arg)
{
	const struct way *way = arg;
	char name[32];
	snprintf(name, sizeof(name), "host%d", rank / way->per_host);
	setenv("TUTTI_HOST", name, 1);
}

static float input(int rank, size_t i)
{
	uint32_t h = (uint32_t)(i * 2654435761u + (size_t)rank * 0x9e3779b9u);
	h = (h ^ h >> 15) * 0x85ebca6bu;
	h ^= h >> 13;
	return ((float)(h & 0xffff) / 32768.0f - 1.0f) * (i % 97 == 0 ? 50.0f : 1.0f);
}

/* The exact sum, and the sum of magnitudes, which bounds all partial sums. */
static double exact(int n, size_t i, double *magnitude)
{
	double sum = 0;
	*magnitude = 0;
	for (int r = 0; r < n; r++) {
		sum += (double)input(r, i);
		*magnitude += fabs((double)input(r, i));
	}
	return sum;
}

/* Each of at most n roundings is off by this. */
static double one_rounding(const char *wire, double here, double most)
{
	return strcmp(wire, "bf16") == 0 ? ldexp(here, -8) : most / 127;
}

static int near_enough(const char *wire, const float *out, size_t first, size_t count, int n, double divisor,
                       bool *rounded)
{
	double most = 0, here;
	for (size_t i = 0; i < MOST; i++) {
		(void)exact(n, i, &here);
		most = fmax(most, here);
	}
	for (size_t i = 0; i < count; i++) {
		double want = exact(n, first + i, &here) / divisor, got = (double)out[i];
		double bound = 1.02 * n * one_rounding(wire, here, most) / divisor;
		*rounded |= fabs(got - want) > 1e-5 * here;
		if (!(fabs(got - want) <= bound))
			return ranks_fail("element %zu is %g, not %g to within %g", first + i, got, want, bound);
	}
	return 0;
}

static int same_everywhere(struct tutti_comm *c, const void *out, size_t bytes)
{
	int n = tutti_comm_size(c);
	unsigned char *all = malloc(bytes * (size_t)n);
	RANK_CHECK(all);
	RANK_OK(tutti_allgather(out, all, bytes, TUTTI_U8, c, NULL));
	for (int r = 1; r < n; r++)
		if (memcmp(all, all + (size_t)r * bytes, bytes) != 0)
			return ranks_fail("rank %d has other bits than rank 0", r);
	free(all);
	return 0;
}

struct buffers {
	float in[MOST], out[MOST], whole[MOST_N * MOST];
};

static int allreduce_is_rounded(struct tutti_comm *c, const struct way *way, struct buffers *b)
{
	static const size_t counts[] = {1024, 4099, 32768, MOST};
	int n = tutti_comm_size(c);
	for (size_t k = 0; k < sizeof(counts) / sizeof(*counts); k++)
		for (int in_place = 0; in_place < 2; in_place++)
			for (int op = TUTTI_SUM; op <= TUTTI_AVG; op += TUTTI_AVG - TUTTI_SUM) {
				bool rounded = false;
				float *out = in_place ? b->in : b->out;
				ranks_note("allreduce of %zu, in place %d, op %d", counts[k], in_place, op);
				for (size_t i = 0; i < counts[k]; i++)
					b->in[i] = input(tutti_comm_rank(c), i);
				RANK_OK(tutti_allreduce(b->in, out, counts[k], TUTTI_F32, (enum tutti_op)op, c, NULL));
				if (near_enough(way->wire, out, 0, counts[k], n, op == TUTTI_AVG ? n : 1, &rounded) ||
				    same_everywhere(c, out, counts[k] * sizeof(float)))
					return 1;
				RANK_CHECK(rounded == way->coded);
			}
	return 0;
}

static int others_are_rounded(struct tutti_comm *c, const struct way *way, struct buffers *b)
{
	int n = tutti_comm_size(c), rank = tutti_comm_rank(c);
	size_t part = MOST / (size_t)n;
	bool rounded = false;
	for (size_t i = 0; i < MOST; i++)
		b->in[i] = input(rank, i);
	RANK_OK(tutti_reduce_scatter(b->in, b->out, part, TUTTI_F32, TUTTI_SUM, c, NULL));
	if (near_enough(way->wire, b->out, part * (size_t)rank, part, n, 1, &rounded))
		return 1;
	RANK_OK(tutti_reduce(b->in, b->out, MOST, TUTTI_F32, TUTTI_SUM, n - 1, c, NULL));
	return rank == n - 1 ? near_enough(way->wire, b->out, 0, MOST, n, 1, &rounded) : 0;
}

/* bf16 by q8: the sums are rounded to bf16 at each step besides. */
static int bf16_is_rounded(struct tutti_comm *c, const struct way *way, struct buffers *b)
{
	int n = tutti_comm_size(c);
	uint16_t *in = (uint16_t *)b->in, *out = (uint16_t *)b->out;
	double most = 0, here;
	for (size_t i = 0; i < MOST; i++) {
		float x = input(tutti_comm_rank(c), i);
		memcpy(&in[i], (char *)&x + 2, 2); /* cut short: off by 2^-7 of it at most */
		(void)exact(n, i, &here);
		most = fmax(most, here);
	}
	RANK_OK(tutti_allreduce(in, out, MOST, TUTTI_BF16, TUTTI_SUM, c, NULL));
	for (size_t i = 0; i < MOST; i++) {
		uint32_t u = (uint32_t)out[i] << 16;
		float got;
		memcpy(&got, &u, 4);
		double want = exact(n, i, &here), bound = n * (one_rounding(way->wire, here, most) + ldexp(here, -6));
		if (!(fabs((double)got - want) <= bound))
			return ranks_fail("bf16 element %zu is %g, not %g to within %g", i, (double)got, want, bound);
	}
	return same_everywhere(c, out, MOST * 2);
}

/* Sums that are exact in any order, of what is not to be rounded: short, other types, other operations, other calls. */
static int the_rest_is_exact(struct tutti_comm *c, struct buffers *b)
{
	int n = tutti_comm_size(c), rank = tutti_comm_rank(c);
	static int32_t whole[MOST], sum[MOST];
	static double wide[MOST], wider[MOST];
	for (int i = 0; i < MOST; i++) {
		b->in[i] = (float)(i * 8 + rank + 1);
		whole[i] = i * 1001 + rank;
		wide[i] = i * 1001 + rank;
	}
	RANK_OK(tutti_allreduce(b->in, b->out, SMALL, TUTTI_F32, TUTTI_SUM, c, NULL));
	for (int i = 0; i < SMALL; i++)
		RANK_CHECK((double)b->out[i] == (double)n * (8.0 * i + 1) + n * (n - 1) / 2);
	RANK_OK(tutti_allreduce(b->in, b->out, MOST, TUTTI_F32, TUTTI_MAX, c, NULL));
	for (int i = 0; i < MOST; i++)
		RANK_CHECK(b->out[i] == (float)(i * 8 + n));
	RANK_OK(tutti_allreduce(whole, sum, MOST, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_allreduce(wide, wider, MOST, TUTTI_F64, TUTTI_SUM, c, NULL));
	for (int i = 0; i < MOST; i++)
		RANK_CHECK(sum[i] == n * (i * 1001) + n * (n - 1) / 2 && wider[i] == sum[i]);
	RANK_OK(tutti_allgather(b->in, b->whole, MOST, TUTTI_F32, c, NULL));
	for (int r = 0; r < n; r++)
		for (int i = 0; i < MOST; i++)
			RANK_CHECK(b->whole[(size_t)r * MOST + (size_t)i] == (float)(i * 8 + r + 1));
	return 0;
}

static int no_numbers_show(struct tutti_comm *c, struct buffers *b)
{
	for (size_t i = 0; i < MOST; i++)
		b->in[i] = i == 7777 && tutti_comm_rank(c) == 0 ? NAN : 1;
	RANK_OK(tutti_allreduce(b->in, b->out, MOST, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_CHECK(isnan(b->out[7777]) && b->out[7700] == (float)tutti_comm_size(c));
	return same_everywhere(c, b->out, sizeof(b->out));
}

static int by_one_way(struct tutti_comm *c, void *arg)
{
	const struct way *way = arg;
	struct buffers *b = calloc(1, sizeof(*b));
	char text[200];
	RANK_CHECK(b);
	RANK_OK(tutti_comm_explain(c, "allreduce", MOST, TUTTI_F32, TUTTI_SUM, text, sizeof(text)));
	RANK_CHECK((strstr(text, way->wire) != NULL) == way->coded);
	int bad = allreduce_is_rounded(c, way, b) || others_are_rounded(c, way, b) || bf16_is_rounded(c, way, b) ||
	          the_rest_is_exact(c, b) || no_numbers_show(c, b);
	free(b);
	return bad;
}

static void run(int n, struct way way)
{
	char algo[64], wire[32];
	const char *env[] = {wire, "TUTTI_TIMEOUT=60", way.algo ? algo : NULL, NULL};
	struct ranks how = {.n = n, .env = env, .before = live_on_a_host, .seconds = 120};
	snprintf(wire, sizeof(wire), "TUTTI_WIRE=%s", way.wire);
	snprintf(algo, sizeof(algo), "TUTTI_ALGO=allreduce:%s", way.algo ? way.algo : "");
	if (ranks_run(&how, by_one_way, &way) != 0)
		fail_msg("%d ranks, %d a host, wire %s, algorithm %s", n, way.per_host, way.wire,
		         way.algo ? way.algo : "as chosen");
}

static void every_algorithm(void **state)
{
	static const char *const algos[] = {NULL, "ring", "halving", "tree", "pairwise", "pat", "hierarchy-ring"};
	(void)state;
	for (size_t i = 0; i < sizeof(algos) / sizeof(*algos); i++) {
		run(4, (struct way){i % 2 ? "q8" : "bf16", algos[i], 2, true});
		run(3, (struct way){i % 2 ? "bf16" : "q8", algos[i], algos[i] && i == 6 ? 2 : 1, true});
	}
	run(5, (struct way){"q8", NULL, 2, true});
	run(6, (struct way){"bf16", "ring", 3, true});
}

/* Where ranks would round the same sum differently, nothing is rounded; nor where there is only one host. */
static void some_go_as_they_are(void **state)
{
	(void)state;
	run(4, (struct way){"q8", "doubling", 2, false});
	run(4, (struct way){"bf16", "hierarchy", 2, false});
	run(3, (struct way){"bf16", NULL, 3, false});
}

static int never(struct tutti_comm *c, void *unused)
{
	(void)unused;
	RANK_CHECK(c == NULL);
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_from_env(&c, NULL));
	RANK_CHECK(strstr(tutti_last_error(NULL), "TUTTI_WIRE"));
	return 0;
}

static void bad_settings_are_refused(void **state)
{
	static const char *const unknown[] = {"TUTTI_WIRE=fp4", NULL};
	static const char *const both[] = {"TUTTI_WIRE=q8", "TUTTI_REPRODUCIBLE=1", NULL};
	struct ranks how = {.n = 2, .start = RANKS_BY_HAND, .seconds = 30};
	(void)state;
	how.env = unknown;
	assert_int_equal(ranks_run(&how, never, NULL), 0);
	how.env = both;
	assert_int_equal(ranks_run(&how, never, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(bad_settings_are_refused),
	        cmocka_unit_test(some_go_as_they_are),
	        cmocka_unit_test(every_algorithm),
	};
	return cmocka_run_group_tests_name("sums on the wire", tests, NULL, NULL);
}
