/* SPDX-License-Identifier: MIT */
/* How large buffers may be for all ranks of a host to find memory. Pure: what is there is measured elsewhere. */
#ifndef PERF_FIT_H
#define PERF_FIT_H

#include <stdint.h>

/** What one rank says. */
struct claim {
	uint64_t host;            /* equal for ranks that share memory */
	double available, wanted; /* bytes: left on its host (0: unknown), for its buffers */
};

/** Part of the available memory that buffers may take: the library and the system also need some. */
#define FIT_PART 0.8

/** The largest share, up to 1, of what is wanted that fits on every host. The same on all ranks. */
double fit_share(const struct claim *all, int n);

#endif
