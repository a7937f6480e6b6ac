/*
 * A stream: one socket that carries the slots of one link, in one direction. On the wire a slot is its length and
 * signature, as they stand in it from offset 8, and its payload. There are no acknowledgements: a receiver with a full
 * ring stops reading, and TCP holds the sender.
 *
 *   sender    plays the receiving side of the local ring: a slot is given back when the kernel has all of it
 *   receiver  plays the sending side of the local ring: a slot is published when all of it has come
 *
 * Either side may end the stream, with or without bytes under way: the other side sees a stream that is closed. When
 * a process dies, its streams are reset (they linger for no time), and the other side sees a peer that is lost.
 */
#ifndef TUTTI_TCP_STREAM_H
#define TUTTI_TCP_STREAM_H

#include "../../src/link.h"

/** Head of a slot on the wire. */
struct frame {
	uint32_t len, sig;
};
_Static_assert(offsetof(struct slot, len) == 8 && offsetof(struct slot, sig) == 12 && offsetof(struct slot, data) == 16,
               "a small slot from offset 8 is its image on the wire");

struct stream {
	int fd, peer;
	bool outgoing;
	bool watched;     /* in the epoll set */
	bool readable;    /* epoll says so */
	bool closed;      /* nothing more will be read or written */
	bool lost;        /* closed, because the peer is gone or talks nonsense; the thread's message says how */
	bool waiting;     /* sender: more is published than the socket took */
	bool open;        /* receiver: slot pos has its head, and `rest` bytes are to come */
	unsigned blocked; /* receiver: times in a row that the ring had no room */
	uint32_t stride, mask, payload;
	uint64_t pos;   /* slots taken by the kernel, or published */
	uint64_t given; /* receiver: slots given back, as last read */
	size_t sent;    /* sender: bytes of slot pos that the kernel has */
	uint32_t rest;
	uint32_t guess; /* receiver: length of the last frame; the next one's is probably the same */
	size_t first, last, stage_bytes;
	uint8_t *stage; /* receiver: bytes read ahead; frames from first to last */
	struct ring *ring;
};

/** Takes over fd, also on error. nslots is a power of two. */
int stream_create(struct stream **out, int fd, int peer, bool outgoing, uint32_t payload, uint32_t nslots);
void stream_destroy(struct stream *s);

/** Gives published slots to the kernel; `waiting` afterwards tells whether some are left. */
void stream_send(struct stream *s);
/** Fills free slots. */
void stream_receive(struct stream *s);
/** Is there a place for what may come? */
bool stream_has_room(struct stream *s);

#endif
