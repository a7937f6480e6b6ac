/*
 * The slow part of waiting. A rank sleeps on its bell (a futex word in the memory that its peers see) or, when a network
 * transport is in use, in epoll. Sleeps are short, 1 ms growing to 20: a peer that publishes at the very moment when the
 * bell is set may miss it, which then costs one tick and never a hang.
 */
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"
#include "link.h"
#include "util/clock.h"

#define SPIN_NS      20000u   /* spin before the first yield */
#define YIELD_NS     2000000u /* yield before the first sleep; after a pause in work another rank's work is near */
#define REPORT_FIRST 50000000u
#define REPORT_EVERY 250000000u

void bell_ring(_Atomic uint32_t *bell)
{
	if (atomic_exchange_explicit(bell, 0, memory_order_acq_rel)) /* R14: one ringer wakes */
		syscall(SYS_futex, bell, FUTEX_WAKE, 64, NULL, NULL, 0);
}

static void sleep_on_bell(_Atomic uint32_t *bell, uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	syscall(SYS_futex, bell, FUTEX_WAIT, 1, &t, NULL, 0);
	atomic_store_explicit(bell, 0, memory_order_relaxed);
}

static void sleep_some(struct wait *w, uint64_t waited)
{
	const struct wait_policy_of *how = w->site->how;
	uint64_t ns = waited / 8;
	ns = ns < 1000000u ? 1000000u : ns > 20000000u ? 20000000u : ns;
	if (how->polled)
		ns = 1000000u;
	if (how->epoll >= 0) {
		struct epoll_event e;
		(void)epoll_wait(how->epoll, &e, 1, how->mixed ? 1 : (int)(ns / 1000000u));
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
static int watch(struct wait *w, uint64_t *silent)
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

int wait_look(struct wait *w)
{
	uint64_t silent;
	return watch(w, &silent);
}

int wait_slow(struct wait *w)
{
	const struct wait_policy_of *how = w->site->how;
	int status = atomic_load_explicit(&w->site->alarm->status, memory_order_acquire); /* A5 */
	if (status)
		return status;
	if (how->crowded && w->idle < WAIT_SPINS * 4) {
		sched_yield();
		return 0;
	}
	if (!how->crowded && w->idle % 16) {
		cpu_pause();
		return 0;
	}
	uint64_t silent;
	if ((status = watch(w, &silent)))
		return status;
	if (how->policy == WAIT_SPIN || (!how->crowded && silent < SPIN_NS && how->policy == WAIT_AUTO))
		cpu_pause();
	else if (how->policy == WAIT_YIELD || (silent < YIELD_NS && how->policy == WAIT_AUTO))
		sched_yield();
	else
		sleep_some(w, silent);
	return 0;
}
