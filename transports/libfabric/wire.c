/* SPDX-License-Identifier: MIT */
/* See wire.h. Nothing here waits; memory order: the pump plays the missing side of the ring (src/engine/link.h). */
#include "wire.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"

#include <stdlib.h>
#include <string.h>

#define HEAD offsetof(struct slot, len) /* where a slot's image begins */
_Static_assert(offsetof(struct slot, sig) == HEAD + 4 && offsetof(struct slot, data) == HEAD + 8, "image of a slot");

static size_t image_bytes(uint32_t len)
{
	return len <= SLOT_INLINE ? offsetof(struct slot, data) - HEAD + len : sizeof(struct slot) - HEAD + len;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

int wire_create(struct wire **out, struct endpoint *e, int peer, bool outgoing, uint64_t tag, uint64_t pair,
                uint32_t payload, uint32_t nslots, uint32_t index)
{
	struct wire *w = calloc(1, sizeof(*w));
	uint32_t nonce;
	int rc = TUTTI_OK;

	if (!w || !(w->op = calloc(nslots, sizeof(*w->op)))) {
		free(w);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	rc = endpoint_cell(e, ring_bytes(payload, nslots) + LINE, &w->cell);
	if (rc != TUTTI_OK) {
		wire_free(w);
		return rc;
	}
	w->peer = peer;
	w->outgoing = outgoing;
	w->tag = tag;
	w->pair = pair;
	w->ring = (struct ring *)w->cell.at;
	w->bell = w->cell.at + ring_bytes(payload, nslots);
	w->payload = payload;
	w->mask = nslots - 1;
	w->stride = (uint32_t)slot_stride(payload);
	for (uint32_t i = 0; i < nslots; i++)
		w->op[i] = (struct op){.wire = w, .kind = outgoing ? OP_SEND : OP_RECEIVE, .slot = i};
	w->credit = (struct op){.wire = w, .kind = OP_CREDIT};
	auth_random(&nonce, sizeof(nonce));
	w->note = ((uint64_t)nonce << 32 | (uint64_t)index << 16) & e->note_mask;
	*out = w;
	return TUTTI_OK;
}

void wire_free(struct wire *w)
{
	endpoint_uncell(&w->cell);
	free(w->op);
	free(w);
}

struct record wire_offer(const struct endpoint *e, const struct wire *w)
{
	const void *at = w->outgoing ? (const void *)w->bell : (const void *)w->ring->first;

	return (struct record){.kind = RECORD_OFFER,
	                       .outgoing = w->outgoing,
	                       .tag = w->tag,
	                       .number = w->note,
	                       .at = endpoint_remote(e, &w->cell, at),
	                       .key = w->cell.region->key,
	                       .payload = w->payload,
	                       .nslots = w->mask + 1,
	                       .messages = w->message ? w->comm : 0};
}

int wire_meet(struct wire *w, const struct record *offer, fi_addr_t addr)
{
	if (offer->payload != w->payload || offer->nslots != w->mask + 1)
		return fail(TUTTI_EMISMATCH, "rank %d has %u slots of %u bytes for a link, this rank %u of %u", w->peer,
		            offer->nslots, offer->payload, w->mask + 1, w->payload);
	w->far_note = offer->number;
	w->far_at = offer->at;
	w->far_key = offer->key;
	w->addr = addr;
	w->met = true;
	return TUTTI_OK;
}

bool wire_is_free(const struct wire *w)
{
	return w->said_bye && w->heard_bye && w->got >= w->expected && !w->busy;
}

/* ---- giving back ------------------------------------------------------------------------------------------------- */

static int post_receive(struct endpoint *e, struct wire *w)
{
	uint32_t slot = (uint32_t)(w->armed & w->mask);
	uint8_t *to = (uint8_t *)wire_slot(w, w->armed) + HEAD;

	return (int)fi_trecv(e->ep, to, sizeof(struct slot) - HEAD + w->payload, w->cell.region->desc, FI_ADDR_UNSPEC,
	                     w->note | slot, NOTE_CREDITS, &w->op[slot].context);
}

int wire_arm(struct endpoint *e, struct wire *w)
{
	uint64_t last = atomic_load_explicit(&w->ring->credit, memory_order_acquire) + w->mask + 1; /* A2 */

	while (e->mode == FABRIC_MESSAGE && !w->ended && w->armed < last) {
		int rc = post_receive(e, w);
		if (rc != 0)
			return rc == -FI_EAGAIN ? 0 : rc;
		w->op[w->armed++ & w->mask].state = OP_PENDING;
		w->busy++;
	}
	return 0;
}

static int post_credits(struct endpoint *e, struct wire *w, uint32_t credits)
{
	uint64_t note = w->far_note | NOTE_NO_SLOT | (uint64_t)credits << 7;
	void *desc = w->cell.region->desc, *context = &w->credit.context;

	if (e->mode == FABRIC_WRITE)
		return (int)fi_writedata(e->ep, w->bell, sizeof(uint64_t), desc, note, w->addr, w->far_at, w->far_key,
		                         context);
	return (int)fi_tsend(e->ep, w->bell, sizeof(uint64_t), desc, w->addr, note, context);
}

int wire_give(struct endpoint *e, struct wire *w)
{
	uint32_t credits;
	int rc;

	if (w->credit.state == OP_PENDING || !w->met)
		return 0;
	credits = wire_owed(e, w);
	if (credits <= w->mask / 2)
		return 0;
	rc = post_credits(e, w, credits);
	if (rc != 0)
		return rc == -FI_EAGAIN ? 0 : rc;
	w->credit.state = OP_PENDING;
	w->told += credits;
	w->busy++;
	w->sent++;
	return 0;
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

/* What a slot refers to travels as if it were its payload; its address stays here. */
static void resolve(struct slot *s, struct op *op)
{
	struct slot_ref ref;
	uint32_t len = s->len & ~SLOT_REF;

	if (!(s->len & SLOT_REF))
		return;
	memcpy(&ref, s->data, sizeof(ref));
	memset(s->data, 0, sizeof(s->data));
	if (len <= SLOT_INLINE)
		memcpy(s->data, (const void *)(uintptr_t)ref.addr, len);
	else
		op->from = (const void *)(uintptr_t)ref.addr;
	s->len = len;
}

static int post_gathered(struct endpoint *e, struct wire *w, struct slot *s, struct op *op, uint64_t note)
{
	struct iovec iov[2] = {{(uint8_t *)s + HEAD, sizeof(*s) - HEAD}, {(void *)(uintptr_t)op->from, s->len}};
	struct fi_rma_iov far = {w->far_at + (uint64_t)op->slot * w->stride + HEAD, image_bytes(s->len), w->far_key};
	struct fi_msg_rma write = {iov, NULL, 2, w->addr, &far, 1, &op->context, note};

	if (e->mode == FABRIC_WRITE)
		return (int)fi_writemsg(e->ep, &write, FI_REMOTE_CQ_DATA | FI_COMPLETION | FI_TRANSMIT_COMPLETE);
	return (int)fi_tsendv(e->ep, iov, NULL, 2, w->addr, note, &op->context);
}

static int post_slot(struct endpoint *e, struct wire *w, struct slot *s, struct op *op, uint64_t note)
{
	void *desc = w->cell.region->desc, *image = (uint8_t *)s + HEAD;
	size_t bytes = image_bytes(s->len);

	if (op->from)
		return post_gathered(e, w, s, op, note);
	if (e->mode == FABRIC_WRITE)
		return (int)fi_writedata(e->ep, image, bytes, desc, note, w->addr,
		                         w->far_at + (uint64_t)op->slot * w->stride + HEAD, w->far_key, &op->context);
	return (int)fi_tsend(e->ep, image, bytes, desc, w->addr, note, &op->context);
}

int wire_send(struct endpoint *e, struct wire *w)
{
	while (w->posted - w->granted <= w->mask) {
		struct slot *s = wire_slot(w, w->posted);
		struct op *op = &w->op[w->posted & w->mask];
		uint32_t credits;
		int rc;

		if (atomic_load_explicit(&s->seq, memory_order_acquire) != w->posted + 1) /* A1 */
			return 0;
		resolve(s, op);
		credits = wire_owed(e, w->mirror);
		rc = post_slot(e, w, s, op, w->far_note | (uint64_t)credits << 7 | op->slot);
		if (rc != 0)
			return rc == -FI_EAGAIN ? 0 : rc;
		if (w->mirror)
			w->mirror->told += credits;
		op->state = OP_PENDING;
		w->busy++;
		w->posted++;
		w->sent++;
	}
	return 0;
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

/* Slots are given back to the sender in order, in whatever order they complete. */
static void give_back(struct wire *w)
{
	uint64_t credit = atomic_load_explicit(&w->ring->credit, memory_order_relaxed);

	while (credit < w->posted && w->op[credit & w->mask].state == OP_DONE) {
		struct op *op = &w->op[credit++ & w->mask];
		op->state = OP_IDLE;
		op->from = NULL;
	}
	atomic_store_explicit(&w->ring->credit, credit, memory_order_release); /* R2 */
}

void wire_done(struct wire *w, struct op *op)
{
	w->busy--;
	op->state = op->kind == OP_SEND ? OP_DONE : OP_IDLE;
	if (op->kind == OP_SEND)
		give_back(w);
}

void wire_failed(struct wire *w, struct op *op)
{
	w->busy--;
	op->state = op->kind == OP_SEND ? OP_FAILED : OP_IDLE;
}

void wire_deserted(struct wire *w)
{
	if (!w->outgoing)
		return;
	while (atomic_load_explicit(&wire_slot(w, w->posted)->seq, memory_order_acquire) == w->posted + 1) /* A1 */
		w->op[w->posted++ & w->mask].state = OP_DONE;
	for (uint32_t i = 0; i <= w->mask; i++)
		if (w->op[i].state == OP_FAILED || (w->op[i].state == OP_PENDING && !w->op[i].from))
			w->op[i].state = OP_DONE;
	give_back(w);
}

const char *wire_arrived(struct wire *w, uint32_t i, size_t bytes)
{
	struct slot *s;
	uint64_t seq;

	w->got++;
	if (w->ended)
		return NULL;
	if (i > w->mask)
		return "a slot outside the ring";
	s = wire_slot(w, i);
	seq = atomic_load_explicit(&s->seq, memory_order_relaxed);
	seq = seq ? seq + w->mask + 1 : i + 1;
	if (seq > w->told + w->mask + 1)
		return "a slot that is in use";
	if (s->len > w->payload || (bytes && bytes != image_bytes(s->len)))
		return "a slot whose length is not the one it states";
	atomic_store_explicit(&s->seq, seq, memory_order_release); /* R1 */
	return NULL;
}

const char *wire_granted(struct wire *w, uint32_t credits)
{
	if (w->granted + credits > w->posted)
		return "back slots that it never received";
	w->granted += credits;
	return NULL;
}
