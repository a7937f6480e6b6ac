/* SPDX-License-Identifier: MIT */
/*
 * The simulator of plans: see sim.h. Events are strands that may go on and messages that come to the next resource of
 * their way; the earliest one is taken. A cluster that is folded (fold.h) is simulated as its first unit alone.
 */
#include "sim.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/engine.h"
#include "../../src/util/error.h"
#include "fold.h"

#define NOBODY     (-1)
#define MOST_STEPS (32u << 20) /* of all plans together: a gigabyte */
#define MOST_WORK  (16u << 20) /* steps to simulate, and half as many: minutes, for the widest plans */
#define FEW_CHUNKS 16

/* Message k of a link, in slot k mod slots. */
struct message {
	double head;  /* when its first byte is at the next resource of its way */
	double seen;  /* when its last byte is there: so far, and when it has passed them all */
	double freed; /* when its slot is free again */
	size_t bytes;
	int hop; /* resources that it has passed */
};

/* One link, both ends. */
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
	int awaits_strand; /* the strands that wait until this one has finished a chunk */
	double since; /* when it began to wait for its rank, which is at work for another strand; < 0: it doesn't */
};

struct event {
	double at, since; /* the one that has waited longest comes first */
	/* a strand; nstrands and on: a message, at its next resource; -1 - r: rank r is free for strands that wait for it */
	int who;
};

struct sim {
	const struct sim_cluster *cluster;
	const struct sim_call *call;
	struct sim_result *out;
	struct fold fold;
	struct plan **plan; /* of the first unit's ranks */
	struct layout layout;
	size_t chunk, nchunks;
	size_t block; /* elements of each block where all have as many; else 0 */
	uint64_t nsteps;
	int *strand0, *link0; /* of each rank: its first, counted over all */
	int nstrands, nlinks, nchannels;
	int *channel_of; /* link -> channel */
	struct channel *channel;
	struct message *message; /* [channel][slot] */
	struct strand_at *strand;
	struct event *heap;
	int nheap;
	double *rank_free, *rank_end, *free_at, *used; /* of ranks, of resources */
	bool *awaited;                                 /* by strands; there is an event for each such rank */
	int *core0;                                    /* of each processor: its first core, counted over all */
	double *core_free;
	int left;
};

/* ---- events ------------------------------------------------------------------------------------------------------ */

static bool before(struct event a, struct event b)
{
	if (a.at != b.at)
		return a.at < b.at;
	return a.since < b.since || (a.since == b.since && a.who < b.who);
}

