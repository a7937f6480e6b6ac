/* SPDX-License-Identifier: MIT */
/*
 * Arguments of a call: what they must be, which bytes they touch, how they bind a plan's blocks to bytes. Nothing here knows a
 * communicator, only a rank and a number of ranks.
 */
#ifndef TUTTI_ARGS_H
#define TUTTI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "../plan/layout.h"
#include "../plan/plan.h"
#include "tutti.h"

/** What the v-forms have in place of a count: arrays with an entry for each rank. Places may be NULL: packed. */
struct parts {
	const size_t *counts, *displs;
	const size_t *rcounts, *rdispls; /* alltoallv's receiving side; otherwise NULL */
};

/** Arguments of a collective or a message. Up to `in` they are what calls of one shape have in common. */
struct args {
	enum coll coll;
	enum tutti_dtype dtype;
	enum tutti_op op;
	int root; /* or peer; -1: none */
	size_t count;
	const void *in;
	void *out;
	const struct parts *parts; /* v-forms; NULL */
};

/** Bytes that a call reads and writes on this rank. In place: in + in_at == out + out_at. */
struct extent {
	size_t in, out, in_at, out_at;
};

static inline bool is_message(enum coll coll)
{
	return coll == COLL_SEND || coll == COLL_RECV;
}

int args_check_dtype(enum tutti_dtype t);
int args_check_op(enum tutti_op op);
/** All but the addresses of the buffers, on rank `rank` of the n of communicator `name`. EINVAL says what is wrong. */
int args_check(const struct args *a, int rank, int n, const char *name, struct extent *x);

int args_check_buffers_well(const struct args *a, const struct extent *x);
/** NULL buffers, and buffers that overlap otherwise than in place. The usual case, two buffers that don't, first. */
static inline int args_check_buffers(const struct args *a, const struct extent *x)
{
	const char *in = a->in, *out = a->out;
	return in && out && (in + x->in <= out || out + x->out <= in) ? TUTTI_OK : args_check_buffers_well(a, x);
}

/** Elements of the larger of the two buffers, as far as all ranks know them: what the choice of an algorithm is made by. */
size_t args_largest(const struct args *a, int n);
/** Elements of the longest part; without parts, the count. */
size_t args_longest_part(const struct args *a, int n);

/** How the blocks of a plan are bound to bytes. It refers to the parts. */
struct layout args_layout(const struct args *a, int rank, const struct plan *p);

/** What a collective of one rank comes to: the result is the input. */
void args_copy(const struct args *a);

/** Words that args_keep_parts needs for n ranks; 0: these are not a v-form's arguments. */
static inline size_t args_words(const struct args *a, int n)
{
	return a->parts ? (a->parts->rcounts ? 4 : 2) * (size_t)n : 0;
}
/** Copies the arrays into `words`, with packed places spelled out; *kept refers to the copies. */
void args_keep_parts(const struct parts *from, int n, size_t *words, struct parts *kept);

#endif
