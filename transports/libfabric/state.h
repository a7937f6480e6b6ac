/* SPDX-License-Identifier: MIT */
/* The transport's state in one world: its endpoint, its peers, its wires. All calls are on one thread at a time. */
#ifndef TUTTI_LIBFABRIC_STATE_H
#define TUTTI_LIBFABRIC_STATE_H

#include "../../src/transport.h"
#include "wire.h"

struct peer {
	struct channel channel; /* fd -1: not yet */
	bool watched;           /* in the queue of events */
	bool met;               /* its address is known: */
	fi_addr_t addr;
	uint8_t name[ADDRESS_MAX];
	uint32_t name_bytes, name_have;
	struct record *offers; /* of links that this side does not know yet */
	int noffers, cap;
	bool left;          /* in order */
	bool lost;          /* the world knows */
	uint64_t broken_ns; /* when an operation with it failed; 0: none did */
	char how[400];
};

#define CREDIT_RECEIVES 32
#define LEFT_COMMS      256 /* communicators that are remembered */

struct fabric {
	const struct transport_env *env;
	const struct fabric_calls *fi;
	struct choices choices;
	struct endpoint e;
	uint32_t name; /* of what ranks have in common; 0: closed */
	int queue;     /* of events: the endpoint's queue, and side channels */
	struct peer *peers;
	int trouble; /* peers that are broken, and neither lost nor gone */
	struct wire **wires;
	uint32_t nwires, capacity; /* places, some of them NULL */
	uint32_t ended;            /* wires whose link is gone */
	uint32_t unoffered;        /* wires made for a peer's messages, of which it could not be told at once */
	uint64_t left[LEFT_COMMS]; /* by this rank, lately */
	unsigned nleft;
	struct cell credits_at; /* FABRIC_MESSAGE: where credits without a slot are received */
	struct op credits_in[CREDIT_RECEIVES];
	unsigned idle;      /* visits in a row that found nothing */
	unsigned strangers; /* things heard that belong to no link */
};

/* ---- peer.c ------------------------------------------------------------------------------------------------------ */

/** Makes the side channel with a peer, on first use, and hears it; LINK_PENDING until there is one. */
int peer_greet(struct fabric *f, int rank, struct net_limit limit);
/** Looks at all side channels that have something, and sends what they kept. */
int peers_look(struct fabric *f);
/** The peer's offer for the other end of w, if it came before w was made. */
int peer_recall(struct fabric *f, struct wire *w);
/** An operation with the peer failed: it has a moment to say that it left. what: "writing a slot"; why: libfabric's words. */
void peer_broken(struct fabric *f, int rank, const char *what, const char *why);
/** Tells the world of peers that are broken and did not leave. */
void peers_judge(struct fabric *f);
/** Tells all peers that this rank leaves, and closes the channels. */
void peers_close(struct fabric *f);

/* ---- libfabric.c ------------------------------------------------------------------------------------------------- */

/**
 * A peer is about to send messages of a communicator: this side's end of the link is made before a receive asks for it, for
 * both may send first. Nothing where this rank has left the communicator.
 */
int fabric_expect(struct fabric *f, int peer, const struct record *offer);
/** Tells peers of ends of which they could not be told at once. */
int fabric_offer_rest(struct fabric *f);

/* ---- progress.c -------------------------------------------------------------------------------------------------- */

int fabric_pump(struct fabric *f);
/** FABRIC_MESSAGE: where credits without a slot are received. */
int fabric_open_credits(struct fabric *f);
/** Reads completions that are there. *moved: something came. */
int fabric_drain(struct fabric *f, bool *moved);
/** Says goodbye for ended wires, and frees those with which both sides are done. */
void fabric_tidy(struct fabric *f);
/** This side's end of a link, at the stage that is asked for: a link may be made again while the last one is not over. */
struct wire *fabric_find(const struct fabric *f, int peer, uint64_t tag, bool outgoing,
                         bool (*stage)(const struct wire *w));

#endif
