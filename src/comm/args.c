/* SPDX-License-Identifier: MIT */
/* Arguments: checks, extents, layouts. See args.h. */
#include "args.h"

#include <stdint.h>
#include <string.h>

#include "../kernel/kernel.h"
#include "../util/error.h"

/* ---- checks --------------------------------------------------------------------------------------------------------- */

int args_check_dtype(enum tutti_dtype t)
{
	return (unsigned)t < KERNEL_DTYPES ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown element type %d", (int)t);
}

int args_check_op(enum tutti_op op)
{
	return (unsigned)op < KERNEL_OPS ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown reduction operation %d", (int)op);
}

/* Who checks: rank `rank` of the n of communicator `name`. */
struct caller {
	int rank, n;
	const char *name;
};

static int check_rank(const struct caller *c, int rank, const char *what)
{
	if (rank >= 0 && rank < c->n)
		return TUTTI_OK;
	return fail(TUTTI_EINVAL, "%s %d is not a rank of %s (0 to %d)", what, rank, c->name, c->n - 1);
}

/* Bytes of `parts` parts of count elements, without overflow. */
static int check_bytes(size_t count, size_t parts, enum tutti_dtype t, size_t *bytes)
{
	size_t n;
	if (__builtin_mul_overflow(count, parts, &n) || __builtin_mul_overflow(n, dtype_bytes(t), bytes) ||
	    *bytes > PTRDIFF_MAX)
		return fail(TUTTI_EINVAL, "%zu x %zu elements of %zu bytes are more than memory can hold", count, parts,
		            dtype_bytes(t));
	return TUTTI_OK;
}

/* Sum of the v-forms' counts, and that all parts lie within what can be addressed. */
static int check_counts(const struct caller *c, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                        const char *what, size_t *span)
{
	size_t at = 0, bytes;
	*span = 0;
	if (!counts)
		return fail(TUTTI_EINVAL, "%s is NULL", what);
	for (int r = 0; r < c->n; r++) {
		size_t end, begin = displs ? displs[r] : at;
		if (!counts[r]) /* where nothing stands makes no difference */
			continue;
		if (__builtin_add_overflow(begin, counts[r], &end) || check_bytes(end, 1, t, &bytes) != 0)
			return fail(TUTTI_EINVAL, "%s[%d] = %zu reaches beyond what memory can hold", what, r,
			            counts[r]);
		at = end;
		if (bytes > *span)
			*span = bytes;
	}
	return TUTTI_OK;
}

static int check_buffer(const void *p, size_t bytes, const char *name)
{
	if (bytes && !p)
		return fail(TUTTI_EINVAL, "%s is NULL, but %zu bytes of it are needed", name, bytes);
	return TUTTI_OK;
}

/* `in` and `out` may only meet where `in_place` says. */
static int check_overlap(const void *in, size_t in_bytes, const void *out, size_t out_bytes, const void *expect_in,
                         const void *expect_out)
{
	const char *a = in, *b = out;
	if (!in_bytes || !out_bytes || a + in_bytes <= b || b + out_bytes <= a)
		return TUTTI_OK;
	if (expect_in && a == expect_in && b == expect_out)
		return TUTTI_OK;
	return fail(TUTTI_EINVAL, "in and out overlap, and not in the form that counts as in place");
}

int args_check_buffers_well(const struct args *a, const struct extent *x)
{
	int rc = check_buffer(a->in, x->in, "in");
	if (!rc)
		rc = check_buffer(a->out, x->out, "out");
	if (rc)
		return rc;
	const char *in = a->in, *out = a->out;
	bool meets = x->in && x->out && in + x->in_at == out + x->out_at && a->coll != COLL_ALLTOALL;
	return check_overlap(in, x->in, out, x->out, meets ? in : NULL, out);
}

