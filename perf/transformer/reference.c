/* SPDX-License-Identifier: MIT */
/* The reference: see reference.h. Written after the formulas, for nothing but to be right. */
#include "reference.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A sequence of vectors. */
struct vectors {
	int n, size;
	double *at;
};

struct model {
	const struct checkpoint *from;
	const struct config *c;
	struct problem *problem;
	bool failed;
};

static struct vectors make(struct model *m, int n, int size)
{
	struct vectors v = {n, size, calloc((size_t)n * size, sizeof(double))};

	if (!v.at)
		m->failed = problem(m->problem, "the reference is out of memory");
	return v;
}

/* Elements of a tensor. */
struct values {
	const unsigned char *at;
	unsigned size;          /* bytes of one */
	int exponent, mantissa; /* bits of each; the sign is one more */
};

static double value(struct values v, size_t i)
{
	uint32_t bits = 0;
	int exponent, bias = (1 << (v.exponent - 1)) - 1, most = (1 << v.exponent) - 1;
	double fraction;

	for (unsigned k = v.size; k-- > 0;)
		bits = bits << 8 | v.at[i * v.size + k];
	exponent = (int)(bits >> v.mantissa) & most;
	fraction = ldexp(bits & ((1u << v.mantissa) - 1), -v.mantissa);
	fraction = exponent == most ? (fraction > 0 ? NAN : INFINITY)
	           : exponent       ? ldexp(1 + fraction, exponent - bias)
	                            : ldexp(fraction, 1 - bias);
	return bits >> (v.exponent + v.mantissa) ? -fraction : fraction;
}

/* The values of a tensor of `size` elements. */
static struct values tensor(struct model *m, int layer, const char *name, size_t size)
{
	static const struct {
		const char *type;
		struct values as;
	} types[] = {{"F32", {NULL, 4, 8, 23}}, {"BF16", {NULL, 2, 8, 7}}, {"F16", {NULL, 2, 5, 10}}};
	struct values v = {0};
	char full[128];
	const struct tensor *t;

	if (layer >= 0)
		snprintf(full, sizeof(full), "model.layers.%d.%s", layer, name);
	else
		snprintf(full, sizeof(full), "%s", name);
	t = checkpoint_find(m->from, full);
	for (int i = 0; t && i < 3; i++)
		if (strcmp(t->type, types[i].type) == 0)
			v = types[i].as;
	if (v.size && t->end - t->begin == size * v.size)
		v.at = checkpoint_data(m->from, t);
	else
		m->failed = problem(m->problem, "the reference can't use tensor %s", full);
	return v;
}

/* y = W x (+ b) for each vector. */
static struct vectors linear(struct model *m, int layer, const char *name, struct vectors x, int rows, bool bias)
{
	struct vectors y = make(m, x.n, rows);
	char weight_name[64], bias_name[64];
	struct values w, b = {0};

	snprintf(weight_name, sizeof(weight_name), "%s.weight", name);
	snprintf(bias_name, sizeof(bias_name), "%s.bias", name);
	w = tensor(m, layer, weight_name, (size_t)rows * x.size);
	if (bias)
		b = tensor(m, layer, bias_name, (size_t)rows);
	if (m->failed)
		return y;
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < x.n; i++) {
			double s = bias ? value(b, (size_t)r) : 0;

			for (int k = 0; k < x.size; k++)
				s += value(w, (size_t)r * x.size + k) * x.at[(size_t)i * x.size + k];
			y.at[(size_t)i * rows + r] = s;
		}
	return y;
}

static struct vectors norm(struct model *m, int layer, const char *name, struct vectors x)
{
	struct vectors y = make(m, x.n, x.size);
	struct values gain = tensor(m, layer, name, (size_t)x.size);

	for (int i = 0; i < x.n && !m->failed; i++) {
		const double *in = x.at + (size_t)i * x.size;
		double mean = 0;

		for (int k = 0; k < x.size; k++)
			mean += in[k] * in[k] / x.size;
		for (int k = 0; k < x.size; k++)
			y.at[(size_t)i * x.size + k] = in[k] / sqrt(mean + m->c->eps) * value(gain, (size_t)k);
	}
	return y;
}

/* Each head by itself, all with the same gain, in place of what it was. */
static void norm_heads(struct model *m, int layer, const char *name, struct vectors *v)
{
	struct vectors heads = {v->n * (v->size / m->c->head_dim), m->c->head_dim, v->at}, y;

	if (m->failed || !config_head_norms(m->c))
		return;
	y = norm(m, layer, name, heads);
	free(v->at);
	v->at = y.at;
}

