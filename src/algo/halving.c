/* SPDX-License-Identifier: MIT */
/*
 * Recursive halving and doubling (Rabenseifner): pairs exchange half of what they still sum, then half of the half,
 * until each owns one part; an all-gather runs the same way back. As few rounds as doubling, as few bytes as a ring.
 *
 * p = the largest power of two <= n places take part. If n is larger the first 2 (n - p) ranks form pairs of
 * neighbours, of which the odd one hands everything to the even one and gets its result from it. Consecutive places
 * always own one run of blocks: of an all-reduce one block a place, otherwise the blocks of the ranks at it.
 */
#include "team.h"

struct halving {
	const struct team *t;
	int pow, extra;
	int place; /* the place of this member among those that take part, or of the one that it is paired with */
	bool paired, away; /* one of two at a place; the one that does not take part */
	bool owned;        /* places own the blocks of their ranks */
	int channel, channels;
};

static struct halving halving_of(const struct team *t, const struct plan_args *a, int channel)
{
	struct halving h = {.t = t, .pow = power_below(t->n), .channel = channel, .channels = a->channels};
	h.extra = t->n - h.pow;
	h.paired = t->me < 2 * h.extra;
	h.away = h.paired && t->me % 2;
	h.place = h.paired ? t->me / 2 : t->me - h.extra;
	h.owned = a->coll != COLL_ALLREDUCE;
	return h;
}

static int member_at(const struct halving *h, int place)
{
	return place < h->extra ? 2 * place : place + h->extra;
}

/* Blocks that belong to the places [lo, hi). */
static struct block_set run_of(const struct halving *h, int lo, int hi)
{
	int first = h->owned ? member_at(h, lo) : lo, end = h->owned ? member_at(h, hi) : hi;
	return blocks(first * h->channels + h->channel, h->channels, end - first);
}

static struct block_set block_of(const struct halving *h, int member)
{
	return block_one(member * h->channels + h->channel);
}

/*
 * The distance of round k. All-reduce: near first, the largest messages go the shortest way. Otherwise far first: then
 * place v ends with the v-th run.
 */
static int distance(const struct halving *h, int k)
{
	return h->owned ? h->pow >> (k + 1) : 1 << k;
}

/* Halves [*lo, *hi) to what this member keeps in round k, and returns what it gives away. */
static struct block_set halve(const struct halving *h, int k, int *lo, int *hi)
{
	int middle = (*lo + *hi) / 2, l = *lo, u = *hi;
	if (h->place & distance(h, k)) {
		*lo = middle;
		return run_of(h, l, middle);
	}
	*hi = middle;
	return run_of(h, middle, u);
}

/* All blocks between the two of a pair: in halves, as no other message is larger. */
static void whole(struct plan_builder *b, const struct halving *h, struct step s)
{
	int bounds[] = {0, h->pow / 2, h->pow};
	for (int i = 0; i < 2; i++) {
		s.src_set = s.dst_set = run_of(h, bounds[i], bounds[i + 1]);
		plan_step(b, s);
	}
}

/*
 * Sums of the runs go to `at`. The sum of its own run goes there as well, or to `last`, and (all-reduce) at once back
 * to the peer.
 */
static void halve_all(struct plan_builder *b, const struct halving *h, uint8_t at, uint8_t last, bool join)
{
	uint8_t from = BUF_IN;
	if (h->paired) {
		whole(b, h,
		      (struct step){.recv = from_member(b, h->t, h->t->me + 1),
		                    .send = -1,
		                    .src = BUF_IN,
		                    .dst = at,
		                    .flags = STEP_REDUCE | STEP_LOCAL_FIRST});
		from = at;
	}
	for (int k = 0, lo = 0, hi = h->pow; hi - lo > 1; k++, from = at) {
		int place = h->place ^ distance(h, k), peer = member_at(h, place);
		struct block_set away = halve(h, k, &lo, &hi), kept = run_of(h, lo, hi);
		bool final = hi - lo == 1;
		send_to(b, h->t, peer, from, away);
		struct step s = {
		        .recv = from_member(b, h->t, peer),
		        .send = -1,
		        .src = from,
		        .src_set = kept,
		        .dst = final ? last : at,
		        .dst_set = kept,
		        .flags = STEP_REDUCE | (h->place < place ? STEP_LOCAL_FIRST : 0) | (final ? STEP_FINAL : 0),
		};
		if (join && final)
			s.send = to_member(b, h->t, peer);
		plan_step(b, s);
	}
}

/* The way back, all in OUT. `joined`: the first message has been sent. */
static void double_all(struct plan_builder *b, const struct halving *h, bool joined)
{
	for (int round = __builtin_ctz((unsigned)h->pow) - 1; round >= 0; round--) {
		int lo = 0, hi = h->pow, peer = member_at(h, h->place ^ distance(h, round));
		struct block_set theirs = {0};
		for (int k = 0; k <= round; k++)
			theirs = halve(h, k, &lo, &hi);
		if (!joined || hi - lo > 1)
			send_to(b, h->t, peer, BUF_OUT, run_of(h, lo, hi));
		recv_from(b, h->t, peer, BUF_OUT, theirs);
	}
	if (h->paired)
		whole(b, h, (struct step){.recv = -1, .send = to_member(b, h->t, h->t->me + 1), .src = BUF_OUT});
}

