/* SPDX-License-Identifier: MIT */
/* Reads the description of a cluster: see cluster_file.h. Every complaint names the line and the field. */
#include "cluster_file.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/doc.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"

#define LEAST_NS 1e-6
#define MOST_NS  1e9

struct reader {
	struct doc doc;
	struct cluster_file *f;
	const struct doc_value *switches;
};

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Stays as it is where the object has none. */
static int number(struct reader *r, const struct doc_value *o, const char *field, double least, double most,
                  double *value)
{
	const struct doc_value *v = doc_member(o, field);
	double x = doc_real(v);
	if (!v)
		return TUTTI_OK;
	if (!(x >= least && x <= most))
		return doc_fault(&r->doc, o, field, "a number from %.9g to %.9g is expected", least, most);
	*value = x;
	return TUTTI_OK;
}

static int whole(struct reader *r, const struct doc_value *o, const char *field, int most, int *value)
{
	double x = *value;
	int rc = number(r, o, field, 1, most, &x);
	if (!rc && x != floor(x))
		return doc_fault(&r->doc, o, field, "a whole number is expected");
	*value = (int)x;
	return rc;
}

/* One of an array of [bytes, nanoseconds]. */
static int read_point(struct reader *r, const struct doc_value *v, struct price_point *p)
{
	*p = (struct price_point){doc_real(doc_element(v, 0)), doc_real(doc_element(v, 1))};
	bool right = doc_count(v) == 2 && p->bytes >= 1 && p->bytes <= 1e15 && p->ns >= LEAST_NS && p->ns <= MOST_NS;
	return right ? TUTTI_OK
	             : doc_fault(&r->doc, v, NULL,
	                         "pairs of bytes and nanoseconds are expected, as [[65536, 0.2], [1048576, 0.4]]");
}

/* A number for all calls, or points. */
static int read_copy(struct reader *r, const struct doc_value *root)
{
	struct cluster_file *f = r->f;
	const struct doc_value *v = doc_member(root, "copy_ns");
	if (!v)
		return TUTTI_OK;
	f->ncopy = 1;
	if (v->type != DOC_ARRAY)
		return number(r, root, "copy_ns", LEAST_NS, MOST_NS, &f->copy[0].ns);
	if (v->count < 1 || v->count > CLUSTER_POINTS)
		return doc_fault(&r->doc, v, NULL, "1 to %d pairs are expected", CLUSTER_POINTS);
	f->ncopy = (int)v->count;
	for (const struct doc_value *c = doc_first(v); c; c = doc_next(v, c)) {
		struct price_point *p = &f->copy[c->place];
		int rc = read_point(r, c, p);
		if (rc)
			return rc;
		if (c->place && p->bytes <= p[-1].bytes)
			return doc_fault(&r->doc, c, NULL, "more and more bytes are expected, not %.15g after %.15g",
			                 p->bytes, p[-1].bytes);
	}
	return TUTTI_OK;
}

static int known_fields(struct reader *r, const struct doc_value *o, const char *fields)
{
	for (const struct doc_value *v = doc_first(o); v; v = doc_next(o, v)) {
		const char *at = strstr(fields, v->key);
		size_t len = strlen(v->key);
		while (at && len && !((at == fields || at[-1] == ' ') && (at[len] == ' ' || !at[len])))
			at = strstr(at + 1, v->key);
		if (!at || !len)
			return doc_fault(&r->doc, v, NULL, "no such field; there are: %s", fields);
	}
	return TUTTI_OK;
}

static int switch_named(struct reader *r, const struct doc_value *o, int *out)
{
	const struct doc_value *v = doc_member(o, "switch"), *named;
	if (!v)
		return TUTTI_OK;
	if (v->type != DOC_TEXT)
		return doc_fault(&r->doc, v, NULL, "the name of a switch is expected");
	if (!(named = doc_member(r->switches, v->text)))
		return doc_fault(&r->doc, v, NULL, "\"switches\" has none of the name \"%.32s\"", v->text);
	*out = (int)named->place;
	return TUTTI_OK;
}

/* ---- groups and switches ----------------------------------------------------------------------------------------- */

static int read_group(struct reader *r, const struct doc_value *o, struct host_group *g)
{
	*g = (struct host_group){.count = 1, .ranks = 1, .at = -1, .out = 1};
	if (o->type != DOC_OBJECT)
		return doc_fault(&r->doc, o, NULL, "an object is expected");
	int rc = known_fields(r, o, "count ranks cores gbit gbit_in switch skew_us");
	rc = rc ? rc : whole(r, o, "count", CLUSTER_RANKS, &g->count);
	rc = rc ? rc : whole(r, o, "ranks", CLUSTER_RANKS, &g->ranks);
	rc = rc ? rc : whole(r, o, "cores", CLUSTER_RANKS, &g->cores);
	rc = rc ? rc : number(r, o, "gbit", 1e-6, 1e6, &g->out);
	g->in = g->out;
	rc = rc ? rc : number(r, o, "gbit_in", 1e-6, 1e6, &g->in);
	rc = rc ? rc : number(r, o, "skew_us", 0, 1e9, &g->skew);
	return rc ? rc : switch_named(r, o, &g->at);
}

