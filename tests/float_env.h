/* SPDX-License-Identifier: MIT */
/* Floating-point environments that a caller may have, for tests of what does not depend on them. */
#ifndef TESTS_FLOAT_ENV_H
#define TESTS_FLOAT_ENV_H

#include <fenv.h>
#include <stdint.h>

#if defined(__x86_64__)
#define FLUSH_SUBNORMALS 0x8040u /* FTZ and DAZ of MXCSR */
#elif defined(__aarch64__)
#define FLUSH_SUBNORMALS (1u << 24) /* FZ of FPCR */
#endif

enum callers_env { ENV_DEFAULT, ENV_FLUSHES, ENV_UPWARD, ENV_DOWNWARD, ENV_TOWARDZERO, ENV_TRAPS, CALLERS_ENVS };
static const char *const callers_env_names[] = {"default",  "subnormals flushed", "upward",
                                                "downward", "toward zero",        "all exceptions trap"};

/** The control register, without the exceptions raised so far. */
static inline uint64_t callers_env_read(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_stmxcsr() & ~0x3fu;
#elif defined(__aarch64__)
	uint64_t fpcr;
	__asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
	return fpcr;
#else
	return (uint64_t)fegetround();
#endif
}

/** From the default environment to another one. */
static inline void callers_env_set(enum callers_env env)
{
	static const int rounding[CALLERS_ENVS] = {
	        [ENV_UPWARD] = FE_UPWARD, [ENV_DOWNWARD] = FE_DOWNWARD, [ENV_TOWARDZERO] = FE_TOWARDZERO};
	feclearexcept(FE_ALL_EXCEPT);
	if (rounding[env])
		fesetround(rounding[env]);
	if (env == ENV_TRAPS)
		feenableexcept(FE_ALL_EXCEPT); /* not every processor has traps */
#if defined(__x86_64__)
	if (env == ENV_FLUSHES)
		__builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | FLUSH_SUBNORMALS);
#elif defined(__aarch64__)
	if (env == ENV_FLUSHES)
		__asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)FLUSH_SUBNORMALS));
#endif
}

static inline void callers_env_reset(void)
{
	fesetenv(FE_DFL_ENV);
}

#endif
