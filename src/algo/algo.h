/* SPDX-License-Identifier: MIT */
/*
 * The table of algorithms. One row, one pure planner file: to add an algorithm, write the file and add its row
 * (docs/adding-an-algorithm.md). Planners include this header, team.h and plan.h only.
 */
#ifndef TUTTI_ALGO_H
#define TUTTI_ALGO_H

#include "../plan/plan.h"

/**
 * The placement of ranks: rank r is on host host[r] (0 .. nhosts-1, numbered by lowest rank). A ring goes through the
 * ranks in `order`, which keeps those of a host together; NULL: host by host, by rank.
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

/**
 * What a phase of a plan comes to: counts of the rank that has most. Blocks are those of a channel; each message of the channel counts
 * once, however many chunks it is sent in.
 */
struct leg {
	int rounds;   /* messages that wait for each other, from the first rank's start to the last rank's end */
	int messages; /* of a rank, summed over the rounds; fewer than rounds: one in each */
	int sent;     /* blocks that pass a rank's links, in the direction that has more */
	int reduced;  /* blocks that a rank folds */
	int sources;  /* ranks whose messages come in at one rank */
	int peers;    /* ranks that a rank talks to, at most */
};

/**
 * What a plan comes to, in integers that the tuner (src/tuner/model.h) multiplies by what links and memory cost. It follows from
 * collective, ranks, channels and hosts alone, so all ranks have the same. Where hosts have different numbers of ranks it is an estimate,
 * all but `peers`, `phases` and `channels`, which limit the number of connections.
 */
struct volume {
	struct leg all; /* over whatever links there are; where the plan goes by hosts, over those between hosts only */
	struct leg inside; /* inside hosts, where the plan goes by hosts; no rounds: it does not */
	bool joined;       /* the two are one strand: a chunk goes through both before the next one begins */
	int exits;         /* ranks of a host that send to other hosts at the same time, and share its way out */
	int channels;      /* that the plan has: those wanted, or fewer */
	int blocks;        /* of a channel: nblocks of the plan, over its channels */
	int largest;       /* blocks of the longest message: max_set of the plan */
	int phases; /* strands of a channel, with links of their own, that share the rounds: each hands its chunks to the next */
	int pipeline; /* ranks of `all` through which chunks follow each other, none waiting for the end of the one before; 0: none */
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
	/* What the plans come to; what it leaves alone is as algo_volume has it: one channel, one block, one phase, no levels */
	void (*volume)(struct volume *v, const struct plan_args *a);
};

extern const struct algo *const algo_table[]; /* ends with NULL */

const struct algo *algo_by_name(const char *name);
bool algo_serves(const struct algo *algo, const struct plan_args *a);
/** The plan, or NULL when memory is out. The algorithm must serve the call. */
struct plan *algo_plan(const struct algo *algo, const struct plan_args *a);
/** What its plans come to on these ranks; of *a, rank and root do not matter. */
void algo_volume(const struct algo *algo, const struct plan_args *a, struct volume *out);

#endif
