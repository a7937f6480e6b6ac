/*
 * Measuring over the public calls; see measure.h. The rank that times decides by its own clock when there was enough,
 * and says so in what it sends, so that the other one needs neither clock nor count.
 */
#include "measure.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGE    ((size_t)1 << 20)
#define BURST      8 /* messages at once, each from its own buffer: together they leave a core's cache */
#define WARM_TRIPS 50
#define TRIPS      65536 /* samples of a pair, at most */
#define BURSTS     256

/* Seconds for all pairs together, one at a time or many at once, and the least and most for one. */
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

int measure_rounds(int n)
{
	return n < 2 ? 0 : n % 2 ? n : n - 1;
}

/* All but the last stand in a circle and meet their mirror image; who would meet himself meets the last. */
int measure_partner(int n, int round, int me)
{
	int circle = measure_rounds(n), last = circle;
	int mirror = (2 * round + circle - me) % circle, partner = me == last ? round : mirror == me ? last : mirror;
	return partner < n ? partner : -1;
}

/* One pair after the other: (0,1), (0,2), ... */
static int partner_alone(int n, int step, int me)
{
	int low = 0;
	for (; step >= n - 1 - low; low++)
		step -= n - 1 - low;
	int high = low + 1 + step;
	return me == low ? high : me == high ? low : -1;
}

static int measure_pairs(struct meter *m, bool alone, double total)
{
	int n = tutti_comm_size(m->c), me = tutti_comm_rank(m->c), rc = TUTTI_OK;
	int steps = alone ? n * (n - 1) / 2 : measure_rounds(n);
	double share = total / steps;
	m->budget = share > MOST_S ? MOST_S : share < LEAST_S ? LEAST_S : share;
	for (int i = 0; i < steps && rc == TUTTI_OK; i++) {
		int peer = alone ? partner_alone(n, i, me) : measure_partner(n, i, me);
		rc = tutti_barrier(m->c, NULL);
		if (rc == TUTTI_OK && peer >= 0)
			rc = measure_pair(m, me, peer);
	}
	return rc;
}

/* The lower rank of a pair times round trips, for both. */
static void mirror(double *matrix, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			matrix[j * n + i] = matrix[i * n + j];
}

static int gather_rows(const struct meter *m, size_t n, double **const matrix[ROWS])
{
	int rc = TUTTI_OK;
	for (int i = 0; i < ROWS && rc == TUTTI_OK; i++) {
		*matrix[i] = calloc(n * n, sizeof(double));
		rc = *matrix[i] ? tutti_gather(m->row[i], *matrix[i], n, TUTTI_F64, 0, m->c, NULL)
		                : fail(TUTTI_ENOMEM, "out of memory");
	}
	if (rc == TUTTI_OK) {
		mirror(*matrix[LATENCY], n);
		mirror(*matrix[LATENCY_P99], n);
	}
	return rc;
}

int measure_all(struct survey *s, struct tutti_comm *c)
{
	size_t n = (size_t)s->n;
	struct meter m = {.c = c};
	double **const first[ROWS] = {&s->latency, &s->latency_p99, &s->bandwidth, &s->bandwidth_p10};
	double **const busy[ROWS] = {&s->busy.latency, &s->busy.latency_p99, &s->busy.bandwidth,
	                             &s->busy.bandwidth_p10};
	bool enough = true;
	for (int i = 0; i < ROWS; i++)
		enough = (m.row[i] = calloc(n, sizeof(double))) && enough;
	m.sample = calloc(TRIPS, sizeof(double));
	m.buffer = malloc(BURST * MESSAGE);
	int rc = enough && m.sample && m.buffer ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (rc == TUTTI_OK) {
		memset(m.buffer, 1, BURST * MESSAGE);
		rc = measure_pairs(&m, s->n <= MEASURE_ALONE, TOTAL_S);
	}
	if (rc == TUTTI_OK)
		rc = gather_rows(&m, n, first);
	if (rc == TUTTI_OK && s->n >= MEASURE_BUSY && s->n <= MEASURE_ALONE) {
		rc = measure_pairs(&m, false, BUSY_S);
		rc = rc ? rc : gather_rows(&m, n, busy);
	}
	for (int i = 0; i < ROWS; i++)
		free(m.row[i]);
	free(m.sample);
	free(m.buffer);
	return rc;
}
