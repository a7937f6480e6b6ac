/* SPDX-License-Identifier: MIT */
/*
 * A transport makes a ring on this side and its mirror on the peer's side the same ring. It is control path only: it
 * never sees a collective, a type or an operation, and it includes nothing but this header, link.h, segment.h and util/.
 *
 * Life, all on the thread that creates, uses and destroys the world (or the progress thread, never two at a time):
 *
 *   open      once per world, before anything is known of others. Failure means "not usable here": the reason is the
 *             thread's message, and goes into the transport list; it is not an error of the world. Only close follows then.
 *   address   what peers must know: goes into the contact.
 *   attach    contacts of all ranks are known (env->contacts). May talk to peers' doors (env->ask); must not need a peer's
 *             application thread, except that all ranks are in attach at about the same time. Failure: as open.
 *   fabric    after attach: a number; ranks with the same non-zero number can be connected by this transport. Exchanged by
 *             all, so both sides decide alike.
 *   connect   fills in one link; called again and again from the wait loop until it returns TUTTI_OK. LINK_PENDING: not
 *             yet. Must not block for long: a dial ends at the limit's deadline, or when its word says so. Both sides of a
 *             link call it. The link keeps its address.
 *   pump      moves slots between rings and network; never blocks. Called from the wait loop and after a rank's last
 *             step, until its links are drained: a slot's credit is given when its bytes have left this process for good.
 *             NULL where the ring is the same memory.
 *   look      optional: a call has waited for a while, and does so every quarter of a second: finds peers whose hosts do not
 *             answer, and tells env->silent. Never blocks.
 *   sleep_fd  a queue of events (os.h) that is readable when pump would do something; -1 or NULL: none needed, or, where
 *             there is a pump, none to be had: a sleeping rank then looks every millisecond. A transport that must be told
 *             before it rings (ibv_req_notify_cq, fi_trywait) does so in a pump that has found nothing for a while: it is
 *             the last call before a sleep.
 *   peers     after attach, optional: how many ranks this one can be connected to at a time; 0: all. The fewest of all ranks
 *             limit the choice of plans.
 *   devices   optional, without open: a line for each device that it could use, which says whether, as what, or why not.
 *   memory      optional, after attach: memory that tutti_mem_alloc gave or tutti_mem_register named, or that is about to be
 *             taken back (given: false, with the same bytes). A transport whose links refer may send it from where it stands,
 *             and must be done with it when it is taken back. Ranges may overlap, or be given several times.
 *   disconnect  ends one link; the link's memory is the transport's.
 *   left        optional: this rank has left a communicator, its links are disconnected. What peers have prepared for, or sent
 *             over, links that this rank never made goes, also what comes later.
 *   close     after everything else; safe after a failed open or attach (ctx is what open stored, perhaps NULL).
 *
 * Messages. The sender's end of a link with lane < 0 is to become ready, and take slots, without the peer's application
 * thread; where that can't be, it is enough that the peer pumps.
 *
 * Errors are statuses with the thread's message set. A peer found lost is told to env->lost; connect then returns
 * TUTTI_EPEER, pump goes on with the others: the lost one may be no concern of the communicator that waits. One whose whole host
 * does not answer is told to env->silent; env->dial tells it by itself.
 *
 * A caller may hand over a buffer that is not there. Where the system finds that, pump sets the link's `fault`, leaves the link
 * alone from then on, and returns LINK_FAULT while there is such a link: whose call it is, the calls that wait find out.
 */
#ifndef TUTTI_TRANSPORT_H
#define TUTTI_TRANSPORT_H

#include "bootstrap/contact.h"
#include "engine/link.h"
#include "util/net.h"
#include "util/param.h"
#include "util/seal.h"

#define LINK_PENDING (-1)
#define LINK_FAULT   (-2)

struct segment;

