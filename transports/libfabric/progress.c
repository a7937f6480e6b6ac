/* SPDX-License-Identifier: MIT */
/* What pump does: completions, slots, credits; see state.h. */
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "state.h"

#include <stdio.h>
#include <string.h>

#define BATCH    32
#define PATIENCE 64 /* empty visits, after which this rank may be about to sleep */

static const char *const op_names[] = {[OP_SEND] = "sending a slot",
                                       [OP_RECEIVE] = "receiving a slot",
                                       [OP_CREDIT] = "giving slots back",
                                       [OP_CREDITS_IN] = "receiving credits"};

struct wire *fabric_find(const struct fabric *f, int peer, uint64_t tag, bool outgoing,
                         bool (*stage)(const struct wire *w))
{
	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *w = f->wires[i];
		if (w && w->peer == peer && w->tag == tag && w->outgoing == outgoing && stage(w))
			return w;
	}
	return NULL;
}

/* ---- notes ------------------------------------------------------------------------------------------------------- */

/* Any process that reaches the endpoint may send something; only a peer knows the numbers. */
static void stranger(struct fabric *f, uint64_t note)
{
	if (++f->strangers <= 3)
		log_warn("rank %d: %s: ignored a message %#llx that belongs to no link", f->env->rank, f->e.what,
		         (unsigned long long)note);
}

static void nonsense(struct fabric *f, const struct wire *w, const char *what)
{
	char why[120];

	snprintf(why, sizeof(why), "it gave %s", what);
	peer_broken(f, w->peer, w->outgoing ? "giving slots back" : "receiving a slot", why);
}

/* bytes: of a message; 0: not known. */
static void hear_note(struct fabric *f, uint64_t note, size_t bytes)
{
	uint32_t end = note_end(note);
	struct wire *w = end < f->nwires ? f->wires[end] : NULL;
	const char *wrong = NULL;

	if (!w || ((note ^ w->note) & (NOTE_NONCE | NOTE_END) & f->e.note_mask) ||
	    w->outgoing != ((note & NOTE_NO_SLOT) != 0)) {
		stranger(f, note);
		return;
	}
	if (w->outgoing) {
		w->got++;
		wrong = wire_granted(w, note_credits(note));
	} else {
		wrong = wire_arrived(w, note_slot(note), bytes);
		if (!wrong && w->mirror)
			wrong = wire_granted(w->mirror, note_credits(note));
	}
	if (wrong)
		nonsense(f, w, wrong);
}

/* ---- completions ------------------------------------------------------------------------------------------------- */

static int post_credit_receives(struct fabric *f)
{
	for (int i = 0; f->e.mode == FABRIC_MESSAGE && i < CREDIT_RECEIVES; i++) {
		struct op *op = &f->credits_in[i];
		int rc;

		if (op->state == OP_PENDING)
			continue;
		op->kind = OP_CREDITS_IN;
		rc = (int)fi_trecv(f->e.ep, f->credits_at.at + (size_t)i * LINE, LINE, f->credits_at.region->desc,
		                   FI_ADDR_UNSPEC, NOTE_NO_SLOT, ~NOTE_NO_SLOT & f->e.note_mask, &op->context);
		if (rc != 0)
			return rc == -FI_EAGAIN ? TUTTI_OK : endpoint_fail(&f->e, "post a receive for credits", rc);
		op->state = OP_PENDING;
	}
	return TUTTI_OK;
}

int fabric_open_credits(struct fabric *f)
{
	int rc = TUTTI_OK;

	if (f->e.mode == FABRIC_MESSAGE)
		rc = endpoint_cell(&f->e, (size_t)CREDIT_RECEIVES * LINE, &f->credits_at);
	return rc ? rc : post_credit_receives(f);
}

static void completed(struct fabric *f, const struct fi_cq_tagged_entry *c)
{
	struct op *op = c->op_context;

	if (f->e.mode == FABRIC_WRITE && c->flags & (FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA) && !(c->flags & FI_WRITE)) {
		hear_note(f, c->data, 0);
		return;
	}
	if (!op)
		return;
	if (op->wire)
		wire_done(op->wire, op);
	else
		op->state = OP_IDLE;
	if (op->kind == OP_RECEIVE)
		hear_note(f, c->tag, c->len);
	else if (op->kind == OP_CREDITS_IN)
		hear_note(f, c->tag, 0);
}

/*
 * A remote operation on this rank's memory failed. Its origin, a peer or a stranger, is not known; a peer sees the
 * failure at its own end. If the peer died during the operation, its side channel shows that.
 */
static int foreign_failure(struct fabric *f, const char *why)
{
	if (++f->strangers <= 3)
		log_warn("rank %d: %s: a remote operation on this rank's memory failed: %s", f->env->rank, f->e.what,
		         why);
	return peers_look(f);
}

