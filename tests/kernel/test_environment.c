/* SPDX-License-Identifier: MIT */
/*
 * Kernels and codecs give the same bits whatever the floating-point environment of the caller is, of subnormals, numbers that
 * round, overflow and NaN; they give the environment back, and raise no signal where exceptions trap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/kernel/kernel.h"
#include "../../src/kernel/wire.h"
#include "../float_env.h"

#define COUNT   331 /* whole vectors and a rest */
#define SOURCES 3

static uint8_t in[SOURCES][COUNT * 8], want[COUNT * 8], got[COUNT * 8];

/* Bits without order: their exponents are of all sizes. Where `tiny`, the exponent is 0 in each second element. */
static void fill(enum tutti_dtype t, bool tiny)
{
	static const int mant[KERNEL_DTYPES] = {[TUTTI_F16] = 10, [TUTTI_BF16] = 7,   [TUTTI_F32] = 23,
	                                        [TUTTI_F64] = 52, [TUTTI_F8E4M3] = 3, [TUTTI_F8E5M2] = 2};
	uint64_t seed = 88172645463325252u;
	size_t size = tutti_dtype_size(t);
	for (int k = 0; k < SOURCES; k++)
		for (size_t i = 0; i < COUNT; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			uint64_t bits = tiny && i % 2 && mant[t] ? seed & ((UINT64_C(2) << mant[t]) - 1) : seed;
			memcpy(in[k] + i * size, &bits, size);
		}
}

/* The call in an environment; false: it did not give that back. */
static bool two_in(enum callers_env env, const struct kernel_table *k, enum tutti_dtype t, enum tutti_op op)
{
	callers_env_set(env);
	uint64_t before = callers_env_read();
	k->two[t][op](got, in[0], in[1], COUNT, 3);
	bool same = callers_env_read() == before;
	callers_env_reset();
	return same;
}

static bool many_in(enum callers_env env, const struct kernel_table *k, enum tutti_dtype t, enum tutti_op op)
{
	const void *src[SOURCES] = {in[0], in[1], in[2]};
	callers_env_set(env);
	uint64_t before = callers_env_read();
	k->many[t][op](got, src, SOURCES, COUNT, (1u << 25) + 3); /* which rounds as an f32 */
	bool same = callers_env_read() == before;
	callers_env_reset();
	return same;
}

static void check_row(const struct kernel_table *k, enum tutti_dtype t, enum tutti_op op)
{
	bool (*forms[])(enum callers_env, const struct kernel_table *, enum tutti_dtype, enum tutti_op) = {two_in,
	                                                                                                   many_in};
	for (size_t f = 0; f < 2; f++) {
		assert_true(forms[f](ENV_DEFAULT, k, t, op));
		memcpy(want, got, sizeof(want));
		for (int env = 1; env < CALLERS_ENVS; env++) {
			memset(got, 0xa5, sizeof(got));
			if (!forms[f]((enum callers_env)env, k, t, op))
				fail_msg("%s %s %s: the environment \"%s\" was not restored", k->isa, dtype_name(t),
				         op_name(op), callers_env_names[env]);
			if (memcmp(want, got, COUNT * tutti_dtype_size(t)) != 0)
				fail_msg("%s %s %s of %s: other bits in the environment \"%s\"", k->isa, dtype_name(t),
				         op_name(op), f ? "three" : "two", callers_env_names[env]);
		}
	}
}

static void test_rows(void **state)
{
	(void)state;
	for (const char *const *isa = kernel_isas(); *isa; isa++)
		for (int i = 0; kernel_table_isa(*isa) && i < 2 * KERNEL_DTYPES; i++) {
			fill((enum tutti_dtype)(i / 2), i % 2);
			for (int op = 0; op < KERNEL_OPS; op++)
				check_row(kernel_table_isa(*isa), (enum tutti_dtype)(i / 2), (enum tutti_op)op);
		}
}

static uint8_t code[COUNT * 8];

static bool coded_in(enum callers_env env, const struct wire_codec *codec)
{
	callers_env_set(env);
	uint64_t before = callers_env_read();
	codec->encode(code, in[0], COUNT);
	codec->decode(got, code, COUNT);
	bool same = callers_env_read() == before;
	callers_env_reset();
	return same;
}

static void test_codecs(void **state)
{
	static const struct {
		const char *name;
		enum tutti_dtype type;
	} codecs[] = {{"bf16", TUTTI_F32}, {"q8", TUTTI_F32}, {"q8", TUTTI_BF16}};
	static uint8_t first[sizeof(code)];
	(void)state;
	for (const char *const *isa = kernel_isas(); *isa; isa++)
		for (size_t i = 0; kernel_table_isa(*isa) && i < 6; i++) {
			const struct wire_codec *codec =
			        wire_codec(kernel_table_isa(*isa), codecs[i / 2].name, codecs[i / 2].type);
			fill(codecs[i / 2].type, i % 2);
			assert_true(coded_in(ENV_DEFAULT, codec));
			memcpy(first, code, sizeof(code));
			memcpy(want, got, sizeof(want));
			for (int env = 1; env < CALLERS_ENVS; env++)
				if (!coded_in((enum callers_env)env, codec) || memcmp(first, code, sizeof(code)) != 0 ||
				    memcmp(want, got, sizeof(want)) != 0)
					fail_msg("%s %s of %s: the environment \"%s\" makes a difference", *isa,
					         codec->name, dtype_name(codecs[i / 2].type), callers_env_names[env]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_codecs)};
	return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
