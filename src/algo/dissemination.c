/* SPDX-License-Identifier: MIT */
/*
 * Dissemination barrier: in round k everybody tells the rank 2^k ahead and waits for the one 2^k behind. After
 * ceil(log2 n) rounds each has heard, directly or not, of all.
 */
#include "team.h"

void dissemination_barrier(struct plan_builder *b, const struct team *t)
{
	int n = t->n;
	send_token(b, t, (t->me + 1) % n);
	for (int d = 1; d < n; d *= 2) {
		int16_t from = from_member(b, t, wrap(t->me - d, n));
		int16_t to = 2 * d < n ? to_member(b, t, (t->me + 2 * d) % n) : (int16_t)-1;
		plan_step(b, (struct step){.recv = from, .send = to, .flags = STEP_TOKEN});
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_of_all(b, &t, a, 1, 0))
		return;
	b->plan->by_reference = true;
	plan_strand(b, -1);
	dissemination_barrier(b, &t);
	team_free(&t);
}

struct leg dissemination_leg(int n)
{
	int lg = log2_up(n);
	return (struct leg){.rounds = lg, .sources = lg, .peers = 2 * lg};
}

static void volume(struct volume *v, const struct plan_args *a)
{
	v->all = dissemination_leg(a->nranks);
}

const struct algo algo_dissemination = {
        .name = "dissemination",
        .what = "tokens to the ranks 1, 2, 4, ... ahead: log2 n rounds",
        .source = "Hensgen, Finkel and Manber, Two algorithms for barrier synchronization, 1988",
        .colls = 1u << COLL_BARRIER,
        .build = build,
        .volume = volume,
};
