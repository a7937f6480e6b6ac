/* Linux: what os.h promises and must cost nothing. Included by os.h alone. */
#ifndef TUTTI_OS_LINUX_H
#define TUTTI_OS_LINUX_H

#include <stdint.h>
#include <time.h>

static inline uint64_t os_clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
