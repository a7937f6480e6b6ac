/* Life of a communicator: made of members of a world, split, shrunk, ended; its plans and links, made on first use. */
#include "comm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../topo/ring.h"
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/float_env.h"
#include "../util/log.h"
#include "../util/service.h"

/* ---- lock ---------------------------------------------------------------------------------------------------------- */

bool comm_trylock(struct tutti_comm *c)
{
	int free_ = 0;
	return atomic_compare_exchange_strong_explicit(&c->lock, &free_, 1, memory_order_acquire, /* A11 */
	                                               memory_order_relaxed);
}

void comm_lock(struct tutti_comm *c)
{
	while (!comm_trylock(c))
		sched_yield();
}

void comm_unlock(struct tutti_comm *c)
{
	atomic_store_explicit(&c->lock, 0, memory_order_release); /* R11 */
}

/* ---- what the wait tells ---------------------------------------------------------------------------------------------- */

/*
 * The collective that this rank is in: they end in issue order, so it is the one after the last that ended, however many
 * were issued since. 0: none.
 */
static uint64_t current_call(struct tutti_comm *c)
{
	uint64_t finished = atomic_load_explicit(&c->flight.finished, memory_order_relaxed);
	return atomic_load_explicit(&c->flight.started, memory_order_relaxed) > finished ? finished + 1 : 0;
}

/* The message that this rank waits in, with the lock held: the first of those in the queue. false: none. */
static bool current_message(struct tutti_comm *c, struct call *call)
{
	const struct tutti_request *r = c->message;
	for (struct lane *l = c->busy; l && !r; l = l->next)
		if (l->head && is_message(l->head->op.coll))
			r = l->head;
	if (r)
		*call = r->call;
	return r != NULL;
}

static void report_slow_locked(void *ctx, uint64_t waited_ns)
{
	struct tutti_comm *c = ctx;
	struct call message;
	uint64_t number = current_call(c);
	world_look(c->world);
	if (number)
		control_waiting(c->control, number, waited_ns);
	else if (current_message(c, &message))
		control_waiting_message(c->control, &message, waited_ns);
}

/* What has ended meanwhile, by another thread, is not late. */
static void report_late_locked(void *ctx, uint64_t waited_ns)
{
	struct tutti_comm *c = ctx;
	struct call message;
	uint64_t number = current_call(c);
	if (number)
		control_deadline(c->control, number, (double)waited_ns * 1e-9);
	else if (current_message(c, &message))
		control_deadline_message(c->control, &message, (double)waited_ns * 1e-9);
}

static void report_slow(void *ctx, uint64_t waited_ns)
{
	comm_lock(ctx);
	report_slow_locked(ctx, waited_ns);
	comm_unlock(ctx);
}

static void report_late(void *ctx, uint64_t waited_ns)
{
	comm_lock(ctx);
	report_late_locked(ctx, waited_ns);
	comm_unlock(ctx);
}

/* ---- making ----------------------------------------------------------------------------------------------------------- */

static void number_hosts(struct tutti_comm *c)
{
	int nhosts = 0;
	for (int r = 0; r < c->size; r++) {
		c->host[r] = -1;
		for (int q = 0; q < r && c->host[r] < 0; q++)
			if (c->world->host[c->members[q]] == c->world->host[c->members[r]])
				c->host[r] = c->host[q];
		if (c->host[r] < 0)
			c->host[r] = nhosts++;
	}
	c->shape = (struct shape){.nranks = c->size, .nhosts = nhosts, .host = c->host};
}

static int order_ring(struct tutti_comm *c)
{
	size_t n = (size_t)c->size;
	if (!c->world->place || c->size < 2)
		return TUTTI_OK;
	int *place = calloc(n, sizeof(*place));
	c->order = calloc(n, sizeof(*c->order));
	if (place && c->order) {
		for (size_t r = 0; r < n; r++)
			place[r] = c->world->place[c->members[r]];
		ring_by_host(c->size, c->host, place, c->order);
	}
	c->shape.order = c->order;
	int rc = place && c->order ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	free(place);
	return rc;
}

