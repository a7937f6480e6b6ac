/* SPDX-License-Identifier: MIT */
/*
 * A pair: what joins this rank to one peer. One queue pair carries all links between them, so that devices with few of
 * them serve many ranks; one socket, dialled and authenticated by the bootstrap, carries what must not travel by RDMA:
 * the queue pairs' numbers, where rings stand, goodbyes. It also shows a peer's death at once.
 *
 * A channel is the two links of a lane, one in each direction, as far as they exist. In mode write a filled slot goes
 * with one RDMA WRITE into the same slot of the peer's ring; its immediate names the channel and brings along how many
 * slots of the other direction were given back. The order of placement inside a WRITE is unknown, so the receiver takes
 * a slot as come when its immediate completes and stores `seq` itself: seq is never written by the network. A payload in
 * memory of tutti_mem_alloc goes from there, with a WRITE of its own before that of the slot's head. In modes
 * send and uc a slot goes in frames (frame.c), copied on both sides.
 *
 * Receives. Each message takes one that was posted before. At most `window` slots (frames) are under way without the
 * peer having said that it is done with them, and it says so after it has posted new receives; so there is always one,
 * which RC would like and UC needs.
 */
#ifndef TUTTI_VERBS_PAIR_H
#define TUTTI_VERBS_PAIR_H

#include "../../src/engine/link.h"
#include "../../src/transport.h"
#include "cm.h"
#include "device.h"

#define CHANNELS_MAX (1 << 14) /* of a pair; 14 bits of an immediate */
#define FRAME_BYTES  8192u     /* modes send and uc: of every buffer, and on UC of every message */
#define LEFT_COMMS   64        /* communicators that are remembered */

/** One direction of a channel on this side: the ring of its link. */
struct way {
	struct piece memory;
	struct ring *ring; /* NULL: no link came yet */
	bool attached;     /* a link uses it */
	uint32_t stride, mask, payload;
	uint64_t pos; /* slots sent, or published */
};

struct channel {
	struct pair *pair;
	uint64_t tag; /* equal on both sides */
	uint32_t id, peer_id;
	uint64_t comm;      /* of the links; 0: not known, none came yet */
	bool message;       /* a lane of messages */
	bool expects;       /* in's ring was made because the peer sends messages, and no link came for it yet */
	bool known;         /* the peer has told its number */
	bool ended;         /* its links were here, and have ended */
	bool leaving, left; /* we have told the peer so; it has told us */
	uint64_t last;      /* posted work requests when its last one was */
	struct way out, in;
	uint64_t remote; /* out: address of the peer's first slot; 0: it has none yet */
	uint32_t rkey, remote_payload, remote_slots;
	uint64_t acked;  /* out: slots that the peer has given back */
	uint32_t sent;   /* out, frames: bytes of slot out.pos that are sent */
	uint64_t told;   /* in: slots given back, as the peer knows */
	uint32_t come;   /* in, frames: bytes of slot in.pos that have come */
	unsigned posted; /* work requests that read out's memory */
};

/** An entry of the send queue: until it completes, slots of the channel before `pos` are being read. */
struct sent {
	struct channel *channel; /* NULL: memory of nobody's */
	uint64_t pos;
};

/* GREETING: until the peer has greeted and the queue pair is connected; ALMOST: until the peer reports the same */
enum pair_state { PAIR_GREETING, PAIR_ALMOST, PAIR_UP, PAIR_LEFT, PAIR_BROKEN };

struct pair {
	const struct transport_env *env;
	struct device *device;
	int peer, fd;
	enum pair_state state;
	bool greeted, joined, ready; /* the peer's greeting came; the queue pair is connected; the peer's is */
	char why[400];               /* PAIR_BROKEN */
	struct ibv_qp *qp;
	uint32_t psn, window, inline_max;

	struct channel **channels; /* by id; NULL: free */
	uint32_t nchannels, turn;

	struct sent *queue; /* posted work requests, by number */
	uint32_t depth;
	uint64_t posted, done;
	uint32_t silent;    /* posted since the last that is signalled */
	uint64_t under_way; /* slots sent that the peer has not given back (mode write) */
	uint32_t receives, owed;
	uint64_t untold; /* slots given back here that the peer does not know of, when last counted */
	bool sweeping;   /* some channels may have come to their end */
	uint64_t comms_left[LEFT_COMMS];
	unsigned ncomms_left;

