/* SPDX-License-Identifier: MIT */
/* Hosts that are drawn as one; see units.h. */
#include "units.h"
#include "../../src/util/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- equal hosts ------------------------------------------------------------------------------------------------- */

struct folding {
	const struct survey *s;
	int *ranks;   /* of each host */
	double *rate; /* hosts * hosts: mean bandwidth of both ways; 0: not measured */
	double *pairs;
	int *group; /* of each host: the first host that is like it */
};

static void sum_rates(struct folding *x)
{
	const struct survey *s = x->s;
	const double *rate = survey_rates(s);
	for (int i = 0; i < s->n; i++) {
		x->ranks[s->rank[i].host]++;
		for (int j = 0; j < s->n; j++) {
			int a = s->rank[i].host, b = s->rank[j].host;
			if (a == b || !rate)
				continue;
			for (int k = 0; k < 2; k++, a = s->rank[j].host, b = s->rank[i].host) {
				x->rate[a * s->nhosts + b] += rate[i * s->n + j];
				x->pairs[a * s->nhosts + b]++;
			}
		}
	}
	for (int i = 0; i < s->nhosts * s->nhosts; i++)
		x->rate[i] /= x->pairs[i] > 0 ? x->pairs[i] : 1;
}

static bool near(double a, double b, double factor)
{
	return a <= b * factor && b <= a * factor;
}

static bool same_machine(const struct machine *a, const struct machine *b)
{
	return a->packages == b->packages && a->cores == b->cores && a->threads == b->threads && a->nnodes == b->nnodes;
}

/* Built alike, as many ranks, and as fast to all others, up to a factor. */
static bool alike(const struct folding *x, int a, int b, double factor)
{
	int n = x->s->nhosts;
	if (!isfinite(factor))
		return true;
	if (x->ranks[a] != x->ranks[b] || !same_machine(x->s->machine[a], x->s->machine[b]))
		return false;
	for (int c = 0; c < n; c++)
		if (c != a && c != b && !near(x->rate[a * n + c], x->rate[b * n + c], factor))
			return false;
	return true;
}

/* Number of groups. */
static int group_hosts(struct folding *x, double factor)
{
	int groups = 0;
	for (int h = 0; h < x->s->nhosts; h++) {
		int g = 0;
		while (g < h && (x->group[g] != g || !alike(x, h, g, factor)))
			g++;
		x->group[h] = g;
		groups += g == h;
	}
	return groups;
}

