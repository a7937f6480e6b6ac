/* Sockets: addresses, interfaces, listening and connecting, local (abstract) sockets. What is of Linux stays in net.c. */
#ifndef TUTTI_NET_H
#define TUTTI_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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

/** "1.2.3.4:5", "[::1]:5" into buf; returns buf. */
#define NET_TEXT 64
char *net_text(const struct net_addr *a, char buf[NET_TEXT]);

/** Resolves "host:port" or "[v6]:port", retrying while DNS is not ready; up to cap addresses. EINVAL, ETIMEOUT. */
int net_resolve(const char *host_port, struct net_addr *out, int cap, int *n, struct net_limit limit);

/**
 * Addresses of this host's interfaces that TUTTI_IFACE (`spec`: name, prefix*, CIDR, comma-separated; a leading ^
 * excludes) allows, best first: routed interfaces, then docker, virbr and the like, loopback last (only when nothing
 * else is up, when named, or when `loopback_only`). EINVAL names the part of spec that is malformed or matches nothing.
 */
int net_interfaces(const char *spec, bool loopback_only, struct net_addr *out, int cap, int *n);

/** A listening TCP socket (CLOEXEC, non-blocking). port 0: any; the port is written back. */
int net_listen(struct net_addr *at, int *fd);
/** Connect, with TCP_NODELAY, CLOEXEC; from may be NULL, else the source address is bound. */
int net_connect(const struct net_addr *to, const struct net_addr *from, struct net_limit limit, int *fd);
/** TCP_NODELAY, keepalive and user timeout: a lost host shows within `seconds`. */
void net_tune(int fd, int seconds);

/** Abstract local sockets: a network namespace is a host. */
int net_listen_local(const char *name, int *fd);
int net_connect_local(const char *name, struct net_limit limit, int *fd);
/** pid and uid of the other end of a local socket; false when unknown. */
bool net_peer(int fd, pid_t *pid, uid_t *uid);
int net_send_fd(int sock, int fd);                        /* one byte carrying fd */
int net_recv_fd(int sock, struct net_limit limit, int *fd);

/** All of n bytes, on blocking or non-blocking sockets; MSG_NOSIGNAL. EPEER on end of file. */
int net_write(int fd, const void *buf, size_t n, struct net_limit limit);
int net_read(int fd, void *buf, size_t n, struct net_limit limit);

#endif
