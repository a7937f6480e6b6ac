/* SPDX-License-Identifier: MIT */
/*
 * Looking: each plan by itself, then both ends of each link. Nothing is run here.
 */
#include "checker.h"

#include <stdlib.h>
#include <string.h>

static bool look_set(struct checker *c, int rank, int strand, int step, int buf, struct block_set set, int *seen)
{
	const struct plan *p = c->plan[rank];
	if (set.n < 1 || set.n > p->max_set)
		return check_complain(c, rank, strand, step, "a set of %d blocks, the plan says 1 to %d", set.n,
		                      p->max_set);
	if (set.first < 0 || set.first >= p->nblocks)
		return check_complain(c, rank, strand, step, "block %d, the plan has %d", set.first, p->nblocks);
	memset(seen, 0, (size_t)p->nblocks * sizeof(*seen));
	for (int i = 0; i < set.n; i++) {
		int block = block_at(p, set, i);
		if (seen[block]++)
			return check_complain(c, rank, strand, step, "block %d stands twice in a set", block);
		if (!check_exists(c, rank, buf, block))
			return check_complain(c, rank, strand, step, "this rank has no block %d of %s", block,
			                      check_buf_name(buf));
	}
	return true;
}

/* Both sets of a step must hold blocks of equal length, one by one; `other` is the buffer of dst_set. */
static bool look_lengths(struct checker *c, int rank, int strand, int step, const struct step *s, int other)
{
	const struct plan *p = c->plan[rank];
	const char *src = check_buf_name(s->src), *dst = check_buf_name(other);
	if (s->src_set.n != s->dst_set.n)
		return check_complain(c, rank, strand, step, "%d blocks of %s, but %d of %s", s->src_set.n, src,
		                      s->dst_set.n, dst);
	for (int i = 0; i < s->src_set.n; i++) {
		int x = block_at(p, s->src_set, i), y = block_at(p, s->dst_set, i);
		if (check_length(c, rank, s->src, x) != check_length(c, rank, other, y))
			return check_complain(c, rank, strand, step, "%s block %d and %s block %d differ in length",
			                      src, x, dst, y);
	}
	return true;
}

/* A link has one direction and one strand. */
static bool look_link(struct checker *c, int rank, int strand, int step, int link, bool outgoing)
{
	const struct plan *p = c->plan[rank];
	if (link < 0)
		return true;
	if (p->links[link].outgoing != outgoing)
		return check_complain(c, rank, strand, step, "link %d used against its direction", link);
	struct channel *ch = &c->channel[c->channel_of[c->link0[rank] + link]];
	struct end *end = outgoing ? &ch->from : &ch->to;
	int global = c->strand0[rank] + strand;
	if (end->strand >= 0 && end->strand != global)
		return check_complain(c, rank, strand, step, "link %s %d.%d belongs to strand %d already",
		                      outgoing ? "to" : "from", p->links[link].peer, p->links[link].lane,
		                      end->strand - c->strand0[rank]);
	end->strand = global;
	int blocks_sent = check_step_blocks(&p->steps[p->strands[strand].first + step]);
	if (blocks_sent > ch->largest)
		ch->largest = blocks_sent;
	return true;
}

static const char *shape_fault(const struct plan *p, const struct step *s)
{
	bool operand = s->recv >= 0 || s->acc != BUF_NONE, local = s->src || s->dst || s->acc;
	if (s->src > BUF_TMP || s->dst > BUF_TMP || s->acc > BUF_TMP)
		return "no such buffer";
	if (s->flags & STEP_TOKEN)
		return local                        ? "a token carries nothing"
		       : s->flags != STEP_TOKEN     ? "a token is not reduced"
		       : s->recv < 0 && s->send < 0 ? "a token needs a link"
		                                    : NULL;
	if (s->dst == BUF_IN)
		return "writes IN";
	if (s->recv >= 0 && !local)
		return "receives, but touches no buffer";
	if (!s->dst && s->send < 0)
		return "the result goes nowhere";
	if (s->recv >= 0 && s->acc)
		return "two operands";
	if (!(s->flags & STEP_REDUCE))
		return s->flags              ? "only a reduction can be final or have an order"
		       : operand && s->src   ? "two sources and no reduction"
		       : !operand && !s->src ? "no source"
		       : s->acc              ? "copies from the operand's buffer"
		                             : NULL;
	if (!operand || !s->src)
		return "a reduction needs two sources";
	return p->coll == COLL_ALLREDUCE || p->coll == COLL_REDUCE || p->coll == COLL_REDUCE_SCATTER
	               ? NULL
	               : "reduces in a collective that does not";
}

