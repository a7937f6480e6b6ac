/* SPDX-License-Identifier: MIT */
/*
 * Sockets, see net.h. Everything that blocks goes through net_wait, so that every wait has a deadline and can be
 * stopped. Messages here say what failed on which address; callers add the peer.
 */
#include "net.h"
#include "../os/os.h"
#include "clock.h"
#include "error.h"
#include "fd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS      UINT64_C(1000000)
#define BACKLOG 4096

/* ---- waiting, reading, writing ----------------------------------------------------------------------------------- */

int net_poll(struct pollfd *p, size_t n, struct net_limit limit)
{
	for (;;) {
		uint64_t now = now_ns(), ms;
		int ready;

		if (net_stopped(limit))
			return fail(TUTTI_EABORTED, "stopped while waiting");
		ms = now < limit.deadline ? (limit.deadline - now + MS - 1) / MS : 0;
		if (ms > 60000)
			ms = 60000;
		if (limit.stop && ms > NET_STOP_MS)
			ms = NET_STOP_MS;
		ready = poll(p, (nfds_t)n, (int)ms);
		if (ready > 0)
			return TUTTI_OK;
		if (ready < 0 && errno != EINTR)
			return fail_errno("poll failed");
		if (ready == 0 && now >= limit.deadline)
			return fail(TUTTI_ETIMEOUT, "timed out");
	}
}

int net_wait(int fd, short events, struct net_limit limit)
{
	struct pollfd p = {.fd = fd, .events = events};

	return net_poll(&p, 1, limit);
}

/* What errno means after a transfer: the connection is lost, or the system failed. */
static int transfer_failed(const char *what)
{
	switch (errno) {
	case EPIPE:
	case ECONNRESET:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case ENOTCONN:
		fail_errno("the connection was lost");
		return TUTTI_EPEER;
	default:
		return fail_errno("can't %s the connection", what);
	}
}

int net_write(int fd, const void *buf, size_t n, struct net_limit limit)
{
	const char *at = buf;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, OS_NO_SIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return transfer_failed("write to");
		if (sent < 0) {
			int rc = net_wait(fd, POLLOUT, limit);
			if (rc != TUTTI_OK)
				return rc;
			continue;
		}
		at += sent;
		n -= (size_t)sent;
	}
	return TUTTI_OK;
}

int net_read(int fd, void *buf, size_t n, struct net_limit limit)
{
	char *at = buf;

	while (n > 0) {
		ssize_t got = recv(fd, at, n, MSG_DONTWAIT);
		if (got == 0)
			return fail(TUTTI_EPEER, "the other side closed the connection");
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return transfer_failed("read from");
		if (got < 0) {
			int rc = net_wait(fd, POLLIN, limit);
			if (rc != TUTTI_OK)
				return rc;
			continue;
		}
		at += got;
		n -= (size_t)got;
	}
	return TUTTI_OK;
}

/* ---- TCP --------------------------------------------------------------------------------------------------------- */

