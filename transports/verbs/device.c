/*
 * Choosing and opening a port; see device.h. What the device can do is asked, never looked up by its name: a queue pair
 * of the wanted kind is made on trial, and limits are those that it reports.
 */
#include "device.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASONS      600
#define NO_SUCH_PORT (-2)

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
			return fail(TUTTI_EINVAL,
			            "TUTTI_VERBS_QP=%s: at \"%s\" expected name=number; the names are mtu (256 to "
			            "4096), pkey, sl, tc, timeout (1 to 31), retry and rnr (0 to 7)",
			            text, p);
		*(int *)((char *)k + rows[i].at) = (int)value;
		p = end;
	}
	return TUTTI_OK;
}

/* Does the list "mlx5_0:1,mlx5_1" name this port? An empty list names all. */
static bool is_named(const char *list, const char *device, int port)
{
	char full[72];

	if (!list || !*list)
		return true;
	snprintf(full, sizeof(full), "%s:%d", device, port);
	for (const char *p = list; *p; p += *p == ',') {
		size_t len = strcspn(p, ",");
		const char *name = memchr(p, ':', len) ? full : device;
		if (strlen(name) == len && memcmp(name, p, len) == 0)
			return true;
		p += len;
	}
	return false;
}

/* ---- GID --------------------------------------------------------------------------------------------------------- */

static bool is_ipv4(const union ibv_gid *g)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
	return memcmp(g->raw, prefix, sizeof(prefix)) == 0;
}

static bool is_link_local(const union ibv_gid *g)
{
	return is_ipv4(g) ? g->raw[12] == 169 && g->raw[13] == 254 : g->raw[0] == 0xfe && (g->raw[1] & 0xc0) == 0x80;
}

static bool is_nothing(const union ibv_gid *g)
{
	static const uint8_t zero[8];
	return memcmp(g->raw + 8, zero, 8) == 0;
}

static bool gid_at(const struct device *d, int index, union ibv_gid *gid, enum ibv_gid_type *type)
{
	struct ibv_gid_entry e = {0};

	*type = d->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? IBV_GID_TYPE_ROCE_V2 : IBV_GID_TYPE_IB;
	if (d->lib.query_gid_ex && d->lib.query_gid_ex(d->context, d->port, (uint32_t)index, &e, 0, sizeof(e)) == 0) {
		*gid = e.gid;
		*type = (enum ibv_gid_type)e.gid_type;
	} else if (d->lib.query_gid(d->context, d->port, index, gid) != 0) {
		return false;
	}
	return !is_nothing(gid);
}

/* RoCE v2 over IPv4, over IPv6, v1; addresses that are good for one cable only come last. InfiniBand: the first. */
static int gid_merit(const union ibv_gid *g, enum ibv_gid_type type)
{
	if (type == IBV_GID_TYPE_IB)
		return 1;
	return (is_link_local(g) ? 0 : 8) + (type == IBV_GID_TYPE_ROCE_V2 ? 4 : 0) + (is_ipv4(g) ? 2 : 1);
}

static int choose_gid(struct device *d, int wanted)
{
	enum ibv_gid_type type;
	union ibv_gid gid;
	int best = 0;

	for (int i = wanted < 0 ? 0 : wanted; i < d->attr.gid_tbl_len && (wanted < 0 || i == wanted); i++) {
		if (!gid_at(d, i, &gid, &type) || gid_merit(&gid, type) <= best)
			continue;
		best = gid_merit(&gid, type);
		d->gid = gid;
		d->gid_type = type;
		d->gid_index = i;
		d->has_gid = true;
	}
	if (d->has_gid || (wanted < 0 && d->attr.link_layer != IBV_LINK_LAYER_ETHERNET))
		return TUTTI_OK;
	if (wanted >= 0)
		return fail(TUTTI_EUNSUPPORTED, "its GID table has nothing at TUTTI_VERBS_GID=%d", wanted);
	return fail(TUTTI_EUNSUPPORTED, "it has no GID: give its network interface an IP address");
}

