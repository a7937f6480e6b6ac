/* SPDX-License-Identifier: MIT */
/* Measuring what links and memory cost, with the library itself over the links that there are; see src/tuner/costs.h. */
#ifndef TUTTI_TUNE_H
#define TUTTI_TUNE_H

#include "tutti.h"

/**
 * Collective over a communicator of the environment. Measures a pair of ranks for each kind of link in it, and on rank 0
 * what threads of its own can stand for; rank 0 prints the table and writes it to what `file` (TUTTI_TUNE_FILE) means.
 * A status, with the thread's message.
 */
int tune(struct tutti_comm *c, const char *file);

#endif
