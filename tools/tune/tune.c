/* SPDX-License-Identifier: MIT */
/*
 * Measuring costs; see tune.h. Two ranks exchange: an all-gather of two ranks in place is nothing but that, by a plan over
 * links or by the direct tier, whichever is allowed. A latency is the time of a few bytes; the price of a byte is what
 * the time of more bytes is above it, averaged over sizes. Every time is a lower quartile: what is possible when nobody
 * interferes.
 */
#include "tune.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/comm/comm.h"
#include "../../src/kernel/kernel.h"
#include "../../src/util/clock.h"
#include "../../src/util/cpus.h"
#include "../../src/util/error.h"

#define SMALL   8
#define LARGE   ((size_t)1 << 20)
#define BUFFERS 4  /* used in turn: together they leave a core's cache */
#define LANES   8  /* messages at once, each on a link of its own */
#define BATCH   16 /* small exchanges in a sample: one alone may find the peer's part already there */
#define SAMPLES 1000
#define SECONDS 0.2 /* for each figure, more where a single sample takes longer */

/* ---- samples --------------------------------------------------------------------------------------------------------- */

struct meter {
	struct tutti_comm *c; /* of two */
	uint8_t *buffer;      /* BUFFERS times two parts of LARGE */
	double *sample;
	size_t bytes; /* of a part */
	int turn;
};

static double seconds(void)
{
	return (double)now_ns() * 1e-9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quartile(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 4];
}

/* A caller has written its part before; where that takes long, outside the timed interval. */
static uint8_t *write_own(struct meter *m)
{
	uint8_t *own = m->buffer + (size_t)m->turn * 2 * LARGE + (size_t)m->c->rank * m->bytes;
	for (size_t i = 0; i < m->bytes; i += 64)
		own[i]++;
	m->turn = (m->turn + 1) % BUFFERS;
	return own;
}

/* Seconds of `batch` exchanges of parts, in place. */
static int exchange(struct meter *m, int batch, double *took)
{
	int rc = TUTTI_OK;
	uint8_t *own = write_own(m);
	double begin = seconds();
	for (int i = 0; i < batch && !rc; i++) {
		own = i ? write_own(m) : own;
		rc = tutti_allgather(own, own - (size_t)m->c->rank * m->bytes, m->bytes, TUTTI_U8, m->c, NULL);
	}
	*took = seconds() - begin;
	return rc;
}

/* The lower quartile on rank 0: of as many samples as fit the time, at least five. */
static int sample(struct meter *m, size_t bytes, double *figure)
{
	int rc = TUTTI_OK, batch = bytes < 1024 ? BATCH : 1;
	uint64_t n = 3; /* the first few connect and warm up, and the last of them tells how many fit */
	double took = 0;
	m->bytes = bytes;
	for (uint64_t i = 0; i < n && !rc; i++)
		rc = exchange(m, batch, &took);
	n = took < SECONDS / SAMPLES ? SAMPLES : took < SECONDS / 5 ? (uint64_t)(SECONDS / took) : 5;
	rc = rc ? rc : tutti_broadcast(&n, &n, 1, TUTTI_U64, 0, m->c, NULL);
	for (uint64_t i = 0; i < n && !rc; i++)
		rc = exchange(m, batch, &m->sample[i]);
	*figure = rc ? 0 : quartile(m->sample, (int)n) / batch;
	return rc;
}

/* ---- a pair of ranks ------------------------------------------------------------------------------------------------- */

/* Recipes made under other overrides are forgotten. */
static int allow(struct meter *m, const char *algo, int channels)
{
	prepared_clear(&m->c->prepared);
	m->c->tuner.channels = channels;
	return tuner_allow(&m->c->tuner, algo);
}

/* A byte's price is not the same at all sizes; the geometric mean is wrong by the least factor. */
static int measure_exchange(struct meter *m, double *alpha, double *beta)
{
	static const size_t sizes[] = {LARGE / 64, LARGE / 8, LARGE};
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	double sum = 0, took = 0;
	int rc = sample(m, SMALL, alpha);
	for (int i = 0; i < SIZES && !rc; i++) {
		rc = sample(m, sizes[i], &took);
		sum += log((took > *alpha ? took - *alpha : took) / (double)sizes[i]);
	}
	*beta = exp(sum / SIZES);
	return rc;
}

/* A channel is a link of its own to the same peer, as others are to other peers. */
static int measure_link(struct meter *m, struct link_cost *cost)
{
	double many = 0;
	int rc = allow(m, "allgather:ring", 1);
	rc = rc ? rc : measure_exchange(m, &cost->alpha, &cost->beta);
	rc = rc ? rc : allow(m, "allgather:ring", LANES);
	rc = rc ? rc : sample(m, LANES * SMALL, &many);
	double gap = (many - cost->alpha) / (LANES - 1), least = cost->alpha / 20;
	cost->gap = gap < least ? least : gap > cost->alpha ? cost->alpha : gap; /* no dearer than a round of its own */
	return rc;
}

