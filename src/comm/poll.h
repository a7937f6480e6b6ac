/* SPDX-License-Identifier: MIT */
/* A communicator in an application's own poll loop: tutti_comm_fd, tutti_progress. */
#ifndef TUTTI_POLL_H
#define TUTTI_POLL_H

#include <stdbool.h>

struct tutti_comm;

struct poll {
	int fd, timer; /* a queue of events, and the timer in it; -1: nobody asked for them */
};

/** The descriptor; -1: it can't be made, as the thread's message says. */
int poll_fd(struct tutti_comm *c);
/** Moves all that can be moved for this rank; afterwards the descriptor is readable for what comes then. */
void poll_look(struct tutti_comm *c);
/** The timer ticks each millisecond while the owner has requests to finish. */
void poll_tick(struct tutti_comm *c, bool on);
/** The tick was seen: the descriptor is not readable again before the next one. */
void poll_seen(struct tutti_comm *c);
/** forked: shared with the parent, whose timer this child must not set. */
void poll_close(struct tutti_comm *c);

#endif