/* The dearest kinds of links inside a host and between hosts. */
static void kinds_of_links(const struct tutti_comm *c, enum cost_link *near, enum cost_link *far)
{
	*near = COST_INPROC;
	*far = COST_LOOPBACK;
	for (int r = 1; r < c->size; r++) {
		int q = 0; /* the lowest on the same host; else 0 */
		while (q < r && c->host[q] != c->host[r])
			q++;
		enum cost_link *kind = q < r ? near : far;
		enum cost_link link = world_link(c->world, c->members[q < r ? q : 0], c->members[r]);
		*kind = link > *kind ? link : *kind;
	}
}

static int start_tuner(struct tutti_comm *c)
{
	const struct params *p = &c->world->params;
	bool shared = c->shape.nhosts == 1 && c->world->segment != NULL;
	enum cost_link near, far;
	c->tuner = (struct tuner){
	        .shape = &c->shape,
	        .direct = shared && p->direct_max > 0,
	        .reproducible = p->reproducible,
	        .slot = (size_t)p->slot,
	        .channels = (int)p->channels,
	        .sockets = c->world->sockets,
	        .peers = c->world->peers,
	};
	kinds_of_links(c, &near, &far);
	tuner_prices(&c->tuner, &c->world->costs, near, far);
	return tuner_allow(&c->tuner, p->algo);
}

/* Every pair must have a way; said now, not at the first call. */
static int check_ways(const struct tutti_comm *c)
{
	for (int r = 0; r < c->size; r++) {
		int w = c->members[r];
		if (r == c->rank || c->world->via[w] >= 0)
			continue;
		char who[160], why[600];
		size_t n = 0;
		why[0] = '\0';
		for (int i = 0; i < c->world->ntransports; i++) {
			const struct world_transport *x = &c->world->transport[i];
			n += (size_t)snprintf(why + n, sizeof(why) - n, "%s%s: %s", n ? "; " : "", x->t->name,
			                      x->usable ? "does not reach it" : x->reason);
			n = n < sizeof(why) ? n : sizeof(why) - 1;
		}
		return fail(TUTTI_EUNSUPPORTED, "no transport reaches %s (%s)",
		            contact_text(&c->world->contacts[w], who, sizeof(who)), why);
	}
	return TUTTI_OK;
}

/* Members of a host's memory tell each other of which communicators they are members: *at is NULL where none is shared. */
static int list_member(struct world *w, uint64_t id, struct entry **at)
{
	if (!w->segment || *at)
		return TUTTI_OK;
	world_lock(w);
	int rc = segment_enlist(w->segment, id, at);
	world_unlock(w);
	return rc;
}

static void delist_member(struct world *w, struct entry *listed)
{
	if (!listed)
		return;
	world_lock(w);
	segment_delist(w->segment, listed);
	world_unlock(w);
}

static bool move_job(struct progress_job *job)
{
	return comm_progress((struct tutti_comm *)((char *)job - offsetof(struct tutti_comm, job)));
}

