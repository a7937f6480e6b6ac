/* SPDX-License-Identifier: MIT */
/*
 * The tuner chooses how a call is run, from values that all ranks know: collective, bytes, type, operation, ranks, hosts,
 * kinds of links, overrides. All that can do the call compete by the prices of the cost model (model.h), the direct tier
 * among them. All ranks must choose alike: see "Choice" in docs/design.md for why a price has the same bits on all of them.
 */
#ifndef TUTTI_TUNER_H
#define TUTTI_TUNER_H

#include "../algo/algo.h"
#include "costs.h"
#include "tutti.h"

struct wire_codec;

struct tuner {
	const struct shape *shape;
	bool direct; /* all ranks of the communicator share memory */
	bool reproducible;
	struct link_cost intra, inter; /* inside a host; between hosts (or wherever the slowest link is) */
	struct direct_cost direct_cost;
	double copy, reduce;        /* seconds a byte */
	double ends;                /* of inter.beta, what is not the cable's: the ends' own copies */
	const struct costs *preset; /* choices that go before all prices; NULL: none */
	size_t slot;                /* payload of a slot */
	int channels;               /* TUTTI_CHANNELS; 0: chosen */
	int sockets, peers;         /* that a plan may have at a rank; 0: no limit */
	/* per collective: names allowed by TUTTI_ALGO, as bits over algo_table, DIRECT_BIT for the direct tier */
	uint64_t allowed[COLL_COUNT];
	bool forced[COLL_COUNT];
};

#define DIRECT_BIT (1ull << 63)

struct query {
	enum coll coll;
	size_t bytes; /* of the larger buffer */
	size_t esize;
	int root;
	bool folded_once;  /* only by algorithms that fold each block on one rank: ALGO_FOLDS_ONCE */
	bool fold_matters; /* the result depends on the order of the fold: float sums, products, averages */
};

struct choice {
	const struct algo *algo; /* NULL: the direct tier */
	bool two_shot;           /* direct tier */
	int channels;
	double seconds;                 /* predicted */
	const struct wire_codec *codec; /* of links between hosts, or NULL; the caller's */
};

/** Takes over the prices of links of two kinds, inside a host and between hosts, and the choices of *c, which must last. */
void tuner_prices(struct tuner *t, const struct costs *c, enum cost_link intra, enum cost_link inter);

/** Data between hosts has `coded` bytes instead of `plain`. */
void tuner_narrow(struct tuner *t, size_t coded, size_t plain);

/** Parses TUTTI_ALGO; EINVAL names the part, the place and what exists. */
int tuner_allow(struct tuner *t, const char *text);
/** EINVAL when overrides leave nothing that can do it. */
int tuner_choose(const struct tuner *t, const struct query *q, struct choice *out);

#endif
