/* SPDX-License-Identifier: MIT */
/*
 * The loop that all peers of a comparison run, so that only the library differs: the same sizes, buffers, data and
 * statistics. Each peer is this file plus one of backend_*.
 *
 *   PROGRAM COLLECTIVE ELEMENT SIZES CPUS MS
 *
 * prints, from rank 0, a line for each size: bytes of the larger buffer; microseconds of a call: median, 99th
 * percentile, the first one on fresh buffers; how many calls were timed. SIZES and CPUS are lists with commas: rank i
 * runs on the i-th CPU, unless there are fewer CPUs than ranks. MS is how long a size is measured.
 *
 * There are eight pairs of buffers, which start at different distances from a page and are used in turn. The first call
 * on each pair, and one more after the last timed call, is verified to the last bit. Before each timed call one element
 * in every 64 bytes of the source is rewritten, as a caller does who has computed something; that and the reading of
 * the clock are not part of the time. Ranks meet before the first timed call only. Short calls are timed in batches.
 */
#include "backend.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define PAIRS     8
#define PAGE      ((size_t)4096)
#define FEW_PAIRS ((size_t)4 << 20) /* larger buffers: the pairs share memory of two */
#define BATCHES   41                /* the median is that of the means of so many batches */
#define SHORT     4096              /* bytes up to which calls are timed in batches */
#define CALLS_MIN 10
#define CALLS_MAX 20000
#define PERIOD    13 /* prime: no block is a multiple of it */
#define LIST_MAX  256

static const struct collective {
	const char *name;
	void (*const *call)(const void *in, void *out, size_t count, enum element e);
	bool parts_in, parts_out; /* that buffer holds one part per rank, the other one part */
	bool sums;
} collectives[] = {
        {"allreduce", &backend.allreduce, false, false, true},
        {"allgather", &backend.allgather, false, true, false},
        {"reduce_scatter", &backend.reduce_scatter, true, false, true},
};

static const struct {
	const char *name;
	size_t width;
} elements[] = {[F32] = {"f32", 4}, [BF16] = {"bf16", 2}, [F16] = {"f16", 2}};

static struct {
	const struct collective *what;
	enum element element;
	size_t sizes[LIST_MAX];
	int nsizes;
	double budget_us, clock_us;
	int cpus[LIST_MAX], ncpus, ranks;
} job;

struct work {
	size_t in, out, part; /* elements */
	int rank, ranks;
	void *memory[2][PAIRS]; /* what was allocated; the pairs' places in it: */
	char *source[PAIRS], *result[PAIRS];
};

/* ---- data: element i of rank r is a small integer; sums of up to 21 ranks are exact in all types ---------------- */

static uint32_t encode(enum element e, unsigned v)
{
	float f = (float)v;
	uint32_t bits;
	memcpy(&bits, &f, sizeof(bits));
	if (e == F32)
		return bits;
	if (e == BF16)
		return bits >> 16;
	return v ? ((bits >> 23) - 112) << 10 | (bits >> 13 & 0x3ff) : 0;
}

static void store(char *p, uint32_t bits)
{
	memcpy(p, &bits, elements[job.element].width); /* little-endian */
}

/* Buffers are filled and compared a block at a time. */
struct block {
	size_t bytes;
	char data[PERIOD * 256 * sizeof(float)];
};

