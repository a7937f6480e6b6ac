/* SPDX-License-Identifier: MIT */
/*
 * verbs: RDMA between ranks on different hosts (InfiniBand, RoCE, Thunderbolt). The lower rank of a pair dials the
 * other; see pair.h for what then follows. A rail is a port of a device, with pairs of its own and one completion queue,
 * which pump polls for all of them. The lane of a link says on which rail it goes.
 */
#include "../../src/os/os.h"
#include "../../src/transport.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "../../src/util/log.h"
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAILS_MAX  8
#define WINDOW     128u /* slots (frames) under way between two ranks; less where the device allows less */
#define FEWEST     4u
#define POLLED     16 /* completions at a time */
#define LOOK_EVERY 64 /* idle visits: sockets and events are looked at, and the device is told to wake us */
#define LINGER_NS  (500 * UINT64_C(1000000)) /* for what is under way when memory goes or the world ends */
#define PAIR_TAG   UINT64_C(0x7665726273)    /* "verbs": the dial's name; a link's is a hash */

struct rail {
	int number; /* of its name in TUTTI_VERBS_DEVICE */
	struct device device;
	struct pair **pairs; /* by rank */
	bool armed;          /* the device will make its channel readable */
};

struct verbs {
	const struct transport_env *env;
	struct rail rails[RAILS_MAX];
	int nrails;
	uint32_t window; /* that this rank's devices allow */
	int queue;       /* of events */
	unsigned idle;   /* visits that found nothing */
};

/* In the contact. No holes. */
struct verbs_address {
	uint32_t window;
	uint32_t fabric[RAILS_MAX]; /* by the rail's number; 0: it has none */
};
_Static_assert(sizeof(struct verbs_address) <= CONTACT_BLOB, "an address has its place in a contact");

/* What the queue of events tells of: a rail's number among ours, and one of these. */
enum { WATCH_EVENTS, WATCH_COMPLETIONS, WATCH_CM, WATCH_PAIR /* + rank */ };

#define each_rail(l, v)    for (struct rail *l = (v)->rails; l < (v)->rails + (v)->nrails; l++)
#define each_pair(p, l, v) for (struct pair **p = (l)->pairs; p && p < (l)->pairs + (v)->env->nranks; p++)

static void let_arrive(struct verbs *v);

static void verbs_close(void *ctx)
{
	struct verbs *v = ctx;

	if (!v)
		return;
	let_arrive(v);
	each_rail (l, v) {
		each_pair (p, l, v)
			if (*p)
				pair_destroy(*p);
		device_close(&l->device);
		free(l->pairs);
	}
	fd_close(v->queue);
	free(v);
}

/* What fits: each pair takes its share of the completion queue and has queues of its own. */
static uint32_t window_of(const struct device *d, int nranks)
{
	uint32_t w = 2 * WINDOW, wr = (uint32_t)d->limits.max_qp_wr, peers = nranks > 1 ? (uint32_t)nranks - 1 : 1;

	do
		w /= 2;
	while (w >= FEWEST && (pair_receives(w) > wr || pair_sends(w) > wr ||
	                       (pair_receives(w) + pair_sends(w)) * peers > (uint32_t)d->limits.max_cqe));
	return w;
}

/* Add a rail. A name that can't be used is not an error if there is another one. */
static int open_rail(struct verbs *v, const char *name, int number)
{
	struct rail *l = &v->rails[v->nrails++];
	struct device *d = &l->device;
	uint32_t window;
	int rc = device_open(d, v->env->params, name);

	l->number = number;
	if (rc != TUTTI_OK)
		return rc;
	window = window_of(d, v->env->nranks);
	if (window < FEWEST)
		return fail(TUTTI_EUNSUPPORTED, "%s allows %d work requests and %d completions: too few for %d ranks",
		            d->name, d->limits.max_qp_wr, d->limits.max_cqe, v->env->nranks);
	if (!v->window || window < v->window)
		v->window = window;
	return TUTTI_OK;
}

static void drop_rail(struct verbs *v)
{
	device_close(&v->rails[--v->nrails].device);
}

static int open_rails(struct verbs *v, const char *names)
{
	char name[72];
	int number = 0, rc = TUTTI_OK;

	for (const char *n = names; *n; n += *n == ',', number++) {
		size_t len = strcspn(n, ",");
		if (number == RAILS_MAX)
			return fail(TUTTI_EINVAL, "TUTTI_VERBS_DEVICE=%s: more than %d rails", names, RAILS_MAX);
		snprintf(name, sizeof(name), "%.*s", (int)len, n);
		n += len;
		rc = open_rail(v, name, number);
		if (rc == TUTTI_OK)
			continue;
		drop_rail(v);
		if (strchr(names, ','))
			log_warn("verbs: no rail over %s: %s", name, fail_text());
	}
	return v->nrails ? TUTTI_OK : rc;
}

