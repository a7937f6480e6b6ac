/* Volumes of algorithms and their prices; see model.h. */
#include "model.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "prices must have the same bits on all machines: each operation rounds to double, and none is reordered"
#endif

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
	double lg = log2_up(n), part = bytes * (n - 1) / n, chunk = fmin(bytes / 2, (double)slot);
	double red = coll_reduces(coll) ? 1 : 0, twice = coll == COLL_ALLREDUCE ? 2 : 1;
	bool rooted = coll == COLL_BROADCAST || coll == COLL_REDUCE;
	if (strcmp(algo, "ring") == 0)
		return rooted ? (struct volume){n - 1, bytes + (n - 2) * chunk, red * bytes, 0}
		              : (struct volume){twice * (n - 1), twice * part, red * part, 0};
	if (strcmp(algo, "tree") == 0)
		return (struct volume){2 * twice * lg, twice * bytes + (twice * lg - 1) * chunk, red * bytes, 0};
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

/* Do chunks follow each other from rank to rank? */
static bool is_stream(const char *algo, enum coll coll)
{
	bool rooted = coll == COLL_BROADCAST || coll == COLL_REDUCE;
	return strcmp(algo, "tree") == 0 || (strcmp(algo, "ring") == 0 && rooted);
}

/* Strands that have chunks under way at the same time: channels, and phases that hand chunks on. */
static double strands_of(const char *algo, enum coll coll, int channels)
{
	bool phases = coll == COLL_ALLREDUCE && (strcmp(algo, "pairwise") == 0 || strcmp(algo, "pat") == 0);
	return (is_wide(algo) ? 1 : channels) * (phases ? 2 : 1);
}

/* Chunks that a strand goes through one after the other, each with all of its rounds. */
static double chunks_of(const char *algo, enum coll coll, int n, double bytes, double slot, int channels)
{
	double strands = is_wide(algo) ? 1 : channels, blocks;
	if (is_stream(algo, coll))
		return ceil(bytes / slot);
	if (strcmp(algo, "ring") == 0 || strcmp(algo, "pairwise") == 0)
		blocks = n;
	else if (strcmp(algo, "halving") == 0 || strcmp(algo, "pat") == 0 || strcmp(algo, "bruck") == 0)
		blocks = 2; /* half of all stand in the longest message */
	else
		blocks = coll_owned(coll) ? n : 1;
	return fmax(ceil(bytes / (blocks * strands * slot)), 1);
}

/*
 * What passes a link. A chunk waits for its rounds; while it does, other strands' may pass, and in a stream the next
 * one. A rank that talks to all others at once pays for each message, if less than for a round. `ends` of a byte's price are
 * copies, not the cable's time: those of a channel are made, and its rounds waited for, while another's bytes pass. 0: in memory,
 * where nothing passes by itself.
 */
static double passing(const char *algo, enum coll coll, int n, struct volume v, double chunks, int channels,
                      struct link_cost c, double ends)
{
	double strands = strands_of(algo, coll, channels), wire = v.wire * c.beta;
	double round = c.alpha + (is_wide(algo) ? (n - 2) * c.gap : 0);
	if (is_stream(algo, coll))
		return v.rounds * round + chunks * c.gap + wire;
	double beside = is_wide(algo) ? 1 : channels, phases = strands / beside;
	double chunk = v.rounds / phases * round + wire / strands / chunks;
	double busy = ends > 0 && beside > 1 ? v.rounds * round / beside + v.wire * fmax(c.beta - ends, ends)
	                                     : v.rounds * round + wire;
	return fmax(busy, (chunks + phases - 1) * chunk);
}

/* Ranks whose streams come in at one rank at about the same time. */
static int senders(const char *algo, enum coll coll, int n)
{
	if (is_wide(algo))
		return n - 1;
	return strcmp(algo, "ring") == 0 || is_stream(algo, coll) ? 1 : log2_up(n);
}

static double work(const struct tuner *t, struct volume v)
{
	return v.reduced * t->reduce + v.copied * t->copy;
}

/*
 * How an algorithm uses the levels. Hierarchies have one algorithm inside hosts and one across them, with a share of
 * the data for each rank of a host. Halving and doubling go to the next rank first; where ranks stand host by host they
 * have levels, too. NULL: it has none, and all of its messages are taken to cross.
 */
struct levels {
	const char *near, *far;
	bool shared;  /* a rank carries across only its share of the data */
	bool streams; /* chunks go from level to level */
};

