/* SPDX-License-Identifier: MIT */
/*
 * Which ranks meet in each round, as pure functions. In a round no rank meets two others, so all its pairs can be
 * measured at once. Few ranks all meet each other; of many, each meets those that are 1, 2, 4, ... ranks away, to
 * either side.
 */
#ifndef TUTTI_TOPO_ROUNDS_H
#define TUTTI_TOPO_ROUNDS_H

#include <stdint.h>

/** Up to so many ranks all pairs meet. */
#define ROUNDS_ALL 16

struct rounds {
	int n, count;
	int32_t *partner; /* count * n: whom each meets; -1: nobody */
};

struct pair {
	int i, j;
};

/** Both fill *r, which rounds_free frees. A status. */
int rounds_at_once(struct rounds *r, int n);
/** Rounds of one pair each, in the order of the list. */
int rounds_one_by_one(struct rounds *r, int n, const struct pair *pair, int pairs);
/** As few rounds as come of putting each pair into the first in which both are free. */
int rounds_packed(struct rounds *r, int n, const struct pair *pair, int pairs);
void rounds_free(struct rounds *r);

/** How many rounds rounds_at_once has: n - 1 (n odd: n) up to ROUNDS_ALL, twice the logarithm beyond. */
int rounds_count(int n);
/** Whom `me` meets in a round of them: -1 nobody. */
int rounds_partner(int n, int round, int me);

#endif
