/*
 * NEON of the ARMv8-A base: its conversions from and to binary16 are in it, its arithmetic in binary16 is not needed.
 */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VBYTES 16
#include "simd.h"
#include "simd_part.h"

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
	uint16x4_t words = vmovn_u32((uint32x4_t)x);

	return vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
}

#include "simd_rows.h"

const struct kernel_table kernel_neon = ISA_TABLE("neon");

#endif
