/* SPDX-License-Identifier: MIT */
/*
 * The door of a rank: its listening sockets (TCP, and an abstract local one), and the only place where connections come
 * in. Each must prove the job's secret before anything else is read. Garbage, port scans and slow connections are
 * dropped after a bounded time, with a log line. The hello of a connection states its purpose.
 *
 * The accepting side is served by the service thread, so dialling never needs the peer's application thread: a rank may
 * dial while it holds no lock, and is bounded by its limit. Never dial from a callback of the service thread. All
 * connections are non-blocking, with TCP_NODELAY.
 */
#ifndef TUTTI_DOOR_H
#define TUTTI_DOOR_H

#include "../util/auth.h"
#include "../util/net.h"
#include "../util/seal.h"
#include "contact.h"

enum hello_kind {
	HELLO_BOOT = 1,    /* bootstrap: joining at the root, and edges of its tree */
	HELLO_CONTROL = 2, /* control plane: a child's connection to its parent */
	HELLO_DATA = 3,    /* a transport's connection; tag names the link */
	HELLO_GIVE = 4,    /* local only: hand me the descriptor kept under tag */
	HELLO_NEAR = 5,    /* local only: nothing but the proof that both are on one host */
};

/** First words on an authenticated connection. */
struct hello {
	uint32_t kind;
	int32_t from; /* rank in the world */
	uint64_t tag;
};

struct door;

struct door_config {
	int rank, size;
	struct auth_key key;
	const char *iface; /* TUTTI_IFACE */
	bool local_only;   /* no TCP listener */
};

/**
 * Opens the listeners and begins to serve. Fills the address part of *me (local, addrs). contact_self came before: the
 * contact's nonce is part of the door's name, so that a dialler never takes another job's rank for the one it wants.
 */
int door_open(struct door **door, const struct door_config *cfg, struct contact *me);
/**
 * Serves a rendezvous at that address. Where another door of this process with the same rank, size and key is there, takes it
 * over from that: the world that began last is the one that others can join.
 */
int door_listen(struct door *door, struct net_addr at);
/** As door_listen, with a TCP listener, the door's from here on, also on error. EAUTH beyond loopback without a secret. */
int door_adopt(struct door *door, int listen_fd);
/**
 * Without a secret, the kernel identifies the processes at a rendezvous: a local socket, whose ends belong to one user
 * or root, is an additional listener. There, `open`, a publicly known key, is proved instead of the door's. Takes
 * ownership as door_listen does. EPEER: the name belongs to another user.
 */
int door_listen_local(struct door *door, const char *name, const struct auth_key *open);
/** Dials such a listener of rank 0. EAUTH when it is another user's. */
int door_dial_local(const struct door *door, const char *name, const struct auth_key *open, const struct hello *hello,
                    struct net_limit limit, struct session *session);
/** The key of this job from here on; nobody but the caller dials meanwhile. */
void door_set_key(struct door *door, const uint8_t key[AUTH_KEY]);
void door_get_key(const struct door *door, uint8_t key[AUTH_KEY]);
/** The last connection that was refused for its secret, size or rank, as text; "" when there was none. */
void door_refusal(struct door *door, char *buf, size_t cap);
/** Closes listeners, pending connections, kept arrivals and offers. Safe on NULL. */
void door_close(struct door *door);

/**
 * Connections of `kind` go to fn on the service thread (lock held), which owns the session. One handler a kind; NULL
 * removes it. Connections of a kind without handler are kept until door_take asks.
 */
typedef void door_fn(void *arg, struct session session, const struct hello *hello);
void door_serve(struct door *door, enum hello_kind kind, door_fn *fn, void *arg);

/** Take a kept connection of this kind, rank and tag; fd is -1 if there is none (yet). Cheap if nothing has come. */
struct session door_take(struct door *door, enum hello_kind kind, int from, uint64_t tag);

/**
 * Drop kept connections of this kind, from any rank, whose tag equals this one in the bits of the mask. Also drop those
 * that come later, until 256 other tags have been forgotten.
 */
void door_forget(struct door *door, enum hello_kind kind, uint64_t tag, uint64_t mask);

/**
 * From now on, every rank of this host that asks for `tag` (and proves the secret) receives a copy of fd; ranks that
 * asked before get it now. fd stays the caller's, which may close it: the door keeps a duplicate. fd -1 withdraws the
 * offer.
 */
int door_give(struct door *door, uint64_t tag, int fd);

/**
 * Connects to the door of `to`, proves the secret both ways, says hello. `local`: over the abstract socket only;
 * otherwise over TCP, by the first of its addresses that gets through; the message lists which were tried and how each
 * failed.
 */
int door_dial(const struct door *door, const struct contact *to, const struct hello *hello, bool local,
              struct net_limit limit, struct session *session);
/**
 * As door_dial over TCP, but with a host that does not answer at all it is patient for so long only. EPEER then, and *silent:
 * nothing came from that host, by any of its addresses. A process that is stopped is not silent: its kernel answers.
 */
int door_reach(const struct door *door, const struct contact *to, const struct hello *hello, uint64_t patience_ns,
               struct net_limit limit, bool *silent, struct session *session);
/**
 * Is `to` on this host? Its local socket is reached, and is the one of this job's rank. Equal names or boot ids prove nothing: hosts
 * that were cloned have the same.
 */
bool door_is_near(const struct door *door, const struct contact *to, struct net_limit limit);
/** What contacts on this host have as their hint from here on. As door_set_key. */
void door_set_hint(struct door *door, const uint8_t hint[16]);
/** Dials with HELLO_GIVE and receives the descriptor, which may be given later than it is asked for. */
int door_ask(const struct door *door, const struct contact *to, uint64_t tag, struct net_limit limit, int *fd);

#endif
