/* SPDX-License-Identifier: MIT */
/* Which of many pairs are measured, and which values the others get; see infer.h. */
#include "infer.h"
#include "../../src/util/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FAR  0.5  /* of what good pairs have: less is another group, and a suspect */
#define LATE 5e-6 /* more microseconds than others are noise up to here */

static size_t cell(const struct survey *s, int i, int j)
{
	return (size_t)i * (size_t)s->n + (size_t)j;
}

static int no_memory(void)
{
	return fail(TUTTI_ENOMEM, "out of memory");
}

/* ---- classes ----------------------------------------------------------------------------------------------------- */

/* Transport and what is shared, as one number. */
static int kind_of(const struct survey *s, int i, int j)
{
	bool memory = s->rank[i].memory == s->rank[j].memory, host = s->rank[i].host == s->rank[j].host;
	return 3 * s->via[cell(s, i, j)] + (memory ? 0 : host ? 1 : 2);
}

/* Of pairs inside a host it doesn't matter which group that is in. */
static uint32_t class_of(const struct survey *s, int i, int j)
{
	int from = s->rank[i].host, to = s->rank[j].host, kind = kind_of(s, i, j);
	int groups = s->group && from != to ? s->group[from] * INFER_GROUPS + s->group[to] : 0;
	return (uint32_t)(kind * INFER_GROUPS * INFER_GROUPS + groups);
}
#define CLASSES (3 * SURVEY_TRANSPORTS * INFER_GROUPS * INFER_GROUPS)

static uint64_t hosts_of(const struct survey *s, int i, int j)
{
	uint64_t hosts = (uint64_t)s->nhosts;
	return ((uint64_t)kind_of(s, i, j) * hosts + (uint64_t)s->rank[i].host) * hosts + (uint64_t)s->rank[j].host;
}

/* ---- medians ----------------------------------------------------------------------------------------------------- */

struct sample {
	uint64_t key;
	double value;
};

static int by_key(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->value > y->value) - (x->value < y->value);
}

static int by_key_alone(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;
	return (x->key > y->key) - (x->key < y->key);
}

/* One sample for each key, its median. Their number. */
static size_t to_medians(struct sample *v, size_t n)
{
	size_t keys = 0;
	qsort(v, n, sizeof(*v), by_key);
	for (size_t i = 0, next; i < n; i = next) {
		for (next = i; next < n && v[next].key == v[i].key;)
			next++;
		size_t last = next - 1;
		v[keys++] = (struct sample){v[i].key, (v[(i + last) / 2].value + v[(i + last + 1) / 2].value) / 2};
	}
	return keys;
}

static const struct sample *find(const struct sample *v, size_t n, uint64_t key)
{
	return bsearch(&(struct sample){.key = key}, v, n, sizeof(*v), by_key_alone);
}

/* NULL: out of memory. */
static struct sample *samples_of(const struct survey *s, const bool *measured, const double *matrix, bool of_hosts,
                                 size_t *keys)
{
	size_t n = 0, all = (size_t)s->n * (size_t)s->n;
	for (size_t at = 0; at < all; at++)
		n += measured[at];
	struct sample *v = malloc((n + 1) * sizeof(*v));
	n = 0;
	for (int i = 0; v && i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (measured[cell(s, i, j)])
				v[n++] = (struct sample){of_hosts ? hosts_of(s, i, j) : class_of(s, i, j),
				                         matrix[cell(s, i, j)]};
	*keys = v ? to_medians(v, n) : 0;
	return v;
}

int infer_fill(const struct survey *s, const bool *measured, double *matrix)
{
	size_t nhosts, nclasses;
	struct sample *hosts = samples_of(s, measured, matrix, true, &nhosts);
	struct sample *classes = samples_of(s, measured, matrix, false, &nclasses);
	for (int i = 0; hosts && classes && i < s->n; i++)
		for (int j = 0; j < s->n; j++) {
			if (i == j || measured[cell(s, i, j)])
				continue;
			const struct sample *x = find(hosts, nhosts, hosts_of(s, i, j));
			x = x ? x : find(classes, nclasses, class_of(s, i, j));
			if (x)
				matrix[cell(s, i, j)] = x->value;
		}
	bool failed = !hosts || !classes;
	free(hosts);
	free(classes);
	return failed ? no_memory() : TUTTI_OK;
}

/* ---- groups of hosts --------------------------------------------------------------------------------------------- */

/* A pair across hosts that was measured at once, by the worse of its ways. */
struct meeting {
	int a, b; /* hosts */
	double rate;
};

static int by_rate(const void *a, const void *b)
{
	const struct meeting *x = a, *y = b;
	return (x->rate < y->rate) - (x->rate > y->rate);
}

/* Those by one transport, the fastest first. */
static size_t find_meetings(const struct survey *s, int via, struct meeting *v)
{
	size_t n = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++) {
			size_t there = cell(s, i, j), back = cell(s, j, i);
			if (s->rank[i].host != s->rank[j].host && s->via[there] == via && s->busy.measured[there])
				v[n++] = (struct meeting){s->rank[i].host, s->rank[j].host,
				                          fmin(s->busy.bandwidth[there], s->busy.bandwidth[back])};
		}
	qsort(v, n, sizeof(*v), by_rate);
	return n;
}

