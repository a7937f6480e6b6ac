/* SPDX-License-Identifier: MIT */
/* Where the time of a step goes: one clock reading at the end of each section. */
#ifndef TRANSFORMER_PROFILE_H
#define TRANSFORMER_PROFILE_H

#include <stddef.h>
#include <time.h>

enum section { PRODUCTS, ATTENTION, NORM, REDUCE, OTHER, SECTIONS };

struct profile {
	double last, spent[SECTIONS]; /* seconds */
	double *call;                 /* seconds of each all-reduce, in order; NULL: not kept */
	size_t calls, room;
};

static inline double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/** What was done since the last lap was of this section; returns its seconds. */
static inline double lap(struct profile *p, enum section section)
{
	double now = seconds_now(), spent = now - p->last;

	p->last = now;
	p->spent[section] += spent;
	return spent;
}

/** One all-reduce took so long on this rank. */
static inline void lap_call(struct profile *p, double spent)
{
	if (p->calls < p->room)
		p->call[p->calls] = spent;
	p->calls++;
}

#endif
