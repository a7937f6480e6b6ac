/* SPDX-License-Identifier: MIT */
/* The port of the imaginary device: its state, and its table of GIDs. */
#include "card.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define TABLE  1024 /* entries, as the port says; what is in it stands at the beginning */

#undef ibv_query_port
EXPORT int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *out)
{
	struct card *c = card_of(ctx);
	struct ibv_port_attr *a = (struct ibv_port_attr *)(void *)out;
	if (port != 1)
		return EINVAL;
	memset(a, 0, offsetof(struct ibv_port_attr, flags));
	a->state = card_is_down(c) ? IBV_PORT_DOWN : IBV_PORT_ACTIVE;
	a->active_width = 2; /* four lanes */
	a->active_speed = (uint8_t)or_plenty(c->sea->knobs.speed[c->device], 32);
	a->max_mtu = a->active_mtu = IBV_MTU_4096;
	a->gid_tbl_len = TABLE;
	a->pkey_tbl_len = 1;
	a->max_msg_sz = 16773120;
	a->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

/* 0 nothing; 1 v1 link-local; 2 v2 link-local; 3 v1 IPv4; 4 v2 IPv4: a fixed index finds the wrong one. */
static void gid_of(const struct card *c, int index, union ibv_gid *g)
{
	memset(g, 0, sizeof(*g));
	if (index == 0 || index >= IMAGINARY_GIDS || c->sea->knobs.no_gid)
		return;
	g->raw[15] = (uint8_t)(c->number + 1);
	if (index <= 2) {
		g->raw[0] = 0xfe;
		g->raw[1] = 0x80;
	} else {
		g->raw[10] = g->raw[11] = 0xff;
		g->raw[12] = 10;
		g->raw[13] = 77;
		g->raw[14] = (uint8_t)c->device;
	}
}

EXPORT int ibv_query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *g)
{
	atomic_fetch_add(&card_of(ctx)->sea->counts.asked, 1);
	if (port != 1 || index < 0 || index >= TABLE)
		return -1;
	gid_of(card_of(ctx), index, g);
	return 0;
}

EXPORT int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t index, struct ibv_gid_entry *e,
                             uint32_t flags, size_t bytes);
EXPORT int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t index, struct ibv_gid_entry *e,
                             uint32_t flags, size_t bytes)
{
	(void)flags;
	atomic_fetch_add(&card_of(ctx)->sea->counts.asked, 1);
	if (port != 1 || index >= TABLE || bytes < sizeof(*e))
		return EINVAL;
	if (index == 0 || index >= IMAGINARY_GIDS || card_of(ctx)->sea->knobs.no_gid)
		return ENODATA;
	gid_of(card_of(ctx), (int)index, &e->gid);
	e->gid_index = index;
	e->port_num = port;
	e->gid_type = index % 2 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2;
	return 0;
}

EXPORT ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *e, size_t max, uint32_t flags,
                                    size_t bytes);
EXPORT ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *e, size_t max, uint32_t flags,
                                    size_t bytes)
{
	ssize_t n = 0;
	if (card_of(ctx)->sea->knobs.no_gid_table)
		return -EOPNOTSUPP;
	for (uint32_t i = 0; i < IMAGINARY_GIDS && (size_t)n < max; i++)
		n += _ibv_query_gid_ex(ctx, 1, i, &e[n], flags, bytes) == 0;
	atomic_fetch_sub(&card_of(ctx)->sea->counts.asked, IMAGINARY_GIDS - 1); /* it was one question */
	return n;
}

EXPORT int ibv_query_pkey(struct ibv_context *ctx, uint8_t port, int index, __be16 *pkey)
{
	(void)ctx;
	*pkey = htons(0xffff);
	return port == 1 && index == 0 ? 0 : -1;
}
