/* SPDX-License-Identifier: MIT */
/* Orders of a ring; see ring.h. */
#include "ring.h"

#include "../util/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Reversals are tried until none helps, or this often over all stretches: on noisy costs the last gains are noise. */
#define SWEEPS 32

static bool better(struct ring_cost a, struct ring_cost b)
{
	return a.worst < b.worst || (a.worst <= b.worst && a.total < b.total);
}

static struct ring_cost plus(struct ring_cost a, double step)
{
	return (struct ring_cost){step > a.worst ? step : a.worst, a.total + step};
}

struct ring_cost ring_cost(int n, const double *cost, const int *order)
{
	struct ring_cost sum = {0, 0};
	for (int i = 0; i < n; i++)
		sum = plus(sum, cost[order[i] * n + order[(i + 1) % n]]);
	return sum;
}

static void swap(int *a, int *b)
{
	int t = *a;
	*a = *b;
	*b = t;
}

static void in_rank_order(int n, int *order)
{
	for (int i = 0; i < n; i++)
		order[i] = i;
}

/* ---- all rings --------------------------------------------------------------------------------------------------- */

struct search {
	int n;
	const double *cost;
	int path[RING_EXACT];
	struct ring_cost best;
	int *order;
};

/* path[0 .. len-1] is chosen and costs `sofar`; the rest of path holds the other ranks. */
static void extend(struct search *s, int len, struct ring_cost sofar)
{
	if (sofar.worst > s->best.worst)
		return;
	if (len == s->n) {
		sofar = plus(sofar, s->cost[s->path[len - 1] * s->n + s->path[0]]);
		if (better(sofar, s->best)) {
			s->best = sofar;
			memcpy(s->order, s->path, (size_t)s->n * sizeof(int));
		}
		return;
	}
	for (int i = len; i < s->n; i++) {
		swap(&s->path[len], &s->path[i]);
		extend(s, len + 1, plus(sofar, s->cost[s->path[len - 1] * s->n + s->path[len]]));
		swap(&s->path[len], &s->path[i]);
	}
}

static void search_all(int n, const double *cost, int *order)
{
	struct search s = {.n = n, .cost = cost, .order = order, .best = ring_cost(n, cost, order)};
	in_rank_order(n, s.path);
	extend(&s, 1, (struct ring_cost){0, 0});
}

/* ---- a good ring ------------------------------------------------------------------------------------------------- */

static void cheapest_next(int n, const double *cost, int *order)
{
	for (int at = 1; at < n; at++) {
		const double *from = cost + order[at - 1] * n;
		int next = at;
		for (int i = at + 1; i < n; i++)
			if (from[order[i]] < from[order[next]])
				next = i;
		swap(&order[at], &order[next]);
	}
}

static void reverse(int *order, int from, int to)
{
	while (from < to)
		swap(&order[from++], &order[to--]);
}

/* Would the two steps that lead into and out of the reversed stretch alone make the ring worse? */
static bool hopeless(int n, const double *cost, const int *order, int from, int to, double worst)
{
	return cost[order[from - 1] * n + order[to]] > worst || cost[order[from] * n + order[(to + 1) % n]] > worst;
}

/* One look at every stretch; true when a reversal helped. */
static bool sweep(int n, const double *cost, int *order, struct ring_cost *now)
{
	bool helped = false;
	for (int from = 1; from < n - 1; from++)
		for (int to = from + 1; to < n; to++) {
			if (hopeless(n, cost, order, from, to, now->worst))
				continue;
			reverse(order, from, to);
			struct ring_cost then = ring_cost(n, cost, order);
			if (better(then, *now)) {
				*now = then;
				helped = true;
			} else {
				reverse(order, from, to);
			}
		}
	return helped;
}

static struct ring_cost improve(int n, const double *cost, int *order)
{
	struct ring_cost now = ring_cost(n, cost, order);
	for (int i = 0; i < SWEEPS && sweep(n, cost, order, &now); i++)
		;
	return now;
}

static int search_some(int n, const double *cost, int *order)
{
	int *other = malloc((size_t)n * sizeof(int));
	if (!other)
		return fail(TUTTI_ENOMEM, "out of memory");
	in_rank_order(n, other);
	cheapest_next(n, cost, other);
	struct ring_cost greedy = improve(n, cost, other), plain = improve(n, cost, order);
	if (better(greedy, plain))
		memcpy(order, other, (size_t)n * sizeof(int));
	free(other);
	return TUTTI_OK;
}

int ring_order(int n, const double *cost, int *order)
{
	in_rank_order(n, order);
	if (n > RING_EXACT)
		return search_some(n, cost, order);
	search_all(n, cost, order);
	return TUTTI_OK;
}

/* ---- hosts together ---------------------------------------------------------------------------------------------- */

/* Takes the rank at `from` out, and puts it before the one at `to`; to <= from. */
static void move_up(int *order, int from, int to)
{
	int rank = order[from];
	memmove(order + to + 1, order + to, (size_t)(from - to) * sizeof(*order));
	order[to] = rank;
}

void ring_by_host(int n, const int *host, const int *place, int *order)
{
	int front = 0;
	in_rank_order(n, order);
	for (int i = 1; i < n; i++)
		for (int to = 0; to < i; to++)
			if (place[order[to]] > place[order[i]]) {
				move_up(order, i, to);
				break;
			}
	for (int to = 1; to < n; to++)
		for (int i = to; i < n; i++)
			if (host[order[i]] == host[order[to - 1]]) {
				move_up(order, i, to);
				break;
			}
	while (host[order[front]] != host[0])
		front++;
	reverse(order, 0, front - 1); /* turned left by `front` */
	reverse(order, front, n - 1);
	reverse(order, 0, n - 1);
}
