/* SPDX-License-Identifier: MIT */
/* What tutti-perf prints and writes: nccl-tests' table on stdout, and JSON. Only rank 0 has a report. */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <jansson.h>

#include "bench.h"

struct report {
	const struct options *o;
	json_t *root, *results; /* NULL without --json */
	double bus_sum;         /* over all halves that ran */
	int halves;
	uint64_t wrong, outside, differ;
};

/** Start: prints the head of the table. Returns 0, or -1 out of memory. */
int report_open(struct report *r, const struct options *o, int nranks, int argc, char **argv);

/** One row. */
void report_reduced(size_t max);
void report_row(struct report *r, const struct call *call, const struct shape *s, const struct half h[2]);

/** Under the row: how it was done, in the library's words; where they hold a prediction, what was measured next to it. */
void report_explain(const char *text, const struct half h[2]);

/** The end: prints the sums, or that a call `failed`, and writes the file. Returns 0 when all was right and written. */
int report_close(struct report *r, bool failed);

#endif
