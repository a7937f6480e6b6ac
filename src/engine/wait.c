/* SPDX-License-Identifier: MIT */
/*
 * The slow part of waiting. A rank sleeps on its bell (a word in the memory that its peers see) or, when a network
 * transport is in use, in its queue of events. Sleeps are short, 1 ms growing to 20: a peer that publishes at the very moment when the
 * bell is set may miss it, which then costs one tick and never a hang.
 */
#include "wait.h"

#include <sched.h>

#include "../os/os.h"
#include "../util/alarm.h"
#include "../util/clock.h"
#include "link.h"

#define SPIN_NS      20000u   /* spin before the first yield */
#define YIELD_NS     2000000u /* yield before the first sleep; after a pause in work another rank's work is near */
#define REPORT_FIRST 50000000u
#define REPORT_EVERY 250000000u

#define POLITE_NS 200000u /* a thread that waits in turn gives the core back sooner */
#define RECHECK   64      /* yields */
#define SHARED    8       /* of so many yields as that, in which others got the core */

/* A thread's own core and what the kernel knows of it. */
static _Thread_local struct {
	long switches; /* when it was asked last */
	unsigned yields;
} core;

static void learn(struct wait_policy *how, bool shared)
{
	atomic_store_explicit(&how->learned, shared, memory_order_relaxed);
	atomic_store_explicit(&how->crowded, shared, memory_order_relaxed);
}

/* Spinning did not help: does another waiting thread need this core? */
static void yield_and_look(struct wait_policy *how)
{
	long before = os_preemptions();
	uint64_t begin = now_ns();
	sched_yield();
	if (now_ns() - begin > POLITE_NS || (core.switches = os_preemptions()) == before)
		return;
	core.yields = 0;
	learn(how, true);
}

/* Yields at once because it has learned to: is that still right? */
static void yield_as_learned(struct wait_policy *how)
{
	uint64_t begin = now_ns();
	sched_yield();
	if (now_ns() - begin > POLITE_NS)
		learn(how, false);
	if (++core.yields % RECHECK)
		return;
	long now = os_preemptions();
	if (now - core.switches < SHARED)
		learn(how, false);
	core.switches = now;
}

void bell_ring(_Atomic uint32_t *bell)
{
	if (atomic_exchange_explicit(bell, 0, memory_order_acq_rel)) /* R14: one ringer wakes */
		os_wake(bell, OS_HOST);
}

static void sleep_on_bell(_Atomic uint32_t *bell, uint64_t ns)
{
	os_sleep_on(bell, 1, ns, OS_HOST);
	atomic_store_explicit(bell, 0, memory_order_relaxed);
}

static void sleep_some(struct waiter *w, uint64_t waited)
{
	const struct wait_policy *how = w->site->how;
	uint64_t ns = waited / 8;
	ns = ns < 1000000u ? 1000000u : ns > 20000000u ? 20000000u : ns;
	if (how->polled)
		ns = 1000000u;
	if (how->queue >= 0) {
		struct os_ready r;
		(void)os_queue_wait(how->queue, &r, 1, how->mixed ? 1 : (int)(ns / 1000000u));
		return;
	}
	if (!w->armed) { /* look once more between setting the bell and sleeping */
		atomic_store_explicit(how->bell, 1, memory_order_seq_cst); /* R14 */
		w->armed = true;
		return;
	}
	w->armed = false;
	sleep_on_bell(how->bell, ns);
}

/* Reports silence, and ends it at the deadline. *silent: how long it has lasted. */
static int watch(struct waiter *w, uint64_t *silent)
{
	uint64_t now = now_ns();
	if (!w->since_ns) {
		w->since_ns = now;
		w->report_ns = now + REPORT_FIRST;
	}
	*silent = now - w->since_ns;
	if (now >= w->report_ns) {
		w->report_ns = now + REPORT_EVERY;
		w->site->slow(w->site->ctx, *silent);
	}
	if (*silent >= w->site->timeout_ns)
		w->site->late(w->site->ctx, *silent);
	return atomic_load_explicit(&w->site->alarm->status, memory_order_acquire); /* A5 */
}

int wait_look(struct waiter *w)
{
	uint64_t silent;
	return watch(w, &silent);
}

int wait_slow(struct waiter *w)
{
	struct wait_policy *how = w->site->how;
	bool crowded = wait_crowded(how);
	int status = atomic_load_explicit(&w->site->alarm->status, memory_order_acquire); /* A5 */
	if (status)
		return status;
	if (crowded && w->idle < WAIT_SPINS * 4) {
		if (atomic_load_explicit(&how->learned, memory_order_relaxed))
			yield_as_learned(how);
		else
			sched_yield();
		return 0;
	}
	if (!crowded && w->idle % 16) {
		cpu_pause();
		return 0;
	}
	uint64_t silent;
	if ((status = watch(w, &silent)))
		return status;
	if (how->mode == WAIT_SPIN || (!crowded && silent < SPIN_NS && how->mode == WAIT_AUTO))
		cpu_pause();
	else if (!crowded && silent < YIELD_NS && how->mode == WAIT_AUTO)
		yield_and_look(how);
	else if (how->mode == WAIT_YIELD || (silent < YIELD_NS && how->mode == WAIT_AUTO))
		sched_yield();
	else
		sleep_some(w, silent);
	return 0;
}
