/* SPDX-License-Identifier: MIT */
/*
 * Which kernel serves: the reference's table, overwritten row by row in the order of the instruction sets that this CPU
 * has, up to TUTTI_ISA's choice. Also the names and sizes of types and operations.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernel.h"
#include "rows.h"
#include "wire.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The compiler's checks include that the operating system saves the registers. */
static bool has_avx2(void)
{
	unsigned a, b, c, d;

	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
	       (c & bit_F16C);
}

static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

static bool always(void)
{
	return true;
}

/* Plainest first; each has all that those before it have. */
static const struct isa {
	const struct kernel_table *rows;
	bool (*present)(void);
} isas[] = {
        {&kernel_c, always},
#if defined(__x86_64__)
        {&kernel_avx2, has_avx2},
        {&kernel_avx512, has_avx512},
#elif defined(__aarch64__)
        {&kernel_neon, always},
#endif
};
#define NISAS (sizeof isas / sizeof isas[0])

static const char *isa_names[NISAS + 1];
static struct kernel_table tables[NISAS];
static const struct kernel_table *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void overwrite(struct kernel_table *t, const struct kernel_table *rows)
{
	t->isa = rows->isa;
	t->wire = rows->wire;
	t->copy = rows->copy;
	for (int i = 0; i < KERNEL_DTYPES; i++) {
		for (int j = 0; j < KERNEL_OPS; j++) {
			if (rows->two[i][j])
				t->two[i][j] = rows->two[i][j];
			if (rows->many[i][j])
				t->many[i][j] = rows->many[i][j];
		}
	}
}

/* A table whose isa stays NULL is one that this CPU can't run. */
static void build(void)
{
	const char *limit = getenv("TUTTI_ISA");

	for (size_t i = 0; i < NISAS; i++) {
		isa_names[i] = isas[i].rows->isa;
		if (!isas[i].present())
			continue;
		if (i > 0)
			tables[i] = *chosen;
		overwrite(&tables[i], isas[i].rows);
		chosen = &tables[i];
	}
	for (size_t i = 0; limit && i < NISAS; i++)
		if (tables[i].isa && strcasecmp(limit, tables[i].isa) == 0)
			chosen = &tables[i];
}

const struct kernel_table *kernel_table(void)
{
	pthread_once(&once, build);
	return chosen;
}

const struct kernel_table *kernel_table_isa(const char *isa)
{
	pthread_once(&once, build);
	for (size_t i = 0; i < NISAS; i++)
		if (tables[i].isa && strcasecmp(isa, tables[i].isa) == 0)
			return &tables[i];
	return NULL;
}

const char *const *kernel_isas(void)
{
	pthread_once(&once, build);
	return isa_names;
}

/* ---- codecs ------------------------------------------------------------------------------------------------------- */

bool wire_known(const char *name)
{
	return strcmp(name, "bf16") == 0 || strcmp(name, "q8") == 0;
}

const struct wire_codec *wire_codec(const struct kernel_table *k, const char *name, enum tutti_dtype t)
{
	bool q8 = strcmp(name, "q8") == 0;
	if (q8 && t == TUTTI_BF16)
		return &k->wire[WIRE_Q8_BF16];
	if (t != TUTTI_F32 || !wire_known(name))
		return NULL;
	return &k->wire[q8 ? WIRE_Q8_F32 : WIRE_BF16_F32];
}

/* ---- names -------------------------------------------------------------------------------------------------------- */

static const struct {
	size_t size;
	const char *name;
} dtypes[KERNEL_DTYPES] = {
        [TUTTI_I8] = {1, "i8"},         [TUTTI_U8] = {1, "u8"},         [TUTTI_I16] = {2, "i16"},
        [TUTTI_U16] = {2, "u16"},       [TUTTI_I32] = {4, "i32"},       [TUTTI_U32] = {4, "u32"},
        [TUTTI_I64] = {8, "i64"},       [TUTTI_U64] = {8, "u64"},       [TUTTI_F16] = {2, "f16"},
        [TUTTI_BF16] = {2, "bf16"},     [TUTTI_F32] = {4, "f32"},       [TUTTI_F64] = {8, "f64"},
        [TUTTI_F8E4M3] = {1, "f8e4m3"}, [TUTTI_F8E5M2] = {1, "f8e5m2"},
};

static const char *const ops[KERNEL_OPS] = {
        [TUTTI_SUM] = "sum", [TUTTI_PROD] = "prod", [TUTTI_MIN] = "min", [TUTTI_MAX] = "max", [TUTTI_AVG] = "avg",
};

size_t tutti_dtype_size(enum tutti_dtype t)
{
	return (unsigned)t < KERNEL_DTYPES ? dtypes[t].size : 0;
}

const char *dtype_name(enum tutti_dtype t)
{
	return (unsigned)t < KERNEL_DTYPES ? dtypes[t].name : "?";
}

const char *op_name(enum tutti_op op)
{
	return (unsigned)op < KERNEL_OPS ? ops[op] : "?";
}
