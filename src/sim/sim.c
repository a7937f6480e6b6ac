/* The simulator of plans: see sim.h. Events are strands that may go on; the earliest one is taken. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "../engine.h"
#include "../util/error.h"

#define NOBODY (-1)

/* One link, both ends: message k stands in slot k mod slots. */
struct channel {
	int from, to; /* ranks */
	struct sim_route route;
	uint64_t sent, taken;
	int awaits_message, awaits_slot; /* strands that wait for this link, or NOBODY */
};

struct strand_at {
	int rank, index;
	size_t chunk;
	int step;
	int awaits_strand; /* who waits until this one has finished a chunk */
};

struct event {
	double at;
	int strand;
};

struct sim {
	const struct sim_cluster *cluster;
	const struct sim_call *call;
	struct sim_result *out;
	struct plan **plan;
	struct layout layout;
	size_t chunk, nchunks;
	int *strand0, *link0; /* of each rank: its first, counted over all */
	int nstrands, nlinks, nchannels;
	int *channel_of; /* link -> channel */
	struct channel *channel;
	double *seen, *freed; /* [channel][slot]: when message k is there, when its slot is free again */
	struct strand_at *strand;
	struct event *heap;
	int nheap;
	double *rank_free, *rank_end, *free_at, *used; /* of ranks, of resources */
	int left;
};

/* ---- events ------------------------------------------------------------------------------------------------------- */

static bool before(struct event a, struct event b)
{
	return a.at < b.at || (a.at == b.at && a.strand < b.strand);
}

