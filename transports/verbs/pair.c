/* SPDX-License-Identifier: MIT */
/* A pair's life: greeting, links, goodbye, errors; see pair.h. */
#include "pair.h"
#include "../../src/os/os.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "qp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REFER_BYTES 1024 /* frames are copied from where the caller has them: from here on cheaper than twice */
#define LEND_BYTES  8192 /* mode write: from here on a second work request is cheaper than a copy */

/** What travels on the socket. */
enum note_kind {
	NOTE_GREETING = 1,
	NOTE_READY, /* receives are posted, the queue pair is connected: you may send */
	NOTE_OPEN,  /* a channel: its number here, and where its ring stands */
	NOTE_CLOSE, /* its links have ended here, and all that they sent has arrived */
};

struct note {
	uint32_t kind, id;
	union {
		struct greeting greeting;
		struct {
			uint64_t tag, at; /* at 0: no ring */
			uint32_t rkey, payload, nslots;
			uint64_t messages; /* id of the communicator in which the peer sends messages; 0: none */
		} channel;
	};
};
_Static_assert(sizeof(struct note) <= sizeof(((struct pair *)0)->in), "a note has its place in a pair");

/* ---- errors ------------------------------------------------------------------------------------------------------ */

void pair_break(struct pair *p)
{
	if (p->state == PAIR_BROKEN || p->state == PAIR_LEFT)
		return;
	p->state = PAIR_BROKEN;
	snprintf(p->why, sizeof(p->why), "%s", fail_text());
	p->env->lost(p->env, p->peer, p->why);
}

int pair_protocol_error(struct pair *p, const char *what)
{
	(void)fail(TUTTI_EPEER, "rank %d sent over %s %s: does it run the same version?", p->peer, p->device->name,
	           what);
	pair_break(p);
	return TUTTI_EPEER;
}

/* ---- the socket -------------------------------------------------------------------------------------------------- */

