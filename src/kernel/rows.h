/* SPDX-License-Identifier: MIT */
/*
 * What the files of this folder share: the table that each instruction set exports. A row that is NULL is left to the
 * table before it.
 */
#ifndef TUTTI_KERNEL_ROWS_H
#define TUTTI_KERNEL_ROWS_H

#include "../util/float_env.h"
#include "kernel.h"

/*
 * What a row's entry does around its fold: integers, and floats that are only compared as integers, give the same bits in
 * any floating-point environment; all else needs the default one. The divisor becomes a float inside.
 */
#define EXACT(fold) fold
#define ROUNDED(fold)                                                                                                  \
	do {                                                                                                           \
		float_env callers = float_env_enter();                                                                 \
		float_env_opaque(divisor);                                                                             \
		fold;                                                                                                  \
		float_env_leave(callers);                                                                              \
	} while (0)

extern const struct kernel_table kernel_c;
#if defined(__x86_64__)
extern const struct kernel_table kernel_avx2, kernel_avx512;
#elif defined(__aarch64__)
extern const struct kernel_table kernel_neon;
#endif

/* The table of an instruction set whose functions are named <type>_<op>_two and <type>_<op>_many. */
#define KERNEL_ROWS(INTEGER, FLOAT, form)                                                                              \
	{                                                                                                              \
		[TUTTI_I8] = INTEGER(i8, form), [TUTTI_U8] = INTEGER(u8, form), [TUTTI_I16] = INTEGER(i16, form),      \
		[TUTTI_U16] = INTEGER(u16, form), [TUTTI_I32] = INTEGER(i32, form), [TUTTI_U32] = INTEGER(u32, form),  \
		[TUTTI_I64] = INTEGER(i64, form), [TUTTI_U64] = INTEGER(u64, form), [TUTTI_F16] = FLOAT(f16, form),    \
		[TUTTI_BF16] = FLOAT(bf16, form), [TUTTI_F32] = FLOAT(f32, form), [TUTTI_F64] = FLOAT(f64, form),      \
		[TUTTI_F8E4M3] = FLOAT(e4m3, form), [TUTTI_F8E5M2] = FLOAT(e5m2, form),                                \
	}
#define KERNEL_FOUR_OPS(type, form)                                                                                    \
	{                                                                                                              \
		[TUTTI_SUM] = type##_sum_##form, [TUTTI_PROD] = type##_prod_##form, [TUTTI_MIN] = type##_min_##form,   \
		[TUTTI_MAX] = type##_max_##form,                                                                       \
	}
#define KERNEL_FIVE_OPS(type, form)                                                                                    \
	{                                                                                                              \
		[TUTTI_SUM] = type##_sum_##form, [TUTTI_PROD] = type##_prod_##form, [TUTTI_MIN] = type##_min_##form,   \
		[TUTTI_MAX] = type##_max_##form, [TUTTI_AVG] = type##_avg_##form,                                      \
	}

#endif
