/* SPDX-License-Identifier: MIT */
/*
 * A plan: one rank's part of a collective algorithm, as data.
 *
 * A planner (src/algo/) is a pure function of (collective, rank, nranks, root, channels, shape); it never sees a count,
 * a type or a transport. The engine (engine.c) runs the plan; the checker (tests/plan) proves it; tutti-info prints it.
 *
 * The data of a collective is cut into `nblocks` blocks; a layout (layout.h) binds blocks to bytes at the call. Each
 * block is worked on in chunks: a strand performs all of its steps on chunk 0, then all on chunk 1, and so on. The chunk
 * is chosen by the engine so that `max_set` blocks' chunks fit into one slot of a link: one step on one chunk is one slot.
 */
#ifndef TUTTI_PLAN_H
#define TUTTI_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum coll {
	COLL_ALLREDUCE,
	COLL_ALLGATHER,
	COLL_REDUCE_SCATTER,
	COLL_BROADCAST,
	COLL_REDUCE,
	COLL_GATHER,
	COLL_SCATTER,
	COLL_ALLTOALL,
	COLL_BARRIER,
	COLL_COUNT,
	/* the following have no planner; they occur in call records */
	COLL_SEND = COLL_COUNT,
	COLL_RECV,
	COLL_KINDS
};

/** "allreduce", ... ; the names of TUTTI_ALGO, of messages and of the programs' options. */
const char *coll_name(enum coll coll);
/** The collective of that name, or -1. */
int coll_by_name(const char *name);

static inline bool coll_reduces(enum coll coll)
{
	return coll == COLL_ALLREDUCE || coll == COLL_REDUCE_SCATTER || coll == COLL_REDUCE;
}

/** Does each rank own a part of the longer buffer? */
static inline bool coll_owned(enum coll coll)
{
	return coll == COLL_ALLGATHER || coll == COLL_REDUCE_SCATTER || coll == COLL_GATHER || coll == COLL_SCATTER ||
	       coll == COLL_ALLTOALL;
}

/**
 * How a collective's blocks stand in the callers' buffers. Two families:
 *   whole    allreduce, reduce, broadcast: the vector of `count` elements is cut into nblocks nearly equal blocks, which
 *            have the same place in IN and OUT. nblocks is free.
 *   owned    allgather, reduce_scatter, gather, scatter, alltoall: each rank has one part, cut into `parts` blocks:
 *            nblocks = nranks * parts, block = rank * parts + part.
 * What IN and OUT hold at rank r (own = only the `parts` blocks of r; all = every block):
 *   allreduce, broadcast, reduce  IN all, OUT all (broadcast: IN on root only; reduce: OUT on root only)
 *   allgather                     IN own, OUT all
 *   reduce_scatter                IN all, OUT own
 *   gather                        IN own, OUT all (root only)
 *   scatter                       IN all (root only), OUT own
 *   alltoall                      IN all (block of rank j goes to j), OUT all (block of rank j came from j)
 *   barrier                       nothing: steps are tokens
 */
enum plan_buf {
	BUF_NONE,
	BUF_IN,
	BUF_OUT,
	BUF_TMP, /* scratch of the strand for the current chunk: one place per block, undefined when a chunk begins */
};

/** Blocks first, first + stride, ... : n of them, modulo nblocks. n == 0: nothing. */
struct block_set {
	int32_t first, stride, n;
};

enum step_flags {
	STEP_REDUCE = 1,      /* result = operand (+) src; without it a step has exactly one source */
	STEP_LOCAL_FIRST = 2, /* with STEP_REDUCE: src is the left operand (src holds lower ranks' data) */
	STEP_FINAL = 4, /* with STEP_REDUCE: the result is the whole sum: AVG divides here. Exactly once per block */
	STEP_TOKEN = 8, /* an empty message: sent and received even though it carries nothing */
};

