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
#define MOST_TEXT  ((size_t)1 << 29)
#define MOST_BYTES (INT64_C(1) << 60)

static const int64_t zero = 0, none = -1;

/* ---- the file ---------------------------------------------------------------------------------------------------- */

struct text {
	char *data; /* with a NUL at data[len] */
	size_t len;
};

/* All of it at once: a pipe can be read only once. */
static int read_all(struct text *t, const char *path)
{
	FILE *f = fopen(path, "re");
	size_t cap = 0, n = 0;
	int rc = TUTTI_OK;
	*t = (struct text){NULL, 0};
	if (!f)
		return fail_errno("can't read %s", path);
	do {
		t->len += n;
		if (cap - t->len < 2) {
			char *grown = realloc(t->data, cap = 2 * cap + 65536);
			if (!grown) {
				rc = fail(TUTTI_ENOMEM, "out of memory for %s", path);
				break;
			}
			t->data = grown;
		}
		n = fread(t->data + t->len, 1, cap - 1 - t->len, f);
	} while (n && t->len <= MOST_TEXT);
	if (!rc && ferror(f))
		rc = fail_errno("can't read %s", path);
	else if (!rc && t->len > MOST_TEXT)
		rc = fail(TUTTI_EINVAL, "%s: larger than %zu MiB", path, MOST_TEXT >> 20);
	if (!rc)
		t->data[t->len] = '\0';
	fclose(f);
	return rc;
}

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

static void copy_text(struct doc *d, const json_t *o, const char *key, char *to, size_t cap)
{
	const char *text = doc_text(d, o, key, "");
	size_t n = strnlen(text, cap - 1);
	while (n && ((unsigned char)text[n] & 0xc0) == 0x80) /* no half of a letter */
		n--;
	memcpy(to, text, n);
	to[n] = '\0';
}

static size_t count_nodes(const json_t *node, int depth)
{
	const json_t *children = json_object_get(node, "children");
	size_t n = 1;
	for (size_t i = 0; depth < MOST_DEPTH && n < MOST_NODES && i < json_array_size(children); i++)
		n += count_nodes(json_array_get(children, i), depth + 1);
	return n;
}

