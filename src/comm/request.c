/*
 * Requests: which calls run at once and which wait for others, in which order they move, and who waits for them.
 *
 * Collectives of a communicator run one after the other, in issue order; messages to and from each peer likewise, each
 * direction a queue of its own. A blocking call on an idle communicator runs on the caller's stack, without queue or lock.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/cancel.h"
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "comm.h"

/* ---- a thread's group ----------------------------------------------------------------------------------------------- */

/* initial-exec: a few bytes that each call looks at, without asking the dynamic linker where they are */
static _Thread_local __attribute__((tls_model("initial-exec"))) struct {
	int depth, n, cap, rc;      /* rc: of the first call that could not start */
	struct tutti_request **req; /* blocking calls of the group: done when it ends */
} group;

/* The alarm has gone off: its status, with its text as the thread's message. The first to see it dumps the recorder. */
static int heed(struct tutti_comm *c, int status)
{
	int was = cancel_disable();
	if (c->world->params.flight && !atomic_exchange_explicit(&c->dumped, true, memory_order_relaxed))
		comm_dump(c);
	return cancel_restore(was, fail(status, "%s", c->alarm.text));
}

static inline int alarmed(struct tutti_comm *c)
{
	int status = atomic_load_explicit(&c->alarm.status, memory_order_acquire); /* A5 */
	return __builtin_expect(!status, 1) ? TUTTI_OK : heed(c, status);
}

static void finish_record(struct tutti_comm *c, const struct tutti_request *r)
{
	if (is_message(r->op.coll))
		flight_message_done(&c->flight);
	else
		flight_finish(&c->flight, r->call.number);
}

/* ---- a blocking call on an idle communicator ----------------------------------------------------------------------------- */

static int run_here(struct tutti_comm *c, struct tutti_request *r)
{
	struct waiter w;
	int was = cancel_disable();
	wait_begin(&w, &c->site);
	c->message = is_message(r->op.coll) ? r : NULL;
	for (;;) {
		enum advance a = run_advance(c, r);
		if (a == ADVANCE_DONE)
			break;
		if (a == ADVANCE_FAILED) {
			run_raise(c, r, r->status);
			break;
		}
		if (a == ADVANCE_MOVED)
			wait_moved(&w);
		else if (progress_others(&c->world->progress, &c->job)
		                 ? wait_look(&w)
		                 : wait_step(&w)) /* others' moves are not this one's */
			break;
	}
	bool finished = run_finished(r);
	c->message = NULL;
	if (finished)
		finish_record(c, r);
	run_release(r);
	return cancel_restore(was, finished ? TUTTI_OK : alarmed(c));
}

/* ---- the queue --------------------------------------------------------------------------------------------------------------- */

/* It ticks until the owner has collected all requests: who sleeps on it has not seen what another thread completed. */
static void arm_timer(struct tutti_comm *c, bool on)
{
	if (c->timer < 0)
		return;
	os_timer_set(c->timer, on ? 1000000 : 0);
}

static void keep_open(struct tutti_comm *c, struct tutti_request *r)
{
	if (!c->open)
		arm_timer(c, true);
	r->open_next = c->open;
	r->open_at = &c->open;
	if (c->open)
		c->open->open_at = &r->open_next;
	c->open = r;
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
	if (!c->open)
		arm_timer(c, false);
	r->comm = NULL;
}

static void enqueue(struct tutti_comm *c, struct tutti_request *r)
{
	struct lane *l = &c->lanes[r->lane];
	comm_lock(c);
	if (!c->busy)
		wait_begin(&c->poll, &c->site_locked);
	if (!l->head) {
		l->tail = &l->head;
		l->next = NULL;
		*c->busy_tail = l;
		c->busy_tail = &l->next;
	}
	*l->tail = r;
	l->tail = &r->next;
	(void)atomic_fetch_add_explicit(&c->job.queued, 1, memory_order_release); /* R12 */
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
		finish_record(c, r);
	run_release(r);
	r->next = NULL;
	r->status = status;
	r->why = status ? strdup(why) : NULL;
	(void)atomic_fetch_sub_explicit(&c->job.queued, 1, memory_order_release); /* R12 */
	atomic_store_explicit(&r->done, true, memory_order_release); /* R10: from here on the owner may free it */
}

static void fail_all(struct tutti_comm *c, int status, const char *why)
{
	for (struct lane *l = c->busy; l; l = l->next)
		while (l->head)
			complete(c, l, status, why);
	c->busy = NULL;
	c->busy_tail = &c->busy;
}

void comm_orphan_all(struct tutti_comm *c)
{
	fail_all(c, TUTTI_EABORTED, "the communicator was destroyed while the request was in flight");
	while (c->open)
		let_go(c->open);
}

