/* SPDX-License-Identifier: MIT */
/* Finds the symmetry of a cluster and a plan: see fold.h. */
#include "fold.h"

#include <stdlib.h>

#include "../../src/util/error.h"

#define ALL_UNITS 64 /* as many are looked at one by one; of more, a sample */

int fold_plan(const struct sim_cluster *cluster, const struct sim_call *call, int rank, struct plan **out)
{
	struct plan_args a = {.coll = call->coll,
	                      .rank = rank,
	                      .nranks = cluster->nranks,
	                      .root = call->root,
	                      .channels = call->channels,
	                      .shape = call->shape};
	*out = algo_plan(call->algo, &a);
	return *out ? TUTTI_OK
	            : fail(TUTTI_EUNSUPPORTED, "%s on %d ranks: a plan of too many links, or out of memory",
	                   call->algo->name, cluster->nranks);
}

/* Do they take the same time? All blocks are equally long here. */
static bool same_step(const struct step *a, const struct step *b)
{
	const int kind = STEP_REDUCE | STEP_TOKEN;
	return a->recv == b->recv && a->send == b->send && !a->src == !b->src && !a->dst == !b->dst &&
	       (a->flags & kind) == (b->flags & kind) && a->src_set.n == b->src_set.n && a->dst_set.n == b->dst_set.n;
}

/* Is `b`, of a rank in `unit`, what `a` is in the first unit? */
static bool same_plan(const struct fold *f, const struct plan *a, const struct plan *b, int unit)
{
	bool same = a->nsteps == b->nsteps && a->nstrands == b->nstrands && a->nlinks == b->nlinks;
	for (int i = 0; same && i < a->nlinks; i++) {
		const struct plan_link *x = &a->links[i], *y = &b->links[i];
		same = x->lane == y->lane && x->outgoing == y->outgoing && x->peer % f->ranks == y->peer % f->ranks &&
		       fold_way(f, 0, x->peer / f->ranks) == fold_way(f, unit, y->peer / f->ranks);
	}
	for (int i = 0; same && i < a->nstrands; i++)
		same = a->strands[i].nsteps == b->strands[i].nsteps && a->strands[i].after == b->strands[i].after;
	for (int i = 0; same && i < a->nsteps; i++)
		same = same_step(&a->steps[i], &b->steps[i]);
	return same;
}

/*
 * The unit after `unit` to look at: all of them, or the first and last few, what stands beside powers of two, where
 * algorithms make exceptions, and some in between.
 */
static int next_unit(int unit, int units)
{
	for (int u = unit + 1; u < units; u++)
		if (units <= ALL_UNITS || u < 4 || u >= units - 4 || ((u + 1) & u) == 0 || (u & (u - 1)) == 0 ||
		    ((u - 1) & (u - 2)) == 0 || u % (units / 16 + 1) == 0)
			return u;
	return units;
}

static int rank_is_alike(const struct sim_cluster *c, const struct sim_call *call, const struct fold *f, int rank,
                         bool *alike)
{
	struct plan *first, *other;
	int rc = fold_plan(c, call, rank, &first);
	if (rc)
		return rc;
	for (int u = 1; *alike && u < f->units; u = next_unit(u, f->units)) {
		if (f->units > ALL_UNITS && u > 1 && u % f->ranks != rank)
			continue; /* of a sample one rank each */
		rc = fold_plan(c, call, u * f->ranks + rank, &other);
		*alike = !rc && same_plan(f, first, other, u);
		plan_free(other);
	}
	plan_free(first);
	return rc;
}

static bool same_skew(const struct sim_cluster *c)
{
	int unit = c->nranks / c->units;
	for (int r = unit; c->skew && r < c->nranks; r++)
		if (c->skew[r] != c->skew[r - unit])
			return false;
	return true;
}

int fold_find(const struct sim_cluster *cluster, const struct sim_call *call, struct fold *out)
{
	int units = cluster->units, n = cluster->nranks;
	*out = (struct fold){.ranks = n, .units = 1};
	if (call->whole || units < 2 || !same_skew(cluster))
		return TUTTI_OK;
	for (int flips = 0; flips <= ((units & (units - 1)) == 0); flips++) {
		struct fold f = {.ranks = n / units, .units = units, .flips = flips};
		bool alike = true;
		for (int r = 0; alike && r < f.ranks; r++) {
			int rc = rank_is_alike(cluster, call, &f, r, &alike);
			if (rc)
				return rc;
		}
		if (!alike)
			continue;
		*out = f;
		return TUTTI_OK;
	}
	return TUTTI_OK;
}
