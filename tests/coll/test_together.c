/* SPDX-License-Identifier: MIT */
/*
 * Requests of a communicator that are under way together: that they are, that they share links without mixing up their
 * slots, that buffers which depend on each other still do, and that no call waits for a later one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/comm/comm.h"
#include "../ranks.h"

#define CALLS 8

static void run_with(const char *transport, const char *algo, int n, int (*fn)(struct tutti_comm *, void *))
{
	char variable[64], choice[160];
	const char *env[] = {variable, choice, "TUTTI_SLOT=1024", "TUTTI_TIMEOUT=60", NULL};
	struct ranks how = {.n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 90};
	snprintf(variable, sizeof(variable), "TUTTI_TRANSPORT=%s", transport);
	snprintf(choice, sizeof(choice), "TUTTI_ALGO=%s", algo);
	if (ranks_run(&how, fn, NULL) != 0)
		fail_msg("%d ranks over %s, TUTTI_ALGO=%s", n, transport, algo);
}

static void run_over_all(const char *algo, int n, int (*fn)(struct tutti_comm *, void *))
{
	run_with("inproc", algo, n, fn);
	run_with("shm", algo, n, fn);
	run_with("tcp", algo, n, fn);
}

/* ---- together ---------------------------------------------------------------------------------------------------- */

/* The last rank comes late. The others get no call done, but each has begun more than its first one. */
static int all_but_one_have_begun(struct tutti_comm *c, void *unused)
{
	int32_t in[CALLS], out[CALLS];
	struct tutti_request *req[CALLS];
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	(void)unused;
	RANK_OK(tutti_allreduce(&me, &in[0], 1, TUTTI_I32, TUTTI_SUM, c, NULL)); /* connects all */
	if (me == n - 1)
		RANK_CHECK(ranks_meet() == 0);
	for (int i = 0; i < CALLS; i++) {
		in[i] = me + i;
		RANK_OK(tutti_allreduce(&in[i], &out[i], 1, TUTTI_I32, TUTTI_SUM, c, &req[i]));
	}
	for (int begun = 0; me < n - 1 && begun < CALLS;) {
		RANK_OK(tutti_progress(c));
		begun = 0;
		for (int i = 0; i < CALLS; i++)
			begun += req[i]->run != NULL;
		RANK_CHECK(!atomic_load(&req[0]->done));
	}
	if (me < n - 1)
		RANK_CHECK(ranks_meet() == 0);
	RANK_OK(tutti_wait_all(req, CALLS));
	for (int i = 0; i < CALLS; i++)
		RANK_CHECK(out[i] == n * (n - 1) / 2 + n * i);
	return 0;
}

static void calls_are_under_way_together(void **state)
{
	(void)state;
	run_over_all("allreduce:doubling", 4, all_but_one_have_begun);
	run_over_all("allreduce:ring", 3, all_but_one_have_begun);
}

/* ---- nobody waits for a later call ------------------------------------------------------------------------------- */

#define LONG 3000

/* Rank 0 has issued both calls, the others only the first one: it ends all the same. */
static int first_ends_without_second(struct tutti_comm *c, void *unused)
{
	static _Thread_local int32_t in[2][LONG], out[2][LONG];
	struct tutti_request *req[2] = {NULL};
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	(void)unused;
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < LONG; i++)
			in[k][i] = me + k + i;
	for (int k = 0; k < 2; k++) {
		if (k && me)
			RANK_CHECK(ranks_meet() == 0);
		RANK_OK(tutti_allreduce(in[k], out[k], LONG, TUTTI_I32, TUTTI_SUM, c, &req[k]));
		if (me)
			RANK_OK(tutti_wait(&req[k]));
	}
	if (!me) {
		RANK_OK(tutti_wait(&req[0]));
		RANK_CHECK(ranks_meet() == 0);
		RANK_OK(tutti_wait(&req[1]));
	}
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < LONG; i++)
			RANK_CHECK(out[k][i] == n * (n - 1) / 2 + n * (k + i));
	return 0;
}

static void no_call_waits_for_a_later_one(void **state)
{
	(void)state;
	run_over_all("allreduce:ring", 3, first_ends_without_second);
	run_over_all("allreduce:halving", 4, first_ends_without_second);
	run_over_all("allreduce:tree", 3, first_ends_without_second);
}

/* ---- buffers that depend on each other --------------------------------------------------------------------------- */

/* The result of one call is what the next one reads, without a wait between them: they run in the order of issue. */
static int results_go_on(struct tutti_comm *c, void *unused)
{
	enum { COUNT = 700 };
	static _Thread_local int32_t x[CALLS + 1][COUNT];
	struct tutti_request *req[CALLS];
	int32_t want = 1;
	(void)unused;
	for (int i = 0; i < COUNT; i++)
		x[0][i] = i % 5;
	for (int k = 0; k < CALLS; k++, want *= tutti_comm_size(c))
		RANK_OK(tutti_allreduce(x[k], x[k + 1], COUNT, TUTTI_I32, TUTTI_SUM, c, &req[k]));
	RANK_OK(tutti_wait_all(req, CALLS));
	for (int i = 0; i < COUNT; i++)
		RANK_CHECK(x[CALLS][i] == want * (i % 5));
	return 0;
}

