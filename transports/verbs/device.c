/* SPDX-License-Identifier: MIT */
/*
 * Choosing and opening a port; see device.h. The device's capabilities are queried, never looked up by its name: a
 * queue pair of the wanted kind is created as a test, and the limits are those that the device reports.
 */
#include "device.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "cm.h"
#include "memory.h"
#include "port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASONS 600

static const char *const mode_names[] = {"write", "send", "uc"}; /* by enum verbs_mode */

/* ---- parameters -------------------------------------------------------------------------------------------------- */

static int knobs_read(struct verbs_knobs *k, const char *text)
{
	static const struct {
		const char *name;
		size_t at;
		int least, most;
	} rows[] = {
	        {"mtu", offsetof(struct verbs_knobs, mtu), 256, 4096},
	        {"pkey", offsetof(struct verbs_knobs, pkey), 0, UINT16_MAX},
	        {"sl", offsetof(struct verbs_knobs, sl), 0, 15},
	        {"tc", offsetof(struct verbs_knobs, tc), 0, 255},
	        {"timeout", offsetof(struct verbs_knobs, timeout), 1, 31},
	        {"retry", offsetof(struct verbs_knobs, retry), 0, 7},
	        {"rnr", offsetof(struct verbs_knobs, rnr), 0, 7},
	};
	const size_t nrows = sizeof(rows) / sizeof(rows[0]);

	*k = (struct verbs_knobs){.timeout = 16, .retry = 7, .rnr = 7};
	for (const char *p = text; p && *p; p += *p == ',') {
		size_t i = 0, len = strcspn(p, "=,");
		char *end = NULL;
		long value = p[len] == '=' ? strtol(p + len + 1, &end, 10) : -1;
		while (i < nrows && (strlen(rows[i].name) != len || memcmp(rows[i].name, p, len) != 0))
			i++;
		if (i == nrows || !end || (*end && *end != ',') || value < rows[i].least || value > rows[i].most)
			return fail(
			        TUTTI_EINVAL,
			        "TUTTI_VERBS_QP=%s: at \"%s\" expected name=number; the names are mtu (256 to 4096), pkey, sl, tc, timeout (1 to 31), retry and rnr (0 to 7)",
			        text, p);
		*(int *)((char *)k + rows[i].at) = (int)value;
		p = end;
	}
	return TUTTI_OK;
}

/* ---- who can reach whom ------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

uint64_t device_fabric(const struct device *d)
{
	bool ethernet = d->attr.link_layer == IBV_LINK_LAYER_ETHERNET;
	uint64_t h = mix(mix(mix(7, ethernet), d->mode), (uint64_t)d->iwarp << 1 | d->by_cm);
	__be16 pkey = 0;

	if (ethernet) {
		h = mix(mix(h, d->gid_type), (uint64_t)gid_is_ipv4(&d->gid) << 1 | gid_is_link_local(&d->gid));
	} else {
		h = mix(h, d->has_gid ? d->gid.global.subnet_prefix : 0);
		if (d->lib.query_pkey(d->context, d->port, d->knobs.pkey, &pkey) == 0)
			h = mix(h, ntohs(pkey) & 0x7fffu); /* the top bit tells full from limited members */
	}
	return h | 1;
}

/* ---- what it can do ---------------------------------------------------------------------------------------------- */

static bool can_make(const struct device *d, enum ibv_qp_type type)
{
	struct ibv_cq *cq = d->lib.create_cq(d->context, 2, NULL, NULL, 0);
	struct ibv_qp_init_attr attr = {
	        .send_cq = cq, .recv_cq = cq, .cap = {1, 1, 1, 1, 0}, .qp_type = type, .sq_sig_all = 0};
	struct ibv_qp *qp = cq ? d->lib.create_qp(d->pd, &attr) : NULL;

	if (qp)
		d->lib.destroy_qp(qp);
	if (cq)
		d->lib.destroy_cq(cq);
	return qp != NULL;
}

const char *device_mode_name(const struct device *d)
{
	return mode_names[d->mode];
}

