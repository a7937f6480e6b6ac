/* SPDX-License-Identifier: MIT */
/*
 * Streams through memory; see memory.h. One thread on each core; all touch their part of one buffer, then the first
 * reads and copies alone, over the whole of it, then all of them do, each over its part. The result is the median of
 * pieces: a core that was taken away for a moment spoils a piece, not the result.
 */
#include "memory.h"
#include "../../src/os/os.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../machine/system.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE       ((size_t)1 << 20)
#define LEAST       ((size_t)64 << 20) /* where caches are small, or nobody says how large they are */
#define BEYOND      4                  /* times what the caches hold */
#define SAMPLES     1024
#define MOST_SPEEDS ((size_t)1 << 20) /* of a host: memories */
#define THREADS     CPUS_MAX

/* Seconds for all memories of a host together, and the most for one of the four streams through one of them. */
#define TOTAL_S 0.5
#define MOST_S  0.04

/* ---- what there is ----------------------------------------------------------------------------------------------- */

/* The node right above. */
static uint32_t parent_of(const struct machine *m, uint32_t at)
{
	uint32_t parent = 0;
	for (uint32_t i = 0; i < at; i++)
		if (m->node[i].end > at)
			parent = i;
	return parent;
}

int memory_threads(const struct machine *m, uint32_t at, const struct cpus *may, int most, int *thread)
{
	unsigned unit = m->cores ? MACHINE_CORE : MACHINE_THREAD;
	uint32_t parent = parent_of(m, at);
	int n = 0;
	for (uint32_t i = parent; i < m->node[parent].end; i++)
		for (uint32_t k = i; m->node[i].level == unit && n < most && k < m->node[i].end; k++)
			if (m->node[k].level == MACHINE_THREAD && m->node[k].os >= 0 &&
			    cpus_has(may, (unsigned)m->node[k].os)) {
				thread[n++] = m->node[k].os;
				break;
			}
	return n;
}

static bool is_above(const struct machine *m, uint32_t at, const int *thread, int n)
{
	for (uint32_t i = at; i < m->node[at].end; i++)
		for (int k = 0; m->node[i].level == MACHINE_THREAD && k < n; k++)
			if (m->node[i].os == thread[k])
				return true;
	return false;
}

