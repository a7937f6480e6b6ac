/* SPDX-License-Identifier: MIT */
/*
 * The shape of a model of the Llama kind: config.json as published checkpoints have it. What can't be computed as the
 * model means it is refused, and so is a key whose meaning is not known: it could change the result.
 */
#ifndef TRANSFORMER_CONFIG_H
#define TRANSFORMER_CONFIG_H

#include <stdbool.h>

#include "problem.h"

enum family { FAMILY_LLAMA, FAMILY_MISTRAL, FAMILY_QWEN2, FAMILY_QWEN3 };

struct config {
	enum family family;
	int hidden, mlp, layers, heads, kv_heads, head_dim, vocab;
	int positions; /* tokens of a sequence that the rotary embedding is made for */
	int window;    /* tokens that a token looks back at, itself among them; 0: all */
	double eps, theta;
	bool tied;           /* the output head is the embedding */
	bool attention_bias; /* of queries, keys and values; config_output_bias tells whether also of the output */
	bool mlp_bias;
	/* Llama 3's stretching of the rotary embedding; factor 0: none */
	struct {
		double factor, low, high;
		int original;
	} stretch;
};

/** As config.json names the family: "llama", ... */
const char *config_family(const struct config *c);
/** Attention's output has a bias. */
bool config_output_bias(const struct config *c);
/** Each head of queries and keys is normed before it is rotated. */
bool config_head_norms(const struct config *c);

/** Reads dir/config.json. 0, or -1 with the problem. */
int config_read(struct config *c, const char *dir, struct problem *p);
/** Writes it; the family is Llama. */
int config_write(const struct config *c, const char *dir, const char *dtype, struct problem *p);

/** Angle per position of pair i < head_dim / 2 of the rotary embedding, in radians. */
double config_angle(const struct config *c, int i);

#endif
