/* The shape of a Llama-style model: config.json as published checkpoints have it. */
#ifndef TRANSFORMER_CONFIG_H
#define TRANSFORMER_CONFIG_H

#include <stdbool.h>

#include "problem.h"

struct config {
	int hidden, mlp, layers, heads, kv_heads, head_dim, vocab;
	int positions; /* tokens of a sequence that the rotary embedding is made for */
	double eps, theta;
	bool tied; /* the output head is the embedding */
	bool attention_bias, mlp_bias;
	/* Llama 3's stretching of the rotary embedding; factor 0: none */
	struct {
		double factor, low, high;
		int original;
	} stretch;
};

/** Reads dir/config.json. 0, or -1 with the problem: what can't be computed as the model means it is refused. */
int config_read(struct config *c, const char *dir, struct problem *p);
/** Writes it. */
int config_write(const struct config *c, const char *dir, const char *dtype, struct problem *p);

/** Angle per position of pair i < head_dim / 2 of the rotary embedding, in radians. */
double config_angle(const struct config *c, int i);

#endif
