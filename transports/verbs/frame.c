/* SPDX-License-Identifier: MIT */
/*
 * Modes send and uc: slots travel in frames, from and to registered buffers of the pair. Each frame's head brings along
 * how many frames its sender has received and posted anew, and slots given back on a channel. UC wants a SEND and its
 * RECV to be equally long, so there all frames are; it loses what finds no receive, or what the wire drops, so frames
 * are numbered.
 */
#include "../../src/util/error.h"
#include "pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_CHANNEL UINT32_MAX
#define RESERVE    4 /* receives for frames that only tell, beyond the window: then both sides' windows may be full */

struct frame {
	uint32_t number;    /* from 0 */
	uint32_t received;  /* the peer's frames whose receives are posted again */
	uint32_t id, check; /* channel at the receiver, and the low half of its tag; NO_CHANNEL: only tells */
	uint32_t credit;    /* slots given back on that channel, the low 32 bits */
	uint32_t len, sig;  /* of the slot; as bytes below: 0 in a frame that brings only credit */
	uint32_t at, bytes; /* what part of the payload follows */
	uint32_t brings;    /* 1: a part of a slot */
};

#define ROOM (FRAME_BYTES - (uint32_t)sizeof(struct frame))

struct frames {
	struct piece in, out; /* FRAME_BYTES each: receives, sends */
	uint32_t allowed;     /* frames that may be under way */
	uint32_t sent, freed; /* frames; those of them whose receives the peer has posted again */
	uint32_t received, told;
};

static uint8_t *buffer(const struct piece *p, uint32_t i)
{
	return p->at + (size_t)i * FRAME_BYTES;
}

int frames_begin(struct pair *p)
{
	struct frames *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return fail(TUTTI_ENOMEM, "out of memory");
	p->frames = f;
	f->allowed = p->receives - RESERVE;
	rc = piece_get(p->device, (size_t)p->receives * FRAME_BYTES, &f->in);
	return rc == TUTTI_OK ? piece_get(p->device, (size_t)p->depth * FRAME_BYTES, &f->out) : rc;
}

void frames_end(struct pair *p)
{
	piece_put(p->device, &p->frames->in);
	piece_put(p->device, &p->frames->out);
	free(p->frames);
}

