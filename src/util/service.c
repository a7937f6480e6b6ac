/* SPDX-License-Identifier: MIT */
/*
 * The service thread, see service.h. One lock guards everything but the thread's life; callbacks run with it held. A
 * watch is known by its descriptor and a generation, which travels with each event: an event that was fetched before
 * its watch went away finds another generation and is dropped.
 *
 * The thread is woken by arming an event that is always ready. That writes to no descriptor, and it fails when one of the two
 * is no longer what it was: an application that closes descriptors that it did not open is found out by it.
 */
#include "service.h"
#include "../os/os.h"
#include "clock.h"
#include "error.h"
#include "fd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

struct watch {
	service_fn *fn; /* NULL: not watched */
	void *arg;
	uint32_t generation;
	unsigned events;
};

struct timer {
	uint64_t due;
	service_timer_fn *fn;
	void *arg;
	struct timer *next;
};

unsigned service_forks;

/* Guards users, thread and the descriptors' making and closing; taken before the lock. */
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock;
static pthread_t thread;
static int users, queue_fd = -1, wake_fd = -1;

/* Guarded by the lock. */
static bool ending, lost; /* lost: the descriptors are not ours any more */
static service_loss_fn *on_loss;
static struct watch *watches; /* by descriptor */
static size_t nwatches;
static struct timer *timers;  /* earliest first */
static uint64_t asleep_until; /* the due time the thread sleeps for */

static void make_lock(void)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

static void close_descriptors(void)
{
	fd_close(queue_fd);
	fd_close(wake_fd);
	queue_fd = wake_fd = -1;
}

/*
 * The child has no service thread, and another thread may have held the locks. The queue of events is one with the
 * parent's, so it is closed and not changed. What the parent's watches and timers refer to is not ours to free.
 */
static void after_fork(void)
{
	service_forks++;
	pthread_mutex_init(&life, NULL);
	make_lock();
	close_descriptors();
	users = 0;
	watches = NULL;
	nwatches = 0;
	timers = NULL;
}

static void first_use(void)
{
	make_lock();
	pthread_atfork(NULL, NULL, after_fork);
}

void service_lock(void)
{
	pthread_once(&once, first_use);
	pthread_mutex_lock(&lock);
}

