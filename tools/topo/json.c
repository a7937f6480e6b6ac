/* SPDX-License-Identifier: MIT */
/* JSON; see json.h. jansson's _new calls take over what they are given, also on failure. */
#include "json.h"
#include "../../src/util/error.h"
#include "odd.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* Three digits are what a measurement is worth; more make diffs of two files unreadable. */
static json_t *rounded(double v)
{
	double unit = v > 0 ? pow(10, floor(log10(v)) - 3) : 1;
	return json_real(round(v / unit) * unit);
}

static json_t *text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

static json_t *node_json(const struct machine *m, uint32_t at)
{
	const struct machine_node *node = &m->node[at];
	json_t *o = json_pack("{s:s}", "type", machine_level_name(node->level)), *below;
	if (node->os >= 0)
		json_object_set_new(o, "os", json_integer(node->os));
	if (node->level == MACHINE_CACHE)
		json_object_set_new(o, "level", json_integer(node->depth));
	if (node->level == MACHINE_CORE)
		json_object_set_new(o, "kind", json_integer(node->kind));
	if (node->bytes)
		json_object_set_new(o, "bytes", json_integer((json_int_t)node->bytes));
	if (node->end == at + 1)
		return o;
	below = json_array();
	for (uint32_t child = at + 1; child < node->end; child = m->node[child].end)
		json_array_append_new(below, node_json(m, child));
	json_object_set_new(o, "children", below);
	return o;
}

/* How many nodes of its type stand before it: groups have no other number. */
static int index_of(const struct machine *m, uint32_t at)
{
	int n = 0;
	for (uint32_t i = 0; i < at; i++)
		n += m->node[i].level == m->node[at].level;
	return n;
}

static json_t *device_json(const struct machine *m, const struct machine_device *d)
{
	static const char *const state[] = {"unknown", "down", "up"};
	const struct machine_node *near = &m->node[d->near];
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "name", d->name, "kind",
	                      d->kind == MACHINE_RDMA ? "rdma" : "network", "state", state[d->state], "mbps",
	                      d->mbps ? json_integer((json_int_t)d->mbps) : json_null(), "address",
	                      text_or_null(d->address), "ip", text_or_null(d->ip), "pci", text_or_null(d->bus));
	if (d->kind == MACHINE_NETWORK)
		json_object_set_new(o, "mtu", d->mtu ? json_integer(d->mtu) : json_null());
	if (d->kind == MACHINE_RDMA) {
		json_object_set_new(o, "port", json_integer(d->port));
		json_object_set_new(o, "layer", text_or_null(d->layer));
	}
	json_object_set_new(o, "near",
	                    json_pack("{s:s, s:i, s:i}", "type", machine_level_name(near->level), "os", near->os,
	                              "index", index_of(m, d->near)));
	return o;
}

static json_t *unknown_json(const struct machine *m)
{
	json_t *a = json_array();
	for (unsigned i = 0; machine_unknown_name(i); i++)
		if (m->unknown >> i & 1)
			json_array_append_new(a, json_string(machine_unknown_name(i)));
	return a;
}

static json_t *may_use_json(const struct machine *m)
{
	char list[4096];
	return json_pack("{s:i, s:i, s:s, s:o}", "cores", machine_cores(m, &m->may, NULL), "threads",
	                 cpus_count(&m->may), "list", cpus_text(&m->may, list, sizeof(list)), "quota",
	                 m->quota > 0 ? rounded(m->quota) : json_null());
}

