/* SPDX-License-Identifier: MIT */
/*
 * The queue of a communicator: requests that have begun or wait for their turn, and what moves them. Collectives run in issue
 * order; so do messages to and from each peer. Each such row is a lane. The first requests of a lane may be under way together,
 * where each has buffers of its own: then small calls share a turn of the core, and a packet.
 *
 * Any thread may move the queue, one at a time, under the communicator's lock; its owner adds to it. The list of open requests
 * is the owner's alone.
 */
#ifndef TUTTI_QUEUE_H
#define TUTTI_QUEUE_H

#include "../engine/wait.h"
#include "../world/progress.h"
#include "request.h"

struct lane {
	struct tutti_request *head, **tail;
	struct lane *next; /* of the busy ones */
};

struct queue {
	struct progress_job job; /* queued: unfinished requests */
	struct lane *lanes;      /* 0: collectives; 1 + 2 peer: sends to that rank; 2 + 2 peer: receives from it */
	struct lane *busy,
	        **tail; /* those that hold unfinished requests, in the order in which they got the first one */
	struct tutti_request *open; /* requests that their owner has not finished */
	struct waiter silence; /* as seen by whoever moves the queue: tutti_test, tutti_progress, a progress thread */
};

int queue_open(struct tutti_comm *c);
/** Completes all unfinished requests with EABORTED; they, and those that are done, outlive the communicator. */
void queue_orphan(struct tutti_comm *c);

/** Requests that are not finished. 0: the thread that uses the communicator owns it alone. */
static inline int queue_length(const struct queue *q)
{
	return atomic_load_explicit(&q->job.queued, memory_order_acquire); /* A12 */
}

/** Adds a request, to the queue and to the open ones; it holds its prepared call. */
void queue_add(struct tutti_comm *c, struct tutti_request *r);
/** Moves what can be moved; true when something moved. Nothing happens while another thread is at it. */
bool queue_move(struct tutti_comm *c);
/** Frees a request that is done, by its owner, and returns its status, with its text as the thread's message. */
int queue_finish(struct tutti_request **at);
/** That status, for as long as the request stays. */
int queue_outcome(const struct tutti_request *r);

static inline bool request_is_done(const struct tutti_request *r)
{
	return !r || atomic_load_explicit(&r->done, memory_order_acquire); /* A10 */
}

/** The message that waits in the queue first, with the lock held; NULL: none. */
const struct tutti_request *queue_message(const struct queue *q);

#endif
