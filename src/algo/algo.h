/*
 * The table of algorithms. One row, one pure planner file: to add an algorithm, write the file and add its row.
 * Planners include this header and plan.h only.
 */
#ifndef TUTTI_ALGO_H
#define TUTTI_ALGO_H

#include "../plan/plan.h"

/**
 * Who stands where: rank r is on host host[r] (0 .. nhosts-1, numbered by lowest rank). A ring goes through the ranks in
 * `order`, which keeps those of a host together; NULL: host by host, by rank.
 */
struct shape {
	int nranks, nhosts;
	const int *host;
	const int *order;
};

struct plan_args {
	enum coll coll;
	int rank, nranks, root;
	int channels; /* parallel copies wanted, >= 1; a planner may use fewer, by a rule that all ranks share */
	const struct shape *shape; /* NULL: one host per rank */
};

enum algo_flags {
	/* folds x0 (+) x1 (+) ... (+) x[n-1] strictly from the left, rounding at each step: what TUTTI_REPRODUCIBLE=1 asks */
	ALGO_RANK_ORDER = 1,
	/* each block of an allreduce is folded to its end by one rank and sent to all others: what that rank has rounded, all have */
	ALGO_FOLDS_ONCE = 2,
};

struct algo {
	const char *name;   /* as in TUTTI_ALGO */
	const char *what;   /* one line: idea and cost */
	const char *source; /* paper or standard */
	unsigned colls;     /* bit per enum coll */
	unsigned flags;
	/* Does it serve this call? (Only what cannot be said in `colls`: for example a hierarchy needs two hosts.) NULL: yes */
	bool (*can)(const struct plan_args *a);
	/* Appends to an empty builder; sets nblocks, parts, max_set, by_reference of b->plan */
	void (*build)(struct plan_builder *b, const struct plan_args *a);
};

extern const struct algo *const algo_table[]; /* ends with NULL */

const struct algo *algo_by_name(const char *name);
bool algo_serves(const struct algo *algo, const struct plan_args *a);
/** The plan, or NULL when memory is out. The algorithm must serve the call. */
struct plan *algo_plan(const struct algo *algo, const struct plan_args *a);

#endif
