/* SPDX-License-Identifier: MIT */
/* One-shot and two-shot collectives over memory that all members read. See direct.h for the protocol. */
#include "direct.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/crew.h"
#include "../util/cancel.h"
#include "../util/error.h"

struct flag {
	_Alignas(APART) struct slot line; /* seq: epoch; sig; the data itself when it fits */
};

struct word {
	_Alignas(APART) _Atomic uint64_t epoch;
};

/* What a rank shows to the others. The buffers follow. A flag's line holds a slot_ref where the bytes are elsewhere. */
struct direct_area {
	struct word done;
	struct flag input[DIRECT_BUFFERS];
	struct flag share[DIRECT_BUFFERS]; /* two-shot: the own share is folded */
	struct word lease; /* LEASE_READING: what others have lent; LEASE_REVOKED: what this rank lent */
	_Alignas(APART) uint8_t buffers[];
};

/* Another member, as those see it who look at all others. */
struct peer {
	struct direct_area *area;
	_Atomic uint32_t *bell;
	uint64_t known; /* it is done at least with this epoch */
};

struct direct {
	struct segment *seg;
	struct area_shape shape; /* of each member's area */
	uint64_t key;
	int n, me, found;
	size_t buffer;
	size_t ready,
	        plain;  /* bytes of a buffer that are committed; those that need no more than that and are not long */
	uint64_t epoch; /* last one given to a piece */
	uint64_t all_known; /* all are done at least with this epoch */
	struct direct_area *own;
	struct peer *peer, *end;   /* all but this rank, beginning with the next */
	struct direct_area **area; /* of each member */
	intptr_t *shift;           /* our address of what member i lends = its own + shift */
	int *local;
	const void **source; /* scratch: n operands */
};

#define FOR_PEERS(p) for (struct peer *p = d->peer; p < d->end; p++)

bool direct_serves(enum coll coll)
{
	return coll == COLL_ALLREDUCE || coll == COLL_ALLGATHER || coll == COLL_REDUCE_SCATTER ||
	       coll == COLL_BROADCAST || coll == COLL_BARRIER;
}

/* A rank copies what it shows into its buffer, and reads what the others show. */
struct direct_volume direct_volume(enum coll coll, int n, bool two_shot)
{
	int others = n - 1;
	switch (coll) {
	case COLL_ALLREDUCE: /* one-shot: everybody reads everything; two-shot: one more wait, less to fold */
		return two_shot ? (struct direct_volume){2, 2 * others, others, n}
		                : (struct direct_volume){1, others * n, others * n, n};
	case COLL_ALLGATHER:
		return (struct direct_volume){1, others, 0, 1};
	case COLL_REDUCE_SCATTER:
		return (struct direct_volume){1, others, others, others};
	case COLL_BARRIER:
		return (struct direct_volume){1, 0, 0, 0};
	default:
		return (struct direct_volume){1, n, 0, n};
	}
}

/* Of one of the buffers that a rank of n shows: a line of each rank's block at least. */
static size_t buffer_bytes(size_t wanted, int n)
{
	size_t bytes = (wanted + APART - 1) / APART * APART, least = (size_t)(n > 0 ? n : 0) * APART;
	return bytes < least ? least : bytes;
}

/* From here on, a copy costs more than waiting until all others have read. */
static size_t long_bytes(size_t buffer)
{
	return buffer / 2;
}

static void set_ready(struct direct *d)
{
	d->ready = segment_depth(d->own, &d->shape);
	d->plain = d->ready < long_bytes(d->buffer) ? d->ready : long_bytes(d->buffer) - 1;
}

/* Memory for so many bytes of each buffer: twice as much as before at least, since calls of a kind come in all lengths. */
static __attribute__((noinline)) bool make_ready(struct direct *d, size_t bytes)
{
	size_t twice = 2 * d->ready, want = bytes > twice ? bytes : twice;
	want = want < d->buffer ? want : d->buffer;
	int was = cancel_disable(); /* a call that does not wait comes here, too */
	int rc = bytes > d->ready ? segment_deepen(d->seg, d->own, &d->shape, want) : TUTTI_OK;
	if (!rc)
		set_ready(d);
	return cancel_restore(was, rc) == TUTTI_OK;
}

