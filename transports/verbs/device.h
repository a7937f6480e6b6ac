/* SPDX-License-Identifier: MIT */
/*
 * One port of one RDMA device, opened: which one was chosen and why, its limits, its protection domain, its one completion
 * queue, and the registered memory from which rings are cut.
 */
#ifndef TUTTI_VERBS_DEVICE_H
#define TUTTI_VERBS_DEVICE_H

#include "../../src/util/param.h"
#include "lib.h"

/** How slots travel. */
enum verbs_mode {
	VERBS_WRITE,   /* RC: RDMA WRITE with immediate, straight into the peer's ring */
	VERBS_SEND,    /* RC: SEND and RECV of frames */
	VERBS_SEND_UC, /* UC: frames of one fixed size, as a device that has nothing else wants them */
};

/** Of a queue pair: TUTTI_VERBS_QP. */
struct verbs_knobs {
	int mtu;                 /* bytes; 0: the port's */
	int pkey, sl, tc;        /* index of the partition key; service level; traffic class */
	int timeout, retry, rnr; /* as in struct ibv_qp_attr */
};

struct region;
struct lent;
struct cm;

struct device {
	struct verbs_lib lib;
	struct ibv_context *context;
	struct ibv_device_attr limits;
	struct ibv_port_attr attr;
	struct verbs_knobs knobs;
	enum verbs_mode mode;
	uint8_t port;
	int gid_index;
	union ibv_gid gid;
	enum ibv_gid_type gid_type;
	bool has_gid;
	bool iwarp, by_cm; /* by_cm: connections are made by rdma_cm */
	struct cm *cm;
	char name[72]; /* "mlx5_0:1" */
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel; /* NULL: the device has none */
	struct ibv_cq *cq;
	uint32_t unacked; /* events of the completion channel */
	struct region *regions;
	struct lent *lent; /* memory of tutti_mem_alloc */
	int nregions, npairs;
	char broken[256]; /* "": it works */
};

/** A stretch of registered memory, zeroed, lines apart. */
struct piece {
	uint8_t *at;
	size_t bytes;
	uint32_t lkey, rkey;
};

/**
 * Opens the nearest and fastest port of that name ("mlx5_0:1", "mlx5_0", or NULL: of all) that can be used.
 * EUNSUPPORTED, with the reason for each port, if none can. device_close must follow in any case.
 */
int device_open(struct device *d, const struct params *p, const char *name);
/** The completion queue: for `entries` completions that nobody has polled yet. */
int device_make_queue(struct device *d, int entries);
void device_close(struct device *d);

int piece_get(struct device *d, size_t bytes, struct piece *out);
void piece_put(struct device *d, struct piece *p);

/** Registers memory of the caller's for sending, if the device takes it, until lent_drop. */
void lent_add(struct device *d, void *p, size_t bytes);
/** Is it registered, with so many bytes? */
bool lent_has(struct device *d, const void *p, size_t bytes);
/** Once, when nothing that was posted reads it. */
void lent_drop(struct device *d, const void *p, size_t bytes);
void lent_drop_all(struct device *d);
/** false: these bytes are not all in one stretch of registered memory. */
bool lent_find(const struct device *d, const void *p, size_t bytes, uint32_t *lkey);

const char *device_mode_name(const struct device *d);
/** "GID 3 (RoCE v2 10.0.0.1)" and the like. */
#define GID_TEXT 80
const char *gid_text(const struct device *d, char buf[GID_TEXT]);
/** Ranks with the same number can reach each other, as far as one port can tell. Never 0. */
uint64_t device_fabric(const struct device *d);

/** For programs that list devices: one line a port, whether it could be used, and why not. */
int devices_list(const struct params *p, void (*line)(void *ctx, const char *text), void *ctx);

#endif