const char *gid_text(const struct device *d, char buf[GID_TEXT])
{
	char address[INET6_ADDRSTRLEN] = "";
	const char *kind = d->gid_type == IBV_GID_TYPE_ROCE_V2   ? "RoCE v2"
	                   : d->gid_type == IBV_GID_TYPE_ROCE_V1 ? "RoCE v1"
	                                                         : "InfiniBand";

	if (is_ipv4(&d->gid))
		inet_ntop(AF_INET, d->gid.raw + 12, address, sizeof(address));
	else
		inet_ntop(AF_INET6, d->gid.raw, address, sizeof(address));
	if (!d->has_gid)
		snprintf(buf, GID_TEXT, "InfiniBand LID %u", d->attr.lid);
	else
		snprintf(buf, GID_TEXT, "GID %d (%s %s)", d->gid_index, kind, address);
	return buf;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

uint64_t device_fabric(const struct device *d)
{
	bool ethernet = d->attr.link_layer == IBV_LINK_LAYER_ETHERNET;
	uint64_t h = mix(mix(7, ethernet), d->mode);
	__be16 pkey = 0;

	if (ethernet) {
		h = mix(mix(h, d->gid_type), (uint64_t)is_ipv4(&d->gid) << 1 | is_link_local(&d->gid));
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
		if (d->mode == VERBS_SEND_UC ? uc || can_make(d, IBV_QPT_UC) : rc)
			return TUTTI_OK;
		return fail(TUTTI_EUNSUPPORTED, "it makes no %s queue pairs, which TUTTI_VERBS_MODE=%s needs",
		            d->mode == VERBS_SEND_UC ? "UC" : "RC", wanted);
	}
	d->mode = rc ? VERBS_WRITE : VERBS_SEND_UC;
	if (rc || uc)
		return TUTTI_OK;
	return fail(TUTTI_EUNSUPPORTED,
	            "it makes neither RC nor UC queue pairs (%s): such devices are for the libfabric transport",
	            strerror(errno));
}

static int use_port(struct device *d, const struct params *p)
{
	static const char *const states[] = {"no state", "down", "initialising", "armed", "active", "deferred"};
	int rc;

	if (d->lib.query_port(d->context, d->port, &d->attr) != 0)
		return fail_errno("ask for its state");
	if (d->attr.state != IBV_PORT_ACTIVE)
		return fail(TUTTI_EUNSUPPORTED, "it is %s: check cable, switch and `rdma link`",
		            d->attr.state < 6 ? states[d->attr.state] : "in no state that is known");
	rc = choose_gid(d, (int)p->verbs_gid);
	if (rc == TUTTI_OK)
		rc = choose_mode(d, p->verbs_mode);
	if (rc == TUTTI_OK)
		rc = memory_begin(d);
	return rc;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void shut(struct device *d)
{
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

static int use_device(struct device *d, struct ibv_device *which, int port, const struct params *p)
{
	int rc;

	d->port = (uint8_t)port;
	d->context = d->lib.open_device(which);
	if (!d->context)
		return fail_errno("open it (is /dev/infiniband/uverbs* there, and may this user open it?)");
	if (d->lib.query_device(d->context, &d->limits) != 0)
		return fail_errno("ask for its limits");
	if (port > d->limits.phys_port_cnt)
		return NO_SUCH_PORT;
	if (which->transport_type == IBV_TRANSPORT_IWARP)
		return fail(TUTTI_EUNSUPPORTED, "it speaks iWARP, whose connections this transport can't make");
	d->pd = d->lib.alloc_pd(d->context);
	if (!d->pd)
		return fail_errno("make a protection domain (it has %d)", d->limits.max_pd);
	rc = use_port(d, p);
	if (rc != TUTTI_OK)
		return rc;
	if (fcntl(d->context->async_fd, F_SETFL, O_NONBLOCK) < 0)
		return fail_errno("set up its events");
	d->channel = d->lib.create_comp_channel(d->context);
	if (d->channel && fcntl(d->channel->fd, F_SETFL, O_NONBLOCK) < 0)
		return fail_errno("set up its completion channel");
	return TUTTI_OK;
}

/* Visits ports until one can be used; with `line`, tells of each and uses none. */
static int visit(struct device *d, const struct params *p, void (*line)(void *, const char *), void *ctx)
{
	char why[REASONS] = "", text[400], gid[GID_TEXT];
	struct ibv_device **list = d->lib.get_device_list(NULL);
	size_t n = 0;
	int rc = NO_SUCH_PORT;

	for (int i = 0; list && list[i] && (line || rc != TUTTI_OK); i++) {
		const char *name = d->lib.get_device_name(list[i]);
		for (int port = 1; port < 256 && (line || rc != TUTTI_OK); port++) {
			if (!is_named(p->verbs_device, name, port) && !line)
				continue;
			snprintf(d->name, sizeof(d->name), "%s:%d", name, port);
			rc = use_device(d, list[i], port, p);
			if (rc == TUTTI_OK && line)
				snprintf(text, sizeof(text), "%s: yes, %s, mode %s, MTU %d, %d queue pairs, %d regions",
				         d->name, gid_text(d, gid), mode_names[d->mode], 128 << d->attr.active_mtu,
				         d->limits.max_qp, d->limits.max_mr);
			else
				snprintf(text, sizeof(text), "%s: %s%s", d->name, line ? "no, " : "", fail_text());
			if (line || rc != TUTTI_OK)
				shut(d);
			if (rc == NO_SUCH_PORT) /* of this device there are no more */
				break;
			if (line)
				line(ctx, text);
			else if (rc != TUTTI_OK && n < sizeof(why))
				n += (size_t)snprintf(why + n, sizeof(why) - n, "%s%s", n ? "; " : "", text);
		}
	}
	if (list)
		d->lib.free_device_list(list);
	if (rc == TUTTI_OK || line)
		return TUTTI_OK;
	if (*why)
		return fail(TUTTI_EUNSUPPORTED, "%s", why);
	if (p->verbs_device)
		return fail(TUTTI_EUNSUPPORTED, "no RDMA device is named by TUTTI_VERBS_DEVICE=%s", p->verbs_device);
	return fail(TUTTI_EUNSUPPORTED, "there is no RDMA device (`rdma link` shows them)");
}

int device_open(struct device *d, const struct params *p)
{
	int rc;

	memset(d, 0, sizeof(*d));
	rc = knobs_read(&d->knobs, p->verbs_qp);
	if (rc != TUTTI_OK) {
		log_warn("%s", fail_text());
		return rc;
	}
	rc = verbs_load(&d->lib, p->verbs_lib);
	if (rc == TUTTI_OK)
		rc = visit(d, p, NULL, NULL);
	return rc;
}

int devices_list(const struct params *p, void (*line)(void *ctx, const char *text), void *ctx)
{
	struct device d = {0};
	int rc = knobs_read(&d.knobs, p->verbs_qp);

	if (rc == TUTTI_OK)
		rc = verbs_load(&d.lib, p->verbs_lib);
	if (rc == TUTTI_OK)
		rc = visit(&d, p, line, ctx);
	verbs_unload(&d.lib);
	return rc;
}

int device_make_queue(struct device *d, int entries)
{
	d->cq = d->lib.create_cq(d->context, entries, NULL, d->channel, 0);
	return d->cq ? TUTTI_OK
	             : fail_errno("make a completion queue of %d entries on %s (it allows %d)", entries, d->name,
	                          d->limits.max_cqe);
}

void device_close(struct device *d)
{
	shut(d);
	verbs_unload(&d->lib);
}
