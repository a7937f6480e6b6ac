/* SPDX-License-Identifier: MIT */
/*
 * A request: one call in motion, with the state of its run. A blocking call's stands on the caller's stack, others are
 * queued (queue.h). Nothing here waits, and nothing here knows of other calls but for the question whether two may run
 * together.
 */
#ifndef TUTTI_REQUEST_H
#define TUTTI_REQUEST_H

#include <stdatomic.h>

#include "../direct/direct.h"
#include "../engine/engine.h"
#include "prepared.h"

struct tutti_request {
	struct tutti_comm *comm;         /* NULL once the communicator has ended */
	const struct prepared *prepared; /* held while the request is queued */
	const void *in;
	void *out;
	uint64_t number; /* of the call, or of the message between this pair in its direction */
	uint32_t sig;
	struct direct_run direct; /* RUN_DIRECT */
	struct run *run;          /* RUN_PLAN: made when it starts */
	bool copied;              /* RUN_SELF */
	/* what has gone wrong */
	bool told;             /* the control plane knows of foreign_ns */
	uint64_t foreign_ns;   /* when another call's slot was seen first; 0: never */
	uint64_t unreached_ns; /* when a peer could not be connected to; 0: never */
	int status;
	char *why; /* text of a failure; NULL: there was no memory for it */
	/* of the queue */
	_Atomic bool done;
	struct tutti_request *next;                 /* of its lane's unfinished ones */
	struct tutti_request *open_next, **open_at; /* of the communicator's open ones */
};

/** Memory of runs. */
struct run_memory {
	uint8_t *scratch; /* of the collective that runs: TMP and the bounce */
	size_t scratch_bytes;
	struct run *spare; /* for the next run; of spare_bytes at least */
	size_t spare_bytes;
};

#define VERDICT_NS 1000000000u /* for the control plane's account of what this rank sees only the end of */

static inline bool request_is_message(const struct tutti_request *r)
{
	return is_message(r->prepared->args.coll);
}

/** The call, as other ranks know it. */
static inline struct call request_record(const struct tutti_request *r)
{
	struct call record = r->prepared->record;
	record.number = r->number;
	return record;
}

/** Its arguments, buffers included. */
static inline struct args request_args(const struct tutti_request *r)
{
	struct args a = r->prepared->args;
	a.in = r->in;
	a.out = r->out;
	return a;
}

/** A request for call `number` of its kind. Nothing has begun. */
static inline struct tutti_request request_of(struct tutti_comm *c, const struct prepared *p, const void *in, void *out,
                                              uint64_t number)
{
	uint32_t sig = call_signature(p->salt, number);
	return (struct tutti_request){
	        .comm = c,
	        .prepared = p,
	        .in = in,
	        .out = out,
	        .number = number,
	        .sig = sig,
	        .direct = direct_begin(&p->direct, in, out, sig),
	};
}

/** Does what can be done without waiting. On ADVANCE_FAILED status is set, and the text is the thread's message. */
enum advance request_advance(struct tutti_comm *c, struct tutti_request *r);
/** May r begin while those before it in its lane, `first` and so on, are under way? */
bool request_joins(const struct tutti_comm *c, const struct tutti_request *first, const struct tutti_request *r);
/** request_advance for one that joined: leaves the network to the first one's turn. */
enum advance request_advance_behind(struct tutti_comm *c, struct tutti_request *r);
/** Has all of it been done on this rank? */
bool request_finished(const struct tutti_request *r);
/** Writes down that the call or message is over. */
void request_ended(struct tutti_comm *c, const struct tutti_request *r);
/** Before the caller gets its buffers back: ends the run, finished or not. */
void request_release(struct tutti_request *r);
/** What one rank can't do any more ends the call on all of them; the text is the thread's message. */
void request_raise(struct tutti_comm *c, const struct tutti_request *r, int status);

#endif
