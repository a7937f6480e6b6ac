/* SPDX-License-Identifier: MIT */
/*
 * Measuring over the public calls; see measure.h. The rank that times decides by its own clock when there was enough,
 * and says so in what it sends, so that the other one needs neither clock nor count.
 */
#include "measure.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "infer.h"
#include "rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE    ((size_t)1 << 20)
#define BURST      8 /* messages at once, each from its own buffer: together they leave a core's cache */
#define WARM_TRIPS 50
#define TRIPS      65536 /* samples of a pair, at most */
#define BURSTS     256

/* Seconds for all pairs together, one at a time or many at once, and the least and most for a round. */
#define TOTAL_S 6.0
#define BUSY_S  5.0
#define LEAST_S 0.04
#define MOST_S  1.0

/* What is measured for each pair. */
enum { LATENCY, LATENCY_P99, RATE, RATE_P10, ROWS };

struct meter {
	struct tutti_comm *c;
	double *sample;
	uint8_t *buffer;   /* BURST messages */
	double budget;     /* seconds for a pair */
	double start;      /* of this pair */
	double *row[ROWS]; /* to each rank */
};

static double seconds(void)
{
	return (double)now_ns() * 1e-9;
}

static int send_word(struct meter *m, int peer, uint64_t word)
{
	return tutti_send(&word, 1, TUTTI_U64, peer, m->c, NULL);
}

