/* SPDX-License-Identifier: MIT */
/* Topology from a file; see believe.h. */
#include "believe.h"
#include "../util/error.h"
#include "../util/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS 65536

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static void read_hosts(struct believed *b, struct doc *d, const struct doc_value *hosts)
{
	b->name = calloc((size_t)b->nhosts, sizeof(*b->name));
	for (const struct doc_value *h = doc_first(hosts); b->name && h; h = doc_next(hosts, h))
		snprintf(b->name[h->place], sizeof(b->name[0]), "%s", doc_text(d, h, "name", ""));
}

static void read_ranks(struct believed *b, struct doc *d, const struct doc_value *ranks)
{
	b->host = calloc((size_t)b->nranks, sizeof(*b->host));
	for (const struct doc_value *r = doc_first(ranks); b->host && r; r = doc_next(ranks, r))
		b->host[r->place] = (int)doc_int(d, r, "host", 0, b->nhosts - 1, NULL);
}

static void read_ring(struct believed *b, struct doc *d, const struct doc_value *ring)
{
	size_t n = (size_t)b->nranks;
	const struct doc_value *order = doc_array(d, ring, "order", n, n);

	b->place = order ? malloc(n * sizeof(*b->place)) : NULL;
	for (size_t i = 0; b->place && i < n; i++)
		b->place[i] = -1;
	for (const struct doc_value *v = doc_first(order); b->place && v; v = doc_next(order, v)) {
		if (!doc_is_whole(v, 0, b->nranks - 1) || b->place[v->whole] >= 0) {
			doc_fault(d, order, NULL, "expected every rank once");
			break;
		}
		b->place[v->whole] = (int)v->place;
	}
}

int believed_read(struct believed *b, struct doc *d)
{
	const struct doc_value *hosts, *ranks, *ring = doc_member(d->root, "ring");
	int64_t format;

	*b = (struct believed){0};
	if (d->root->type != DOC_OBJECT)
		return doc_fault(d, d->root, NULL, "expected an object");
	format = doc_int(d, d->root, "format", 1, 1, NULL);
	b->nranks = (int)doc_int(d, d->root, "size", 1, MOST_RANKS, NULL);
	hosts = doc_array(d, d->root, "hosts", 1, (size_t)b->nranks);
	ranks = doc_array(d, d->root, "ranks", (size_t)b->nranks, (size_t)b->nranks);
	if (d->rc || format != 1)
		return d->rc;
	b->nhosts = (int)hosts->count;
	read_hosts(b, d, hosts);
	read_ranks(b, d, ranks);
	if (ring)
		read_ring(b, d, ring);
	if (!d->rc && (!b->name || !b->host || (ring && !b->place)))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	return d->rc;
}

void believed_free(struct believed *b)
{
	free(b->name);
	free(b->host);
	free(b->place);
	*b = (struct believed){0};
}

/* ---- the job ----------------------------------------------------------------------------------------------------- */

/* The k-th host (from 0) of a name; -1: none. */
static int find_host(const struct believed *b, const char *name, int k)
{
	for (int h = 0; h < b->nhosts; h++)
		if (strcmp(b->name[h], name) == 0 && k-- == 0)
			return h;
	return -1;
}

/* Before rank r, how many hosts of its name were met, and how many ranks of its own host? */
static void count_before(int r, const char *const *name, const int *near, int *hosts, int *ranks)
{
	*hosts = *ranks = 0;
	for (int q = 0, met = 0; q < r; q++) {
		bool lowest = near[q] == met;
		met += lowest;
		*ranks += near[q] == near[r];
		*hosts += lowest && near[q] < near[r] && strcmp(name[q], name[r]) == 0;
	}
}

/* Place of the k-th rank of a host, or of its last one. */
static int place_on(const struct believed *b, int host, int k)
{
	int place = -1;
	for (int r = 0; r < b->nranks && k >= 0; r++)
		if (b->host[r] == host) {
			place = b->place[r];
			k--;
		}
	return place;
}

static int place_ranks(const struct believed *b, const char *path, int n, const char *const *name, const int *near,
                       int *place)
{
	for (int r = 0; r < n; r++) {
		int hosts, ranks;
		count_before(r, name, near, &hosts, &ranks);
		int host = find_host(b, name[r], hosts);
		place[r] = host < 0 ? -1 : place_on(b, host, ranks);
		if (place[r] < 0)
			return fail(
			        TUTTI_EINVAL,
			        "TUTTI_TOPO_FILE=%s: rank %d is on host \"%s\", which the file does not have; measure these hosts with tutti-topo --json",
			        path, r, name[r]);
	}
	return TUTTI_OK;
}

int believe(const char *path, int n, const char *const *name, const int *near, int *place)
{
	struct doc d = {.name = path};
	struct believed b = {0};
	FILE *f = file_open(path, "r");
	int rc = f ? doc_read(&d, path, f) : TUTTI_ESYSTEM;
	if (f)
		fclose(f);
	rc = rc ? rc : believed_read(&b, &d);
	if (rc)
		rc = fail_while(rc, "TUTTI_TOPO_FILE");
	else if (!b.place)
		rc = fail(
		        TUTTI_EINVAL,
		        "TUTTI_TOPO_FILE=%s: there is no \"ring\" in it: tutti-topo --json writes one unless --no-measure is given",
		        path);
	else
		rc = place_ranks(&b, path, n, name, near, place);
	believed_free(&b);
	doc_close(&d);
	return rc;
}
