/* SPDX-License-Identifier: MIT */
/* A pair's traffic in mode write, and what all modes share: posting, completions, credit. See pair.h. */
#include "../../src/util/error.h"
#include "pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An immediate: whether it brings credit only, the channel by its number at the receiver, slots given back there. */
#define IMM_CREDIT_ONLY 0x80000000u
#define IMM_COUNT       17
#define IMM_COUNT_MASK  ((1u << IMM_COUNT) - 1)

#define SLOT_AT offsetof(struct slot, len) /* of a slot on the wire: all but seq */

/* ---- rings ------------------------------------------------------------------------------------------------------- */

struct slot *pair_slot(const struct way *w, uint64_t pos)
{
	return (struct slot *)((uint8_t *)w->ring->first + (size_t)(pos & w->mask) * w->stride);
}

struct slot *channel_next(const struct channel *ch)
{
	const struct way *w = &ch->out;
	struct slot *s;

	if (!w->attached || w->pos - ch->acked > w->mask)
		return NULL;
	s = pair_slot(w, w->pos);
	return atomic_load_explicit(&s->seq, memory_order_acquire) == w->pos + 1 ? s : NULL; /* A1 */
}

uint64_t channel_credit(const struct channel *ch, bool *due)
{
	uint64_t given;

	*due = false;
	if (!ch->in.ring)
		return 0;
	given = atomic_load_explicit(&ch->in.ring->credit, memory_order_acquire); /* A2 */
	*due = ch->known && given - ch->told > ch->in.mask / 2;
	return given;
}

void channel_settle(struct channel *ch, uint64_t pos)
{
	atomic_store_explicit(&ch->out.ring->credit, pos, memory_order_release); /* R2 */
}

bool channel_acknowledge(struct channel *ch, uint32_t low, unsigned bits, uint64_t *fresh)
{
	*fresh = (low - (uint32_t)ch->acked) & (uint32_t)((UINT64_C(1) << bits) - 1);
	if (*fresh > ch->out.pos - ch->acked)
		return false;
	ch->acked += *fresh;
	return true;
}

bool channel_publish(struct channel *ch)
{
	struct way *w = &ch->in;

	if (!w->ring || w->pos - ch->told > w->mask)
		return false;
	atomic_store_explicit(&pair_slot(w, w->pos)->seq, w->pos + 1, memory_order_release); /* R1 */
	w->pos++;
	return true;
}

struct channel *pair_channel(const struct pair *p, uint32_t id)
{
	return id < p->nchannels ? p->channels[id] : NULL;
}

/* ---- posting ----------------------------------------------------------------------------------------------------- */

bool pair_receive(struct pair *p, uint32_t n)
{
	struct ibv_recv_wr wr = {.wr_id = wr_name(p, 0)}, *bad;
	int error = 0;

	for (; n && !error; n--)
		error = ibv_post_recv(p->qp, &wr, &bad);
	if (error)
		errno = error;
	return !error;
}

bool pair_post(struct pair *p, struct ibv_send_wr *wr, struct sent s, bool signalled)
{
	struct ibv_send_wr *bad;
	int error;

	/* a completion frees the places of all before it: it must come before the queue is full of silent ones */
	signalled |= ++p->silent >= p->depth / 4;
	wr->wr_id = wr_name(p, WR_SENT | ((uint32_t)p->posted & ~WR_SENT));
	if (signalled) {
		wr->send_flags |= IBV_SEND_SIGNALED;
		p->silent = 0;
	}
	error = ibv_post_send(p->qp, wr, &bad);
	if (error) {
		errno = error > 0 ? error : errno;
		(void)fail_errno("post a send on %s to rank %d", p->device->name, p->peer);
		pair_break(p);
		return false;
	}
	p->queue[p->posted++ % p->depth] = s;
	if (s.channel)
		s.channel->posted++;
	return true;
}

static uint32_t immediate(const struct pair *p, struct channel *ch, uint32_t flags)
{
	bool due;

	ch->told = channel_credit(ch, &due);
	ch->last = p->posted + 1;
	return htonl(flags | ch->peer_id << IMM_COUNT | ((uint32_t)ch->told & IMM_COUNT_MASK));
}

