/* SPDX-License-Identifier: MIT */
/*
 * Chain: every rank passes the data to the next one, in four pieces, so that the last ranks receive some while the first
 * ones still send. It is n - 1 messages deep, and short messages are pipelined as well.
 */
#include "team.h"

#define PIECES 4

static void hand_on(struct plan_builder *b, const struct team *t, int place, struct block_set piece)
{
	int next = wrap(t->me + 1, t->n), last = t->n - 1;
	if (place == 0) {
		send_to(b, t, next, BUF_IN, piece);
		copy(b, BUF_IN, BUF_OUT, piece);
		return;
	}
	plan_step(b, (struct step){
	                     .recv = from_member(b, t, wrap(t->me - 1, t->n)),
	                     .send = place < last ? to_member(b, t, next) : (int16_t)-1,
	                     .dst = BUF_OUT,
	                     .dst_set = piece,
	             });
}

static void build(struct plan_builder *b, const struct plan_args *a)
{
	struct team t;
	if (!team_of_all(b, &t, a, 1, 0))
		return;
	b->plan->nblocks = PIECES;
	b->plan->by_reference = true;
	plan_strand(b, -1);
	for (int i = 0; i < PIECES; i++)
		hand_on(b, &t, wrap(t.me - a->root, t.n), block_one(i));
	team_free(&t);
}

static void volume(struct volume *v, const struct plan_args *a)
{
	int others = a->nranks - 1;
	v->all = (struct leg){.rounds = others, .messages = PIECES, .sent = PIECES, .sources = 1, .peers = 2};
	v->blocks = PIECES;
	v->pipeline = others;
}

const struct algo algo_chain = {
        .name = "chain",
        .what = "each rank passes data to the next, in pieces: n - 1 deep; middle sizes, few ranks",
        .source = "folklore",
        .colls = 1u << COLL_BROADCAST,
        .build = build,
        .volume = volume,
};
