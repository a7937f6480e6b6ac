/* SPDX-License-Identifier: MIT */
/*
 * In which order ranks should form a ring, from what each step costs: pure functions of their arguments. A ring is as
 * fast as its slowest step: that one is made cheap first; among equals the sum of all steps decides, then rank order.
 */
#ifndef TUTTI_TOPO_RING_H
#define TUTTI_TOPO_RING_H

/** Up to so many ranks all rings are looked at, and the best one is found; beyond that a good one. */
#define RING_EXACT 9

struct ring_cost {
	double worst, total;
};

/** Cost of the ring order[0] -> order[1] -> ... -> order[0]; cost[i * n + j] is that of a step from i to j. */
struct ring_cost ring_cost(int n, const double *cost, const int *order);

/**
 * Fills order with a ring that starts at 0: the best of all up to RING_EXACT ranks; otherwise the better of two starts,
 * rank order and cheapest next step, improved by reversing stretches as long as that helps (2-opt; Croes 1958): it is
 * never worse than rank order. Costs are finite and need not be symmetric. n >= 1. TUTTI_OK or ENOMEM.
 */
int ring_order(int n, const double *cost, int *order);

/**
 * Fills order with the ranks as they stand in a ring where `place` (any numbers, by rank) puts them, but those of one
 * host together: hosts by their first rank's place, the host of rank 0 in front. host[r] is 0 .. n - 1. n >= 1.
 */
void ring_by_host(int n, const int *host, const int *place, int *order);

#endif