/* Where the payload of a slot that refers to memory can be sent from; NULL: it is in the slot now. */
static const uint8_t *resolve(const struct pair *p, struct slot *s, uint32_t *lkey)
{
	uint32_t len = s->len & ~SLOT_REF;
	struct slot_ref ref;
	bool sendable;

	memcpy(&ref, s->data, sizeof(ref));
	sendable = len > SLOT_INLINE && lent_find(p->device, (const void *)(uintptr_t)ref.addr, len, lkey);
	memset(s->data, 0, sizeof(s->data)); /* addresses stay here */
	if (!sendable)
		memcpy(slot_payload(s, len), (const void *)(uintptr_t)ref.addr, len);
	s->len = len;
	return sendable ? (const uint8_t *)(uintptr_t)ref.addr : NULL;
}

static uint64_t remote_slot(const struct channel *ch)
{
	return ch->remote + (ch->out.pos & ch->out.mask) * ch->out.stride;
}

static bool write_payload(struct pair *p, const struct channel *ch, const uint8_t *from, uint32_t bytes, uint32_t lkey)
{
	struct ibv_sge sge = {.addr = (uintptr_t)from, .length = bytes, .lkey = lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
	                         .num_sge = 1,
	                         .opcode = IBV_WR_RDMA_WRITE,
	                         .wr.rdma = {remote_slot(ch) + sizeof(struct slot), ch->rkey}};

	return pair_post(p, &wr, (struct sent){0}, false);
}

/* A slot from its length on, without a payload that goes elsewhere; the 48 bytes between head and a longer payload go along. */
static bool write_image(struct pair *p, struct channel *ch, const struct slot *s, bool lent)
{
	size_t head = (lent || s->len <= SLOT_INLINE ? offsetof(struct slot, data) : sizeof(*s)) - SLOT_AT,
	       bytes = head + (lent ? 0 : s->len);
	bool in_line = bytes <= p->inline_max, copied = in_line && !lent;
	struct ibv_sge sge = {.addr = (uintptr_t)s + SLOT_AT, .length = (uint32_t)bytes, .lkey = ch->out.memory.lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
	                         .num_sge = 1,
	                         .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
	                         .send_flags = in_line ? IBV_SEND_INLINE : 0,
	                         .imm_data = immediate(p, ch, 0),
	                         .wr.rdma = {remote_slot(ch) + SLOT_AT, ch->rkey}};
	struct sent sent = {copied ? NULL : ch, ch->out.pos + 1};

	if (!pair_post(p, &wr, sent, !copied))
		return false;
	ch->out.pos++;
	p->under_way++;
	if (copied && !ch->posted) /* with others before it, the last one's completion tells */
		channel_settle(ch, ch->out.pos);
	return true;
}

/* A payload that is sent from where it stands goes before the rest, and so is there when that is. */
static bool write_slot(struct pair *p, struct channel *ch, struct slot *s)
{
	uint32_t lkey = 0;
	const uint8_t *lent = s->len & SLOT_REF ? resolve(p, s, &lkey) : NULL;

	if (lent && !write_payload(p, ch, lent, s->len, lkey))
		return false;
	return write_image(p, ch, s, lent);
}

static bool write_credit(struct pair *p, struct channel *ch)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE_WITH_IMM, .imm_data = immediate(p, ch, IMM_CREDIT_ONLY)};

	wr.wr.rdma.remote_addr = ch->remote;
	wr.wr.rdma.rkey = ch->rkey;
	return pair_post(p, &wr, (struct sent){0}, false);
}

/*
 * Slots, and credit that no slot took along. Few given slots on each of many channels may add up to the peer's window:
 * then it is told of all.
 */
static bool move_channel(struct pair *p, struct channel *ch, bool hurry, uint64_t *untold)
{
	struct slot *s;
	uint64_t given;
	bool due;

	while (p->under_way < p->window && pair_can_post(p, 2) && (s = channel_next(ch)))
		if (!write_slot(p, ch, s))
			return false;
	given = channel_credit(ch, &due);
	if ((due || (hurry && given != ch->told)) && pair_can_post(p, 1))
		return write_credit(p, ch);
	*untold += given - ch->told;
	return true;
}

