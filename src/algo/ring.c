/* SPDX-License-Identifier: MIT */
/*
 * Ring: everybody talks to its two neighbours only. Each rank's links carry every byte once and no rank does more
 * than another, which is best for large messages and the only choice for machines cabled in a ring.
 *
 * `channels` rings run side by side, each a strand on its own lane with its own blocks; every second one runs the
 * other way round, so that both directions of a cable are in use. Ranks of one host stand next to each other in the
 * ring.
 */
#include "team.h"

#define NO_LINK (-1)

static int next_of(const struct team *t)
{
	return wrap(t->me + 1, t->n);
}

static int previous_of(const struct team *t)
{
	return wrap(t->me - 1, t->n);
}

/*
 * The sum of a block starts behind its owner and goes once round, to end with the owner. Member 0 puts its own first,
 * so that two ranks add as kernel(lower, higher).
 */
static void go_round_summing(struct plan_builder *b, const struct team *t, bool pass_on)
{
	for (int back = 1; back <= t->n; back++) {
		struct block_set set = t->own[wrap(t->me - back, t->n)];
		if (!set.n)
			continue;
		struct step s = {.recv = NO_LINK, .send = NO_LINK, .src = (uint8_t)t->in, .src_set = set};
		if (back > 1) {
			s.recv = from_member(b, t, previous_of(t));
			s.flags = STEP_REDUCE | (t->me == 0 ? STEP_LOCAL_FIRST : 0);
		}
		if (back < t->n || pass_on)
			s.send = to_member(b, t, next_of(t));
		if (back == t->n) {
			s.flags |= t->final;
			s.dst = (uint8_t)t->out;
			s.dst_set = s.src_set;
		}
		plan_step(b, s);
	}
}

/* Every block goes from its owner to the member behind it; the owners have sent theirs already. */
static void go_round_copying(struct plan_builder *b, const struct team *t)
{
	for (int back = 1; back < t->n; back++) {
		struct block_set set = t->own[wrap(t->me - back, t->n)];
		if (!set.n)
			continue;
		plan_step(b, (struct step){
		                     .recv = from_member(b, t, previous_of(t)),
		                     .send = back < t->n - 1 ? to_member(b, t, next_of(t)) : (int16_t)NO_LINK,
		                     .dst = (uint8_t)t->out,
		                     .dst_set = set,
		             });
	}
}

void ring_reduce_scatter(struct plan_builder *b, const struct team *t)
{
	go_round_summing(b, t, false);
}

void ring_allgather(struct plan_builder *b, const struct team *t)
{
	struct block_set mine = t->own[t->me];
	if (mine.n)
		send_to(b, t, next_of(t), t->in, mine);
	if (mine.n && t->in != t->out)
		copy(b, t->in, t->out, mine);
	go_round_copying(b, t);
}

void ring_allreduce(struct plan_builder *b, const struct team *t)
{
	go_round_summing(b, t, true);
	go_round_copying(b, t);
}

/* A chain from the root all along the ring. */
static void chain_broadcast(struct plan_builder *b, const struct team *t, int root, int block)
{
	int place = wrap(t->me - root, t->n);
	struct block_set set = block_one(block);
	int16_t to = place < t->n - 1 ? to_member(b, t, next_of(t)) : (int16_t)NO_LINK;
	if (place) {
		plan_step(b, (struct step){.recv = from_member(b, t, previous_of(t)),
		                           .send = to,
		                           .dst = BUF_OUT,
		                           .dst_set = set});
		return;
	}
	send_to(b, t, next_of(t), BUF_IN, set);
	copy(b, BUF_IN, BUF_OUT, set);
}

/* A chain from the member after the root to the root. */
static void chain_reduce(struct plan_builder *b, const struct team *t, int root, int block)
{
	int place = wrap(t->me - root, t->n);
	struct step s = {.recv = NO_LINK, .send = NO_LINK, .src = BUF_IN, .src_set = block_one(block)};
	if (place != 1) {
		s.recv = from_member(b, t, previous_of(t));
		s.flags = STEP_REDUCE | (t->me == 0 ? STEP_LOCAL_FIRST : 0);
	}
	if (place != 0) {
		s.send = to_member(b, t, next_of(t));
	} else {
		s.flags |= STEP_FINAL;
		s.dst = BUF_OUT;
		s.dst_set = s.src_set;
	}
	plan_step(b, s);
}

static void build_channel(struct plan_builder *b, const struct plan_args *a, const struct team *t, int channel)
{
	switch (a->coll) {
	case COLL_ALLREDUCE:
		ring_allreduce(b, t);
		break;
	case COLL_ALLGATHER:
		ring_allgather(b, t);
		break;
	case COLL_REDUCE_SCATTER:
		ring_reduce_scatter(b, t);
		break;
	case COLL_BROADCAST:
		chain_broadcast(b, t, team_member(t, a->root), channel);
		break;
	default:
		chain_reduce(b, t, team_member(t, a->root), channel);
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	bool rooted = a->coll == COLL_BROADCAST || a->coll == COLL_REDUCE;
	bool owned = a->coll == COLL_ALLGATHER || a->coll == COLL_REDUCE_SCATTER;
	b->plan->nblocks = rooted ? a->channels : a->nranks * a->channels;
	b->plan->parts = owned ? a->channels : 1;
	b->plan->by_reference = true;
	for (int channel = 0; channel < a->channels; channel++) {
		struct team t;
		if (!team_by_host(b, &t, a, a->channels, channel))
			return;
		t.lane = channel;
		if (channel % 2)
			team_reverse(&t);
		plan_strand(b, -1);
		build_channel(b, a, &t, channel);
		team_free(&t);
	}
}

struct leg ring_leg(enum coll coll, int n)
{
	int others = n - 1, ways = coll == COLL_ALLREDUCE ? 2 : 1;
	return (struct leg){.rounds = ways * others,
	                    .sent = ways * others,
	                    .reduced = coll_reduces(coll) ? others : 0,
	                    .sources = 1,
	                    .peers = others < 2 ? others : 2};
}

static void volume(struct volume *v, const struct plan_args *a)
{
	bool rooted = a->coll == COLL_BROADCAST || a->coll == COLL_REDUCE;
	int hosts = a->shape ? a->shape->nhosts : a->nranks;
	v->all = ring_leg(a->coll, a->nranks);
	v->exits = 1; /* ranks of a host stand side by side */
	v->channels = a->channels;
	v->blocks = a->nranks;
	if (!rooted)
		return;
	if (hosts > 1 && hosts < a->nranks) { /* a chain leaves each host once, and that of the root perhaps twice */
		v->all.rounds = hosts;
		v->inside.rounds = a->nranks - 1 - hosts;
	}
	v->pipeline = v->all.rounds;
	v->blocks = v->all.sent = v->all.messages = 1;
	v->all.reduced = a->coll == COLL_REDUCE ? 1 : 0;
}

const struct algo algo_ring = {
        .name = "ring",
        .what = "each rank talks to its neighbours only: 2(n-1) messages deep, no byte twice on a link; large messages",
        .source = "Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER | 1u << COLL_BROADCAST |
                 1u << COLL_REDUCE,
        .flags = ALGO_FOLDS_ONCE,
        .build = build,
        .volume = volume,
};
