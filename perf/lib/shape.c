/* SPDX-License-Identifier: MIT */
/* The collectives as data: see shape.h. */
#include "shape.h"

#include <stdlib.h>
#include <string.h>

#define NONE  EXTENT_NONE
#define WHOLE EXTENT_WHOLE
#define MINE  EXTENT_MINE
#define PARTS EXTENT_PARTS

static const struct collective table[] = {
        {"allreduce", "all_reduce_perf", ALLREDUCE, WHOLE, WHOLE, .reduces = true, .in_place = true, .same = true,
         .traffic = 2},
        {"allgather", "all_gather_perf", ALLGATHER, MINE, PARTS, .in_place = true, .same = true, .traffic = 1},
        {"reduce_scatter", "reduce_scatter_perf", REDUCE_SCATTER, PARTS, MINE, .reduces = true, .in_place = true,
         .traffic = 1},
        {"broadcast", "broadcast_perf", BROADCAST, WHOLE, WHOLE, .rooted = true, .in_place = true, .same = true,
         .in_at_root = true},
        {"reduce", "reduce_perf", REDUCE, WHOLE, WHOLE, .reduces = true, .rooted = true, .in_place = true,
         .out_at_root = true},
        {"gather", "gather_perf", GATHER, MINE, PARTS, .rooted = true, .in_place = true, .out_at_root = true,
         .traffic = 1},
        {"scatter", "scatter_perf", SCATTER, PARTS, MINE, .rooted = true, .in_place = true, .in_at_root = true,
         .traffic = 1},
        {"alltoall", "alltoall_perf", ALLTOALL, PARTS, PARTS, .traffic = 1},
        {"allgatherv", NULL, ALLGATHER, MINE, PARTS, .in_place = true, .uneven = true, .same = true, .traffic = 1},
        {"reduce_scatterv", NULL, REDUCE_SCATTER, PARTS, MINE, .reduces = true, .in_place = true, .uneven = true,
         .traffic = 1},
        {"gatherv", NULL, GATHER, MINE, PARTS, .rooted = true, .in_place = true, .uneven = true, .out_at_root = true,
         .traffic = 1},
        {"scatterv", NULL, SCATTER, PARTS, MINE, .rooted = true, .in_place = true, .uneven = true, .in_at_root = true,
         .traffic = 1},
        {"alltoallv", NULL, ALLTOALL, PARTS, PARTS, .uneven = true, .traffic = 1},
        {"sendrecv", "sendrecv_perf", SENDRECV, WHOLE, WHOLE, .traffic = 0},
        {"barrier", NULL, BARRIER, NONE, NONE, .traffic = 0},
};

#define COLLECTIVES (sizeof(table) / sizeof(*table))

const struct collective *collective_at(int i)
{
	return i >= 0 && (size_t)i < COLLECTIVES ? &table[i] : NULL;
}

const struct collective *collective_by_name(const char *name)
{
	for (size_t i = 0; i < COLLECTIVES; i++)
		if (strcmp(name, table[i].name) == 0 || (table[i].alias && strcmp(name, table[i].alias) == 0))
			return &table[i];
	return NULL;
}

double collective_bus_factor(const struct collective *c, int n)
{
	return c->traffic > 0 ? c->traffic * (n - 1) / n : 1;
}

/* Elements that stand unused between the parts of a v-form, where a careless copy would show. */
#define GAP 5

/*
 * Length of the part that rank i gives rank j. Even parts are `unit` each; uneven ones are 1, 0 or 2 units, one on
 * average. Where parts don't depend on pairs, i is 0.
 */
static size_t part_count(const struct collective *c, size_t unit, int n, int i, int j)
{
	static const size_t weight[] = {1, 0, 2};

	return c->uneven && n > 1 ? unit * weight[(i + j) % 3] : unit;
}

static size_t layout(const size_t *counts, int n, size_t gap, size_t *displs)
{
	size_t at = 0;

	for (int j = 0; j < n; j++) {
		displs[j] = at;
		at += counts[j] + (j + 1 < n ? gap : 0);
	}
	return at;
}

/* Index of the first element of part j among `counts`: positions without gaps. */
static size_t first_of(const size_t *counts, int j)
{
	size_t first = 0;

	while (j > 0)
		first += counts[--j];
	return first;
}

/* The part of alltoall that i sends to j starts where i's earlier ones end. */
static size_t first_sent(const struct shape *s, size_t unit, int i, int j)
{
	size_t first = 0;

	while (j > 0)
		first += part_count(s->coll, unit, s->n, i, --j);
	return first;
}