/* group[h]: h itself, or where hosts are many the first that is like it. */
static int fold(const struct survey *s, int *group)
{
	static const double factors[] = {1.3, 1.7, 2.5, 5, INFINITY};
	size_t n = (size_t)s->nhosts;
	struct folding x = {.s = s, .group = group};
	for (int h = 0; h < s->nhosts; h++)
		group[h] = h;
	if (s->nhosts <= UNITS_APART)
		return TUTTI_OK;
	x.ranks = calloc(n, sizeof(int));
	x.rate = calloc(n * n, sizeof(double));
	x.pairs = calloc(n * n, sizeof(double));
	bool ok = x.ranks && x.rate && x.pairs;
	if (ok) {
		sum_rates(&x);
		for (size_t i = 0; group_hosts(&x, factors[i]) > UNITS_APART; i++)
			;
	}
	free(x.ranks);
	free(x.rate);
	free(x.pairs);
	return ok ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

/* ---- units ------------------------------------------------------------------------------------------------------- */

static int ring_at(const struct survey *s, int i)
{
	return s->ring ? s->ring[i] : i;
}

/* A unit for each label, in the order of the ring. */
static void number_units(struct units *u, const struct survey *s, const int *group, int *unit_of)
{
	for (int h = 0; h < s->n; h++)
		unit_of[h] = -1;
	for (int i = 0; i < s->n; i++) {
		int r = ring_at(s, i), label = u->of_ranks ? r : group[s->rank[r].host];
		if (unit_of[label] < 0) {
			unit_of[label] = u->n++;
			u->unit[unit_of[label]] = (struct unit){.host = s->rank[r].host, .rank = r};
		}
		struct unit *x = &u->unit[u->of[r] = unit_of[label]];
		x->ranks++;
		x->rank = r < x->rank ? r : x->rank;
		x->host = s->rank[r].host < x->host ? s->rank[r].host : x->host;
	}
	for (int h = 0; h < s->nhosts && !u->of_ranks; h++)
		if (unit_of[group[h]] >= 0)
			u->unit[unit_of[group[h]]].hosts++;
}

static void add_pair(struct units *u, const struct survey *s, int i, int j)
{
	int a = u->of[i], b = u->of[j];
	struct unit_link *l = units_link(u, a, b);
	const double *rate = survey_rates(s);
	if (a > b || (a == b && i > j)) /* seen from the other side */
		return;
	l->pairs++;
	if (!l->via)
		l->via = survey_via(s, i, j);
	if (!s->latency)
		return;
	l->there += rate[i * s->n + j];
	l->back += rate[j * s->n + i];
	l->latency += s->latency[i * s->n + j];
}

static void join_units(struct units *u, const struct survey *s)
{
	for (int i = 0; i < s->n; i++) {
		int from = ring_at(s, i), to = ring_at(s, (i + 1) % s->n);
		struct unit_link *l = units_link(u, u->of[from], u->of[to]);
		*(u->of[from] < u->of[to] ? &l->steps : &l->returns) += s->n > 1;
		for (int j = 0; j < s->n; j++)
			if (i != j)
				add_pair(u, s, i, j);
	}
	for (int i = 0; i < u->n * u->n; i++) {
		struct unit_link *l = &u->link[i];
		if (!l->pairs)
			continue;
		l->there /= l->pairs;
		l->back /= l->pairs;
		l->latency /= l->pairs;
		double rate = fmin(l->there, l->back);
		bool inside = i / u->n == i % u->n && u->unit[i % u->n].hosts < 2;
		if (inside || rate <= 0)
			continue;
		u->slowest = u->slowest <= 0 || rate < u->slowest ? rate : u->slowest;
		u->fastest = fmax(u->fastest, rate);
	}
}

int units_make(struct units *u, const struct survey *s)
{
	size_t n = (size_t)s->n;
	int *group = calloc((size_t)s->nhosts, sizeof(int)), *unit_of = calloc(n, sizeof(int));
	*u = (struct units){.of_ranks = s->nhosts == 1};
	u->unit = calloc(n, sizeof(*u->unit));
	u->of = calloc(n, sizeof(*u->of));
	int rc = group && unit_of && u->unit && u->of ? fold(s, group) : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc) {
		number_units(u, s, group, unit_of);
		u->link = calloc((size_t)u->n * (size_t)u->n, sizeof(*u->link));
		rc = u->link ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	}
	if (!rc)
		join_units(u, s);
	free(group);
	free(unit_of);
	return rc;
}

void units_free(struct units *u)
{
	free(u->unit);
	free(u->of);
	free(u->link);
}

double units_speed(const struct units *u, double rate)
{
	double least = fmin(u->slowest, u->fastest / 4);
	return rate <= 0 || u->fastest <= 0 ? 0.5 : log(rate / least) / log(u->fastest / least);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static int last_host(const struct units *u, const struct survey *s, int i)
{
	int last = 0;
	for (int r = 0; r < s->n; r++)
		if (u->of[r] == i && s->rank[r].host > last)
			last = s->rank[r].host;
	return last;
}

void units_name(const struct units *u, const struct survey *s, int i, char *buf, size_t cap)
{
	const struct unit *x = &u->unit[i];
	if (u->of_ranks)
		snprintf(buf, cap, "%d", x->rank);
	else if (x->hosts > 1)
		snprintf(buf, cap, "%s ... %s", survey_host(s, x->host), survey_host(s, last_host(u, s, i)));
	else
		snprintf(buf, cap, "%s", survey_host(s, x->host));
}

void units_ranks(const struct units *u, const struct survey *s, int i, char *buf, size_t cap)
{
	struct cpus set = {{0}};
	char list[48];
	for (int r = 0; r < s->n; r++)
		if (u->of[r] == i)
			cpus_add(&set, (unsigned)r);
	cpus_text(&set, list, sizeof(list));
	if (strlen(list) + 1 == sizeof(list))
		snprintf(buf, cap, "%d ranks", u->unit[i].ranks);
	else
		snprintf(buf, cap, "rank%s %s", u->unit[i].ranks == 1 ? "" : "s", list);
}
