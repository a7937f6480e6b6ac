/* SPDX-License-Identifier: MIT */
/*
 * A cluster that need not exist, described in a file (docs/topology.md), for the simulator: hosts with ranks, a cable
 * for each, switches with uplinks between them.
 */
#ifndef TUTTI_TOPO_CLUSTER_H
#define TUTTI_TOPO_CLUSTER_H

#include "../../src/tuner/costs.h"
#include "../sim/sim.h"
#include "cluster_file.h"

struct cluster {
	struct sim_cluster sim;
	struct shape shape;
	struct costs costs; /* with the cluster's own cable as the network */
	int nhosts;
	int *host;                     /* of each rank */
	int *at_switch, *above;        /* of each host, of each switch; -1: the top switch, which has no uplink */
	int *cable, *uplink;           /* of each host: out, in and memory; of each switch: up and down: resources */
	double *byte, *burst, *skew;   /* of each resource, the same, of each rank */
	int *cpu;                      /* of each rank: the host whose cores it runs on */
	int *cores, *ranks;            /* of each host: its cores, and the ranks that run on them */
	double latency, message, copy; /* across: of a message, and of the ranks' time for it and for its bytes */
	double frames;                 /* more of their time, where it takes several frames */
	struct price_point curve[CLUSTER_POINTS]; /* of `copy`, by the bytes of a call */
	int points;
};

/** Its first `ranks` ranks; 0: all. What the description leaves out costs as `costs` say. EINVAL says what is wrong and where; ESYSTEM: it can't be read. */
int cluster_read(struct cluster *c, const char *path, int ranks, const struct costs *costs);
/** Prices for calls of so many bytes; until then they are those of the smallest. */
void cluster_size(struct cluster *c, size_t bytes);
void cluster_free(struct cluster *c);

#endif
