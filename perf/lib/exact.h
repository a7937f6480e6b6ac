/* SPDX-License-Identifier: MIT */
/*
 * Test data whose reduction is known exactly, whatever the order of the fold.
 *
 * Every element is a hash of (seed, index, rank), shaped so that no partial result of any order is ever rounded: sums
 * of floats are small integers times one shared power of two, products one random mantissa times powers of two. The
 * expected result is then known to the last bit, and 0 wrong bits is the test. Stands below the measuring programs;
 * knows types and operations, not collectives.
 */
#ifndef PERF_EXACT_H
#define PERF_EXACT_H

#include <stddef.h>
#include <stdint.h>

#include "tutti.h"

/** What the data is made for, if not for a reduction by a tutti_op. */
enum {
	EXACT_COPY = -1, /* moved, not folded: any bits */
	EXACT_NOISE =
	        -2, /* finite, of full precision: folds do round, so that only ranks can be compared with each other */
};

struct exact {
	enum tutti_dtype type;
	int op; /* a tutti_op, EXACT_COPY or EXACT_NOISE */
	int nranks;
	int digits; /* bits that a sum may have where it is rounded on its way (TUTTI_WIRE); 0: all that the type has */
	uint64_t seed;
	uint64_t turn; /* changes one element per 64 bytes and nothing else, see exact_varies */
};

/** The rank number that stands for the reduction of all ranks. */
#define EXACT_RESULT (-1)

/** Bits of element `index` of rank `rank`'s input, in the low bits; or of the result when rank is EXACT_RESULT. */
uint64_t exact_bits(const struct exact *x, int rank, size_t index);

/** Whether element `index` depends on `turn`. */
int exact_varies(const struct exact *x, size_t index);

/*
 * A pattern is a prefix of one rank's data (or of the result) in memory, repeated for ever: data of any length are
 * written and compared at the speed of memory. The period is prime, so that no block is a multiple of it.
 */
#define PATTERN_PERIOD 65521
#define PATTERN_TURNS  7 /* whose elements are kept: to make them takes longer than most calls */

struct pattern {
	struct exact x;
	int rank;
	size_t size;   /* bytes of an element */
	size_t length; /* elements made: the period, or fewer when fewer are used */
	unsigned char *bytes;
	unsigned char *kept[PATTERN_TURNS]; /* what varies, of turns that were made; NULL: none */
	uint64_t turn[PATTERN_TURNS];
};

/** Make the pattern of `rank` for indices 0 .. count-1. Returns 0, or -1 out of memory. */
int pattern_make(struct pattern *p, const struct exact *x, int rank, size_t count);
void pattern_free(struct pattern *p);

/** Move on to another turn: remakes the elements that vary, unless it is one of the last PATTERN_TURNS. */
void pattern_turn(struct pattern *p, uint64_t turn);

/** dst = elements first .. first+count-1. pattern_touch writes only those that vary. */
void pattern_write(const struct pattern *p, size_t first, size_t count, void *dst);
void pattern_touch(const struct pattern *p, size_t first, size_t count, void *dst);

/** How many of the elements at src differ from first .. first+count-1. */
size_t pattern_wrong(const struct pattern *p, size_t first, size_t count, const void *src);

#endif