int comm_make(struct tutti_comm **out, const struct comm_spec *spec)
{
	struct tutti_comm *c = calloc(1, sizeof(*c));
	size_t n = (size_t)(spec->size > 0 ? spec->size : 1);
	if (!c)
		return fail(TUTTI_ENOMEM, "out of memory");
	c->world = world_ref(spec->world);
	c->id = spec->id;
	c->rank = spec->rank;
	c->size = spec->size;
	c->timeout = spec->timeout;
	c->progress = spec->progress;
	c->job.move = move_job;
	c->listed = spec->listed;
	c->busy_tail = &c->busy;
	c->fd = c->timer = -1;
	wait_begin(&c->poll, &c->site_locked);
	snprintf(c->name, sizeof(c->name), "%s", spec->name ? spec->name : "world");
	c->members = calloc(n, sizeof(int));
	c->host = calloc(n, sizeof(int));
	c->p2p = calloc(2 * n, sizeof(uint64_t));
	c->lanes = calloc(1 + 2 * n, sizeof(*c->lanes));
	c->error = calloc(1, sizeof(c->alarm.text) + 64);
	int rc = recipes_open(&c->recipes[0]);
	if (!rc)
		rc = recipes_open(&c->recipes[1]);
	if (rc || !c->members || !c->host || !c->p2p || !c->lanes || !c->error) {
		rc = fail(TUTTI_ENOMEM, "out of memory");
		goto out;
	}
	memcpy(c->members, spec->members, n * sizeof(int));
	c->flight.timed = c->world->params.flight != NULL;
	number_hosts(c);
	c->site = (struct wait_site){&c->world->wait, &c->alarm,  (uint64_t)(c->timeout * 1e9), c,
	                             report_slow,     report_late};
	c->site_locked = c->site;
	c->site_locked.slow = report_slow_locked;
	c->site_locked.late = report_late_locked;
	rc = order_ring(c);
	if (!rc)
		rc = start_tuner(c);
	if (!rc)
		rc = check_ways(c);
	if (!rc)
		rc = control_join(&c->control, c->world->control, c->id, c->name, c->members, c->size, c->rank,
		                  &c->flight, &c->alarm);
	if (!rc)
		rc = list_member(c->world, c->id, &c->listed);
	if (!rc)
		rc = progress_add(&c->world->progress, &c->job, spec->progress == TUTTI_PROGRESS_THREAD);
out:
	if (rc)
		comm_free(c);
	else
		*out = c;
	return rc;
}

static void end_links(struct tutti_comm *c, bool networks_only)
{
	world_lock(c->world);
	for (struct comm_link *l = c->links; l; l = l->next)
		if (l->link.ready && !(networks_only && l->link.lease))
			l->by->t->disconnect(l->by->ctx, &l->link);
	world_unlock(c->world);
}

/* What peers sent in messages for which it has made no links is forgotten. */
static void leave_transports(struct tutti_comm *c)
{
	world_lock(c->world);
	for (int i = 0; i < c->world->npumps && c->size > 1; i++)
		if (c->world->pump[i]->t->left)
			c->world->pump[i]->t->left(c->world->pump[i]->ctx, c->id);
	world_unlock(c->world);
}

void comm_cut(struct tutti_comm *c)
{
	end_links(c, true);
}

void comm_dump(struct tutti_comm *c)
{
	if (flight_dump(&c->flight, c->world->params.flight, c->rank, c->name, &c->alarm) != TUTTI_OK)
		log_warn("%s", fail_text());
}

void comm_free(struct tutti_comm *c)
{
	if (!c)
		return;
	bool forked = c->world->forks != service_forks;
	if (forked && c->timer >= 0) { /* shared with the parent: what this child completes must not set it */
		fd_close(c->timer);
		c->timer = -1;
	}
	if (!forked)
		progress_remove(&c->world->progress, &c->job);
	comm_orphan_all(c);
	if (!forked) {
		if (c->world->params.flight && !c->dumped)
			comm_dump(c);
		control_leave(c->control);
		world_lock(c->world);
		direct_close(c->direct);
		world_unlock(c->world);
		end_links(c, false);
		leave_transports(c);
		delist_member(c->world, c->listed); /* all areas that it has found are let go of */
		mem_free_all(c);
	}
	for (struct comm_link *l = c->links, *next; l; l = next) {
		next = l->next;
		free(l);
	}
	for (struct comm_plan *p = c->plans, *next; p; p = next) {
		next = p->next;
		plan_free(p->plan);
		free(p->links);
		free(p);
	}
	world_unref(c->world);
	fd_close(c->fd);
	fd_close(c->timer);
	recipes_close(&c->recipes[0]);
	recipes_close(&c->recipes[1]);
	free(c->scratch);
	free(c->spare);
	free(c->members);
	free(c->host);
	free(c->order);
	free(c->p2p);
	free(c->lanes);
	free(c->error);
	free(c);
}

/* ---- plans and links ---------------------------------------------------------------------------------------------------- */

