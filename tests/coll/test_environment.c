/* SPDX-License-Identifier: MIT */
/*
 * The floating-point environment of a rank's thread is its own affair: with flushed subnormals, another rounding mode or
 * unmasked exceptions on one rank or on all, in calls that block and in those that the progress thread moves, ranks choose
 * alike and end with the bits that the default environment gives, and each finds its environment as it left it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../float_env.h"
#include "../ranks.h"

#define RANKS 3
#define MOST  30000

struct trial {
	enum callers_env env;
	int odd; /* the rank that has it; -1: all */
};

static const enum tutti_dtype types[] = {TUTTI_F32, TUTTI_F64, TUTTI_F16, TUTTI_BF16, TUTTI_F8E4M3};
static const size_t counts[] = {1, 12, 1000, MOST};

/* Subnormals, and numbers near 1 whose sums round. */
static void fill(enum tutti_dtype t, uint8_t *to, size_t count, int rank)
{
	uint64_t seed = 88172645463325252u + (uint64_t)rank;
	for (size_t i = 0; i < count; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		double near_one = 1 + (double)(seed >> 40) * 0x1p-24;
		float single = (float)near_one;
		uint64_t bits = 0;
		uint32_t half;
		memcpy(&half, &single, 4);
		if (t == TUTTI_F64)
			memcpy(&bits, &near_one, 8);
		else if (t == TUTTI_F32)
			bits = half;
		else
			bits = t == TUTTI_BF16     ? half >> 16
			       : t == TUTTI_F8E4M3 ? 0x38 | seed >> 61
			                           : 0x3c00 | seed >> 54;
		if (i % 2) /* below the least exponent */
			bits = t == TUTTI_F64      ? seed >> 13
			       : t == TUTTI_F32    ? seed >> 42
			       : t == TUTTI_F8E4M3 ? seed >> 61
			                           : seed >> 58;
		memcpy(to + i * tutti_dtype_size(t), &bits, tutti_dtype_size(t));
	}
}

static int reduce(struct tutti_comm *c, bool posted, const void *in, void *out, size_t count, enum tutti_dtype t)
{
	struct tutti_request *req = NULL;
	int rc = tutti_allreduce(in, out, count, t, TUTTI_SUM, c, posted ? &req : NULL);
	return rc || !posted ? rc : tutti_wait(&req);
}

static int same_on_all(struct tutti_comm *c, const struct trial *x, enum tutti_dtype t, size_t count, bool posted)
{
	static _Thread_local uint8_t in[MOST * 8], first[MOST * 8], out[MOST * 8], all[RANKS * MOST * 8];
	int me = tutti_comm_rank(c);
	size_t bytes = count * tutti_dtype_size(t);
	bool odd = x->odd < 0 || x->odd == me;
	fill(t, in, count, me);
	RANK_OK(reduce(c, posted, in, first, count, t));
	callers_env_set(odd ? x->env : ENV_DEFAULT);
	uint64_t before = callers_env_read();
	int rc = reduce(c, posted, in, out, count, t);
	uint64_t after = callers_env_read();
	callers_env_reset();
	RANK_OK(rc);
	if (before != after)
		return ranks_fail("the environment is another one after the call");
	RANK_OK(tutti_allgather(out, all, bytes, TUTTI_U8, c, NULL));
	for (int r = 0; r < RANKS; r++)
		if (memcmp(first, all + (size_t)r * bytes, bytes) != 0)
			return ranks_fail("%zu elements of type %d: rank %d has other bits than before", count, (int)t,
			                  r);
	return 0;
}

static int reductions(struct tutti_comm *c, void *arg)
{
	(void)arg;
	for (int i = 2; i < 2 * CALLERS_ENVS; i++) {
		struct trial x = {(enum callers_env)(i / 2), i % 2 ? 1 : -1};
		ranks_note("\"%s\" on %d", callers_env_names[x.env], x.odd);
		for (size_t t = 0; t < sizeof(types) / sizeof(*types); t++)
			for (size_t k = 0; k < 2 * sizeof(counts) / sizeof(*counts); k++)
				if (same_on_all(c, &x, types[t], counts[k / 2], k % 2))
					return 1;
	}
	return 0;
}

static void try_all(const char *transport, enum tutti_progress_mode mode, const char *more)
{
	char name[64];
	const char *env[] = {name, "TUTTI_TIMEOUT=20", more, NULL};
	const struct tutti_config config = {.size = sizeof(config), .name = "environment", .progress = mode};
	struct ranks how = {.n = RANKS, .threads = strcmp(transport, "inproc") == 0, .env = env, .config = &config};
	snprintf(name, sizeof(name), "TUTTI_TRANSPORT=%s", transport);
	if (ranks_run(&how, reductions, NULL) != 0)
		fail_msg("over %s", transport);
}

static void reductions_in_memory(void **state)
{
	(void)state;
	try_all("inproc", TUTTI_PROGRESS_CALLER, NULL);
	try_all("shm", TUTTI_PROGRESS_THREAD, "TUTTI_ALGO=allreduce:^direct");
}

static void reductions_over_sockets(void **state)
{
	(void)state;
	try_all("tcp", TUTTI_PROGRESS_THREAD, NULL);
	try_all("tcp", TUTTI_PROGRESS_CALLER, "TUTTI_REPRODUCIBLE=1");
}

/* ---- a rank that has been in another environment since before it began ------------------------------------------------ */

static void odd_from_the_start(int rank, void *arg)
{
	const struct trial *x = arg;
	if (rank == x->odd)
		callers_env_set(x->env);
}

static int splits_and_reduces(struct tutti_comm *c, void *arg)
{
	struct tutti_comm *part;
	(void)arg;
	RANK_OK(tutti_comm_split(c, 0, 0, &part));
	for (size_t count = 1; count <= MOST; count *= 5) {
		static float in[MOST], out[MOST];
		RANK_OK(tutti_allreduce(in, out, count, TUTTI_F32, TUTTI_SUM, part, NULL));
	}
	RANK_OK(tutti_comm_destroy(part));
	return 0;
}

static void start_and_choice(void **state)
{
	static const char *const env[] = {"TUTTI_TRANSPORT=tcp", "TUTTI_TIMEOUT=20.3", "TUTTI_START_TIMEOUT=30.7",
	                                  NULL};
	(void)state;
	for (int i = 1; i < CALLERS_ENVS; i++) {
		struct trial x = {(enum callers_env)i, 1};
		struct ranks how = {.n = RANKS, .env = env, .start = RANKS_BY_ENV, .before = odd_from_the_start};
		if (ranks_run(&how, splits_and_reduces, &x) != 0)
			fail_msg("%s", callers_env_names[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(reductions_in_memory),
	                                   cmocka_unit_test(reductions_over_sockets),
	                                   cmocka_unit_test(start_and_choice)};
	return cmocka_run_group_tests_name("float environments", tests, NULL, NULL);
}
