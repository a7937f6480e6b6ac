/* SPDX-License-Identifier: MIT */
/* Life of a communicator: made of members of a world, and ended. See comm.h. */
#include "comm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../topo/ring.h"
#include "../util/cancel.h"
#include "../util/error.h"
#include "../util/log.h"
#include "../util/service.h"
#include "late.h"
#include "mem.h"

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
int comm_list_member(struct world *w, uint64_t id, struct entry **at)
{
	if (!w->segment || *at)
		return TUTTI_OK;
	world_lock(w);
	int rc = segment_enlist(w->segment, id, at);
	world_unlock(w);
	return rc;
}

void comm_delist_member(struct world *w, struct entry *listed)
{
	if (!listed)
		return;
	world_lock(w);
	segment_delist(w->segment, listed);
	world_unlock(w);
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
	c->listed = spec->listed;
	c->poll = (struct poll){-1, -1};
	snprintf(c->name, sizeof(c->name), "%s", spec->name ? spec->name : "world");
	c->members = calloc(n, sizeof(int));
	c->host = calloc(n, sizeof(int));
	c->p2p = calloc(2 * n, sizeof(uint64_t));
	c->error = calloc(1, sizeof(c->alarm.text) + 64);
	int rc = prepared_open(&c->prepared);
	if (!rc)
		rc = queue_open(c);
	if (rc || !c->members || !c->host || !c->p2p || !c->error) {
		rc = fail(TUTTI_ENOMEM, "out of memory");
		goto out;
	}
	memcpy(c->members, spec->members, n * sizeof(int));
	c->flight.timed = c->world->params.flight != NULL;
	number_hosts(c);
	late_open(c);
	rc = order_ring(c);
	if (!rc)
		rc = start_tuner(c);
	if (!rc)
		rc = check_ways(c);
	if (!rc)
		rc = control_join(&c->control, c->world->control, c->id, c->name, c->members, c->size, c->rank,
		                  &c->flight, &c->alarm);
	if (!rc)
		rc = comm_list_member(c->world, c->id, &c->listed);
	if (!rc)
		rc = progress_add(&c->world->progress, &c->queue.job, spec->progress == TUTTI_PROGRESS_THREAD);
out:
	if (rc)
		comm_free(c);
	else
		*out = c;
	return rc;
}

int comm_check_well(const struct tutti_comm *c)
{
	if (!c)
		return fail(TUTTI_EINVAL, "the communicator is NULL");
	if (c->world->forks != service_forks)
		return fail(TUTTI_EUSAGE, "communicator %s was made before fork(): a child process must make its own",
		            c->name);
	return TUTTI_OK;
}

/* The first to see the alarm dumps the recorder. */
int comm_heed(struct tutti_comm *c, int status)
{
	int was = cancel_disable();
	if (c->world->params.flight && !atomic_exchange_explicit(&c->dumped, true, memory_order_relaxed))
		comm_dump(c);
	return cancel_restore(was, fail(status, "%s", c->alarm.text));
}

int comm_keep_error(struct tutti_comm *c, int rc)
{
	if (rc && c && !atomic_load_explicit(&c->alarm.status, memory_order_acquire)) /* A5 */
		snprintf(c->error, sizeof(c->alarm.text), "%s", fail_text());
	return rc;
}

int comm_rank_of(const struct tutti_comm *c, int world_rank)
{
	int r = 0;
	while (r < c->size - 1 && c->members[r] != world_rank)
		r++;
	return r;
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
	if (forked) /* the timer is the parent's, too: what this child completes must not set it */
		poll_close(c);
	if (!forked)
		progress_remove(&c->world->progress, &c->queue.job);
	queue_orphan(c);
	if (!forked) {
		if (c->world->params.flight && !c->dumped)
			comm_dump(c);
		control_leave(c->control);
		world_lock(c->world);
		direct_close(c->direct);
		world_unlock(c->world);
		links_end(c);
		comm_delist_member(c->world, c->listed); /* all areas that it has found are let go of */
		mem_free_all(c);
	}
	links_free(&c->links);
	world_unref(c->world);
	poll_close(c);
	prepared_close(&c->prepared);
	free(c->memory.scratch);
	free(c->memory.spare);
	free(c->members);
	free(c->host);
	free(c->order);
	free(c->p2p);
	free(c->queue.lanes);
	free(c->error);
	free(c);
}
