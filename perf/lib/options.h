/* SPDX-License-Identifier: MIT */
/*
 * Options of tutti-perf, all in one table: nccl-tests' letters and defaults, and our own words. Parsing, defaults,
 * --help and --man come from it.
 */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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
	int threads, gpus, team; /* threads: after parsing, all ranks of this process */
	int check, average;
	double timeout;
	int registered; /* 0, 1, or 2: from tutti_mem_alloc */
	bool cpu, stats, stamps, memory, cold, explain, nonblocking, alloc;
	int unalign, buffers;
	double busy, skew; /* µs */
	const char *json;
	bool help, man;
	uint64_t ignored; /* bit per option that was given and means nothing here */
};

/** Read the command line; on a mistake prints one line and returns -1. */
int options_parse(struct options *o, int argc, char **argv);
/** One line for each option that was given and means nothing here. */
void options_ignored(const struct options *o, FILE *f);
void options_help(FILE *f);
void options_man(FILE *f);

/** nccl-tests' names, "none" for a call without operation; NULL past the last one. */
const char *perf_type_name(int type);
const char *perf_op_name(int op);

#endif