/* Fills counts, displs and their receiving twins; returns the elements of the whole. */
static size_t lay_out(struct shape *s, size_t unit)
{
	int from = s->coll->id == ALLTOALL ? s->rank : 0;
	size_t gap = s->coll->uneven ? GAP : 0, most = 0;

	for (int j = 0; j < s->n; j++) {
		s->counts[j] = part_count(s->coll, unit, s->n, from, j);
		s->recvcounts[j] = part_count(s->coll, unit, s->n, j, s->rank);
	}
	layout(s->counts, s->n, gap, s->displs);
	layout(s->recvcounts, s->n, gap, s->recvdispls);
	for (int i = 0; i < s->n; i++) {
		size_t sum = first_sent(s, unit, s->coll->id == ALLTOALL ? i : 0, s->n);

		most = sum > most ? sum : most;
	}
	return most;
}

static size_t span_of(const size_t *counts, const size_t *displs, int n)
{
	return displs[n - 1] + counts[n - 1];
}

static int whose(const struct shape *s, int j)
{
	if (s->coll->reduces)
		return EXACT_RESULT;
	if (s->coll->id == SENDRECV)
		return (s->rank + s->n - 1) % s->n;
	return s->coll->in_at_root ? s->root : j;
}

/* The parts of one side; returns how many. */
static int side(const struct shape *s, bool out, size_t unit, struct part *p, size_t *span)
{
	const struct collective *c = s->coll;
	enum extent e = out ? c->out : c->in;
	bool pairs = out && c->id == ALLTOALL;
	const size_t *counts = pairs ? s->recvcounts : s->counts, *displs = pairs ? s->recvdispls : s->displs;

	*span = 0;
	if (e == EXTENT_NONE || ((out ? c->out_at_root : c->in_at_root) && s->rank != s->root))
		return 0;
	if (e == EXTENT_WHOLE) {
		*span = s->total;
		p[0] = (struct part){0, s->total, 0, out ? whose(s, s->root) : s->rank, out};
		return 1;
	}
	if (e == EXTENT_MINE) {
		*span = s->counts[s->rank];
		p[0] = (struct part){0, *span, first_of(counts, s->rank), out ? whose(s, s->rank) : s->rank, out};
		return 1;
	}
	*span = span_of(counts, displs, s->n);
	for (int j = 0; j < s->n; j++)
		p[j] = (struct part){displs[j], counts[j],
		                     pairs ? first_sent(s, unit, j, s->rank) : first_of(counts, j),
		                     out ? whose(s, j) : s->rank, out};
	return s->n;
}

static void move_parts(struct part *p, int n, size_t by)
{
	for (int i = 0; i < n; i++)
		p[i].at += by;
}

/* Put both sides into area 0: the smaller one is a part of the larger one. */
static void merge(struct shape *s)
{
	struct area *a = &s->area[0], *b = &s->area[1];
	bool out_hosts = s->coll->out != EXTENT_MINE;
	size_t at = s->coll->in == s->coll->out ? 0 : s->displs[s->rank];
	struct part *kept = a->after;

	s->out_area = 0;
	if (out_hosts) {
		s->in_at = at;
		move_parts(a->before, a->nbefore, at);
		a->span = b->span;
		a->after = b->after;
		a->nafter = b->nafter;
		b->after = kept;
	} else {
		s->out_at = at;
		b->after[0].at = at;
		a->after[s->rank] = b->after[0];
	}
	b->nafter = 0;
	b->span = 0;
}

static int allocate(struct shape *s)
{
	size_t n = (size_t)s->n;

	s->counts = calloc(4 * n, sizeof(*s->counts));
	s->area[0].before = calloc(3 * n, sizeof(struct part));
	if (!s->counts || !s->area[0].before)
		return -1;
	s->displs = s->counts + n;
	s->recvcounts = s->counts + 2 * n;
	s->recvdispls = s->counts + 3 * n;
	s->area[0].after = s->area[0].before + n;
	s->area[1].after = s->area[0].before + 2 * n;
	return 0;
}

void shape_free(struct shape *s)
{
	free(s->counts);
	free(s->area[0].before);
	s->counts = NULL;
	s->area[0].before = NULL;
}