static int root_of(int *parent, int h)
{
	while (parent[h] != h)
		h = parent[h] = parent[parent[h]];
	return h;
}

/* Are most of the pairs between two groups good ones? A lucky one joins nobody. */
static bool belong_together(int *parent, const struct meeting *v, size_t n, size_t good, int a, int b)
{
	size_t all = 0, near = 0;
	for (size_t k = 0; k < n; k++) {
		int x = root_of(parent, v[k].a), y = root_of(parent, v[k].b);
		bool between = (x == a && y == b) || (x == b && y == a);
		all += between;
		near += between && k < good;
	}
	return 2 * near > all;
}

/* The fastest first, so that what is near is together when the others come. A host's parent is the lowest of its group. */
static void join_hosts(struct survey *s, struct meeting *v)
{
	for (int via = 0; via < s->ntransports; via++) {
		size_t n = find_meetings(s, via, v), good = 0;
		while (good < n &&
		       v[good].rate >= FAR * v[n - (3 * n + 3) / 4].rate) /* what three of four do not exceed */
			good++;
		for (size_t k = 0; k < good; k++) {
			int a = root_of(s->group, v[k].a), b = root_of(s->group, v[k].b);
			if (a != b && belong_together(s->group, v, n, good, a, b))
				s->group[a < b ? b : a] = a < b ? a : b;
		}
	}
	for (int h = 0; h < s->nhosts; h++)
		s->group[h] = root_of(s->group, h);
}

struct club {
	int host, size;
};

static int by_size(const void *a, const void *b)
{
	const struct club *x = a, *y = b;
	return x->size != y->size ? (x->size < y->size) - (x->size > y->size)
	                          : (x->host > y->host) - (x->host < y->host);
}

/* From 0 on in the order of their lowest hosts; of too many, the smaller ones share the last number. */
static void number_groups(struct survey *s, struct club *club, int *number)
{
	int groups = 0, next = 0;
	for (int h = 0; h < s->nhosts; h++)
		club[h] = (struct club){h, 0};
	for (int h = 0; h < s->nhosts; h++)
		groups += club[s->group[h]].size++ == 0;
	qsort(club, (size_t)s->nhosts, sizeof(*club), by_size);
	int keep = groups > INFER_GROUPS ? INFER_GROUPS - 1 : groups;
	for (int k = 0; k < s->nhosts; k++)
		number[club[k].host] = k < keep ? 0 : keep;
	for (int h = 0; h < s->nhosts; h++)
		if (s->group[h] == h && number[h] == 0)
			number[h] = next++;
	for (int h = 0; h < s->nhosts; h++)
		s->group[h] = number[s->group[h]];
}

int infer_groups(struct survey *s)
{
	size_t n = (size_t)s->n, hosts = (size_t)s->nhosts;
	struct meeting *v = malloc(n * n * sizeof(*v));
	struct club *club = malloc(hosts * sizeof(*club));
	int *number = malloc(hosts * sizeof(*number));
	s->group = malloc(hosts * sizeof(*s->group));
	bool ok = v && club && number && s->group;
	for (int h = 0; ok && h < s->nhosts; h++)
		s->group[h] = h;
	if (ok) {
		join_hosts(s, v);
		number_groups(s, club, number);
	}
	free(v);
	free(club);
	free(number);
	return ok ? TUTTI_OK : no_memory();
}

/* ---- what is to be measured -------------------------------------------------------------------------------------- */

