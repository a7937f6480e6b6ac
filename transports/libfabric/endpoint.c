/* SPDX-License-Identifier: MIT */
/* See endpoint.h. */
#include "endpoint.h"
#include "../../src/engine/link.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define QUEUE        4096
#define REGION_BYTES ((size_t)64 << 20)
#define KEY_TRIES    8

int endpoint_fail(const struct endpoint *e, const char *what, long rc)
{
	return fail(TUTTI_ESYSTEM, "%s: %s: %s", e->what, what, e->fi->strerror((int)-rc));
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* Of a tag, the bits that the provider carries; of completion data, the bytes that it says. */
static uint64_t note_bits(const struct endpoint *e)
{
	uint64_t tag = e->info->ep_attr->mem_tag_format;
	size_t bytes = e->info->domain_attr->cq_data_size;

	if (e->mode == FABRIC_WRITE)
		return bytes >= sizeof(uint64_t) ? UINT64_MAX : (UINT64_C(1) << (8 * bytes)) - 1;
	for (int shift = 1; shift < 64; shift *= 2)
		tag |= tag >> shift; /* the highest bit that is set, and all below */
	return tag ? tag : UINT64_MAX;
}

static int open_queue(struct endpoint *e, bool spin)
{
	struct fi_cq_attr attr = {.size = QUEUE, .format = FI_CQ_FORMAT_TAGGED};
	int rc = -FI_ENOSYS;

	e->wait_fd = -1;
	if (!spin) {
		attr.wait_obj = FI_WAIT_FD;
		rc = fi_cq_open(e->domain, &attr, &e->cq, NULL);
		if (rc == 0)
			return fi_control(&e->cq->fid, FI_GETWAIT, &e->wait_fd) == 0 ? 0 : (e->wait_fd = -1, 0);
	}
	attr.wait_obj = FI_WAIT_NONE;
	return fi_cq_open(e->domain, &attr, &e->cq, NULL);
}

static int open_endpoint(struct endpoint *e)
{
	int rc = fi_endpoint(e->domain, e->info, &e->ep, NULL);

	if (rc == 0)
		rc = fi_ep_bind(e->ep, &e->av->fid, 0);
	if (rc == 0)
		rc = fi_ep_bind(e->ep, &e->cq->fid, FI_TRANSMIT | FI_RECV);
	return rc ? rc : fi_enable(e->ep);
}

int endpoint_open(struct endpoint *e, const struct fabric_calls *fi, const struct choice *choice, int nranks, bool spin)
{
	struct fi_av_attr av = {.type = FI_AV_TABLE, .count = (size_t)nranks};
	int rc;

	*e = (struct endpoint){.fi = fi, .mode = choice->mode, .wait_fd = -1, .links = 2 * (size_t)nranks};
	if (!(e->info = fi->dupinfo(choice->info)))
		return fail(TUTTI_ENOMEM, "out of memory");
	snprintf(e->what, sizeof(e->what), "libfabric %s on %s", e->info->fabric_attr->prov_name,
	         e->info->domain_attr->name);
	e->registers = e->info->domain_attr->mr_mode & FI_MR_LOCAL;
	e->iov = e->info->tx_attr->iov_limit;
	e->note_mask = note_bits(e);
	if ((e->note_mask & UINT32_MAX) != UINT32_MAX)
		return fail(TUTTI_EUNSUPPORTED, "%s: its tags are too short", e->what);
	if ((rc = fi->fabric(e->info->fabric_attr, &e->fabric, NULL)) != 0)
		return endpoint_fail(e, "open the fabric", rc);
	if ((rc = fi_domain(e->fabric, e->info, &e->domain, NULL)) != 0)
		return endpoint_fail(e, "open the domain", rc);
	if ((rc = fi_av_open(e->domain, &av, &e->av, NULL)) != 0)
		return endpoint_fail(e, "make a table of addresses", rc);
	if ((rc = open_queue(e, spin)) != 0)
		return endpoint_fail(e, "make a queue of completions", rc);
	if ((rc = open_endpoint(e)) != 0)
		return endpoint_fail(e, "open the endpoint", rc);
	return TUTTI_OK;
}

static void close_fid(struct fid *fid)
{
	if (fid)
		(void)fi_close(fid);
}

static void free_region(struct region *r)
{
	if (r->mr)
		(void)fi_close(&r->mr->fid);
	if (r->base)
		munmap(r->base, r->cell * r->ncells);
	free(r->taken);
	free(r);
}

/* The endpoint first: nothing moves any more when its memory goes. */
void endpoint_close(struct endpoint *e)
{
	close_fid(e->ep ? &e->ep->fid : NULL);
	for (struct region *r = e->regions, *next; r; r = next) {
		next = r->next;
		free_region(r);
	}
	close_fid(e->cq ? &e->cq->fid : NULL);
	close_fid(e->av ? &e->av->fid : NULL);
	close_fid(e->domain ? &e->domain->fid : NULL);
	close_fid(e->fabric ? &e->fabric->fid : NULL);
	if (e->info)
		e->fi->freeinfo(e->info);
	*e = (struct endpoint){.wait_fd = -1};
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

int endpoint_name(const struct endpoint *e, uint8_t name[ADDRESS_MAX], uint32_t *bytes)
{
	size_t n = ADDRESS_MAX;
	int rc = fi_getname(&e->ep->fid, name, &n);

	if (rc != 0)
		return endpoint_fail(e, "ask for the endpoint's address", rc);
	*bytes = (uint32_t)n;
	return TUTTI_OK;
}

int endpoint_insert(struct endpoint *e, const uint8_t *name, fi_addr_t *addr)
{
	int n = fi_av_insert(e->av, name, 1, addr, 0, NULL);

	return n == 1 ? TUTTI_OK : endpoint_fail(e, "insert a peer's address", n < 0 ? n : -FI_EINVAL);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Without keys of its own the provider takes ours: random, so that no stranger knows it. */
static int register_region(struct endpoint *e, struct region *r)
{
	const struct fi_domain_attr *d = e->info->domain_attr;
	uint64_t access = (e->mode == FABRIC_WRITE ? FI_WRITE | FI_REMOTE_WRITE : FI_SEND | FI_RECV), key = 0;
	int rc = -FI_ENOKEY;

	if (e->mode != FABRIC_WRITE && !e->registers)
		return 0;
	for (int i = 0; i < KEY_TRIES && rc == -FI_ENOKEY; i++) {
		if (!(d->mr_mode & FI_MR_PROV_KEY))
			auth_random(&key, d->mr_key_size < sizeof(key) ? d->mr_key_size : sizeof(key));
		rc = fi_mr_reg(e->domain, r->base, r->cell * r->ncells, access, 0, key, 0, &r->mr, NULL);
	}
	if (rc == 0 && d->mr_mode & FI_MR_ENDPOINT) {
		rc = fi_mr_bind(r->mr, &e->ep->fid, 0);
		rc = rc ? rc : fi_mr_enable(r->mr);
	}
	if (rc == 0) {
		r->desc = fi_mr_desc(r->mr);
		r->key = fi_mr_key(r->mr);
	}
	return rc;
}

static int make_region(struct endpoint *e, size_t cell, size_t ncells, struct region **out)
{
	struct region *r = calloc(1, sizeof(*r));
	int rc = -FI_ENOMEM;
	void *p;

	if (!r)
		return rc;
	r->cell = cell;
	r->ncells = ncells;
	r->taken = calloc(ncells, sizeof(bool));
	p = mmap(NULL, cell * ncells, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r->base = p == MAP_FAILED ? NULL : p;
	if (r->base && e->info->domain_attr->mr_mode & FI_MR_ALLOCATED)
		memset(p, 0, cell * ncells);
	if (r->taken && r->base)
		rc = register_region(e, r);
	if (rc != 0) {
		free_region(r);
		return rc;
	}
	*out = r;
	return 0;
}

/* As large as may be needed; smaller where the system allows less to be pinned. */
static int add_region(struct endpoint *e, size_t cell)
{
	size_t n = e->links * cell > REGION_BYTES ? REGION_BYTES / cell : e->links;
	struct region *r = NULL;
	int rc;

	n = n ? n : 1;
	do
		rc = make_region(e, cell, n, &r);
	while (rc != 0 && (n /= 2) > 0);
	if (rc != 0)
		return fail(TUTTI_ENOMEM, "%s: register %zu bytes: %s (raise the limit of locked memory: ulimit -l)",
		            e->what, cell, e->fi->strerror(-rc));
	r->next = e->regions;
	e->regions = r;
	return TUTTI_OK;
}

static bool take_cell(struct endpoint *e, size_t bytes, struct cell *cell)
{
	for (struct region *r = e->regions; r; r = r->next)
		for (size_t i = 0; i < r->ncells && r->cell == bytes; i++)
			if (!r->taken[i]) {
				r->taken[i] = true;
				*cell = (struct cell){r, r->base + i * r->cell};
				memset(cell->at, 0, bytes);
				return true;
			}
	return false;
}

int endpoint_cell(struct endpoint *e, size_t bytes, struct cell *cell)
{
	int rc;

	bytes = (bytes + 4095) & ~(size_t)4095;
	if (take_cell(e, bytes, cell))
		return TUTTI_OK;
	rc = add_region(e, bytes);
	if (rc == TUTTI_OK)
		(void)take_cell(e, bytes, cell);
	return rc;
}

void endpoint_uncell(struct cell *cell)
{
	if (cell->region)
		cell->region->taken[(size_t)(cell->at - cell->region->base) / cell->region->cell] = false;
	*cell = (struct cell){0};
}

uint64_t endpoint_remote(const struct endpoint *e, const struct cell *cell, const void *p)
{
	const uint8_t *at = p;

	return e->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)at
	                                                       : (uint64_t)(at - cell->region->base);
}
