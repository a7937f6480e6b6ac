/* SPDX-License-Identifier: MIT */
/* A cluster as its description has it (docs/topology.md): numbers in the units of the file, nothing worked out yet. */
#ifndef TUTTI_TOPO_CLUSTER_FILE_H
#define TUTTI_TOPO_CLUSTER_FILE_H

#include <stddef.h>

#define CLUSTER_RANKS  65536
#define CLUSTER_LEVELS 4 /* of switches */
#define CLUSTER_POINTS 32

/* Equal hosts, one after the other. */
struct host_group {
	int count, ranks, cores; /* cores of each; 0: one for each rank */
	int at;         /* index of its switch; -1: of the one that all switches without another above them hang on */
	double out, in; /* Gbit/s of its cable */
	double skew;    /* microseconds after the first ranks at which its ranks call */
};

struct switch_group {
	int above; /* index, or -1 */
	double gbit;
};

/* What a byte costs in calls of so many bytes. */
struct price_point {
	double bytes, ns;
};

struct cluster_file {
	struct host_group *groups;
	struct switch_group *switches;
	int ngroups, nswitches, nhosts, nranks;
	int cores; /* of one machine that plays all hosts; 0: each is its own */
	/* 0: not given */
	double latency_us, message_us, frames_us, reduce_ns, burst_kb;
	struct price_point copy[CLUSTER_POINTS]; /* of rising bytes */
	int ncopy;
};

/** EINVAL says what is wrong, in which line and field of `name`. */
int cluster_file_parse(struct cluster_file *f, const char *text, size_t len, const char *name);
/** The same for a file; ESYSTEM: it can't be read. */
int cluster_file_read(struct cluster_file *f, const char *path);
/** Leaves its first ranks, 1 to all of them; the last host may keep only some of its own. */
int cluster_file_cut(struct cluster_file *f, int ranks);
void cluster_file_free(struct cluster_file *f);

#endif
