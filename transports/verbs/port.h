/* SPDX-License-Identifier: MIT */
/* Ports and how one is chosen: which there are, how near and how fast, and their GIDs. Private to this folder. */
#ifndef TUTTI_VERBS_PORT_H
#define TUTTI_VERBS_PORT_H

#include "device.h"

/** A port that might be used. */
struct port {
	struct ibv_device *device;
	uint8_t number;
	bool near;     /* CPUs of this rank are among those that the device is attached to, as far as that is known */
	uint32_t mbps; /* 0: not active, or can't be asked */
};

/**
 * The ports that `name` stands for ("mlx5_0:1", "mlx5_0" or NULL: all), the nearest first, of them the fastest. A device
 * that can't be opened counts as one port. Freed by the caller; NULL: out of memory.
 */
struct port *ports_find(struct device *d, struct ibv_device **list, const char *name, size_t *n);

/** Into d->gid and its relatives. wanted: an index, or -1. */
int gid_choose(struct device *d, int wanted);
bool gid_is_ipv4(const union ibv_gid *g);
bool gid_is_link_local(const union ibv_gid *g);

#endif
