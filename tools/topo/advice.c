/* SPDX-License-Identifier: MIT */
/* What a communicator chooses; see advice.h. */
#include "advice.h"
#include "../../src/comm/comm.h"
#include "../../src/topo/ring.h"
#include "../../src/transport.h"
#include "../../src/util/error.h"

#include <stdlib.h>
#include <string.h>

static const enum coll shown[] = {COLL_ALLREDUCE, COLL_ALLGATHER, COLL_REDUCE_SCATTER};
#define SHOWN    ((int)(sizeof(shown) / sizeof(shown[0])))
#define SMALLEST ((size_t)64)
#define STEP     8
#define SIZES    8 /* 64 B to 128 MiB */

/* ---- ring and leaders -------------------------------------------------------------------------------------------- */

/* The order of rings, from rank 0 on. */
static int find_ring(struct advice *a, const struct shape *shape)
{
	int *place = calloc((size_t)a->n, sizeof(*place)), *order = calloc((size_t)a->n, sizeof(*order)), first = 0;
	bool ok = place && order;
	for (int r = 0; ok && r < a->n; r++)
		place[r] = r;
	if (ok && !shape->order)
		ring_by_host(a->n, shape->host, place, order);
	const int *ring = shape->order ? shape->order : order;
	while (ok && ring[first] != 0)
		first++;
	for (int i = 0; ok && i < a->n; i++)
		a->ring[i] = ring[(first + i) % a->n];
	free(place);
	free(order);
	return ok ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

/* An algorithm that goes by hosts, in strands of their own: its leaders are all hierarchies'. NULL: none does on these ranks. */
static const struct algo *hierarchy_of(struct plan_args *args)
{
	for (int i = 0; algo_table[i]; i++) {
		struct volume v;
		if (!algo_serves(algo_table[i], args))
			continue;
		algo_volume(algo_table[i], args, &v);
		if (v.inside.rounds && !v.joined && !v.pipeline)
			return algo_table[i];
	}
	return NULL;
}

/* Leaders are the ranks that have links to other hosts. */
static void find_leaders(struct advice *a, const struct shape *shape)
{
	struct plan_args args = {.coll = COLL_ALLREDUCE, .nranks = a->n, .channels = 1, .shape = shape};
	const struct algo *algo = hierarchy_of(&args);
	for (; algo && args.rank < a->n; args.rank++) {
		struct plan *p = algo_plan(algo, &args);
		bool leads = false;
		for (int i = 0; p && i < p->nlinks; i++)
			leads = leads || shape->host[p->links[i].peer] != shape->host[args.rank];
		if (leads)
			a->leader[a->nleaders++] = args.rank;
		plan_free(p);
	}
}

/* ---- algorithms -------------------------------------------------------------------------------------------------- */

static int choose_calls(struct advice *a, const struct tuner *t)
{
	size_t bytes = SMALLEST;
	for (int i = 0; i < SIZES; i++, bytes *= STEP)
		for (int k = 0; k < SHOWN; k++) {
			struct query q = {
			        .coll = shown[k], .bytes = bytes, .esize = 4, .fold_matters = coll_reduces(shown[k])};
			struct choice choice;
			struct advised_call *call = &a->call[a->ncalls];
			int rc = tuner_choose(t, &q, &choice);
			if (rc)
				return rc;
			*call = (struct advised_call){shown[k], bytes, "", choice.channels, choice.seconds};
			snprintf(call->algo, sizeof(call->algo), "%s",
			         choice.algo       ? choice.algo->name
			         : choice.two_shot ? "direct, two-shot"
			                           : "direct");
			a->ncalls++;
		}
	return TUTTI_OK;
}

/* ---- cables ------------------------------------------------------------------------------------------------------ */

/* The nearest transport between two hosts: transports stand nearest first. */
static int way(const struct survey *s, int a, int b)
{
	int best = s->ntransports;
	for (int i = 0; i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (s->rank[i].host == a && s->rank[j].host == b && s->via[i * s->n + j] < best)
				best = s->via[i * s->n + j];
	return best;
}

static bool common_network(const struct survey *s, int a, int b)
{
	const struct machine *x = s->machine[a], *y = s->machine[b];
	for (uint32_t i = 0; i < x->ndevices; i++)
		for (uint32_t j = 0; j < y->ndevices; j++)
			if (survey_same_network(x->device[i].ip, y->device[j].ip))
				return true;
	return false;
}

/* A pair lacks what some other pair has: a network in common, or the nearer transport. */
static void find_missing(struct advice *a, const struct survey *s)
{
	int nearest = s->ntransports;
	bool networks = false;
	for (int h = 0; h < s->nhosts; h++)
		for (int g = h + 1; g < s->nhosts; g++) {
			nearest = way(s, h, g) < nearest ? way(s, h, g) : nearest;
			networks = networks || common_network(s, h, g);
		}
	for (int h = 0; h < s->nhosts; h++)
		for (int g = h + 1; g < s->nhosts; g++)
			if (way(s, h, g) > nearest || (networks && !common_network(s, h, g))) {
				a->missing[a->nmissing][0] = h;
				a->missing[a->nmissing++][1] = g;
			}
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

static int advise(struct advice *a, const struct survey *s, const struct tuner *t)
{
	size_t n = (size_t)s->n, hosts = (size_t)s->nhosts;
	*a = (struct advice){.n = s->n};
	a->ring = calloc(n, sizeof(*a->ring));
	a->leader = calloc(n, sizeof(*a->leader));
	a->missing = calloc(hosts * hosts + 1, sizeof(*a->missing));
	a->call = calloc(SIZES * SHOWN, sizeof(*a->call));
	if (!a->ring || !a->leader || !a->missing || !a->call)
		return fail(TUTTI_ENOMEM, "out of memory");
	find_missing(a, s);
	if (s->n < 2)
		return TUTTI_OK;
	find_leaders(a, t->shape);
	int rc = find_ring(a, t->shape);
	return rc ? rc : choose_calls(a, t);
}

int advise_comm(struct advice *a, const struct survey *s, const struct tutti_comm *c)
{
	return advise(a, s, &c->tuner);
}

/* As a communicator sees the ranks: hosts are what shares memory. */
static void number_hosts(const struct survey *s, struct shape *shape, int *host)
{
	for (int r = 0; r < s->n; r++) {
		host[r] = -1;
		for (int q = 0; q < r && host[r] < 0; q++)
			if (s->rank[q].memory == s->rank[r].memory)
				host[r] = host[q];
		if (host[r] < 0)
			host[r] = shape->nhosts++;
	}
}

static enum cost_link kind_of(const struct survey *s, int i, int j)
{
	if (s->rank[i].memory == s->rank[j].memory)
		return strcmp(survey_via(s, i, j), "inproc") == 0 ? COST_INPROC : COST_SHM;
	return s->rank[i].host == s->rank[j].host ? COST_LOOPBACK : COST_NETWORK;
}

static void dearest_kinds(const struct survey *s, const struct shape *shape, enum cost_link *near, enum cost_link *far)
{
	*near = COST_INPROC;
	*far = COST_LOOPBACK;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++) {
			enum cost_link *kind = shape->host[i] == shape->host[j] ? near : far, link = kind_of(s, i, j);
			*kind = link > *kind ? link : *kind;
		}
}

/* Of a communicator's links: what suits the dearest of its ways between hosts, as ranks agree on it. */
static size_t slot_of(const struct survey *s, const struct shape *shape, enum cost_link far)
{
	uint32_t most = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++) {
			if (shape->host[i] == shape->host[j] || kind_of(s, i, j) != far)
				continue;
			const char *via = survey_via(s, i, j);
			uint32_t slot = transport_ring(transport_find(via, strlen(via)), far == COST_NETWORK).payload;
			most = slot > most ? slot : most;
		}
	return most ? most : transport_ring(NULL, false).payload;
}

static int advise_shape(struct advice *a, const struct survey *s, const struct params *p, const struct shape *shape)
{
	struct costs costs;
	enum cost_link near, far;
	struct tuner t = {
	        .shape = shape,
	        .direct = shape->nhosts == 1 && p->direct_max > 0,
	        .reproducible = p->reproducible,
	        .channels = (int)p->channels,
	};
	costs_load(&costs, p->tune_file);
	dearest_kinds(s, shape, &near, &far);
	tuner_prices(&t, &costs, near, far);
	t.slot = p->slot ? (size_t)p->slot : slot_of(s, shape, far);
	int rc = tuner_allow(&t, p->algo);
	return rc ? rc : advise(a, s, &t);
}

int advise_survey(struct advice *a, const struct survey *s)
{
	size_t n = (size_t)s->n;
	int *host = calloc(n, sizeof(*host)), *place = calloc(n, sizeof(*place)), *order = calloc(n, sizeof(*order));
	struct params params;
	*a = (struct advice){0};
	int rc = host && place && order ? params_read(&params) : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc) {
		struct shape shape = {.nranks = s->n, .host = host};
		number_hosts(s, &shape, host);
		for (int i = 0; s->ring && i < s->n; i++)
			place[s->ring[i]] = i;
		ring_by_host(s->n, host, place, order);
		shape.order = s->ring ? order : NULL;
		rc = advise_shape(a, s, &params, &shape);
		params_free(&params);
	}
	free(host);
	free(place);
	free(order);
	return rc;
}