/* What begins at element `from` of the sum of ranks first..last. */
static void make_block(struct block *b, size_t from, int first, int last, int turn)
{
	size_t width = elements[job.element].width;
	b->bytes = PERIOD * 256 * width;
	for (size_t i = 0; i < PERIOD * 256; i++) {
		unsigned sum = 0;
		for (int r = first; r <= last; r++)
			sum += (unsigned)(from % PERIOD + i + 3 * (size_t)r + (size_t)turn) % PERIOD;
		store(b->data + i * width, encode(job.element, sum));
	}
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void fill(char *p, size_t count, int rank, int turn)
{
	struct block b;
	size_t bytes = count * elements[job.element].width;
	make_block(&b, 0, rank, rank, turn);
	for (size_t done = 0; done < bytes; done += b.bytes)
		memcpy(p + done, b.data, least(b.bytes, bytes - done));
}

static bool holds(const char *p, size_t count, const struct block *b)
{
	size_t bytes = count * elements[job.element].width;
	for (size_t done = 0; done < bytes; done += b->bytes)
		if (memcmp(p + done, b->data, least(b->bytes, bytes - done)) != 0)
			return false;
	return true;
}

static bool is_right(const struct work *w, const char *result, int turn)
{
	struct block b;
	size_t part = w->part * elements[job.element].width;
	if (job.what->sums) {
		make_block(&b, job.what->parts_in ? (size_t)w->rank * w->part : 0, 0, w->ranks - 1, turn);
		return holds(result, w->out, &b);
	}
	for (int r = 0; r < w->ranks; r++) {
		make_block(&b, 0, r, r, turn);
		if (!holds(result + (size_t)r * part, w->part, &b))
			return false;
	}
	return true;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void call(const struct work *w, int pair)
{
	(*job.what->call)(w->source[pair], w->result[pair], w->part, job.element);
}

/* A call on fresh data whose result is checked; its time. */
static double verified_call(const struct work *w, int pair, int turn)
{
	fill(w->source[pair], w->in, w->rank, turn);
	memset(w->result[pair], 0xff, w->out * elements[job.element].width);
	backend.barrier();
	double begin = now_us();
	call(w, pair);
	double end = now_us();
	if (!is_right(w, w->result[pair], turn)) {
		fprintf(stderr, "wrong result: %s of %zu elements, rank %d\n", job.what->name, w->part, w->rank);
		exit(4);
	}
	return end - begin;
}

static void rewrite(const struct work *w, int turn)
{
	size_t width = elements[job.element].width;
	uint32_t bits = encode(job.element, (unsigned)turn % 8);
	for (size_t i = 0; i < w->in; i += 64 / width)
		store(w->source[turn % PAIRS] + i * width, bits);
	__asm__ volatile("" ::: "memory");
}

static double timed_call(const struct work *w, int turn)
{
	rewrite(w, turn);
	double begin = now_us();
	call(w, turn % PAIRS);
	return now_us() - begin - job.clock_us;
}

/* The mean of n turns, with their calls or without. */
static double timed_batch(const struct work *w, int n, bool calls)
{
	double begin = now_us();
	for (int i = 0; i < n; i++) {
		rewrite(w, i);
		if (calls)
			call(w, i % PAIRS);
	}
	return (now_us() - begin) / n;
}

/* ---- statistics -------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Sorts them. */
static double percentile(double *v, int n, int percent)
{
	qsort(v, (size_t)n, sizeof(*v), ascending);
	return v[(n - 1) * percent / 100];
}

/* Median of the means of batches of consecutive calls. */
static double batched(const double *us, int calls)
{
	double mean[BATCHES];
	int batches = calls < BATCHES ? calls : BATCHES;
	for (int b = 0; b < batches; b++) {
		int from = (int)((long)calls * b / batches), to = (int)((long)calls * (b + 1) / batches);
		mean[b] = 0;
		for (int i = from; i < to; i++)
			mean[b] += us[i] / (to - from);
	}
	return percentile(mean, batches, 50);
}

/*
 * Of short calls. A core may not run ahead of where it reads the clock, which can take as long as such a call: here it is
 * read once a batch, and what the rewriting takes alone is subtracted.
 */
static double in_batches(const struct work *w, int calls)
{
	double with[BATCHES], without[BATCHES];
	for (int b = 0; b < BATCHES; b++) {
		with[b] = timed_batch(w, calls / BATCHES + 1, true);
		without[b] = timed_batch(w, calls / BATCHES + 1, false);
	}
	return percentile(with, BATCHES, 50) - percentile(without, BATCHES, 50);
}

static double clock_cost(void)
{
	double us[999];
	for (int i = 0; i < 999; i++) {
		double begin = now_us();
		us[i] = now_us() - begin;
	}
	return percentile(us, 999, 50);
}

/* How many calls fit the budget, when one and what goes with it takes `us` here; all ranks get the same number. */
static int calls_for(double us)
{
	float mine = (float)us, all;
	backend.allreduce(&mine, &all, 1, F32);
	double calls = job.budget_us * backend.size() / (double)all;
	return calls < CALLS_MIN ? CALLS_MIN : calls > CALLS_MAX ? CALLS_MAX : (int)calls;
}

/* ---- one size ---------------------------------------------------------------------------------------------------- */

static void *take(size_t bytes)
{
	void *p = backend.take ? backend.take(bytes) : aligned_alloc(PAGE, bytes);
	if (!p) {
		fprintf(stderr, "out of memory: %zu bytes\n", bytes);
		exit(3);
	}
	return p;
}

static int memories(size_t bytes)
{
	return bytes > FEW_PAIRS ? 2 : PAIRS;
}

static void take_buffers(struct work *w, size_t bytes)
{
	static const int where[2][PAIRS] = {{0, 64, 16, 128, 32, 192, 4, 320}, {0, 16, 64, 128, 4, 192, 32, 256}};
	size_t width = elements[job.element].width, need[2] = {w->in * width, w->out * width};
	for (int i = 0; i < PAIRS; i++) {
		int m = i % memories(bytes);
		for (int k = 0; k < 2 && i == m; k++)
			w->memory[k][m] = take((need[k] + 2 * PAGE - 1) / PAGE * PAGE);
		w->source[i] = (char *)w->memory[0][m] + where[0][i];
		w->result[i] = (char *)w->memory[1][m] + where[1][i];
	}
}

static void give_buffers(struct work *w, size_t bytes)
{
	for (int m = 0; m < memories(bytes); m++)
		for (int k = 0; k < 2; k++)
			(backend.give ? backend.give : free)(w->memory[k][m]);
}

static void measure(size_t bytes)
{
	struct work w = {.rank = backend.rank(), .ranks = backend.size()};
	size_t whole = bytes / elements[job.element].width, n = (size_t)w.ranks;
	double first[PAIRS], turn[PAIRS];

	w.part = job.what->parts_in || job.what->parts_out ? whole / n : whole;
	w.in = job.what->parts_in ? w.part * n : w.part;
	w.out = job.what->parts_out ? w.part * n : w.part;
	if (w.part == 0)
		return;
	take_buffers(&w, bytes);
	for (int i = 0; i < PAIRS; i++)
		first[i] = verified_call(&w, i, i);
	for (int i = 0; i < PAIRS; i++) {
		double begin = now_us();
		timed_call(&w, i);
		turn[i] = now_us() - begin;
	}
	int calls = calls_for(percentile(turn, PAIRS, 50));
	double *us = malloc((size_t)calls * sizeof(*us));
	if (!us)
		exit(3);
	for (int i = 0; i < calls / 10; i++)
		timed_call(&w, i);
	backend.barrier();
	for (int i = 0; i < calls; i++)
		us[i] = timed_call(&w, i);
	verified_call(&w, 0, PAIRS);
	double median = bytes <= SHORT ? in_batches(&w, calls) : batched(us, calls);
	if (w.rank == 0)
		printf("%zu %.3f %.3f %.3f %d\n", bytes, median, percentile(us, calls, 99),
		       percentile(first, PAIRS, 50), calls);
	fflush(stdout);
	free(us);
	give_buffers(&w, bytes);
}

static int measure_all(void)
{
	for (int i = 0; i < job.nsizes; i++)
		measure(job.sizes[i]);
	return 0;
}

/* ---- the job ----------------------------------------------------------------------------------------------------- */

void pin_rank(int rank)
{
	cpu_set_t set;
	if (job.ranks > job.ncpus)
		return;
	CPU_ZERO(&set);
	CPU_SET(job.cpus[rank], &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0) {
		perror("sched_setaffinity");
		exit(3);
	}
}

/* Before the library starts, so that all that it makes is made there. The rank comes from the launchers' variables. */
static void pin_process(void)
{
	static const char *const names[] = {"TUTTI_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (getenv(names[i])) {
			pin_rank(atoi(getenv(names[i])));
			return;
		}
}

static bool parse(char **argv)
{
	bool known = false;
	for (size_t i = 0; i < sizeof(collectives) / sizeof(*collectives); i++)
		if (strcmp(argv[1], collectives[i].name) == 0)
			job.what = &collectives[i];
	for (int e = F32; e <= F16; e++)
		if (strcmp(argv[2], elements[e].name) == 0) {
			job.element = (enum element)e;
			known = backend.elements >> e & 1;
		}
	for (char *p = strtok(argv[3], ","); p && job.nsizes < LIST_MAX; p = strtok(NULL, ","))
		job.sizes[job.nsizes++] = strtoull(p, NULL, 10);
	for (char *p = strtok(argv[4], ","); p && job.ncpus < LIST_MAX; p = strtok(NULL, ","))
		job.cpus[job.ncpus++] = atoi(p);
	job.budget_us = atof(argv[5]) * 1e3;
	job.ranks = getenv("COMPARE_RANKS") ? atoi(getenv("COMPARE_RANKS")) : 0;
	return job.what && known && job.nsizes && job.ncpus && job.ranks > 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a launcher that is ended takes its ranks along */
	if (argc != 6 || !parse(argv)) {
		fprintf(stderr, "usage: COMPARE_RANKS=N %s COLLECTIVE ELEMENT SIZES CPUS MS\n", argv[0]);
		return 2;
	}
	pin_process();
	job.clock_us = clock_cost();
	return backend.run(measure_all);
}