static void set_int(int fd, int level, int option, int value)
{
	/* Every option set here improves matters where it exists; a local socket has none of them. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

void net_tune(int fd, int seconds)
{
	int idle = seconds > 3 ? seconds / 2 : 1;

	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	os_tcp_keep_alive(fd, idle, 1, seconds > idle ? seconds - idle : 1);
	os_tcp_give_up_after(fd, seconds);
}

#define KEEP_IDLE  2 /* seconds without a word before the kernel asks */
#define KEEP_EVERY 1
#define KEEP_COUNT 127 /* unanswered, until the kernel gives up by itself: the most that it allows */

void net_keep(int fd)
{
	os_tcp_keep_alive(fd, KEEP_IDLE, KEEP_EVERY, KEEP_COUNT);
}

static int open_socket(const struct net_addr *a, int *fd)
{
	int family = a->family == 4 ? AF_INET : AF_INET6;

	*fd = fd_keep(os_socket(family, SOCK_STREAM));
	return *fd < 0 ? fail_errno("can't make an IPv%d socket", a->family) : TUTTI_OK;
}

int net_listen(struct net_addr *at, int *fd)
{
	struct net_addr bound;
	struct sockaddr_storage s;
	char text[NET_TEXT];
	int sock, rc = open_socket(at, &sock);

	*fd = -1;
	if (rc != TUTTI_OK)
		return rc;
	set_int(sock, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->family == 6)
		set_int(sock, IPPROTO_IPV6, IPV6_V6ONLY, !net_is_any(at));
	if (bind(sock, (struct sockaddr *)&s, net_to_sockaddr(at, &s)) < 0 || listen(sock, BACKLOG) < 0 ||
	    !net_local_end(sock, &bound)) {
		rc = fail_errno("can't listen on %s", net_text(at, text));
		fd_close(sock);
		return rc;
	}
	at->port = bound.port;
	*fd = sock;
	return TUTTI_OK;
}

int net_accept(int listener)
{
	int fd = fd_keep(os_accept(listener));

	if (fd >= 0)
		set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return fd;
}

/* The error of a connect that has ended. */
static int connect_result(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	return error;
}

static int connect_refused(const char *text, int error)
{
	errno = error;
	fail_errno("can't connect to %s", text);
	errno = error;
	return error == ENOMEM || error == EMFILE || error == ENFILE ? TUTTI_ESYSTEM : TUTTI_EPEER;
}

/* A dialler whose own port is the one it dials, where nobody listens, reaches itself: TCP allows it. */
static bool is_own_echo(int fd)
{
	struct net_addr here, there;

	return net_local_end(fd, &here) && net_far_end(fd, &there) && memcmp(&here, &there, sizeof(here)) == 0;
}

bool net_is_silence(int error)
{
	return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN ||
#ifdef ENONET
	       error == ENONET ||
#endif
	       error == ENETDOWN;
}

static int bind_source(int sock, const struct net_addr *to, const struct net_addr *from)
{
	struct net_addr source = *from;
	struct sockaddr_storage s;
	char text[NET_TEXT], here[NET_TEXT];

	source.port = 0;
	if (bind(sock, (struct sockaddr *)&s, net_to_sockaddr(&source, &s)) == 0)
		return TUTTI_OK;
	return fail_errno("can't connect to %s from %s", net_text(to, text), net_text(from, here));
}

int net_connect_begin(const struct net_addr *to, const struct net_addr *from, int *fd)
{
	struct sockaddr_storage s;
	char text[NET_TEXT];
	int sock, rc = open_socket(to, &sock);

	*fd = -1;
	if (rc != TUTTI_OK)
		return rc;
	if (from)
		rc = bind_source(sock, to, from);
	set_int(sock, IPPROTO_TCP, TCP_NODELAY, 1);
	/* One that EINTR broke goes on by itself. */
	if (rc == TUTTI_OK && connect(sock, (struct sockaddr *)&s, net_to_sockaddr(to, &s)) < 0 &&
	    errno != EINPROGRESS && errno != EINTR)
		rc = connect_refused(net_text(to, text), errno);
	if (rc == TUTTI_OK) {
		*fd = sock;
		return rc;
	}
	int why = errno;
	fd_close(sock);
	errno = why;
	return rc;
}

int net_connect_end(int fd, const struct net_addr *to)
{
	char text[NET_TEXT];
	int error = connect_result(fd);

	if (error == 0 && is_own_echo(fd))
		error = ECONNREFUSED;
	return error ? connect_refused(net_text(to, text), error) : TUTTI_OK;
}

int net_connect(const struct net_addr *to, const struct net_addr *from, struct net_limit limit, int *fd)
{
	char text[NET_TEXT];
	int sock, rc = net_connect_begin(to, from, &sock);

	*fd = -1;
	if (rc != TUTTI_OK)
		return rc;
	rc = net_wait(sock, POLLOUT, limit);
	rc = rc == TUTTI_OK ? net_connect_end(sock, to) : fail_while(rc, "connecting to %s", net_text(to, text));
	if (rc == TUTTI_OK)
		*fd = sock;
	else
		fd_close(sock);
	return rc;
}

bool net_is_listener(int fd)
{
	int listens = 0, delay;
	socklen_t one = sizeof(listens), other = sizeof(delay);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &one) == 0 && listens &&
	       getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &delay, &other) == 0; /* TCP alone has it */
}

