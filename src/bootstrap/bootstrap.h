/* SPDX-License-Identifier: MIT */
/*
 * Bootstrap: how n processes that know one address and a secret become a world. All join rank 0's listener, which
 * tells each the door of its neighbours in a binomial tree; from then on there is one operation, an all-gather up and
 * down that tree, so that rank 0 sends n * b * log n bytes, not n * n * b. With the caller's own all-gather none of
 * this happens.
 */
#ifndef TUTTI_BOOTSTRAP_H
#define TUTTI_BOOTSTRAP_H

#include "../util/auth.h"
#include "../util/net.h"
#include "contact.h"
#include "tutti.h"

struct door;
struct bootstrap;

/**
 * Where rank 0 is. Without a listener rank 0 makes one: at the first of addrs where it can; else at text, on all
 * interfaces where that names none of this host's (a service address, a host file's 127.0.1.1).
 */
struct rendezvous {
	char text[256]; /* host:port as given, for messages; resolved when naddrs == 0 */
	int naddrs;
	struct net_addr addrs[NET_ADDRS]; /* one of them is rank 0's: what else answers there does not count */
	int listen_fd;                    /* rank 0: a listener there, from a unique id or TUTTI_ROOT_FD; else -1 */
	uint64_t *last; /* the world in which this process was last; NULL: no other one can be at this rendezvous */
};

/**
 * Joins. `door` and `me` are this rank's; `key` is the rendezvous's: the door's, or, where that is open (no secret was
 * given), one that everyone has; then rank 0's door's key becomes that of all doors. root->listen_fd stays the
 * caller's. Blocks until all ranks have joined. A rank that is early, because rank 0 is still in the world *root->last,
 * joins again until rank 0 is done there. ETIMEOUT names the missing ranks; EAUTH: wrong secret; EMISMATCH: different
 * size or version; EPEER names the rank that left. All ranks that joined get rank 0's text. On error nothing is left
 * open.
 */
int bootstrap_open(struct bootstrap **b, const struct rendezvous *root, int rank, int nranks, struct door *door,
                   const struct contact *me, const struct auth_key *key, struct net_limit limit);
/** As tutti_oob.allgather; ctx is the bootstrap. Within bootstrap_open's limit; an error ends all ranks' calls. */
int bootstrap_allgather(void *bootstrap, const void *in, void *out, size_t bytes);
void bootstrap_close(struct bootstrap *b);

/** Unique ids: addresses and secret in 128 bytes. make opens the listener and keeps it for this process's rank 0. */
int unique_id_make(struct tutti_unique_id *id, const char *iface);
/** Rank 0 also gets the listener, once: EUSAGE when this process did not make the id. EINVAL for a damaged id. */
int unique_id_read(const struct tutti_unique_id *id, int rank, struct rendezvous *root, struct auth_key *key);

#endif
