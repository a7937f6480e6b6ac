/*
 * Requests: how a checked call becomes a run of a plan or of the direct tier, in which order runs move, and who waits.
 *
 * Collectives of a communicator run one after the other, in issue order; messages to and from each peer likewise, each
 * direction a queue of its own. A blocking call on an idle communicator runs on the caller's stack, without queue or lock.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "comm.h"
#include "util/clock.h"
#include "util/error.h"

#define VERDICT_NS 1000000000u /* for the control plane's account of what this rank sees only the end of */

/* ---- a thread's group ----------------------------------------------------------------------------------------------- */

static _Thread_local struct {
	int depth, n, cap, rc;      /* rc: of the first call that could not start */
	struct tutti_request **req; /* blocking calls of the group: done when it ends */
} group;

/* ---- preparing a call ------------------------------------------------------------------------------------------------ */

static bool is_message(enum coll coll)
{
	return coll == COLL_SEND || coll == COLL_RECV;
}

static bool is_vector(const struct op *op)
{
	return op->counts != NULL;
}

/* Elements of the larger of the two buffers. */
static size_t largest(const struct tutti_comm *c, const struct op *op)
{
	size_t n = (size_t)c->size, sum = 0, back = 0;
	bool owned = op->coll == COLL_ALLGATHER || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_GATHER ||
	             op->coll == COLL_SCATTER || op->coll == COLL_ALLTOALL;
	if (!owned)
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
	bool reduction = op->coll == COLL_ALLREDUCE || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_REDUCE;
	return reduction && is_float && op->op != TUTTI_MIN && op->op != TUTTI_MAX;
}

int comm_choose(struct tutti_comm *c, const struct op *op, struct choice *choice)
{
	size_t esize = dtype_bytes(op->dtype);
	struct query q = {op->coll, largest(c, op) * esize, esize, op->root < 0 ? 0 : op->root, order_matters(op)};
	if (is_vector(op)) { /* uneven parts: the direct tier knows even ones only */
		struct tuner plain = c->tuner;
		plain.direct = false;
		return tuner_choose(&plain, &q, choice);
	}
	return tuner_choose(&c->tuner, &q, choice);
}

static uint64_t hash_counts(const size_t *counts, int n)
{
	uint64_t h = 1469598103934665603u;
	for (int i = 0; i < n; i++)
		h = (h ^ counts[i]) * 1099511628211u;
	return h >> 1;
}

static struct call record_of(const struct tutti_comm *c, const struct op *op, uint64_t number)
{
	bool reduces = op->coll == COLL_ALLREDUCE || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_REDUCE;
	struct call call = {
	        .number = number,
	        .count = op->count,
	        .coll = (uint8_t)op->coll,
	        .dtype = (uint8_t)op->dtype,
	        .op = (uint8_t)(reduces ? op->op : 0),
	        .vector = is_vector(op),
	        .root = is_message(op->coll) ? -1 : op->root,
	};
	if (is_vector(op))
		call.count = op->coll == COLL_ALLTOALL ? 0 : hash_counts(op->counts, c->size);
	return call;
}

static uint32_t signature(const struct call *call)
{
	uint64_t word = call_word(call);
	if (call->coll == COLL_SEND || call->coll == COLL_RECV) /* both ends of a message sign alike */
		word = (uint64_t)COLL_SEND | (uint64_t)call->dtype << 8;
	uint64_t h = (call->number * 0x9e3779b97f4a7c15u) ^ (call->count + 0x7f4a7c15u) * 0xc2b2ae3d27d4eb4fu ^ word;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return (uint32_t)(h >> 32);
}

/* ---- layouts ----------------------------------------------------------------------------------------------------------- */