static int recv_word(struct meter *m, int peer, uint64_t *word)
{
	return tutti_recv(word, 1, TUTTI_U64, peer, m->c, NULL);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

/* Of sorted values: the one that `percent` of all do not exceed. */
static double percentile(const double *v, int n, int percent)
{
	int i = (n * percent + 99) / 100 - 1;
	return v[i < 0 ? 0 : i];
}

/* ---- latency ----------------------------------------------------------------------------------------------------- */

/* A word that is 1 comes back and is followed by another; a 0 is the last one. */
static int trip(struct meter *m, int peer, uint64_t more)
{
	uint64_t back;
	int rc = send_word(m, peer, more);
	return rc ? rc : recv_word(m, peer, &back);
}

static int lead_trips(struct meter *m, int peer)
{
	int n = 0, rc = TUTTI_OK;
	for (int i = 0; i < WARM_TRIPS && rc == TUTTI_OK; i++)
		rc = trip(m, peer, 1);
	for (double begin = seconds(), last = begin; rc == TUTTI_OK && n < TRIPS && last - begin < m->budget / 4; n++) {
		rc = trip(m, peer, 1);
		double now = seconds();
		m->sample[n] = now - last;
		last = now;
	}
	if (rc == TUTTI_OK)
		rc = trip(m, peer, 0);
	if (rc == TUTTI_OK) {
		m->row[LATENCY][peer] = median(m->sample, n) / 2;
		m->row[LATENCY_P99][peer] = percentile(m->sample, n, 99) / 2;
	}
	return rc;
}

static int follow_trips(struct meter *m, int peer)
{
	uint64_t word = 1;
	int rc = TUTTI_OK;
	while (rc == TUTTI_OK && word) {
		rc = recv_word(m, peer, &word);
		if (rc == TUTTI_OK)
			rc = send_word(m, peer, word);
	}
	return rc;
}

/* ---- bandwidth --------------------------------------------------------------------------------------------------- */

/* So many messages, announced by their number and answered by a word. */
static int send_burst(struct meter *m, int peer, uint64_t messages, double *took)
{
	uint64_t back;
	int rc = send_word(m, peer, messages);
	double begin = seconds();
	for (uint64_t i = 0; i < messages && rc == TUTTI_OK; i++)
		rc = tutti_send(m->buffer + i * MESSAGE, MESSAGE, TUTTI_U8, peer, m->c, NULL);
	if (rc == TUTTI_OK)
		rc = recv_word(m, peer, &back);
	*took = seconds() - begin;
	return rc;
}

/*
 * The first bursts are of one message: they warm up, and tell how many fit the time. The time ends for all pairs that are
 * measured at once, so that those which are ready sooner go on being in the others' way.
 */
static int send_bursts(struct meter *m, int peer, double end)
{
	double took = 0;
	int n = 0, rc = send_burst(m, peer, 1, &took);
	if (rc == TUTTI_OK && took < m->budget / 16)
		rc = send_burst(m, peer, 1, &took);
	double fit = m->budget / 16 / took;
	uint64_t messages = fit >= BURST ? BURST : fit > 1 ? (uint64_t)fit : 1;
	while (rc == TUTTI_OK && n < BURSTS && (n == 0 || seconds() < end)) {
		rc = send_burst(m, peer, messages, &took);
		m->sample[n++] = took;
	}
	if (rc == TUTTI_OK)
		rc = send_word(m, peer, 0);
	if (rc == TUTTI_OK) {
		m->row[RATE][peer] = (double)(messages * MESSAGE) / median(m->sample, n);
		m->row[RATE_P10][peer] = (double)(messages * MESSAGE) / percentile(m->sample, n, 90);
	}
	return rc;
}

static int recv_bursts(struct meter *m, int peer)
{
	for (uint64_t messages;;) {
		int rc = recv_word(m, peer, &messages);
		if (rc || messages == 0)
			return rc;
		for (uint64_t i = 0; i < messages && rc == TUTTI_OK; i++)
			rc = tutti_recv(m->buffer + i * MESSAGE, MESSAGE, TUTTI_U8, peer, m->c, NULL);
		if (rc == TUTTI_OK)
			rc = send_word(m, peer, 1);
		if (rc)
			return rc;
	}
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static int measure_pair(struct meter *m, int me, int peer)
{
	int rc;
	m->start = seconds();
	if (me > peer) {
		rc = follow_trips(m, peer);
		if (rc == TUTTI_OK)
			rc = recv_bursts(m, peer);
		return rc ? rc : send_bursts(m, peer, m->start + m->budget);
	}
	rc = lead_trips(m, peer);
	if (rc == TUTTI_OK)
		rc = send_bursts(m, peer, m->start + m->budget * 5 / 8);
	return rc ? rc : recv_bursts(m, peer);
}

/* Says on rank 0 what is going on and how long it may take; on a terminal also how far it has come. */
static void tell(const struct meter *m, const struct rounds *r, const char *what, int done)
{
	if (tutti_comm_rank(m->c) != 0 || r->count == 0)
		return;
	if (done == 0)
		fprintf(stderr, "tutti-topo: measuring %s, about %.1f s\n", what, m->budget * r->count);
	if (!isatty(STDERR_FILENO))
		return;
	if (done < r->count)
		fprintf(stderr, "\r%d of %d rounds ", done, r->count);
	else
		fputs("\r\033[K", stderr);
	fflush(stderr);
}

/* What all must know of rounds that rank 0 has made, or why there are none. */
struct notice {
	int32_t rc, count;
	double budget;
};

static int share_rounds(struct meter *m, struct rounds *r, int rc, double budget)
{
	struct notice x = {rc, r->count, budget};
	int n = tutti_comm_size(m->c);
	rc = tutti_broadcast(&x, &x, sizeof(x), TUTTI_U8, 0, m->c, NULL);
	if (rc)
		return rc;
	if (x.rc) /* rank 0 has its own text */
		return tutti_comm_rank(m->c) ? fail(x.rc, "rank 0 could not plan the measurement") : x.rc;
	m->budget = x.budget;
	if (x.count < 0 || (int64_t)x.count > (int64_t)n * n)
		return fail(TUTTI_EPEER, "rank 0 plans %d rounds of measurements", x.count);
	if (tutti_comm_rank(m->c) != 0)
		*r = (struct rounds){n, x.count, malloc(((size_t)n * (size_t)x.count + 1) * sizeof(*r->partner))};
	/* a rank without memory for the broadcast ends the job, so that the others do not wait for it */
	if (!r->partner)
		return fail(TUTTI_ENOMEM, "out of memory");
	size_t all = (size_t)n * (size_t)x.count;
	rc = tutti_broadcast(r->partner, r->partner, all, TUTTI_I32, 0, m->c, NULL);
	for (size_t i = 0; i < all && !rc; i++)
		if (r->partner[i] < -1 || r->partner[i] >= n)
			rc = fail(TUTTI_EPEER, "rank 0 plans measurements with rank %d, which does not exist",
			          r->partner[i]);
	return rc;
}

/* Collective. Takes the rounds over, which rank 0 has made, unless rc says that it failed to. */
static int run_rounds(struct meter *m, struct rounds *r, int rc, double budget, const char *what)
{
	int me = tutti_comm_rank(m->c);
	rc = share_rounds(m, r, rc, budget);
	for (int i = 0; i < r->count && rc == TUTTI_OK; i++) {
		int peer = r->partner[(size_t)i * (size_t)r->n + (size_t)me];
		tell(m, r, what, i);
		rc = tutti_barrier(m->c, NULL);
		if (rc == TUTTI_OK && peer >= 0)
			rc = measure_pair(m, me, peer);
	}
	tell(m, r, what, r->count);
	rounds_free(r);
	return rc;
}

static double share(double total, int parts, double most)
{
	double each = total / (parts ? parts : 1);
	return each > most ? most : each < LEAST_S ? LEAST_S : each;
}

/* The lower rank of a pair times round trips, for both. */
static void mirror(double *matrix, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			matrix[j * n + i] = matrix[i * n + j];
}

/* On rank 0, in place of what was gathered before. */
static int gather_rows(const struct meter *m, struct at_once *x)
{
	double **const matrix[ROWS] = {&x->latency, &x->latency_p99, &x->bandwidth, &x->bandwidth_p10};
	size_t n = (size_t)tutti_comm_size(m->c);
	int rc = TUTTI_OK;
	for (int i = 0; i < ROWS && rc == TUTTI_OK; i++) {
		if (!*matrix[i] && tutti_comm_rank(m->c) == 0)
			*matrix[i] = calloc(n * n, sizeof(double));
		rc = *matrix[i] || tutti_comm_rank(m->c)
		             ? tutti_gather(m->row[i], *matrix[i], n, TUTTI_F64, 0, m->c, NULL)
		             : fail(TUTTI_ENOMEM, "out of memory");
	}
	if (rc == TUTTI_OK && tutti_comm_rank(m->c) == 0) {
		mirror(x->latency, n);
		mirror(x->latency_p99, n);
	}
	return rc;
}

static void forget_rows(struct meter *m)
{
	for (int i = 0; i < ROWS; i++)
		memset(m->row[i], 0, (size_t)tutti_comm_size(m->c) * sizeof(double));
}

/* The pairs that have figures so far. */
static int mark_measured(const struct survey *s, struct at_once *x)
{
	size_t cells = (size_t)s->n * (size_t)s->n;
	free(x->measured);
	x->measured = calloc(cells, sizeof(bool));
	for (size_t i = 0; x->measured && i < cells; i++)
		x->measured[i] = x->bandwidth[i] > 0;
	return x->measured ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

static int fill(const struct survey *s, struct at_once *x)
{
	double *const matrix[ROWS] = {x->latency, x->latency_p99, x->bandwidth, x->bandwidth_p10};
	int rc = TUTTI_OK;
	for (int i = 0; i < ROWS && rc == TUTTI_OK; i++)
		rc = infer_fill(s, x->measured, matrix[i]);
	return rc;
}

/* ---- all pairs, or what stands for them -------------------------------------------------------------------------- */

static int pairs_at_once(struct meter *m, struct survey *s)
{
	struct rounds r = {.n = s->n};
	int rc = TUTTI_OK, rounds = rounds_count(s->n);
	char what[80];
	snprintf(what, sizeof(what), "up to %d pairs at once, in %d rounds", s->n / 2, rounds);
	if (tutti_comm_rank(m->c) == 0)
		rc = rounds_at_once(&r, s->n);
	rc = run_rounds(m, &r, rc, share(BUSY_S, rounds, MOST_S), what);
	return rc ? rc : gather_rows(m, &s->busy);
}

/* One pair of each class that had none, in rounds of the length that the others had. */
static int missing_at_once(struct meter *m, struct survey *s)
{
	struct rounds r = {.n = s->n};
	struct pair *list = NULL;
	int rc = TUTTI_OK, pairs;
	if (tutti_comm_rank(m->c) == 0) {
		rc = mark_measured(s, &s->busy);
		rc = rc ? rc : infer_groups(s);
		rc = rc ? rc : infer_missing(s, &list, &pairs);
		rc = rc ? rc : rounds_packed(&r, s->n, list, pairs);
		free(list);
	}
	rc = run_rounds(m, &r, rc, m->budget, "kinds of pairs that have not been measured together yet");
	return rc ? rc : gather_rows(m, &s->busy);
}

static int some_alone(struct meter *m, struct survey *s, struct at_once *own)
{
	struct rounds r = {.n = s->n};
	struct pair *list = NULL;
	int rc = TUTTI_OK, pairs = 0;
	char what[80] = "";
	if (tutti_comm_rank(m->c) == 0) {
		rc = mark_measured(s, &s->busy);
		rc = rc ? rc : infer_alone(s, &list, &pairs);
		rc = rc ? rc : rounds_one_by_one(&r, s->n, list, pairs);
		snprintf(what, sizeof(what), "%d pairs, one at a time", pairs);
		free(list);
	}
	forget_rows(m);
	rc = run_rounds(m, &r, rc, share(TOTAL_S, pairs, MOST_S / INFER_EACH), what);
	rc = rc ? rc : gather_rows(m, own);
	if (rc == TUTTI_OK && tutti_comm_rank(m->c) == 0) {
		rc = mark_measured(s, own);
		rc = rc ? rc : fill(s, own);
		rc = rc ? rc : fill(s, &s->busy);
	}
	return rc;
}

static int all_alone(struct meter *m, struct survey *s, struct at_once *own)
{
	struct rounds r = {.n = s->n};
	struct pair list[MEASURE_ALONE * (MEASURE_ALONE - 1) / 2];
	int rc = TUTTI_OK, pairs = 0;
	char what[80];
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++)
			list[pairs++] = (struct pair){i, j};
	snprintf(what, sizeof(what), "%d pair%s, one at a time", pairs, pairs == 1 ? "" : "s");
	if (tutti_comm_rank(m->c) == 0)
		rc = rounds_one_by_one(&r, s->n, list, pairs);
	forget_rows(m);
	rc = run_rounds(m, &r, rc, share(TOTAL_S, pairs, MOST_S), what);
	return rc ? rc : gather_rows(m, own);
}

/* What was measured of all pairs needs no list of them. */
static void drop_full(const struct survey *s, bool **measured)
{
	size_t n = (size_t)s->n, count = 0;
	for (size_t i = 0; *measured && i < n * n; i++)
		count += (*measured)[i];
	if (count == n * (n - 1)) {
		free(*measured);
		*measured = NULL;
	}
}

static int measure_both(struct meter *m, struct survey *s)
{
	struct at_once own = {0};
	int rc = TUTTI_OK;
	if (s->n >= MEASURE_BUSY)
		rc = pairs_at_once(m, s);
	if (rc == TUTTI_OK && s->n > MEASURE_ALONE)
		rc = missing_at_once(m, s);
	if (rc == TUTTI_OK)
		rc = s->n > MEASURE_ALONE ? some_alone(m, s, &own) : all_alone(m, s, &own);
	s->latency = own.latency;
	s->latency_p99 = own.latency_p99;
	s->bandwidth = own.bandwidth;
	s->bandwidth_p10 = own.bandwidth_p10;
	s->measured = own.measured;
	drop_full(s, &s->measured);
	drop_full(s, &s->busy.measured);
	return rc;
}

int measure_all(struct survey *s, struct tutti_comm *c)
{
	size_t n = (size_t)s->n;
	struct meter m = {.c = c};
	bool enough = true;
	for (int i = 0; i < ROWS; i++)
		enough = (m.row[i] = calloc(n, sizeof(double))) && enough;
	m.sample = calloc(TRIPS, sizeof(double));
	m.buffer = malloc(BURST * MESSAGE);
	int rc = enough && m.sample && m.buffer ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (rc == TUTTI_OK) {
		memset(m.buffer, 1, BURST * MESSAGE);
		rc = measure_both(&m, s);
	}
	for (int i = 0; i < ROWS; i++)
		free(m.row[i]);
	free(m.sample);
	free(m.buffer);
	return rc;
}
