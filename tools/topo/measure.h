/* How fast ranks reach each other: half a round trip of 8 bytes, and 1 MiB messages back to back, for every pair. */
#ifndef TUTTI_TOPO_MEASURE_H
#define TUTTI_TOPO_MEASURE_H

#include "survey.h"

/** Up to so many ranks, one pair at a time is measured; with more, as many as can be at once: then links are shared. */
#define MEASURE_ALONE 8

/** From so many ranks on there are two pairs that can be measured at once. */
#define MEASURE_BUSY 4

/** Collective; fills latency and bandwidth, and their percentiles, on rank 0. A status. */
int measure_all(struct survey *s, struct tutti_comm *c);

/** Rounds in which n ranks meet each other once, in disjoint pairs, and whom `me` meets in each: -1 nobody. */
int measure_rounds(int n);
int measure_partner(int n, int round, int me);

#endif
