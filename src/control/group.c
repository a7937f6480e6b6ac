/* SPDX-License-Identifier: MIT */
/*
 * Searching the largest group, see group.h. The rank with the most cuts is either left out or kept; kept, it excludes all
 * that it has lost. Left out first: what is removed one after the other until no cut is left is a good group already. Ranks
 * with the same cuts, those of a host mostly, are left out together, so that hosts are what is searched and not ranks.
 */
#include "group.h"

#include <stdlib.h>
#include <string.h>

#define WORK 50000000 /* looks at a pair, about; then the best so far has to do */

struct search {
	const uint8_t *cut;
	int n, most;
	int *out; /* the depth at which a rank was left out; 0: it is in */
	uint8_t *best;
	int64_t work;
};

static int cuts_of(struct search *s, int rank)
{
	const uint8_t *row = s->cut + (size_t)rank * (size_t)s->n;
	int cuts = 0;

	s->work -= s->n;
	for (int r = 0; r < s->n; r++)
		cuts += row[r] && !s->out[r];
	return cuts;
}

static int most_cut(struct search *s, int *cuts)
{
	int worst = -1;

	*cuts = 0;
	for (int r = 0; r < s->n; r++) {
		int mine = s->out[r] ? 0 : cuts_of(s, r);
		if (mine > *cuts) {
			*cuts = mine;
			worst = r;
		}
	}
	return worst;
}

static bool are_alike(struct search *s, int a, int b)
{
	const uint8_t *one = s->cut + (size_t)a * (size_t)s->n, *other = s->cut + (size_t)b * (size_t)s->n;

	s->work -= s->n;
	for (int r = 0; r < s->n; r++)
		if (!s->out[r] && one[r] != other[r])
			return false;
	return true;
}

/* A group without a cut: is it larger than the best, or does it come first? */
static void offer(struct search *s, int size)
{
	bool better = size > s->most;

	for (int r = 0; r < s->n && size == s->most && !better; r++) {
		if (s->best[r] == !s->out[r])
			continue;
		better = !s->out[r];
		break;
	}
	if (!better)
		return;
	s->most = size;
	for (int r = 0; r < s->n; r++)
		s->best[r] = !s->out[r];
}

static void put_back(struct search *s, int depth)
{
	for (int r = 0; r < s->n; r++)
		if (s->out[r] == depth)
			s->out[r] = 0;
}

static int leave_out_alike(struct search *s, int rank, int depth)
{
	int gone = 0;

	/* Marked afterwards, so that all are compared by the same ranks. */
	for (int r = 0; r < s->n; r++)
		if (!s->out[r] && are_alike(s, rank, r))
			s->best[s->n + r] = 1;
	for (int r = 0; r < s->n; r++) {
		if (!s->best[s->n + r])
			continue;
		s->best[s->n + r] = 0;
		s->out[r] = depth;
		gone++;
	}
	return gone;
}

static int leave_out_cut(struct search *s, int rank, int depth)
{
	const uint8_t *row = s->cut + (size_t)rank * (size_t)s->n;
	int gone = 0;

	for (int r = 0; r < s->n; r++) {
		if (s->out[r] || !row[r])
			continue;
		s->out[r] = depth;
		gone++;
	}
	return gone;
}

static void look(struct search *s, int size, int depth)
{
	int cuts, worst;

	if (s->most > 0 && (size < s->most || s->work < 0))
		return;
	worst = most_cut(s, &cuts);
	if (worst < 0) {
		offer(s, size);
		return;
	}
	if (size - 1 < s->most)
		return;
	look(s, size - leave_out_alike(s, worst, depth), depth + 1);
	put_back(s, depth);
	look(s, size - leave_out_cut(s, worst, depth), depth + 1);
	put_back(s, depth);
}

bool group_largest(const uint8_t *cut, const uint8_t *living, int n, uint8_t *group)
{
	struct search s = {.cut = cut, .n = n, .work = WORK};
	int size = 0;

	s.out = calloc((size_t)n, sizeof(*s.out));
	s.best = calloc(2, (size_t)n);
	for (int r = 0; r < n && s.out; r++) {
		s.out[r] = !living[r];
		size += living[r] != 0;
	}
	if (s.out && s.best) {
		look(&s, size, 2);
		memcpy(group, s.best, (size_t)n);
	}
	bool found = s.out && s.best;
	free(s.out);
	free(s.best);
	return found;
}
