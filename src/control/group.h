/* SPDX-License-Identifier: MIT */
/*
 * The largest group of ranks that all reach each other, of a set of ranks and the pairs of it that lost each other: a
 * largest independent set. Of equal ones the one that comes first when the ranks are listed in order. A function of its
 * arguments alone, so that all ranks with the same knowledge get the same group.
 */
#ifndef TUTTI_GROUP_H
#define TUTTI_GROUP_H

#include <stdbool.h>
#include <stdint.h>

/**
 * cut[a * n + b]: a and b lost each other (and [b * n + a]). living[r]: r counts. group[r]: r is in it. The search is exact
 * unless the cuts are so many and so tangled that it would take too long; then the group may be smaller, and is still one.
 * False: no memory.
 */
bool group_largest(const uint8_t *cut, const uint8_t *living, int n, uint8_t *group);

#endif