/* What a call touches, by collective. parts: size for buffers that hold all ranks' parts. */
static int measure(const struct caller *c, const struct args *a, struct extent *x)
{
	const struct parts *p = a->parts;
	size_t n = (size_t)c->n, one, all, part, esize = dtype_bytes(a->dtype);
	bool root = a->root == c->rank;
	int rc;
	if (p) {
		rc = check_counts(c, p->counts, p->displs, a->dtype, p->rcounts ? "sendcounts" : "counts", &all);
		one = rc ? 0 : p->counts[c->rank] * esize;
		size_t before = 0;
		for (int r = 0; r < c->rank; r++)
			before += p->counts[r];
		part = (p->displs ? p->displs[c->rank] : before) * esize;
	} else {
		rc = check_bytes(a->count, 1, a->dtype, &one);
		rc = rc ? rc : check_bytes(a->count, n, a->dtype, &all);
		part = (size_t)c->rank * one;
	}
	if (rc)
		return rc;
	*x = (struct extent){0};
	switch (a->coll) {
	case COLL_ALLREDUCE:
		*x = (struct extent){one, one, 0, 0};
		break;
	case COLL_BROADCAST:
		*x = (struct extent){root ? one : 0, one, 0, 0};
		break;
	case COLL_REDUCE:
		*x = (struct extent){one, root ? one : 0, 0, 0};
		break;
	case COLL_ALLGATHER:
		*x = (struct extent){one, all, 0, part};
		break;
	case COLL_REDUCE_SCATTER:
		*x = (struct extent){all, one, part, 0};
		break;
	case COLL_GATHER:
		*x = (struct extent){one, root ? all : 0, 0, part};
		break;
	case COLL_SCATTER:
		*x = (struct extent){root ? all : 0, one, part, 0};
		break;
	case COLL_ALLTOALL:
		*x = (struct extent){all, all, 0, 0};
		if (p && p->rcounts)
			rc = check_counts(c, p->rcounts, p->rdispls, a->dtype, "recvcounts", &x->out);
		if (!rc && p && p->rcounts && p->rcounts[c->rank] != p->counts[c->rank])
			rc = fail(TUTTI_EINVAL, "rank %d sends %zu elements to itself, but receives %zu", c->rank,
			          p->counts[c->rank], p->rcounts[c->rank]);
		break;
	case COLL_SEND:
		x->in = one;
		break;
	case COLL_RECV:
		x->out = one;
		break;
	default:
		break;
	}
	return rc;
}

int args_check(const struct args *a, int rank, int n, const char *name, struct extent *x)
{
	const struct caller here = {rank, n, name}, *c = &here;
	int rc = args_check_dtype(a->dtype);
	if (!rc)
		rc = args_check_op(a->op);
	if (!rc && a->root != -1)
		rc = check_rank(c, a->root, is_message(a->coll) ? "peer" : "root");
	return rc ? rc : measure(c, a, x);
}

size_t args_largest(const struct args *a, int n)
{
	const struct parts *p = a->parts;
	size_t sum = 0, back = 0;
	if (!coll_owned(a->coll))
		return a->count;
	if (!p)
		return (size_t)n * a->count;
	if (a->coll == COLL_ALLTOALL)
		return 1; /* counts differ from rank to rank: nothing may depend on them */
	for (int r = 0; r < n; r++) {
		sum += p->counts[r];
		back += p->rcounts ? p->rcounts[r] : 0;
	}
	return sum > back ? sum : back;
}

size_t args_longest_part(const struct args *a, int n)
{
	size_t most = a->count;
	for (int r = 0; a->parts && r < n; r++)
		most = a->parts->counts[r] > most ? a->parts->counts[r] : most;
	return most;
}

/* ---- layouts ----------------------------------------------------------------------------------------------------------- */

static struct layout_side whole(const struct args *a)
{
	return (struct layout_side){.kind = LAYOUT_WHOLE, .count = a->count};
}

