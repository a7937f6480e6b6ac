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
int call(struct tutti_comm *c, const struct args *a, struct tutti_request **req);

/** The alarm of a communicator has gone off: its status, with its text as the thread's message; or TUTTI_OK. */
int call_alarmed(struct tutti_comm *c);
/** Writes down that a call or a message is over. */
void call_ended(struct tutti_comm *c, const struct tutti_request *r);

#endif
