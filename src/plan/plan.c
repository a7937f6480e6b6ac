/* SPDX-License-Identifier: MIT */
/*
 * Plans as data: the builder that planners append to, the printer, and the names of the collectives. Nothing here
 * knows an algorithm; nothing here runs one.
 */
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const coll_names[COLL_KINDS] = {
        [COLL_ALLREDUCE] = "allreduce", [COLL_ALLGATHER] = "allgather", [COLL_REDUCE_SCATTER] = "reduce_scatter",
        [COLL_BROADCAST] = "broadcast", [COLL_REDUCE] = "reduce",       [COLL_GATHER] = "gather",
        [COLL_SCATTER] = "scatter",     [COLL_ALLTOALL] = "alltoall",   [COLL_BARRIER] = "barrier",
        [COLL_SEND] = "send",           [COLL_RECV] = "recv",
};

const char *coll_name(enum coll coll)
{
	return (unsigned)coll < COLL_KINDS ? coll_names[coll] : "unknown";
}

int coll_by_name(const char *name)
{
	for (int i = 0; i < COLL_KINDS; i++)
		if (!strcmp(name, coll_names[i]))
			return i;
	return -1;
}

/* ---- building -------------------------------------------------------------------------------------------------- */

/*
 * The array with room for one more behind `used`: perhaps moved, or as it was when memory is out (the builder has
 * failed).
 */
static void *grow(struct plan_builder *b, void *array, int used, int *cap, size_t size)
{
	if (b->failed || used < *cap)
		return array;
	int want = *cap ? *cap * 2 : 8;
	void *p = realloc(array, (size_t)want * size);
	if (!p) {
		b->failed = true;
		return array;
	}
	*cap = want;
	return p;
}

int plan_begin(struct plan_builder *b, enum coll coll, const char *algo, int rank, int nranks, int root)
{
	*b = (struct plan_builder){.plan = calloc(1, sizeof(*b->plan))};
	b->failed = !b->plan;
	if (b->failed)
		return -1;
	*b->plan = (struct plan){
	        .coll = coll,
	        .algo = algo,
	        .rank = rank,
	        .nranks = nranks,
	        .root = root,
	        .nblocks = 1,
	        .parts = 1,
	        .max_set = 1,
	};
	return 0;
}

int plan_strand(struct plan_builder *b, int after)
{
	if (b->failed)
		return -1;
	struct plan *p = b->plan;
	p->strands = grow(b, p->strands, p->nstrands, &b->cap_strands, sizeof(*p->strands));
	if (b->failed)
		return -1;
	p->strands[p->nstrands] = (struct strand){.first = p->nsteps, .after = after};
	return p->nstrands++;
}

static int link_index(struct plan_builder *b, int peer, int lane, bool outgoing)
{
	if (b->failed)
		return -1;
	struct plan *p = b->plan;
	for (int i = p->nlinks - 1; i >= 0; i--)
		if (p->links[i].peer == peer && p->links[i].lane == lane && p->links[i].outgoing == outgoing)
			return i;
	b->failed |= p->nlinks > INT16_MAX; /* steps name links by int16_t */
	p->links = grow(b, p->links, p->nlinks, &b->cap_links, sizeof(*p->links));
	if (b->failed)
		return -1;
	p->links[p->nlinks] = (struct plan_link){.peer = peer, .lane = (int16_t)lane, .outgoing = outgoing};
	return p->nlinks++;
}

int plan_to(struct plan_builder *b, int peer, int lane)
{
	return link_index(b, peer, lane, true);
}

int plan_from(struct plan_builder *b, int peer, int lane)
{
	return link_index(b, peer, lane, false);
}

void plan_step(struct plan_builder *b, struct step s)
{
	if (b->failed)
		return;
	struct plan *p = b->plan;
	p->steps = grow(b, p->steps, p->nsteps, &b->cap_steps, sizeof(*p->steps));
	if (b->failed)
		return;
	if (s.src == BUF_TMP || s.dst == BUF_TMP || s.acc == BUF_TMP)
		p->uses_tmp = true;
	p->steps[p->nsteps++] = s;
	p->strands[p->nstrands - 1].nsteps++;
}

/*
 * A strand that waits for an empty strand waits for that one's predecessor instead. The empty strand can then be
 * removed.
 */
static void drop_empty_strands(struct plan *p)
{
	for (int i = 0; i < p->nstrands; i++)
		while (p->strands[i].after >= 0 && !p->strands[p->strands[i].after].nsteps)
			p->strands[i].after = p->strands[p->strands[i].after].after;
	for (int i = 0; i < p->nstrands;) {
		if (p->strands[i].nsteps) {
			i++;
			continue;
		}
		memmove(p->strands + i, p->strands + i + 1, (size_t)(--p->nstrands - i) * sizeof(*p->strands));
		for (int j = 0; j < p->nstrands; j++)
			p->strands[j].after -= p->strands[j].after > i;
	}
}

/*
 * Then a block may arrive early, or stay lent: its readers read it after its only step. In place, IN also contains only
 * the rank's own blocks, and these are not received.
 */
