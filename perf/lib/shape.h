/* SPDX-License-Identifier: MIT */
/*
 * The collectives as data: which elements of which rank a call reads, which it must produce, and where they stand.
 *
 * One table of collectives, and for one call on one rank a `shape`: its memory as a few areas, each with the parts that
 * must be there before and after. Filling, rewriting and checking then know nothing of collectives. Stands between the
 * exact data (exact.h) and the measurement (measure.h).
 */
#ifndef PERF_SHAPE_H
#define PERF_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "exact.h"
#include "tutti.h"

/** What one rank's side of a call holds. */
enum extent {
	EXTENT_NONE,
	EXTENT_WHOLE, /* one block of all elements */
	EXTENT_MINE,  /* the rank's own part */
	EXTENT_PARTS, /* a part for each rank */
};

enum collective_id {
	ALLREDUCE,
	ALLGATHER,
	REDUCE_SCATTER,
	BROADCAST,
	REDUCE,
	GATHER,
	SCATTER,
	ALLTOALL,
	SENDRECV,
	BARRIER,
};

struct collective {
	const char *name;  /* as in tutti_<name> */
	const char *alias; /* nccl-tests' program, NULL if it has none */
	enum collective_id id;
	enum extent in, out;
	bool reduces, rooted, in_place;
	bool uneven;                  /* a v-form: parts of different lengths, gaps between them */
	bool same;                    /* all ranks end with the same bits */
	bool in_at_root, out_at_root; /* that side exists on the root only */
	double traffic;               /* bus bandwidth / algorithm bandwidth: traffic * (n-1)/n, or 1 when 0 */
};

/** By name or by nccl-tests' name; NULL if there is none. collective_at lists them, NULL past the end. */
const struct collective *collective_by_name(const char *name);
const struct collective *collective_at(int i);
/** Bus bandwidth divided by algorithm bandwidth, for n ranks. */
double collective_bus_factor(const struct collective *c, int n);

/** A run of elements: those of rank `source` (or EXACT_RESULT) from index `first`, at `at` elements into its area. */
struct part {
	size_t at, count, first;
	int source;
	bool result; /* written by the call, not merely kept */
};

struct area {
	size_t span; /* elements */
	int nbefore, nafter;
	struct part *before, *after; /* what the call finds; what it must leave */
};

/** What one rank calls, and on what. */
struct shape {
	const struct collective *coll;
	enum tutti_dtype type;
	int op, root, rank, n;
	size_t bytes;                    /* the larger buffer's, over all ranks */
	size_t count;                    /* elements of the call's `count` argument; the mean one of a v-form */
	size_t total;                    /* elements of the whole: no index reaches it */
	size_t *counts, *displs;         /* of the parts; alltoallv: of what is sent */
	size_t *recvcounts, *recvdispls; /* alltoallv */
	struct area area[2];
	int in_area, out_area; /* -1: the call gets NULL */
	size_t in_at, out_at;  /* elements into their areas */
};

/**
 * Describe the call of `coll` on `rank` of n whose larger buffer has `bytes` bytes, rounded down to whole parts (a
 * v-form: up to two parts more or less). In place, one area serves both sides. Returns 0, or -1 out of memory; free
 * with shape_free.
 */
int shape_make(struct shape *s, const struct collective *coll, enum tutti_dtype t, int op, int root, int rank, int n,
               size_t bytes, bool in_place);
void shape_free(struct shape *s);

/** Call it, with the areas' memory at base[0] and base[1]. A status of Tutti. */
int shape_call(const struct shape *s, unsigned char *const base[2], struct tutti_comm *c, struct tutti_request **req);

#endif
