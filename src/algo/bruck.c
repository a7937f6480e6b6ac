/* SPDX-License-Identifier: MIT */
/*
 * Bruck: in round k every rank sends all blocks that it has, but no more than are missing, to the rank 2^k before it,
 * and so doubles its number of blocks. The blocks of a rank are a run that begins with its own and wraps at n. Such a
 * run is a block set, so everything arrives at its final place and the rotation of the textbook is not needed. Any n.
 */
#include "team.h"

static int least(int x, int y)
{
	return x < y ? x : y;
}

static void allgather(struct plan_builder *b, const struct team *t)
{
	int parts = b->plan->parts;
	copy(b, BUF_IN, BUF_OUT, t->own[t->me]);
	for (int d = 1; d < t->n; d *= 2) {
		int from = wrap(t->me + d, t->n), to = wrap(t->me - d, t->n), count = least(d, t->n - d);
		send_to(b, t, to, BUF_OUT, blocks(t->own[t->me].first, parts, count));
		recv_from(b, t, from, BUF_OUT, blocks(t->own[from].first, parts, count));
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
		struct team t;
		if (!team_of_all(b, &t, a, a->channels, channel))
			return;
		t.lane = channel;
		plan_strand(b, -1);
		allgather(b, &t);
		team_free(&t);
	}
}

static void volume(struct volume *v, const struct plan_args *a)
{
	int n = a->nranks, lg = log2_up(n), last = power_below(n - 1);
	v->all = (struct leg){.rounds = lg, .sent = n - 1, .sources = lg, .peers = 2 * lg};
	v->channels = a->channels;
	v->blocks = n;
	v->largest = n - last > last / 2 ? n - last : last / 2;
}

const struct algo algo_bruck = {
        .name = "bruck",
        .what = "everybody doubles what it has in each of log2 n rounds, any n; small blocks",
        .source = "Bruck et al., Efficient algorithms for all-to-all in multiport message-passing systems, 1997",
        .colls = 1u << COLL_ALLGATHER,
        .build = build,
        .volume = volume,
};