static struct layout_side ranks(const struct args *a, const size_t *counts, const size_t *displs)
{
	return (struct layout_side){.kind = LAYOUT_RANKS, .count = a->count, .counts = counts, .displs = displs};
}

static struct layout_side own(const struct args *a, int rank)
{
	const size_t *counts = a->parts ? a->parts->counts : NULL;
	return (struct layout_side){.kind = LAYOUT_OWN, .own = rank, .count = a->count, .counts = counts};
}

struct layout args_layout(const struct args *a, int rank, const struct plan *p)
{
	static const struct parts even;
	const struct parts *v = a->parts ? a->parts : &even;
	struct layout l = {.nblocks = p->nblocks, .parts = p->parts};
	bool at_root = a->root == rank;
	switch (a->coll) {
	case COLL_ALLREDUCE:
		l.in = l.out = whole(a);
		break;
	case COLL_BROADCAST:
		l.out = whole(a);
		if (at_root)
			l.in = whole(a);
		break;
	case COLL_REDUCE:
		l.in = whole(a);
		if (at_root)
			l.out = whole(a);
		break;
	case COLL_ALLGATHER:
		l.in = own(a, rank);
		l.out = ranks(a, v->counts, v->displs);
		break;
	case COLL_REDUCE_SCATTER:
		l.in = ranks(a, v->counts, v->displs);
		l.out = own(a, rank);
		break;
	case COLL_GATHER:
		l.in = own(a, rank);
		if (at_root)
			l.out = ranks(a, v->counts, v->displs);
		break;
	case COLL_SCATTER:
		l.out = own(a, rank);
		if (at_root)
			l.in = ranks(a, v->counts, v->displs);
		break;
	case COLL_ALLTOALL:
		l.in = l.out = ranks(a, v->counts, v->displs);
		if (v->rcounts)
			l.out = ranks(a, v->rcounts, v->rdispls);
		break;
	case COLL_SEND:
		l.in = whole(a);
		break;
	case COLL_RECV:
		l.out = whole(a);
		break;
	default:
		break;
	}
	return l;
}

/* ---- what one rank does, and keeps ----------------------------------------------------------------------------------- */

void args_copy(const struct args *a)
{
	const struct parts *p = a->parts;
	size_t esize = dtype_bytes(a->dtype);
	const uint8_t *in = a->in;
	uint8_t *out = a->out;
	size_t count = p ? p->counts[0] : a->count;
	bool out_parts = a->coll == COLL_ALLGATHER || a->coll == COLL_GATHER || a->coll == COLL_ALLTOALL;
	bool in_parts = a->coll == COLL_REDUCE_SCATTER || a->coll == COLL_SCATTER || a->coll == COLL_ALLTOALL;
	if (in_parts && p && p->displs && count)
		in += p->displs[0] * esize;
	if (out_parts && p && (p->rdispls || p->displs) && count)
		out += (p->rdispls ? p->rdispls[0] : p->displs[0]) * esize;
	bool reduces = a->coll == COLL_ALLREDUCE || a->coll == COLL_REDUCE_SCATTER || a->coll == COLL_REDUCE;
	const void *src[1] = {in};
	if (reduces && count)
		kernel_table()->many[a->dtype][a->op](out, src, 1, count, 1);
	else if (count && in != out)
		memmove(out, in, count * esize);
}

static void keep_side(const size_t *counts, const size_t *displs, int n, size_t *words)
{
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		words[i] = counts[i];
		words[n + i] = displs ? displs[i] : at;
		at += counts[i];
	}
}

void args_keep_parts(const struct parts *from, int n, size_t *words, struct parts *kept)
{
	size_t *back = words + 2 * n;
	*kept = (struct parts){.counts = words, .displs = words + n};
	keep_side(from->counts, from->displs, n, words);
	if (!from->rcounts)
		return;
	kept->rcounts = back;
	kept->rdispls = back + n;
	keep_side(from->rcounts, from->rdispls, n, back);
}
