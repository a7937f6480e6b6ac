/*
 * verbs: RDMA between ranks on different hosts (InfiniBand, RoCE, Thunderbolt). The lower rank of a pair dials the other;
 * see pair.h for what then follows. One device, one completion queue, polled by pump for all pairs.
 */
#include "../../src/transport.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WINDOW     128u /* slots (frames) under way between two ranks; less where the device allows less */
#define FEWEST     4u
#define POLLED     16 /* completions at a time */
#define LOOK_EVERY 64 /* idle visits: sockets and events are looked at, and the device is told to wake us */
#define LINGER_NS  (500 * UINT64_C(1000000)) /* for what is under way when the world ends */
#define PAIR_TAG   UINT64_C(0x7665726273)    /* "verbs": the dial's name; a link's is a hash */

struct verbs {
	const struct transport_env *env;
	struct device device;
	struct pair **pairs; /* by rank */
	uint32_t window;     /* that this rank's device allows */
	int epoll;
	unsigned idle; /* visits that found nothing */
	bool armed;    /* the device will make its channel readable */
};

/* In the contact. No holes. */
struct verbs_address {
	uint32_t window, usable;
	uint64_t fabric;
};

static void let_arrive(struct verbs *v);

static void verbs_close(void *ctx)
{
	struct verbs *v = ctx;

	if (!v)
		return;
	if (v->pairs)
		let_arrive(v);
	for (int r = 0; v->pairs && r < v->env->nranks; r++)
		if (v->pairs[r])
			pair_destroy(v->pairs[r]);
	device_close(&v->device);
	if (v->epoll >= 0)
		close(v->epoll);
	free(v->pairs);
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

static int verbs_open(const struct transport_env *env, void **ctx)
{
	struct verbs *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return fail(TUTTI_ENOMEM, "out of memory");
	*ctx = v;
	v->env = env;
	v->epoll = -1;
	rc = device_open(&v->device, env->params);
	if (rc != TUTTI_OK)
		return rc;
	v->window = window_of(&v->device, env->nranks);
	if (v->window < FEWEST)
		return fail(TUTTI_EUNSUPPORTED, "%s allows %d work requests and %d completions: too few for %d ranks",
		            v->device.name, v->device.limits.max_qp_wr, v->device.limits.max_cqe, env->nranks);
	return TUTTI_OK;
}

static void verbs_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	struct verbs *v = ctx;
	struct verbs_address a = {v->window, 1, device_fabric(&v->device)};

	memset(blob, 0, CONTACT_BLOB);
	memcpy(blob, &a, sizeof(a));
}

static struct verbs_address address_of(const struct verbs *v, int rank)
{
	struct verbs_address a;

	memcpy(&a, v->env->contacts[rank].transport[v->env->index], sizeof(a));
	return a;
}

static int watch(struct verbs *v, int fd, void *what)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = what};

	return epoll_ctl(v->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? fail_errno("watch %s", v->device.name) : TUTTI_OK;
}

static int verbs_attach(void *ctx)
{
	struct verbs *v = ctx;
	struct device *d = &v->device;
	char gid[GID_TEXT];
	int peers = 0, rc;

	for (int r = 0; r < v->env->nranks; r++)
		peers += r != v->env->rank && address_of(v, r).usable;
	if (!peers)
		return fail(TUTTI_EUNSUPPORTED, "no other rank has a device that it could use");
	v->pairs = calloc((size_t)v->env->nranks, sizeof(struct pair *));
	v->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!v->pairs)
		return fail(TUTTI_ENOMEM, "out of memory");
	if (v->epoll < 0)
		return fail_errno("create an epoll descriptor");
	rc = device_make_queue(d, (int)(pair_receives(v->window) + pair_sends(v->window)) * peers);
	if (rc == TUTTI_OK)
		rc = watch(v, d->context->async_fd, &d->context);
	if (rc == TUTTI_OK && d->channel)
		rc = watch(v, d->channel->fd, &d->channel);
	log_info("verbs: %s, %s, mode %s, %u slots under way", d->name, gid_text(d, gid), device_mode_name(d),
	         v->window);
	return rc;
}

