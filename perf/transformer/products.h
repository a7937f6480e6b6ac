/* SPDX-License-Identifier: MIT */
/*
 * Products of weights with activations. With many activations OpenBLAS does them, where it can be loaded; with few,
 * where each weight is read for little arithmetic and memory is the limit, the loops of loops.h.
 */
#ifndef TRANSFORMER_PRODUCTS_H
#define TRANSFORMER_PRODUCTS_H

#include "loops.h"
#include "problem.h"

/** Weights of one product: `rows` outputs from `cols` inputs, a row after the other. */
struct matrix {
	enum element type;
	int rows, cols;
	const void *at;
};

/** cblas_sgemm. */
typedef void sgemm_fn(int order, int transa, int transb, int m, int n, int k, float alpha, const float *a, int lda,
                      const float *b, int ldb, float beta, float *c, int ldc);

/** What one rank needs for its products; one thread at a time. */
struct compute {
	const struct loops *loops;
	sgemm_fn *sgemm; /* NULL: the loops do everything */
	int few;         /* up to so many activations the loops are faster */
	float *panel;    /* weights on their way to f32 */
	size_t panel_floats;
	void (*between)(void *arg); /* called every few milliseconds of a long product; may be NULL */
	void *arg;
	double pretend; /* seconds per weight: sleep so long in place of computing; 0: compute */
	double owed;    /* of that */
	double weights; /* of all products so far */
};

/**
 * Opens OpenBLAS; the first of a process says with how many threads. 0: without it. -1, and the reason in *why, when it
 * can't be had: products then take the loops.
 */
int compute_open(struct compute *c, int threads, struct problem *why);
void compute_close(struct compute *c);

/** y[i * ldy + r] = sum over k of w[r][k] * x[i * ldx + k], for i < n. */
void product(struct compute *c, const struct matrix *w, const float *x, size_t ldx, int n, float *y, size_t ldy);

#endif
