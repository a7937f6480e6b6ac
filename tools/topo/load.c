/* SPDX-License-Identifier: MIT */
/* Files back into surveys; see load.h. What json.c writes is what this reads. */
#include "load.h"
#include "../../src/topo/believe.h"
#include "../../src/transport.h"
#include "../../src/util/error.h"
#include "odd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NODES ((size_t)1 << 20)
#define MOST_DEPTH 64
#define MOST_BYTES (INT64_C(1) << 60)

static const int64_t zero = 0, none = -1;

struct text {
	char *data; /* with a NUL at data[len] */
	size_t len;
};

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

static void copy_text(struct doc *d, const struct doc_value *o, const char *key, char *to, size_t cap)
{
	const char *text = doc_text(d, o, key, "");
	size_t n = strnlen(text, cap - 1);
	while (n && ((unsigned char)text[n] & 0xc0) == 0x80) /* no half of a letter */
		n--;
	memcpy(to, text, n);
	to[n] = '\0';
}

static size_t count_nodes(const struct doc_value *node, int depth)
{
	const struct doc_value *children = doc_member(node, "children");
	size_t n = 1;
	for (const struct doc_value *c = doc_first(children); c && depth < MOST_DEPTH && n < MOST_NODES;
	     c = doc_next(children, c))
		n += count_nodes(c, depth + 1);
	return n;
}

static unsigned level_of(struct doc *d, const struct doc_value *node)
{
	const char *type = doc_text(d, node, "type", NULL);
	for (unsigned i = 0; i < MACHINE_LEVELS; i++)
		if (strcmp(type, machine_level_name(i)) == 0)
			return i;
	doc_fault(d, node, "type", "expected host, package, group, memory, cache, core or thread");
	return MACHINE_HOST;
}

static void count(struct machine *m, const struct machine_node *node)
{
	m->packages += node->level == MACHINE_PACKAGE;
	m->cores += node->level == MACHINE_CORE;
	m->threads += node->level == MACHINE_THREAD;
	if (node->kind >= m->kinds)
		m->kinds = node->kind + 1u;
}

static void read_node(struct doc *d, const struct doc_value *o, struct machine *m, int depth)
{
	struct machine_node *node = &m->node[m->nnodes++];
	const struct doc_value *children = doc_member(o, "children");
	node->level = (uint8_t)level_of(d, o);
	node->os = (int32_t)doc_int(d, o, "os", 0, INT32_MAX, &none);
	node->depth = (uint8_t)doc_int(d, o, "level", 0, 9, &zero);
	node->kind = (uint16_t)doc_int(d, o, "kind", 0, 99, &zero);
	node->bytes = (uint64_t)doc_int(d, o, "bytes", 0, MOST_BYTES, &zero);
	count(m, node);
	if ((node->level == MACHINE_HOST) != (depth == 0))
		doc_fault(d, o, "type", "expected a host at the root, and nowhere else");
	if (children && (depth + 1 >= MOST_DEPTH || node->level == MACHINE_THREAD || node->level == MACHINE_MEMORY))
		doc_fault(d, o, "children", "expected none so deep, nor below a thread or a memory");
	if (children)
		doc_array(d, o, "children", 1, MOST_NODES);
	for (const struct doc_value *c = doc_first(children); c && !d->rc; c = doc_next(children, c))
		read_node(d, c, m, depth + 1);
	node->end = m->nnodes;
}

/* The node of that type and place among them, or of that number; the host where there is none, or where it has no number. */
static uint32_t node_of(struct doc *d, const struct doc_value *near, const struct machine *m)
{
	unsigned level = level_of(d, near);
	int64_t os = doc_int(d, near, "os", -1, INT32_MAX, &none),
	        index = doc_int(d, near, "index", 0, INT32_MAX, &none);
	for (uint32_t i = 0; i < m->nnodes; i++)
		if (m->node[i].level == level && (index >= 0 ? index-- == 0 : os >= 0 && m->node[i].os == os))
			return i;
	return 0;
}

