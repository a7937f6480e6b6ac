/* SPDX-License-Identifier: MIT */
/* Measures a model on its ranks, and says where the time goes. */
#ifndef TRANSFORMER_BENCH_H
#define TRANSFORMER_BENCH_H

#include "run.h"

/** Prefill and decode: the ranks together, without communication, and one rank with all of the model; rank 0 prints. */
int run_bench(struct rank *r);

#endif
