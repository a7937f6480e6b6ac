/* SPDX-License-Identifier: MIT */
/*
 * How fast memory is: each NUMA node's is read and copied by one core near it, and by all that may be used at once. A
 * stream over a buffer that no cache holds; under a second for a host, whatever it has.
 */
#ifndef TUTTI_TOPO_MEMORY_H
#define TUTTI_TOPO_MEMORY_H

#include "survey.h"

/**
 * Fills `thread` with one hardware thread of each core that is near memory `at` (a node of m) and in `may`, at most
 * `most`; their number.
 */
int memory_threads(const struct machine *m, uint32_t at, const struct cpus *may, int most, int *thread);
/** Bytes to stream over, so that the caches of these threads hold little of them; 0: `room` is too small for that. */
size_t memory_bytes(const struct machine *m, const int *thread, int n, uint64_t room);
/**
 * Measures one host, this one, by threads in `may`. at_once: how many may do so on this machine at the same time; they share
 * what memory is free. *out: one for each memory near any of these. TUTTI_OK or ENOMEM.
 */
int memory_measure(const struct machine *m, const struct cpus *may, int at_once, struct memory_speed **out, int *n);

/** Collective: all hosts at once, each by one of its ranks. Fills the speeds on rank 0. A status. */
int memory_measure_all(struct survey *s, struct tutti_comm *c);

#endif
