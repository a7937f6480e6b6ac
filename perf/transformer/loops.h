/*
 * The inner loops, once for each instruction set: loops_body.h is compiled by loops_c.c (on aarch64 that is NEON),
 * loops_avx2.c and loops_avx512.c. Weights are f32 or bf16, everything else is f32. Nothing needs alignment.
 */
#ifndef TRANSFORMER_LOOPS_H
#define TRANSFORMER_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Type of the weights in memory. */
enum element { ELEMENT_F32, ELEMENT_BF16 };

static inline size_t element_size(enum element e)
{
	return e == ELEMENT_BF16 ? 2 : 4;
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
	/** bf16 to f32. */
	void (*widen)(const uint16_t *in, size_t n, float *out);
};

extern const struct loops loops_c;
#ifdef __x86_64__
extern const struct loops loops_avx2, loops_avx512;
#endif

/** The fastest that this CPU can run. */
const struct loops *loops_best(void);

#endif
