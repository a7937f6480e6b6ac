/* SPDX-License-Identifier: MIT */
/* What a wait tells. See late.h. */
#include "late.h"

#include "comm.h"

/*
 * The collective that this rank is in: they end in issue order, so it is the one after the last that ended, however many
 * were issued since. 0: none.
 */
static uint64_t current_call(struct tutti_comm *c)
{
	uint64_t finished = atomic_load_explicit(&c->flight.finished, memory_order_relaxed);
	return atomic_load_explicit(&c->flight.started, memory_order_relaxed) > finished ? finished + 1 : 0;
}

/* The message that this rank waits in, with the lock held. false: none. */
static bool current_message(struct tutti_comm *c, struct call *record)
{
	const struct tutti_request *r = c->message ? c->message : queue_message(&c->queue);
	if (r)
		*record = request_record(r);
	return r != NULL;
}

static void report_slow_locked(void *ctx, uint64_t waited_ns)
{
	struct tutti_comm *c = ctx;
	struct call message;
	uint64_t number = current_call(c);
	world_look(c->world);
	if (number)
		control_waiting(c->control, number, waited_ns);
	else if (current_message(c, &message))
		control_waiting_message(c->control, &message, waited_ns);
}

/* What has ended meanwhile, by another thread, is not late. */
static void report_late_locked(void *ctx, uint64_t waited_ns)
{
	struct tutti_comm *c = ctx;
	struct call message;
	uint64_t number = current_call(c);
	if (number)
		control_deadline(c->control, number, (double)waited_ns * 1e-9);
	else if (current_message(c, &message))
		control_deadline_message(c->control, &message, (double)waited_ns * 1e-9);
}

static void report_slow(void *ctx, uint64_t waited_ns)
{
	comm_lock(ctx);
	report_slow_locked(ctx, waited_ns);
	comm_unlock(ctx);
}

static void report_late(void *ctx, uint64_t waited_ns)
{
	comm_lock(ctx);
	report_late_locked(ctx, waited_ns);
	comm_unlock(ctx);
}

void late_open(struct tutti_comm *c)
{
	c->site = (struct wait_site){&c->world->wait, &c->alarm,  (uint64_t)(c->timeout * 1e9), c,
	                             report_slow,     report_late};
	c->site_locked = c->site;
	c->site_locked.slow = report_slow_locked;
	c->site_locked.late = report_late_locked;
}
