/* SPDX-License-Identifier: MIT */
/* See algos.h. */
#include "algos.h"

#include <string.h>

#include "../src/algo/algo.h"
#include "../src/direct/direct.h"

const char *algos_name(int i)
{
	return i == 0 ? "direct" : algo_table[i - 1] ? algo_table[i - 1]->name : NULL;
}

bool algos_serve(const char *algo, const char *coll, int n, const int *host)
{
	int kind = coll_by_name(coll), nhosts = 0;
	if (kind < 0 || kind >= COLL_COUNT || n == 1)
		return false;
	for (int r = 0; r < n; r++)
		nhosts = host[r] >= nhosts ? host[r] + 1 : nhosts;
	if (strcmp(algo, "direct") == 0)
		return direct_serves((enum coll)kind) && nhosts == 1;
	struct shape shape = {.nranks = n, .nhosts = nhosts, .host = host};
	struct plan_args args = {.coll = (enum coll)kind, .nranks = n, .channels = 1, .shape = &shape};
	return algo_serves(algo_by_name(algo), &args);
}

bool algos_reproducible(const char *algo)
{
	return strcmp(algo, "direct") == 0 || algo_by_name(algo)->flags & ALGO_RANK_ORDER;
}
