/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#include "mach.h"
