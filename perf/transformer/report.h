/* SPDX-License-Identifier: MIT */
/* What a benchmark found, and how it is printed and written. */
#ifndef TRANSFORMER_REPORT_H
#define TRANSFORMER_REPORT_H

#include "run.h"

enum phase { PREFILL, DECODE, PHASES };

enum way {
	WAY_SINGLE, /* one rank, all of the weights */
	WAY_ALL,
	WAY_SILENT, /* all ranks, without communication */
	WAYS
};

/** Seconds per token; all members are doubles. */
struct sample {
	double seconds;           /* of the whole, on the slowest rank */
	double section[SECTIONS]; /* mean over ranks; REDUCE without waiting for others */
	double wait;              /* in all-reduces, for the last rank to come; mean over ranks */
};

struct results {
	const struct settings *s;
	const struct config *c;
	const struct compute *compute;
	const char *type; /* of the weights */
	int ranks;
	struct sample typical[WAYS][PHASES]; /* zeros where a way was left out */
	size_t floats[PHASES];               /* of an all-reduce */
	double reduce[PHASES];               /* seconds of one all-reduce, measured with nothing else to do */
	double expected[PHASES];             /* the same by the library's cost model; 0: unknown */
	double bytes, bytes_single;          /* weights of the rank that has most; of one rank that has all */
};

/** Prints a table; writes JSON where that was asked for. 0, or -1 with the problem. */
int report_results(const struct results *r, struct problem *p);

#endif