static void push(struct sim *s, double at, double since, int who)
{
	struct event e = {at, since, who};
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
		push(s, at, at, *who);
	*who = NOBODY;
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static size_t set_bytes(const struct sim *s, const struct strand_at *t, const struct step *step)
{
	const struct plan *p = s->plan[t->rank];
	struct block_set set = step->src != BUF_NONE ? step->src_set : step->dst_set;
	size_t elements = 0;
	if (step->src == BUF_NONE && step->dst == BUF_NONE)
		return 0;
	if (s->block)
		return (size_t)set.n * chunk_len(s->block, s->chunk, t->chunk) * s->call->esize;
	for (int i = 0; i < set.n; i++)
		elements +=
		        chunk_len(layout_span(&s->layout, &s->layout.out, block_at(p, set, i)).len, s->chunk, t->chunk);
	return elements * s->call->esize;
}

static struct message *message_of(const struct sim *s, const struct channel *c, uint64_t k)
{
	return &s->message[(size_t)(c - s->channel) * (size_t)s->call->slots + (size_t)(k % (uint64_t)s->call->slots)];
}

/*
 * As far as the message gets without waiting: resources serve in the order of coming, so it comes to the next one when its first
 * byte does.
 */
static void pass(struct sim *s, struct channel *c, struct message *m, double now)
{
	for (; m->hop < c->route.hops; m->hop++) {
		int h = c->route.hop[m->hop];
		double takes = (double)m->bytes * s->cluster->byte[h];
		double ahead = s->cluster->burst ? s->cluster->burst[h] * s->cluster->byte[h] : 0;
		if (m->head > now) {
			push(s, m->head, m->head, s->nstrands + (int)(m - s->message));
			return;
		}
		double start = m->head > s->free_at[h] ? m->head : s->free_at[h];
		s->free_at[h] = start + takes;
		s->used[h] += takes;
		m->head = m->head > start - ahead ? m->head : start - ahead;
		m->seen = m->seen > s->free_at[h] - ahead ? m->seen : s->free_at[h] - ahead;
	}
	m->seen += c->route.latency;
	wake(s, &c->awaits_message, m->seen);
}

/* The message leaves its rank at `at`, not before now. */
static void transmit(struct sim *s, struct channel *c, size_t bytes, double at, double now)
{
	struct message *m = message_of(s, c, c->sent++);
	*m = (struct message){.head = at, .seen = at, .bytes = bytes};
	s->out->messages++;
	s->out->bytes += bytes;
	pass(s, c, m, now);
}

static double own_time(const struct sim_route *r, double message, double bytes)
{
	return message + bytes * r->copy + (bytes > (double)r->frame ? r->frames : 0);
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
		t += own_time(&in->route, in->route.receive, b);
	if (out)
		t += own_time(&out->route, out->route.send, b);
	return t;
}

/* The core that a rank gets: that of its processor which is free first. */
static double *core_of(const struct sim *s, int rank)
{
	int cpu = s->cluster->cpu[rank];
	double *first = &s->core_free[s->core0[cpu]];
	for (int i = s->core0[cpu] + 1; i < s->core0[cpu + 1]; i++)
		first = s->core_free[i] < *first ? &s->core_free[i] : first;
	return first;
}

/* The earliest time at which the step can be done; < 0: not before something else has happened, which then wakes it. */
static double ready_at(struct sim *s, int id, struct channel *in, struct channel *out, double now)
{
	double at = now;
	if (in) {
		const struct message *m = message_of(s, in, in->taken);
		if (in->sent == in->taken || m->hop < in->route.hops) {
			in->awaits_message = id;
			return -1;
		}
		at = m->seen > at ? m->seen : at;
	}
	if (out && out->sent >= (uint64_t)s->call->slots) {
		if (out->sent - out->taken >= (uint64_t)s->call->slots) {
			out->awaits_slot = id;
			return -1;
		}
		const struct message *last = message_of(s, out, out->sent);
		at = last->freed > at ? last->freed : at;
	}
	double own = s->rank_free[s->strand[id].rank];
	at = own > at ? own : at;
	if (s->core_free) {
		double core = *core_of(s, s->strand[id].rank);
		at = core > at ? core : at;
	}
	return at;
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

/*
 * Strands that all wait for their rank would come and go again each time that it is free, all but one: they wait beside
 * the events.
 */
static void wait_until(struct sim *s, struct event e, double at)
{
	struct strand_at *t = &s->strand[e.who];
	if (s->core_free || at > s->rank_free[t->rank]) {
		push(s, at, e.since, e.who);
		return;
	}
	t->since = e.since;
	if (!s->awaited[t->rank])
		push(s, at, e.since, -1 - t->rank);
	s->awaited[t->rank] = true;
}

/* Of those that wait for a rank, the one that has waited longest, or NOBODY. */
static int longest_waiting(const struct sim *s, int rank)
{
	int best = NOBODY;
	for (int i = s->strand0[rank]; i < s->strand0[rank + 1]; i++)
		if (s->strand[i].since >= 0 && (best == NOBODY || s->strand[i].since < s->strand[best].since))
			best = i;
	return best;
}

/* As far as the strand gets without waiting for what lies later than others' next events. */
static void go_on(struct sim *s, struct event e)
{
	struct strand_at *t = &s->strand[e.who];
	const struct plan *p = s->plan[t->rank];
	while (t->chunk < s->nchunks) {
		if (must_wait_for_strand(s, e.who))
			return;
		const struct step *step = &p->steps[p->strands[t->index].first + t->step];
		size_t bytes = set_bytes(s, t, step);
		if (!bytes && !(step->flags & STEP_TOKEN)) {
			advance_cursor(s, t, e.at);
			continue;
		}
		struct channel *in = channel_at(s, t->rank, step->recv), *out = channel_at(s, t->rank, step->send);
		double at = ready_at(s, e.who, in, out, e.at);
		if (at < 0)
			return;
		if (at > e.at) { /* others may come first */
			wait_until(s, e, at);
			return;
		}
		double end = at + work_of(s, step, in, out, bytes);
		s->rank_free[t->rank] = end;
		if (s->core_free)
			*core_of(s, t->rank) = end;
		if (in) {
			double freed = end + in->route.latency;
			message_of(s, in, in->taken++)->freed = freed;
			wake(s, &in->awaits_slot, freed);
		}
		if (out)
			transmit(s, out, bytes, end, e.at);
		s->rank_end[t->rank] = end > s->rank_end[t->rank] ? end : s->rank_end[t->rank];
		advance_cursor(s, t, end);
		push(s, end, end, e.who);
		return;
	}
	s->left--;
}

static void serve(struct sim *s, int rank, double now)
{
	int who = longest_waiting(s, rank);
	if (s->rank_free[rank] <= now) { /* otherwise another one that came at the same time was first */
		struct event e = {now, s->strand[who].since, who};
		s->strand[who].since = -1;
		go_on(s, e);
		who = longest_waiting(s, rank);
	}
	s->awaited[rank] = who != NOBODY;
	if (who != NOBODY)
		push(s, s->rank_free[rank] > now ? s->rank_free[rank] : now, s->strand[who].since, -1 - rank);
}

static void take(struct sim *s, struct event e)
{
	if (e.who < 0)
		serve(s, -1 - e.who, e.at);
	else if (e.who < s->nstrands)
		go_on(s, e);
	else
		pass(s, &s->channel[(e.who - s->nstrands) / s->call->slots], &s->message[e.who - s->nstrands], e.at);
}

/* ---- making it --------------------------------------------------------------------------------------------------- */

static int build_plans(struct sim *s)
{
	int n = s->fold.ranks;
	s->plan = calloc((size_t)n, sizeof(struct plan *));
	s->strand0 = calloc((size_t)n + 1, sizeof(int));
	s->link0 = calloc((size_t)n + 1, sizeof(int));
	if (!s->plan || !s->strand0 || !s->link0)
		return fail(TUTTI_ENOMEM, "out of memory: plans of %d ranks", n);
	for (int r = 0; r < n; r++) {
		int rc = fold_plan(s->cluster, s->call, r, &s->plan[r]);
		if (rc)
			return rc;
		s->nsteps += (uint64_t)s->plan[r]->nsteps;
		if (s->nsteps > MOST_STEPS)
			return fail(TUTTI_EUNSUPPORTED,
			            "%s on %d ranks takes more steps than can be simulated one by one",
			            s->call->algo->name, s->cluster->nranks);
		s->strand0[r + 1] = s->nstrands += s->plan[r]->nstrands;
		s->link0[r + 1] = s->nlinks += s->plan[r]->nlinks;
	}
	return TUTTI_OK;
}

/*
 * Ends of links by (from, to, lane); `way`: from the sender's unit to the receiver's. `peer`: the rank at the other
 * end.
 */
struct end {
	int from, to, way, lane, link, peer;
};

static int by_name(const void *a, const void *b)
{
	const struct end *x = a, *y = b;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	if (x->way != y->way)
		return x->way < y->way ? -1 : 1;
	return (x->lane > y->lane) - (x->lane < y->lane);
}

static size_t collect_ends(const struct sim *s, struct end *ends, bool outgoing)
{
	const struct fold *f = &s->fold;
	size_t n = 0;
	for (int r = 0; r < f->ranks; r++)
		for (int i = 0; i < s->plan[r]->nlinks; i++) {
			const struct plan_link *l = &s->plan[r]->links[i];
			int peer = l->peer % f->ranks, unit = l->peer / f->ranks;
			if (l->outgoing != outgoing)
				continue;
			ends[n++] = (struct end){.from = outgoing ? r : peer,
			                         .to = outgoing ? peer : r,
			                         .way = outgoing ? fold_way(f, 0, unit) : fold_way(f, unit, 0),
			                         .lane = l->lane,
			                         .link = s->link0[r] + i,
			                         .peer = l->peer};
		}
	if (n)
		qsort(ends, n, sizeof(*ends), by_name);
	return n;
}

/* This unit's resources also represent those of the other units: what they do there, it does here. */
static void find_route(const struct sim *s, struct channel *c, int to)
{
	s->cluster->route(s->cluster, c->from, to, &c->route);
	for (int i = 0; s->fold.units > 1 && i < c->route.hops; i++)
		c->route.hop[i] %= s->cluster->nresources / s->fold.units;
}

/* Sorted by name, the outgoing and the incoming ends are the same list: the checker has proved it. */
static int join_ends(struct sim *s)
{
	size_t most = (size_t)s->nlinks + 1;
	if (most * (size_t)s->call->slots > (size_t)(INT_MAX - s->nstrands)) /* an event numbers them */
		return fail(TUTTI_EUNSUPPORTED, "%s on %d ranks has more slots than can be simulated one by one",
		            s->call->algo->name, s->cluster->nranks);
	struct end *out = calloc(most, sizeof(*out)), *in = calloc(most, sizeof(*in));
	s->channel_of = calloc(most, sizeof(int));
	bool ok = out && in && s->channel_of;
	size_t n = ok ? collect_ends(s, out, true) : 0, m = ok ? collect_ends(s, in, false) : 0;
	s->channel = calloc(n + 1, sizeof(*s->channel));
	s->message = calloc((n + 1) * (size_t)s->call->slots, sizeof(*s->message));
	ok = ok && s->channel && s->message;
	bool paired = n == m;
	for (size_t i = 0; ok && paired && i < n; i++) {
		struct channel *c = &s->channel[i];
		paired = by_name(&out[i], &in[i]) == 0;
		*c = (struct channel){.from = out[i].from, .to = out[i].to};
		find_route(s, c, out[i].peer);
		s->channel_of[out[i].link] = s->channel_of[in[i].link] = (int)i;
	}
	s->nchannels = (int)n;
	free(out);
	free(in);
	return !ok      ? fail(TUTTI_ENOMEM, "out of memory: links of %d ranks", s->fold.ranks)
	       : paired ? TUTTI_OK
	                : fail(TUTTI_EUSAGE, "%s on %d ranks: links without another end", s->call->algo->name,
	                       s->cluster->nranks);
}

/* Where each rank has a core to itself there is nothing to share. */
static bool allot_cores(struct sim *s)
{
	const struct sim_cluster *c = s->cluster;
	int *ranks = calloc((size_t)c->ncpus + 1, sizeof(int));
	bool shared = false;
	s->core0 = calloc((size_t)c->ncpus + 1, sizeof(int));
	for (int r = 0; ranks && c->cores && r < c->nranks; r++)
		shared |= ++ranks[c->cpu[r]] > c->cores[c->cpu[r]];
	for (int i = 0; s->core0 && i < c->ncpus; i++)
		s->core0[i + 1] = s->core0[i] + c->cores[i];
	if (shared && s->core0)
		s->core_free = calloc((size_t)s->core0[c->ncpus] + 1, sizeof(double));
	free(ranks);
	return ranks && s->core0 && (!shared || s->core_free);
}

static int allot(struct sim *s)
{
	size_t n = (size_t)s->fold.ranks, m = (size_t)s->nstrands + 1;
	size_t messages = (size_t)s->nchannels * (size_t)s->call->slots;
	s->strand = calloc(m, sizeof(*s->strand));
	s->heap = calloc(m + n + messages, sizeof(*s->heap)); /* of most, never touched */
	s->awaited = calloc(n, sizeof(bool));
	s->rank_free = calloc(n, sizeof(double));
	s->rank_end = calloc(n, sizeof(double));
	s->free_at = calloc((size_t)s->cluster->nresources + 1, sizeof(double));
	s->used = calloc((size_t)s->cluster->nresources + 1, sizeof(double));
	return s->strand && s->heap && s->awaited && s->rank_free && s->rank_end && s->free_at && s->used &&
	                       allot_cores(s)
	               ? TUTTI_OK
	               : fail(TUTTI_ENOMEM, "out of memory: %d ranks", s->fold.ranks);
}

static void come_to_rest(struct sim *s)
{
	memset(s->free_at, 0, (size_t)s->cluster->nresources * sizeof(double));
	if (s->core_free)
		memset(s->core_free, 0, (size_t)s->core0[s->cluster->ncpus] * sizeof(double));
	for (int r = 0; r < s->fold.ranks; r++)
		s->rank_end[r] = s->cluster->skew ? s->cluster->skew[r] : 0;
}

/* Each rank enters the call when its last one has ended. */
static void begin(struct sim *s)
{
	s->out->messages = s->out->bytes = 0;
	memset(s->used, 0, (size_t)s->cluster->nresources * sizeof(double));
	for (int i = 0; i < s->nchannels; i++) {
		s->channel[i].sent = s->channel[i].taken = 0;
		s->channel[i].awaits_message = s->channel[i].awaits_slot = NOBODY;
	}
	for (int r = 0; r < s->fold.ranks; r++) {
		s->rank_free[r] = s->rank_end[r];
		for (int i = 0; i < s->plan[r]->nstrands; i++) {
			int id = s->strand0[r] + i;
			s->strand[id] = (struct strand_at){.rank = r, .index = i, .awaits_strand = NOBODY, .since = -1};
			push(s, s->rank_free[r], s->rank_free[r], id);
		}
	}
	s->left = s->nstrands;
}

/* Folded, all blocks are as long as the longest: units are alike. */
static int cut(struct sim *s)
{
	const struct plan *p = s->plan[0];
	bool owned = coll_owned(s->call->coll);
	size_t blocks = (size_t)(owned ? p->parts : p->nblocks), count = s->call->count;
	if (s->fold.units > 1)
		count = (count + blocks - 1) / blocks * blocks;
	s->block = count % blocks ? 0 : count / blocks;
	s->layout = (struct layout){.nblocks = p->nblocks, .parts = p->parts};
	s->layout.out = (struct layout_side){.kind = owned ? LAYOUT_RANKS : LAYOUT_WHOLE, .count = count};
	return engine_cut(p, s->call->slot, s->call->esize, span_share(count, (int)blocks, 0).len, &s->chunk,
	                  &s->nchunks);
}

static double last_end(const struct sim *s)
{
	double last = 0;
	for (int r = 0; r < s->fold.ranks; r++)
		last = s->rank_end[r] > last ? s->rank_end[r] : last;
	return last;
}

static void sum_up(struct sim *s, double since)
{
	struct sim_result *out = s->out;
	out->seconds = out->first = last_end(s) - since;
	for (int r = 0; r < s->fold.ranks; r++)
		out->first = s->rank_end[r] - since < out->first ? s->rank_end[r] - since : out->first;
	out->units = s->fold.units;
	out->messages *= (uint64_t)s->fold.units;
	out->bytes *= (uint64_t)s->fold.units;
	out->busiest_at = -1;
	for (int h = 0; h < s->cluster->nresources; h++)
		if (out->busiest_at < 0 || s->used[h] > s->used[out->busiest_at])
			out->busiest_at = h;
	if (out->busiest_at >= 0 && out->seconds > 0)
		out->busiest = s->used[out->busiest_at] / out->seconds;
}

static int run_through(struct sim *s)
{
	double since = 0;
	come_to_rest(s);
	for (int i = 0; i <= s->call->before; i++) {
		since = i ? last_end(s) : 0;
		begin(s);
		while (s->nheap)
			take(s, pop(s));
		if (s->left)
			return fail(TUTTI_EUSAGE, "%s:%s on %d ranks comes to a stop", coll_name(s->call->coll),
			            s->call->algo->name, s->cluster->nranks);
	}
	sum_up(s, since);
	return TUTTI_OK;
}

/*
 * A long stream settles into a rhythm: as many chunks as there is time for are simulated, and half as many, and each
 * further one takes what one took from the half to the whole. Where chunks come out unequal, the last counts as a whole
 * one.
 */
static int run_chunks(struct sim *s)
{
	uint64_t work = s->call->work ? s->call->work : MOST_WORK, fit = s->nsteps ? work / s->nsteps : 0;
	size_t all = s->nchunks, part = fit < FEW_CHUNKS ? FEW_CHUNKS : (size_t)fit;
	if (all <= part + part / 2)
		return run_through(s);
	s->nchunks = part / 2;
	int rc = run_through(s);
	struct sim_result half = *s->out, *out = s->out;
	s->nchunks = part;
	rc = rc ? rc : run_through(s);
	double more = (double)(all - part) / (double)(part - part / 2);
	out->seconds += (out->seconds - half.seconds) * more;
	out->first += (out->first - half.first) * more;
	out->messages += (uint64_t)((double)(out->messages - half.messages) * more);
	out->bytes += (uint64_t)((double)(out->bytes - half.bytes) * more);
	out->rest = all - part;
	return rc;
}

static void clear(struct sim *s)
{
	for (int r = 0; s->plan && r < s->fold.ranks; r++)
		plan_free(s->plan[r]);
	free(s->plan);
	free(s->strand0);
	free(s->link0);
	free(s->channel_of);
	free(s->channel);
	free(s->message);
	free(s->strand);
	free(s->heap);
	free(s->awaited);
	free(s->rank_free);
	free(s->rank_end);
	free(s->free_at);
	free(s->used);
	free(s->core0);
	free(s->core_free);
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
	int rc = fold_find(cluster, call, &s.fold);
	rc = rc ? rc : build_plans(&s);
	rc = rc ? rc : join_ends(&s);
	rc = rc ? rc : allot(&s);
	rc = rc ? rc : cut(&s);
	rc = rc ? rc : run_chunks(&s);
	clear(&s);
	return rc;
}
