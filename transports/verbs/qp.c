/* SPDX-License-Identifier: MIT */
/* See qp.h. */
#include "qp.h"
#include "../../src/util/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GREETING_VERSION 2
#define HOPS             64
#define RNR_WAIT         12 /* 0.64 ms between tries where, against the rules, no receive was posted */

static enum ibv_qp_type type_of(const struct pair *p)
{
	return p->device->mode == VERBS_SEND_UC ? IBV_QPT_UC : IBV_QPT_RC;
}

/* How much goes inline is only found out by trying. */
static struct ibv_qp *try_make(struct pair *p)
{
	static const uint32_t inline_bytes[] = {256, 128, 64, 0};
	const struct device *d = p->device;
	struct ibv_qp *qp = NULL;

	for (size_t i = d->mode == VERBS_WRITE ? 0 : 3; i < 4 && !qp; i++) {
		struct ibv_qp_init_attr attr = {
		        .send_cq = d->cq,
		        .recv_cq = d->cq,
		        .cap = {.max_send_wr = p->depth,
		                .max_recv_wr = p->receives,
		                .max_send_sge = 1,
		                .max_recv_sge = 1,
		                .max_inline_data = inline_bytes[i]},
		        .qp_type = type_of(p),
		};
		qp = d->lib.create_qp(d->pd, &attr);
		p->inline_max = attr.cap.max_inline_data;
	}
	return qp;
}

int qp_make(struct pair *p)
{
	struct device *d = p->device;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
	                           .pkey_index = (uint16_t)d->knobs.pkey,
	                           .port_num = d->port,
	                           .qp_access_flags = d->mode == VERBS_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0};

	p->qp = try_make(p);
	if (!p->qp) {
		int error = errno;
		(void)fail_errno("create a queue pair on %s", d->name);
		return fail(
		        error == ENOMEM || error == ENOSPC || error == EMFILE ? TUTTI_EUNSUPPORTED : TUTTI_ESYSTEM,
		        "%s: rank %d has %d, needs one for each of up to %d peers that it exchanges data with, and the device has %d for all processes; choose algorithms with fewer peers (TUTTI_ALGO=allreduce:ring), or TUTTI_TRANSPORT=^verbs",
		        fail_text(), p->env->rank, d->npairs, p->env->nranks - 1, d->limits.max_qp);
	}
	d->npairs++;
	if (d->lib.modify_qp(p->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) != 0)
		return fail_errno("set up a queue pair on %s (pkey index %d)", d->name, d->knobs.pkey);
	return TUTTI_OK;
}

static uint32_t own_mtu(const struct device *d)
{
	uint32_t port = 128u << d->attr.active_mtu, wanted = (uint32_t)d->knobs.mtu;
	return wanted && wanted < port ? wanted : port;
}

struct greeting qp_greeting(const struct pair *p)
{
	const struct device *d = p->device;
	struct greeting g = {.version = GREETING_VERSION,
	                     .mode = d->mode,
	                     .qpn = p->qp->qp_num,
	                     .psn = p->psn,
	                     .mtu = own_mtu(d),
	                     .window = p->window,
	                     .frame = FRAME_BYTES,
	                     .lid = d->attr.lid,
	                     .has_gid = d->has_gid};
	memcpy(g.gid, d->gid.raw, sizeof(g.gid));
	return g;
}

static enum ibv_mtu mtu_of(uint32_t bytes)
{
	enum ibv_mtu m = IBV_MTU_256;
	while (m < IBV_MTU_4096 && 256u << m <= bytes)
		m++;
	return m;
}

int qp_set(struct pair *p, struct ibv_qp_attr *attr, int mask)
{
	const struct device *d = p->device;
	int error;

	if (mask & IBV_QP_PATH_MTU && 128u << attr->path_mtu > own_mtu(d))
		attr->path_mtu = mtu_of(own_mtu(d));
	attr->min_rnr_timer = RNR_WAIT;
	attr->ah_attr.sl = (uint8_t)d->knobs.sl;
	attr->ah_attr.grh.traffic_class = (uint8_t)d->knobs.tc;
	attr->timeout = (uint8_t)d->knobs.timeout;
	attr->retry_cnt = (uint8_t)d->knobs.retry;
	attr->rnr_retry = (uint8_t)d->knobs.rnr;
	error = d->lib.modify_qp(p->qp, attr, mask);
	errno = error > 0 ? error : errno;
	return error ? -1 : 0;
}

static int to_receive(struct pair *p, const struct greeting *peer)
{
	const struct device *d = p->device;
	struct ibv_qp_attr attr = {
	        .qp_state = IBV_QPS_RTR,
	        .path_mtu = mtu_of(peer->mtu),
	        .dest_qp_num = peer->qpn,
	        .rq_psn = peer->psn,
	        .max_dest_rd_atomic = 0,
	        .ah_attr = {.dlid = peer->lid, .port_num = d->port},
	};
	int mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;

	if (d->attr.link_layer == IBV_LINK_LAYER_ETHERNET || peer->lid == 0) { /* else the LID is enough */
		attr.ah_attr.is_global = 1;
		memcpy(attr.ah_attr.grh.dgid.raw, peer->gid, sizeof(peer->gid));
		attr.ah_attr.grh.sgid_index = (uint8_t)d->gid_index;
		attr.ah_attr.grh.hop_limit = HOPS;
	}
	if (type_of(p) == IBV_QPT_RC)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	return qp_set(p, &attr, mask);
}

static int to_send(struct pair *p)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .sq_psn = p->psn};
	int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;

	if (type_of(p) == IBV_QPT_RC)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	return qp_set(p, &attr, mask);
}

int qp_agrees(const struct pair *p, const struct greeting *peer)
{
	const struct device *d = p->device;

	if (peer->version == GREETING_VERSION && peer->mode == d->mode && peer->frame == FRAME_BYTES &&
	    peer->window == p->window && (peer->place.port != 0) == d->by_cm)
		return TUTTI_OK;
	return fail(
	        TUTTI_EMISMATCH,
	        "the verbs transport of rank %d has version %u, mode %u, window %u, rdma_cm %d; here they are %d, %d, %u, %d: install the same Tutti on all hosts",
	        p->peer, peer->version, peer->mode, peer->window, peer->place.port != 0, GREETING_VERSION, d->mode,
	        p->window, d->by_cm);
}

int qp_connect(struct pair *p, const struct greeting *peer)
{
	const struct device *d = p->device;
	char gid[GID_TEXT];

	if (to_receive(p, peer) == 0 && to_send(p) == 0)
		return TUTTI_OK;
	return fail_errno("connect a queue pair of %s, %s, to rank %d (does the GID reach it? see TUTTI_VERBS_GID)",
	                  d->name, gid_text(d, gid), p->peer);
}

void qp_stop(struct pair *p)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	(void)p->device->lib.modify_qp(p->qp, &attr, IBV_QP_STATE);
}
