/* SPDX-License-Identifier: MIT */
/* One call in motion: its run of a plan or of the direct tier, and what moves it. See request.h. */
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "../util/service.h"
#include "comm.h"
#include "mismatch.h"

/* ---- making a run --------------------------------------------------------------------------------------------------------- */

static int scratch_for(struct tutti_comm *c, struct run *x, const struct plan *p, size_t payload)
{
	size_t tmp = p->uses_tmp ? (size_t)p->nstrands * (size_t)p->nblocks * x->chunk * x->esize : 0;
	size_t fixed = x->codec ? 3 * payload : payload, need = fixed + tmp;
	if (need > c->memory.scratch_bytes) {
		uint8_t *s = aligned_alloc(4096, (need + 4095) / 4096 * 4096);
		if (!s)
			return fail(TUTTI_ENOMEM, "out of memory: %zu bytes of scratch", need);
		free(c->memory.scratch);
		c->memory.scratch = s;
		c->memory.scratch_bytes = need;
	}
	x->bounce = c->memory.scratch;
	x->plain = x->codec ? c->memory.scratch + payload : NULL;
	x->code = x->codec ? c->memory.scratch + 2 * payload : NULL;
	x->tmp = c->memory.scratch + fixed;
	return TUTTI_OK;
}

/* Memory for a run: that of the one which ended last, as a rule. */
static struct run *take_run(struct tutti_comm *c, const struct plan *p)
{
	struct run *x = c->memory.spare;
	if (!x || c->memory.spare_bytes < engine_bytes(p))
		return malloc(engine_bytes(p));
	c->memory.spare = NULL;
	return x;
}

static void put_run(struct tutti_comm *c, struct run *x, const struct plan *p)
{
	free(c->memory.spare);
	c->memory.spare = x;
	c->memory.spare_bytes = engine_bytes(p);
}

static int make_run(struct tutti_comm *c, struct tutti_request *r)
{
	const struct prepared *q = r->prepared;
	const struct args *args = &q->args;
	const struct plan *p = q->plan->plan;
	struct cut cut = q->cut;
	int rc = cut.chunk ? TUTTI_OK : prepared_cut(c, args, p, &cut);
	if (rc)
		return rc;
	struct run *x = take_run(c, p);
	if (!x)
		return fail(TUTTI_ENOMEM, "out of memory");
	const struct kernel_table *k = kernel_table();
	enum tutti_op step = args->op == TUTTI_AVG ? TUTTI_SUM : args->op;
	*x = (struct run){
	        .plan = p,
	        .links = q->plan->links,
	        .layout = args_layout(args, c->rank, p),
	        .in = r->in,
	        .out = r->out,
	        .esize = dtype_bytes(args->dtype),
	        .chunk = cut.chunk,
	        .nchunks = cut.nchunks,
	        .divisor = (uint32_t)c->size,
	        .sig = r->sig,
	        .crew = &c->crew,
	        .codec = q->codec,
	        .rounds = args->coll == COLL_ALLREDUCE,
	        .reduce = k->two[args->dtype][step],
	        .final = k->two[args->dtype][args->op],
	        .meets = args->parts || !args->count,
	        .pairs = args->coll == COLL_ALLTOALL && args->parts,
	};
	x->places = q->plan->places && p->written_once && (args->parts || args->count * x->esize >= PLACE_BYTES);
	if (!is_message(args->coll))
		rc = scratch_for(c, x, p, (size_t)c->world->params.slot);
	if (rc) {
		free(x);
		return rc;
	}
	engine_begin(x);
	r->run = x;
	return TUTTI_OK;
}

void request_release(struct tutti_request *r)
{
	bool forked = r->comm->world->forks != service_forks; /* the call goes on, in the parent */
	if (!forked && r->run && engine_end(r->run))
		links_cut(r->comm);
	if (!forked && r->prepared->kind == RUN_DIRECT && r->comm->direct)
		direct_end(r->comm->direct, &r->direct);
	if (r->run)
		put_run(r->comm, r->run, r->prepared->plan->plan);
	r->run = NULL;
}

/* ---- moving ----------------------------------------------------------------------------------------------------------------- */

