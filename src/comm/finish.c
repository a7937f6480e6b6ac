/* SPDX-License-Identifier: MIT */
/* Waiting for requests, and helping them. See finish.h. */
#include "finish.h"

#include <sched.h>

#include "../util/error.h"
#include "comm.h"

/* Moves the communicators of a request's world, its own one first. */
static bool move_world_of(struct tutti_request *r)
{
	return queue_move(r->comm) || progress_others(&r->comm->world->progress, &r->comm->queue.job);
}

/* The worlds of all requests that are not done: more than one only where a process plays several ranks. */
static bool move_for(struct tutti_request **reqs, int n)
{
	struct world *last = NULL;
	bool moved = false;
	for (int i = 0; i < n; i++) {
		if (request_is_done(reqs[i]) || reqs[i]->comm->world == last)
			continue;
		last = reqs[i]->comm->world;
		moved |= move_world_of(reqs[i]);
	}
	return moved;
}

static bool are_of_one_world(struct tutti_request **reqs, int n)
{
	struct world *first = NULL;
	for (int i = 0; i < n; i++) {
		if (!reqs[i] || !reqs[i]->comm)
			continue;
		if (first && reqs[i]->comm->world != first)
			return false;
		first = reqs[i]->comm->world;
	}
	return true;
}

/* One look of a wait for r, one of the requests. */
static void look(struct waiter *w, struct tutti_request *r, struct tutti_request **reqs, int n, bool one_world)
{
	if (w->site != &r->comm->site)
		wait_begin(w, &r->comm->site);
	if (one_world ? move_world_of(r) : move_for(reqs, n))
		wait_moved(w);
	else
		(void)wait_step(w); /* an alarm completes the requests in the next round */
}

/* A finished request that the caller still holds; NULL: none is. *open: one that is not; NULL: all are. */
static struct tutti_request *find_done(struct tutti_request **reqs, int n, struct tutti_request **open)
{
	*open = NULL;
	for (int i = 0; i < n; i++) {
		if (reqs[i] && request_is_done(reqs[i]))
			return reqs[i];
		if (reqs[i])
			*open = reqs[i];
	}
	return NULL;
}

/* Each request is looked at until it is done and then no more, so that the wait takes as long as what it waits for. */
int finish_wait(struct tutti_request **reqs, int n, bool any)
{
	struct waiter w = {0};
	struct tutti_request *open;
	bool one_world = are_of_one_world(reqs, n);
	if (any) {
		while (!find_done(reqs, n, &open) && open)
			look(&w, open, reqs, n, one_world);
		return TUTTI_OK;
	}
	for (int i = 0; i < n; i++) {
		while (!request_is_done(reqs[i]))
			look(&w, reqs[i], reqs, n, one_world);
		wait_moved(&w); /* perhaps by another thread */
	}
	int rc = TUTTI_OK;
	for (int i = 0; i < n; i++) {
		int status = reqs[i] ? queue_finish(&reqs[i]) : TUTTI_OK;
		rc = rc ? rc : status;
	}
	return rc;
}

/* A loop of tests on a crowded host must not keep the core from the rank that it waits for. */
int finish_test(struct tutti_request **req, int *done)
{
	if (!request_is_done(*req) && !move_world_of(*req) && wait_crowded(&(*req)->comm->world->wait))
		sched_yield();
	*done = request_is_done(*req);
	return *req && *done ? queue_finish(req) : TUTTI_OK;
}

/*
 * A team: whoever holds the communicator's lock moves the run and shares out what is long, the others help. All leave when
 * the request is done (or the communicator has failed).
 */
int finish_work(struct tutti_request *r)
{
	if (request_is_done(r))
		return queue_outcome(r);
	struct tutti_comm *c = r->comm;
	struct waiter w;
	wait_begin(&w, &c->site);
	crew_enter(&c->crew);
	while (!request_is_done(r)) {
		if (crew_help(&c->crew) || queue_move(c))
			wait_moved(&w);
		else
			(void)wait_step(&w);
	}
	crew_leave(&c->crew);
	return queue_outcome(r);
}
