/* SPDX-License-Identifier: MIT */
/*
 * NEON of the ARMv8-A base: its conversions from and to binary16 are in it, its arithmetic in binary16 is not needed.
 */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VBYTES 16
#include "simd.h"
#include "simd_plain.h"

/* The 1 to 8 bytes at p as a number, and back. */
INLINE uint64_t bytes_load(const unsigned char *p, size_t n)
{
	uint64_t w;
	uint32_t first, last;

	if (n == 8) {
		memcpy(&w, p, 8);
		return w;
	}
	if (n >= 4) {
		memcpy(&first, p, 4);
		memcpy(&last, p + n - 4, 4);
		return first | (uint64_t)last << 8 * (n - 4);
	}
	return p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
}

INLINE void bytes_store(unsigned char *p, uint64_t w, size_t n)
{
	uint32_t first = (uint32_t)w, last;

	if (n == 8) {
		memcpy(p, &w, 8);
	} else if (n >= 4) {
		last = (uint32_t)(w >> 8 * (n - 4));
		memcpy(p, &first, 4);
		memcpy(p + n - 4, &last, 4);
	} else {
		p[0] = (unsigned char)w;
		p[n / 2] = (unsigned char)(w >> 8 * (n / 2));
		p[n - 1] = (unsigned char)(w >> 8 * (n - 1));
	}
}

/* Not inline: every row uses them, and their branches would be most of its code. */
static __attribute__((noinline)) vu8 part_load(const void *p, size_t n)
{
	const unsigned char *bytes = p;

	if (n <= 8)
		return (vu8)(vu64){bytes_load(bytes, n), 0};
	return (vu8)(vu64){bytes_load(bytes, 8), bytes_load(bytes + 8, n - 8)};
}

static __attribute__((noinline)) void part_store(void *p, vu8 v, size_t n)
{
	unsigned char *bytes = p;
	vu64 w = (vu64)v;

	bytes_store(bytes, w[0], n < 8 ? n : 8);
	if (n > 8)
		bytes_store(bytes + 8, w[1], n - 8);
}

INLINE hu16 part_load_half(const void *p, size_t n)
{
	return (hu16)bytes_load(p, n);
}

INLINE void part_store_half(void *p, hu16 v, size_t n)
{
	bytes_store(p, (uint64_t)v, n);
}

INLINE bu8 part_load_quarter(const void *p, size_t n)
{
	return (bu8)bytes_load(p, n);
}

INLINE void part_store_quarter(void *p, bu8 v, size_t n)
{
	bytes_store(p, v, n);
}

#define MIN_MAX(type, suffix)                                                                                          \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)vminq_##suffix(a, b);                                                                  \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		return (v##type)vmaxq_##suffix(a, b);                                                                  \
	}
MIN_MAX(i8, s8)
MIN_MAX(u8, u8)
MIN_MAX(i16, s16)
MIN_MAX(u16, u16)
MIN_MAX(i32, s32)
MIN_MAX(u32, u32)
MIN_MAX_64(i64)
MIN_MAX_64(u64)
MIN_MAX(f32, f32) /* FMIN and FMAX order the zeros and propagate NaN */
MIN_MAX(f64, f64)

INLINE vf32 canonical_f32(vf32 x)
{
	return vbslq_f32(vceqq_f32(x, x), x, vreinterpretq_f32_u32(vdupq_n_u32(F32_NAN)));
}

INLINE vf64 canonical_f64(vf64 x)
{
	return vbslq_f64(vceqq_f64(x, x), x, vreinterpretq_f64_u64(vdupq_n_u64(F64_NAN)));
}

INLINE vu16 high_halves(vu32 even, vu32 odd)
{
	return vtrn2q_u16((uint16x8_t)even, (uint16x8_t)odd);
}

INLINE vu16 low_halves(vu32 even, vu32 odd)
{
	return vtrn1q_u16((uint16x8_t)even, (uint16x8_t)odd);
}

INLINE vf32 f16_widen(hu16 x)
{
	return vcvt_f32_f16((float16x4_t)x);
}

INLINE hu16 f16_from_canonical(vf32 x)
{
	return (hu16)vcvt_f16_f32(x);
}

INLINE hu16 byte_widen(bu8 x)
{
	return (hu16)vget_low_u16(vmovl_u8(vcreate_u8(x)));
}

INLINE bu8 byte_narrow(vu32 x)
{
	uint16x4_t narrow = vmovn_u32((uint32x4_t)x);

	return vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(narrow, narrow))), 0);
}

#include "simd_rows.h"

const struct kernel_table kernel_neon = ISA_TABLE("neon");

#endif
