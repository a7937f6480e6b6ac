/* SPDX-License-Identifier: MIT */
/* The list of jobs, and the progress thread. See progress.h. */
#include "progress.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "../util/alarm.h"
#include "../util/error.h"

void progress_open(struct progress *p, struct wait_policy *how)
{
	*p = (struct progress){.how = how};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
}

static bool has_work(const struct progress_job *job)
{
	return atomic_load_explicit(&job->queued, memory_order_acquire) != 0; /* A12 */
}

/* With the lock held. */
static bool move_all(struct progress *p, const struct progress_job *but)
{
	bool moved = false;
	for (struct progress_job *job = p->jobs; job; job = job->next)
		if (job != but && has_work(job))
			moved |= job->move(job);
	return moved;
}

bool progress_others_now(struct progress *p, const struct progress_job *but)
{
	if (pthread_mutex_trylock(&p->lock) != 0)
		return false;
	bool moved = move_all(p, but);
	pthread_mutex_unlock(&p->lock);
	return moved;
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static bool any_work(const struct progress *p)
{
	const struct progress_job *job = p->jobs;
	while (job && !has_work(job))
		job = job->next;
	return job != NULL;
}

static void nothing_to_say(void *ctx, uint64_t waited_ns)
{
	(void)ctx;
	(void)waited_ns;
}

/*
 * Asleep while nothing is queued. It gives up the lock between two rounds, so that others get in. It has no deadline: each job
 * watches its own when it is moved.
 */
static void *drive(void *arg)
{
	struct progress *p = arg;
	struct alarm none = {0};
	struct wait_site site = {p->how, &none, UINT64_MAX, NULL, nothing_to_say, nothing_to_say};
	struct waiter wait;
	wait_begin(&wait, &site);
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (!any_work(p)) {
			pthread_cond_wait(&p->work, &p->lock);
			wait_begin(&wait, &site);
			continue;
		}
		bool moved = move_all(p, NULL);
		pthread_mutex_unlock(&p->lock);
		if (moved)
			wait_moved(&wait);
		else
			(void)wait_step(&wait);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are for the application's threads. */
static int start_thread(struct progress *p)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&p->thread, NULL, drive, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	atomic_store_explicit(&p->threaded, rc == 0, memory_order_relaxed);
	errno = rc;
	return rc ? fail_errno("start the progress thread") : TUTTI_OK;
}

void progress_close(struct progress *p)
{
	if (!atomic_load_explicit(&p->threaded, memory_order_relaxed))
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
}

void progress_wake(struct progress *p)
{
	/* the job's own thread set it, or set it so early that it makes no difference */
	if (!atomic_load_explicit(&p->threaded, memory_order_relaxed))
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

/* ---- the list -------------------------------------------------------------------------------------------------------- */

int progress_add(struct progress *p, struct progress_job *job, bool threaded)
{
	pthread_mutex_lock(&p->lock);
	job->next = p->jobs;
	p->jobs = job;
	atomic_fetch_add_explicit(&p->njobs, 1, memory_order_relaxed);
	bool runs = atomic_load_explicit(&p->threaded, memory_order_relaxed);
	int rc = threaded && !runs ? start_thread(p) : TUTTI_OK;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void progress_remove(struct progress *p, struct progress_job *job)
{
	pthread_mutex_lock(&p->lock);
	for (struct progress_job **at = &p->jobs; *at; at = &(*at)->next)
		if (*at == job) {
			*at = job->next;
			atomic_fetch_sub_explicit(&p->njobs, 1, memory_order_relaxed);
			break;
		}
	pthread_mutex_unlock(&p->lock);
}
