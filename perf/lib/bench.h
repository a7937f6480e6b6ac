/* SPDX-License-Identifier: MIT */
/*
 * One rank's part in measuring: buffers, the timed loop, the checks, and bringing the ranks' figures together. Stands
 * on shapes (shape.h); knows nothing of tables and files.
 */
#ifndef PERF_BENCH_H
#define PERF_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "team.h"

/** What a rank keeps from row to row. */
struct bench {
	const struct options *o;
	struct tutti_comm *comm;
	int rank, n;
	uint64_t serial;      /* of the rows so far: seeds the data, equal on all ranks */
	double clock_cost;    /* ns that reading the clock adds to an interval */
	double cpu_cost;      /* and reading that of CPU time */
	unsigned char *evict; /* larger than the last-level cache; only with --cold */
	size_t evict_bytes;
	struct team *team; /* only with --team */
	size_t max;        /* the largest size: -e, or what memory allows (bench_fit) */
	char why[256];     /* why a call of ours failed; "": the library knows */
};

/** Time of a call in µs, over the timed calls, each already averaged over ranks as -a says. */
struct times {
	double mean, min, max, p50, p95, p99, stdev, cpu;
};

/** One half of a row: out of place, or in place. All ranks get the same one. */
struct half {
	bool ran;
	struct times t;
	uint64_t wrong;   /* elements of results that are not as they must be, over all ranks */
	uint64_t outside; /* bytes and elements that the call should not have written */
	uint64_t differ;  /* ranks whose bits differ from rank 0's, on data whose sums are rounded */
};

/** What a row calls. */
struct call {
	const struct collective *coll;
	int type, op, root;
	size_t bytes;
};

/** Returns 0, or -1 out of memory. */
int bench_open(struct bench *b, const struct options *o, struct tutti_comm *comm);
void bench_close(struct bench *b);

/** Brings b->max down to what the hosts have memory for; collective, the same on all ranks. A status of Tutti. */
int bench_fit(struct bench *b);

/** Measure and verify one half row; collective. A status of Tutti; TUTTI_ENOMEM also for memory of ours. */
int bench_half(struct bench *b, const struct call *call, bool in_place, struct half *h);

#endif
