/* SPDX-License-Identifier: MIT */
/*
 * A team: threads that a rank keeps beside its own, as an engine keeps its compute threads, to work on calls together
 * with it (tutti_work).
 */
#ifndef PERF_TEAM_H
#define PERF_TEAM_H

#include "tutti.h"

struct team;

/** A team of `size` threads, the caller's own among them; NULL: it can't be had. */
struct team *team_open(int size);
void team_close(struct team *t);

/** All of the team work on the request; the first status that is an error. The request is still to be waited for. */
int team_work(struct team *t, struct tutti_request *req);

#endif
