/* SPDX-License-Identifier: MIT */
/* A thread's group of calls. See group.h. */
#include "group.h"

#include <stdlib.h>

#include "../util/error.h"
#include "finish.h"

_Thread_local __attribute__((tls_model("initial-exec"))) struct group group;

int group_room(void)
{
	if (group.n < group.cap)
		return TUTTI_OK;
	int cap = group.cap ? 2 * group.cap : 16;
	struct tutti_request **more = realloc(group.req, (size_t)cap * sizeof(*more));
	if (!more)
		return fail(TUTTI_ENOMEM, "out of memory");
	group.req = more;
	group.cap = cap;
	return TUTTI_OK;
}

void group_add(struct tutti_request *r)
{
	group.req[group.n++] = r;
}

void group_failed(int rc)
{
	if (group.depth && !group.rc)
		group.rc = rc;
}

void group_begin(void)
{
	group.depth++;
}

int group_end(void)
{
	if (group.depth == 0)
		return fail(TUTTI_EUSAGE, "tutti_group_end without tutti_group_begin in this thread");
	if (--group.depth)
		return TUTTI_OK;
	int done = finish_wait(group.req, group.n, false), started = group.rc;
	free(group.req);
	group = (struct group){0};
	return started ? started : done;
}
