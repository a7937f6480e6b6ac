/* SPDX-License-Identifier: MIT */
/* The loops of loops.h with AVX-512. */
#ifdef __x86_64__
#define LANES      16
#define LOOPS      loops_avx512
#define LOOPS_NAME "AVX-512"
#include "loops_body.h"
#else
typedef int loops_unused; /* ISO C forbids an empty file */
#endif
