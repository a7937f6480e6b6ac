/* SPDX-License-Identifier: MIT */
/*
 * Odd ones out; see odd.h. A link is compared with those of its class (transport and relation), and of these with the
 * better ones: the value that three of four do not exceed. A host or rank of which all links are bad is named once.
 */
#include "odd.h"
#include "../../src/util/error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ODD_MOST 64 /* a longer list would not be read */
#define MANY     8  /* pairs that are named one by one */

struct look {
	struct survey *s;
	double *good; /* of a class, sorted */
	bool *bad;    /* n * n */
	bool no_memory;
};

static void __attribute__((format(printf, 3, 4))) add(struct look *l, struct odd odd, const char *fmt, ...)
{
	struct survey *s = l->s;
	va_list args;
	if (s->nodd == ODD_MOST)
		return;
	if (!s->odd)
		s->odd = calloc(ODD_MOST, sizeof(*s->odd));
	l->no_memory |= !s->odd;
	if (!s->odd)
		return;
	va_start(args, fmt);
	vsnprintf(odd.text, sizeof(odd.text), fmt, args);
	va_end(args);
	s->odd[s->nodd++] = odd;
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static double at(const struct survey *s, const double *matrix, int i, int j)
{
	return matrix[(size_t)i * (size_t)s->n + (size_t)j];
}

/* The more the better. */
static double fast(const struct survey *s, int i, int j)
{
	return at(s, s->bandwidth, i, j);
}
static double soon(const struct survey *s, int i, int j)
{
	return 1 / (at(s, s->latency, i, j) + 5e-6); /* microseconds more are noise */
}
static double both_ways(const struct survey *s, int i, int j)
{
	return at(s, s->bandwidth, i, j) / at(s, s->bandwidth, j, i);
}
static double steady_trips(const struct survey *s, int i, int j)
{
	return at(s, s->latency, i, j) / at(s, s->latency_p99, i, j);
}
static double steady_bytes(const struct survey *s, int i, int j)
{
	return at(s, s->bandwidth_p10, i, j) / at(s, s->bandwidth, i, j);
}

/* What a pair's values are, for the text. */
static void tell_fast(const struct survey *s, int i, int j, double peers, char *buf, size_t cap)
{
	snprintf(buf, cap, "%.3g GB/s, peers have %.3g", fast(s, i, j) * 1e-9, peers * 1e-9);
}
static void tell_soon(const struct survey *s, int i, int j, double peers, char *buf, size_t cap)
{
	snprintf(buf, cap, "latency %.3g us, peers have %.3g", at(s, s->latency, i, j) * 1e6, (1 / peers - 5e-6) * 1e6);
}
static void tell_both(const struct survey *s, int i, int j, double peers, char *buf, size_t cap)
{
	(void)peers;
	snprintf(buf, cap, "%.3g GB/s there, %.3g back", fast(s, i, j) * 1e-9, fast(s, j, i) * 1e-9);
}
static void tell_trips(const struct survey *s, int i, int j, double peers, char *buf, size_t cap)
{
	(void)peers;
	snprintf(buf, cap, "unsteady: latency %.3g us, but one in a hundred takes %.3g", at(s, s->latency, i, j) * 1e6,
	         at(s, s->latency_p99, i, j) * 1e6);
}
static void tell_bytes(const struct survey *s, int i, int j, double peers, char *buf, size_t cap)
{
	(void)peers;
	snprintf(buf, cap, "unsteady: %.3g GB/s, but one burst in ten has %.3g", fast(s, i, j) * 1e-9,
	         at(s, s->bandwidth_p10, i, j) * 1e-9);
}

/* Bad: below `limit`, and below `share` of the peers. A limit alone also judges a pair that has no peers. */
static const struct rule {
	enum odd_what what;
	double (*good)(const struct survey *s, int i, int j);
	double share, limit;
	void (*tell)(const struct survey *s, int i, int j, double peers, char *buf, size_t cap);
	bool percentiles;
} rules[] = {
        {ODD_SLOW, fast, 0.5, INFINITY, tell_fast, false},
        {ODD_LATE, soon, 0.5, INFINITY, tell_soon, false},
        {ODD_ONE_WAY, both_ways, INFINITY, 0.67, tell_both, false},
        {ODD_UNSTEADY, steady_trips, 0.25, 0.05, tell_trips, true},
        {ODD_UNSTEADY, steady_bytes, 0.5, 0.34, tell_bytes, true},
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Of the class, and measured itself: what was taken from others says nothing of the link. */
static bool is_judged(const struct survey *s, const struct pair_class *c, int i, int j)
{
	return survey_measured(s, i, j) && survey_same_class(s, i, j, c->i, c->j);
}

/* What the better pairs of a class have. */
static double peers_of(struct look *l, const struct rule *r, const struct pair_class *c)
{
	size_t n = 0;
	if (c->pairs < 3)
		return isinf(r->limit) ? 0 : INFINITY;
	for (int i = 0; i < l->s->n; i++)
		for (int j = 0; j < l->s->n; j++)
			if (i != j && is_judged(l->s, c, i, j))
				l->good[n++] = r->good(l->s, i, j);
	qsort(l->good, n, sizeof(*l->good), by_value);
	return l->good[(3 * n + 3) / 4 - 1];
}

static bool *bad_of(struct look *l, int i, int j)
{
	return &l->bad[(size_t)i * (size_t)l->s->n + (size_t)j];
}

/* The worse direction of a pair, where that is bad. */
static int mark_bad(struct look *l, const struct rule *r, const struct pair_class *c, double peers)
{
	double limit = fmin(r->limit, r->share * peers);
	int pairs = 0;
	memset(l->bad, 0, (size_t)l->s->n * (size_t)l->s->n * sizeof(*l->bad));
	for (int i = 0; i < l->s->n; i++)
		for (int j = i + 1; j < l->s->n; j++) {
			if (!is_judged(l->s, c, i, j))
				continue;
			double there = r->good(l->s, i, j), back = r->good(l->s, j, i);
			*bad_of(l, i, j) = there < limit && there <= back;
			*bad_of(l, j, i) = back < limit && back < there;
			pairs += *bad_of(l, i, j) || *bad_of(l, j, i);
		}
	return pairs;
}

static bool across(const struct survey *s, const struct pair_class *c)
{
	return s->rank[c->i].host != s->rank[c->j].host;
}

/* Whom a class of links joins: hosts, or the ranks of one. */
static int unit(const struct survey *s, const struct pair_class *c, int rank)
{
	return across(s, c) ? s->rank[rank].host : rank;
}

/* Has u links to at least two others, all of them bad? *i, *j: one of them. */
static bool all_bad(struct look *l, const struct pair_class *c, int u, int *i, int *j)
{
	int others = 0, last = -1;
	for (int a = 0; a < l->s->n; a++)
		for (int b = 0; b < l->s->n; b++) {
			if (a == b || unit(l->s, c, a) != u || !is_judged(l->s, c, a, b))
				continue;
			if (!*bad_of(l, a, b) && !*bad_of(l, b, a))
				return false;
			others += unit(l->s, c, b) != last;
			last = unit(l->s, c, b);
			*i = *bad_of(l, a, b) ? a : b;
			*j = *bad_of(l, a, b) ? b : a;
		}
	return others > 1;
}

static void forget(struct look *l, const struct pair_class *c, int u)
{
	for (int a = 0; a < l->s->n; a++)
		for (int b = 0; b < l->s->n; b++)
			if (unit(l->s, c, a) == u || unit(l->s, c, b) == u)
				*bad_of(l, a, b) = false;
}

static void name_units(struct look *l, const struct rule *r, const struct pair_class *c, double peers)
{
	const struct survey *s = l->s;
	char values[120];
	int i = 0, j = 0;
	for (int u = 0; u < s->n; u++) {
		if (!all_bad(l, c, u, &i, &j))
			continue;
		r->tell(s, i, j, peers, values, sizeof(values));
		if (across(s, c))
			add(l, (struct odd){r->what, -1, -1, u, ""}, "host %d (%s), all links by %s: %s", u,
			    survey_host(s, u), survey_via(s, i, j), values);
		else
			add(l, (struct odd){r->what, u, -1, s->rank[u].host, ""}, "rank %d on %s, all links by %s: %s",
			    u, survey_host(s, s->rank[u].host), survey_via(s, i, j), values);
		forget(l, c, u);
	}
}

static void name_pairs(struct look *l, const struct rule *r, const struct pair_class *c, double peers)
{
	const struct survey *s = l->s;
	char values[120];
	for (int i = 0; i < s->n; i++)
		for (int j = 0; j < s->n; j++) {
			if (!*bad_of(l, i, j))
				continue;
			r->tell(s, i, j, peers, values, sizeof(values));
			if (across(s, c))
				add(l, (struct odd){r->what, i, j, -1, ""}, "rank %d on %s to rank %d on %s, by %s: %s",
				    i, survey_host(s, s->rank[i].host), j, survey_host(s, s->rank[j].host),
				    survey_via(s, i, j), values);
			else
				add(l, (struct odd){r->what, i, j, s->rank[i].host, ""},
				    "rank %d to rank %d on %s, by %s: %s", i, j, survey_host(s, s->rank[i].host),
				    survey_via(s, i, j), values);
		}
}

/* Where much of a class is bad, nobody is the odd one: it is said once. */
static void name_class(struct look *l, const struct rule *r, const struct pair_class *c, double peers, int bad)
{
	char values[120];
	for (int i = 0; i < l->s->n; i++)
		for (int j = 0; j < l->s->n; j++)
			if (*bad_of(l, i, j)) {
				r->tell(l->s, i, j, peers, values, sizeof(values));
				add(l, (struct odd){r->what, i, j, -1, ""},
				    "%d of %d pairs %s by %s, such as rank %d to rank %d: %s", bad, c->pairs,
				    survey_relation(l->s, i, j), survey_via(l->s, i, j), i, j, values);
				return;
			}
}

static void judge(struct look *l, const struct rule *r, const struct pair_class *c)
{
	double peers = peers_of(l, r, c);
	int bad = mark_bad(l, r, c, peers);
	if (bad > MANY && bad > 3 * c->pairs / 4) {
		name_class(l, r, c, peers, bad);
		return;
	}
	name_units(l, r, c, peers);
	bad = 0;
	for (int i = 0; i < l->s->n * l->s->n; i++)
		bad += l->bad[i];
	if (bad > MANY)
		name_class(l, r, c, peers, bad);
	else
		name_pairs(l, r, c, peers);
}

/* Leaves of a class what was measured. */
static bool keep_measured(const struct survey *s, struct pair_class *c)
{
	const struct pair_class all = *c;
	c->pairs = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++)
			c->pairs += is_judged(s, &all, i, j);
	return c->pairs > 0;
}

static void judge_links(struct look *l)
{
	struct pair_class class[SURVEY_CLASSES];
	int n = survey_classes(l->s, class);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		for (int k = 0; k < n; k++)
			if (keep_measured(l->s, &class[k]) && (!rules[i].percentiles || l->s->latency_p99))
				judge(l, &rules[i], &class[k]);
}

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

static bool counts(const struct machine_device *v)
{
	return v->kind == MACHINE_NETWORK && v->state != MACHINE_DOWN && v->ip[0] && v->mtu;
}

/* How many devices of other hosts are on the network of `v`, and how many of them have the MTU. */
static int others_with(const struct survey *s, int host, const struct machine_device *v, uint32_t mtu, int *all)
{
	int with = 0;
	*all = 0;
	for (int h = 0; h < s->nhosts; h++)
		for (uint32_t i = 0; h != host && i < s->machine[h]->ndevices; i++) {
			const struct machine_device *x = &s->machine[h]->device[i];
			if (!counts(x) || !survey_same_network(v->ip, x->ip))
				continue;
			++*all;
			with += x->mtu == mtu;
		}
	return with;
}

/* The MTU that most others have, where this one is alone or nearly so. */
static void judge_mtu(struct look *l, int host, const struct machine_device *v)
{
	const struct survey *s = l->s;
	int all, mine = others_with(s, host, v, v->mtu, &all);
	for (int h = 0; h < s->nhosts; h++)
		for (uint32_t i = 0; h != host && i < s->machine[h]->ndevices; i++) {
			const struct machine_device *x = &s->machine[h]->device[i];
			if (!counts(x) || x->mtu == v->mtu || !survey_same_network(v->ip, x->ip))
				continue;
			int with = others_with(s, host, v, x->mtu, &all);
			/* of two hosts that differ, the one with less is named */
			if (with > mine + 1 || (with == mine + 1 && x->mtu > v->mtu)) {
				add(l, (struct odd){ODD_MTU, -1, -1, host, ""},
				    "host %d (%s): %s has MTU %u, %d other%s on its network %s %u", host,
				    survey_host(s, host), v->name, v->mtu, with, with == 1 ? "" : "s",
				    with == 1 ? "has" : "have", x->mtu);
				return;
			}
		}
}

/* The package around a node; -1: none. */
static int package_of(const struct machine *m, uint32_t node)
{
	for (uint32_t i = 0; i < m->nnodes; i++)
		if (m->node[i].level == MACHINE_PACKAGE && i <= node && node < m->node[i].end)
			return (int)i;
	return -1;
}

static bool runs_on(const struct machine *m, const struct rank_facts *r, int package)
{
	for (uint32_t i = (uint32_t)package; i < m->node[package].end; i++)
		if (m->node[i].level == MACHINE_THREAD && m->node[i].os >= 0 &&
		    cpus_has(&r->cpus, (unsigned)m->node[i].os))
			return true;
	return false;
}

/* Of the fastest devices: one near the rank, or else any with a known place; NULL: none has. */
static const struct machine_device *nearest_fastest(const struct machine *m, const struct rank_facts *r, bool *near)
{
	const struct machine_device *found = NULL;
	uint64_t most = 1;
	for (uint32_t i = 0; i < m->ndevices; i++)
		if (m->device[i].state == MACHINE_UP && m->device[i].mbps > most)
			most = m->device[i].mbps;
	*near = false;
	for (uint32_t i = 0; i < m->ndevices && !*near; i++) {
		const struct machine_device *v = &m->device[i];
		int package = v->state == MACHINE_UP && v->mbps == most ? package_of(m, v->near) : -1;
		if (package >= 0) {
			found = v;
			*near = runs_on(m, r, package);
		}
	}
	return found;
}

static void judge_places(struct look *l, int host)
{
	const struct survey *s = l->s;
	const struct machine *m = s->machine[host];
	const struct machine_device *far = NULL;
	struct cpus ranks = {{0}};
	char list[80];
	for (int r = 0; r < s->n; r++) {
		bool near;
		if (s->rank[r].host != host || !s->rank[r].bound)
			continue;
		const struct machine_device *v = nearest_fastest(m, &s->rank[r], &near);
		if (v && !near) {
			far = v;
			cpus_add(&ranks, (unsigned)r);
		}
	}
	if (far)
		add(l, (struct odd){ODD_FAR_DEVICE, -1, -1, host, ""},
		    "host %d (%s): ranks %s run on another package than package %d, near which its fastest device %s is",
		    host, survey_host(s, host), cpus_text(&ranks, list, sizeof(list)),
		    m->node[package_of(m, far->near)].os, far->name);
}

static void judge_cores(struct look *l, int host)
{
	const struct survey *s = l->s;
	for (int r = 0; r < s->n; r++) {
		struct cpus core, other, ranks = {{0}};
		char list[80];
		bool first = true;
		if (s->rank[r].host != host || !s->rank[r].bound ||
		    machine_cores(s->machine[host], &s->rank[r].cpus, &core) != 1)
			continue;
		for (int q = 0; q < s->n; q++) {
			if (s->rank[q].host != host || !s->rank[q].bound ||
			    machine_cores(s->machine[host], &s->rank[q].cpus, &other) != 1 ||
			    memcmp(&core, &other, sizeof(core)) != 0)
				continue;
			first = first && q >= r;
			cpus_add(&ranks, (unsigned)q);
		}
		if (first && cpus_count(&ranks) > 1)
			add(l, (struct odd){ODD_ONE_CORE, r, -1, host, ""},
			    "host %d (%s): ranks %s are bound to one core", host, survey_host(s, host),
			    cpus_text(&ranks, list, sizeof(list)));
	}
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

const char *odd_name(enum odd_what what)
{
	static const char *const name[] = {"slow", "late", "one-way", "unsteady", "mtu", "far-device", "one-core"};
	return name[what];
}

int odd_find(struct survey *s)
{
	size_t n = (size_t)s->n;
	struct look l = {.s = s, .good = calloc(n * n, sizeof(double)), .bad = calloc(n * n, sizeof(bool))};
	free(s->odd);
	s->odd = NULL;
	s->nodd = 0;
	if (l.good && l.bad && s->n > 1 && s->latency)
		judge_links(&l);
	for (int h = 0; h < s->nhosts && s->n > 1; h++) {
		for (uint32_t i = 0; i < s->machine[h]->ndevices; i++)
			if (counts(&s->machine[h]->device[i]))
				judge_mtu(&l, h, &s->machine[h]->device[i]);
		if (s->nhosts > 1)
			judge_places(&l, h);
		judge_cores(&l, h);
	}
	bool failed = !l.good || !l.bad || l.no_memory;
	free(l.good);
	free(l.bad);
	return failed ? fail(TUTTI_ENOMEM, "out of memory") : TUTTI_OK;
}
