/* SPDX-License-Identifier: MIT */
/* What a rank does with its part of a model: decode, or compare with the reference. bench.h measures. */
#ifndef TRANSFORMER_RUN_H
#define TRANSFORMER_RUN_H

#include "decoder.h"
#include "settings.h"

/** One rank of this process. */
struct rank {
	const struct settings *s;
	struct tutti_comm *comm;
	struct compute compute;
	struct weights weights;
	struct problem problem;
	int failed;
};

/** The rank's shares: NULL where all are equal. */
static inline const double *shares_of(const struct settings *s)
{
	return s->nshares ? s->share : NULL;
}

/** Notes what a call of Tutti's returned, if it was an error; returns 0 or -1. */
int noted(struct rank *r, int status);

/** True on all ranks when `failed` is on one: nobody then waits for it. */
bool any_failed(struct rank *r, bool failed);

/** Greedy: `n` tokens behind the prompt, to `out`. Collective. */
int greedy(struct decoder *d, const int *prompt, int length, int n, int *out);

/** Prompt and tokens, as rank 0 prints them. */
int run_generate(struct rank *r);

/**
 * Compares the logits behind the prompt and what is decoded behind it with the reference's, and all ranks' with rank
 * 0's. -1 also where bits differ, or the error is above what CHECK_LIMIT says.
 */
int run_check(struct rank *r);

/** Largest error of a logit over the largest logit. Activations are f32 whatever the weights, so it serves both types. */
#define CHECK_LIMIT 2e-5

#endif
