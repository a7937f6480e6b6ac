/*
 * Options of tutti-perf, all in one table: nccl-tests' letters and defaults, and our own words. Parsing, defaults,
 * --help and --man come from it.
 */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "shape.h"

/** Stands for every type, operation or root in turn. */
#define ALL (-1)

enum average { AVERAGE_RANK0, AVERAGE_MEAN, AVERAGE_MIN, AVERAGE_MAX };

struct options {
	const struct collective *coll;
	size_t min, max, step;
	double factor; /* 0: by step */
	int iters, warmup, cycles, aggregate;
	int op, type, root;
	int threads, gpus, team;
	int check, average;
	double timeout;
	bool cpu, stats, memory, registered, cold, explain, nonblocking, alloc;
	int unalign, buffers;
	double busy, skew; /* µs */
	const char *json;
	bool help, man;
};

/** Read the command line; on a mistake prints one line and returns -1. */
int options_parse(struct options *o, int argc, char **argv);
void options_help(FILE *f);
void options_man(FILE *f);

/** nccl-tests' names, "none" for a call without operation; NULL past the last one. */
const char *perf_type_name(int type);
const char *perf_op_name(int op);

#endif