static void rotate(const struct config *c, struct vectors v)
{
	int dim = c->head_dim;

	for (int p = 0; p < v.n; p++)
		for (int h = 0; h < v.size / dim; h++)
			for (int i = 0; i < dim / 2; i++) {
				double *a = v.at + (size_t)p * v.size + h * dim + i, *b = a + dim / 2;
				double angle = p * config_angle(c, i), x = *a, y = *b;

				*a = x * cos(angle) - y * sin(angle);
				*b = y * cos(angle) + x * sin(angle);
			}
}

/* One query looks at the keys up to its own place. */
static void look_back(const double *q, const double *keys, const double *values, int stride, int n, int dim,
                      double *weight, double *out)
{
	double total = 0;

	for (int j = 0; j < n; j++) {
		double s = 0;

		for (int k = 0; k < dim; k++)
			s += q[k] * keys[(size_t)j * stride + k];
		weight[j] = exp(s / sqrt(dim)); /* doubles have room enough */
		total += weight[j];
	}
	for (int k = 0; k < dim; k++)
		for (int j = 0; j < n; j++)
			out[k] += weight[j] / total * values[(size_t)j * stride + k];
}

static struct vectors attention(struct model *m, int l, struct vectors x)
{
	const struct config *c = m->c;
	int dim = c->head_dim;
	bool bias = c->attention_bias;
	struct vectors q = linear(m, l, "self_attn.q_proj", x, c->heads * dim, bias);
	struct vectors k = linear(m, l, "self_attn.k_proj", x, c->kv_heads * dim, bias);
	struct vectors v = linear(m, l, "self_attn.v_proj", x, c->kv_heads * dim, bias);
	struct vectors mixed = make(m, x.n, c->heads * dim), weight = make(m, 1, x.n), y;

	norm_heads(m, l, "self_attn.q_norm.weight", &q);
	norm_heads(m, l, "self_attn.k_norm.weight", &k);
	if (!m->failed) {
		rotate(c, q);
		rotate(c, k);
	}
	for (int p = 0; p < x.n && !m->failed; p++)
		for (int h = 0; h < c->heads; h++) {
			int of = h / (c->heads / c->kv_heads) * dim;

			look_back(q.at + (size_t)p * q.size + h * dim, k.at + of, v.at + of, k.size, p + 1, dim,
			          weight.at, mixed.at + (size_t)p * mixed.size + h * dim);
		}
	y = linear(m, l, "self_attn.o_proj", mixed, c->hidden, config_output_bias(c));
	free(q.at);
	free(k.at);
	free(v.at);
	free(mixed.at);
	free(weight.at);
	return y;
}

static struct vectors mlp(struct model *m, int l, struct vectors x)
{
	const struct config *c = m->c;
	struct vectors gate = linear(m, l, "mlp.gate_proj", x, c->mlp, c->mlp_bias);
	struct vectors up = linear(m, l, "mlp.up_proj", x, c->mlp, c->mlp_bias), y;

	for (size_t i = 0; i < (size_t)x.n * c->mlp && !m->failed; i++)
		gate.at[i] = gate.at[i] / (1 + exp(-gate.at[i])) * up.at[i];
	y = linear(m, l, "mlp.down_proj", gate, c->hidden, c->mlp_bias);
	free(gate.at);
	free(up.at);
	return y;
}

static void add(struct model *m, struct vectors x, struct vectors y)
{
	for (size_t i = 0; i < (size_t)x.n * x.size && !m->failed; i++)
		x.at[i] += y.at[i];
	free(y.at);
}

static struct vectors embed(struct model *m, const int *tokens, int n)
{
	struct vectors x = make(m, n, m->c->hidden);
	struct values e = tensor(m, -1, "model.embed_tokens.weight", (size_t)m->c->vocab * m->c->hidden);

	for (int i = 0; i < n && !m->failed; i++)
		for (int k = 0; k < x.size; k++)
			x.at[(size_t)i * x.size + k] = value(e, (size_t)tokens[i] * x.size + k);
	return x;
}

int reference_logits(const struct checkpoint *from, const struct config *c, const int *tokens, int n, double *logits,
                     struct problem *p)
{
	struct model m = {.from = from, .c = c, .problem = p};
	struct vectors x = embed(&m, tokens, n), normed, y;

	for (int l = 0; l < c->layers && !m.failed; l++) {
		normed = norm(&m, l, "input_layernorm.weight", x);
		add(&m, x, attention(&m, l, normed));
		free(normed.at);
		normed = norm(&m, l, "post_attention_layernorm.weight", x);
		add(&m, x, mlp(&m, l, normed));
		free(normed.at);
	}
	normed = norm(&m, -1, "model.norm.weight", x);
	y = linear(&m, -1, c->tied ? "model.embed_tokens" : "lm_head", normed, c->vocab, false);
	if (!m.failed)
		memcpy(logits, y.at, (size_t)n * c->vocab * sizeof(double));
	free(x.at);
	free(normed.at);
	free(y.at);
	return m.failed ? -1 : 0;
}
