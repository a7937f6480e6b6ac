/* SPDX-License-Identifier: MIT */
/*
 * The codecs of the wire: bounds of the error, nothing lost the second time, NaN and infinities, the same bits by every
 * instruction set, and nothing written beside the places meant, at every count around a block and unaligned.
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

#include "../../src/kernel/convert.h"
#include "../../src/kernel/wire.h"

#define MOST  1000
#define GUARD 64

static const struct {
	const char *name;
	enum tutti_dtype type;
} codecs[] = {{"bf16", TUTTI_F32}, {"q8", TUTTI_F32}, {"q8", TUTTI_BF16}};
#define NCODECS (sizeof(codecs) / sizeof(*codecs))

static uint64_t seed = 88172645463325252u;

static uint32_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

enum kind { NEAR_ONE, ALL_SCALES, TINY, STEEP, KINDS };

static float some(enum kind kind)
{
	uint32_t u = draw();
	switch (kind) {
	case NEAR_ONE:
		return (float)(int32_t)u / 2147483648.0f;
	case ALL_SCALES: /* any number that rounding does not make an infinity */
		u = (u & 0x7f800000u) >= 0x7f000000u ? u & ~0x7f800000u : u;
		return f32_of_bits(u);
	case TINY:
		return f32_of_bits(u & 0x80ffffffu);
	default: /* around the places where the shared power of two changes */
		return ldexpf(1.984375f + (float)((int)(u % 9) - 4) * 0x1p-22f, (int)(u >> 8) % 60 - 30);
	}
}

static void put(enum tutti_dtype t, void *to, size_t i, float x)
{
	uint16_t h = bf16_from_f32(x);
	if (t == TUTTI_BF16)
		memcpy((char *)to + 2 * i, &h, 2);
	else
		memcpy((char *)to + 4 * i, &x, 4);
}

static float get(enum tutti_dtype t, const void *from, size_t i)
{
	uint16_t h;
	float x;
	if (t == TUTTI_BF16) {
		memcpy(&h, (const char *)from + 2 * i, 2);
		return bf16_to_f32(h);
	}
	memcpy(&x, (const char *)from + 4 * i, 4);
	return x;
}

/* The largest magnitude of the 32 elements among which i stands. */
static float largest(enum tutti_dtype t, const void *x, size_t i, size_t count)
{
	float most = 0;
	for (size_t k = i / 32 * 32; k < count && k < i / 32 * 32 + 32; k++)
		most = fmaxf(most, fabsf(get(t, x, k)));
	return most;
}

struct space {
	unsigned char raw[4 * MOST + 2 * GUARD];
};

static unsigned char *clean(struct space *s, size_t shift)
{
	memset(s->raw, 0xa5, sizeof(s->raw));
	return s->raw + GUARD + shift;
}

static void check_guard(const struct space *s, size_t shift, size_t bytes, const char *what)
{
	for (size_t i = 0; i < sizeof(s->raw); i++)
		if ((i < GUARD + shift || i >= GUARD + shift + bytes) && s->raw[i] != 0xa5)
			fail_msg("%s: wrote byte %zd of %zu", what, (ssize_t)i - (ssize_t)(GUARD + shift), bytes);
}

static void check_error(const struct wire_codec *w, enum tutti_dtype t, const void *x, const void *y, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double a = (double)get(t, x, i), b = (double)get(t, y, i);
		double most = strcmp(w->name, "bf16") == 0 ? ldexp(fabs(a), -8) + 0x1p-134
		                                           : fmax((double)largest(t, x, i, count) / 127, 0x1p-127);
		if (!(fabs(a - b) <= most))
			fail_msg("%s: element %zu of %zu: %a became %a, more than %a away", w->name, i, count, a, b,
			         most);
	}
}

