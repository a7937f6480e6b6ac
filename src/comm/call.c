/* What is wrong with a call's arguments, what it touches, and how it is run. See call.h. */
#include "call.h"

#include <stdlib.h>
#include <string.h>

#include "../kernel/wire.h"
#include "../util/error.h"
#include "comm.h"

/* ---- checks --------------------------------------------------------------------------------------------------------- */

int call_check_type(enum tutti_dtype t)
{
	return (unsigned)t < KERNEL_DTYPES ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown element type %d", (int)t);
}

int call_check_op(enum tutti_op op)
{
	return (unsigned)op < KERNEL_OPS ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown reduction operation %d", (int)op);
}

static int check_rank(const struct tutti_comm *c, int rank, const char *what)
{
	if (rank >= 0 && rank < c->size)
		return TUTTI_OK;
	return fail(TUTTI_EINVAL, "%s %d is not a rank of %s (0 to %d)", what, rank, c->name, c->size - 1);
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
static int check_counts(const struct tutti_comm *c, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                        const char *what, size_t *span)
{
	size_t at = 0, bytes;
	*span = 0;
	if (!counts)
		return fail(TUTTI_EINVAL, "%s is NULL", what);
	for (int r = 0; r < c->size; r++) {
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

int call_check_buffers_well(const struct op *op, const struct extent *x)
{
	int rc = check_buffer(op->in, x->in, "in");
	if (!rc)
		rc = check_buffer(op->out, x->out, "out");
	if (rc)
		return rc;
	const char *in = op->in, *out = op->out;
	bool meets = x->in && x->out && in + x->in_at == out + x->out_at && op->coll != COLL_ALLTOALL;
	return check_overlap(in, x->in, out, x->out, meets ? in : NULL, out);
}

/* What a call touches, by collective. parts: size for buffers that hold all ranks' parts. */
static int measure(const struct tutti_comm *c, const struct op *op, struct extent *x)
{
	size_t n = (size_t)c->size, one, all, part, esize = dtype_bytes(op->dtype);
	bool root = op->root == c->rank;
	int rc;
	if (op->counts) {
		rc = check_counts(c, op->counts, op->displs, op->dtype, op->rcounts ? "sendcounts" : "counts", &all);
		one = rc ? 0 : op->counts[c->rank] * esize;
		size_t before = 0;
		for (int r = 0; r < c->rank; r++)
			before += op->counts[r];
		part = (op->displs ? op->displs[c->rank] : before) * esize;
	} else {
		rc = check_bytes(op->count, 1, op->dtype, &one);
		rc = rc ? rc : check_bytes(op->count, n, op->dtype, &all);
		part = (size_t)c->rank * one;
	}
	if (rc)
		return rc;
	*x = (struct extent){0};
	switch (op->coll) {
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
		if (op->rcounts)
			rc = check_counts(c, op->rcounts, op->rdispls, op->dtype, "recvcounts", &x->out);
		if (!rc && op->rcounts && op->rcounts[c->rank] != op->counts[c->rank])
			rc = fail(TUTTI_EINVAL, "rank %d sends %zu elements to itself, but receives %zu", c->rank,
			          op->counts[c->rank], op->rcounts[c->rank]);
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

static int check(const struct tutti_comm *c, const struct op *op, struct extent *x)
{
	int rc = call_check_type(op->dtype);
	if (!rc)
		rc = call_check_op(op->op);
	if (!rc && op->root != -1)
		rc = check_rank(c, op->root, is_message(op->coll) ? "peer" : "root");
	return rc ? rc : measure(c, op, x);
}

/* ---- choice ---------------------------------------------------------------------------------------------------------- */

/* Elements of the larger of the two buffers. */
static size_t largest(const struct tutti_comm *c, const struct op *op)
{
	size_t n = (size_t)c->size, sum = 0, back = 0;
	if (!coll_owned(op->coll))
		return op->count;
	if (!is_vector(op))
		return n * op->count;
	if (op->coll == COLL_ALLTOALL)
		return 1; /* counts differ from rank to rank: nothing may depend on them */
	for (size_t r = 0; r < n; r++) {
		sum += op->counts[r];
		back += op->rcounts ? op->rcounts[r] : 0;
	}
	return sum > back ? sum : back;
}

static bool order_matters(const struct op *op)
{
	bool is_float = op->dtype >= TUTTI_F16;
	return coll_reduces(op->coll) && is_float && op->op != TUTTI_MIN && op->op != TUTTI_MAX;
}

/* Shorter ones take as long for their latency. */
#define WIRE_LEAST 4096

/* What the elements of a call are in on their way between hosts; NULL: as they are. */
static const struct wire_codec *codec_for(const struct tutti_comm *c, const struct op *op, size_t bytes)
{
	const char *name = c->world->params.wire;
	bool folds = op->coll == COLL_ALLREDUCE || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_REDUCE;
	bool sums = op->op == TUTTI_SUM || op->op == TUTTI_AVG;
	if (!name || c->shape.nhosts < 2 || bytes < WIRE_LEAST || !folds || !sums)
		return NULL;
	return wire_codec(kernel_table(), name, op->dtype);
}

/* An allreduce must be folded once, or ranks would end with what different roundings made of it. */
static bool choose_coded(const struct tuner *plain, struct query q, const struct wire_codec *codec,
                         struct choice *choice)
{
	struct tuner t = *plain;
	tuner_narrow(&t, codec->bytes(q.bytes / q.esize), q.bytes);
	q.folded_once = q.coll == COLL_ALLREDUCE;
	if (tuner_choose(&t, &q, choice) != TUTTI_OK)
		return false;
	choice->codec = codec;
	return true;
}

int call_choose(const struct tutti_comm *c, const struct op *op, struct choice *choice)
{
	size_t esize = dtype_bytes(op->dtype);
	struct query q = {.coll = op->coll,
	                  .bytes = largest(c, op) * esize,
	                  .esize = esize,
	                  .root = op->root < 0 ? 0 : op->root,
	                  .fold_matters = order_matters(op)};
	const struct wire_codec *codec = codec_for(c, op, q.bytes);
	if (codec && choose_coded(&c->tuner, q, codec, choice))
		return TUTTI_OK;
	return tuner_choose(&c->tuner, &q, choice);
}

/* ---- recipes --------------------------------------------------------------------------------------------------------- */

static uint64_t hash_counts(const size_t *counts, int n)
{
	uint64_t h = 1469598103934665603u;
	for (int i = 0; i < n; i++)
		h = (h ^ counts[i]) * 1099511628211u;
	return h >> 1;
}

static struct call record_of(const struct tutti_comm *c, const struct op *op)
{
	struct call call = {
	        .count = op->count,
	        .coll = (uint8_t)op->coll,
	        .dtype = (uint8_t)op->dtype,
	        .op = (uint8_t)(coll_reduces(op->coll) ? op->op : 0),
	        .vector = is_vector(op),
	        .root = op->root,
	};
	if (is_vector(op))
		call.count = op->coll == COLL_ALLTOALL ? 0 : hash_counts(op->counts, c->size);
	return call;
}

uint64_t call_salt(const struct call *call)
{
	uint64_t word = call_word(call);
	if (is_message((enum coll)call->coll)) /* both ends of a message sign alike */
		word = (uint64_t)COLL_SEND | (uint64_t)call->dtype << 8;
	return ((call->count + 0x7f4a7c15u) * 0xc2b2ae3d27d4eb4fu ^ word) + call->way * 0xd6e8feb86659fd93u;
}

/* What all ranks must have chosen alike, or they would wait on different links. */
static uint64_t way_of(const struct recipe *p)
{
	const struct choice *x = &p->choice;
	unsigned algo = x->two_shot ? WAY_TWO_SHOT : WAY_ONE_SHOT;
	unsigned codec = x->codec ? 1 + (unsigned)(x->codec - kernel_table()->wire) : 0;
	for (unsigned i = 0; x->algo && algo_table[i]; i++)
		if (algo_table[i] == x->algo)
			algo = i + 1;
	return call_way(algo, x->channels, codec, p->cut.chunk);
}

/* Adds how the call is run to what is compared with other ranks. */
static void sign_way(struct recipe *p)
{
	p->record.way = way_of(p);
	p->salt = call_salt(&p->record);
}

static size_t longest_part(const struct tutti_comm *c, const struct op *op)
{
	size_t most = op->count;
	for (int r = 0; is_vector(op) && r < c->size; r++)
		most = op->counts[r] > most ? op->counts[r] : most;
	return most;
}

static struct direct_run direct_of(struct tutti_comm *c, const struct recipe *p)
{
	size_t esize = dtype_bytes(p->op.dtype);
	return (struct direct_run){
	        .coll = p->op.coll,
	        .two_shot = p->choice.two_shot,
	        .stepwise = c->world->params.reproducible,
	        .bytes = longest_part(c, &p->op) * esize,
	        .esize = esize,
	        .counts = p->op.counts,
	        .displs = p->op.displs,
	        .kernels = kernel_table(),
	        .two = kernel_table()->two[p->op.dtype][p->op.op],
	        .many = kernel_table()->many[p->op.dtype][p->op.op],
	        .crew = &c->crew,
	        .dtype = p->op.dtype,
	        .op = p->op.op,
	        .root = p->op.root,
	};
}

void keep_vectors(struct op *op, int n, size_t *to)
{
	const size_t **counts[] = {&op->counts, &op->rcounts}, **displs[] = {&op->displs, &op->rdispls};
	for (int side = 0; side < 2; side++) {
		if (!*counts[side])
			continue;
		size_t at = 0, *places = to + n;
		for (int i = 0; i < n; i++) {
			to[i] = (*counts[side])[i];
			places[i] = *displs[side] ? (*displs[side])[i] : at;
			at += to[i];
		}
		*counts[side] = to;
		*displs[side] = places;
		to = places + n;
	}
}

static bool is_packed(const size_t *counts, const size_t *displs, int n)
{
	size_t at = 0;
	for (int i = 0; counts && i < n; at += counts[i++])
		if (displs[i] != at)
			return false;
	return true;
}

static void keep_op(struct recipe *p, const struct op *op, int n)
{
	p->op = *op;
	p->op.in = p->op.out = NULL;
	keep_vectors(&p->op, n, p->arrays);
	p->packed = is_packed(p->op.counts, p->op.displs, n);
	p->rpacked = is_packed(p->op.rcounts, p->op.rdispls, n);
}

static int make(struct tutti_comm *c, const struct op *op, struct recipe *p)
{
	bool message = is_message(op->coll);
	int rc = check(c, op, &p->touches);
	if (rc)
		return rc;
	keep_op(p, op, c->size);
	p->record = record_of(c, op);
	p->salt = call_salt(&p->record);
	p->lane = !message ? 0 : (op->coll == COLL_SEND ? 1 : 2) + 2 * op->root;
	if (message && op->root == c->rank) {
		p->kind = RUN_SELF;
		return TUTTI_OK;
	}
	if (!message && c->size == 1) {
		p->kind = RUN_ALONE;
		return TUTTI_OK;
	}
	if (!message && (rc = call_choose(c, op, &p->choice)) != TUTTI_OK)
		return rc;
	if (!message && !p->choice.algo) {
		p->kind = RUN_DIRECT;
		p->direct = direct_of(c, p);
		sign_way(p);
		return TUTTI_OK;
	}
	p->kind = RUN_PLAN;
	p->plan = comm_plan(c, op->coll, p->choice.algo, op->root < 0 ? 0 : op->root, message ? 1 : p->choice.channels);
	if (!p->plan)
		return fail(TUTTI_ENOMEM, "out of memory: plan of %s", coll_name(op->coll));
	if (run_cut(c, op, p->plan->plan, &p->cut) != TUTTI_OK)
		p->cut = (struct cut){0};
	if (!message) /* its ends have no choice */
		sign_way(p);
	return TUTTI_OK;
}

/* ---- the tables ------------------------------------------------------------------------------------------------------ */

#define FIRST_BITS 6

static bool same(const struct op *a, const struct op *b)
{
	return memcmp(a, b, offsetof(struct op, in)) == 0; /* the compiler makes a few compares of it */
}

static bool same_side(const size_t *counts, const size_t *displs, bool packed, const size_t *want, const size_t *places,
                      int n)
{
	size_t bytes = (size_t)n * sizeof(*want);
	if (!counts || !want)
		return counts == want;
	return memcmp(counts, want, bytes) == 0 && (places ? memcmp(displs, places, bytes) == 0 : packed);
}

static bool same_vectors(const struct recipe *p, const struct op *op, int n)
{
	return same_side(p->op.counts, p->op.displs, p->packed, op->counts, op->displs, n) &&
	       same_side(p->op.rcounts, p->op.rdispls, p->rpacked, op->rcounts, op->rdispls, n);
}

/* Counts are mostly multiples of large powers of two: only the uppermost bits of a product depend on all of them. */
static inline uint64_t hash_of(const struct op *op)
{
	return (op->count ^ (uint64_t)op->coll << 40 ^ (uint64_t)op->dtype << 48 ^ (uint64_t)(unsigned)op->root << 52) *
	       0x9e3779b97f4a7c15u;
}

static inline uint64_t hash_array(uint64_t h, const size_t *a, int n)
{
	for (int i = 0; a && i < n; i++)
		h = (h ^ a[i]) * 0x9e3779b97f4a7c15u;
	return (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
}

static uint64_t hash_with_vectors(const struct op *op, int n)
{
	uint64_t h = hash_of(op);
	if (!is_vector(op))
		return h;
	h = hash_array(hash_array(h, op->counts, n), op->displs, n);
	return op->rcounts ? hash_array(hash_array(h, op->rcounts, n), op->rdispls, n) : h;
}

int recipes_open(struct recipes *t)
{
	*t = (struct recipes){.bucket = calloc(1u << FIRST_BITS, sizeof(*t->bucket)), .shift = 64 - FIRST_BITS};
	return t->bucket ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

static void drop_oldest(struct recipes *t)
{
	struct recipe *p = t->oldest, **at = &t->bucket[p->hash >> t->shift];
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	t->oldest = p->younger;
	t->count--;
	t->bytes -= p->bytes;
	free(p);
}

void recipes_clear(struct recipes *t)
{
	while (t->oldest)
		drop_oldest(t);
}

void recipes_close(struct recipes *t)
{
	recipes_clear(t);
	free(t->bucket);
	t->bucket = NULL;
}

/* Twice the buckets; where there is no memory for them chains become longer. */
static void grow(struct recipes *t)
{
	struct recipe **more = calloc((size_t)2 << (64 - t->shift), sizeof(*more));
	if (!more)
		return;
	free(t->bucket);
	t->bucket = more;
	t->shift--;
	for (struct recipe *p = t->oldest; p; p = p->younger) {
		struct recipe **at = &t->bucket[p->hash >> t->shift];
		p->next = *at;
		*at = p;
	}
}

static void insert(struct recipes *t, struct recipe *p)
{
	while (t->count >= RECIPES_LEAST && t->bytes + p->bytes > RECIPES_BYTES)
		drop_oldest(t);
	if (t->count + 1 > 1u << (63 - t->shift))
		grow(t);
	struct recipe **at = &t->bucket[p->hash >> t->shift];
	p->next = *at;
	*at = p;
	*(t->oldest ? &t->youngest->younger : &t->oldest) = p;
	t->youngest = p;
	t->count++;
	t->bytes += p->bytes;
}

static __attribute__((noinline)) int look_further(struct tutti_comm *c, const struct op *op, struct recipe **out)
{
	struct recipes *t = &c->recipes[is_vector(op)];
	uint64_t h = hash_with_vectors(op, c->size);
	for (struct recipe *p = t->bucket[h >> t->shift]; p; p = p->next)
		if (p->hash == h && same(&p->op, op) && same_vectors(p, op, c->size)) {
			*out = p;
			return TUTTI_OK;
		}
	size_t bytes = sizeof(struct recipe) + vector_words(op, c->size) * sizeof(size_t);
	struct recipe *p = calloc(1, bytes);
	if (!p)
		return fail(TUTTI_ENOMEM, "out of memory");
	p->hash = h;
	p->bytes = bytes;
	int rc = make(c, op, p);
	if (rc) {
		free(p);
		return rc;
	}
	insert(t, p);
	t->made++;
	*out = p;
	return TUTTI_OK;
}

/* The usual case is the first of an even call's bucket: no function, few instructions. */
int recipe_of(struct tutti_comm *c, const struct op *op, struct recipe **out)
{
	if (is_vector(op))
		return look_further(c, op, out);
	const struct recipes *t = &c->recipes[0];
	struct recipe *p = t->bucket[hash_of(op) >> t->shift];
	if (!p || !same(&p->op, op))
		return look_further(c, op, out);
	*out = p;
	return TUTTI_OK;
}