bool frames_receive(struct pair *p, uint32_t index)
{
	const struct piece *in = &p->frames->in;
	struct ibv_sge sge = {.addr = (uintptr_t)buffer(in, index), .length = FRAME_BYTES, .lkey = in->lkey};
	struct ibv_recv_wr wr = {.wr_id = wr_name(p, index), .sg_list = &sge, .num_sge = 1}, *bad;
	int error = ibv_post_recv(p->qp, &wr, &bad);

	if (error)
		errno = error;
	return !error;
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

static bool may_send(const struct pair *p, uint32_t reserve)
{
	const struct frames *f = p->frames;

	return pair_can_post(p, 1) && f->sent - f->freed < f->allowed + reserve;
}

/* The buffer of the next send: as many as the send queue has places, and each is signalled. */
static struct frame *next_frame(const struct pair *p)
{
	return (struct frame *)(void *)buffer(&p->frames->out, (uint32_t)(p->posted % p->depth));
}

static bool send_frame(struct pair *p, struct channel *ch, struct frame head)
{
	struct frames *f = p->frames;
	struct frame *to = next_frame(p);
	struct ibv_sge sge = {.addr = (uintptr_t)to, .lkey = f->out.lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};
	bool due;

	head.number = f->sent++;
	head.received = f->told = f->received;
	head.id = NO_CHANNEL;
	if (ch) {
		ch->told = channel_credit(ch, &due);
		ch->last = p->posted + 1;
		head.id = ch->peer_id;
		head.check = (uint32_t)ch->tag;
		head.credit = (uint32_t)ch->told;
	}
	*to = head;
	sge.length = p->device->mode == VERBS_SEND_UC ? FRAME_BYTES : (uint32_t)sizeof(head) + head.bytes;
	return pair_post(p, &wr, (struct sent){0}, true);
}

static const uint8_t *payload_of(struct slot *s, uint32_t len)
{
	struct slot_ref ref;

	if (!(s->len & SLOT_REF))
		return slot_payload(s, len);
	memcpy(&ref, s->data, sizeof(ref));
	return (const uint8_t *)(uintptr_t)ref.addr;
}

/* The next part of a slot; after the last one all of it has been copied. */
static bool send_part(struct pair *p, struct channel *ch, struct slot *s)
{
	uint32_t len = s->len & ~SLOT_REF, left = len - ch->sent;
	struct frame head = {
	        .len = len, .sig = s->sig, .at = ch->sent, .bytes = left < ROOM ? left : ROOM, .brings = 1};

	memcpy(next_frame(p) + 1, payload_of(s, len) + ch->sent, head.bytes);
	ch->sent += head.bytes;
	if (!send_frame(p, ch, head))
		return false;
	if (ch->sent == len) {
		ch->sent = 0;
		channel_settle(ch, ++ch->out.pos);
	}
	return true;
}

static bool move_channel(struct pair *p, struct channel *ch)
{
	struct slot *s;
	bool due;

	while (may_send(p, 0) && (s = channel_next(ch)))
		if (!send_part(p, ch, s))
			return false;
	(void)channel_credit(ch, &due);
	return !due || !may_send(p, 0) || send_frame(p, ch, (struct frame){0});
}

void frames_move(struct pair *p)
{
	const struct frames *f = p->frames;
	uint32_t n = p->nchannels;

	for (uint32_t i = 0; i < n; i++) {
		struct channel *ch = p->channels[(p->turn + i) % n];
		if (ch && ch->known && !move_channel(p, ch))
			return;
	}
	p->turn++;
	if (f->received - f->told >= f->allowed / 2 && may_send(p, RESERVE))
		(void)send_frame(p, NULL, (struct frame){0});
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

static bool take_part(struct channel *ch, const struct frame *head)
{
	struct way *w = &ch->in;
	struct slot *s;

	if (!w->ring || w->pos - ch->told > w->mask || head->len > w->payload || head->at != ch->come ||
	    head->bytes > head->len - head->at)
		return false;
	s = pair_slot(w, w->pos);
	s->len = head->len;
	s->sig = head->sig;
	memcpy(slot_payload(s, head->len) + head->at, head + 1, head->bytes);
	ch->come += head->bytes;
	if (ch->come < head->len)
		return true;
	ch->come = 0;
	return channel_publish(ch);
}

/* On UC a frame may come after the goodbye of its channel, which went another way. */
static void take(struct pair *p, const struct frame *head)
{
	struct channel *ch = head->id == NO_CHANNEL ? NULL : pair_channel(p, head->id);
	uint64_t fresh;

	if (!ch || (uint32_t)ch->tag != head->check)
		return;
	if (!channel_acknowledge(ch, head->credit, 32, &fresh) || (head->brings && !take_part(ch, head)))
		(void)pair_protocol_error(p, "a frame too long for a slot");
}

void frames_arrived(struct pair *p, const struct ibv_wc *wc)
{
	struct frames *f = p->frames;
	uint32_t index = (uint32_t)wc->wr_id;
	const struct frame *head = (const struct frame *)(const void *)buffer(&f->in, index);

	if (wc->byte_len < sizeof(*head) || head->bytes > wc->byte_len - sizeof(*head)) {
		(void)pair_protocol_error(p, "a truncated frame");
		return;
	}
	if (head->number != f->received) {
		(void)fail(
		        TUTTI_EPEER,
		        "%s lost %u messages from rank %d: UC does not retransmit, so its network must not drop packets",
		        p->device->name, head->number - f->received, p->peer);
		pair_break(p);
		return;
	}
	f->freed = head->received;
	take(p, head);
	if (!frames_receive(p, index)) {
		(void)fail_errno("post a receive on %s for rank %d", p->device->name, p->peer);
		pair_break(p);
		return;
	}
	f->received++;
}
