/* SPDX-License-Identifier: MIT */
/*
 * All that tutti-topo knows about a job, collected on rank 0: hosts, ranks, what reaches whom, and, once measured, how
 * fast.
 */
#ifndef TUTTI_TOPO_SURVEY_H
#define TUTTI_TOPO_SURVEY_H

#include "../machine/machine.h"
#include "tutti.h"

/* More than there are, also in a file. */
#define SURVEY_TRANSPORTS 16

struct rank_facts {
	int32_t host;   /* ranks of one host may share its local sockets */
	int32_t memory; /* ranks with equal numbers share memory */
	int32_t pid;
	int32_t bound;    /* cpus is known */
	struct cpus cpus; /* where the rank may run */
};

/* How fast a memory is, in bytes a second; copied bytes count once. No cores: it could not be measured. */
struct memory_speed {
	int32_t host, cores;                     /* cores: that took part at once */
	uint32_t node, pad;                      /* node: of the host's machine */
	double core_read, core_copy, read, copy; /* by one core, by all at once */
};

/* Pairs that have the transport and the relation of one of them. */
struct pair_class {
	int i, j, pairs;
};
#define SURVEY_CLASSES 32

/* Something that stands out; -1: it is about no rank, peer, host. */
enum odd_what { ODD_SLOW, ODD_LATE, ODD_ONE_WAY, ODD_UNSTEADY, ODD_MTU, ODD_FAR_DEVICE, ODD_ONE_CORE };
struct odd {
	enum odd_what what;
	int rank, peer, host;
	char text[320];
};

/* The same as the survey's own matrices, with as many disjoint pairs at once as there are. All NULL: not measured. */
struct at_once {
	double *latency, *latency_p99, *bandwidth, *bandwidth_p10;
	bool *measured; /* n * n; the other pairs are taken to have what their class has. NULL: all were */
};

struct survey {
	const char *file; /* that it was read from; NULL: it was collected */
	int n, nhosts, ntransports;
	char (*transport)[16];    /* names */
	struct rank_facts *rank;  /* n */
	int32_t *via;             /* n * n: transport from i to j; -1: oneself */
	struct machine **machine; /* nhosts, all in one block */
	void *block;
	struct machine *mine;       /* on the rank that describes its host; NULL: another does */
	struct cpus may;            /* where the ranks of the same host may run */
	struct memory_speed *speed; /* nspeeds of them, by host and node. NULL: not measured */
	int nspeeds;
	double *latency;       /* n * n, seconds: half a round trip of 8 bytes; symmetric. NULL: not measured */
	double *bandwidth;     /* n * n, bytes a second from i to j */
	double *latency_p99;   /* of 100 round trips, 99 take no longer. NULL: not measured */
	double *bandwidth_p10; /* of 100 bursts, 90 are faster. NULL: not measured */
	bool *measured; /* n * n: alone; the other pairs are taken to have what their class has. NULL: all were */
	struct at_once busy;
	int *group;      /* nhosts: hosts that reach each other equally fast, from 0 on. NULL: not looked for */
	int *ring;       /* n: a good order. NULL: not measured */
	struct odd *odd; /* nodd of them */
	int nodd;
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
bool survey_same_class(const struct survey *s, int i, int j, int k, int l);
/** All classes, at most SURVEY_CLASSES; their number. */
int survey_classes(const struct survey *s, struct pair_class *out);
/**
 * Do two addresses begin alike, as those of one network do? 24 bits of IPv4, 64 of IPv6: the usual lengths, for nobody
 * says what they are.
 */
bool survey_same_network(const char *a, const char *b);
/**
 * How many ways from rank to rank have less than this part of their bandwidth when all pairs are at work: what they pass
 * is shared. *i, *j: where it is the least; left alone where none has less than alone.
 */
#define SURVEY_SHARED 0.67
int survey_sharing(const struct survey *s, int *i, int *j);
/** Was the pair measured itself? */
bool survey_measured(const struct survey *s, int i, int j);
bool survey_busy_measured(const struct survey *s, int i, int j);
/** What rings and pictures go by: bandwidth alone, or, where that was not measured of all pairs, at once. NULL: neither. */
const double *survey_rates(const struct survey *s);
/** Number of groups of hosts; 1 where none were looked for. */
int survey_groups(const struct survey *s);
/** Name of a host: "a machine" where it has none. */
const char *survey_host(const struct survey *s, int host);

#endif
