/* SPDX-License-Identifier: MIT */
/*
 * What a picture shows as one thing: a host; a group of equal hosts, where there are many; or a rank, where there is
 * one host only. And the links between these: means over the pairs of ranks that they join.
 */
#ifndef TUTTI_TOPO_UNITS_H
#define TUTTI_TOPO_UNITS_H

#include "survey.h"

/* More hosts are folded into at most so many groups. */
#define UNITS_APART 12

struct unit {
	int host, rank; /* the first of each */
	int hosts, ranks;
};

struct unit_link {
	int pairs;
	double there, back; /* bytes a second, from the lower unit; 0: not measured */
	double latency;     /* seconds */
	const char *via;    /* of the first pair */
	int steps, returns; /* of the ring, from the lower unit to the higher one, and from that to this */
};

struct units {
	int n;
	bool of_ranks;
	struct unit *unit;       /* in the order in which the ring comes to them */
	int *of;                 /* rank -> unit */
	struct unit_link *link;  /* n * n; of a < b, and of a == b: inside a */
	double slowest, fastest; /* of all links between units, and among a group; 0: not measured */
};

int units_make(struct units *u, const struct survey *s);
void units_free(struct units *u);
static inline struct unit_link *units_link(const struct units *u, int a, int b)
{
	return &u->link[(a < b ? a : b) * u->n + (a < b ? b : a)];
}
/** 0 the slowest, 1 the fastest link, by logarithm; links that differ little are all fast. */
double units_speed(const struct units *u, double rate);
/** "node0 - node31", "ranks 0-7": for a title and the line below it. */
void units_name(const struct units *u, const struct survey *s, int i, char *buf, size_t cap);
void units_ranks(const struct units *u, const struct survey *s, int i, char *buf, size_t cap);

#endif
