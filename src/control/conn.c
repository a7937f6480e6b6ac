/* SPDX-License-Identifier: MIT */
/*
 * Wires: messages over connections. Neither side ever blocks: what a peer does not take is kept, and beyond a bound
 * dropped, because a peer that is stopped must not cost its neighbours memory.
 */
#include "../os/os.h"
#include "plane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX      (1u << 20)
#define LOST_SECONDS 4 /* of silence from a host; keepalive finds out within a second more */

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static bool plausible(const struct message *m, int nranks)
{
	if (m->type == 0 || m->type >= MSG_TYPES || m->from < 0 || m->from >= nranks || m->seq == 0)
		return false;
	switch ((enum message_type)m->type) {
	case MSG_CUT:
		return m->a >= 0 && m->a < nranks && m->b >= 0 && m->b < nranks && m->a != m->b;
	case MSG_GONE:
		return m->a >= 0 && m->a < nranks && (m->value == LEFT || m->value == DEAD);
	case MSG_LEAVE:
		return m->a >= 0 && m->a < nranks;
	case MSG_RAISE:
		return m->value > TUTTI_OK && m->value <= TUTTI_EUNSUPPORTED;
	case MSG_JOIN:
	case MSG_PREPARE:
	case MSG_ACK:
	case MSG_COMMIT:
		return m->a > 0;
	default:
		return true;
	}
}

