/* SPDX-License-Identifier: MIT */
/*
 * rdma_cm for the imaginary device: requests to connect wait in the shared file until the listener polls, which a
 * thread does now and then. Only what user-managed queue pairs need.
 */
#include "card.h"

#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT  __attribute__((visibility("default")))
#define TICK_US 300

enum { CALL_FREE, CALL_MADE, CALL_ASKED, CALL_SEEN, CALL_ACCEPTED, CALL_HEARD, CALL_JOINED, CALL_REFUSED };

struct cm_id {
	struct rdma_cm_id id; /* first */
	struct ibv_context verbs;
	struct imaginary_call *call;
	uint8_t own[16], other[16]; /* addresses */
	uint16_t port;
	bool listening, asks;
	struct cm_id *next;
};

struct happening {
	struct rdma_cm_event event; /* first */
	uint8_t data[IMAGINARY_PRIVATE];
	struct happening *next;
};

struct manager {
	struct rdma_event_channel channel; /* first */
	struct imaginary *sea;
	int in;
	bool stop;
	pthread_t thread;
	pthread_mutex_t lock;
	struct cm_id *ids;
	struct happening *first, **last;
};

static struct manager *manager_of(struct cm_id *i)
{
	return (struct manager *)i->id.channel;
}

/* The lock is held. */
static void happens(struct cm_id *i, enum rdma_cm_event_type type, int status, const uint8_t *data)
{
	struct manager *m = manager_of(i);
	struct happening *h = calloc(1, sizeof(*h));
	h->event = (struct rdma_cm_event){.id = &i->id, .event = type, .status = status};
	if (data) {
		memcpy(h->data, data, sizeof(h->data));
		h->event.param.conn.private_data = h->data;
		h->event.param.conn.private_data_len = sizeof(h->data);
	}
	*m->last = h;
	m->last = &h->next;
	(void)!write(m->in, "", 1);
}

static struct cm_id *new_id(struct manager *m, void *context)
{
	struct cm_id *i = calloc(1, sizeof(*i));
	i->id.channel = &m->channel;
	i->id.context = context;
	i->next = m->ids;
	m->ids = i;
	return i;
}

/* ---- what the others have done ----------------------------------------------------------------------------------- */

static void look_for_requests(struct manager *m, struct cm_id *listener)
{
	for (int k = 0; k < IMAGINARY_CALLS; k++) {
		struct imaginary_call *c = &m->sea->calls[k];
		uint32_t made = CALL_ASKED;
		struct cm_id *i;
		if (atomic_load(&c->state) != CALL_ASKED || c->port != listener->port ||
		    !atomic_compare_exchange_strong(&c->state, &made, CALL_SEEN))
			continue;
		i = new_id(m, listener->id.context);
		i->call = c;
		memcpy(i->other, c->from, 16);
		happens(i, RDMA_CM_EVENT_CONNECT_REQUEST, 0, c->data);
	}
}

static void look_at_call(struct manager *m, struct cm_id *i)
{
	uint32_t state = atomic_load(&i->call->state);
	int instead = m->sea->knobs.cm_event;
	if (i->asks && state == CALL_ACCEPTED && m->sea->knobs.iwarp && !instead) {
		pair_join(i->call->qpn, i->call->answer_qpn);
		happens(i, RDMA_CM_EVENT_ESTABLISHED, 0, i->call->answer);
		atomic_store(&i->call->state, CALL_JOINED);
		i->call = NULL;
	} else if (i->asks && state == CALL_ACCEPTED) {
		atomic_store(&i->call->state, CALL_HEARD);
		if (instead)
			happens(i, (enum rdma_cm_event_type)instead, -ETIMEDOUT, NULL);
		else
			happens(i, RDMA_CM_EVENT_CONNECT_RESPONSE, 0, i->call->answer);
	} else if (i->asks && state == CALL_REFUSED) {
		happens(i, RDMA_CM_EVENT_REJECTED, 28, NULL);
		atomic_store(&i->call->state, CALL_FREE);
		i->call = NULL;
	} else if (!i->asks && state == CALL_JOINED) {
		happens(i, RDMA_CM_EVENT_ESTABLISHED, 0, NULL);
		atomic_store(&i->call->state, CALL_FREE);
		i->call = NULL;
	}
}

