/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#ifndef DARWIN_MACH_O_DYLD_H
#define DARWIN_MACH_O_DYLD_H

#include <stdint.h>

int _NSGetExecutablePath(char *path, uint32_t *size);

#endif
