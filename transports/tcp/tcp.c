/* SPDX-License-Identifier: MIT */
/*
 * tcp: sockets between any two ranks, one for the two links of a lane that join them. The lower rank dials the other's
 * door under the lane's name, and the other takes the connection from its own. The rings on both sides are ordinary
 * memory; pump moves slots through streams (stream.h).
 *
 * A message must not wait for its receiver. So on the lane of messages the higher rank also dials, in order to send, if
 * no stream has come from the lower one. In most cases there is still only one: a rank that finds the other's stream in
 * its door does not dial, and the higher rank gives the lower one a moment. If both have dialled, each sends over its
 * own.
 *
 *   a rank sends over    the lower: the stream that it has dialled, else the other's; the higher: the other's, if it was
 *                        there first, else its own; once for all
 *   and receives from    the other's stream, if there is one: who has dialled to send does so there. Else from its own,
 *                        as soon as something comes over it: until then the other rank may still dial
 */
#include "../../src/os/os.h"
#include "../../src/transport.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY        4 /* with more incoming streams the queue of events tells which are readable */
#define EVENTS      64
#define REFER_BYTES 1024 /* the kernel reads the caller's memory: from here on cheaper than a copy into a slot */
#define HAS_AES     1    /* in the address: this processor encrypts by AES-256-GCM, else ChaCha20-Poly1305 */
#define PATIENCE    64   /* visits to a full ring before its socket leaves the queue of events */
#define MOMENT_NS   UINT64_C(5000000) /* for the lower rank to dial, before the higher one does */

/*
 * On loopback system calls are what a frame costs: long ones are better, and short ones go together, as many as have slots.
 * With longer or more slots so much is under way that it leaves the caches.
 */
#define SLOT_LOOPBACK  (192u << 10)
#define SLOTS_LOOPBACK 8

/* With its head one packet for the device's queue, so that no part of it waits behind what goes to other peers. */
#define SLOT_CABLE  (60u << 10)
#define SLOTS_CABLE 4

struct tcp {
	const struct transport_env *env;
	int queue; /* of events: receivers with room; senders that wait for the socket */
	struct stream **streams;
	int n, cap, incoming;
};

static void tcp_close(void *ctx)
{
	struct tcp *t = ctx;

	if (!t)
		return;
	for (int i = 0; i < t->n; i++)
		stream_destroy(t->streams[i]);
	fd_close(t->queue);
	free(t->streams);
	free(t);
}

static int tcp_open(const struct transport_env *env, void **ctx)
{
	struct tcp *t = calloc(1, sizeof(*t));
	int fd;

	if (!t)
		return fail(TUTTI_ENOMEM, "out of memory");
	*ctx = t;
	t->env = env;
	t->queue = fd_keep(os_queue_open());
	if (t->queue < 0)
		return fail_errno("create a queue of events");
	fd = fd_keep(os_socket(AF_INET, SOCK_STREAM));
	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = fd_keep(os_socket(AF_INET6, SOCK_STREAM));
	if (fd < 0)
		return fail_errno("open a TCP socket");
	fd_close(fd);
	return TUTTI_OK;
}

/* Beside the contact's addresses peers need to know how to encrypt. */
static void tcp_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	(void)ctx;
	memset(blob, 0, CONTACT_BLOB);
	blob[0] = seal_has_aes() ? HAS_AES : 0;
}

static int tcp_attach(void *ctx)
{
	(void)ctx;
	return TUTTI_OK;
}

static uint64_t tcp_fabric(void *ctx)
{
	const struct transport_env *env = ((struct tcp *)ctx)->env;
	return env->contacts[env->rank].naddrs > 0;
}

/* ---- which sockets may wake us ----------------------------------------------------------------------------------- */

static int watch(struct tcp *t, struct stream *s, unsigned events)
{
	if (s->watched == events)
		return TUTTI_OK;
	if (os_queue_watch(t->queue, s->fd, s->watched, events, (uintptr_t)s) < 0)
		return fail_errno("watch the TCP connection with rank %d", s->peer);
	s->watched = events;
	return TUTTI_OK;
}

