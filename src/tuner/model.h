/* SPDX-License-Identifier: MIT */
/*
 * The cost model: the time of a call by an algorithm, in seconds, and its number of sockets. It knows no algorithm. The
 * cost of a plan is its volume, which the algorithm's row gives (struct volume in algo.h): rounds of messages, blocks
 * that pass the busiest rank's links, blocks that a rank reduces. A link has prices for these (costs.h). The model is
 * coarse: it must rank algorithms, not predict times.
 */
#ifndef TUTTI_MODEL_H
#define TUTTI_MODEL_H

#include "tuner.h"

/** By a plan of `algo` with so many channels. */
double model_plan(const struct tuner *t, const struct algo *algo, const struct query *q, int channels);
/** How many times as long it takes because streams meet at cables: measured, and nothing that a simulation of messages shows. */
double model_meeting(const struct tuner *t, const struct algo *algo, const struct query *q);
/** Ranks whose streams come in at one rank at the same time. */
int model_sources(const struct tuner *t, const struct algo *algo, enum coll coll);
/** By the direct tier. */
double model_direct(const struct tuner *t, const struct query *q, bool two_shot);

/** Sockets that no rank exceeds with a plan of `algo`, where only the ranks of a host share memory. */
int model_sockets(const struct tuner *t, const struct algo *algo, enum coll coll, int channels);
/** The same for ranks on other hosts that it talks to. */
int model_peers(const struct tuner *t, const struct algo *algo, enum coll coll, int channels);

#endif