void request_raise(struct tutti_comm *c, const struct tutti_request *r, int status)
{
	char text[900], what[160];
	struct call record = request_record(r);
	snprintf(text, sizeof(text), "rank %d in %s: %s", c->rank, call_text(&record, what, sizeof(what)), fail_text());
	control_raise(c->control, status, text);
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
	int rc = links_connect(c, r->prepared->plan);
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

/* The buffer that a link of this run can't read or write, if there is one; otherwise it is another call's. */
static int find_fault(struct tutti_comm *c, const struct tutti_request *r)
{
	for (int i = 0; r->run && i < r->prepared->plan->plan->nlinks; i++) {
		struct link *l = r->run->links[i];
		if (!atomic_load_explicit(&l->fault, memory_order_relaxed))
			continue;
		if (!l->outgoing)
			return fail(TUTTI_ESYSTEM,
			            "this rank's buffer can't be written at %p, where it receives from rank %d: %s",
			            (void *)l->places[l->pos & l->mask].at, comm_rank_of(c, l->peer), strerror(EFAULT));
		uint64_t taken = atomic_load_explicit(l->credit, memory_order_acquire); /* A2 */
		const struct slot_ref *ref = (const struct slot_ref *)link_slot_at(l, taken)->data;
		return fail(TUTTI_ESYSTEM,
		            "this rank's buffer can't be read at 0x%llx, from where it sends to rank %d: %s",
		            (unsigned long long)ref->addr, comm_rank_of(c, l->peer), strerror(EFAULT));
	}
	return TUTTI_OK;
}

/* Moves the network. */
static int pump_for(struct tutti_comm *c, const struct tutti_request *r)
{
	int rc = world_pump(c->world);
	return rc == LINK_FAULT ? find_fault(c, r) : rc;
}

static int whose_fault(const struct tutti_comm *c, const struct run *x)
{
	return x->failed_on ? fail_while(x->status, "rank %d", comm_rank_of(c, x->failed_on->peer)) : x->status;
}

/* pump: moves the network, too. */
static enum advance advance_plan(struct tutti_comm *c, struct tutti_request *r, bool pump)
{
	int rc;
	if (!r->run) {
		rc = connect_links(c, r);
		if (rc == LINK_PENDING)
			return (rc = pump_for(c, r)) ? failed(r, rc) : ADVANCE_STUCK;
		if (rc || (rc = make_run(c, r)) != TUTTI_OK)
			return failed(r, rc);
	}
	enum advance a = engine_advance(r->run);
	if (pump && (a == ADVANCE_MOVED || a == ADVANCE_STUCK)) {
		if ((rc = pump_for(c, r)) != TUTTI_OK)
			return failed(r, rc);
		/* what came just now: who yields its core first waits for its turn twice */
		if (a == ADVANCE_STUCK && c->world->npumps)
			a = engine_advance(r->run);
	}
	if (a == ADVANCE_FAILED) /* a peer's memory can't be read: it is tried again until the verdict is due */
		return verdict_due(r) ? failed(r, whose_fault(c, r->run)) : ADVANCE_STUCK;
	if (r->run->foreign) {
		struct link *l = r->run->foreign;
		r->run->foreign = NULL;
		mismatch_found(c, r, l);
	}
	return a;
}

/* The memory of the direct tier, made on first use: TUTTI_OK, LINK_PENDING, or an error. */
static int direct_tier(struct tutti_comm *c)
{
	if (c->direct_is_ready)
		return TUTTI_OK;
	world_lock(c->world);
	int rc = TUTTI_OK;
	if (!c->direct) {
		int *local = calloc((size_t)(c->size > 0 ? c->size : 1), sizeof(int));
		for (int r = 0; local && r < c->size; r++)
			local[r] = c->world->local[c->members[r]];
		rc = local ? direct_open(&c->direct, c->world->segment, c->id, local, c->size, c->rank,
		                         (size_t)c->world->params.direct_max)
		           : fail(TUTTI_ENOMEM, "out of memory");
		free(local);
	}
	if (!rc)
		rc = direct_ready(c->direct);
	world_unlock(c->world);
	c->direct_is_ready = rc == TUTTI_OK;
	return rc;
}

static enum advance advance_direct(struct tutti_comm *c, struct tutti_request *r)
{
	int rc = direct_tier(c);
	if (rc)
		return rc == LINK_PENDING ? ADVANCE_STUCK : failed(r, rc);
	enum advance a = direct_advance(c->direct, &r->direct);
	if (r->direct.foreign) {
		r->direct.foreign = false;
		mismatch_found(c, r, NULL);
	}
	return a == ADVANCE_FAILED ? failed(r, r->direct.broken ? TUTTI_EPEER : TUTTI_ENOMEM) : a;
}

/* A message to oneself is a copy, made when both of its ends are first in their lanes; then each is done when seen next. */
static enum advance advance_self(struct tutti_comm *c, struct tutti_request *r)
{
	int sends_lane = 1 + 2 * c->rank;
	struct tutti_request *other =
	        c->queue.lanes[r->prepared->lane == sends_lane ? sends_lane + 1 : sends_lane].head;
	if (r->copied)
		return ADVANCE_DONE;
	if (!other || other->copied)
		return ADVANCE_STUCK;
	bool sends = r->prepared->args.coll == COLL_SEND;
	struct args send = request_args(sends ? r : other), recv = request_args(sends ? other : r);
	if (send.count != recv.count || send.dtype != recv.dtype)
		return failed(r, fail(TUTTI_EMISMATCH, "message %llu to oneself: %zu x %s are sent, %zu x %s received",
		                      (unsigned long long)r->number, send.count, dtype_name(send.dtype), recv.count,
		                      dtype_name(recv.dtype)));
	if (send.count)
		memcpy(recv.out, send.in, send.count * tutti_dtype_size(send.dtype));
	r->copied = other->copied = true;
	return ADVANCE_DONE;
}

enum advance request_advance(struct tutti_comm *c, struct tutti_request *r)
{
	switch (r->prepared->kind) {
	case RUN_SELF:
		return advance_self(c, r);
	case RUN_PLAN:
		return advance_plan(c, r, true);
	case RUN_DIRECT:
		return advance_direct(c, r);
	default:
		return ADVANCE_DONE;
	}
}

static bool meet(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
	return a_bytes && b_bytes && a < b + b_bytes && b < a + a_bytes;
}

/* Does one of them write what the other reads or writes? Then they run one after the other, as they were issued. */
static bool share_memory(const struct tutti_request *a, const struct tutti_request *b)
{
	const struct extent *x = &a->prepared->touches, *y = &b->prepared->touches;
	return meet(a->out, x->out, b->out, y->out) || meet(a->out, x->out, b->in, y->in) ||
	       meet(a->in, x->in, b->out, y->out);
}

/* The communicator's scratch is the first run's: others may pass through its bounce, which holds nothing between steps. */
static bool needs_scratch(const struct tutti_comm *c, const struct tutti_request *r)
{
	bool bounces = !request_is_message(r) && c->memory.scratch_bytes < (size_t)c->world->params.slot;
	return r->prepared->codec || r->prepared->plan->plan->uses_tmp || bounces;
}

bool request_joins(const struct tutti_comm *c, const struct tutti_request *first, const struct tutti_request *r)
{
	if (r->prepared->kind != RUN_PLAN || needs_scratch(c, r))
		return false;
	for (const struct tutti_request *q = first; q != r; q = q->next)
		if (q->prepared->kind != RUN_PLAN || !q->run || q->prepared->codec || share_memory(q, r))
			return false;
	return true;
}

enum advance request_advance_behind(struct tutti_comm *c, struct tutti_request *r)
{
	return advance_plan(c, r, false);
}

bool request_finished(const struct tutti_request *r)
{
	switch (r->prepared->kind) {
	case RUN_PLAN:
		return r->run && r->run->left == 0;
	case RUN_DIRECT:
		return direct_finished(&r->direct);
	case RUN_SELF:
		return r->copied;
	default:
		return true;
	}
}

void request_ended(struct tutti_comm *c, const struct tutti_request *r)
{
	if (request_is_message(r))
		flight_message_done(&c->flight);
	else
		flight_finish(&c->flight, r->number);
}
