/*
 * A cluster that need not exist, described in a file (docs/topology.md), for the simulator: hosts with ranks, a cable for each,
 * switches with uplinks between them.
 */
#ifndef TUTTI_TOPO_CLUSTER_H
#define TUTTI_TOPO_CLUSTER_H

#include "../../src/sim/sim.h"
#include "../../src/tuner/costs.h"

struct cluster {
	struct sim_cluster sim;
	struct shape shape;
	struct costs costs; /* with the cluster's own cable as the network */
	int nhosts, nswitches;
	int *host, *at_switch; /* of each rank, of each host; switch -1: the one that has no uplink */
	double *byte;          /* of each resource: hosts' cables out and in, uplinks up and down, hosts' memories */
	double latency, message, copy; /* across: of a message, and of the ranks' time for it and for its bytes */
};

/** EINVAL says what is wrong and where; ESYSTEM: it can't be read. */
int cluster_read(struct cluster *c, const char *path);
void cluster_free(struct cluster *c);

#endif