/* One vector, there and back twice, at some alignment; by all instruction sets with the same bits. */
static void there_and_back(size_t codec, enum kind kind, size_t count)
{
	static struct space in, code, back, again, wanted;
	enum tutti_dtype t = codecs[codec].type;
	size_t size = tutti_dtype_size(t), a = draw() % 9, b = draw() % 9;
	unsigned char *x = clean(&in, a);
	for (size_t i = 0; i < count; i++)
		put(t, x, i, some(kind));
	for (const char *const *isa = kernel_isas(); *isa; isa++) {
		const struct kernel_table *k = kernel_table_isa(*isa);
		const struct wire_codec *w = k ? wire_codec(k, codecs[codec].name, t) : NULL;
		if (!k)
			continue;
		assert_non_null(w);
		size_t bytes = w->bytes(count);
		assert_true(bytes <= size * count);
		unsigned char *c = clean(&code, b), *y = clean(&back, a);
		w->encode(c, x, count);
		check_guard(&code, b, bytes, w->name);
		w->decode(y, c, count);
		check_guard(&back, a, size * count, w->name);
		check_error(w, t, x, y, count);
		unsigned char *d = clean(&again, b);
		w->encode(d, y, count);
		if (memcmp(c, d, bytes) != 0)
			fail_msg("%s by %s, %zu elements: another code the second time", w->name, *isa, count);
		if (isa == kernel_isas())
			wanted = code;
		else if (memcmp(wanted.raw, code.raw, sizeof(code.raw)) != 0)
			fail_msg("%s by %s, %zu elements: other bits than by %s", w->name, *isa, count, *kernel_isas());
	}
}

static void all_counts(void **state)
{
	(void)state;
	for (size_t codec = 0; codec < NCODECS; codec++)
		for (int kind = 0; kind < KINDS; kind++)
			for (size_t count = 1; count <= 200; count++)
				there_and_back(codec, (enum kind)kind, count);
	for (int i = 0; i < 300; i++)
		there_and_back(draw() % NCODECS, (enum kind)(draw() % KINDS), 1 + draw() % MOST);
}

static void integers_are_exact(void **state)
{
	(void)state;
	for (size_t codec = 0; codec < NCODECS; codec++) {
		const struct wire_codec *w = wire_codec(kernel_table(), codecs[codec].name, codecs[codec].type);
		unsigned char x[128], code[128], y[128];
		for (int most = 0; most <= 127; most++) {
			for (size_t i = 0; i < 32; i++)
				put(codecs[codec].type, x, i,
				    (float)(i ? (int)(draw() % 255) - 127 : most) * (i ? (float)most / 127 : 1));
			for (size_t i = 1; i < 32; i++)
				put(codecs[codec].type, x, i, truncf(get(codecs[codec].type, x, i)));
			w->encode(code, x, 32);
			w->decode(y, code, 32);
			for (size_t i = 0; i < 32; i++)
				assert_true(get(codecs[codec].type, x, i) == get(codecs[codec].type, y, i));
		}
	}
}

static void what_is_no_number(void **state)
{
	static const uint32_t odd[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc12345u, 0x7f800001u};
	(void)state;
	for (const char *const *isa = kernel_isas(); *isa; isa++) {
		const struct kernel_table *k = kernel_table_isa(*isa);
		for (size_t n = 0; k && n < sizeof(odd) / sizeof(*odd); n++) {
			float x[70], y[70];
			unsigned char code[280];
			for (int i = 0; i < 70; i++)
				x[i] = (float)i;
			x[40] = f32_of_bits(odd[n]);
			const struct wire_codec *w = wire_codec(k, "bf16", TUTTI_F32);
			w->encode(code, x, 70);
			w->decode(y, code, 70);
			for (int i = 0; i < 70; i++)
				assert_true(i == 40 ? f32_bits(y[i]) == (n < 2 ? odd[n] : F32_NAN) : x[i] == y[i]);
			w = wire_codec(k, "q8", TUTTI_F32);
			w->encode(code, x, 70);
			w->decode(y, code, 70);
			for (int i = 0; i < 70; i++)
				assert_true(i / 32 == 1 ? f32_bits(y[i]) == F32_NAN : x[i] == y[i]);
		}
	}
}

static void names(void **state)
{
	(void)state;
	assert_true(wire_known("bf16") && wire_known("q8") && !wire_known("") && !wire_known("f16"));
	assert_null(wire_codec(kernel_table(), "bf16", TUTTI_BF16));
	assert_null(wire_codec(kernel_table(), "q8", TUTTI_F64));
	assert_null(wire_codec(kernel_table(), "", TUTTI_F32));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(names),
	        cmocka_unit_test(integers_are_exact),
	        cmocka_unit_test(what_is_no_number),
	        cmocka_unit_test(all_counts),
	};
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