static bool look_step(struct checker *c, int rank, int strand, int step, int *seen)
{
	const struct plan *p = c->plan[rank];
	const struct step *s = &p->steps[p->strands[strand].first + step];
	if (s->recv >= p->nlinks || s->send >= p->nlinks)
		return check_complain(c, rank, strand, -1, "step %d uses link %d, the plan has %d", step,
		                      s->recv > s->send ? s->recv : s->send, p->nlinks);
	const char *fault = shape_fault(p, s);
	if (fault)
		return check_complain(c, rank, strand, step, "%s", fault);
	int other = s->dst ? s->dst : s->acc;
	if (s->src && !look_set(c, rank, strand, step, s->src, s->src_set, seen))
		return false;
	if (other && !look_set(c, rank, strand, step, other, s->dst_set, seen))
		return false;
	if (s->dst && s->acc && !look_set(c, rank, strand, step, s->acc, s->dst_set, seen))
		return false;
	if (s->src && other && !look_lengths(c, rank, strand, step, s, other))
		return false;
	if (c->coll == COLL_ALLTOALL && (s->src == BUF_TMP || other == BUF_TMP))
		return check_complain(c, rank, strand, step, "scratch has no lengths in an all-to-all");
	return look_link(c, rank, strand, step, s->recv, false) && look_link(c, rank, strand, step, s->send, true);
}

static bool look_strand(struct checker *c, int rank, int strand, int *seen)
{
	const struct plan *p = c->plan[rank];
	const struct strand *s = &p->strands[strand];
	if (s->first < 0 || s->nsteps < 1 || s->first > p->nsteps - s->nsteps)
		return check_complain(c, rank, strand, -1, "steps %d to %d, the plan has %d", s->first,
		                      s->first + s->nsteps - 1, p->nsteps);
	if (s->after < -1 || s->after >= p->nstrands || s->after == strand)
		return check_complain(c, rank, strand, -1, "waits for strand %d", s->after);
	for (int step = 0; step < s->nsteps; step++)
		if (!look_step(c, rank, strand, step, seen))
			return false;
	return true;
}

static bool look_plan(struct checker *c, int rank)
{
	const struct plan *p = c->plan[rank], *p0 = c->plan[0];
	bool owned = p->coll >= COLL_GATHER ? p->coll != COLL_BARRIER
	                                    : p->coll == COLL_ALLGATHER || p->coll == COLL_REDUCE_SCATTER;
	if (p->coll != p0->coll || p->rank != rank || p->nranks != c->n || p->root != p0->root)
		return check_complain(c, rank, -1, -1, "says it is rank %d of %d, root %d, %s", p->rank, p->nranks,
		                      p->root, coll_name(p->coll));
	if (p->nblocks != p0->nblocks || p->parts != p0->parts || p->max_set != p0->max_set ||
	    p->by_reference != p0->by_reference)
		return check_complain(c, rank, -1, -1,
		                      "blocks, parts, largest set or reference differ from those of rank 0");
	if (p->nblocks < 1 || p->max_set < 1 || p->max_set > p->nblocks || p->parts < 1 ||
	    p->parts != (owned ? p->nblocks / c->n : 1) || (owned && p->nblocks % c->n))
		return check_complain(c, rank, -1, -1, "%d blocks, %d a part, sets up to %d do not go together",
		                      p->nblocks, p->parts, p->max_set);
	int *seen = malloc((size_t)p->nblocks * sizeof(*seen));
	if (!seen)
		return check_no_memory(c);
	bool ok = true;
	for (int strand = 0; ok && strand < p->nstrands; strand++)
		ok = look_strand(c, rank, strand, seen);
	free(seen);
	return ok;
}

/* ---- both ends of each link --------------------------------------------------------------------------------- */

static int compare_ends(const void *x, const void *y)
{
	const struct channel *a = x, *b = y;
	if (a->from.rank != b->from.rank)
		return a->from.rank < b->from.rank ? -1 : 1;
	if (a->to.rank != b->to.rank)
		return a->to.rank < b->to.rank ? -1 : 1;
	return a->lane < b->lane ? -1 : a->lane > b->lane;
}

/* All links of one direction as half channels, sorted. */
static struct channel *half_channels(struct checker *c, bool outgoing, int *n)
{
	struct channel *half = calloc((size_t)c->nlinks + 1, sizeof(*half));
	*n = 0;
	for (int rank = 0; half && rank < c->n; rank++) {
		for (int i = 0; i < c->plan[rank]->nlinks; i++) {
			const struct plan_link *l = &c->plan[rank]->links[i];
			struct end here = {rank, i, -1}, there = {l->peer, -1, -1};
			if (l->outgoing == outgoing)
				half[(*n)++] = (struct channel){.from = outgoing ? here : there,
				                                .to = outgoing ? there : here,
				                                .lane = l->lane};
		}
	}
	if (half)
		qsort(half, (size_t)*n, sizeof(*half), compare_ends);
	return half;
}