static unsigned level_of(struct doc *d, const json_t *node)
{
	const char *type = doc_text(d, node, "type", NULL);
	for (unsigned i = 0; i < MACHINE_LEVELS; i++)
		if (strcmp(type, machine_level_name(i)) == 0)
			return i;
	doc_fault(d, "type", "host, package, group, memory, cache, core or thread");
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

static void read_node(struct doc *d, const json_t *o, struct machine *m, int depth)
{
	struct machine_node *node = &m->node[m->nnodes++];
	const json_t *children = json_object_get(o, "children");
	node->level = (uint8_t)level_of(d, o);
	node->os = (int32_t)doc_int(d, o, "os", 0, INT32_MAX, &none);
	node->depth = (uint8_t)doc_int(d, o, "level", 0, 9, &zero);
	node->kind = (uint16_t)doc_int(d, o, "kind", 0, 99, &zero);
	node->bytes = (uint64_t)doc_int(d, o, "bytes", 0, MOST_BYTES, &zero);
	count(m, node);
	if ((node->level == MACHINE_HOST) != (depth == 0))
		doc_fault(d, "type", "a host at the root, and nowhere else");
	if (children && (depth + 1 >= MOST_DEPTH || node->level == MACHINE_THREAD || node->level == MACHINE_MEMORY))
		doc_fault(d, "children", "none so deep, nor below a thread or a memory");
	if (children)
		doc_array(d, o, "children", 1, MOST_NODES);
	for (size_t i = 0; !d->rc && i < json_array_size(children); i++) {
		size_t mark = doc_enter(d, "children", (int)i);
		read_node(d, json_array_get(children, i), m, depth + 1);
		doc_leave(d, mark);
	}
	node->end = m->nnodes;
}

/* The node of that type and place among them, or of that number; the host where there is none, or where it has no number. */
static uint32_t node_of(struct doc *d, const json_t *near, const struct machine *m)
{
	unsigned level = level_of(d, near);
	int64_t os = doc_int(d, near, "os", -1, INT32_MAX, &none),
	        index = doc_int(d, near, "index", 0, INT32_MAX, &none);
	for (uint32_t i = 0; i < m->nnodes; i++)
		if (m->node[i].level == level && (index >= 0 ? index-- == 0 : os >= 0 && m->node[i].os == os))
			return i;
	return 0;
}

static unsigned word_of(struct doc *d, const json_t *o, const char *key, const char *const *words, const char *what)
{
	const char *text = doc_text(d, o, key, NULL);
	for (unsigned i = 0; words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	doc_fault(d, key, what);
	return 0;
}

static void read_device(struct doc *d, const json_t *o, struct machine *m)
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
	size_t mark = doc_enter(d, "near", -1);
	if (json_object_get(o, "near"))
		v->near = node_of(d, json_object_get(o, "near"), m);
	doc_leave(d, mark);
}

static void read_devices(struct doc *d, const json_t *o, struct machine *m)
{
	const json_t *devices = doc_array(d, o, "devices", 0, MACHINE_DEVICES);
	for (size_t i = 0; !d->rc && i < json_array_size(devices); i++) {
		size_t mark = doc_enter(d, "devices", (int)i);
		read_device(d, json_array_get(devices, i), m);
		doc_leave(d, mark);
	}
}

static void read_use(struct doc *d, const json_t *o, struct machine *m)
{
	const json_t *use = doc_object(d, o, "may_use"), *unknown = doc_array(d, o, "unknown", 0, 16);
	size_t mark = doc_enter(d, "may_use", -1);
	if (!cpus_parse(&m->may, doc_text(d, use, "list", NULL)))
		doc_fault(d, "list", "numbers of threads such as \"0-3,8\"");
	m->quota = doc_number(d, use, "quota", 0);
	doc_leave(d, mark);
	for (size_t k = 0; k < json_array_size(unknown); k++)
		for (unsigned i = 0; machine_unknown_name(i); i++) {
			const char *word = json_string_value(json_array_get(unknown, k));
			if (word && strcmp(word, machine_unknown_name(i)) == 0)
				m->unknown |= 1u << i;
		}
}

static struct machine *read_machine(struct doc *d, const json_t *o)
{
	const json_t *tree = doc_object(d, o, "tree");
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
	size_t mark = doc_enter(d, "tree", -1);
	if (nodes >= MOST_NODES)
		doc_fault(d, "", "at most a million nodes");
	if (!d->rc)
		read_node(d, tree, m, 0);
	doc_leave(d, mark);
	read_devices(d, o, m);
	read_use(d, o, m);
	return m;
}

/* Memories are named by their numbers in the operating system; -1 where there is but one, without a number. */
static void read_speed(struct survey *s, struct doc *d, const json_t *o, int host)
{
	struct memory_speed v = {.host = host};
	const struct machine *m = s->machine[host];
	int64_t os = doc_int(d, o, "node", -1, INT32_MAX, NULL);
	v.cores = (int32_t)doc_int(d, o, "cores", 0, CPUS_MAX, NULL);
	while (v.node < m->nnodes && (m->node[v.node].level != MACHINE_MEMORY || m->node[v.node].os != os))
		v.node++;
	if (v.node == m->nnodes)
		doc_fault(d, "node", "the number of a memory in the tree");
	if (v.cores) {
		v.core_read = 1e9 * doc_number(d, o, "core_read", NAN);
		v.core_copy = 1e9 * doc_number(d, o, "core_copy", NAN);
		v.read = 1e9 * doc_number(d, o, "read", NAN);
		v.copy = 1e9 * doc_number(d, o, "copy", NAN);
	}
	if (!d->rc && isnan(v.core_read + v.core_copy + v.read + v.copy))
		doc_fault(d, "cores", "core_read, core_copy, read and copy beside it");
	if (!d->rc)
		s->speed[s->nspeeds++] = v;
}

/* A file has them for all hosts, or for some, or for none. */
static void read_speeds(struct survey *s, struct doc *d)
{
	const json_t *hosts = json_object_get(d->root, "hosts");
	size_t n = 0;
	for (int h = 0; h < s->nhosts; h++)
		n += json_array_size(json_object_get(json_array_get(hosts, (size_t)h), "memory_GBps"));
	if (!d->rc && n && !(s->speed = calloc(n, sizeof(*s->speed))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (int h = 0; !d->rc && h < s->nhosts; h++) {
		const json_t *o = json_array_get(hosts, (size_t)h);
		size_t host = doc_enter(d, "hosts", h);
		const json_t *list =
		        json_object_get(o, "memory_GBps") ? doc_array(d, o, "memory_GBps", 0, MOST_NODES) : NULL;
		for (size_t i = 0; !d->rc && i < json_array_size(list); i++) {
			size_t mark = doc_enter(d, "memory_GBps", (int)i);
			read_speed(s, d, json_array_get(list, i), h);
			doc_leave(d, mark);
		}
		doc_leave(d, host);
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
	const json_t *hosts = json_object_get(d->root, "hosts");
	if (!all)
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (int h = 0; !d->rc && h < s->nhosts; h++) {
		size_t mark = doc_enter(d, "hosts", h);
		all[h] = read_machine(d, json_array_get(hosts, (size_t)h));
		doc_leave(d, mark);
	}
	if (!d->rc)
		d->rc = keep_machines(s, all);
	for (int h = 0; all && h < s->nhosts; h++)
		free(all[h]);
	free(all);
}

/* ---- ranks and pairs --------------------------------------------------------------------------------------------- */

static void read_ranks(struct survey *s, struct doc *d)
{
	const json_t *ranks = json_object_get(d->root, "ranks");
	for (int r = 0; !d->rc && r < s->n; r++) {
		const json_t *o = json_array_get(ranks, (size_t)r);
		struct rank_facts *f = &s->rank[r];
		size_t mark = doc_enter(d, "ranks", r);
		f->host = (int32_t)doc_int(d, o, "host", 0, s->nhosts - 1, NULL);
		f->memory = (int32_t)doc_int(d, o, "memory", 0, s->n - 1, NULL);
		f->pid = (int32_t)doc_int(d, o, "pid", 0, INT32_MAX, &zero);
		const char *threads = doc_text(d, o, "threads", "");
		f->bound = threads[0] != '\0';
		if (!cpus_parse(&f->cpus, threads))
			doc_fault(d, "threads", "numbers such as \"0-3,8\"");
		doc_leave(d, mark);
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

/* Rows are entered as fields, so that a fault names row and column. */
static void read_matrix(struct survey *s, struct doc *d, const json_t *o, const char *key, double unit, double *out)
{
	size_t n = (size_t)s->n;
	const json_t *rows = doc_array(d, o, key, n, n);
	for (size_t i = 0; !d->rc && i < n; i++) {
		const json_t *row = json_array_get(rows, i);
		size_t mark = doc_enter(d, key, (int)i);
		if (json_array_size(row) != n)
			doc_fault(d, "", "a row of as many cells as there are ranks");
		for (size_t j = 0; !d->rc && j < n; j++) {
			const json_t *v = json_array_get(row, j);
			char column[24];
			snprintf(column, sizeof(column), "[%zu]", j);
			if (i == j)
				continue;
			if (out && !(json_number_value(v) > 1e-9 && json_number_value(v) < 1e12))
				doc_fault(d, column, "a number above 0");
			else if (out)
				out[i * n + j] = json_number_value(v) * unit;
			else if (!json_is_string(v) ||
			         (s->via[i * n + j] = transport_of(s, json_string_value(v))) == SURVEY_TRANSPORTS)
				doc_fault(d, column,
				          "the name of a transport: 15 letters at most, and no more than 16 names");
		}
		doc_leave(d, mark);
	}
}

/* NULL in *out: all pairs. */
static void read_list(struct survey *s, struct doc *d, const json_t *o, bool **out)
{
	size_t n = (size_t)s->n;
	if (d->rc || !json_object_get(o, "measured"))
		return;
	const json_t *list = doc_array(d, o, "measured", 0, n * (n - 1) / 2);
	if (!d->rc && !(*out = calloc(n * n, sizeof(bool))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (size_t k = 0; !d->rc && k < json_array_size(list); k++) {
		const json_t *p = json_array_get(list, k), *a = json_array_get(p, 0), *b = json_array_get(p, 1);
		json_int_t i = json_integer_value(a), j = json_integer_value(b);
		size_t mark = doc_enter(d, "measured", (int)k);
		if (json_array_size(p) != 2 || !json_is_integer(a) || !json_is_integer(b) || i < 0 || i >= j ||
		    j >= s->n)
			doc_fault(d, "", "two ranks, the lower one first");
		else
			(*out)[(size_t)i * n + (size_t)j] = (*out)[(size_t)j * n + (size_t)i] = true;
		doc_leave(d, mark);
	}
}

static void read_groups(struct survey *s, struct doc *d)
{
	size_t hosts = (size_t)s->nhosts;
	if (d->rc || !json_object_get(d->root, "groups"))
		return;
	const json_t *list = doc_array(d, d->root, "groups", hosts, hosts);
	if (!d->rc && !(s->group = calloc(hosts, sizeof(*s->group))))
		d->rc = fail(TUTTI_ENOMEM, "out of memory");
	for (size_t h = 0; !d->rc && h < hosts; h++) {
		const json_t *v = json_array_get(list, h);
		size_t mark = doc_enter(d, "groups", (int)h);
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= s->nhosts)
			doc_fault(d, "", "a whole number from 0 on, below that of the hosts");
		s->group[h] = (int)json_integer_value(v);
		doc_leave(d, mark);
	}
}

/* Matrices come as pairs: a latency without a bandwidth is half a file. */
static void read_measured(struct survey *s, struct doc *d, const json_t *o, const char *latency, const char *bandwidth,
                          double **us, double **gb)
{
	size_t n = (size_t)s->n;
	if (d->rc || (!json_object_get(o, latency) && !json_object_get(o, bandwidth)))
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

static void read_both(struct survey *s, struct doc *d, const json_t *o, struct at_once *m)
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
	if (!s->latency || !json_object_get(d->root, "at_once"))
		return;
	const json_t *busy = doc_object(d, d->root, "at_once");
	size_t mark = doc_enter(d, "at_once", -1);
	if (busy && !json_object_get(busy, "latency_us"))
		doc_fault(d, "latency_us", "a matrix");
	read_both(s, d, busy, &s->busy);
	doc_leave(d, mark);
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
	struct text text;
	*s = (struct survey){.file = path};
	int rc = read_all(&text, path);
	if (!rc)
		rc = text.data[strspn(text.data, " \t\r\n")] == '<' ? load_xml(s, path, &text)
		                                                    : load_json(s, path, &text);
	free(text.data);
	return rc ? rc : odd_find(s);
}