int shape_make(struct shape *s, const struct collective *coll, enum tutti_dtype t, int op, int root, int rank, int n,
               size_t bytes, bool in_place)
{
	bool parts = coll->in == EXTENT_PARTS || coll->out == EXTENT_PARTS;
	size_t unit = bytes / tutti_dtype_size(t) / (parts ? (size_t)n : 1);
	struct area *in = &s->area[0], *out = &s->area[1];

	*s = (struct shape){.coll = coll, .type = t, .op = op, .root = root, .rank = rank, .n = n, .count = unit};
	if (allocate(s) != 0) {
		shape_free(s);
		return -1;
	}
	s->total = lay_out(s, unit);
	if (!parts)
		s->total = unit;
	s->bytes = coll->in == EXTENT_NONE ? 0 : s->total * tutti_dtype_size(t);
	in->nbefore = in->nafter = side(s, false, unit, in->before, &in->span);
	memcpy(in->after, in->before, (size_t)in->nbefore * sizeof(*in->before));
	out->nafter = side(s, true, unit, out->after, &out->span);
	s->in_area = in->nbefore ? 0 : -1;
	s->out_area = out->nafter ? 1 : -1;
	if (in_place && s->out_area >= 0 && (s->in_area >= 0 || coll->id == BROADCAST)) {
		s->in_area = 0;
		merge(s);
	}
	return 0;
}

static int exchange_ring(const struct shape *s, const void *in, void *out, struct tutti_comm *c,
                         struct tutti_request **req)
{
	struct tutti_request *reqs[2] = {NULL, NULL};
	int status = tutti_group_begin(), end;

	if (status == TUTTI_OK)
		status = tutti_send(in, s->count, s->type, (s->rank + 1) % s->n, c, req ? &reqs[0] : NULL);
	if (status == TUTTI_OK)
		status = tutti_recv(out, s->count, s->type, (s->rank + s->n - 1) % s->n, c, req ? &reqs[1] : NULL);
	end = tutti_group_end();
	if (req)
		end = end ? end : tutti_wait_all(reqs, 2);
	return status ? status : end;
}

static int call_even(const struct shape *s, const void *in, void *out, struct tutti_comm *c, struct tutti_request **req)
{
	enum tutti_op op = (enum tutti_op)s->op;

	switch (s->coll->id) {
	case ALLREDUCE:
		return tutti_allreduce(in, out, s->count, s->type, op, c, req);
	case ALLGATHER:
		return tutti_allgather(in, out, s->count, s->type, c, req);
	case REDUCE_SCATTER:
		return tutti_reduce_scatter(in, out, s->count, s->type, op, c, req);
	case BROADCAST:
		return tutti_broadcast(in, out, s->count, s->type, s->root, c, req);
	case REDUCE:
		return tutti_reduce(in, out, s->count, s->type, op, s->root, c, req);
	case GATHER:
		return tutti_gather(in, out, s->count, s->type, s->root, c, req);
	case SCATTER:
		return tutti_scatter(in, out, s->count, s->type, s->root, c, req);
	case ALLTOALL:
		return tutti_alltoall(in, out, s->count, s->type, c, req);
	case SENDRECV:
		return exchange_ring(s, in, out, c, req);
	case BARRIER:
		return tutti_barrier(c, req);
	}
	return TUTTI_EUSAGE;
}

static int call_uneven(const struct shape *s, const void *in, void *out, struct tutti_comm *c,
                       struct tutti_request **req)
{
	switch (s->coll->id) {
	case ALLGATHER:
		return tutti_allgatherv(in, out, s->counts, s->displs, s->type, c, req);
	case REDUCE_SCATTER:
		return tutti_reduce_scatterv(in, out, s->counts, s->displs, s->type, (enum tutti_op)s->op, c, req);
	case GATHER:
		return tutti_gatherv(in, out, s->counts, s->displs, s->type, s->root, c, req);
	case SCATTER:
		return tutti_scatterv(in, out, s->counts, s->displs, s->type, s->root, c, req);
	case ALLTOALL:
		return tutti_alltoallv(in, s->counts, s->displs, out, s->recvcounts, s->recvdispls, s->type, c, req);
	default:
		return TUTTI_EUSAGE;
	}
}

int shape_call(const struct shape *s, unsigned char *const base[2], struct tutti_comm *c, struct tutti_request **req)
{
	size_t size = tutti_dtype_size(s->type);
	const void *in = s->in_area < 0 ? NULL : base[s->in_area] + s->in_at * size;
	void *out = s->out_area < 0 ? NULL : base[s->out_area] + s->out_at * size;

	return s->coll->uneven ? call_uneven(s, in, out, c, req) : call_even(s, in, out, c, req);
}
