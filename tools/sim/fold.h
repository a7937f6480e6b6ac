/* SPDX-License-Identifier: MIT */
/*
 * Symmetry. Where a cluster is made of equal units (say, hosts), and the plan of each unit's ranks is that of the first
 * unit's with all units turned (a ring: u + k modulo their number) or flipped (doubling: u xor k), all units do the
 * same at the same time. The first one then stands for all: what it sends to another unit comes in at itself, from the
 * unit opposite.
 *
 * That plans are so is not known about algorithms but seen in the plans.
 */
#ifndef TUTTI_SIM_FOLD_H
#define TUTTI_SIM_FOLD_H

#include "sim.h"

struct fold {
	int ranks, units; /* of a unit, one after the other; units */
	bool flips;
};

/** The way from a unit to another one, equal for all pairs that stand alike. */
static inline int fold_way(const struct fold *f, int from, int to)
{
	return f->flips ? from ^ to : (to - from + f->units) % f->units;
}

/** One unit of all ranks where nothing else is found. */
int fold_find(const struct sim_cluster *cluster, const struct sim_call *call, struct fold *out);

/** The plan of a rank; EUNSUPPORTED: it can't be had. */
int fold_plan(const struct sim_cluster *cluster, const struct sim_call *call, int rank, struct plan **out);

#endif
