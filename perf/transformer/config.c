/* config.json: see config.h. */
#include "config.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the fields of one file are read with: the first that is wrong is noted, the rest then passes by. */
struct reader {
	json_t *at;
	const char *path;
	struct problem *problem;
	bool bad;
};

static void bad(struct reader *r, const char *name, const char *want)
{
	r->bad = true;
	problem(r->problem, "%s: \"%s\" must be %s", r->path, name, want);
}

/* A whole number from `least` on; `otherwise` where there is none (below `least`: it must be there). */
static int whole(struct reader *r, const char *name, int least, int otherwise)
{
	json_t *v = json_object_get(r->at, name);
	json_int_t i = json_integer_value(v);

	if ((!v || json_is_null(v)) && otherwise >= least)
		return otherwise;
	if (json_is_integer(v) && i >= least && i <= 1 << 24)
		return (int)i;
	bad(r, name, "a whole number, not negative, at most 2^24");
	return least;
}

static double number(struct reader *r, const char *name, double otherwise)
{
	json_t *v = json_object_get(r->at, name);

	if (!v || json_is_null(v))
		return otherwise;
	if (json_is_number(v) && json_number_value(v) > 0)
		return json_number_value(v);
	bad(r, name, "a number above 0");
	return otherwise;
}

static bool flag(struct reader *r, const char *name)
{
	json_t *v = json_object_get(r->at, name);

	if (v && !json_is_null(v) && !json_is_boolean(v))
		bad(r, name, "true or false");
	return json_is_true(v);
}

/* A word that must be `want` where it stands at all. */
static void word(struct reader *r, const char *name, const char *want)
{
	json_t *v = json_object_get(r->at, name);
	const char *is = json_string_value(v);

	if (!v || json_is_null(v) || (is && strcmp(is, want) == 0))
		return;
	r->bad = true;
	problem(r->problem, "%s: \"%s\" is %s; only \"%s\" can be computed", r->path, name, is ? is : "no text", want);
}

static void read_stretch(struct reader *r, struct config *c)
{
	struct reader in = {.path = r->path, .problem = r->problem};
	const char *type;

	in.at = json_object_get(r->at, "rope_scaling");
	if (!in.at || json_is_null(in.at))
		return;
	type = json_string_value(json_object_get(in.at, "rope_type"));
	if (!type || strcmp(type, "llama3") != 0) {
		r->bad = true;
		problem(r->problem, "%s: \"rope_scaling\" of type %s; only \"llama3\" can be computed", r->path,
		        type ? type : "(no text)");
		return;
	}
	c->stretch.factor = number(&in, "factor", 8);
	c->stretch.low = number(&in, "low_freq_factor", 1);
	c->stretch.high = number(&in, "high_freq_factor", 4);
	c->stretch.original = whole(&in, "original_max_position_embeddings", 1, 8192);
	if (c->stretch.high <= c->stretch.low)
		bad(&in, "high_freq_factor", "above low_freq_factor");
	r->bad |= in.bad;
}

static void read_fields(struct reader *r, struct config *c)
{
	word(r, "model_type", "llama");
	word(r, "hidden_act", "silu");
	if (json_object_get(r->at, "quantization_config"))
		bad(r, "quantization_config", "absent: weights are f32 or bf16");
	c->hidden = whole(r, "hidden_size", 1, 0);
	c->mlp = whole(r, "intermediate_size", 1, 0);
	c->layers = whole(r, "num_hidden_layers", 1, 0);
	c->heads = whole(r, "num_attention_heads", 1, 0);
	c->kv_heads = whole(r, "num_key_value_heads", 1, c->heads);
	c->head_dim = whole(r, "head_dim", 2, c->heads > 0 ? c->hidden / c->heads : 0);
	c->vocab = whole(r, "vocab_size", 1, 0);
	c->positions = whole(r, "max_position_embeddings", 1, 2048);
	c->eps = number(r, "rms_norm_eps", 1e-6);
	c->theta = number(r, "rope_theta", 10000);
	c->tied = flag(r, "tie_word_embeddings");
	c->attention_bias = flag(r, "attention_bias");
	c->mlp_bias = flag(r, "mlp_bias");
	read_stretch(r, c);
}

int config_read(struct config *c, const char *dir, struct problem *p)
{
	char path[PATH_MAX];
	json_error_t e;
	struct reader r = {.path = path, .problem = p};

	*c = (struct config){0};
	snprintf(path, sizeof(path), "%s/config.json", dir);
	r.at = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	if (!r.at)
		return problem(p, "%s: %s (line %d)", path, e.text, e.line);
	if (!json_is_object(r.at))
		r.bad = problem(p, "%s: not a JSON object", path);
	else
		read_fields(&r, c);
	json_decref(r.at);
	if (r.bad)
		return -1;
	if (c->heads % c->kv_heads != 0)
		return problem(p, "%s: %d heads can't share %d key-value heads evenly", path, c->heads, c->kv_heads);
	if ((long long)c->heads * c->head_dim > 1 << 24)
		return problem(p, "%s: %d heads of %d values are beyond all sense", path, c->heads, c->head_dim);
	if (c->head_dim % 2 != 0)
		return problem(p, "%s: a head of %d values can't be rotated by pairs", path, c->head_dim);
	return 0;
}

int config_write(const struct config *c, const char *dir, const char *dtype, struct problem *p)
{
	char path[PATH_MAX];
	json_t *o = json_pack("{s:[s] s:s s:s s:s s:i s:i s:i s:i s:i s:i s:i s:i s:f s:f s:b s:b s:b}",
	                      "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
	                      "torch_dtype", dtype, "hidden_size", c->hidden, "intermediate_size", c->mlp,
	                      "num_hidden_layers", c->layers, "num_attention_heads", c->heads, "num_key_value_heads",
	                      c->kv_heads, "head_dim", c->head_dim, "vocab_size", c->vocab, "max_position_embeddings",
	                      c->positions, "rms_norm_eps", c->eps, "rope_theta", c->theta, "tie_word_embeddings",
	                      c->tied, "attention_bias", c->attention_bias, "mlp_bias", c->mlp_bias);
	int rc = -1;

	if (o && c->stretch.factor > 0)
		json_object_set_new(o, "rope_scaling",
		                    json_pack("{s:s s:f s:f s:f s:i}", "rope_type", "llama3", "factor",
		                              c->stretch.factor, "low_freq_factor", c->stretch.low, "high_freq_factor",
		                              c->stretch.high, "original_max_position_embeddings",
		                              c->stretch.original));
	snprintf(path, sizeof(path), "%s/config.json", dir);
	if (o)
		rc = json_dump_file(o, path, JSON_INDENT(2));
	json_decref(o);
	return rc == 0 ? 0 : problem(p, "can't write %s", path);
}

double config_angle(const struct config *c, int i)
{
	double angle = pow(c->theta, -2.0 * i / c->head_dim), turns, between;

	if (c->stretch.factor <= 0)
		return angle;
	turns = c->stretch.original * angle / (2 * M_PI); /* within the length that the model was first trained on */
	if (turns >= c->stretch.high)
		return angle;
	if (turns <= c->stretch.low)
		return angle / c->stretch.factor;
	between = (turns - c->stretch.low) / (c->stretch.high - c->stretch.low);
	return angle * ((1 - between) / c->stretch.factor + between);
}
