/*
 * The checker of plans: a look at what stands there, then symbolic runs. plan_check.h says what makes it a proof.
 */
#include "plan_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT32_MAX /* the expression of what has never been written */

/* ---- what there is to know ------------------------------------------------------------------------------------- */

/* Expressions are hash-consed: equal expressions have equal numbers. The first n are the ranks' contributions. */
struct expr {
	uint32_t left, right;
	int32_t count;          /* contributions in it */
	int32_t chain;          /* it is x0 + x1 + ... + x[chain - 1], folded from the left; 0: anything else */
	uint64_t ranks;         /* n <= 64: a bit per rank in it; else the sum of a random number per rank */
	bool final;
};

/* What a place holds: an expression over contributions to one block. Blocks of different number never mix. */
struct value {
	uint32_t expr;
	int32_t block;
};

struct end {
	int rank, link, strand; /* strand: counted over all ranks; -1 while no step has used the link */
};

struct channel {
	struct end from, to;
	int lane;
	int largest;            /* blocks in its largest message */
	size_t place;           /* sum of `largest` of the channels before */
};

struct cell {
	struct value v;
	uint32_t version;
	bool written;           /* through OUT */
	bool spoilt;            /* what IN had here is gone */
};

/* One block of a message; by reference also where it came from. */
struct carried {
	struct value v;
	const struct cell *cell;
	uint32_t version;
};

struct traffic {
	int sent, received;
};

/* Where a strand is. */
struct cursor {
	int rank, index, chunk, step;
	bool queued;
};

/* Strands to try, in a ring. */
struct queue {
	int *at, first, n;
};

struct checker {
	const struct plan *const *plan;
	int n, nblocks, nstrands, nlinks, nchannels;
	enum coll coll;
	int *strand0, *link0;           /* of each rank: its first strand and link, counted over all ranks */
	int *channel_of;                /* link, counted over all ranks -> channel */
	struct channel *channel;
	size_t places;
	struct expr *expr;
	uint32_t nexpr, expr_cap, *bucket, nbuckets;
	uint64_t everybody;
	bool by_reference;
	char reference_why[400];

