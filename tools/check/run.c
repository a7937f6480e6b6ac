/* SPDX-License-Identifier: MIT */
/*
 * A run: all strands of all ranks, step by step, on symbols.
 */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ------------------------------------------------------------------------------------------------- */

struct cell *check_cell(const struct checker *c, const struct cursor *at, int buf, int block)
{
	if (buf == BUF_TMP)
		return &c->tmp[(size_t)(c->strand0[at->rank] + at->index) * (size_t)c->nblocks + (size_t)block];
	size_t i = ((size_t)at->rank * (size_t)c->nblocks + (size_t)block) * (size_t)c->run.chunks + (size_t)at->chunk;
	return buf == BUF_IN ? &c->in[i] : &c->out[i];
}

static bool step_complain(struct checker *c, const struct cursor *at, const char *what, int buf, int block)
{
	return check_complain(c, at->rank, at->index, at->step, "%s %s block %d", what, check_buf_name(buf), block);
}

static bool load(struct checker *c, const struct cursor *at, int buf, int block, struct carried *got)
{
	struct cell *cell = check_cell(c, at, buf, block);
	if (buf == BUF_IN && cell->spoilt)
		return step_complain(c, at, "in place: reads after it was overwritten", buf, block);
	if (buf == BUF_OUT && !cell->written)
		return step_complain(c, at, "reads before it is written", buf, block);
	if (buf == BUF_TMP && c->tmp_chunk[cell - c->tmp] != at->chunk)
		return step_complain(c, at, "reads before it is written", buf, block);
	*got = (struct carried){cell->v, cell, cell->version};
	return true;
}

static void store(struct checker *c, const struct cursor *at, int buf, int block, const struct carried *put)
{
	struct cell *cell = check_cell(c, at, buf, block);
	if (buf == BUF_TMP) {
		c->tmp_chunk[cell - c->tmp] = at->chunk;
		cell->v = put->v;
		return;
	}
	cell->written = true;
	if (put->cell == cell)
		return; /* in place, a copy onto itself */
	cell->v = put->v;
	cell->version++;
	cell->spoilt = true;
}

/* What the message's sender lent must still be what it was. */
static void look_reference(struct checker *c, const struct cursor *at, const struct channel *ch,
                           const struct carried *m)
{
	if (!m->cell || m->cell->version == m->version || !c->by_reference)
		return;
	c->by_reference = false;
	char *why = c->reference_why;
	size_t size = sizeof(c->reference_why);
	int used = check_describe(c, why, size, at->rank, at->index, at->step, at->chunk);
	snprintf(why + used, size - (size_t)used, ": reads block %d by reference after rank %d has overwritten it%s",
	         m->v.block, ch->from.rank, c->run.in_place ? " in place" : "");
}

/* ---- one step ----------------------------------------------------------------------------------------------- */

static const struct step *step_at(const struct checker *c, const struct cursor *at)
{
	const struct plan *p = c->plan[at->rank];
	return &p->steps[p->strands[at->index].first + at->step];
}

/* The channel of a link of the strand's rank; -1 for no link. */
static int channel_at(const struct checker *c, const struct cursor *at, int link)
{
	return link >= 0 ? c->channel_of[c->link0[at->rank] + link] : -1;
}

static struct carried *slot_at(const struct checker *c, int channel, int k)
{
	const struct channel *ch = &c->channel[channel];
	return c->carried + ch->place * (size_t)c->run.slots + (size_t)(k % c->run.slots) * (size_t)ch->largest;
}

size_t check_words(const struct checker *c)
{
	return ((size_t)c->n + 63) / 64;
}

static uint64_t *token_at(const struct checker *c, int channel, int k)
{
	return c->token + ((size_t)channel * (size_t)c->run.slots + (size_t)(k % c->run.slots)) * check_words(c);
}

static bool is_empty(const struct checker *c, const struct cursor *at, const struct step *s, int i)
{
	return c->run.ragged && check_chunks(c, check_step_length(c, at->rank, s, i)) <= at->chunk;
}

