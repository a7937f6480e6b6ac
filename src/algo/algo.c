/* SPDX-License-Identifier: MIT */
/* Algorithms by name; their plans and volumes. */
#include "algo.h"
#include "team.h"

#include <string.h>

const struct algo *algo_by_name(const char *name)
{
	for (const struct algo *const *a = algo_table; *a; a++)
		if (!strcmp((*a)->name, name))
			return *a;
	return NULL;
}

bool algo_serves(const struct algo *algo, const struct plan_args *a)
{
	return algo->colls >> a->coll & 1 && (!algo->can || algo->can(a));
}

/* Alone, every collective is a copy. */
static void build_self_copy(struct plan_builder *b, const struct plan_args *a)
{
	if (a->coll == COLL_BARRIER)
		return;
	plan_strand(b, -1);
	copy(b, BUF_IN, BUF_OUT, block_one(0));
	b->plan->by_reference = true;
}

struct plan *algo_plan(const struct algo *algo, const struct plan_args *a)
{
	struct plan_builder b;
	plan_begin(&b, a->coll, algo->name, a->rank, a->nranks, a->root);
	if (!b.failed)
		(a->nranks == 1 ? build_self_copy : algo->build)(&b, a);
	return plan_finish(&b);
}

/* What the simplest have; the row says what is otherwise. */
void algo_volume(const struct algo *algo, const struct plan_args *a, struct volume *out)
{
	int n = a->nranks, hosts = a->shape ? a->shape->nhosts : n;
	*out = (struct volume){.exits = n / hosts, .channels = 1, .blocks = 1, .largest = 1, .phases = 1};
	if (n > 1)
		algo->volume(out, a);
}
