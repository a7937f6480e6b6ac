/* SPDX-License-Identifier: MIT */
/* Peers and what they say over their side channels; see state.h, channel.h. */
#include "../../src/os/os.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS    16
#define PAIR_NAME UINT64_C(0x6c69626661627269) /* of a dial: "libfabri" */
#define GRACE_NS  UINT64_C(500000000) /* for a peer's word that it leaves, which travels on another connection */

/* ---- meeting ----------------------------------------------------------------------------------------------------- */

static int say_hello(struct fabric *f, struct peer *p)
{
	uint8_t name[ADDRESS_MAX + sizeof(((struct record *)0)->bytes)] = {0};
	struct record r = {.kind = RECORD_HELLO};
	uint32_t bytes = 0;
	int rc = endpoint_name(&f->e, name, &bytes);

	r.number = bytes;
	if (rc == TUTTI_OK)
		rc = channel_say(&p->channel, &r);
	r.kind = RECORD_NAME;
	for (uint32_t at = 0; at < bytes && rc == TUTTI_OK; at += sizeof(r.bytes)) {
		memcpy(r.bytes, name + at, sizeof(r.bytes));
		rc = channel_say(&p->channel, &r);
	}
	return rc;
}

static int open_channel(struct fabric *f, int rank, struct net_limit limit)
{
	const struct transport_env *env = f->env;
	struct peer *p = &f->peers[rank];
	int fd, rc;

	if (env->rank < rank) {
		rc = env->dial(env, rank, PAIR_NAME, limit, &fd);
		if (rc == TUTTI_EPEER)
			env->lost(env, rank, fail_text());
		if (rc != TUTTI_OK)
			return rc;
	} else if ((fd = env->take(env, rank, PAIR_NAME)) < 0) {
		return LINK_PENDING;
	}
	channel_open(&p->channel, fd);
	if (os_queue_watch(f->queue, fd, 0, OS_READ, (uint32_t)rank) < 0)
		return fail_errno("watch the side channel with rank %d", rank);
	p->watched = true;
	return say_hello(f, p);
}

static int hear(struct fabric *f, int rank);

int peer_greet(struct fabric *f, int rank, struct net_limit limit)
{
	struct peer *p = &f->peers[rank];
	int rc = TUTTI_OK;

	if (p->channel.fd < 0 && !p->watched)
		rc = open_channel(f, rank, limit);
	channel_flush(&p->channel);
	if (rc == TUTTI_OK)
		rc = hear(f, rank);
	return rc;
}

/* ---- hearing ----------------------------------------------------------------------------------------------------- */

/* Once: what has come of a name would be longer than a shorter one. */
static int hear_hello(struct peer *p, int rank, const struct record *r)
{
	if (p->name_bytes || r->number == 0 || r->number > ADDRESS_MAX)
		return fail(TUTTI_EPEER, "rank %d sent the length of its endpoint's name twice, or an invalid length",
		            rank);
	p->name_bytes = (uint32_t)r->number;
	return TUTTI_OK;
}

static int hear_name(struct fabric *f, struct peer *p, const struct record *r)
{
	uint32_t n = p->name_bytes - p->name_have;

	if (n == 0)
		return fail(TUTTI_EPEER, "it sent more bytes of its endpoint's name than announced");
	n = n < sizeof(r->bytes) ? n : sizeof(r->bytes);
	memcpy(p->name + p->name_have, r->bytes, n);
	p->name_have += n;
	if (p->name_have < p->name_bytes)
		return TUTTI_OK;
	p->met = true;
	return endpoint_insert(&f->e, p->name, &p->addr);
}

static int keep_offer(struct peer *p, const struct record *r)
{
	if (p->noffers == p->cap) {
		int cap = p->cap ? 2 * p->cap : 8;
		struct record *more = realloc(p->offers, (size_t)cap * sizeof(*more));
		if (!more)
			return fail(TUTTI_ENOMEM, "out of memory");
		p->offers = more;
		p->cap = cap;
	}
	p->offers[p->noffers++] = *r;
	return TUTTI_OK;
}

/* The offer for a link that this side would see as `outgoing`; NULL: none came. */
static struct record *kept_offer(struct peer *p, uint64_t tag, bool outgoing)
{
	for (int i = 0; i < p->noffers; i++)
		if (p->offers[i].tag == tag && !p->offers[i].outgoing == outgoing)
			return &p->offers[i];
	return NULL;
}

int peer_recall(struct fabric *f, struct wire *w)
{
	struct peer *p = &f->peers[w->peer];
	struct record *r = kept_offer(p, w->tag, w->outgoing);
	int rc;

	if (!r || w->met)
		return TUTTI_OK;
	rc = wire_meet(w, r, p->addr);
	*r = p->offers[--p->noffers];
	return rc;
}

/* Also one that has ended meanwhile: by the offer it knows the goodbye that it waits for. */
static bool waits_for_offer(const struct wire *w)
{
	return !w->met;
}

