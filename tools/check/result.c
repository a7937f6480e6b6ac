/* SPDX-License-Identifier: MIT */
/*
 * What comes out of a run, against what the collective promises.
 */
#include "checker.h"

/* What must stand in a block of OUT: NULL, or what is wrong. Sums of a block must be the same expression everywhere. */
static const char *result_fault(const struct checker *c, int rank, int block, const struct cell *cell, uint32_t *sum)
{
	struct value v = cell->v;
	const struct plan *p = c->plan[rank];
	bool sums = p->coll == COLL_ALLREDUCE || p->coll == COLL_REDUCE || p->coll == COLL_REDUCE_SCATTER;
	int want_block = p->coll == COLL_ALLTOALL ? rank * p->parts + block % p->parts : block;
	uint32_t want = (uint32_t)(p->coll == COLL_BROADCAST || p->coll == COLL_SCATTER ? p->root : block / p->parts);
	if (!cell->written)
		return "was never written";
	if (v.block != want_block)
		return "holds another block";
	if (!sums)
		return v.expr == want ? NULL : "holds another rank's block";
	const struct expr *e = &c->expr[v.expr];
	if (e->count != c->n || e->ranks != c->everybody)
		return "is not the sum of all ranks";
	if (c->n > 1 && !e->final)
		return "was not marked as final";
	if (c->run.rank_order && e->chain != c->n)
		return "was not folded in rank order";
	if (*sum != NOTHING && *sum != v.expr)
		return "was folded differently on another rank";
	*sum = v.expr;
	return NULL;
}

static bool look_block(struct checker *c, int block)
{
	uint32_t sum = NOTHING;
	for (int rank = 0; rank < c->n; rank++) {
		if (!check_exists(c, rank, BUF_OUT, block))
			continue;
		struct cursor at = {.rank = rank};
		int chunks = check_chunks(c, check_length(c, rank, BUF_OUT, block));
		for (at.chunk = 0; at.chunk < chunks; at.chunk++) {
			const struct cell *cell = check_cell(c, &at, BUF_OUT, block);
			const char *fault = result_fault(c, rank, block, cell, &sum);
			if (fault)
				return check_complain(c, rank, -1, -1, "at the end OUT block %d chunk %d %s", block,
				                      at.chunk, fault);
		}
	}
	return true;
}

/* Nobody may leave a barrier that somebody has not entered. */
static bool look_barrier(struct checker *c)
{
	for (int rank = 0; c->n > 1 && rank < c->n; rank++) {
		for (int other = 0; other < c->n; other++) {
			bool known = false;
			for (int s = c->strand0[rank]; s < c->strand0[rank + 1]; s++)
				known |= c->heard[(size_t)s * check_words(c) + (size_t)other / 64] >> other % 64 & 1;
			if (!known)
				return check_complain(c, rank, -1, -1, "leaves without having heard of rank %d", other);
		}
	}
	return true;
}

bool check_results(struct checker *c)
{
	if (c->coll == COLL_BARRIER)
		return look_barrier(c);
	for (int block = 0; block < c->nblocks; block++)
		if (!look_block(c, block))
			return false;
	return true;
}
