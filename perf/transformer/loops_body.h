/* SPDX-License-Identifier: MIT */
/*
 * The loops of loops.h over vectors of LANES floats, by the compiler's vector types. Include with LANES and LOOPS (the
 * name of the table) defined; the flags of the file that includes this decide on instructions.
 */
#include "loops.h"

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float vec_in_memory __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t word __attribute__((vector_size(LANES * 4)));
typedef uint16_t half_in_memory __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

INLINE vec load(const float *p)
{
	return *(const vec_in_memory *)p;
}

INLINE void store(float *p, vec v)
{
	*(vec_in_memory *)p = v;
}

INLINE vec all(float v)
{
	return v - (vec){0};
}

/* a where the mask is set, b elsewhere. */
INLINE vec pick(ivec mask, vec a, vec b)
{
	return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* bf16 is the upper half of an f32. */
INLINE vec load_bf16(const uint16_t *p)
{
	return (vec)(__builtin_convertvector(*(const half_in_memory *)p, word) << 16);
}

/*
 * f16 by integers, since not every CPU converts it. A subnormal becomes a normal number less 2^-14, so that modes that
 * flush subnormals of f32 change nothing.
 */
INLINE vec load_f16(const uint16_t *p)
{
	word h = __builtin_convertvector(*(const half_in_memory *)p, word);
	word exponent = h & 0x7c00, bits = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
	vec small = (vec)(bits + (113u << 23)) - 0x1p-14f;
	vec other = (vec)(bits + (112u << 23) + ((word)(exponent == 0x7c00) & (112u << 23)));

	return (vec)((word)pick((ivec)(exponent == 0), small, other) | sign);
}

INLINE float sum(vec v)
{
	float s = 0;

	for (int i = 0; i < LANES; i++)
		s += v[i];
	return s;
}

/* How far ahead of its use memory is fetched, in bytes: half a core's bandwidth is lost without (measured). */
#define AHEAD 1024

/* ---- products ---------------------------------------------------------------------------------------------------- */

INLINE vec weight(enum element type, const char *row, size_t k)
{
	switch (type) {
	case ELEMENT_BF16:
		return load_bf16((const uint16_t *)row + k);
	case ELEMENT_F16:
		return load_f16((const uint16_t *)row + k);
	default:
		return load((const float *)row + k);
	}
}

INLINE float weight_one(enum element type, const char *row, int k)
{
	return element_value(type, row + (size_t)k * element_size(type));
}

/* R rows by N vectors, both constants where this is called: all sums stay in registers. */
INLINE void tile(enum element type, const char *w, size_t stride, int cols, const float *x, size_t ldx, float *y,
                 size_t ldy, const int R, const int N)
{
	vec acc[4][4] = {0};
	int k = 0;

	for (; k + LANES <= cols; k += LANES) {
		vec in[4];
#pragma GCC unroll 4
		for (int i = 0; i < N; i++)
			in[i] = load(x + i * ldx + k);
#pragma GCC unroll 4
		for (int r = 0; r < R; r++) {
			vec v = weight(type, w + r * stride, k);

			__builtin_prefetch(w + r * stride + (size_t)k * element_size(type) + AHEAD);
#pragma GCC unroll 4
			for (int i = 0; i < N; i++)
				acc[r][i] += v * in[i];
		}
	}
#pragma GCC unroll 4
	for (int r = 0; r < R; r++)
#pragma GCC unroll 4
		for (int i = 0; i < N; i++) {
			float s = sum(acc[r][i]);

			for (int j = k; j < cols; j++)
				s += weight_one(type, w + r * stride, j) * x[i * ldx + j];
			y[i * ldy + r] = s;
		}
}

INLINE void tile_of_rows(enum element type, const char *w, size_t stride, int cols, const float *x, size_t ldx, int n,
                         float *y, size_t ldy, const int R)
{
	for (; n >= 4; n -= 4, x += 4 * ldx, y += 4 * ldy)
		tile(type, w, stride, cols, x, ldx, y, ldy, R, 4);
	if (n == 3)
		tile(type, w, stride, cols, x, ldx, y, ldy, R, 3);
	else if (n == 2)
		tile(type, w, stride, cols, x, ldx, y, ldy, R, 2);
	else if (n == 1)
		tile(type, w, stride, cols, x, ldx, y, ldy, R, 1);
}

INLINE void dots_of(enum element type, const char *w, size_t stride, int rows, int cols, const float *x, size_t ldx,
                    int n, float *y, size_t ldy)
{
	for (; rows >= 4; rows -= 4, w += 4 * stride, y += 4)
		tile_of_rows(type, w, stride, cols, x, ldx, n, y, ldy, 4);
	for (; rows > 0; rows--, w += stride, y++)
		tile_of_rows(type, w, stride, cols, x, ldx, n, y, ldy, 1);
}

static void dots(enum element type, const void *w, size_t ldw, int rows, int cols, const float *x, size_t ldx, int n,
                 float *y, size_t ldy)
{
	switch (type) { /* a loop for each: the type is a constant in it */
	case ELEMENT_BF16:
		dots_of(ELEMENT_BF16, w, ldw * 2, rows, cols, x, ldx, n, y, ldy);
		break;
	case ELEMENT_F16:
		dots_of(ELEMENT_F16, w, ldw * 2, rows, cols, x, ldx, n, y, ldy);
		break;
	default:
		dots_of(ELEMENT_F32, w, ldw * 4, rows, cols, x, ldx, n, y, ldy);
	}
}

static void mix(const float *p, int n, const float *v, size_t ldv, int cols, float *out)
{
	int c = 0;

	for (; c + 4 * LANES <= cols; c += 4 * LANES) {
		vec acc[4] = {0};

		for (int j = 0; j < n; j++)
#pragma GCC unroll 4
			for (int i = 0; i < 4; i++)
				acc[i] += p[j] * load(v + j * ldv + c + i * LANES);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			store(out + c + i * LANES, acc[i]);
	}
	for (; c + LANES <= cols; c += LANES) {
		vec acc = {0};

		for (int j = 0; j < n; j++)
			acc += p[j] * load(v + j * ldv + c);
		store(out + c, acc);
	}
	for (; c < cols; c++) {
		float s = 0;

		for (int j = 0; j < n; j++)
			s += p[j] * v[j * ldv + c];
		out[c] = s;
	}
}

INLINE void widen_of(enum element type, const char *in, size_t n, float *out)
{
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		store(out + i, weight(type, in, i));
	for (; i < n; i++)
		out[i] = element_value(type, in + i * element_size(type));
}

static void widen(enum element type, const void *in, size_t n, float *out)
{
	switch (type) {
	case ELEMENT_BF16:
		widen_of(ELEMENT_BF16, in, n, out);
		break;
	case ELEMENT_F16:
		widen_of(ELEMENT_F16, in, n, out);
		break;
	default:
		memcpy(out, in, n * 4);
	}
}

/* ---- exponentials ------------------------------------------------------------------------------------------------ */

/*
 * e^x for x in -87 to 88, beyond that its value there: 2^k e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of
 * degree 7, whose error is below half a unit in the last place.
 */
INLINE vec exp_of(vec x)
{
	const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it rounds */
	vec k, r, p;

	x = pick(x < -87.0f, all(-87.0f), x);
	x = pick(x > 88.0f, all(88.0f), x);
	k = x * 1.44269504f + to_integer;
	ivec bits = (ivec)k - (ivec)all(to_integer);
	k -= to_integer;
	r = x - k * 0.693359375f; /* ln 2 in two parts: the product with the first is exact */
	r -= k * -2.12194440e-4f;
	p = r * (1.0f / 5040) + 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	return p * (vec)((bits + 127) << 23);
}

/* A vector of what is left of an array, and back. */
INLINE vec load_some(const float *p, int n)
{
	vec v = {0};

	memcpy(&v, p, (size_t)(n < LANES ? n : LANES) * 4);
	return v;
}

INLINE void store_some(float *p, vec v, int n)
{
	memcpy(p, &v, (size_t)(n < LANES ? n : LANES) * 4);
}

static void softmax(float *s, int n, float scale)
{
	float most = s[0], total = 0;

	for (int i = 1; i < n; i++)
		most = s[i] > most ? s[i] : most;
	for (int i = 0; i < n; i += LANES)
		store_some(s + i, exp_of((load_some(s + i, n - i) - most) * scale), n - i);
	for (int i = 0; i < n; i++)
		total += s[i];
	for (int i = 0; i < n; i++)
		s[i] *= 1 / total;
}

static void swiglu(const float *gate, const float *up, int n, float *out)
{
	for (int i = 0; i < n; i += LANES) {
		vec g = load_some(gate + i, n - i);

		store_some(out + i, g / (exp_of(-g) + 1.0f) * load_some(up + i, n - i), n - i);
	}
}

const struct loops LOOPS = {
        .name = LOOPS_NAME, .dots = dots, .mix = mix, .softmax = softmax, .swiglu = swiglu, .widen = widen};