/* All blocks of the step end before this chunk. */
static bool is_skipped(const struct checker *c, const struct cursor *at)
{
	const struct step *s = step_at(c, at);
	if (s->flags & STEP_TOKEN || !c->run.ragged)
		return false;
	for (int i = 0; i < check_step_blocks(s); i++)
		if (!is_empty(c, at, s, i))
			return false;
	return true;
}

static void note_folder(struct checker *c, int block, int rank)
{
	if (c->folder[block] < 0)
		c->folder[block] = rank;
	c->folds_once &= c->folder[block] == rank;
}

static bool compute(struct checker *c, const struct cursor *at, const struct step *s, int i, struct carried *result)
{
	const struct plan *p = c->plan[at->rank];
	struct carried operand = *result, src;
	if (s->acc && !load(c, at, s->acc, block_at(p, s->dst_set, i), &operand))
		return false;
	if (s->src && !load(c, at, s->src, block_at(p, s->src_set, i), &src))
		return false;
	if (!(s->flags & STEP_REDUCE)) {
		*result = s->src ? src : operand;
		return true;
	}
	bool first = s->flags & STEP_LOCAL_FIRST;
	if (operand.v.block != src.v.block)
		return check_complain(c, at->rank, at->index, at->step, "adds block %d to block %d", src.v.block,
		                      operand.v.block);
	*result = (struct carried){.v.block = src.v.block};
	const char *fault = check_add(c, first ? src.v.expr : operand.v.expr, first ? operand.v.expr : src.v.expr,
	                              s->flags & STEP_FINAL, &result->v.expr);
	if (fault)
		return check_complain(c, at->rank, at->index, at->step, "block %d: %s", src.v.block, fault);
	if (s->flags & STEP_FINAL)
		note_folder(c, src.v.block, at->rank);
	return true;
}

static bool run_data(struct checker *c, const struct cursor *at, const struct step *s)
{
	const struct plan *p = c->plan[at->rank];
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	const struct carried *message = recv >= 0 ? slot_at(c, recv, c->traffic[recv].received) : NULL;
	bool lend = s->src && s->src != BUF_TMP && !(s->flags & STEP_REDUCE);
	for (int i = 0; i < check_step_blocks(s); i++) {
		if (is_empty(c, at, s, i))
			continue;
		if (message) {
			look_reference(c, at, &c->channel[recv], &message[i]);
			c->work[i] = (struct carried){.v = message[i].v};
		}
		if (!compute(c, at, s, i, &c->work[i]))
			return false;
	}
	for (int i = 0; i < check_step_blocks(s); i++) {
		if (is_empty(c, at, s, i))
			continue;
		if (s->dst)
			store(c, at, s->dst, block_at(p, s->dst_set, i), &c->work[i]);
		if (!lend)
			c->work[i].cell = NULL;
		if (send >= 0)
			slot_at(c, send, c->traffic[send].sent)[i] = c->work[i];
	}
	return true;
}

static void run_token(struct checker *c, const struct cursor *at, const struct step *s)
{
	if (!c->heard)
		return;
	uint64_t *heard = c->heard + (size_t)(c->strand0[at->rank] + at->index) * check_words(c);
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	for (size_t w = 0; recv >= 0 && w < check_words(c); w++)
		heard[w] |= token_at(c, recv, c->traffic[recv].received)[w];
	if (send >= 0)
		memcpy(token_at(c, send, c->traffic[send].sent), heard, check_words(c) * sizeof(*heard));
}

/* ---- who is next -------------------------------------------------------------------------------------------- */

static uint64_t next_random(struct checker *c)
{
	return check_mix(c->random += 0x9e3779b97f4a7c15u);
}

static bool is_done(const struct checker *c, const struct cursor *at)
{
	return at->chunk == c->run.chunks;
}

static void put_in_queue(struct checker *c, int strand)
{
	struct cursor *at = &c->cursor[strand];
	if (at->queued || is_done(c, at))
		return;
	bool late = c->run.straggler >= 0 ? strand == c->run.straggler
	                                  : c->run.order == CHECK_LAZY && step_at(c, at)->recv >= 0;
	struct queue *q = &c->queue[late];
	q->at[(q->first + q->n++) % c->nstrands] = strand;
	at->queued = true;
}

