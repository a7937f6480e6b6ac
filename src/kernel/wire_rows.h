/* SPDX-License-Identifier: MIT */
/*
 * The codecs of wire.h in plain C, compiled once for each instruction set: all operations are exact or round to nearest
 * even, so all give the same bits. q8 computes with floats, so it sets the floating-point environment as the rows do.
 */
#include <string.h>

#include "../util/float_env.h"
#include "convert.h"
#include "wire.h"

#if defined(__GNUC__) && !defined(__clang__)
#define WIRE_LOOP                                                                                                      \
	static __attribute__((optimize("O3"))) /* the rest of the tree is -O2, which leaves loops as they are */
#else
#define WIRE_LOOP static
#endif

static size_t wire_bf16_bytes(size_t count)
{
	return 2 * count;
}

WIRE_LOOP void wire_bf16_encode_f32(void *to, const void *from, size_t count)
{
	unsigned char *d = to;
	const unsigned char *s = from;
	for (size_t i = 0; i < count; i++) {
		uint32_t u, nan;
		uint16_t h;
		memcpy(&u, s + 4 * i, 4);
		nan = (u & 0x7fffffffu) > 0x7f800000u;
		h = (uint16_t)(nan ? BF16_NAN : (u + 0x7fff + (u >> 16 & 1)) >> 16);
		memcpy(d + 2 * i, &h, 2);
	}
}

WIRE_LOOP void wire_bf16_decode_f32(void *to, const void *from, size_t count)
{
	unsigned char *d = to;
	const unsigned char *s = from;
	for (size_t i = 0; i < count; i++) {
		uint16_t h;
		uint32_t u;
		memcpy(&h, s + 2 * i, 2);
		u = (uint32_t)h << 16;
		memcpy(d + 4 * i, &u, 4);
	}
}

#define Q8_BLOCK    32
#define Q8_NAN      127         /* in place of an exponent */
#define Q8_LEAST    -126        /* 2^126 is still a number: the step is never less than 2^-126 */
#define Q8_STEEP    0x7e0000u   /* mantissa of 127 / 64: the largest number that has its leading bit at 64 */
#define ROUND_MAGIC 0x4b400000u /* 1.5 x 2^23: what is added to it is rounded to an integer */

/* All steps of the block first, then an exponent for each 32 of them. */
static size_t wire_q8_bytes(size_t count)
{
	return count + (count + Q8_BLOCK - 1) / Q8_BLOCK;
}

/* Exponent of the least power of two by which 127 steps reach the magnitude. */
static inline int q8_exponent(uint32_t magnitude)
{
	int e = (int)(magnitude >> 23) - 127 - ((magnitude & 0x7fffffu) > Q8_STEEP ? 5 : 6);
	return magnitude >= 0x7f800000u ? Q8_NAN : e < Q8_LEAST ? Q8_LEAST : e;
}

static inline float power_of_two(int e)
{
	return f32_of_bits((uint32_t)(e + 127) << 23);
}

/* A block of n <= 32; full blocks with n a constant. */
static inline __attribute__((always_inline)) int8_t q8_block(int8_t *q, const uint32_t *x, size_t n)
{
	uint32_t most = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t magnitude = x[i] & 0x7fffffffu;
		most = magnitude > most ? magnitude : most;
	}
	int e = q8_exponent(most);
	float up = e == Q8_NAN ? 0 : power_of_two(-e);
	for (size_t i = 0; i < n; i++) {
		float y = e == Q8_NAN ? 0 : f32_of_bits(x[i]) * up;
		q[i] = (int8_t)(f32_bits(y + f32_of_bits(ROUND_MAGIC)) - ROUND_MAGIC);
	}
	return (int8_t)e;
}

/* `scale` times the steps; a NaN for all where it is one. */
static inline float q8_scale(int8_t e)
{
	return e == Q8_NAN ? f32_of_bits(F32_NAN) : power_of_two(e);
}

WIRE_LOOP void wire_q8_encode_f32(void *to, const void *from, size_t count)
{
	float_env callers = float_env_enter();
	int8_t *q = to, *e = q + count;
	const unsigned char *s = from;
	uint32_t x[Q8_BLOCK];
	for (; count >= Q8_BLOCK; count -= Q8_BLOCK, q += Q8_BLOCK, s += sizeof(x)) {
		memcpy(x, s, sizeof(x));
		*e++ = q8_block(q, x, Q8_BLOCK);
	}
	if (count) {
		memcpy(x, s, 4 * count);
		*e = q8_block(q, x, count);
	}
	float_env_leave(callers);
}

WIRE_LOOP void wire_q8_decode_f32(void *to, const void *from, size_t count)
{
	float_env callers = float_env_enter();
	const int8_t *q = from, *e = q + count;
	unsigned char *d = to;
	float x[Q8_BLOCK];
	for (; count; q += Q8_BLOCK, d += sizeof(x)) {
		size_t n = count < Q8_BLOCK ? count : Q8_BLOCK;
		float scale = q8_scale(*e++);
		if (n == Q8_BLOCK)
			for (int i = 0; i < Q8_BLOCK; i++)
				x[i] = scale * (float)q[i];
		else
			for (size_t i = 0; i < n; i++)
				x[i] = scale * (float)q[i];
		memcpy(d, x, 4 * n);
		count -= n;
	}
	float_env_leave(callers);
}

WIRE_LOOP void wire_q8_encode_bf16(void *to, const void *from, size_t count)
{
	float_env callers = float_env_enter();
	int8_t *q = to, *e = q + count;
	const unsigned char *s = from;
	uint16_t h[Q8_BLOCK];
	uint32_t x[Q8_BLOCK];
	for (; count; q += Q8_BLOCK, s += sizeof(h)) {
		size_t n = count < Q8_BLOCK ? count : Q8_BLOCK;
		memcpy(h, s, 2 * n);
		for (size_t i = 0; i < n; i++)
			x[i] = (uint32_t)h[i] << 16;
		*e++ = n == Q8_BLOCK ? q8_block(q, x, Q8_BLOCK) : q8_block(q, x, n);
		count -= n;
	}
	float_env_leave(callers);
}

/* A step times a power of two has 7 bits: bf16 holds it as it is. */
WIRE_LOOP void wire_q8_decode_bf16(void *to, const void *from, size_t count)
{
	float_env callers = float_env_enter();
	const int8_t *q = from, *e = q + count;
	unsigned char *d = to;
	uint16_t h[Q8_BLOCK];
	for (; count; q += Q8_BLOCK, d += sizeof(h)) {
		size_t n = count < Q8_BLOCK ? count : Q8_BLOCK;
		float scale = q8_scale(*e++);
		for (size_t i = 0; i < n; i++)
			h[i] = (uint16_t)(f32_bits(scale * (float)q[i]) >> 16);
		memcpy(d, h, 2 * n);
		count -= n;
	}
	float_env_leave(callers);
}

static const struct wire_codec wire_rows[WIRE_ROWS] = {
        [WIRE_BF16_F32] = {"bf16", wire_bf16_bytes, wire_bf16_encode_f32, wire_bf16_decode_f32},
        [WIRE_Q8_F32] = {"q8", wire_q8_bytes, wire_q8_encode_f32, wire_q8_decode_f32},
        [WIRE_Q8_BF16] = {"q8", wire_q8_bytes, wire_q8_encode_bf16, wire_q8_decode_bf16},
};