/* The k-th link out must be the k-th link in of somebody else. */
static bool join_halves(struct checker *c, struct channel *out, int nout, const struct channel *in, int nin)
{
	for (int i = 0; i < nout || i < nin; i++) {
		int order = i >= nin ? -1 : i >= nout ? 1 : compare_ends(&out[i], &in[i]);
		const struct channel *odd = order <= 0 ? &out[i] : &in[i];
		if (order)
			return check_complain(c, order < 0 ? odd->from.rank : odd->to.rank, -1, -1,
			                      "link from rank %d to rank %d on lane %d has no other end",
			                      odd->from.rank, odd->to.rank, odd->lane);
		if (odd->from.rank == odd->to.rank || (i && !compare_ends(&out[i - 1], &out[i])))
			return check_complain(c, odd->from.rank, -1, -1, "link to rank %d on lane %d %s", odd->to.rank,
			                      odd->lane,
			                      odd->from.rank == odd->to.rank ? "goes to itself" : "stands twice");
		out[i].to = in[i].to;
		c->channel_of[c->link0[out[i].from.rank] + out[i].from.link] = i;
		c->channel_of[c->link0[out[i].to.rank] + out[i].to.link] = i;
	}
	return true;
}

static bool join_links(struct checker *c)
{
	int nin;
	c->channel = half_channels(c, true, &c->nchannels);
	struct channel *in = half_channels(c, false, &nin);
	bool ok = c->channel && in ? join_halves(c, c->channel, c->nchannels, in, nin) : check_no_memory(c);
	free(in);
	return ok;
}

/* The next step at or behind *step of the end's strand that uses its link, or NULL. */
static const struct step *next_use(const struct checker *c, const struct end *end, bool sends, int *step)
{
	const struct plan *p = c->plan[end->rank];
	const struct strand *s = &p->strands[end->strand - c->strand0[end->rank]];
	for (; *step < s->nsteps; ++*step) {
		const struct step *use = &p->steps[s->first + *step];
		if ((sends ? use->send : use->recv) == end->link)
			return use;
	}
	return NULL;
}

/* Do both ends of a message name the same blocks? Then both skip it or neither does, whatever the lengths. */
static bool same_message(const struct checker *c, const struct channel *ch, const struct step *s, const struct step *r)
{
	if (check_step_blocks(s) != check_step_blocks(r) || (s->flags & STEP_TOKEN) != (r->flags & STEP_TOKEN))
		return false;
	for (int i = 0; i < check_step_blocks(s); i++)
		if (check_step_length(c, ch->from.rank, s, i) != check_step_length(c, ch->to.rank, r, i))
			return false;
	return true;
}

static bool look_channel(struct checker *c, const struct channel *ch)
{
	int from = ch->from.rank, to = ch->to.rank;
	int from_strand = ch->from.strand - c->strand0[from], to_strand = ch->to.strand - c->strand0[to];
	if (ch->from.strand < 0 || ch->to.strand < 0)
		return check_complain(c, ch->from.strand < 0 ? from : to, -1, -1,
		                      "link from rank %d to rank %d on lane %d is never used", from, to, ch->lane);
	for (int k = 0, i = 0, j = 0;; k++, i++, j++) {
		const struct step *s = next_use(c, &ch->from, true, &i), *r = next_use(c, &ch->to, false, &j);
		if (!s && !r)
			return true;
		if (!r)
			return check_complain(c, from, from_strand, i,
			                      "message %d on lane %d, but rank %d knows only %d", k, ch->lane, to, k);
		if (!s)
			return check_complain(c, to, to_strand, j, "message %d on lane %d, but rank %d knows only %d",
			                      k, ch->lane, from, k);
		if (!same_message(c, ch, s, r)) {
			char there[160];
			plan_step_text(c->plan[from], s, there, sizeof(there));
			return check_complain(c, to, to_strand, j,
			                      "message %d on lane %d is not what rank %d sends (strand %d step %d: %s)",
			                      k, ch->lane, from, from_strand, i, there);
		}
	}
}

bool check_look(struct checker *c)
{
	if (!join_links(c))
		return false;
	for (int rank = 0; rank < c->n; rank++)
		if (!look_plan(c, rank))
			return false;
	for (int i = 0; i < c->nchannels; i++) {
		c->channel[i].place = c->places;
		c->places += (size_t)c->channel[i].largest;
		if (!look_channel(c, &c->channel[i]))
			return false;
	}
	return true;
}
