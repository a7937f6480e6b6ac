/* SPDX-License-Identifier: MIT */
/*
 * The direct tier: where all ranks of a communicator load and store each other's memory, hand-written algorithms beat any
 * plan. Each rank has one area that all others read; nobody writes into another's.
 *
 *   one-shot   publish the input (in the flag's own line when it is small), wait for everybody's, fold all in rank order
 *   two-shot   publish the input, fold this rank's share of all inputs, publish it, collect the others' shares
 *
 * A call is cut into pieces; each piece is one epoch. Epochs number the pieces of all direct calls of the communicator, so
 * epoch e uses buffer e mod DIRECT_BUFFERS of every rank. A rank stores `done` = e when it has read all that it needs of
 * epoch e. A buffer is overwritten only when all other ranks are done with it. Seeing another rank's flag of epoch e
 * proves that the rank is done with e - 2 (a rank publishes at most one piece ahead). So the `done` words are read only
 * after a broadcast, whose root waits for nobody.
 *
 * Blocks of half a buffer and more are not copied if all others can read their memory (tutti_mem_alloc, or any memory if
 * ranks are threads). The flag carries their address instead, and the call ends when all others have read them. A call that
 * fails takes back what it lent: the lease word of a rank says that it is reading, or that it has revoked.
 *
 * Memory order (docs/memory-model.md): R3 flag of a piece / A3; R4 done / A4; R18 lease / A18.
 */
#ifndef TUTTI_DIRECT_H
#define TUTTI_DIRECT_H

#include "../engine/engine.h"
#include "../segment/segment.h"

#define DIRECT_BUFFERS 4

struct crew;
struct direct;

/**
 * What calls of one shape have in common; made once, read by all of them. Blocks are `bytes` long, or at most so long where parts
 * differ: the whole vector, or one rank's part of it.
 */
struct direct_call {
	enum coll coll;
	bool two_shot;
	bool stepwise; /* round after each addition, as plans do: TUTTI_REPRODUCIBLE */
	size_t bytes, esize;
	const size_t *counts, *displs; /* of the members' parts, in elements; NULL: even parts, side by side */
	const struct kernel_table *kernels;
	kernel2_fn *two; /* of dtype and op */
	kerneln_fn *many;
	struct crew *crew; /* helps with long stretches; NULL: nobody */
	enum tutti_dtype dtype;
	enum tutti_op op;
	int root;
	/* what direct_cut adds */
	size_t npieces, piece; /* pieces, and bytes of a block in each but the last */
	size_t fills;          /* so many bytes of a buffer at most; more than a buffer's half in long calls */
	size_t own_at;         /* where the block for this rank stands in what another rank lends */
	size_t lendable;       /* bytes of the input that others may read */
	bool packed;           /* this rank's input can be lent: its blocks stand side by side */
	bool inlined;          /* the flag's line has room for the bytes */
	bool at_once;          /* an allreduce of such: it has a way of its own */
	size_t count;          /* then: elements */
};

/** One call in motion. */
struct direct_run {
	const struct direct_call *call;
	const uint8_t *in;
	uint8_t *out;
	uint32_t sig;
	bool started, foreign;
	bool lends_in, lends_out;           /* others read this rank's buffers in place */
	bool spoilt;                        /* what another rank lent was taken back: the call has failed there */
	bool broken;                        /* another rank lent what it does not share */
	size_t published, folded, finished; /* pieces; folded: own shares published (two-shot) */
	uint64_t first;                     /* epoch of piece 0 */
};

/** Cuts a call of n members into pieces for member `me`; buffer: as for direct_open. */
void direct_cut(struct direct_call *call, int n, int me, size_t buffer);

/** A run of the call, from its beginning. */
static inline struct direct_run direct_begin(const struct direct_call *call, const void *in, void *out, uint32_t sig)
{
	return (struct direct_run){.call = call, .in = in, .out = out, .sig = sig};
}

static inline bool direct_finished(const struct direct_run *x)
{
	return x->started && x->finished == x->call->npieces;
}

/** local[i]: index in the segment of member i. buffer: bytes of one of the buffers, rounded up. Publishes this rank's area. */
int direct_open(struct direct **out, struct segment *seg, uint64_t id, const int *local, int n, int me, size_t buffer);
/** TUTTI_OK when all members' areas were found, LINK_PENDING before; EPEER names a member whose directory is broken. */
int direct_ready(struct direct *d);
void direct_close(struct direct *d);

/** Can the tier do this collective at all? */
bool direct_serves(enum coll coll);

/** What a call comes to on a rank, for its price: times that all wait for all; bytes, as so many n-ths of the longer buffer. */
struct direct_volume {
	int rounds, read, reduced, copied;
};
struct direct_volume direct_volume(enum coll coll, int n, bool two_shot);

/** Called before the caller gets its buffers back. After it, no other rank uses memory that a failed call has lent. */
void direct_end(struct direct *d, struct direct_run *run);

/**
 * Does what can be done without waiting. Runs of one communicator are advanced one after the other, in call order.
 * ADVANCE_FAILED: no shared memory for what it puts there, or (run->broken) another rank is broken; the text is the thread's message.
 */
enum advance direct_advance(struct direct *d, struct direct_run *run);

#endif
