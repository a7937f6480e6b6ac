/* SPDX-License-Identifier: MIT */
/* Sets of processors by the operating system's numbers: raw and of fixed size, so that they travel as they are. */
#ifndef TUTTI_CPUS_H
#define TUTTI_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPUS_MAX 4096

struct cpus {
	uint64_t word[CPUS_MAX / 64];
};

static inline void cpus_add(struct cpus *s, unsigned i)
{
	if (i < CPUS_MAX)
		s->word[i / 64] |= UINT64_C(1) << i % 64;
}

static inline bool cpus_has(const struct cpus *s, unsigned i)
{
	return i < CPUS_MAX && (s->word[i / 64] >> i % 64 & 1);
}

int cpus_count(const struct cpus *s);
bool cpus_overlap(const struct cpus *a, const struct cpus *b);
/** "0-3,8", cut at cap; returns buf. */
char *cpus_text(const struct cpus *s, char *buf, size_t cap);
/** Read the same text; false: it is malformed, or names a processor beyond CPUS_MAX. "": the empty set. */
bool cpus_parse(struct cpus *s, const char *text);
/** Where the calling thread may run; false when the system does not say. */
bool cpus_allowed(struct cpus *s);
/** Binds the calling thread; false when the system refuses. */
bool cpus_bind(const struct cpus *s);

#endif
