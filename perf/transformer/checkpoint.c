/* SPDX-License-Identifier: MIT */
/* Random models: see checkpoint.h. */
#include "checkpoint.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	struct config config;
} presets[] = {
        {"tiny",
         {.hidden = 128,
          .mlp = 352,
          .layers = 3,
          .heads = 8,
          .kv_heads = 4,
          .head_dim = 16,
          .vocab = 500,
          .positions = 512,
          .eps = 1e-5,
          .theta = 10000}},
        {"small",
         {.hidden = 1024,
          .mlp = 2816,
          .layers = 24,
          .heads = 16,
          .kv_heads = 8,
          .head_dim = 64,
          .vocab = 32000,
          .positions = 4096,
          .eps = 1e-5,
          .theta = 10000}},
        {"1b",
         {.hidden = 2048,
          .mlp = 8192,
          .layers = 16,
          .heads = 32,
          .kv_heads = 8,
          .head_dim = 64,
          .vocab = 128256,
          .positions = 131072,
          .eps = 1e-5,
          .theta = 500000,
          .tied = true,
          .stretch = {32, 1, 4, 8192}}},
        {"8b-layer", /* one layer of an 8b model, with a vocabulary that does not matter */
         {.hidden = 4096,
          .mlp = 14336,
          .layers = 1,
          .heads = 32,
          .kv_heads = 8,
          .head_dim = 128,
          .vocab = 1024,
          .positions = 8192,
          .eps = 1e-5,
          .theta = 500000}},
};

#define PRESETS ((int)(sizeof(presets) / sizeof(*presets)))

const char *preset_name(int i)
{
	return i < PRESETS ? presets[i].name : NULL;
}

bool preset(const char *name, struct config *c)
{
	for (int i = 0; i < PRESETS; i++)
		if (strcmp(name, presets[i].name) == 0) {
			*c = presets[i].config;
			return true;
		}
	return false;
}

static const struct {
	const char *name;
	size_t offset;
	bool is_flag;
} fields[] = {
        {"hidden", offsetof(struct config, hidden), false},
        {"mlp", offsetof(struct config, mlp), false},
        {"layers", offsetof(struct config, layers), false},
        {"heads", offsetof(struct config, heads), false},
        {"kv_heads", offsetof(struct config, kv_heads), false},
        {"head_dim", offsetof(struct config, head_dim), false},
        {"vocab", offsetof(struct config, vocab), false},
        {"positions", offsetof(struct config, positions), false},
        {"tied", offsetof(struct config, tied), true},
        {"attention_bias", offsetof(struct config, attention_bias), true},
        {"mlp_bias", offsetof(struct config, mlp_bias), true},
};

#define FIELDS (sizeof(fields) / sizeof(*fields))

int preset_change(struct config *c, const char *changes, struct problem *p)
{
	while (*changes) {
		size_t length = strcspn(changes, "="), i = 0;
		char *end = NULL;
		long value;

		while (i < FIELDS && (strlen(fields[i].name) != length || memcmp(fields[i].name, changes, length) != 0))
			i++;
		value = changes[length] ? strtol(changes + length + 1, &end, 10) : -1;
		if (i == FIELDS || end == changes + length + 1 || value < !fields[i].is_flag || value > 1 << 24 ||
		    (*end && *end != ','))
			return problem(
			        p,
			        "%s: expected NAME=NUMBER,..., of hidden, mlp, layers, heads, kv_heads, head_dim, vocab, positions, tied, attention_bias, mlp_bias",
			        changes);
		if (fields[i].is_flag)
			*(bool *)((char *)c + fields[i].offset) = value != 0;
		else
			*(int *)((char *)c + fields[i].offset) = (int)value;
		changes = end + (*end == ',');
	}
	if (c->heads % c->kv_heads != 0 || c->head_dim % 2 != 0)
		return problem(p, "heads must be a multiple of kv_heads, and head_dim even");
	return 0;
}

/* ---- what a model is made of ------------------------------------------------------------------------------------- */