static int choose_mode(struct device *d, const char *wanted)
{
	bool rc = can_make(d, IBV_QPT_RC), uc = !rc && can_make(d, IBV_QPT_UC);

	if (wanted && strcmp(wanted, "auto") != 0) {
		for (int i = VERBS_WRITE; i <= VERBS_SEND_UC; i++)
			if (strcmp(wanted, mode_names[i]) == 0)
				d->mode = (enum verbs_mode)i;
		if (d->mode == VERBS_WRITE && d->iwarp)
			return fail(TUTTI_EUNSUPPORTED,
			            "iWARP has no immediate data, which TUTTI_VERBS_MODE=write needs");
		if (d->mode == VERBS_SEND_UC && d->by_cm)
			return fail(TUTTI_EUNSUPPORTED, "rdma_cm can't connect UC queue pairs (TUTTI_VERBS_CONNECT)");
		if (d->mode == VERBS_SEND_UC ? uc || can_make(d, IBV_QPT_UC) : rc)
			return TUTTI_OK;
		return fail(TUTTI_EUNSUPPORTED, "it does not support %s queue pairs, which TUTTI_VERBS_MODE=%s needs",
		            d->mode == VERBS_SEND_UC ? "UC" : "RC", wanted);
	}
	d->mode = !rc ? VERBS_SEND_UC : d->iwarp ? VERBS_SEND : VERBS_WRITE; /* iWARP has no immediates */
	if (d->by_cm && !rc)
		return fail(TUTTI_EUNSUPPORTED, "it does not support RC queue pairs, which rdma_cm needs");
	if (rc || uc)
		return TUTTI_OK;
	return fail(TUTTI_EUNSUPPORTED,
	            "it supports neither RC nor UC queue pairs (%s): use the libfabric transport for such devices",
	            strerror(errno));
}