static struct layout_side whole(const struct op *op)
{
	return (struct layout_side){.kind = LAYOUT_WHOLE, .count = op->count};
}
static struct layout_side ranks(const struct op *op)
{
	return (struct layout_side){
	        .kind = LAYOUT_RANKS, .count = op->count, .counts = op->counts, .displs = op->displs};
}
static struct layout_side own(const struct op *op, int rank)
{
	return (struct layout_side){.kind = LAYOUT_OWN, .own = rank, .count = op->count, .counts = op->counts};
}

static struct layout layout_of(const struct tutti_comm *c, const struct op *op, const struct plan *p)
{
	struct layout l = {.nblocks = p->nblocks, .parts = p->parts};
	bool at_root = op->root == c->rank;
	switch (op->coll) {
	case COLL_ALLREDUCE:
		l.in = l.out = whole(op);
		break;
	case COLL_BROADCAST:
		l.out = whole(op);
		if (at_root)
			l.in = whole(op);
		break;
	case COLL_REDUCE:
		l.in = whole(op);
		if (at_root)
			l.out = whole(op);
		break;
	case COLL_ALLGATHER:
		l.in = own(op, c->rank);
		l.out = ranks(op);
		break;
	case COLL_REDUCE_SCATTER:
		l.in = ranks(op);
		l.out = own(op, c->rank);
		break;
	case COLL_GATHER:
		l.in = own(op, c->rank);
		if (at_root)
			l.out = ranks(op);
		break;
	case COLL_SCATTER:
		l.out = own(op, c->rank);
		if (at_root)
			l.in = ranks(op);
		break;
	case COLL_ALLTOALL:
		l.in = l.out = ranks(op);
		if (op->rcounts) {
			l.out.counts = op->rcounts;
			l.out.displs = op->rdispls;
		}
		break;
	case COLL_SEND:
		l.in = whole(op);
		break;
	case COLL_RECV:
		l.out = whole(op);
		break;
	default:
		break;
	}
	return l;
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

/* ---- making a run --------------------------------------------------------------------------------------------------------- */

static int scratch_for(struct tutti_comm *c, struct run *x, const struct plan *p, size_t payload)
{
	size_t tmp = p->uses_tmp ? (size_t)p->nstrands * (size_t)p->nblocks * x->chunk * x->esize : 0;
	size_t need = payload + tmp;
	if (need > c->scratch_bytes) {
		uint8_t *s = aligned_alloc(4096, (need + 4095) / 4096 * 4096);
		if (!s)
			return fail(TUTTI_ENOMEM, "out of memory: %zu bytes of scratch", need);
		free(c->scratch);
		c->scratch = s;
		c->scratch_bytes = need;
	}
	x->bounce = c->scratch;
	x->tmp = c->scratch + payload;
	return TUTTI_OK;
}

static int make_run(struct tutti_comm *c, struct tutti_request *r)
{
	const struct plan *p = r->plan->plan;
	const struct op *op = &r->op;
	size_t payload = (size_t)c->world->params.slot;
	struct run *x = calloc(1, sizeof(*x) + (size_t)p->nstrands * sizeof(x->strand[0]));
	if (!x)
		return fail(TUTTI_ENOMEM, "out of memory");
	const struct kernel_table *k = kernel_table();
	enum tutti_op step = op->op == TUTTI_AVG ? TUTTI_SUM : op->op;
	*x = (struct run){
	        .plan = p,
	        .links = r->plan->links,
	        .layout = layout_of(c, op, p),
	        .in = op->in,
	        .out = op->out,
	        .esize = dtype_bytes(op->dtype),
	        .divisor = (uint32_t)c->size,
	        .sig = r->sig,
	        .left = p->nstrands,
	        .reduce = k->two[op->dtype][step],
	        .final = k->two[op->dtype][op->op],
	};
	size_t most = engine_chunk(payload, p->max_set, x->esize), len = longest_block(c, &x->layout);
	int rc = most ? TUTTI_OK
	              : fail(TUTTI_EUNSUPPORTED,
	                     "TUTTI_SLOT=%zu is too small for %s on %d ranks: %d elements of %zu bytes must fit",
	                     payload, p->algo, c->size, p->max_set, x->esize);
	x->chunk = most;
	x->nchunks = op->coll == COLL_BARRIER ? 1 : most ? (len + most - 1) / most : 0;
	if (x->nchunks > 1 && op->coll != COLL_ALLTOALL) { /* equal chunks, whole lines; all ranks compute the same */
		size_t line = LINE / x->esize, even = (len + x->nchunks - 1) / x->nchunks;
		even = (even + line - 1) / line * line;
		x->chunk = even < most ? even : most;
	}
	if (!rc && !is_message(op->coll))
		rc = scratch_for(c, x, p, payload);
	if (x->nchunks == 0)
		x->left = 0;
	if (rc)
		free(x);
	else
		r->run = x;
	return rc;
}

static void make_direct(const struct tutti_comm *c, struct tutti_request *r)
{
	const struct op *op = &r->op;
	size_t esize = dtype_bytes(op->dtype);
	r->direct = (struct direct_run){
	        .coll = op->coll,
	        .two_shot = r->choice.two_shot,
	        .stepwise = c->world->params.reproducible,
	        .in = op->in,
	        .out = op->out,
	        .bytes = op->count * esize,
	        .esize = esize,
	        .kernels = kernel_table(),
	        .dtype = op->dtype,
	        .op = op->op,
	        .root = op->root,
	        .sig = r->sig,
	};
}

/* A communicator of one rank: the result is the input. */
static void alone(const struct op *op)
{
	size_t esize = dtype_bytes(op->dtype);
	const uint8_t *in = op->in;
	uint8_t *out = op->out;
	size_t count = is_vector(op) ? op->counts[0] : op->count;
	bool out_parts = op->coll == COLL_ALLGATHER || op->coll == COLL_GATHER || op->coll == COLL_ALLTOALL;
	bool in_parts = op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_SCATTER || op->coll == COLL_ALLTOALL;
	if (in_parts && op->displs)
		in += op->displs[0] * esize;
	if (out_parts && (op->rdispls || op->displs))
		out += (op->rdispls ? op->rdispls[0] : op->displs[0]) * esize;
	bool reduces = op->coll == COLL_ALLREDUCE || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_REDUCE;
	const void *src[1] = {in};
	if (reduces && count)
		kernel_table()->many[op->dtype][op->op](out, src, 1, count, 1);
	else if (count && in != out)
		memmove(out, in, count * esize);
}

/* The v-forms' arrays are the caller's until the call returns: keep copies, and spell out packed places. */
static int copy_vectors(const struct tutti_comm *c, struct tutti_request *r)
{
	struct op *op = &r->op;
	if (!is_vector(op))
		return TUTTI_OK;
	size_t n = (size_t)c->size;
	r->vectors = calloc(4 * n, sizeof(size_t));
	if (!r->vectors)
		return fail(TUTTI_ENOMEM, "out of memory");
	const size_t **counts[] = {&op->counts, &op->rcounts}, **displs[] = {&op->displs, &op->rdispls};
	for (size_t side = 0; side < 2; side++) {
		if (!*counts[side])
			continue;
		size_t *to = r->vectors + 2 * side * n, at = 0;
		for (size_t i = 0; i < n; i++) {
			to[i] = (*counts[side])[i];
			to[n + i] = *displs[side] ? (*displs[side])[i] : at;
			at += to[i];
		}
		*counts[side] = to;
		*displs[side] = to + n;
	}
	return TUTTI_OK;
}

static bool nothing_to_move(const struct op *op)
{
	return op->count == 0 && !is_vector(op) && op->coll != COLL_BARRIER && !is_message(op->coll);
}

/* Field by field: clearing all of it would cost a small call a tenth of its time. `direct` is set by make_direct. */
static void reset(struct tutti_request *r, struct tutti_comm *c, const struct op *op)
{
	r->comm = c;
	r->op = *op;
	r->status = TUTTI_OK;
	atomic_init(&r->done, false);
	r->next = r->behind = NULL;
	r->kind = RUN_NOTHING;
	r->copied = false;
	r->plan = NULL;
	r->run = NULL;
	r->vectors = NULL;
	r->why = NULL;
	r->choice.algo = NULL;
	r->foreign_ns = 0;
	r->told = false;
	r->unreached_ns = 0;
}

/* Fills in *r. Only after this has gone well does the call count. */
static int prepare(struct tutti_comm *c, struct tutti_request *r, const struct op *op)
{
	reset(r, c, op);
	bool message = is_message(op->coll);
	uint64_t *messages = message ? &c->p2p[2 * op->root + (op->coll == COLL_RECV)] : NULL;
	r->call = record_of(c, op, message ? *messages + 1 : c->number + 1);
	r->sig = signature(&r->call);
	r->lane = !message ? 0 : (op->coll == COLL_SEND ? 1 : 2) + 2 * op->root;
	int rc = copy_vectors(c, r);
	if (rc)
		return rc;
	if (!message && c->size > 1 && !nothing_to_move(op))
		rc = comm_choose(c, &r->op, &r->choice);
	if (!rc && message && op->root == c->rank)
		r->kind = RUN_SELF;
	else if (!rc && !message && c->size == 1)
		alone(&r->op);
	else if (!rc && (message || r->choice.algo)) {
		r->kind = RUN_PLAN;
		r->plan = comm_plan(c, op->coll, r->choice.algo, op->root < 0 ? 0 : op->root,
		                    message ? 1 : r->choice.channels);
		rc = r->plan ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory: plan of %s", coll_name(op->coll));
	} else if (!rc && !nothing_to_move(op)) {
		r->kind = RUN_DIRECT;
		make_direct(c, r);
	}
	if (rc) {
		free(r->vectors);
		return rc;
	}
	if (message) {
		++*messages;
	} else {
		c->number++;
		flight_start(&c->flight, &r->call);
	}
	return TUTTI_OK;
}

static void release(struct tutti_request *r)
{
	if (r->run)
		engine_end(r->run);
	free(r->run);
	free(r->vectors);
	r->run = NULL;
	r->vectors = NULL;
}

/* ---- moving ----------------------------------------------------------------------------------------------------------------- */

/* What one rank can't do any more ends the call on all of them. */
static void raise_here(struct tutti_comm *c, const struct tutti_request *r, int status)
{
	char text[900], what[160];
	snprintf(text, sizeof(text), "rank %d in %s: %s", c->rank, call_text(&r->call, what, sizeof(what)),
	         fail_text());
	control_raise(c->control, status, text);
}

/*
 * A slot of another call: the control plane finds out who called what, and raises that on all. What has no record there
 * (a message, the counts between a pair) is raised from here.
 */
static void foreign_slot(struct tutti_comm *c, struct tutti_request *r)
{
	bool message = is_message(r->op.coll);
	uint64_t now = now_ns();
	if (!r->foreign_ns)
		r->foreign_ns = now;
	if (!message && !r->told) {
		control_waiting(c->control, r->call.number, 0);
		r->told = true;
	}
	if (!message && now - r->foreign_ns < 2000000000u)
		return;
	if (message)
		fail(TUTTI_EMISMATCH,
		     "message %llu from rank %d is not %zu x %s: the sender's count or type is another",
		     (unsigned long long)r->call.number, r->op.root, r->op.count, dtype_name(r->op.dtype));
	else
		fail(TUTTI_EMISMATCH,
		     "what a peer sent is not what this rank expects: their counts for the pair differ");
	raise_here(c, r, TUTTI_EMISMATCH);
}

static enum advance failed(struct tutti_request *r, int status)
{
	r->status = status;
	return ADVANCE_FAILED;
}

/* Why a peer can't be reached, the control plane knows best: that it died, or left. It has a moment to say so. */
static int connect_links(struct tutti_comm *c, struct tutti_request *r)
{
	if (r->unreached_ns && now_ns() - r->unreached_ns < VERDICT_NS)
		return LINK_PENDING;
	int rc = comm_connect(c, r->plan);
	if (rc != TUTTI_EPEER || r->unreached_ns)
		return rc;
	r->unreached_ns = now_ns();
	return LINK_PENDING;
}

static bool verdict_due(struct tutti_request *r)
{
	uint64_t now = now_ns();
	if (!r->unreached_ns)
		r->unreached_ns = now;
	return now - r->unreached_ns >= VERDICT_NS;
}

static enum advance advance_plan(struct tutti_comm *c, struct tutti_request *r)
{
	int rc;
	if (!r->run) {
		rc = connect_links(c, r);
		if (rc == LINK_PENDING)
			return (rc = world_pump(c->world)) ? failed(r, rc) : ADVANCE_STUCK;
		if (rc || (rc = make_run(c, r)) != TUTTI_OK)
			return failed(r, rc);
	}
	enum advance a = engine_advance(r->run);
	if (a == ADVANCE_DONE)
		return a;
	if (a == ADVANCE_FAILED) /* a peer's memory can't be read: it is tried again until the verdict is due */
		return verdict_due(r) ? failed(r, r->run->status) : ADVANCE_STUCK;
	if ((rc = world_pump(c->world)) != TUTTI_OK)
		return failed(r, rc);
	if (r->run->foreign) {
		r->run->foreign = false;
		foreign_slot(c, r);
	}
	return a;
}

static enum advance advance_direct(struct tutti_comm *c, struct tutti_request *r)
{
	int rc = comm_direct(c);
	if (rc)
		return rc == LINK_PENDING ? ADVANCE_STUCK : failed(r, rc);
	enum advance a = direct_advance(c->direct, &r->direct);
	if (r->direct.foreign) {
		r->direct.foreign = false;
		foreign_slot(c, r);
	}
	return a;
}

/* A message to oneself is a copy, made when both of its ends are first in their queues; then each is done when seen next. */
static enum advance advance_self(struct tutti_comm *c, struct tutti_request *r)
{
	struct tutti_request *other = c->head;
	if (r->copied)
		return ADVANCE_DONE;
	while (other && (other->kind != RUN_SELF || other->op.coll == r->op.coll || other->behind || other->copied))
		other = other->next;
	if (!other)
		return ADVANCE_STUCK;
	const struct op *send = r->op.coll == COLL_SEND ? &r->op : &other->op,
	                *recv = send == &r->op ? &other->op : &r->op;
	if (send->count != recv->count || send->dtype != recv->dtype)
		return failed(r, fail(TUTTI_EMISMATCH, "message %llu to oneself: %zu x %s are sent, %zu x %s received",
		                      (unsigned long long)r->call.number, send->count, dtype_name(send->dtype),
		                      recv->count, dtype_name(recv->dtype)));
	if (send->count)
		memcpy(recv->out, send->in, send->count * tutti_dtype_size(send->dtype));
	r->copied = other->copied = true;
	return ADVANCE_DONE;
}

static enum advance advance(struct tutti_comm *c, struct tutti_request *r)
{
	switch (r->kind) {
	case RUN_SELF:
		return advance_self(c, r);
	case RUN_PLAN:
		return advance_plan(c, r);
	case RUN_DIRECT:
		return advance_direct(c, r);
	default:
		return ADVANCE_DONE;
	}
}

/* The alarm's status, with its text as the thread's message. The first to see it writes the flight recorder's file. */
static int alarmed(struct tutti_comm *c)
{
	int status = atomic_load_explicit(&c->alarm.status, memory_order_acquire); /* A5 */
	if (!status)
		return TUTTI_OK;
	if (c->world->params.flight && !atomic_exchange_explicit(&c->dumped, true, memory_order_relaxed)) {
		(void)flight_dump(&c->flight, c->world->params.flight, c->rank, c->name, &c->alarm);
	}
	return fail(status, "%s", c->alarm.text);
}

/* ---- a blocking call on an idle communicator ----------------------------------------------------------------------------- */

static int run_here(struct tutti_comm *c, struct tutti_request *r)
{
	struct wait w;
	wait_begin(&w, &c->site);
	for (;;) {
		enum advance a = advance(c, r);
		if (a == ADVANCE_DONE)
			break;
		if (a == ADVANCE_FAILED) {
			raise_here(c, r, r->status);
			break;
		}
		if (a == ADVANCE_MOVED)
			wait_moved(&w);
		else if (world_progress(c->world, c) ? wait_look(&w)
		                                     : wait_step(&w)) /* others' moves are not this one's */
			break;
	}
	bool finished = r->kind == RUN_NOTHING ||
	                (r->kind == RUN_DIRECT ? r->direct.finished == r->direct.npieces && r->direct.started
	                                       : r->run && r->run->left == 0);
	if (!is_message(r->op.coll) && finished)
		flight_finish(&c->flight, r->call.number);
	release(r);
	return finished ? TUTTI_OK : alarmed(c);
}

/* ---- the queue --------------------------------------------------------------------------------------------------------------- */

/* It ticks until the owner has collected all requests: who sleeps on it has not seen what another thread completed. */
static void arm_timer(struct tutti_comm *c, bool on)
{
	if (c->timer < 0)
		return;
	struct itimerspec t = {{0, on ? 1000000 : 0}, {0, on ? 1000000 : 0}};
	(void)timerfd_settime(c->timer, 0, &t, NULL);
}

static void keep_open(struct tutti_comm *c, struct tutti_request *r)
{
	if (!c->open)
		arm_timer(c, true);
	r->open_next = c->open;
	r->open_at = &c->open;
	if (c->open)
		c->open->open_at = &r->open_next;
	c->open = r;
}

/* Its owner has finished it, or its communicator ends: each goes on without the other. */
static void let_go(struct tutti_request *r)
{
	struct tutti_comm *c = r->comm;
	if (!c)
		return;
	*r->open_at = r->open_next;
	if (r->open_next)
		r->open_next->open_at = r->open_at;
	if (!c->open)
		arm_timer(c, false);
	r->comm = NULL;
}

static void enqueue(struct tutti_comm *c, struct tutti_request *r)
{
	comm_lock(c);
	if (!c->head)
		wait_begin(&c->poll, &c->site);
	r->behind = c->last[r->lane];
	c->last[r->lane] = r;
	*c->tail = r;
	c->tail = &r->next;
	(void)atomic_fetch_add_explicit(&c->queued, 1, memory_order_release); /* R12 */
	comm_unlock(c);
	keep_open(c, r);
	world_work(c->world);
}

/* Takes r, which *at points to, out of the queue. With the lock held. why: text of a failure. */
static void complete(struct tutti_comm *c, struct tutti_request **at, int status, const char *why)
{
	struct tutti_request *r = *at;
	*at = r->next;
	if (c->tail == &r->next)
		c->tail = at;
	if (c->last[r->lane] == r)
		c->last[r->lane] = NULL;
	for (struct tutti_request *q = *at; q; q = q->next)
		if (q->behind == r) {
			q->behind = NULL;
			break;
		}
	if (!status && !is_message(r->op.coll))
		flight_finish(&c->flight, r->call.number);
	release(r);
	r->next = NULL;
	r->status = status;
	r->why = status ? strdup(why) : NULL;
	(void)atomic_fetch_sub_explicit(&c->queued, 1, memory_order_release); /* R12 */
	atomic_store_explicit(&r->done, true, memory_order_release); /* R10: from here on the owner may free it */
}

void comm_fail_all(struct tutti_comm *c, int status, const char *why)
{
	while (c->head)
		complete(c, &c->head, status, why);
}

void comm_orphan_all(struct tutti_comm *c)
{
	comm_fail_all(c, TUTTI_EABORTED, "the communicator was destroyed while the request was in flight");
	while (c->open)
		let_go(c->open);
}

static bool move_queue(struct tutti_comm *c)
{
	bool moved = false;
	for (struct tutti_request **at = &c->head; *at;) {
		struct tutti_request *r = *at;
		enum advance a = r->behind ? ADVANCE_STUCK : advance(c, r);
		if (a == ADVANCE_FAILED) {
			raise_here(c, r, r->status);
			return true;
		}
		moved |= a != ADVANCE_STUCK;
		if (a == ADVANCE_DONE)
			complete(c, at, TUTTI_OK, NULL);
		else
			at = &r->next;
	}
	return moved;
}

bool comm_progress(struct tutti_comm *c)
{
	if (!atomic_load_explicit(&c->queued, memory_order_acquire) || !comm_trylock(c)) /* A12 */
		return false;
	int status = alarmed(c);
	bool moved = true;
	uint64_t ticks;
	if (c->timer >= 0)
		(void)!read(c->timer, &ticks, sizeof(ticks)); /* not readable again before the next tick */
	if (status)
		comm_fail_all(c, status, c->alarm.text);
	else
		moved = move_queue(c);
	if (moved)
		wait_moved(&c->poll);
	else
		(void)wait_look(&c->poll);
	comm_unlock(c);
	return moved;
}

/* ---- starting ------------------------------------------------------------------------------------------------------------------ */

/* Room for one more call in the group; asked for before the call counts. */
static int group_room(void)
{
	if (group.n < group.cap)
		return TUTTI_OK;
	int cap = group.cap ? 2 * group.cap : 16;
	struct tutti_request **more = realloc(group.req, (size_t)cap * sizeof(*more));
	if (!more)
		return fail(TUTTI_ENOMEM, "out of memory");
	group.req = more;
	group.cap = cap;
	return TUTTI_OK;
}

void group_failed(int rc)
{
	if (group.depth && !group.rc)
		group.rc = rc;
}

int request_start(struct tutti_comm *c, const struct op *op, struct tutti_request **req)
{
	int rc = alarmed(c);
	if (rc)
		return rc;
	if (!req && !group.depth && !atomic_load_explicit(&c->queued, memory_order_acquire)) { /* A12 */
		struct tutti_request here;
		if (is_message(op->coll) && op->root == c->rank)
			return fail(TUTTI_EINVAL,
			            "tutti_%s with oneself would block for ever: the other end is not in flight; "
			            "use a group or a request",
			            coll_name(op->coll));
		rc = prepare(c, &here, op);
		return rc ? rc : run_here(c, &here);
	}
	bool in_group = !req && group.depth;
	struct tutti_request *r = malloc(sizeof(*r));
	rc = !r ? fail(TUTTI_ENOMEM, "out of memory") : in_group ? group_room() : TUTTI_OK;
	if (!rc)
		rc = prepare(c, r, op);
	if (rc) {
		free(r);
		return rc;
	}
	if (in_group)
		group.req[group.n++] = r;
	enqueue(c, r);
	if (req) {
		*req = r;
		(void)comm_progress(c);
		return TUTTI_OK;
	}
	return in_group ? TUTTI_OK : request_wait(&r, 1, false);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------------------- */

/* A finished request's status, with its text as the thread's message. Its communicator may be gone by now. */
static int outcome(const struct tutti_request *r)
{
	return r->status ? fail(r->status, "%s", r->why ? r->why : "out of memory") : TUTTI_OK;
}

static int finish(struct tutti_request **at)
{
	struct tutti_request *r = *at;
	int status = outcome(r);
	let_go(r);
	*at = NULL;
	free(r->why);
	free(r);
	return status;
}

static bool is_done(const struct tutti_request *r)
{
	return !r || atomic_load_explicit(&r->done, memory_order_acquire); /* A10 */
}

static bool move_for(struct tutti_request **reqs, int n)
{
	bool moved = false;
	for (int i = 0; i < n; i++)
		if (!is_done(reqs[i]))
			moved |= comm_progress(reqs[i]->comm) || world_progress(reqs[i]->comm->world, reqs[i]->comm);
	return moved;
}

int request_wait(struct tutti_request **reqs, int n, bool any)
{
	struct wait w = {0};
	for (;;) {
		struct tutti_request *open = NULL;
		int done = 0;
		for (int i = 0; i < n; i++) {
			if (is_done(reqs[i]))
				done += reqs[i] != NULL;
			else
				open = reqs[i];
		}
		if (!open || (any && done))
			break;
		if (w.site != &open->comm->site)
			wait_begin(&w, &open->comm->site);
		if (move_for(reqs, n))
			wait_moved(&w);
		else
			(void)wait_step(&w); /* an alarm completes the requests in the next round */
	}
	if (any)
		return TUTTI_OK;
	int rc = TUTTI_OK;
	for (int i = 0; i < n; i++) {
		int status = reqs[i] ? finish(&reqs[i]) : TUTTI_OK;
		rc = rc ? rc : status;
	}
	return rc;
}

/* A loop of tests on a crowded host must not keep the core from the rank that it waits for. */
int request_test(struct tutti_request **req, int *done)
{
	if (!is_done(*req) && !move_for(req, 1) && (*req)->comm->world->wait.crowded)
		sched_yield();
	*done = is_done(*req);
	return *req && *done ? finish(req) : TUTTI_OK;
}

/*
 * A team: whoever holds the communicator's lock moves the run, the others look again. All leave when the request is done
 * (or the communicator has failed).
 */
int request_work(struct tutti_request *r)
{
	struct wait w = {0};
	while (!is_done(r)) {
		if (!w.site)
			wait_begin(&w, &r->comm->site);
		if (comm_progress(r->comm))
			wait_moved(&w);
		else
			(void)wait_step(&w);
	}
	return outcome(r);
}

void group_begin(void)
{
	group.depth++;
}

int group_end(void)
{
	if (group.depth == 0)
		return fail(TUTTI_EUSAGE, "tutti_group_end without tutti_group_begin in this thread");
	if (--group.depth)
		return TUTTI_OK;
	int done = request_wait(group.req, group.n, false), started = group.rc;
	free(group.req);
	memset(&group, 0, sizeof(group));
	return started ? started : done;
}

/* ---- sleeping in the caller's own loop --------------------------------------------------------------------------------------- */

/*
 * Networks are in the world's epoll descriptor. Memory cannot make a descriptor readable, nor can another thread that
 * finishes a request, so a timer ticks each millisecond while the owner has requests to finish, and only then.
 */
static int make_fd(struct tutti_comm *c)
{
	struct epoll_event e = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0 || timer < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, timer, &e) != 0) {
		(void)fail_errno("make a descriptor for poll loops");
		if (fd >= 0)
			close(fd);
		if (timer >= 0)
			close(timer);
		return -1;
	}
	if (c->world->wait.epoll >= 0)
		(void)epoll_ctl(fd, EPOLL_CTL_ADD, c->world->wait.epoll, &e);
	c->timer = timer;
	if (c->open)
		arm_timer(c, true);
	return fd;
}

int comm_fd(struct tutti_comm *c)
{
	comm_lock(c);
	if (c->fd < 0)
		c->fd = make_fd(c);
	comm_unlock(c);
	return c->fd;
}

void comm_look(struct tutti_comm *c)
{
	(void)comm_progress(c);
	(void)world_progress(c->world, c);
	(void)world_pump(
	        c->world); /* also what came early for calls that are not made yet: it keeps the descriptor readable */
}
