/* SPDX-License-Identifier: MIT */
/*
 * The inner loops, once for each instruction set: loops_body.h is compiled by loops_c.c (on aarch64 that is NEON),
 * loops_avx2.c and loops_avx512.c. Weights are f32, bf16 or f16, everything else is f32. Nothing needs alignment.
 */
#ifndef TRANSFORMER_LOOPS_H
#define TRANSFORMER_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Type of the weights in memory. */
enum element { ELEMENT_F32, ELEMENT_BF16, ELEMENT_F16, ELEMENTS };

static inline size_t element_size(enum element e)
{
	return e == ELEMENT_F32 ? 4 : 2;
}

/** The value of one element, which may stand anywhere. */
static inline float element_value(enum element type, const void *at)
{
	uint32_t bits = 0, exponent;
	float f, offset = 0;

	memcpy(&bits, at, element_size(type));
	if (type == ELEMENT_BF16) {
		bits <<= 16;
	} else if (type == ELEMENT_F16) {
		exponent = bits & 0x7c00;
		bits = (bits & 0x8000) << 16 | (bits & 0x7fff) << 13;
		if (exponent == 0) { /* its value is a difference of two normal numbers */
			offset = bits >> 31 ? -0x1p-14f : 0x1p-14f;
			bits += 113u << 23;
		} else {
			bits += (exponent == 0x7c00 ? 224u : 112u) << 23;
		}
	}
	memcpy(&f, &bits, 4);
	return offset != 0 ? f - offset : f;
}

struct loops {
	const char *name;
	/**
	 * y[i * ldy + r] = sum over k of w[r][k] * x[i * ldx + k], for r < rows, k < cols, i < n. Rows of w are ldw
	 * elements apart. Reads w once, whatever n: made for few x, where reading w is what takes the time.
	 */
	void (*dots)(enum element type, const void *w, size_t ldw, int rows, int cols, const float *x, size_t ldx,
	             int n, float *y, size_t ldy);
	/** out[c] = sum over j < n of p[j] * v[j * ldv + c], for c < cols. */
	void (*mix)(const float *p, int n, const float *v, size_t ldv, int cols, float *out);
	/** s = softmax(scale * s), in place. */
	void (*softmax)(float *s, int n, float scale);
	/** out[i] = gate[i] * sigmoid(gate[i]) * up[i]; out may be gate. */
	void (*swiglu)(const float *gate, const float *up, int n, float *out);
	/** n elements of that type to f32. */
	void (*widen)(enum element type, const void *in, size_t n, float *out);
};

extern const struct loops loops_c;
#ifdef __x86_64__
extern const struct loops loops_avx2, loops_avx512;
#endif

/** The fastest that this CPU can run. */
const struct loops *loops_best(void);

#endif
