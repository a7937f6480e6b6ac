/* SPDX-License-Identifier: MIT */
/*
 * Sockets of the imaginary Darwin. As on macOS: no flags beside a socket's type, no local SOCK_SEQPACKET; a send into a
 * socket that has broken is SIGPIPE unless SO_NOSIGPIPE is set; local names are paths of up to 104 bytes, never abstract; a
 * local listener whose queue is full refuses; accept passes O_NONBLOCK and SO_NOSIGPIPE of the listener on; a socket that
 * both sides have shut takes no options; LOCAL_PEERPID is told only while the other side is there; local sockets hold 8 KiB,
 * local datagrams up to 2 KiB, and one that finds no room is ENOBUFS; queues can't be handed over.
 *
 * SO_NOSIGPIPE is kept where it outlives dup, fork, exec and handing over: in the priority of the socket, which nobody else
 * here sets.
 */
#include "imaginary.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "include/sys/ucred.h"

#define QUIET      5 /* the priority of a socket with SO_NOSIGPIPE */
#define PATH_ROOM  104
#define LOCAL_ROOM 8192 /* net.local.stream.sendspace */
#define LOCAL_MOST 2048 /* net.local.dgram.maxdgram */

static int failed(int error)
{
	errno = error;
	return -1;
}

static int get(int sock, int level, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(sock, level, option, &value, &len) == 0 ? value : -1;
}

static bool is_local(int sock)
{
	return get(sock, SOL_SOCKET, SO_DOMAIN) == AF_UNIX;
}

bool darwin_is_inet(int sock)
{
	int family = get(sock, SOL_SOCKET, SO_DOMAIN);

	return family == AF_INET || family == AF_INET6;
}

static bool is_local_datagram(int sock)
{
	return is_local(sock) && get(sock, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM;
}

static bool is_quiet(int sock)
{
	int error = errno;
	bool quiet = get(sock, SOL_SOCKET, SO_PRIORITY) == QUIET;

	errno = error;
	return quiet;
}

/* ---- to make them ------------------------------------------------------------------------------------------------ */

static int is_refused(int family, int type)
{
	if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_RAW && type != SOCK_SEQPACKET)
		return EPROTONOSUPPORT;
	if (family == AF_UNIX && type != SOCK_STREAM && type != SOCK_DGRAM)
		return EPROTONOSUPPORT;
	return family == AF_PACKET || family == AF_NETLINK ? EAFNOSUPPORT : 0;
}

static void make_small(int sock)
{
	int room = get(sock, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM ? LOCAL_MOST : LOCAL_ROOM;

	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	(void)setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
}

int darwin_socket(int family, int type, int protocol)
{
	int error = is_refused(family, type), sock = error ? failed(error) : socket(family, type, protocol);

	if (sock >= 0 && family == AF_UNIX)
		make_small(sock);
	return sock;
}

int darwin_socketpair(int family, int type, int protocol, int sv[2])
{
	int error = is_refused(family, type);

	if (error)
		return failed(error);
	if (socketpair(family, type, protocol, sv) < 0)
		return -1;
	make_small(sv[0]);
	make_small(sv[1]);
	return 0;
}

/* Linux's form of a local name. 0: refused, with errno. */
static socklen_t local_name(const struct sockaddr *from, socklen_t len, struct sockaddr_un *to)
{
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	const char *path = (const char *)from + head;
	size_t room = len > head ? len - head : 0;

	*to = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!room || room > PATH_ROOM + 4) {
		errno = EINVAL;
		return 0;
	}
	room = strnlen(path, room < PATH_ROOM ? room : PATH_ROOM);
	if (!room) {
		errno = ENOENT;
		return 0;
	}
	memcpy(to->sun_path, path, room);
	return (socklen_t)(head + room + 1);
}

