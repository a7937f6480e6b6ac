/* SPDX-License-Identifier: MIT */
/* macOS 14.4 and later: see tests/darwin/darwin.h. */
#ifndef DARWIN_OS_SYNC_WAIT_ON_ADDRESS_H
#define DARWIN_OS_SYNC_WAIT_ON_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

typedef enum { OS_SYNC_WAIT_ON_ADDRESS_NONE = 0, OS_SYNC_WAIT_ON_ADDRESS_SHARED = 1 } os_sync_wait_on_address_flags_t;
typedef enum { OS_SYNC_WAKE_BY_ADDRESS_NONE = 0, OS_SYNC_WAKE_BY_ADDRESS_SHARED = 1 } os_sync_wake_by_address_flags_t;
typedef enum { OS_CLOCK_MACH_ABSOLUTE_TIME = 32 } os_clockid_t;

int os_sync_wait_on_address(void *word, uint64_t value, size_t size, os_sync_wait_on_address_flags_t flags);
int os_sync_wait_on_address_with_timeout(void *word, uint64_t value, size_t size, os_sync_wait_on_address_flags_t flags,
                                         os_clockid_t clock, uint64_t timeout_ns);
int os_sync_wake_by_address_any(void *word, size_t size, os_sync_wake_by_address_flags_t flags);
int os_sync_wake_by_address_all(void *word, size_t size, os_sync_wake_by_address_flags_t flags);

#endif
