/* SPDX-License-Identifier: MIT */
/*
 * The decoder's computation, cut over ranks as in Megatron-LM (Shoeybi et al., 2019): what leaves the residual stream is
 * cut by outputs, so that each rank has some heads and some columns of the MLP and needs nobody for them; what returns to
 * it is cut by inputs, so that each rank has a summand of the whole, and one all-reduce adds these up. Embedding and head
 * are cut by tokens.
 */
#include <math.h>
#include <string.h>

#include "decoder.h"

/* ---- the two calls that make ranks one ------------------------------------------------------------------------------ */

/* Adds up over ranks what they have in `partial`; with several pieces, while the next one is computed. */
static int sum_begin(struct decoder *d, struct piece *p)
{
	int hidden = d->w->config.hidden, status = TUTTI_OK;
	float *part = d->partial + (size_t)p->first * hidden;

	if (!d->alone)
		status = tutti_allreduce(part, part, (size_t)p->n * hidden, TUTTI_F32, TUTTI_SUM, d->comm,
		                         p->overlaps ? &p->request : NULL);
	p->spent = lap(&d->profile, REDUCE);
	return status;
}

/* The sum joins the residual stream, and what comes next gets its norm: x += sum + bias, normed = x / |x| * gain. */
static void join(const struct decoder *d, int t, const float *bias, const float *gain)
{
	int hidden = d->w->config.hidden;
	float *x = d->x + (size_t)t * hidden, *out = d->normed + (size_t)t * hidden;
	const float *sum = d->partial + (size_t)t * hidden;
	float lane[16] = {0}, square = 0, scale; /* a fixed order of adding: the same bits whatever the vectors */
	int i = 0;

	for (int k = 0; k < hidden; k++)
		x[k] += sum[k];
	for (int k = 0; bias && k < hidden; k++)
		x[k] += bias[k];
	for (; i + 16 <= hidden; i += 16)
		for (int k = 0; k < 16; k++)
			lane[k] += x[i + k] * x[i + k];
	for (; i < hidden; i++)
		lane[0] += x[i] * x[i];
	for (int k = 0; k < 16; k++)
		square += lane[k];
	scale = 1 / sqrtf(square / (float)hidden + (float)d->w->config.eps);
	for (int k = 0; k < hidden; k++)
		out[k] = x[k] * scale * gain[k];
}