int darwin_bind(int sock, const struct sockaddr *to, socklen_t len)
{
	struct sockaddr_un local;

	if (len < sizeof(to->sa_family) || to->sa_family != AF_UNIX)
		return bind(sock, to, len);
	len = local_name(to, len, &local);
	return len ? bind(sock, (struct sockaddr *)&local, len) : -1;
}

int darwin_connect(int sock, const struct sockaddr *to, socklen_t len)
{
	struct sockaddr_un local;
	int flags, rc;

	if (len < sizeof(to->sa_family) || to->sa_family != AF_UNIX)
		return connect(sock, to, len);
	len = local_name(to, len, &local);
	if (!len)
		return -1;
	flags = fcntl(sock, F_GETFL);
	(void)fcntl(sock, F_SETFL, flags | O_NONBLOCK); /* a full queue is not waited for */
	rc = connect(sock, (struct sockaddr *)&local, len);
	if (rc < 0 && errno == EAGAIN)
		errno = ECONNREFUSED;
	(void)fcntl(sock, F_SETFL, flags);
	return rc;
}

static void set_quiet(int sock, bool quiet)
{
	int priority = quiet ? QUIET : 0;

	(void)setsockopt(sock, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority));
}

int darwin_accept(int listener, struct sockaddr *from, socklen_t *len)
{
	int sock = accept(listener, from, len);

	if (sock < 0)
		return -1;
	set_quiet(sock, is_quiet(listener));
	(void)fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) | (fcntl(listener, F_GETFL) & O_NONBLOCK));
	if (is_local(sock))
		make_small(sock);
	return sock;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

#define SOL_LOCAL      0
#define LOCAL_PEERCRED 0x001
#define LOCAL_PEERPID  0x002

/* Apple's options of TCP, by their numbers. */
static const struct {
	int apple, linux_;
} tcp[] = {
        {TCP_NODELAY, TCP_NODELAY}, {TCP_MAXSEG, TCP_MAXSEG}, {0x10, TCP_KEEPIDLE},
        {0x101, TCP_KEEPINTVL},     {0x102, TCP_KEEPCNT},     {DARWIN_TCP_RXT_CONNDROPTIME, TCP_USER_TIMEOUT},
};

static int tcp_option(int apple)
{
	for (size_t i = 0; i < sizeof(tcp) / sizeof(tcp[0]); i++)
		if (tcp[i].apple == apple)
			return tcp[i].linux_;
	return -1;
}

/* A local stream whose two directions have ended. One that was never connected hangs up, too, for Linux. */
static bool is_shut(int sock)
{
	struct pollfd p = {.fd = sock};
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return is_local(sock) && getpeername(sock, (struct sockaddr *)&peer, &len) == 0 && poll(&p, 1, 0) == 1 &&
	       p.revents & POLLHUP;
}

int darwin_setsockopt(int sock, int level, int option, const void *value, socklen_t len)
{
	int tcp_is;

	if (is_shut(sock))
		return failed(EINVAL);
	if (level == SOL_SOCKET && option == DARWIN_SO_NOSIGPIPE) {
		if (len != sizeof(int))
			return failed(EINVAL);
		if (get(sock, SOL_SOCKET, SO_TYPE) < 0)
			return -1;
		set_quiet(sock, *(const int *)value);
		return 0;
	}
	if (level != IPPROTO_TCP)
		return setsockopt(sock, level, option, value, len);
	tcp_is = tcp_option(option);
	if (tcp_is < 0 || is_local(sock))
		return failed(fcntl(sock, F_GETFD) < 0 ? EBADF : ENOPROTOOPT);
	if (option == DARWIN_TCP_RXT_CONNDROPTIME) {
		int ms = *(const int *)value * 1000;

		return setsockopt(sock, level, tcp_is, &ms, sizeof(ms));
	}
	return setsockopt(sock, level, tcp_is, value, len);
}

