/* SPDX-License-Identifier: MIT */
/* How long a collective would take on a described cluster, by each algorithm: tutti-topo --predict. */
#ifndef TUTTI_TOPO_PREDICT_H
#define TUTTI_TOPO_PREDICT_H

#include <stddef.h>
#include <stdio.h>

#include "cluster.h"

#define PREDICT_ALGOS 16

struct predict {
	const char *coll, *cluster; /* a name; a file */
	size_t min, max;            /* bytes of the larger buffer */
	double factor;
	const char *
	        ranks; /* numbers of ranks, with commas: the first so many of the cluster, at one size; NULL: over sizes */
	const char *json;   /* file, - for the standard output in place of the table, NULL: none */
	const char *plot;   /* file, NULL: none */
	const char *choose; /* table of costs that is to tell communicators the fastest algorithms; NULL: none */
};

/* What each algorithm takes at a place of the axis: a number of bytes, or of ranks. */
struct predict_row {
	size_t at, bytes;
	int ranks;
	double seconds[PREDICT_ALGOS]; /* NAN: it does not serve, or can't be simulated */
	int best, chosen;              /* chosen: what a communicator there would take */
};

/* From `at` on, `to` is faster than `from` was. */
struct predict_cross {
	size_t at;
	int from, to;
};

struct prediction {
	const struct predict *asked;
	const char *title;
	int nalgos, nrows, ncross;
	const struct algo *algo[PREDICT_ALGOS];
	struct predict_row *rows;
	struct predict_cross *cross;
};

/** Prints the table. A status; EINVAL names what is wrong. */
int predict_print(const struct predict *p);

/** Draws it with gnuplot: time over the axis, a line for each algorithm, rings around what would be chosen. */
int predict_plot(const struct prediction *p, const char *file);

#endif
