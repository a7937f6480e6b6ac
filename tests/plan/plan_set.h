/* SPDX-License-Identifier: MIT */
/* The plans of all ranks together, and the shapes of machines that they are built for. */
#ifndef PLAN_SET_H
#define PLAN_SET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/algo/algo.h"
#include "../../src/topo/ring.h"
#include "../../tools/check/plan_check.h"

#define MAX_RANKS 1000
#define WHY       1500

/* A number below `below`, and the next state of the sequence. */
static inline uint64_t draw_from(uint64_t *seed, uint64_t below)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (*seed >> 33) % below;
}

enum shape_kind { APART, TOGETHER, TWOS, FOURS, UNEVEN, SCATTERED, ORDERED, SHAPES };

/* An order of the ring: hosts shuffled, and the ranks of each. */
static inline void shuffle_ring(struct shape *s, int *order, uint64_t *seed)
{
	static int place[MAX_RANKS];
	for (int r = 0; r < s->nranks; r++) {
		int other = (int)draw_from(seed, (uint64_t)r + 1);
		place[r] = place[other];
		place[other] = r;
	}
	ring_by_host(s->nranks, s->host, place, order);
	s->order = order;
}

/* Valid until the next call. */
static inline const struct shape *make_shape(enum shape_kind kind, int n, uint64_t *seed)
{
	static int host[MAX_RANKS], order[MAX_RANKS];
	static struct shape s;
	s = (struct shape){.nranks = n, .nhosts = 0, .host = host};
	for (int r = 0, left = 0; r < n; r++, left--) {
		bool uneven = kind == UNEVEN || kind == ORDERED;
		if (uneven && left <= 0)
			left = 1 + (int)draw_from(seed, 5);
		else if (uneven)
			s.nhosts--; /* one more on the same host */
		if (uneven)
			host[r] = s.nhosts;
		else if (kind == TOGETHER)
			host[r] = 0;
		else if (kind == SCATTERED)
			host[r] = r % (1 + n / 3);
		else
			host[r] = r / (kind == TWOS ? 2 : 4);
		if (host[r] >= s.nhosts)
			s.nhosts = host[r] + 1;
	}
	if (kind == ORDERED)
		shuffle_ring(&s, order, seed);
	return kind == APART ? NULL : &s;
}

struct plan_set {
	struct plan *plan[MAX_RANKS];
	int n;
	size_t steps;
};

static inline void build_set(struct plan_set *s, const struct algo *algo, struct plan_args a)
{
	s->n = a.nranks;
	s->steps = 0;
	for (a.rank = 0; a.rank < a.nranks; a.rank++) {
		s->plan[a.rank] = algo_plan(algo, &a);
		assert_non_null(s->plan[a.rank]);
		s->steps += (size_t)s->plan[a.rank]->nsteps;
	}
}

static inline void free_set(struct plan_set *s)
{
	for (int r = 0; r < s->n; r++)
		plan_free(s->plan[r]);
}

static inline struct checker *look_at(struct plan_set *s, char *why)
{
	return checker_create((const struct plan *const *)s->plan, s->n, why, WHY);
}

static inline bool is_rooted(enum coll coll)
{
	return coll == COLL_BROADCAST || coll == COLL_REDUCE || coll == COLL_GATHER || coll == COLL_SCATTER;
}

#endif
