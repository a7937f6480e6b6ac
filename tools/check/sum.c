/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic on symbols: sums of contributions, each kept once.
 */
#include "checker.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *bucket_of(const struct checker *c, uint32_t left, uint32_t right, bool final)
{
	uint64_t h = check_mix(((uint64_t)left << 32 | right) * 2 + final);
	for (;; h++) {
		uint32_t *b = &c->bucket[h & (c->nbuckets - 1)];
		if (*b == NOTHING)
			return b;
		const struct expr *e = &c->expr[*b];
		if (e->left == left && e->right == right && e->final == final)
			return b;
	}
}

/* Room for one more expression, the table at most half full. */
static bool grow_exprs(struct checker *c)
{
	if (c->nexpr < c->expr_cap)
		return true;
	uint32_t cap = c->expr_cap * 2;
	struct expr *e = realloc(c->expr, cap * sizeof(*e));
	uint32_t *bucket = malloc((size_t)cap * 2 * sizeof(*bucket));
	if (e)
		c->expr = e;
	if (!e || !bucket) {
		free(bucket);
		return check_no_memory(c);
	}
	free(c->bucket);
	c->bucket = bucket;
	c->expr_cap = cap;
	c->nbuckets = cap * 2;
	memset(bucket, 0xff, (size_t)c->nbuckets * sizeof(*bucket));
	for (uint32_t i = (uint32_t)c->n; i < c->nexpr; i++)
		*bucket_of(c, c->expr[i].left, c->expr[i].right, c->expr[i].final) = i;
	return true;
}

bool check_leaves(struct checker *c)
{
	c->nexpr = (uint32_t)c->n;
	c->expr_cap = 64;
	while (c->expr_cap < c->nexpr)
		c->expr_cap *= 2;
	c->nbuckets = c->expr_cap * 2;
	c->expr = calloc(c->expr_cap, sizeof(*c->expr));
	c->bucket = malloc((size_t)c->nbuckets * sizeof(*c->bucket));
	if (!c->expr || !c->bucket)
		return check_no_memory(c);
	memset(c->bucket, 0xff, (size_t)c->nbuckets * sizeof(*c->bucket));
	for (int r = 0; r < c->n; r++) {
		c->expr[r] = (struct expr){.left = (uint32_t)r,
		                           .right = NOTHING,
		                           .count = 1,
		                           .chain = r == 0,
		                           .ranks = c->n <= 64 ? (uint64_t)1 << r : check_mix((uint64_t)r + 1)};
		c->everybody += c->expr[r].ranks;
	}
	return true;
}

const char *check_add(struct checker *c, uint32_t left, uint32_t right, bool final, uint32_t *sum)
{
	uint32_t *b = bucket_of(c, left, right, final);
	*sum = *b;
	if (*b != NOTHING)
		return NULL;
	const struct expr *l = &c->expr[left], *r = &c->expr[right];
	if (l->final || r->final)
		return "adds to a sum that was final";
	if (c->n <= 64 && l->ranks & r->ranks)
		return "adds a rank's contribution twice";
	bool in_order = l->chain && r->right == NOTHING && (int)right == l->chain;
	struct expr e = {.left = left,
	                 .right = right,
	                 .count = l->count + r->count,
	                 .ranks = l->ranks + r->ranks,
	                 .final = final,
	                 .chain = in_order ? l->chain + 1 : 0};
	bool whole = e.count == c->n && e.ranks == c->everybody;
	if (final && !whole)
		return "marks a sum as final that lacks a rank";
	if (!final && whole)
		return "completes a sum without marking it as final";
	if (!grow_exprs(c))
		return "out of memory";
	*sum = c->nexpr;
	*bucket_of(c, left, right, final) = c->nexpr;
	c->expr[c->nexpr++] = e;
	return NULL;
}
