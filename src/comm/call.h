/*
 * A call: its arguments, and what follows from them. Everything but the addresses of the buffers repeats from call to call
 * in a model, so what follows from the rest (that it is valid, which bytes it touches, how it is run) is kept as a recipe. A
 * communicator keeps its recipes in two tables, one of them for the v-forms, whose counts and places are part of the key.
 */
#ifndef TUTTI_CALL_H
#define TUTTI_CALL_H

#include "../control/control.h"
#include "../direct/direct.h"
#include "../tuner/tuner.h"

struct tutti_comm;
struct comm_plan;

/** Arguments of a call. */
struct op {
	enum coll coll;
	enum tutti_dtype dtype;
	enum tutti_op op;
	int root; /* or peer; -1 */
	size_t count;
	const void *in;
	void *out;
	const size_t *counts, *displs, *rcounts, *rdispls; /* v-forms; rcounts, rdispls: alltoallv's receiving side */
};

/** Bytes that a call reads and writes on this rank. In place: in + in_at == out + out_at. */
struct extent {
	size_t in, out, in_at, out_at;
};

/** Elements of a chunk, and chunks. */
struct cut {
	size_t chunk, nchunks;
};

enum run_kind { RUN_ALONE, RUN_PLAN, RUN_DIRECT, RUN_SELF };

struct recipe {
	struct op op; /* without in and out; counts and displs stand in `arrays`, with packed places spelled out */
	struct extent touches;
	enum run_kind kind;
	int lane; /* which queue: 0 collectives, 1 + 2 peer sends, 2 + 2 peer receives */
	struct choice choice;
	struct comm_plan *plan;
	struct cut cut;     /* of the plan's blocks; chunk 0: it can't be done, as the run will say */
	struct call record; /* all but its number */
	uint64_t salt;      /* of its signature, likewise */
	struct direct_run direct;
	bool packed, rpacked; /* displs, rdispls are the sums of the counts before */
	uint64_t hash;
	size_t bytes;
	struct recipe *next;    /* of its bucket */
	struct recipe *younger; /* made after this one */
	size_t arrays[];
};

/**
 * A hash table of recipes. It grows with their number up to RECIPES_BYTES, then each new recipe replaces the oldest; the
 * youngest RECIPES_LEAST stay in any case.
 */
struct recipes {
	struct recipe **bucket;
	unsigned shift; /* of a hash, for the number of its bucket */
	unsigned count;
	size_t bytes;
	uint64_t made; /* so far */
	struct recipe *oldest, *youngest;
};

#define RECIPES_LEAST 64u
#define RECIPES_BYTES ((size_t)1 << 20)

static inline bool is_message(enum coll coll)
{
	return coll == COLL_SEND || coll == COLL_RECV;
}

static inline bool is_vector(const struct op *op)
{
	return op->counts != NULL;
}

int call_check_type(enum tutti_dtype t);
int call_check_op(enum tutti_op op);
int call_check_buffers_well(const struct op *op, const struct extent *x);
/** NULL buffers, and buffers that overlap otherwise than in place. The usual case, two buffers that don't, first. */
static inline int call_check_buffers(const struct op *op, const struct extent *x)
{
	const char *in = op->in, *out = op->out;
	return in && out && (in + x->in <= out || out + x->out <= in) ? TUTTI_OK : call_check_buffers_well(op, x);
}
/** How a collective is run here, or EINVAL when overrides leave nothing. */
int call_choose(const struct tutti_comm *c, const struct op *op, struct choice *choice);
/** The recipe of a call: valid until the next call of this. EINVAL says what is wrong with the call; ENOMEM. */
int recipe_of(struct tutti_comm *c, const struct op *op, struct recipe **out);
int recipes_open(struct recipes *t);
/** Forgets all. */
void recipes_clear(struct recipes *t);
void recipes_close(struct recipes *t);
/** Words of the v-forms' arrays of a call among n ranks; 0: it has none. */
static inline size_t vector_words(const struct op *op, int n)
{
	return is_vector(op) ? (op->rcounts ? 4 : 2) * (size_t)n : 0;
}
/** Copies the arrays into `to`, with packed places spelled out, and makes op refer to the copies. */
void keep_vectors(struct op *op, int n, size_t *to);

/** Of its signature: what follows from all but the number; both ends of a message have the same. */
uint64_t call_salt(const struct call *call);

/** Of the call as number `number` of its kind; both ends of a message sign alike. */
static inline uint32_t call_signature(uint64_t salt, uint64_t number)
{
	uint64_t h = number * 0x9e3779b97f4a7c15u ^ salt;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return (uint32_t)(h >> 32);
}

#endif
