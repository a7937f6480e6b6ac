/* SPDX-License-Identifier: MIT */
/*
 * A call, from its arguments to its end or into the queue. A blocking call on an idle communicator runs on the caller's stack,
 * without queue or lock.
 */
#ifndef TUTTI_CALL_H
#define TUTTI_CALL_H

#include "args.h"

struct tutti_comm;

/**
 * Checks a call and starts it: blocks, or queues it and fills *req, or, in a group, leaves it to the group's end. EINVAL: nothing
 * has happened.
 */
int call_start(struct tutti_comm *c, const struct args *a, struct tutti_request **req);

#endif
