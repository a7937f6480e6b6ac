/* SPDX-License-Identifier: MIT */
/*
 * Progress: the jobs of a rank that somebody must move, and the thread that moves them where one was asked for. A job is
 * whatever has work queued; a communicator is one. Any thread that waits for one job moves the others meanwhile, so that no
 * rank holds up its peers by waiting for them in another order.
 *
 * Memory order (docs/memory-model.md): R12 something was queued, or is done / A12.
 */
#ifndef TUTTI_PROGRESS_H
#define TUTTI_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../engine/wait.h"

struct progress_job {
	_Atomic int queued; /* what the job has to do; 0: nothing. Its owner counts, under a lock of its own */
	bool (*move)(struct progress_job *job); /* does what can be done without waiting; true: something moved */
	struct progress_job *next;
};

struct progress {
	pthread_mutex_t
	        lock; /* of the list. Held while a job is moved, so a job that is off the list is not in motion */
	struct progress_job *jobs;
	_Atomic int njobs; /* read without the lock, as a hint */
	struct wait_policy *how;
	pthread_t thread;
	_Atomic bool threaded; /* it runs; read without the lock, as a hint */
	bool stop;
	pthread_cond_t work; /* something was queued, or the thread is to stop */
};

void progress_open(struct progress *p, struct wait_policy *how);
/** Ends the thread. All jobs were removed before. Not in a forked child, which has no such thread. */
void progress_close(struct progress *p);

/** From now on the job is moved. threaded: by a thread, too, which the first such job starts; ESYSTEM when that fails. */
int progress_add(struct progress *p, struct progress_job *job, bool threaded);
/** Returns when nobody moves the job any more. A job that was never added is fine. */
void progress_remove(struct progress *p, struct progress_job *job);

/** Something was queued: wakes the thread, if there is one. */
void progress_wake(struct progress *p);

/** Moves all jobs but `but`, unless another thread is at it; true: something moved. */
bool progress_others_now(struct progress *p, const struct progress_job *but);
static inline bool progress_others(struct progress *p, const struct progress_job *but)
{
	return atomic_load_explicit(&p->njobs, memory_order_relaxed) > 1 && progress_others_now(p, but);
}

#endif
