/* SPDX-License-Identifier: MIT */
/*
 * Vectors of VBYTES bytes, for the file of an instruction set to write its few own functions in, before it includes
 * simd_rows.h, which makes all rows from them. Arithmetic, shifts and comparisons are the compiler's vector extensions;
 * a comparison gives all ones or zero in each lane. What an instruction set must provide:
 *
 *   vu8 part_load(p, n), void part_store(p, v, n)     the first n bytes, 0 < n < VBYTES; the rest reads as zero
 *   hu16 part_load_half(p, n), part_store_half        the same of n < VBYTES / 2
 *   bu8 part_load_quarter(p, n), part_store_quarter   the same of n < VBYTES / 4
 *   min_T, max_T(a, b)      for i8 to u64; for f32 and f64 with -0 before +0 and any NaN out of any NaN in
 *   canonical_T(x)          for f32 and f64: every NaN becomes the canonical one
 *   high_halves(even, odd)  of 32-bit lanes as one vector of 16-bit lanes, in turn; low_halves likewise
 *   bf16_round(high, low)   the high halves of f32 rounded by the low ones; every NaN made canonical. A NaN shows in
 *                           its high half: arithmetic makes quiet ones, widening leaves the low half zero
 *   f16_widen(hu16), f16_from_canonical(vf32)   to nearest even, subnormals kept; a NaN given is the canonical one
 *   byte_widen(bu8) to hu16, byte_narrow(vu32) to bu8
 */
#ifndef TUTTI_KERNEL_SIMD_H
#define TUTTI_KERNEL_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "convert.h"
#include "rows.h"
#include "wire_rows.h"

#define INLINE        static inline __attribute__((always_inline))
#define VECTOR(bytes) __attribute__((vector_size(bytes)))

typedef int8_t vi8 VECTOR(VBYTES);
typedef uint8_t vu8 VECTOR(VBYTES);
typedef int16_t vi16 VECTOR(VBYTES);
typedef uint16_t vu16 VECTOR(VBYTES);
typedef int32_t vi32 VECTOR(VBYTES);
typedef uint32_t vu32 VECTOR(VBYTES);
typedef int64_t vi64 VECTOR(VBYTES);
typedef uint64_t vu64 VECTOR(VBYTES);
typedef float vf32 VECTOR(VBYTES);
typedef double vf64 VECTOR(VBYTES);

/* As many 16-bit and 8-bit elements as a vector has 32-bit lanes. */
typedef uint16_t hu16 VECTOR(VBYTES / 2);
typedef int16_t hi16 VECTOR(VBYTES / 2);
/* In a general register: compilers take vectors of less than 16 bytes apart. */
#if VBYTES == 32
typedef uint64_t bu8;
#else
typedef uint32_t bu8;
#endif

#endif
