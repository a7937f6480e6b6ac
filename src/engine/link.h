/* SPDX-License-Identifier: MIT */
/*
 * A link: a ring of slots, one direction, between this rank and one peer. Every transport looks like this to the engine;
 * there is no function pointer on the way.
 *
 *   sender                                         receiver
 *   s = link_send_begin   a free slot or NULL      s = link_recv_begin   the next full one or NULL
 *   fill s                                         read s in place
 *   link_send_end         publish                  link_recv_end         give it back
 *
 * A slot begins with one 64-byte line: sequence word, length, signature, 48 bytes of payload; longer payload follows the
 * line. So a small message is one cache-line transfer. The sequence word is the flag and is stored last. In memory shared
 * by both ranks the two sides use the same ring. Where a network is between, each side has a ring of its own and the
 * transport's pump plays the missing side on both: it takes filled slots of the sender's ring and gives credit, and fills
 * the receiver's ring.
 *
 * Memory order (docs/memory-model.md):
 *   R1 publish: sender stores seq          A1: receiver loads seq     the slot's contents are seen
 *   R2 give back: receiver stores credit   A2: sender loads credit    the receiver's reads are over
 *   R17 lease: each side adds its bit      A17: and sees the other's  who revokes waits for who reads
 *   R21 place: receiver stores its pos     A21: its own pump loads it what stood there is done with
 *   R131 refuse: receiver adds its bit     A131: sender loads lease   what the receiver could read it has given back
 *   R130 copied: sender stores its count   A130: receiver loads it    what was lent stands in the slots
 */
#ifndef TUTTI_LINK_H
#define TUTTI_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE        64  /* x86 and most Arm */
#define APART       128 /* distance of things written by different sides: Apple's line; x86 prefetches pairs */
#define SLOT_INLINE 48
#define REFER_NEVER SIZE_MAX
#define SLOT_REF    0x80000000u /* in len: the slot holds a struct slot_ref, the bytes are in the sender's memory */
#define PLACE_BYTES (8u << 10)  /* fewer bytes than this are not worth telling where they are to go */

struct slot {
	_Alignas(LINE) _Atomic uint64_t seq; /* position in the stream, from 1; 0: never filled */
	uint32_t len;
	uint32_t sig;              /* hash of the sender's call: must be the receiver's */
	uint8_t data[SLOT_INLINE]; /* a payload of at most 48 bytes */
};
_Static_assert(sizeof(struct slot) == LINE, "a slot's head is one line");

/** Bytes at `addr` of the sender's address space, leased until link_recv_end. */
struct slot_ref {
	uint64_t addr, bytes;
};

/*
 * A field that another process may write is read once, and the checked value is the one used: the compiler must not
 * read it again. Relaxed: the slot's seq has ordered it.
 */
static inline uint32_t slot_len(const struct slot *s)
{
	return __atomic_load_n(&s->len, __ATOMIC_RELAXED);
}

static inline uint64_t slot_address(const struct slot *s)
{
	return __atomic_load_n(&((const struct slot_ref *)s->data)->addr, __ATOMIC_RELAXED);
}

/**
 * Where a network's receiver wants the payload of a slot that is still to come. A slot with just these bytes and signature
 * may come as a reference to `at`, with the bytes there; any other comes in the ring. A pump may ignore it, and may have put
 * other bytes there before it knew what came.
 */
struct slot_place {
	_Atomic uint64_t pos; /* of the slot, from 1; stored last. 0: none */
	uint8_t *at;
	uint32_t bytes, sig;
};

/** Head of a ring in memory; the slots follow it. */
struct ring {
	_Alignas(APART) _Atomic uint64_t credit; /* slots given back so far; stored by the receiving side */
	_Atomic uint32_t lease; /* of what slots refer to: LEASE_READING, LEASE_REVOKED, LEASE_REFUSED */
	_Atomic uint64_t
	        copied; /* the bytes of so many slots are in them, whatever they refer to; stored by the sending side */
	_Alignas(APART) struct slot first[];
};