static void *look(void *arg)
{
	struct manager *m = arg;
	for (bool stop = false; !stop;) {
		usleep(TICK_US);
		pthread_mutex_lock(&m->lock);
		for (struct cm_id *i = m->ids; i; i = i->next) {
			if (i->listening)
				look_for_requests(m, i);
			else if (i->call)
				look_at_call(m, i);
		}
		stop = m->stop;
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

EXPORT struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct manager *m = calloc(1, sizeof(*m));
	int ends[2];
	if (!m || !imaginary_sea() || pipe2(ends, O_CLOEXEC) != 0) {
		free(m);
		errno = ENODEV;
		return NULL;
	}
	m->sea = imaginary_sea();
	m->channel.fd = ends[0];
	m->in = ends[1];
	m->last = &m->first;
	pthread_mutex_init(&m->lock, NULL);
	pthread_create(&m->thread, NULL, look, m);
	return &m->channel;
}

EXPORT void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	struct manager *m = (struct manager *)channel;
	if (m->ids)
		broken_rule("an event channel ends before its ids");
	pthread_mutex_lock(&m->lock);
	m->stop = true;
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	pthread_mutex_destroy(&m->lock);
	close(m->channel.fd);
	close(m->in);
	free(m);
}

EXPORT int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
                          enum rdma_port_space ps)
{
	struct manager *m = (struct manager *)channel;
	pthread_mutex_lock(&m->lock);
	*id = &new_id(m, context)->id;
	(*id)->ps = ps;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

EXPORT int rdma_destroy_id(struct rdma_cm_id *id)
{
	struct cm_id *i = (struct cm_id *)id;
	struct manager *m = manager_of(i);
	pthread_mutex_lock(&m->lock);
	for (struct cm_id **at = &m->ids; *at; at = &(*at)->next)
		if (*at == i) {
			*at = i->next;
			break;
		}
	m->last = &m->first;
	for (struct happening *h; (h = *m->last);) { /* its events go with it */
		if (h->event.id == id) {
			*m->last = h->next;
			free(h);
		} else {
			m->last = &h->next;
		}
	}
	pthread_mutex_unlock(&m->lock);
	free(i);
	return 0;
}

static void address_from(uint8_t to[16], uint16_t *port, const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
	memset(to, 0, 16);
	to[10] = to[11] = 0xff;
	memcpy(to + 12, &in->sin_addr, 4);
	if (port)
		*port = in->sin_port;
}

/* Addresses are in GIDs; iWARP has none, and any address of the machine is its first device's. */
static bool is_ours(const struct manager *m, const uint8_t a[16])
{
	return m->sea->knobs.iwarp || (a[12] == 10 && a[13] == 77);
}

EXPORT int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *sa)
{
	struct cm_id *i = (struct cm_id *)id;
	address_from(i->own, NULL, sa);
	bool iwarp = manager_of(i)->sea->knobs.iwarp;
	if (sa->sa_family != AF_INET || !is_ours(manager_of(i), i->own)) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	i->verbs.device = imaginary_device(iwarp ? 0 : i->own[14]);
	id->verbs = &i->verbs;
	id->port_num = 1;
	return 0;
}

