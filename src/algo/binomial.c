/* SPDX-License-Identifier: MIT */
/*
 * Binomial tree: ranks count from the root, v = rank - root mod n; the parent of v is v without its lowest set bit.
 * The subtree of v is the run of ranks v .. v + lowest bit - 1, so what it gathers is one run of blocks, and its sum
 * is over consecutive ranks. log2 n rounds; small messages.
 */
#include "team.h"

struct place {
	const struct team *t;
	int n, root;
	int v;    /* this member, counted from the root */
	int span; /* its children are v + d for d = 1, 2, 4, ... < span, as far as they exist */
};

static struct place place_of(const struct team *t, int root, int v)
{
	struct place p = {.t = t, .n = t->n, .root = root, .v = v, .span = v & -v};
	if (v == 0)
		for (p.span = 1; p.span < p.n; p.span *= 2)
			;
	return p;
}

static struct place my_place(const struct team *t, int root)
{
	return place_of(t, root, wrap(t->me - root, t->n));
}

static int member_at(const struct place *p, int v)
{
	return (v + p->root) % p->n;
}

static bool has_child(const struct place *p, int d)
{
	return d < p->span && p->v + d < p->n;
}

/* The largest distance at which there is a child; 0: a leaf. */
static int farthest(const struct place *p)
{
	int d = 0;
	for (int k = 1; has_child(p, k); k *= 2)
		d = k;
	return d;
}

static int parent(const struct place *p)
{
	return member_at(p, p->v & (p->v - 1));
}

static int child(const struct place *p, int d)
{
	return member_at(p, p->v + d);
}

/* The farthest child comes first: it has the longest way to go. */
void binomial_broadcast(struct plan_builder *b, const struct team *t, int root, struct block_set set)
{
	struct place p = my_place(t, root);
	int d = farthest(&p);
	if (p.v) {
		plan_step(b, (struct step){
		                     .recv = from_member(b, t, parent(&p)),
		                     .send = d ? to_member(b, t, child(&p, d)) : (int16_t)-1,
		                     .dst = (uint8_t)t->out,
		                     .dst_set = set,
		             });
		d /= 2;
	}
	for (; d; d /= 2)
		send_to(b, t, child(&p, d), p.v ? t->out : t->in, set);
	if (!p.v && t->in != t->out)
		copy(b, t->in, t->out, set);
}

/* The nearest child comes first: own + child + child, each the next run of members. */
void binomial_reduce(struct plan_builder *b, const struct team *t, int root, struct block_set set)
{
	struct place p = my_place(t, root);
	uint8_t sum = p.v ? BUF_TMP : (uint8_t)t->out;
	int last = farthest(&p);
	if (!last)
		send_to(b, t, parent(&p), t->in, set);
	for (int d = 1; d <= last; d *= 2) {
		struct step s = {
		        .recv = from_member(b, t, child(&p, d)),
		        .send = -1,
		        .flags = STEP_REDUCE | STEP_LOCAL_FIRST,
		        .src = d == 1 ? (uint8_t)t->in : sum,
		        .src_set = set,
		};
		if (d == last && p.v) {
			s.send = to_member(b, t, parent(&p));
		} else {
			s.dst = sum;
			s.dst_set = set;
			s.flags |= d == last ? t->final : 0;
		}
		plan_step(b, s);
	}
}

/* The run of blocks of the subtree at v. */
static struct block_set subtree(const struct place *p, int v)
{
	struct place x = place_of(p->t, p->root, v);
	return blocks(member_at(p, v), 1, x.span < x.n - v ? x.span : x.n - v);
}

static void gather(struct plan_builder *b, const struct place *p)
{
	struct block_set own = block_one(p->t->me);
	enum plan_buf at = p->v ? BUF_TMP : BUF_OUT;
	int last = farthest(p);
	if (p->v && !last) {
		send_to(b, p->t, parent(p), BUF_IN, own);
		return;
	}
	copy(b, BUF_IN, at, own);
	for (int d = 1; d <= last; d *= 2)
		recv_from(b, p->t, child(p, d), at, subtree(p, p->v + d));
	if (p->v)
		send_to(b, p->t, parent(p), at, subtree(p, p->v));
}

static void scatter(struct plan_builder *b, const struct place *p)
{
	struct block_set own = block_one(p->t->me);
	enum plan_buf at = p->v ? BUF_TMP : BUF_IN;
	int d = farthest(p);
	if (p->v && !d) {
		recv_from(b, p->t, parent(p), BUF_OUT, own);
		return;
	}
	if (p->v)
		recv_from(b, p->t, parent(p), at, subtree(p, p->v));
	for (; d; d /= 2)
		send_to(b, p->t, child(p, d), at, subtree(p, p->v + d));
	copy(b, at, BUF_OUT, own);
}

/* Tokens up to rank 0, then down again. */
static void barrier(struct plan_builder *b, const struct place *p)
{
	int last = farthest(p);
	for (int d = 1; d <= last; d *= 2)
		recv_token(b, p->t, child(p, d));
	if (p->v) {
		send_token(b, p->t, parent(p));
		recv_token(b, p->t, parent(p));
	}
	for (int d = last; d; d /= 2)
		send_token(b, p->t, child(p, d));
}

static int largest_subtree(const struct place *p)
{
	int largest = 1;
	for (int v = 1; v < p->n; v++)
		if (subtree(p, v).n > largest)
			largest = subtree(p, v).n;
	return largest;
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_of_all(b, &t, a, 1, 0))
		return;
	struct place p = my_place(&t, a->root);
	b->plan->by_reference = true;
	plan_strand(b, -1);
	switch (a->coll) {
	case COLL_BROADCAST:
		binomial_broadcast(b, &t, a->root, block_one(0));
		break;
	case COLL_REDUCE:
		binomial_reduce(b, &t, a->root, block_one(0));
		break;
	case COLL_GATHER:
	case COLL_SCATTER:
		b->plan->nblocks = a->nranks;
		b->plan->max_set = largest_subtree(&p);
		(a->coll == COLL_GATHER ? gather : scatter)(b, &p);
		break;
	default:
		barrier(b, &p);
	}
	team_free(&t);
}

struct leg binomial_leg(enum coll coll, int n)
{
	int lg = log2_up(n);
	bool sum = coll == COLL_REDUCE;
	return (struct leg){.rounds = lg,
	                    .messages = lg,
	                    .sent = lg,
	                    .reduced = sum ? lg : 0,
	                    .sources = coll == COLL_BROADCAST || coll == COLL_SCATTER ? 1 : lg,
	                    .peers = lg};
}

static void volume(struct volume *v, const struct plan_args *a)
{
	v->all = binomial_leg(a->coll, a->nranks);
	v->pipeline = 1;
	if (a->coll == COLL_BARRIER) {
		v->all.rounds *= 2; /* up and down */
		v->all.sent = 0;
		v->pipeline = 0;
	}
	if (a->coll == COLL_GATHER || a->coll == COLL_SCATTER) {
		struct team t = {.n = a->nranks};
		struct place p = my_place(&t, 0);
		v->blocks = a->nranks;
		v->largest = largest_subtree(&p);
		v->all.sent = a->nranks - 1;
	}
}

const struct algo algo_binomial = {
        .name = "binomial",
        .what = "a tree of depth log2 n in which a parent serves its children one after the other; small messages",
        .source = "Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005",
        .colls = 1u << COLL_BROADCAST | 1u << COLL_REDUCE | 1u << COLL_GATHER | 1u << COLL_SCATTER | 1u << COLL_BARRIER,
        .build = build,
        .volume = volume,
};