static int use_port(struct device *d, const struct params *p)
{
	static const char *const states[] = {"no state", "down", "initialising", "armed", "active", "deferred"};
	int rc;

	if (d->lib.query_port(d->context, d->port, &d->attr) != 0)
		return fail_errno("query its state");
	if (d->attr.state != IBV_PORT_ACTIVE)
		return fail(TUTTI_EUNSUPPORTED, "it is %s: check cable, switch and `rdma link`",
		            d->attr.state < 6 ? states[d->attr.state] : "in an unknown state");
	rc = d->iwarp ? TUTTI_OK : gid_choose(d, (int)p->verbs_gid); /* iWARP: addresses are rdma_cm's matter */
	if (rc == TUTTI_OK)
		rc = choose_mode(d, p->verbs_mode);
	if (rc == TUTTI_OK)
		rc = memory_begin(d);
	return rc;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void shut(struct device *d)
{
	if (d->cm)
		cm_close(d->cm);
	d->cm = NULL;
	memory_end(d);
	if (d->cq && d->unacked)
		d->lib.ack_cq_events(d->cq, d->unacked);
	if (d->cq)
		d->lib.destroy_cq(d->cq);
	if (d->channel)
		d->lib.destroy_comp_channel(d->channel);
	if (d->pd)
		d->lib.dealloc_pd(d->pd);
	if (d->context)
		d->lib.close_device(d->context);
	d->cq = NULL;
	d->channel = NULL;
	d->pd = NULL;
	d->context = NULL;
	d->unacked = 0;
	d->has_gid = false;
}

static int use_device(struct device *d, const struct port *port, const struct params *p)
{
	int rc;

	d->port = port->number;
	d->context = d->lib.open_device(port->device);
	if (!d->context)
		return fail_errno("open it (is /dev/infiniband/uverbs* there, and may this user open it?)");
	if (d->lib.query_device(d->context, &d->limits) != 0)
		return fail_errno("query its limits");
	d->iwarp = port->device->transport_type == IBV_TRANSPORT_IWARP;
	d->by_cm = d->iwarp || strcmp(p->verbs_connect, "cm") == 0;
	if (d->iwarp && strcmp(p->verbs_connect, "exchange") == 0)
		return fail(TUTTI_EUNSUPPORTED, "it speaks iWARP, which needs TUTTI_VERBS_CONNECT=cm");
	d->pd = d->lib.alloc_pd(d->context);
	if (!d->pd)
		return fail_errno("create a protection domain (it has %d)", d->limits.max_pd);
	rc = use_port(d, p);
	if (rc != TUTTI_OK)
		return rc;
	if (fcntl(d->context->async_fd, F_SETFL, O_NONBLOCK) < 0)
		return fail_errno("set up its events");
	d->channel = d->lib.create_comp_channel(d->context);
	if (d->channel && fcntl(d->channel->fd, F_SETFL, O_NONBLOCK) < 0)
		return fail_errno("set up its completion channel");
	return d->by_cm ? cm_open(&d->cm, d) : TUTTI_OK;
}

static void name_port(struct device *d, const struct port *port)
{
	snprintf(d->name, sizeof(d->name), "%s:%d", d->lib.get_device_name(port->device), port->number);
}

/* The best port of that name that can be used. */
static int use_best(struct device *d, const struct params *p, struct ibv_device **list, const char *name)
{
	char why[REASONS] = "";
	size_t count = 0, n = 0;
	struct port *ports = ports_find(d, list, name, &count);
	int rc = TUTTI_EUNSUPPORTED;

	for (size_t i = 0; i < count && rc != TUTTI_OK; i++) {
		name_port(d, &ports[i]);
		rc = use_device(d, &ports[i], p);
		if (rc == TUTTI_OK)
			break;
		shut(d);
		if (n < sizeof(why))
			n += (size_t)snprintf(why + n, sizeof(why) - n, "%s%s: %s", n ? "; " : "", d->name,
			                      fail_text());
	}
	free(ports);
	if (rc == TUTTI_OK)
		return rc;
	if (*why)
		return fail(TUTTI_EUNSUPPORTED, "%s", why);
	if (name)
		return fail(TUTTI_EUNSUPPORTED, "no RDMA device matches TUTTI_VERBS_DEVICE=%s", p->verbs_device);
	return fail(TUTTI_EUNSUPPORTED, "no RDMA device found (`rdma link` lists them)");
}

int device_open(struct device *d, const struct params *p, const char *name)
{
	struct ibv_device **list;
	int rc;

	memset(d, 0, sizeof(*d));
	rc = knobs_read(&d->knobs, p->verbs_qp);
	if (rc != TUTTI_OK) {
		log_warn("%s", fail_text());
		return rc;
	}
	rc = verbs_load(&d->lib, p->verbs_lib);
	if (rc != TUTTI_OK)
		return rc;
	list = d->lib.get_device_list(NULL);
	rc = use_best(d, p, list, name);
	if (list)
		d->lib.free_device_list(list);
	return rc;
}

static void describe(struct device *d, const struct port *port, const struct params *p, char *text, size_t cap)
{
	char gid[GID_TEXT];

	name_port(d, port);
	if (use_device(d, port, p) == TUTTI_OK)
		snprintf(text, cap, "%s: yes, %s, mode %s, MTU %d, %d queue pairs, %d regions, %u Mb/s, %s%s", d->name,
		         gid_text(d, gid), mode_names[d->mode], 128 << d->attr.active_mtu, d->limits.max_qp,
		         d->limits.max_mr, port->mbps, port->near ? "near" : "far from this rank's CPUs",
		         d->by_cm ? ", connected by rdma_cm" : "");
	else
		snprintf(text, cap, "%s: no, %s", d->name, fail_text());
	shut(d);
}

int devices_list(const struct params *p, void (*line)(void *ctx, const char *text), void *ctx)
{
	struct device d = {0};
	struct ibv_device **list = NULL;
	struct port *ports = NULL;
	size_t n = 0;
	char text[400];
	int rc = knobs_read(&d.knobs, p->verbs_qp);

	if (rc == TUTTI_OK)
		rc = verbs_load(&d.lib, p->verbs_lib);
	if (rc == TUTTI_OK) {
		list = d.lib.get_device_list(NULL);
		ports = ports_find(&d, list, NULL, &n);
	}
	for (size_t i = 0; i < n; i++) {
		describe(&d, &ports[i], p, text, sizeof(text));
		line(ctx, text);
	}
	if (list)
		d.lib.free_device_list(list);
	free(ports);
	verbs_unload(&d.lib);
	return rc;
}

int device_make_queue(struct device *d, int entries)
{
	d->cq = d->lib.create_cq(d->context, entries, NULL, d->channel, 0);
	return d->cq ? TUTTI_OK
	             : fail_errno("create a completion queue of %d entries on %s (it allows %d)", entries, d->name,
	                          d->limits.max_cqe);
}

void device_close(struct device *d)
{
	shut(d);
	verbs_unload(&d->lib);
}