static int verbs_open(const struct transport_env *env, void **ctx)
{
	struct verbs *v = calloc(1, sizeof(*v));
	const char *names = env->params->verbs_device;

	if (!v)
		return fail(TUTTI_ENOMEM, "out of memory");
	*ctx = v;
	v->env = env;
	v->queue = -1;
	return names ? open_rails(v, names) : open_rail(v, NULL, 0);
}

static void verbs_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	struct verbs *v = ctx;
	struct verbs_address a = {.window = v->window};

	each_rail (l, v)
		a.fabric[l->number] = (uint32_t)device_fabric(&l->device) | 1;
	memset(blob, 0, CONTACT_BLOB);
	memcpy(blob, &a, sizeof(a));
}

static struct verbs_address address_of(const struct verbs *v, int rank)
{
	struct verbs_address a;

	memcpy(&a, v->env->contacts[rank].transport[v->env->index], sizeof(a));
	return a;
}

static bool is_usable(const struct verbs *v, int rank)
{
	return address_of(v, rank).window != 0;
}

static int watch(struct verbs *v, const struct rail *l, int fd, uint32_t what)
{
	uint64_t tag = (uint64_t)(l - v->rails) << 32 | what;

	return os_queue_watch(v->queue, fd, 0, OS_READ, tag) < 0 ? fail_errno("watch %s", l->device.name) : TUTTI_OK;
}

static int attach_rail(struct verbs *v, struct rail *l, int peers)
{
	struct device *d = &l->device;
	char gid[GID_TEXT];
	int rc;

	l->pairs = calloc((size_t)v->env->nranks, sizeof(struct pair *));
	if (!l->pairs)
		return fail(TUTTI_ENOMEM, "out of memory");
	rc = device_make_queue(d, (int)(pair_receives(v->window) + pair_sends(v->window)) * peers);
	if (rc == TUTTI_OK)
		rc = watch(v, l, d->context->async_fd, WATCH_EVENTS);
	if (rc == TUTTI_OK && d->channel)
		rc = watch(v, l, d->channel->fd, WATCH_COMPLETIONS);
	if (rc == TUTTI_OK && d->cm)
		rc = watch(v, l, cm_fd(d->cm), WATCH_CM);
	log_info("verbs: %s, %s, mode %s, %u slots in flight%s", d->name, gid_text(d, gid), device_mode_name(d),
	         v->window, d->cm ? ", connected by rdma_cm" : "");
	return rc;
}

static int verbs_attach(void *ctx)
{
	struct verbs *v = ctx;
	int peers = 0, rc = TUTTI_OK;

	for (int r = 0; r < v->env->nranks; r++)
		peers += r != v->env->rank && is_usable(v, r);
	if (!peers)
		return fail(TUTTI_EUNSUPPORTED, "no other rank has a usable device");
	v->queue = fd_keep(os_queue_open());
	if (v->queue < 0)
		return fail_errno("create a queue of events");
	each_rail (l, v)
		if (rc == TUTTI_OK)
			rc = attach_rail(v, l, peers);
	return rc;
}

static uint64_t verbs_fabric(void *ctx)
{
	return device_fabric(&((struct verbs *)ctx)->rails[0].device);
}

/*
 * Two ranks meet on the rails that both have, by number, and of one kind; the lanes are dealt out over these. Where
 * there is none (other names on the other host), on the first of each.
 */
static struct rail *rail_to(struct verbs *v, int peer, int lane)
{
	struct verbs_address theirs = address_of(v, peer), ours = address_of(v, v->env->rank);
	struct rail *common[RAILS_MAX];
	unsigned n = 0;

