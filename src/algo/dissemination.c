/*
 * Dissemination barrier: in round k everybody tells the rank 2^k ahead and waits for the one 2^k behind. After
 * ceil(log2 n) rounds each has heard, directly or not, of all.
 */
#include "algo.h"

static void build(struct plan_builder *b, const struct plan_args *a)
{
	int n = a->nranks;
	plan_strand(b, -1);
	plan_step(b, (struct step){.recv = -1, .send = (int16_t)plan_to(b, (a->rank + 1) % n, 0), .flags = STEP_TOKEN});
	for (int d = 1; d < n; d *= 2) {
		int from = plan_from(b, (a->rank - d + n) % n, 0);
		int to = 2 * d < n ? plan_to(b, (a->rank + 2 * d) % n, 0) : -1;
		plan_step(b, (struct step){.recv = (int16_t)from, .send = (int16_t)to, .flags = STEP_TOKEN});
	}
	b->plan->by_reference = true;
}

const struct algo algo_dissemination = {
	.name = "dissemination",
	.what = "tokens to the ranks 1, 2, 4, ... ahead: log2 n rounds",
	.source = "Hensgen, Finkel and Manber, Two algorithms for barrier synchronization, 1988",
	.colls = 1u << COLL_BARRIER,
	.build = build,
};
