/* SPDX-License-Identifier: MIT */
/* The GID of a port: found by type and address, for its index differs from port to port and in containers. */
#include "../../src/util/error.h"
#include "device.h"
#include "port.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY_RUN 16 /* where entries are asked for one by one: so many empty ones end the table */

bool gid_is_ipv4(const union ibv_gid *g)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
	return memcmp(g->raw, prefix, sizeof(prefix)) == 0;
}

bool gid_is_link_local(const union ibv_gid *g)
{
	return gid_is_ipv4(g) ? g->raw[12] == 169 && g->raw[13] == 254
	                      : g->raw[0] == 0xfe && (g->raw[1] & 0xc0) == 0x80;
}

static bool is_nothing(const union ibv_gid *g)
{
	static const uint8_t zero[8];
	return memcmp(g->raw + 8, zero, 8) == 0;
}

static bool gid_at(const struct device *d, uint32_t index, struct ibv_gid_entry *e)
{
	*e = (struct ibv_gid_entry){.gid_index = index, .port_num = d->port};
	if (d->lib.query_gid_ex)
		return d->lib.query_gid_ex(d->context, d->port, index, e, 0, sizeof(*e)) == 0;
	e->gid_type = d->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? IBV_GID_TYPE_ROCE_V2 : IBV_GID_TYPE_IB;
	return d->lib.query_gid(d->context, d->port, (int)index, &e->gid) == 0;
}

/* Read the port's table, or that of all ports; returns the number of entries. One query, if the library supports it. */
static size_t read_table(const struct device *d, struct ibv_gid_entry *e, size_t max)
{
	ssize_t all = d->lib.query_gid_table ? d->lib.query_gid_table(d->context, e, max, 0, sizeof(*e)) : -1;
	size_t n = 0;

	if (all >= 0)
		return (size_t)all;
	for (int i = 0, empty = 0; i < d->attr.gid_tbl_len && empty < EMPTY_RUN; i++) {
		bool there = gid_at(d, (uint32_t)i, &e[n]) && !is_nothing(&e[n].gid);
		empty = there ? 0 : empty + 1;
		n += there;
	}
	return n;
}

/* RoCE v2 over IPv4, over IPv6, v1; addresses that are good for one cable only come last. InfiniBand: the first. */
static int gid_merit(const struct ibv_gid_entry *e)
{
	if (e->gid_type == IBV_GID_TYPE_IB)
		return 1;
	return (gid_is_link_local(&e->gid) ? 0 : 8) + (e->gid_type == IBV_GID_TYPE_ROCE_V2 ? 4 : 0) +
	       (gid_is_ipv4(&e->gid) ? 2 : 1);
}

static int choose(struct device *d, int wanted)
{
	size_t max = (size_t)d->attr.gid_tbl_len * d->limits.phys_port_cnt, n;
	struct ibv_gid_entry *table = calloc(max + 1, sizeof(*table)), *best = NULL;

	if (!table)
		return fail(TUTTI_ENOMEM, "out of memory");
	n = read_table(d, table, max);
	for (struct ibv_gid_entry *e = table; e < table + n; e++) {
		if (e->port_num != d->port || is_nothing(&e->gid) || (wanted >= 0 && (int)e->gid_index != wanted))
			continue;
		if (!best || gid_merit(e) > gid_merit(best))
			best = e;
	}
	d->has_gid = best != NULL;
	if (best) {
		d->gid = best->gid;
		d->gid_type = (enum ibv_gid_type)best->gid_type;
		d->gid_index = (int)best->gid_index;
	}
	free(table);
	return TUTTI_OK;
}

int gid_choose(struct device *d, int wanted)
{
	int rc = choose(d, wanted);

	if (rc != TUTTI_OK || d->has_gid || (wanted < 0 && d->attr.link_layer != IBV_LINK_LAYER_ETHERNET))
		return rc;
	if (wanted >= 0)
		return fail(TUTTI_EUNSUPPORTED, "its GID table has no entry at TUTTI_VERBS_GID=%d", wanted);
	return fail(TUTTI_EUNSUPPORTED, "it has no GID: give its network interface an IP address");
}

const char *gid_text(const struct device *d, char buf[GID_TEXT])
{
	char address[INET6_ADDRSTRLEN] = "";
	const char *kind = d->gid_type == IBV_GID_TYPE_ROCE_V2   ? "RoCE v2"
	                   : d->gid_type == IBV_GID_TYPE_ROCE_V1 ? "RoCE v1"
	                                                         : "InfiniBand";

	if (gid_is_ipv4(&d->gid))
		inet_ntop(AF_INET, d->gid.raw + 12, address, sizeof(address));
	else
		inet_ntop(AF_INET6, d->gid.raw, address, sizeof(address));
	if (d->iwarp)
		snprintf(buf, GID_TEXT, "iWARP");
	else if (!d->has_gid)
		snprintf(buf, GID_TEXT, "InfiniBand LID %u", d->attr.lid);
	else
		snprintf(buf, GID_TEXT, "GID %d (%s %s)", d->gid_index, kind, address);
	return buf;
}
