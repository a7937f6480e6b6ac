/* SPDX-License-Identifier: MIT */
/*
 * Phases: the parts that algorithms share and that a hierarchy puts together. A phase is an algorithm among the members
 * of a team: all ranks, those of one host, or one of each host. It appends steps to the strand that is open.
 */
#ifndef TUTTI_TEAM_H
#define TUTTI_TEAM_H

#include "algo.h"

struct team {
	int n, me;             /* how many members, and which one this rank is */
	int *rank;             /* member -> rank */
	struct block_set *own; /* member -> the blocks that it owns in this phase, perhaps none */
	int lane;
	enum plan_buf in;  /* what each member puts in stands here, */
	enum plan_buf out; /* what comes out goes here; may be the same */
	uint8_t final;     /* STEP_FINAL when the sums of this phase are the whole sums */
};

/** A team of n with empty tables, IN to OUT on lane 0; false (and the builder has failed) when memory is out. */
bool team_make(struct plan_builder *b, struct team *t, int n);
void team_free(struct team *t);
/** A team of all ranks. Member i owns block rank[i] * parts + part; its sums are final. */
bool team_of_all(struct plan_builder *b, struct team *t, const struct plan_args *a, int parts, int part);
/** The same, but in the order of a ring: the ranks of one host stand next to each other. */
bool team_by_host(struct plan_builder *b, struct team *t, const struct plan_args *a, int parts, int part);
/** The member that has this rank, or -1. */
int team_member(const struct team *t, int rank);
/** Turns the ring of members round; member 0 stays. */
void team_reverse(struct team *t);

static inline int wrap(int i, int n)
{
	return (i % n + n) % n;
}

/** The largest power of two <= n, n >= 1. */
static inline int power_below(int n)
{
	int p = 1;
	while (p <= n / 2)
		p *= 2;
	return p;
}

/** The smallest d with 2^d >= n, n >= 1: the rounds in which everybody can have heard of everybody. */
static inline int log2_up(int n)
{
	int d = 0;
	while (1 << d < n)
		d++;
	return d;
}

/** Links to and from a member on the team's lane. */
static inline int16_t to_member(struct plan_builder *b, const struct team *t, int member)
{
	return (int16_t)plan_to(b, t->rank[member], t->lane);
}
static inline int16_t from_member(struct plan_builder *b, const struct team *t, int member)
{
	return (int16_t)plan_from(b, t->rank[member], t->lane);
}

/** The plain steps: `set` of a buffer to a member, from a member, to another buffer. */
static inline void send_to(struct plan_builder *b, const struct team *t, int member, enum plan_buf buf,
                           struct block_set set)
{
	plan_step(b, (struct step){.recv = -1, .send = to_member(b, t, member), .src = (uint8_t)buf, .src_set = set});
}
static inline void recv_from(struct plan_builder *b, const struct team *t, int member, enum plan_buf buf,
                             struct block_set set)
{
	plan_step(b, (struct step){.recv = from_member(b, t, member), .send = -1, .dst = (uint8_t)buf, .dst_set = set});
}
static inline void copy(struct plan_builder *b, enum plan_buf from, enum plan_buf to, struct block_set set)
{
	plan_step(b, (struct step){.recv = -1,
	                           .send = -1,
	                           .src = (uint8_t)from,
	                           .src_set = set,
	                           .dst = (uint8_t)to,
	                           .dst_set = set});
}

/** The same for empty messages. */
static inline void send_token(struct plan_builder *b, const struct team *t, int member)
{
	plan_step(b, (struct step){.recv = -1, .send = to_member(b, t, member), .flags = STEP_TOKEN});
}
static inline void recv_token(struct plan_builder *b, const struct team *t, int member)
{
	plan_step(b, (struct step){.recv = from_member(b, t, member), .send = -1, .flags = STEP_TOKEN});
}

/*
 * Beside each phase stands what it comes to among n members: *_leg, of the collective that it is. Each member owns a block, or all have
 * one block in common.
 */

/** Every member's blocks are summed over the team and end in `out` of their owner. */
void ring_reduce_scatter(struct plan_builder *b, const struct team *t);
/** Every member's blocks go from its `in` to everybody's `out`. */
void ring_allgather(struct plan_builder *b, const struct team *t);
/** Both, joined: the last sum of a block is passed on in the same step. */
void ring_allreduce(struct plan_builder *b, const struct team *t);
struct leg ring_leg(enum coll coll, int n);

/** The same by direct messages; each owner folds in the order of members. */
void pairwise_reduce_scatter(struct plan_builder *b, const struct team *t);
void pairwise_allgather(struct plan_builder *b, const struct team *t);
struct leg pairwise_leg(enum coll coll, int n);

/** The two halves of that reduce-scatter: this member sends the others theirs; */
void pairwise_give(struct plan_builder *b, const struct team *t);
/** it folds `set`, which all others send to it, into `out`. `in` must not be BUF_TMP. */
void team_fold_in_order(struct plan_builder *b, const struct team *t, struct block_set set);

/** `set` is summed over the team and ends in everybody's `out`. */
void doubling_allreduce(struct plan_builder *b, const struct team *t, struct block_set set);
struct leg doubling_leg(int n);

/** `set` goes from the `in` of member `root` to everybody's `out`. */
void binomial_broadcast(struct plan_builder *b, const struct team *t, int root, struct block_set set);
/** `set` is summed over the team and ends in the `out` of member `root`; the others have no `out`. */
void binomial_reduce(struct plan_builder *b, const struct team *t, int root, struct block_set set);
struct leg binomial_leg(enum coll coll, int n);

/** Nobody goes on before all have come. */
void dissemination_barrier(struct plan_builder *b, const struct team *t);
struct leg dissemination_leg(int n);

#endif
