/* SPDX-License-Identifier: MIT */
/*
 * Pairwise: everybody exchanges with everybody else directly, each beginning with the next rank, so that no rank is
 * the first target of two. One message deep (an all-reduce two), n - 1 messages wide.
 *
 * The owner of a block folds the others' contributions strictly in rank order, so the result does not depend on the
 * message's size or on the placement of ranks.
 */
#include "team.h"

void team_fold_in_order(struct plan_builder *b, const struct team *t, struct block_set set)
{
	/* `out` may be the memory of `in`: the sum stays in scratch until this member's own contribution is in it. */
	uint8_t sum = (uint8_t)t->in;
	if (t->n == 1 && t->in != t->out)
		copy(b, t->in, t->out, set);
	if (t->me > 0) {
		sum = BUF_TMP;
		recv_from(b, t, 0, sum, set);
	}
	for (int k = 1; k < t->n; k++) {
		struct step s = {.recv = -1, .send = -1, .src = sum, .src_set = set, .dst_set = set};
		s.flags = (uint8_t)(STEP_REDUCE | STEP_LOCAL_FIRST | (k == t->n - 1 ? t->final : 0));
		if (k == t->me)
			s.acc = (uint8_t)t->in;
		else
			s.recv = from_member(b, t, k);
		sum = s.dst = (uint8_t)(k < t->me ? BUF_TMP : t->out);
		plan_step(b, s);
	}
}

void pairwise_give(struct plan_builder *b, const struct team *t)
{
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(t->me + k, t->n);
		if (t->own[peer].n)
			send_to(b, t, peer, t->in, t->own[peer]);
	}
}

void pairwise_reduce_scatter(struct plan_builder *b, const struct team *t)
{
	pairwise_give(b, t);
	if (t->own[t->me].n)
		team_fold_in_order(b, t, t->own[t->me]);
}

void pairwise_allgather(struct plan_builder *b, const struct team *t)
{
	struct block_set mine = t->own[t->me];
	for (int k = 1; k < t->n && mine.n; k++)
		send_to(b, t, wrap(t->me + k, t->n), t->in, mine);
	if (mine.n && t->in != t->out)
		copy(b, t->in, t->out, mine);
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(t->me - k, t->n);
		if (t->own[peer].n)
			recv_from(b, t, peer, t->out, t->own[peer]);
	}
}

/*
 * Block j of IN goes to rank j, block j of OUT comes from it. In place these two are the same memory: all blocks leave
 * before the first one is overwritten.
 */
static void alltoall(struct plan_builder *b, const struct team *t)
{
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(t->me + k, t->n);
		send_to(b, t, peer, BUF_IN, t->own[peer]);
	}
	copy(b, BUF_IN, BUF_OUT, t->own[t->me]);
	for (int k = 1; k < t->n; k++) {
		int peer = wrap(t->me - k, t->n);
		recv_from(b, t, peer, BUF_OUT, t->own[peer]);
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_of_all(b, &t, a, 1, 0))
		return;
	b->plan->nblocks = t.n;
	b->plan->by_reference = true;
	int strand = plan_strand(b, -1);
	switch (a->coll) {
	case COLL_ALLREDUCE:
		pairwise_reduce_scatter(b, &t);
		t.in = BUF_OUT;
		t.lane = 1;
		plan_strand(b, strand);
		pairwise_allgather(b, &t);
		break;
	case COLL_REDUCE_SCATTER:
		pairwise_reduce_scatter(b, &t);
		break;
	case COLL_ALLGATHER:
		pairwise_allgather(b, &t);
		break;
	default:
		alltoall(b, &t);
	}
	team_free(&t);
}

struct leg pairwise_leg(enum coll coll, int n)
{
	int others = n - 1, ways = coll == COLL_ALLREDUCE ? 2 : 1;
	return (struct leg){.rounds = ways,
	                    .messages = ways * others,
	                    .sent = ways * others,
	                    .reduced = coll_reduces(coll) ? others : 0,
	                    .sources = others,
	                    .peers = others};
}

static void volume(struct volume *v, const struct plan_args *a)
{
	v->all = pairwise_leg(a->coll, a->nranks);
	v->blocks = a->nranks;
	v->phases = a->coll == COLL_ALLREDUCE ? 2 : 1;
}

const struct algo algo_pairwise = {
        .name = "pairwise",
        .what = "everybody exchanges with everybody directly, sums in rank order: one or two messages deep, n-1 wide",
        .source = "direct exchange; Chan et al., Collective communication: theory, practice, and experience, 2007",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER | 1u << COLL_ALLTOALL,
        .flags = ALGO_RANK_ORDER | ALGO_FOLDS_ONCE,
        .build = build,
        .volume = volume,
};
