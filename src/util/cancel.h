/* SPDX-License-Identifier: MIT */
/*
 * Cancellation of threads (pthread_cancel). A thread that is cancelled in a call never returns from it: the locks that it holds
 * stay locked, and its part of a collective is never done. So public calls disable cancellation, and it acts at the caller's next
 * cancellation point instead. The only code that runs without this is what a small call in shared memory does while it does
 * not wait: it reaches no cancellation point, except where it commits memory, and disables cancellation there.
 *
 *     int was = cancel_disable();
 *     return cancel_restore(was, what_may_block());
 *
 * Pairs nest. The library's own threads are never cancelled: no other code knows them.
 */
#ifndef TUTTI_CANCEL_H
#define TUTTI_CANCEL_H

#include <pthread.h>

/** Returns the state to restore. */
static inline int cancel_disable(void)
{
	int was = PTHREAD_CANCEL_ENABLE;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
	return was;
}

/** Returns rc. */
static inline int cancel_restore(int was, int rc)
{
	(void)pthread_setcancelstate(was, &was);
	return rc;
}

#endif
