/* SPDX-License-Identifier: MIT */
/*
 * A stream: one socket between this rank and a peer that carries the slots of up to two links, one in each direction, so
 * that TCP's acknowledgements travel with data. On the wire a slot is its length and signature, as they stand in it from
 * offset 8, and its payload. There are no acknowledgements of ours: a receiver with a full ring stops reading, and TCP
 * holds the sender.
 *
 *   out  plays the receiving side of the local ring: a slot is given back when the kernel has all of it
 *   in   plays the sending side of the local ring: a slot is published when all of it has come, in it or in its place
 *
 * Sealed (TUTTI_ENCRYPT=1), the same bytes go in sealed frames, and through a buffer on each side.
 *
 * Either side may end the stream, with or without bytes under way: the other side sees an end of file, a stream that is
 * closed. When a process dies its streams are reset (they linger for no time), and the other side sees a peer that is
 * lost.
 */
#ifndef TUTTI_TCP_STREAM_H
#define TUTTI_TCP_STREAM_H

#include "../../src/engine/link.h"
#include "../../src/util/seal.h"

/** Head of a slot on the wire. */
struct frame {
	uint32_t len, sig;
};
_Static_assert(offsetof(struct slot, len) == 8 && offsetof(struct slot, sig) == 12 && offsetof(struct slot, data) == 16,
               "a small slot from offset 8 is its image on the wire");

/** One direction: the ring of its link, on this side. */
struct direction {
	struct ring *ring; /* NULL: no link uses it */
	struct link *link; /* whose it is, once it is connected */
	uint32_t stride, mask, payload;
	uint64_t pos; /* slots that the kernel has taken, or that were published */
};

struct stream {
	struct cover *cover; /* NULL: bytes go as they are */
	int fd, peer;
	uint64_t tag;     /* its name, equal on both sides */
	unsigned watched; /* events in the queue; 0: not in it */
	bool readable;    /* the queue says so */
	bool dialled;     /* by this rank */
	bool awaited;     /* no link reads from it yet, but one may be about to */
	bool closed;      /* nothing more will be read or written */
	bool lost;        /* closed, because the peer is gone or talks nonsense; the thread's message says how */

	struct direction out;
	size_t sent;  /* bytes of slot out.pos that the kernel has */
	bool waiting; /* more is published than the socket took */

	struct direction in;
	bool open;        /* slot in.pos has its head, and `rest` bytes are to come */
	unsigned blocked; /* times in a row that the ring had no room */
	uint64_t given;   /* slots given back, as last read */
	uint32_t rest;
	uint8_t *to;               /* where they go: the slot, or the place that the engine named */
	uint32_t guess;            /* length of the last frame; the next one's is probably the same */
	struct slot_place *places; /* the link's */
	size_t first, last, stage_bytes;
	uint8_t *stage; /* bytes read ahead; frames from first to last */
};

/** Takes over the session, also on error. It carries nothing yet. Without keys its bytes are in the clear. */
int stream_create(struct stream **out, struct session session, int peer, uint64_t tag);
/** The ring of a link in one direction; nslots is a power of two. */
int stream_attach(struct stream *s, bool outgoing, uint32_t payload, uint32_t nslots);
void stream_detach(struct stream *s, bool outgoing);
void stream_destroy(struct stream *s);

/** Nothing has come from the peer's host for seconds, though it owes an answer: then the stream is closed and lost. */
bool stream_is_silent(struct stream *s);
/** Something came over a stream from which no link reads yet: bytes, its end, or an error. */
bool stream_has_come(const struct stream *s);
/** The caller's memory is not there: the direction stands still. */
bool stream_faults(const struct direction *d);
/** Gives published slots to the kernel; `waiting` afterwards tells whether some are left. */
void stream_send(struct stream *s);
/** Fills free slots. */
void stream_receive(struct stream *s);
/** Bytes have arrived that have no place yet, or have not been processed. */
bool stream_holds(const struct stream *s);
/** Is there a place for what may come? */
bool stream_has_room(struct stream *s);

#endif