/* A bad completion: whose operation it was says which peer is in trouble. */
static int failed(struct fabric *f)
{
	struct fi_cq_err_entry c = {0};
	char text[200] = "", why[300];
	const char *more;
	struct op *op;
	ssize_t n = fi_cq_readerr(f->e.cq, &c, 0);

	if (n < 0)
		return n == -FI_EAGAIN ? TUTTI_OK : endpoint_fail(&f->e, "read a failed completion", n);
	op = c.op_context;
	if (op && op->wire)
		wire_failed(op->wire, op);
	else if (op)
		op->state = OP_IDLE;
	if (c.err == FI_ECANCELED)
		return TUTTI_OK;
	more = fi_cq_strerror(f->e.cq, c.prov_errno, c.err_data, text, sizeof(text));
	snprintf(why, sizeof(why), "%s (%s)", f->fi->strerror(c.err), more ? more : "no details");
	if (!op)
		return foreign_failure(f, why);
	if (!op->wire)
		return fail(TUTTI_ESYSTEM, "%s: %s failed: %s", f->e.what, op_names[op->kind], why);
	peer_broken(f, op->wire->peer, op_names[op->kind], why);
	if (f->peers[op->wire->peer].left)
		wire_deserted(op->wire);
	return TUTTI_OK;
}

int fabric_drain(struct fabric *f, bool *moved)
{
	struct fi_cq_tagged_entry c[BATCH];
	ssize_t n;
	int rc = TUTTI_OK;

	do {
		n = fi_cq_read(f->e.cq, c, BATCH);
		for (ssize_t i = 0; i < n; i++)
			completed(f, &c[i]);
		*moved |= n > 0;
		if (n == -FI_EAVAIL)
			rc = failed(f);
		else if (n < 0 && n != -FI_EAGAIN)
			rc = endpoint_fail(&f->e, "read completions", n);
	} while (rc == TUTTI_OK && (n == BATCH || n == -FI_EAVAIL));
	return rc;
}

/* ---- ends of wires ----------------------------------------------------------------------------------------------- */

/* What was posted for it and will not be used any more. */
static void cancel(struct fabric *f, struct wire *w)
{
	for (uint32_t i = 0; i <= w->mask; i++)
		if (w->op[i].kind == OP_RECEIVE && w->op[i].state == OP_PENDING)
			(void)fi_cancel(&f->e.ep->fid, &w->op[i].context);
	w->cancelled = true;
}

static bool is_sending(const struct wire *w)
{
	bool sending = w->credit.state == OP_PENDING;

	for (uint32_t i = 0; i <= w->mask; i++)
		sending |= w->op[i].kind == OP_SEND && w->op[i].state == OP_PENDING;
	return sending;
}

/* With a peer that is gone nothing is settled any more: its wires wait for the endpoint's end. */
static void tidy(struct fabric *f, uint32_t i)
{
	struct wire *w = f->wires[i];
	struct peer *p = &f->peers[w->peer];
	struct record bye = {
	        .kind = RECORD_BYE, .outgoing = w->outgoing, .tag = w->tag, .number = w->note, .at = w->sent};

	if (!w->said_bye && !is_sending(w))
		w->said_bye = channel_say(&p->channel, &bye) == TUTTI_OK;
	if (w->said_bye && w->heard_bye && w->got >= w->expected && !w->cancelled)
		cancel(f, w);
	if (!wire_is_free(w))
		return;
	wire_free(w);
	f->wires[i] = NULL;
	f->ended--;
}

void fabric_tidy(struct fabric *f)
{
	for (uint32_t i = 0; i < f->nwires && f->ended; i++)
		if (f->wires[i] && f->wires[i]->ended)
			tidy(f, i);
}

/* ---- the pump ---------------------------------------------------------------------------------------------------- */

static bool in_trouble(const struct fabric *f, const struct wire *w)
{
	const struct peer *p = &f->peers[w->peer];

	return p->broken_ns || p->lost || p->left;
}

/* Posts what there is to post: slots that were filled, receives and credits for slots that are free again. */
static void serve(struct fabric *f, struct wire *w)
{
	int rc;

	if (f->peers[w->peer].left)
		wire_deserted(w);
	if (in_trouble(f, w))
		return;
	rc = w->outgoing ? wire_send(&f->e, w) : wire_arm(&f->e, w);
	if (rc == 0 && !w->outgoing)
		rc = wire_give(&f->e, w);
	if (rc != 0)
		peer_broken(f, w->peer, op_names[w->outgoing ? OP_SEND : OP_CREDIT], f->fi->strerror(-rc));
}

static void serve_all(struct fabric *f)
{
	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *w = f->wires[i];

		if (w && w->met && !w->ended && (f->peers[w->peer].left || wire_is_due(&f->e, w)))
			serve(f, w);
	}
}

/*
 * Nothing came for a while: time for what is not urgent. The queue's descriptor is readable only after fi_trywait; it comes
 * last, for this rank may sleep now.
 */
static int rest(struct fabric *f)
{
	struct fid *queue = &f->e.cq->fid;
	int rc = TUTTI_OK;

	if (f->idle % 16 == 0)
		rc = peers_look(f);
	if (f->ended)
		fabric_tidy(f);
	if (f->unoffered && rc == TUTTI_OK)
		rc = fabric_offer_rest(f);
	if (rc == TUTTI_OK && f->e.wait_fd >= 0)
		(void)fi_trywait(f->e.fabric, &queue, 1);
	return rc;
}

int fabric_pump(struct fabric *f)
{
	bool moved = false;
	int rc;

	serve_all(f);
	rc = fabric_drain(f, &moved);
	if (rc == TUTTI_OK)
		rc = post_credit_receives(f);
	if (f->trouble)
		peers_judge(f);
	f->idle = moved ? 0 : f->idle + 1;
	if (rc == TUTTI_OK && f->idle >= PATIENCE)
		rc = rest(f);
	return rc;
}