	/* the run at hand */
	struct check_run run;
	uint64_t random;
	struct cell *in, *out, *tmp;    /* [rank][block][chunk]; tmp: [strand][block] */
	int *tmp_chunk;                 /* of each cell of tmp: the chunk that wrote it */
	struct traffic *traffic;        /* [channel] */
	struct carried *carried;        /* [channel][slot][largest] */
	uint64_t *heard;                /* barrier: [strand][word], ranks known to have come */
	uint64_t *token;                /* barrier: [channel][slot][word] */
	struct cursor *cursor;
	struct queue queue[2];          /* the second only when the first is empty */
	struct carried *work;           /* the blocks of the step at hand */
	char *why;
	size_t why_size;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t next_random(struct checker *c)
{
	return mix(c->random += 0x9e3779b97f4a7c15u);
}

/* ---- complaints ------------------------------------------------------------------------------------------------ */

/* Where: algorithm, size, rank, strand, step. Strand or step < 0: not said. */
static int describe(const struct checker *c, char *text, size_t size, int rank, int strand, int step, int chunk)
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

/* Always false. */
__attribute__((format(printf, 5, 6)))
static bool complain(struct checker *c, int rank, int strand, int step, const char *fmt, ...)
{
	char where[360], what[360];
	int chunk = c->cursor && strand >= 0 ? c->cursor[c->strand0[rank] + strand].chunk : -1;
	describe(c, where, sizeof(where), rank, strand, step, chunk);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(c->why, c->why_size, "%s: %s", where, what);
	return false;
}

static bool out_of_memory(struct checker *c)
{
	snprintf(c->why, c->why_size, "out of memory");
	return false;
}

/* ---- buffers and blocks ---------------------------------------------------------------------------------------- */

static const char *buf_name(int buf)
{
	return buf == BUF_IN ? "IN" : buf == BUF_OUT ? "OUT" : "TMP";
}

/* Does the collective give this rank that block of IN or OUT? TMP has all blocks. */
static bool exists(const struct checker *c, int rank, int buf, int block)
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

/* Number of the length of a block: the same number, the same length whatever the layout. */
static int length_id(const struct checker *c, int rank, int buf, int block)
{
	int parts = c->plan[rank]->parts;
	if (c->coll != COLL_ALLTOALL)
		return block;
	if (buf == BUF_IN)
		return rank * c->nblocks + block;
	return block / parts * c->nblocks + rank * parts + block % parts;
}

/* Chunks of a block with this length, in this run. */
static int chunks_of(const struct checker *c, int id)
{
	if (!c->run.ragged)
		return c->run.chunks;
	return (int)(mix(c->run.seed + (uint64_t)id) % (uint64_t)(c->run.chunks + 1));
}

/* The buffer and set that say which blocks a step is about. */
static struct block_set set_of(const struct step *s, int *buf)
{
	*buf = s->src ? s->src : s->dst ? s->dst : s->acc;
	return s->src ? s->src_set : s->dst_set;
}

static int step_length_id(const struct checker *c, int rank, const struct step *s, int i)
{
	int buf;
	struct block_set set = set_of(s, &buf);
	return length_id(c, rank, buf, block_at(c->plan[rank], set, i));
}

static int step_blocks(const struct step *s)
{
	int buf;
	return s->flags & STEP_TOKEN ? 0 : set_of(s, &buf).n;
}

/* ---- looking: one plan ----------------------------------------------------------------------------------------- */

static bool look_set(struct checker *c, int rank, int strand, int step, int buf, struct block_set set, int *seen)
{
	const struct plan *p = c->plan[rank];
	if (set.n < 1 || set.n > p->max_set)
		return complain(c, rank, strand, step, "a set of %d blocks, the plan says 1 to %d", set.n, p->max_set);
	if (set.first < 0 || set.first >= p->nblocks)
		return complain(c, rank, strand, step, "block %d, the plan has %d", set.first, p->nblocks);
	memset(seen, 0, (size_t)p->nblocks * sizeof(*seen));
	for (int i = 0; i < set.n; i++) {
		int block = block_at(p, set, i);
		if (seen[block]++)
			return complain(c, rank, strand, step, "block %d stands twice in a set", block);
		if (!exists(c, rank, buf, block))
			return complain(c, rank, strand, step, "this rank has no block %d of %s", block, buf_name(buf));
	}
	return true;
}

/* Both sets of a step must hold blocks of equal length, one by one. */
static bool look_lengths(struct checker *c, int rank, int strand, int step, const struct step *s)
{
	const struct plan *p = c->plan[rank];
	if (s->src_set.n != s->dst_set.n)
		return complain(c, rank, strand, step, "%d blocks of %s, but %d of %s", s->src_set.n, buf_name(s->src),
				s->dst_set.n, buf_name(s->dst ? s->dst : s->acc));
	for (int i = 0; i < s->src_set.n; i++) {
		int x = block_at(p, s->src_set, i), y = block_at(p, s->dst_set, i);
		if (length_id(c, rank, s->src, x) != length_id(c, rank, s->dst ? s->dst : s->acc, y))
			return complain(c, rank, strand, step, "block %d of %s and block %d of %s differ in length", x,
					buf_name(s->src), y, buf_name(s->dst ? s->dst : s->acc));
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
		return complain(c, rank, strand, step, "link %d used against its direction", link);
	struct channel *ch = &c->channel[c->channel_of[c->link0[rank] + link]];
	struct end *end = outgoing ? &ch->from : &ch->to;
	int global = c->strand0[rank] + strand;
	if (end->strand >= 0 && end->strand != global)
		return complain(c, rank, strand, step, "link %s %d.%d belongs to strand %d already",
				outgoing ? "to" : "from", p->links[link].peer, p->links[link].lane,
				end->strand - c->strand0[rank]);
	end->strand = global;
	int blocks_sent = step_blocks(&p->steps[p->strands[strand].first + step]);
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
		return local ? "a token carries nothing" : s->flags != STEP_TOKEN ? "a token is not reduced" :
		       s->recv < 0 && s->send < 0 ? "a token needs a link" : NULL;
	if (s->dst == BUF_IN)
		return "writes IN";
	if (s->recv >= 0 && !local)
		return "receives, but touches no buffer";
	if (!s->dst && s->send < 0)
		return "the result goes nowhere";
	if (s->recv >= 0 && s->acc)
		return "two operands";
	if (!(s->flags & STEP_REDUCE))
		return s->flags ? "only a reduction can be final or have an order" :
		       operand && s->src ? "two sources and no reduction" : !operand && !s->src ? "no source" :
		       s->acc ? "copies from the operand's buffer" : NULL;
	if (!operand || !s->src)
		return "a reduction needs two sources";
	return p->coll == COLL_ALLREDUCE || p->coll == COLL_REDUCE || p->coll == COLL_REDUCE_SCATTER ?
	       NULL : "reduces in a collective that does not";
}

static bool look_step(struct checker *c, int rank, int strand, int step, int *seen)
{
	const struct plan *p = c->plan[rank];
	const struct step *s = &p->steps[p->strands[strand].first + step];
	if (s->recv >= p->nlinks || s->send >= p->nlinks)
		return complain(c, rank, strand, -1, "step %d uses link %d, the plan has %d", step,
				s->recv > s->send ? s->recv : s->send, p->nlinks);
	const char *fault = shape_fault(p, s);
	if (fault)
		return complain(c, rank, strand, step, "%s", fault);
	int other = s->dst ? s->dst : s->acc;
	if (s->src && !look_set(c, rank, strand, step, s->src, s->src_set, seen))
		return false;
	if (other && !look_set(c, rank, strand, step, other, s->dst_set, seen))
		return false;
	if (s->dst && s->acc && !look_set(c, rank, strand, step, s->acc, s->dst_set, seen))
		return false;
	if (s->src && other && !look_lengths(c, rank, strand, step, s))
		return false;
	if (c->coll == COLL_ALLTOALL && (s->src == BUF_TMP || other == BUF_TMP))
		return complain(c, rank, strand, step, "scratch has no lengths in an all-to-all");
	return look_link(c, rank, strand, step, s->recv, false) && look_link(c, rank, strand, step, s->send, true);
}

static bool look_strand(struct checker *c, int rank, int strand, int *seen)
{
	const struct plan *p = c->plan[rank];
	const struct strand *s = &p->strands[strand];
	if (s->first < 0 || s->nsteps < 1 || s->first > p->nsteps - s->nsteps)
		return complain(c, rank, strand, -1, "steps %d to %d, the plan has %d", s->first,
				s->first + s->nsteps - 1, p->nsteps);
	if (s->after < -1 || s->after >= p->nstrands || s->after == strand)
		return complain(c, rank, strand, -1, "waits for strand %d", s->after);
	for (int step = 0; step < s->nsteps; step++)
		if (!look_step(c, rank, strand, step, seen))
			return false;
	return true;
}

static bool look_plan(struct checker *c, int rank)
{
	const struct plan *p = c->plan[rank], *p0 = c->plan[0];
	bool owned = p->coll >= COLL_GATHER ? p->coll != COLL_BARRIER :
		     p->coll == COLL_ALLGATHER || p->coll == COLL_REDUCE_SCATTER;
	if (p->coll != p0->coll || p->rank != rank || p->nranks != c->n || p->root != p0->root)
		return complain(c, rank, -1, -1, "says it is rank %d of %d, root %d, %s", p->rank, p->nranks, p->root,
				coll_name(p->coll));
	if (p->nblocks != p0->nblocks || p->parts != p0->parts || p->max_set != p0->max_set ||
	    p->by_reference != p0->by_reference)
		return complain(c, rank, -1, -1, "blocks, parts, largest set or reference differ from those of rank 0");
	if (p->nblocks < 1 || p->max_set < 1 || p->max_set > p->nblocks || p->parts < 1 ||
	    p->parts != (owned ? p->nblocks / c->n : 1) || (owned && p->nblocks % c->n))
		return complain(c, rank, -1, -1, "%d blocks, %d a part, sets up to %d do not go together", p->nblocks,
				p->parts, p->max_set);
	int *seen = malloc((size_t)p->nblocks * sizeof(*seen));
	if (!seen)
		return out_of_memory(c);
	bool ok = true;
	for (int strand = 0; ok && strand < p->nstrands; strand++)
		ok = look_strand(c, rank, strand, seen);
	free(seen);
	return ok;
}

/* ---- looking: both ends of each link --------------------------------------------------------------------------- */

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
								.to = outgoing ? there : here, .lane = l->lane};
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
			return complain(c, order < 0 ? odd->from.rank : odd->to.rank, -1, -1,
					"link from rank %d to rank %d on lane %d has no other end", odd->from.rank,
					odd->to.rank, odd->lane);
		if (odd->from.rank == odd->to.rank || (i && !compare_ends(&out[i - 1], &out[i])))
			return complain(c, odd->from.rank, -1, -1, "link to rank %d on lane %d %s", odd->to.rank,
					odd->lane, odd->from.rank == odd->to.rank ? "goes to itself" : "stands twice");
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
	bool ok = c->channel && in ? join_halves(c, c->channel, c->nchannels, in, nin) : out_of_memory(c);
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

/* Both ends must name the same blocks in each message: then both skip the same ones, whatever the lengths. */
static bool look_channel(struct checker *c, const struct channel *ch)
{
	if (ch->from.strand < 0 || ch->to.strand < 0)
		return complain(c, ch->from.strand < 0 ? ch->from.rank : ch->to.rank, -1, -1,
				"link from rank %d to rank %d on lane %d is never used", ch->from.rank, ch->to.rank,
				ch->lane);
	int from_strand = ch->from.strand - c->strand0[ch->from.rank];
	int to_strand = ch->to.strand - c->strand0[ch->to.rank];
	for (int k = 0, i = 0, j = 0;; k++, i++, j++) {
		const struct step *s = next_use(c, &ch->from, true, &i), *r = next_use(c, &ch->to, false, &j);
		if (!s && !r)
			return true;
		if (!s || !r)
			return complain(c, s ? ch->from.rank : ch->to.rank, s ? from_strand : to_strand, s ? i : j,
					"message %d on lane %d, but rank %d knows only %d", k, ch->lane,
					s ? ch->to.rank : ch->from.rank, k);
		bool same = step_blocks(s) == step_blocks(r) && (s->flags & STEP_TOKEN) == (r->flags & STEP_TOKEN);
		for (int b = 0; same && b < step_blocks(s); b++)
			same = step_length_id(c, ch->from.rank, s, b) == step_length_id(c, ch->to.rank, r, b);
		if (!same) {
			char there[160];
			plan_step_text(c->plan[ch->from.rank], s, there, sizeof(there));
			return complain(c, ch->to.rank, to_strand, j,
					"message %d on lane %d is not what rank %d sends (strand %d step %d: %s)", k,
					ch->lane, ch->from.rank, from_strand, i, there);
		}
	}
}

static bool look(struct checker *c)
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

/* ---- expressions ----------------------------------------------------------------------------------------------- */

static uint32_t *bucket_of(const struct checker *c, uint32_t left, uint32_t right, bool final)
{
	uint64_t h = mix(((uint64_t)left << 32 | right) * 2 + final);
	for (;; h++) {
		uint32_t *b = &c->bucket[h & (c->nbuckets - 1)];
		if (*b == NOTHING)
			return b;
		const struct expr *e = &c->expr[*b];
		if (e->left == left && e->right == right && e->final == final)
			return b;
	}
}

/* Room for one more expression, the table at most half full. */
static bool grow_exprs(struct checker *c)
{
	if (c->nexpr < c->expr_cap)
		return true;
	uint32_t cap = c->expr_cap * 2;
	struct expr *e = realloc(c->expr, cap * sizeof(*e));
	uint32_t *bucket = malloc((size_t)cap * 2 * sizeof(*bucket));
	if (e)
		c->expr = e;
	if (!e || !bucket) {
		free(bucket);
		return out_of_memory(c);
	}
	free(c->bucket);
	c->bucket = bucket;
	c->expr_cap = cap;
	c->nbuckets = cap * 2;
	memset(bucket, 0xff, (size_t)c->nbuckets * sizeof(*bucket));
	for (uint32_t i = (uint32_t)c->n; i < c->nexpr; i++)
		*bucket_of(c, c->expr[i].left, c->expr[i].right, c->expr[i].final) = i;
	return true;
}

static bool create_leaves(struct checker *c)
{
	c->nexpr = (uint32_t)c->n;
	c->expr_cap = 64;
	while (c->expr_cap < c->nexpr)
		c->expr_cap *= 2;
	c->nbuckets = c->expr_cap * 2;
	c->expr = calloc(c->expr_cap, sizeof(*c->expr));
	c->bucket = malloc((size_t)c->nbuckets * sizeof(*c->bucket));
	if (!c->expr || !c->bucket)
		return out_of_memory(c);
	memset(c->bucket, 0xff, (size_t)c->nbuckets * sizeof(*c->bucket));
	for (int r = 0; r < c->n; r++) {
		c->expr[r] = (struct expr){.left = (uint32_t)r, .right = NOTHING, .count = 1, .chain = r == 0,
					   .ranks = c->n <= 64 ? (uint64_t)1 << r : mix((uint64_t)r + 1)};
		c->everybody += c->expr[r].ranks;
	}
	return true;
}

/* The sum of two expressions; NULL, and *sum, or what is wrong with it. */
static const char *add_up(struct checker *c, uint32_t left, uint32_t right, bool final, uint32_t *sum)
{
	uint32_t *b = bucket_of(c, left, right, final);
	*sum = *b;
	if (*b != NOTHING)
		return NULL;
	const struct expr *l = &c->expr[left], *r = &c->expr[right];
	if (l->final || r->final)
		return "adds to a sum that was final";
	if (c->n <= 64 && l->ranks & r->ranks)
		return "adds a rank's contribution twice";
	bool in_order = l->chain && r->right == NOTHING && (int)right == l->chain;
	struct expr e = {.left = left, .right = right, .count = l->count + r->count, .ranks = l->ranks + r->ranks,
			 .final = final, .chain = in_order ? l->chain + 1 : 0};
	bool whole = e.count == c->n && e.ranks == c->everybody;
	if (final && !whole)
		return "marks a sum as final that lacks a rank";
	if (!final && whole)
		return "completes a sum without marking it as final";
	if (!grow_exprs(c))
		return "out of memory";
	*sum = c->nexpr;
	*bucket_of(c, left, right, final) = c->nexpr;
	c->expr[c->nexpr++] = e;
	return NULL;
}

/* ---- running: memory ------------------------------------------------------------------------------------------- */

static struct cell *cell_at(const struct checker *c, const struct cursor *at, int buf, int block)
{
	if (buf == BUF_TMP)
		return &c->tmp[(size_t)(c->strand0[at->rank] + at->index) * (size_t)c->nblocks + (size_t)block];
	size_t i = ((size_t)at->rank * (size_t)c->nblocks + (size_t)block) * (size_t)c->run.chunks + (size_t)at->chunk;
	return buf == BUF_IN ? &c->in[i] : &c->out[i];
}

static bool step_complain(struct checker *c, const struct cursor *at, const char *what, int buf, int block)
{
	return complain(c, at->rank, at->index, at->step, "%s %s block %d", what, buf_name(buf), block);
}

static bool load(struct checker *c, const struct cursor *at, int buf, int block, struct carried *got)
{
	struct cell *cell = cell_at(c, at, buf, block);
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
	struct cell *cell = cell_at(c, at, buf, block);
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
	int used = describe(c, c->reference_why, sizeof(c->reference_why), at->rank, at->index, at->step, at->chunk);
	snprintf(c->reference_why + used, sizeof(c->reference_why) - (size_t)used,
		 ": reads block %d by reference after rank %d has overwritten it%s", m->v.block, ch->from.rank,
		 c->run.in_place ? " in place" : "");
}

/* ---- running: one step ----------------------------------------------------------------------------------------- */

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

static size_t words(const struct checker *c)
{
	return ((size_t)c->n + 63) / 64;
}

static uint64_t *token_at(const struct checker *c, int channel, int k)
{
	return c->token + ((size_t)channel * (size_t)c->run.slots + (size_t)(k % c->run.slots)) * words(c);
}

static bool is_empty(const struct checker *c, const struct cursor *at, const struct step *s, int i)
{
	return c->run.ragged && chunks_of(c, step_length_id(c, at->rank, s, i)) <= at->chunk;
}

/* All blocks of the step end before this chunk. */
static bool is_skipped(const struct checker *c, const struct cursor *at)
{
	const struct step *s = step_at(c, at);
	if (s->flags & STEP_TOKEN || !c->run.ragged)
		return false;
	for (int i = 0; i < step_blocks(s); i++)
		if (!is_empty(c, at, s, i))
			return false;
	return true;
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
		return complain(c, at->rank, at->index, at->step, "adds block %d to block %d", src.v.block,
				operand.v.block);
	*result = (struct carried){.v.block = src.v.block};
	const char *fault = add_up(c, first ? src.v.expr : operand.v.expr, first ? operand.v.expr : src.v.expr,
				   s->flags & STEP_FINAL, &result->v.expr);
	return fault ? complain(c, at->rank, at->index, at->step, "block %d: %s", src.v.block, fault) : true;
}

static bool run_data(struct checker *c, const struct cursor *at, const struct step *s)
{
	const struct plan *p = c->plan[at->rank];
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	const struct carried *message = recv >= 0 ? slot_at(c, recv, c->traffic[recv].received) : NULL;
	bool lend = s->src && s->src != BUF_TMP && !(s->flags & STEP_REDUCE);
	for (int i = 0; i < step_blocks(s); i++) {
		if (is_empty(c, at, s, i))
			continue;
		if (message) {
			look_reference(c, at, &c->channel[recv], &message[i]);
			c->work[i] = (struct carried){.v = message[i].v};
		}
		if (!compute(c, at, s, i, &c->work[i]))
			return false;
	}
	for (int i = 0; i < step_blocks(s); i++) {
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
	uint64_t *heard = c->heard + (size_t)(c->strand0[at->rank] + at->index) * words(c);
	int recv = channel_at(c, at, s->recv), send = channel_at(c, at, s->send);
	for (size_t w = 0; recv >= 0 && w < words(c); w++)
		heard[w] |= token_at(c, recv, c->traffic[recv].received)[w];
	if (send >= 0)
		memcpy(token_at(c, send, c->traffic[send].sent), heard, words(c) * sizeof(*heard));
}

/* ---- running: who is next -------------------------------------------------------------------------------------- */

static bool is_done(const struct checker *c, const struct cursor *at)
{
	return at->chunk == c->run.chunks;
}

static void put_in_queue(struct checker *c, int strand)
{
	struct cursor *at = &c->cursor[strand];
	if (at->queued || is_done(c, at))
		return;
	bool late = c->run.straggler >= 0 ? strand == c->run.straggler :
		    c->run.order == CHECK_LAZY && step_at(c, at)->recv >= 0;
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

/* Past the current step and those that carry nothing in this chunk; wakes who waited for the chunk. */
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

/* Nobody can move, somebody has not finished: says who waits for whom, up to five of them. */
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

/* ---- running: what comes out ----------------------------------------------------------------------------------- */

/* What must stand in a block of OUT: NULL, or what is wrong. Sums of a block must be the same expression everywhere. */
static const char *result_fault(const struct checker *c, int rank, int block, const struct cell *cell, uint32_t *sum)
{
	struct value v = cell->v;
	const struct plan *p = c->plan[rank];
	bool sums = p->coll == COLL_ALLREDUCE || p->coll == COLL_REDUCE || p->coll == COLL_REDUCE_SCATTER;
	int want_block = p->coll == COLL_ALLTOALL ? rank * p->parts + block % p->parts : block;
	uint32_t want = (uint32_t)(p->coll == COLL_BROADCAST || p->coll == COLL_SCATTER ? p->root : block / p->parts);
	if (!cell->written)
		return "was never written";
	if (v.block != want_block)
		return "holds another block";
	if (!sums)
		return v.expr == want ? NULL : "holds another rank's block";
	const struct expr *e = &c->expr[v.expr];
	if (e->count != c->n || e->ranks != c->everybody)
		return "is not the sum of all ranks";
	if (c->n > 1 && !e->final)
		return "was not marked as final";
	if (c->run.rank_order && e->chain != c->n)
		return "was not folded in rank order";
	if (*sum != NOTHING && *sum != v.expr)
		return "was folded differently on another rank";
	*sum = v.expr;
	return NULL;
}

static bool look_block(struct checker *c, int block)
{
	uint32_t sum = NOTHING;
	for (int rank = 0; rank < c->n; rank++) {
		if (!exists(c, rank, BUF_OUT, block))
			continue;
		struct cursor at = {.rank = rank};
		int chunks = chunks_of(c, length_id(c, rank, BUF_OUT, block));
		for (at.chunk = 0; at.chunk < chunks; at.chunk++) {
			const struct cell *cell = cell_at(c, &at, BUF_OUT, block);
			const char *fault = result_fault(c, rank, block, cell, &sum);
			if (fault)
				return complain(c, rank, -1, -1, "at the end OUT block %d chunk %d %s", block, at.chunk,
						fault);
		}
	}
	return true;
}

/* Nobody may leave a barrier that somebody has not entered. */
static bool look_barrier(struct checker *c)
{
	for (int rank = 0; c->n > 1 && rank < c->n; rank++) {
		for (int other = 0; other < c->n; other++) {
			bool known = false;
			for (int s = c->strand0[rank]; s < c->strand0[rank + 1]; s++)
				known |= c->heard[(size_t)s * words(c) + (size_t)other / 64] >> other % 64 & 1;
			if (!known)
				return complain(c, rank, -1, -1, "leaves without having heard of rank %d", other);
		}
	}
	return true;
}

static bool look_results(struct checker *c)
{
	if (c->coll == COLL_BARRIER)
		return look_barrier(c);
	for (int block = 0; block < c->nblocks; block++)
		if (!look_block(c, block))
			return false;
	return true;
}

/* ---- a run ----------------------------------------------------------------------------------------------------- */

static void fill_buffers(struct checker *c)
{
	size_t i = 0;
	for (int rank = 0; rank < c->n; rank++) {
		for (int block = 0; block < c->nblocks; block++) {
			bool here = exists(c, rank, BUF_IN, block);
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
				c->heard[(size_t)s * words(c) + (size_t)rank / 64] |= (uint64_t)1 << rank % 64;
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
	c->heard = barrier ? calloc(strands * words(c), sizeof(*c->heard)) : NULL;
	c->token = barrier ? calloc(channels * slots * words(c), sizeof(*c->token)) : NULL;
	c->cursor = calloc(strands, sizeof(*c->cursor));
	c->queue[0] = (struct queue){.at = calloc(strands, sizeof(int))};
	c->queue[1] = (struct queue){.at = calloc(strands, sizeof(int))};
	c->work = calloc((size_t)c->nblocks, sizeof(*c->work));
	if (!c->in || !c->out || !c->tmp || !c->tmp_chunk || !c->traffic || !c->carried || !c->cursor ||
	    (barrier && (!c->heard || !c->token)) || !c->queue[0].at || !c->queue[1].at || !c->work)
		return out_of_memory(c);
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
	ok = ok && look_stuck(c) && look_results(c);
	free_run(c);
	return ok;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static bool count_up(struct checker *c)
{
	c->strand0 = calloc((size_t)c->n + 1, sizeof(*c->strand0));
	c->link0 = calloc((size_t)c->n + 1, sizeof(*c->link0));
	if (!c->strand0 || !c->link0)
		return out_of_memory(c);
	for (int r = 0; r < c->n; r++) {
		c->strand0[r + 1] = c->nstrands += c->plan[r]->nstrands;
		c->link0[r + 1] = c->nlinks += c->plan[r]->nlinks;
	}
	c->channel_of = calloc((size_t)c->nlinks + 1, sizeof(*c->channel_of));
	return c->channel_of || out_of_memory(c);
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
	c->by_reference = true;
	c->why = why;
	c->why_size = size;
	if (count_up(c) && create_leaves(c) && look(c))
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

void checker_free(struct checker *c)
{
	if (!c)
		return;
	free(c->strand0);
	free(c->link0);
	free(c->channel_of);
	free(c->channel);
	free(c->expr);
	free(c->bucket);
	free(c);
}
