/* SPDX-License-Identifier: MIT */
/* Teams: see team.h. */
#include "team.h"

#include <stdlib.h>
#include <string.h>

bool team_make(struct plan_builder *b, struct team *t, int n)
{
	*t = (struct team){.n = n, .in = BUF_IN, .out = BUF_OUT};
	t->rank = calloc((size_t)n, sizeof(*t->rank));
	t->own = calloc((size_t)n, sizeof(*t->own));
	if (t->rank && t->own)
		return true;
	team_free(t);
	b->failed = true;
	return false;
}

void team_free(struct team *t)
{
	free(t->rank);
	free(t->own);
	t->rank = NULL;
	t->own = NULL;
}

/* Ranks by host, and by number within each: a counting sort. */
static bool sort_by_host(struct team *t, const struct shape *shape)
{
	int *at = calloc((size_t)shape->nhosts + 1, sizeof(*at));
	if (!at)
		return false;
	for (int r = 0; r < t->n; r++)
		at[shape->host[r] + 1]++;
	for (int h = 0; h < shape->nhosts; h++)
		at[h + 1] += at[h];
	for (int r = 0; r < t->n; r++)
		t->rank[at[shape->host[r]]++] = r;
	free(at);
	return true;
}

static bool team_fill(struct plan_builder *b, struct team *t, const struct plan_args *a, const struct shape *shape,
                      int parts, int part)
{
	if (!team_make(b, t, a->nranks))
		return false;
	for (int r = 0; !shape && r < t->n; r++)
		t->rank[r] = r;
	if (shape && shape->order) {
		memcpy(t->rank, shape->order, (size_t)t->n * sizeof(*t->rank));
	} else if (shape && !sort_by_host(t, shape)) {
		team_free(t);
		b->failed = true;
		return false;
	}
	for (int i = 0; i < t->n; i++)
		t->own[i] = block_one(t->rank[i] * parts + part);
	t->me = team_member(t, a->rank);
	t->final = STEP_FINAL;
	return true;
}

bool team_of_all(struct plan_builder *b, struct team *t, const struct plan_args *a, int parts, int part)
{
	return team_fill(b, t, a, NULL, parts, part);
}

bool team_by_host(struct plan_builder *b, struct team *t, const struct plan_args *a, int parts, int part)
{
	return team_fill(b, t, a, a->shape, parts, part);
}

int team_member(const struct team *t, int rank)
{
	for (int i = 0; i < t->n; i++)
		if (t->rank[i] == rank)
			return i;
	return -1;
}

void team_reverse(struct team *t)
{
	for (int i = 1, j = t->n - 1; i < j; i++, j--) {
		int rank = t->rank[i];
		struct block_set own = t->own[i];
		t->rank[i] = t->rank[j];
		t->own[i] = t->own[j];
		t->rank[j] = rank;
		t->own[j] = own;
	}
	t->me = wrap(-t->me, t->n);
}
