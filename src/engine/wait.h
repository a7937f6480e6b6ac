/* SPDX-License-Identifier: MIT */
/*
 * Waiting: one function, one way. A loop that finds nothing to do calls wait_step. It spins, then yields, then sleeps,
 * and regularly checks the alarm, the clock and the deadline. So no wait lasts for ever, and none ends silently.
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
 * A rank that spins on a core that others need delays the very ranks that it waits for. If a host has more ranks than
 * cores, this is known from the start (crowded). But ranks may also share a core without knowing it: bound by hand, by
 * a cpuset, in containers. The wait detects this. It spins for long, yields, and asks the kernel whether another thread
 * got the core. If that was for a short time, as a waiting rank takes it, this rank yields at once from then on
 * (learned). Every 64 yields it asks the kernel again, and spins as before if it had the core to itself in the
 * meantime. It also does so at once if another thread kept the core for long, because that is not a waiting rank.
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
	bool polled;            /* a network transport has no descriptor: its data is only found by polling */
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

/** TUTTI_OK: poll again. Otherwise the alarm's status. */
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
