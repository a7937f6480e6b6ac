/* SPDX-License-Identifier: MIT */
/* Random models: written in the same format as real ones, so that nothing else knows the difference. */
#ifndef TRANSFORMER_CHECKPOINT_H
#define TRANSFORMER_CHECKPOINT_H

#include <stdint.h>

#include "config.h"
#include "loops.h"

/** The shape that a name stands for; false: no such name. preset_name: the names in order, NULL at the end. */
bool preset(const char *name, struct config *c);
const char *preset_name(int i);

/** Changes a shape as "layers=4,mlp=352,tied=1" says. 0, or -1 with the problem. */
int preset_change(struct config *c, const char *changes, struct problem *p);

/** Writes config.json and the weights, in `files` files, to `dir`, which is created if necessary. */
int checkpoint_make(const struct config *c, enum element type, int files, uint64_t seed, const char *dir,
                    struct problem *p);

#endif
