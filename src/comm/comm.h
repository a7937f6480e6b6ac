/* SPDX-License-Identifier: MIT */
/*
 * A communicator: some ranks of a world, and what their calls need. Each room keeps its part in a struct of its own and says
 * what it offers in its own header:
 *
 *   args      what a call is given: checks, bytes, layouts         prepared  what follows from it, kept for the next such call
 *   choose    by which algorithm it runs                           links     plans, and the links that they run over
 *   request   one call in motion                                   mismatch  ranks that called different things
 *   call      from arguments to the end, or into the queue         queue     what is in motion together, and who moves it
 *   finish    wait, test, work                                     group     a thread's group of calls
 *   poll      a descriptor for poll loops                          late      what a wait tells, and when
 *   split     communicators made of others                         mem       memory that peers and cards reach
 *
 * Locks. A communicator is used by one thread at a time, so a blocking call on an idle one takes no lock. As soon as
 * requests are queued, other threads may move them (a progress thread, a team in tutti_work, a thread that waits on
 * another communicator of the same world): then all go through the communicator's lock. What communicators of a world share
 * (transports, segment) is under world->lock.
 */
#ifndef TUTTI_COMM_H
#define TUTTI_COMM_H

#include "../control/control.h"
#include "../engine/crew.h"
#include "../tuner/tuner.h"
#include "../util/service.h"
#include "../world/world.h"
#include "links.h"
#include "poll.h"
#include "prepared.h"
#include "queue.h"

struct tutti_comm {
	/* what each call reads */
	struct world *world;
	struct alarm alarm;
	uint64_t number; /* collectives called so far */
	int rank, size;
	struct prepared_calls prepared;
	struct direct *direct;
	bool direct_is_ready;
	struct wait_site site, site_locked; /* of waits without and with the lock */
	struct queue queue;
	const struct tutti_request
	        *message; /* the blocking one, without the queue, that this rank waits in; NULL: none */
	struct flight flight;

	uint64_t id;
	char name[64];
	int *members; /* rank here -> rank in the world */
	int *host;    /* rank here -> host, numbered by lowest rank here */
	int *order;   /* of rings, by rank here; NULL: the shape's own */
	struct shape shape;
	struct tuner tuner;
	struct control_comm *control;
	double timeout;
	enum tutti_progress_mode progress;
	unsigned splits; /* splits and shrinks made of it: part of their ids */

	struct links links;
	struct run_memory memory;
	uint64_t *p2p;        /* messages so far: [2 peer] sent, [2 peer + 1] received */
	struct mem *mems;     /* of tutti_mem_alloc and tutti_mem_register */
	struct entry *listed; /* as a member, in the memory that this host's ranks share; NULL: not */
	struct poll poll;
	char *error;         /* text for tutti_last_error */
	_Atomic bool dumped; /* the flight recorder's file was written */
	struct crew crew;
	_Atomic int lock; /* 0 free */
};

struct comm_spec {
	struct world *world; /* a reference is taken */
	uint64_t id;
	const int *members;
	int size, rank;
	const char *name;
	double timeout;
	enum tutti_progress_mode progress;
	struct entry *listed; /* as in tutti_comm; taken over, also on error. NULL: not yet */
};

int comm_check_well(const struct tutti_comm *c);
int comm_make(struct tutti_comm **out, const struct comm_spec *spec);
void comm_free(struct tutti_comm *c);
/** Lists this rank as a member of communicator `id`, for the ranks that share memory; *at stays NULL where none is shared. */
int comm_list_member(struct world *w, uint64_t id, struct entry **at);
void comm_delist_member(struct world *w, struct entry *listed);
/** EINVAL: c is NULL. EUSAGE: c belongs to the parent process. */
static inline int comm_check(const struct tutti_comm *c)
{
	return __builtin_expect(c && c->world->forks == service_forks, 1) ? TUTTI_OK : comm_check_well(c);
}
int comm_heed(struct tutti_comm *c, int status);
/** TUTTI_OK; or, once the alarm has gone off, its status, with its text as the thread's message. */
static inline int comm_alarmed(struct tutti_comm *c)
{
	int status = atomic_load_explicit(&c->alarm.status, memory_order_acquire); /* A5 */
	return __builtin_expect(!status, 1) ? TUTTI_OK : comm_heed(c, status);
}
/** If rc is a failure, keeps the thread's message for tutti_last_error on c. Returns rc. */
int comm_keep_error(struct tutti_comm *c, int rc);
/** Writes the flight record that TUTTI_FLIGHT asks for; what fails is a warning. */
void comm_dump(struct tutti_comm *c);
/** The rank here of a rank of the world. */
int comm_rank_of(const struct tutti_comm *c, int world_rank);

void comm_lock(struct tutti_comm *c);
bool comm_trylock(struct tutti_comm *c);
void comm_unlock(struct tutti_comm *c);

#endif
