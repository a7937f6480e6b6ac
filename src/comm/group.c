/* SPDX-License-Identifier: MIT */
/* A thread's group of calls. See group.h. */
#include "group.h"

#include <stdlib.h>

#include "../util/error.h"
#include "finish.h"

_Thread_local __attribute__((tls_model("initial-exec"))) struct group group_own;

int group_room(void)
{
	if (group_own.n < group_own.cap)
		return TUTTI_OK;
	int cap = group_own.cap ? 2 * group_own.cap : 16;
	struct tutti_request **more = realloc(group_own.req, (size_t)cap * sizeof(*more));
	if (!more)
		return fail(TUTTI_ENOMEM, "out of memory");
	group_own.req = more;
	group_own.cap = cap;
	return TUTTI_OK;
}

void group_add(struct tutti_request *r)
{
	group_own.req[group_own.n++] = r;
}

void group_failed(int rc)
{
	if (group_own.depth && !group_own.rc)
		group_own.rc = rc;
}

void group_begin(void)
{
	group_own.depth++;
}

int group_end(void)
{
	if (group_own.depth == 0)
		return fail(TUTTI_EUSAGE, "tutti_group_end without tutti_group_begin in this thread");
	if (--group_own.depth)
		return TUTTI_OK;
	int done = finish_wait(group_own.req, group_own.n, false), started = group_own.rc;
	free(group_own.req);
	group_own = (struct group){0};
	return started ? started : done;
}