int direct_open(struct direct **out, struct segment *seg, uint64_t id, const int *local, int n, int me, size_t buffer)
{
	struct direct *d = calloc(1, sizeof(*d));
	if (!d)
		return fail(TUTTI_ENOMEM, "out of memory");
	size_t m = n > 0 ? (size_t)n : 0;
	*d = (struct direct){.seg = seg, .key = (id * 0x9e3779b97f4a7c15u) | 1 << 20, .n = n, .me = me, .found = 0};
	d->buffer = buffer_bytes(buffer, n);
	d->area = calloc(m, sizeof(*d->area));
	d->shift = calloc(m, sizeof(*d->shift));
	d->peer = calloc(m, sizeof(*d->peer));
	d->local = calloc(m, sizeof(*d->local));
	d->source = calloc(m, sizeof(*d->source));
	int rc = TUTTI_ENOMEM;
	if (!d->area || !d->shift || !d->peer || !d->local || !d->source) {
		fail(rc, "out of memory");
		goto out;
	}
	memcpy(d->local, local, m * sizeof(*local));
	d->end = d->peer + n - 1;
	d->shape = (struct area_shape){.head = sizeof(struct direct_area), .part = d->buffer, .parts = DIRECT_BUFFERS};
	d->own = segment_area(seg, &d->shape, &(struct area_users){id, local, n});
	if (!d->own)
		goto out;
	set_ready(d);
	d->area[me] = d->own;
	rc = segment_publish(seg, d->key, d->own);
out:
	if (rc)
		direct_close(d);
	else
		*out = d;
	return rc;
}

int direct_ready(struct direct *d)
{
	for (; d->found < d->n; d->found++) {
		int i = d->found, rc = TUTTI_OK;
		void *area = d->own;
		if (i != d->me)
			rc = segment_find(d->seg, d->local[i], d->key, &d->shape, &area);
		if (rc)
			return rc == LINK_PENDING ? rc : fail_while(rc, "rank %d", i);
		d->area[i] = area;
		d->shift[i] = segment_shift(d->seg, d->local[i]);
	}
	for (int k = 1; k < d->n; k++) {
		int i = (d->me + k) % d->n;
		d->peer[k - 1] = (struct peer){.area = d->area[i], .bell = segment_bell(d->seg, d->local[i])};
	}
	return TUTTI_OK;
}