static void results_are_what_later_calls_read(void **state)
{
	(void)state;
	run_over_all("allreduce:doubling", 2, results_go_on);
	run_over_all("allreduce:ring", 3, results_go_on);
	run_over_all("allreduce:halving", 5, results_go_on);
}

/* ---- all kinds, many at once ------------------------------------------------------------------------------------- */

enum { FLIGHT = 24, ROUNDS = 6, MOST = 900, RANKS = 5 };

struct one {
	enum coll coll;
	size_t count;
	int root;
	int32_t in[RANKS * MOST], out[RANKS * MOST];
	struct tutti_request *req;
};

/* Element i of rank r's input to call k. */
static int32_t value(int r, int k, size_t i)
{
	return r * 1000003 + k * 101 + (int32_t)i;
}

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static int start(struct one *x, int k, struct tutti_comm *c)
{
	for (size_t i = 0; i < (size_t)tutti_comm_size(c) * MOST; i++)
		x->in[i] = value(tutti_comm_rank(c), k, i);
	memset(x->out, 0xa5, sizeof(x->out));
	switch (x->coll) {
	case COLL_ALLREDUCE:
		return tutti_allreduce(x->in, x->out, x->count, TUTTI_I32, TUTTI_MAX, c, &x->req);
	case COLL_BROADCAST:
		return tutti_broadcast(x->in, x->out, x->count, TUTTI_I32, x->root, c, &x->req);
	case COLL_ALLGATHER:
		return tutti_allgather(x->in, x->out, x->count, TUTTI_I32, c, &x->req);
	case COLL_REDUCE_SCATTER:
		return tutti_reduce_scatter(x->in, x->out, x->count, TUTTI_I32, TUTTI_MIN, c, &x->req);
	case COLL_ALLTOALL:
		return tutti_alltoall(x->in, x->out, x->count, TUTTI_I32, c, &x->req);
	default:
		return tutti_reduce(x->in, x->out, x->count, TUTTI_I32, TUTTI_MAX, x->root, c, &x->req);
	}
}

static int wrong(const struct one *x, int k, const struct tutti_comm *c)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	size_t parts = x->coll == COLL_ALLGATHER || x->coll == COLL_ALLTOALL ? (size_t)n : 1;
	if (x->coll == COLL_REDUCE && x->root != me)
		return 0;
	for (size_t i = 0; i < parts * x->count; i++) {
		int from = (int)(i / x->count);
		size_t at = i % x->count, mine = (size_t)me * x->count;
		int32_t want = x->coll == COLL_BROADCAST        ? value(x->root, k, i)
		               : x->coll == COLL_ALLGATHER      ? value(from, k, at)
		               : x->coll == COLL_ALLTOALL       ? value(from, k, mine + at)
		               : x->coll == COLL_REDUCE_SCATTER ? value(0, k, mine + i)
		                                                : value(n - 1, k, i);
		if (x->out[i] != want)
			return ranks_fail("call %d, %s of %zu: element %zu is %d, not %d", k, coll_name(x->coll),
			                  x->count, i, x->out[i], want);
	}
	return 0;
}

static int all_kinds(struct tutti_comm *c, void *unused)
{
	struct one *x = calloc(FLIGHT, sizeof(*x));
	uint32_t seed = 20, mine = 77u + (uint32_t)tutti_comm_rank(c);
	(void)unused;
	for (int round = 0; round < ROUNDS; round++) {
		for (int k = 0; k < FLIGHT; k++) {
			x[k].coll = (enum coll)(next(&seed) % (COLL_ALLTOALL + 1));
			if (x[k].coll == COLL_GATHER || x[k].coll == COLL_SCATTER)
				x[k].coll = COLL_ALLREDUCE;
			x[k].count = next(&seed) % 4 ? next(&seed) % 20 : next(&seed) % MOST;
			x[k].root = (int)(next(&seed) % (unsigned)tutti_comm_size(c));
			RANK_OK(start(&x[k], FLIGHT * round + k, c));
		}
		for (int k = 0; k < FLIGHT; k++) { /* in an order of this rank's own */
			struct tutti_request **req = &x[next(&mine) % FLIGHT].req;
			if (*req)
				RANK_OK(tutti_wait(req));
		}
		for (int k = 0; k < FLIGHT; k++)
			if (x[k].req)
				RANK_OK(tutti_wait(&x[k].req));
		for (int k = 0; k < FLIGHT; k++)
			if (wrong(&x[k], FLIGHT * round + k, c))
				return 1;
	}
	free(x);
	return 0;
}

static void many_kinds_share_links(void **state)
{
	static const char *const algos[] = {
	        "",
	        "allreduce:ring;allgather:ring;reduce_scatter:ring",
	        "allreduce:doubling;allgather:bruck;reduce_scatter:pairwise",
	        "allreduce:tree;allgather:pat;reduce_scatter:pat",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(algos) / sizeof(*algos); i++)
		for (int n = 2; n <= RANKS; n++)
			run_with(n % 2 == (int)i % 2 ? "tcp" : "^tcp", algos[i], n, all_kinds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(calls_are_under_way_together),
	        cmocka_unit_test(no_call_waits_for_a_later_one),
	        cmocka_unit_test(results_are_what_later_calls_read),
	        cmocka_unit_test(many_kinds_share_links),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
