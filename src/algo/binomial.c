/*
 * Binomial tree: ranks count from the root, v = rank - root mod n; the parent of v is v without its lowest set bit. The
 * subtree of v is the run of ranks v .. v + lowest bit - 1, so what it gathers is one run of blocks, and its sum is over
 * consecutive ranks. log2 n rounds; small messages.
 */
#include "algo.h"

struct place {
	int n, root;
	int v;       /* this rank, counted from the root */
	int span;    /* its children are v + d for d = 1, 2, 4, ... < span, as far as they exist */
};

static struct place place_of(const struct plan_args *a, int v)
{
	struct place p = {.n = a->nranks, .root = a->root, .v = v, .span = v & -v};
	if (v == 0)
		for (p.span = 1; p.span < p.n; p.span *= 2)
			;
	return p;
}

static int rank_at(const struct place *p, int v)
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

static int16_t to_parent(struct plan_builder *b, const struct place *p)
{
	return (int16_t)plan_to(b, rank_at(p, p->v & (p->v - 1)), 0);
}

static int16_t from_parent(struct plan_builder *b, const struct place *p)
{
	return (int16_t)plan_from(b, rank_at(p, p->v & (p->v - 1)), 0);
}

static int16_t to_child(struct plan_builder *b, const struct place *p, int d)
{
	return (int16_t)(d ? plan_to(b, rank_at(p, p->v + d), 0) : -1);
}

static int16_t from_child(struct plan_builder *b, const struct place *p, int d)
{
	return (int16_t)plan_from(b, rank_at(p, p->v + d), 0);
}

/* The run of blocks of the subtree at v. */
static struct block_set subtree(const struct plan_args *a, int v)
{
	struct place p = place_of(a, v);
	return blocks(rank_at(&p, v), 1, p.span < p.n - v ? p.span : p.n - v);
}

/* From the root down, farthest child first: it has the longest way to go. */
static void broadcast(struct plan_builder *b, const struct place *p)
{
	struct block_set all = block_one(0);
	int d = farthest(p);
	struct step s = {.recv = -1, .send = to_child(b, p, d), .dst = BUF_OUT, .dst_set = all};
	if (p->v) {
		s.recv = from_parent(b, p);
	} else {
		s.src = BUF_IN;
		s.src_set = all;
	}
	plan_step(b, s);
	for (d /= 2; d; d /= 2)
		plan_step(b, (struct step){.recv = -1, .send = to_child(b, p, d),
					   .src = p->v ? BUF_OUT : BUF_IN, .src_set = all});
}

/* From the leaves up, nearest child first: own + child + child, each the next run of ranks. */
static void reduce(struct plan_builder *b, const struct place *p)
{
	struct block_set all = block_one(0);
	int last = farthest(p);
	if (!last)
		plan_step(b, (struct step){.recv = -1, .send = to_parent(b, p), .src = BUF_IN, .src_set = all});
	for (int d = 1; d <= last; d *= 2) {
		struct step s = {
			.recv = from_child(b, p, d), .send = -1, .flags = STEP_REDUCE | STEP_LOCAL_FIRST,
			.src = d == 1 ? BUF_IN : p->v ? BUF_TMP : BUF_OUT, .src_set = all,
		};
		if (d == last && p->v) {
			s.send = to_parent(b, p);
		} else {
			s.dst = p->v ? BUF_TMP : BUF_OUT;
			s.dst_set = all;
			s.flags |= d == last ? STEP_FINAL : 0;
		}
		plan_step(b, s);
	}
}

static void gather(struct plan_builder *b, const struct plan_args *a, const struct place *p)
{
	struct block_set own = block_one(a->rank);
	int last = farthest(p);
	if (p->v && !last) {
		plan_step(b, (struct step){.recv = -1, .send = to_parent(b, p), .src = BUF_IN, .src_set = own});
		return;
	}
	uint8_t at = p->v ? BUF_TMP : BUF_OUT;
	plan_step(b, (struct step){.recv = -1, .send = -1, .src = BUF_IN, .src_set = own, .dst = at, .dst_set = own});
	for (int d = 1; d <= last; d *= 2)
		plan_step(b, (struct step){.recv = from_child(b, p, d), .send = -1, .dst = at,
					   .dst_set = subtree(a, p->v + d)});
	if (p->v)
		plan_step(b, (struct step){.recv = -1, .send = to_parent(b, p), .src = at, .src_set = subtree(a, p->v)});
}

static void scatter(struct plan_builder *b, const struct plan_args *a, const struct place *p)
{
	struct block_set own = block_one(a->rank);
	int d = farthest(p);
	if (p->v && !d) {
		plan_step(b, (struct step){.recv = from_parent(b, p), .send = -1, .dst = BUF_OUT, .dst_set = own});
		return;
	}
	uint8_t at = p->v ? BUF_TMP : BUF_IN;
	if (p->v)
		plan_step(b, (struct step){.recv = from_parent(b, p), .send = -1, .dst = at,
					   .dst_set = subtree(a, p->v)});
	for (; d; d /= 2)
		plan_step(b, (struct step){.recv = -1, .send = to_child(b, p, d), .src = at,
					   .src_set = subtree(a, p->v + d)});
	plan_step(b, (struct step){.recv = -1, .send = -1, .src = at, .src_set = own, .dst = BUF_OUT, .dst_set = own});
}

/* Tokens up to rank 0, then down again. */
static void barrier(struct plan_builder *b, const struct place *p)
{
	int last = farthest(p);
	for (int d = 1; d <= last; d *= 2)
		plan_step(b, (struct step){.recv = from_child(b, p, d), .send = -1, .flags = STEP_TOKEN});
	if (p->v) {
		plan_step(b, (struct step){.recv = -1, .send = to_parent(b, p), .flags = STEP_TOKEN});
		plan_step(b, (struct step){.recv = from_parent(b, p), .send = -1, .flags = STEP_TOKEN});
	}
	for (int d = last; d; d /= 2)
		plan_step(b, (struct step){.recv = -1, .send = to_child(b, p, d), .flags = STEP_TOKEN});
}

static int largest_subtree(const struct plan_args *a)
{
	int largest = 1;
	for (int v = 1; v < a->nranks; v++)
		if (subtree(a, v).n > largest)
			largest = subtree(a, v).n;
	return largest;
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct place p = place_of(a, (a->rank - a->root + a->nranks) % a->nranks);
	b->plan->by_reference = true;
	plan_strand(b, -1);
	switch (a->coll) {
	case COLL_BROADCAST:
		broadcast(b, &p);
		break;
	case COLL_REDUCE:
		reduce(b, &p);
		break;
	case COLL_GATHER:
	case COLL_SCATTER:
		b->plan->nblocks = a->nranks;
		b->plan->max_set = largest_subtree(a);
		(a->coll == COLL_GATHER ? gather : scatter)(b, a, &p);
		break;
	default:
		barrier(b, &p);
	}
}

const struct algo algo_binomial = {
	.name = "binomial",
	.what = "a tree of depth log2 n in which a parent serves its children one after the other; small messages",
	.source = "Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005",
	.colls = 1u << COLL_BROADCAST | 1u << COLL_REDUCE | 1u << COLL_GATHER | 1u << COLL_SCATTER | 1u << COLL_BARRIER,
	.build = build,
};
