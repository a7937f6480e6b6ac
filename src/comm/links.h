/* SPDX-License-Identifier: MIT */
/*
 * Plans of a communicator and the links that they run over: made on first use, kept until the communicator ends. Whoever has
 * the communicator calls these, one thread at a time.
 */
#ifndef TUTTI_LINKS_H
#define TUTTI_LINKS_H

#include "../algo/algo.h"
#include "../engine/link.h"
#include "../plan/plan.h"
#include "../transport.h"

struct tutti_comm;
struct world_transport;

/** A link of this communicator. */
struct comm_link {
	struct link link;
	struct link_spec spec;
	struct world_transport *by;
	struct comm_link *next;
};

/** A plan that was built, with its links. */
struct comm_plan {
	enum coll coll;
	const struct algo *algo; /* NULL: point to point */
	int root, channels;
	struct plan *plan;
	struct link **links;
	int connected; /* the first so many links are ready */
	bool places;   /* some of them heed places */
	struct comm_plan *next;
};

struct links {
	struct comm_link *list;
	struct comm_plan *plans;
};

/** The plan of (coll, algo, root, channels), kept or new; NULL: out of memory. */
struct comm_plan *links_plan(struct tutti_comm *c, enum coll coll, const struct algo *algo, int root, int channels);
/** Connects what is not yet: TUTTI_OK, LINK_PENDING, or an error. */
int links_connect(struct tutti_comm *c, struct comm_plan *p);
/** Ends the network links of a communicator that has failed: nothing is sent from its callers' memory any more. */
void links_cut(struct tutti_comm *c);
/** Ends all of them; and what peers have sent over links that this rank never made is forgotten. */
void links_end(struct tutti_comm *c);
void links_free(struct links *l);

#endif
