/* SPDX-License-Identifier: MIT */
/*
 * Inside of the checker: what is known of a set of plans, and what its parts ask of each other. look.c judges the
 * plans as they stand, sum.c does the arithmetic, run.c runs them, result.c judges what came out.
 */
#ifndef TUTTI_CHECKER_H
#define TUTTI_CHECKER_H

#include "plan_check.h"

#define NOTHING UINT32_MAX /* the expression of what has never been written */

/* Expressions are hash-consed: equal expressions have equal numbers. The first n are the ranks' contributions. */
struct expr {
	uint32_t left, right;
	int32_t count;  /* contributions in it */
	int32_t chain;  /* it is x0 + x1 + ... + x[chain - 1], folded from the left; 0: anything else */
	uint64_t ranks; /* n <= 64: a bit per rank in it; else the sum of a random number per rank */
	bool final;
};

/* What a place holds: an expression over contributions to one block. Blocks of different number never mix. */
struct value {
	uint32_t expr;
	int32_t block;
};

struct end {
	int rank, link, strand; /* strand: counted over all ranks; -1 while no step has used the link */
};

struct channel {
	struct end from, to;
	int lane;
	int largest;  /* blocks in its largest message */
	size_t place; /* sum of `largest` of the channels before */
};

struct cell {
	struct value v;
	uint32_t version;
	bool written; /* through OUT */
	bool spoilt;  /* what IN had here is gone */
};

/* One block of a message; by reference also where it came from. */
struct carried {
	struct value v;
	const struct cell *cell;
	uint32_t version;
};

struct traffic {
	int sent, received;
};

/* Where a strand is. */
struct cursor {
	int rank, index, chunk, step;
	bool queued;
};

/* Strands to try, in a ring. */
struct queue {
	int *at, first, n;
};

struct checker {
	const struct plan *const *plan;
	int n, nblocks, nstrands, nlinks, nchannels;
	enum coll coll;
	int *strand0, *link0; /* of each rank: its first strand and link, counted over all ranks */
	int *channel_of;      /* link, counted over all ranks -> channel */
	struct channel *channel;
	size_t places;
	struct expr *expr;
	uint32_t nexpr, expr_cap, *bucket, nbuckets;
	uint64_t everybody;
	int *folder;     /* of each block: the rank that has made its whole sum; -1: nobody yet */
	bool folds_once; /* no other rank made it, in all runs so far */
	bool by_reference;
	char reference_why[400];

	/* the run at hand */
	struct check_run run;
	uint64_t random;
	struct cell *in, *out, *tmp; /* [rank][block][chunk]; tmp: [strand][block] */
	int *tmp_chunk;              /* of each cell of tmp: the chunk that wrote it */
	struct traffic *traffic;     /* [channel] */
	struct carried *carried;     /* [channel][slot][largest] */
	uint64_t *heard;             /* barrier: [strand][word], ranks known to have come */
	uint64_t *token;             /* barrier: [channel][slot][word] */
	struct cursor *cursor;
	struct queue queue[2]; /* the second only when the first is empty */
	struct carried *work;  /* the blocks of the step at hand */
	char *why;
	size_t why_size;
};

/** Scatters bits: a hash, and with a counter a sequence of random numbers. */
static inline uint64_t check_mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* ---- checker.c ---- */

/** Where: algorithm, size, rank; strand, step, chunk unless < 0. Returns the length. */
int check_describe(const struct checker *c, char *text, size_t size, int rank, int strand, int step, int chunk);
/** Puts down what is wrong, and where; always false. */
bool check_complain(struct checker *c, int rank, int strand, int step, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
bool check_no_memory(struct checker *c);
const char *check_buf_name(int buf);
/** Does the collective give this rank that block of IN or OUT? TMP has all blocks. */
bool check_exists(const struct checker *c, int rank, int buf, int block);
/** Number of the length of a block: the same number, the same length whatever the layout. */
int check_length(const struct checker *c, int rank, int buf, int block);
/** Chunks of a block with this length, in this run. */
int check_chunks(const struct checker *c, int length);
/** Blocks that a step is about, and the length of the i-th. */
int check_step_blocks(const struct step *s);
int check_step_length(const struct checker *c, int rank, const struct step *s, int i);

/* ---- look.c ---- */

/** Joins the ends of links to channels and judges every plan and every message. */
bool check_look(struct checker *c);

/* ---- sum.c ---- */

bool check_leaves(struct checker *c);
/** The sum of two expressions: NULL and *sum, or what is wrong with it. */
const char *check_add(struct checker *c, uint32_t left, uint32_t right, bool final, uint32_t *sum);

/* ---- run.c ---- */

/** A block's place for the chunk at which a strand is. */
struct cell *check_cell(const struct checker *c, const struct cursor *at, int buf, int block);
/** 64-bit words of a set of ranks. */
size_t check_words(const struct checker *c);

/* ---- result.c ---- */

/** Does every rank have what the collective promises? */
bool check_results(struct checker *c);

#endif
