/* SPDX-License-Identifier: MIT */
/*
 * AVX-512 (F, BW, VL, DQ) on vectors of 32 bytes: its masks, three-way logic and VRANGE, not its width. From the second
 * cache level 64 bytes at a time gain nothing for f32 and a third for the small floats, while short calls 20 us apart
 * cost a Cascade Lake whose other code was scalar 3 to 4 us each in changes of its clock.
 *
 * The instructions of AVX512-BF16 are not used: VCVTNE2PS2BF16 and VDPBF16PS take subnormal inputs for zero and flush
 * subnormal results whatever MXCSR says. Those of AVX512-FP16 combine in binary16, which rounds at each source; the
 * contract rounds once.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define VBYTES 32
#include "simd.h"

INLINE vu8 part_load(const void *p, size_t n)
{
	return (vu8)_mm256_maskz_loadu_epi8(~0u >> (32 - n), p);
}

INLINE void part_store(void *p, vu8 v, size_t n)
{
	_mm256_mask_storeu_epi8(p, ~0u >> (32 - n), (__m256i)v);
}

INLINE hu16 part_load_half(const void *p, size_t n)
{
	return (hu16)_mm_maskz_loadu_epi8((__mmask16)(0xffffu >> (16 - n)), p);
}

INLINE void part_store_half(void *p, hu16 v, size_t n)
{
	_mm_mask_storeu_epi8(p, (__mmask16)(0xffffu >> (16 - n)), (__m128i)v);
}

INLINE bu8 part_load_quarter(const void *p, size_t n)
{
	return (bu8)_mm_cvtsi128_si64(_mm_maskz_loadu_epi8((__mmask16)(0xffu >> (8 - n)), p));
}

INLINE void part_store_quarter(void *p, bu8 v, size_t n)
{
	_mm_mask_storeu_epi8(p, (__mmask16)(0xffu >> (8 - n)), _mm_cvtsi64_si128((long long)v));
}

#define MIN_MAX(type, suffix)                                                                                          \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)_mm256_min_##suffix((__m256i)a, (__m256i)b);                                           \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)_mm256_max_##suffix((__m256i)a, (__m256i)b);                                           \
	}
MIN_MAX(i8, epi8)
MIN_MAX(u8, epu8)
MIN_MAX(i16, epi16)
MIN_MAX(u16, epu16)
MIN_MAX(i32, epi32)
MIN_MAX(u32, epu32)
MIN_MAX(i64, epi64)
MIN_MAX(u64, epu64)

/* VRANGE orders the zeros but prefers the number to a quiet NaN. */
#define FLOAT_MIN_MAX(type, suffix, vector, nan)                                                                       \
	INLINE v##type canonical_##type(v##type x)                                                                     \
	{                                                                                                              \
		return _mm256_mask_blend_##suffix(_mm256_cmp_##suffix##_mask(x, x, _CMP_UNORD_Q), x, nan);             \
	}                                                                                                              \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		vector m = _mm256_range_##suffix(a, b, 4);                                                             \
		return _mm256_mask_blend_##suffix(_mm256_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q), m, nan);             \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		vector m = _mm256_range_##suffix(a, b, 5);                                                             \
		return _mm256_mask_blend_##suffix(_mm256_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q), m, nan);             \
	}
FLOAT_MIN_MAX(f32, ps, __m256, _mm256_castsi256_ps(_mm256_set1_epi32(F32_NAN)))
FLOAT_MIN_MAX(f64, pd, __m256d, _mm256_castsi256_pd(_mm256_set1_epi64x(F64_NAN)))

#define ODD_PLACES 0xaaaau

INLINE vu16 high_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm256_mask_blend_epi16(ODD_PLACES, (__m256i)(even >> 16), (__m256i)odd);
}

INLINE vu16 low_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm256_mask_blend_epi16(ODD_PLACES, (__m256i)even, (__m256i)(odd << 16));
}

/* Up, when the low half is above a half, or is a half and the high half is odd. */
INLINE vu16 bf16_round(vu16 high, vu16 low)
{
	const __m256i one = _mm256_set1_epi16(1), h = (__m256i)high;
	__m256i tie_bit = _mm256_ternarylogic_epi32((__m256i)low, h, one, 0xf8); /* low | (high & 1) */
	__mmask16 up = _mm256_cmpgt_epu16_mask(tie_bit, _mm256_set1_epi16(INT16_MIN));
	__mmask16 nan = _mm256_cmpgt_epu16_mask(_mm256_add_epi16(h, h), _mm256_set1_epi16((short)0xff00));

	return (vu16)_mm256_mask_blend_epi16(nan, _mm256_mask_add_epi16(h, up, h, one), _mm256_set1_epi16(BF16_NAN));
}

INLINE vf32 f16_widen(hu16 x)
{
	return _mm256_cvtph_ps((__m128i)x);
}

INLINE hu16 f16_from_canonical(vf32 x)
{
	return (hu16)_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE hu16 byte_widen(bu8 x)
{
	return (hu16)_mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)x));
}

INLINE bu8 byte_narrow(vu32 x)
{
	return (bu8)_mm_cvtsi128_si64(_mm256_cvtepi32_epi8((__m256i)x));
}

#include "simd_rows.h"

const struct kernel_table kernel_avx512 = ISA_TABLE("avx512");

#endif