void advice_free(struct advice *a)
{
	free(a->ring);
	free(a->leader);
	free(a->missing);
	free(a->call);
	*a = (struct advice){0};
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Behind `column` letters of the line. */
static void print_ranks(FILE *f, const int *rank, int n, int column)
{
	for (int i = 0; i < n; i++) {
		if (column > 100)
			column = fprintf(f, "\n    ") - 1;
		column += fprintf(f, " %d", rank[i]);
	}
}

static void size_text(size_t bytes, char *buf, size_t cap)
{
	snprintf(buf, cap, "%zu%s",
	         bytes >> (bytes >> 20   ? 20
	                   : bytes >> 10 ? 10
	                                 : 0),
	         bytes >> 20   ? " MiB"
	         : bytes >> 10 ? " KiB"
	                       : " B");
}

static void print_calls(FILE *f, const struct advice *a)
{
	fprintf(f, "  algorithm, channels, and predicted microseconds; bytes of the larger buffer, sums of f32\n%12s",
	        "");
	for (int k = 0; k < SHOWN; k++)
		fprintf(f, "%-*s", k < SHOWN - 1 ? 34 : 0, coll_name(shown[k]));
	for (int i = 0; i < a->ncalls; i++) {
		char size[32], how[48];
		const struct advised_call *c = &a->call[i];
		if (i % SHOWN == 0) {
			size_text(c->bytes, size, sizeof(size));
			fprintf(f, "\n%10s", size);
		}
		snprintf(how, sizeof(how), c->channels > 1 ? "%s x%d" : "%s", c->algo, c->channels);
		fprintf(f, i % SHOWN < SHOWN - 1 ? "  %-20s %10.*f " : "  %-20s %10.*f", how,
		        c->seconds < 1e-5   ? 2
		        : c->seconds < 1e-3 ? 1
		                            : 0,
		        c->seconds * 1e6);
	}
	fputc('\n', f);
}

static void print_cables(FILE *f, const struct survey *s, const struct advice *a)
{
	int pairs = s->nhosts * (s->nhosts - 1) / 2;
	if (s->nhosts < 2)
		return;
	if (!a->nmissing) {
		fprintf(f, "  each of %d pairs of hosts is joined like the others\n", pairs);
		return;
	}
	fprintf(f, "  for a full mesh %d of %d cables are missing:", a->nmissing, pairs);
	for (int i = 0; i < a->nmissing; i++)
		fprintf(f, "%s%s - %s",
		        i % 4 ? "; "
		        : i   ? ";\n    "
		              : "\n    ",
		        survey_host(s, a->missing[i][0]), survey_host(s, a->missing[i][1]));
	fputc('\n', f);
}

void advice_print(FILE *f, const struct survey *s, const struct advice *a)
{
	fputs("plan: what a communicator of these ranks chooses\n", f);
	if (s->n < 2) {
		fputs("  one rank has nothing to choose\n", f);
		return;
	}
	print_ranks(f, a->ring, a->n, fprintf(f, "  ring:"));
	if (s->ring && memcmp(s->ring, a->ring, (size_t)a->n * sizeof(int)) != 0)
		fputs("\n    for the measured order write a file with --json, and name it in TUTTI_TOPO_FILE", f);
	print_ranks(
	        f, a->leader, a->nleaders,
	        fprintf(f, a->nleaders ? "\n  leaders, who talk across hosts in a hierarchy:" : "\n  no hierarchy"));
	fputc('\n', f);
	print_cables(f, s, a);
	print_calls(f, a);
}
