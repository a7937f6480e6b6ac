/* SPDX-License-Identifier: MIT */
/*
 * A layout binds the blocks of a plan to bytes, at the call. Uneven shards and the v-forms are the same plans under
 * another layout.
 */
#ifndef TUTTI_LAYOUT_H
#define TUTTI_LAYOUT_H

#include "plan.h"

/** Elements [at, at + len) of a buffer. */
struct span {
	size_t at, len;
};

/** How one of the caller's buffers is cut. */
struct layout_side {
	enum layout_kind {
		LAYOUT_NONE,  /* the buffer does not exist here */
		LAYOUT_WHOLE, /* one vector, cut evenly into nblocks */
		LAYOUT_RANKS, /* a part per rank */
		LAYOUT_OWN,   /* only the part of rank `own`, at 0 */
	} kind;
	int own;
	size_t count;         /* WHOLE: elements in all. Otherwise: elements of each part, when counts is NULL */
	const size_t *counts; /* per rank, or NULL */
	const size_t *displs; /* per rank, in elements; NULL with counts == NULL: r * count */
};

struct layout {
	int nblocks, parts;
	struct layout_side in, out;
};

/** The b-th of n nearly equal shares of len: the first len % n shares are one longer. */
static inline struct span span_share(size_t len, int n, int b)
{
	if (n == 1)
		return (struct span){0, len};
	size_t q = len / (size_t)n, r = len % (size_t)n, i = (size_t)b;
	return (struct span){q * i + (i < r ? i : r), q + (i < r)};
}

static inline struct span layout_span(const struct layout *l, const struct layout_side *s, int block)
{
	if (s->kind == LAYOUT_WHOLE)
		return span_share(s->count, l->nblocks, block);
	int rank = block / l->parts, part = block % l->parts;
	size_t len = s->counts ? s->counts[rank] : s->count;
	struct span v = l->parts == 1 ? (struct span){0, len} : span_share(len, l->parts, part);
	if (s->kind == LAYOUT_RANKS && len) /* an empty part stands nowhere */
		v.at += s->displs ? s->displs[rank] : (size_t)rank * s->count;
	return v;
}

/** Length of a block's chunk c, at most `chunk` elements. */
static inline size_t chunk_len(size_t block_len, size_t chunk, size_t c)
{
	size_t at = chunk * c;
	return at >= block_len ? 0 : block_len - at < chunk ? block_len - at : chunk;
}

#endif
