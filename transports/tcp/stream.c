/* SPDX-License-Identifier: MIT */
/* Slots to bytes and bytes to slots; see stream.h. Moving them never blocks and never allocates. */
#include "stream.h"
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "../../src/util/net.h"
#include "cover.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GATHER     16 /* slots in one system call */
#define ROUNDS     4  /* system calls of one visit */
#define STAGE      (32u << 10)
#define DIRECT     (8u << 10)           /* longer frames are read into their slot, without a copy */
#define SILENCE_NS UINT64_C(4000000000) /* unanswered for so long, the other host is out of reach */
#define ALONE      (4u << 10)           /* the end of so many bytes does not wait for more */

static struct slot *slot_at(const struct direction *d, uint64_t pos)
{
	return (struct slot *)((uint8_t *)d->ring->first + (size_t)(pos & d->mask) * d->stride);
}

int stream_create(struct stream **out, struct session session, int peer, uint64_t tag)
{
	struct stream *s = calloc(1, sizeof(*s));
	int on = 1, fd = session.fd;

	if (!s) {
		session_close(&session);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	*s = (struct stream){.fd = fd, .peer = peer, .tag = tag};
	if (session.seal && !(s->cover = cover_new(session.seal))) {
		close(fd);
		free(s);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	net_keep(fd);
	*out = s;
	return TUTTI_OK;
}

int stream_attach(struct stream *s, bool outgoing, uint32_t payload, uint32_t nslots)
{
	struct direction *d = outgoing ? &s->out : &s->in;

	*d = (struct direction){.payload = payload, .mask = nslots - 1, .stride = (uint32_t)slot_stride(payload)};
	d->ring = aligned_alloc(APART, ring_bytes(payload, nslots));
	if (!outgoing) {
		s->stage_bytes = payload > STAGE ? payload : STAGE;
		s->stage = malloc(s->stage_bytes);
		s->places = calloc(nslots, sizeof(*s->places));
	}
	if (!d->ring || (!outgoing && !(s->stage && s->places))) {
		stream_detach(s, outgoing);
		return fail(TUTTI_ENOMEM, "out of memory: a TCP link takes %zu bytes",
		            ring_bytes(payload, nslots) + (outgoing ? 0 : s->stage_bytes));
	}
	atomic_init(&d->ring->credit, 0);
	for (uint32_t i = 0; i < nslots; i++)
		atomic_init(&slot_at(d, i)->seq, 0);
	return TUTTI_OK;
}

void stream_detach(struct stream *s, bool outgoing)
{
	struct direction *d = outgoing ? &s->out : &s->in;

	free(d->ring);
	d->ring = NULL;
	d->link = NULL;
	if (outgoing)
		return;
	free(s->stage);
	free(s->places);
	s->stage = NULL;
	s->places = NULL;
}

/*
 * What was sent arrives, however the process ends: its sockets are never told to be reset. Bytes that are left unread make a close
 * a reset; the end of file that goes before says that it is meant.
 */
void stream_destroy(struct stream *s)
{
	stream_detach(s, true);
	stream_detach(s, false);
	(void)shutdown(s->fd, SHUT_WR);
	fd_close(s->fd);
	cover_free(s->cover);
	free(s);
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS;
}

/* EPIPE: the end of file came before the reset, so the peer had closed the connection and did not die. */
static void broken(struct stream *s, const char *how, int error)
{
	s->closed = true;
	s->lost = error != EPIPE;
	errno = error;
	if (error == EBADMSG)
		(void)fail(
		        TUTTI_EAUTH,
		        "data received on the encrypted TCP connection with rank %d is not what that rank sent: something on the path changes, repeats or cuts it",
		        s->peer);
	else if (s->lost)
		(void)fail_errno("the TCP connection with rank %d broke while %s", s->peer, how);
}

bool stream_has_come(const struct stream *s)
{
	char byte;

	return s->closed || recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || !would_block();
}

bool stream_is_silent(struct stream *s)
{
	uint64_t ns = os_tcp_unanswered(s->fd);
	struct net_addr here = {.family = 0}, there = {.family = 0};
	char from[NET_TEXT], to[NET_TEXT];

	if (ns < SILENCE_NS)
		return false;
	(void)net_local_end(s->fd, &here);
	(void)net_far_end(s->fd, &there);
	s->closed = s->lost = true;
	(void)fail(TUTTI_EPEER, "nothing was received from rank %d's host for %.1f s, from %s to %s", s->peer,
	           (double)ns * 1e-9, net_text(&there, to), net_text(&here, from));
	return true;
}

bool stream_faults(const struct direction *d)
{
	return d->link && atomic_load_explicit(&d->link->fault, memory_order_relaxed);
}

static void fault(struct direction *d)
{
	atomic_store_explicit(&d->link->fault, true, memory_order_relaxed);
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

/* What goes out with one system call. */
struct batch {
	struct frame head[GATHER];
	struct iovec iov[2 * GATHER];
	int frames, niov;
	size_t bytes;
};

static void add(struct batch *b, const void *p, size_t n)
{
	b->iov[b->niov++] = (struct iovec){(void *)(uintptr_t)p, n};
	b->bytes += n;
}

/* A slot that refers to memory travels as if that memory were its payload. */
static void add_slot(struct batch *b, struct slot *slot)
{
	struct frame *head = &b->head[b->frames++];
	const uint8_t *payload;
	struct slot_ref ref;

	*head = (struct frame){slot->len & ~SLOT_REF, slot->sig};
	payload = slot_payload(slot, head->len);
	if (slot->len & SLOT_REF) {
		memcpy(&ref, slot->data, sizeof(ref));
		payload = (const uint8_t *)(uintptr_t)ref.addr;
	}
	if (payload == slot->data) {
		add(b, &slot->len, sizeof(*head) + head->len);
		return;
	}
	add(b, head, sizeof(*head));
	if (head->len)
		add(b, payload, head->len);
}

static void skip(struct batch *b, size_t n)
{
	int i = 0;

	b->bytes -= n;
	for (; n >= b->iov[i].iov_len; i++)
		n -= b->iov[i].iov_len;
	memmove(b->iov, b->iov + i, (size_t)(b->niov - i) * sizeof(b->iov[0]));
	b->niov -= i;
	b->iov[0].iov_base = (uint8_t *)b->iov[0].iov_base + n;
	b->iov[0].iov_len -= n;
}

static struct slot *published(const struct stream *s, uint64_t pos)
{
	struct slot *slot = slot_at(&s->out, pos);
	return atomic_load_explicit(&slot->seq, memory_order_acquire) == pos + 1 ? slot : NULL; /* A1 */
}

static void gather(const struct stream *s, struct batch *b, int most)
{
	struct slot *slot;

	b->frames = 0;
	b->niov = 0;
	b->bytes = 0;
	while (b->frames < most && (slot = published(s, s->out.pos + (unsigned)b->frames)))
		add_slot(b, slot);
	if (s->sent)
		skip(b, s->sent);
}

/*
 * The kernel holds back a segment that is not full while others of its socket wait in the device's queue (tcp_autocorking).
 * It would then stand behind all that is sent to other peers meanwhile, and the peer's next step waits for it: OS_NO_DELAY forbids that.
 */
static ssize_t put(const struct stream *s, struct batch *b)
{
	struct msghdr msg = {.msg_iov = b->iov, .msg_iovlen = b->niov};
	if (s->cover)
		return cover_send(s->cover, s->fd, b->iov, (size_t)b->niov);
	int flags = OS_NO_SIGNAL | MSG_DONTWAIT | (b->bytes >= ALONE ? OS_NO_DELAY : 0);

	if (b->niov == 1)
		return send(s->fd, b->iov[0].iov_base, b->iov[0].iov_len, flags);
	return sendmsg(s->fd, &msg, flags);
}

static void taken(struct stream *s, const struct batch *b, size_t n)
{
	uint64_t before = s->out.pos;

	n += s->sent;
	for (int i = 0; i < b->frames && n >= sizeof(struct frame) + b->head[i].len; i++) {
		n -= sizeof(struct frame) + b->head[i].len;
		s->out.pos++;
	}
	s->sent = n;
	if (s->out.pos != before)
		atomic_store_explicit(&s->out.ring->credit, s->out.pos, memory_order_release); /* R2 */
}

void stream_send(struct stream *s)
{
	struct batch b;
	int most = GATHER;

	for (int i = 0; i < ROUNDS && published(s, s->out.pos); i++) {
		ssize_t n;

		gather(s, &b, most);
		n = put(s, &b);
		if (n < 0 && errno == EFAULT && b.frames > 1) { /* which of them? what is before it goes out */
			most = 1;
			continue;
		}
		if (n < 0 && errno == EFAULT) {
			fault(&s->out);
			break;
		}
		if (n < 0 && !would_block()) {
			broken(s, "sending", errno);
			return;
		}
		if (n > 0)
			taken(s, &b, (size_t)n);
		if (n < (ssize_t)b.bytes)
			break;
	}
	s->waiting = published(s, s->out.pos) && !stream_faults(&s->out);
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

bool stream_has_room(struct stream *s)
{
	if (s->open || s->in.pos - s->given <= s->in.mask)
		return true;
	s->given = atomic_load_explicit(&s->in.ring->credit, memory_order_acquire); /* A2 */
	return s->in.pos - s->given <= s->in.mask;
}

static void publish(struct stream *s)
{
	struct slot *slot = slot_at(&s->in, s->in.pos);

	s->open = false;
	atomic_store_explicit(&slot->seq, ++s->in.pos, memory_order_release); /* R1 */
}

bool stream_holds(const struct stream *s)
{
	return s->first != s->last || (s->cover && cover_holds(s->cover));
}

static size_t staged(const struct stream *s)
{
	return s->last - s->first;
}

/* Where the engine wants slot pos to go; NULL: it has not said. The place of a slot that is not published does not change. */
static const struct slot_place *place_of(const struct stream *s)
{
	const struct slot_place *p = &s->places[s->in.pos & s->in.mask];
	return atomic_load_explicit(&p->pos, memory_order_acquire) == s->in.pos + 1 ? p : NULL; /* A21 */
}

/* Begins slot pos with the head that stands first in the stage. */
static void begin(struct stream *s)
{
	const struct slot_place *place = place_of(s);
	struct slot *slot = slot_at(&s->in, s->in.pos);
	struct frame head;

	memcpy(&head, s->stage + s->first, sizeof(head));
	s->first += sizeof(head);
	if (head.len > s->in.payload) {
		s->closed = s->lost = true;
		(void)fail(TUTTI_EPEER,
		           "rank %d sent %u bytes where a TCP link's slot has %u: does it run the same version?",
		           s->peer, head.len, s->in.payload);
		return;
	}
	slot->len = s->rest = s->guess = head.len;
	slot->sig = head.sig;
	s->to = slot_payload(slot, head.len);
	s->open = true;
	if (!place || place->bytes != head.len || place->sig != head.sig)
		return;
	s->to = place->at;
	slot->len |= SLOT_REF;
	memcpy(slot->data, &(struct slot_ref){(uint64_t)(uintptr_t)s->to, head.len}, sizeof(struct slot_ref));
}

/* n more bytes of the open slot are where they belong. */
static void came(struct stream *s, size_t n)
{
	s->to += n;
	s->rest -= (uint32_t)n;
}

/* Staged bytes to slots, as far as both reach. */
static void unpack(struct stream *s)
{
	while (stream_has_room(s)) {
		size_t n;

		if (!s->open && staged(s) >= sizeof(struct frame))
			begin(s);
		if (!s->open)
			return;
		n = staged(s) < s->rest ? staged(s) : s->rest;
		memcpy(s->to, s->stage + s->first, n);
		s->first += n;
		came(s, n);
		if (s->rest)
			return;
		publish(s);
	}
}

static ssize_t get(const struct stream *s, struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};

	if (s->cover)
		return cover_receive(s->cover, s->fd, iov, (size_t)n);
	return n == 1 ? recv(s->fd, iov[0].iov_base, iov[0].iov_len, MSG_DONTWAIT) : recvmsg(s->fd, &msg, MSG_DONTWAIT);
}

/* Into the rest of the open slot, and what follows into the stage: after a long frame only the next one's head. */
static ssize_t fill_open(struct stream *s, size_t *want)
{
	size_t ahead = s->guess > DIRECT ? sizeof(struct frame) : s->stage_bytes;
	struct iovec iov[2] = {{s->to, s->rest}, {s->stage, ahead}};
	ssize_t n = get(s, iov, 2);
	size_t here;

	*want = s->rest + ahead;
	if (n <= 0)
		return n;
	here = (size_t)n < s->rest ? (size_t)n : s->rest;
	s->last = (size_t)n - here;
	came(s, here);
	if (s->rest == 0)
		publish(s);
	return n;
}

/*
 * A head into the stage and as many bytes as are expected straight to where they probably belong: the place that the engine
 * has named, or as many as the last frame had into the slot that the frame will get. When it turns out to be another one, what
 * lies in the wrong place is moved.
 */
static ssize_t fill_guessed(struct stream *s, const struct slot_place *named, size_t *want)
{
	uint8_t *place = named ? named->at : (uint8_t *)(slot_at(&s->in, s->in.pos) + 1);
	size_t head = sizeof(struct frame) - s->last, guess = named ? named->bytes : s->guess, body, here;
	struct iovec iov[2] = {{s->stage + s->last, head}, {place, guess}};
	ssize_t n = get(s, iov, 2);

	*want = head + guess;
	if (n <= 0)
		return n;
	if ((size_t)n < head) {
		s->last += (size_t)n;
		return n;
	}
	s->last += head;
	body = (size_t)n - head;
	begin(s);
	if (!s->open)
		return n;
	here = body < s->rest ? body : s->rest;
	if (s->to != place)
		memcpy(s->to, place, here);
	came(s, here);
	s->first = 0;
	s->last = body - here;
	memcpy(s->stage, place + here, s->last);
	if (s->rest == 0)
		publish(s);
	return n;
}

static ssize_t fill_stage(struct stream *s, size_t *want)
{
	struct iovec iov = {s->stage + s->last, s->stage_bytes - s->last};
	ssize_t n = get(s, &iov, 1);

	*want = iov.iov_len;
	if (n > 0)
		s->last += (size_t)n;
	return n;
}

/* One system call's worth. The stage holds less than a head, or nothing when a slot is open. */
static ssize_t fill(struct stream *s, size_t *want)
{
	memmove(s->stage, s->stage + s->first, staged(s));
	s->last -= s->first;
	s->first = 0;
	if (s->open)
		return fill_open(s, want);
	const struct slot_place *named = place_of(s);
	return named || s->guess > DIRECT ? fill_guessed(s, named, want) : fill_stage(s, want);
}

void stream_receive(struct stream *s)
{
	unpack(s);
	for (int i = 0; i < ROUNDS && !s->closed && stream_has_room(s); i++) {
		size_t want = 0;
		ssize_t n = fill(s, &want);

		if (n == 0)
			s->closed = true;
		else if (n < 0 && errno == EFAULT)
			fault(&s->in);
		else if (n < 0 && !would_block())
			broken(s, "receiving", errno);
		if (n <= 0 || s->closed)
			return;
		unpack(s);
		if ((size_t)n < want)
			return;
	}
}
