/* SPDX-License-Identifier: MIT */
/*
 * How fast ranks reach each other: half a round trip of 8 bytes, and 1 MiB messages back to back. First as many pairs at
 * once as can be, then one at a time: all, or of many ranks a few of each class (infer.h).
 */
#ifndef TUTTI_TOPO_MEASURE_H
#define TUTTI_TOPO_MEASURE_H

#include "survey.h"

/** Up to so many ranks, all pairs are measured one at a time. */
#define MEASURE_ALONE 8

/** From so many ranks on there are two pairs that can be measured at once. */
#define MEASURE_BUSY 4

/** Collective; fills the matrices of latency and bandwidth on rank 0. A status. */
int measure_all(struct survey *s, struct tutti_comm *c);

#endif
