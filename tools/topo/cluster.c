/* SPDX-License-Identifier: MIT */
/* Makes a described cluster into routes and prices: see cluster.h. */
#include "cluster.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h"

#define FRAME 1448 /* bytes of payload in a frame of Ethernet */
#define GBIT  8e-9 /* seconds of a byte at 1 Gbit/s */

/* ---- routes ------------------------------------------------------------------------------------------------------ */

static int levels_above(const struct cluster *c, int at)
{
	int n = 0;
	for (; at >= 0; at = c->above[at])
		n++;
	return n;
}

/* Up from the one switch and down to the other, below the lowest that both hang on. */
static int climb(const struct cluster *c, int from, int to, int *hop)
{
	int a = from, b = to, down[CLUSTER_LEVELS], n = 0, ndown = 0;
	int la = levels_above(c, a), lb = levels_above(c, b);
	while (a != b) {
		if (la >= lb) {
			hop[n++] = c->uplink[a];
			a = c->above[a];
			la--;
		} else {
			down[ndown++] = c->uplink[b] + 1;
			b = c->above[b];
			lb--;
		}
	}
	while (ndown)
		hop[n++] = down[--ndown];
	return n;
}

/*
 * Ranks that share a core look for messages in turn, and a look at a network takes about as long as a message: so long it
 * is until the one has its turn for whom a message came, from another host or from its own.
 */
static double turn(const struct cluster *c, int rank)
{
	int cpu = c->cpu[rank];
	return c->ranks[cpu] > c->cores[cpu] ? (double)c->ranks[cpu] / c->cores[cpu] * c->message : 0;
}

static void route(const struct sim_cluster *sim, int from, int to, struct sim_route *out)
{
	const struct cluster *c = sim->ctx;
	const struct link_cost *near = &c->costs.link[COST_SHM];
	int a = c->host[from], b = c->host[to], n = 0;
	if (a == b) { /* what a message within a host costs was measured as a whole: half of it at either end */
		*out = (struct sim_route){.latency = near->alpha / 2 + turn(c, to),
		                          .send = near->alpha / 4,
		                          .receive = near->alpha / 4,
		                          .copy = near->beta / 2,
		                          .hops = 1,
		                          .hop = {c->cable[a] + 2}};
		return;
	}
	*out = (struct sim_route){.latency = c->latency + turn(c, to),
	                          .send = c->message,
	                          .receive = c->message,
	                          .frame = FRAME,
	                          .frames = c->frames,
	                          .copy = c->copy};
	out->hop[n++] = c->cable[a];
	n += climb(c, c->at_switch[a], c->at_switch[b], out->hop + n);
	out->hop[n++] = c->cable[b] + 1;
	out->hops = n;
}

/* ---- from the description ---------------------------------------------------------------------------------------- */

/*
 * A switch's uplink is numbered with the first host below it, so that equal parts of the cluster stand one after the
 * other.
 */
static void number_uplinks(struct cluster *c, const struct cluster_file *f, int at)
{
	for (; at >= 0 && c->uplink[at] < 0; at = c->above[at]) {
		c->uplink[at] = c->sim.nresources;
		c->sim.nresources += 2;
		for (int i = 0; i < 2; i++) {
			c->byte[c->uplink[at] + i] = GBIT / f->switches[at].gbit;
			c->burst[c->uplink[at] + i] = f->burst_kb * 1e3;
		}
	}
}

static void add_host(struct cluster *c, const struct cluster_file *f, const struct host_group *g, int host, int *rank)
{
	c->at_switch[host] = g->at;
	number_uplinks(c, f, g->at);
	int *next = &c->sim.nresources;
	c->cable[host] = *next;
	c->burst[*next] = c->burst[*next + 1] = f->burst_kb * 1e3;
	c->byte[(*next)++] = GBIT / g->out;
	c->byte[(*next)++] = GBIT / g->in;
	c->byte[(*next)++] = c->costs.copy / 2; /* two cores' worth: a guess, said in the manual */
	c->cores[host] = f->cores ? f->cores : g->cores ? g->cores : g->ranks;
	for (int i = 0; i < g->ranks; i++, ++*rank) {
		c->host[*rank] = host;
		c->cpu[*rank] = f->cores ? 0 : host;
		c->ranks[c->cpu[*rank]]++;
		c->skew[*rank] = g->skew * 1e-6;
	}
}

