/* SPDX-License-Identifier: MIT */
/*
 * The service thread: one per process, asleep unless something happens. Doors (accepting and authenticating
 * connections) and the control plane live on it. It blocks all signals.
 *
 * All callbacks run on that thread with the service lock held; other threads take the lock to touch the same state.
 * A callback must not block.
 */
#ifndef TUTTI_SERVICE_H
#define TUTTI_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "../os/os.h"

typedef void service_fn(void *arg, int fd, unsigned events);
typedef void service_timer_fn(void *arg);
typedef void service_loss_fn(void);

/** Starts the thread for the first user, ends it after the last: not from a callback, not with the lock held. */
int service_acquire(void);
void service_release(void);

/** May be nested. */
void service_lock(void);
void service_unlock(void);
/** Gives up at now_ns() time `until`: for the end of the process, when the thread that holds the lock may be gone. */
bool service_lock_until(uint64_t until);

/** With the lock held (callbacks have it). events: OS_READ and OS_WRITE of os.h. */
int service_watch(int fd, unsigned events, service_fn *fn, void *arg);
int service_rewatch(int fd, unsigned events);
/** After this no callback for fd runs any more. Does not close it. */
void service_unwatch(int fd);

/**
 * Are the thread's own descriptors still its own, or has the application closed them? With the lock held. From the first
 * false on nothing is watched any more; the function of service_on_loss was called then, on the thread that found out.
 */
bool service_check(void);
void service_on_loss(service_loss_fn *fn);

/** One-shot timer at now_ns() time `due`; with the lock held. Cancelling takes away all timers of that fn and arg. */
int service_at(uint64_t due, service_timer_fn *fn, void *arg);
void service_cancel(service_timer_fn *fn, void *arg);

/**
 * Grows in a forked child: everything made before the fork is unusable there (EUSAGE). Read with a plain load. Watches,
 * timers and users of the parent are forgotten in the child, which may start afresh: what was made before the fork must
 * not call service_unwatch or service_release there.
 */
extern unsigned service_forks;

#endif