static int peer_of(int sock, int option, void *value, socklen_t *len)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return -1;
	if (who.uid == (uid_t)-1 || (option == LOCAL_PEERPID && is_shut(sock)))
		return failed(ENOTCONN);
	if (option == LOCAL_PEERPID && *len >= sizeof(pid_t)) {
		*(pid_t *)value = who.pid;
		*len = sizeof(pid_t);
		return 0;
	}
	if (option == LOCAL_PEERCRED && *len >= sizeof(struct xucred)) {
		*(struct xucred *)value = (struct xucred){
		        .cr_version = XUCRED_VERSION, .cr_uid = who.uid, .cr_ngroups = 1, .cr_groups = {who.gid}};
		*len = sizeof(struct xucred);
		return 0;
	}
	return failed(EINVAL);
}

struct connection_info { /* as in darwin.h */
	uint8_t state, wscale[2], unused;
	uint32_t options, flags, rto, maxseg, ssthresh, cwnd, wnd, sbbytes, rcv_wnd, rttcur, srtt, rttvar, tfo;
	uint64_t txpackets, txbytes, txretransmitbytes, rxpackets, rxbytes, rxoutoforderbytes, txretransmitpackets;
};

static int info_of(int sock, void *value, socklen_t *len)
{
	struct tcp_info i;
	struct connection_info *to = value;
	socklen_t size = sizeof(i);

	if (getsockopt(sock, IPPROTO_TCP, TCP_INFO, &i, &size) < 0)
		return -1;
	if (*len < sizeof(*to))
		return failed(EINVAL);
	*to = (struct connection_info){.state = i.tcpi_state == TCP_ESTABLISHED ? 4 : 0,
	                               .rto = i.tcpi_rto / 1000,
	                               .maxseg = i.tcpi_snd_mss,
	                               .cwnd = i.tcpi_snd_cwnd * i.tcpi_snd_mss,
	                               .rttcur = i.tcpi_rtt / 1000,
	                               .srtt = i.tcpi_rtt / 1000,
	                               .rttvar = i.tcpi_rttvar / 1000,
	                               .txretransmitpackets = i.tcpi_total_retrans};
	*len = sizeof(*to);
	return 0;
}

int darwin_getsockopt(int sock, int level, int option, void *value, socklen_t *len)
{
	if (level == SOL_LOCAL && (option == LOCAL_PEERCRED || option == LOCAL_PEERPID) && is_local(sock))
		return peer_of(sock, option, value, len);
	if (level == SOL_LOCAL && is_local(sock))
		return failed(ENOPROTOOPT);
	if (level == SOL_LOCAL && option == LOCAL_PEERCRED && get(sock, SOL_SOCKET, SO_TYPE) >= 0) {
		*len = 0; /* the level is that of IP as well, where the number is that of IP_OPTIONS, of which there are none */
		return 0;
	}
	if (level == SOL_SOCKET && option == DARWIN_SO_NOSIGPIPE) {
		if (get(sock, SOL_SOCKET, SO_TYPE) < 0)
			return -1;
		*(int *)value = is_quiet(sock);
		*len = sizeof(int);
		return 0;
	}
	if (level != IPPROTO_TCP)
		return getsockopt(sock, level, option, value, len);
	if (option == 0x106)
		return is_local(sock) ? failed(EINVAL) : info_of(sock, value, len);
	if (tcp_option(option) < 0 || is_local(sock))
		return failed(fcntl(sock, F_GETFD) < 0 ? EBADF : ENOPROTOOPT);
	return getsockopt(sock, level, tcp_option(option), value, len);
}

int getpeereid(int sock, uid_t *uid, gid_t *gid)
{
	struct xucred who = {.cr_version = XUCRED_VERSION + 1};
	socklen_t len = sizeof(who);

	if (darwin_getsockopt(sock, SOL_LOCAL, LOCAL_PEERCRED, &who, &len) < 0)
		return -1;
	if (who.cr_version != XUCRED_VERSION)
		return failed(EINVAL);
	*uid = who.cr_uid;
	*gid = who.cr_groups[0];
	return 0;
}