/* Point to point is a plan of one step. */
static struct plan *message_plan(struct tutti_comm *c, enum coll coll, int peer)
{
	struct plan_builder b;
	if (plan_begin(&b, coll, "message", c->rank, c->size, peer) != 0)
		return NULL;
	b.plan->nblocks = b.plan->parts = b.plan->max_set = 1;
	b.plan->by_reference = true;
	plan_strand(&b, -1);
	struct step s = {.recv = -1, .send = -1, .src_set = block_one(0), .dst_set = block_one(0)};
	if (coll == COLL_SEND) {
		s.send = (int16_t)plan_to(&b, peer, -1);
		s.src = BUF_IN;
	} else {
		s.recv = (int16_t)plan_from(&b, peer, -1);
		s.dst = BUF_OUT;
	}
	plan_step(&b, s);
	return plan_finish(&b);
}

struct comm_plan *comm_plan(struct tutti_comm *c, enum coll coll, const struct algo *algo, int root, int channels)
{
	for (struct comm_plan **at = &c->plans; *at; at = &(*at)->next) {
		struct comm_plan *p = *at;
		if (p->coll != coll || p->algo != algo || p->root != root || p->channels != channels)
			continue;
		*at = p->next; /* to the front: the next call is likely the same */
		p->next = c->plans;
		return c->plans = p;
	}
	struct comm_plan *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	struct plan_args args = {coll, c->rank, c->size, root, channels, &c->shape};
	p->coll = coll;
	p->algo = algo;
	p->root = root;
	p->channels = channels;
	p->plan = algo ? algo_plan(algo, &args) : message_plan(c, coll, root);
	p->links = p->plan ? calloc((size_t)p->plan->nlinks + 1, sizeof(*p->links)) : NULL;
	if (!p->links) {
		if (p->plan)
			plan_free(p->plan);
		free(p);
		return NULL;
	}
	p->next = c->plans;
	return c->plans = p;
}

static struct comm_link *link_for(struct tutti_comm *c, const struct plan_link *want)
{
	struct link_spec spec = {
	        .comm = c->id,
	        .peer = c->members[want->peer],
	        .lane = want->lane,
	        .outgoing = want->outgoing,
	        .payload = (uint32_t)c->world->params.slot,
	        .nslots = (uint32_t)c->world->params.slots,
	};
	for (struct comm_link *l = c->links; l; l = l->next)
		if (l->spec.peer == spec.peer && l->spec.lane == spec.lane && l->spec.outgoing == spec.outgoing)
			return l;
	struct comm_link *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->spec = spec;
	l->spec.wanted_ns = now_ns();
	l->by = &c->world->transport[c->world->via[spec.peer]];
	l->next = c->links;
	return c->links = l;
}

#define DIAL_NS UINT64_C(20000000000) /* a dial in a call takes no longer, and ends with the communicator */

static struct net_limit dial_limit(const struct tutti_comm *c)
{
	uint64_t ns = c->site.timeout_ns < DIAL_NS ? c->site.timeout_ns : DIAL_NS;
	return (struct net_limit){now_ns() + ns, &c->alarm.status};
}

/* Receiving ends first: a peer's sender may be waiting for one while this rank waits for another. */
static int connect_pass(struct tutti_comm *c, struct comm_plan *p, bool outgoing)
{
	int pending = 0;
	for (int i = 0; i < p->plan->nlinks; i++) {
		const struct plan_link *want = &p->plan->links[i];
		if (p->links[i] || want->outgoing != outgoing)
			continue;
		if (c->world->via[c->members[want->peer]] < 0)
			return fail(TUTTI_EUNSUPPORTED, "no transport allows a rank to send to itself here");
		struct comm_link *l = link_for(c, want);
		if (!l)
			return fail(TUTTI_ENOMEM, "out of memory");
		int rc = l->link.ready ? TUTTI_OK : l->by->t->connect(l->by->ctx, &l->spec, dial_limit(c), &l->link);
		if (rc == TUTTI_OK) {
			l->link.ready = true;
			l->link.far = c->world->host[l->spec.peer] != c->world->host[c->members[c->rank]];
			p->links[i] = &l->link;
			p->places |= l->link.places != NULL;
			p->connected++;
		} else if (rc == LINK_PENDING) {
			pending++;
		} else {
			return fail_while(rc, "connect %s rank %d", outgoing ? "to" : "from", want->peer);
		}
	}
	return pending ? LINK_PENDING : TUTTI_OK;
}

