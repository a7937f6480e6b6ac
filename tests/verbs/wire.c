/* SPDX-License-Identifier: MIT */
/*
 * The wire of the imaginary device: work requests to packets, packets to memory and completions. A card moves whenever
 * it is called, and by itself every now and then (imaginary.c).
 */
#include "card.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_DATA = 1, PACKET_ACK, PACKET_REFUSAL };

#define MTU       4096u
#define SHUFFLED  1024u /* with `reorder` */
#define SHUFFLED_ 16u   /* and for short messages */

_Noreturn void broken_rule(const char *what)
{
	fprintf(stderr, "imaginary device: %s\n", what);
	abort();
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

static void wake(struct queue *cq)
{
	struct channel *ch = (struct channel *)cq->cq.channel;
	struct ibv_cq *p = &cq->cq;
	if (!cq->armed || !ch)
		return;
	cq->armed = false;
	cq->told++;
	atomic_fetch_add(&cq->card->sea->counts.slept_for, 1);
	if (write(ch->in, &p, sizeof(p)) < 0)
		broken_rule("the completion channel is full");
}

static void overrun(struct queue *cq)
{
	struct ibv_async_event e = {.element.cq = &cq->cq, .event_type = IBV_EVENT_CQ_ERR};
	cq->overrun = true;
	(void)!write(cq->card->async[1], &e, sizeof(e));
}

void complete(struct pair *q, bool sent, uint64_t number, enum ibv_wc_status status, const struct ibv_wc *more)
{
	struct queue *cq = q->cq;
	struct ibv_wc *wc;
	if (cq->head - cq->tail == (uint64_t)cq->cq.cqe) {
		overrun(cq);
		return;
	}
	wc = &cq->wc[cq->head % (uint64_t)cq->cq.cqe];
	*wc = more ? *more : (struct ibv_wc){0};
	wc->wr_id = sent ? q->work[number % q->nwork].wr.wr_id : q->receives[number % q->nreceives].wr_id;
	wc->status = status;
	wc->qp_num = q->qp.qp_num;
	cq->slots[cq->head % (uint64_t)cq->cq.cqe] = sent ? (uint32_t)number : UINT32_MAX;
	cq->of[cq->head % (uint64_t)cq->cq.cqe] = q;
	cq->head++;
	wake(cq);
}

/* Everything that is posted comes back. */
void pair_error(struct pair *q)
{
	if (q->state == IBV_QPS_ERR || q->state == IBV_QPS_RESET)
		return;
	q->state = IBV_QPS_ERR;
	atomic_store(&q->port->ready, 0);
	for (; q->done < q->posted; q->done++)
		complete(q, true, q->done, IBV_WC_WR_FLUSH_ERR, NULL);
	q->sent = q->done;
	for (; q->rdone < q->rposted; q->rdone++)
		complete(q, false, q->rdone, IBV_WC_WR_FLUSH_ERR, NULL);
}

static void fail_send(struct pair *q, enum ibv_wc_status status)
{
	complete(q, true, q->done++, status, NULL);
	pair_error(q);
}

bool covers(const struct card *c, uint32_t key, uint64_t at, uint64_t bytes, int access)
{
	const struct ibv_mr *mr = key && key < CARD_MRS ? c->mrs[key] : NULL;
	return mr && at >= (uint64_t)(uintptr_t)mr->addr && bytes <= mr->length &&
	       at - (uint64_t)(uintptr_t)mr->addr <= mr->length - bytes && ((int)mr->handle & access) == access;
}

/* ---- bytes on the way -------------------------------------------------------------------------------------------- */

static void put(struct imaginary_port *to, uint64_t at, const void *from, size_t n)
{
	size_t i = at % IMAGINARY_RING, here = n < IMAGINARY_RING - i ? n : IMAGINARY_RING - i;
	memcpy(to->ring + i, from, here);
	memcpy(to->ring, (const uint8_t *)from + here, n - here);
}

static void get(const struct imaginary_port *from, uint64_t at, void *to, size_t n)
{
	size_t i = at % IMAGINARY_RING, here = n < IMAGINARY_RING - i ? n : IMAGINARY_RING - i;
	memcpy(to, from->ring + i, here);
	memcpy((uint8_t *)to + here, from->ring, n - here);
}

/*
 * To the program's memory. What the card does by itself comes after what other processes have done, which the thread
 * sanitizer does not see: it must not look there. What it does in the program's calls is seen.
 */
#ifdef __SANITIZE_THREAD__
__attribute__((no_sanitize("thread"))) static void get_unseen(const struct imaginary_port *from, uint64_t at,
                                                              uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		to[i] = from->ring[(at + i) % IMAGINARY_RING];
		__asm__ volatile("" ::: "memory"); /* a loop, not a call of memcpy */
	}
}
#else
#define get_unseen get
#endif

