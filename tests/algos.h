/* SPDX-License-Identifier: MIT */
/* For tests: which algorithms there are, the direct tier included, and whether one runs a collective somewhere. */
#ifndef TESTS_ALGOS_H
#define TESTS_ALGOS_H

#include <stdbool.h>

/** Names as in TUTTI_ALGO: "direct", then the planners; NULL past the end. */
const char *algos_name(int i);
/** Does `algo` run collective `coll` ("allreduce") of n ranks when rank r is on host[r], numbered by lowest rank? */
bool algos_serve(const char *algo, const char *coll, int n, const int *host);
/** Does it fold strictly in rank order, as TUTTI_REPRODUCIBLE=1 asks? */
bool algos_reproducible(const char *algo);

#endif