#define TOGETHER 16 /* requests of a lane that are under way at a time */

/* Those behind the first request that need not wait for its end. */
static enum advance move_behind(struct tutti_comm *c, struct lane *l)
{
	enum advance got = ADVANCE_STUCK;
	struct tutti_request *r = l->head;
	for (int i = 1; i < TOGETHER && r->run && r->next; i++) {
		r = r->next;
		if (!r->run && !run_joins(c, l->head, r))
			break;
		enum advance a = run_advance_behind(c, r);
		if (a == ADVANCE_FAILED) {
			run_raise(c, r, r->status);
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
		enum advance a = run_advance(c, l->head);
		if (a == ADVANCE_FAILED)
			run_raise(c, l->head, l->head->status);
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

static bool move_queue(struct tutti_comm *c)
{
	bool moved = false;
	for (struct lane **at = &c->busy; *at;) {
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
			c->busy_tail = at;
	}
	return moved;
}

bool comm_progress(struct tutti_comm *c)
{
	if (!atomic_load_explicit(&c->job.queued, memory_order_acquire) || !comm_trylock(c)) /* A12 */
		return false;
	int status = alarmed(c);
	bool moved = true;
	if (c->timer >= 0)
		os_timer_rest(c->timer); /* not readable again before the next tick */
	if (status)
		fail_all(c, status, c->alarm.text);
	else
		moved = move_queue(c);
	if (moved)
		wait_moved(&c->poll);
	else
		(void)wait_look(&c->poll);
	comm_unlock(c);
	return moved;
}

/* ---- starting ------------------------------------------------------------------------------------------------------------------ */

/* Room for one more call in the group; asked for before the call counts. */
static int group_room(void)
{
	if (group.n < group.cap)
		return TUTTI_OK;
	int cap = group.cap ? 2 * group.cap : 16;
	struct tutti_request **more = realloc(group.req, (size_t)cap * sizeof(*more));
	if (!more)
		return fail(TUTTI_ENOMEM, "out of memory");
	group.req = more;
	group.cap = cap;
	return TUTTI_OK;
}

void group_failed(int rc)
{
	if (group.depth && !group.rc)
		group.rc = rc;
}

/* Nothing else is in flight: on the caller's stack. */
static __attribute__((noinline)) int start_here(struct tutti_comm *c, const struct op *op, struct recipe *p)
{
	struct tutti_request here;
	if (is_message(op->coll) && op->root == c->rank)
		return fail(TUTTI_EINVAL,
		            "tutti_%s with oneself would block for ever: the other end is not in flight; "
		            "use a group or a request",
		            coll_name(op->coll));
	int rc = run_prepare(c, &here, op, p, false);
	return rc ? rc : run_here(c, &here);
}

/* A call of the direct tier that must wait for longer than a moment. */
static __attribute__((noinline)) int go_on_here(struct tutti_comm *c, const struct op *op, const struct recipe *p)
{
	struct tutti_request here;
	run_direct_on(c, &here, op, p);
	return run_here(c, &here);
}

static int enqueue_new(struct tutti_comm *c, const struct op *op, struct recipe *p, struct tutti_request **req)
{
	bool in_group = !req && group.depth;
	struct tutti_request *r = malloc(sizeof(*r));
	int rc = !r ? fail(TUTTI_ENOMEM, "out of memory") : in_group ? group_room() : TUTTI_OK;
	if (!rc)
		rc = run_prepare(c, r, op, p, true);
	if (rc) {
		free(r);
		return rc;
	}
	if (in_group)
		group.req[group.n++] = r;
	enqueue(c, r);
	if (req) {
		*req = r;
		(void)comm_progress(c);
		return TUTTI_OK;
	}
	return in_group ? TUTTI_OK : request_wait(&r, 1, false);
}

static __attribute__((noinline)) int start_queued(struct tutti_comm *c, const struct op *op, struct recipe *p,
                                                  struct tutti_request **req)
{
	int was = cancel_disable();
	return cancel_restore(was, enqueue_new(c, op, p, req));
}

int request_start(struct tutti_comm *c, const struct op *op, struct recipe *p, struct tutti_request **req)
{
	int rc = alarmed(c);
	if (rc)
		return rc;
	if (req || group.depth || atomic_load_explicit(&c->job.queued, memory_order_acquire)) /* A12 */
		return start_queued(c, op, p, req);
	if (p->kind == RUN_DIRECT && c->direct_is_ready)
		return run_direct(c, op, p) ? TUTTI_OK : go_on_here(c, op, p);
	return start_here(c, op, p);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------------------- */

/* A finished request's status, with its text as the thread's message. Its communicator may be gone by now. */
static int outcome(const struct tutti_request *r)
{
	return r->status ? fail(r->status, "%s", r->why ? r->why : "out of memory") : TUTTI_OK;
}

static int finish(struct tutti_request **at)
{
	struct tutti_request *r = *at;
	int status = outcome(r);
	let_go(r);
	*at = NULL;
	free(r->why);
	free(r);
	return status;
}

static bool is_done(const struct tutti_request *r)
{
	return !r || atomic_load_explicit(&r->done, memory_order_acquire); /* A10 */
}

/* Moves the communicators of a request's world, its own one first. */
static bool move_world_of(struct tutti_request *r)
{
	return comm_progress(r->comm) || progress_others(&r->comm->world->progress, &r->comm->job);
}

/* The worlds of all requests that are not done: more than one only where a process plays several ranks. */
static bool move_for(struct tutti_request **reqs, int n)
{
	struct world *last = NULL;
	bool moved = false;
	for (int i = 0; i < n; i++) {
		if (is_done(reqs[i]) || reqs[i]->comm->world == last)
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
		if (reqs[i] && is_done(reqs[i]))
			return reqs[i];
		if (reqs[i])
			*open = reqs[i];
	}
	return NULL;
}

/* Each request is looked at until it is done and then no more, so that the wait takes as long as what it waits for. */
int request_wait(struct tutti_request **reqs, int n, bool any)
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
		while (!is_done(reqs[i]))
			look(&w, reqs[i], reqs, n, one_world);
		wait_moved(&w); /* perhaps by another thread */
	}
	int rc = TUTTI_OK;
	for (int i = 0; i < n; i++) {
		int status = reqs[i] ? finish(&reqs[i]) : TUTTI_OK;
		rc = rc ? rc : status;
	}
	return rc;
}

/* A loop of tests on a crowded host must not keep the core from the rank that it waits for. */
int request_test(struct tutti_request **req, int *done)
{
	if (!is_done(*req) && !move_world_of(*req) && wait_crowded(&(*req)->comm->world->wait))
		sched_yield();
	*done = is_done(*req);
	return *req && *done ? finish(req) : TUTTI_OK;
}

/*
 * A team: whoever holds the communicator's lock moves the run and shares out what is long, the others help. All leave when
 * the request is done (or the communicator has failed).
 */
int request_work(struct tutti_request *r)
{
	if (is_done(r))
		return outcome(r);
	struct tutti_comm *c = r->comm;
	struct waiter w;
	wait_begin(&w, &c->site);
	crew_enter(&c->crew);
	while (!is_done(r)) {
		if (crew_help(&c->crew) || comm_progress(c))
			wait_moved(&w);
		else
			(void)wait_step(&w);
	}
	crew_leave(&c->crew);
	return outcome(r);
}

void group_begin(void)
{
	group.depth++;
}

int group_end(void)
{
	if (group.depth == 0)
		return fail(TUTTI_EUSAGE, "tutti_group_end without tutti_group_begin in this thread");
	if (--group.depth)
		return TUTTI_OK;
	int done = request_wait(group.req, group.n, false), started = group.rc;
	free(group.req);
	memset(&group, 0, sizeof(group));
	return started ? started : done;
}

/* ---- sleeping in the caller's own loop --------------------------------------------------------------------------------------- */

/*
 * Networks are in the world's queue of events. Memory cannot make a descriptor readable, nor can another thread that
 * finishes a request, so a timer ticks each millisecond while the owner has requests to finish, and only then.
 */
static int make_fd(struct tutti_comm *c)
{
	int fd = fd_keep(os_queue_open()), timer = fd_keep(os_timer_open());
	if (fd < 0 || timer < 0 || os_queue_watch(fd, timer, 0, OS_READ, 0) < 0) {
		(void)fail_errno("make a descriptor for poll loops");
		fd_close(fd);
		fd_close(timer);
		return -1;
	}
	if (c->world->wait.queue >= 0)
		(void)os_queue_watch(fd, c->world->wait.queue, 0, OS_READ, 0);
	c->timer = timer;
	if (c->open)
		arm_timer(c, true);
	return fd;
}

int comm_fd(struct tutti_comm *c)
{
	comm_lock(c);
	if (c->fd < 0)
		c->fd = make_fd(c);
	comm_unlock(c);
	return c->fd;
}

void comm_look(struct tutti_comm *c)
{
	(void)comm_progress(c);
	(void)progress_others(&c->world->progress, &c->job);
	(void)world_pump(
	        c->world); /* also what came early for calls that are not made yet: it keeps the descriptor readable */
}
