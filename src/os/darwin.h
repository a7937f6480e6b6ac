/* SPDX-License-Identifier: MIT */
/* macOS: what os.h promises and must cost nothing. Included by os.h alone. */
#ifndef TUTTI_OS_DARWIN_H
#define TUTTI_OS_DARWIN_H

#include <stdint.h>
#include <time.h>

#define OS_NO_SIGNAL 0 /* each socket from here has SO_NOSIGPIPE */
#define OS_NO_DELAY  0 /* the system holds nothing back for other packets of a socket */

static inline uint64_t os_clock_ns(void)
{
	return clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}

#endif