/* A connection that is closed on purpose ends with an end of file; one whose process dies shall be reset. */
static void reset_on_close(int fd, bool on)
{
	struct linger none = {.l_onoff = on};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

static bool try_later(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void socket_broke(struct pair *p)
{
	(void)fail_errno("the connection with rank %d that %s is watched by broke", p->peer, p->device->name);
	pair_break(p);
}

static void flush_notes(struct pair *p)
{
	while (p->nout) {
		ssize_t n = send(p->fd, p->out, p->nout, OS_NO_SIGNAL | MSG_DONTWAIT);
		if (n < 0 && !try_later() && errno != EPIPE) /* EPIPE: it has left; the end of file shows the same */
			socket_broke(p);
		if (n <= 0)
			return;
		p->nout -= (size_t)n;
		memmove(p->out, p->out + n, p->nout);
	}
}

static int say(struct pair *p, const struct note *note)
{
	if (p->nout + sizeof(*note) > p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 16 * sizeof(*note);
		uint8_t *more = realloc(p->out, cap);
		if (!more)
			return fail(TUTTI_ENOMEM, "out of memory");
		p->out = more;
		p->cap = cap;
	}
	memcpy(p->out + p->nout, note, sizeof(*note));
	p->nout += sizeof(*note);
	flush_notes(p);
	return TUTTI_OK;
}

/* ---- channels ---------------------------------------------------------------------------------------------------- */

static struct channel *find_channel(const struct pair *p, uint64_t tag)
{
	for (uint32_t i = 0; i < p->nchannels; i++)
		if (p->channels[i] && p->channels[i]->tag == tag)
			return p->channels[i];
	return NULL;
}

static int new_channel(struct pair *p, uint64_t tag, struct channel **out)
{
	uint32_t id = 0;
	struct channel *ch;

	while (id < p->nchannels && p->channels[id])
		id++;
	if (id == CHANNELS_MAX)
		return fail(TUTTI_EUNSUPPORTED, "more than %d channels between ranks %d and %d", CHANNELS_MAX,
		            p->env->rank, p->peer);
	if (id == p->nchannels) {
		uint32_t n = id ? 2 * id : 8;
		struct channel **more = realloc(p->channels, n * sizeof(struct channel *));
		if (!more)
			return fail(TUTTI_ENOMEM, "out of memory");
		memset(more + id, 0, (n - id) * sizeof(struct channel *));
		p->channels = more;
		p->nchannels = n;
	}
	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return fail(TUTTI_ENOMEM, "out of memory");
	ch->pair = p;
	ch->tag = tag;
	ch->id = id;
	*out = p->channels[id] = ch;
	return TUTTI_OK;
}

static void free_channel(struct pair *p, struct channel *ch)
{
	p->channels[ch->id] = NULL;
	piece_put(p->device, &ch->in.memory);
	piece_put(p->device, &ch->out.memory);
	if (p->device->mode == VERBS_WRITE)
		p->under_way -= ch->out.pos - ch->acked; /* nobody will say that they are done */
	free(ch);
}

static bool in_use(const struct channel *ch)
{
	return ch->in.attached || ch->out.attached || ch->expects;
}

/*
 * A channel ends when its links have ended here, what it posted has arrived (so that no write comes late into memory that
 * is another's by then), and the peer has said the same.
 */
static bool sweep_channel(struct pair *p, struct channel *ch)
{
	struct note note = {.kind = NOTE_CLOSE, .channel.tag = ch->tag};

	if (in_use(ch) || (!ch->ended && !ch->left))
		return true;
	if (p->done < ch->last)
		return false;
	if (!ch->leaving)
		(void)say(p, &note);
	ch->leaving = true;
	if (ch->left)
		free_channel(p, ch);
	return true;
}

void pair_sweep(struct pair *p)
{
	bool all = true;

	if (!p->sweeping || p->state != PAIR_UP)
		return;
	for (uint32_t i = 0; i < p->nchannels; i++)
		if (p->channels[i])
			all &= sweep_channel(p, p->channels[i]);
	p->sweeping = !all;
	if (!all)
		(void)pair_flushed(p);
}

static int make_ring(struct pair *p, struct way *w, uint32_t payload, uint32_t nslots)
{
	struct piece memory;
	int rc = piece_get(p->device, ring_bytes(payload, nslots), &memory);

	if (rc != TUTTI_OK)
		return rc;
	*w = (struct way){.memory = memory,
	                  .ring = (struct ring *)memory.at,
	                  .stride = (uint32_t)slot_stride(payload),
	                  .mask = nslots - 1,
	                  .payload = payload};
	return TUTTI_OK;
}

static int announce(struct pair *p, const struct channel *ch)
{
	struct note note = {.kind = NOTE_OPEN, .id = ch->id, .channel.tag = ch->tag};
	const struct way *shape = ch->in.ring ? &ch->in : &ch->out;

	if (ch->in.ring) {
		note.channel.at = (uint64_t)(uintptr_t)ch->in.ring->first;
		note.channel.rkey = ch->in.memory.rkey;
	}
	note.channel.payload = shape->payload;
	note.channel.nslots = shape->mask + 1;
	note.channel.messages = ch->message && ch->out.ring ? ch->comm : 0;
	return say(p, &note);
}

static void describe(const struct pair *p, const struct link_spec *spec, struct channel *ch, struct link *link)
{
	const struct way *w = spec->outgoing ? &ch->out : &ch->in;

	*link = (struct link){
	        .slots = (uint8_t *)w->ring->first,
	        .stride = w->stride,
	        .mask = w->mask,
	        .payload = w->payload,
	        .outgoing = spec->outgoing,
	        .ready = true,
	        .credit = &w->ring->credit,
	        .reach = REACH_NONE,
	        .refer_any = p->device->mode == VERBS_WRITE ? LEND_BYTES : REFER_BYTES,
	        .refer_window = REFER_NEVER,
	        .peer = spec->peer,
	        .tag = link_tag(spec, p->env->rank),
	        .wire = ch,
	};
}

/* The channel with a ring for this direction, which the peer has been told of. */
static int prepare(struct pair *p, const struct link_spec *spec, uint64_t tag, struct channel **out)
{
	struct channel *ch = find_channel(p, tag);
	int rc = ch ? TUTTI_OK : new_channel(p, tag, &ch);

	*out = ch;
	if (rc != TUTTI_OK)
		return rc;
	ch->comm = spec->comm;
	ch->message = spec->lane < 0;
	if (spec->outgoing ? ch->out.ring : ch->in.ring)
		return rc;
	rc = make_ring(p, spec->outgoing ? &ch->out : &ch->in, spec->payload, spec->nslots);
	return rc == TUTTI_OK ? announce(p, ch) : rc;
}

/* A peer that has left may have made its links, and sent all that this one is to receive, before. */
int pair_connect(struct pair *p, const struct link_spec *spec, uint64_t tag, struct link *link)
{
	struct channel *ch;
	int rc;

	pair_talk(p);
	if (p->state == PAIR_BROKEN)
		return fail(TUTTI_EPEER, "%s", p->why);
	rc = prepare(p, spec, tag, &ch);
	if (rc != TUTTI_OK)
		return rc;
	if (p->state == PAIR_LEFT && !(spec->outgoing ? ch->remote != 0 : ch->known))
		return fail(TUTTI_EPEER, "rank %d has left", p->peer);
	if (p->state < PAIR_UP || (spec->outgoing && !ch->remote))
		return LINK_PENDING;
	if (spec->outgoing && (ch->remote_payload != spec->payload || ch->remote_slots != spec->nslots))
		return fail(TUTTI_EMISMATCH, "rank %d made a link of %u slots of %u bytes, this rank one of %u of %u",
		            p->peer, ch->remote_slots, ch->remote_payload, spec->nslots, spec->payload);
	(spec->outgoing ? &ch->out : &ch->in)->attached = true;
	ch->expects &= spec->outgoing;
	describe(p, spec, ch, link);
	return TUTTI_OK;
}

bool pair_has(const struct pair *p, uint64_t tag)
{
	return find_channel(p, tag) != NULL;
}

void pair_disconnect(struct channel *ch, bool outgoing)
{
	(outgoing ? &ch->out : &ch->in)->attached = false;
	ch->ended = !in_use(ch);
	ch->pair->sweeping |= ch->ended;
}

void pair_leave(struct pair *p, uint64_t comm)
{
	p->comms_left[p->ncomms_left++ % LEFT_COMMS] = comm;
	for (uint32_t i = 0; i < p->nchannels; i++) {
		struct channel *ch = p->channels[i];
		if (!ch || ch->comm != comm || ch->ended)
			continue;
		ch->expects = false;
		ch->ended = p->sweeping = true;
	}
}

static bool has_left(const struct pair *p, uint64_t comm)
{
	for (unsigned i = 0; i < LEFT_COMMS && i < p->ncomms_left; i++)
		if (p->comms_left[i] == comm)
			return true;
	return false;
}

/* ---- what the peer says ------------------------------------------------------------------------------------------ */

/*
 * The peer is about to send messages: the ring is made before a receive asks for it, for both may send first. Running
 * out of memory is not an error yet: the receive will report it.
 */
static int expect(struct pair *p, struct channel *ch, const struct note *note)
{
	uint32_t payload = note->channel.payload, nslots = note->channel.nslots;

	if (!nslots || nslots & (nslots - 1) || payload > 1u << 30)
		return fail(TUTTI_EPEER, "rank %d makes a link of %u slots of %u bytes: does it run the same version?",
		            p->peer, nslots, payload);
	if (has_left(p, note->channel.messages) || make_ring(p, &ch->in, payload, nslots) != TUTTI_OK)
		return TUTTI_OK;
	ch->comm = note->channel.messages;
	ch->message = ch->expects = true;
	return announce(p, ch);
}

static int heard_open(struct pair *p, const struct note *note)
{
	struct channel *ch = find_channel(p, note->channel.tag);
	int rc = ch ? TUTTI_OK : new_channel(p, note->channel.tag, &ch);

	if (rc != TUTTI_OK)
		return rc;
	ch->known = true;
	ch->peer_id = note->id;
	ch->remote = note->channel.at;
	ch->rkey = note->channel.rkey;
	ch->remote_payload = note->channel.payload;
	ch->remote_slots = note->channel.nslots;
	return note->channel.messages && !ch->in.ring ? expect(p, ch, note) : TUTTI_OK;
}

static int get_ready(struct pair *p)
{
	const struct note ready = {.kind = NOTE_READY};
	int rc = TUTTI_OK;

	if (p->state == PAIR_GREETING && p->greeted && p->joined) {
		p->state = PAIR_ALMOST;
		rc = say(p, &ready);
	}
	if (p->state == PAIR_ALMOST && p->ready)
		p->state = PAIR_UP;
	return rc;
}

void pair_joined(struct pair *p)
{
	p->joined = true;
	if (get_ready(p) != TUTTI_OK)
		pair_break(p);
}

/* With rdma_cm, the lower rank connects and the other one waits for it. */
static int heard_greeting(struct pair *p, const struct greeting *g)
{
	struct cm *cm = p->device->cm;
	int rc = p->greeted ? fail(TUTTI_EPEER, "rank %d sent two greetings", p->peer) : qp_agrees(p, g);

	p->greeted = true;
	if (rc == TUTTI_OK && !cm) {
		rc = qp_connect(p, g);
		p->joined = rc == TUTTI_OK;
	} else if (rc == TUTTI_OK && p->env->rank < p->peer) {
		rc = cm_connect(cm, p, &g->place);
	}
	return rc == TUTTI_OK ? get_ready(p) : rc;
}

static int heard(struct pair *p, const struct note *note)
{
	struct channel *ch;

	switch (note->kind) {
	case NOTE_GREETING:
		return heard_greeting(p, &note->greeting);
	case NOTE_READY:
		p->ready = true;
		return get_ready(p);
	case NOTE_OPEN:
		return heard_open(p, note);
	case NOTE_CLOSE:
		ch = find_channel(p, note->channel.tag);
		if (ch)
			ch->left = p->sweeping = true;
		return TUTTI_OK;
	default:
		return fail(TUTTI_EPEER, "rank %d sent something that this version does not know", p->peer);
	}
}

/*
 * The peer has ended its world: all that it sent has arrived before (on RC). Sends that it has not acknowledged
 * complete as flushed, and count as sent.
 */
static void peer_left(struct pair *p)
{
	p->state = PAIR_LEFT;
	if (p->device->mode != VERBS_SEND_UC)
		qp_stop(p);
}

void pair_talk(struct pair *p)
{
	struct note note;

	if (p->state == PAIR_LEFT || p->state == PAIR_BROKEN)
		return;
	flush_notes(p);
	for (;;) {
		ssize_t n = recv(p->fd, p->in + p->nin, sizeof(note) - p->nin, MSG_DONTWAIT);
		if (n < 0 && !try_later())
			socket_broke(p);
		if (n == 0)
			peer_left(p);
		if (n <= 0)
			return;
		p->nin += (size_t)n;
		if (p->nin < sizeof(note))
			continue;
		p->nin = 0;
		memcpy(&note, p->in, sizeof(note));
		if (heard(p, &note) != TUTTI_OK) {
			pair_break(p);
			return;
		}
	}
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int post_receives(struct pair *p)
{
	for (uint32_t i = 0; i < p->receives; i++) {
		if (p->device->mode != VERBS_WRITE ? !frames_receive(p, i) : !pair_receive(p, 1))
			return fail_errno("post a receive on %s", p->device->name);
	}
	return TUTTI_OK;
}

int pair_create(struct pair **out, const struct transport_env *env, struct device *d, int peer, int fd, uint32_t window)
{
	struct note hello = {.kind = NOTE_GREETING};
	struct pair *p = calloc(1, sizeof(*p));
	int rc;

	if (!p) {
		fd_close(fd);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	*p = (struct pair){.env = env,
	                   .device = d,
	                   .peer = peer,
	                   .fd = fd,
	                   .window = window,
	                   .depth = pair_sends(window),
	                   .receives = pair_receives(window),
	                   .psn = (uint32_t)(now_ns() ^ (uint64_t)peer << 12) & 0xffffff};
	reset_on_close(fd, true);
	p->queue = calloc(p->depth, sizeof(*p->queue));
	rc = p->queue ? qp_make(p) : fail(TUTTI_ENOMEM, "out of memory");
	if (rc == TUTTI_OK && d->mode != VERBS_WRITE)
		rc = frames_begin(p);
	if (rc == TUTTI_OK)
		rc = post_receives(p);
	if (rc == TUTTI_OK) {
		hello.greeting = qp_greeting(p);
		if (d->cm)
			hello.greeting.place = cm_expect(d->cm, p);
		rc = say(p, &hello);
	}
	if (rc == TUTTI_OK)
		*out = p;
	else
		pair_destroy(p);
	return rc;
}

void pair_destroy(struct pair *p)
{
	(void)shutdown(p->fd, SHUT_WR); /* before the queue pair goes: a peer that still sends to it knows why */
	if (p->device->cm)
		cm_forget(p->device->cm, p);
	if (p->qp)
		p->device->npairs -= p->device->lib.destroy_qp(p->qp) == 0;
	for (uint32_t i = 0; i < p->nchannels; i++)
		if (p->channels[i])
			free_channel(p, p->channels[i]);
	if (p->frames)
		frames_end(p);
	reset_on_close(p->fd, false);
	fd_close(p->fd);
	free(p->channels);
	free(p->queue);
	free(p->out);
	free(p);
}