struct part {
	char name[80];
	int rows, cols;     /* cols 0: a vector */
	float base, spread; /* values are base +- spread */
};

struct parts {
	struct part *part;
	int n;
};

static void add(struct parts *to, int layer, const char *name, int rows, int cols, float base, float spread)
{
	struct part *p = &to->part[to->n++];

	*p = (struct part){.rows = rows, .cols = cols, .base = base, .spread = spread};
	if (layer >= 0)
		snprintf(p->name, sizeof(p->name), "model.layers.%d.%s", layer, name);
	else
		snprintf(p->name, sizeof(p->name), "%s", name);
}

/* Values whose products keep the size of what they are multiplied with. */
static void add_weight(struct parts *to, int layer, const char *name, int rows, int cols)
{
	add(to, layer, name, rows, cols, 0, sqrtf(3 / (float)cols));
}

static void add_layer(struct parts *to, const struct config *c, int l)
{
	int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;

	add(to, l, "input_layernorm.weight", c->hidden, 0, 1, 0.25f);
	add_weight(to, l, "self_attn.q_proj.weight", q, c->hidden);
	add_weight(to, l, "self_attn.k_proj.weight", kv, c->hidden);
	add_weight(to, l, "self_attn.v_proj.weight", kv, c->hidden);
	add_weight(to, l, "self_attn.o_proj.weight", c->hidden, q);
	add(to, l, "post_attention_layernorm.weight", c->hidden, 0, 1, 0.25f);
	add_weight(to, l, "mlp.gate_proj.weight", c->mlp, c->hidden);
	add_weight(to, l, "mlp.up_proj.weight", c->mlp, c->hidden);
	add_weight(to, l, "mlp.down_proj.weight", c->hidden, c->mlp);
	if (c->attention_bias) {
		add(to, l, "self_attn.q_proj.bias", q, 0, 0, 0.5f);
		add(to, l, "self_attn.k_proj.bias", kv, 0, 0, 0.5f);
		add(to, l, "self_attn.v_proj.bias", kv, 0, 0, 0.5f);
		add(to, l, "self_attn.o_proj.bias", c->hidden, 0, 0, 0.5f);
	}
	if (c->mlp_bias) {
		add(to, l, "mlp.gate_proj.bias", c->mlp, 0, 0, 0.5f);
		add(to, l, "mlp.up_proj.bias", c->mlp, 0, 0, 0.5f);
		add(to, l, "mlp.down_proj.bias", c->hidden, 0, 0, 0.5f);
	}
}

static int list_parts(struct parts *to, const struct config *c)
{
	*to = (struct parts){.part = calloc((size_t)c->layers * 16 + 3, sizeof(*to->part))};
	if (!to->part)
		return -1;
	add(to, -1, "model.embed_tokens.weight", c->vocab, c->hidden, 0, c->tied ? sqrtf(3 / (float)c->hidden) : 1);
	for (int l = 0; l < c->layers; l++)
		add_layer(to, c, l);
	add(to, -1, "model.norm.weight", c->hidden, 0, 1, 0.25f);
	if (!c->tied)
		add_weight(to, -1, "lm_head.weight", c->vocab, c->hidden);
	return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

struct writer {
	FILE *f;
	enum element type;
	uint64_t random;
};

static size_t values_of(const struct part *p)
{
	return (size_t)p->rows * (size_t)(p->cols ? p->cols : 1);
}

/* -1 to 1 (splitmix64). */
static float draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (float)(int32_t)(z >> 32) * 0x1p-31f;
}

