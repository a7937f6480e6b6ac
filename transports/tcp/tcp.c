/*
 * tcp: sockets between any two ranks. For each link the sender dials the receiver's door under the link's name, and the
 * receiver takes the connection from its own. The rings on both sides are ordinary memory; pump moves slots through
 * streams (stream.h).
 */
#include "../../src/transport.h"
#include "../../src/util/error.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY        4 /* with more incoming streams epoll tells which are readable */
#define EVENTS      64
#define REFER_BYTES 1024 /* the kernel reads the caller's memory: from here on cheaper than a copy into a slot */
#define PATIENCE    64   /* visits to a full ring before its socket leaves the epoll set */

struct tcp {
	const struct transport_env *env;
	int epoll; /* receivers with room; senders that wait for the socket */
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
	if (t->epoll >= 0)
		close(t->epoll);
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
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (t->epoll < 0)
		return fail_errno("create an epoll descriptor");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail_errno("open a TCP socket");
	close(fd);
	return TUTTI_OK;
}

/* The contact's addresses are all that peers need. */
static void tcp_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	(void)ctx;
	memset(blob, 0, CONTACT_BLOB);
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

static int watch(struct tcp *t, struct stream *s, bool on)
{
	struct epoll_event e = {.events = s->outgoing ? EPOLLOUT : EPOLLIN, .data.ptr = s};

	if (s->watched == on)
		return TUTTI_OK;
	if (epoll_ctl(t->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, s->fd, &e) < 0)
		return fail_errno("watch the TCP connection with rank %d", s->peer);
	s->watched = on;
	return TUTTI_OK;
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
	t->incoming += !s->outgoing;
	return watch(t, s, !s->outgoing);
}

static void drop(struct tcp *t, struct stream *s)
{
	for (int i = 0; i < t->n; i++) {
		if (t->streams[i] != s)
			continue;
		t->streams[i] = t->streams[--t->n];
		t->incoming -= !s->outgoing;
		break;
	}
	(void)watch(t, s, false);
	stream_destroy(s);
}

static void tcp_disconnect(void *ctx, struct link *link)
{
	if (link->wire)
		drop(ctx, link->wire);
	link->wire = NULL;
	link->ready = false;
}

static void describe(struct tcp *t, const struct link_spec *spec, struct stream *s, struct link *link)
{
	*link = (struct link){
	        .slots = (uint8_t *)s->ring->first,
	        .stride = s->stride,
	        .mask = s->mask,
	        .payload = s->payload,
	        .outgoing = spec->outgoing,
	        .ready = true,
	        .credit = &s->ring->credit,
	        .reach = REACH_NONE,
	        .refer_any = REFER_BYTES,
	        .refer_window = REFER_NEVER,
	        .peer = spec->peer,
	        .tag = link_tag(spec, t->env->rank),
	        .wire = s,
	};
}

static int tcp_connect(void *ctx, const struct link_spec *spec, struct link *link)
{
	struct tcp *t = ctx;
	uint64_t tag = link_tag(spec, t->env->rank);
	struct stream *s;
	int fd, rc;

	if (spec->outgoing) {
		rc = t->env->dial(t->env, spec->peer, tag, &fd);
		if (rc == TUTTI_EPEER)
			t->env->lost(t->env, spec->peer, fail_text());
		if (rc != TUTTI_OK)
			return rc;
	} else {
		fd = t->env->take(t->env, spec->peer, tag);
		if (fd < 0)
			return LINK_PENDING;
	}
	rc = stream_create(&s, fd, spec->peer, spec->outgoing, spec->payload, spec->nslots);
	if (rc != TUTTI_OK)
		return rc;
	rc = keep(t, s);
	if (rc != TUTTI_OK) {
		drop(t, s);
		return rc;
	}
	describe(t, spec, s, link);
	return TUTTI_OK;
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

/* After a stream has moved: a socket is watched while it is waited for, and whoever lost a peer says so. */
static int settle(struct tcp *t, struct stream *s, bool wanted)
{
	if (s->lost)
		t->env->lost(t->env, s->peer, fail_text());
	return watch(t, s, wanted && !s->closed);
}

static int pump_out(struct tcp *t, struct stream *s)
{
	stream_send(s);
	return settle(t, s, s->waiting);
}

/* The socket of a full ring leaves the epoll set, but not at once: most rings are full for a moment only. */
static int pump_in(struct tcp *t, struct stream *s, bool look)
{
	if (!stream_has_room(s)) {
		s->blocked += s->blocked < PATIENCE;
		return s->blocked < PATIENCE ? TUTTI_OK : watch(t, s, false);
	}
	s->blocked = 0;
	if (!look && s->watched && !s->readable && s->first == s->last)
		return TUTTI_OK;
	s->readable = false;
	stream_receive(s);
	return settle(t, s, true);
}

static void find_readable(struct tcp *t)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(t->epoll, e, EVENTS, 0);

	for (int i = 0; i < n; i++)
		((struct stream *)e[i].data.ptr)->readable = true;
}

/* A lost peer is no error here: it may be no concern of the communicator that waits now. */
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
		rc = s->outgoing ? pump_out(t, s) : pump_in(t, s, look);
		first = first == TUTTI_OK ? rc : first;
	}
	return first;
}

static int tcp_sleep_fd(void *ctx)
{
	return ((struct tcp *)ctx)->epoll;
}

const struct transport transport_tcp = {
        .name = "tcp",
        .what = "any two ranks: TCP, authenticated, over every interface that TUTTI_IFACE allows",
        .open = tcp_open,
        .address = tcp_address,
        .attach = tcp_attach,
        .fabric = tcp_fabric,
        .connect = tcp_connect,
        .pump = tcp_pump,
        .sleep_fd = tcp_sleep_fd,
        .disconnect = tcp_disconnect,
        .close = tcp_close,
};