static bool is_written_once(const struct plan *p)
{
	if (coll_reduces(p->coll))
		return false;
	bool *written = calloc((size_t)p->nblocks, sizeof(*written)), once = written != NULL;
	for (int i = 0; i < p->nsteps && once; i++) {
		const struct step *s = &p->steps[i];
		for (int k = 0; s->dst == BUF_OUT && k < s->dst_set.n; k++) {
			bool *block = &written[block_at(p, s->dst_set, k)];
			once &= !*block;
			*block = true;
		}
	}
	free(written);
	return once;
}

/* All steps that use a link are of one strand, in order: after the last of them the next call may have the link. */
static void find_last_uses(struct plan *p)
{
	for (int i = 0; i < p->nlinks; i++)
		p->links[i].last = -1;
	for (int i = 0; i < p->nsteps; i++) {
		const struct step *s = &p->steps[i];
		if (s->recv >= 0)
			p->links[s->recv].last = i;
		if (s->send >= 0)
			p->links[s->send].last = i;
	}
}

struct plan *plan_finish(struct plan_builder *b)
{
	struct plan *p = b->plan;
	if (b->failed) {
		plan_free(p);
		p = NULL;
	} else {
		drop_empty_strands(p);
		find_last_uses(p);
		p->written_once = is_written_once(p);
	}
	*b = (struct plan_builder){0};
	return p;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	free(p->steps);
	free(p->strands);
	free(p->links);
	free(p);
}

/* ---- printing -------------------------------------------------------------------------------------------------- */

struct text {
	char s[160];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(t->s + t->len, sizeof(t->s) - t->len, fmt, ap);
	va_end(ap);
	t->len += n < 0 ? 0 : (size_t)n;
	if (t->len >= sizeof(t->s))
		t->len = sizeof(t->s) - 1;
}

static void add_set(struct text *t, const struct plan *p, int buf, struct block_set s)
{
	static const char *const names[] = {"-", "IN", "OUT", "TMP"};
	int first = block_at(p, s, 0);
	if (s.n == 1)
		add(t, "%s[%d]", names[buf], first);
	else if (s.stride == 1)
		add(t, "%s[%d..%d]", names[buf], first, block_at(p, s, s.n - 1));
	else
		add(t, "%s[%d by %d, %d]", names[buf], first, s.stride, s.n);
}

static void add_link(struct text *t, const struct plan *p, int link)
{
	const struct plan_link *l = &p->links[link];
	add(t, "%s %d.%d", l->outgoing ? "to" : "from", l->peer, l->lane);
}

static void add_operand(struct text *t, const struct plan *p, const struct step *s)
{
	if (s->recv >= 0)
		add_link(t, p, s->recv);
	else
		add_set(t, p, s->acc, s->dst_set);
}

static void add_step(struct text *t, const struct plan *p, const struct step *s)
{
	bool operand = s->recv >= 0 || s->acc != BUF_NONE, src_first = s->flags & STEP_LOCAL_FIRST;
	if (operand && !(src_first && s->src))
		add_operand(t, p, s);
	if (s->src != BUF_NONE) {
		add(t, "%s", operand && !src_first ? " + " : "");
		add_set(t, p, s->src, s->src_set);
	}
	if (operand && src_first && s->src) {
		add(t, " + ");
		add_operand(t, p, s);
	}
	if (s->dst != BUF_NONE) {
		add(t, " -> ");
		add_set(t, p, s->dst, s->dst_set);
	}
	if (s->send >= 0) {
		add(t, s->dst != BUF_NONE ? ", " : operand || s->src ? " -> " : "");
		add_link(t, p, s->send);
	}
	add(t, "%s%s", s->flags & STEP_FINAL ? "  final" : "", s->flags & STEP_TOKEN ? "  token" : "");
}

void plan_step_text(const struct plan *p, const struct step *s, char *text, size_t size)
{
	struct text t = {.len = 0};
	add_step(&t, p, s);
	snprintf(text, size, "%s", t.s);
}

void plan_print(const struct plan *p, void (*line)(void *ctx, const char *text), void *ctx)
{
	struct text t = {.len = 0};
	add(&t, "%s:%s rank %d of %d", coll_name(p->coll), p->algo, p->rank, p->nranks);
	if (p->root)
		add(&t, ", root %d", p->root);
	add(&t, ": %d blocks, %d a part, sets up to %d, %d links%s%s", p->nblocks, p->parts, p->max_set, p->nlinks,
	    p->uses_tmp ? ", scratch" : "", p->by_reference ? ", by reference" : "");
	line(ctx, t.s);
	for (int i = 0; i < p->nstrands; i++) {
		const struct strand *s = &p->strands[i];
		t.len = 0;
		add(&t, "  strand %d", i);
		if (s->after >= 0)
			add(&t, " after %d", s->after);
		line(ctx, t.s);
		for (int k = 0; k < s->nsteps; k++) {
			t.len = 0;
			add(&t, "  %4d  ", k);
			add_step(&t, p, &p->steps[s->first + k]);
			line(ctx, t.s);
		}
	}
}