/* What a rank shows it copies first; the rest of the time is that of reading. */
static int measure_direct(struct meter *m, double copy, struct direct_cost *cost)
{
	int rc = allow(m, "allgather:direct", 1);
	rc = rc ? rc : measure_exchange(m, &cost->alpha, &cost->beta);
	cost->beta = cost->beta > 2 * copy ? cost->beta - copy : cost->beta / 2;
	return rc;
}

static void set_measured(struct costs *costs, unsigned row)
{
	costs->measured |= UINT64_C(1) << row;
}

/* Collective over two ranks; the figures of rank 0 count. */
static int measure_pair(struct tutti_comm *c, struct costs *costs)
{
	enum cost_link kind = world_link(c->world, c->members[0], c->members[1]);
	struct meter m = {.c = c};
	m.buffer = malloc(BUFFERS * 2 * LARGE);
	m.sample = calloc(SAMPLES, sizeof(*m.sample));
	int rc = m.buffer && m.sample ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc) {
		memset(m.buffer, 1, BUFFERS * 2 * LARGE);
		rc = measure_link(&m, &costs->link[kind]);
		set_measured(costs, COST_ROW_LINK + kind);
	}
	if (!rc && c->tuner.direct) {
		rc = measure_direct(&m, costs->copy, &costs->direct[kind]);
		set_measured(costs, COST_ROW_DIRECT + kind);
	}
	free(m.buffer);
	free(m.sample);
	return rc;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

#define PASSES 200
#define COUNT  (64 << 10)

static void measure_memory(struct costs *costs)
{
	static float a[COUNT], b[COUNT], out[COUNT];
	double copied[PASSES], reduced[PASSES];
	for (int i = 0; i < PASSES; i++) {
		double t0 = seconds();
		memcpy(out, i % 2 ? a : b, sizeof(out));
		double t1 = seconds();
		kernel_table()->two[TUTTI_F32][TUTTI_SUM](out, a, b, COUNT, 1);
		reduced[i] = seconds() - t1;
		copied[i] = t1 - t0;
	}
	costs->copy = quartile(copied, PASSES) / sizeof(out);
	costs->reduce = quartile(reduced, PASSES) / sizeof(out);
	set_measured(costs, COST_ROW_COPY);
	set_measured(costs, COST_ROW_REDUCE);
}

/* ---- the job's links ------------------------------------------------------------------------------------------------- */

/* The first pair that a link of this kind joins: the same on all ranks. */
static bool find_pair(const struct tutti_comm *c, enum cost_link kind, int pair[2])
{
	for (pair[0] = 0; pair[0] < c->size; pair[0]++)
		for (pair[1] = pair[0] + 1; pair[1] < c->size; pair[1]++)
			if (world_link(c->world, c->members[pair[0]], c->members[pair[1]]) == kind)
				return true;
	return false;
}

/* One pair of each kind, while the others wait. */
static int measure_job(struct tutti_comm *c, struct costs *costs)
{
	int rc = TUTTI_OK, pair[2];
	for (enum cost_link kind = 0; kind < COST_LINKS && !rc; kind++) {
		struct tutti_comm *two = NULL;
		if (!find_pair(c, kind, pair))
			continue;
		bool mine = c->rank == pair[0] || c->rank == pair[1];
		rc = tutti_comm_split(c, mine ? 0 : -1, 0, &two);
		if (!rc && two)
			rc = measure_pair(two, costs);
		if (two)
			tutti_comm_destroy(two);
		rc = rc ? rc : tutti_broadcast(costs, costs, sizeof(*costs), TUTTI_U8, pair[0], c, NULL);
	}
	return rc;
}

/* ---- what threads of this process stand for -------------------------------------------------------------------------- */

struct thread_rank {
	const struct tutti_unique_id *id;
	const char *transport;
	enum cost_link kind;
	int rank, rc;
	struct costs *costs;
	char why[256];
};

/* A launcher may have bound this process to one core. Each of two threads gets every second one that there is. */
static void spread(int i)
{
	struct cpus all, mine = {{0}};
	memset(&all, 0xff, sizeof(all));
	if (!cpus_bind(&all) || !cpus_allowed(&all))
		return;
	for (unsigned cpu = 0, turn = 0; cpu < CPUS_MAX; cpu++)
		if (cpus_has(&all, cpu) && (int)(turn++ % 2) == i)
			cpus_add(&mine, cpu);
	(void)cpus_bind(&mine); /* refused where there is only one */
}

