/* Volumes of algorithms and their prices; see model.h. */
#include "model.h"

#include <math.h>
#include <string.h>

struct volume {
	double rounds, wire, reduced, copied;
};

static double price(const struct tuner *t, struct volume v, double alpha, double beta)
{
	return v.rounds * alpha + v.wire * beta + v.reduced * t->reduce + v.copied * t->copy;
}

static int log2_up(int n)
{
	int d = 0;
	while ((1 << d) < n)
		d++;
	return d;
}

static bool is(const struct algo *algo, const char *name)
{
	return strcmp(algo->name, name) == 0;
}

/* Does a rank talk to all others at once? */
static bool is_wide(const char *algo)
{
	return strcmp(algo, "pairwise") == 0 || strcmp(algo, "linear") == 0;
}

/* ---- plans: links of one kind ------------------------------------------------------------------------------------ */

/* With ranks beyond a power of two some stand in for two: their neighbour's data comes first, its result goes last. */
static struct volume halving(int n, double bytes, double red, double twice)
{
	int lg = log2_up(n), beyond = n != 1 << lg;
	double power = 1 << (lg - beyond), part = bytes * (power - 1) / power;
	return (struct volume){twice * (lg - beyond) + 2 * beyond, twice * part + beyond * bytes,
	                       red * (part + beyond * bytes), 0};
}

static struct volume volume_of(const char *algo, enum coll coll, int n, double bytes, size_t slot)
{
	double lg = log2_up(n), part = bytes * (n - 1) / n, chunks = ceil(bytes / (double)slot);
	double red = coll_reduces(coll) ? 1 : 0, twice = coll == COLL_ALLREDUCE ? 2 : 1;
	bool rooted = coll == COLL_BROADCAST || coll == COLL_REDUCE;
	if (strcmp(algo, "ring") == 0)
		return rooted ? (struct volume){n - 1 + chunks, bytes, red * bytes, 0}
		              : (struct volume){twice * (n - 1), twice * part, red * part, 0};
	if (strcmp(algo, "tree") == 0)
		return (struct volume){2 * twice * lg + chunks, twice * bytes, red * bytes, 0};
	if (strcmp(algo, "doubling") == 0)
		return coll == COLL_ALLREDUCE ? (struct volume){lg + (n != 1 << (int)lg), bytes * lg, bytes * lg, 0}
		                              : (struct volume){lg, part, red * part, 0};
	if (strcmp(algo, "halving") == 0)
		return halving(n, bytes, red, twice);
	if (strcmp(algo, "pat") == 0 || strcmp(algo, "bruck") == 0)
		return (struct volume){twice * lg, twice * part, red * part, 0};
	if (is_wide(algo))
		return rooted || coll == COLL_GATHER || coll == COLL_SCATTER
		               ? (struct volume){1, bytes * (rooted ? n - 1 : 1), red * bytes * (n - 1), 0}
		               : (struct volume){twice, twice * part, red * part, 0};
	return (struct volume){lg, bytes * (rooted ? lg : 1), red * bytes * lg, 0}; /* binomial, dissemination */
}

/* Ranks whose streams come in at one rank at about the same time. */
static int senders(const char *algo, int n)
{
	if (is_wide(algo))
		return n - 1;
	return strcmp(algo, "ring") == 0 ? 1 : log2_up(n);
}

/*
 * A rank that talks to all others at once pays for each message, if less than for a round. And streams that meet at one cable
 * take turns badly: 8 hosts at a switch, 1 Gbit/s each, got 0.96 of their cables with one stream coming in (ring), 0.80 with
 * three (halving), 0.64 with seven (pairwise).
 */
static double fan_out(const char *algo, int n, struct volume v, struct link_cost c, bool cables)
{
	double messages = is_wide(algo) ? (n - 2) * c.gap : 0;
	return messages + (cables ? (senders(algo, n) - 1) * v.wire * c.beta * 0.1 : 0);
}

