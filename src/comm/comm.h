/*
 * A communicator: some ranks of a world, the calls that they have made on it, and what those calls need: plans, links, the
 * direct tier, a queue. comm.c makes and ends them; call.c and run.c know one call, request.c how calls
 * follow each other; api.c and start.c are the public face.
 *
 * Locks. A communicator is used by one thread at a time, so a blocking call on an idle one takes no lock. As soon as
 * requests are queued, other threads may move them (a progress thread, a team in tutti_work, a thread that waits on
 * another communicator of the same world): then all go through comm->lock. What communicators of a world share
 * (transports, segment) is under world->lock.
 */
#ifndef TUTTI_COMM_H
#define TUTTI_COMM_H

#include "../algo/algo.h"
#include "../control/control.h"
#include "../direct/direct.h"
#include "../engine/crew.h"
#include "../engine/engine.h"
#include "../tuner/tuner.h"
#include "../world/world.h"
#include "call.h"

/** A link of this communicator. */
struct comm_link {
	struct link link;
	struct link_spec spec;
	struct world_transport *by;
	struct comm_link *next;
};

/** A plan that was built, with its links. Kept until the communicator ends. */
struct comm_plan {
	enum coll coll;
	const struct algo *algo; /* NULL: point to point */
	int root, channels;
	struct plan *plan;
	struct link **links;
	int connected; /* the first so many links are ready */
	bool places;   /* some of them heed places */
	struct comm_plan *next;
};

struct tutti_request {
	struct tutti_comm *comm; /* NULL once the communicator has ended */
	struct call call;
	int status;
	char *why; /* text of a failure; NULL: there was no memory for it */
	_Atomic bool done;
	struct tutti_request *next;                 /* of its lane's unfinished ones */
	struct tutti_request *open_next, **open_at; /* of the communicator's open ones */
	int lane;
	enum run_kind kind;
	bool copied; /* RUN_SELF */
	struct comm_plan *plan;
	struct cut cut;
	const struct wire_codec *codec; /* of links between hosts; NULL: none */
	struct run *run;                /* made when it starts */
	struct direct_run direct;
	struct op op;
	struct extent touches;
	size_t *vectors; /* copies of the v-forms' arrays, of a call that outlives its recipe */
	uint32_t sig;
	uint64_t foreign_ns;   /* when another call's slot was seen first; 0: never */
	bool told;             /* and the control plane was told */
	uint64_t unreached_ns; /* when a peer could not be connected to; 0: never */
};

/**
 * Requests that begin in issue order and are completed in it. The first ones may be under way together, where each has
 * buffers of its own: then small calls share a turn of the core, and a packet.
 */
struct lane {
	struct tutti_request *head, **tail;
	struct lane *next; /* of the communicator's busy ones */
};

struct tutti_comm {
	struct world *world;
	struct alarm alarm;
	uint64_t id, number; /* number: collectives called so far */
	int rank, size;
	int *members; /* rank here -> rank in the world */
	int *host;    /* rank here -> host, numbered by lowest rank here */
	char name[64];
	int *order; /* of rings, by rank here; NULL: the shape's own */
	struct shape shape;
	struct tuner tuner;
	struct flight flight;
	struct recipes recipes[2]; /* of calls made lately: of the even forms, of the v-forms */
	struct control_comm *control;
	struct wait_site site, site_locked; /* of waits without and with the lock */
	double timeout;
	enum tutti_progress_mode progress;
	unsigned splits; /* splits and shrinks made of it: part of their ids */

	struct comm_link *links;
	struct comm_plan *plans;
	struct direct *direct;
	bool direct_is_ready;
	struct entry *listed; /* as a member, in the memory that this host's ranks share; NULL: not */
	uint8_t *scratch;     /* of the collective that runs: TMP and the bounce */
	size_t scratch_bytes;
	struct run *spare; /* memory for the next run; of spare_bytes at least */
	size_t spare_bytes;
	uint64_t *p2p;       /* messages so far: [2 peer] sent, [2 peer + 1] received */
	struct mem *mems;    /* of tutti_mem_alloc and tutti_mem_register */
	char *error;         /* text for tutti_last_error */
	_Atomic bool dumped; /* the flight recorder's file was written */

