/* SPDX-License-Identifier: MIT */
/*
 * One endpoint of libfabric and what belongs to it: its domain, the queue of completions, the table of addresses, and the
 * memory that peers and the device may touch.
 *
 * Memory is had in cells of one size, from regions that are registered whole: so a world has few registrations however
 * many rings it has, mostly one.
 */
#ifndef TUTTI_LIBFABRIC_ENDPOINT_H
#define TUTTI_LIBFABRIC_ENDPOINT_H

#include "choose.h"

#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <rdma/fi_tagged.h>

#define ADDRESS_MAX 256

struct region {
	struct region *next;
	uint8_t *base;
	size_t cell, ncells;
	bool *taken;
	struct fid_mr *mr; /* NULL: this provider needs none */
	void *desc;
	uint64_t key;
};

struct cell {
	struct region *region;
	uint8_t *at;
};

struct endpoint {
	const struct fabric_calls *fi;
	struct fi_info *info; /* owned */
	enum fabric_mode mode;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_av *av;
	struct fid_cq *cq;
	struct fid_ep *ep;
	int wait_fd;        /* readable when the queue has something, after fi_trywait; -1: this provider has none */
	uint64_t note_mask; /* bits that travel with a slot: of completion data, or of a tag */
	bool registers;     /* local memory must be registered to be sent from */
	size_t iov;         /* pieces of memory that one operation can gather */
	size_t links;       /* cells of the first region: both ends of a link with each peer */
	struct region *regions;
	char what[160]; /* "libfabric tcp;ofi_rxm on eth0" */
};

/** Opens what `choice` describes. spin: nobody will sleep on it. ESYSTEM names the call that failed. */
int endpoint_open(struct endpoint *e, const struct fabric_calls *fi, const struct choice *choice, int nranks,
                  bool spin);
/** Safe after a failed open, and on zeroes. Frees all memory that was had from it. */
void endpoint_close(struct endpoint *e);

/** The address that peers insert. */
int endpoint_name(const struct endpoint *e, uint8_t name[ADDRESS_MAX], uint32_t *bytes);
int endpoint_insert(struct endpoint *e, const uint8_t *name, fi_addr_t *addr);

/** Zeroed memory of `bytes`, registered for remote writes as the provider wants it; ENOMEM. */
int endpoint_cell(struct endpoint *e, size_t bytes, struct cell *cell);
void endpoint_uncell(struct cell *cell);
/** Where a peer writes to reach `p` of the cell. */
uint64_t endpoint_remote(const struct endpoint *e, const struct cell *cell, const void *p);

/** fail(ESYSTEM) with what failed and libfabric's words for the (negative) code. */
int endpoint_fail(const struct endpoint *e, const char *what, long rc);

#endif
