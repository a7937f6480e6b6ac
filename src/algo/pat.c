/*
 * PAT, parallel aggregated trees: Bruck with the dimensions reversed. The farthest exchange comes first and carries one
 * block, the nearest comes last and carries half of all, so long hops carry least. Any n.
 *
 * All-gather, dimension d from the highest down: r sends to r - 2^d the blocks r + x for x = 0, 2^(d+1), 2 * 2^(d+1), ...
 * as far as x + 2^d < n. Reduce-scatter is the same backwards, with sums on the way: at dimension d, from 0 up, r sends to
 * r + 2^d its partial sums of the blocks r + y whose y has 2^d as its lowest bit, and takes in what belongs to the blocks
 * r + x, x a multiple of 2^(d+1). All-reduce is one after the other, in two strands.
 */
#include "team.h"

struct pat {
	const struct plan_args *a;
	int channel, lane;
	int top;               /* the highest dimension, as a distance: the largest power of two < n */
};

static struct pat pat_of(const struct plan_args *a, int channel, int lane)
{
	struct pat p = {.a = a, .channel = channel, .lane = lane, .top = 1};
	while (p.top * 2 < a->nranks)
		p.top *= 2;
	return p;
}

static int rank_at(const struct pat *p, int distance)
{
	return (p->a->rank + distance + p->a->nranks) % p->a->nranks;
}

/* At distance d: how many multiples x of 2d are there with x + d < n? */
static int count_at(const struct pat *p, int d)
{
	return (p->a->nranks - d + 2 * d - 1) / (2 * d);
}

/* Those blocks, as seen from the rank that is `distance` ahead. */
static struct block_set set_at(const struct pat *p, int d, int distance)
{
	int parts = p->a->channels;
	return blocks(rank_at(p, distance) * parts + p->channel, 2 * d * parts, count_at(p, d));
}

static void allgather(struct plan_builder *b, const struct pat *p)
{
	for (int d = p->top; d; d /= 2) {
		plan_step(b, (struct step){.recv = -1, .send = (int16_t)plan_to(b, rank_at(p, -d), p->lane),
					   .src = BUF_OUT, .src_set = set_at(p, d, 0)});
		plan_step(b, (struct step){.recv = (int16_t)plan_from(b, rank_at(p, d), p->lane), .send = -1,
					   .dst = BUF_OUT, .dst_set = set_at(p, d, d)});
	}
}

static void reduce_scatter(struct plan_builder *b, const struct pat *p)
{
	/* The sums are in scratch from their first arrival on; for the block behind an even last x nothing arrives. */
	struct block_set last = block_one(rank_at(p, -1) * p->a->channels + p->channel);
	if (p->a->nranks % 2)
		plan_copy(b, BUF_IN, BUF_TMP, last);
	for (int d = 1; d <= p->top; d *= 2) {
		uint8_t from = d == 1 ? BUF_IN : BUF_TMP;
		struct block_set set = set_at(p, d, 0);
		bool final = d == p->top;
		plan_step(b, (struct step){.recv = -1, .send = (int16_t)plan_to(b, rank_at(p, d), p->lane),
					   .src = from, .src_set = set_at(p, d, d)});
		plan_step(b, (struct step){
			.recv = (int16_t)plan_from(b, rank_at(p, -d), p->lane), .send = -1,
			.src = from, .src_set = set, .dst = final ? BUF_OUT : BUF_TMP, .dst_set = set,
			.flags = (uint8_t)(STEP_REDUCE | (p->a->rank < d ? STEP_LOCAL_FIRST : 0) | (final ? STEP_FINAL : 0)),
		});
	}
}

static void build_channel(struct plan_builder *b, const struct plan_args *a, int channel)
{
	struct pat rs = pat_of(a, channel, channel), ag = pat_of(a, channel, channel);
	struct block_set own = block_one(a->rank * a->channels + channel);
	int strand = plan_strand(b, -1);
	switch (a->coll) {
	case COLL_REDUCE_SCATTER:
		reduce_scatter(b, &rs);
		break;
	case COLL_ALLGATHER:
		plan_copy(b, BUF_IN, BUF_OUT, own);
		allgather(b, &ag);
		break;
	default:
		reduce_scatter(b, &rs);
		ag.lane = a->channels + channel;
		plan_strand(b, strand);
		allgather(b, &ag);
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	b->plan->parts = a->coll == COLL_ALLREDUCE ? 1 : a->channels;
	b->plan->nblocks = a->nranks * a->channels;
	b->plan->max_set = a->nranks / 2;
	b->plan->by_reference = true;
	for (int channel = 0; channel < a->channels; channel++)
		build_channel(b, a, channel);
}

const struct algo algo_pat = {
	.name = "pat",
	.what = "Bruck backwards: log2 n rounds in which the longest hop carries least, any n; small to middle blocks",
	.source = "Jeaugey, PAT: a new algorithm for all-gather and reduce-scatter operations at scale, arXiv 2506.20252, 2025",
	.colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER,
	.build = build,
};
