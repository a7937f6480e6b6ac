/* SPDX-License-Identifier: MIT */
/*
 * A wire: this side's end of one link. The ring of either end stands in registered memory, and a slot travels as its
 * image from offset 8 (length, signature, payload), straight into the same slot of the peer's ring.
 *
 *   FABRIC_WRITE     a remote write; its completion data is a note
 *   FABRIC_MESSAGE   a tagged message, for which the receiver has posted the slot; its tag is a note
 *
 * The note says which end, which slot, and how many slots of the link the other way are given back. So credits travel with
 * slots; a note without a slot carries them when half a ring is owed. Nothing depends on the order in which writes or
 * messages arrive: a slot's next place in the stream follows from its last one, and credits are differences.
 *
 *      63      32 31       16    15     14       7 6      0
 *     |   nonce  | end's no. | no slot | credits  | slot   |
 *
 * The nonce is drawn for each end and told over the side channel only. Fabrics with 32 bits of completion data go without.
 */
#ifndef TUTTI_LIBFABRIC_WIRE_H
#define TUTTI_LIBFABRIC_WIRE_H

#include "../../src/engine/link.h"
#include "channel.h"
#include "endpoint.h"

#define WIRE_SLOTS      128u /* at most; a link that asks for more gets this */
#define WIRES_MAX       65536u
#define NOTE_END        (UINT64_C(0xffff) << 16)
#define NOTE_NO_SLOT    (UINT64_C(1) << 15)
#define NOTE_CREDITS    (UINT64_C(0xff) << 7)
#define NOTE_SLOT       UINT64_C(0x7f)
#define NOTE_NONCE      (UINT64_C(0xffffffff) << 32)
#define note_end(n)     ((uint32_t)(((n)&NOTE_END) >> 16))
#define note_credits(n) ((uint32_t)(((n)&NOTE_CREDITS) >> 7))
#define note_slot(n)    ((uint32_t)((n)&NOTE_SLOT))

struct wire;

/** One operation under way. libfabric hands back the address of its context. */
struct op {
	struct fi_context2 context;
	struct wire *wire; /* NULL: a posted receive for credits of any link */
	enum op_kind { OP_SEND, OP_RECEIVE, OP_CREDIT, OP_CREDITS_IN } kind;
	/* done, failed: OP_SEND, until the slots before it are done too */
	enum { OP_IDLE, OP_PENDING, OP_DONE, OP_FAILED } state;
	uint32_t slot;
	const void *from; /* OP_SEND: memory that the slot refers to; NULL: none */
};

struct wire {
	int peer;
	bool outgoing;
	uint64_t tag;        /* of the link; equal on both sides */
	uint64_t pair;       /* of the lane, in both directions */
	uint64_t comm;       /* the communicator's id */
	bool message;        /* of a lane of messages */
	bool attached;       /* a link uses it, or did */
	struct wire *mirror; /* the end of the link the other way */

	struct cell cell;
	struct ring *ring;
	uint32_t stride, mask, payload;
	uint8_t *bell; /* behind the ring: what credits without a slot write, and nobody reads */
	struct op *op; /* one for each slot */
	struct op credit;
	int busy; /* operations under way */

	uint64_t note; /* says: for this end */
	bool offered;  /* told to the peer */
	bool met;      /* the other end is known: */
	fi_addr_t addr;
	uint64_t far_note, far_at, far_key;

	uint64_t posted, granted; /* out: slots handed to libfabric, slots that the peer gave back */
	uint64_t armed, told;     /* in: slots open for the peer and posted, slots that it was told it has back */

	/* Its end: see wire_is_free. */
	bool ended, said_bye, heard_bye, cancelled;
	uint64_t sent, got, expected; /* notes to the other end, notes from it, how many it has sent in all */
};

/** An end with a ring of its own; index: its number. ENOMEM. */
int wire_create(struct wire **out, struct endpoint *e, int peer, bool outgoing, uint64_t tag, uint64_t pair,
                uint32_t payload, uint32_t nslots, uint32_t index);
/** When no operation is under way, or the endpoint is closed. */
void wire_free(struct wire *w);
/** What the other end must know. */
struct record wire_offer(const struct endpoint *e, const struct wire *w);
/** What the other end said. EMISMATCH when its ring is another one. */
int wire_meet(struct wire *w, const struct record *offer, fi_addr_t addr);

/** Slots that may be written once more: given back by the engine and, where messages travel, posted. */
static inline uint64_t wire_open_slots(const struct endpoint *e, const struct wire *w)
{
	if (e->mode == FABRIC_WRITE)
		return atomic_load_explicit(&w->ring->credit, memory_order_acquire); /* A2 */
	return w->armed > w->mask ? w->armed - (w->mask + 1) : 0;
}

/** Slots given back that the peer does not know of. */
static inline uint32_t wire_owed(const struct endpoint *e, const struct wire *w)
{
	return w && !w->ended ? (uint32_t)(wire_open_slots(e, w) - w->told) : 0;
}

static inline struct slot *wire_slot(const struct wire *w, uint64_t pos)
{
	return (struct slot *)((uint8_t *)w->ring->first + (size_t)(pos & w->mask) * w->stride);
}

/** Is there anything to post? Asked of each wire at each look: the answer is mostly no. */
static inline bool wire_is_due(const struct endpoint *e, const struct wire *w)
{
	if (w->outgoing) {
		uint64_t seq = atomic_load_explicit(&wire_slot(w, w->posted)->seq, memory_order_acquire); /* A1 */
		return seq == w->posted + 1 && w->posted - w->granted <= w->mask;
	}
	return wire_owed(e, w) > w->mask / 2 ||
	       (e->mode == FABRIC_MESSAGE &&
	        w->armed < atomic_load_explicit(&w->ring->credit, memory_order_acquire) + w->mask + 1); /* A2 */
}

/** Posts filled slots, as far as the peer has room. 0 (also when libfabric has no room now), or its error. */
int wire_send(struct endpoint *e, struct wire *w);
/** FABRIC_MESSAGE: posts receives into slots that were given back. */
int wire_arm(struct endpoint *e, struct wire *w);
/** Tells the peer of slots given back, when it is worth a note of its own. */
int wire_give(struct endpoint *e, struct wire *w);

/** An operation of the wire has completed. */
void wire_done(struct wire *w, struct op *op);
/** An operation of the wire has failed. */
void wire_failed(struct wire *w, struct op *op);
/**
 * The peer has left in order, so it has received everything that it needs. Filled slots count as sent, acknowledged or
 * not, except for operations that may still read the caller's memory: those wait for their completion, good or bad.
 */
void wire_deserted(struct wire *w);
/** A slot came, or credits. NULL, or what is wrong with it. */
const char *wire_arrived(struct wire *w, uint32_t slot, size_t bytes);
const char *wire_granted(struct wire *w, uint32_t credits);

/** Ended on both sides, with nothing under way in either direction: its memory can be used for something else. */
bool wire_is_free(const struct wire *w);

#endif
