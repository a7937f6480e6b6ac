/* SPDX-License-Identifier: MIT */
/* Communicators made of others. See split.h. */
#include "split.h"

#include <stdio.h>
#include <stdlib.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "../util/float_env.h"
#include "call.h"
#include "comm.h"
#include "finish.h"

struct seat {
	int32_t color, key, rank;
};

static int by_key(const void *a, const void *b)
{
	const struct seat *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Equal on all members: from the parent's id, how many were made of it before, and the color. */
static uint64_t child_id(const struct tutti_comm *c, uint64_t color)
{
	uint64_t h = c->id ^ (color + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)(c->splits + 1) * 0xc2b2ae3d27d4eb4fu;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9u;
	return h ^ h >> 32;
}

static int split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	size_t size = (size_t)(c->size > 0 ? c->size : 1);
	struct seat mine = {color, key, c->rank}, *all = calloc(size, sizeof(*all));
	int *members = calloc(size, sizeof(int));
	struct tutti_request *req = NULL;
	*out = NULL;
	uint64_t id = child_id(c, (uint64_t)(uint32_t)color);
	struct entry *listed = NULL;
	int rc = all && members ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc && color >= 0) /* before another rank can be a member */
		rc = comm_list_member(c->world, id, &listed);
	if (!rc) {
		struct args a = {.coll = COLL_ALLGATHER,
		                 .in = &mine,
		                 .out = all,
		                 .count = sizeof(mine),
		                 .dtype = TUTTI_U8,
		                 .root = -1};
		rc = call_start(c, &a, &req); /* the answer is needed here, also inside a group */
	}
	if (rc || (rc = finish_wait(&req, 1, false)) != TUTTI_OK)
		goto out;
	c->splits++;
	if (color < 0)
		goto out;
	int n = 0, me = -1;
	all[c->rank] = mine;
	for (size_t r = 0; r < size; r++) /* which rank said it, its place says */
		if (all[r].color == color)
			all[n++] = (struct seat){color, all[r].key, (int32_t)r};
	qsort(all, (size_t)n, sizeof(*all), by_key);
	for (int i = 0; i < n; i++) {
		members[i] = c->members[all[i].rank];
		me = all[i].rank == c->rank ? i : me;
	}
	char name[64];
	snprintf(name, sizeof(name), "%.48s/%d", c->name, color);
	struct comm_spec spec = {c->world, id, members, n, me, name, c->timeout, c->progress, listed};
	rc = comm_make(out, &spec);
	listed = NULL;
out:
	comm_delist_member(c->world, listed);
	free(all);
	free(members);
	return rc;
}

int comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	float_env callers = float_env_enter(); /* as start.c does where a communicator is made */
	int rc = split(c, color, key, out);
	float_env_leave(callers);
	return rc;
}

static int shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	int *survivors = calloc((size_t)(c->size > 0 ? c->size : 1), sizeof(int)), n = 0, me = -1;
	uint64_t id = 0;
	*out = NULL;
	if (!survivors)
		return fail(TUTTI_ENOMEM, "out of memory");
	struct net_limit limit = {now_ns() + (uint64_t)(c->world->params.start_timeout * 1e9), NULL};
	int rc = control_shrink(c->control, survivors, &n, &id, limit);
	for (int i = 0; !rc && i < n; i++) {
		me = survivors[i] == c->rank ? i : me;
		survivors[i] = c->members[survivors[i]];
	}
	if (!rc) {
		char name[64];
		snprintf(name, sizeof(name), "%.56s-", c->name);
		struct comm_spec spec = {c->world, id, survivors, n, me, name, c->timeout, c->progress, NULL};
		rc = comm_make(out, &spec);
	}
	free(survivors);
	return rc;
}

int comm_shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	float_env callers = float_env_enter();
	world_making(c->world, true);
	int rc = shrink(c, out);
	world_making(c->world, false);
	float_env_leave(callers);
	return rc;
}