void pair_move(struct pair *p)
{
	uint32_t n = p->nchannels;
	bool hurry = p->untold > p->window / 4;
	uint64_t untold = 0;

	if (p->state != PAIR_UP)
		return;
	if (p->frames) {
		frames_move(p);
		return;
	}
	if (p->owed >= p->window / 2) {
		uint32_t owed = p->owed;
		p->owed = 0;
		if (!pair_receive(p, owed)) {
			(void)fail_errno("post receives on %s for rank %d", p->device->name, p->peer);
			pair_break(p);
			return;
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		struct channel *ch = p->channels[(p->turn + i) % n];
		if (ch && ch->known && !move_channel(p, ch, hurry, &untold))
			return;
	}
	p->untold = untold;
	p->turn++;
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

/* All up to this one are done: completions of a send queue come in order, those of silent ones not at all. */
static void sent(struct pair *p, uint32_t number)
{
	uint64_t until = p->done + ((number - (uint32_t)p->done) & ~WR_SENT) + 1;

	while (p->done < until && p->done < p->posted) {
		struct sent s = p->queue[p->done++ % p->depth];
		if (!s.channel)
			continue;
		s.channel->posted--;
		/* later inline sends were copied at once: they are done now as well */
		channel_settle(s.channel, s.channel->posted ? s.pos : s.channel->out.pos);
	}
}

static void written(struct pair *p, uint32_t imm)
{
	struct channel *ch = pair_channel(p, imm >> IMM_COUNT & (CHANNELS_MAX - 1));
	uint64_t fresh;

	p->owed++;
	if (!ch || !channel_acknowledge(ch, imm & IMM_COUNT_MASK, IMM_COUNT, &fresh)) {
		(void)pair_protocol_error(p, "a message for an unknown channel");
		return;
	}
	p->under_way -= fresh;
	if (!(imm & IMM_CREDIT_ONLY) && !channel_publish(ch))
		(void)pair_protocol_error(p, "more slots than a ring has");
}

static const char *advice(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
		return "; the peer does not answer: its process or port is gone, the GID does not reach it (TUTTI_VERBS_GID), or the fabric drops packets (RoCE needs a lossless or retransmitting network)";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return "; the peer had no receive posted";
	case IBV_WC_LOC_LEN_ERR:
		return "; a message and its receive differ in length";
	case IBV_WC_REM_ACCESS_ERR:
		return "; the peer's ring is not at the address that it sent";
	default:
		return "";
	}
}

static void went_wrong(struct pair *p, const struct ibv_wc *wc)
{
	const struct device *d = p->device;
	const char *what = !(wc->wr_id & WR_SENT) ? "a receive from" : p->frames ? "a SEND to" : "an RDMA WRITE to";

	(void)fail(TUTTI_EPEER, "%s, queue pair %u: %s rank %d ended with \"%s\" (status %d, vendor's %#x)%s", d->name,
	           p->qp->qp_num, what, p->peer, d->lib.wc_status_str(wc->status), wc->status, wc->vendor_err,
	           advice(wc->status));
	pair_break(p);
}

void pair_completed(struct pair *p, const struct ibv_wc *wc)
{
	if (wc->status != IBV_WC_SUCCESS && p->state == PAIR_UP && wc->status != IBV_WC_WR_FLUSH_ERR)
		pair_talk(p); /* a peer that has left is not an error: its goodbye may still be on the socket */
	if (wc->status != IBV_WC_SUCCESS && p->state != PAIR_LEFT)
		went_wrong(p, wc);
	if (wc->wr_id & WR_SENT) {
		if (wc->status == IBV_WC_SUCCESS || p->state == PAIR_LEFT)
			sent(p, (uint32_t)wc->wr_id & ~WR_SENT);
	} else if (wc->status == IBV_WC_SUCCESS) {
		if (p->frames)
			frames_arrived(p, wc);
		else
			written(p, ntohl(wc->imm_data));
	}
}

bool pair_flushed(struct pair *p)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE};

	if (p->state != PAIR_UP || p->posted == p->done)
		return true;
	if (p->silent && pair_can_post(p, 1)) {
		for (uint32_t i = 0; i < p->nchannels; i++)
			if (p->channels[i]) {
				wr.wr.rdma.remote_addr = p->channels[i]->remote;
				wr.wr.rdma.rkey = p->channels[i]->rkey;
			}
		return !pair_post(p, &wr, (struct sent){0}, true);
	}
	return false;
}