/* What is worth waking up for: bytes that have a place, and room in a socket that was full. */
static unsigned events_of(const struct stream *s)
{
	bool hears = (s->in.ring && s->blocked < PATIENCE && !stream_faults(&s->in)) || s->awaited;

	return s->closed ? 0 : (hears ? OS_READ : 0) | (s->waiting ? OS_WRITE : 0);
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static int keep(struct tcp *t, struct stream *s)
{
	if (t->n == t->cap) {
		int cap = t->cap ? 2 * t->cap : 16;
		struct stream **more = realloc(t->streams, (size_t)cap * sizeof(*more));
		if (!more)
			return fail(TUTTI_ENOMEM, "out of memory");
		t->streams = more;
		t->cap = cap;
	}
	t->streams[t->n++] = s;
	return TUTTI_OK;
}

static void drop(struct tcp *t, struct stream *s)
{
	for (int i = 0; i < t->n; i++) {
		if (t->streams[i] != s)
			continue;
		t->streams[i] = t->streams[--t->n];
		break;
	}
	(void)watch(t, s, 0);
	stream_destroy(s);
}

/* The last link of a stream takes it along. */
static void detach(struct tcp *t, struct stream *s, bool outgoing)
{
	t->incoming -= !outgoing && s->in.ring;
	stream_detach(s, outgoing);
	if (!s->in.ring && !s->out.ring)
		drop(t, s);
}

static void tcp_disconnect(void *ctx, struct link *link)
{
	if (link->wire)
		detach(ctx, link->wire, link->outgoing);
	link->wire = NULL;
	link->places = NULL;
	link->ready = false;
}

static void describe(struct tcp *t, const struct link_spec *spec, struct stream *s, struct link *link)
{
	struct direction *d = spec->outgoing ? &s->out : &s->in;

	d->link = link;
	*link = (struct link){
	        .slots = (uint8_t *)d->ring->first,
	        .stride = d->stride,
	        .mask = d->mask,
	        .payload = d->payload,
	        .outgoing = spec->outgoing,
	        .ready = true,
	        .credit = &d->ring->credit,
	        .reach = spec->outgoing ? REACH_NONE : REACH_ALL,
	        .refer_any = REFER_BYTES,
	        .refer_window = REFER_NEVER,
	        .peer = spec->peer,
	        .tag = link_tag(spec, t->env->rank),
	        .places = spec->outgoing ? NULL : s->places,
	        .wire = s,
	};
}

static bool encrypts(const struct tcp *t)
{
	return t->env->params && t->env->params->encrypt;
}

static bool has_aes(const struct tcp *t, int rank)
{
	return t->env->contacts[rank].transport[t->env->index][0] & HAS_AES;
}

static int dial(const struct tcp *t, int peer, uint64_t tag, struct net_limit limit, struct session *session)
{
	*session = SESSION_NONE;
	return encrypts(t) ? t->env->dial_sealed(t->env, peer, tag, limit, session)
	                   : t->env->dial(t->env, peer, tag, limit, &session->fd);
}

static struct session take(const struct tcp *t, int peer, uint64_t tag)
{
	return encrypts(t) ? t->env->take_sealed(t->env, peer, tag)
	                   : (struct session){.fd = t->env->take(t->env, peer, tag)};
}

/* A lane's name in its communicator, for all pairs of ranks: in its low bits the lane. */
#define LANE UINT64_C(0xffff)

static uint64_t lane_tag(uint64_t comm, int lane)
{
	const struct link_spec any = {.comm = comm, .outgoing = true};

	return (link_tag(&any, 0) & ~LANE) | (uint16_t)lane;
}

static struct stream *kept_stream(const struct tcp *t, int peer, uint64_t tag, bool dialled)
{
	for (int i = 0; i < t->n; i++) {
		struct stream *s = t->streams[i];
		if (s->peer == peer && s->tag == tag && s->dialled == dialled)
			return s;
	}
	return NULL;
}

static int new_stream(struct tcp *t, struct session session, int peer, uint64_t tag, struct stream **out)
{
	int rc;

	if (session.seal && has_aes(t, peer) && has_aes(t, t->env->rank))
		seal_use_aes(session.seal);
	rc = stream_create(out, session, peer, tag);
	if (rc != TUTTI_OK)
		return rc;
	rc = keep(t, *out);
	if (rc != TUTTI_OK)
		stream_destroy(*out);
	return rc;
}

/* The stream that this rank has dialled, or dials now. */
static int own_stream(struct tcp *t, int peer, uint64_t tag, struct net_limit limit, struct stream **out)
{
	struct session session;
	int rc;

	*out = kept_stream(t, peer, tag, true);
	if (*out)
		return TUTTI_OK;
	rc = dial(t, peer, tag, limit, &session);
	if (rc == TUTTI_EPEER)
		t->env->lost(t->env, peer, fail_text());
	if (rc == TUTTI_OK)
		rc = new_stream(t, session, peer, tag, out);
	if (rc == TUTTI_OK)
		(*out)->dialled = true;
	return rc;
}

/* The stream that the peer has dialled; LINK_PENDING: there is none yet. */
static int peers_stream(struct tcp *t, int peer, uint64_t tag, struct stream **out)
{
	struct session session;

	*out = kept_stream(t, peer, tag, false);
	if (*out)
		return TUTTI_OK;
	session = take(t, peer, tag);
	return session.fd < 0 ? LINK_PENDING : new_stream(t, session, peer, tag, out);
}

static int stream_to_send(struct tcp *t, const struct link_spec *spec, uint64_t tag, struct net_limit limit,
                          struct stream **out)
{
	bool lower = t->env->rank < spec->peer;
	int rc;

	*out = lower ? kept_stream(t, spec->peer, tag, true) : NULL;
	if (*out)
		return TUTTI_OK;
	rc = peers_stream(t, spec->peer, tag, out);
	if (rc != LINK_PENDING || (!lower && now_ns() - spec->wanted_ns < MOMENT_NS))
		return rc;
	return own_stream(t, spec->peer, tag, limit, out);
}

/*
 * Check what has arrived first: a stream that the peer dialled before it closed the other one is in the door by then.
 */
static int stream_to_receive(struct tcp *t, const struct link_spec *spec, uint64_t tag, struct net_limit limit,
                             struct stream **out)
{
	struct stream *own = kept_stream(t, spec->peer, tag, true);
	bool has_come = own && stream_has_come(own);
	int rc = peers_stream(t, spec->peer, tag, out);

	if (rc != LINK_PENDING)
		return rc;
	if (!own && t->env->rank < spec->peer && (rc = own_stream(t, spec->peer, tag, limit, &own)) != TUTTI_OK)
		return rc;
	*out = own;
	if (has_come)
		return TUTTI_OK;
	if (own) {
		own->awaited = true;
		rc = watch(t, own, events_of(own));
	}
	return rc == TUTTI_OK ? LINK_PENDING : rc;
}

/* The stream of the lane: the one that the link the other way made, or a new one. */
static int find_stream(struct tcp *t, const struct link_spec *spec, struct net_limit limit, struct stream **out)
{
	uint64_t tag = lane_tag(spec->comm, spec->lane);

	if (spec->lane < 0)
		return spec->outgoing ? stream_to_send(t, spec, tag, limit, out)
		                      : stream_to_receive(t, spec, tag, limit, out);
	return t->env->rank < spec->peer ? own_stream(t, spec->peer, tag, limit, out)
	                                 : peers_stream(t, spec->peer, tag, out);
}

/* Streams from which messages were to come that did not, and what peers have dialled for calls that this rank never made. */
static void tcp_left(void *ctx, uint64_t comm)
{
	struct tcp *t = ctx;
	uint64_t tag = lane_tag(comm, 0);

	for (int i = t->n - 1; i >= 0; i--)
		if ((t->streams[i]->tag & ~LANE) == tag)
			drop(t, t->streams[i]);
	t->env->forget(t->env, tag, ~LANE);
}

static int tcp_connect(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link)
{
	struct tcp *t = ctx;
	struct stream *s;
	int rc = find_stream(t, spec, limit, &s);

	if (rc != TUTTI_OK)
		return rc;
	rc = stream_attach(s, spec->outgoing, spec->payload, spec->nslots);
	if (rc == TUTTI_OK) {
		t->incoming += !spec->outgoing;
		s->awaited &= spec->outgoing;
		rc = watch(t, s, events_of(s));
	}
	if (rc != TUTTI_OK) {
		detach(t, s, spec->outgoing);
		return rc;
	}
	describe(t, spec, s, link);
	return TUTTI_OK;
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

static void move_out(struct stream *s)
{
	if (s->out.ring && !s->closed && !stream_faults(&s->out))
		stream_send(s);
}

/* The socket of a full ring leaves the queue of events, but not at once: most rings are full for a moment only. */
static void move_in(struct stream *s, bool look)
{
	if (!s->in.ring || s->closed || stream_faults(&s->in))
		return;
	if (!stream_has_room(s)) {
		s->blocked += s->blocked < PATIENCE;
		return;
	}
	if (!look && s->watched & OS_READ && !s->readable && !stream_holds(s))
		return;
	s->blocked = 0;
	s->readable = false;
	stream_receive(s);
}

static void find_readable(struct tcp *t)
{
	struct os_ready r[EVENTS];
	int n = os_queue_wait(t->queue, r, EVENTS, 0);

	for (int i = 0; i < n; i++)
		((struct stream *)(uintptr_t)r[i].tag)->readable = true;
}

/* A lost peer is not an error here: the communicator that waits now may not involve it. */
static int tcp_pump(void *ctx)
{
	struct tcp *t = ctx;
	bool look = t->incoming <= MANY;
	int first = TUTTI_OK;

	if (!look)
		find_readable(t);
	for (int i = 0; i < t->n; i++) {
		struct stream *s = t->streams[i];
		int rc;

		if (s->closed)
			continue;
		move_out(s);
		move_in(s, look);
		if (s->lost)
			t->env->lost(t->env, s->peer, fail_text());
		rc = watch(t, s, events_of(s));
		if (rc == TUTTI_OK && (stream_faults(&s->in) || stream_faults(&s->out)))
			rc = LINK_FAULT;
		if (first == TUTTI_OK || (first == LINK_FAULT && rc != TUTTI_OK))
			first = rc;
	}
	return first;
}

static void tcp_look(void *ctx)
{
	struct tcp *t = ctx;

	for (int i = 0; i < t->n; i++) {
		struct stream *s = t->streams[i];
		if (s->closed || !stream_is_silent(s))
			continue;
		(void)watch(t, s, 0);
		t->env->silent(t->env, s->peer, fail_text());
	}
}

static int tcp_sleep_fd(void *ctx)
{
	return ((struct tcp *)ctx)->queue;
}

const struct transport transport_tcp = {
        .name = "tcp",
        .what = "any two ranks: TCP over the interfaces that TUTTI_IFACE allows; authenticated, encrypted only with TUTTI_ENCRYPT=1",
        .encrypts = true,
        .ring = {SLOT_LOOPBACK, SLOTS_LOOPBACK},
        .ring_cable = {SLOT_CABLE, SLOTS_CABLE},
        .open = tcp_open,
        .address = tcp_address,
        .attach = tcp_attach,
        .fabric = tcp_fabric,
        .connect = tcp_connect,
        .pump = tcp_pump,
        .look = tcp_look,
        .sleep_fd = tcp_sleep_fd,
        .disconnect = tcp_disconnect,
        .left = tcp_left,
        .close = tcp_close,
};