static int read_hosts(struct reader *r, const struct doc_value *root)
{
	struct cluster_file *f = r->f;
	const struct doc_value *hosts = doc_member(root, "hosts");
	if (!hosts || hosts->type != DOC_ARRAY || !hosts->count)
		return doc_fault(&r->doc, root, "hosts", "an array of at least one host is expected");
	if (!(f->groups = calloc(hosts->count, sizeof(*f->groups))))
		return fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *h = doc_first(hosts); h; h = doc_next(hosts, h)) {
		struct host_group *g = &f->groups[f->ngroups++];
		int rc = read_group(r, h, g);
		if (rc)
			return rc;
		if ((double)f->nranks + (double)g->count * g->ranks > CLUSTER_RANKS)
			return doc_fault(&r->doc, h, NULL, "more than %d ranks", CLUSTER_RANKS);
		f->nhosts += g->count;
		f->nranks += g->count * g->ranks;
	}
	return TUTTI_OK;
}

static int read_switch(struct reader *r, const struct doc_value *o, struct switch_group *s)
{
	*s = (struct switch_group){.above = -1};
	if (!doc_member(o, "uplink_gbit"))
		return doc_fault(&r->doc, o, NULL, "an object with uplink_gbit is expected");
	int rc = known_fields(r, o, "uplink_gbit switch");
	rc = rc ? rc : number(r, o, "uplink_gbit", 1e-6, 1e6, &s->gbit);
	return rc ? rc : switch_named(r, o, &s->above);
}

/* This also catches a switch above itself: it has too many levels above it. */
static int check_levels(struct reader *r, const struct doc_value *of)
{
	int levels = 0;
	for (int i = (int)of->place; i >= 0; i = r->f->switches[i].above)
		if (++levels > CLUSTER_LEVELS)
			return doc_fault(&r->doc, of, "switch", "a cycle, or more than %d switches above each other",
			                 CLUSTER_LEVELS);
	return TUTTI_OK;
}

static int read_switches(struct reader *r, const struct doc_value *root)
{
	const struct doc_value *all = r->switches = doc_member(root, "switches");
	struct cluster_file *f = r->f;
	int rc = TUTTI_OK;
	if (!all)
		return TUTTI_OK;
	if (all->type != DOC_OBJECT)
		return doc_fault(&r->doc, all, NULL, "an object is expected: switches by name");
	if (all->count > CLUSTER_RANKS)
		return doc_fault(&r->doc, all, NULL, "more than %d switches", CLUSTER_RANKS);
	if (!(f->switches = calloc((size_t)all->count + 1, sizeof(*f->switches))))
		return fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *v = doc_first(all); v && !rc; v = doc_next(all, v))
		rc = read_switch(r, v, &f->switches[v->place]);
	f->nswitches = (int)all->count;
	for (const struct doc_value *v = doc_first(all); v && !rc; v = doc_next(all, v))
		rc = check_levels(r, v);
	return rc;
}

static int read_all(struct reader *r)
{
	struct cluster_file *f = r->f;
	const struct doc_value *root = r->doc.root;
	if (root->type != DOC_OBJECT)
		return doc_fault(&r->doc, root, NULL, "an object with an array \"hosts\" is expected");
	int rc = known_fields(r, root,
	                      "hosts switches cores latency_us message_us frames_us copy_ns reduce_ns burst_kb");
	rc = rc ? rc : whole(r, root, "cores", CLUSTER_RANKS, &f->cores);
	rc = rc ? rc : number(r, root, "latency_us", 1e-3, 1e9, &f->latency_us);
	rc = rc ? rc : number(r, root, "message_us", 1e-3, 1e9, &f->message_us);
	rc = rc ? rc : number(r, root, "frames_us", 0, 1e9, &f->frames_us);
	rc = rc ? rc : read_copy(r, root);
	rc = rc ? rc : number(r, root, "reduce_ns", LEAST_NS, MOST_NS, &f->reduce_ns);
	rc = rc ? rc : number(r, root, "burst_kb", 0, 1e9, &f->burst_kb);
	rc = rc ? rc : read_switches(r, root);
	return rc ? rc : read_hosts(r, root);
}

/* Of a document that was read, or could not be. */
static int understand(struct reader *r)
{
	int rc = r->doc.rc ? r->doc.rc : read_all(r);
	doc_close(&r->doc);
	if (rc)
		cluster_file_free(r->f);
	return rc;
}

int cluster_file_parse(struct cluster_file *f, const char *text, size_t len, const char *name)
{
	struct reader r = {.f = f};
	*f = (struct cluster_file){0};
	doc_parse(&r.doc, name, text, len);
	return understand(&r);
}

int cluster_file_read(struct cluster_file *f, const char *path)
{
	FILE *file = file_open(path, "r");
	struct reader r = {.f = f};
	*f = (struct cluster_file){0};
	if (!file)
		return TUTTI_ESYSTEM;
	doc_read(&r.doc, path, file);
	fclose(file);
	return understand(&r);
}

int cluster_file_cut(struct cluster_file *f, int ranks)
{
	struct host_group *g = realloc(f->groups, ((size_t)f->ngroups + 1) * sizeof(*g));
	int left = ranks, i = 0;
	if (!g)
		return fail(TUTTI_ENOMEM, "out of memory");
	f->groups = g;
	f->nhosts = 0;
	while (left) {
		struct host_group part = g[i];
		int full = left / part.ranks < part.count ? left / part.ranks : part.count;
		f->nhosts += full;
		left -= full * part.ranks;
		g[i].count = full;
		i += full > 0;
		if (left && full < part.count) { /* one that is not full */
			part.count = 1;
			part.ranks = left;
			g[i++] = part;
			f->nhosts++;
			left = 0;
		}
	}
	f->ngroups = i;
	f->nranks = ranks;
	return TUTTI_OK;
}

void cluster_file_free(struct cluster_file *f)
{
	free(f->groups);
	free(f->switches);
	*f = (struct cluster_file){0};
}