static void allreduce(struct plan_builder *b, const struct halving *h)
{
	if (h->away) {
		whole(b, h, (struct step){.recv = -1, .send = to_member(b, h->t, h->t->me - 1), .src = BUF_IN});
		whole(b, h, (struct step){.recv = from_member(b, h->t, h->t->me - 1), .send = -1, .dst = BUF_OUT});
		return;
	}
	halve_all(b, h, BUF_OUT, BUF_OUT, true);
	double_all(b, h, true);
}

static void reduce_scatter(struct plan_builder *b, const struct halving *h)
{
	struct block_set own = block_of(h, h->t->me);
	if (h->away) {
		whole(b, h, (struct step){.recv = -1, .send = to_member(b, h->t, h->t->me - 1), .src = BUF_IN});
		recv_from(b, h->t, h->t->me - 1, BUF_OUT, own);
		return;
	}
	halve_all(b, h, BUF_TMP, h->paired ? BUF_TMP : BUF_OUT, false);
	if (!h->paired)
		return;
	send_to(b, h->t, h->t->me + 1, BUF_TMP, block_of(h, h->t->me + 1));
	copy(b, BUF_TMP, BUF_OUT, own);
}

static void allgather(struct plan_builder *b, const struct halving *h)
{
	struct block_set own = block_of(h, h->t->me);
	if (h->away) {
		send_to(b, h->t, h->t->me - 1, BUF_IN, own);
		whole(b, h, (struct step){.recv = from_member(b, h->t, h->t->me - 1), .send = -1, .dst = BUF_OUT});
		return;
	}
	copy(b, BUF_IN, BUF_OUT, own);
	if (h->paired)
		recv_from(b, h->t, h->t->me + 1, BUF_OUT, block_of(h, h->t->me + 1));
	double_all(b, h, false);
}

static void build_channel(struct plan_builder *b, const struct plan_args *a, const struct halving *h)
{
	struct block_set low = run_of(h, 0, h->pow / 2), high = run_of(h, h->pow / 2, h->pow);
	b->plan->nblocks = (h->owned ? h->t->n : h->pow) * h->channels;
	b->plan->parts = h->owned ? h->channels : 1;
	b->plan->max_set = low.n > high.n ? low.n : high.n;
	plan_strand(b, -1);
	(a->coll == COLL_ALLREDUCE ? allreduce : a->coll == COLL_ALLGATHER ? allgather : reduce_scatter)(b, h);
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	b->plan->by_reference = true;
	for (int channel = 0; channel < a->channels; channel++) {
		struct team t;
		if (!team_of_all(b, &t, a, 1, 0))
			return;
		t.lane = channel;
		struct halving h = halving_of(&t, a, channel);
		build_channel(b, a, &h);
		team_free(&t);
	}
}

/* Blocks of the longest run of so many places, and of all such runs of half the places and less, which one place has in turn. */
static int run_length(int n, int places)
{
	int extra = n - power_below(n);
	return places + (places < extra ? places : extra);
}

static int run_lengths(int n)
{
	int sum = 0;
	for (int places = 1; places < power_below(n); places *= 2)
		sum += run_length(n, places);
	return sum;
}

/* Where ranks are paired all blocks pass once more. */
static struct leg leg_of(enum coll coll, int n)
{
	int pow = power_below(n), beyond = n != pow, ways = coll == COLL_ALLREDUCE ? 2 : 1;
	int runs = ways == 2 ? pow - 1 : run_lengths(n), all = ways == 2 ? pow : n;
	return (struct leg){.rounds = ways * log2_up(pow) + 2 * beyond,
	                    .sent = ways * runs + beyond * all,
	                    .reduced = coll_reduces(coll) ? runs + beyond * all : 0,
	                    .sources = log2_up(n),
	                    .peers = log2_up(n)};
}

/*
 * An all-reduce has the nearest first: where hosts have equally many ranks, and these stand together, the first rounds stay
 * inside hosts, with hosts times the blocks.
 */
static void volume(struct volume *v, const struct plan_args *a)
{
	int n = a->nranks, pow = power_below(n), hosts = a->shape ? a->shape->nhosts : n;
	v->all = leg_of(a->coll, n);
	v->channels = a->channels;
	v->blocks = a->coll == COLL_ALLREDUCE ? pow : n;
	v->largest = a->coll == COLL_ALLREDUCE ? pow / 2 : run_length(n, pow / 2);
	if (a->coll != COLL_ALLREDUCE || n != pow || hosts == 1 || hosts == n || n % hosts)
		return;
	v->inside = leg_of(a->coll, n / hosts);
	v->inside.sent *= hosts;
	v->inside.reduced *= hosts;
	v->all = leg_of(a->coll, hosts);
	v->all.peers = log2_up(n); /* wherever ranks stand */
	v->joined = true;
}

const struct algo algo_halving = {
        .name = "halving",
        .what = "pairs exchange halves of halves, then the way back: 2 log2 n rounds, no byte twice; middle sizes",
        .source = "Rabenseifner, Optimization of collective reduction operations, 2004",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER,
        .flags = ALGO_FOLDS_ONCE,
        .build = build,
        .volume = volume,
};
