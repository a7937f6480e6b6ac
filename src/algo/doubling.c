/* SPDX-License-Identifier: MIT */
/*
 * Recursive doubling: in round k every rank exchanges all that it has with the rank whose number differs in bit k,
 * and both fold it in the same order, lower ranks first: the same tree of sums, so the same bits, everywhere. Fewest
 * rounds, all bytes in each: small messages.
 *
 * With n not a power of two the first 2 (n - p) ranks form pairs; the even one folds the odd one in, takes part, and
 * hands it the result. Neighbours pair so that every partial sum is over consecutive ranks.
 */
#include "team.h"

/* The member that stands at a place among the p that take part. */
static int at_place(int place, int extra)
{
	return place < extra ? 2 * place : place + extra;
}

/* Where this member sends what it has after the round at `distance` (0: before the first one); -1: nowhere. */
static int16_t onward(struct plan_builder *b, const struct team *t, int place, int distance, int pow, int extra)
{
	int next = distance ? 2 * distance : 1;
	if (next < pow)
		return to_member(b, t, at_place(place ^ next, extra));
	return place < extra ? to_member(b, t, t->me + 1) : (int16_t)-1;
}

void doubling_allreduce(struct plan_builder *b, const struct team *t, struct block_set set)
{
	int pow = power_below(t->n), extra = t->n - pow;
	uint8_t in = (uint8_t)t->in, out = (uint8_t)t->out;

	if (t->me < 2 * extra && t->me % 2) {
		send_to(b, t, t->me - 1, in, set);
		recv_from(b, t, t->me - 1, out, set);
		return;
	}

	int place = t->me < 2 * extra ? t->me / 2 : t->me - extra;
	struct step s = {.recv = -1, .send = onward(b, t, place, 0, pow, extra), .src = in, .src_set = set};
	if (place < extra) {
		s.recv = from_member(b, t, t->me + 1);
		s.flags = STEP_REDUCE | STEP_LOCAL_FIRST;
		s.dst = out;
		s.dst_set = set;
	}
	plan_step(b, s);
	for (int d = 1; d < pow; d *= 2) {
		bool first = place < (place ^ d), last = 2 * d == pow;
		plan_step(b, (struct step){
		                     .recv = from_member(b, t, at_place(place ^ d, extra)),
		                     .send = onward(b, t, place, d, pow, extra),
		                     .src = d == 1 && place >= extra ? in : out,
		                     .src_set = set,
		                     .dst = out,
		                     .dst_set = set,
		                     .flags = (uint8_t)(STEP_REDUCE | (first ? STEP_LOCAL_FIRST : 0) |
		                                        (last ? t->final : 0)),
		             });
	}
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	b->plan->nblocks = a->channels;
	for (int channel = 0; channel < a->channels; channel++) {
		struct team t;
		if (!team_of_all(b, &t, a, 1, 0))
			return;
		t.lane = channel;
		plan_strand(b, -1);
		doubling_allreduce(b, &t, block_one(channel));
		team_free(&t);
	}
}

/* Ranks beyond a power of two are heard before the first round, and told after the last one, by those that stand in for them. */
struct leg doubling_leg(int n)
{
	int lg = log2_up(n);
	return (struct leg){.rounds = lg + (n != 1 << lg), .sent = lg, .reduced = lg, .sources = lg, .peers = lg};
}

/*
 * The nearest first: where hosts have equally many ranks, a power of two, and these stand together, the first rounds
 * stay inside hosts. A rank that represents another one is on the same host.
 */
static void volume(struct volume *v, const struct plan_args *a)
{
	int n = a->nranks, hosts = a->shape ? a->shape->nhosts : n, local = n / hosts;
	v->all = doubling_leg(n);
	v->channels = a->channels;
	if (hosts == 1 || local == 1 || n % hosts || local != power_below(local))
		return;
	v->inside = doubling_leg(local);
	v->all = doubling_leg(hosts);
	v->all.rounds = log2_up(hosts);
	v->all.peers = log2_up(n); /* wherever ranks stand */
	v->joined = true;
}

const struct algo algo_doubling = {
        .name = "doubling",
        .what = "pairs at distance 1, 2, 4, ... exchange everything, log2 n rounds; small messages",
        .source = "Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005",
        .colls = 1u << COLL_ALLREDUCE,
        .build = build,
        .volume = volume,
};
