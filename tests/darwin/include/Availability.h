/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#define MAC_OS_X_VERSION_MIN_REQUIRED 110000
