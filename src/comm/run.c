/*
 * One call in motion: from its recipe to a run of a plan or of the direct tier, and what moves it. Nothing here waits and
 * nothing here knows of other calls; request.c does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "../util/service.h"
#include "comm.h"

#define VERDICT_NS 1000000000u /* for the control plane's account of what this rank sees only the end of */

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
	size_t fixed = x->codec ? 3 * payload : payload, need = fixed + tmp;
	if (need > c->scratch_bytes) {
		uint8_t *s = aligned_alloc(4096, (need + 4095) / 4096 * 4096);
		if (!s)
			return fail(TUTTI_ENOMEM, "out of memory: %zu bytes of scratch", need);
		free(c->scratch);
		c->scratch = s;
		c->scratch_bytes = need;
	}
	x->bounce = c->scratch;
	x->plain = x->codec ? c->scratch + payload : NULL;
	x->code = x->codec ? c->scratch + 2 * payload : NULL;
	x->tmp = c->scratch + fixed;
	return TUTTI_OK;
}

/* Memory for a run: that of the one which ended last, as a rule. */
static struct run *take_run(struct tutti_comm *c, const struct plan *p)
{
	struct run *x = c->spare;
	if (!x || c->spare_bytes < engine_bytes(p))
		return malloc(engine_bytes(p));
	c->spare = NULL;
	return x;
}

static void put_run(struct tutti_comm *c, struct run *x, const struct plan *p)
{
	free(c->spare);
	c->spare = x;
	c->spare_bytes = engine_bytes(p);
}

int run_cut(const struct tutti_comm *c, const struct op *op, const struct plan *p, struct cut *cut)
{
	struct layout l = layout_of(c, op, p);
	return engine_cut(p, (size_t)c->world->params.slot, dtype_bytes(op->dtype), longest_block(c, &l), &cut->chunk,
	                  &cut->nchunks);
}

static int make_run(struct tutti_comm *c, struct tutti_request *r)
{
	const struct plan *p = r->plan->plan;
	const struct op *op = &r->op;
	int rc = r->cut.chunk ? TUTTI_OK : run_cut(c, op, p, &r->cut);
	if (rc)
		return rc;
	struct run *x = take_run(c, p);
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
	        .chunk = r->cut.chunk,
	        .nchunks = r->cut.nchunks,
	        .divisor = (uint32_t)c->size,
	        .sig = r->sig,
	        .crew = &c->crew,
	        .codec = r->codec,
	        .rounds = op->coll == COLL_ALLREDUCE,
	        .reduce = k->two[op->dtype][step],
	        .final = k->two[op->dtype][op->op],
	};
	x->meets = is_vector(op) || !op->count;
	x->pairs = op->coll == COLL_ALLTOALL && is_vector(op);
	x->places = r->plan->places && p->written_once && (is_vector(op) || op->count * x->esize >= PLACE_BYTES);
	if (!is_message(op->coll))
		rc = scratch_for(c, x, p, (size_t)c->world->params.slot);
	if (rc) {
		free(x);
		return rc;
	}
	engine_begin(x);
	r->run = x;
	return TUTTI_OK;
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
	if (in_parts && op->displs && count)
		in += op->displs[0] * esize;
	if (out_parts && (op->rdispls || op->displs) && count)
		out += (op->rdispls ? op->rdispls[0] : op->displs[0]) * esize;
	bool reduces = op->coll == COLL_ALLREDUCE || op->coll == COLL_REDUCE_SCATTER || op->coll == COLL_REDUCE;
	const void *src[1] = {in};
	if (reduces && count)
		kernel_table()->many[op->dtype][op->op](out, src, 1, count, 1);
	else if (count && in != out)
		memmove(out, in, count * esize);
}

/* A request may outlive the recipe, whose arrays its v-form uses. */
static int outlive_recipe(const struct tutti_comm *c, struct tutti_request *r)
{
	size_t words = vector_words(&r->op, c->size);
	if (!words)
		return TUTTI_OK;
	r->vectors = calloc(words, sizeof(size_t));
	if (!r->vectors)
		return fail(TUTTI_ENOMEM, "out of memory");
	keep_vectors(&r->op, c->size, r->vectors);
	r->direct.counts = r->op.counts;
	r->direct.displs = r->op.displs;
	return TUTTI_OK;
}

static void fill(struct tutti_comm *c, struct tutti_request *r, const struct op *op, const struct recipe *p,
                 uint64_t number)
{
	*r = (struct tutti_request){.comm = c,
	                            .op = p->op,
	                            .call = p->record,
	                            .sig = call_signature(p->salt, number),
	                            .kind = p->kind,
	                            .lane = p->lane,
	                            .touches = p->touches,
	                            .plan = p->plan,
	                            .cut = p->cut,
	                            .codec = p->choice.codec,
	                            .direct = p->direct};
	r->op.in = op->in;
	r->op.out = op->out;
	r->call.number = number;
}

