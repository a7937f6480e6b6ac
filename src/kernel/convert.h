/* SPDX-License-Identifier: MIT */
/*
 * The small floats, one at a time: F16, BF16 and the two FP8 of the OCP 8-bit floating point specification (1.0), to
 * and from f32. Narrowing rounds to nearest, ties to even; every NaN becomes the type's canonical quiet NaN. These
 * functions define the bits that the vector kernels reproduce.
 */
#ifndef TUTTI_CONVERT_H
#define TUTTI_CONVERT_H

#include <stdint.h>
#include <string.h>

#define F32_NAN  0x7fc00000u
#define F64_NAN  0x7ff8000000000000u
#define F16_NAN  0x7e00u
#define BF16_NAN 0x7fc0u
#define E4M3_NAN 0x7fu
#define E5M2_NAN 0x7eu

static inline uint32_t f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return u;
}

static inline float f32_of_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof x);
	return x;
}

static inline double f64_of_bits(uint64_t u)
{
	double x;

	memcpy(&x, &u, sizeof x);
	return x;
}

/*
 * Rounding a magnitude to a format with `mant` explicit bits and exponent bias `bias`, subnormals in the same way:
 * adding a power of two whose last place is the format's last place at that exponent makes the f32 adder round, and the
 * difference of the bits counts units of that place. Below the smallest normal the place stays where it is. A magnitude
 * beyond `top`, the value whose code says overflow, is taken as `top`. NARROW_PLACE lifts the value's exponent to that
 * power's; NARROW_BASE is what remains to be taken off. The vector kernels use the same constants.
 */
#define NARROW_PLACE(mant)      ((23u - (mant)) << 23)
#define NARROW_MIN_EXP(bias)    ((128u - (bias)) << 23)
#define NARROW_BASE(mant, bias) (NARROW_PLACE(mant) + ((128u - (bias)) << (mant)))
#define F16_TOP                 0x47800000u /* 2^16: infinity */
#define E5M2_TOP                0x47800000u /* 2^16: infinity */
#define E4M3_TOP                0x43f00000u /* 480, which would follow 448: NaN */

static inline uint32_t narrow_magnitude(uint32_t mag, uint32_t mant, uint32_t bias, uint32_t top)
{
	uint32_t x = mag < top ? mag : top, exp = x & 0x7f800000u;

	if (exp < NARROW_MIN_EXP(bias))
		exp = NARROW_MIN_EXP(bias);
	x = f32_bits(f32_of_bits(x) + f32_of_bits(exp + NARROW_PLACE(mant)));
	return x - exp + (exp >> (23 - mant)) - NARROW_BASE(mant, bias);
}

/** The value of a code without its sign and special values: `mant` explicit bits, exponent bias `bias`. */
static inline float widen_magnitude(uint32_t mag, uint32_t mant, uint32_t bias)
{
	float min_normal = f32_of_bits(NARROW_MIN_EXP(bias));

	if (mag >> mant)
		return f32_of_bits((mag << (23 - mant)) + ((127 - bias) << 23));
	return f32_of_bits((mag << (23 - mant)) + NARROW_MIN_EXP(bias)) - min_normal;
}

static inline float with_sign(float magnitude, uint32_t negative)
{
	return f32_of_bits(f32_bits(magnitude) | negative << 31);
}

static inline float f16_to_f32(uint16_t h)
{
	uint32_t mag = h & 0x7fffu;

	if (mag >= 0x7c00)
		return with_sign(f32_of_bits(mag << 13 | 0x7f800000u), h >> 15);
	return with_sign(widen_magnitude(mag, 10, 15), h >> 15);
}

static inline uint16_t f16_from_f32(float x)
{
	uint32_t u = f32_bits(x);

	if (x != x)
		return F16_NAN;
	return (uint16_t)(u >> 16 & 0x8000u) | (uint16_t)narrow_magnitude(u & 0x7fffffffu, 10, 15, F16_TOP);
}

static inline float bf16_to_f32(uint16_t h)
{
	return f32_of_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_from_f32(float x)
{
	uint32_t u = f32_bits(x);

	if (x != x)
		return BF16_NAN;
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float e5m2_to_f32(uint8_t b)
{
	return f16_to_f32((uint16_t)(b << 8)); /* it is a binary16 cut short */
}

static inline uint8_t e5m2_from_f32(float x)
{
	uint32_t u = f32_bits(x);

	if (x != x)
		return E5M2_NAN;
	return (uint8_t)((u >> 24 & 0x80u) | narrow_magnitude(u & 0x7fffffffu, 2, 15, E5M2_TOP));
}

static inline float e4m3_to_f32(uint8_t b)
{
	uint32_t mag = b & 0x7fu;

	if (mag == E4M3_NAN)
		return f32_of_bits(F32_NAN);
	return with_sign(widen_magnitude(mag, 3, 7), b >> 7);
}

static inline uint8_t e4m3_from_f32(float x)
{
	uint32_t u = f32_bits(x), mag = narrow_magnitude(u & 0x7fffffffu, 3, 7, E4M3_TOP);

	return (uint8_t)(mag == E4M3_NAN ? mag : (u >> 24 & 0x80u) | mag);
}

#endif
