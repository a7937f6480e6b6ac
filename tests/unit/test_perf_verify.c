/* SPDX-License-Identifier: MIT */
/*
 * The data that the measuring programs verify with: for every type, operation and number of ranks, folds in random
 * orders and shapes, rounded at each step by an emulation written here, give exactly the expected bits; and one wrong
 * bit anywhere is counted.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../perf/lib/exact.h"

#define MAX_RANKS 64
#define TYPES     14

static const struct {
	int fraction, bias;
} floats[TYPES] = {
        [TUTTI_F16] = {10, 15},   [TUTTI_BF16] = {7, 127}, [TUTTI_F32] = {23, 127},
        [TUTTI_F64] = {52, 1023}, [TUTTI_F8E4M3] = {3, 7}, [TUTTI_F8E5M2] = {2, 15},
};

static uint64_t state;

static uint32_t random_below(uint32_t n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((state >> 33) % n);
}

static int bits_of(enum tutti_dtype t)
{
	return 8 * (int)tutti_dtype_size(t);
}

static uint64_t sign_of(enum tutti_dtype t)
{
	return 1ull << (bits_of(t) - 1);
}

/* The value of a code without its sign; the code of infinity decodes as the number that would come next. */
static double magnitude(uint64_t code, enum tutti_dtype t)
{
	uint64_t field = code >> floats[t].fraction, one = 1ull << floats[t].fraction;
	double significand = (double)((code & (one - 1)) + (field ? one : 0));

	return ldexp(significand, (int)(field ? field : 1) - floats[t].bias - floats[t].fraction);
}

static double decode(uint64_t code, enum tutti_dtype t)
{
	double v = magnitude(code & (sign_of(t) - 1), t);

	return code & sign_of(t) ? -v : v;
}

/* Nearest code, found by bisection; the even one of two that are equally near. */
static uint64_t nearest(double v, enum tutti_dtype t)
{
	uint64_t low = 0, high = sign_of(t) - 1;
	double a = fabs(v);

	if (t == TUTTI_F64) {
		memcpy(&low, &v, 8);
		return low;
	}
	while (high - low > 1) {
		uint64_t mid = low + (high - low) / 2;

		if (magnitude(mid, t) <= a)
			low = mid;
		else
			high = mid;
	}
	if (a - magnitude(low, t) > magnitude(high, t) - a ||
	    (a - magnitude(low, t) == magnitude(high, t) - a && (low & 1)))
		low = high;
	return low | (signbit(v) ? sign_of(t) : 0);
}

static int64_t widen(uint64_t bits, enum tutti_dtype t)
{
	switch (t) {
	case TUTTI_I8:
		return (int8_t)bits;
	case TUTTI_I16:
		return (int16_t)bits;
	case TUTTI_I32:
		return (int32_t)bits;
	default:
		return (int64_t)bits;
	}
}

static uint64_t narrow(uint64_t v, enum tutti_dtype t)
{
	return v & (~0ull >> (64 - bits_of(t)));
}

static int is_float(enum tutti_dtype t)
{
	return floats[t].bias != 0;
}

static int below(uint64_t a, uint64_t b, enum tutti_dtype t)
{
	if (is_float(t) && decode(a, t) == 0 && decode(b, t) == 0)
		return (a & sign_of(t)) > (b & sign_of(t));
	if (is_float(t))
		return decode(a, t) < decode(b, t);
	return t % 2 == 0 ? widen(a, t) < widen(b, t) : a < b;
}

static uint64_t combine(uint64_t a, uint64_t b, enum tutti_dtype t, int op)
{
	if (op == TUTTI_MIN)
		return below(b, a, t) ? b : a;
	if (op == TUTTI_MAX)
		return below(a, b, t) ? b : a;
	if (!is_float(t))
		return narrow(op == TUTTI_PROD ? a * b : a + b, t);
	return nearest(op == TUTTI_PROD ? decode(a, t) * decode(b, t) : decode(a, t) + decode(b, t), t);
}

static uint64_t divide(uint64_t a, enum tutti_dtype t, int n)
{
	if (is_float(t)) /* as the library: in f32 for the small types, then rounded once more */
		return nearest(t == TUTTI_F64 ? decode(a, t) / n : (double)((float)decode(a, t) / (float)n), t);
	return narrow(t % 2 == 0 ? (uint64_t)(widen(a, t) / n) : a / (uint64_t)n, t);
}

/* Combine two random members of the set until one is left: any order, any shape of tree. */
static uint64_t fold(const struct exact *x, size_t index)
{
	uint64_t v[MAX_RANKS];
	int left = x->nranks;

	for (int r = 0; r < left; r++)
		v[r] = exact_bits(x, r, index);
	while (left > 1) {
		uint32_t i = random_below((uint32_t)left), j = random_below((uint32_t)left - 1);
		uint64_t a = v[i];

		v[i] = v[--left];
		v[j] = combine(a, v[j], x->type, x->op);
	}
	return x->op == TUTTI_AVG ? divide(v[0], x->type, x->nranks) : v[0];
}

static void test_every_order_gives_the_expected_bits(void **unused)
{
	static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64};

	(void)unused;
	for (int t = 0; t < TYPES; t++)
		for (int op = TUTTI_SUM; op <= TUTTI_AVG; op++)
			for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++)
				for (size_t i = 0; i < 40; i++) {
					struct exact x = {.type = t, .op = op, .nranks = sizes[s], .seed = 7 * s};
					uint64_t want = exact_bits(&x, EXACT_RESULT, i), got = fold(&x, i);

					if (got != want)
						fail_msg("type %d op %d ranks %d index %zu: folded to %llx, expected "
						         "%llx",
						         t, op, sizes[s], i, (unsigned long long)got,
						         (unsigned long long)want);
				}
}