/** What the world offers to its transports. */
struct transport_env {
	int rank, nranks;
	int index; /* of this transport in the registry: contacts[r].transport[index] is its address */
	const struct params *params;
	const struct contact *contacts; /* NULL until attach */
	uint64_t process;               /* random number of this process: equal on ranks that are threads of one */
	bool loopback_only;             /* no secret: nothing leaves this machine */
	bool named;                     /* TUTTI_TRANSPORT, or the config's, names this transport */
	void *world;
	/* TCP, authenticated, then in the clear. `limit` is what connect was given */
	int (*dial)(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit, int *fd);
	int (*take)(const struct transport_env *env, int peer, uint64_t tag); /* the peer's dial, or -1 */
	/* Drops dials, of any peer, whose tag is this one as far as the mask goes; also those that come later */
	void (*forget)(const struct transport_env *env, uint64_t tag, uint64_t mask);
	/* The same with the session's keys, which authenticate and encrypt what follows (util/seal.h) */
	int (*dial_sealed)(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit,
	                   struct session *session);
	struct session (*take_sealed)(const struct transport_env *env, int peer, uint64_t tag);
	int (*give)(const struct transport_env *env, uint64_t tag, int fd); /* hand fd to local peers that ask */
	int (*ask)(const struct transport_env *env, int peer, uint64_t tag, int *fd); /* local socket, in attach */
	void (*lost)(const struct transport_env *env, int peer, const char *how);
	void (*silent)(const struct transport_env *env, int peer, const char *how);
};

/** One direction wanted between this rank and `peer`. Equal on both sides except for `outgoing`. */
struct link_spec {
	uint64_t comm; /* id of the communicator */
	int peer;      /* rank in the world */
	int lane;      /* negative: point to point */
	bool outgoing;
	uint32_t payload, nslots;
	uint64_t wanted_ns; /* since when */
};

/** Of a link's ring: bytes of a slot's payload, and slots, a power of two. */
struct ring_size {
	uint32_t payload, nslots;
};

struct transport {
	const char *name;
	const char *what;            /* one line for lists */
	bool encrypts;               /* with TUTTI_ENCRYPT=1 nothing leaves the machine in the clear */
	struct ring_size ring;       /* what suits it, if the usual one does not; 0: it does */
	struct ring_size ring_cable; /* the same where a cable lies between; 0: as elsewhere */
	int (*open)(const struct transport_env *env, void **ctx);
	void (*address)(void *ctx, uint8_t blob[CONTACT_BLOB]);
	int (*attach)(void *ctx);
	uint64_t (*fabric)(void *ctx);
	int (*connect)(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link);
	int (*pump)(void *ctx);
	void (*look)(void *ctx);
	int (*sleep_fd)(void *ctx);
	void (*disconnect)(void *ctx, struct link *link);
	void (*left)(void *ctx, uint64_t comm);
	/* The memory shared with local peers, after attach; *local: rank -> index in it, -1: not in it. NULL function: none */
	struct segment *(*segment)(void *ctx, const int **local);
	void (*memory)(void *ctx, void *p, size_t bytes, bool given);
	int (*peers)(void *ctx);
	int (*devices)(const struct params *params, void (*line)(void *arg, const char *text), void *arg);
	void (*close)(void *ctx);
};

/** The registry, best first: transport.c. Ends with NULL. */
extern const struct transport *const transport_table[];

/** The transport with this name, of len characters; NULL: unknown. */
const struct transport *transport_find(const char *name, size_t len);

/** The ring that suits a transport, where a cable lies between or not; NULL: memory. */
struct ring_size transport_ring(const struct transport *t, bool cable);

/** 64-bit name of a link, equal on both sides: from communicator, sender, receiver and lane. */
uint64_t link_tag(const struct link_spec *spec, int self);

/** Does TUTTI_TRANSPORT (or the config's) allow it? EINVAL with the list of names when the text names an unknown one. */
int transport_allowed(const char *text, const struct transport *t, bool *allowed);

#endif