/* The nearest bf16, the even one of two; values are never NaN here. */
static uint16_t narrow(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void write_values(struct writer *w, const struct part *p)
{
	enum { CHUNK = 4096 };
	float f[CHUNK];
	uint16_t h[CHUNK];

	for (size_t left = values_of(p), n; left > 0; left -= n) {
		n = left < CHUNK ? left : CHUNK;
		for (size_t i = 0; i < n; i++) {
			f[i] = p->base + p->spread * draw(&w->random);
			h[i] = narrow(f[i]);
		}
		fwrite(w->type == ELEMENT_BF16 ? (void *)h : f, element_size(w->type), n, w->f);
	}
}

static char *header_of(const struct part *part, int n, enum element type)
{
	json_t *o = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	char *text, *padded;
	json_int_t at = 0;
	size_t length;

	for (int i = 0; i < n; i++) {
		json_int_t end = at + (json_int_t)(values_of(&part[i]) * element_size(type));
		json_t *shape =
		        part[i].cols ? json_pack("[i,i]", part[i].rows, part[i].cols) : json_pack("[i]", part[i].rows);

		json_object_set_new(o, part[i].name,
		                    json_pack("{s:s s:o s:[I,I]}", "dtype", type == ELEMENT_BF16 ? "BF16" : "F32",
		                              "shape", shape, "data_offsets", at, end));
		at = end;
	}
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (!text)
		return NULL;
	length = strlen(text);
	padded = calloc(1, length + 9);
	if (padded) /* blanks behind it, so that the data begin at a multiple of 8 */
		memset(memcpy(padded, text, length) + length, ' ', -length % 8);
	free(text);
	return padded;
}

static int write_file(struct writer *w, const char *path, const struct part *part, int n, struct problem *p)
{
	char *header = header_of(part, n, w->type);
	uint64_t length;
	int bad;

	if (!header)
		return problem(p, "%s: out of memory", path);
	w->f = fopen(path, "we");
	if (!w->f) {
		free(header);
		return problem(p, "can't write %s: %s", path, strerror(errno));
	}
	length = strlen(header);
	for (int i = 0; i < 8; i++)
		fputc((int)(length >> (8 * i) & 255), w->f);
	fwrite(header, 1, length, w->f);
	free(header);
	for (int i = 0; i < n; i++)
		write_values(w, &part[i]);
	bad = ferror(w->f);
	if (fclose(w->f) != 0 || bad)
		return problem(p, "can't write %s: %s", path, strerror(errno));
	return 0;
}

/* Which file each tensor is in. */
static int write_index(const struct parts *all, int files, const char *dir, struct problem *p)
{
	char path[PATH_MAX], name[64];
	json_t *map = json_object(), *o = json_pack("{s:{} s:o}", "metadata", "weight_map", map);
	int rc;

	for (int f = 0; f < files; f++) {
		snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", f + 1, files);
		for (int i = all->n * f / files; i < all->n * (f + 1) / files; i++)
			json_object_set_new(map, all->part[i].name, json_string(name));
	}
	snprintf(path, sizeof(path), "%s/model.safetensors.index.json", dir);
	rc = json_dump_file(o, path, JSON_INDENT(1));
	json_decref(o);
	return rc == 0 ? 0 : problem(p, "can't write %s", path);
}

static int write_files(const struct parts *all, enum element type, int files, uint64_t seed, const char *dir,
                       struct problem *p)
{
	struct writer w = {.type = type, .random = seed};
	char path[PATH_MAX];

	for (int f = 0; f < files; f++) {
		int first = all->n * f / files, n = all->n * (f + 1) / files - first;

		if (files == 1)
			snprintf(path, sizeof(path), "%s/model.safetensors", dir);
		else
			snprintf(path, sizeof(path), "%s/model-%05d-of-%05d.safetensors", dir, f + 1, files);
		if (write_file(&w, path, &all->part[first], n, p) != 0)
			return -1;
	}
	return files > 1 ? write_index(all, files, dir, p) : 0;
}

int checkpoint_make(const struct config *c, enum element type, int files, uint64_t seed, const char *dir,
                    struct problem *p)
{
	struct parts all;
	int rc;

	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		return problem(p, "can't make %s: %s", dir, strerror(errno));
	if (list_parts(&all, c) != 0)
		return problem(p, "out of memory");
	rc = config_write(c, dir, type == ELEMENT_BF16 ? "bfloat16" : "float32", p);
	if (rc == 0)
		rc = write_files(&all, type, files, seed, dir, p);
	free(all.part);
	return rc;
}