static void *run_thread(void *arg)
{
	struct thread_rank *t = arg;
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct tutti_comm *c = NULL;
	spread(t->rank);
	config.transport = t->transport;
	config.start_timeout = 10;
	t->rc = tutti_comm_create(&c, 2, t->id, t->rank, &config);
	if (!t->rc && world_link(c->world, 0, 1) != t->kind)
		t->rc = fail(TUTTI_EUNSUPPORTED, "does not join two threads of a process");
	t->rc = t->rc ? t->rc : measure_pair(c, t->costs);
	snprintf(t->why, sizeof(t->why), "%s", fail_text());
	if (c)
		tutti_comm_destroy(c);
	return NULL;
}

static void measure_threads(const char *transport, enum cost_link kind, struct costs *costs)
{
	struct tutti_unique_id id;
	struct costs new[2] = {*costs, *costs};
	pthread_t thread;
	int rc = tutti_unique_id_create(&id);
	struct thread_rank rank[2] = {{&id, transport, kind, 0, rc, &new[0], ""},
	                              {&id, transport, kind, 1, rc, &new[1], ""}};
	if (!rc && (rc = pthread_create(&thread, NULL, run_thread, &rank[1])) == 0) {
		run_thread(&rank[0]);
		pthread_join(thread, NULL);
		rc = rank[0].rc;
	}
	if (!rc)
		*costs = new[0];
	else
		printf("# %s between threads: %s\n", transport,
		       rank[0].why[0] ? rank[0].why : tutti_strerror(TUTTI_ESYSTEM));
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */

/* The folders on the way to a file. */
static int make_folders(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
		*p = '/';
		if (!made)
			return fail_errno("can't create the directories of %s", path);
	}
	return TUTTI_OK;
}

/* In one step: a job that starts meanwhile reads the old table or the new one. */
static int write_table(const struct costs *costs, char *path)
{
	char fresh[4200];
	FILE *f = NULL;
	int rc = make_folders(path);
	snprintf(fresh, sizeof(fresh), "%s.%ld", path, (long)getpid());
	if (!rc && !(f = fopen(fresh, "we")))
		rc = fail_errno("can't write %s", fresh);
	if (!f)
		return rc;
	costs_print(costs, f);
	bool bad = ferror(f) != 0;
	if ((fclose(f) != 0 || bad || rename(fresh, path) != 0) && !rc) {
		rc = fail_errno("can't write %s", path);
		unlink(fresh);
	}
	return rc;
}

static void print_missing(const struct costs *costs, uint64_t old)
{
	struct cost_row row;
	for (int i = 0; cost_row(i, &row); i++)
		if (!(costs->measured >> i & 1))
			printf("# not measured: %s%s\n", row.name,
			       i == COST_ROW_LINK + COST_NETWORK ? " (run it as ranks on two hosts)" : "");
		else if (old >> i & 1)
			printf("# not measured: %s is kept from the existing table\n", row.name);
}

/* Rows that nobody measured now stay as they were. */
static int finish(struct costs *new, const char *file)
{
	struct costs all;
	char path[4096];
	bool wanted = costs_path(file, path, sizeof(path));
	costs_priors(&all);
	if (wanted && access(path, F_OK) == 0 && costs_read(&all, path) != TUTTI_OK)
		printf("# %s: writing a new table\n", fail_text());
	uint64_t old = all.measured & ~new->measured;
	struct cost_row row;
	for (int i = 0; cost_row(i, &row); i++)
		if (new->measured >> i & 1)
			memcpy(cost_values(&all, i), cost_values(new, i), (size_t)row.values * sizeof(double));
	all.measured |= new->measured;
	costs_print(&all, stdout);
	print_missing(&all, old);
	if (!wanted) {
		printf("# not written: %s\n",
		       file && file[0] ? "TUTTI_TUNE_FILE=none" : "HOME is not set; set TUTTI_TUNE_FILE");
		return TUTTI_OK;
	}
	int rc = write_table(&all, path);
	if (!rc)
		printf("# written to %s\n", path);
	return rc;
}

int tune(struct tutti_comm *c, const char *file)
{
	static const struct {
		enum cost_link kind;
		const char *transport;
	} stand_in[] = {{COST_INPROC, "inproc"}, {COST_SHM, "shm"}, {COST_LOOPBACK, "tcp"}};
	struct costs costs;
	costs_priors(&costs);
	if (c->rank == 0)
		measure_memory(&costs);
	int met, rc = tutti_broadcast(&costs, &costs, sizeof(costs), TUTTI_U8, 0, c, NULL);
	if (rc || (rc = measure_job(c, &costs)) != TUTTI_OK)
		return rc;
	if (c->rank == 0) {
		for (size_t i = 0; i < sizeof(stand_in) / sizeof(stand_in[0]); i++)
			if (!(costs.measured >> (COST_ROW_LINK + stand_in[i].kind) & 1))
				measure_threads(stand_in[i].transport, stand_in[i].kind, &costs);
		rc = finish(&costs, file);
	}
	met = tutti_barrier(c, NULL); /* the others wait here, asleep, for rank 0's threads */
	return rc ? rc : met;
}