bool service_lock_until(uint64_t until)
{
	pthread_once(&once, first_use);
	while (pthread_mutex_trylock(&lock) != 0) {
		if (now_ns() >= until)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return true;
}

void service_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static void lose(void)
{
	if (lost || ending)
		return;
	lost = true;
	if (on_loss)
		on_loss();
}

/* Arms the event once more; false: it is not there. */
static bool wake(void)
{
	const unsigned armed = OS_READ | OS_ONCE;

	if (!lost && os_queue_watch(queue_fd, wake_fd, armed, armed, (uint32_t)wake_fd) == 0)
		return true;
	lose();
	return false;
}

bool service_check(void)
{
	return wake();
}

void service_on_loss(service_loss_fn *fn)
{
	on_loss = fn;
}

/* ---- watches ----------------------------------------------------------------------------------------------------- */

static int watch_for(int fd, unsigned events)
{
	struct watch *w = &watches[fd];

	if (os_queue_watch(queue_fd, fd, w->events, events, (uint64_t)w->generation << 32 | (uint32_t)fd) < 0)
		return fail_errno("can't watch a connection (descriptor %d)", fd);
	w->events = events;
	return TUTTI_OK;
}

static int make_room(size_t fd)
{
	size_t want = nwatches ? nwatches : 64;
	struct watch *grown;

	if (fd < nwatches)
		return TUTTI_OK;
	while (want <= fd)
		want *= 2;
	grown = realloc(watches, want * sizeof(*grown));
	if (!grown)
		return fail(TUTTI_ENOMEM, "no memory to watch another connection");
	memset(grown + nwatches, 0, (want - nwatches) * sizeof(*grown));
	watches = grown;
	nwatches = want;
	return TUTTI_OK;
}

int service_watch(int fd, unsigned events, service_fn *fn, void *arg)
{
	int rc = service_check() ? make_room((size_t)fd)
	                         : fail(TUTTI_ESYSTEM, "the service thread's descriptors were closed");

	if (rc == TUTTI_OK) {
		watches[fd].events = 0;
		rc = watch_for(fd, events);
	}
	if (rc == TUTTI_OK) {
		watches[fd].fn = fn;
		watches[fd].arg = arg;
	}
	return rc;
}

int service_rewatch(int fd, unsigned events)
{
	return watch_for(fd, events);
}

void service_unwatch(int fd)
{
	if (fd < 0 || (size_t)fd >= nwatches || !watches[fd].fn)
		return;
	(void)os_queue_watch(queue_fd, fd, watches[fd].events, 0, 0);
	watches[fd].events = 0;
	watches[fd].fn = NULL;
	watches[fd].generation++;
}

/* ---- timers ------------------------------------------------------------------------------------------------------ */

int service_at(uint64_t due, service_timer_fn *fn, void *arg)
{
	struct timer *t = malloc(sizeof(*t)), **at = &timers;

	if (!t)
		return fail(TUTTI_ENOMEM, "no memory for a timer");
	*t = (struct timer){.due = due, .fn = fn, .arg = arg};
	while (*at && (*at)->due <= due)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	if (due < asleep_until)
		(void)wake();
	return TUTTI_OK;
}

void service_cancel(service_timer_fn *fn, void *arg)
{
	for (struct timer **at = &timers; *at;) {
		struct timer *t = *at;
		if (t->fn != fn || t->arg != arg) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		free(t);
	}
}

/* Runs those that were due at the start: a timer that sets itself again at once doesn't keep the others waiting. */
static void run_timers(void)
{
	uint64_t now = now_ns();

	while (timers && timers->due <= now) {
		struct timer t = *timers;
		free(timers);
		timers = t.next;
		t.fn(t.arg);
	}
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

/* Rounded up: waking a little early would only mean to sleep again. */
static int sleep_ms(uint64_t until)
{
	uint64_t now = now_ns(), ms;

	if (until == UINT64_MAX)
		return -1;
	if (until <= now)
		return 0;
	ms = (until - now + 999999) / 1000000;
	return ms > 3600000 ? 3600000 : (int)ms;
}

static void dispatch(const struct os_ready *r)
{
	uint32_t fd = (uint32_t)r->tag, generation = (uint32_t)(r->tag >> 32);

	if ((int)fd != wake_fd && watches[fd].fn && watches[fd].generation == generation)
		watches[fd].fn(watches[fd].arg, (int)fd, r->events);
}

/* Closing a descriptor does not wake a thread that waits on it: stop() cancels the wait in this case. */
static int sleep_in_queue(struct os_ready *ready, int ms)
{
	int n, state;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	n = os_queue_wait(queue_fd, ready, BATCH, ms);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return n;
}

static void *run(void *arg)
{
	struct os_ready ready[BATCH];
	int state;

	(void)arg;
	os_thread_name("tutti-service");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	service_lock();
	while (!ending && !lost) {
		int n;
		asleep_until = timers ? timers->due : UINT64_MAX;
		n = sleep_ms(asleep_until);
		service_unlock();
		n = sleep_in_queue(ready, n);
		service_lock();
		asleep_until = 0;
		if (n < 0)
			lose();
		for (int i = 0; i < n; i++)
			dispatch(&ready[i]);
		run_timers();
	}
	service_unlock();
	return NULL;
}

static int start_thread(void)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		errno = error;
		return fail_errno("can't start the service thread");
	}
	return TUTTI_OK;
}

static int start(void)
{
	int rc;

	ending = lost = false;
	queue_fd = fd_keep(os_queue_open());
	wake_fd = fd_keep(os_event_open());
	if (wake_fd >= 0)
		os_event_raise(wake_fd);
	if (queue_fd < 0 || wake_fd < 0 ||
	    os_queue_watch(queue_fd, wake_fd, 0, OS_READ | OS_ONCE, (uint32_t)wake_fd) < 0)
		rc = fail_errno("can't make the service thread's queue of events");
	else
		rc = start_thread();
	if (rc != TUTTI_OK)
		close_descriptors();
	return rc;
}

static void stop(void)
{
	service_lock();
	ending = true;
	if (!wake())
		(void)pthread_cancel(thread);
	service_unlock();
	pthread_join(thread, NULL);
	close_descriptors();
	while (timers) {
		struct timer *t = timers;
		timers = t->next;
		free(t);
	}
	free(watches);
	watches = NULL;
	nwatches = 0;
}

int service_acquire(void)
{
	int rc = TUTTI_OK;

	pthread_once(&once, first_use);
	pthread_mutex_lock(&life);
	if (users == 0)
		rc = start();
	users += rc == TUTTI_OK;
	pthread_mutex_unlock(&life);
	return rc;
}

void service_release(void)
{
	pthread_mutex_lock(&life);
	if (users > 0 && --users == 0)
		stop();
	pthread_mutex_unlock(&life);
}