int run_prepare(struct tutti_comm *c, struct tutti_request *r, const struct op *op, const struct recipe *p, bool queued)
{
	uint64_t *number = is_message(op->coll) ? &c->p2p[2 * op->root + (op->coll == COLL_RECV)] : &c->number;
	fill(c, r, op, p, *number + 1);
	direct_begin(&r->direct, op->in, op->out, r->sig);
	int rc = queued ? outlive_recipe(c, r) : TUTTI_OK;
	if (rc)
		return rc;
	if (p->kind == RUN_ALONE)
		alone(&r->op);
	++*number;
	if (!is_message(op->coll))
		flight_start(&c->flight, &r->call);
	return TUTTI_OK;
}

bool run_direct(struct tutti_comm *c, const struct op *op, struct recipe *p)
{
	struct direct_run *x = &p->direct;
	uint64_t number = ++c->number;
	if (!x->npieces)
		direct_cut(c->direct, x);
	direct_begin(x, op->in, op->out, call_signature(p->salt, number));
	enum advance a = direct_advance(c->direct, x);
	p->record.number = number;
	flight_start(&c->flight, &p->record);
	for (int i = 0; a < ADVANCE_DONE && i < WAIT_EAGER && !wait_crowded(c->site.how); i++)
		a = direct_advance(c->direct, x);
	if (a == ADVANCE_DONE)
		flight_finish(&c->flight, number);
	return a == ADVANCE_DONE;
}

void run_direct_on(struct tutti_comm *c, struct tutti_request *r, const struct op *op, const struct recipe *p)
{
	fill(c, r, op, p, c->number);
}

void run_release(struct tutti_request *r)
{
	bool forked = r->comm->world->forks != service_forks; /* the call goes on, in the parent */
	if (!forked && r->run && engine_end(r->run))
		comm_cut(r->comm);
	if (!forked && r->kind == RUN_DIRECT && r->comm->direct)
		direct_end(r->comm->direct, &r->direct);
	if (r->run)
		put_run(r->comm, r->run, r->plan->plan);
	free(r->vectors);
	r->run = NULL;
	r->vectors = NULL;
}

/* ---- moving ----------------------------------------------------------------------------------------------------------------- */

/* What one rank can't do any more ends the call on all of them. */
void run_raise(struct tutti_comm *c, const struct tutti_request *r, int status)
{
	char text[900], what[160];
	snprintf(text, sizeof(text), "rank %d in %s: %s", c->rank, call_text(&r->call, what, sizeof(what)),
	         fail_text());
	control_raise(c->control, status, text);
}

/* Rank here of a link's peer. */
static int peer_of(const struct tutti_comm *c, const struct link *l)
{
	int r = 0;
	while (r < c->size - 1 && c->members[r] != l->peer)
		r++;
	return r;
}

/* What a message's sender called: its slot's signature proves it, when one slot holds all of the message. */
static void describe_sent(const struct tutti_request *r, const struct slot *slot, char *text, size_t cap)
{
	size_t bytes = slot->len & ~SLOT_REF;
	for (int t = 0; t < KERNEL_DTYPES; t++) {
		size_t count = bytes / dtype_bytes((enum tutti_dtype)t);
		struct call sent = {.count = count, .coll = COLL_SEND, .dtype = (uint8_t)t};
		if (call_signature(call_salt(&sent), r->call.number) != slot->sig)
			continue;
		snprintf(text, cap, "%zu x %s", count, dtype_name((enum tutti_dtype)t));
		return;
	}
	snprintf(text, cap, "another count or type, %zu bytes of it in the first slot", bytes);
}

static void message_differs(struct tutti_comm *c, const struct tutti_request *r, const struct slot *slot)
{
	char sent[100];
	describe_sent(r, slot, sent, sizeof(sent));
	fail(TUTTI_EMISMATCH, "message %llu from rank %d to rank %d: rank %d sends %s, but rank %d receives %zu x %s",
	     (unsigned long long)r->call.number, r->op.root, c->rank, r->op.root, sent, c->rank, r->op.count,
	     dtype_name(r->op.dtype));
}

/* The counts of an alltoallv: the slot's signature proves how many elements its sender has, when it holds all of them. */
static void counts_differ(struct tutti_comm *c, const struct tutti_request *r, const struct link *l,
                          const struct slot *slot)
{
	int from = peer_of(c, l);
	size_t sent = (slot->len & ~SLOT_REF) / dtype_bytes(r->op.dtype);
	const size_t *counts = r->op.rcounts ? r->op.rcounts : r->op.counts;
	char text[64] = "another number of";
	if (slot->sig == pair_signature(r->sig, sent))
		snprintf(text, sizeof(text), "%zu", sent);
	fail(TUTTI_EMISMATCH, "rank %d sends %s elements to rank %d, but rank %d expects %zu from rank %d", from, text,
	     c->rank, c->rank, counts ? counts[from] : r->op.count, from);
}

