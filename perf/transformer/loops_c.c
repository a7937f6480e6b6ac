/* SPDX-License-Identifier: MIT */
/* The loops of loops.h with what every CPU of the architecture has, and the choice among all. */
#define LANES 4
#define LOOPS loops_c
#ifdef __aarch64__
#define LOOPS_NAME "NEON"
#else
#define LOOPS_NAME "C"
#endif
#include "loops_body.h"

const struct loops *loops_best(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
		return &loops_avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &loops_avx2;
#endif
	return &loops_c;
}
