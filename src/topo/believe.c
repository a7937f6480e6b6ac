/* A file instead of a look; see believe.h. */
#include "believe.h"
#include "../util/error.h"
#include "../util/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS 65536

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static void read_hosts(struct believed *b, struct doc *d, const json_t *hosts)
{
	b->name = calloc((size_t)b->nhosts, sizeof(*b->name));
	for (int h = 0; b->name && h < b->nhosts; h++) {
		size_t mark = doc_enter(d, "hosts", h);
		const char *name = doc_text(d, json_array_get(hosts, (size_t)h), "name", "");
		snprintf(b->name[h], sizeof(b->name[h]), "%s", name);
		doc_leave(d, mark);
	}
}

static void read_ranks(struct believed *b, struct doc *d, const json_t *ranks)
{
	b->host = calloc((size_t)b->nranks, sizeof(*b->host));
	for (int r = 0; b->host && r < b->nranks; r++) {
		size_t mark = doc_enter(d, "ranks", r);
		b->host[r] = (int)doc_int(d, json_array_get(ranks, (size_t)r), "host", 0, b->nhosts - 1, NULL);
		doc_leave(d, mark);
	}
}

static void read_ring(struct believed *b, struct doc *d)
{
	size_t n = (size_t)b->nranks, mark;
	const json_t *order;
	if (!json_object_get(d->root, "ring"))
		return;
	mark = doc_enter(d, "ring", -1);
	order = doc_array(d, json_object_get(d->root, "ring"), "order", n, n);
	b->place = order ? malloc(n * sizeof(*b->place)) : NULL;
	for (size_t i = 0; b->place && i < n; i++)
		b->place[i] = -1;
	for (int i = 0; b->place && i < b->nranks; i++) {
		const json_t *v = json_array_get(order, (size_t)i);
		json_int_t rank = json_is_integer(v) ? json_integer_value(v) : -1;
		if (rank < 0 || rank >= b->nranks || b->place[rank] >= 0) {
			doc_fault(d, "order", "every rank once");
			break;
		}
		b->place[rank] = i;
	}
	doc_leave(d, mark);
}

int believed_read(struct believed *b, struct doc *d)
{
	*b = (struct believed){0};
	int64_t format = doc_int(d, d->root, "format", 1, 1, NULL);
	b->nranks = (int)doc_int(d, d->root, "size", 1, MOST_RANKS, NULL);
	const json_t *hosts = doc_array(d, d->root, "hosts", 1, (size_t)b->nranks);
	const json_t *ranks = doc_array(d, d->root, "ranks", (size_t)b->nranks, (size_t)b->nranks);
	if (d->rc || format != 1)
		return d->rc;
	b->nhosts = (int)json_array_size(hosts);
	read_hosts(b, d, hosts);
	read_ranks(b, d, ranks);
	read_ring(b, d);
	if (!d->rc && (!b->name || !b->host || (json_object_get(d->root, "ring") && !b->place)))
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
			        "TUTTI_TOPO_FILE=%s: rank %d is on a host \"%s\" that the file has no rank on; measure "
			        "these hosts with tutti-topo --json",
			        path, r, name[r]);
	}
	return TUTTI_OK;
}

int believe(const char *path, int n, const char *const *name, const int *near, int *place)
{
	struct doc d;
	struct believed b = {0};
	FILE *f = file_open(path, "r");
	int rc = f ? doc_read(&d, path, f) : TUTTI_ESYSTEM;
	if (f)
		fclose(f);
	else
		d = (struct doc){0};
	rc = rc ? rc : believed_read(&b, &d);
	if (rc)
		rc = fail_while(rc, "TUTTI_TOPO_FILE");
	else if (!b.place)
		rc = fail(TUTTI_EINVAL,
		          "TUTTI_TOPO_FILE=%s: it has no \"ring\": tutti-topo writes one with --json when it measures",
		          path);
	else
		rc = place_ranks(&b, path, n, name, near, place);
	believed_free(&b);
	doc_close(&d);
	return rc;
}