bool net_local_end(int fd, struct net_addr *a)
{
	struct sockaddr_storage s;
	socklen_t len = sizeof(s);

	return getsockname(fd, (struct sockaddr *)&s, &len) == 0 && net_from_sockaddr((struct sockaddr *)&s, a);
}

bool net_far_end(int fd, struct net_addr *a)
{
	struct sockaddr_storage s;
	socklen_t len = sizeof(s);

	return getpeername(fd, (struct sockaddr *)&s, &len) == 0 && net_from_sockaddr((struct sockaddr *)&s, a);
}

/* ---- local sockets ----------------------------------------------------------------------------------------------- */

int net_listen_local(const char *name, int *fd)
{
	bool taken;
	int rc;

	*fd = fd_keep(os_local_listen(name, BACKLOG));
	if (*fd >= 0)
		return TUTTI_OK;
	taken = errno == EADDRINUSE;
	rc = fail_errno("can't listen on the local socket @%s", name);
	return taken ? TUTTI_EPEER : rc;
}

int net_connect_local(const char *name, struct net_limit limit, int *fd)
{
	char text[128];
	int rc = TUTTI_OK, sock = fd_keep(os_socket(AF_UNIX, SOCK_STREAM));

	*fd = -1;
	if (sock < 0)
		return fail_errno("can't make a local socket");
	snprintf(text, sizeof(text), "@%s", name);
	while (os_local_connect(sock, name) < 0) {
		uint64_t soon = now_ns() + MS;
		if (errno != EAGAIN && errno != EINTR) {
			rc = connect_refused(text, errno);
			goto out;
		}
		if (now_ns() >= limit.deadline) {
			rc = fail(TUTTI_ETIMEOUT, "connecting to %s: timed out", text);
			goto out;
		}
		rc = net_wait(-1, 0, (struct net_limit){.deadline = soon, .stop = limit.stop});
		if (rc == TUTTI_EABORTED)
			goto out;
		rc = TUTTI_OK;
	}
out:
	if (rc == TUTTI_OK)
		*fd = sock;
	else
		fd_close(sock);
	return rc;
}

/* Room for one descriptor, aligned as its header wants. */
union carrier {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

int net_send_fd(int sock, int fd)
{
	char byte = 'f';
	union carrier c = {.room = {0}};
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof(c.room)};

	c.head.cmsg_level = SOL_SOCKET;
	c.head.cmsg_type = SCM_RIGHTS;
	c.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.head), &fd, sizeof(int));
	if (sendmsg(sock, &m, OS_NO_SIGNAL | MSG_DONTWAIT) == 1)
		return TUTTI_OK;
	return transfer_failed("pass a descriptor over");
}

int net_recv_fd(int sock, struct net_limit limit, int *fd)
{
	*fd = -1;
	for (;;) {
		char byte;
		union carrier c = {.room = {0}};
		struct iovec iov = {.iov_base = &byte, .iov_len = 1};
		struct msghdr m = {
		        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof(c.room)};
		ssize_t got = os_receive_message(sock, &m);
		struct cmsghdr *head;
		int rc;

		if (got == 0)
			return fail(TUTTI_EPEER, "the other side closed the connection");
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return transfer_failed("receive a descriptor from");
		if (got < 0) {
			rc = net_wait(sock, POLLIN, limit);
			if (rc != TUTTI_OK)
				return rc;
			continue;
		}
		head = CMSG_FIRSTHDR(&m);
		if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
		    head->cmsg_len != CMSG_LEN(sizeof(int)))
			return fail(
			        TUTTI_ESYSTEM,
			        "an announced descriptor did not arrive (raise the limit of open files: ulimit -n)");
		memcpy(fd, CMSG_DATA(head), sizeof(int));
		*fd = fd_keep(*fd);
		return *fd < 0 ? transfer_failed("receive a descriptor from") : TUTTI_OK;
	}
}
