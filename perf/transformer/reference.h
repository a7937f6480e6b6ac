/* SPDX-License-Identifier: MIT */
/*
 * The same model, computed plainly: one rank, doubles, no cache, whole tensors straight from the checkpoint. It shares
 * with the parallel decoder the reading of files, and no arithmetic.
 */
#ifndef TRANSFORMER_REFERENCE_H
#define TRANSFORMER_REFERENCE_H

#include "config.h"
#include "safetensors.h"

/** Logits, n x vocab, behind each of n tokens of one sequence. 0, or -1 with the problem. Slow. */
int reference_logits(const struct checkpoint *from, const struct config *c, const int *tokens, int n, double *logits,
                     struct problem *p);

#endif
