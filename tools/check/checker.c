/* SPDX-License-Identifier: MIT */
/*
 * The life of a checker, how it complains, and what buffers and blocks there are. plan_check.h says what makes it a
 * proof.
 */
#include "checker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int check_describe(const struct checker *c, char *text, size_t size, int rank, int strand, int step, int chunk)
{
	const struct plan *p = c->plan[rank];
	int at = snprintf(text, size, "%s:%s n=%d root=%d rank %d", coll_name(p->coll), p->algo, c->n, p->root, rank);
	if (strand >= 0)
		at += snprintf(text + at, size - (size_t)at, " strand %d", strand);
	if (step >= 0) {
		char what[160];
		plan_step_text(p, &p->steps[p->strands[strand].first + step], what, sizeof(what));
		at += snprintf(text + at, size - (size_t)at, " step %d (%s)", step, what);
	}
	if (chunk >= 0)
		at += snprintf(text + at, size - (size_t)at, " chunk %d", chunk);
	return at;
}

bool check_complain(struct checker *c, int rank, int strand, int step, const char *fmt, ...)
{
	char where[360], what[360];
	int chunk = c->cursor && strand >= 0 ? c->cursor[c->strand0[rank] + strand].chunk : -1;
	check_describe(c, where, sizeof(where), rank, strand, step, chunk);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(c->why, c->why_size, "%s: %s", where, what);
	return false;
}

bool check_no_memory(struct checker *c)
{
	snprintf(c->why, c->why_size, "out of memory");
	return false;
}

/* ---- buffers and blocks ------------------------------------------------------------------------------------- */

const char *check_buf_name(int buf)
{
	return buf == BUF_IN ? "IN" : buf == BUF_OUT ? "OUT" : "TMP";
}

bool check_exists(const struct checker *c, int rank, int buf, int block)
{
	const struct plan *p = c->plan[rank];
	bool own = block / p->parts == rank, root = rank == p->root;
	switch (p->coll) {
	case COLL_ALLREDUCE:
	case COLL_ALLTOALL:
		return true;
	case COLL_ALLGATHER:
		return buf != BUF_IN || own;
	case COLL_REDUCE_SCATTER:
		return buf != BUF_OUT || own;
	case COLL_BROADCAST:
		return buf != BUF_IN || root;
	case COLL_REDUCE:
		return buf != BUF_OUT || root;
	case COLL_GATHER:
		return buf == BUF_IN ? own : buf != BUF_OUT || root;
	case COLL_SCATTER:
		return buf == BUF_OUT ? own : buf != BUF_IN || root;
	default:
		return false;
	}
}

int check_length(const struct checker *c, int rank, int buf, int block)
{
	int parts = c->plan[rank]->parts;
	if (c->coll != COLL_ALLTOALL)
		return block;
	if (buf == BUF_IN)
		return rank * c->nblocks + block;
	return block / parts * c->nblocks + rank * parts + block % parts;
}

int check_chunks(const struct checker *c, int id)
{
	if (!c->run.ragged)
		return c->run.chunks;
	return (int)(check_mix(c->run.seed + (uint64_t)id) % (uint64_t)(c->run.chunks + 1));
}

/* The buffer and set that say which blocks a step is about. */
static struct block_set set_of(const struct step *s, int *buf)
{
	*buf = s->src ? s->src : s->dst ? s->dst : s->acc;
	return s->src ? s->src_set : s->dst_set;
}

int check_step_length(const struct checker *c, int rank, const struct step *s, int i)
{
	int buf;
	struct block_set set = set_of(s, &buf);
	return check_length(c, rank, buf, block_at(c->plan[rank], set, i));
}

int check_step_blocks(const struct step *s)
{
	int buf;
	return s->flags & STEP_TOKEN ? 0 : set_of(s, &buf).n;
}

/* ---- life --------------------------------------------------------------------------------------------------- */

static bool count_up(struct checker *c)
{
	c->strand0 = calloc((size_t)c->n + 1, sizeof(*c->strand0));
	c->link0 = calloc((size_t)c->n + 1, sizeof(*c->link0));
	if (!c->strand0 || !c->link0)
		return check_no_memory(c);
	for (int r = 0; r < c->n; r++) {
		c->strand0[r + 1] = c->nstrands += c->plan[r]->nstrands;
		c->link0[r + 1] = c->nlinks += c->plan[r]->nlinks;
	}
	c->channel_of = calloc((size_t)c->nlinks + 1, sizeof(*c->channel_of));
	c->folder = malloc(((size_t)c->nblocks + 1) * sizeof(*c->folder));
	for (int i = 0; c->folder && i < c->nblocks; i++)
		c->folder[i] = -1;
	return (c->channel_of && c->folder) || check_no_memory(c);
}

struct checker *checker_create(const struct plan *const *plans, int n, char *why, size_t size)
{
	struct checker *c = calloc(1, sizeof(*c));
	if (!c) {
		snprintf(why, size, "out of memory");
		return NULL;
	}
	c->plan = plans;
	c->n = n;
	c->coll = plans[0]->coll;
	c->nblocks = plans[0]->nblocks;
	c->by_reference = c->folds_once = true;
	c->why = why;
	c->why_size = size;
	if (count_up(c) && check_leaves(c) && check_look(c))
		return c;
	checker_free(c);
	return NULL;
}

int checker_strands(const struct checker *c)
{
	return c->nstrands;
}

bool checker_by_reference(const struct checker *c, const char **why)
{
	if (why)
		*why = c->reference_why;
	return c->by_reference;
}

bool checker_folds_once(const struct checker *c)
{
	return c->folds_once;
}

void checker_free(struct checker *c)
{
	if (!c)
		return;
	free(c->strand0);
	free(c->link0);
	free(c->channel_of);
	free(c->folder);
	free(c->channel);
	free(c->expr);
	free(c->bucket);
	free(c);
}