	struct frames *frames; /* modes send and uc */

	uint8_t *out; /* for the socket */
	size_t nout, cap;
	uint8_t in[192];
	size_t nin;

	struct rdma_cm_id *cm_id; /* where rdma_cm connects */
	struct cm_place place;
	struct pair *next_expected;
};

/** Receives and sends of one queue pair, and completions in all, for a window. */
static inline uint32_t pair_receives(uint32_t window)
{
	return 2 * window + window / 2;
}
static inline uint32_t pair_sends(uint32_t window)
{
	return window + 8;
}

/** Takes over fd, also on error. The queue pair is made, its receives are posted, the peer is greeted. */
int pair_create(struct pair **out, const struct transport_env *env, struct device *d, int peer, int fd,
                uint32_t window);
/** Whatever is posted is dropped: wait for pair_flushed first. */
void pair_destroy(struct pair *p);
/** Asks for a completion after all that was posted, if none will come; true when it has come, or never will. */
bool pair_flushed(struct pair *p);

/** A link of this pair: TUTTI_OK, LINK_PENDING or an error. `tag` names the channel, equally on both sides. */
int pair_connect(struct pair *p, const struct link_spec *spec, uint64_t tag, struct link *link);
/** Whether there is a channel of that name already, from here or because the peer has told of it. */
bool pair_has(const struct pair *p, uint64_t tag);
void pair_disconnect(struct channel *ch, bool outgoing);
/** This rank has left a communicator: what was made for it, and no link came to use, goes. */
void pair_leave(struct pair *p, uint64_t comm);

/** Reads and writes the socket; what it finds out goes into the state. */
void pair_talk(struct pair *p);
/** Its queue pair is connected. */
void pair_joined(struct pair *p);
/** Posts what is published and gives back what is free. */
void pair_move(struct pair *p);
/** Frees what both sides are done with; only when the completion queue was seen empty after pair_talk. */
void pair_sweep(struct pair *p);
/** A completion of its queue pair. */
void pair_completed(struct pair *p, const struct ibv_wc *wc);
/** The connection is of no use any more; the peer is reported as lost. The thread's message says how. */
void pair_break(struct pair *p);

/* wr_id: peer, whether it was sent, and the number of the work request (or of the frame) */
#define WR_SENT 0x80000000u
static inline uint64_t wr_name(const struct pair *p, uint32_t number)
{
	return (uint64_t)(uint32_t)p->peer << 32 | number;
}

/* ---- between the files of a pair --------------------------------------------------------------------------------- */

/** Posts one work request. `s` is remembered until it completes. false: the pair is broken now. */
bool pair_post(struct pair *p, struct ibv_send_wr *wr, struct sent s, bool signalled);
static inline bool pair_can_post(const struct pair *p, uint32_t n)
{
	return p->posted - p->done + n <= p->depth;
}
/** Posts n receives without memory: a WRITE's immediate takes one. */
bool pair_receive(struct pair *p, uint32_t n);
struct slot *pair_slot(const struct way *w, uint64_t pos);
/** The next filled slot of an outgoing link that the peer has room for; NULL: none. */
struct slot *channel_next(const struct channel *ch);
/** Slots given back by the engine; *due: the peer should be told even when nothing else goes there. */
uint64_t channel_credit(const struct channel *ch, bool *due);
/** The device (or a copy) is done with out's slots before pos. */
void channel_settle(struct channel *ch, uint64_t pos);
/** The peer has given back slots; `low`: the lowest `bits` bits of their number. false: more than were sent. */
bool channel_acknowledge(struct channel *ch, uint32_t low, unsigned bits, uint64_t *fresh);
/** Slot in.pos is complete. false: its ring had no room for it. */
bool channel_publish(struct channel *ch);
struct channel *pair_channel(const struct pair *p, uint32_t id);
int pair_protocol_error(struct pair *p, const char *what);

/* frame.c: modes send and uc */
int frames_begin(struct pair *p);
void frames_end(struct pair *p);
bool frames_receive(struct pair *p, uint32_t index);
void frames_move(struct pair *p);
void frames_arrived(struct pair *p, const struct ibv_wc *wc);

#endif
