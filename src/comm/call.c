/* SPDX-License-Identifier: MIT */
/* A call, from its arguments to its end or into the queue. See call.h. */
#include "call.h"

#include <stdlib.h>

#include "../util/cancel.h"
#include "../util/error.h"
#include "comm.h"
#include "finish.h"
#include "group.h"

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
		request_ended(c, r);
	request_release(r);
	return cancel_restore(was, finished ? TUTTI_OK : comm_alarmed(c));
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
		return fail(
		        TUTTI_EINVAL,
		        "tutti_%s with oneself would block for ever: the other end is not in flight; use a group or a request",
		        coll_name(a->coll));
	struct tutti_request here = request_of(c, p, a->in, a->out, *counter_of(c, a) + 1);
	begin(c, &here);
	return wait_here(c, &here);
}

/* A direct call that has begun, as a request. */
static __attribute__((noinline)) int go_on_here(struct tutti_comm *c, const struct prepared *p,
                                                const struct direct_run *x)
{
	struct tutti_request here = request_of(c, p, x->in, x->out, c->number);
	here.direct = *x;
	return wait_here(c, &here);
}

/*
 * What the peers of a direct call wait for is published before anything is written down. As a rule theirs is there, or comes
 * soon: a few looks follow before it becomes a wait like any other.
 */
static inline int run_direct_here(struct tutti_comm *c, const struct args *a, const struct prepared *p)
{
	uint64_t number = ++c->number;
	struct direct_run x = direct_begin(&p->direct, a->in, a->out, call_signature(p->salt, number));
	enum advance got = direct_advance(c->direct, &x);
	flight_start(&c->flight, &p->record, number);
	for (int i = 0; got < ADVANCE_DONE && i < WAIT_EAGER && !wait_crowded(c->site.how); i++)
		got = direct_advance(c->direct, &x);
	if (got != ADVANCE_DONE)
		return go_on_here(c, p, &x);
	flight_finish(&c->flight, number);
	return TUTTI_OK;
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

static __attribute__((noinline)) int refused(struct tutti_comm *c, int rc)
{
	group_failed(rc);
	return comm_keep_error(c, rc);
}

static __attribute__((noinline)) int invalid(struct tutti_comm *c, const struct args *a, int rc)
{
	return refused(c, fail_while(rc, "tutti_%s%s", coll_name(a->coll), a->parts ? "v" : ""));
}

int call_start(struct tutti_comm *c, const struct args *a, struct tutti_request **req)
{
	const struct prepared *p;
	if (req)
		*req = NULL;
	int rc = comm_check(c);
	if (rc)
		return refused(c, rc);
	rc = prepared_of(c, &c->prepared, a, &p);
	if (!rc)
		rc = args_check_buffers(a, &p->touches);
	if (rc)
		return invalid(c, a, rc);
	rc = comm_alarmed(c);
	if (!rc && !req && !group_is_open() && !queue_length(&c->queue))
		rc = p->kind == RUN_DIRECT && c->direct_is_ready ? run_direct_here(c, a, p) : run_here(c, a, p);
	else if (!rc)
		rc = run_queued(c, a, p, req);
	return __builtin_expect(!rc, 1) ? TUTTI_OK : refused(c, rc);
}