/**
 * One step on one chunk:
 *
 *     operand = slot of link `recv`, or (recv < 0 and acc != BUF_NONE) buffer `acc` at dst_set
 *     result  = operand (+) src at src_set      STEP_REDUCE
 *             = operand, or src                 otherwise: exactly one of them is there
 *     result -> buffer `dst` at dst_set (unless BUF_NONE) and -> slot of link `send` (unless < 0)
 *
 * A slot holds the set's chunks one after the other, in set order. When src and dst are both given their sets have the
 * same n, and equal lengths block by block; a step that receives and has no local buffer does not exist. A set whose
 * chunks are all empty (and no STEP_TOKEN) is skipped by both sides of the link; the first one of a v-form, and of a call of
 * no elements, is not: it carries the signature.
 */
struct step {
	int16_t recv, send;           /* indices into plan->links; -1: none */
	uint8_t src, dst, acc, flags; /* enum plan_buf, enum plan_buf, enum plan_buf, enum step_flags */
	struct block_set src_set, dst_set;
};

/** One direction between two ranks. (peer, lane) of a sender is (rank, lane) of its receiver. No link has two strands. */
struct plan_link {
	int32_t peer;
	int16_t lane; /* tells parallel links between the same two ranks apart */
	bool outgoing;
	int32_t last; /* index of the last step that uses it; there is one */
};

/** An in-order list of steps with its own chunk cursor. */
struct strand {
	int32_t first, nsteps; /* range in plan->steps */
	int32_t after;         /* this strand may start chunk c only when strand `after` has finished it; -1: free */
};

struct plan {
	enum coll coll;
	const char *algo;
	int rank, nranks, root;
	int nblocks; /* the same on all ranks */
	int parts;   /* owned collectives: blocks per rank; else 1 */
	int max_set; /* largest set of any step of ANY rank: the same on all ranks */
	int nsteps, nstrands, nlinks;
	struct step *steps;
	struct strand *strands;
	struct plan_link *links;
	bool uses_tmp;
	bool by_reference; /* a send straight from IN or OUT may be read by the peer in place, until it says so */
	bool written_once; /* nothing is summed, and no place of OUT is written twice: what comes may be there any time before */
};

void plan_free(struct plan *p);

/** Prints the plan in readable lines, for tutti-info. */
void plan_print(const struct plan *p, void (*line)(void *ctx, const char *text), void *ctx);
/** One step as plan_print shows it; cut off at `size`. */
void plan_step_text(const struct plan *p, const struct step *s, char *text, size_t size);

/* ---- building: errors (out of memory) stick to the builder and are returned by plan_finish ------------------------ */

struct plan_builder {
	struct plan *plan;
	int cap_steps, cap_strands, cap_links;
	bool failed;
};

/** Start an empty plan. */
int plan_begin(struct plan_builder *b, enum coll coll, const char *algo, int rank, int nranks, int root);
/** Begin the next strand; returns its index, for `after`. */
int plan_strand(struct plan_builder *b, int after);
/** Index of the link to or from `peer` on `lane`; made when it is new. */
int plan_to(struct plan_builder *b, int peer, int lane);
int plan_from(struct plan_builder *b, int peer, int lane);
/** Append a step to the current strand. */
void plan_step(struct plan_builder *b, struct step s);
/**
 * NULL: out of memory. Removes strands without steps: a strand that waits for one waits for its predecessor instead.
 */
struct plan *plan_finish(struct plan_builder *b);

static inline struct block_set blocks(int first, int stride, int n)
{
	return (struct block_set){first, stride, n};
}
static inline struct block_set block_one(int b)
{
	return (struct block_set){b, 1, 1};
}
static inline int block_at(const struct plan *p, struct block_set s, int i)
{
	int64_t v = ((int64_t)s.first + (int64_t)s.stride * i) % p->nblocks;
	return (int)(v < 0 ? v + p->nblocks : v);
}

#endif
