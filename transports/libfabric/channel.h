/* SPDX-License-Identifier: MIT */
/*
 * The side channel of a pair of ranks: an authenticated TCP connection on which they tell each other their addresses, and
 * for each link the place, key and number by which its slots and credits travel, and when they let go of it. Records of
 * fixed size; sending queues them, so nothing here waits.
 */
#ifndef TUTTI_LIBFABRIC_CHANNEL_H
#define TUTTI_LIBFABRIC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
	RECORD_HELLO = 1, /* first: number = bytes of the address that follows in records of its own */
	RECORD_NAME,      /* a piece of the address, in bytes */
	RECORD_OFFER,     /* an end of a link */
	RECORD_BYE,       /* this side uses its end no more */
	RECORD_VAIN,      /* answer to a BYE: this side has no matching end and will not make one; number: as BYE */
	RECORD_LEFT,      /* this side leaves in order: nothing follows */
};

struct record {
	uint32_t kind;
	uint32_t outgoing;        /* the link's direction as the speaker sees it */
	uint64_t tag;             /* the link's name */
	uint64_t number;          /* OFFER, BYE: the end's note, which names it */
	uint64_t at, key;         /* OFFER: where to write; BYE: at = notes that it has sent */
	uint32_t payload, nslots; /* OFFER: the ring's shape */
	uint64_t messages;        /* OFFER: of a link for messages: the communicator's id; 0: another link */
	uint8_t bytes[16];
};

struct channel {
	int fd;
	size_t nin, nout, outcap;
	uint8_t in[sizeof(struct record)];
	uint8_t *out;
	bool ended; /* nothing more will come */
};

/** Takes over fd. A process that dies resets it; channel_close ends it in order. */
void channel_open(struct channel *c, int fd);
/** Sends or keeps; ENOMEM. */
int channel_say(struct channel *c, const struct record *r);
/** Sends what was kept, as far as the socket takes it. */
void channel_flush(struct channel *c);
/** The next record that has come whole. */
bool channel_hear(struct channel *c, struct record *r);
void channel_close(struct channel *c);

#endif
