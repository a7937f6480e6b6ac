/* SPDX-License-Identifier: MIT */
/*
 * Double binary tree: two trees over the same ranks, each for half of the blocks; an inner rank of one is a leaf of the
 * other, so every rank sends and receives about the whole message once. Depth log2 n, and pipelined: the way up and the
 * way down are strands of their own.
 *
 * Places 0 .. m - 1; b = the lowest bit of v. The parent of v is v without b but with 2 b, or v without b if there is
 * no such place; place 0 is the root. Everything below the left child, v - b / 2, is before v, everything below the
 * right one behind: a sum left + own + right is over consecutive places. The second tree is the first one mirrored (m
 * even) or shifted by one (m odd).
 *
 * In an all-reduce the places are all ranks. In a broadcast or reduction they are all but the root, which feeds, or
 * is fed by, the roots of both trees.
 */
#include "team.h"

struct tree {
	const struct team *t;
	int m, first; /* places, and the member at the first */
	bool second;
	int place;               /* this member's in the first tree; m: it is the root outside of both */
	int parent, left, right; /* members; -1: none */
};

/* Between places in this tree and in the first one; its own inverse or not, so both ways. */
static int to_first(const struct tree *x, int v)
{
	return !x->second ? v : x->m % 2 ? (v + 1) % x->m : x->m - 1 - v;
}

static int from_first(const struct tree *x, int v)
{
	return !x->second ? v : x->m % 2 ? (v + x->m - 1) % x->m : x->m - 1 - v;
}

static int member_at(const struct tree *x, int v)
{
	return v < 0 ? -1 : (x->first + to_first(x, v)) % x->t->n;
}

static int parent_of(int v, int m)
{
	int b = v & -v, up = (v ^ b) | b << 1;
	return v == 0 ? -1 : up < m ? up : v ^ b;
}

static int left_of(int v)
{
	int b = v & -v;
	return b > 1 ? v - b / 2 : -1;
}

/* The root's only child is its right one. */
static int right_of(int v, int m)
{
	int d = v ? (v & -v) / 2 : power_below(m);
	while (d && v + d >= m)
		d /= 2;
	return d ? v + d : -1;
}

/* The tree as this member sees it. outer_root: the member that is outside, or -1. */
static struct tree tree_of(const struct team *t, bool second, int outer_root)
{
	bool outside = outer_root >= 0;
	struct tree x = {.t = t, .m = t->n - outside, .first = outside ? outer_root + 1 : 0, .second = second};
	x.parent = x.left = x.right = -1;
	x.place = wrap(t->me - x.first, t->n);
	if (x.place == x.m)
		return x;
	int v = from_first(&x, x.place);
	x.parent = v ? member_at(&x, parent_of(v, x.m)) : outer_root;
	x.left = member_at(&x, left_of(v));
	x.right = member_at(&x, right_of(v, x.m));
	return x;
}

/* The way up: the sum of left, own and right goes to the parent, or where `s`, the last step, says. */
static void sum_up(struct plan_builder *b, const struct tree *x, struct block_set set, struct step s)
{
	bool mirrored = x->second && x->m % 2 == 0;
	uint8_t left_first = mirrored ? STEP_LOCAL_FIRST : 0, right_first = mirrored ? 0 : STEP_LOCAL_FIRST;
	s.src = BUF_IN;
	s.src_set = set;
	if (x->left >= 0 && x->right >= 0) {
		plan_step(b, (struct step){.recv = from_member(b, x->t, x->left),
		                           .send = -1,
		                           .src = BUF_IN,
		                           .src_set = set,
		                           .dst = BUF_TMP,
		                           .dst_set = set,
		                           .flags = STEP_REDUCE | left_first});
		s.src = BUF_TMP;
	}
	int last = x->right >= 0 ? x->right : x->left;
	if (last >= 0) {
		s.recv = from_member(b, x->t, last);
		s.flags |= (uint8_t)(STEP_REDUCE | (last == x->right ? right_first : left_first));
	}
	plan_step(b, s);
}

