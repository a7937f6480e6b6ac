/* SPDX-License-Identifier: MIT */
/* What a decoder works on: see decoder.h. */
#include "decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int most(int a, int b)
{
	return a > b ? a : b;
}

static float *floats(size_t n, bool *ok)
{
	float *p = aligned_alloc(64, (n * 4 + 64) & ~(size_t)63);

	if (p)
		memset(p, 0, n * 4);
	else
		*ok = false;
	return p;
}

static void fill_rotation(struct decoder *d)
{
	int half = d->w->config.head_dim / 2;

	for (int i = 0; i < half; i++) {
		double angle = config_angle(&d->w->config, i);

		for (int p = 0; p < d->context; p++) {
			d->rotation[((size_t)p * half + i) * 2] = (float)cos(p * angle);
			d->rotation[((size_t)p * half + i) * 2 + 1] = (float)sin(p * angle);
		}
	}
}

static bool allocate(struct decoder *d)
{
	const struct config *c = &d->w->config;
	const struct shard *s = &d->w->shard;
	int dim = c->head_dim, heads = span_size(s->heads), kv = span_size(s->kv);
	int widest = most((heads + 2 * kv) * dim, 2 * span_size(s->mlp));
	size_t room = (size_t)d->room, cache = (size_t)c->layers * d->sequences * kv * d->context * dim;
	void *partial = NULL;
	bool ok = true;

	d->x = floats(room * c->hidden, &ok);
	d->normed = floats(room * c->hidden, &ok);
	d->inner = floats(room * widest, &ok);
	d->mixed = floats(room * heads * dim, &ok);
	d->scores = floats((size_t)(c->heads / c->kv_heads) * d->context, &ok);
	d->keys = floats(cache, &ok);
	d->values = floats(cache, &ok);
	d->rotation = floats((size_t)d->context * dim, &ok);
	d->logits = floats((size_t)d->sequences * span_size(s->vocab), &ok);
	d->chosen = floats((size_t)tutti_comm_size(d->comm) * d->sequences * 2, &ok);
	ok = tutti_mem_alloc(d->comm, room * c->hidden * 4, &partial) == TUTTI_OK && ok;
	d->partial = partial;
	return ok;
}

/* Requests in flight move while a product is computed. */
static void keep_moving(void *comm)
{
	tutti_progress(comm);
}

int decoder_open(struct decoder *d, const struct weights *w, struct tutti_comm *comm, const double *shares,
                 int sequences, int context, int room, struct problem *p)
{
	struct compute compute = d->compute;

	*d = (struct decoder){.w = w, .comm = comm, .compute = compute, .sequences = sequences, .context = context};
	d->room = most(room, sequences);
	d->shares = shares;
	d->pieces = 1;
	if (context > w->config.positions)
		return problem(p, "%d tokens requested; the model's sequences have at most %d", context,
		               w->config.positions);
	if (w->config.window && context > w->config.window)
		return problem(
		        p,
		        "%d tokens requested; the model uses a sliding window of %d tokens, and longer sequences are not supported",
		        context, w->config.window);
	if (!allocate(d)) {
		decoder_close(d);
		return problem(p, "out of memory for activations: %d sequences of %d tokens, steps of %d", sequences,
		               context, d->room);
	}
	fill_rotation(d);
	return 0;
}

void decoder_overlap(struct decoder *d, int pieces)
{
	d->pieces = pieces < PIECES_MAX ? pieces : PIECES_MAX;
	d->compute.between = pieces > 1 ? keep_moving : NULL;
	d->compute.arg = d->comm;
}

void decoder_close(struct decoder *d)
{
	free(d->x);
	free(d->normed);
	free(d->inner);
	free(d->mixed);
	free(d->scores);
	free(d->keys);
	free(d->values);
	free(d->rotation);
	free(d->logits);
	free(d->chosen);
	if (d->partial)
		tutti_mem_free(d->comm, d->partial);
	*d = (struct decoder){.compute = d->compute};
}