	struct crew crew;
	_Atomic int lock;              /* 0 free */
	struct progress_job job;       /* queued: unfinished requests */
	struct tutti_request *open;    /* requests that their owner has not finished; the owner's thread only */
	struct tutti_request *message; /* the blocking one, without the queue, that this rank waits in; NULL: none */
	struct lane *lanes; /* 0: collectives; 1 + 2 peer: sends to that rank; 2 + 2 peer: receives from it */
	struct lane *busy;  /* those that hold unfinished requests, in the order in which they got the first one */
	struct lane **busy_tail;
	struct waiter poll; /* silence as seen by calls that only look: tutti_test, tutti_progress */
	int fd, timer;      /* tutti_comm_fd: a queue of events, and the timer in it; -1: not asked for */
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

/* comm.c */
int comm_make(struct tutti_comm **out, const struct comm_spec *spec);
void comm_free(struct tutti_comm *c);
/** Writes the flight record that TUTTI_FLIGHT asks for; what fails is a warning. */
void comm_dump(struct tutti_comm *c);
int comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out);
int comm_shrink(struct tutti_comm *c, struct tutti_comm **out);
/** The plan of (coll, algo, root, channels), from the cache or new; NULL: out of memory. */
struct comm_plan *comm_plan(struct tutti_comm *c, enum coll coll, const struct algo *algo, int root, int channels);
/** Connects what is not yet: TUTTI_OK, LINK_PENDING, or an error. */
int comm_connect(struct tutti_comm *c, struct comm_plan *p);
/** Ends the network links of a communicator that has failed: nothing is sent from its callers' memory any more. */
void comm_cut(struct tutti_comm *c);
int comm_direct(struct tutti_comm *c);
void comm_lock(struct tutti_comm *c);
bool comm_trylock(struct tutti_comm *c);
void comm_unlock(struct tutti_comm *c);

/* run.c */
/** Fills in *r. Only after this has gone well does the call count. queued: it outlives the recipe. */
int run_prepare(struct tutti_comm *c, struct tutti_request *r, const struct op *op, const struct recipe *p,
                bool queued);
/** How the plan's blocks are cut for this call. Errors of engine_cut. */
int run_cut(const struct tutti_comm *c, const struct op *op, const struct plan *p, struct cut *cut);
/**
 * A call of the direct tier, on an idle communicator: what peers wait for is published before anything is written down.
 * false: it must wait for longer than a moment, and goes on as the request that run_direct_on makes of it.
 */
bool run_direct(struct tutti_comm *c, const struct op *op, struct recipe *p);
void run_direct_on(struct tutti_comm *c, struct tutti_request *r, const struct op *op, const struct recipe *p);
/** Does what can be done without waiting. */
enum advance run_advance(struct tutti_comm *c, struct tutti_request *r);
/** May r begin while those before it in its lane, `first` and so on, are under way? */
bool run_joins(const struct tutti_comm *c, const struct tutti_request *first, const struct tutti_request *r);
/** The same for one that joined: leaves the network to the first one's turn. */
enum advance run_advance_behind(struct tutti_comm *c, struct tutti_request *r);
bool run_finished(const struct tutti_request *r);
void run_release(struct tutti_request *r);
/** What one rank can't do any more ends the call on all of them; the text is the thread's message. */
void run_raise(struct tutti_comm *c, const struct tutti_request *r, int status);

/* request.c */
/** Starts a call: blocks, or queues it and fills *req, or leaves it to the group's end. */
int request_start(struct tutti_comm *c, const struct op *op, struct recipe *p, struct tutti_request **req);
/** Moves the communicator's queue; true when something moved. Takes the lock if it is free. */
bool comm_progress(struct tutti_comm *c);
/** Completes all unfinished requests with EABORTED; they, and those that are done, outlive the communicator. */
void comm_orphan_all(struct tutti_comm *c);
/** Blocks until all (or any) of the requests are done. */
int request_wait(struct tutti_request **reqs, int n, bool any);
int request_test(struct tutti_request **req, int *done);
int request_work(struct tutti_request *req);
void group_begin(void);
/** A call inside this thread's group, if there is one, could not start. */
void group_failed(int rc);
int group_end(void);
/** A descriptor for poll loops. */
int comm_fd(struct tutti_comm *c);
/** Moves all that can be moved for this rank; afterwards the descriptor is readable for what comes then. */
void comm_look(struct tutti_comm *c);

/* mem.c */
int mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr);
int mem_free(struct tutti_comm *c, void *ptr);
int mem_register(struct tutti_comm *c, void *ptr, size_t bytes);
int mem_deregister(struct tutti_comm *c, void *ptr);
void mem_free_all(struct tutti_comm *c);

#endif
