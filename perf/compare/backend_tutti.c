/* SPDX-License-Identifier: MIT */
/*
 * Tutti, as one of the peers. Built three times: as it is, with -DOWN_MEMORY=1 (buffers from tutti_mem_alloc) and with
 * -DTHREADS=1 (ranks are threads of one process, as many as COMPARE_RANKS says).
 */
#include "backend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tutti.h"

#ifndef OWN_MEMORY
#define OWN_MEMORY 0
#endif
#ifndef THREADS
#define THREADS 0
#endif
#define RANKS_MAX 64

static _Thread_local struct tutti_comm *comm;

static const enum tutti_dtype types[] = {[F32] = TUTTI_F32, [BF16] = TUTTI_BF16, [F16] = TUTTI_F16};

static void must(int rc)
{
	if (rc == TUTTI_OK)
		return;
	fprintf(stderr, "tutti: %s\n", tutti_last_error(comm));
	exit(1);
}

static int run_process(int (*each)(void))
{
	must(tutti_comm_from_env(&comm, NULL));
	int rc = each();
	tutti_comm_destroy(comm);
	return rc;
}

struct thread {
	pthread_t id;
	struct tutti_comm *comm;
	int (*each)(void);
	int rank, rc;
};

static void *run_rank(void *argument)
{
	struct thread *t = argument;
	comm = t->comm;
	pin_rank(t->rank);
	t->rc = t->each();
	return NULL;
}

static int run_threads(int (*each)(void))
{
	struct thread threads[RANKS_MAX];
	struct tutti_comm *comms[RANKS_MAX];
	const char *ranks = getenv("COMPARE_RANKS");
	int n = ranks ? atoi(ranks) : 2, rc = 0;
	if (n < 1 || n > RANKS_MAX)
		return 2;
	must(tutti_comm_create_threads(comms, n, NULL));
	for (int i = 0; i < n; i++) {
		threads[i] = (struct thread){.comm = comms[i], .each = each, .rank = i};
		if (pthread_create(&threads[i].id, NULL, run_rank, &threads[i]) != 0)
			exit(1);
	}
	for (int i = 0; i < n; i++) {
		pthread_join(threads[i].id, NULL);
		rc |= threads[i].rc;
	}
	for (int i = 0; i < n; i++)
		tutti_comm_destroy(comms[i]);
	return rc;
}

static int rank(void)
{
	return tutti_comm_rank(comm);
}

static int size(void)
{
	return tutti_comm_size(comm);
}

static void barrier(void)
{
	must(tutti_barrier(comm, NULL));
}

static void allreduce(const void *in, void *out, size_t count, enum element e)
{
	must(tutti_allreduce(in, out, count, types[e], TUTTI_SUM, comm, NULL));
}

static void allgather(const void *in, void *out, size_t count, enum element e)
{
	must(tutti_allgather(in, out, count, types[e], comm, NULL));
}

static void reduce_scatter(const void *in, void *out, size_t count, enum element e)
{
	must(tutti_reduce_scatter(in, out, count, types[e], TUTTI_SUM, comm, NULL));
}

static void *take(size_t bytes)
{
	void *p;
	must(tutti_mem_alloc(comm, bytes, &p));
	return p;
}

static void give(void *p)
{
	must(tutti_mem_free(comm, p));
}

const struct backend backend = {
        .elements = 1u << F32 | 1u << BF16 | 1u << F16,
        .run = THREADS ? run_threads : run_process,
        .rank = rank,
        .size = size,
        .barrier = barrier,
        .allreduce = allreduce,
        .allgather = allgather,
        .reduce_scatter = reduce_scatter,
        .take = OWN_MEMORY ? take : NULL,
        .give = OWN_MEMORY ? give : NULL,
};