static bool push(struct imaginary_port *to, const struct imaginary_packet *p, const void *payload)
{
	uint64_t head = atomic_load_explicit(&to->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&to->tail, memory_order_acquire);
	if (head - tail + sizeof(*p) + p->bytes > IMAGINARY_RING)
		return false;
	put(to, head, p, sizeof(*p));
	if (p->bytes)
		put(to, head + sizeof(*p), payload, p->bytes);
	atomic_store_explicit(&to->head, head + sizeof(*p) + p->bytes, memory_order_release);
	return true;
}

static bool silent(const struct card *c)
{
	const struct imaginary_knobs *k = &c->sea->knobs;
	return card_is_down(c) || atomic_load(&k->vanished[c->number]);
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

static bool is_gone(const struct pair *q)
{
	const struct imaginary_knobs *k = &q->card->sea->knobs;
	const struct imaginary_port *p = q->peer;
	return silent(q->card) || atomic_load(&p->number) != q->dest || atomic_load(&k->down[p->card]) ||
	       atomic_load(&k->device_down[p->device]) || atomic_load(&k->vanished[p->card]) ||
	       (kill(atomic_load(&p->pid), 0) != 0 && errno == ESRCH);
}

static bool hears(const struct pair *q)
{
	return atomic_load(&q->peer->number) == q->dest && atomic_load(&q->peer->ready);
}

/* The next packet of a message, in an order of its own where the knob says so. */
static bool send_packet(struct pair *q, struct work *w)
{
	bool is_write = w->wr.opcode == IBV_WR_RDMA_WRITE || w->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	bool shuffle = q->card->sea->knobs.reorder && is_write;
	uint32_t total = w->wr.num_sge ? w->sge.length : 0;
	uint32_t unit = !shuffle ? MTU : total > MTU ? SHUFFLED : SHUFFLED_;
	uint32_t n = total ? (total + unit - 1) / unit : 1, k = q->offset;
	uint32_t at = (shuffle ? n - 1 - k : k) * unit;
	const uint8_t *from = w->wr.send_flags & IBV_SEND_INLINE ? w->in_line : (const uint8_t *)(uintptr_t)w->sge.addr;
	struct imaginary_packet p = {.kind = PACKET_DATA,
	                             .bytes = total - at < unit ? total - at : unit,
	                             .number = q->sent,
	                             .at = w->wr.wr.rdma.remote_addr,
	                             .rkey = w->wr.wr.rdma.rkey,
	                             .imm = w->wr.imm_data,
	                             .total = total,
	                             .offset = at,
	                             .opcode = (uint8_t)w->wr.opcode,
	                             .with_imm = w->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM,
	                             .first = k == 0,
	                             .last = k + 1 == n};
	if (!push(q->peer, &p, total ? from + at : from))
		return false;
	q->offset++;
	if (!p.last)
		return true;
	q->offset = 0;
	q->sent++;
	atomic_fetch_add(is_write ? &q->card->sea->counts.writes : &q->card->sea->counts.sends, 1);
	atomic_fetch_add(&q->card->sea->counts.bare, w->wr.opcode == IBV_WR_RDMA_WRITE && total);
	atomic_fetch_add(&q->card->sea->counts.bytes, total);
	atomic_fetch_add(&q->card->sea->counts.sent[q->card->device], total);
	return true;
}

static void sent_until(struct pair *q, uint64_t number)
{
	for (; q->done < number; q->done++)
		if (q->work[q->done % q->nwork].wr.send_flags & IBV_SEND_SIGNALED)
			complete(q, true, q->done, IBV_WC_SUCCESS, NULL);
	q->silent_since = 0;
}

/* A knob that counts down. */
static bool strikes(_Atomic int64_t *countdown)
{
	return atomic_load(countdown) > 0 && atomic_fetch_sub(countdown, 1) == 1;
}

static void wait_for_answer(struct pair *q)
{
	if (q->done == q->posted || q->qp.qp_type == IBV_QPT_UC || !is_gone(q)) {
		q->silent_since = 0;
		return;
	}
	if (!q->silent_since)
		q->silent_since = now();
	else if (now() - q->silent_since > q->patience_ns)
		fail_send(q, IBV_WC_RETRY_EXC_ERR);
}

static bool transmit(struct pair *q)
{
	struct imaginary_knobs *k = &q->card->sea->knobs;
	bool moved = false;
	while (q->state == IBV_QPS_RTS && q->sent < q->posted && !silent(q->card)) {
		struct work *w = &q->work[q->sent % q->nwork];
		if (q->offset == 0 && strikes(&k->vanish_at)) {
			atomic_store(&k->vanished[q->card->number], 1);
			break;
		}
		if (q->offset == 0 && (w->poisoned || strikes(&k->fail_at))) {
			sent_until(q, q->sent);
			fail_send(q, w->poisoned ? IBV_WC_LOC_PROT_ERR : (enum ibv_wc_status)k->fail_status);
			return true;
		}
		if (!hears(q) || (q->offset == 0 && q->qp.qp_type == IBV_QPT_UC && strikes(&k->lose_at))) {
			if (q->qp.qp_type != IBV_QPT_UC)
				break;
			q->sent++; /* into the void; where the peer has ended its pair, nobody will miss it */
			sent_until(q, q->sent);
			if (atomic_load(&q->peer->number) == q->dest)
				atomic_fetch_add(&q->card->sea->counts.lost, 1);
			continue;
		}
		if (!send_packet(q, w))
			break;
		moved = true;
		if (q->qp.qp_type == IBV_QPT_UC)
			sent_until(q, q->sent);
	}
	wait_for_answer(q);
	return moved;
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

static bool answer(struct pair *q)
{
	struct imaginary_packet p = {.kind = PACKET_ACK, .number = q->heard};
	if (q->qp.qp_type == IBV_QPT_UC || silent(q->card) || atomic_load(&q->peer->number) != q->dest)
		return false;
	if (q->refuse) {
		p.kind = PACKET_REFUSAL;
		p.status = q->refuse;
		q->refuse = push(q->peer, &p, "") ? 0 : q->refuse;
		return true;
	}
	if (q->acknowledge == q->heard || !push(q->peer, &p, ""))
		return false;
	q->acknowledge = q->heard;
	return true;
}

static uint32_t frames(uint32_t bytes)
{
	return bytes ? (bytes + IMAGINARY_FRAME - 1) / IMAGINARY_FRAME : 1;
}

/* The receive that a SEND goes into; false: it can't, and the pair is in error. */
static bool fits(struct pair *q, const struct imaginary_packet *p, const struct receive *r)
{
	uint32_t room = r->nsge ? r->sge.length : 0;
	bool ok = p->total <= room && (!q->card->sea->knobs.equal_frames || frames(p->total) == frames(room));
	if (ok && r->nsge && !covers(q->card, r->sge.lkey, r->sge.addr, room, IBV_ACCESS_LOCAL_WRITE))
		ok = false;
	if (ok)
		return true;
	complete(q, false, q->rdone++, IBV_WC_LOC_LEN_ERR, NULL);
	q->refuse = IBV_WC_REM_INV_REQ_ERR;
	pair_error(q);
	return false;
}

static uint8_t *place_for(struct pair *q, const struct imaginary_packet *p, bool is_send)
{
	if (is_send) {
		const struct receive *r = &q->receives[q->rdone % q->nreceives];
		return fits(q, p, r) ? (uint8_t *)(uintptr_t)r->sge.addr + p->offset : NULL;
	}
	if (p->total == 0) /* neither address nor key is looked at */
		return q->port->ring;
	if (covers(q->card, p->rkey, p->at, p->total, IBV_ACCESS_REMOTE_WRITE))
		return (uint8_t *)(uintptr_t)p->at + p->offset;
	q->refuse = IBV_WC_REM_ACCESS_ERR;
	pair_error(q);
	return NULL;
}

static void came(struct pair *q, const struct imaginary_packet *p, bool is_send)
{
	struct ibv_wc wc = {.opcode = is_send ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM,
	                    .byte_len = p->total,
	                    .imm_data = p->imm,
	                    .wc_flags = p->with_imm ? IBV_WC_WITH_IMM : 0};
	if (is_send || p->with_imm)
		complete(q, false, q->rdone++, IBV_WC_SUCCESS, &wc);
	q->heard++;
}

/* true: the packet is done with; false: it must wait where it is. */
static bool data(struct pair *q, const struct imaginary_packet *p, uint64_t at)
{
	bool is_send = p->opcode == IBV_WR_SEND, takes = is_send ? p->first : p->last && p->with_imm;
	uint8_t *to;
	if (q->state != IBV_QPS_RTR && q->state != IBV_QPS_RTS)
		return true;
	if (takes && q->rdone == q->rposted) {
		if (q->qp.qp_type != IBV_QPT_UC) {
			if (!q->waiting)
				atomic_fetch_add(&q->card->sea->counts.waited, 1);
			q->waiting = true;
			return false;
		}
		atomic_fetch_add(&q->card->sea->counts.lost, 1);
		q->dropping = true;
	}
	q->waiting = false;
	if (q->dropping) {
		q->dropping = !p->last;
		return true;
	}
	to = place_for(q, p, is_send);
	if (!to)
		return true;
	if (p->bytes && q->card->by_itself)
		get_unseen(q->port, at, to, p->bytes);
	else if (p->bytes)
		get(q->port, at, to, p->bytes);
	if (p->last)
		came(q, p, is_send);
	return true;
}

static bool receive(struct pair *q)
{
	bool moved = false;
	for (int budget = q->card->sea->knobs.reorder ? 16 : 256; budget && !silent(q->card); budget--) {
		uint64_t tail = atomic_load_explicit(&q->port->tail, memory_order_relaxed);
		struct imaginary_packet p;
		if (tail == atomic_load_explicit(&q->port->head, memory_order_acquire))
			break;
		get(q->port, tail, &p, sizeof(p));
		if (p.kind == PACKET_DATA && !data(q, &p, tail + sizeof(p)))
			break;
		if (p.kind == PACKET_ACK && q->state == IBV_QPS_RTS)
			sent_until(q, p.number);
		if (p.kind == PACKET_REFUSAL && q->state == IBV_QPS_RTS) {
			sent_until(q, p.number);
			fail_send(q, (enum ibv_wc_status)p.status);
		}
		atomic_store_explicit(&q->port->tail, tail + sizeof(p) + p.bytes, memory_order_release);
		moved = true;
	}
	return moved;
}

/* ---- all of a card ----------------------------------------------------------------------------------------------- */

void card_look(struct card *c)
{
	bool down = card_is_down(c);
	struct ibv_async_event e = {.element.port_num = 1,
	                            .event_type = down ? IBV_EVENT_PORT_ERR : IBV_EVENT_PORT_ACTIVE};
	if (down != c->was_down)
		(void)!write(c->async[1], &e, sizeof(e));
	c->was_down = down;
}

bool card_move(struct card *c)
{
	bool moved = false;
	for (struct pair *q = c->pairs; q; q = q->next) {
		if (!q->peer)
			continue;
		moved |= receive(q);
		moved |= answer(q);
		moved |= transmit(q);
	}
	return moved;
}
