/* SPDX-License-Identifier: MIT */
/* config.json: see config.h. */
#include "config.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * What the fields of one object are read with: the first that is wrong is noted, the rest then passes by. Each field that
 * is read is taken out of `left`; what is left at the end was not understood.
 */
struct reader {
	json_t *at, *left;
	const char *path, *of; /* of: the name of the object within the file and a dot, or "" */
	struct problem *problem;
	bool bad;
};

/* ---- what there is ----------------------------------------------------------------------------------------------- */

/* Where biases of attention are. */
enum biases { BIAS_AS_CONFIGURED, BIAS_NEVER, BIAS_OF_INPUTS };

static const struct family_of {
	const char *type, *architecture;
	enum biases biases;
	bool mlp_bias, head_norms; /* it may have a bias in the MLP; it has norms of heads */
} families[] = {
        [FAMILY_LLAMA] = {"llama", "LlamaForCausalLM", BIAS_AS_CONFIGURED, .mlp_bias = true},
        [FAMILY_MISTRAL] = {"mistral", "MistralForCausalLM", BIAS_NEVER},
        [FAMILY_QWEN2] = {"qwen2", "Qwen2ForCausalLM", BIAS_OF_INPUTS},
        [FAMILY_QWEN3] = {"qwen3", "Qwen3ForCausalLM", BIAS_AS_CONFIGURED, .head_norms = true},
};

#define FAMILIES ((int)(sizeof(families) / sizeof(*families)))

/* Keys that change nothing of what is computed here, whatever they say. */
static const char *const harmless[] = {
        /* about the file, the tokens and the text */
        "_name_or_path", "transformers_version", "torch_dtype", "dtype", "name_or_path", "unsloth_fixed",
        "unsloth_version", "transformers.js_config", "is_llama_config", "tokenizer_class", "prefix", "bos_token_id",
        "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
        "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "id2label", "label2id", "num_labels",
        "problem_type", "finetuning_task", "task_specific_params", "max_sequence_length", "model_max_length",
        /* about how another program computes the same */
        "use_cache", "pretraining_tp", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
        "_flash_attn_2_enabled", "use_flash_attn", "torchscript", "use_bfloat16", "chunk_size_feed_forward",
        "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores",
        "use_reentrant_checkpointing", "gradient_checkpointing", "tf_legacy_loss", "pruned_heads", "is_decoder",
        "tie_encoder_decoder",
        /* about training */
        "initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
        "classifier_dropout", "neftune_noise_alpha", "router_aux_loss_coef",
        /* about choosing tokens */
        "temperature", "top_p", "top_k", "typical_p", "do_sample", "num_beams", "num_beam_groups", "early_stopping",
        "max_length", "min_length", "max_new_tokens", "repetition_penalty", "length_penalty", "diversity_penalty",
        "encoder_no_repeat_ngram_size", "no_repeat_ngram_size", "bad_words_ids", "begin_suppress_tokens",
        "suppress_tokens", "exponential_decay_length_penalty", "remove_invalid_values", "num_return_sequences",
        /* which layers have a window is what layer_types and use_sliding_window say */
        "max_window_layers"};

/* Keys that would change the result where they are true. */
static const char *const must_be_false[] = {"rope_interleaved", "use_mrope",           "qk_layer_norms",
                                            "use_qk_norm",      "add_cross_attention", "is_encoder_decoder"};

const char *config_family(const struct config *c)
{
	return families[c->family].type;
}

bool config_output_bias(const struct config *c)
{
	return c->attention_bias && families[c->family].biases != BIAS_OF_INPUTS;
}

