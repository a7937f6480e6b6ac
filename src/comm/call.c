/* A call, from its arguments to its end or into the queue. See call.h. */
#include "call.h"

#include <stdlib.h>

#include "../util/cancel.h"
#include "../util/error.h"
#include "comm.h"
#include "finish.h"
#include "group.h"

/* The first to see the alarm dumps the recorder. */
static __attribute__((noinline)) int heed(struct tutti_comm *c, int status)
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

int call_alarmed(struct tutti_comm *c)
{
	return alarmed(c);
}

void call_ended(struct tutti_comm *c, const struct tutti_request *r)
{
	if (request_is_message(r))
		flight_message_done(&c->flight);
	else
		flight_finish(&c->flight, r->number);
}

/* ---- on the caller's stack --------------------------------------------------------------------------------------------- */

/* Until the call has ended, or the communicator. */
static __attribute__((noinline)) int wait_here(struct tutti_comm *c, struct tutti_request *r)
{
	struct waiter w;
	int was = cancel_disable();
	wait_begin(&w, &c->site);
	c->message = request_is_message(r) ? r : NULL;
	for (;;) {
		enum advance a = request_advance(c, r);
		if (a == ADVANCE_DONE)
			break;
		if (a == ADVANCE_FAILED) {
			request_raise(c, r, r->status);
			break;
		}
		if (a == ADVANCE_MOVED)
			wait_moved(&w);
		else if (progress_others(&c->world->progress, &c->queue.job)
		                 ? wait_look(&w) /* others' moves are not this one's */
		                 : wait_step(&w))
			break;
	}
	bool finished = request_finished(r);
	c->message = NULL;
	if (finished)
		call_ended(c, r);
	request_release(r);
	return cancel_restore(was, finished ? TUTTI_OK : alarmed(c));
}

/*
 * What the peers of a direct call wait for is published before anything is written down. As a rule they come soon: a few looks
 * follow, before it becomes a wait like any other.
 */
static inline bool done_at_once(struct tutti_comm *c, struct tutti_request *r)
{
	enum advance a = direct_advance(c->direct, &r->direct);
	flight_start(&c->flight, &r->prepared->record, r->number);
	for (int i = 0; a < ADVANCE_DONE && i < WAIT_EAGER && !wait_crowded(c->site.how); i++)
		a = direct_advance(c->direct, &r->direct);
	if (a == ADVANCE_DONE)
		flight_finish(&c->flight, r->number);
	return a == ADVANCE_DONE;
}

static uint64_t *counter_of(struct tutti_comm *c, const struct args *a)
{
	return is_message(a->coll) ? &c->p2p[2 * a->root + (a->coll == COLL_RECV)] : &c->number;
}

/* The call counts from here on. */
static void begin(struct tutti_comm *c, struct tutti_request *r)
{
	++*counter_of(c, &r->prepared->args);
	if (r->prepared->kind == RUN_COPY) {
		struct args a = request_args(r);
		args_copy(&a);
	}
	if (!request_is_message(r))
		flight_start(&c->flight, &r->prepared->record, r->number);
}

static __attribute__((noinline)) int run_here(struct tutti_comm *c, const struct args *a, const struct prepared *p)
{
	if (p->kind == RUN_SELF)
		return fail(TUTTI_EINVAL,
		            "tutti_%s with oneself would block for ever: the other end is not in flight; use a group "
		            "or a request",
		            coll_name(a->coll));
	struct tutti_request here = request_of(c, p, a->in, a->out, *counter_of(c, a) + 1);
	begin(c, &here);
	return wait_here(c, &here);
}

static inline int run_direct_here(struct tutti_comm *c, const struct args *a, const struct prepared *p)
{
	struct tutti_request here = request_of(c, p, a->in, a->out, ++c->number);
	return done_at_once(c, &here) ? TUTTI_OK : wait_here(c, &here);
}

/* ---- into the queue ---------------------------------------------------------------------------------------------------- */

static int enqueue(struct tutti_comm *c, const struct args *a, const struct prepared *p, struct tutti_request **req)
{
	bool in_group = !req && group_is_open();
	struct tutti_request *r = malloc(sizeof(*r));
	int rc = !r ? fail(TUTTI_ENOMEM, "out of memory") : in_group ? group_room() : TUTTI_OK;
	if (rc) {
		free(r);
		return rc;
	}
	*r = request_of(c, p, a->in, a->out, *counter_of(c, a) + 1);
	begin(c, r);
	if (in_group)
		group_add(r);
	queue_add(c, r);
	if (req) {
		*req = r;
		(void)queue_move(c);
		return TUTTI_OK;
	}
	return in_group ? TUTTI_OK : finish_wait(&r, 1, false);
}

static __attribute__((noinline)) int run_queued(struct tutti_comm *c, const struct args *a, const struct prepared *p,
                                                struct tutti_request **req)
{
	int was = cancel_disable();
	return cancel_restore(was, enqueue(c, a, p, req));
}

/* ---- both -------------------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) int refuse(const struct args *a, int rc)
{
	return fail_while(rc, "tutti_%s%s", coll_name(a->coll), a->parts ? "v" : "");
}

int call(struct tutti_comm *c, const struct args *a, struct tutti_request **req)
{
	const struct prepared *p;
	int rc = prepared_of(c, &c->prepared, a, &p);
	if (!rc)
		rc = args_check_buffers(a, &p->touches);
	if (rc)
		return refuse(a, rc);
	if ((rc = alarmed(c)) != TUTTI_OK)
		return rc;
	if (req || group_is_open() || queue_length(&c->queue))
		return run_queued(c, a, p, req);
	return p->kind == RUN_DIRECT && c->direct_is_ready ? run_direct_here(c, a, p) : run_here(c, a, p);
}
