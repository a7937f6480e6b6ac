/* SPDX-License-Identifier: MIT */
/* The interpreter of plans. See engine.h, plan.h; the memory order of slots is link.h's. */
#include "engine.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "../kernel/wire.h"
#include "../os/os.h"
#include "../util/error.h"
#include "crew.h"
#include "tutti.h"

size_t engine_chunk(size_t payload, int max_set, size_t esize)
{
	size_t n = payload / ((size_t)(max_set ? max_set : 1) * esize);
	size_t line = LINE / esize;
	return n > line ? n / line * line : n;
}

int engine_cut(const struct plan *p, size_t payload, size_t esize, size_t len, size_t *chunk, size_t *nchunks)
{
	size_t most = engine_chunk(payload, p->max_set, esize);
	if (!most)
		return fail(TUTTI_EUNSUPPORTED,
		            "TUTTI_SLOT=%zu is too small for %s on %d ranks: %d elements of %zu bytes must fit",
		            payload, p->algo, p->nranks, p->max_set, esize);
	*chunk = most;
	*nchunks = len ? (len + most - 1) / most : 1;   /* what carries nothing is told as well */
	if (*nchunks > 1 && p->coll != COLL_ALLTOALL) { /* equal chunks, whole lines; all ranks compute the same */
		size_t line = LINE / esize, even = (len + *nchunks - 1) / *nchunks;
		even = (even + line - 1) / line * line;
		*chunk = even < most ? even : most;
	}
	return TUTTI_OK;
}

/* One block's chunk in a local buffer. */
struct piece {
	size_t at, bytes; /* bytes */
};

static const struct layout_side *side(const struct run *x, enum plan_buf buf)
{
	return buf == BUF_IN ? &x->layout.in : &x->layout.out;
}

/* TMP has no layout: its blocks have the length that the caller's buffers give them. */
static const struct layout_side *lengths(const struct run *x, enum plan_buf buf)
{
	if (buf != BUF_TMP)
		return side(x, buf);
	const struct layout_side *in = &x->layout.in, *out = &x->layout.out;
	if (in->kind == LAYOUT_NONE || (in->kind == LAYOUT_OWN && out->kind != LAYOUT_NONE))
		return out;
	return in;
}

static struct piece piece_of(const struct run *x, enum plan_buf buf, int strand, size_t chunk, int block)
{
	struct span b = layout_span(&x->layout, lengths(x, buf), block);
	size_t len = chunk_len(b.len, x->chunk, chunk);
	size_t at = buf == BUF_TMP ? ((size_t)strand * (size_t)x->layout.nblocks + (size_t)block) * x->chunk
	                           : b.at + chunk * x->chunk;
	return (struct piece){at * x->esize, len * x->esize};
}

static uint8_t *base_of(const struct run *x, enum plan_buf buf)
{
	return buf == BUF_IN ? (uint8_t *)(uintptr_t)x->in : buf == BUF_OUT ? x->out : x->tmp;
}

/* What a step works on for the current chunk. */
struct work {
	const struct step *s;
	int strand;
	size_t chunk, bytes;
	bool coded_in, coded_out; /* by the run's codec */
	size_t in_bytes, out_bytes;
	struct slot *from, *to;
	bool refers;            /* what came in is where the sender has it */
	const uint8_t *operand; /* payload that came in */
};

static size_t set_bytes(const struct run *x, const struct step *s, int strand, size_t chunk, bool coded)
{
	enum plan_buf buf = s->src != BUF_NONE ? s->src : s->dst;
	struct block_set set = s->src != BUF_NONE ? s->src_set : s->dst_set;
	size_t sum = 0;
	for (int i = 0; buf != BUF_NONE && i < set.n; i++) {
		size_t bytes = piece_of(x, buf, strand, chunk, block_at(x->plan, set, i)).bytes;
		sum += coded ? x->codec->bytes(bytes / x->esize) : bytes;
	}
	return sum;
}

