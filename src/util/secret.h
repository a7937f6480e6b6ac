/* SPDX-License-Identifier: MIT */
/*
 * Memory for keys: in no core dump, not swapped out where the limit of locked memory allows that, and wiped when it is
 * given back. A process has few keys, so blocks have one size and lie together.
 */
#ifndef TUTTI_SECRET_H
#define TUTTI_SECRET_H

#include <stddef.h>

#define SECRET_BLOCK 128

/** Zeros, at most SECRET_BLOCK bytes; NULL: no memory. */
void *secret_alloc(size_t bytes);
/** NULL is fine. */
void secret_free(void *p);
void secret_wipe(void *p, size_t bytes);

#endif