bool config_head_norms(const struct config *c)
{
	return families[c->family].head_norms;
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static void bad(struct reader *r, const char *name, const char *want)
{
	r->bad = true;
	problem(r->problem, "%s: \"%s%s\" must be %s", r->path, r->of, name, want);
}

/* NULL where there is none, or null. */
static json_t *field(struct reader *r, const char *name)
{
	json_t *v = json_object_get(r->at, name);

	json_object_del(r->left, name);
	return json_is_null(v) ? NULL : v;
}

/* A whole number from `least` on; `otherwise` where there is none (below `least`: it must be there). */
static int whole(struct reader *r, const char *name, int least, int otherwise)
{
	json_t *v = field(r, name);
	json_int_t i = json_integer_value(v);

	if (!v && otherwise >= least)
		return otherwise;
	if (json_is_integer(v) && i >= least && i <= 1 << 24)
		return (int)i;
	bad(r, name, "a whole number, not negative, at most 2^24");
	return least;
}

/* `otherwise` 0: it must be there. */
static double number(struct reader *r, const char *name, double otherwise)
{
	json_t *v = field(r, name);

	if (!v && otherwise > 0)
		return otherwise;
	if (json_is_number(v) && json_number_value(v) > 0)
		return json_number_value(v);
	bad(r, name, "a number above 0");
	return 1;
}

static bool flag(struct reader *r, const char *name)
{
	json_t *v = field(r, name);

	if (v && !json_is_boolean(v))
		bad(r, name, "true or false");
	return json_is_true(v);
}

/* NULL where there is none. */
static const char *word(struct reader *r, const char *name)
{
	json_t *v = field(r, name);

	if (v && !json_is_string(v))
		bad(r, name, "a text");
	return json_string_value(v);
}

/* A word that must be `want` where it stands at all. */
static void only(struct reader *r, const char *name, const char *want)
{
	const char *is = word(r, name);

	if (!is || strcmp(is, want) == 0)
		return;
	r->bad = true;
	problem(r->problem, "%s: \"%s%s\" is %s; only \"%s\" is supported", r->path, r->of, name, is, want);
}

static void refuse_what_is_left(struct reader *r, const char *const *ignored, size_t n)
{
	const char *name;
	json_t *v;
	size_t i;

	json_object_foreach (r->left, name, v) {
		for (i = 0; i < n && strcmp(ignored[i], name) != 0; i++)
			;
		if (i < n || json_is_null(v))
			continue;
		r->bad = true;
		problem(r->problem,
		        "%s: \"%s%s\" is unknown and could change the result; if it does not, delete it from config.json",
		        r->path, r->of, name);
	}
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

static void read_family(struct reader *r, struct config *c)
{
	const char *type = word(r, "model_type");
	json_t *all = field(r, "architectures");
	int i = 0;

	while (i < FAMILIES && (!type || strcmp(type, families[i].type) != 0))
		i++;
	if (i == FAMILIES) {
		r->bad = true;
		problem(r->problem, "%s: \"model_type\" is %s; llama, mistral, qwen2 and qwen3 are supported", r->path,
		        type ? type : "missing");
		return;
	}
	c->family = (enum family)i;
	if (all && !json_is_array(all))
		bad(r, "architectures", "a list of names");
	for (size_t k = 0; k < json_array_size(all); k++) {
		const char *name = json_string_value(json_array_get(all, k));

		if (name && strcmp(name, families[i].architecture) == 0)
			continue;
		r->bad = true;
		problem(r->problem, "%s: \"architectures\" names %s; with \"model_type\" %s only %s is supported",
		        r->path, name ? name : "no text", type, families[i].architecture);
	}
}

static void read_biases(struct reader *r, struct config *c)
{
	const struct family_of *f = &families[c->family];

	c->attention_bias = flag(r, "attention_bias");
	c->mlp_bias = flag(r, "mlp_bias");
	if (c->attention_bias && f->biases == BIAS_NEVER)
		bad(r, "attention_bias", "false: models of this type have no biases");
	if (c->mlp_bias && !f->mlp_bias)
		bad(r, "mlp_bias", "false: models of this type have no biases there");
	c->attention_bias |= f->biases == BIAS_OF_INPUTS;
}

/* True where some layer looks at a window only. */
static bool read_layer_types(struct reader *r, const struct config *c)
{
	json_t *all = field(r, "layer_types");
	bool slides = false;

	if (all && (!json_is_array(all) || json_array_size(all) != (size_t)c->layers))
		bad(r, "layer_types", "a list of as many names as there are layers");
	for (size_t i = 0; i < json_array_size(all); i++) {
		const char *type = json_string_value(json_array_get(all, i));

		if (type && strcmp(type, "sliding_attention") == 0)
			slides = true;
		else if (!type || strcmp(type, "full_attention") != 0)
			bad(r, "layer_types", "\"full_attention\" or \"sliding_attention\" for each layer");
	}
	return slides;
}

/* The window is not computed: it limits the length of a sequence instead, up to which it makes no difference. */
static void read_window(struct reader *r, struct config *c)
{
	bool slides = read_layer_types(r, c), qwen = c->family == FAMILY_QWEN2 || c->family == FAMILY_QWEN3;
	bool used = flag(r, "use_sliding_window") || slides || !qwen;
	int window = whole(r, "sliding_window", 0, 0);

	if (used)
		c->window = window;
	if (slides && window == 0)
		bad(r, "sliding_window", "there, since \"layer_types\" names \"sliding_attention\"");
}

/* ---- the rotary embedding ---------------------------------------------------------------------------------------- */

static void read_stretch(struct reader *r, struct config *c)
{
	c->stretch.factor = number(r, "factor", 0);
	c->stretch.low = number(r, "low_freq_factor", 0);
	c->stretch.high = number(r, "high_freq_factor", 0);
	c->stretch.original = whole(r, "original_max_position_embeddings", 1, 0);
	if (c->stretch.high <= c->stretch.low)
		bad(r, "high_freq_factor", "above low_freq_factor");
}

/* All of it must turn. */
static void read_part(struct reader *r)
{
	if (number(r, "partial_rotary_factor", 1) != 1)
		bad(r, "partial_rotary_factor", "1: only whole heads can be rotated");
}

/* said: theta stands beside the object, too. */
static void read_rope_object(struct reader *r, struct config *c, bool said)
{
	const char *type = word(r, "rope_type"), *older = word(r, "type");
	double theta = c->theta;

	if (type && older && strcmp(type, older) != 0)
		bad(r, "type", "the same as \"rope_type\"");
	type = type ? type : older ? older : "default";
	c->theta = number(r, "rope_theta", c->theta);
	if (said && c->theta != theta)
		bad(r, "rope_theta", "the same as \"rope_theta\" beside it");
	read_part(r);
	if (strcmp(type, "llama3") == 0) {
		read_stretch(r, c);
	} else if (strcmp(type, "default") != 0) {
		r->bad = true;
		problem(r->problem, "%s: \"%srope_type\" is %s; only \"default\" and \"llama3\" are supported", r->path,
		        r->of, type);
	}
	refuse_what_is_left(r, NULL, 0);
}

/* As transformers 4 writes it ("rope_theta" and "rope_scaling") and as transformers 5 does ("rope_parameters"). */
static void read_rope(struct reader *r, struct config *c)
{
	json_t *scaling = field(r, "rope_scaling"), *parameters = field(r, "rope_parameters");
	struct reader in = {.path = r->path, .problem = r->problem};

	c->theta = number(r, "rope_theta", 10000);
	read_part(r);
	if (scaling && parameters && !json_equal(scaling, parameters))
		bad(r, "rope_scaling", "the same as \"rope_parameters\"");
	in.at = parameters ? parameters : scaling;
	in.of = parameters ? "rope_parameters." : "rope_scaling.";
	if (!in.at)
		return;
	if (!json_is_object(in.at))
		bad(r, parameters ? "rope_parameters" : "rope_scaling", "an object");
	in.left = json_copy(in.at);
	read_rope_object(&in, c, json_is_number(json_object_get(r->at, "rope_theta")));
	json_decref(in.left);
	r->bad |= in.bad;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Families differ in what a missing key means. Llama's default is used; in the others the key must be there. */
static int in_llama(const struct config *c, int otherwise)
{
	return c->family == FAMILY_LLAMA ? otherwise : 0;
}

static void read_shape(struct reader *r, struct config *c)
{
	c->hidden = whole(r, "hidden_size", 1, 0);
	c->mlp = whole(r, "intermediate_size", 1, 0);
	c->layers = whole(r, "num_hidden_layers", 1, 0);
	c->heads = whole(r, "num_attention_heads", 1, 0);
	c->kv_heads = whole(r, "num_key_value_heads", 1, in_llama(c, c->heads));
	c->head_dim = whole(r, "head_dim", 2, c->family == FAMILY_QWEN3 ? 0 : c->hidden / c->heads);
	c->vocab = whole(r, "vocab_size", 1, 0);
	c->positions = whole(r, "max_position_embeddings", 1, in_llama(c, 2048));
	c->eps = number(r, "rms_norm_eps", 1e-6);
	c->tied = flag(r, "tie_word_embeddings");
}

static void read_fields(struct reader *r, struct config *c)
{
	read_family(r, c);
	only(r, "hidden_act", "silu");
	only(r, "activation", "swiglu");
	if (field(r, "quantization_config"))
		bad(r, "quantization_config", "absent or null: weights are f32, bf16 or f16");
	for (size_t i = 0; i < sizeof(must_be_false) / sizeof(*must_be_false); i++)
		if (flag(r, must_be_false[i]))
			bad(r, must_be_false[i], "false: it changes what is computed");
	read_shape(r, c);
	read_biases(r, c);
	read_window(r, c);
	read_rope(r, c);
	refuse_what_is_left(r, harmless, sizeof(harmless) / sizeof(*harmless));
}

int config_read(struct config *c, const char *dir, struct problem *p)
{
	char path[PATH_MAX];
	json_error_t e;
	struct reader r = {.path = path, .of = "", .problem = p};

	*c = (struct config){0};
	snprintf(path, sizeof(path), "%s/config.json", dir);
	r.at = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	if (!r.at)
		return problem(p, "%s: %s (line %d)", path, e.text, e.line);
	r.left = json_copy(r.at);
	if (!json_is_object(r.at))
		r.bad = problem(p, "%s: not a JSON object", path);
	else
		read_fields(&r, c);
	json_decref(r.left);
	json_decref(r.at);
	if (r.bad)
		return -1;
	if (c->heads % c->kv_heads != 0)
		return problem(p, "%s: %d heads can't share %d key-value heads evenly", path, c->heads, c->kv_heads);
	if ((long long)c->heads * c->head_dim > 1 << 24)
		return problem(p, "%s: %d heads of %d values are implausible", path, c->heads, c->head_dim);
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