/* ---- by reference ------------------------------------------------------------------------------------------------- */

/* Whose buffer is not there? What can be read elsewhere can't be stored here. */
static int bad_address(int64_t pid, const uint8_t *to, uint64_t from)
{
	uint8_t byte;
	if (os_read_process((pid_t)pid, from, &byte, 1) == 1)
		return fail(TUTTI_ESYSTEM, "this rank's buffer can't be written at %p: %s", (const void *)to,
		            strerror(EFAULT));
	return fail(TUTTI_ESYSTEM,
	            "the buffer of the sender, process %lld, can't be read at 0x%llx: was it unmapped during the call?",
	            (long long)pid, (unsigned long long)from);
}

/* EUNSUPPORTED: this process may not read the other one, whatever the address: since it changed its user, or was forbidden to. */
static int read_process(int64_t pid, uint8_t *to, uint64_t from, size_t bytes)
{
	while (bytes) {
		ssize_t n = os_read_process((pid_t)pid, from, to, bytes);
		if (n < 0 && errno == ESRCH)
			return fail(TUTTI_EPEER, "process %lld is gone", (long long)pid);
		if (n < 0 && errno == EFAULT)
			return bad_address(pid, to, from);
		if (n <= 0)
			return fail(TUTTI_EUNSUPPORTED, "process %lld can't be read", (long long)pid);
		to += n;
		from += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return TUTTI_OK;
}

struct reading {
	int64_t pid;
	uint8_t *to;
	uint64_t from;
	_Atomic bool *failed;
};

static void read_slice(const void *job, size_t from, size_t end)
{
	const struct reading *r = job;
	if (read_process(r->pid, r->to + from, r->from + from, end - from) != TUTTI_OK)
		atomic_store_explicit(r->failed, true, memory_order_relaxed);
}

/* A slice that failed is tried once more, so that the error text is this thread's. */
static int read_peer(struct crew *crew, int64_t pid, uint8_t *to, uint64_t from, size_t bytes)
{
	_Atomic bool failed = false;
	struct reading job = {pid, to, from, &failed};
	crew_do(crew, bytes, read_slice, &job);
	return atomic_load_explicit(&failed, memory_order_relaxed) ? read_process(pid, to, from, bytes) : TUTTI_OK;
}

static bool in_window(const struct link *l, const uint8_t *p, size_t bytes)
{
	return p >= l->window && (size_t)(p - l->window) < l->window_bytes &&
	       bytes <= l->window_bytes - (size_t)(p - l->window);
}

/* May `bytes` at p go by reference to this link's peer? */
static bool refers(const struct link *l, const uint8_t *p, size_t bytes)
{
	return bytes >= l->refer_any || (bytes >= l->refer_window && in_window(l, p, bytes));
}

/* Sender: what the peer has not taken goes into its slots after all. Of what was lent it goes by its own notes. */
static int copy_lent(struct link *l)
{
	uint64_t pos = atomic_load_explicit(l->credit, memory_order_acquire); /* A2 */
	for (pos = pos > l->seen ? pos : l->seen; pos < l->pos; pos++) { /* what it once gave back it has no more */
		const struct link_loan *loan = &l->loans[pos & l->mask];
		if (loan->pos != pos + 1 || in_window(l, loan->at, loan->bytes))
			continue;
		int rc = link_holds(l, loan->bytes) ? TUTTI_OK : link_commit(l, loan->bytes);
		if (rc)
			return rc;
		memcpy(slot_payload(link_slot_at(l, pos), loan->bytes), loan->at, loan->bytes);
	}
	return TUTTI_OK;
}

/* A peer that read this process may have lost the right to: all that is lent, and all that comes, is copied then. */
static int heed_refusals(struct run *x)
{
	for (int i = 0; i < x->plan->nlinks; i++) {
		struct link *l = x->links[i];
		if (!l->outgoing || !l->ready || !l->loans || l->refer_any == REFER_NEVER || !link_refused(l))
			continue;
		int rc = copy_lent(l);
		if (rc)
			return rc;
		l->refer_any = REFER_NEVER;
		link_copied_all(l);
	}
	return TUTTI_OK;
}

/* Where the bytes at `addr` of the peer's can be read; NULL: not in memory that is shared. */
static const uint8_t *shared_place(const struct link *l, uint64_t addr, size_t bytes)
{
	const uint8_t *p = (const uint8_t *)(uintptr_t)(addr + (uint64_t)l->window_shift);
	return l->reach == REACH_ALL || in_window(l, p, bytes) ? p : NULL;
}

/* ---- one step ----------------------------------------------------------------------------------------------------- */

/* Has the step nothing to do with this chunk? Both sides of a link come to the same answer, if they agree about the call. */
static bool is_skipped(const struct run *x, const struct step *s, size_t chunk, size_t bytes)
{
	bool meets = x->meets && chunk == 0 && (s->recv >= 0 || s->send >= 0);
	return !bytes && !meets && !(s->flags & STEP_TOKEN);
}

static uint32_t signature_of(const struct run *x, const struct step *s)
{
	if (!x->pairs)
		return x->sig;
	enum plan_buf buf = s->recv >= 0 ? s->dst : s->src;
	struct block_set set = s->recv >= 0 ? s->dst_set : s->src_set;
	return pair_signature(x->sig, layout_span(&x->layout, lengths(x, buf), block_at(x->plan, set, 0)).len);
}

struct reduction {
	const struct run *x;
	kernel2_fn *fn;
	uint8_t *to;
	const uint8_t *left, *right;
};

static void reduce_slice(const void *job, size_t from, size_t end)
{
	const struct reduction *r = job;
	r->fn(r->to + from, r->left + from, r->right + from, (end - from) >> __builtin_ctzll(r->x->esize),
	      r->x->divisor);
}

static void combine(const struct run *x, const struct step *s, uint8_t *to, const uint8_t *operand, const uint8_t *src,
                    size_t bytes)
{
	if (!(s->flags & STEP_REDUCE)) {
		const uint8_t *what = operand ? operand : src;
		if (to != what)
			crew_copy(x->crew, to, what, bytes);
		return;
	}
	bool swap = s->flags & STEP_LOCAL_FIRST;
	struct reduction job = {x, s->flags & STEP_FINAL ? x->final : x->reduce, to, swap ? src : operand,
	                        swap ? operand : src};
	crew_do(x->crew, bytes, reduce_slice, &job);
}

/* Where a piece of a step's set is in the local buffers; NULL: nowhere. */
struct places {
	const uint8_t *src, *acc;
	uint8_t *dst;
	size_t bytes;
};

static inline struct places places_of(const struct run *x, const struct work *w, int i)
{
	const struct step *s = w->s;
	struct places at = {0};
	if (s->src != BUF_NONE) {
		struct piece p = piece_of(x, s->src, w->strand, w->chunk, block_at(x->plan, s->src_set, i));
		at.src = base_of(x, s->src) + p.at;
		at.bytes = p.bytes;
	}
	if (s->dst != BUF_NONE) {
		struct piece p = piece_of(x, s->dst, w->strand, w->chunk, block_at(x->plan, s->dst_set, i));
		at.dst = base_of(x, s->dst) + p.at;
		at.bytes = p.bytes;
	}
	if (s->acc != BUF_NONE && !w->from)
		at.acc = base_of(x, s->acc) +
		         piece_of(x, s->acc, w->strand, w->chunk, block_at(x->plan, s->dst_set, i)).at;
	return at;
}

static int pieces_in(const struct step *s)
{
	return s->src != BUF_NONE ? s->src_set.n : s->dst_set.n;
}

/* Piece by piece: operand (+) src -> dst and -> the outgoing slot. */
static void perform(const struct run *x, const struct work *w)
{
	uint8_t *sending = w->to ? slot_payload(w->to, w->bytes) : NULL;
	const uint8_t *operand = w->operand;
	for (int i = 0; i < pieces_in(w->s); i++) {
		struct places at = places_of(x, w, i);
		if (!at.bytes)
			continue;
		combine(x, w->s, at.dst ? at.dst : sending, at.acc ? at.acc : operand, at.src, at.bytes);
		if (at.dst && sending)
			crew_copy(x->crew, sending, at.dst, at.bytes);
		if (sending)
			sending += at.bytes;
		if (operand)
			operand += at.bytes;
	}
}

/*
 * The same where elements come in, or go out, in the codec's form, or where the result is rounded to what that form can
 * say. Each piece has a code of its own, so that every rank that forwards it, in any set, encodes it alike.
 */
static void perform_coded(const struct run *x, const struct work *w)
{
	const struct wire_codec *codec = x->codec;
	bool rounds = x->rounds && w->s->flags & STEP_FINAL;
	uint8_t *sending = w->to ? slot_payload(w->to, w->out_bytes) : NULL;
	const uint8_t *operand = w->operand;
	for (int i = 0; i < pieces_in(w->s); i++) {
		struct places at = places_of(x, w, i);
		size_t count = at.bytes / x->esize, coded = codec->bytes(count);
		const uint8_t *left = at.acc ? at.acc : operand;
		uint8_t *to = at.dst ? at.dst : x->plain, *code = w->coded_out ? sending : x->code;
		if (!count)
			continue;
		if (w->coded_in) {
			codec->decode(x->plain, operand, count);
			left = x->plain;
		}
		combine(x, w->s, to, left, at.src, at.bytes);
		if (w->coded_out || rounds)
			codec->encode(code, to, count);
		if (rounds)
			codec->decode(to, code, count);
		if (sending && !w->coded_out)
			memcpy(sending, to, at.bytes);
		if (sending)
			sending += w->coded_out ? coded : at.bytes;
		if (operand)
			operand += w->coded_in ? coded : at.bytes;
	}
}

static void lend(struct run *x, struct link *l, struct slot *s, const uint8_t *at, size_t bytes)
{
	*(struct slot_ref *)s->data = (struct slot_ref){(uint64_t)(uintptr_t)at, bytes};
	if (l->loans)
		l->loans[l->pos & l->mask] = (struct link_loan){l->pos + 1, at, bytes};
	x->leased = true;
}

/* A pure send of one stretch of the caller's memory may go by reference. */
static bool send_by_reference(struct run *x, const struct work *w, struct link *l)
{
	const struct step *s = w->s;
	if (w->coded_out || w->from || s->acc != BUF_NONE || s->dst != BUF_NONE || s->src == BUF_TMP ||
	    s->src_set.n != 1 || !x->plan->by_reference)
		return false;
	struct piece p = piece_of(x, s->src, w->strand, w->chunk, block_at(x->plan, s->src_set, 0));
	const uint8_t *at = base_of(x, s->src) + p.at;
	if (!refers(l, at, p.bytes))
		return false;
	lend(x, l, w->to, at, p.bytes);
	return true;
}

/* ---- links are taken in turn ------------------------------------------------------------------------------------- */

size_t engine_bytes(const struct plan *p)
{
	return sizeof(struct run) + (size_t)p->nstrands * sizeof(struct strand_run) +
	       (size_t)p->nlinks * sizeof(struct link_use);
}

void engine_begin(struct run *x)
{
	const struct plan *p = x->plan;
	memset(x->strand, 0, (size_t)p->nstrands * sizeof(x->strand[0]));
	x->use = (struct link_use *)(x->strand + p->nstrands);
	x->left = p->nstrands;
	for (int i = 0; i < p->nlinks; i++)
		x->use[i] = (struct link_use){.ticket = x->links[i]->tickets++};
}

static inline bool my_turn(const struct run *x, int i)
{
	return i < 0 || x->links[i]->serving == x->use[i].ticket;
}

/* Step `at` of the last chunk is done. */
static void pass_on(struct run *x, int i, int32_t at)
{
	if (i < 0 || x->plan->links[i].last != at)
		return;
	x->use[i].end = x->links[i]->pos;
	x->links[i]->serving++;
}

/* ---- places of what is to come ------------------------------------------------------------------------------------ */

/* Does the step but put what comes into one stretch of the caller's memory, and perhaps send it on? */
static bool only_receives(const struct step *s)
{
	return s->src == BUF_NONE && s->dst == BUF_OUT && s->dst_set.n == 1;
}

/*
 * What was received into the caller's memory goes on to a network from there: not through the slot. It stays as it is, where
 * no place is written twice.
 */
static bool pass_by_reference(struct run *x, const struct work *w, struct link *l)
{
	if (!x->plan->written_once || !w->from || l->lease || !only_receives(w->s) || w->bytes < l->refer_any)
		return false;
	struct work receive = *w;
	receive.to = NULL;
	perform(x, &receive);
	lend(x, l, w->to, places_of(x, w, 0).dst, w->bytes);
	return true;
}

/* A step's slot is still to come: tells its link where it is to go. false: that is too early. */
static bool tell(struct run *x, int strand, size_t chunk, const struct step *s)
{
	struct link *l = s->recv >= 0 ? x->links[s->recv] : NULL;
	if (!l || !l->places)
		return true;
	if (!my_turn(x, s->recv)) /* another run's slots come first */
		return false;
	size_t bytes = set_bytes(x, s, strand, chunk, false);
	if (is_skipped(x, s, chunk, bytes))
		return true;
	uint64_t pos = l->told > l->pos ? l->told : l->pos;
	if (pos - l->pos > l->mask)
		return false;
	if (bytes >= PLACE_BYTES && only_receives(s)) {
		struct piece p = piece_of(x, BUF_OUT, strand, chunk, block_at(x->plan, s->dst_set, 0));
		link_place(l, pos, x->out + p.at, (uint32_t)bytes, signature_of(x, s));
		x->told = true;
	}
	l->told = pos + 1;
	return true;
}

/* A strand has to wait: its links learn the places of what it waits for, as far ahead as their rings reach. */
static void tell_ahead(struct run *x, int i)
{
	const struct strand *t = &x->plan->strands[i];
	struct strand_run *r = &x->strand[i];
	if (r->told_chunk < r->chunk || (r->told_chunk == r->chunk && r->told_step < r->step)) {
		r->told_chunk = r->chunk;
		r->told_step = r->step;
	}
	while (r->told_chunk < x->nchunks) {
		if (!tell(x, i, r->told_chunk, &x->plan->steps[t->first + r->told_step]))
			return;
		if (++r->told_step == t->nsteps) {
			r->told_step = 0;
			r->told_chunk++;
		}
	}
}

/* Incoming bytes that only a system call can read: straight to their place if that is all, else through the bounce. */
static int read_incoming(const struct run *x, struct work *w, const struct link *l, uint64_t addr)
{
	const struct step *s = w->s;
	if (l->reach != REACH_PROCESS)
		return link_refused(l)
		               ? TUTTI_EUNSUPPORTED
		               : fail(TUTTI_EPEER,
		                      "it refers to %zu bytes at an address that is not in memory shared with it (%#llx): is that process broken?",
		                      w->in_bytes, (unsigned long long)addr);
	if (s->src == BUF_NONE && !w->to && s->dst_set.n == 1) {
		struct piece p = piece_of(x, s->dst, w->strand, w->chunk, block_at(x->plan, s->dst_set, 0));
		w->operand = base_of(x, s->dst) + p.at; /* combine sees that it is there already */
		return read_peer(x->crew, l->peer_pid, base_of(x, s->dst) + p.at, addr, p.bytes);
	}
	w->operand = x->bounce;
	return read_peer(x->crew, l->peer_pid, x->bounce, addr, w->bytes);
}

/* Find or fetch the data that came in. Data that is no longer lent is in the slot. */
static int find_incoming(struct run *x, struct work *w, const struct link *l)
{
	uint64_t addr = w->refers ? slot_address(w->from) : 0;
	w->operand = w->refers ? shared_place(l, addr, w->in_bytes) : NULL;
	if (w->operand)
		return TUTTI_OK;
	if (w->refers && !link_copied(l))
		return read_incoming(x, w, l, addr);
	w->operand = slot_payload(w->from, w->in_bytes);
	return TUTTI_OK;
}

static enum advance failed_on(struct run *x, struct link *l, int status)
{
	x->status = status;
	x->failed_on = l;
	return ADVANCE_FAILED;
}

static enum advance revoked(struct run *x, struct link *l)
{
	return failed_on(x, l, fail(TUTTI_EABORTED, "it ended its call before its memory had been read"));
}

static void look_for_codes(const struct run *x, struct work *w, const struct link *in, const struct link *out)
{
	size_t coded = set_bytes(x, w->s, w->strand, w->chunk, true);
	w->coded_in = in && in->far;
	w->coded_out = out && out->far;
	w->in_bytes = w->coded_in ? coded : w->bytes;
	w->out_bytes = w->coded_out ? coded : w->bytes;
}

static enum advance no_room(struct run *x, struct link *in, bool leased, int status)
{
	if (leased)
		(void)link_lease_end(in);
	return failed_on(x, NULL, status);
}

/* The sender's process can't be read: the bytes will come in the slot. Other reasons end the call. */
static enum advance not_read(struct run *x, struct link *in, bool leased, int status)
{
	bool copies = status == TUTTI_EUNSUPPORTED;
	if (copies && in->reach == REACH_PROCESS) {
		in->reach = REACH_WINDOW;
		link_refuse(in);
	}
	if (leased && !link_lease_end(in))
		return revoked(x, in);
	return copies ? ADVANCE_STUCK : failed_on(x, in, status);
}

static enum advance step_try(struct run *x, int strand, size_t chunk, const struct step *s)
{
	if (!my_turn(x, s->recv) || !my_turn(x, s->send))
		return ADVANCE_STUCK;
	struct work w = {.s = s, .strand = strand, .chunk = chunk, .bytes = set_bytes(x, s, strand, chunk, false)};
	if (is_skipped(x, s, chunk, w.bytes))
		return ADVANCE_MOVED;
	uint32_t sig = signature_of(x, s);
	w.in_bytes = w.out_bytes = w.bytes;
	struct link *in = s->recv >= 0 ? x->links[s->recv] : NULL, *out = s->send >= 0 ? x->links[s->send] : NULL;
	if (x->codec)
		look_for_codes(x, &w, in, out);
	if (in && !(w.from = link_recv_begin(in))) {
		x->strand[strand].awaits = in;
		return ADVANCE_STUCK;
	}
	uint32_t came = w.from ? slot_len(w.from) : 0;
	if (w.from && (w.from->sig != sig || (came & ~SLOT_REF) != w.in_bytes)) {
		x->foreign = in;
		return ADVANCE_STUCK;
	}
	if (out && !(w.to = link_send_begin(out)))
		return ADVANCE_STUCK;
	w.refers = came & SLOT_REF;
	bool leased = w.refers && in->lease;
	int rc = TUTTI_OK;
	if (leased && !link_lease_begin(in))
		return revoked(x, in);
	if (w.from && (rc = find_incoming(x, &w, in)) != TUTTI_OK)
		return not_read(x, in, leased, rc);
	uint32_t len = (uint32_t)w.out_bytes;
	if (w.to && (send_by_reference(x, &w, out) || pass_by_reference(x, &w, out)))
		len |= SLOT_REF;
	else if (w.to && !link_holds(out, len) && (rc = link_commit(out, len)) != TUTTI_OK)
		return no_room(x, in, leased, rc);
	else if (x->codec)
		perform_coded(x, &w);
	else
		perform(x, &w);
	if (leased && !link_lease_end(in))
		return revoked(x, in);
	if (w.from)
		link_recv_end(in);
	if (w.to)
		link_send_end(out, w.to, len, sig);
	return ADVANCE_MOVED;
}

static enum advance strand_advance(struct run *x, int i)
{
	const struct strand *t = &x->plan->strands[i];
	struct strand_run *r = &x->strand[i];
	enum advance got = ADVANCE_STUCK;
	if (r->awaits && !link_recv_begin(r->awaits)) /* most looks of a wait end here */
		return got;
	r->awaits = NULL;
	while (r->chunk < x->nchunks) {
		if (t->after >= 0 && x->strand[t->after].chunk <= r->chunk)
			return got;
		while (r->step < t->nsteps) {
			enum advance a = step_try(x, i, r->chunk, &x->plan->steps[t->first + r->step]);
			if (a == ADVANCE_STUCK && x->places)
				tell_ahead(x, i);
			if (a != ADVANCE_MOVED)
				return a == ADVANCE_FAILED ? a : got;
			if (r->chunk + 1 == x->nchunks) {
				const struct step *s = &x->plan->steps[t->first + r->step];
				pass_on(x, s->recv, t->first + r->step);
				pass_on(x, s->send, t->first + r->step);
			}
			r->step++;
			got = ADVANCE_MOVED;
		}
		r->step = 0;
		r->chunk++;
		got = ADVANCE_MOVED;
	}
	x->left--;
	return ADVANCE_DONE;
}

/* Has the peer, or the network, taken what this run has put into the link so far? */
static bool sent(const struct run *x, int i)
{
	struct link *l = x->links[i];
	return link_taken(l, my_turn(x, i) ? l->pos : x->use[i].end);
}

/* Bytes that were lent out are back, and a network has taken what it was given. */
static bool settled(const struct run *x)
{
	for (int i = 0; i < x->plan->nlinks; i++) {
		struct link *l = x->links[i];
		if (l->outgoing && l->ready && (x->leased || !l->bell) && !sent(x, i))
			return false;
	}
	return true;
}

bool engine_end(struct run *x)
{
	bool writing = x->told && x->left, sending = false;
	if (!x->leased || settled(x))
		return writing;
	for (int i = 0; i < x->plan->nlinks; i++) {
		struct link *l = x->links[i];
		if (!l->outgoing || !l->ready)
			continue;
		if (!l->lease) {
			sending |= !sent(x, i);
			continue;
		}
		(void)atomic_fetch_or_explicit(l->lease, LEASE_REVOKED, memory_order_seq_cst); /* R17 */
		/* threads of one process: the reader is there, and done in a moment; a process that reads finds out afterwards */
		while (l->reach == REACH_ALL &&
		       atomic_load_explicit(l->lease, memory_order_acquire) & LEASE_READING) /* A17 */
			sched_yield();
	}
	return sending || writing;
}

enum advance engine_advance(struct run *x)
{
	enum advance got = ADVANCE_STUCK;
	int n = x->plan->nstrands;
	int rc = x->leased ? heed_refusals(x) : TUTTI_OK;
	if (rc)
		return failed_on(x, NULL, rc);
	for (int k = 0; k < n && x->left; k++) {
		int i = (x->turn + k) % n;
		if (x->strand[i].chunk >= x->nchunks)
			continue;
		enum advance a = strand_advance(x, i);
		if (a == ADVANCE_FAILED)
			return a;
		if (a != ADVANCE_STUCK)
			got = ADVANCE_MOVED;
	}
	x->turn = n ? (x->turn + 1) % n : 0;
	if (x->left == 0 && settled(x))
		return ADVANCE_DONE;
	return got;
}