static unsigned word_of(struct doc *d, const struct doc_value *o, const char *key, const char *const *words,
                        const char *what)
{
	const char *text = doc_text(d, o, key, NULL);
	for (unsigned i = 0; words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	doc_fault(d, o, key, "expected %s", what);
	return 0;
}

static void read_device(struct doc *d, const struct doc_value *o, struct machine *m)
{
	static const char *const kinds[] = {"network", "rdma", NULL}, *const states[] = {"unknown", "down", "up", NULL};
	struct machine_device *v = &m->device[m->ndevices++];
	copy_text(d, o, "name", v->name, sizeof(v->name));
	copy_text(d, o, "address", v->address, sizeof(v->address));
	copy_text(d, o, "ip", v->ip, sizeof(v->ip));
	copy_text(d, o, "pci", v->bus, sizeof(v->bus));
	copy_text(d, o, "layer", v->layer, sizeof(v->layer));
	v->kind = (uint8_t)word_of(d, o, "kind", kinds, "network or rdma");
	v->state = (uint8_t)word_of(d, o, "state", states, "up, down or unknown");
	v->mbps = (uint64_t)doc_int(d, o, "mbps", 0, MOST_BYTES, &zero);
	v->mtu = (uint32_t)doc_int(d, o, "mtu", 0, INT32_MAX, &zero);
	v->port = (uint16_t)doc_int(d, o, "port", 0, UINT16_MAX, &zero);
	if (doc_member(o, "near"))
		v->near = node_of(d, doc_member(o, "near"), m);
}

static void read_devices(struct doc *d, const struct doc_value *o, struct machine *m)
{
	const struct doc_value *devices = doc_array(d, o, "devices", 0, MACHINE_DEVICES);
	for (const struct doc_value *v = doc_first(devices); v && !d->rc; v = doc_next(devices, v))
		read_device(d, v, m);
}

static void read_use(struct doc *d, const struct doc_value *o, struct machine *m)
{
	const struct doc_value *use = doc_object(d, o, "may_use"), *unknown = doc_array(d, o, "unknown", 0, 16);
	if (!cpus_parse(&m->may, doc_text(d, use, "list", NULL)))
		doc_fault(d, use, "list", "expected numbers of threads such as \"0-3,8\"");
	m->quota = doc_number(d, use, "quota", 0);
	for (const struct doc_value *v = doc_first(unknown); v; v = doc_next(unknown, v))
		for (unsigned i = 0; machine_unknown_name(i); i++)
			if (v->type == DOC_TEXT && strcmp(v->text, machine_unknown_name(i)) == 0)
				m->unknown |= 1u << i;
}

static struct machine *read_machine(struct doc *d, const struct doc_value *o)
{
	const struct doc_value *tree = doc_object(d, o, "tree");
	size_t nodes = count_nodes(tree, 0);
	struct machine *m = calloc(1, sizeof(*m) + nodes * sizeof(m->node[0]));
	if (!m) {
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
		return NULL;
	}
	m->kinds = 1;
	copy_text(d, o, "name", m->name, sizeof(m->name));
	copy_text(d, o, "arch", m->arch, sizeof(m->arch));
	copy_text(d, o, "cpu", m->cpu, sizeof(m->cpu));
	m->memory = (uint64_t)doc_int(d, o, "memory", 0, MOST_BYTES, &zero);
	if (nodes >= MOST_NODES)
		doc_fault(d, tree, NULL, "expected at most a million nodes");
	if (!d->rc)
		read_node(d, tree, m, 0);
	read_devices(d, o, m);
	read_use(d, o, m);
	return m;
}

/* Memories are named by their numbers in the operating system; -1 where there is but one, without a number. */
static void read_speed(struct survey *s, struct doc *d, const struct doc_value *o, int host)
{
	struct memory_speed v = {.host = host};
	const struct machine *m = s->machine[host];
	int64_t os = doc_int(d, o, "node", -1, INT32_MAX, NULL);
	v.cores = (int32_t)doc_int(d, o, "cores", 0, CPUS_MAX, NULL);
	while (v.node < m->nnodes && (m->node[v.node].level != MACHINE_MEMORY || m->node[v.node].os != os))
		v.node++;
	if (v.node == m->nnodes)
		doc_fault(d, o, "node", "expected the number of a memory in the tree");
	if (v.cores) {
		v.core_read = 1e9 * doc_number(d, o, "core_read", NAN);
		v.core_copy = 1e9 * doc_number(d, o, "core_copy", NAN);
		v.read = 1e9 * doc_number(d, o, "read", NAN);
		v.copy = 1e9 * doc_number(d, o, "copy", NAN);
	}
	if (!d->rc && isnan(v.core_read + v.core_copy + v.read + v.copy))
		doc_fault(d, o, "cores", "expected core_read, core_copy, read and copy beside it");
	if (!d->rc)
		s->speed[s->nspeeds++] = v;
}

/* A file has them for all hosts, or for some, or for none. */
static void read_speeds(struct survey *s, struct doc *d)
{
	const struct doc_value *hosts = doc_member(d->root, "hosts");
	size_t n = 0;
	for (const struct doc_value *h = doc_first(hosts); h; h = doc_next(hosts, h))
		n += doc_count(doc_member(h, "memory_GBps"));
	if (!d->rc && n && !(s->speed = calloc(n, sizeof(*s->speed))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *h = doc_first(hosts); h && !d->rc; h = doc_next(hosts, h)) {
		const struct doc_value *list =
		        doc_member(h, "memory_GBps") ? doc_array(d, h, "memory_GBps", 0, MOST_NODES) : NULL;
		for (const struct doc_value *v = doc_first(list); v && !d->rc; v = doc_next(list, v))
			read_speed(s, d, v, (int)h->place);
	}
}

/* All machines in one block, as they come from other ranks. */
static int keep_machines(struct survey *s, struct machine **all)
{
	size_t bytes = 0;
	for (int h = 0; h < s->nhosts; h++)
		bytes += machine_bytes(all[h]);
	uint8_t *next = s->block = malloc(bytes);
	s->machine = calloc((size_t)s->nhosts, sizeof(*s->machine));
	if (!s->block || !s->machine)
		return fail(TUTTI_ENOMEM, "out of memory");
	for (int h = 0; h < s->nhosts; h++) {
		s->machine[h] = memcpy(next, all[h], machine_bytes(all[h]));
		next += machine_bytes(all[h]);
	}
	return TUTTI_OK;
}

static void read_machines(struct survey *s, struct doc *d)
{
	struct machine **all = calloc((size_t)s->nhosts, sizeof(struct machine *));
	const struct doc_value *hosts = doc_member(d->root, "hosts");
	if (!all)
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *h = doc_first(hosts); h && !d->rc; h = doc_next(hosts, h))
		all[h->place] = read_machine(d, h);
	if (!d->rc)
		d->rc = keep_machines(s, all);
	for (int h = 0; all && h < s->nhosts; h++)
		free(all[h]);
	free(all);
}

/* ---- ranks and pairs --------------------------------------------------------------------------------------------- */

static void read_ranks(struct survey *s, struct doc *d)
{
	const struct doc_value *ranks = doc_member(d->root, "ranks");
	for (const struct doc_value *o = doc_first(ranks); o && !d->rc; o = doc_next(ranks, o)) {
		struct rank_facts *f = &s->rank[o->place];
		f->host = (int32_t)doc_int(d, o, "host", 0, s->nhosts - 1, NULL);
		f->memory = (int32_t)doc_int(d, o, "memory", 0, s->n - 1, NULL);
		f->pid = (int32_t)doc_int(d, o, "pid", 0, INT32_MAX, &zero);
		const char *threads = doc_text(d, o, "threads", "");
		f->bound = threads[0] != '\0';
		if (!cpus_parse(&f->cpus, threads))
			doc_fault(d, o, "threads", "expected numbers such as \"0-3,8\"");
	}
}

static int transport_of(struct survey *s, const char *name)
{
	int i = 0;
	while (i < s->ntransports && strcmp(s->transport[i], name) != 0)
		i++;
	if (strlen(name) >= sizeof(s->transport[0]))
		return SURVEY_TRANSPORTS;
	if (i == s->ntransports && i < SURVEY_TRANSPORTS)
		snprintf(s->transport[s->ntransports++], sizeof(s->transport[0]), "%s", name);
	return i;
}

/* A cell of a matrix: a number, stored in out, or the name of a transport. */
static void read_cell(struct survey *s, struct doc *d, const struct doc_value *v, size_t at, double unit, double *out)
{
	double x = doc_real(v);
	if (out && !(x > 1e-9 && x < 1e12))
		doc_fault(d, v, NULL, "expected a number above 0");
	else if (out)
		out[at] = x * unit;
	else if (v->type != DOC_TEXT || (s->via[at] = transport_of(s, v->text)) == SURVEY_TRANSPORTS)
		doc_fault(d, v, NULL,
		          "expected the name of a transport: 15 letters at most, and no more than 16 names");
}

static void read_matrix(struct survey *s, struct doc *d, const struct doc_value *o, const char *key, double unit,
                        double *out)
{
	size_t n = (size_t)s->n;
	const struct doc_value *rows = doc_array(d, o, key, n, n);
	for (const struct doc_value *row = doc_first(rows); row && !d->rc; row = doc_next(rows, row)) {
		if (row->type != DOC_ARRAY || row->count != n)
			doc_fault(d, row, NULL, "expected a row of as many cells as there are ranks");
		for (const struct doc_value *v = doc_first(row); v && !d->rc; v = doc_next(row, v))
			if (v->place != row->place)
				read_cell(s, d, v, row->place * n + v->place, unit, out);
	}
}

/* NULL in *out: all pairs. */
static void read_list(struct survey *s, struct doc *d, const struct doc_value *o, bool **out)
{
	size_t n = (size_t)s->n;
	if (d->rc || !doc_member(o, "measured"))
		return;
	const struct doc_value *list = doc_array(d, o, "measured", 0, n * (n - 1) / 2);
	if (!d->rc && !(*out = calloc(n * n, sizeof(bool))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *p = doc_first(list); p && !d->rc; p = doc_next(list, p)) {
		const struct doc_value *a = doc_element(p, 0), *b = doc_element(p, 1);
		if (doc_count(p) == 2 && doc_is_whole(b, 1, s->n - 1) && doc_is_whole(a, 0, b->whole - 1))
			(*out)[(size_t)a->whole * n + (size_t)b->whole] =
			        (*out)[(size_t)b->whole * n + (size_t)a->whole] = true;
		else
			doc_fault(d, p, NULL, "expected two ranks in ascending order");
	}
}

static void read_groups(struct survey *s, struct doc *d)
{
	size_t hosts = (size_t)s->nhosts;
	if (d->rc || !doc_member(d->root, "groups"))
		return;
	const struct doc_value *list = doc_array(d, d->root, "groups", hosts, hosts);
	if (!d->rc && !(s->group = calloc(hosts, sizeof(*s->group))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (const struct doc_value *v = doc_first(list); v && !d->rc; v = doc_next(list, v))
		if (doc_is_whole(v, 0, s->nhosts - 1))
			s->group[v->place] = (int)v->whole;
		else
			doc_fault(d, v, NULL, "expected a whole number from 0 on, below that of the hosts");
}

/* Matrices come as pairs: a latency without a bandwidth is half a file. */
static void read_measured(struct survey *s, struct doc *d, const struct doc_value *o, const char *latency,
                          const char *bandwidth, double **us, double **gb)
{
	size_t n = (size_t)s->n;
	if (d->rc || (!doc_member(o, latency) && !doc_member(o, bandwidth)))
		return;
	*us = calloc(n * n, sizeof(double));
	*gb = calloc(n * n, sizeof(double));
	if (!*us || !*gb) {
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
		return;
	}
	read_matrix(s, d, o, latency, 1e-6, *us);
	read_matrix(s, d, o, bandwidth, 1e9, *gb);
}

static void read_both(struct survey *s, struct doc *d, const struct doc_value *o, struct at_once *m)
{
	read_measured(s, d, o, "latency_us", "bandwidth_GBps", &m->latency, &m->bandwidth);
	read_measured(s, d, o, "latency_p99_us", "bandwidth_p10_GBps", &m->latency_p99, &m->bandwidth_p10);
	if (m->latency)
		read_list(s, d, o, &m->measured);
}

static void read_pairs(struct survey *s, struct doc *d)
{
	struct at_once own = {0};
	if (d->rc || s->n < 2)
		return;
	memset(s->via, -1, (size_t)s->n * (size_t)s->n * sizeof(*s->via));
	read_matrix(s, d, d->root, "transport", 0, NULL);
	read_both(s, d, d->root, &own);
	s->latency = own.latency;
	s->latency_p99 = own.latency_p99;
	s->bandwidth = own.bandwidth;
	s->bandwidth_p10 = own.bandwidth_p10;
	s->measured = own.measured;
	read_groups(s, d);
	if (!s->latency || !doc_member(d->root, "at_once"))
		return;
	const struct doc_value *busy = doc_object(d, d->root, "at_once");
	if (busy && !doc_member(busy, "latency_us"))
		doc_fault(d, busy, "latency_us", "expected a matrix");
	read_both(s, d, busy, &s->busy);
}

static int allocate(struct survey *s)
{
	size_t n = (size_t)s->n;
	s->transport = calloc(SURVEY_TRANSPORTS + 1, sizeof(*s->transport));
	s->rank = calloc(n, sizeof(*s->rank));
	s->via = calloc(n * n, sizeof(*s->via));
	for (int i = 0; s->transport && transport_table[i];
	     i++) /* nearest first: what a file names stands as it does here */
		transport_of(s, transport_table[i]->name);
	return s->transport && s->rank && s->via ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

/* The ring of the file is kept, if it was given; what it is worth is counted anew. */
static int keep_ring(struct survey *s, const struct believed *b)
{
	if (!s->latency)
		return TUTTI_OK;
	int rc = survey_ring(s);
	for (int r = 0; !rc && b->place && r < s->n; r++)
		s->ring[b->place[r]] = r;
	return rc || !b->place ? rc : survey_rate_ring(s);
}

static int load_json(struct survey *s, const char *path, const struct text *text)
{
	struct doc d;
	struct believed b = {0};
	int rc = doc_parse(&d, path, text->data, text->len);
	rc = rc ? rc : believed_read(&b, &d);
	if (!rc) {
		s->n = b.nranks;
		s->nhosts = b.nhosts;
		d.rc = allocate(s);
		read_machines(s, &d);
		read_speeds(s, &d);
		read_ranks(s, &d);
		read_pairs(s, &d);
		rc = d.rc ? d.rc : keep_ring(s, &b);
	}
	believed_free(&b);
	doc_close(&d);
	return rc;
}

/* ---- hwloc ------------------------------------------------------------------------------------------------------- */

static int load_xml(struct survey *s, const char *path, const struct text *text)
{
	struct machine_source source = {.xml = path, .text = text->data, .len = text->len};
	struct machine *m;
	int rc = machine_discover(&source, &m);
	if (rc)
		return rc;
	s->n = s->nhosts = 1;
	rc = allocate(s);
	if (!rc)
		rc = keep_machines(s, &m);
	if (!rc)
		s->rank[0].cpus = m->may;
	free(m);
	return rc;
}

int load_survey(struct survey *s, const char *path)
{
	FILE *f = fopen(path, "re"); /* may be a pipe: it is read once */
	struct text text = {NULL, 0};
	*s = (struct survey){.file = path};
	int rc = f ? doc_load(f, path, &text.data, &text.len) : fail_errno("can't read %s", path);
	if (!rc)
		rc = text.data[strspn(text.data, " \t\r\n")] == '<' ? load_xml(s, path, &text)
		                                                    : load_json(s, path, &text);
	if (f)
		fclose(f);
	free(text.data);
	return rc ? rc : odd_find(s);
}
