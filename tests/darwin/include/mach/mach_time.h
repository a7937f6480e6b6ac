/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. A tick is 125/3 ns, as on the M-chips. */
#ifndef DARWIN_MACH_TIME_H
#define DARWIN_MACH_TIME_H

#include "mach.h"

struct mach_timebase_info {
	uint32_t numer, denom;
};
typedef struct mach_timebase_info mach_timebase_info_data_t, *mach_timebase_info_t;

uint64_t mach_absolute_time(void);
uint64_t mach_continuous_time(void);
kern_return_t mach_timebase_info(mach_timebase_info_t info);

#endif
