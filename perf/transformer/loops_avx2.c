/* SPDX-License-Identifier: MIT */
/* The loops of loops.h with AVX2. */
#ifdef __x86_64__
#define LANES      8
#define LOOPS      loops_avx2
#define LOOPS_NAME "AVX2"
#include "loops_body.h"
#else
typedef int loops_unused; /* ISO C forbids an empty file */
#endif
