/* SPDX-License-Identifier: MIT */
/*
 * Reduction kernels: out[i] = fold of src[0][i], src[1][i], ... from the left, for every type and operation; and a copy.
 *
 * A C reference defines the bits; AVX2, AVX-512 and NEON tables overwrite its rows at run time and agree with it bit
 * for bit (tests/kernel compares them all). They compute in the default floating-point environment (round to nearest,
 * subnormals kept, no traps) whatever the caller's is, and give that back as it was. Depends on nothing above it.
 */
#ifndef TUTTI_KERNEL_H
#define TUTTI_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "tutti.h"

struct wire_codec;

#define KERNEL_DTYPES 14
#define KERNEL_OPS    5

/**
 * dst[0..count) = a (+) b. dst may be exactly a or exactly b, otherwise no overlap. No alignment is needed; nothing
 * outside the arrays is read or written.
 * F16, BF16 and FP8 are widened to f32, combined, and rounded once to nearest even. MIN and MAX order -0 before +0 and
 * propagate NaN. A NaN in any result of a float type is the type's canonical quiet NaN, positive. Integers wrap.
 * `divisor`, at least 1, is used by AVG rows only: they compute (a + b) / divisor, dividing before the one rounding
 * (in f64 for F64, else in f32; integers: the wrapped sum of the type, then truncating division).
 */
typedef void kernel2_fn(void *dst, const void *a, const void *b, size_t count, uint32_t divisor);

/**
 * dst[0..count) = ((src[0] (+) src[1]) (+) src[2]) ..., nsrc >= 1; the small floats accumulate in f32 and round once
 * at the end. dst may be exactly one of the sources. Each source is read once. With nsrc == 2 the bits are those of the
 * binary form. nsrc == 1 is a copy with NaN made canonical; AVG divides it.
 */
typedef void kerneln_fn(void *dst, const void *const *src, int nsrc, size_t count, uint32_t divisor);

/**
 * memcpy for long stretches whose destination is in no cache, or in another core's. C libraries have rep movsb from some
 * KiB on, which here takes 1.3 times as long (docs/performance.md).
 */
typedef void kernel_copy_fn(void *dst, const void *src, size_t bytes);

struct kernel_table {
	const char *isa; /* of the best row in it */
	kernel2_fn *two[KERNEL_DTYPES][KERNEL_OPS];
	kerneln_fn *many[KERNEL_DTYPES][KERNEL_OPS];
	kernel_copy_fn *copy;
	const struct wire_codec *wire; /* [WIRE_ROWS], see wire.h */
};

/**
 * The best table for this CPU, or TUTTI_ISA's choice; a choice that kernel_table_isa does not have is ignored. Built
 * once; any thread.
 */
const struct kernel_table *kernel_table(void);

/**
 * The table limited to an instruction set, for tests and benchmarks: "c", "avx2", "avx512", "neon". NULL when this
 * build or CPU does not have it.
 */
const struct kernel_table *kernel_table_isa(const char *isa);

/** Names of all instruction sets that this build knows, NULL-terminated, plainest first. */
const char *const *kernel_isas(void);

/** tutti_dtype_size of a type that was checked. */
static inline size_t dtype_bytes(enum tutti_dtype t)
{
	static const uint8_t bytes[KERNEL_DTYPES] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};
	return bytes[t];
}

/** Names of types and operations: "f32", "sum". */
const char *dtype_name(enum tutti_dtype t);
const char *op_name(enum tutti_op op);

#endif
