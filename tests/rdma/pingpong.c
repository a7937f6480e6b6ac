/* SPDX-License-Identifier: MIT */
/*
 * What two ranks get from point to point, measured as perftest does: half the round trip of a small message (the median),
 * and the speed of a stream of large ones, several on their way at a time. One line a size: "latency BYTES MICROSECONDS",
 * "bandwidth BYTES MB_PER_SECOND" (MB: 2^20 bytes, as perftest's).
 *   pingpong latency|bandwidth ITERATIONS BYTES...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tutti.h"

#define WINDOW 16

static int rank;
static unsigned char *buffer;

static void must(int status)
{
	if (status == TUTTI_OK)
		return;
	fprintf(stderr, "rank %d: %s: %s\n", rank, tutti_strerror(status), tutti_last_error(NULL));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double latency(struct tutti_comm *c, size_t bytes, int iterations)
{
	double *took = calloc((size_t)iterations, sizeof(*took)), begin;
	if (!took)
		must(TUTTI_ENOMEM);
	for (int i = 0; i < iterations; i++) {
		begin = now();
		if (rank == 0)
			must(tutti_send(buffer, bytes, TUTTI_U8, 1, c, NULL));
		must(tutti_recv(buffer, bytes, TUTTI_U8, 1 - rank, c, NULL));
		if (rank == 1)
			must(tutti_send(buffer, bytes, TUTTI_U8, 0, c, NULL));
		took[i] = now() - begin;
	}
	qsort(took, (size_t)iterations, sizeof(*took), ascending);
	double median = took[iterations / 2];
	free(took);
	return median / 2;
}

/* The receiver's last word ends the time: all has arrived. */
static double bandwidth(struct tutti_comm *c, size_t bytes, int iterations)
{
	struct tutti_request *req[WINDOW];
	double begin = now();
	for (int left = iterations, n; left > 0; left -= n) {
		n = left < WINDOW ? left : WINDOW;
		for (int i = 0; i < n; i++)
			must(rank == 0 ? tutti_send(buffer + (size_t)i * bytes, bytes, TUTTI_U8, 1, c, &req[i])
			               : tutti_recv(buffer + (size_t)i * bytes, bytes, TUTTI_U8, 0, c, &req[i]));
		must(tutti_wait_all(req, n));
	}
	must(rank == 1 ? tutti_send(buffer, 1, TUTTI_U8, 0, c, NULL) : tutti_recv(buffer, 1, TUTTI_U8, 1, c, NULL));
	return (double)bytes * iterations / 1.048576 / (now() - begin);
}

int main(int argc, char **argv)
{
	struct tutti_comm *c;
	if (argc < 4) {
		fprintf(stderr, "usage: pingpong latency|bandwidth ITERATIONS BYTES...\n");
		return 2;
	}
	must(tutti_comm_from_env(&c, NULL));
	rank = tutti_comm_rank(c);
	for (int i = 3; i < argc; i++) {
		size_t bytes = strtoul(argv[i], NULL, 10);
		double (*measure)(struct tutti_comm *, size_t, int) = strcmp(argv[1], "latency") ? bandwidth : latency;
		buffer = malloc(WINDOW * bytes + 1);
		if (!buffer)
			must(TUTTI_ENOMEM);
		memset(buffer, 1, WINDOW * bytes + 1);
		measure(c, bytes, WINDOW); /* the links are made, the pages are there */
		double result = measure(c, bytes, atoi(argv[2]));
		if (rank == 0)
			printf("%s %zu %.2f\n", argv[1], bytes, result);
		free(buffer);
	}
	return tutti_comm_destroy(c) != TUTTI_OK;
}
