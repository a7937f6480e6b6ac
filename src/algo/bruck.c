/*
 * Bruck: in round k everybody sends all that it has, but no more than is missing, to the rank 2^k before it, and so
 * doubles what it knows. What a rank has is a run of blocks that begins with its own and wraps at n: a block set, so that
 * everything arrives at its place and the final rotation of the textbook is not needed. Any n.
 */
#include "team.h"

static int least(int x, int y)
{
	return x < y ? x : y;
}

static void build_channel(struct plan_builder *b, const struct plan_args *a, int channel)
{
	int n = a->nranks, r = a->rank, parts = a->channels;
	struct block_set own = block_one(r * parts + channel);
	plan_copy(b, BUF_IN, BUF_OUT, own);
	for (int d = 1; d < n; d *= 2) {
		int from = (r + d) % n, to = (r - d + n) % n, count = least(d, n - d);
		plan_step(b, (struct step){.recv = -1, .send = (int16_t)plan_to(b, to, channel), .src = BUF_OUT,
					   .src_set = blocks(own.first, parts, count)});
		plan_step(b, (struct step){.recv = (int16_t)plan_from(b, from, channel), .send = -1, .dst = BUF_OUT,
					   .dst_set = blocks(from * parts + channel, parts, count)});
		if (count > b->plan->max_set)
			b->plan->max_set = count;
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	b->plan->parts = a->channels;
	b->plan->nblocks = a->nranks * a->channels;
	b->plan->by_reference = true;
	for (int channel = 0; channel < a->channels; channel++) {
		plan_strand(b, -1);
		build_channel(b, a, channel);
	}
}

const struct algo algo_bruck = {
	.name = "bruck",
	.what = "everybody doubles what it has in each of log2 n rounds, any n; small blocks",
	.source = "Bruck et al., Efficient algorithms for all-to-all communications in multiport message-passing systems, 1997",
	.colls = 1u << COLL_ALLGATHER,
	.build = build,
};