void direct_close(struct direct *d)
{
	if (!d)
		return;
	for (int i = 0; d->area && i < d->n; i++) {
		if (!d->area[i])
			continue;
		if (i == d->me)
			segment_withdraw(d->seg, d->area[i]);
		else
			segment_let_go(d->seg, d->local[i], d->area[i], &d->shape);
	}
	free(d->area);
	free(d->shift);
	free(d->peer);
	free(d->local);
	free(d->source);
	free(d);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------- */

/* A stretch of a block that one epoch moves. */
struct stretch {
	size_t at, len;
};

/* Blocks that stand side by side in a buffer: a reduce-scatter publishes one for each member. */
static size_t blocks_in_buffer(const struct direct_call *call, int n)
{
	return call->coll == COLL_REDUCE_SCATTER ? (size_t)n : 1;
}

static bool is_long(const struct direct *d, const struct direct_run *x)
{
	return x->call->bytes >= long_bytes(d->buffer);
}

static bool publishes(const struct direct *d, const struct direct_run *x)
{
	return x->call->coll != COLL_BROADCAST || x->call->root == d->me;
}

/* Bytes of member i's block; and where it stands in this rank's buffer that holds the blocks of all. */
static size_t block_bytes(const struct direct_call *call, int i)
{
	return call->counts ? call->counts[i] * call->esize : call->bytes;
}

static size_t block_place(const struct direct_call *call, int i)
{
	return call->displs ? call->displs[i] * call->esize : (size_t)i * call->bytes;
}

/* From block to block in a buffer. */
static size_t spacing(const struct direct_call *call)
{
	return call->piece < call->bytes ? call->piece : call->bytes;
}

/* A reduce-scatter's input is lent only with its blocks side by side: others don't know this rank's displacements. */
static void look_at_parts(struct direct_call *call, int n, int me)
{
	bool blocks = call->coll == COLL_REDUCE_SCATTER;
	size_t at = 0;
	call->own_at = 0;
	call->packed = true;
	for (int i = 0; i < n; at += block_bytes(call, i++)) {
		call->packed &= !blocks || !call->counts || block_place(call, i) == at;
		if (blocks && i == me)
			call->own_at = at;
	}
	call->lendable = blocks ? at : block_bytes(call, me);
}

void direct_cut(struct direct_call *call, int n, int me, size_t buffer)
{
	size_t room = buffer_bytes(buffer, n), longs = long_bytes(room), blocks = blocks_in_buffer(call, n);
	size_t most = room / blocks / LINE * LINE;
	most = most < call->esize ? call->esize : most;
	call->npieces = call->bytes ? (call->bytes + most - 1) / most : 1;
	/* equal pieces, whole lines */
	size_t even = (call->bytes + call->npieces - 1) / call->npieces;
	call->piece = (even + LINE - 1) / LINE * LINE;
	call->piece = call->piece > most ? most : call->piece;
	call->inlined = call->bytes * blocks <= SLOT_INLINE && !call->two_shot;
	call->at_once = call->inlined && call->bytes && call->coll == COLL_ALLREDUCE && !call->stepwise;
	call->count = call->bytes / call->esize;
	look_at_parts(call, n, me);
	call->fills = call->inlined ? 0 : blocks * spacing(call);
	if (call->bytes >= longs && call->fills < longs)
		call->fills = longs;
}

static void look_for_loans(const struct direct *d, struct direct_run *x)
{
	if (!is_long(d, x))
		return;
	/* a fold in one shot writes where others may still have to read */
	bool kept = x->call->coll != COLL_ALLREDUCE || x->call->two_shot || x->in != x->out;
	x->lends_in = kept && x->call->packed && publishes(d, x) && segment_reaches(d->seg, x->in, x->call->lendable);
	x->lends_out = x->call->two_shot && segment_reaches(d->seg, x->out, x->call->bytes);
}

/* false: no memory for what the call puts into a buffer; it has not begun. */
static bool start(struct direct *d, struct direct_run *x)
{
	if (x->call->fills > d->plain) {
		look_for_loans(d, x);
		bool copies = (publishes(d, x) && !x->lends_in) || (x->call->two_shot && !x->lends_out);
		if (copies && !make_ready(d, x->call->fills))
			return false;
	}
	x->first = d->epoch + 1;
	d->epoch += x->call->npieces;
	x->started = true;
	return true;
}

/* What piece k moves of member i's block. */
static struct stretch stretch_of(const struct direct_run *x, size_t k, int i)
{
	size_t at = x->call->piece * k, bytes = block_bytes(x->call, i);
	at = at < bytes ? at : bytes;
	return (struct stretch){at, bytes - at < x->call->piece ? bytes - at : x->call->piece};
}

/* The share of member i in a two-shot stretch: whole lines but for the last. */
static struct stretch share_of(const struct direct *d, struct stretch s, int i)
{
	size_t lines = (s.len + LINE - 1) / LINE;
	struct span v = span_share(lines, d->n, i);
	size_t at = v.at * LINE, end = (v.at + v.len) * LINE;
	at = at < s.len ? at : s.len;
	end = end < s.len ? end : s.len;
	return (struct stretch){at, end - at};
}

/* Where member i puts the bytes of epoch e that it does not lend. */
static uint8_t *buffer_of(const struct direct *d, const struct direct_run *x, int i, uint64_t e)
{
	struct direct_area *a = d->area[i];
	size_t b = e % DIRECT_BUFFERS;
	return x->call->inlined ? a->input[b].line.data : a->buffers + b * d->buffer;
}

/* `len` bytes from `at` on of what member i lent with a flag of its, as this rank sees them; NULL: not where it may be read. */
static const uint8_t *lent(const struct direct *d, struct direct_run *x, const struct slot *flag, int i, size_t at,
                           size_t len)
{
	uint64_t theirs = slot_address(flag);
	const uint8_t *p = (const uint8_t *)(uintptr_t)(theirs + (uint64_t)d->shift[i] + at);
	if (!len || segment_reaches(d->seg, p, len))
		return p;
	x->broken = true;
	(void)fail(
	        TUTTI_EPEER,
	        "rank %d lends %zu bytes at an address that is not in the memory shared with it (%#llx): is that process broken?",
	        i, x->call->bytes, (unsigned long long)theirs);
	return NULL;
}

/* Stretch s of the block that this rank wants of member i's input; NULL: it is not where it may be read. */
static inline const uint8_t *input_at(const struct direct *d, struct direct_run *x, int i, uint64_t e, struct stretch s)
{
	const struct slot *flag = &d->area[i]->input[e % DIRECT_BUFFERS].line;
	size_t block = x->call->coll == COLL_REDUCE_SCATTER ? (size_t)d->me : 0;
	if (slot_len(flag) & SLOT_REF)
		return lent(d, x, flag, i, x->call->own_at + s.at, s.len);
	return buffer_of(d, x, i, e) + block * spacing(x->call);
}

/* ---- flags -------------------------------------------------------------------------------------------------------- */

static void wake_all(const struct direct *d)
{
	FOR_PEERS (p)
		if (atomic_load_explicit(p->bell, memory_order_relaxed))
			bell_ring(p->bell);
}

/* Are all others done with epoch e? */
static bool all_done(struct direct *d, uint64_t e)
{
	FOR_PEERS (p) {
		if (p->known < e)
			p->known = atomic_load_explicit(&p->area->done.epoch, memory_order_acquire); /* A4 */
		if (p->known < e)
			return false;
	}
	d->all_known = d->all_known < e ? e : d->all_known;
	return true;
}

/* Has everybody finished with what stood in the buffer of epoch e? */
static inline bool buffer_free(struct direct *d, uint64_t e)
{
	return e <= d->all_known + DIRECT_BUFFERS || all_done(d, e - DIRECT_BUFFERS);
}

/* lend: the bytes that the flag is about, when they are not in the buffer. */
static void raise_flag(struct direct *d, struct direct_run *x, struct slot *flag, uint64_t e, const uint8_t *lend)
{
	flag->sig = x->sig;
	flag->len = lend ? SLOT_REF : 0;
	if (lend)
		*(struct slot_ref *)flag->data = (struct slot_ref){(uint64_t)(uintptr_t)lend, x->call->bytes};
	atomic_store_explicit(&flag->seq, e, memory_order_release); /* R3 */
	wake_all(d);
}

static inline bool input_there(struct direct_run *x, const struct direct_area *area, uint64_t e)
{
	const struct slot *line = &area->input[e % DIRECT_BUFFERS].line;
	if (atomic_load_explicit(&line->seq, memory_order_acquire) != e) /* A3 */
		return false;
	if (line->sig != x->sig) {
		x->foreign = true;
		return false;
	}
	return true;
}

/* Who has published epoch e is done with e - 2. */
static inline bool all_inputs_there(struct direct *d, struct direct_run *x, uint64_t e)
{
	FOR_PEERS (p)
		if (!input_there(x, p->area, e))
			return false;
	if (e > d->all_known + 2)
		d->all_known = e - 2;
	return true;
}

static void finish(struct direct *d, struct direct_run *x, uint64_t e)
{
	atomic_store_explicit(&d->own->done.epoch, e, memory_order_release); /* R4 */
	if (x->call->coll == COLL_BROADCAST || is_long(d, x))
		wake_all(d);
	x->finished++;
}

/* ---- folding ------------------------------------------------------------------------------------------------------ */

#define MOST_SHARED 256 /* sources of a fold that a crew shares */

struct folding {
	const struct direct *d;
	const struct direct_run *x;
	uint8_t *out;
};

static void fold_stepwise(const struct folding *f, size_t from, size_t end)
{
	const struct direct *d = f->d;
	const struct direct_run *x = f->x;
	enum tutti_op step = x->call->op == TUTTI_AVG ? TUTTI_SUM : x->call->op;
	uint8_t part[4096], *to = part; /* out may be one of the sources */
	for (size_t at = from; at < end; at += sizeof(part)) {
		size_t len = end - at < sizeof(part) ? end - at : sizeof(part);
		const uint8_t *left = (const uint8_t *)d->source[0] + at;
		for (int i = 1; i < d->n; i++) {
			enum tutti_op op = i == d->n - 1 ? x->call->op : step;
			x->call->kernels->two[x->call->dtype][op](to, left, (const uint8_t *)d->source[i] + at,
			                                          len / x->call->esize, (uint32_t)d->n);
			left = to;
		}
		memcpy(f->out + at, part, len);
	}
}

static inline void fold_from(const struct direct *d, const struct direct_run *x, uint8_t *out,
                             const void *const *source, size_t bytes)
{
	size_t count = bytes >> __builtin_ctzll(x->call->esize);
	if (d->n == 2)
		x->call->two(out, source[0], source[1], count, 2);
	else
		x->call->many(out, source, d->n, count, (uint32_t)d->n);
}

static void fold_slice(const void *job, size_t from, size_t end)
{
	const struct folding *f = job;
	const void *moved[MOST_SHARED];
	if (f->d->n > 2 && f->x->call->stepwise) {
		fold_stepwise(f, from, end);
		return;
	}
	for (int i = 0; from && i < f->d->n; i++)
		moved[i] = (const uint8_t *)f->d->source[i] + from;
	fold_from(f->d, f->x, f->out + from, from ? moved : f->d->source, end - from);
}

/* out = fold of d->source in rank order. The small floats round once, or at each step as plans do. */
static void fold(const struct direct *d, const struct direct_run *x, uint8_t *out, size_t bytes)
{
	struct folding job = {d, x, out};
	crew_do(d->n <= MOST_SHARED ? x->call->crew : NULL, bytes, fold_slice, &job);
}

/* ---- one-shot ----------------------------------------------------------------------------------------------------- */

static void fill_blocks(struct direct *d, struct direct_run *x, uint8_t *to)
{
	for (int i = 0; i < d->n; i++) {
		struct stretch s = stretch_of(x, x->published, i);
		if (i != d->me && s.len)
			crew_copy(x->call->crew, to + (size_t)i * spacing(x->call),
			          x->in + block_place(x->call, i) + s.at, s.len);
	}
}

static bool publish(struct direct *d, struct direct_run *x)
{
	uint64_t e = x->first + x->published;
	if (!buffer_free(d, e))
		return false;
	struct stretch s = stretch_of(x, x->published, d->me);
	uint8_t *to = buffer_of(d, x, d->me, e);
	if (x->lends_in) {
		/* it is there already */
	} else if (x->call->coll == COLL_REDUCE_SCATTER) {
		fill_blocks(d, x, to);
	} else if (x->call->two_shot) {
		struct stretch own = share_of(d, s, d->me); /* read by nobody else: it will hold the result */
		crew_copy(x->call->crew, to, x->in + s.at, own.at);
		crew_copy(x->call->crew, to + own.at + own.len, x->in + s.at + own.at + own.len,
		          s.len - own.at - own.len);
	} else if (s.len) {
		crew_copy(x->call->crew, to, x->in + s.at, s.len);
	}
	raise_flag(d, x, &d->own->input[e % DIRECT_BUFFERS].line, e, x->lends_in ? x->in : NULL);
	x->published++;
	return true;
}

/* What follows does one piece's share of the work: STUCK, MOVED, or FAILED where a member is broken. */

static enum advance collect_fold(struct direct *d, struct direct_run *x, uint64_t e)
{
	if (!all_inputs_there(d, x, e))
		return ADVANCE_STUCK;
	struct stretch s = stretch_of(x, x->finished, d->me);
	if (!s.len)
		return ADVANCE_MOVED;
	for (int i = 0; i < d->n; i++)
		if (i != d->me && !(d->source[i] = input_at(d, x, i, e, s)))
			return ADVANCE_FAILED;
	d->source[d->me] = x->in + (x->call->coll == COLL_REDUCE_SCATTER ? block_place(x->call, d->me) : 0) + s.at;
	fold(d, x, x->out + s.at, s.len);
	return ADVANCE_MOVED;
}

static enum advance collect_gather(struct direct *d, struct direct_run *x, uint64_t e)
{
	if (!all_inputs_there(d, x, e))
		return ADVANCE_STUCK;
	for (int k = 0; k < d->n; k++) {
		int i = (d->me + k) % d->n;
		struct stretch s = stretch_of(x, x->finished, i);
		const uint8_t *from = i == d->me ? x->in + s.at : input_at(d, x, i, e, s);
		uint8_t *to = x->out + block_place(x->call, i) + s.at;
		if (!from && s.len)
			return ADVANCE_FAILED;
		if (s.len && to != from)
			crew_copy(x->call->crew, to, from, s.len);
	}
	return ADVANCE_MOVED;
}

static enum advance collect_broadcast(struct direct *d, struct direct_run *x, uint64_t e)
{
	struct stretch s = stretch_of(x, x->finished, d->me);
	if (d->me == x->call->root) {
		if (s.len && x->out != x->in)
			crew_copy(x->call->crew, x->out + s.at, x->in + s.at, s.len);
		return ADVANCE_MOVED;
	}
	if (!input_there(x, d->area[x->call->root], e))
		return ADVANCE_STUCK;
	const uint8_t *from = input_at(d, x, x->call->root, e, s);
	if (!from)
		return ADVANCE_FAILED;
	crew_copy(x->call->crew, x->out + s.at, from, s.len);
	return ADVANCE_MOVED;
}

static enum advance collect(struct direct *d, struct direct_run *x)
{
	uint64_t e = x->first + x->finished;
	enum advance a;
	switch (x->call->coll) {
	case COLL_ALLGATHER:
		a = collect_gather(d, x, e);
		break;
	case COLL_BROADCAST:
		a = collect_broadcast(d, x, e);
		break;
	case COLL_BARRIER:
		a = all_inputs_there(d, x, e) ? ADVANCE_MOVED : ADVANCE_STUCK;
		break;
	default:
		a = collect_fold(d, x, e);
	}
	if (a == ADVANCE_MOVED)
		finish(d, x, e);
	return a;
}

/* ---- two-shot ------------------------------------------------------------------------------------------------------ */

static enum advance fold_share(struct direct *d, struct direct_run *x)
{
	uint64_t e = x->first + x->folded;
	if (!all_inputs_there(d, x, e))
		return ADVANCE_STUCK;
	struct stretch s = stretch_of(x, x->folded, d->me), own = share_of(d, s, d->me);
	for (int i = 0; i < d->n; i++) {
		const uint8_t *in = i == d->me ? x->in + s.at : input_at(d, x, i, e, s);
		if (!in)
			return ADVANCE_FAILED;
		d->source[i] = in + own.at;
	}
	uint8_t *out = x->out + s.at + own.at, *to = x->lends_out ? out : buffer_of(d, x, d->me, e) + own.at;
	if (own.len) {
		fold(d, x, to, own.len);
		if (to != out)
			crew_copy(x->call->crew, out, to, own.len);
	}
	raise_flag(d, x, &d->own->share[e % DIRECT_BUFFERS].line, e, x->lends_out ? x->out : NULL);
	x->folded++;
	return ADVANCE_MOVED;
}

/* Share v, of a stretch at `at`, that member i has folded; NULL: it is not where it may be read. */
static const uint8_t *share_at(const struct direct *d, struct direct_run *x, int i, uint64_t e, size_t at,
                               struct stretch v)
{
	const struct slot *flag = &d->area[i]->share[e % DIRECT_BUFFERS].line;
	if (slot_len(flag) & SLOT_REF)
		return lent(d, x, flag, i, at + v.at, v.len);
	return buffer_of(d, x, i, e) + v.at;
}

static enum advance collect_shares(struct direct *d, struct direct_run *x)
{
	uint64_t e = x->first + x->finished;
	size_t b = e % DIRECT_BUFFERS;
	FOR_PEERS (p)
		if (atomic_load_explicit(&p->area->share[b].line.seq, memory_order_acquire) != e) /* A3 */
			return ADVANCE_STUCK;
	struct stretch s = stretch_of(x, x->finished, d->me);
	for (int k = 1; k < d->n; k++) {
		int i = (d->me + k) % d->n;
		struct stretch v = share_of(d, s, i);
		const uint8_t *from = share_at(d, x, i, e, s.at, v);
		if (!from)
			return ADVANCE_FAILED;
		crew_copy(x->call->crew, x->out + s.at + v.at, from, v.len);
	}
	finish(d, x, e);
	return ADVANCE_MOVED;
}

/* ---- lending ------------------------------------------------------------------------------------------------------- */

static bool revoked(const struct direct *d)
{
	FOR_PEERS (p)
		if (atomic_load_explicit(&p->area->lease.epoch, memory_order_seq_cst) & LEASE_REVOKED) /* A18 */
			return true;
	return false;
}

/* A step that may read what others lent. What was read while one of them took it back is worth nothing: no end is seen. */
static enum advance borrow(struct direct *d, struct direct_run *x,
                           enum advance (*step)(struct direct *, struct direct_run *))
{
	_Atomic uint64_t *lease = &d->own->lease.epoch;
	if (!is_long(d, x))
		return step(d, x);
	(void)atomic_fetch_or_explicit(lease, LEASE_READING, memory_order_seq_cst); /* R18 */
	enum advance a = revoked(d) ? ADVANCE_STUCK : step(d, x);
	x->spoilt |= revoked(d);
	(void)atomic_fetch_and_explicit(lease, ~(uint64_t)LEASE_READING, memory_order_seq_cst); /* R18 */
	return x->spoilt ? ADVANCE_STUCK : a;
}

/* Have all others read all that this rank lent? */
static bool returned(struct direct *d, const struct direct_run *x)
{
	return !(x->lends_in || x->lends_out) || all_done(d, x->first + x->call->npieces - 1);
}

void direct_end(struct direct *d, struct direct_run *x)
{
	if (!x->started || !(x->lends_in || x->lends_out) || (x->finished == x->call->npieces && returned(d, x)))
		return;
	(void)atomic_fetch_or_explicit(&d->own->lease.epoch, LEASE_REVOKED, memory_order_seq_cst); /* R18 */
	/* threads: the reader is there, and done in a moment; a process that reads finds out afterwards */
	if (!segment_of_threads(d->seg))
		return;
	FOR_PEERS (p)
		while (atomic_load_explicit(&p->area->lease.epoch, memory_order_seq_cst) & LEASE_READING) /* A18 */
			sched_yield();
}

/* ---- a call -------------------------------------------------------------------------------------------------------- */

/* At most a flag's line. A function call would take longer than the copy. */
static inline void copy_inlined(uint8_t *to, const uint8_t *from, size_t bytes)
{
	for (; bytes >= 8; bytes -= 8, to += 8, from += 8)
		memcpy(to, from, 8);
	if (bytes & 4) {
		memcpy(to, from, 4);
		to += 4, from += 4;
	}
	if (bytes & 2) {
		memcpy(to, from, 2);
		to += 2, from += 2;
	}
	if (bytes & 1)
		*to = *from;
}

/* The fold of what stands in the lines of all. */
static inline void fold_inlined(struct direct *d, const struct direct_run *x, size_t b)
{
	const struct direct_call *call = x->call;
	struct direct_area **area = d->area;
	if (d->n == 2) {
		call->two(x->out, area[0]->input[b].line.data, area[1]->input[b].line.data, call->count, 2);
		return;
	}
	for (int i = 0; i < d->n; i++)
		d->source[i] = area[i]->input[b].line.data;
	call->many(x->out, d->source, d->n, call->count, (uint32_t)d->n);
}

/*
 * An allreduce of what fits into a flag's line, a decoder's smallest calls: the general way, less all that is about pieces,
 * buffers and lending. At this size instructions count: docs/performance.md.
 */
static enum advance advance_inlined(struct direct *d, struct direct_run *x)
{
	uint64_t e = x->first;
	size_t b = e % DIRECT_BUFFERS;
	bool moved = !x->published;
	if (!x->published) {
		struct slot *own = &d->own->input[b].line;
		if (!buffer_free(d, e))
			return ADVANCE_STUCK;
		copy_inlined(own->data, x->in, x->call->bytes);
		raise_flag(d, x, own, e, NULL);
		x->published = 1;
	}
	if (!all_inputs_there(d, x, e))
		return moved ? ADVANCE_MOVED : ADVANCE_STUCK;
	fold_inlined(d, x, b);
	atomic_store_explicit(&d->own->done.epoch, e, memory_order_release); /* R4 */
	x->finished = 1;
	return ADVANCE_DONE;
}

/* Most calls: one piece, one wait. */
static enum advance advance_short(struct direct *d, struct direct_run *x)
{
	bool moved = false;
	if (!x->published && publishes(d, x) && !(moved = publish(d, x)))
		return ADVANCE_STUCK;
	if (x->finished == 0) {
		enum advance a = borrow(d, x, collect);
		if (a != ADVANCE_MOVED)
			return a == ADVANCE_STUCK && moved ? ADVANCE_MOVED : a;
	}
	return returned(d, x) ? ADVANCE_DONE : ADVANCE_STUCK;
}

/* What can be done with what others have published. */
static enum advance collect_more(struct direct *d, struct direct_run *x)
{
	enum advance a = ADVANCE_STUCK, b = ADVANCE_STUCK;
	if (!x->call->two_shot)
		return x->finished < x->published ? borrow(d, x, collect) : ADVANCE_STUCK;
	if (x->folded < x->published)
		a = borrow(d, x, fold_share);
	if (a != ADVANCE_FAILED && x->finished < x->folded)
		b = borrow(d, x, collect_shares);
	return a > b ? a : b;
}

static enum advance advance_long(struct direct *d, struct direct_run *x)
{
	bool moved = false, again;
	if (!publishes(d, x))
		x->published = x->call->npieces;
	do {
		again = false;
		/* one piece ahead: the peers find it while this rank still works on the one before */
		if (x->published < x->call->npieces && x->published <= x->finished + 1 && publishes(d, x))
			again |= publish(d, x);
		enum advance a = collect_more(d, x);
		if (a == ADVANCE_FAILED)
			return a;
		again |= a == ADVANCE_MOVED;
		moved |= again;
	} while (again && x->finished < x->call->npieces);
	return x->finished == x->call->npieces && returned(d, x) ? ADVANCE_DONE : moved ? ADVANCE_MOVED : ADVANCE_STUCK;
}

/* Apart from the short way, whose frame and registers shall be few. */
static __attribute__((noinline)) enum advance advance_at_length(struct direct *d, struct direct_run *x)
{
	return x->call->npieces == 1 && !x->call->two_shot ? advance_short(d, x) : advance_long(d, x);
}

enum advance direct_advance(struct direct *d, struct direct_run *x)
{
	if (!x->started && !start(d, x))
		return ADVANCE_FAILED;
	if (x->call->at_once)
		return x->finished ? ADVANCE_DONE : advance_inlined(d, x);
	return advance_at_length(d, x);
}
