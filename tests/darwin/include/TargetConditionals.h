/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#define TARGET_OS_MAC     1
#define TARGET_OS_OSX     1
#define TARGET_OS_IPHONE  0
#define TARGET_CPU_ARM64  0
#define TARGET_CPU_X86_64 1