static int hear_offer(struct fabric *f, int rank, const struct record *r)
{
	struct wire *w = fabric_find(f, rank, r->tag, !r->outgoing, waits_for_offer);

	if (w)
		return wire_meet(w, r, f->peers[rank].addr);
	return r->messages && r->outgoing ? fabric_expect(f, rank, r) : keep_offer(&f->peers[rank], r);
}

/* Of a link of ours, or of one that was offered in vain, which the peer must know before the memory is used again. */
static int hear_bye(struct fabric *f, int rank, const struct record *r)
{
	const struct record vain = {.kind = RECORD_VAIN, .number = r->number};
	struct peer *p = &f->peers[rank];
	bool ours = false;

	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *w = f->wires[i];
		if (!w || w->peer != rank || !w->met || w->far_note != r->number)
			continue;
		w->heard_bye = ours = true;
		w->expected = r->at;
	}
	for (int i = p->noffers - 1; i >= 0; i--)
		if (p->offers[i].number == r->number)
			p->offers[i] = p->offers[--p->noffers];
	return ours ? TUTTI_OK : channel_say(&p->channel, &vain);
}

static void hear_vain(struct fabric *f, int rank, const struct record *r)
{
	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *w = f->wires[i];
		if (w && w->peer == rank && w->ended && !w->met && w->note == r->number)
			w->heard_bye = true;
	}
}

static void hear_left(struct fabric *f, int rank)
{
	f->peers[rank].left = true;
	for (uint32_t i = 0; i < f->nwires; i++)
		if (f->wires[i] && f->wires[i]->peer == rank)
			wire_deserted(f->wires[i]);
}

static int obey(struct fabric *f, int rank, const struct record *r)
{
	struct peer *p = &f->peers[rank];
	int rc;

	switch (r->kind) {
	case RECORD_HELLO:
		return hear_hello(p, rank, r);
	case RECORD_NAME:
		rc = hear_name(f, p, r);
		return rc == TUTTI_EPEER ? fail_while(rc, "rank %d", rank) : rc;
	case RECORD_OFFER:
		return hear_offer(f, rank, r);
	case RECORD_BYE:
		return hear_bye(f, rank, r);
	case RECORD_VAIN:
		hear_vain(f, rank, r);
		return TUTTI_OK;
	case RECORD_LEFT:
		hear_left(f, rank);
		return TUTTI_OK;
	default:
		return fail(TUTTI_EPEER,
		            "rank %d sent an unknown message (%u) on its side channel: does it run the same version?",
		            rank, r->kind);
	}
}

/* Takes in what the peer has said. TUTTI_OK, or an error that concerns this rank. */
static int hear(struct fabric *f, int rank)
{
	struct peer *p = &f->peers[rank];
	struct record r;
	int rc = TUTTI_OK;

	while (rc == TUTTI_OK && channel_hear(&p->channel, &r))
		rc = obey(f, rank, &r);
	if (p->channel.ended && p->watched) {
		(void)os_queue_watch(f->queue, p->channel.fd, OS_READ, 0, 0);
		p->watched = false;
		if (!p->left)
			peer_broken(f, rank, "its side channel", "it closed");
	}
	return rc;
}

int peers_look(struct fabric *f)
{
	struct os_ready r[EVENTS];
	int n = os_queue_wait(f->queue, r, EVENTS, 0), rc = TUTTI_OK;

	for (int i = 0; i < n && rc == TUTTI_OK; i++)
		if (r[i].tag != (uint32_t)f->env->rank) /* that is the endpoint's queue */
			rc = hear(f, (int)r[i].tag);
	for (int peer = 0; peer < f->env->nranks; peer++)
		channel_flush(&f->peers[peer].channel);
	return rc;
}

/* ---- losing ------------------------------------------------------------------------------------------------------ */

void peer_broken(struct fabric *f, int rank, const char *what, const char *why)
{
	struct peer *p = &f->peers[rank];

	log_debug("%s: %s, rank %d: %s", f->e.what, what, rank, why);
	if (p->broken_ns || p->left || p->lost)
		return;
	p->broken_ns = now_ns();
	snprintf(p->how, sizeof(p->how), "%s: %s, rank %d: %s", f->e.what, what, rank, why);
	f->trouble++;
}

void peers_judge(struct fabric *f)
{
	for (int r = 0; r < f->env->nranks && f->trouble; r++) {
		struct peer *p = &f->peers[r];

		if (!p->broken_ns || p->lost || p->left)
			continue;
		(void)hear(f, r);
		if (!p->left && !p->channel.ended && now_ns() - p->broken_ns < GRACE_NS)
			continue;
		f->trouble--;
		if (p->left)
			continue;
		p->lost = true;
		f->env->lost(f->env, r, p->how);
	}
}

void peers_close(struct fabric *f)
{
	const struct record left = {.kind = RECORD_LEFT};

	for (int r = 0; f->peers && r < f->env->nranks; r++) {
		struct peer *p = &f->peers[r];
		if (p->channel.fd >= 0)
			(void)channel_say(&p->channel, &left);
		channel_close(&p->channel);
		free(p->offers);
	}
	free(f->peers);
	f->peers = NULL;
}