static int results_that_differ(const struct exact *x, const struct exact *y)
{
	int differ = 0;

	for (size_t i = 0; i < 64; i++)
		differ += exact_bits(x, EXACT_RESULT, i) != exact_bits(y, EXACT_RESULT, i);
	return differ;
}

/* A rank whose data were left out, or those of another call, must show. */
static void test_results_depend_on_what_they_should(void **unused)
{
	(void)unused;
	for (int t = 0; t < TYPES; t++) {
		struct exact x = {.type = t, .op = TUTTI_SUM, .nranks = 4, .seed = 1}, y = x;
		int missing = 0;

		y.seed = 2;
		assert_true(results_that_differ(&x, &y) > 32);
		y = x;
		y.turn = 1;
		for (size_t i = 0; i < 64; i++)
			if (!exact_varies(&x, i))
				assert_int_equal(exact_bits(&x, 0, i), exact_bits(&y, 0, i));
		for (size_t i = 0; i < 64; i++)
			missing += exact_bits(&x, 3, i) == 0;
		assert_true(missing < 16);
	}
}

static void test_noise_is_finite_and_rounds(void **unused)
{
	(void)unused;
	for (int t = TUTTI_F16; t < TYPES; t++) {
		struct exact x = {.type = t, .op = EXACT_NOISE, .nranks = 3, .seed = 5};
		int rounded = 0;

		for (size_t i = 0; i < 200; i++) {
			uint64_t a = exact_bits(&x, 0, i), b = exact_bits(&x, 1, i), c = exact_bits(&x, 2, i);

			assert_true(fabs(decode(a, t)) <= 16);
			rounded += combine(combine(a, b, t, TUTTI_SUM), c, t, TUTTI_SUM) !=
			           combine(a, combine(b, c, t, TUTTI_SUM), t, TUTTI_SUM);
		}
		assert_true(rounded > 10);
	}
}

static void test_one_wrong_bit_is_counted(void **unused)
{
	size_t count = PATTERN_PERIOD + 1000, first = 123;

	(void)unused;
	for (int t = 0; t < TYPES; t++) {
		struct exact x = {.type = t, .op = TUTTI_SUM, .nranks = 3, .seed = 11};
		size_t size = tutti_dtype_size(t);
		unsigned char *data = test_malloc(count * size);
		struct pattern p;

		assert_int_equal(pattern_make(&p, &x, EXACT_RESULT, first + count), 0);
		pattern_write(&p, first, count, data);
		assert_int_equal(pattern_wrong(&p, first, count, data), 0);
		for (int i = 0; i < 20; i++) {
			size_t byte = random_below((uint32_t)(count * size));

			data[byte] ^= (unsigned char)(1u << random_below(8));
			assert_int_equal(pattern_wrong(&p, first, count, data), 1);
			pattern_write(&p, first, count, data);
		}
		assert_true(pattern_wrong(&p, first + 1, count, data) > count / 2);
		pattern_free(&p);
		test_free(data);
	}
}

/* Touching after a turn gives the same bytes as writing all of it anew, and changes every whole 64 bytes. */
static void test_touch_is_write_of_what_varies(void **unused)
{
	size_t count = PATTERN_PERIOD + 5000;

	(void)unused;
	for (int t = 0; t < TYPES; t++) {
		struct exact x = {.type = t, .op = EXACT_COPY, .nranks = 2, .seed = 3};
		size_t size = tutti_dtype_size(t), lines = count * size / 64, changed = 0;
		unsigned char *data = test_malloc(count * size), *before = test_malloc(count * size);
		struct pattern p;

		for (size_t first = 0; first < 40; first += 13) {
			assert_int_equal(pattern_make(&p, &x, 1, first + count), 0);
			pattern_write(&p, first, count, before);
			memcpy(data, before, count * size);
			pattern_turn(&p, first + 1);
			pattern_touch(&p, first, count, data);
			assert_int_equal(pattern_wrong(&p, first, count, data), 0);
			for (size_t i = changed = 0; i < lines; i++)
				changed += memcmp(data + 64 * i, before + 64 * i, 64) != 0;
			assert_true(changed > lines * 98 / 100);
			pattern_free(&p);
		}
		test_free(data);
		test_free(before);
	}
}

/* A turn is what it was, whether its elements were kept or are made anew. */
static void test_turns_come_back(void **unused)
{
	(void)unused;
	for (int t = 0; t < TYPES; t++) {
		struct exact x = {.type = t, .op = EXACT_COPY, .nranks = 2, .seed = 5};
		struct pattern p;

		assert_int_equal(pattern_make(&p, &x, 1, 1000), 0);
		for (uint64_t i = 0; i < 60; i++) {
			struct pattern fresh;

			x.turn = i * i % (3 * PATTERN_TURNS + 1);
			assert_int_equal(pattern_make(&fresh, &x, 1, 1000), 0);
			pattern_turn(&p, x.turn);
			assert_memory_equal(p.bytes, fresh.bytes, 1000 * tutti_dtype_size(t));
			pattern_free(&fresh);
		}
		pattern_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_order_gives_the_expected_bits),
	        cmocka_unit_test(test_results_depend_on_what_they_should),
	        cmocka_unit_test(test_noise_is_finite_and_rounds),
	        cmocka_unit_test(test_one_wrong_bit_is_counted),
	        cmocka_unit_test(test_touch_is_write_of_what_varies),
	        cmocka_unit_test(test_turns_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
