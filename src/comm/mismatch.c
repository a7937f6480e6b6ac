/* SPDX-License-Identifier: MIT */
/* Texts for slots of other calls. See mismatch.h. */
#include "mismatch.h"

#include <stdio.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "comm.h"

/* What a message's sender called: its slot's signature proves it, when one slot holds all of the message. */
static void describe_sent(const struct tutti_request *r, const struct slot *slot, char *text, size_t cap)
{
	size_t bytes = slot->len & ~SLOT_REF;
	for (int t = 0; t < KERNEL_DTYPES; t++) {
		size_t count = bytes / dtype_bytes((enum tutti_dtype)t);
		struct call sent = {.count = count, .coll = COLL_SEND, .dtype = (uint8_t)t};
		if (call_signature(call_salt(&sent), r->number) != slot->sig)
			continue;
		snprintf(text, cap, "%zu x %s", count, dtype_name((enum tutti_dtype)t));
		return;
	}
	snprintf(text, cap, "another count or type, %zu bytes of it in the first slot", bytes);
}

static void message_differs(struct tutti_comm *c, const struct tutti_request *r, const struct slot *slot)
{
	char sent[100];
	describe_sent(r, slot, sent, sizeof(sent));
	fail(TUTTI_EMISMATCH, "message %llu from rank %d to rank %d: rank %d sends %s, but rank %d receives %zu x %s",
	     (unsigned long long)r->number, r->prepared->args.root, c->rank, r->prepared->args.root, sent, c->rank,
	     r->prepared->args.count, dtype_name(r->prepared->args.dtype));
}

/* The counts of an alltoallv: the slot's signature proves how many elements its sender has, when it holds all of them. */
static void counts_differ(struct tutti_comm *c, const struct tutti_request *r, const struct link *l,
                          const struct slot *slot)
{
	int from = comm_rank_of(c, l->peer);
	size_t sent = (slot->len & ~SLOT_REF) / dtype_bytes(r->prepared->args.dtype);
	const struct parts *parts = r->prepared->args.parts;
	size_t expected = parts ? (parts->rcounts ? parts->rcounts : parts->counts)[from] : r->prepared->args.count;
	char text[64] = "another number of";
	if (slot->sig == pair_signature(r->sig, sent))
		snprintf(text, sizeof(text), "%zu", sent);
	fail(TUTTI_EMISMATCH, "rank %d sends %s elements to rank %d, but rank %d expects %zu from rank %d", from, text,
	     c->rank, c->rank, expected, from);
}

void mismatch_found(struct tutti_comm *c, struct tutti_request *r, struct link *l)
{
	bool message = request_is_message(r);
	uint64_t now = now_ns();
	if (!r->foreign_ns)
		r->foreign_ns = now;
	if (!message && !r->told) {
		control_waiting(c->control, r->number, 0);
		r->told = true;
	}
	if (!message && now - r->foreign_ns < VERDICT_NS)
		return;
	const struct slot *slot = l ? link_recv_begin(l) : NULL;
	if (message && slot)
		message_differs(c, r, slot);
	else if (r->run && r->run->pairs && slot)
		counts_differ(c, r, l, slot);
	else
		fail(TUTTI_EMISMATCH,
		     "what a peer sent is not what this rank expects: their counts for the pair differ");
	request_raise(c, r, TUTTI_EMISMATCH);
}
