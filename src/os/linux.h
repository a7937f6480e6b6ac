/* SPDX-License-Identifier: MIT */
/* Linux: what os.h promises and must cost nothing. Included by os.h alone. */
#ifndef TUTTI_OS_LINUX_H
#define TUTTI_OS_LINUX_H

#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#define OS_NO_SIGNAL MSG_NOSIGNAL
#define OS_NO_DELAY  MSG_EOR /* no segment of this send waits for others of its socket (tcp_autocorking) */

static inline uint64_t os_clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
