/* SPDX-License-Identifier: MIT */
/*
 * Sockets: addresses and interfaces (net_addr.c); listening, connecting, local sockets (net.c).
 */
#ifndef TUTTI_NET_H
#define TUTTI_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/** An address as it travels: raw, of fixed size. */
struct net_addr {
	uint8_t family; /* 4, 6, 0: none */
	uint8_t pad;
	uint16_t port;  /* host order */
	uint32_t scope; /* interface index of a link-local IPv6 address, on the host that uses it */
	uint8_t ip[16];
};

#define NET_ADDRS 8

/** Stops a blocking call: a deadline (now_ns clock) and an optional word that ends it when it becomes non-zero. */
struct net_limit {
	uint64_t deadline;
	const _Atomic int *stop;
};
#define NET_STOP_MS 50 /* the word is looked at so often */
static inline bool net_stopped(struct net_limit limit)
{
	return limit.stop && atomic_load_explicit(limit.stop, memory_order_acquire) != 0; /* A16 */
}

/** Returns the length of *s. */
socklen_t net_to_sockaddr(const struct net_addr *a, struct sockaddr_storage *s);
/** False where it is of another family than IP's. */
bool net_from_sockaddr(const struct sockaddr *s, struct net_addr *a);
/** "1.2.3.4:5", "[::1]:5" into buf; returns buf. */
#define NET_TEXT 64
char *net_text(const struct net_addr *a, char buf[NET_TEXT]);
bool net_is_loopback(const struct net_addr *a);
bool net_is_any(const struct net_addr *a);
/** Of IPv6 fe80::/10, which needs a scope, or of IPv4 169.254.0.0/16. */
bool net_is_link_local(const struct net_addr *a);

/** Splits "host:port" or "[v6]:port"; EINVAL. */
#define NET_HOST 256
int net_split(const char *host_port, char host[NET_HOST], uint16_t *port);
/**
 * Resolves "host:port" or "[v6]:port", retrying while DNS is not ready; up to cap addresses. localhost and names that end in
 * .localhost are 127.0.0.1 and ::1 (RFC 6761), and nobody is asked. EINVAL, ETIMEOUT.
 */
int net_resolve(const char *host_port, struct net_addr *out, int cap, int *n, struct net_limit limit);

/**
 * Addresses of this host's interfaces that TUTTI_IFACE (`spec`: name, prefix*, CIDR, comma-separated; a leading ^
 * excludes) allows, best first: routed interfaces, then docker, virbr and the like; one without a carrier only when there
 * are none of these or it is named, loopback last (only when nothing else is up, when named, or when `loopback_only`). EINVAL names the part of spec that is malformed or matches nothing.
 */
int net_interfaces(const char *spec, bool loopback_only, struct net_addr *out, int cap, int *n);

/** One address of one interface that is up. */
struct net_iface {
	char name[32];
	struct net_addr addr;
	int prefix;      /* bits of its network */
	bool no_carrier; /* it is up, but the system has not noted a carrier: a cable is out, or it came up a moment ago */
};
#define NET_IFACES 64
int net_list(struct net_iface *out, int cap, int *n);
/** net_interfaces over a list: a function of its arguments alone. */
int net_choose(const struct net_iface *all, int nall, const char *spec, bool loopback_only, struct net_addr *out,
               int cap, int *n);
/** Is `a` in the interface's network? */
bool net_is_near(const struct net_iface *i, const struct net_addr *a);

/* All sockets made here are CLOEXEC and non-blocking. */

/** A listening TCP socket. port 0: any; the port is written back. Any address of IPv6 takes IPv4 as well. */
int net_listen(struct net_addr *at, int *fd);
/** The next connection that waits at a listener, with TCP_NODELAY; -1 with errno. */
int net_accept(int listener);
/** Connect, with TCP_NODELAY; from may be NULL, else the source address is bound. */
int net_connect(const struct net_addr *to, const struct net_addr *from, struct net_limit limit, int *fd);
/** The halves of net_connect: a socket on its way, writable when that has ended, and how it ended. errno says why not. */
int net_connect_begin(const struct net_addr *to, const struct net_addr *from, int *fd);
int net_connect_end(int fd, const struct net_addr *to);
/** Does a connection's error mean that nothing comes from the other host? All others were said by its kernel. */
bool net_is_silence(int error);
/**
 * TCP_NODELAY, keepalive and user timeout: a lost host shows within `seconds`. Only where the other side always reads:
 * to the user timeout one that lives but has not read for so long, with its buffers full, is lost as well.
 */
void net_tune(int fd, int seconds);
/**
 * Keepalive for a connection whose other side may rest for an hour, with buffers full: a word every few seconds, before a
 * firewall on the way forgets it. The kernel does not end it for silence soon; whether to is a question for os_tcp_unanswered,
 * by which a process that is stopped or does not read owes no answer, for its kernel gives it.
 */
void net_keep(int fd);

/** Is the descriptor a TCP socket that listens? */
bool net_is_listener(int fd);
/** The address of this or the other end of a socket; false when it has none. */
bool net_local_end(int fd, struct net_addr *a);
bool net_far_end(int fd, struct net_addr *a);

/* Local sockets by name, see os_local_listen. */
/** EPEER when somebody has that name. */
int net_listen_local(const char *name, int *fd);
int net_connect_local(const char *name, struct net_limit limit, int *fd);
int net_send_fd(int sock, int fd); /* one byte carrying fd */
int net_recv_fd(int sock, struct net_limit limit, int *fd);

/** poll with a limit, until one of p is ready. ETIMEOUT; EABORTED when the limit's word stops it. */
struct pollfd;
int net_poll(struct pollfd *p, size_t n, struct net_limit limit);
/** For one descriptor; -1: only waits. */
int net_wait(int fd, short events, struct net_limit limit);
/** All of n bytes, on blocking or non-blocking sockets; without a signal. EPEER on end of file. */
int net_write(int fd, const void *buf, size_t n, struct net_limit limit);
int net_read(int fd, void *buf, size_t n, struct net_limit limit);

#endif
