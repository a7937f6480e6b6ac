/* SPDX-License-Identifier: MIT */
/*
 * The floating-point environment that the library computes in: round to nearest even, subnormals kept, no traps. The
 * caller's thread may have a different one: inference engines and -ffast-math flush subnormals, feenableexcept makes an
 * exception a signal, and a new thread starts with the environment of its creator. Code whose result or whose safety
 * depends on it is bracketed by float_env_enter and float_env_leave. Where the caller's environment is the default one,
 * as nearly always, that is one read of the control register.
 *
 * The compiler knows no dependency between arithmetic and the control register. Values must therefore come from memory
 * after float_env_enter and go to memory before float_env_leave (both are compiler barriers), or pass float_env_opaque.
 */
#ifndef TUTTI_FLOAT_ENV_H
#define TUTTI_FLOAT_ENV_H

#include <stdint.h>

#if defined(__x86_64__)

typedef uint32_t float_env;
#define FLOAT_ENV_FLAGS   0x3fu   /* of MXCSR: exceptions raised so far */
#define FLOAT_ENV_DEFAULT 0x1f80u /* the rest of it: all exceptions masked, everything else off */

static inline void float_env_store(float_env env)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(env) : "memory");
}

static inline float_env float_env_load(void)
{
	float_env env;
	__asm__ volatile("stmxcsr %0" : "=m"(env) : : "memory");
	return env;
}

static inline int float_env_is_default(const float_env *env)
{
	return (*env & ~FLOAT_ENV_FLAGS) == FLOAT_ENV_DEFAULT;
}

#elif defined(__aarch64__)

typedef uint64_t float_env;
#define FLOAT_ENV_DEFAULT 0u /* of FPCR; the exceptions raised so far stand in a register of their own */

static inline void float_env_store(float_env env)
{
	__asm__ volatile("msr fpcr, %0" : : "r"(env) : "memory");
}

static inline float_env float_env_load(void)
{
	float_env env;
	__asm__ volatile("mrs %0, fpcr" : "=r"(env) : : "memory");
	return env;
}

static inline int float_env_is_default(const float_env *env)
{
	return *env == FLOAT_ENV_DEFAULT;
}

#else
#include <fenv.h>

typedef fenv_t float_env;
#define FLOAT_ENV_DEFAULT (*FE_DFL_ENV)

static inline void float_env_store(float_env env)
{
	(void)fesetenv(&env);
	__asm__ volatile("" : : : "memory");
}

static inline float_env float_env_load(void)
{
	float_env env;
	(void)fegetenv(&env);
	__asm__ volatile("" : : : "memory");
	return env;
}

static inline int float_env_is_default(const float_env *env)
{
	(void)env; /* an fenv_t cannot be compared */
	return 0;
}

#endif

/** The default environment from here on; returns the one to restore. */
static inline float_env float_env_enter(void)
{
	float_env was = float_env_load();
	if (__builtin_expect(!float_env_is_default(&was), 0))
		float_env_store(FLOAT_ENV_DEFAULT);
	return was;
}

/** The caller's environment again, as it was: exceptions that were raised in between don't show in it. */
static inline void float_env_leave(float_env was)
{
	if (__builtin_expect(!float_env_is_default(&was), 0))
		float_env_store(was);
}

/** Keeps the compiler from computing with an integer before float_env_enter. */
#define float_env_opaque(integer) __asm__ volatile("" : "+r"(integer))

#endif