int infer_missing(const struct survey *s, struct pair **list, int *pairs)
{
	int *count = calloc(CLASSES, sizeof(*count));
	*pairs = 0;
	*list = malloc(CLASSES * sizeof(**list));
	bool ok = count && *list;
	for (int i = 0; ok && i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (s->busy.measured[cell(s, i, j)])
				count[class_of(s, i, j)]++;
	for (int i = 0; ok && i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (i != j && !count[class_of(s, i, j)]) {
				count[class_of(s, i, j)]++;
				count[class_of(s, j, i)]++;
				(*list)[(*pairs)++] = (struct pair){i, j};
			}
	free(count);
	return ok ? TUTTI_OK : no_memory();
}

/* A pair is two ways, of one class or of two that are each other's way back: which of them counts. */
static bool stands_for_both(const struct survey *s, int i, int j)
{
	uint32_t there, back;
	if (i == j)
		return false;
	there = class_of(s, i, j);
	back = class_of(s, j, i);
	return there < back || (there == back && i < j);
}

/* Of the n-th pair of `all`: is it one of the few that are taken, the first, the last, and as far from each other? */
static bool is_taken(int nth, int all)
{
	for (int k = 0; k < INFER_EACH; k++)
		if (nth == (int)((int64_t)k * (all - 1) / (INFER_EACH - 1)))
			return true;
	return false;
}

struct suspect {
	struct pair pair;
	double times; /* as bad as the median of its class */
};

static int by_times(const void *a, const void *b)
{
	const struct suspect *x = a, *y = b;
	return (x->times < y->times) - (x->times > y->times);
}

static double times(const struct survey *s, int i, int j, const struct sample *rates, size_t nrates,
                    const struct sample *trips, size_t ntrips)
{
	const struct sample *rate = find(rates, nrates, class_of(s, i, j)),
	                    *trip = find(trips, ntrips, class_of(s, i, j));
	return fmax(rate->value / s->busy.bandwidth[cell(s, i, j)],
	            (s->busy.latency[cell(s, i, j)] - LATE) / trip->value);
}

static bool listed(const struct survey *s, const struct suspect *v, int n, struct pair p)
{
	for (int k = 0; k < n; k++)
		if (hosts_of(s, v[k].pair.i, v[k].pair.j) == hosts_of(s, p.i, p.j))
			return true;
	return false;
}

/* The worst first; a pair of hosts once. Their number, at most INFER_SUSPECTS; -1: out of memory. */
static int find_suspects(const struct survey *s, struct suspect **out)
{
	size_t nrates, ntrips, n = 0;
	struct sample *rates = samples_of(s, s->busy.measured, s->busy.bandwidth, false, &nrates);
	struct sample *trips = samples_of(s, s->busy.measured, s->busy.latency, false, &ntrips);
	struct suspect *v = malloc((size_t)s->n * (size_t)s->n * sizeof(*v));
	int kept = rates && trips && v ? 0 : -1;
	for (int i = 0; !kept && i < s->n; i++)
		for (int j = i + 1; j < s->n; j++) {
			if (!s->busy.measured[cell(s, i, j)])
				continue;
			double there = times(s, i, j, rates, nrates, trips, ntrips),
			       back = times(s, j, i, rates, nrates, trips, ntrips);
			if (fmax(there, back) > 1 / FAR)
				v[n++] = (struct suspect){{i, j}, fmax(there, back)};
		}
	if (!kept)
		qsort(v, n, sizeof(*v), by_times);
	for (size_t k = 0; kept >= 0 && k < n && kept < INFER_SUSPECTS; k++)
		if (!listed(s, v, kept, v[k].pair))
			v[kept++] = v[k];
	free(rates);
	free(trips);
	*out = v;
	return kept;
}

static void add_once(struct pair *list, int *pairs, struct pair p)
{
	for (int k = 0; k < *pairs; k++)
		if (list[k].i == p.i && list[k].j == p.j)
			return;
	list[(*pairs)++] = p;
}

int infer_alone(const struct survey *s, struct pair **list, int *pairs)
{
	int *all = calloc(CLASSES, sizeof(*all)), *seen = calloc(CLASSES, sizeof(*seen));
	struct suspect *suspect = NULL;
	int suspects = find_suspects(s, &suspect);
	*pairs = 0;
	*list = malloc((INFER_EACH * CLASSES + INFER_SUSPECTS) * sizeof(**list));
	bool ok = all && seen && suspects >= 0 && *list;
	for (int i = 0; ok && i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (stands_for_both(s, i, j))
				all[class_of(s, i, j)]++;
	for (int i = 0; ok && i < s->n; i++)
		for (int j = 0; j < s->n; j++) {
			uint32_t class = i == j ? 0 : class_of(s, i, j);
			if (stands_for_both(s, i, j) && is_taken(seen[class]++, all[class]))
				add_once(*list, pairs, i < j ? (struct pair){i, j} : (struct pair){j, i});
		}
	for (int k = 0; ok && k < suspects; k++)
		add_once(*list, pairs, suspect[k].pair);
	free(all);
	free(seen);
	free(suspect);
	return ok ? TUTTI_OK : no_memory();
}
