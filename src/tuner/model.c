/* SPDX-License-Identifier: MIT */
/* The prices of volumes; see model.h. */
#include "model.h"

#include <float.h>
#include <math.h>

#include "../direct/direct.h"

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "prices must have the same bits on all machines: each operation rounds to double, and none is reordered"
#endif

static double waiting(const struct leg *l, struct link_cost c)
{
	int further = l->messages > l->rounds ? l->messages - l->rounds : 0;
	return l->rounds * c.alpha + further * c.gap;
}

/* Bytes that `blocks` blocks of a channel are on all channels together. */
static double bytes_of(const struct volume *v, double bytes, int blocks)
{
	return bytes * blocks / v->blocks;
}

/* Chunks that a strand goes through one after the other, each with all of its rounds. */
static double chunks_of(const struct volume *v, double bytes, double slot)
{
	return larger(ceil(bytes_of(v, bytes, v->largest) / v->channels / slot), 1);
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

/* Chunks that follow each other: each rank behind the first has the first chunk one chunk's time later. */
static double streaming(const struct tuner *t, const struct volume *v, double bytes, struct link_cost c)
{
	double chunks = chunks_of(v, bytes, (double)t->slot) * v->channels, further = chunks - 1;
	double chunk = bytes_of(v, bytes, v->largest) / chunks;
	double wire = bytes_of(v, bytes, v->all.sent) + (v->pipeline - 1) * chunk;
	return waiting(&v->all, c) + further * v->all.messages * c.gap + wire * c.beta + waiting(&v->inside, t->intra) +
	       v->inside.rounds * chunk * t->intra.beta;
}

/*
 * What passes a link. A chunk waits for its rounds; while it does, other strands' may pass. A rank that talks to many others at once
 * pays for each message, if less than for a round. `ends` of a byte's price are copies, not the cable's time: those of a channel
 * are made, and its rounds waited for, while another's bytes pass. 0: in memory, where nothing passes by itself.
 */
static double passing(const struct volume *v, const struct leg *l, double wire, double chunks, struct link_cost c,
                      double ends)
{
	double rounds = waiting(l, c), bytes = wire * c.beta;
	double chunk = rounds / v->phases + bytes / v->phases / v->channels / chunks;
	double busy = ends > 0 && v->channels > 1 ? rounds / v->channels + wire * larger(c.beta - ends, ends)
	                                          : rounds + bytes;
	return larger(busy, (chunks + v->phases - 1) * chunk);
}

static double work(const struct tuner *t, const struct volume *v, const struct leg *l, double bytes)
{
	return bytes_of(v, bytes, l->reduced) * t->reduce;
}

/* All messages are taken to go by the dearest links; of a pipeline, those that the volume does not put inside hosts. */
static double one_level(const struct tuner *t, const struct volume *v, double bytes)
{
	int n = t->shape->nranks, hosts = t->shape->nhosts;
	struct link_cost c = hosts > 1 ? t->inter : t->intra;
	double wire = bytes_of(v, bytes, v->all.sent), ways = hosts > 1 ? (v->exits - 1) * wire * c.beta : 0;
	double ends = hosts == n ? t->ends : 0; /* with more ranks a cable is seldom one rank's */
	double s = v->pipeline ? streaming(t, v, bytes, c)
	                       : passing(v, &v->all, wire, chunks_of(v, bytes, (double)t->slot), c, ends);
	return s + ways + work(t, v, &v->all, bytes);
}

/* Ranks that leave a host at the same time share its way out, and make their own copies of what they carry at the same time. */
static double two_levels(const struct tuner *t, const struct volume *v, double bytes)
{
	double chunks = chunks_of(v, bytes, (double)t->slot), spared = t->ends * (v->exits - 1) / v->exits;
	struct link_cost way = t->inter;
	way.beta -= spared;
	double here = passing(v, &v->inside, bytes_of(v, bytes, v->inside.sent), v->joined ? chunks : 1, t->intra, 0) +
	              work(t, v, &v->inside, bytes);
	double there = passing(v, &v->all, bytes_of(v, bytes, v->all.sent * v->exits), chunks, way, t->ends - spared) +
	               work(t, v, &v->all, bytes);
	/* where the levels are strands: while a chunk is across, others are inside */
	return v->joined ? here + there : larger(here, there) + smaller(here, there) / chunks;
}

static struct volume volume_of(const struct tuner *t, const struct algo *a, enum coll coll, int channels)
{
	struct plan_args args = {.coll = coll, .nranks = t->shape->nranks, .channels = channels, .shape = t->shape};
	struct volume v;
	algo_volume(a, &args, &v);
	return v;
}

/*
 * Where messages to a rank come from several peers, they meet at its cable as soon as some rank is late, and cables then work
 * in one direction at a time: 8 hosts at a switch, 1 Gbit/s each, got 0.97 of them with one stream coming in (ring), 0.96
 * with three (halving), 0.91 with seven (pairwise). Vectors of up to two slots are over before that.
 */
static double meeting(const struct tuner *t, const struct volume *v, const struct query *q)
{
	if (t->shape->nhosts == 1 || q->bytes <= 2 * t->slot)
		return 1;
	return 1 + 0.01 * (v->all.sources - 1);
}

double model_plan(const struct tuner *t, const struct algo *a, const struct query *q, int channels)
{
	struct volume v = volume_of(t, a, q->coll, channels);
	double bytes = (double)q->bytes;
	return (v.inside.rounds && !v.pipeline ? two_levels : one_level)(t, &v, bytes) * meeting(t, &v, q);
}

double model_meeting(const struct tuner *t, const struct algo *a, const struct query *q)
{
	struct volume v = volume_of(t, a, q->coll, 1);
	return meeting(t, &v, q);
}

int model_sources(const struct tuner *t, const struct algo *a, enum coll coll)
{
	return volume_of(t, a, coll, 1).all.sources;
}

/* ---- the direct tier --------------------------------------------------------------------------------------------- */

double model_direct(const struct tuner *t, const struct query *q, bool two_shot)
{
	int n = t->shape->nranks;
	struct direct_volume v = direct_volume(q->coll, n, two_shot);
	double bytes = (double)q->bytes;
	return v.rounds * t->direct_cost.alpha + bytes * v.read / n * t->direct_cost.beta +
	       bytes * v.reduced / n * t->reduce + bytes * v.copied / n * t->copy;
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

/* A connection joins two ranks on a lane. Where a rank has fewer peers on other hosts this is more than it takes: a limit. */
int model_sockets(const struct tuner *t, const struct algo *a, enum coll coll, int channels)
{
	struct volume v = volume_of(t, a, coll, channels);
	return t->shape->nhosts == 1 ? 0 : v.all.peers * v.phases * v.channels;
}

int model_peers(const struct tuner *t, const struct algo *a, enum coll coll, int channels)
{
	struct volume v = volume_of(t, a, coll, channels);
	return t->shape->nhosts == 1 ? 0 : v.all.peers < t->shape->nranks - 1 ? v.all.peers : t->shape->nranks - 1;
}