int conn_parse(const void *buf, size_t len, int nranks, struct message *out)
{
	if (len < MESSAGE_HEAD)
		return 0;
	memcpy(out, buf, MESSAGE_HEAD);
	if (out->length < MESSAGE_HEAD || out->length > MESSAGE_HEAD + MESSAGE_TEXT || !plausible(out, nranks))
		return -1;
	if (len < out->length)
		return 0;
	memcpy(out->text, (const char *)buf + MESSAGE_HEAD, out->length - MESSAGE_HEAD);
	out->text[out->length - MESSAGE_HEAD] = '\0';
	return (int)out->length;
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

static bool make_room(struct conn *w, size_t more)
{
	size_t cap = w->cap_out ? w->cap_out : 4096;
	char *grown;

	while (cap < w->nout + more)
		cap *= 2;
	if (cap == w->cap_out)
		return true;
	grown = cap > OUT_MAX ? NULL : realloc(w->out, cap);
	if (!grown)
		return false;
	w->out = grown;
	w->cap_out = cap;
	return true;
}

void conn_put(struct conn *w, const struct message *m)
{
	if (w->fd < 0 || w->error)
		return;
	if (!make_room(w, m->length + SEAL_EXTRA)) {
		log_debug("rank %d does not read its control messages: dropped one", w->rank);
		return;
	}
	seal_shut(w->seal, m, m->length, w->out + w->nout);
	w->nout += m->length + SEAL_EXTRA;
}

void conn_broadcast(struct control *c, const struct message *m, const struct conn *except)
{
	for (struct conn *w = c->conns; w; w = w->next)
		if (w != except)
			conn_put(w, m);
}

static void flush(struct conn *w)
{
	size_t sent = w->error ? w->nout : 0;

	while (sent < w->nout) {
		ssize_t n = send(w->fd, w->out + sent, w->nout - sent, OS_NO_SIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN)
			break;
		w->error = errno; /* the reader notices it as well */
		sent = w->nout;
	}
	w->nout -= sent;
	memmove(w->out, w->out + sent, w->nout);
	if ((w->nout > 0) != w->full) {
		w->full = w->nout > 0;
		(void)service_rewatch(w->fd, w->full ? OS_READ | OS_WRITE : OS_READ);
	}
}

static void conn_free(struct conn *w)
{
	seal_free(w->seal);
	free(w->out);
	free(w);
}

void conn_send_all(struct control *c)
{
	for (struct conn *w = c->conns; w; w = w->next)
		if (w->fd >= 0 && w->nout > 0)
			flush(w);
}

void conn_lose_all(struct control *c)
{
	for (struct conn *w = c->conns; w; w = w->next)
		if (w->fd >= 0 && !fd_is_ours(w->fd))
			w->error = EBADF;
}

void conn_flush_all(struct control *c)
{
	for (struct conn **at = &c->conns; *at;) {
		struct conn *w = *at;
		if (w->fd >= 0) {
			if (w->nout > 0)
				flush(w);
			at = &w->next;
			continue;
		}
		*at = w->next;
		conn_free(w);
	}
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

/* The memory stays until the end of the turn: callers further up may hold it. */
void conn_close(struct conn *w)
{
	if (w->fd < 0)
		return;
	if (w->process >= 0) {
		service_unwatch(w->process);
		fd_close(w->process);
	}
	service_unwatch(w->fd);
	fd_close(w->fd);
	w->fd = w->process = -1;
}

/* Whatever ends a connection but silence was said by the kernel of the peer's host: then the process is gone for certain. */
static void hung_up(struct conn *w, int error)
{
	char why[128];

	conn_close(w);
	if (w->c->leaving)
		shutdown_taken(w);
	else if (!tree_reachable(w->c, w->rank))
		return;
	else if (net_is_silence(error))
		failure_saw_cut(w->c, w->rank, true, os_error_text(error, why, sizeof(why)));
	else if (w->greeted)
		failure_saw_gone(w->c, w->rank);
	else
		tree_mend(w->c);
}

static void give_up(struct conn *w, const char *why)
{
	log_warn("rank %d closes the control connection with rank %d: %s", w->c->rank, w->rank, why);
	failure_saw_cut(w->c, w->rank, false, why);
	flush(w);
	conn_close(w);
}

/* Hears what has come. NULL, or why nothing more is to be heard. */
static const char *consume(struct conn *w)
{
	char plain[sizeof(struct message)];
	struct message m;
	const char *why = NULL;
	size_t at = 0, len;
	int n;

	while (!why && w->fd >= 0) {
		n = seal_open(w->seal, w->in + at, w->nin - at, plain, sizeof(plain), &len);
		if (n == 0)
			break;
		if (n < 0)
			why = "a control message is not what its rank sent: something on the path changes, repeats or adds bytes";
		else if (conn_parse(plain, len, w->c->n, &m) != (int)len)
			why = "malformed control message";
		else {
			w->greeted = true;
			plane_handle(w->c, &m, w);
			at += (size_t)n;
		}
	}
	w->nin -= at;
	memmove(w->in, w->in + at, w->nin);
	return why;
}

static void read_dry(struct conn *w)
{
	const char *why;

	if (w->reading)
		return;
	w->reading = true;
	while (w->fd >= 0 && w->error != EBADF) {
		ssize_t n = recv(w->fd, w->in + w->nin, sizeof(w->in) - w->nin, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			hung_up(w, w->error ? w->error : n < 0 ? errno : 0);
			break;
		}
		w->nin += (size_t)n;
		why = consume(w);
		if (why)
			give_up(w, why);
	}
	w->reading = false;
}

void conn_drain(struct control *c, int rank)
{
	for (struct conn *w = c->conns; w; w = w->next)
		if (w->rank == rank)
			read_dry(w);
}

static void on_conn(void *arg, int fd, unsigned events)
{
	struct conn *w = arg;

	(void)fd;
	if (events & OS_READ)
		read_dry(w);
	conn_flush_all(w->c);
}

/* The process ended, even if a child of its still holds the connection open. */
static void on_exit_of_peer(void *arg, int fd, unsigned events)
{
	struct conn *w = arg;
	struct control *c = w->c;

	(void)fd;
	(void)events;
	read_dry(w);
	conn_close(w);
	if (tree_reachable(c, w->rank))
		failure_saw_gone(c, w->rank);
	conn_flush_all(c);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int open_process(int fd)
{
	pid_t pid;
	uid_t uid;

	if (!os_peer(fd, &pid, &uid) || pid <= 0 || pid == getpid())
		return -1;
	return fd_keep(os_process_open(pid));
}

int conn_add(struct control *c, int rank, struct session session)
{
	struct conn *w = calloc(1, sizeof(*w));
	int rc = TUTTI_OK, fd = session.fd;

	if (!w) {
		session_close(&session);
		return fail(TUTTI_ENOMEM, "no memory for a control connection");
	}
	*w = (struct conn){.c = c, .seal = session.seal, .rank = rank, .fd = fd, .process = -1};
	if (c->host[rank] == c->host[c->rank])
		w->process = open_process(fd);
	else
		net_tune(fd, LOST_SECONDS);
	rc = service_watch(fd, OS_READ, on_conn, w);
	if (rc == TUTTI_OK && w->process >= 0)
		rc = service_watch(w->process, OS_READ, on_exit_of_peer, w);
	if (rc != TUTTI_OK) {
		conn_close(w);
		conn_free(w);
		return rc;
	}
	w->next = c->conns;
	c->conns = w;
	plane_send_state(w);
	return TUTTI_OK;
}

bool conn_exists(const struct control *c, int rank)
{
	for (const struct conn *w = c->conns; w; w = w->next)
		if (w->rank == rank && w->fd >= 0)
			return true;
	return false;
}

/* Read what has not been read yet: closing with unread data would make the kernel discard our last messages. */
void conn_close_all(struct control *c)
{
	char sink[4096];

	conn_flush_all(c);
	for (struct conn *w = c->conns; w; w = w->next) {
		while (fd_is_ours(w->fd) && recv(w->fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		conn_close(w);
	}
	conn_flush_all(c);
}
