/*
 * The cost model: what a call would take by an algorithm, in seconds, and how many sockets. An algorithm is a volume:
 * rounds of messages, bytes that pass the busiest link end, bytes that the busiest rank reduces and copies; a link has
 * prices for these (costs.h). It is as coarse as that: it must put algorithms in order, not foretell times.
 */
#ifndef TUTTI_MODEL_H
#define TUTTI_MODEL_H

#include "tuner.h"

/** By a plan of `algo` with so many channels. */
double model_plan(const struct tuner *t, const struct algo *algo, const struct query *q, int channels);
/** How many times as long it takes because streams meet at cables: measured, and nothing that a simulation of messages shows. */
double model_meeting(const struct tuner *t, const struct algo *algo, const struct query *q);
/** By the direct tier. */
double model_direct(const struct tuner *t, const struct query *q, bool two_shot);

/** Sockets that no rank exceeds with a plan of `algo`, where only the ranks of a host share memory. */
int model_sockets(const struct algo *algo, enum coll coll, const struct shape *shape, int channels);
/** The same for ranks on other hosts that it talks to. */
int model_peers(const struct algo *algo, const struct shape *shape, int channels);

#endif