static bool allot(struct cluster *c, const struct cluster_file *f)
{
	size_t ranks = (size_t)f->nranks, hosts = (size_t)f->nhosts, switches = (size_t)f->nswitches + 1;
	c->host = calloc(ranks, sizeof(int));
	c->cpu = calloc(ranks, sizeof(int));
	c->skew = calloc(ranks, sizeof(double));
	c->at_switch = calloc(hosts, sizeof(int));
	c->cable = calloc(hosts, sizeof(int));
	c->cores = calloc(hosts, sizeof(int));
	c->ranks = calloc(hosts, sizeof(int));
	c->above = calloc(switches, sizeof(int));
	c->uplink = calloc(switches, sizeof(int));
	c->byte = calloc(3 * hosts + 2 * switches, sizeof(double));
	c->burst = calloc(3 * hosts + 2 * switches, sizeof(double));
	return c->burst && c->host && c->cpu && c->skew && c->at_switch && c->cable && c->cores && c->ranks &&
	       c->above && c->uplink && c->byte;
}

static void set_prices(struct cluster *c, const struct cluster_file *f)
{
	const struct link_cost *far = &c->costs.link[COST_NETWORK];
	c->latency = f->latency_us > 0 ? f->latency_us * 1e-6 : far->alpha / 2;
	c->message = f->message_us > 0 ? f->message_us * 1e-6 : far->alpha / 4;
	c->frames = f->frames_us * 1e-6;
	c->points = f->ncopy;
	memcpy(c->curve, f->copy, sizeof(c->curve));
	c->copy = c->points ? c->curve[0].ns * 1e-9 : c->costs.copy;
	c->sim.reduce = f->reduce_ns > 0 ? f->reduce_ns * 1e-9 : c->costs.reduce;
	c->sim.copy = c->costs.copy;
}

/* For the cost model: the slowest cable is that of all; a byte costs the cable and both ends. */
static void set_model(struct cluster *c)
{
	double slowest = 0;
	for (int h = 0; h < c->nhosts; h++)
		slowest = fmax(slowest, fmax(c->byte[c->cable[h]], c->byte[c->cable[h] + 1]));
	struct link_cost way = {c->latency + 2 * c->message, 2 * c->copy, 2 * c->message};
	c->costs.link[COST_LOOPBACK] = way;
	way.beta += slowest;
	c->costs.link[COST_NETWORK] = way;
}

/* Between two points it is on a line over the logarithm of the bytes. */
void cluster_size(struct cluster *c, size_t bytes)
{
	const struct price_point *p = c->curve;
	double at = (double)bytes;
	int i = 0;
	if (!c->points)
		return;
	while (i < c->points && p[i].bytes < at)
		i++;
	if (i == 0 || i == c->points)
		c->copy = p[i ? i - 1 : 0].ns * 1e-9;
	else
		c->copy = 1e-9 * (p[i - 1].ns + (p[i].ns - p[i - 1].ns) * log(at / p[i - 1].bytes) /
		                                        log(p[i].bytes / p[i - 1].bytes));
	set_model(c);
}

/* ---- equal parts ------------------------------------------------------------------------------------------------- */

static int first_rank(const struct cluster *c, const int *start, int host)
{
	return host < c->nhosts ? start[host] : c->sim.nranks;
}

