/* SPDX-License-Identifier: MIT */
/* The rounds of measurements; see rounds.h. */
#include "rounds.h"
#include "../../src/util/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int doublings(int n)
{
	int k = 0;
	while (1 << k < n)
		k++;
	return k;
}

static int tournament_rounds(int n)
{
	return n < 2 ? 0 : n % 2 ? n : n - 1;
}

int rounds_count(int n)
{
	return n <= ROUNDS_ALL ? tournament_rounds(n) : 2 * doublings(n);
}

/*
 * All ranks but the last are placed on a circle and meet their mirror image; the one that would meet itself meets the
 * last.
 */
static int tournament_partner(int n, int round, int me)
{
	int circle = tournament_rounds(n), last = circle;
	int mirror = (2 * round + circle - me) % circle, partner = me == last ? round : mirror == me ? last : mirror;
	return partner < n ? partner : -1;
}

/* Ranks stand in stretches of 2^k: in one round the first stretch meets the second, in the next the second the third. */
static int distant_partner(int n, int round, int me)
{
	int far = 1 << (round / 2), stretch = me / far, partner = (stretch + round) % 2 ? me - far : me + far;
	return partner >= 0 && partner < n ? partner : -1;
}

int rounds_partner(int n, int round, int me)
{
	return n <= ROUNDS_ALL ? tournament_partner(n, round, me) : distant_partner(n, round, me);
}

static int allocate(struct rounds *r, int n, int count)
{
	size_t cells = (size_t)n * (size_t)count;
	*r = (struct rounds){.n = n, .count = count, .partner = malloc((cells + 1) * sizeof(*r->partner))};
	if (!r->partner)
		return fail(TUTTI_ENOMEM, "out of memory");
	memset(r->partner, -1, cells * sizeof(*r->partner));
	return TUTTI_OK;
}

static int32_t *seat(struct rounds *r, int round, int rank)
{
	return &r->partner[(size_t)round * (size_t)r->n + (size_t)rank];
}

static void put(struct rounds *r, int round, struct pair p)
{
	*seat(r, round, p.i) = p.j;
	*seat(r, round, p.j) = p.i;
}

int rounds_at_once(struct rounds *r, int n)
{
	int rc = allocate(r, n, rounds_count(n));
	for (int k = 0; !rc && k < r->count; k++)
		for (int me = 0; me < n; me++)
			*seat(r, k, me) = rounds_partner(n, k, me);
	return rc;
}

int rounds_one_by_one(struct rounds *r, int n, const struct pair *pair, int pairs)
{
	int rc = allocate(r, n, pairs);
	for (int k = 0; !rc && k < pairs; k++)
		put(r, k, pair[k]);
	return rc;
}

int rounds_packed(struct rounds *r, int n, const struct pair *pair, int pairs)
{
	int rc = allocate(r, n, pairs), used = 0;
	for (int p = 0; !rc && p < pairs; p++) {
		int k = 0;
		while (*seat(r, k, pair[p].i) >= 0 || *seat(r, k, pair[p].j) >= 0)
			k++;
		put(r, k, pair[p]);
		used = k < used ? used : k + 1;
	}
	r->count = used;
	return rc;
}

void rounds_free(struct rounds *r)
{
	free(r->partner);
	*r = (struct rounds){0};
}
