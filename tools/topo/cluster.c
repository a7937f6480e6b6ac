/* Reads the description of a cluster: see cluster.h. */
#include "cluster.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h"

#define MOST_RANKS 65536
#define GBIT       8e-9 /* seconds of a byte at 1 Gbit/s */

static int wrong(const char *path, const char *what)
{
	return fail(TUTTI_EINVAL, "%s: %s", path, what);
}

/* A positive number of an object; `otherwise` where it is absent; NAN where it is something else. */
static double number(const json_t *o, const char *key, double otherwise)
{
	const json_t *v = json_object_get(o, key);
	double x = json_number_value(v);
	if (!v)
		return otherwise;
	return json_is_number(v) && x > 0 && x < 1e12 ? x : NAN;
}

static int index_of(const json_t *switches, const char *name)
{
	const char *key;
	json_t *value;
	int i = 0;
	json_object_foreach((json_t *)(uintptr_t)switches, key, value)
	{
		if (strcmp(key, name) == 0)
			return i;
		i++;
	}
	return -1;
}

/* ---- resources ---------------------------------------------------------------------------------------------------- */

static int cable_out(const struct cluster *c, int host)
{
	(void)c;
	return 2 * host;
}
static int uplink(const struct cluster *c, int at, bool down)
{
	return 2 * c->nhosts + 2 * at + down;
}
static int memory_of(const struct cluster *c, int host)
{
	return 2 * c->nhosts + 2 * c->nswitches + host;
}