static uint64_t verbs_fabric(void *ctx)
{
	return device_fabric(&((struct verbs *)ctx)->device);
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static int make_pair(struct verbs *v, int peer)
{
	const struct transport_env *env = v->env;
	struct verbs_address a = address_of(v, peer);
	uint32_t window = a.window < v->window ? a.window : v->window;
	int fd, rc;

	if (v->device.broken[0])
		return fail(TUTTI_ESYSTEM, "%s", v->device.broken);
	if (env->rank < peer) {
		rc = env->dial(env, peer, PAIR_TAG, &fd);
		if (rc == TUTTI_EPEER)
			env->lost(env, peer, fail_text());
		if (rc != TUTTI_OK)
			return rc;
	} else {
		fd = env->take(env, peer, PAIR_TAG);
		if (fd < 0)
			return LINK_PENDING;
	}
	rc = pair_create(&v->pairs[peer], env, &v->device, peer, fd, window);
	return rc == TUTTI_OK ? watch(v, fd, v->pairs[peer]) : rc;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* Nothing goes any more over this device: every peer that was reached by it is lost to us. */
static void break_all(struct verbs *v)
{
	snprintf(v->device.broken, sizeof(v->device.broken), "%s", fail_text());
	for (int r = 0; r < v->env->nranks; r++)
		if (v->pairs[r]) {
			(void)fail(TUTTI_EPEER, "%s", v->device.broken);
			pair_break(v->pairs[r]);
		}
}

/* A port that went down and came up again meanwhile is no error: RC has sent again what was lost. */
static void read_events(struct verbs *v)
{
	struct device *d = &v->device;
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
	(void)fail(TUTTI_ESYSTEM, "the RDMA device %s is of no use any more: %s", d->name, what);
	break_all(v);
}

static void drain_channel(struct verbs *v)
{
	struct device *d = &v->device;
	struct ibv_cq *cq;
	void *unused;

	while (d->lib.get_cq_event(d->channel, &cq, &unused) == 0) {
		d->unacked++;
		v->armed = false;
	}
}

static void stop_watching(struct verbs *v, struct pair *p)
{
	(void)epoll_ctl(v->epoll, EPOLL_CTL_DEL, p->fd, NULL);
}

static void look_around(struct verbs *v)
{
	struct epoll_event e[POLLED];
	int n = epoll_wait(v->epoll, e, POLLED, 0);

	for (int i = 0; i < n; i++) {
		void *what = e[i].data.ptr;
		if (what == &v->device.context) {
			read_events(v);
		} else if (what == &v->device.channel) {
			drain_channel(v);
		} else {
			pair_talk(what);
			if (((struct pair *)what)->state >= PAIR_LEFT)
				stop_watching(v, what);
		}
	}
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

static int poll_completions(struct verbs *v)
{
	struct ibv_wc wc[POLLED];
	int n = ibv_poll_cq(v->device.cq, POLLED, wc);

	for (int i = 0; i < n; i++) {
		uint64_t peer = wc[i].wr_id >> 32;
		if (peer < (uint64_t)v->env->nranks && v->pairs[peer])
			pair_completed(v->pairs[peer], &wc[i]);
	}
	return n;
}

/* The completion queue was empty. */
static void sweep(struct verbs *v)
{
	for (int r = 0; r < v->env->nranks; r++)
		if (v->pairs[r])
			pair_sweep(v->pairs[r]);
}

/* Channels that both sides have left give their rings back, so that those who come and go don't add up. */
static void reclaim(struct verbs *v)
{
	int n;

	look_around(v);
	while ((n = poll_completions(v)) > 0)
		;
	if (n == 0)
		sweep(v);
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static int verbs_connect(void *ctx, const struct link_spec *spec, struct link *link)
{
	struct verbs *v = ctx;
	struct link_spec lane = *spec;
	uint64_t tag;
	int rc = v->pairs[spec->peer] ? TUTTI_OK : make_pair(v, spec->peer);

	if (rc != TUTTI_OK)
		return rc;
	lane.outgoing = v->env->rank < spec->peer;
	tag = link_tag(&lane, v->env->rank);
	if (!pair_has(v->pairs[spec->peer], tag))
		reclaim(v);
	return pair_connect(v->pairs[spec->peer], spec, tag, link);
}

static void verbs_disconnect(void *ctx, struct link *link)
{
	struct verbs *v = ctx;

	if (link->wire)
		pair_disconnect(v->pairs[link->peer], link->wire, link->outgoing);
	link->wire = NULL;
	link->ready = false;
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* Before the caller may sleep: what comes from now on wakes it, and what came before is found. */
static int look_and_arm(struct verbs *v)
{
	look_around(v);
	if (!v->armed && v->device.channel) {
		if (ibv_req_notify_cq(v->device.cq, 0) != 0)
			return fail_errno("ask %s to tell of completions", v->device.name);
		v->armed = true;
	}
	return TUTTI_OK;
}

static int verbs_pump(void *ctx)
{
	struct verbs *v = ctx;
	int n = 0, rc = TUTTI_OK;

	if (v->idle++ % LOOK_EVERY == LOOK_EVERY - 1)
		rc = look_and_arm(v);
	for (int got = POLLED; got == POLLED;) {
		got = poll_completions(v);
		if (got < 0)
			return fail(TUTTI_ESYSTEM, "polling the completion queue of %s failed", v->device.name);
		n += got;
	}
	if (n)
		v->idle = 0;
	else
		sweep(v);
	for (int r = 0; r < v->env->nranks; r++)
		if (v->pairs[r])
			pair_move(v->pairs[r]);
	return rc;
}

static void let_arrive(struct verbs *v)
{
	uint64_t until = now_ns() + LINGER_NS;
	bool all = false;

	while (!all && v->device.cq && now_ns() < until) {
		all = poll_completions(v) <= 0;
		for (int r = 0; r < v->env->nranks; r++)
			if (v->pairs[r])
				all &= pair_flushed(v->pairs[r]);
	}
}

static int verbs_sleep_fd(void *ctx)
{
	struct verbs *v = ctx;

	return v->device.channel ? v->epoll : -1;
}

/* The card's queue pairs, shared by the ranks of this machine that use it. */
static int verbs_peers(void *ctx)
{
	struct verbs *v = ctx;
	const struct contact *all = v->env->contacts, *me = &all[v->env->rank];
	int sharing = 0, each;

	for (int r = 0; r < v->env->nranks; r++)
		sharing +=
		        address_of(v, r).usable && memcmp(all[r].host_hint, me->host_hint, sizeof(me->host_hint)) == 0;
	each = v->device.limits.max_qp / (sharing ? sharing : 1);
	return each ? each : 1;
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
        .peers = verbs_peers,
        .devices = devices_list,
        .close = verbs_close,
};