static json_t *speeds_json(const struct survey *s, int host)
{
	json_t *a = json_array();
	for (int i = 0; i < s->nspeeds; i++) {
		const struct memory_speed *v = &s->speed[i];
		if (v->host != host)
			continue;
		json_t *o = json_pack("{s:i, s:i}", "node", s->machine[host]->node[v->node].os, "cores", v->cores);
		const char *const key[] = {"core_read", "core_copy", "read", "copy"};
		const double value[] = {v->core_read, v->core_copy, v->read, v->copy};
		for (int k = 0; v->cores && k < 4; k++)
			json_object_set_new(o, key[k], rounded(value[k] * 1e-9));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *host_json(const struct survey *s, int host)
{
	const struct machine *m = s->machine[host];
	json_t *devices = json_array();
	json_t *o = json_pack("{s:o, s:o, s:o, s:I, s:i, s:i, s:i}", "name", text_or_null(m->name), "arch",
	                      text_or_null(m->arch), "cpu", text_or_null(m->cpu), "memory", (json_int_t)m->memory,
	                      "packages", m->packages, "cores", m->cores, "threads", m->threads);
	for (uint32_t i = 0; i < m->ndevices; i++)
		json_array_append_new(devices, device_json(m, &m->device[i]));
	json_object_set_new(o, "may_use", may_use_json(m));
	json_object_set_new(o, "unknown", unknown_json(m));
	json_object_set_new(o, "devices", devices);
	if (s->speed)
		json_object_set_new(o, "memory_GBps", speeds_json(s, host));
	json_object_set_new(o, "tree", node_json(m, 0));
	return o;
}

/* ---- ranks and pairs --------------------------------------------------------------------------------------------- */

static json_t *rank_json(const struct rank_facts *r)
{
	char list[4096];
	return json_pack("{s:i, s:i, s:i, s:o}", "host", r->host, "memory", r->memory, "pid", r->pid, "threads",
	                 r->bound ? json_string(cpus_text(&r->cpus, list, sizeof(list))) : json_null());
}

static json_t *via_json(const struct survey *s, int i, int j)
{
	return i == j ? json_null() : json_string(survey_via(s, i, j));
}

static json_t *names_json(const struct survey *s)
{
	json_t *rows = json_array();
	for (int i = 0; i < s->n; i++) {
		json_t *row = json_array();
		for (int j = 0; j < s->n; j++)
			json_array_append_new(row, via_json(s, i, j));
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *numbers_of_pairs(const struct survey *s, const double *value, double unit)
{
	json_t *rows = json_array();
	for (int i = 0; i < s->n; i++) {
		json_t *row = json_array();
		for (int j = 0; j < s->n; j++)
			json_array_append_new(row, i == j ? json_null() : rounded(value[i * s->n + j] * unit));
		json_array_append_new(rows, row);
	}
	return rows;
}

/* Pairs, the lower rank first. */
static json_t *measured_json(const struct survey *s, const bool *measured)
{
	json_t *list = json_array();
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++)
			if (measured[i * s->n + j])
				json_array_append_new(list, json_pack("[i, i]", i, j));
	return list;
}

/* Into o; without percentiles where there are none. */
static void add_measured(json_t *o, const struct survey *s, const struct at_once *m)
{
	json_object_set_new(o, "latency_us", numbers_of_pairs(s, m->latency, 1e6));
	json_object_set_new(o, "bandwidth_GBps", numbers_of_pairs(s, m->bandwidth, 1e-9));
	if (m->measured)
		json_object_set_new(o, "measured", measured_json(s, m->measured));
	if (!m->latency_p99)
		return;
	json_object_set_new(o, "latency_p99_us", numbers_of_pairs(s, m->latency_p99, 1e6));
	json_object_set_new(o, "bandwidth_p10_GBps", numbers_of_pairs(s, m->bandwidth_p10, 1e-9));
}

static json_t *numbers_json(const int *v, int n)
{
	json_t *a = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(a, json_integer(v[i]));
	return a;
}

static json_t *ring_json(const struct survey *s)
{
	return json_pack("{s:o, s:o, s:o}", "order", numbers_json(s->ring, s->n), "slowest_GBps",
	                 rounded(s->ring_rate * 1e-9), "rank_order_slowest_GBps", rounded(s->plain_rate * 1e-9));
}

static json_t *odd_json(const struct survey *s)
{
	json_t *list = json_array();
	for (int i = 0; i < s->nodd; i++) {
		const struct odd *x = &s->odd[i];
		json_t *o = json_pack("{s:s, s:s}", "what", odd_name(x->what), "text", x->text);
		if (x->rank >= 0)
			json_object_set_new(o, "rank", json_integer(x->rank));
		if (x->peer >= 0)
			json_object_set_new(o, "peer", json_integer(x->peer));
		if (x->host >= 0)
			json_object_set_new(o, "host", json_integer(x->host));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *classes_json(const struct survey *s)
{
	struct pair_class class[SURVEY_CLASSES];
	json_t *a = json_array();
	int n = survey_classes(s, class);
	for (int k = 0; k < n; k++)
		json_array_append_new(a, json_pack("{s:s, s:s, s:i}", "relation",
		                                   survey_relation(s, class[k].i, class[k].j), "transport",
		                                   survey_via(s, class[k].i, class[k].j), "pairs", class[k].pairs));
	return a;
}

static json_t *advice_json(const struct survey *s, const struct advice *a)
{
	json_t *calls = json_array(), *missing = json_array();
	for (int i = 0; i < a->ncalls; i++) {
		const struct advised_call *c = &a->call[i];
		json_array_append_new(calls, json_pack("{s:s, s:I, s:s, s:i, s:o}", "collective", coll_name(c->coll),
		                                       "bytes", (json_int_t)c->bytes, "algorithm", c->algo, "channels",
		                                       c->channels, "us", rounded(c->seconds * 1e6)));
	}
	for (int i = 0; i < a->nmissing; i++)
		json_array_append_new(missing, numbers_json(a->missing[i], 2));
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "pairs", classes_json(s), "ring", numbers_json(a->ring, a->n),
	                 "leaders", numbers_json(a->leader, a->nleaders), "missing_cables", missing, "calls", calls);
}

static json_t *survey_json(const struct survey *s, const struct advice *a)
{
	json_t *hosts = json_array(), *ranks = json_array(), *o;
	for (int h = 0; h < s->nhosts; h++)
		json_array_append_new(hosts, host_json(s, h));
	for (int r = 0; r < s->n; r++)
		json_array_append_new(ranks, rank_json(&s->rank[r]));
	o = json_pack("{s:i, s:i, s:o, s:o}", "format", 1, "size", s->n, "hosts", hosts, "ranks", ranks);
	if (a)
		json_object_set_new(o, "plan", advice_json(s, a));
	if (s->n < 2)
		return o;
	json_object_set_new(o, "transport", names_json(s));
	json_object_set_new(o, "odd", odd_json(s));
	if (!s->latency)
		return o;
	add_measured(o, s, &(struct at_once){s->latency, s->latency_p99, s->bandwidth, s->bandwidth_p10, s->measured});
	if (s->group)
		json_object_set_new(o, "groups", numbers_json(s->group, s->nhosts));
	if (s->busy.latency) {
		json_t *busy = json_object();
		add_measured(busy, s, &s->busy);
		json_object_set_new(o, "at_once", busy);
	}
	json_object_set_new(o, "ring", ring_json(s));
	return o;
}

int json_write(const struct survey *s, const struct advice *a, const char *path)
{
	bool out = strcmp(path, "-") == 0;
	FILE *f = out ? stdout : fopen(path, "we");
	if (!f)
		return fail_errno("can't write %s", path);
	json_t *o = survey_json(s, a);
	bool ok = o && json_dumpf(o, f, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0 && fputc('\n', f) != EOF;
	ok = fflush(f) == 0 && ok;
	int rc = ok ? TUTTI_OK : o ? fail_errno("can't write %s", path) : fail(TUTTI_ENOMEM, "out of memory");
	if (!out)
		fclose(f);
	json_decref(o);
	return rc;
}