#define LEASE_READING 1u /* the receiver reads the sender's memory just now */
#define LEASE_REVOKED 2u /* the sender's call has ended without being done: its memory may be gone */
#define LEASE_REFUSED 4u /* the receiver can't read the sender's process any more: the sender copies instead */

static inline size_t slot_stride(size_t payload)
{
	size_t bytes = sizeof(struct slot) + payload;
	return (bytes + APART - 1) / APART * APART;
}
static inline size_t ring_bytes(size_t payload, unsigned nslots)
{
	return sizeof(struct ring) + slot_stride(payload) * nslots;
}

/** What a sender has lent with a slot, by its own record: another process may be able to write the slot. */
struct link_loan {
	uint64_t pos; /* of the slot, from 1 */
	const uint8_t *at;
	size_t bytes;
};

/** How the receiver may read memory that the sender refers to. */
enum link_reach {
	REACH_NONE, /* not at all: copy into slots */
	REACH_ALL,  /* every address of the sender is valid here (threads of one process; places of this side's pump) */
	REACH_WINDOW,  /* only addresses inside the shared window; they are translated */
	REACH_PROCESS, /* the window, and everything else by reading the sender's process */
};

struct segment;

struct link {
	uint8_t *slots;
	uint32_t stride, mask, payload;
	bool outgoing, ready, far; /* far: the peer is on another host */
	uint64_t pos;              /* slots that this side has finished with */
	uint64_t seen;             /* sender: credit as last read */
	_Atomic uint64_t *credit;
	_Atomic uint32_t *lease;  /* the ring's; NULL where slots never refer to memory */
	_Atomic uint64_t *copied; /* the ring's; NULL with lease */
	_Atomic uint32_t *bell;   /* peer's sleep word: non-zero while it sleeps; NULL where a network is between */
	enum link_reach reach;    /* receiver: how it reads what a slot refers to */
	int64_t peer_pid;         /* receiver, REACH_PROCESS */
	intptr_t window_shift;    /* receiver: address in the window here = the sender's + shift */
	const uint8_t *window;    /* memory shared with the peer, as mapped here; bytes 0: none */
	size_t window_bytes;
	struct link_loan *loans;        /* sender: one for each slot, where the peer may come to refuse; else NULL */
	size_t refer_any, refer_window; /* sender: least bytes for which referring pays, anywhere / in the window */
	struct slot_place *places;      /* receiver: one for each slot of the ring; NULL where the pump heeds none */
	uint64_t told;                  /* receiver: slots whose places it was told, or that have none */
	uint32_t tickets, serving;      /* runs that will use it, in issue order: handed out; whose turn it is */
	int peer;                       /* rank in the world */
	uint64_t tag;                   /* its name, equal on both sides */
	void *wire;                     /* the transport's state of this link */
	struct segment *segment;        /* sender, in shared memory: what the ring is part of */
	_Atomic bool fault; /* network: the memory that the next slot refers to, or is to go to, is not there */
	uint32_t committed; /* sender: longest payload that the slots have memory for; 0: any */
};

/** Sender: memory for payloads of that many bytes. ENOMEM. (segment.c) */
int link_commit(struct link *l, size_t bytes);

static inline bool link_holds(const struct link *l, size_t bytes)
{
	return bytes <= l->committed || !l->committed;
}

/** Wakes a peer that sleeps on its bell. (wait.c) */
void bell_ring(_Atomic uint32_t *bell);

static inline struct slot *link_slot_at(const struct link *l, uint64_t pos)
{
	return (struct slot *)(l->slots + (size_t)(pos & l->mask) * l->stride);
}

static inline struct slot *link_slot(const struct link *l)
{
	return link_slot_at(l, l->pos);
}

static inline uint8_t *slot_payload(struct slot *s, size_t len)
{
	return len <= SLOT_INLINE ? s->data : (uint8_t *)(s + 1);
}