int comm_connect(struct tutti_comm *c, struct comm_plan *p)
{
	if (p->connected == p->plan->nlinks)
		return TUTTI_OK;
	world_lock(c->world);
	int in = connect_pass(c, p, false);
	int out = in > 0 ? in : connect_pass(c, p, true); /* also while some are pending: the peer waits for ours */
	world_unlock(c->world);
	return in > 0 ? in : out ? out : in;
}

int comm_direct(struct tutti_comm *c)
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

/* ---- split and shrink ----------------------------------------------------------------------------------------------------- */

struct place {
	int32_t color, key, rank;
};

static int by_key(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Equal on all members: from the parent's id, how many were made of it before, and the color. */
static uint64_t child_id(const struct tutti_comm *c, uint64_t color)
{
	uint64_t h = c->id ^ (color + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)(c->splits + 1) * 0xc2b2ae3d27d4eb4fu;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9u;
	return h ^ h >> 32;
}

static int split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	size_t size = (size_t)(c->size > 0 ? c->size : 1);
	struct place mine = {color, key, c->rank}, *all = calloc(size, sizeof(*all));
	int *members = calloc(size, sizeof(int));
	struct tutti_request *req = NULL;
	*out = NULL;
	uint64_t id = child_id(c, (uint64_t)(uint32_t)color);
	struct entry *listed = NULL;
	int rc = all && members ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc && color >= 0) /* before another rank can be a member */
		rc = list_member(c->world, id, &listed);
	if (!rc) {
		struct op op = {.coll = COLL_ALLGATHER,
		                .in = &mine,
		                .out = all,
		                .count = sizeof(mine),
		                .dtype = TUTTI_U8,
		                .root = -1};
		struct recipe *p;
		rc = recipe_of(c, &op, &p);
		rc = rc ? rc : request_start(c, &op, p, &req); /* the answer is needed here, also inside a group */
	}
	if (rc || (rc = request_wait(&req, 1, false)) != TUTTI_OK)
		goto out;
	c->splits++;
	if (color < 0)
		goto out;
	int n = 0, me = -1;
	all[c->rank] = mine;
	for (size_t r = 0; r < size; r++) /* which rank said it, its place says */
		if (all[r].color == color)
			all[n++] = (struct place){color, all[r].key, (int32_t)r};
	qsort(all, (size_t)n, sizeof(*all), by_key);
	for (int i = 0; i < n; i++) {
		members[i] = c->members[all[i].rank];
		me = all[i].rank == c->rank ? i : me;
	}
	char name[64];
	snprintf(name, sizeof(name), "%.48s/%d", c->name, color);
	struct comm_spec spec = {c->world, id, members, n, me, name, c->timeout, c->progress, listed};
	rc = comm_make(out, &spec);
	listed = NULL;
out:
	delist_member(c->world, listed);
	free(all);
	free(members);
	return rc;
}

int comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	float_env callers = float_env_enter(); /* as start.c does where a communicator is made */
	int rc = split(c, color, key, out);
	float_env_leave(callers);
	return rc;
}

static int shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	int *survivors = calloc((size_t)(c->size > 0 ? c->size : 1), sizeof(int)), n = 0, me = -1;
	uint64_t id = 0;
	*out = NULL;
	if (!survivors)
		return fail(TUTTI_ENOMEM, "out of memory");
	struct net_limit limit = {now_ns() + (uint64_t)(c->world->params.start_timeout * 1e9), NULL};
	int rc = control_shrink(c->control, survivors, &n, &id, limit);
	for (int i = 0; !rc && i < n; i++) {
		me = survivors[i] == c->rank ? i : me;
		survivors[i] = c->members[survivors[i]];
	}
	if (!rc) {
		char name[64];
		snprintf(name, sizeof(name), "%.56s-", c->name);
		struct comm_spec spec = {c->world, id, survivors, n, me, name, c->timeout, c->progress, NULL};
		rc = comm_make(out, &spec);
	}
	free(survivors);
	return rc;
}

int comm_shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	float_env callers = float_env_enter();
	world_making(c->world, true);
	int rc = shrink(c, out);
	world_making(c->world, false);
	float_env_leave(callers);
	return rc;
}
