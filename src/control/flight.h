/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder: the last calls of one rank on one communicator. The rank's own thread writes a record when a call
 * starts and marks it when it ends; the service thread of the same process reads it, for mismatch checks, "who is late"
 * and the dump. Single writer; every word is atomic, so a reader may see a record being replaced, and knows it by the
 * number that it reads before and after.
 */
#ifndef TUTTI_FLIGHT_H
#define TUTTI_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../plan/plan.h"
#include "tutti.h"

#define FLIGHT_CALLS 64

/** What a rank called. Two ranks' calls of equal number must be equal in all but `number`. */
struct call {
	uint64_t number; /* per communicator, from 1 */
	uint64_t count;  /* v-forms: a hash of the counts, with `vector` set */
	uint64_t way;    /* how the rank runs it: call_way */
	uint8_t coll, dtype, op, vector;
	int32_t root; /* of a message: the peer; -1: none */
};

static inline uint64_t call_word(const struct call *c)
{
	return (uint64_t)c->coll | (uint64_t)c->dtype << 8 | (uint64_t)c->op << 16 | (uint64_t)c->vector << 24 |
	       (uint64_t)(uint32_t)c->root << 32;
}

/**
 * Algorithm, channels, codec and chunk as one number. `algo`: 1 + its place in algo_table, or one of the direct tier's ways;
 * `codec`: 1 + its row, or 0; `chunk`: elements, 0 in the direct tier. 0 is a call in which nothing moves.
 */
#define WAY_ONE_SHOT 254u
#define WAY_TWO_SHOT 255u
static inline uint64_t call_way(unsigned algo, int channels, unsigned codec, size_t chunk)
{
	return algo | (uint64_t)(channels & 0xff) << 8 | (uint64_t)(codec & 0xff) << 16 | (uint64_t)chunk << 24;
}

struct flight {
	_Atomic uint64_t started, finished; /* numbers of the last call started and finished */
	_Atomic uint64_t messages;          /* sends and receives finished so far */
	struct flight_slot {
		_Atomic uint64_t number, count, way, word, begin_ns,
		        end_ns; /* begin_ns: 0 unless TUTTI_FLIGHT asks for times */
	} slot[FLIGHT_CALLS];
	bool timed;
};

uint64_t flight_clock(void);

/** Call `number`, which is *c otherwise, has begun. */
static inline void flight_start(struct flight *f, const struct call *c, uint64_t number)
{
	struct flight_slot *s = &f->slot[number % FLIGHT_CALLS];
	atomic_store_explicit(&s->number, 0, memory_order_relaxed);
	atomic_store_explicit(&s->count, c->count, memory_order_release);    /* R6 */
	atomic_store_explicit(&s->way, c->way, memory_order_release);        /* R6 */
	atomic_store_explicit(&s->word, call_word(c), memory_order_release); /* R6 */
	if (f->timed)
		atomic_store_explicit(&s->begin_ns, flight_clock(), memory_order_relaxed);
	atomic_store_explicit(&s->number, number, memory_order_release);  /* R6 pairs with A6 in flight_read */
	atomic_store_explicit(&f->started, number, memory_order_release); /* R13 */
}

static inline void flight_finish(struct flight *f, uint64_t number)
{
	if (f->timed)
		atomic_store_explicit(&f->slot[number % FLIGHT_CALLS].end_ns, flight_clock(), memory_order_relaxed);
	atomic_store_explicit(&f->finished, number, memory_order_release); /* R13 */
}

/** By one thread at a time: the one that has the communicator. */
static inline void flight_message_done(struct flight *f)
{
	uint64_t n = atomic_load_explicit(&f->messages, memory_order_relaxed);
	atomic_store_explicit(&f->messages, n + 1, memory_order_relaxed);
}

/** The record of call `number`; false when it is not (or no longer) there. Any thread of this process. */
bool flight_read(struct flight *f, uint64_t number, struct call *out);

/** "allreduce #1042 (4096 x bf16, sum)" */
char *call_text(const struct call *c, char *buf, size_t cap);
/** How it is run: "ring x2 in chunks of 4096 elements" */
char *call_way_text(const struct call *c, char *buf, size_t cap);

#endif
