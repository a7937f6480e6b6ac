/* SPDX-License-Identifier: MIT */
/*
 * Regions: anonymous memory, registered as a whole, from which rings are cut in pages, first fit. Each is at least twice
 * as long as the last, so even a device with a hundred registrations never runs out of them.
 */
#include "memory.h"
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE  4096u
#define FIRST (1u << 20)

struct extent {
	size_t at, bytes;
	bool used;
	struct extent *next;
};

struct region {
	uint8_t *base;
	size_t bytes;
	struct ibv_mr *mr;
	struct extent *extents;
	struct region *next;
};

struct lent {
	uint8_t *base;
	size_t bytes;
	struct ibv_mr *mr;
	struct lent *next;
};

static void region_free(struct device *d, struct region *r)
{
	for (struct extent *e = r->extents, *next; e; e = next) {
		next = e->next;
		free(e);
	}
	if (r->mr)
		d->lib.dereg_mr(r->mr);
	if (r->base)
		munmap(r->base, r->bytes);
	free(r);
}

static int cannot_register(const struct device *d, size_t bytes)
{
	struct rlimit limit;
	int error = errno;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    (error == ENOMEM || error == EPERM || error == EAGAIN))
		return fail(
		        TUTTI_ENOMEM,
		        "cannot register %zu KiB of memory: this process may lock %llu KiB; raise the limit (ulimit -l, or memlock in /etc/security/limits.conf)",
		        bytes >> 10, (unsigned long long)limit.rlim_cur >> 10);
	errno = error;
	return fail_errno("register %zu KiB of memory (%d regions of %d are in use)", bytes >> 10, d->nregions,
	                  d->limits.max_mr);
}

/* A forked child gets no copy: the device goes on with the parent's pages. */
static int region_make(struct device *d, size_t bytes, struct region **out)
{
	struct region *r = calloc(1, sizeof(*r));
	struct extent *e = calloc(1, sizeof(*e));
	int access = IBV_ACCESS_LOCAL_WRITE | (d->mode == VERBS_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0);
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!r || !e || base == MAP_FAILED) {
		if (base != MAP_FAILED)
			munmap(base, bytes);
		free(r);
		free(e);
		return fail(TUTTI_ENOMEM, "out of memory: %zu KiB for rings", bytes >> 10);
	}
	*e = (struct extent){.bytes = bytes};
	*r = (struct region){.base = base, .bytes = bytes, .extents = e};
	os_memory_not_forked(base, bytes);
	r->mr = d->lib.reg_mr(d->pd, base, bytes, access);
	if (!r->mr) {
		int rc = cannot_register(d, bytes);
		region_free(d, r);
		return rc;
	}
	*out = r;
	return TUTTI_OK;
}

static int grow(struct device *d, size_t bytes)
{
	struct region *r;
	size_t want = d->regions ? 2 * d->regions->bytes : FIRST;
	int rc;

	rc = region_make(d, want > bytes ? want : bytes, &r);
	if (rc != TUTTI_OK && want > bytes) /* a tight limit may still allow what is needed now */
		rc = region_make(d, bytes, &r);
	if (rc != TUTTI_OK)
		return rc;
	r->next = d->regions;
	d->regions = r;
	d->nregions++;
	return TUTTI_OK;
}

int memory_begin(struct device *d)
{
	return grow(d, FIRST); /* a limit that does not allow this much allows no rings */
}

void memory_end(struct device *d)
{
	lent_drop_all(d);
	while (d->regions) {
		struct region *r = d->regions;
		d->regions = r->next;
		region_free(d, r);
	}
	d->nregions = 0;
}

static struct extent *take(struct region *r, size_t bytes)
{
	for (struct extent *e = r->extents; e; e = e->next) {
		struct extent *rest;
		if (e->used || e->bytes < bytes)
			continue;
		rest = e->bytes > bytes ? calloc(1, sizeof(*rest)) : NULL;
		if (rest) {
			*rest = (struct extent){.at = e->at + bytes, .bytes = e->bytes - bytes, .next = e->next};
			e->bytes = bytes;
			e->next = rest;
		}
		e->used = true;
		return e;
	}
	return NULL;
}

int piece_get(struct device *d, size_t bytes, struct piece *out)
{
	size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
	struct extent *e = NULL;
	struct region *r;
	int rc;

	for (r = d->regions; r && !(e = take(r, whole)); r = r->next)
		;
	if (!e) {
		rc = grow(d, whole);
		if (rc != TUTTI_OK)
			return fail_while(rc, "%s", d->name);
		r = d->regions;
		e = take(r, whole);
	}
	*out = (struct piece){r->base + e->at, bytes, r->mr->lkey, r->mr->rkey};
	memset(out->at, 0, bytes);
	return TUTTI_OK;
}

static void merge(struct region *r)
{
	for (struct extent *e = r->extents; e && e->next;) {
		struct extent *n = e->next;
		if (e->used || n->used) {
			e = n;
			continue;
		}
		e->bytes += n->bytes;
		e->next = n->next;
		free(n);
	}
}

void piece_put(struct device *d, struct piece *p)
{
	for (struct region *r = d->regions; r && p->at; r = r->next) {
		if (p->at < r->base || p->at >= r->base + r->bytes)
			continue;
		for (struct extent *e = r->extents; e; e = e->next)
			if (r->base + e->at == p->at)
				e->used = false;
		merge(r);
	}
	p->at = NULL;
}

/* ---- memory of the caller's -------------------------------------------------------------------------------------- */

void lent_add(struct device *d, void *p, size_t bytes)
{
	struct lent *l = calloc(1, sizeof(*l));

	if (l && (l->mr = d->lib.reg_mr(d->pd, p, bytes, 0))) {
		l->base = p;
		l->bytes = bytes;
		l->next = d->lent;
		d->lent = l;
		return;
	}
	log_debug("%s can't register %zu KiB at %p: data there is copied when it is sent", d->name, bytes >> 10, p);
	free(l);
}

static struct lent **lent_at(struct device *d, const void *p, size_t bytes)
{
	struct lent **at = &d->lent;

	while (*at && ((*at)->base != p || (*at)->bytes != bytes))
		at = &(*at)->next;
	return at;
}

bool lent_has(struct device *d, const void *p, size_t bytes)
{
	return *lent_at(d, p, bytes);
}

static void drop(struct device *d, struct lent **at)
{
	struct lent *l = *at;

	*at = l->next;
	d->lib.dereg_mr(l->mr);
	free(l);
}

void lent_drop(struct device *d, const void *p, size_t bytes)
{
	struct lent **at = lent_at(d, p, bytes);

	if (*at)
		drop(d, at);
}

void lent_drop_all(struct device *d)
{
	while (d->lent)
		drop(d, &d->lent);
}

bool lent_find(const struct device *d, const void *p, size_t bytes, uint32_t *lkey)
{
	const uint8_t *at = p;

	for (const struct lent *l = d->lent; l; l = l->next)
		if (at >= l->base && (size_t)(at - l->base) < l->bytes && bytes <= l->bytes - (size_t)(at - l->base)) {
			*lkey = l->mr->lkey;
			return true;
		}
	return false;
}