	each_rail (l, v)
		if (ours.fabric[l->number] == theirs.fabric[l->number])
			common[n++] = l;
	return n ? common[(unsigned)abs(lane) % n] : v->rails;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

/* On the first rails both say 0: their numbers may be different ones. */
static uint64_t dial_tag(const struct verbs *v, const struct rail *l, int peer)
{
	bool common = address_of(v, peer).fabric[l->number] == address_of(v, v->env->rank).fabric[l->number];

	return PAIR_TAG + (common ? (uint64_t)l->number : 0);
}

static int make_pair(struct verbs *v, struct rail *l, int peer, struct net_limit limit)
{
	const struct transport_env *env = v->env;
	struct verbs_address a = address_of(v, peer);
	uint32_t window = a.window < v->window ? a.window : v->window;
	int fd, rc;

	if (l->device.broken[0])
		return fail(TUTTI_ESYSTEM, "%s", l->device.broken);
	if (env->rank < peer) {
		rc = env->dial(env, peer, dial_tag(v, l, peer), limit, &fd);
		if (rc == TUTTI_EPEER)
			env->lost(env, peer, fail_text());
		if (rc != TUTTI_OK)
			return rc;
	} else {
		fd = env->take(env, peer, dial_tag(v, l, peer));
		if (fd < 0)
			return LINK_PENDING;
	}
	rc = pair_create(&l->pairs[peer], env, &l->device, peer, fd, window);
	return rc == TUTTI_OK ? watch(v, l, fd, WATCH_PAIR + (uint32_t)peer) : rc;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* Nothing goes any more over this device: every peer that was reached by it is lost to us. */
static void break_all(struct verbs *v, struct rail *l)
{
	snprintf(l->device.broken, sizeof(l->device.broken), "%s", fail_text());
	each_pair (p, l, v)
		if (*p) {
			(void)fail(TUTTI_EPEER, "%s", l->device.broken);
			pair_break(*p);
		}
}

/* A port that went down and came up again in the meantime is not an error: RC has retransmitted what was lost. */
static void read_events(struct verbs *v, struct rail *l)
{
	struct device *d = &l->device;
	struct ibv_async_event e;
	const char *what = NULL;

	while (d->lib.get_async_event(d->context, &e) == 0) {
		bool ours = e.element.port_num == d->port;
		switch (e.event_type) {
		case IBV_EVENT_PORT_ERR:
			what = ours ? d->lib.event_type_str(e.event_type) : what;
			break;
		case IBV_EVENT_PORT_ACTIVE:
			what = ours ? NULL : what;
			break;
		case IBV_EVENT_DEVICE_FATAL:
		case IBV_EVENT_CQ_ERR:
		case IBV_EVENT_QP_FATAL:
		case IBV_EVENT_QP_REQ_ERR:
		case IBV_EVENT_QP_ACCESS_ERR:
			what = d->lib.event_type_str(e.event_type);
			break;
		default:
			log_debug("%s: %s", d->name, d->lib.event_type_str(e.event_type));
		}
		d->lib.ack_async_event(&e);
	}
	if (!what || d->broken[0])
		return;
	(void)fail(TUTTI_ESYSTEM, "the RDMA device %s can't be used any more: %s", d->name, what);
	break_all(v, l);
}

static void drain_channel(struct rail *l)
{
	struct device *d = &l->device;
	struct ibv_cq *cq;
	void *unused;

	while (d->lib.get_cq_event(d->channel, &cq, &unused) == 0) {
		d->unacked++;
		l->armed = false;
	}
}

static void listen_to(struct verbs *v, struct pair *p)
{
	pair_talk(p);
	if (p->state >= PAIR_LEFT)
		(void)os_queue_watch(v->queue, p->fd, OS_READ, 0, 0);
}

static void look_around(struct verbs *v)
{
	struct os_ready r[POLLED];
	int n = os_queue_wait(v->queue, r, POLLED, 0);

	for (int i = 0; i < n; i++) {
		struct rail *l = &v->rails[r[i].tag >> 32];
		uint32_t what = (uint32_t)r[i].tag;
		if (what == WATCH_EVENTS)
			read_events(v, l);
		else if (what == WATCH_COMPLETIONS)
			drain_channel(l);
		else if (what == WATCH_CM)
			cm_look(l->device.cm);
		else
			listen_to(v, l->pairs[what - WATCH_PAIR]);
	}
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

static int poll_completions(struct verbs *v, struct rail *l)
{
	struct ibv_wc wc[POLLED];
	int n = ibv_poll_cq(l->device.cq, POLLED, wc);

	for (int i = 0; i < n; i++) {
		uint64_t peer = wc[i].wr_id >> 32;
		if (peer < (uint64_t)v->env->nranks && l->pairs[peer])
			pair_completed(l->pairs[peer], &wc[i]);
	}
	return n;
}

/* The completion queue was empty. */
static void sweep(struct verbs *v, struct rail *l)
{
	each_pair (p, l, v)
		if (*p)
			pair_sweep(*p);
}

/* Channels that both sides have left release their rings, so that short-lived channels do not add up. */
static void reclaim(struct verbs *v, struct rail *l)
{
	int n;

	look_around(v);
	while ((n = poll_completions(v, l)) > 0)
		;
	if (n == 0)
		sweep(v, l);
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

/* Of a call that ended early, something may be under way. */
static void take_back(struct verbs *v, struct rail *l, const void *p, size_t bytes)
{
	if (!lent_has(&l->device, p, bytes))
		return;
	let_arrive(v);
	lent_drop(&l->device, p, bytes);
}

static bool take_all_back(struct verbs *v, struct rail *l)
{
	if (!l->device.lent)
		return false;
	let_arrive(v);
	lent_drop_all(&l->device);
	return true;
}

static int verbs_connect(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link)
{
	struct verbs *v = ctx;
	struct rail *l = rail_to(v, spec->peer, spec->lane);
	struct link_spec lane = *spec;
	uint64_t tag;
	int rc = l->pairs[spec->peer] ? TUTTI_OK : make_pair(v, l, spec->peer, limit);

	if (rc != TUTTI_OK)
		return rc;
	lane.outgoing = v->env->rank < spec->peer;
	tag = link_tag(&lane, v->env->rank);
	if (!pair_has(l->pairs[spec->peer], tag))
		reclaim(v, l);
	rc = pair_connect(l->pairs[spec->peer], spec, tag, link);
	if (rc == TUTTI_ENOMEM && take_all_back(v, l)) /* rings come first */
		rc = pair_connect(l->pairs[spec->peer], spec, tag, link);
	return rc;
}

static void verbs_disconnect(void *ctx, struct link *link)
{
	(void)ctx;
	if (link->wire)
		pair_disconnect(link->wire, link->outgoing);
	link->wire = NULL;
	link->ready = false;
}

static void verbs_left(void *ctx, uint64_t comm)
{
	struct verbs *v = ctx;

	each_rail (l, v)
		each_pair (p, l, v)
			if (*p)
				pair_leave(*p, comm);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* Before the caller may sleep: what comes from now on wakes it, and what came before is found. */
static int look_and_arm(struct verbs *v)
{
	look_around(v);
	each_rail (l, v) {
		if (l->armed || !l->device.channel)
			continue;
		if (ibv_req_notify_cq(l->device.cq, 0) != 0)
			return fail_errno("request completion events from %s", l->device.name);
		l->armed = true;
	}
	return TUTTI_OK;
}

/* Completions of a rail, then what is to be sent on it; returns how many there were, or -1. */
static int move_rail(struct verbs *v, struct rail *l)
{
	int n = 0;

	for (int got = POLLED; got == POLLED; n += got) {
		got = poll_completions(v, l);
		if (got < 0)
			return -1;
	}
	if (!n)
		sweep(v, l);
	each_pair (p, l, v)
		if (*p)
			pair_move(*p);
	return n;
}

static int verbs_pump(void *ctx)
{
	struct verbs *v = ctx;
	int rc = TUTTI_OK;

	if (v->idle++ % LOOK_EVERY == LOOK_EVERY - 1)
		rc = look_and_arm(v);
	each_rail (l, v) {
		int n = move_rail(v, l);
		if (n < 0)
			return fail(TUTTI_ESYSTEM, "polling the completion queue of %s failed", l->device.name);
		if (n)
			v->idle = 0;
	}
	return rc;
}

static void let_arrive(struct verbs *v)
{
	uint64_t until = now_ns() + LINGER_NS;

	each_rail (l, v)
		for (bool all = false; !all && l->pairs && l->device.cq && now_ns() < until;) {
			all = poll_completions(v, l) <= 0;
			each_pair (p, l, v)
				if (*p)
					all &= pair_flushed(*p);
		}
}

static int verbs_sleep_fd(void *ctx)
{
	struct verbs *v = ctx;

	each_rail (l, v)
		if (!l->device.channel)
			return -1;
	return v->queue;
}

/* Frames are copies; only a card that writes into the peer's ring can take the caller's bytes from where they are. */
static void verbs_memory(void *ctx, void *p, size_t bytes, bool given)
{
	struct verbs *v = ctx;

	each_rail (l, v) {
		if (given && l->device.mode == VERBS_WRITE)
			lent_add(&l->device, p, bytes);
		if (!given)
			take_back(v, l, p, bytes);
	}
}

/* The card's queue pairs, shared by the ranks of this machine that use it. */
static int verbs_peers(void *ctx)
{
	struct verbs *v = ctx;
	const struct contact *all = v->env->contacts, *me = &all[v->env->rank];
	int sharing = 0, most = 0;

	for (int r = 0; r < v->env->nranks; r++)
		sharing += is_usable(v, r) && memcmp(all[r].host_hint, me->host_hint, sizeof(me->host_hint)) == 0;
	each_rail (l, v)
		most = !most || l->device.limits.max_qp < most ? l->device.limits.max_qp : most;
	most /= sharing ? sharing : 1;
	return most ? most : 1;
}

const struct transport transport_verbs = {
        .name = "verbs",
        .what = "ranks on different hosts: RDMA over InfiniBand, RoCE or Thunderbolt (libibverbs)",
        .open = verbs_open,
        .address = verbs_address,
        .attach = verbs_attach,
        .fabric = verbs_fabric,
        .connect = verbs_connect,
        .pump = verbs_pump,
        .sleep_fd = verbs_sleep_fd,
        .disconnect = verbs_disconnect,
        .left = verbs_left,
        .memory = verbs_memory,
        .peers = verbs_peers,
        .devices = devices_list,
        .close = verbs_close,
};
