/* SPDX-License-Identifier: MIT */
/*
 * Loading: see weights.h. The model is walked twice by the same code: the first time checks shapes and adds up bytes, the
 * second copies, into one piece of memory with large pages.
 */
#include "weights.h"
#include "../../src/os/os.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN 256

struct span cut(int total, int unit, const double *shares, int n, int rank)
{
	double up_to[2] = {0, 0}, all = 0;
	int units = (total + unit - 1) / unit;
	struct span s;

	for (int r = 0; r < n; r++) {
		if (r == rank)
			up_to[0] = all;
		all += shares ? shares[r] : 1;
		if (r == rank)
			up_to[1] = all; /* the same sum as the next rank's first: the parts meet */
	}
	s.begin = (int)(up_to[0] / all * units + 0.5) * unit;
	s.end = (int)(up_to[1] / all * units + 0.5) * unit;
	s.begin = s.begin < total ? s.begin : total;
	s.end = s.end < total ? s.end : total;
	return s;
}

struct shard shard_of(const struct config *c, const double *shares, int n, int rank)
{
	int group = c->heads / c->kv_heads;
	struct shard s = {
	        .heads = cut(c->heads, 1, shares, n, rank),
	        .mlp = cut(c->mlp, 16, shares, n, rank),
	        .vocab = cut(c->vocab, 16, shares, n, rank),
	};

	if (span_size(s.heads) > 0)
		s.kv = (struct span){s.heads.begin / group, (s.heads.end + group - 1) / group};
	return s;
}

struct loader {
	struct checkpoint *from;
	struct weights *w;
	struct problem *problem;
	char *memory; /* NULL while bytes are added up */
	size_t at;
	int layer; /* that names belong to; -1: none */
};

