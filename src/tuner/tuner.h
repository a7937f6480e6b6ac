/*
 * The tuner chooses how a call is run, from values that all ranks know: collective, bytes, type, operation, ranks, hosts,
 * kinds of links, overrides. It is a cost model (latency, bytes on links, bytes reduced) with priors.
 */
#ifndef TUTTI_TUNER_H
#define TUTTI_TUNER_H

#include "../algo/algo.h"
#include "tutti.h"

/** Cost of one kind of link: seconds a message, seconds a byte. */
struct link_cost {
	double alpha, beta;
};

struct tuner {
	const struct shape *shape;
	bool direct; /* all ranks of the communicator share memory */
	bool reproducible;
	struct link_cost near, far; /* inside a host; between hosts (or wherever the slowest link is) */
	double gamma;               /* seconds a byte reduced */
	size_t slot;                /* payload of a slot */
	int channels;               /* TUTTI_CHANNELS; 0: chosen */
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
	bool fold_matters; /* the result depends on the order of the fold: float sums, products, averages */
};

struct choice {
	const struct algo *algo; /* NULL: the direct tier */
	bool two_shot;           /* direct tier */
	int channels;
	double seconds; /* predicted */
};

/** Parses TUTTI_ALGO; EINVAL names the part, the place and what exists. */
int tuner_allow(struct tuner *t, const char *text);
/** EINVAL when overrides leave nothing that can do it. */
int tuner_choose(const struct tuner *t, const struct query *q, struct choice *out);

#endif