/* ---- to send ----------------------------------------------------------------------------------------------------- */

static bool has_unknown_flag(int flags)
{
	return flags & ~(MSG_OOB | MSG_PEEK | MSG_DONTROUTE | MSG_EOR | MSG_DONTWAIT | MSG_WAITALL);
}

/* The errors of macOS in the place of Linux's. */
static ssize_t sent(int sock, ssize_t n)
{
	if (n >= 0 || (errno != EAGAIN && errno != ECONNREFUSED && errno != ENOTCONN) || !is_local_datagram(sock))
		return n;
	errno = errno == EAGAIN ? ENOBUFS : errno == ECONNREFUSED ? ECONNRESET : EDESTADDRREQ;
	return -1;
}

/* Of a datagram: its socket's SO_SNDBUF, which Linux doubles and never lets be as little as macOS has. */
static bool is_too_much(int sock, size_t bytes)
{
	return bytes > LOCAL_MOST && is_local_datagram(sock) &&
	       (bytes > (size_t)get(sock, SOL_SOCKET, SO_SNDBUF) / 2 ||
	        get(sock, SOL_SOCKET, SO_SNDBUF) < 3 * LOCAL_MOST);
}

static size_t bytes_of(const struct msghdr *m)
{
	size_t bytes = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++)
		bytes += m->msg_iov[i].iov_len;
	return bytes;
}

static int quietly(int sock, int flags)
{
	return flags | (is_quiet(sock) ? MSG_NOSIGNAL : 0);
}

ssize_t darwin_send(int sock, const void *p, size_t n, int flags)
{
	return darwin_sendto(sock, p, n, flags, NULL, 0);
}

ssize_t darwin_sendto(int sock, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
	if (has_unknown_flag(flags))
		return failed(EOPNOTSUPP);
	if (is_too_much(sock, n))
		return failed(EMSGSIZE);
	return sent(sock, sendto(sock, p, n, quietly(sock, flags), to, len));
}

static bool hands_over_a_queue(const struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (darwin_is_kqueue(fd))
				return true;
		}
	}
	return false;
}

ssize_t darwin_sendmsg(int sock, const struct msghdr *m, int flags)
{
	if (has_unknown_flag(flags))
		return failed(EOPNOTSUPP);
	if (is_too_much(sock, bytes_of(m)))
		return failed(EMSGSIZE);
	if (hands_over_a_queue(m))
		return failed(EINVAL);
	return sent(sock, sendmsg(sock, m, quietly(sock, flags)));
}

ssize_t darwin_write(int fd, const void *p, size_t n)
{
	return darwin_writev(fd, &(struct iovec){(void *)p, n}, 1);
}

ssize_t darwin_writev(int fd, const struct iovec *v, int n)
{
	struct msghdr m = {.msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)n};

	if (darwin_is_shm(fd))
		return failed(ENXIO);
	if (get(fd, SOL_SOCKET, SO_TYPE) >= 0)
		return darwin_sendmsg(fd, &m, 0);
	return writev(fd, v, n);
}

/* ---- to read ----------------------------------------------------------------------------------------------------- */

ssize_t darwin_read(int fd, void *p, size_t n)
{
	return darwin_is_shm(fd) || darwin_is_kqueue(fd) ? failed(ENXIO) : read(fd, p, n);
}

ssize_t darwin_readv(int fd, const struct iovec *v, int n)
{
	return darwin_is_shm(fd) || darwin_is_kqueue(fd) ? failed(ENXIO) : readv(fd, v, n);
}

ssize_t darwin_pread(int fd, void *p, size_t n, off_t at)
{
	return darwin_is_shm(fd) ? failed(ENXIO) : pread(fd, p, n, at);
}

ssize_t darwin_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return darwin_is_shm(fd) ? failed(ENXIO) : pwrite(fd, p, n, at);
}
