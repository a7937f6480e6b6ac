/* SPDX-License-Identifier: MIT */
/* What a wait tells: after 50 ms that this rank waits, and in what; at the deadline that somebody is late. */
#ifndef TUTTI_LATE_H
#define TUTTI_LATE_H

struct tutti_comm;

/** Sets up the sites of waits without and with the communicator's lock. */
void late_open(struct tutti_comm *c);

#endif
