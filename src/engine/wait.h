/* SPDX-License-Identifier: MIT */
/*
 * Waiting: one function, one way. A loop that finds nothing to do calls wait_step; it spins, then yields, then sleeps,
 * and every so often looks at the alarm, the clock and the deadline. So no wait is for ever and none is silent.
 *
 *     struct waiter w;
 *     wait_begin(&w, &site);
 *     while (!done()) {
 *             if (moved())
 *                     wait_moved(&w);
 *             else if ((rc = wait_step(&w)))
 *                     return rc;
 *     }
 *
 * Who spins on a core that others need keeps them from what it waits for. With more ranks than cores of a host that is known from
 * the start (crowded). But ranks may share a core and not know it: bound by hand, by a cpuset, in containers. The wait finds out
 * by itself: when it has spun for long and yields, and the kernel counts that another thread got the core, for a short time as
 * a rank takes it that waits in turn, the rank yields at once from then on (learned). Every 64 yields it asks the kernel again,
 * and spins as before when the core was its own meanwhile; or at once when somebody kept the core for long, who is no rank that
 * waits.
 */
#ifndef TUTTI_WAIT_H
#define TUTTI_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct alarm;

enum wait_mode { WAIT_AUTO, WAIT_SPIN, WAIT_YIELD, WAIT_SLEEP };

/** How this rank waits: all but what it learns is fixed when its world is made. */
struct wait_policy {
	enum wait_mode mode;
	_Atomic bool crowded;   /* yield at once: more ranks than cores on this host, WAIT_YIELD, or learned. A hint */
	_Atomic bool learned;   /* it is crowded by what the wait has seen: it may be over */
	_Atomic uint32_t *bell; /* own sleep word, rung by peers in memory; never NULL */
	int queue;              /* of events (os.h): readable when a network transport has something; -1: none */
	bool mixed;             /* also linked through memory, which cannot end a wait for events: sleep for short */
	bool polled;            /* a network transport has no descriptor: what it brings is only found by looking */
};

/** What a waiting rank watches, and whom it tells. */
struct wait_site {
	struct wait_policy *how;
	struct alarm *alarm;
	uint64_t timeout_ns;
	void *ctx;
	void (*slow)(void *ctx, uint64_t waited_ns); /* at 50 ms, then every 250 ms */
	void (*late)(void *ctx, uint64_t waited_ns); /* the deadline passed: must raise the alarm */
};

struct waiter {
	const struct wait_site *site;
	uint64_t since_ns, report_ns; /* 0 until the wait has turned out not to be short */
	uint32_t idle;                /* steps since something moved */
	bool armed;
};

static inline void wait_begin(struct waiter *w, const struct wait_site *site)
{
	*w = (struct waiter){.site = site};
}

/** Something moved: be quick again. Deadlines count from here: they are about silence, not about long work. */
static inline void wait_moved(struct waiter *w)
{
	w->idle = 0;
	w->since_ns = 0;
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

/** TUTTI_OK: look again. Otherwise the alarm's status. */
int wait_slow(struct waiter *w);
/** The alarm, the reports and the deadline without waiting: for callers that only look. */
int wait_look(struct waiter *w);

static inline bool wait_crowded(const struct wait_policy *how)
{
	return atomic_load_explicit(&how->crowded, memory_order_relaxed);
}

#define WAIT_EAGER 32 /* first looks follow each other at once: a pause is as long as a cache line takes */
#define WAIT_SPINS 96
static inline int wait_step(struct waiter *w)
{
	if (++w->idle < WAIT_SPINS && !wait_crowded(w->site->how)) {
		if (w->idle > WAIT_EAGER)
			cpu_pause();
		return 0;
	}
	return wait_slow(w);
}

#endif