size_t memory_bytes(const struct machine *m, const int *thread, int n, uint64_t room)
{
	uint64_t level[10] = {0}, caches = 0;
	for (uint32_t i = 0; i < m->nnodes; i++)
		if (m->node[i].level == MACHINE_CACHE && m->node[i].depth < 10 && is_above(m, i, thread, n))
			level[m->node[i].depth] += m->node[i].bytes;
	for (int i = 0; i < 10; i++)
		caches = level[i] > caches ? level[i] : caches;
	uint64_t part = 2 * PIECE * (uint64_t)n, bytes = BEYOND * caches > LEAST ? BEYOND * caches : LEAST;
	bytes = (bytes + part - 1) / part * part;
	if (bytes > room / 8)
		bytes = room / 8 / part * part;
	return bytes < BEYOND / 2 * caches || bytes < LEAST / 4 ? 0 : (size_t)bytes;
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

enum { READ_ALONE, COPY_ALONE, READ_ALL, COPY_ALL, STREAMS };

struct crowd {
	uint8_t *buffer;
	size_t bytes; /* of the whole, each thread's part is a whole number of pieces, an even one */
	uint64_t budget_ns;
	int n;
	pthread_mutex_t gate;    /* held until all threads are there, and n is their number */
	pthread_cond_t together; /* the last of them has come, and the turn is over */
	int waiting, turn;
};

struct member {
	struct crowd *crowd;
	int index, thread;
	bool placed;
	pthread_t id;
	uint64_t sum; /* of what was read, so that the compiler reads it */
	double rate[STREAMS];
	double sample[SAMPLES];
};

typedef uint64_t vector __attribute__((vector_size(16)));

static uint64_t sum_up(const uint8_t *p)
{
	const vector *v = __builtin_assume_aligned(p, 64);
	vector sum[8] = {{0}};
	for (size_t i = 0; i < PIECE / sizeof(vector); i += 8)
		for (int k = 0; k < 8; k++)
			sum[k] += v[i + (size_t)k];
	for (int k = 1; k < 8; k++)
		sum[0] += sum[k];
	return sum[0][0] + sum[0][1];
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Piece after piece, round and round, for the time that there is; bytes a second, the median. */
static double stream(struct member *t, uint8_t *from, size_t bytes, bool copies)
{
	size_t pieces = bytes / PIECE, at = 0;
	uint64_t now = now_ns(), end = now + t->crowd->budget_ns;
	int n = 0;
	if (copies)
		pieces /= 2;
	while (n < SAMPLES && (n == 0 || now < end)) {
		uint64_t begin = now;
		if (copies)
			memcpy(from + (pieces + at) * PIECE, from + at * PIECE, PIECE);
		else
			t->sum += sum_up(from + at * PIECE);
		at = (at + 1) % pieces;
		now = now_ns();
		t->sample[n++] = (double)PIECE * 1e9 / (double)(now - begin + !(now - begin));
	}
	qsort(t->sample, (size_t)n, sizeof(double), by_value);
	return t->sample[n / 2];
}

static bool go_to(int thread)
{
	struct cpus one = {{0}};
	cpus_add(&one, (unsigned)thread);
	return cpus_bind(&one);
}

/* Begins with the others. */
static void meet(struct crowd *c)
{
	pthread_mutex_lock(&c->gate);
	int turn = c->turn;
	if (++c->waiting == c->n) {
		c->waiting = 0;
		c->turn++;
		pthread_cond_broadcast(&c->together);
	}
	while (turn == c->turn)
		pthread_cond_wait(&c->together, &c->gate);
	pthread_mutex_unlock(&c->gate);
}

static void *take_part(void *arg)
{
	struct member *t = arg;
	struct crowd *c = t->crowd;
	pthread_mutex_lock(&c->gate);
	pthread_mutex_unlock(&c->gate);
	t->placed = go_to(t->thread) || t->index == 0; /* one core is measured anyway, whichever it is */
	size_t part = c->bytes / (size_t)c->n / (2 * PIECE) * (2 * PIECE);
	uint8_t *mine = c->buffer + (size_t)t->index * part;
	memset(mine, 1, t->index + 1 < c->n ? part : c->bytes - (size_t)t->index * part);
	for (int i = 0; i < STREAMS; i++) {
		meet(c);
		if (i < READ_ALL && t->index == 0)
			t->rate[i] = stream(t, c->buffer, c->bytes, i == COPY_ALONE);
		else if (i >= READ_ALL && t->placed)
			t->rate[i] = stream(t, mine, part, i == COPY_ALL);
	}
	return NULL;
}

static void add_up(struct memory_speed *out, const struct member *t, int n)
{
	out->core_read = t[0].rate[READ_ALONE];
	out->core_copy = t[0].rate[COPY_ALONE];
	for (int i = 0; i < n; i++) {
		out->cores += t[i].placed;
		out->read += t[i].rate[READ_ALL];
		out->copy += t[i].rate[COPY_ALL];
	}
}

/* A thread that can't be started is left out; without any there are no figures. */
static int run_crowd(struct crowd *c, const int *thread, int most, struct memory_speed *out)
{
	struct member *t = calloc((size_t)most, sizeof(*t));
	if (!t)
		return fail(TUTTI_ENOMEM, "out of memory");
	pthread_mutex_init(&c->gate, NULL);
	pthread_cond_init(&c->together, NULL);
	pthread_mutex_lock(&c->gate);
	for (c->n = 0; c->n < most; c->n++) {
		t[c->n] = (struct member){.crowd = c, .index = c->n, .thread = thread[c->n]};
		if (pthread_create(&t[c->n].id, NULL, take_part, &t[c->n]) != 0)
			break;
	}
	pthread_mutex_unlock(&c->gate);
	for (int i = 0; i < c->n; i++)
		pthread_join(t[i].id, NULL);
	if (c->n)
		add_up(out, t, c->n);
	pthread_cond_destroy(&c->together);
	pthread_mutex_destroy(&c->gate);
	free(t);
	return TUTTI_OK;
}

/* ---- one memory -------------------------------------------------------------------------------------------------- */

/* Of memories beside the same cores the first is where these get theirs by default. */
static bool is_default(const struct machine *m, uint32_t at)
{
	uint32_t parent = parent_of(m, at);
	for (uint32_t i = parent + 1; i < at; i = m->node[i].end)
		if (m->node[i].level == MACHINE_MEMORY)
			return false;
	return true;
}

static int memories(const struct machine *m)
{
	int n = 0;
	for (uint32_t i = 0; i < m->nnodes; i++)
		n += m->node[i].level == MACHINE_MEMORY;
	return n;
}

static uint64_t room_of(const struct machine *m, int at_once)
{
	const char *root = getenv("HWLOC_FSROOT"); /* as machine.c has it */
	uint64_t room = system_free_memory(root ? root : "");
	return (room ? room : m->memory) / (uint64_t)at_once;
}

/* No figures where there is too little room, or the memory is not ours to take. */
static int measure_one(const struct machine *m, uint32_t at, const int *thread, int n, int at_once,
                       struct memory_speed *out)
{
	struct crowd c = {.bytes = memory_bytes(m, thread, n, room_of(m, at_once)),
	                  .budget_ns = (uint64_t)(1e9 * TOTAL_S / (STREAMS * memories(m)))};
	if (c.budget_ns > (uint64_t)(1e9 * MOST_S))
		c.budget_ns = (uint64_t)(1e9 * MOST_S);
	void *p =
	        c.bytes ? mmap(NULL, c.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
	if (p == MAP_FAILED)
		return TUTTI_OK;
	c.buffer = p;
	os_memory_large_pages(p, c.bytes);
	int rc = TUTTI_OK, no = memories(m) > 1 ? os_memory_from_node(p, c.bytes, m->node[at].os) : 0;
	if (!no || (no != EINVAL && is_default(m, at)))
		rc = run_crowd(&c, thread, n, out);
	munmap(p, c.bytes);
	return rc;
}

int memory_measure(const struct machine *m, const struct cpus *may, int at_once, struct memory_speed **out, int *n)
{
	int *thread = calloc(THREADS, sizeof(int)), rc = TUTTI_OK, most = THREADS;
	*n = 0;
	*out = calloc((size_t)memories(m) + 1, sizeof(**out));
	if (m->quota > 0) /* more would take the time from each other */
		most = m->quota < 2 ? 1 : m->quota < THREADS ? (int)m->quota : THREADS;
	if (!thread || !*out)
		rc = fail(TUTTI_ENOMEM, "out of memory");
	for (uint32_t i = 0; i < m->nnodes && !rc && !(m->unknown & MACHINE_FOREIGN); i++) {
		int threads = m->node[i].level == MACHINE_MEMORY ? memory_threads(m, i, may, most, thread) : 0;
		if (!threads)
			continue;
		struct memory_speed *speed = &(*out)[(*n)++];
		speed->node = (int32_t)i;
		rc = measure_one(m, i, thread, threads, at_once, speed);
	}
	free(thread);
	return rc;
}

/* ---- all hosts --------------------------------------------------------------------------------------------------- */

/* Hosts are numbered by their lowest rank: what comes in the order of ranks is in the order of hosts. */
static void number_hosts(struct survey *s, const size_t *bytes)
{
	int next = 0;
	for (int r = 0; r < s->n; r++)
		for (size_t i = 0; i < bytes[r] / sizeof(*s->speed); i++)
			s->speed[next++].host = s->rank[r].host;
}

static int check_nodes(const struct survey *s)
{
	for (int i = 0; i < s->nspeeds; i++)
		if (s->speed[i].node >= s->machine[s->speed[i].host]->nnodes)
			return fail(TUTTI_EPEER, "host %d reports a memory that it does not have", s->speed[i].host);
	return TUTTI_OK;
}

static int gather(struct survey *s, struct tutti_comm *c, const struct memory_speed *mine, int n, size_t *bytes)
{
	size_t own = (size_t)n * sizeof(*mine), all = 0;
	bool root = tutti_comm_rank(c) == 0;
	int rc = tutti_allgather(&own, bytes, sizeof(own), TUTTI_U8, c, NULL);
	for (int r = 0; r < s->n && !rc; r++) {
		if (bytes[r] % sizeof(*mine) || bytes[r] > MOST_SPEEDS * sizeof(*mine))
			rc = fail(TUTTI_EPEER, "rank %d reports %zu bytes of memory measurements", r, bytes[r]);
		all += bytes[r];
	}
	if (rc == TUTTI_OK && root && !(s->speed = malloc(all + 1)))
		rc = fail(TUTTI_ENOMEM, "out of memory");
	if (rc == TUTTI_OK)
		rc = tutti_gatherv(mine, s->speed, bytes, NULL, TUTTI_U8, 0, c, NULL);
	if (rc == TUTTI_OK && root) {
		s->nspeeds = (int)(all / sizeof(*mine));
		number_hosts(s, bytes);
		rc = check_nodes(s);
	}
	return rc;
}

/* How many measure on this machine at the same time. With names of their own (TUTTI_HOST), all hosts may be one machine. */
static int count_at_once(const struct survey *s, struct tutti_comm *c, int *at_once)
{
	int32_t own = s->mine != NULL, all = 0;
	int rc = tutti_allreduce(&own, &all, 1, TUTTI_I32, TUTTI_SUM, c, NULL);
	*at_once = getenv("TUTTI_HOST") && all > 1 ? all : 1;
	return rc;
}

int memory_measure_all(struct survey *s, struct tutti_comm *c)
{
	struct memory_speed *mine = NULL;
	size_t *bytes = calloc((size_t)s->n, sizeof(*bytes));
	int n = 0, at_once = 1, rc = bytes ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (rc == TUTTI_OK)
		rc = count_at_once(s, c, &at_once);
	if (rc == TUTTI_OK && s->mine)
		rc = memory_measure(s->mine, cpus_count(&s->may) ? &s->may : &s->mine->may, at_once, &mine, &n);
	if (rc == TUTTI_OK)
		rc = gather(s, c, mine, n, bytes);
	free(mine);
	free(bytes);
	return rc;
}