EXPORT int rdma_listen(struct rdma_cm_id *id, int backlog)
{
	struct cm_id *i = (struct cm_id *)id;
	(void)backlog;
	pthread_mutex_lock(&manager_of(i)->lock);
	i->port = (uint16_t)(atomic_fetch_add(&manager_of(i)->sea->generation, 1) % 60000 + 1);
	i->listening = true;
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

EXPORT __be16 rdma_get_src_port(struct rdma_cm_id *id)
{
	return ((struct cm_id *)id)->port;
}

EXPORT int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms)
{
	struct cm_id *i = (struct cm_id *)id;
	(void)ms;
	if (rdma_bind_addr(id, from) != 0)
		return -1;
	address_from(i->other, &i->port, to);
	pthread_mutex_lock(&manager_of(i)->lock);
	happens(i, is_ours(manager_of(i), i->other) ? RDMA_CM_EVENT_ADDR_RESOLVED : RDMA_CM_EVENT_ADDR_ERROR, 0, NULL);
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

EXPORT int rdma_resolve_route(struct rdma_cm_id *id, int ms)
{
	struct cm_id *i = (struct cm_id *)id;
	(void)ms;
	pthread_mutex_lock(&manager_of(i)->lock);
	happens(i, RDMA_CM_EVENT_ROUTE_RESOLVED, 0, NULL);
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

static void say(struct manager *m, uint8_t to[IMAGINARY_PRIVATE], const struct rdma_conn_param *p, bool answer)
{
	if (p->private_data_len > IMAGINARY_PRIVATE)
		broken_rule("more private data than fits");
	memset(to, 0, IMAGINARY_PRIVATE);
	memcpy(to, p->private_data, p->private_data_len);
	to[0] ^= m->sea->knobs.cm_strange == (answer ? 2 : 1);
}

EXPORT int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *p)
{
	struct cm_id *i = (struct cm_id *)id;
	struct manager *m = manager_of(i);
	bool made;
	pthread_mutex_lock(&m->lock);
	for (int k = 0; k < IMAGINARY_CALLS && !i->call; k++) {
		struct imaginary_call *c = &m->sea->calls[k];
		uint32_t free_ = CALL_FREE;
		if (!atomic_compare_exchange_strong(&c->state, &free_, CALL_MADE))
			continue;
		i->call = c;
		i->asks = true;
		c->port = i->port;
		c->qpn = p->qp_num;
		memcpy(c->from, i->own, 16);
		say(m, c->data, p, false);
		atomic_store(&c->state, CALL_ASKED);
	}
	made = i->call != NULL;
	pthread_mutex_unlock(&m->lock);
	errno = EAGAIN;
	return made ? 0 : -1;
}

EXPORT int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *p)
{
	struct cm_id *i = (struct cm_id *)id;
	pthread_mutex_lock(&manager_of(i)->lock);
	i->call->answer_qpn = p->qp_num;
	if (manager_of(i)->sea->knobs.iwarp)
		pair_join(p->qp_num, i->call->qpn);
	say(manager_of(i), i->call->answer, p, true);
	atomic_store(&i->call->state, CALL_ACCEPTED);
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

EXPORT int rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t bytes)
{
	struct cm_id *i = (struct cm_id *)id;
	(void)data;
	(void)bytes;
	pthread_mutex_lock(&manager_of(i)->lock);
	atomic_store(&i->call->state, CALL_REFUSED);
	i->call = NULL;
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

EXPORT int rdma_establish(struct rdma_cm_id *id)
{
	struct cm_id *i = (struct cm_id *)id;
	if (manager_of(i)->sea->knobs.iwarp)
		broken_rule("with iWARP it is the kernel that establishes a connection");
	pthread_mutex_lock(&manager_of(i)->lock);
	atomic_store(&i->call->state, CALL_JOINED);
	i->call = NULL;
	pthread_mutex_unlock(&manager_of(i)->lock);
	return 0;
}

EXPORT int rdma_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *a, int *mask)
{
	const struct cm_id *i = (const struct cm_id *)id;
	enum ibv_qp_state state = a->qp_state;
	*a = (struct ibv_qp_attr){.qp_state = state, .path_mtu = IBV_MTU_4096, .retry_cnt = 7, .rnr_retry = 7};
	if (state == IBV_QPS_RTS) {
		*mask = IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
		        IBV_QP_MAX_QP_RD_ATOMIC;
		return 0;
	}
	a->dest_qp_num = i->asks ? i->call->answer_qpn : i->call->qpn;
	a->ah_attr.is_global = 1;
	a->ah_attr.grh.sgid_index = 4;
	memcpy(a->ah_attr.grh.dgid.raw, i->other, 16);
	*mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
	        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	return 0;
}

EXPORT int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event)
{
	struct manager *m = (struct manager *)channel;
	char byte;
	if (read(channel->fd, &byte, 1) != 1)
		return -1;
	pthread_mutex_lock(&m->lock);
	struct happening *h = m->first;
	if (h) {
		m->first = h->next;
		m->last = m->first ? m->last : &m->first;
	}
	pthread_mutex_unlock(&m->lock);
	*event = h ? &h->event : NULL;
	errno = EAGAIN;
	return h ? 0 : -1;
}

EXPORT int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	free(event);
	return 0;
}

EXPORT const char *rdma_event_str(enum rdma_cm_event_type type)
{
	return type == RDMA_CM_EVENT_REJECTED      ? "RDMA_CM_EVENT_REJECTED"
	       : type == RDMA_CM_EVENT_UNREACHABLE ? "RDMA_CM_EVENT_UNREACHABLE"
	                                           : "RDMA_CM_EVENT_OTHER";
}