/* Are two hosts, `resources` apart, alike? */
static bool alike(const struct cluster *c, const int *start, int a, int b, int resources)
{
	int x = c->at_switch[a], y = c->at_switch[b];
	bool same = c->cable[b] - c->cable[a] == resources && c->cores[a] == c->cores[b] &&
	            first_rank(c, start, a + 1) - start[a] == first_rank(c, start, b + 1) - start[b] &&
	            c->skew[start[a]] == c->skew[start[b]];
	for (int i = 0; same && i < 2; i++)
		same = c->byte[c->cable[a] + i] == c->byte[c->cable[b] + i];
	for (; same && x >= 0 && y >= 0; x = c->above[x], y = c->above[y])
		same = c->uplink[y] - c->uplink[x] == resources && c->byte[c->uplink[x]] == c->byte[c->uplink[y]];
	return same && x < 0 && y < 0;
}

/* Hosts of one of the equal parts that the cluster is made of. */
static int part(const struct cluster *c, const int *start)
{
	for (int hosts = 1; hosts <= c->nhosts / 2; hosts++) {
		int parts = c->nhosts / hosts;
		bool same = c->nhosts % hosts == 0 && c->sim.nresources % parts == 0;
		for (int h = hosts; same && h < c->nhosts; h++)
			same = alike(c, start, h - hosts, h, c->sim.nresources / parts);
		if (same)
			return hosts;
	}
	return c->nhosts;
}

static int find_units(struct cluster *c, const struct cluster_file *f)
{
	int *start = calloc((size_t)c->nhosts, sizeof(int));
	if (!start)
		return fail(TUTTI_ENOMEM, "out of memory");
	for (int r = c->sim.nranks - 1; r >= 0; r--)
		start[c->host[r]] = r;
	c->sim.units = f->cores ? 1 : c->nhosts / part(c, start); /* a host that shares cores is not separate */
	free(start);
	return TUTTI_OK;
}

static int make(struct cluster *c, const struct cluster_file *f)
{
	int host = 0, rank = 0;
	c->nhosts = f->nhosts;
	c->sim.nranks = f->nranks;
	if (!allot(c, f))
		return fail(TUTTI_ENOMEM, "out of memory");
	set_prices(c, f);
	for (int i = 0; i < f->nswitches; i++) {
		c->above[i] = f->switches[i].above;
		c->uplink[i] = -1;
	}
	for (int i = 0; i < f->ngroups; i++)
		for (int k = 0; k < f->groups[i].count; k++)
			add_host(c, f, &f->groups[i], host++, &rank);
	set_model(c);
	c->shape = (struct shape){.nranks = c->sim.nranks, .nhosts = c->nhosts, .host = c->host};
	c->sim.byte = c->byte;
	c->sim.burst = f->burst_kb > 0 ? c->burst : NULL;
	c->sim.skew = c->skew;
	c->sim.cpu = c->cpu;
	c->sim.cores = c->cores;
	c->sim.ncpus = f->cores ? 1 : c->nhosts;
	c->sim.route = route;
	c->sim.ctx = c;
	return find_units(c, f);
}

int cluster_read(struct cluster *c, const char *path, int ranks, const struct costs *costs)
{
	struct cluster_file f;
	int rc = cluster_file_read(&f, path);
	*c = (struct cluster){.costs = *costs};
	if (rc)
		return rc;
	if (ranks > f.nranks)
		rc = fail(TUTTI_EINVAL, "%s: %d ranks, not %d", path, f.nranks, ranks);
	else if (ranks)
		rc = cluster_file_cut(&f, ranks);
	rc = rc ? rc : make(c, &f);
	cluster_file_free(&f);
	if (rc)
		cluster_free(c);
	return rc;
}

void cluster_free(struct cluster *c)
{
	free(c->host);
	free(c->cpu);
	free(c->skew);
	free(c->at_switch);
	free(c->cable);
	free(c->cores);
	free(c->ranks);
	free(c->above);
	free(c->uplink);
	free(c->byte);
	free(c->burst);
	*c = (struct cluster){0};
}
