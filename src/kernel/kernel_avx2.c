/* SPDX-License-Identifier: MIT */
/*
 * AVX2 with F16C.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define VBYTES 32
#include "simd.h"
#include "simd_plain.h"

/* Masks are of whole dwords: what is left, 1 to 3 bytes, moves through a general register. */
INLINE uint32_t few_load(const unsigned char *p, size_t n)
{
	return p[0] | (uint32_t)p[n / 2] << 8 * (n / 2) | (uint32_t)p[n - 1] << 8 * (n - 1);
}

INLINE void few_store(unsigned char *p, uint32_t w, size_t n)
{
	p[0] = (unsigned char)w;
	p[n / 2] = (unsigned char)(w >> 8 * (n / 2));
	p[n - 1] = (unsigned char)(w >> 8 * (n - 1));
}

INLINE vu8 part_load(const void *p, size_t n)
{
	const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), dwords = _mm256_set1_epi32((int)(n / 4));
	__m256i v = _mm256_maskload_epi32(p, _mm256_cmpgt_epi32(dwords, places));

	if (n % 4) {
		__m256i rest = _mm256_set1_epi32((int)few_load((const unsigned char *)p + n / 4 * 4, n % 4));
		v = _mm256_or_si256(v, _mm256_and_si256(rest, _mm256_cmpeq_epi32(dwords, places)));
	}
	return (vu8)v;
}

INLINE void part_store(void *p, vu8 v, size_t n)
{
	const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), dwords = _mm256_set1_epi32((int)(n / 4));

	_mm256_maskstore_epi32(p, _mm256_cmpgt_epi32(dwords, places), (__m256i)v);
	if (n % 4) {
		__m256i rest = _mm256_permutevar8x32_epi32((__m256i)v, dwords);
		few_store((unsigned char *)p + n / 4 * 4, (uint32_t)_mm256_cvtsi256_si32(rest), n % 4);
	}
}

INLINE hu16 part_load_half(const void *p, size_t n)
{
	return (hu16)_mm256_castsi256_si128((__m256i)part_load(p, n));
}

INLINE void part_store_half(void *p, hu16 v, size_t n)
{
	part_store(p, (vu8)_mm256_zextsi128_si256((__m128i)v), n);
}

INLINE bu8 part_load_quarter(const void *p, size_t n)
{
	return ((vu64)part_load(p, n))[0];
}

INLINE void part_store_quarter(void *p, bu8 v, size_t n)
{
	part_store(p, (vu8)(vu64){v}, n);
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
MIN_MAX_64(i64)
MIN_MAX_64(u64)

/*
 * VMINPS gives its second operand where one is a NaN or both are zeros, so asking in both orders and joining the bits
 * gives -0 and keeps a NaN. For VMAXPS the bits are intersected, which gives +0 but may lose the NaN: it is put back.
 */
#define FLOAT_MIN_MAX(type, suffix, nan)                                                                               \
	INLINE v##type canonical_##type(v##type x)                                                                     \
	{                                                                                                              \
		return _mm256_blendv_##suffix(x, nan, _mm256_cmp_##suffix(x, x, _CMP_UNORD_Q));                        \
	}                                                                                                              \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return _mm256_or_##suffix(_mm256_min_##suffix(a, b), _mm256_min_##suffix(b, a));                       \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return _mm256_or_##suffix(_mm256_cmp_##suffix(a, b, _CMP_UNORD_Q),                                     \
		                          _mm256_and_##suffix(_mm256_max_##suffix(a, b), _mm256_max_##suffix(b, a)));  \
	}
FLOAT_MIN_MAX(f32, ps, _mm256_castsi256_ps(_mm256_set1_epi32(F32_NAN)))
FLOAT_MIN_MAX(f64, pd, _mm256_castsi256_pd(_mm256_set1_epi64x(F64_NAN)))

INLINE vu16 high_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm256_blend_epi16((__m256i)(even >> 16), (__m256i)odd, 0xaa);
}

INLINE vu16 low_halves(vu32 even, vu32 odd)
{
	return (vu16)_mm256_blend_epi16((__m256i)even, (__m256i)(odd << 16), 0xaa);
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
	__m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));

	return (bu8)_mm_cvtsi128_si64(_mm_packus_epi16(narrow, narrow));
}

#include "simd_rows.h"

const struct kernel_table kernel_avx2 = ISA_TABLE("avx2");

#endif
