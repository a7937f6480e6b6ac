/* SPDX-License-Identifier: MIT */
/*
 * The engine runs a plan over links: the one interpreter of steps, for every collective, algorithm and transport.
 * A run is resumable: engine_advance does what can be done without waiting and returns.
 *
 * Several runs of a communicator may be under way. They share its links, and a link's slots are in issue order on both of
 * its sides: each run draws a ticket for every link when it begins, and a step waits until it is its run's turn on the
 * links that it uses. A link goes to the next run after this run's last step on it, long before the run is over.
 */
#ifndef TUTTI_ENGINE_H
#define TUTTI_ENGINE_H

#include "../kernel/kernel.h"
#include "../plan/layout.h"
#include "../plan/plan.h"
#include "link.h"

struct crew;
struct wire_codec;

struct strand_run {
	size_t chunk;      /* its cursor: chunks finished */
	int32_t step;      /* next, relative to the strand's first */
	int32_t told_step; /* likewise of what links were told: where slots are to go, for all steps before this one */
	size_t told_chunk;
	struct link *awaits; /* had nothing for that step; NULL: not known */
};

/** A run's part in a link. */
struct link_use {
	uint32_t ticket;
	uint64_t end; /* slots of the link once this run has done its part; as of its last step there */
};

/** One call in progress. The state of each strand and link follows it in memory. */
struct run {
	const struct plan *plan;
	struct link **links;  /* per plan->links entry; all ready */
	struct link_use *use; /* likewise */
	struct layout layout;
	const uint8_t *in;
	uint8_t *out;
	uint8_t *tmp;                   /* nstrands * nblocks * chunk * esize bytes, when the plan uses it */
	uint8_t *bounce;                /* one slot's payload, for reads of a peer's memory that are not plain copies */
	size_t esize, chunk, nchunks;   /* chunk: elements of a block in one step */
	struct crew *crew;              /* helps with long stretches; NULL: nobody */
	const struct wire_codec *codec; /* what the elements are in on links between hosts; NULL: as they are */
	bool rounds;                    /* with a codec: the whole sum is what the codec makes of it, on all ranks */
	uint8_t *plain, *code;          /* with a codec: one slot's payload each, of elements and of their code */
	kernel2_fn *reduce, *final;
	uint32_t divisor;
	uint32_t sig;
	int left;             /* strands that are not finished */
	int turn;             /* strand to try first */
	bool leased;          /* some slot refers to this rank's memory */
	bool places;          /* links are told where what comes is to go */
	bool told;            /* and one was */
	bool meets;           /* empty steps of chunk 0 pass over their links like others, for the signatures to meet */
	bool pairs;           /* counts are known to pairs of ranks only: each link's signature has its own */
	struct link *foreign; /* has a slot with another signature or length: ranks disagree; NULL: none */
	int status;           /* after ADVANCE_FAILED; the text is the thread's message */
	struct link *failed_on; /* after that: the link with the rank of which the text speaks; NULL: of none */
	struct strand_run strand[];
};

enum advance { ADVANCE_STUCK, ADVANCE_MOVED, ADVANCE_DONE, ADVANCE_FAILED };

/** Of a link whose two ranks alone know how many elements pass. */
static inline uint32_t pair_signature(uint32_t sig, size_t count)
{
	return sig ^ (uint32_t)(count * 0x9e3779b97f4a7c15u >> 32);
}

/** Elements of a block in one chunk so that `max_set` of them fill at most one slot of `payload` bytes; 0: none fits. */
size_t engine_chunk(size_t payload, int max_set, size_t esize);

/**
 * How blocks of `len` elements at most are cut: elements of a chunk, and chunks. EUNSUPPORTED: a slot of `payload` bytes is too
 * small for the plan.
 */
int engine_cut(const struct plan *p, size_t payload, size_t esize, size_t len, size_t *chunk, size_t *nchunks);

/** Memory for a run of the plan. */
size_t engine_bytes(const struct plan *p);

/** The run has all but its strands, uses and tickets. Runs of a communicator begin in issue order. */
void engine_begin(struct run *run);

/**
 * Before the caller gets its buffers back: where a run ended early, no peer reads what was lent to it any more, or will. Its
 * links are of no more use then. true: a network may still be sending from them or writing to them, and its links must be cut.
 */
bool engine_end(struct run *run);

/** ADVANCE_FAILED: a peer's memory could not be read. Pumps nothing. */
enum advance engine_advance(struct run *run);

#endif
