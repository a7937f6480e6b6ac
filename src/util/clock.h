/* SPDX-License-Identifier: MIT */
/* Monotonic time in nanoseconds. */
#ifndef TUTTI_CLOCK_H
#define TUTTI_CLOCK_H

#include <stdint.h>

#include "../os/os.h"

static inline uint64_t now_ns(void)
{
	return os_clock_ns();
}

#endif