static int take_from_queue(struct checker *c)
{
	struct queue *q = &c->queue[!c->queue[0].n];
	if (!q->n)
		return -1;
	int last = (q->first + q->n - 1) % c->nstrands, strand;
	if (c->run.order == CHECK_RANDOM) {
		int pick = (q->first + (int)(next_random(c) % (uint64_t)q->n)) % c->nstrands;
		strand = q->at[pick];
		q->at[pick] = q->at[last];
	} else if (c->run.order == CHECK_EAGER) {
		strand = q->at[last];
	} else {
		strand = q->at[q->first];
		q->first = (q->first + 1) % c->nstrands;
	}
	q->n--;
	c->cursor[strand].queued = false;
	return strand;
}

/* What a strand waits for: a strand, or -1: nothing. `text` may be NULL. */
static int waits_for(const struct checker *c, const struct cursor *at, char *text, size_t size)
{
	const struct step *s = step_at(c, at);
	int after = c->plan[at->rank]->strands[at->index].after;
	if (after >= 0 && c->cursor[c->strand0[at->rank] + after].chunk <= at->chunk) {
		if (text)
			snprintf(text, size, "waits for strand %d to finish the chunk", after);
		return c->strand0[at->rank] + after;
	}
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	if (recv >= 0 && c->traffic[recv].sent == c->traffic[recv].received) {
		if (text)
			snprintf(text, size, "waits for message %d from rank %d on lane %d", c->traffic[recv].received,
			         c->channel[recv].from.rank, c->channel[recv].lane);
		return c->channel[recv].from.strand;
	}
	if (send >= 0 && c->traffic[send].sent - c->traffic[send].received >= c->run.slots) {
		if (text)
			snprintf(text, size, "waits for a free slot to rank %d on lane %d (%d slots)",
			         c->channel[send].to.rank, c->channel[send].lane, c->run.slots);
		return c->channel[send].to.strand;
	}
	return -1;
}

/* Go past the current step and those that carry nothing in this chunk; wake the strands that waited for the chunk. */
static void advance(struct checker *c, int strand)
{
	struct cursor *at = &c->cursor[strand];
	const struct plan *p = c->plan[at->rank];
	at->step++;
	for (;;) {
		while (at->step < p->strands[at->index].nsteps && is_skipped(c, at))
			at->step++;
		if (at->step < p->strands[at->index].nsteps)
			return;
		at->chunk++;
		at->step = 0;
		for (int i = 0; i < p->nstrands; i++)
			if (p->strands[i].after == at->index)
				put_in_queue(c, c->strand0[at->rank] + i);
		if (is_done(c, at))
			return;
	}
}

static bool move(struct checker *c, int strand)
{
	struct cursor *at = &c->cursor[strand];
	const struct step *s = step_at(c, at);
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	if (s->flags & STEP_TOKEN)
		run_token(c, at, s);
	else if (!run_data(c, at, s))
		return false;
	if (recv >= 0) {
		c->traffic[recv].received++;
		put_in_queue(c, c->channel[recv].from.strand);
	}
	if (send >= 0) {
		c->traffic[send].sent++;
		put_in_queue(c, c->channel[send].to.strand);
	}
	advance(c, strand);
	put_in_queue(c, strand);
	return true;
}

/* No strand can move, but some have not finished: list which waits for which, up to five. */
static bool look_stuck(struct checker *c)
{
	int strand = 0;
	while (strand < c->nstrands && is_done(c, &c->cursor[strand]))
		strand++;
	if (strand == c->nstrands)
		return true;
	char waits[160], all[1024];
	int used = 0;
	for (int k = 0; k < 5 && strand >= 0 && !is_done(c, &c->cursor[strand]); k++) {
		const struct cursor *at = &c->cursor[strand];
		strand = waits_for(c, at, waits, sizeof(waits));
		used += snprintf(all + used, sizeof(all) - (size_t)used, "%srank %d strand %d step %d chunk %d %s",
		                 k ? "; " : "", at->rank, at->index, at->step, at->chunk, waits);
	}
	const struct plan *p = c->plan[0];
	snprintf(c->why, c->why_size, "%s:%s n=%d root=%d: stuck: %s", coll_name(p->coll), p->algo, c->n, p->root, all);
	return false;
}