static void push(struct sim *s, double at, int strand)
{
	struct event e = {at, strand};
	int i = s->nheap++;
	for (; i && before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = e;
}

static struct event pop(struct sim *s)
{
	struct event top = s->heap[0], last = s->heap[--s->nheap];
	int i = 0;
	for (int k = 1; k < s->nheap; k = 2 * i + 1) {
		k += k + 1 < s->nheap && before(s->heap[k + 1], s->heap[k]);
		if (!before(s->heap[k], last))
			break;
		s->heap[i] = s->heap[k];
		i = k;
	}
	s->heap[i] = last;
	return top;
}

static void wake(struct sim *s, int *who, double at)
{
	if (*who != NOBODY)
		push(s, at, *who);
	*who = NOBODY;
}

/* ---- one step ----------------------------------------------------------------------------------------------------- */

static size_t set_bytes(const struct sim *s, const struct strand_at *t, const struct step *step)
{
	const struct plan *p = s->plan[t->rank];
	struct block_set set = step->src != BUF_NONE ? step->src_set : step->dst_set;
	size_t elements = 0;
	if (step->src == BUF_NONE && step->dst == BUF_NONE)
		return 0;
	for (int i = 0; i < set.n; i++)
		elements +=
		        chunk_len(layout_span(&s->layout, &s->layout.out, block_at(p, set, i)).len, s->chunk, t->chunk);
	return elements * s->call->esize;
}

/* The message leaves at `at`; when it is there. */
static double pass(struct sim *s, const struct channel *c, double at, size_t bytes)
{
	double begin = at, end = at;
	for (int i = 0; i < c->route.hops; i++) {
		int h = c->route.hop[i];
		double takes = (double)bytes * s->cluster->byte[h];
		begin = begin > s->free_at[h] ? begin : s->free_at[h];
		s->free_at[h] = begin + takes;
		s->used[h] += takes;
		end = end > s->free_at[h] ? end : s->free_at[h];
	}
	s->out->messages++;
	s->out->bytes += bytes;
	return end + c->route.latency;
}

/* The rank's own time for a step: what it copies, reduces, and hands to its links. */
static double work_of(const struct sim *s, const struct step *step, const struct channel *in, const struct channel *out,
                      size_t bytes)
{
	double b = (double)bytes, t = 0;
	if (step->flags & STEP_REDUCE)
		t += b * s->cluster->reduce;
	else if (step->dst != BUF_NONE || !out)
		t += b * s->cluster->copy;
	if (in)
		t += in->route.receive + b * in->route.copy;
	if (out)
		t += out->route.send + b * out->route.copy;
	return t;
}

static double *place(double *of, const struct sim *s, const struct channel *c, uint64_t message)
{
	return &of[(size_t)(c - s->channel) * (size_t)s->call->slots + (size_t)(message % (uint64_t)s->call->slots)];
}

/* The earliest time at which the step can be done; < 0: not before something else has happened, which then wakes it. */
static double ready_at(struct sim *s, int id, struct channel *in, struct channel *out, double now)
{
	double at = now;
	if (in) {
		if (in->sent == in->taken) {
			in->awaits_message = id;
			return -1;
		}
		double seen = *place(s->seen, s, in, in->taken);
		at = seen > at ? seen : at;
	}
	if (out && out->sent >= (uint64_t)s->call->slots) {
		if (out->sent - out->taken >= (uint64_t)s->call->slots) {
			out->awaits_slot = id;
			return -1;
		}
		double freed = *place(s->freed, s, out, out->sent);
		at = freed > at ? freed : at;
	}
	double own = s->rank_free[s->strand[id].rank];
	return own > at ? own : at;
}

static struct channel *channel_at(const struct sim *s, int rank, int link)
{
	return link < 0 ? NULL : &s->channel[s->channel_of[s->link0[rank] + link]];
}

static void advance_cursor(struct sim *s, struct strand_at *t, double now)
{
	if (++t->step < s->plan[t->rank]->strands[t->index].nsteps)
		return;
	t->step = 0;
	t->chunk++;
	wake(s, &t->awaits_strand, now);
}

static bool must_wait_for_strand(struct sim *s, int id)
{
	struct strand_at *t = &s->strand[id];
	int after = s->plan[t->rank]->strands[t->index].after;
	if (after < 0 || t->step)
		return false;
	struct strand_at *other = &s->strand[s->strand0[t->rank] + after];
	if (other->chunk > t->chunk)
		return false;
	other->awaits_strand = id;
	return true;
}

/* As far as the strand gets without waiting for what lies later than others' next events. */
static void go_on(struct sim *s, struct event e)
{
	struct strand_at *t = &s->strand[e.strand];
	const struct plan *p = s->plan[t->rank];
	while (t->chunk < s->nchunks) {
		if (must_wait_for_strand(s, e.strand))
			return;
		const struct step *step = &p->steps[p->strands[t->index].first + t->step];
		size_t bytes = set_bytes(s, t, step);
		if (!bytes && !(step->flags & STEP_TOKEN)) {
			advance_cursor(s, t, e.at);
			continue;
		}
		struct channel *in = channel_at(s, t->rank, step->recv), *out = channel_at(s, t->rank, step->send);
		double at = ready_at(s, e.strand, in, out, e.at);
		if (at < 0)
			return;
		if (at > e.at) { /* others may come first */
			push(s, at, e.strand);
			return;
		}
		double end = at + work_of(s, step, in, out, bytes);
		s->rank_free[t->rank] = end;
		if (in) {
			double freed = end + in->route.latency;
			*place(s->freed, s, in, in->taken++) = freed;
			wake(s, &in->awaits_slot, freed);
		}
		if (out) {
			double seen = pass(s, out, end, bytes);
			*place(s->seen, s, out, out->sent++) = seen;
			wake(s, &out->awaits_message, seen);
		}
		s->rank_end[t->rank] = end > s->rank_end[t->rank] ? end : s->rank_end[t->rank];
		advance_cursor(s, t, end);
		push(s, end, e.strand);
		return;
	}
	s->left--;
}

/* ---- making it ----------------------------------------------------------------------------------------------------- */

static bool build_plans(struct sim *s)
{
	int n = s->cluster->nranks;
	s->plan = calloc((size_t)n, sizeof(struct plan *));
	s->strand0 = calloc((size_t)n + 1, sizeof(int));
	s->link0 = calloc((size_t)n + 1, sizeof(int));
	if (!s->plan || !s->strand0 || !s->link0)
		return false;
	for (int r = 0; r < n; r++) {
		struct plan_args a = {.coll = s->call->coll,
		                      .rank = r,
		                      .nranks = n,
		                      .root = s->call->root,
		                      .channels = s->call->channels,
		                      .shape = s->call->shape};
		if (!(s->plan[r] = algo_plan(s->call->algo, &a)))
			return false;
		s->strand0[r + 1] = s->nstrands += s->plan[r]->nstrands;
		s->link0[r + 1] = s->nlinks += s->plan[r]->nlinks;
	}
	return true;
}

/* Outgoing links by (from, to, lane). */
struct end {
	int from, to, lane, link;
};

static int by_name(const void *a, const void *b)
{
	const struct end *x = a, *y = b;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	return (x->lane > y->lane) - (x->lane < y->lane);
}

static size_t collect_ends(const struct sim *s, struct end *ends, bool outgoing)
{
	size_t n = 0;
	for (int r = 0; r < s->cluster->nranks; r++)
		for (int i = 0; i < s->plan[r]->nlinks; i++) {
			const struct plan_link *l = &s->plan[r]->links[i];
			if (l->outgoing == outgoing)
				ends[n++] = (struct end){outgoing ? r : l->peer, outgoing ? l->peer : r, l->lane,
				                         s->link0[r] + i};
		}
	qsort(ends, n, sizeof(*ends), by_name);
	return n;
}

/* Sorted by name, the outgoing and the incoming ends are the same list: the checker has proved it. */
static bool join_ends(struct sim *s)
{
	size_t most = (size_t)s->nlinks + 1;
	struct end *out = calloc(most, sizeof(*out)), *in = calloc(most, sizeof(*in));
	s->channel_of = calloc(most, sizeof(int));
	bool ok = out && in && s->channel_of;
	size_t n = ok ? collect_ends(s, out, true) : 0, m = ok ? collect_ends(s, in, false) : 0;
	s->channel = calloc(n + 1, sizeof(*s->channel));
	s->seen = calloc((n + 1) * (size_t)s->call->slots, sizeof(double));
	s->freed = calloc((n + 1) * (size_t)s->call->slots, sizeof(double));
	ok = ok && s->channel && s->seen && s->freed && n == m;
	for (size_t i = 0; ok && i < n; i++) {
		struct channel *c = &s->channel[i];
		*c = (struct channel){
		        .from = out[i].from, .to = out[i].to, .awaits_message = NOBODY, .awaits_slot = NOBODY};
		s->cluster->route(s->cluster, c->from, c->to, &c->route);
		s->channel_of[out[i].link] = s->channel_of[in[i].link] = (int)i;
	}
	free(out);
	free(in);
	return ok;
}

static bool prepare(struct sim *s)
{
	size_t n = (size_t)s->cluster->nranks, m = (size_t)s->nstrands + 1;
	s->strand = calloc(m, sizeof(*s->strand));
	s->heap = calloc(m, sizeof(*s->heap));
	s->rank_free = calloc(n, sizeof(double));
	s->rank_end = calloc(n, sizeof(double));
	s->free_at = calloc((size_t)s->cluster->nresources + 1, sizeof(double));
	s->used = calloc((size_t)s->cluster->nresources + 1, sizeof(double));
	if (!s->strand || !s->heap || !s->rank_free || !s->rank_end || !s->free_at || !s->used)
		return false;
	for (int r = 0; r < (int)n; r++) {
		s->rank_free[r] = s->rank_end[r] = s->cluster->skew ? s->cluster->skew[r] : 0;
		for (int i = 0; i < s->plan[r]->nstrands; i++) {
			int id = s->strand0[r] + i;
			s->strand[id] = (struct strand_at){.rank = r, .index = i, .awaits_strand = NOBODY};
			push(s, s->rank_free[r], id);
		}
	}
	s->left = s->nstrands;
	return true;
}

static int cut(struct sim *s)
{
	const struct plan *p = s->plan[0];
	bool owned = coll_owned(s->call->coll);
	s->layout = (struct layout){.nblocks = p->nblocks, .parts = p->parts};
	s->layout.out = (struct layout_side){.kind = owned ? LAYOUT_RANKS : LAYOUT_WHOLE, .count = s->call->count};
	size_t len = span_share(s->call->count, owned ? p->parts : p->nblocks, 0).len;
	return engine_cut(p, s->call->slot, s->call->esize, len, &s->chunk, &s->nchunks);
}

static void sum_up(struct sim *s)
{
	struct sim_result *out = s->out;
	for (int r = 0; r < s->cluster->nranks; r++) {
		out->seconds = s->rank_end[r] > out->seconds ? s->rank_end[r] : out->seconds;
		out->first = r == 0 || s->rank_end[r] < out->first ? s->rank_end[r] : out->first;
	}
	out->busiest_at = -1;
	for (int h = 0; h < s->cluster->nresources; h++)
		if (out->busiest_at < 0 || s->used[h] > s->used[out->busiest_at])
			out->busiest_at = h;
	if (out->busiest_at >= 0 && out->seconds > 0)
		out->busiest = s->used[out->busiest_at] / out->seconds;
}

static void clear(struct sim *s)
{
	for (int r = 0; s->plan && r < s->cluster->nranks; r++)
		plan_free(s->plan[r]);
	free(s->plan);
	free(s->strand0);
	free(s->link0);
	free(s->channel_of);
	free(s->channel);
	free(s->seen);
	free(s->freed);
	free(s->strand);
	free(s->heap);
	free(s->rank_free);
	free(s->rank_end);
	free(s->free_at);
	free(s->used);
}

int sim_run(const struct sim_cluster *cluster, const struct sim_call *call, struct sim_result *out)
{
	struct plan_args a = {.coll = call->coll,
	                      .nranks = cluster->nranks,
	                      .root = call->root,
	                      .channels = call->channels,
	                      .shape = call->shape};
	struct sim s = {.cluster = cluster, .call = call, .out = out};
	*out = (struct sim_result){.busiest_at = -1};
	if (!algo_serves(call->algo, &a))
		return fail(TUTTI_EINVAL, "%s does not serve %s on %d ranks", call->algo->name, coll_name(call->coll),
		            cluster->nranks);
	int rc = build_plans(&s) && join_ends(&s) && prepare(&s)
	                 ? cut(&s)
	                 : fail(TUTTI_ENOMEM, "out of memory: %s of %d ranks", call->algo->name, cluster->nranks);
	while (!rc && s.nheap)
		go_on(&s, pop(&s));
	if (!rc && s.left)
		rc = fail(TUTTI_EUSAGE, "%s:%s on %d ranks comes to a stop", coll_name(call->coll), call->algo->name,
		          cluster->nranks);
	if (!rc)
		sum_up(&s);
	clear(&s);
	return rc;
}
