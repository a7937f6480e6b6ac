/* SPDX-License-Identifier: MIT */
/*
 * The reference: what every kernel of every instruction set must compute, bit for bit. One template makes all rows: an
 * element is widened to its accumulator, combined from the left, finished (AVG divides) and narrowed once.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "convert.h"
#include "rows.h"
#include "wire_rows.h"

#define ROW(env, row, elem, acc, widen, narrow, combine, finish)                                                       \
	static inline __attribute__((always_inline)) void row##_fold(char *dst, const void *const *src, int nsrc,      \
	                                                             size_t count, uint32_t divisor)                   \
	{                                                                                                              \
		(void)divisor;                                                                                         \
		for (size_t at = 0; at < count * sizeof(elem); at += sizeof(elem)) {                                   \
			elem e;                                                                                        \
			memcpy(&e, (const char *)src[0] + at, sizeof e);                                               \
			acc x = widen(e);                                                                              \
			for (int k = 1; k < nsrc; k++) {                                                               \
				memcpy(&e, (const char *)src[k] + at, sizeof e);                                       \
				acc y = widen(e);                                                                      \
				x = combine(x, y);                                                                     \
			}                                                                                              \
			e = narrow(finish(x, divisor));                                                                \
			memcpy(dst + at, &e, sizeof e);                                                                \
		}                                                                                                      \
	}                                                                                                              \
	static void row##_two(void *dst, const void *a, const void *b, size_t count, uint32_t divisor)                 \
	{                                                                                                              \
		const void *src[2] = {a, b};                                                                           \
		env(row##_fold(dst, src, 2, count, divisor));                                                          \
	}                                                                                                              \
	static void row##_many(void *dst, const void *const *src, int nsrc, size_t count, uint32_t divisor)            \
	{                                                                                                              \
		env(row##_fold(dst, src, nsrc, count, divisor));                                                       \
	}

#define SAME(x)        (x)
#define LEAVE(x, d)    (x)
#define ADD(x, y)      ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))
#define LESSER(x, y)   ((x) < (y) ? (x) : (y))
#define GREATER(x, y)  ((x) > (y) ? (x) : (y))

static inline uint32_t avg_u32(uint32_t sum, uint32_t divisor)
{
	return sum / divisor;
}

static inline uint64_t avg_u64(uint64_t sum, uint32_t divisor)
{
	return sum / divisor;
}

/* By magnitude: the divisor need not be representable in the type. */
static inline uint32_t avg_i32(int32_t sum, uint32_t divisor)
{
	return sum < 0 ? 0 - (0 - (uint32_t)sum) / divisor : (uint32_t)sum / divisor;
}

static inline uint64_t avg_i64(int64_t sum, uint32_t divisor)
{
	return (uint64_t)(sum / (int64_t)divisor);
}

/* Sums and products are made in an unsigned `wide` of at least 32 bits, where they wrap and nothing is promoted. */
#define INTEGER(type, elem, wide, avg)                                                                                 \
	static inline wide type##_divide(wide sum, uint32_t divisor)                                                   \
	{                                                                                                              \
		return avg((elem)sum, divisor);                                                                        \
	}                                                                                                              \
	ROW(EXACT, type##_sum, elem, wide, (wide), (elem), ADD, LEAVE)                                                 \
	ROW(EXACT, type##_prod, elem, wide, (wide), (elem), MULTIPLY, LEAVE)                                           \
	ROW(EXACT, type##_min, elem, elem, SAME, SAME, LESSER, LEAVE)                                                  \
	ROW(EXACT, type##_max, elem, elem, SAME, SAME, GREATER, LEAVE)                                                 \
	ROW(EXACT, type##_avg, elem, wide, (wide), (elem), ADD, type##_divide)

INTEGER(i8, int8_t, uint32_t, avg_i32)
INTEGER(u8, uint8_t, uint32_t, avg_u32)
INTEGER(i16, int16_t, uint32_t, avg_i32)
INTEGER(u16, uint16_t, uint32_t, avg_u32)
INTEGER(i32, int32_t, uint32_t, avg_i32)
INTEGER(u32, uint32_t, uint32_t, avg_u32)
INTEGER(i64, int64_t, uint64_t, avg_i64)
INTEGER(u64, uint64_t, uint64_t, avg_u64)

static inline float canonical_f32(float x)
{
	return x != x ? f32_of_bits(F32_NAN) : x;
}

static inline double canonical_f64(double x)
{
	return x != x ? f64_of_bits(F64_NAN) : x;
}

/* Is x before y in the order in which -0 stands before +0? For numbers; a NaN is handled by the callers. */
#define BEFORE(x, y)     ((x) < (y) || ((x) == (y) && signbit(x) && !signbit(y)))
#define FIRST(x, y)      ((x) != (x) || (!((y) != (y)) && BEFORE(x, y)) ? (x) : (y))
#define LAST(x, y)       ((x) != (x) || (!((y) != (y)) && BEFORE(y, x)) ? (x) : (y))
#define DIVIDE_F32(x, d) ((x) / (float)(d))
#define DIVIDE_F64(x, d) ((x) / (double)(d))

#define FLOAT(type, elem, acc, widen, narrow, divide)                                                                  \
	ROW(ROUNDED, type##_sum, elem, acc, widen, narrow, ADD, LEAVE)                                                 \
	ROW(ROUNDED, type##_prod, elem, acc, widen, narrow, MULTIPLY, LEAVE)                                           \
	ROW(ROUNDED, type##_min, elem, acc, widen, narrow, FIRST, LEAVE)                                               \
	ROW(ROUNDED, type##_max, elem, acc, widen, narrow, LAST, LEAVE)                                                \
	ROW(ROUNDED, type##_avg, elem, acc, widen, narrow, ADD, divide)

FLOAT(f16, uint16_t, float, f16_to_f32, f16_from_f32, DIVIDE_F32)
FLOAT(bf16, uint16_t, float, bf16_to_f32, bf16_from_f32, DIVIDE_F32)
FLOAT(f32, float, float, SAME, canonical_f32, DIVIDE_F32)
FLOAT(f64, double, double, SAME, canonical_f64, DIVIDE_F64)
FLOAT(e4m3, uint8_t, float, e4m3_to_f32, e4m3_from_f32, DIVIDE_F32)
FLOAT(e5m2, uint8_t, float, e5m2_to_f32, e5m2_from_f32, DIVIDE_F32)

static void copy_row(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
}

const struct kernel_table kernel_c = {
        .isa = "c",
        .wire = wire_rows,
        .copy = copy_row,
        .two = KERNEL_ROWS(KERNEL_FIVE_OPS, KERNEL_FIVE_OPS, two),
        .many = KERNEL_ROWS(KERNEL_FIVE_OPS, KERNEL_FIVE_OPS, many),
};
