/* SPDX-License-Identifier: MIT */
/*
 * The checker: proves that the plans of all ranks together are the collective they claim to be.
 *
 * It looks at the plans (every link has its mirror, both ends agree on each message, buffers exist), then runs them
 * all on symbols. A value is an expression over the ranks' contributions, so that equal bits on two ranks is equal
 * expressions. Strands are sequential and links first in, first out: what a run computes, and whether it ends, does
 * not depend on the order in which strands are run. Only memory that two of them touch does: a buffer shared by the
 * strands of a rank, or bytes read by reference. A run in which one strand (the straggler) moves only when nothing
 * else can shows everything that may happen before each of its steps; one such run per strand is therefore a proof,
 * not a sample.
 */
#ifndef TUTTI_PLAN_CHECK_H
#define TUTTI_PLAN_CHECK_H

#include "../../src/plan/plan.h"

/** What is known of a set of plans before they run; kept between runs. */
struct checker;

enum check_order {
	CHECK_FIFO,  /* strands in rotation, as the engine does */
	CHECK_EAGER, /* the strand that has just moved goes on */
	CHECK_LAZY,  /* a step that receives runs only when no other can */
	CHECK_RANDOM,
	CHECK_ORDERS
};

struct check_run {
	int slots;       /* of every link */
	int chunks;      /* of the longest block; a barrier has one */
	bool ragged;     /* blocks have 0 .. chunks chunks, by the seed; otherwise all have all */
	bool in_place;   /* IN and OUT are the same memory; an all-to-all has no such form */
	bool rank_order; /* sums must be folded strictly in rank order */
	enum check_order order;
	int straggler; /* strand, counted over all ranks, that moves only when nothing else can; -1: none */
	uint64_t seed;
};

/**
 * Looks at plans[0..n), one per rank, which must outlive the checker. NULL when memory is out or when they are wrong;
 * `why` (of `size` bytes) then says which plan, rank, strand and step, and what is wrong.
 */
struct checker *checker_create(const struct plan *const *plans, int n, char *why, size_t size);
/** Strands of all ranks together. */
int checker_strands(const struct checker *c);
/**
 * One run; false: wrong, `why` says where. Reading by reference something that may have changed is not an error, but
 * makes checker_by_reference false.
 */
bool checker_run(struct checker *c, const struct check_run *run, char *why, size_t size);
/** Did no run so far read by reference what the sender had overwritten? If one did, `why` says where. */
bool checker_by_reference(const struct checker *c, const char **why);
/** Was the whole sum of each block made by one rank only, in all runs so far? */
bool checker_folds_once(const struct checker *c);
void checker_free(struct checker *c);

#endif