/* The way down, from the parent to both children. */
static void pass_down(struct plan_builder *b, const struct tree *x, struct block_set set)
{
	int near = x->right >= 0 ? x->right : x->left;
	plan_step(b, (struct step){.recv = from_member(b, x->t, x->parent),
	                           .dst = BUF_OUT,
	                           .dst_set = set,
	                           .send = near >= 0 ? to_member(b, x->t, near) : (int16_t)-1});
	if (near == x->right && x->left >= 0)
		send_to(b, x->t, x->left, BUF_OUT, set);
}

static void allreduce(struct plan_builder *b, const struct team *t, bool second, struct block_set set)
{
	struct tree x = tree_of(t, second, -1);
	plan_strand(b, -1);
	if (x.parent < 0) {
		sum_up(b, &x, set,
		       (struct step){.recv = -1,
		                     .send = to_member(b, t, x.right),
		                     .dst = BUF_OUT,
		                     .dst_set = set,
		                     .flags = STEP_FINAL});
		return;
	}
	sum_up(b, &x, set, (struct step){.recv = -1, .send = to_member(b, t, x.parent)});
	plan_strand(b, -1);
	pass_down(b, &x, set);
}

static int top_of(const struct tree *x)
{
	return member_at(x, 0);
}

static void broadcast(struct plan_builder *b, const struct team *t, int root, bool second, struct block_set set)
{
	struct tree x = tree_of(t, second, root);
	plan_strand(b, -1);
	if (x.place < x.m) {
		pass_down(b, &x, set);
		return;
	}
	send_to(b, t, top_of(&x), BUF_IN, set);
	copy(b, BUF_IN, BUF_OUT, set);
}

static void reduce(struct plan_builder *b, const struct team *t, int root, bool second, struct block_set set)
{
	struct tree x = tree_of(t, second, root);
	plan_strand(b, -1);
	if (x.place == x.m)
		plan_step(b, (struct step){
		                     .recv = from_member(b, t, top_of(&x)),
		                     .send = -1,
		                     .src = BUF_IN,
		                     .src_set = set,
		                     .dst = BUF_OUT,
		                     .dst_set = set,
		                     .flags = (uint8_t)(STEP_REDUCE | STEP_FINAL | (root == 0 ? STEP_LOCAL_FIRST : 0)),
		             });
	else
		sum_up(b, &x, set, (struct step){.recv = -1, .send = to_member(b, t, x.parent)});
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_by_host(b, &t, a, 1, 0))
		return;
	int root = team_member(&t, a->root);
	b->plan->nblocks = 2 * a->channels;
	b->plan->by_reference = true;
	for (int i = 0; i < 2 * a->channels; i++) {
		t.lane = i;
		if (a->coll == COLL_ALLREDUCE)
			allreduce(b, &t, i % 2, block_one(i));
		else
			(a->coll == COLL_BROADCAST ? broadcast : reduce)(b, &t, root, i % 2, block_one(i));
	}
	team_free(&t);
}

/*
 * An inner rank of one tree is a leaf of the other: three neighbours and one. Two children are served one after the
 * other.
 */
static void volume(struct volume *v, const struct plan_args *a)
{
	int ways = a->coll == COLL_ALLREDUCE ? 2 : 1, depth = log2_up(a->nranks);
	v->all = (struct leg){.rounds = 2 * ways * depth,
	                      .messages = 2 * ways,
	                      .sent = 2 * ways,
	                      .reduced = coll_reduces(a->coll) ? 2 : 0,
	                      .sources = 1,
	                      .peers = 4};
	v->channels = a->channels;
	v->blocks = 2;
	v->pipeline = ways * depth;
}

const struct algo algo_tree = {
        .name = "tree",
        .what = "two pipelined binary trees, half of the data each: 2 log2 n deep; middle sizes, many ranks",
        .source = "Sanders, Speck, Traff, Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_BROADCAST | 1u << COLL_REDUCE,
        .flags = ALGO_FOLDS_ONCE,
        .build = build,
        .volume = volume,
};
