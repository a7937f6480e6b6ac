/* SPDX-License-Identifier: MIT */
/*
 * Linear: the root talks to every other rank directly. One message deep; the root's link is the limit. A reduction is
 * folded at the root, strictly in rank order.
 */
#include "team.h"

/* The root sends: everybody's own block (scatter) or the whole (broadcast). */
static void from_root(struct plan_builder *b, const struct team *t, int root, bool scatter)
{
	struct block_set all = block_one(0);
	if (t->me != root) {
		recv_from(b, t, root, BUF_OUT, scatter ? t->own[t->me] : all);
		return;
	}
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(root + k, t->n);
		send_to(b, t, peer, BUF_IN, scatter ? t->own[peer] : all);
	}
	copy(b, BUF_IN, BUF_OUT, scatter ? t->own[root] : all);
}

static void gather(struct plan_builder *b, const struct team *t, int root)
{
	if (t->me != root) {
		send_to(b, t, root, BUF_IN, t->own[t->me]);
		return;
	}
	copy(b, BUF_IN, BUF_OUT, t->own[root]);
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(root + k, t->n);
		recv_from(b, t, peer, BUF_OUT, t->own[peer]);
	}
}

static void reduce(struct plan_builder *b, const struct team *t, int root)
{
	if (t->me != root)
		send_to(b, t, root, BUF_IN, block_one(0));
	else
		team_fold_in_order(b, t, block_one(0));
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_of_all(b, &t, a, 1, 0))
		return;
	int root = team_member(&t, a->root);
	b->plan->by_reference = true;
	b->plan->nblocks = a->coll == COLL_GATHER || a->coll == COLL_SCATTER ? t.n : 1;
	plan_strand(b, -1);
	switch (a->coll) {
	case COLL_GATHER:
		gather(b, &t, root);
		break;
	case COLL_REDUCE:
		reduce(b, &t, root);
		break;
	default:
		from_root(b, &t, root, a->coll == COLL_SCATTER);
	}
	team_free(&t);
}

static void volume(struct volume *v, const struct plan_args *a)
{
	bool in = a->coll == COLL_REDUCE || a->coll == COLL_GATHER;
	int others = a->nranks - 1;
	v->all = (struct leg){.rounds = 1,
	                      .messages = others,
	                      .sent = others,
	                      .reduced = a->coll == COLL_REDUCE ? others : 0,
	                      .sources = in ? others : 1,
	                      .peers = others};
	v->pipeline = 1;
	v->blocks = a->coll == COLL_GATHER || a->coll == COLL_SCATTER ? a->nranks : 1;
}

const struct algo algo_linear = {
        .name = "linear",
        .what = "the root talks to every rank directly, sums in rank order: one message deep, n-1 at the root",
        .source = "direct exchange; Chan et al., Collective communication: theory, practice, and experience, 2007",
        .colls = 1u << COLL_BROADCAST | 1u << COLL_REDUCE | 1u << COLL_GATHER | 1u << COLL_SCATTER,
        .flags = ALGO_RANK_ORDER,
        .build = build,
        .volume = volume,
};
