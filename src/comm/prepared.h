/* SPDX-License-Identifier: MIT */
/*
 * Prepared calls. Everything but the addresses of the buffers repeats from call to call in a model. So what follows from the
 * rest (that it is valid, which bytes it touches, how it is run, what other ranks compare) is worked out once for each shape
 * of call, and kept. A prepared call is read-only once made: what changes while a call runs is in its request.
 *
 * All of this belongs to the thread that uses the communicator. Others read prepared calls of requests that are queued: those
 * are held, and stay when they leave the table.
 */
#ifndef TUTTI_PREPARED_H
#define TUTTI_PREPARED_H

#include <string.h>

#include "../control/flight.h"
#include "../direct/direct.h"
#include "args.h"
#include "choose.h"
#include "links.h"

enum run_kind {
	RUN_COPY,   /* a communicator of one rank */
	RUN_SELF,   /* a message to oneself */
	RUN_DIRECT, /* the direct tier */
	RUN_PLAN    /* a plan, over links */
};

/** Elements of a chunk, and chunks. */
struct cut {
	size_t chunk, nchunks;
};

struct prepared {
	struct args
	        args; /* without in and out; what parts refer to stands in `words`, with packed places spelled out */
	struct extent touches;
	enum run_kind kind;
	int lane;                       /* which queue: 0 collectives, 1 + 2 peer sends, 2 + 2 peer receives */
	struct call record;             /* all but its number */
	uint64_t salt;                  /* of its signature, likewise */
	struct direct_call direct;      /* RUN_DIRECT */
	struct comm_plan *plan;         /* RUN_PLAN */
	const struct wire_codec *codec; /* RUN_PLAN: of links between hosts; NULL: none */
	struct cut cut; /* RUN_PLAN: of the plan's blocks. chunk 0: it can't be cut, as the run will say */
	/* of the table */
	bool packed, rpacked; /* the places are the sums of the counts before */
	bool dropped;         /* it has left the table; it ends with the last that holds it */
	unsigned held;        /* by so many requests */
	uint64_t hash;
	size_t bytes;
	struct prepared *next;    /* of its bucket */
	struct prepared *younger; /* made after this one */
	struct parts parts;
	size_t words[];
};

/**
 * A hash table. It grows with the number of its calls up to PREPARED_BYTES, then each new one replaces the oldest; the youngest
 * PREPARED_LEAST stay in any case.
 */
struct prepared_table {
	struct prepared **bucket;
	unsigned shift; /* of a hash, for the number of its bucket */
	unsigned count;
	size_t bytes;
	uint64_t made; /* so far */
	struct prepared *oldest, *youngest;
};

#define PREPARED_LEAST 64u
#define PREPARED_BYTES ((size_t)1 << 20)

/** A communicator has two: the v-forms, whose counts and places are part of the key, have one for themselves. */
struct prepared_calls {
	const struct prepared *last; /* the even call that was looked for last; NULL: none */
	struct prepared_table even, vector;
};

int prepared_open(struct prepared_calls *p);
/** Forgets all. */
void prepared_clear(struct prepared_calls *p);
void prepared_close(struct prepared_calls *p);

static inline const struct prepared *prepared_hold(const struct prepared *p)
{
	((struct prepared *)(uintptr_t)p)->held++;
	return p;
}
void prepared_release(const struct prepared *p);

static inline bool prepared_is(const struct prepared *p, const struct args *a)
{
	return memcmp(&p->args, a, offsetof(struct args, in)) == 0; /* the compiler makes a few compares of it */
}

int prepared_look(struct tutti_comm *c, struct prepared_calls *t, const struct args *a, const struct prepared **out);

/** What a call comes to, valid until the next call of this. EINVAL says what is wrong with it; ENOMEM. */
static inline int prepared_of(struct tutti_comm *c, struct prepared_calls *t, const struct args *a,
                              const struct prepared **out)
{
	/* mostly the same as before: no function, few instructions */
	*out = t->last;
	return t->last && !a->parts && prepared_is(t->last, a) ? TUTTI_OK : prepared_look(c, t, a, out);
}

/** How the blocks of a plan are cut for this call. Errors of engine_cut. */
int prepared_cut(const struct tutti_comm *c, const struct args *a, const struct plan *p, struct cut *cut);

/** Of its signature: what follows from all but the number; both ends of a message have the same. */
uint64_t call_salt(const struct call *record);

/** Of the call as number `number` of its kind; both ends of a message sign alike. */
static inline uint32_t call_signature(uint64_t salt, uint64_t number)
{
	uint64_t h = number * 0x9e3779b97f4a7c15u ^ salt;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return (uint32_t)(h >> 32);
}

#endif