static int sum_end(struct decoder *d, struct piece *p, const float *bias, const float *gain)
{
	int status = tutti_wait(&p->request); /* returns at once where the call has blocked */

	lap_call(&d->profile, p->spent + lap(&d->profile, REDUCE));
	for (int t = p->first; t < p->first + p->n && status == TUTTI_OK; t++)
		join(d, t, bias, gain);
	lap(&d->profile, NORM);
	return status;
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* Rotates each head by its token's position: the first half of a head with the second (Su et al., 2021). */
static void rotate(const struct decoder *d, float *head, int heads, int position)
{
	int half = d->w->config.head_dim / 2;
	const float *by = d->rotation + (size_t)position * half * 2;

	for (; heads > 0; heads--, head += 2 * half)
		for (int i = 0; i < half; i++) {
			float a = head[i], b = head[half + i];

			head[i] = a * by[2 * i] - b * by[2 * i + 1];
			head[half + i] = b * by[2 * i] + a * by[2 * i + 1];
		}
}

static void add_bias(float *y, int n, size_t ldy, const float *bias, int size)
{
	for (; bias && n > 0; n--, y += ldy)
		for (int i = 0; i < size; i++)
			y[i] += bias[i];
}

/* Where this rank keeps keys, or values, of one of its key-value heads: position by position. */
static float *cached(const struct decoder *d, float *cache, int layer, int sequence, int kv)
{
	int heads = span_size(d->w->shard.kv);

	return cache + (((size_t)layer * d->sequences + sequence) * heads + kv) * d->context * d->w->config.head_dim;
}

/* Some families norm each head of queries and keys (Henry et al., 2020): nobody else is needed for that. */
static void norm_heads(const struct decoder *d, float *head, int heads, const float *gain)
{
	int dim = d->w->config.head_dim;

	for (; gain && heads > 0; heads--, head += dim) {
		float square = 0, scale;

		for (int k = 0; k < dim; k++)
			square += head[k] * head[k];
		scale = 1 / sqrtf(square / (float)dim + (float)d->w->config.eps);
		for (int k = 0; k < dim; k++)
			head[k] *= scale * gain[k];
	}
}

static void remember(const struct decoder *d, int layer, const struct token *t, float *qkv)
{
	const struct layer *l = &d->w->layer[layer];
	int dim = d->w->config.head_dim, heads = span_size(d->w->shard.heads), kv = span_size(d->w->shard.kv);
	float *key = qkv + heads * dim, *value = key + kv * dim;

	norm_heads(d, qkv, heads, l->q_norm);
	norm_heads(d, key, kv, l->k_norm);
	rotate(d, qkv, heads + kv, t->position);
	for (int h = 0; h < kv; h++) {
		size_t at = (size_t)t->position * dim;

		memcpy(cached(d, d->keys, layer, t->sequence, h) + at, key + h * dim, (size_t)dim * 4);
		memcpy(cached(d, d->values, layer, t->sequence, h) + at, value + h * dim, (size_t)dim * 4);
	}
}

/* One token looks back at its sequence, with all query heads of a key-value head at once. */
static void attend(const struct decoder *d, int layer, const struct token *t, const float *q, float *out)
{
	const struct config *c = &d->w->config;
	const struct loops *loops = d->compute.loops;
	struct span own = d->w->shard.heads, kv = d->w->shard.kv;
	int dim = c->head_dim, group = c->heads / c->kv_heads, n = t->position + 1;

	for (int k = kv.begin; k < kv.end; k++) {
		const float *keys = cached(d, d->keys, layer, t->sequence, k - kv.begin);
		const float *values = cached(d, d->values, layer, t->sequence, k - kv.begin);
		int first = k * group > own.begin ? k * group : own.begin;
		int last = (k + 1) * group < own.end ? (k + 1) * group : own.end;

		loops->dots(ELEMENT_F32, keys, (size_t)dim, n, dim, q + (first - own.begin) * dim, (size_t)dim,
		            last - first, d->scores, (size_t)d->context);
		for (int h = first; h < last; h++) {
			float *scores = d->scores + (size_t)(h - first) * d->context;

			loops->softmax(scores, n, 1 / sqrtf((float)dim));
			loops->mix(scores, n, values, (size_t)dim, dim, out + (h - own.begin) * dim);
		}
	}
}

static int attention(struct decoder *d, int layer, const struct token *t, struct piece *p)
{
	const struct layer *l = &d->w->layer[layer];
	int hidden = d->w->config.hidden, last = p->first + p->n;
	size_t width = (size_t)l->qkv.rows, mixed = (size_t)l->o.cols, at = (size_t)p->first;
	float *qkv = d->inner + at * width;

	product(&d->compute, &l->qkv, d->normed + at * hidden, (size_t)hidden, p->n, qkv, width);
	add_bias(qkv, p->n, width, l->qkv_bias, (int)width);
	lap(&d->profile, PRODUCTS);
	for (int i = p->first; i < last; i++)
		remember(d, layer, &t[i], d->inner + i * width);
	for (int i = p->first; i < last; i++)
		attend(d, layer, &t[i], d->inner + i * width, d->mixed + i * mixed);
	lap(&d->profile, ATTENTION);
	product(&d->compute, &l->o, d->mixed + at * mixed, mixed, p->n, d->partial + at * hidden, (size_t)hidden);
	lap(&d->profile, PRODUCTS);
	return sum_begin(d, p);
}

/* ---- MLP --------------------------------------------------------------------------------------------------------- */

static int mlp(struct decoder *d, int layer, struct piece *p)
{
	const struct layer *l = &d->w->layer[layer];
	int hidden = d->w->config.hidden, columns = l->down.cols;
	size_t width = (size_t)l->gate_up.rows, at = (size_t)p->first;
	float *inner = d->inner + at * width;

	product(&d->compute, &l->gate_up, d->normed + at * hidden, (size_t)hidden, p->n, inner, width);
	add_bias(inner, p->n, width, l->gate_up_bias, (int)width);
	lap(&d->profile, PRODUCTS);
	for (int i = 0; i < p->n; i++)
		d->compute.loops->swiglu(inner + i * width, inner + i * width + columns, columns, inner + i * width);
	lap(&d->profile, NORM);
	product(&d->compute, &l->down, inner, width, p->n, d->partial + at * hidden, (size_t)hidden);
	lap(&d->profile, PRODUCTS);
	return sum_begin(d, p);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* A token's row of the embedding is with one rank; the others add nothing. */
static int embed(struct decoder *d, const struct token *t, struct piece *p)
{
	struct span own = d->w->shard.vocab;
	const struct matrix *from = &d->w->embedding;
	size_t hidden = (size_t)d->w->config.hidden, row = hidden * element_size(from->type);

	memset(d->x + p->first * hidden, 0, p->n * hidden * 4);
	memset(d->partial + p->first * hidden, 0, p->n * hidden * 4);
	for (int i = p->first; i < p->first + p->n; i++) {
		if (t[i].id < own.begin || t[i].id >= own.end)
			continue;
		d->compute.loops->widen(from->type, (const char *)from->at + (t[i].id - own.begin) * row, hidden,
		                        d->partial + i * hidden);
	}
	lap(&d->profile, OTHER);
	return sum_begin(d, p);
}

/* Each piece's sum is waited for only where it is needed: behind the computation of the pieces after it. */
int decoder_step(struct decoder *d, const struct token *t, int n)
{
	const struct weights *w = d->w;
	const float *bias = NULL;
	int pieces = n >= d->pieces ? d->pieces : 1, status = TUTTI_OK;
	struct piece *p = d->piece, *end = p + pieces;

	d->profile.last = seconds_now();
	for (int i = 0; i < pieces; i++) {
		p[i] = (struct piece){.first = n * i / pieces, .overlaps = pieces > 1};
		p[i].n = n * (i + 1) / pieces - p[i].first;
	}
	for (p = d->piece; p < end && status == TUTTI_OK; p++)
		status = embed(d, t, p);
	for (int layer = 0; layer < w->config.layers; layer++) {
		const struct layer *l = &w->layer[layer];

		for (p = d->piece; p < end && status == TUTTI_OK; p++)
			if ((status = sum_end(d, p, bias, l->attention_norm)) == TUTTI_OK)
				status = attention(d, layer, t, p);
		for (p = d->piece; p < end && status == TUTTI_OK; p++)
			if ((status = sum_end(d, p, l->o_bias, l->mlp_norm)) == TUTTI_OK)
				status = mlp(d, layer, p);
		bias = l->down_bias;
	}
	for (p = d->piece; p < end && status == TUTTI_OK; p++)
		status = sum_end(d, p, bias, w->norm);
	return status;
}

/* ---- the head ---------------------------------------------------------------------------------------------------- */

struct choice {
	float logit;
	int32_t token;
};

static struct choice better(struct choice a, struct choice b)
{
	return b.logit > a.logit || (b.logit == a.logit && b.token < a.token) ? b : a;
}

/* Each rank finds the best of its own tokens; only these travel, eight bytes of each rank. */
int decoder_choose(struct decoder *d, int first, int n, int *tokens)
{
	struct span own = d->w->shard.vocab;
	size_t hidden = (size_t)d->w->config.hidden, width = (size_t)span_size(own);
	int ranks = tutti_comm_size(d->comm), status = TUTTI_OK;
	struct choice *all = d->chosen, *mine = all + (size_t)tutti_comm_rank(d->comm) * n;

	d->profile.last = seconds_now();
	product(&d->compute, &d->w->head, d->normed + first * hidden, hidden, n, d->logits, width);
	for (int i = 0; i < n; i++) {
		mine[i] = (struct choice){-INFINITY, d->w->config.vocab};
		for (int k = 0; k < (int)width; k++)
			mine[i] = better(mine[i], (struct choice){d->logits[i * width + k], own.begin + k});
	}
	lap(&d->profile, PRODUCTS);
	if (!d->alone)
		status = tutti_allgather(mine, all, n * sizeof(*mine), TUTTI_U8, d->comm, NULL);
	lap(&d->profile, OTHER);
	for (int i = 0; i < n; i++) {
		struct choice best = all[i];

		for (int r = 1; r < ranks; r++)
			best = better(best, all[(size_t)r * n + i]);
		tokens[i] = best.token;
	}
	return status;
}

int decoder_logits(struct decoder *d, int index, float *logits)
{
	size_t counts[256];
	int n = tutti_comm_size(d->comm), hidden = d->w->config.hidden;

	for (int r = 0; r < n; r++)
		counts[r] = (size_t)span_size(shard_of(&d->w->config, d->shares, n, r).vocab);
	product(&d->compute, &d->w->head, d->normed + (size_t)index * hidden, (size_t)hidden, 1, d->logits,
	        counts[tutti_comm_rank(d->comm)]);
	return tutti_allgatherv(d->logits, logits, counts, NULL, TUTTI_F32, d->comm, NULL);
}