/* Inside: pairwise on all ranks of a host. Across: each lane has its share, and all lanes leave a host by the same way. */
static double hierarchy_seconds(const struct tuner *t, const struct algo *a, const struct query *q)
{
	int hosts = t->shape->nhosts, local = t->shape->nranks / hosts > 1 ? t->shape->nranks / hosts : 1;
	const char *across = is(a, "hierarchy-ring")     ? "ring"
	                     : q->coll == COLL_ALLREDUCE ? "doubling"
	                     : q->coll == COLL_ALLGATHER ? "bruck"
	                                                 : "binomial";
	struct volume near = volume_of("pairwise", q->coll, local, (double)q->bytes, t->slot);
	struct volume far = volume_of(across, q->coll, hosts, (double)q->bytes, t->slot);
	far.reduced /= local;
	return price(t, near, t->near.alpha, t->near.beta) + price(t, far, t->far.alpha, t->far.beta);
}

double model_plan(const struct tuner *t, const struct algo *a, const struct query *q)
{
	int n = t->shape->nranks, hosts = t->shape->nhosts;
	if (strncmp(a->name, "hierarchy", 9) == 0)
		return hierarchy_seconds(t, a, q);
	struct link_cost c = hosts > 1 ? t->far : t->near;
	struct volume v = volume_of(a->name, q->coll, n, (double)q->bytes, t->slot);
	double s = price(t, v, c.alpha, c.beta) + fan_out(a->name, n, v, c, hosts > 1);
	/* several ranks of a host share its way out; a ring crosses it once */
	if (hosts > 1 && n > hosts && !is(a, "ring"))
		s += (n / hosts - 1) * v.wire * c.beta;
	return s;
}

/* ---- the direct tier --------------------------------------------------------------------------------------------- */

/* A rank copies what it shows into its buffer; `wire` is what it then reads of the others'. */
static struct volume shown_and_read(enum coll coll, int n, double bytes, bool two_shot)
{
	double part = bytes * (n - 1) / n;
	switch (coll) {
	case COLL_ALLREDUCE: /* one-shot: everybody reads everything; two-shot: one more wait, less to fold */
		return two_shot ? (struct volume){2, 2 * part, part, bytes}
		                : (struct volume){1, (n - 1) * bytes, (n - 1) * bytes, bytes};
	case COLL_ALLGATHER:
		return (struct volume){1, part, 0, bytes / n};
	case COLL_REDUCE_SCATTER:
		return (struct volume){1, part, part, part};
	default:
		return (struct volume){1, bytes, 0, bytes};
	}
}

double model_direct(const struct tuner *t, const struct query *q, bool two_shot)
{
	struct volume v = shown_and_read(q->coll, t->shape->nranks, (double)q->bytes, two_shot);
	return price(t, v, t->direct_cost.alpha, t->direct_cost.beta);
}

/* ---- sockets ----------------------------------------------------------------------------------------------------- */

/* One joins two ranks on a lane. Where a plan has no channels, or fewer peers, this is more than it takes: a limit. */
int model_sockets(const struct algo *a, enum coll coll, const struct shape *shape, int channels)
{
	int n = shape->nranks, lg = log2_up(n);
	int phases = coll == COLL_ALLREDUCE ? 2 : 1;
	if (shape->nhosts == 1)
		return 0;
	if (is_wide(a->name))
		return (n - 1) * phases;
	if (is(a, "ring"))
		return 2 * channels;
	if (is(a, "tree"))
		return 2 * 4 * channels * phases;
	return 2 * (lg + 1) * channels * phases;
}

/* ---- peers ------------------------------------------------------------------------------------------------------- */

int model_peers(const struct algo *a, const struct shape *shape, int channels)
{
	int n = shape->nranks, lg = log2_up(n), most = 2 * (lg + 1);
	if (shape->nhosts == 1)
		return 0;
	if (is_wide(a->name))
		most = n - 1;
	else if (is(a, "ring"))
		most = 2 * channels;
	else if (is(a, "tree"))
		most = 4 * channels;
	return most < n - 1 ? most : n - 1;
}
