/* SPDX-License-Identifier: MIT */
/* The transformer's inner loops, of every instruction set, against doubles; its large products against the loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../perf/transformer/loops.h"
#include "../../perf/transformer/products.h"

static uint64_t state = 1;

/* -1 to 1 */
static float draw(void)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

/* assert_float_equal is for floats only. */
static void assert_near(double is, double want, double within)
{
	if (!(fabs(is - want) <= within))
		fail_msg("%g, not %g", is, want);
}

/* Some bits of that type: bf16 of the value, or f16 of one that is as large. */
static uint16_t shortened(enum element type, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	if (type == ELEMENT_F16)
		return (uint16_t)((bits >> 16 & 0x8000) | (bits >> 13 & 0x3ff) | (10 + (bits >> 8 & 3)) << 10);
	return (uint16_t)(bits >> 16);
}

/* By the definition of the two types. */
static double widened(enum element type, uint16_t v)
{
	int mantissa = type == ELEMENT_F16 ? 10 : 7, bias = type == ELEMENT_F16 ? 15 : 127;
	int exponent = (v & 0x7fff) >> mantissa;
	double fraction = ldexp(v & ((1 << mantissa) - 1), -mantissa);

	fraction = exponent > 2 * bias ? (fraction > 0 ? NAN : INFINITY)
	           : exponent          ? ldexp(1 + fraction, exponent - bias)
	                               : ldexp(fraction, 1 - bias);
	return v >> 15 ? -fraction : fraction;
}

/* All that this CPU can run. */
static int all_loops(const struct loops **out)
{
	int n = 0;

	out[n++] = &loops_c;
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		out[n++] = &loops_avx2;
	if (loops_best() == &loops_avx512)
		out[n++] = &loops_avx512;
#endif
	return n;
}

enum { MOST_ROWS = 9, MOST_COLS = 75, MOST_X = 9 };

static void check_dots(const struct loops *l, enum element type, int rows, int cols, int n)
{
	float w[MOST_ROWS * MOST_COLS], x[MOST_X * MOST_COLS], y[MOST_X * MOST_ROWS];
	uint16_t h[MOST_ROWS * MOST_COLS];

	for (int i = 0; i < MOST_ROWS * MOST_COLS; i++)
		h[i] = shortened(type, w[i] = draw());
	for (int i = 0; i < MOST_X * MOST_COLS; i++)
		x[i] = draw();
	l->dots(type, type == ELEMENT_F32 ? (void *)w : h, MOST_COLS, rows, cols, x, MOST_COLS, n, y, MOST_ROWS);
	for (int i = 0; i < n; i++)
		for (int r = 0; r < rows; r++) {
			double want = 0;

			for (int k = 0; k < cols; k++)
				want += (type == ELEMENT_F32 ? w[r * MOST_COLS + k]
				                             : widened(type, h[r * MOST_COLS + k])) *
				        (double)x[i * MOST_COLS + k];
			if (fabs(y[i * MOST_ROWS + r] - want) > 1e-5)
				fail_msg("%s: type %d, %d x %d, vector %d of %d, row %d: %g, not %g", l->name, type,
				         rows, cols, i, n, r, (double)y[i * MOST_ROWS + r], want);
		}
}

static void test_dots(void **unused)
{
	const struct loops *all[3];
	int n = all_loops(all);

	(void)unused;
	for (int i = 0; i < n; i++)
		for (int rows = 1; rows <= MOST_ROWS; rows++)
			for (int cols = 0; cols <= MOST_COLS; cols += cols < 20 ? 1 : 11)
				for (int x = 1; x <= MOST_X; x++)
					for (int type = 0; type < ELEMENTS; type++)
						check_dots(all[i], (enum element)type, rows, cols, x);
}

