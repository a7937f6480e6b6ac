/* SPDX-License-Identifier: MIT */
/* Collecting; see survey.h. */
#include "survey.h"
#include "../../src/comm/comm.h"
#include "../../src/topo/ring.h"
#include "../../src/util/error.h"

#include <arpa/inet.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A slowest step, or all steps together, that are so much faster are worth another order than rank order: less is noise. */
#define WORTH 1.25

#define MOST_BYTES ((size_t)64 << 20) /* of a host's description */

static int no_memory(void)
{
	return fail(TUTTI_ENOMEM, "out of memory");
}

/* Ranks run the same program, but one may be broken. */
static int unbelievable(int rank, const char *what)
{
	return fail(TUTTI_EPEER, "rank %d sent invalid data: %s", rank, what);
}

static int name_transports(struct survey *s, const struct world *w)
{
	s->ntransports = w->ntransports;
	s->transport = calloc((size_t)w->ntransports + 1, sizeof(*s->transport));
	if (!s->transport)
		return no_memory();
	for (int i = 0; i < w->ntransports; i++)
		snprintf(s->transport[i], sizeof(s->transport[i]), "%s", w->transport[i].t->name);
	return TUTTI_OK;
}

static int gather_ranks(struct survey *s, struct tutti_comm *c)
{
	const struct world *w = c->world;
	struct rank_facts mine = {.host = w->near[w->rank], .memory = w->host[w->rank], .pid = getpid()};
	size_t n = (size_t)s->n;

	s->rank = calloc(n, sizeof(*s->rank));
	s->via = calloc(n * n, sizeof(*s->via));
	if (!s->rank || !s->via)
		return no_memory();
	mine.bound = cpus_allowed(&mine.cpus);
	int rc = tutti_allgather(&mine, s->rank, sizeof(mine), TUTTI_U8, c, NULL);
	for (int r = 0; r < s->n && !rc; r++)
		if (s->rank[r].host != w->near[r])
			rc = unbelievable(r, "which host it is on");
	for (int r = 0; r < s->n && !rc; r++)
		for (int i = 0; s->rank[r].host == mine.host && i < CPUS_MAX / 64; i++)
			s->may.word[i] |= s->rank[r].cpus.word[i];
	rc = rc ? rc : tutti_gather(w->via, s->via, n, TUTTI_I32, 0, c, NULL);
	for (size_t i = 0; i < n * n && !rc && w->rank == 0; i++)
		if (s->via[i] >= w->ntransports)
			rc = unbelievable((int)(i / n), "how it reaches other ranks");
	return rc;
}

static bool leads_host(const struct world *w, int rank)
{
	int r = 0;
	while (w->near[r] != w->near[rank])
		r++;
	return r == rank;
}

/* Hosts are numbered by their lowest rank, so what the leaders sent stands in the order of hosts. */
static int find_machines(struct survey *s, const size_t *bytes)
{
	uint8_t *next = s->block;
	s->machine = calloc((size_t)s->n, sizeof(*s->machine));
	if (!s->machine)
		return no_memory();
	for (int r = 0; r < s->n; r++) {
		struct machine *m = (struct machine *)(void *)next;
		if (bytes[r] && !machine_believe(m, bytes[r]))
			return unbelievable(r, "what its host is made of");
		if (bytes[r])
			s->machine[s->nhosts++] = m;
		next += bytes[r];
	}
	return TUTTI_OK;
}

/* One description a host, none longer than there are, each beginning where a struct may. */
static int check_lengths(const struct survey *s, const struct world *w, const size_t *bytes)
{
	for (int r = 0; r < s->n; r++)
		if ((bytes[r] != 0) != leads_host(w, r) || bytes[r] > MOST_BYTES || bytes[r] % alignof(struct machine))
			return unbelievable(r, "how long the description of its host is");
	return TUTTI_OK;
}

static int gather_machines(struct survey *s, struct tutti_comm *c, const struct machine *mine, size_t *bytes)
{
	size_t own = mine ? machine_bytes(mine) : 0, all = 0;
	int rc = tutti_allgather(&own, bytes, sizeof(own), TUTTI_U8, c, NULL);
	rc = rc ? rc : check_lengths(s, c->world, bytes);
	for (int r = 0; r < s->n; r++)
		all += bytes[r];
	s->block = rc || tutti_comm_rank(c) ? NULL : malloc(all);
	if (rc == TUTTI_OK && tutti_comm_rank(c) == 0 && !s->block)
		rc = no_memory();
	if (rc == TUTTI_OK)
		rc = tutti_gatherv(mine, s->block, bytes, NULL, TUTTI_U8, 0, c, NULL);
	return rc || !s->block ? rc : find_machines(s, bytes);
}

/* One rank of each host describes it. */
static int describe_hosts(struct survey *s, struct tutti_comm *c)
{
	struct machine *mine = NULL;
	size_t *bytes = calloc((size_t)s->n, sizeof(*bytes));
	int rc = bytes ? TUTTI_OK : no_memory();
	if (rc == TUTTI_OK && leads_host(c->world, c->world->rank))
		rc = machine_discover(NULL, &mine);
	if (rc == TUTTI_OK && mine && !(mine->unknown & MACHINE_FOREIGN)) /* TUTTI_HOST may have renamed it */
		snprintf(mine->name, sizeof(mine->name), "%s", c->world->contacts[c->world->rank].host);
	if (rc == TUTTI_OK)
		rc = gather_machines(s, c, mine, bytes);
	free(bytes);
	s->mine = mine;
	return rc;
}

