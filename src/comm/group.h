/* SPDX-License-Identifier: MIT */
/* A thread's group, tutti_group_begin to tutti_group_end: its blocking calls are queued, and done when it ends. */
#ifndef TUTTI_GROUP_H
#define TUTTI_GROUP_H

#include <stdbool.h>

struct tutti_request;

/* initial-exec: a few bytes that each call looks at, without asking the dynamic linker where they are */
struct group {
	int depth, n, cap, rc;      /* rc: of the first call that could not start */
	struct tutti_request **req; /* its blocking calls */
};
extern _Thread_local __attribute__((tls_model("initial-exec"))) struct group group_own;

static inline bool group_is_open(void)
{
	return group_own.depth > 0;
}

void group_begin(void);
int group_end(void);
/** Room for one more call, asked for before the call counts. ENOMEM. */
int group_room(void);
/** The call becomes the group's, for which there was room. */
void group_add(struct tutti_request *r);
/** A call inside this thread's group, if there is one, could not start. */
void group_failed(int rc);

#endif