static void route(const struct sim_cluster *sim, int from, int to, struct sim_route *out)
{
	const struct cluster *c = sim->ctx;
	const struct link_cost *near = &c->costs.link[COST_SHM];
	int a = c->host[from], b = c->host[to], n = 0;
	if (a == b) { /* what a message within a host costs was measured as a whole: half of it at either end */
		*out = (struct sim_route){.latency = near->alpha / 2,
		                          .send = near->alpha / 4,
		                          .receive = near->alpha / 4,
		                          .copy = near->beta / 2,
		                          .hops = 1,
		                          .hop = {memory_of(c, a)}};
		return;
	}
	*out = (struct sim_route){.latency = c->latency, .send = c->message, .receive = c->message, .copy = c->copy};
	out->hop[n++] = cable_out(c, a);
	if (c->at_switch[a] != c->at_switch[b]) {
		if (c->at_switch[a] >= 0)
			out->hop[n++] = uplink(c, c->at_switch[a], false);
		if (c->at_switch[b] >= 0)
			out->hop[n++] = uplink(c, c->at_switch[b], true);
	}
	out->hop[n++] = cable_out(c, b) + 1;
	out->hops = n;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* One group of equal hosts. */
struct group {
	int count, ranks, at_switch;
	double gbit;
};

static int read_group(const json_t *o, const json_t *switches, const char *path, struct group *g)
{
	const char *name = json_string_value(json_object_get(o, "switch"));
	double count = number(o, "count", 1), ranks = number(o, "ranks", 1);
	g->gbit = number(o, "gbit", 1);
	g->at_switch = name ? index_of(switches, name) : -1;
	if (!json_is_object(o) || !(count <= MOST_RANKS) || !(ranks <= MOST_RANKS) || count != floor(count) ||
	    ranks != floor(ranks) || isnan(g->gbit))
		return wrong(path,
		             "each of \"hosts\" is an object with the numbers count, ranks and gbit, and a switch");
	if (json_object_get(o, "switch") && g->at_switch < 0)
		return fail(TUTTI_EINVAL, "%s: \"switches\" has none of the name \"%s\"", path, name ? name : "?");
	g->count = (int)count;
	g->ranks = (int)ranks;
	return TUTTI_OK;
}

static int size_up(const json_t *hosts, const json_t *switches, const char *path, int *nhosts, int *nranks)
{
	const json_t *o;
	size_t i;
	*nhosts = *nranks = 0;
	json_array_foreach((json_t *)(uintptr_t)hosts, i, o)
	{
		struct group g;
		int rc = read_group(o, switches, path, &g);
		if (rc)
			return rc;
		if ((double)*nranks + (double)g.count * g.ranks > MOST_RANKS)
			return wrong(path, "more than 65536 ranks");
		*nhosts += g.count;
		*nranks += g.count * g.ranks;
	}
	return *nranks ? TUTTI_OK : wrong(path, "\"hosts\" must be an array of at least one host");
}

static int fill_hosts(struct cluster *c, const json_t *hosts, const json_t *switches, const char *path)
{
	const json_t *o;
	size_t i;
	int host = 0, rank = 0;
	json_array_foreach((json_t *)(uintptr_t)hosts, i, o)
	{
		struct group g;
		int rc = read_group(o, switches, path, &g);
		if (rc)
			return rc;
		for (int k = 0; k < g.count; k++, host++) {
			c->at_switch[host] = g.at_switch;
			c->byte[cable_out(c, host)] = c->byte[cable_out(c, host) + 1] = GBIT / g.gbit;
			c->byte[memory_of(c, host)] =
			        c->costs.copy / 2; /* two cores' worth: a guess, said in the manual */
			for (int r = 0; r < g.ranks; r++)
				c->host[rank++] = host;
		}
	}
	return TUTTI_OK;
}

static int fill_switches(struct cluster *c, const json_t *switches, const char *path)
{
	const char *key;
	json_t *value;
	int i = 0;
	json_object_foreach((json_t *)(uintptr_t)switches, key, value)
	{
		double gbit = number(value, "uplink_gbit", NAN);
		if (!json_is_object(value) || isnan(gbit))
			return fail(TUTTI_EINVAL, "%s: switch \"%s\" is no object with a positive uplink_gbit", path,
			            key);
		c->byte[uplink(c, i, false)] = c->byte[uplink(c, i, true)] = GBIT / gbit;
		i++;
	}
	return TUTTI_OK;
}

static int fill(struct cluster *c, const json_t *root, const char *path)
{
	const json_t *hosts = json_object_get(root, "hosts"), *switches = json_object_get(root, "switches");
	const struct link_cost *far = &c->costs.link[COST_NETWORK];
	int rc = json_is_array(hosts) && (!switches || json_is_object(switches))
	                 ? TUTTI_OK
	                 : wrong(path,
	                         "an object with an array \"hosts\" is expected, and perhaps an object \"switches\"");
	rc = rc ? rc : size_up(hosts, switches, path, &c->nhosts, &c->sim.nranks);
	if (rc)
		return rc;
	c->nswitches = (int)json_object_size(switches);
	c->sim.nresources = 3 * c->nhosts + 2 * c->nswitches;
	c->host = calloc((size_t)c->sim.nranks, sizeof(int));
	c->at_switch = calloc((size_t)c->nhosts, sizeof(int));
	c->byte = calloc((size_t)c->sim.nresources, sizeof(double));
	if (!c->host || !c->at_switch || !c->byte)
		return fail(TUTTI_ENOMEM, "out of memory");
	c->latency = number(root, "latency_us", far->alpha * 1e6 / 2) / 1e6;
	c->message = number(root, "message_us", far->alpha * 1e6 / 4) / 1e6;
	c->copy = number(root, "copy_ns", c->costs.copy * 1e9) / 1e9;
	c->sim.reduce = number(root, "reduce_ns", c->costs.reduce * 1e9) / 1e9;
	c->sim.copy = c->costs.copy;
	if (isnan(c->latency) || isnan(c->message) || isnan(c->copy) || isnan(c->sim.reduce))
		return wrong(path, "latency_us, message_us, copy_ns and reduce_ns are positive numbers");
	rc = fill_hosts(c, hosts, switches, path);
	return rc ? rc : fill_switches(c, switches, path);
}

int cluster_read(struct cluster *c, const char *path)
{
	json_error_t error;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	*c = (struct cluster){0};
	if (!root)
		return error.line < 0 ? fail(TUTTI_ESYSTEM, "%s: %s", path, error.text)
		                      : fail(TUTTI_EINVAL, "%s:%d: %s", path, error.line, error.text);
	costs_load(&c->costs, NULL);
	int rc = fill(c, root, path);
	json_decref(root);
	if (rc) {
		cluster_free(c);
		return rc;
	}
	c->shape = (struct shape){c->sim.nranks, c->nhosts, c->host};
	c->sim.byte = c->byte;
	c->sim.route = route;
	c->sim.ctx = c;
	/* for the cost model: the slowest cable is that of all */
	double slowest = 0;
	for (int h = 0; h < c->nhosts; h++)
		slowest = fmax(slowest, c->byte[cable_out(c, h)]);
	c->costs.link[COST_NETWORK] = (struct link_cost){c->latency + 2 * c->message, slowest, c->message};
	return TUTTI_OK;
}

void cluster_free(struct cluster *c)
{
	free(c->host);
	free(c->at_switch);
	free(c->byte);
	*c = (struct cluster){0};
}