static void *take(struct loader *l, size_t bytes)
{
	void *at = l->memory ? l->memory + l->at : NULL;

	l->at += (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	return at;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *in_files, *name;
} elements[ELEMENTS] = {
        [ELEMENT_F32] = {"F32", "f32"},
        [ELEMENT_BF16] = {"BF16", "bf16"},
        [ELEMENT_F16] = {"F16", "f16"},
};

/* ELEMENTS: of no type that we know. */
static enum element element_of(const struct tensor *t)
{
	int i = 0;

	while (i < ELEMENTS && strcmp(t->type, elements[i].in_files) != 0)
		i++;
	return (enum element)i;
}

const char *weights_type(const struct weights *w)
{
	const char *name = NULL;

	for (int i = 0; i < ELEMENTS; i++)
		if (w->has[i])
			name = name ? "mixed" : elements[i].name;
	return name ? name : "no";
}

static void full_name(const struct loader *l, const char *name, char out[128])
{
	if (l->layer >= 0)
		snprintf(out, 128, "model.layers.%d.%s", l->layer, name);
	else
		snprintf(out, 128, "%s", name);
}

/* The tensor of that name, of rows x cols (cols 0: a vector), in a type that we know; NULL with the problem. */
static const struct tensor *find(struct loader *l, const char *name, int rows, int cols, enum element *type)
{
	char full[128];
	const struct tensor *t;

	full_name(l, name, full);
	t = checkpoint_use(l->from, full);
	if (!t) {
		problem(l->problem, "the checkpoint has no tensor %s", full);
		return NULL;
	}
	*type = element_of(t);
	if (*type == ELEMENTS) {
		problem(l->problem, "tensor %s is of type %s; weights must be F32, BF16 or F16", full, t->type);
		return NULL;
	}
	if (t->dims != (cols ? 2 : 1) || t->shape[0] != (uint64_t)rows || (cols && t->shape[1] != (uint64_t)cols)) {
		problem(l->problem, "tensor %s has %d dimensions, the first of %llu; config.json means %d x %d", full,
		        t->dims, t->dims ? (unsigned long long)t->shape[0] : 0ull, rows, cols ? cols : 1);
		return NULL;
	}
	return t;
}

/* A matrix for tensors of these names: of their type, or of f32, which holds all values, where they are of several. */
static struct matrix matrix(struct loader *l, int rows, int cols, const char *const *names)
{
	struct matrix m = {.type = ELEMENTS, .rows = rows, .cols = cols};
	char full[128];

	for (; *names; names++) {
		const struct tensor *t;

		full_name(l, *names, full);
		t = checkpoint_find(l->from, full);
		if (t && m.type != element_of(t))
			m.type = m.type == ELEMENTS ? element_of(t) : ELEMENT_F32;
	}
	if (m.type == ELEMENTS)
		m.type = ELEMENT_F32;
	l->w->has[m.type] = true;
	m.at = take(l, (size_t)rows * cols * element_size(m.type));
	return m;
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void widen(enum element type, const unsigned char *from, int n, float *to)
{
	for (int i = 0; i < n; i++)
		to[i] = element_value(type, from + (size_t)i * element_size(type));
}

/* Rows and columns of a tensor of rows x cols become rows `to`, ... of the matrix, which is as wide as the columns. */
static int put(struct loader *l, struct matrix *m, int to, const char *name, int rows, int cols, struct span of_rows,
               struct span of_cols)
{
	enum element type;
	const struct tensor *t = find(l, name, rows, cols, &type);
	size_t width = (size_t)span_size(of_cols), size, own = element_size(m->type);
	const unsigned char *from;

	if (!t)
		return -1;
	if (!m->at)
		return 0;
	size = element_size(type);
	from = checkpoint_data(l->from, t) + (size_t)of_cols.begin * size;
	for (int r = of_rows.begin; r < of_rows.end; r++, to++) {
		char *row = (char *)m->at + (size_t)to * width * own;

		if (type == m->type)
			memcpy(row, from + (size_t)r * cols * size, width * size);
		else
			widen(type, from + (size_t)r * cols * size, (int)width, (float *)row);
	}
	return 0;
}

/* A part of a vector, as f32, to `to`, which may be NULL. */
static int put_vector(struct loader *l, float *to, const char *name, int size, struct span part)
{
	enum element type;
	const struct tensor *t = find(l, name, size, 0, &type);

	if (!t)
		return -1;
	if (to)
		widen(type, checkpoint_data(l->from, t) + (size_t)part.begin * element_size(type), span_size(part), to);
	return 0;
}

/* A whole vector. */
static int vector(struct loader *l, const float **out, const char *name, int size)
{
	float *to = take(l, (size_t)size * 4);

	*out = to;
	return put_vector(l, to, name, size, (struct span){0, size});
}

static struct span times(struct span s, int n)
{
	return (struct span){s.begin * n, s.end * n};
}

static float *behind(float *p, int n)
{
	return p ? p + n : NULL;
}

static int load_head_norms(struct loader *l, struct layer *y)
{
	if (!config_head_norms(&l->w->config))
		return 0;
	return vector(l, &y->q_norm, "self_attn.q_norm.weight", l->w->config.head_dim) |
	       vector(l, &y->k_norm, "self_attn.k_norm.weight", l->w->config.head_dim);
}

static int load_attention_bias(struct loader *l, struct layer *y)
{
	const struct config *c = &l->w->config;
	struct span q = times(l->w->shard.heads, c->head_dim), kv = times(l->w->shard.kv, c->head_dim);
	int nq = span_size(q), nkv = span_size(kv), rc;
	float *bias;

	if (!c->attention_bias)
		return 0;
	y->qkv_bias = bias = take(l, (size_t)(nq + 2 * nkv) * 4);
	rc = put_vector(l, bias, "self_attn.q_proj.bias", c->heads * c->head_dim, q);
	rc |= put_vector(l, behind(bias, nq), "self_attn.k_proj.bias", c->kv_heads * c->head_dim, kv);
	rc |= put_vector(l, behind(bias, nq + nkv), "self_attn.v_proj.bias", c->kv_heads * c->head_dim, kv);
	return config_output_bias(c) ? rc | vector(l, &y->o_bias, "self_attn.o_proj.bias", c->hidden) : rc;
}

static int load_attention(struct loader *l, struct layer *y)
{
	const struct config *c = &l->w->config;
	int dim = c->head_dim, hidden = c->hidden;
	struct span q = times(l->w->shard.heads, dim), kv = times(l->w->shard.kv, dim), all = {0, hidden};
	int nq = span_size(q), nkv = span_size(kv), rc;

	y->qkv = matrix(l, nq + 2 * nkv, hidden,
	                NAMES("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"));
	y->o = matrix(l, hidden, nq, NAMES("self_attn.o_proj.weight"));
	rc = vector(l, &y->attention_norm, "input_layernorm.weight", hidden);
	rc |= put(l, &y->qkv, 0, "self_attn.q_proj.weight", c->heads * dim, hidden, q, all);
	rc |= put(l, &y->qkv, nq, "self_attn.k_proj.weight", c->kv_heads * dim, hidden, kv, all);
	rc |= put(l, &y->qkv, nq + nkv, "self_attn.v_proj.weight", c->kv_heads * dim, hidden, kv, all);
	rc |= put(l, &y->o, 0, "self_attn.o_proj.weight", hidden, c->heads * dim, all, q);
	return rc | load_attention_bias(l, y) | load_head_norms(l, y);
}

static int load_mlp(struct loader *l, struct layer *y)
{
	const struct config *c = &l->w->config;
	struct span own = l->w->shard.mlp, all = {0, c->hidden};
	int n = span_size(own), rc;
	float *bias;

	y->gate_up = matrix(l, 2 * n, c->hidden, NAMES("mlp.gate_proj.weight", "mlp.up_proj.weight"));
	y->down = matrix(l, c->hidden, n, NAMES("mlp.down_proj.weight"));
	rc = vector(l, &y->mlp_norm, "post_attention_layernorm.weight", c->hidden);
	rc |= put(l, &y->gate_up, 0, "mlp.gate_proj.weight", c->mlp, c->hidden, own, all);
	rc |= put(l, &y->gate_up, n, "mlp.up_proj.weight", c->mlp, c->hidden, own, all);
	rc |= put(l, &y->down, 0, "mlp.down_proj.weight", c->hidden, c->mlp, all, own);
	if (!c->mlp_bias)
		return rc;
	y->gate_up_bias = bias = take(l, (size_t)n * 2 * 4);
	rc |= put_vector(l, bias, "mlp.gate_proj.bias", c->mlp, own);
	rc |= put_vector(l, behind(bias, n), "mlp.up_proj.bias", c->mlp, own);
	return rc | vector(l, &y->down_bias, "mlp.down_proj.bias", c->hidden);
}

/* A head that is tied and stands in the file nevertheless must be the embedding; each rank looks at its own tokens. */
static int check_tied(struct loader *l)
{
	const struct config *c = &l->w->config;
	struct span own = l->w->shard.vocab;
	enum element type, other;
	const struct tensor *e, *t;
	size_t row;

	if (!checkpoint_find(l->from, "lm_head.weight"))
		return 0;
	t = find(l, "lm_head.weight", c->vocab, c->hidden, &type);
	e = find(l, "model.embed_tokens.weight", c->vocab, c->hidden, &other);
	if (!t || !e)
		return -1;
	row = (size_t)c->hidden * element_size(type);
	if (type == other &&
	    (!l->memory || memcmp(checkpoint_data(l->from, t) + own.begin * row,
	                          checkpoint_data(l->from, e) + own.begin * row, span_size(own) * row) == 0))
		return 0;
	return problem(
	        l->problem,
	        "lm_head.weight differs from model.embed_tokens.weight, but \"tie_word_embeddings\" is true in config.json");
}

static int walk(struct loader *l)
{
	struct weights *w = l->w;
	const struct config *c = &w->config;
	struct span own = w->shard.vocab, all = {0, c->hidden};

	l->layer = -1;
	w->embedding = matrix(l, span_size(own), c->hidden, NAMES("model.embed_tokens.weight"));
	if (put(l, &w->embedding, 0, "model.embed_tokens.weight", c->vocab, c->hidden, own, all) != 0)
		return -1;
	w->head = w->embedding;
	if (c->tied && check_tied(l) != 0)
		return -1;
	if (!c->tied) {
		w->head = matrix(l, span_size(own), c->hidden, NAMES("lm_head.weight"));
		if (put(l, &w->head, 0, "lm_head.weight", c->vocab, c->hidden, own, all) != 0)
			return -1;
	}
	if (vector(l, &w->norm, "model.norm.weight", c->hidden) != 0)
		return -1;
	for (l->layer = 0; l->layer < c->layers; l->layer++) {
		if (load_attention(l, &w->layer[l->layer]) != 0 || load_mlp(l, &w->layer[l->layer]) != 0)
			return -1;
		if (l->memory)
			checkpoint_let_go(l->from);
	}
	return 0;
}

/* Tables that the rotary embedding is computed from; some programs wrote them into the file. */
static bool is_buffer(const char *name)
{
	static const char *const buffers[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"};
	size_t length = strlen(name);

	for (size_t i = 0; i < sizeof(buffers) / sizeof(*buffers); i++)
		if (length >= strlen(buffers[i]) && strcmp(name + length - strlen(buffers[i]), buffers[i]) == 0)
			return true;
	return false;
}

/* A tensor of the decoder that nobody asked for: the model is not what config.json says. */
static int check_rest(struct loader *l)
{
	const struct tensor *t;

	for (size_t i = 0; (t = checkpoint_at(l->from, i)); i++) {
		bool ours = strncmp(t->name, "model.", 6) == 0 || strncmp(t->name, "lm_head.", 8) == 0;

		if (!ours || checkpoint_find(l->from, t->name)->used || is_buffer(t->name))
			continue;
		return problem(
		        l->problem,
		        "the checkpoint has tensor %s, which a model of type %s with this config.json does not use: the result would be wrong without it",
		        t->name, config_family(&l->w->config));
	}
	return 0;
}

static int load(struct loader *l, int n, int rank)
{
	struct weights *w = l->w;
	void *at;

	w->layer = calloc((size_t)w->config.layers, sizeof(*w->layer));
	if (!w->layer)
		return problem(l->problem, "out of memory");
	if (walk(l) != 0 || check_rest(l) != 0)
		return -1;
	w->bytes = l->at;
	at = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return problem(
		        l->problem,
		        "no memory for part %d of %d of the weights, %.1f MiB: %s; more ranks make parts smaller", rank,
		        n, (double)w->bytes / 1048576, strerror(errno));
	w->memory = l->memory = at;
	os_memory_large_pages(at, w->bytes);
	l->at = 0;
	return walk(l);
}

int weights_load(struct weights *w, const char *dir, const double *shares, int n, int rank, struct problem *p)
{
	struct checkpoint from;
	struct loader l = {.from = &from, .w = w, .problem = p};
	int rc;

	*w = (struct weights){0};
	if (config_read(&w->config, dir, p) != 0 || checkpoint_open(&from, dir, p) != 0)
		return -1;
	w->shard = shard_of(&w->config, shares, n, rank);
	rc = load(&l, n, rank);
	checkpoint_close(&from);
	if (rc != 0)
		weights_free(w);
	return rc;
}

void weights_free(struct weights *w)
{
	if (w->memory)
		munmap(w->memory, w->bytes);
	free(w->layer);
	*w = (struct weights){0};
}
