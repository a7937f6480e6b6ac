/* SPDX-License-Identifier: MIT */
/* What is worked out once for each shape of call, and the tables that keep it. See prepared.h. */
#include "prepared.h"

#include <stdlib.h>
#include <string.h>

#include "../kernel/wire.h"
#include "../util/error.h"
#include "comm.h"

/* ---- what is worked out ------------------------------------------------------------------------------------------------ */

static uint64_t hash_counts(const size_t *counts, int n)
{
	uint64_t h = 1469598103934665603u;
	for (int i = 0; i < n; i++)
		h = (h ^ counts[i]) * 1099511628211u;
	return h >> 1;
}

static struct call record_of(const struct tutti_comm *c, const struct args *a)
{
	struct call record = {
	        .count = a->count,
	        .coll = (uint8_t)a->coll,
	        .dtype = (uint8_t)a->dtype,
	        .op = (uint8_t)(coll_reduces(a->coll) ? a->op : 0),
	        .vector = a->parts != NULL,
	        .root = a->root,
	};
	if (a->parts)
		record.count = a->coll == COLL_ALLTOALL ? 0 : hash_counts(a->parts->counts, c->size);
	return record;
}

uint64_t call_salt(const struct call *call)
{
	uint64_t word = call_word(call);
	if (is_message((enum coll)call->coll)) /* both ends of a message sign alike */
		word = (uint64_t)COLL_SEND | (uint64_t)call->dtype << 8;
	return ((call->count + 0x7f4a7c15u) * 0xc2b2ae3d27d4eb4fu ^ word) + call->way * 0xd6e8feb86659fd93u;
}

/* What all ranks must have chosen alike, or they would wait on different links. */
static uint64_t way_of(const struct choice *x, size_t chunk)
{
	unsigned algo = x->two_shot ? WAY_TWO_SHOT : WAY_ONE_SHOT;
	unsigned codec = x->codec ? 1 + (unsigned)(x->codec - kernel_table()->wire) : 0;
	for (unsigned i = 0; x->algo && algo_table[i]; i++)
		if (algo_table[i] == x->algo)
			algo = i + 1;
	return call_way(algo, x->channels, codec, chunk);
}

/* Adds how the call is run to what is compared with other ranks. */
static void sign_way(struct prepared *p, const struct choice *x)
{
	p->record.way = way_of(x, p->cut.chunk);
	p->salt = call_salt(&p->record);
}

static void prepare_direct(struct tutti_comm *c, struct prepared *p, const struct choice *x)
{
	const struct args *a = &p->args;
	size_t esize = dtype_bytes(a->dtype);
	p->kind = RUN_DIRECT;
	p->direct = (struct direct_call){
	        .coll = a->coll,
	        .two_shot = x->two_shot,
	        .stepwise = c->world->params.reproducible,
	        .bytes = args_longest_part(a, c->size) * esize,
	        .esize = esize,
	        .counts = p->parts.counts,
	        .displs = p->parts.displs,
	        .kernels = kernel_table(),
	        .two = kernel_table()->two[a->dtype][a->op],
	        .many = kernel_table()->many[a->dtype][a->op],
	        .crew = &c->crew,
	        .dtype = a->dtype,
	        .op = a->op,
	        .root = a->root,
	};
	direct_cut(&p->direct, c->size, c->rank, (size_t)c->world->params.direct_max);
	sign_way(p, x);
}

static size_t longest_block(const struct tutti_comm *c, const struct layout *l)
{
	size_t most = 0;
	const struct layout_side *sides[] = {&l->in, &l->out};
	for (int i = 0; i < 2; i++) {
		const struct layout_side *s = sides[i];
		size_t len = s->kind == LAYOUT_NONE ? 0 : s->count;
		for (int r = 0; s->counts && s->kind != LAYOUT_NONE && r < c->size; r++)
			len = r == 0 || s->counts[r] > len ? s->counts[r] : len;
		len = span_share(len, s->kind == LAYOUT_WHOLE ? l->nblocks : l->parts, 0).len;
		most = len > most ? len : most;
	}
	return most;
}