static void check_attention_loops(const struct loops *l, int n, int cols)
{
	float s[80], was[80], v[80 * 80], out[80];
	double total = 0, most = -1e9;

	for (int i = 0; i < n; i++) {
		s[i] = was[i] = 40 * draw();
		most = fmax(most, was[i]);
	}
	for (int i = 0; i < 80 * 80; i++)
		v[i] = draw();
	l->softmax(s, n, 0.25f);
	for (int i = 0; i < n; i++)
		total += exp(0.25 * (was[i] - most));
	for (int i = 0; i < n; i++)
		assert_near(s[i], exp(0.25 * (was[i] - most)) / total, 1e-6);
	l->mix(s, n, v, 80, cols, out);
	for (int c = 0; c < cols; c++) {
		double want = 0;

		for (int j = 0; j < n; j++)
			want += (double)s[j] * v[j * 80 + c];
		assert_near(out[c], want, 1e-5);
	}
}

static void check_swiglu(const struct loops *l, int n)
{
	float gate[40] = {0}, up[40] = {0}, out[40];

	for (int i = 0; i < n; i++) {
		gate[i] = (i % 3 ? 5 : 120) * draw();
		up[i] = draw();
	}
	l->swiglu(gate, up, n, out);
	for (int i = 0; i < n; i++)
		assert_near(out[i], gate[i] / (1 + exp(-(double)gate[i])) * up[i], 1e-5);
}

/* All values that there are, infinities and subnormals among them; from an odd place by element_value. */
static void check_widen(const struct loops *l, enum element type)
{
	static uint16_t in[0x10000];
	static float out[0x10000];
	char odd[3];

	for (int i = 0; i < 0x10000; i++)
		in[i] = (uint16_t)i;
	l->widen(type, in, 0x10000 - 3, out);
	for (int i = 0; i < 0x10000; i++) {
		double want = widened(type, in[i]), is = i < 0x10000 - 3 ? out[i] : want, one;

		memcpy(odd + 1, &in[i], 2);
		one = element_value(type, odd + 1);
		if (isnan(want) ? !isnan(is) || !isnan(one) : is != want || one != want)
			fail_msg("%s: type %d, %#x: %g and %g, not %g", l->name, type, i, is, one, want);
	}
}

static void test_other_loops(void **unused)
{
	const struct loops *all[3];
	int n = all_loops(all);

	(void)unused;
	for (int i = 0; i < n; i++)
		for (int k = 1; k <= 40; k++) {
			check_attention_loops(all[i], k, 80 - k);
			check_swiglu(all[i], k);
		}
	for (int i = 0; i < n; i++)
		for (int type = ELEMENT_BF16; type < ELEMENTS; type++)
			check_widen(all[i], (enum element)type);
}

/* OpenBLAS, in panels, gives what the loops give. */
static void test_products(void **unused)
{
	enum { ROWS = 100, COLS = 50, N = 40 };
	struct compute c;
	struct problem why = {0};
	static float w[ROWS * COLS], x[N * COLS], y[N * ROWS], z[N * ROWS];
	static uint16_t h[ROWS * COLS];

	(void)unused;
	if (compute_open(&c, 1, &why) != 0) {
		print_message("%s\n", why.text);
		skip();
	}
	for (int i = 0; i < N * COLS; i++)
		x[i] = draw();
	for (int type = 0; type < ELEMENTS; type++) {
		struct matrix m = {(enum element)type, ROWS, COLS, type == ELEMENT_F32 ? (void *)w : h};

		for (int i = 0; i < ROWS * COLS; i++)
			h[i] = shortened(m.type, w[i] = draw());
		c.few = 0;
		product(&c, &m, x, COLS, N, y, ROWS);
		c.few = N;
		product(&c, &m, x, COLS, N, z, ROWS);
		for (int i = 0; i < N * ROWS; i++)
			assert_near(y[i], z[i], 1e-5);
	}
	compute_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_dots),
	        cmocka_unit_test(test_other_loops),
	        cmocka_unit_test(test_products),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
