/* SPDX-License-Identifier: MIT */
/*
 * A world: one rank's view of the ranks that started together. It owns what all communicators made from it share: the
 * contacts, the door, the control plane, the transports and which of them reaches whom. Splits and shrinks are
 * communicators of the same world.
 */
#ifndef TUTTI_WORLD_H
#define TUTTI_WORLD_H

#include "../bootstrap/bootstrap.h"
#include "../bootstrap/door.h"
#include "../control/control.h"
#include "../engine/wait.h"
#include "../launch/launch.h"
#include "../segment/segment.h"
#include "../transport.h"
#include "../tuner/costs.h"
#include "progress.h"

#include <pthread.h>

#define WORLD_TRANSPORTS CONTACT_TRANSPORTS

/** One transport as this world has it. */
struct world_transport {
	const struct transport *t;
	struct transport_env env;
	void *ctx;
	bool usable;
	char reason[240]; /* why not */
	uint64_t *fabric; /* of each rank */
};

struct world {
	int rank, nranks;
	unsigned forks; /* service_forks when it was made: another value means a forked child */
	struct params params;
	struct contact *contacts;
	uint64_t id;
	struct door *door;
	struct control *control;
	struct world_transport transport[WORLD_TRANSPORTS];
	int ntransports;
	int *via;                /* rank -> index of the transport that reaches it; -1: none (oneself) */
	int *host;               /* rank -> host, numbered by lowest rank: ranks that share a segment */
	int *near;               /* rank -> host as the control plane sees it: ranks that may share a local socket */
	int *local;              /* rank -> index in the segment, -1: other host */
	struct segment *segment; /* NULL: no memory is shared */
	_Atomic uint32_t lonely_bell; /* the sleep word where there is no segment */
	struct wait_policy wait;
	struct world_transport *pump[WORLD_TRANSPORTS]; /* those that must be pumped and reach some rank */
	int npumps;
	struct costs costs;       /* rank 0's: the same on all ranks, as is what follows */
	int *place;               /* of each rank in rings, by rank 0's TUTTI_TOPO_FILE; NULL: none is given */
	int sockets;              /* that a rank may spend on one plan */
	int peers;                /* that every rank can be connected to */
	struct net_limit limit;   /* of start-up */
	pthread_mutex_t lock;     /* transports and segment */
	struct progress progress; /* what is to be moved for this rank */
	_Atomic int refs;
};

/** What tutti_comm_create and its relatives know before anybody was talked to. */
struct world_start {
	int rank, nranks;
	struct rendezvous root; /* unless oob */
	struct auth_key key;
	struct tutti_oob oob;  /* allgather != NULL: instead of the rendezvous */
	bool threads;          /* all ranks are threads of this process: nothing listens on a network */
	double seconds;        /* start_timeout */
	const char *transport; /* overrides TUTTI_TRANSPORT; NULL: does not */
};

/** Takes over *params, also on error. All ranks call it; on error nothing is left open. */
int world_create(struct world **out, const struct world_start *start, struct params *params);
struct world *world_ref(struct world *w);
void world_unref(struct world *w);

/** Moves what network transports have to move, unless another thread is at it. TUTTI_OK or an error. */
int world_pump(struct world *w);
/** A call has waited for a while: do the hosts of peers answer? Tells the control plane which do not. */
void world_look(struct world *w);

/** Guards transports and segment. */
void world_lock(struct world *w);
void world_unlock(struct world *w);
/**
 * A communicator of this world is about to be made, whose id is not known yet: said before another rank can be a member; then
 * that it was made, or was not. A world begins with one that is about to be.
 */
static inline void world_making(struct world *w, bool begins)
{
	if (w->segment)
		segment_making(w->segment, begins);
}
/** The kind of link between two ranks; the same on all ranks. */
enum cost_link world_link(const struct world *w, int a, int b);
/** Name of the transport that reaches a rank, "self" for oneself. */
const char *world_via(const struct world *w, int rank);

#endif
