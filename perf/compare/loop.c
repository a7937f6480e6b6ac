/*
 * The loop that all peers of a comparison run, so that only the library differs: the same sizes, buffers, rewriting of the
 * source and statistics. Each peer is this file plus one of backend_*.c.
 *
 *   PROGRAM COLLECTIVE MIN MAX [FACTOR]     prints, from rank 0: bytes, median and 99th percentile of a call in us
 *
 * Before each call one float of each cache line of the source is rewritten, as a real caller does; buffers go round in
 * turn and start at different distances from a page. Short calls are timed in batches, long ones one by one without the
 * rewriting. What is reported is the median over batches of rank 0.
 */
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAIRS   8
#define BATCHES 41

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

struct buffers {
	float *in[PAIRS], *out[PAIRS];
	int n;
};

static void rewrite(float *p, size_t count, int seed)
{
	for (size_t i = 0; i < count; i += 16)
		p[i] = (float)(seed & 7);
}

static void make_buffers(struct buffers *b, size_t in, size_t out)
{
	b->n = in > (4u << 20) ? 2 : PAIRS;
	for (int i = 0; i < b->n; i++) {
		char *p = aligned_alloc(4096, (in + 8191) / 4096 * 4096),
		     *q = aligned_alloc(4096, (out + 8191) / 4096 * 4096);
		if (!p || !q)
			exit(3);
		memset(p, 0, in + 4096 - in % 4096);
		memset(q, 0, out + 4096 - out % 4096);
		b->in[i] = (float *)(p + 64 * (i % 4)); /* different places in the page; some of them only 16-aligned */
		b->out[i] = (float *)(q + 16 * (i % 3));
	}
}

static void call(const char *what, float *in, float *out, size_t count)
{
	if (strcmp(what, "allreduce") == 0)
		backend_allreduce(in, out, count);
	else if (strcmp(what, "allgather") == 0)
		backend_allgather(in, out, count);
	else
		backend_reduce_scatter(in, out, count);
}

/* bytes: of the larger buffer, on each rank. */
static void measure(const char *what, size_t bytes)
{
	size_t n = (size_t)backend_size(), whole = bytes / 4, part = strcmp(what, "allreduce") ? whole / n : whole;
	size_t in = strcmp(what, "allgather") ? whole : part, out = strcmp(what, "reduce_scatter") ? whole : part;
	struct buffers b;
	double sample[BATCHES];
	int batch = bytes <= 4096 ? 200 : bytes <= 65536 ? 20 : 1, batches = bytes > (8u << 20) ? 11 : BATCHES;
	if (part == 0)
		return;
	make_buffers(&b, in * 4, out * 4);
	for (int k = -2; k < batches; k++) {
		double spent = 0;
		backend_barrier();
		double begin = now();
		for (int i = 0; i < batch; i++) {
			int j = (i + (k + 2) * batch) % b.n;
			rewrite(b.in[j], in, i + k);
			if (batch == 1)
				begin = now();
			call(what, b.in[j], b.out[j], part);
		}
		spent = now() - begin;
		if (k >= 0)
			sample[k] = spent / batch;
	}
	qsort(sample, (size_t)batches, sizeof(*sample), ascending);
	if (backend_rank() == 0)
		printf("%s %s %zu %.3f %.3f\n", backend_name(), what, bytes, sample[batches / 2],
		       sample[batches - 1 - batches / 50]);
	fflush(stdout);
	for (int i = 0; i < b.n; i++) {
		free((void *)((size_t)b.in[i] & ~(size_t)4095));
		free((void *)((size_t)b.out[i] & ~(size_t)4095));
	}
}

int main(int argc, char **argv)
{
	backend_start(&argc, &argv);
	if (argc < 4) {
		fprintf(stderr, "usage: %s allreduce|allgather|reduce_scatter MIN MAX [FACTOR]\n", argv[0]);
		return 2;
	}
	size_t least = strtoull(argv[2], NULL, 10), most = strtoull(argv[3], NULL, 10),
	       factor = argc > 4 ? strtoull(argv[4], NULL, 10) : 4;
	for (size_t bytes = least; bytes <= most; bytes *= factor < 2 ? 2 : factor)
		measure(argv[1], bytes);
	backend_stop();
	return 0;
}
