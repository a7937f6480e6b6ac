/*
 * All that tutti-topo knows about a job, collected on rank 0: hosts, ranks, what reaches whom, and, once measured, how
 * fast.
 */
#ifndef TUTTI_TOPO_SURVEY_H
#define TUTTI_TOPO_SURVEY_H

#include "../../src/topo/machine.h"
#include "tutti.h"

/* More than there are; of a file, too. */
#define SURVEY_TRANSPORTS 16

struct rank_facts {
	int32_t host;   /* ranks of one host may share its local sockets */
	int32_t memory; /* ranks with equal numbers share memory */
	int32_t pid;
	int32_t bound;    /* cpus is known */
	struct cpus cpus; /* where the rank may run */
};

struct survey {
	const char *file; /* that it was read from; NULL: it was collected */
	int n, nhosts, ntransports;
	char (*transport)[16];    /* names */
	struct rank_facts *rank;  /* n */
	int32_t *via;             /* n * n: transport from i to j; -1: oneself */
	struct machine **machine; /* nhosts, all in one block */
	void *block;
	double *latency;              /* n * n, seconds: half a round trip of 8 bytes; symmetric. NULL: not measured */
	double *bandwidth;            /* n * n, bytes a second from i to j */
	double *latency_p99;          /* of 100 round trips, 99 take no longer. NULL: not measured */
	double *bandwidth_p10;        /* of 100 bursts, 90 are faster. NULL: not measured */
	int *ring;                    /* n: a good order. NULL: not measured */
	double ring_rate, plain_rate; /* of its slowest step, and of the slowest step in rank order; bytes a second */
};

/** Collective. Fills *s on rank 0, all but what is measured; the others give what they know. A status. */
int survey_take(struct survey *s, struct tutti_comm *c);
/** On rank 0, after measuring: the order of the ring. */
int survey_ring(struct survey *s);
/** Counts ring_rate of s->ring. */
int survey_rate_ring(struct survey *s);
void survey_free(struct survey *s);

/** Name of the transport from i to j, "self" for oneself. */
const char *survey_via(const struct survey *s, int i, int j);
/** Pairs fall into classes by transport and by what the two ranks share. */
const char *survey_relation(const struct survey *s, int i, int j);

#endif