int prepared_cut(const struct tutti_comm *c, const struct args *a, const struct plan *p, struct cut *cut)
{
	struct layout l = args_layout(a, c->rank, p);
	return engine_cut(p, (size_t)c->world->params.slot, dtype_bytes(a->dtype), longest_block(c, &l), &cut->chunk,
	                  &cut->nchunks);
}

static int prepare_plan(struct tutti_comm *c, struct prepared *p, const struct choice *x)
{
	const struct args *a = &p->args;
	p->kind = RUN_PLAN;
	p->codec = x->codec;
	p->plan = links_plan(c, a->coll, x->algo, a->root < 0 ? 0 : a->root, x->channels);
	if (!p->plan)
		return fail(TUTTI_ENOMEM, "out of memory: plan of %s", coll_name(a->coll));
	if (prepared_cut(c, a, p->plan->plan, &p->cut) != TUTTI_OK)
		p->cut = (struct cut){0};
	if (!is_message(a->coll)) /* its ends have no choice */
		sign_way(p, x);
	return TUTTI_OK;
}

static bool is_packed(const size_t *counts, const size_t *displs, int n)
{
	size_t at = 0;
	for (int i = 0; counts && i < n; at += counts[i++])
		if (displs[i] != at)
			return false;
	return true;
}

static void keep_args(struct prepared *p, const struct args *a, int n)
{
	p->args = *a;
	p->args.in = p->args.out = NULL;
	if (!a->parts)
		return;
	args_keep_parts(a->parts, n, p->words, &p->parts);
	p->args.parts = &p->parts;
	p->packed = is_packed(p->parts.counts, p->parts.displs, n);
	p->rpacked = is_packed(p->parts.rcounts, p->parts.rdispls, n);
}

static int prepare(struct tutti_comm *c, const struct args *a, struct prepared *p)
{
	struct choice x = {.channels = 1};
	bool message = is_message(a->coll);
	int rc = args_check(a, c->rank, c->size, c->name, &p->touches);
	if (rc)
		return rc;
	keep_args(p, a, c->size);
	p->record = record_of(c, a);
	p->salt = call_salt(&p->record);
	p->lane = !message ? 0 : (a->coll == COLL_SEND ? 1 : 2) + 2 * a->root;
	if (message) {
		p->kind = RUN_SELF;
		return a->root == c->rank ? TUTTI_OK : prepare_plan(c, p, &x);
	}
	p->kind = RUN_COPY;
	if (c->size == 1)
		return TUTTI_OK;
	if ((rc = choose_run(c, a, &x)) != TUTTI_OK)
		return rc;
	if (x.algo)
		return prepare_plan(c, p, &x);
	prepare_direct(c, p, &x);
	return TUTTI_OK;
}

/* ---- the tables ------------------------------------------------------------------------------------------------------ */

#define FIRST_BITS 6

static bool same_side(const size_t *counts, const size_t *displs, bool packed, const size_t *want, const size_t *places,
                      int n)
{
	size_t bytes = (size_t)n * sizeof(*want);
	if (!counts || !want)
		return counts == want;
	return memcmp(counts, want, bytes) == 0 && (places ? memcmp(displs, places, bytes) == 0 : packed);
}

static bool same_parts(const struct prepared *p, const struct parts *want, int n)
{
	const struct parts *v = &p->parts;
	if (!want || !p->args.parts)
		return want == p->args.parts;
	return same_side(v->counts, v->displs, p->packed, want->counts, want->displs, n) &&
	       same_side(v->rcounts, v->rdispls, p->rpacked, want->rcounts, want->rdispls, n);
}

/* Counts are mostly multiples of large powers of two: only the uppermost bits of a product depend on all of them. */
static inline uint64_t hash_even(const struct args *a)
{
	return (a->count ^ (uint64_t)a->coll << 40 ^ (uint64_t)a->dtype << 48 ^ (uint64_t)(unsigned)a->root << 52) *
	       0x9e3779b97f4a7c15u;
}

