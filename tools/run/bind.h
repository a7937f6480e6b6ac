/* SPDX-License-Identifier: MIT */
/* Which processors each rank of a host gets. */
#ifndef TUTTI_RUN_BIND_H
#define TUTTI_RUN_BIND_H

#include <stdbool.h>
#include <stddef.h>

struct binding;

/** core, numa, none */
bool bind_known(const char *how);
/**
 * Divides what this process may use among n ranks: by core, neighbouring cores to a rank and each core to one rank; by
 * numa, whole NUMA nodes in turn. With more ranks than cores, or `none`, nobody is bound. NULL: nothing to bind.
 */
struct binding *bind_plan(const char *how, int n);
/** Binds the calling process as rank i of the plan; a machine that refuses leaves it where it is. NULL: no plan. */
void bind_apply(const struct binding *b, int i);
/** "0-3,8": rank i's processors; "all" without a plan. */
const char *bind_text(const struct binding *b, int i, char *buf, size_t cap);
void bind_free(struct binding *b);

#endif
