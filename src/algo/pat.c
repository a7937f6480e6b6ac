/* SPDX-License-Identifier: MIT */
/*
 * PAT, parallel aggregated trees: Bruck with the dimensions reversed. The farthest exchange comes first and carries
 * one block, the nearest comes last and carries half of all, so long hops carry least. Any n.
 *
 * All-gather, dimension d from the highest down: r sends to r - 2^d the blocks r + x for x = 0, 2^(d+1), 2 * 2^(d+1),
 * ... as far as x + 2^d < n. Reduce-scatter is the same backwards, with sums on the way: at dimension d, from 0 up, r
 * sends to r + 2^d its partial sums of the blocks r + y whose y has 2^d as its lowest bit, and takes in what belongs
 * to the blocks r + x, x a multiple of 2^(d+1). All-reduce is one after the other, in two strands.
 */
#include "team.h"

/* The highest dimension, as a distance: the largest power of two < n. */
static int top(const struct team *t)
{
	return power_below(t->n - 1);
}

static int ahead(const struct team *t, int distance)
{
	return wrap(t->me + distance, t->n);
}

/* At distance d: the blocks of `member` + x, for all multiples x of 2 d with x + d < n. */
static struct block_set aggregate(const struct plan_builder *b, const struct team *t, int d, int member)
{
	int stride = b->plan->nblocks / t->n * 2 * d;
	return blocks(t->own[member].first, stride, (t->n + d - 1) / (2 * d));
}

static void allgather(struct plan_builder *b, const struct team *t)
{
	for (int d = top(t); d; d /= 2) {
		send_to(b, t, ahead(t, -d), BUF_OUT, aggregate(b, t, d, t->me));
		recv_from(b, t, ahead(t, d), BUF_OUT, aggregate(b, t, d, ahead(t, d)));
	}
}

static void reduce_scatter(struct plan_builder *b, const struct team *t)
{
	/*
	 * Sums are in scratch from their first arrival on. With n odd nothing arrives for the last one, which leaves
	 * later.
	 */
	if (t->n % 2)
		copy(b, BUF_IN, BUF_TMP, t->own[ahead(t, -1)]);
	for (int d = 1; d <= top(t); d *= 2) {
		enum plan_buf from = d == 1 ? BUF_IN : BUF_TMP, to = d == top(t) ? BUF_OUT : BUF_TMP;
		struct block_set set = aggregate(b, t, d, t->me);
		uint8_t first = t->me < d ? STEP_LOCAL_FIRST : 0, final = to == BUF_OUT ? STEP_FINAL : 0;
		send_to(b, t, ahead(t, d), from, aggregate(b, t, d, ahead(t, d)));
		plan_step(b, (struct step){
		                     .recv = from_member(b, t, ahead(t, -d)),
		                     .send = -1,
		                     .src = (uint8_t)from,
		                     .src_set = set,
		                     .dst = (uint8_t)to,
		                     .dst_set = set,
		                     .flags = (uint8_t)(STEP_REDUCE | first | final),
		             });
	}
}

static void build_channel(struct plan_builder *b, enum coll coll, struct team *t, int channels)
{
	int strand = plan_strand(b, -1);
	if (coll == COLL_ALLGATHER)
		copy(b, BUF_IN, BUF_OUT, t->own[t->me]);
	else
		reduce_scatter(b, t);
	if (coll == COLL_REDUCE_SCATTER)
		return;
	if (coll == COLL_ALLREDUCE) {
		plan_strand(b, strand);
		t->lane += channels;
	}
	allgather(b, t);
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	b->plan->parts = a->coll == COLL_ALLREDUCE ? 1 : a->channels;
	b->plan->nblocks = a->nranks * a->channels;
	b->plan->max_set = a->nranks / 2;
	b->plan->by_reference = true;
	for (int channel = 0; channel < a->channels; channel++) {
		struct team t;
		if (!team_of_all(b, &t, a, a->channels, channel))
			return;
		t.lane = channel;
		build_channel(b, a->coll, &t, a->channels);
		team_free(&t);
	}
}

static void volume(struct volume *v, const struct plan_args *a)
{
	int n = a->nranks, lg = log2_up(n), ways = a->coll == COLL_ALLREDUCE ? 2 : 1;
	v->all = (struct leg){.rounds = ways * lg,
	                      .sent = ways * (n - 1),
	                      .reduced = coll_reduces(a->coll) ? n - 1 : 0,
	                      .sources = lg,
	                      .peers = 2 * lg};
	v->channels = a->channels;
	v->blocks = n;
	v->largest = n / 2;
	v->phases = ways;
}

const struct algo algo_pat = {
        .name = "pat",
        .what = "Bruck backwards: log2 n rounds in which the longest hop carries least, any n; small to middle blocks",
        .source = "PAT: a new algorithm for all-gather and reduce-scatter operations at scale, arXiv 2506.20252, 2025",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER,
        .flags = ALGO_FOLDS_ONCE,
        .build = build,
        .volume = volume,
};