/** Credit that a sender has, as far as is known: reread only when the cached one is spent. */
static inline struct slot *link_send_begin(struct link *l)
{
	if (l->pos - l->seen > l->mask) {
		l->seen = atomic_load_explicit(l->credit, memory_order_acquire); /* A2 */
		if (l->pos - l->seen > l->mask)
			return NULL;
	}
	return link_slot(l);
}

static inline void link_send_end(struct link *l, struct slot *s, uint32_t len, uint32_t sig)
{
	s->len = len;
	s->sig = sig;
	atomic_store_explicit(&s->seq, ++l->pos, memory_order_release); /* R1 */
	if (l->bell && atomic_load_explicit(l->bell, memory_order_relaxed))
		bell_ring(l->bell);
}

static inline struct slot *link_recv_begin(struct link *l)
{
	struct slot *s = link_slot(l);
	return atomic_load_explicit(&s->seq, memory_order_acquire) == l->pos + 1 ? s : NULL; /* A1 */
}

static inline void link_recv_end(struct link *l)
{
	atomic_store_explicit(l->credit, ++l->pos, memory_order_release); /* R2 */
	if (l->bell && atomic_load_explicit(l->bell, memory_order_relaxed))
		bell_ring(l->bell);
}

/** Receiver of a slot that refers to the sender's memory: may it be read, from here to link_lease_end? */
static inline bool link_lease_begin(struct link *l)
{
	if (!(atomic_fetch_or_explicit(l->lease, LEASE_READING, memory_order_seq_cst) & LEASE_REVOKED)) /* A17 */
		return true;
	atomic_fetch_and_explicit(l->lease, ~LEASE_READING, memory_order_release); /* R17 */
	return false;
}

/** false: it was revoked meanwhile, what was read is worth nothing. */
static inline bool link_lease_end(struct link *l)
{
	return !(atomic_fetch_and_explicit(l->lease, ~LEASE_READING, memory_order_seq_cst) & LEASE_REVOKED); /* R17 */
}

/**
 * Receiver: the next slot refers to memory that can't be read; sender and receiver copy from now on. The slot's bytes come into
 * it later: link_copied.
 */
static inline void link_refuse(struct link *l)
{
	(void)atomic_fetch_or_explicit(l->lease, LEASE_REFUSED, memory_order_release); /* R131 */
	if (l->bell && atomic_load_explicit(l->bell, memory_order_relaxed))
		bell_ring(l->bell);
}

/** Sender: has the receiver refused? */
static inline bool link_refused(const struct link *l)
{
	return l->lease && atomic_load_explicit(l->lease, memory_order_acquire) & LEASE_REFUSED; /* A131 */
}

/** Sender: all slots that were published have their bytes in them. */
static inline void link_copied_all(struct link *l)
{
	atomic_store_explicit(l->copied, l->pos, memory_order_release); /* R130 */
	if (l->bell && atomic_load_explicit(l->bell, memory_order_relaxed))
		bell_ring(l->bell);
}

/** Receiver: are the bytes of the next slot in it, though it refers to memory? */
static inline bool link_copied(const struct link *l)
{
	return l->copied && atomic_load_explicit(l->copied, memory_order_acquire) > l->pos; /* A130 */
}

/**
 * Receiver: slot `pos`, of the next ones that fit into the ring, shall go to `at`. Until it was received, or the link is
 * disconnected, these bytes are the pump's.
 */
static inline void link_place(struct link *l, uint64_t pos, uint8_t *at, uint32_t bytes, uint32_t sig)
{
	struct slot_place *p = &l->places[pos & l->mask];
	p->at = at;
	p->bytes = bytes;
	p->sig = sig;
	atomic_store_explicit(&p->pos, pos + 1, memory_order_release); /* R21 */
}

/** Sender: has the peer (or the network) taken the first `pos` slots? */
static inline bool link_taken(struct link *l, uint64_t pos)
{
	if (l->seen < pos)
		l->seen = atomic_load_explicit(l->credit, memory_order_acquire); /* A2 */
	return l->seen >= pos;
}

static inline bool link_drained(struct link *l)
{
	return link_taken(l, l->pos);
}

#endif
