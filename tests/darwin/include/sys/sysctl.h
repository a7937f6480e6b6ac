/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#ifndef DARWIN_SYS_SYSCTL_H
#define DARWIN_SYS_SYSCTL_H

#include <stddef.h>

int sysctlbyname(const char *name, void *old, size_t *old_size, void *new, size_t new_size);

#endif
