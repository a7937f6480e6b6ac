/* SPDX-License-Identifier: MIT */
/* What is in motion together, and who moves it. See queue.h. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "../util/error.h"
#include "comm.h"

static bool move_job(struct progress_job *job)
{
	return queue_move((struct tutti_comm *)((char *)job - offsetof(struct tutti_comm, queue.job)));
}

int queue_open(struct tutti_comm *c)
{
	struct queue *q = &c->queue;
	q->job.move = move_job;
	q->tail = &q->busy;
	q->lanes = calloc(1 + 2 * (size_t)(c->size > 0 ? c->size : 1), sizeof(*q->lanes));
	wait_begin(&q->silence, &c->site_locked);
	return q->lanes ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

const struct tutti_request *queue_message(const struct queue *q)
{
	for (const struct lane *l = q->busy; l; l = l->next)
		if (l->head && request_is_message(l->head))
			return l->head;
	return NULL;
}

/* ---- open requests ----------------------------------------------------------------------------------------------------- */

static void keep_open(struct tutti_comm *c, struct tutti_request *r)
{
	if (!c->queue.open)
		poll_tick(c, true);
	r->open_next = c->queue.open;
	r->open_at = &c->queue.open;
	if (c->queue.open)
		c->queue.open->open_at = &r->open_next;
	c->queue.open = r;
}

/* Its owner has finished it, or its communicator ends: each goes on without the other. */
static void let_go(struct tutti_request *r)
{
	struct tutti_comm *c = r->comm;
	if (!c)
		return;
	*r->open_at = r->open_next;
	if (r->open_next)
		r->open_next->open_at = r->open_at;
	if (!c->queue.open)
		poll_tick(c, false);
	prepared_release(r->prepared);
	r->prepared = NULL;
	r->comm = NULL;
}

void queue_add(struct tutti_comm *c, struct tutti_request *r)
{
	struct lane *l = &c->queue.lanes[prepared_hold(r->prepared)->lane];
	comm_lock(c);
	if (!c->queue.busy)
		wait_begin(&c->queue.silence, &c->site_locked);
	if (!l->head) {
		l->tail = &l->head;
		l->next = NULL;
		*c->queue.tail = l;
		c->queue.tail = &l->next;
	}
	*l->tail = r;
	l->tail = &r->next;
	(void)atomic_fetch_add_explicit(&c->queue.job.queued, 1, memory_order_release); /* R12 */
	comm_unlock(c);
	keep_open(c, r);
	progress_wake(&c->world->progress);
}

/* Takes the first request out of its lane. With the lock held. why: text of a failure. */
static void complete(struct tutti_comm *c, struct lane *l, int status, const char *why)
{
	struct tutti_request *r = l->head;
	l->head = r->next;
	if (!status)
		request_ended(c, r);
	request_release(r);
	r->next = NULL;
	r->status = status;
	r->why = status ? strdup(why) : NULL;
	(void)atomic_fetch_sub_explicit(&c->queue.job.queued, 1, memory_order_release); /* R12 */
	atomic_store_explicit(&r->done, true, memory_order_release); /* R10: from here on the owner may free it */
}

static void fail_all(struct tutti_comm *c, int status, const char *why)
{
	for (struct lane *l = c->queue.busy; l; l = l->next)
		while (l->head)
			complete(c, l, status, why);
	c->queue.busy = NULL;
	c->queue.tail = &c->queue.busy;
}

void queue_orphan(struct tutti_comm *c)
{
	fail_all(c, TUTTI_EABORTED, "the communicator was destroyed while the request was in flight");
	while (c->queue.open)
		let_go(c->queue.open);
}

#define TOGETHER 16 /* requests of a lane that are under way at a time */

/* Those behind the first request that need not wait for its end. */
static enum advance move_behind(struct tutti_comm *c, struct lane *l)
{
	enum advance got = ADVANCE_STUCK;
	struct tutti_request *r = l->head;
	for (int i = 1; i < TOGETHER && r->run && r->next; i++) {
		r = r->next;
		if (!r->run && !request_joins(c, l->head, r))
			break;
		enum advance a = request_advance_behind(c, r);
		if (a == ADVANCE_FAILED) {
			request_raise(c, r, r->status);
			return a;
		}
		if (a == ADVANCE_MOVED)
			got = a;
	}
	return got;
}

/* Moves the first request of a lane, those that are under way with it, and those behind as they become the first. */
static enum advance move_lane(struct tutti_comm *c, struct lane *l)
{
	enum advance got = ADVANCE_STUCK;
	while (l->head) {
		enum advance a = request_advance(c, l->head);
		if (a == ADVANCE_FAILED)
			request_raise(c, l->head, l->head->status);
		if (a == ADVANCE_STUCK || a == ADVANCE_MOVED) {
			enum advance b = l->head->run ? move_behind(c, l) : ADVANCE_STUCK;
			a = b == ADVANCE_STUCK ? a : b;
		}
		if (a != ADVANCE_DONE)
			return a == ADVANCE_STUCK ? got : a;
		complete(c, l, TUTTI_OK, NULL);
		got = ADVANCE_MOVED;
	}
	return ADVANCE_DONE;
}

static bool move_lanes(struct tutti_comm *c)
{
	bool moved = false;
	for (struct lane **at = &c->queue.busy; *at;) {
		struct lane *l = *at;
		enum advance a = move_lane(c, l);
		if (a == ADVANCE_FAILED)
			return true;
		moved |= a != ADVANCE_STUCK;
		if (a != ADVANCE_DONE) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		if (!*at)
			c->queue.tail = at;
	}
	return moved;
}

bool queue_move(struct tutti_comm *c)
{
	if (!queue_length(&c->queue) || !comm_trylock(c))
		return false;
	int status = comm_alarmed(c);
	bool moved = true;
	poll_seen(c);
	if (status)
		fail_all(c, status, c->alarm.text);
	else
		moved = move_lanes(c);
	if (moved)
		wait_moved(&c->queue.silence);
	else
		(void)wait_look(&c->queue.silence);
	comm_unlock(c);
	return moved;
}

/* ---- their end --------------------------------------------------------------------------------------------------------- */

/* A finished request's status, with its text as the thread's message. Its communicator may be gone by now. */
int queue_outcome(const struct tutti_request *r)
{
	return r->status ? fail(r->status, "%s", r->why ? r->why : "out of memory") : TUTTI_OK;
}

int queue_finish(struct tutti_request **at)
{
	struct tutti_request *r = *at;
	int status = queue_outcome(r);
	let_go(r);
	*at = NULL;
	free(r->why);
	free(r);
	return status;
}