/*
 * A slot of another call: the control plane finds out who called what, and raises that on all. What has no record there
 * (a message, the counts between a pair) is raised from here. l: the link with the slot; NULL: the direct tier saw it.
 */
static void foreign_slot(struct tutti_comm *c, struct tutti_request *r, struct link *l)
{
	bool message = is_message(r->op.coll);
	uint64_t now = now_ns();
	if (!r->foreign_ns)
		r->foreign_ns = now;
	if (!message && !r->told) {
		control_waiting(c->control, r->call.number, 0);
		r->told = true;
	}
	if (!message && now - r->foreign_ns < VERDICT_NS)
		return;
	const struct slot *slot = l ? link_recv_begin(l) : NULL;
	if (message && slot)
		message_differs(c, r, slot);
	else if (r->run && r->run->pairs && slot)
		counts_differ(c, r, l, slot);
	else
		fail(TUTTI_EMISMATCH,
		     "what a peer sent is not what this rank expects: their counts for the pair differ");
	run_raise(c, r, TUTTI_EMISMATCH);
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

/* The buffer that a link of this run can't read or write, if there is one; otherwise it is another call's. */
static int find_fault(struct tutti_comm *c, const struct tutti_request *r)
{
	for (int i = 0; r->run && i < r->plan->plan->nlinks; i++) {
		struct link *l = r->run->links[i];
		if (!atomic_load_explicit(&l->fault, memory_order_relaxed))
			continue;
		if (!l->outgoing)
			return fail(TUTTI_ESYSTEM,
			            "this rank's buffer can't be written at %p, where it receives from rank %d: %s",
			            (void *)l->places[l->pos & l->mask].at, peer_of(c, l), strerror(EFAULT));
		uint64_t taken = atomic_load_explicit(l->credit, memory_order_acquire); /* A2 */
		const struct slot_ref *ref = (const struct slot_ref *)link_slot_at(l, taken)->data;
		return fail(TUTTI_ESYSTEM,
		            "this rank's buffer can't be read at 0x%llx, from where it sends to rank %d: %s",
		            (unsigned long long)ref->addr, peer_of(c, l), strerror(EFAULT));
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
	return x->failed_on ? fail_while(x->status, "rank %d", peer_of(c, x->failed_on)) : x->status;
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
		foreign_slot(c, r, l);
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
		foreign_slot(c, r, NULL);
	}
	return a == ADVANCE_FAILED ? failed(r, r->direct.broken ? TUTTI_EPEER : TUTTI_ENOMEM) : a;
}

/* A message to oneself is a copy, made when both of its ends are first in their lanes; then each is done when seen next. */
static enum advance advance_self(struct tutti_comm *c, struct tutti_request *r)
{
	int sends = 1 + 2 * c->rank;
	struct tutti_request *other = c->lanes[r->lane == sends ? sends + 1 : sends].head;
	if (r->copied)
		return ADVANCE_DONE;
	if (!other || other->copied)
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

enum advance run_advance(struct tutti_comm *c, struct tutti_request *r)
{
	switch (r->kind) {
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
	const struct extent *x = &a->touches, *y = &b->touches;
	return meet(a->op.out, x->out, b->op.out, y->out) || meet(a->op.out, x->out, b->op.in, y->in) ||
	       meet(a->op.in, x->in, b->op.out, y->out);
}

/* The communicator's scratch is the first run's: others may pass through its bounce, which holds nothing between steps. */
static bool needs_scratch(const struct tutti_comm *c, const struct tutti_request *r)
{
	bool bounces = !is_message(r->op.coll) && c->scratch_bytes < (size_t)c->world->params.slot;
	return r->codec || r->plan->plan->uses_tmp || bounces;
}

bool run_joins(const struct tutti_comm *c, const struct tutti_request *first, const struct tutti_request *r)
{
	if (r->kind != RUN_PLAN || needs_scratch(c, r))
		return false;
	for (const struct tutti_request *q = first; q != r; q = q->next)
		if (q->kind != RUN_PLAN || !q->run || q->codec || share_memory(q, r))
			return false;
	return true;
}

enum advance run_advance_behind(struct tutti_comm *c, struct tutti_request *r)
{
	return advance_plan(c, r, false);
}

bool run_finished(const struct tutti_request *r)
{
	switch (r->kind) {
	case RUN_PLAN:
		return r->run && r->run->left == 0;
	case RUN_DIRECT:
		return r->direct.finished == r->direct.npieces && r->direct.started;
	case RUN_SELF:
		return r->copied;
	default:
		return true;
	}
}
