/*
 * AVX-512 (F, BW, VL, DQ). The instructions of AVX512-BF16 are not used: VCVTNE2PS2BF16 takes subnormal inputs for zero
 * and flushes subnormal results whatever MXCSR says, and VDPBF16PS also adds in an order of its own. Those of
 * AVX512-FP16 add and multiply in binary16, which rounds at each source; the contract rounds once.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define VBYTES 64
#include "simd.h"

INLINE vu8 part_load(const void *p, size_t n)
{
	return (vu8)_mm512_maskz_loadu_epi8(~0ull >> (64 - n), p);
}

INLINE void part_store(void *p, vu8 v, size_t n)
{
	_mm512_mask_storeu_epi8(p, ~0ull >> (64 - n), (__m512i)v);
}

INLINE hu16 part_load_half(const void *p, size_t n)
{
	return (hu16)_mm256_maskz_loadu_epi8(~0u >> (32 - n), p);
}

INLINE void part_store_half(void *p, hu16 v, size_t n)
{
	_mm256_mask_storeu_epi8(p, ~0u >> (32 - n), (__m256i)v);
}

INLINE bu8 part_load_quarter(const void *p, size_t n)
{
	return (bu8)_mm_maskz_loadu_epi8((__mmask16)(0xffffu >> (16 - n)), p);
}

INLINE void part_store_quarter(void *p, bu8 v, size_t n)
{
	_mm_mask_storeu_epi8(p, (__mmask16)(0xffffu >> (16 - n)), (__m128i)v);
}

#define MIN_MAX(type, suffix)                                                                                          \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)_mm512_min_##suffix((__m512i)a, (__m512i)b);                                           \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)_mm512_max_##suffix((__m512i)a, (__m512i)b);                                           \
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
		return _mm512_mask_blend_##suffix(_mm512_cmp_##suffix##_mask(x, x, _CMP_UNORD_Q), x, nan);             \
	}                                                                                                              \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		vector m = _mm512_range_##suffix(a, b, 4);                                                             \
		return _mm512_mask_blend_##suffix(_mm512_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q), m, nan);             \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		vector m = _mm512_range_##suffix(a, b, 5);                                                             \
		return _mm512_mask_blend_##suffix(_mm512_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q), m, nan);             \
	}
FLOAT_MIN_MAX(f32, ps, __m512, _mm512_castsi512_ps(_mm512_set1_epi32(F32_NAN)))
FLOAT_MIN_MAX(f64, pd, __m512d, _mm512_castsi512_pd(_mm512_set1_epi64(F64_NAN)))

#define ODD_PLACES 0xaaaaaaaau

INLINE vu16 high_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm512_mask_blend_epi16(ODD_PLACES, (__m512i)(even >> 16), (__m512i)odd);
}

INLINE vu16 low_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm512_mask_blend_epi16(ODD_PLACES, (__m512i)even, (__m512i)(odd << 16));
}

/* Up, when the low half is above a half, or is a half and the high half is odd. */
INLINE vu16 bf16_round(vu16 high, vu16 low)
{
	const __m512i one = _mm512_set1_epi16(1), h = (__m512i)high;
	__m512i tie_bit = _mm512_ternarylogic_epi32((__m512i)low, h, one, 0xf8); /* low | (high & 1) */
	__mmask32 up = _mm512_cmpgt_epu16_mask(tie_bit, _mm512_set1_epi16(INT16_MIN));
	__mmask32 nan = _mm512_cmpgt_epu16_mask(_mm512_add_epi16(h, h), _mm512_set1_epi16((short)0xff00));

	return (vu16)_mm512_mask_blend_epi16(nan, _mm512_mask_add_epi16(h, up, h, one), _mm512_set1_epi16(BF16_NAN));
}

INLINE vf32 f16_widen(hu16 x)
{
	return _mm512_cvtph_ps((__m256i)x);
}

INLINE hu16 f16_from_canonical(vf32 x)
{
	return (hu16)_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE hu16 byte_widen(bu8 x)
{
	return (hu16)_mm256_cvtepu8_epi16((__m128i)x);
}

INLINE bu8 byte_narrow(vu32 x)
{
	return (bu8)_mm512_cvtepi32_epi8((__m512i)x);
}

#include "simd_rows.h"

const struct kernel_table kernel_avx512 = ISA_TABLE("avx512");

#endif