/* ---- from start to end -------------------------------------------------------------------------------------- */

static void fill_buffers(struct checker *c)
{
	size_t i = 0;
	for (int rank = 0; rank < c->n; rank++) {
		for (int block = 0; block < c->nblocks; block++) {
			bool here = check_exists(c, rank, BUF_IN, block);
			for (int chunk = 0; chunk < c->run.chunks; chunk++, i++)
				c->in[i].v = (struct value){here ? (uint32_t)rank : NOTHING, block};
		}
	}
}

static void start_strands(struct checker *c)
{
	for (int rank = 0; rank < c->n; rank++) {
		for (int s = c->strand0[rank]; s < c->strand0[rank + 1]; s++) {
			c->cursor[s] = (struct cursor){.rank = rank, .index = s - c->strand0[rank], .step = -1};
			if (c->heard)
				c->heard[(size_t)s * check_words(c) + (size_t)rank / 64] |= (uint64_t)1 << rank % 64;
		}
	}
	for (int s = 0; s < c->nstrands; s++) {
		advance(c, s);
		put_in_queue(c, s);
	}
}

static bool alloc_run(struct checker *c)
{
	const struct check_run *run = &c->run;
	size_t cells = (size_t)c->n * (size_t)c->nblocks * (size_t)run->chunks, strands = (size_t)c->nstrands + 1;
	size_t scratch = strands * (size_t)c->nblocks, channels = (size_t)c->nchannels + 1, slots = (size_t)run->slots;
	bool barrier = c->coll == COLL_BARRIER;
	c->in = calloc(cells, sizeof(*c->in));
	c->out = run->in_place ? c->in : calloc(cells, sizeof(*c->out));
	c->tmp = calloc(scratch, sizeof(*c->tmp));
	c->tmp_chunk = malloc(scratch * sizeof(*c->tmp_chunk));
	c->traffic = calloc(channels, sizeof(*c->traffic));
	c->carried = calloc(c->places * slots + 1, sizeof(*c->carried));
	c->heard = barrier ? calloc(strands * check_words(c), sizeof(*c->heard)) : NULL;
	c->token = barrier ? calloc(channels * slots * check_words(c), sizeof(*c->token)) : NULL;
	c->cursor = calloc(strands, sizeof(*c->cursor));
	c->queue[0] = (struct queue){.at = calloc(strands, sizeof(int))};
	c->queue[1] = (struct queue){.at = calloc(strands, sizeof(int))};
	c->work = calloc((size_t)c->nblocks, sizeof(*c->work));
	if (!c->in || !c->out || !c->tmp || !c->tmp_chunk || !c->traffic || !c->carried || !c->cursor ||
	    (barrier && (!c->heard || !c->token)) || !c->queue[0].at || !c->queue[1].at || !c->work)
		return check_no_memory(c);
	memset(c->tmp_chunk, 0xff, scratch * sizeof(*c->tmp_chunk));
	return true;
}

static void free_run(struct checker *c)
{
	if (c->out != c->in)
		free(c->out);
	free(c->in);
	free(c->tmp);
	free(c->tmp_chunk);
	free(c->traffic);
	free(c->carried);
	free(c->heard);
	free(c->token);
	free(c->cursor);
	free(c->queue[0].at);
	free(c->queue[1].at);
	free(c->work);
	c->cursor = NULL;
}

bool checker_run(struct checker *c, const struct check_run *run, char *why, size_t size)
{
	c->run = *run;
	if (c->coll == COLL_BARRIER)
		c->run.chunks = 1; /* a second round would hide what the first one lacks */
	if (c->coll == COLL_ALLTOALL)
		c->run.in_place = false;
	c->random = run->seed;
	c->why = why;
	c->why_size = size;
	bool ok = alloc_run(c);
	if (ok) {
		fill_buffers(c);
		start_strands(c);
	}
	for (int strand; ok && (strand = take_from_queue(c)) >= 0;)
		ok = waits_for(c, &c->cursor[strand], NULL, 0) >= 0 || move(c, strand);
	ok = ok && look_stuck(c) && check_results(c);
	free_run(c);
	return ok;
}
