/* SPDX-License-Identifier: MIT */
/* Plans and links of a communicator. See links.h. */
#include "links.h"

#include <stdlib.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "comm.h"

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

struct comm_plan *links_plan(struct tutti_comm *c, enum coll coll, const struct algo *algo, int root, int channels)
{
	for (struct comm_plan **at = &c->links.plans; *at; at = &(*at)->next) {
		struct comm_plan *p = *at;
		if (p->coll != coll || p->algo != algo || p->root != root || p->channels != channels)
			continue;
		*at = p->next; /* to the front: the next call is likely the same */
		p->next = c->links.plans;
		return c->links.plans = p;
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
	p->next = c->links.plans;
	return c->links.plans = p;
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
	for (struct comm_link *l = c->links.list; l; l = l->next)
		if (l->spec.peer == spec.peer && l->spec.lane == spec.lane && l->spec.outgoing == spec.outgoing)
			return l;
	struct comm_link *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->spec = spec;
	l->spec.wanted_ns = now_ns();
	l->by = &c->world->transport[c->world->via[spec.peer]];
	l->next = c->links.list;
	return c->links.list = l;
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

int links_connect(struct tutti_comm *c, struct comm_plan *p)
{
	if (p->connected == p->plan->nlinks)
		return TUTTI_OK;
	world_lock(c->world);
	int in = connect_pass(c, p, false);
	int out = in > 0 ? in : connect_pass(c, p, true); /* also while some are pending: the peer waits for ours */
	world_unlock(c->world);
	return in > 0 ? in : out ? out : in;
}

/* ---- their end --------------------------------------------------------------------------------------------------------- */

static void end_links(struct tutti_comm *c, bool networks_only)
{
	world_lock(c->world);
	for (struct comm_link *l = c->links.list; l; l = l->next)
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

void links_cut(struct tutti_comm *c)
{
	end_links(c, true);
}

void links_end(struct tutti_comm *c)
{
	end_links(c, false);
	leave_transports(c);
}

void links_free(struct links *links)
{
	for (struct comm_link *l = links->list, *next; l; l = next) {
		next = l->next;
		free(l);
	}
	for (struct comm_plan *p = links->plans, *next; p; p = next) {
		next = p->next;
		plan_free(p->plan);
		free(p->links);
		free(p);
	}
}