int survey_take(struct survey *s, struct tutti_comm *c)
{
	*s = (struct survey){.n = tutti_comm_size(c)};
	int rc = name_transports(s, c->world);
	if (rc == TUTTI_OK)
		rc = gather_ranks(s, c);
	return rc ? rc : describe_hosts(s, c);
}

/* ---- the ring ---------------------------------------------------------------------------------------------------- */

static void in_rank_order(struct survey *s)
{
	for (int i = 0; i < s->n; i++)
		s->ring[i] = i;
}

/* Seconds of a byte; NULL: out of memory. */
static double *costs_of_steps(const struct survey *s)
{
	size_t n = (size_t)s->n;
	const double *rate = survey_rates(s);
	double *cost = calloc(n * n, sizeof(*cost));
	for (size_t i = 0; cost && i < n * n; i++)
		cost[i] = rate[i] > 0 ? 1 / rate[i] : 0; /* to oneself: no step of a ring */
	return cost;
}

int survey_rate_ring(struct survey *s)
{
	double *cost = costs_of_steps(s);
	if (!cost)
		return no_memory();
	s->ring_rate = 1 / ring_cost(s->n, cost, s->ring).worst;
	free(cost);
	return TUTTI_OK;
}

int survey_ring(struct survey *s)
{
	double *cost = costs_of_steps(s);
	s->ring = calloc((size_t)s->n, sizeof(*s->ring));
	if (!cost || !s->ring) {
		free(cost);
		return no_memory();
	}
	in_rank_order(s);
	struct ring_cost plain = ring_cost(s->n, cost, s->ring), best;
	int rc = ring_order(s->n, cost, s->ring);
	best = ring_cost(s->n, cost, s->ring);
	if (best.worst * WORTH > plain.worst && best.total * WORTH > plain.total) {
		in_rank_order(s);
		best = plain;
	}
	s->plain_rate = 1 / plain.worst;
	s->ring_rate = 1 / best.worst;
	free(cost);
	return rc;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

const char *survey_via(const struct survey *s, int i, int j)
{
	int via = s->via[(size_t)i * (size_t)s->n + (size_t)j];
	return via < 0 ? "self" : s->transport[via];
}

const char *survey_relation(const struct survey *s, int i, int j)
{
	if (s->rank[i].memory == s->rank[j].memory)
		return "shared memory";
	return s->rank[i].host == s->rank[j].host ? "one host" : "across hosts";
}

bool survey_same_class(const struct survey *s, int i, int j, int k, int l)
{
	return survey_via(s, i, j) == survey_via(s, k, l) && survey_relation(s, i, j) == survey_relation(s, k, l);
}

int survey_classes(const struct survey *s, struct pair_class *out)
{
	int n = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++) {
			int k = 0;
			while (k < n && !survey_same_class(s, i, j, out[k].i, out[k].j))
				k++;
			if (k == SURVEY_CLASSES)
				continue;
			if (k == n)
				out[n++] = (struct pair_class){i, j, 0};
			out[k].pairs++;
		}
	return n;
}

bool survey_same_network(const char *a, const char *b)
{
	uint8_t x[16], y[16];
	if (inet_pton(AF_INET, a, x) == 1 && inet_pton(AF_INET, b, y) == 1)
		return memcmp(x, y, 3) == 0;
	return inet_pton(AF_INET6, a, x) == 1 && inet_pton(AF_INET6, b, y) == 1 && memcmp(x, y, 8) == 0;
}

int survey_sharing(const struct survey *s, int *i, int *j)
{
	double least = 1;
	int pairs = 0;
	for (int a = 0; s->busy.bandwidth && a < s->n; a++)
		for (int b = 0; b < s->n; b++) {
			size_t at = (size_t)a * (size_t)s->n + (size_t)b;
			double part =
			        a == b || !survey_busy_measured(s, a, b) ? 1 : s->busy.bandwidth[at] / s->bandwidth[at];
			pairs += part < SURVEY_SHARED;
			if (part < least) {
				least = part;
				*i = a;
				*j = b;
			}
		}
	return pairs;
}

static bool is_set(const struct survey *s, const bool *measured, int i, int j)
{
	return !measured || measured[(size_t)i * (size_t)s->n + (size_t)j];
}

bool survey_measured(const struct survey *s, int i, int j)
{
	return is_set(s, s->measured, i, j);
}

bool survey_busy_measured(const struct survey *s, int i, int j)
{
	return is_set(s, s->busy.measured, i, j);
}

const double *survey_rates(const struct survey *s)
{
	return s->measured && s->busy.bandwidth ? s->busy.bandwidth : s->bandwidth;
}

int survey_groups(const struct survey *s)
{
	int last = 0;
	for (int h = 0; s->group && h < s->nhosts; h++)
		last = s->group[h] > last ? s->group[h] : last;
	return last + 1;
}

const char *survey_host(const struct survey *s, int host)
{
	return s->machine[host]->name[0] ? s->machine[host]->name : "a machine";
}

void survey_free(struct survey *s)
{
	free(s->transport);
	free(s->rank);
	free(s->via);
	free(s->machine);
	free(s->block);
	free(s->mine);
	free(s->speed);
	free(s->latency);
	free(s->bandwidth);
	free(s->latency_p99);
	free(s->bandwidth_p10);
	free(s->busy.latency);
	free(s->busy.latency_p99);
	free(s->busy.bandwidth);
	free(s->busy.bandwidth_p10);
	free(s->busy.measured);
	free(s->measured);
	free(s->group);
	free(s->ring);
	free(s->odd);
}
