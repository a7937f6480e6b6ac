/* SPDX-License-Identifier: MIT */
/*
 * What one rank holds of a model: its heads of each attention, its columns of each MLP, its part of the vocabulary,
 * copied from a checkpoint of which it looks at nothing else. All norms and the biases that follow a sum are whole
 * everywhere.
 */
#ifndef TRANSFORMER_WEIGHTS_H
#define TRANSFORMER_WEIGHTS_H

#include "config.h"
#include "products.h"
#include "safetensors.h"

struct span {
	int begin, end;
};

static inline int span_size(struct span s)
{
	return s.end - s.begin;
}

/**
 * Part `rank` of 0 .. total - 1, cut between n ranks in proportion to their shares (NULL: equal ones), at multiples of
 * `unit`. All parts together are the whole; a part may be empty.
 */
struct span cut(int total, int unit, const double *shares, int n, int rank);

/** What a rank holds. Where a cut falls between query heads of one key-value head, both sides hold that one. */
struct shard {
	struct span heads, kv, mlp, vocab;
};

struct shard shard_of(const struct config *c, const double *shares, int n, int rank);

/** One layer. NULL: there is no such bias, no such norm. */
struct layer {
	const float *attention_norm, *mlp_norm;
	const float *q_norm, *k_norm;         /* of each head, the same for all; NULL: heads have no norms */
	struct matrix qkv;                    /* own query heads, key heads, value heads x hidden: cut by rows */
	struct matrix o;                      /* hidden x own query heads: cut by columns */
	struct matrix gate_up;                /* own columns of both x hidden: cut by rows */
	struct matrix down;                   /* hidden x own columns: cut by columns */
	const float *qkv_bias, *gate_up_bias; /* of own rows, added to partial results */
	const float *o_bias, *down_bias;      /* whole, added once, after the sum over ranks */
};

struct weights {
	struct config config;
	struct shard shard;
	bool has[ELEMENTS];            /* matrices of these types */
	struct matrix embedding, head; /* own tokens x hidden; the same memory where they are tied */
	const float *norm;
	struct layer *layer;
	void *memory;
	size_t bytes;
};

/** Loads rank `rank`'s part of n of the checkpoint in `dir`. 0, or -1 with the problem. */
int weights_load(struct weights *w, const char *dir, const double *shares, int n, int rank, struct problem *p);
void weights_free(struct weights *w);
/** The type of the matrices, or "mixed". */
const char *weights_type(const struct weights *w);

#endif