static inline uint64_t hash_array(uint64_t h, const size_t *a, int n)
{
	for (int i = 0; a && i < n; i++)
		h = (h ^ a[i]) * 0x9e3779b97f4a7c15u;
	return (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
}

static uint64_t hash_with_parts(const struct args *a, int n)
{
	const struct parts *v = a->parts;
	uint64_t h = hash_even(a);
	if (!v)
		return h;
	h = hash_array(hash_array(h, v->counts, n), v->displs, n);
	return v->rcounts ? hash_array(hash_array(h, v->rcounts, n), v->rdispls, n) : h;
}

static int open_table(struct prepared_table *t)
{
	*t = (struct prepared_table){.bucket = calloc(1u << FIRST_BITS, sizeof(*t->bucket)), .shift = 64 - FIRST_BITS};
	return t->bucket ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

static void drop_oldest(struct prepared_table *t)
{
	struct prepared *p = t->oldest, **at = &t->bucket[p->hash >> t->shift];
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	t->oldest = p->younger;
	t->count--;
	t->bytes -= p->bytes;
	p->dropped = true;
	if (!p->held)
		free(p);
}

static void clear_table(struct prepared_table *t)
{
	while (t->oldest)
		drop_oldest(t);
}

int prepared_open(struct prepared_calls *p)
{
	int rc = open_table(&p->even);
	return rc ? rc : open_table(&p->vector);
}

void prepared_clear(struct prepared_calls *p)
{
	p->last = NULL;
	clear_table(&p->even);
	clear_table(&p->vector);
}

void prepared_close(struct prepared_calls *p)
{
	prepared_clear(p);
	free(p->even.bucket);
	free(p->vector.bucket);
	*p = (struct prepared_calls){0};
}

void prepared_release(const struct prepared *p)
{
	struct prepared *mine = (struct prepared *)(uintptr_t)p;
	if (--mine->held == 0 && mine->dropped)
		free(mine);
}

/* Twice the buckets; where there is no memory for them chains become longer. */
static void grow(struct prepared_table *t)
{
	struct prepared **more = calloc((size_t)2 << (64 - t->shift), sizeof(*more));
	if (!more)
		return;
	free(t->bucket);
	t->bucket = more;
	t->shift--;
	for (struct prepared *p = t->oldest; p; p = p->younger) {
		struct prepared **at = &t->bucket[p->hash >> t->shift];
		p->next = *at;
		*at = p;
	}
}

static void insert(struct prepared_table *t, struct prepared *p)
{
	while (t->count >= PREPARED_LEAST && t->bytes + p->bytes > PREPARED_BYTES)
		drop_oldest(t);
	if (t->count + 1 > 1u << (63 - t->shift))
		grow(t);
	struct prepared **at = &t->bucket[p->hash >> t->shift];
	p->next = *at;
	*at = p;
	*(t->oldest ? &t->youngest->younger : &t->oldest) = p;
	t->youngest = p;
	t->count++;
	t->bytes += p->bytes;
	t->made++;
}

static int find(struct tutti_comm *c, struct prepared_table *t, const struct args *a, const struct prepared **out)
{
	uint64_t h = hash_with_parts(a, c->size);
	for (struct prepared *p = t->bucket[h >> t->shift]; p; p = p->next)
		if (p->hash == h && prepared_is(p, a) && same_parts(p, a->parts, c->size)) {
			*out = p;
			return TUTTI_OK;
		}
	size_t bytes = sizeof(struct prepared) + args_words(a, c->size) * sizeof(size_t);
	struct prepared *p = calloc(1, bytes);
	if (!p)
		return fail(TUTTI_ENOMEM, "out of memory");
	p->hash = h;
	p->bytes = bytes;
	int rc = prepare(c, a, p);
	if (rc) {
		free(p);
		return rc;
	}
	insert(t, p);
	*out = p;
	return TUTTI_OK;
}

int prepared_look(struct tutti_comm *c, struct prepared_calls *calls, const struct args *a, const struct prepared **out)
{
	if (a->parts)
		return find(c, &calls->vector, a, out);
	calls->last = NULL; /* it may be dropped to make room */
	int rc = find(c, &calls->even, a, out);
	calls->last = rc ? NULL : *out;
	return rc;
}
