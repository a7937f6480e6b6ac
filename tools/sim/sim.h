/* SPDX-License-Identifier: MIT */
/*
 * A simulator: runs the plans that the engine runs, on a cluster that need not exist, and says how long a call takes
 * there. It moves no data. A step waits for its message and for a free slot as in the engine, then takes its rank's
 * time for copying and reducing, and its message then passes the resources between the two ranks: cables, switches'
 * uplinks, a host's memory. A resource serves messages in the order of their coming, one at a time, at its rate; a
 * message comes to the next one when its first byte has passed the one before. LogGP's parameters, with contention where
 * paths meet.
 *
 * Two things keep large clusters in reach. Units that are alike, in the cluster and in the plan, do the same at the
 * same time: one is simulated for all of them (fold.h). And a long stream of chunks is simulated until it has its
 * rhythm.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef TUTTI_SIM_H
#define TUTTI_SIM_H

#include "../../src/algo/algo.h"

#define SIM_HOPS 10

/** How messages get from one rank to another. */
struct sim_route {
	double latency;       /* seconds from the last byte's leaving to its being seen */
	double send, receive; /* seconds of the rank's own time for a message */
	double copy;          /* of it for a byte, at either end */
	double frames;        /* more of it, at either end, for a message of more than `frame` bytes */
	size_t frame;
	int hops, hop[SIM_HOPS]; /* resources that it passes */
};

struct sim_cluster {
	int nranks;
	int nresources;
	/*
	 * Equal parts that it is made of, ranks and resources of each one after the other, so that a part could take
	 * the place of any other one; a route passes resources of both ends' parts only. 1, or 0: it has none.
	 */
	int units;
	const double *byte;  /* seconds of a byte, of each resource */
	const double *burst; /* bytes that each lets through at once after a rest: a token bucket; NULL: none do */
	double copy, reduce; /* seconds of a byte in a rank's own memory */
	const double *skew;  /* when each rank calls; NULL: all at 0 */
	/* Ranks may share cores: the processor of each rank, the cores of each processor; NULL: each has its own. */
	const int *cpu, *cores;
	int ncpus;
	void *ctx;
	void (*route)(const struct sim_cluster *c, int from, int to, struct sim_route *out);
};

struct sim_call {
	enum coll coll;
	const struct algo *algo;
	int root, channels;
	const struct shape *shape; /* as planners see the cluster; NULL: one host per rank */
	size_t count, esize;       /* of the vector, or of a rank's part */
	size_t slot;               /* payload bytes of a slot */
	int slots;
	int before;    /* the same calls that come before it, one at the heels of the other */
	bool whole;    /* no unit stands for others */
	uint64_t work; /* steps to simulate before the rest goes by its rhythm; 0: minutes' worth */
};

struct sim_result {
	double seconds; /* until the last rank is done */
	double first;   /* until the first one is */
	uint64_t messages, bytes;
	double busiest; /* share of the time that the busiest resource is in use */
	int busiest_at; /* which one; -1: there are none; of the first unit, where it stands for all */
	int units;      /* that did the same, and of which one was simulated */
	size_t rest;    /* chunks of a stream that went by its rhythm */
};

/**
 * TUTTI_OK, ENOMEM, EINVAL where the algorithm does not serve the call, EUNSUPPORTED where nothing fits into a slot or
 * there is too much to simulate.
 */
int sim_run(const struct sim_cluster *cluster, const struct sim_call *call, struct sim_result *out);

#endif