static struct levels levels_of(const struct tuner *t, const struct algo *a, const struct query *q)
{
	int n = t->shape->nranks, hosts = t->shape->nhosts;
	bool two = q->coll == COLL_ALLREDUCE && hosts > 1 && n > hosts && n % hosts == 0;
	if (is(a, "hierarchy-ring"))
		return (struct levels){"pairwise", "ring", true, true};
	if (is(a, "hierarchy"))
		return (struct levels){"pairwise",
		                       q->coll == COLL_ALLREDUCE   ? "doubling"
		                       : q->coll == COLL_ALLGATHER ? "bruck"
		                                                   : "binomial",
		                       true, true};
	if (two && is(a, "halving") && (n & (n - 1)) == 0)
		return (struct levels){"halving", "halving", true, false};
	if (two && is(a, "doubling"))
		return (struct levels){"doubling", "doubling", false, false};
	return (struct levels){0};
}

/* All ranks of a host leave it by the same way. */
static double two_levels(const struct tuner *t, const struct query *q, struct levels l, int channels)
{
	int hosts = t->shape->nhosts, local = t->shape->nranks / hosts > 1 ? t->shape->nranks / hosts : 1;
	double bytes = (double)q->bytes, slot = (double)t->slot;
	struct volume near = volume_of(l.near, q->coll, local, bytes, t->slot);
	struct volume far = volume_of(l.far, q->coll, hosts, bytes, t->slot);
	double own = l.shared ? bytes / local : bytes, here = 0;
	/* what is one strand has the same chunks inside and across */
	double chunks = chunks_of(l.far, q->coll, hosts, l.streams ? own : bytes, slot, channels);
	if (local > 1) /* chunks that wait for their rounds do so across */
		here = passing(l.near, q->coll, local, near, l.streams ? 1 : chunks, channels, t->near, 0) +
		       work(t, near);
	if (l.shared)
		far.reduced /= local;
	else
		far.wire *= local, far.rounds = log2_up(hosts); /* who stands in for another is a neighbour of it */
	/* ranks that carry shares of a vector make their copies at the same time */
	struct link_cost way = t->far;
	double ends = t->ends, spared = l.shared ? ends * (local - 1) / local : 0;
	way.beta -= spared;
	double there = passing(l.far, q->coll, hosts, far, chunks, channels, way, ends - spared) + work(t, far);
	/* in a hierarchy the levels are strands: while a chunk is across, others are inside */
	return l.streams ? fmax(here, there) + fmin(here, there) / chunks : here + there;
}

double model_plan(const struct tuner *t, const struct algo *a, const struct query *q, int channels)
{
	int n = t->shape->nranks, hosts = t->shape->nhosts;
	struct levels l = levels_of(t, a, q);
	if (l.near)
		return two_levels(t, q, l, channels) * model_meeting(t, a, q);
	struct link_cost c = hosts > 1 ? t->far : t->near;
	struct volume v = volume_of(a->name, q->coll, n, (double)q->bytes, t->slot);
	double chunks = chunks_of(a->name, q->coll, n, (double)q->bytes, (double)t->slot, channels);
	double ends = hosts == n ? t->ends : 0; /* with more ranks a cable is seldom one rank's */
	double s = passing(a->name, q->coll, n, v, chunks, channels, c, ends) + work(t, v);
	/* several ranks of a host share its way out; a ring crosses it once */
	if (hosts > 1 && n > hosts && !is(a, "ring"))
		s += (n / hosts - 1) * v.wire * c.beta;
	return s * model_meeting(t, a, q);
}

/*
 * Where messages to a rank come from several peers, they meet at its cable as soon as some rank is late, and cables then work
 * in one direction at a time: 8 hosts at a switch, 1 Gbit/s each, got 0.97 of them with one stream coming in (ring), 0.96
 * with three (halving), 0.91 with seven (pairwise). Vectors of up to two slots are over before that.
 */
double model_meeting(const struct tuner *t, const struct algo *a, const struct query *q)
{
	struct levels l = levels_of(t, a, q);
	int hosts = t->shape->nhosts, n = l.near ? hosts : t->shape->nranks;
	if (hosts == 1 || q->bytes <= 2 * t->slot)
		return 1;
	return 1 + 0.01 * (senders(l.near ? l.far : a->name, q->coll, n) - 1);
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
