/* SPDX-License-Identifier: MIT */
/*
 * Calls that a team of threads works on give the bits that one thread gives: long vectors, whose copies and reductions are
 * shared out, in every kind of memory, by the direct tier and by plans; a member that never comes is not missed.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ranks.h"

#define TEAM  3
#define COUNT 150001 /* elements a rank: several slots, no multiple of anything */

struct member {
	pthread_t thread;
	struct tutti_request *req;
	int index, rc;
};

static void *work(void *arg)
{
	struct member *m = arg;
	m->rc = tutti_work(m->req, m->index, TEAM);
	return NULL;
}

/* Works on it with `members` threads, of a team of TEAM, and ends it. */
static int finish_by(struct tutti_request *req, int members)
{
	struct member team[TEAM];
	for (int i = 0; i < members; i++) {
		team[i] = (struct member){.req = req, .index = i, .rc = -1};
		if (i > 0)
			RANK_CHECK(pthread_create(&team[i].thread, NULL, work, &team[i]) == 0);
	}
	work(&team[0]);
	for (int i = 1; i < members; i++)
		pthread_join(team[i].thread, NULL);
	for (int i = 0; i < members; i++)
		RANK_OK(team[i].rc);
	RANK_OK(tutti_wait(&req));
	return 0;
}

enum { ALLREDUCE, ALLGATHER, REDUCE_SCATTER, BROADCAST, REDUCE, KINDS };

static int call(int kind, const float *in, float *out, size_t count, struct tutti_comm *c, struct tutti_request **req)
{
	switch (kind) {
	case ALLREDUCE:
		return tutti_allreduce(in, out, count, TUTTI_F32, TUTTI_AVG, c, req);
	case ALLGATHER:
		return tutti_allgather(in, out, count, TUTTI_F32, c, req);
	case REDUCE_SCATTER:
		return tutti_reduce_scatter(in, out, count, TUTTI_F32, TUTTI_SUM, c, req);
	case BROADCAST:
		return tutti_broadcast(in, out, count, TUTTI_F32, 1, c, req);
	default:
		return tutti_reduce(in, out, count, TUTTI_F32, TUTTI_SUM, 1, c, req);
	}
}

static float *memory(struct tutti_comm *c, bool shared, size_t bytes)
{
	void *p = NULL;
	if (!shared)
		return calloc(1, bytes);
	return tutti_mem_alloc(c, bytes, &p) == TUTTI_OK ? p : NULL;
}

static void let_go(struct tutti_comm *c, bool shared, float *p)
{
	if (shared)
		(void)tutti_mem_free(c, p);
	else
		free(p);
}

static int like_one_thread(struct tutti_comm *c, bool shared)
{
	int n = tutti_comm_size(c), rank = tutti_comm_rank(c);
	size_t bytes = COUNT * (size_t)n * sizeof(float);
	float *in = memory(c, shared, bytes), *out = memory(c, shared, bytes), *want = memory(c, shared, bytes);
	RANK_CHECK(in && out && want);
	for (size_t i = 0; i < COUNT * (size_t)n; i++)
		in[i] = (float)((i * 2654435761u + (size_t)rank * 40503u) % 10007) * 0.37f;
	for (int kind = 0; kind < KINDS; kind++) {
		for (int members = 2; members <= TEAM; members++) {
			struct tutti_request *req = NULL;
			memset(out, 0xa5, bytes);
			memset(want, 0xa5, bytes);
			ranks_note("kind %d, %d members of %d, %s memory", kind, members, TEAM,
			           shared ? "shared" : "own");
			RANK_OK(call(kind, in, want, COUNT, c, NULL));
			RANK_OK(call(kind, in, out, COUNT, c, &req));
			if (finish_by(req, members))
				return 1;
			if (memcmp(out, want, bytes) != 0)
				return ranks_fail("kind %d, %d members: other bits than by one thread", kind, members);
		}
	}
	let_go(c, shared, want);
	let_go(c, shared, out);
	let_go(c, shared, in);
	return 0;
}

static int in_both_memories(struct tutti_comm *c, void *unused)
{
	(void)unused;
	return like_one_thread(c, false) || like_one_thread(c, true);
}

static void run(const char *transport, int n, const char *algo)
{
	char a[64], b[160];
	const char *env[] = {a, "TUTTI_TIMEOUT=60", algo ? b : NULL, NULL};
	struct ranks how = {.n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 120};
	snprintf(a, sizeof(a), "TUTTI_TRANSPORT=%s", transport);
	if (algo)
		snprintf(b, sizeof(b), "TUTTI_ALGO=allreduce:%s;allgather:%s;reduce_scatter:%s", algo, algo, algo);
	if (ranks_run(&how, in_both_memories, NULL) != 0)
		fail_msg("%d ranks over %s, algorithm %s", n, transport, algo ? algo : "as chosen");
}

static void teams_of_direct_calls(void **unused)
{
	(void)unused;
	run("inproc", 2, "direct");
	run("inproc", 3, "direct");
	run("shm", 2, "direct");
	run("shm", 3, "direct");
}

static void teams_of_plans(void **unused)
{
	(void)unused;
	run("inproc", 3, "ring");
	run("shm", 2, "pairwise");
	run("shm", 3, "ring");
	run("tcp", 3, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(teams_of_direct_calls),
	        cmocka_unit_test(teams_of_plans),
	};
	return cmocka_run_group_tests_name("teams", tests, NULL, NULL);
}
