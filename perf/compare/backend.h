/* SPDX-License-Identifier: MIT */
/*
 * What a library must offer to be compared: one table of functions. A backend_*.c defines `backend`, loop.c calls it.
 * Failures end the program with a message.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <stddef.h>

enum element { F32, BF16, F16 };

struct backend {
	unsigned elements; /* bit 1 << e: has element e */
	/* Start the library, call each() in every rank that this process holds, stop it; the exit status. */
	int (*run)(int (*each)(void));
	int (*rank)(void);
	int (*size)(void);
	void (*barrier)(void);
	/* count: as in the library's own call: elements of the vector, or of one rank's part. */
	void (*allreduce)(const void *in, void *out, size_t count, enum element e);
	void (*allgather)(const void *in, void *out, size_t count, enum element e);
	void (*reduce_scatter)(const void *in, void *out, size_t count, enum element e);
	/* Memory of the library's own, at a page's start; NULL: ordinary memory. */
	void *(*take)(size_t bytes);
	void (*give)(void *p);
};

#ifdef __cplusplus
extern "C" {
#endif
extern const struct backend backend;
/** For a backend whose ranks are threads: put the calling thread on the CPU of rank `rank`. */
void pin_rank(int rank);
#ifdef __cplusplus
}
#endif

#endif
