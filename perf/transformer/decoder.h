/* SPDX-License-Identifier: MIT */
/*
 * A decoder in tensor parallel: each rank computes with its part of the weights (weights.h), and after each half of a
 * layer one all-reduce adds up what the ranks have. The computation is layer.c, and that is the file to read; here and
 * in decoder.c is what it works on.
 *
 * Activations are f32 and the same, to the last bit, on all ranks at every place where they are whole.
 */
#ifndef TRANSFORMER_DECODER_H
#define TRANSFORMER_DECODER_H

#include <tutti.h>

#include "profile.h"
#include "weights.h"

/** One token at its place: a step takes some of these, of any sequences, each sequence's in order. */
struct token {
	int id, sequence, position;
};

/** Tokens that go through the layers together: while one piece is being added up, the next is computed. */
struct piece {
	int first, n;
	bool overlaps;                 /* others are computed meanwhile: the call does not block */
	struct tutti_request *request; /* NULL: nothing is in flight */
	double spent;                  /* in the all-reduce so far, seconds */
};

#define PIECES_MAX 16

struct decoder {
	const struct weights *w;
	struct tutti_comm *comm;
	struct compute compute;
	struct profile profile;
	int sequences, context, room; /* room: tokens of one step */
	int pieces;                   /* that a step of many tokens is cut into; 1: none overlap */
	bool alone; /* leave out what makes ranks one: results are wrong, times are without communication */
	const double *shares;

	float *x;             /* room x hidden: the residual stream */
	float *normed;        /* room x hidden */
	float *partial;       /* room x hidden: what is added up over ranks; peers can read it in place */
	float *inner;         /* room x the widest of a layer's inner results */
	float *mixed;         /* room x own query heads */
	float *scores;        /* query heads of a key-value head x context */
	float *keys, *values; /* layer, sequence, own key-value head, position, dimension */
	float *rotation;      /* position, pair: cosine and sine */
	float *logits;        /* sequences x own tokens */
	void *chosen;         /* ranks x sequences: each rank's best token */
	struct piece piece[PIECES_MAX];
};

/**
 * Room for `sequences` sequences of up to `context` tokens, of which a step computes up to `room`. comm and w stay the
 * caller's, and so does d->compute, which is opened before. 0, or -1 with the problem.
 */
int decoder_open(struct decoder *d, const struct weights *w, struct tutti_comm *comm, const double *shares,
                 int sequences, int context, int room, struct problem *p);
void decoder_close(struct decoder *d);
/** From now on a step of at least so many tokens is cut into so many pieces (1 to PIECES_MAX) that overlap. */
void decoder_overlap(struct decoder *d, int pieces);

/* ---- layer.c: collective calls, which return a status of Tutti ---- */

/** n tokens through all layers. */
int decoder_step(struct decoder *d, const struct token *t, int n);
/** After a step: the likeliest next token behind `n` of its tokens from `first` on; the lowest of equals. */
int decoder_choose(struct decoder *d, int first, int n, int *tokens);
/** After a step: all logits behind one of its tokens. */
int decoder_logits(struct decoder *d, int index, float *logits);

#endif
