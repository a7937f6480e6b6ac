/* SPDX-License-Identifier: MIT */
/*
 * The reference kernels against an oracle that shares no code with them (exact values, rounded by rint; wide integers),
 * then every instruction set against the reference, bit for bit: all types, operations, forms, tails and alignments.
 *
 * test_kernel --bench [isa [type [op]]] prints speeds instead.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/kernel/kernel.h"

#define MAX_SRC 17

/* Exact for what is asked of it here: products and quotients of f64 rounded to it, then to f64, are rounded once. */
#if defined(__x86_64__)
typedef __float128 quad;
#else
typedef long double quad;
#endif

/* ---- values ------------------------------------------------------------------------------------------------------ */

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1du;
}

static size_t random_below(size_t n)
{
	return (size_t)(random_bits() >> 33) % n;
}

/* A float type as its fields: what the oracle knows. */
struct format {
	int mant, bias, exp_bits;
	uint64_t nan, inf; /* inf == 0: there is none */
};

static const struct format formats[KERNEL_DTYPES] = {
        [TUTTI_F16] = {10, 15, 5, 0x7e00, 0x7c00},
        [TUTTI_BF16] = {7, 127, 8, 0x7fc0, 0x7f80},
        [TUTTI_F32] = {23, 127, 8, 0x7fc00000, 0x7f800000},
        [TUTTI_F64] = {52, 1023, 11, 0x7ff8000000000000, 0x7ff0000000000000},
        [TUTTI_F8E4M3] = {3, 7, 4, 0x7f, 0},
        [TUTTI_F8E5M2] = {2, 15, 5, 0x7e, 0x7c},
};

static bool is_float(int t)
{
	return formats[t].mant != 0;
}

static int width(int t)
{
	return 8 * (int)tutti_dtype_size((enum tutti_dtype)t);
}

/* Bit patterns where arithmetic goes wrong first. Returns how many were written. */
static int specials(int t, uint64_t *out)
{
	const struct format *f = &formats[t];
	uint64_t sign = 1ull << (width(t) - 1), one = (uint64_t)f->bias << f->mant, hidden = 1ull << f->mant;
	uint64_t half_place = hidden * (uint64_t)(f->mant + 1); /* 2^-(mant + 1) is as far below 1 */
	int n = 0;

	if (!is_float(t)) {
		const uint64_t values[] = {
		        0, 1, 2, 3, 7, sign - 1, sign, sign + 1, ~0ull, ~0ull - 1, 0x5555555555555555};
		memcpy(out, values, sizeof values);
		return (int)(sizeof values / sizeof values[0]);
	}
	const uint64_t magnitudes[] = {
	        0,
	        1,
	        2,
	        3,
	        hidden - 1,
	        hidden,
	        hidden + 1, /* subnormals and the smallest normals */
	        one,
	        one + 1,
	        one + 2,
	        one - 1,
	        one + hidden,
	        one + hidden / 2, /* 1, its neighbours, 2, 1.5 */
	        one - half_place,
	        one - half_place + 1,
	        one - half_place + hidden,
	        one - half_place + hidden + 1,
	        f->inf ? f->inf - 1 : f->nan - 1,
	        f->inf ? f->inf - hidden : f->nan - hidden, /* the greatest */
	        f->inf,
	        f->nan,
	        f->inf ? f->inf + 1 : f->nan,
	        sign - 1,
	};
	for (size_t i = 0; i < sizeof magnitudes / sizeof magnitudes[0]; i++) {
		out[n++] = magnitudes[i] & (sign - 1);
		out[n++] = magnitudes[i] | sign;
	}
	return n;
}
#define MAX_SPECIALS 64

/* A third special, a third near 1 (so that sums round), a third any bits. */
static uint64_t random_value(int t)
{
	static uint64_t list[KERNEL_DTYPES][MAX_SPECIALS];
	static int n[KERNEL_DTYPES];
	const struct format *f = &formats[t];

	if (!n[t])
		n[t] = specials(t, list[t]);
	switch (random_below(3)) {
	case 0:
		return list[t][random_below((size_t)n[t])];
	case 1:
		if (is_float(t)) {
			uint64_t exp = (uint64_t)(f->bias - 3) + random_below(7);
			uint64_t mant = random_bits() & ((1ull << f->mant) - 1);
			return exp << f->mant | mant | random_below(2) << (width(t) - 1);
		}
	}
	return random_bits();
}

static void store(int t, void *p, size_t i, uint64_t bits)
{
	size_t size = tutti_dtype_size((enum tutti_dtype)t);

	memcpy((char *)p + i * size, &bits, size); /* little-endian, as all machines this runs on */
}

static uint64_t load(int t, const void *p, size_t i)
{
	size_t size = tutti_dtype_size((enum tutti_dtype)t);
	uint64_t bits = 0;

	memcpy(&bits, (const char *)p + i * size, size);
	return bits;
}

static void fill(int t, void *p, size_t count)
{
	for (size_t i = 0; i < count; i++)
		store(t, p, i, random_value(t));
}

/* ---- the oracle -------------------------------------------------------------------------------------------------- */

static double decode(int t, uint64_t bits)
{
	const struct format *f = &formats[t];
	bool negative = bits >> (width(t) - 1) & 1;
	uint64_t mag = bits & ((1ull << (width(t) - 1)) - 1);
	int exp = (int)(mag >> f->mant);
	double x;

	if (f->inf ? mag > f->inf : mag == f->nan)
		return NAN;
	if (f->inf && mag == f->inf)
		x = INFINITY;
	else if (exp == 0)
		x = ldexp((double)mag, 1 - f->bias - f->mant);
	else
		x = ldexp((double)((mag & ((1ull << f->mant) - 1)) | 1ull << f->mant), exp - f->bias - f->mant);
	return negative ? -x : x;
}

static uint64_t encode(int t, double x)
{
	const struct format *f = &formats[t];
	uint64_t sign = (uint64_t) !!signbit(x) << (width(t) - 1), over = f->inf ? f->inf : f->nan;
	double a = fabs(x);
	int exp;

	if (isnan(x))
		return f->nan;
	if (a == 0)
		return sign;
	if (isinf(x))
		return f->inf ? sign | f->inf : f->nan;
	frexp(a, &exp);
	if (exp < 2 - f->bias)
		exp = 2 - f->bias;
	a = ldexp(rint(ldexp(a, f->mant + 1 - exp)), exp - f->mant - 1);
	/* Codes stand in the order of their values: find the one that means `a`. */
	uint64_t lo = 0, hi = over;
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		if (decode(t, mid) < a)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == over)
		return f->inf ? sign | over : over;
	assert_true(decode(t, lo) == a);
	return sign | lo;
}

static double rounded(int t, quad x)
{
	return t == TUTTI_F64 ? (double)x : (double)(float)x;
}

static uint64_t oracle_float(int t, int op, const uint64_t *v, int n, uint32_t divisor)
{
	double x = decode(t, v[0]);

	for (int k = 1; k < n; k++) {
		double y = decode(t, v[k]);
		bool y_is_less = y < x || (y == x && signbit(y));
		if (op == TUTTI_SUM || op == TUTTI_AVG)
			x = rounded(t, (quad)x + (quad)y);
		else if (op == TUTTI_PROD)
			x = rounded(t, (quad)x * (quad)y);
		else if (isnan(x) || isnan(y))
			x = NAN;
		else if ((op == TUTTI_MIN) == y_is_less)
			x = y;
	}
	if (op == TUTTI_AVG)
		x = rounded(t, (quad)x / (quad)(t == TUTTI_F64 ? divisor : (double)(float)divisor));
	return encode(t, x);
}

static bool is_signed(int t)
{
	return t == TUTTI_I8 || t == TUTTI_I16 || t == TUTTI_I32 || t == TUTTI_I64;
}

/* The value of the low bits, as a mathematical integer. */
static __int128 integer(int t, unsigned __int128 bits)
{
	unsigned __int128 modulus = (unsigned __int128)1 << width(t);

	bits %= modulus;
	return is_signed(t) && bits >= modulus / 2 ? (__int128)bits - (__int128)modulus : (__int128)bits;
}

static uint64_t oracle_integer(int t, int op, const uint64_t *v, int n, uint32_t divisor)
{
	__int128 x = integer(t, v[0]);

	for (int k = 1; k < n; k++) {
		__int128 y = integer(t, v[k]);
		if (op == TUTTI_SUM || op == TUTTI_AVG)
			x = integer(t, (unsigned __int128)(x + y));
		else if (op == TUTTI_PROD)
			x = integer(t, (unsigned __int128)x * (unsigned __int128)y);
		else if ((op == TUTTI_MIN) == (y < x))
			x = y;
	}
	if (op == TUTTI_AVG)
		x /= divisor;
	return (uint64_t)x & (~0ull >> (64 - width(t)));
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static const char *title(const char *isa, int t, int op)
{
	static char text[64];

	snprintf(text, sizeof text, "%s %s %s", isa, dtype_name((enum tutti_dtype)t), op_name((enum tutti_op)op));
	return text;
}

static void expect_equal(const char *isa, int t, int op, int nsrc, const void *got, const void *want, size_t count)
{
	if (memcmp(got, want, count * tutti_dtype_size((enum tutti_dtype)t)) == 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (load(t, got, i) != load(t, want, i))
			fail_msg("%s of %d, element %zu of %zu: got %#llx, want %#llx", title(isa, t, op), nsrc, i,
			         count, (unsigned long long)load(t, got, i), (unsigned long long)load(t, want, i));
}

static void expect_oracle(const struct kernel_table *table, int t, int op, const void *const *src, int nsrc,
                          size_t count, uint32_t divisor)
{
	void *got = malloc(count * 8);

	table->many[t][op](got, src, nsrc, count, divisor);
	for (size_t i = 0; i < count; i++) {
		uint64_t v[MAX_SRC], want;
		for (int k = 0; k < nsrc; k++)
			v[k] = load(t, src[k], i);
		want = (is_float(t) ? oracle_float : oracle_integer)(t, op, v, nsrc, divisor);
		if (load(t, got, i) != want)
			fail_msg("%s of %d (divisor %u): %#llx, %#llx, ... gives %#llx, want %#llx",
			         title(table->isa, t, op), nsrc, divisor, (unsigned long long)v[0],
			         (unsigned long long)v[nsrc > 1], (unsigned long long)load(t, got, i),
			         (unsigned long long)want);
	}
	free(got);
}

/* Two arrays with all pairs of a's and b's. */
struct pairs {
	size_t count;
	void *a, *b;
};

static struct pairs all_pairs(int t, const uint64_t *a, size_t na, const uint64_t *b, size_t nb)
{
	struct pairs p = {na * nb, malloc(na * nb * 8), malloc(na * nb * 8)};

	assert_non_null(p.a);
	assert_non_null(p.b);
	for (size_t i = 0; i < p.count; i++) {
		store(t, p.a, i, a[i / nb]);
		store(t, p.b, i, b[i % nb]);
	}
	return p;
}

static void free_pairs(struct pairs *p)
{
	free(p->a);
	free(p->b);
}

/* All values of a narrow type; of a wide one its specials and some random ones. */
static size_t sample(int t, uint64_t *out, size_t random)
{
	size_t n;

	if (width(t) == 8) {
		for (n = 0; n < 256; n++)
			out[n] = n;
		return n;
	}
	n = (size_t)specials(t, out);
	while (random--)
		out[n++] = random_value(t);
	return n;
}

#define EACH_ROW(t, op)                                                                                                \
	for (int t = 0; t < KERNEL_DTYPES; t++)                                                                        \
		for (int op = 0; op < KERNEL_OPS; op++)

/* Tables other than the reference that this CPU runs. */
#define EACH_ISA(table)                                                                                                \
	for (const char *const *isa_ = kernel_isas() + 1; *isa_; isa_++)                                               \
		for (const struct kernel_table *table = kernel_table_isa(*isa_); table; table = NULL)

static const uint32_t divisors[] = {1, 2, 3, 7, 8, 31, 1000, 16777217, 4294967295u};
#define NDIVISORS (sizeof divisors / sizeof divisors[0])

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_reference_pairs(void **state)
{
	const struct kernel_table *c = kernel_table_isa("c");
	uint64_t values[MAX_SPECIALS + 256];

	(void)state;
	EACH_ROW (t, op) {
		size_t n = sample(t, values, 150);
		struct pairs p = all_pairs(t, values, n, values, n);
		for (size_t d = 0; d < (op == TUTTI_AVG ? NDIVISORS : 1); d++)
			expect_oracle(c, t, op, (const void *[]){p.a, p.b}, 2, p.count, divisors[d]);
		free_pairs(&p);
	}
}

static void test_reference_many(void **state)
{
	const struct kernel_table *c = kernel_table_isa("c");
	static uint64_t buf[MAX_SRC][2000];
	const void *src[MAX_SRC];

	(void)state;
	EACH_ROW (t, op) {
		for (int nsrc = 1; nsrc <= MAX_SRC; nsrc++) {
			for (int k = 0; k < nsrc; k++) {
				fill(t, buf[k], 2000);
				src[k] = buf[k];
			}
			expect_oracle(c, t, op, src, nsrc, 2000, divisors[random_below(NDIVISORS)]);
		}
	}
}

/* Every value of the 16-bit types alone and against the special ones: conversions are exact both ways. */
static void test_all_values_of_16_bits(void **state)
{
	static const int types[] = {TUTTI_F16, TUTTI_BF16};
	static uint64_t all[65536];
	uint64_t special[MAX_SPECIALS];
	void *got = malloc(65536 * MAX_SPECIALS * 2), *want = malloc(65536 * MAX_SPECIALS * 2);
	const struct kernel_table *c = kernel_table_isa("c");

	(void)state;
	for (size_t i = 0; i < 65536; i++)
		all[i] = i;
	for (size_t i = 0; i < 2; i++) {
		int t = types[i];
		uint64_t zero[1] = {1ull << 15}; /* -0 changes nothing when added */
		struct pairs p = all_pairs(t, all, 65536, zero, 1);
		expect_oracle(c, t, TUTTI_SUM, (const void *[]){p.a}, 1, p.count, 1);
		expect_oracle(c, t, TUTTI_SUM, (const void *[]){p.a, p.b}, 2, p.count, 1);
		free_pairs(&p);
		p = all_pairs(t, all, 65536, special, (size_t)specials(t, special));
		for (int op = 0; op < KERNEL_OPS; op++) {
			c->two[t][op](want, p.a, p.b, p.count, 3);
			EACH_ISA (table) {
				table->two[t][op](got, p.a, p.b, p.count, 3);
				expect_equal(table->isa, t, op, 2, got, want, p.count);
			}
		}
		free_pairs(&p);
	}
	free(got);
	free(want);
}

static void test_isa_pairs(void **state)
{
	const struct kernel_table *c = kernel_table_isa("c");
	uint64_t values[MAX_SPECIALS + 256];

	(void)state;
	EACH_ROW (t, op) {
		size_t n = sample(t, values, 200);
		struct pairs p = all_pairs(t, values, n, values, n);
		void *got = malloc(p.count * 8), *want = malloc(p.count * 8);
		for (size_t d = 0; d < (op == TUTTI_AVG ? NDIVISORS : 1); d++) {
			c->two[t][op](want, p.a, p.b, p.count, divisors[d]);
			EACH_ISA (table) {
				table->two[t][op](got, p.a, p.b, p.count, divisors[d]);
				expect_equal(table->isa, t, op, 2, got, want, p.count);
			}
		}
		free(got);
		free(want);
		free_pairs(&p);
	}
}

/* Buffers with a margin around, at any alignment. */
#define MARGIN 192
#define ROOM   (8192 * 8 + 2 * MARGIN)
static _Alignas(64) unsigned char buffers[MAX_SRC + 1][ROOM], originals[MAX_SRC][ROOM], wanted[ROOM];

/*
 * One call of either form with random values and alignments, compared with the reference; `place` >= 0 makes source
 * `place` the destination too. Nothing outside the destination may change.
 */
static void check_call(const struct kernel_table *table, int t, int op, bool two, int nsrc, size_t count, int place,
                       const size_t *align)
{
	const struct kernel_table *c = kernel_table_isa("c");
	size_t bytes = count * tutti_dtype_size((enum tutti_dtype)t);
	uint32_t divisor = divisors[random_below(NDIVISORS)];
	const void *src[MAX_SRC], *same[MAX_SRC];
	unsigned char *around = place < 0 ? buffers[MAX_SRC] : buffers[place];
	unsigned char *dst = around + MARGIN / 2 + align[place < 0 ? nsrc : place];

	memset(buffers[MAX_SRC], 0xa5, bytes + MARGIN);
	for (int k = 0; k < nsrc; k++) {
		memset(buffers[k], 0xa5, bytes + MARGIN);
		fill(t, buffers[k] + MARGIN / 2 + align[k], count);
		memcpy(originals[k], buffers[k], bytes + MARGIN);
		src[k] = buffers[k] + MARGIN / 2 + align[k];
		same[k] = originals[k] + MARGIN / 2 + align[k];
	}
	memcpy(wanted, around, bytes + MARGIN);
	if (two)
		table->two[t][op](dst, src[0], src[1], count, divisor);
	else
		table->many[t][op](dst, src, nsrc, count, divisor);
	c->many[t][op](wanted + (dst - around), same, nsrc, count, divisor);

	expect_equal(table->isa, t, op, nsrc, dst, wanted + (dst - around), count);
	assert_memory_equal(around, wanted, bytes + MARGIN);
	for (int k = 0; k < nsrc; k++)
		if (k != place)
			assert_memory_equal(buffers[k], originals[k], bytes + MARGIN);
}

static void check_random_alignment(const struct kernel_table *table, int t, int op, bool two, int nsrc, size_t count)
{
	size_t align[MAX_SRC + 1];

	for (int k = 0; k <= nsrc; k++)
		align[k] = random_below(65);
	check_call(table, t, op, two, nsrc, count, (int)random_below((size_t)nsrc + 1) - 1, align);
}

static void test_isa_tails(void **state)
{
	static const int many[] = {1, 2, 3, 4, 5, 8, 9, MAX_SRC};

	(void)state;
	EACH_ISA (table)
		EACH_ROW (t, op) {
			size_t most = 2 * 64 / tutti_dtype_size((enum tutti_dtype)t) + 5;
			for (size_t count = 0; count <= most; count++) {
				for (int i = 0; i < 3; i++)
					check_random_alignment(table, t, op, true, 2, count);
				for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
					check_random_alignment(table, t, op, false, many[i], count);
			}
			check_random_alignment(table, t, op, true, 2, 4096 + random_below(4096));
			check_random_alignment(table, t, op, false, 3, 4096 + random_below(4096));
		}
}

static void test_isa_alignments(void **state)
{
	(void)state;
	EACH_ISA (table)
		EACH_ROW (t, op) {
			size_t count = 3 * 64 / tutti_dtype_size((enum tutti_dtype)t) - 1;
			for (size_t offset = 0; offset <= 64; offset++)
				for (int moved = 0; moved < 3; moved++)
					for (int place = -1; place < 2; place++)
						check_call(table, t, op, true, 2, count, place,
						           (size_t[]){moved == 0 ? offset : 0, moved == 1 ? offset : 0,
						                      moved == 2 ? offset : 0});
		}
}

/* Arrays that end where the mapping ends: a load or store too wide faults. */
static void test_isa_end_of_memory(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *end[3];

	(void)state;
	for (int k = 0; k < 3; k++) {
		unsigned char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(p != MAP_FAILED);
		assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
		end[k] = p + page;
	}
	EACH_ISA (table)
		EACH_ROW (t, op) {
			size_t size = tutti_dtype_size((enum tutti_dtype)t);
			for (size_t count = 0; count <= 2 * 64 / size + 1; count++) {
				unsigned char *a = end[0] - count * size, *b = end[1] - count * size;
				unsigned char *d = end[2] - count * size;
				fill(t, a, count);
				fill(t, b, count);
				kernel_table_isa("c")->two[t][op](wanted, a, b, count, 3);
				table->two[t][op](d, a, b, count, 3);
				expect_equal(table->isa, t, op, 2, d, wanted, count);
				table->many[t][op](d, (const void *[]){a, b}, 2, count, 3);
				expect_equal(table->isa, t, op, 2, d, wanted, count);
				table->copy(d, a, count * size);
				assert_memory_equal(d, a, count * size);
			}
		}
	for (int k = 0; k < 3; k++)
		munmap(end[k] - page, 2 * page);
}

/* Every length around whole lines and around what is fetched ahead, to and from every place in a line; nothing around changes. */
static void test_copy(void **state)
{
	unsigned char *to = buffers[0], *from = buffers[1];

	(void)state;
	for (size_t i = 0; i < ROOM; i++)
		from[i] = (unsigned char)random_bits();
	EACH_ISA (table) {
		for (size_t near = 0; near <= 4096; near = near ? near * 4 : 1024)
			for (size_t bytes = near ? near - 70 : 0; bytes <= near + 140; bytes += 1 + bytes % 3)
				for (int i = 0; i < 8; i++) {
					size_t at = MARGIN / 2 + random_below(65), of = random_below(65);
					memset(to, 0xa5, near + 2 * MARGIN);
					memset(wanted, 0xa5, near + 2 * MARGIN);
					memcpy(wanted + at, from + of, bytes);
					table->copy(to + at, from + of, bytes);
					assert_memory_equal(to, wanted, near + 2 * MARGIN);
				}
		memset(to, 0xa5, ROOM);
		table->copy(to + 1, from + 3, ROOM - 64);
		assert_memory_equal(to + 1, from + 3, ROOM - 64);
		assert_int_equal(to[0], 0xa5);
		assert_int_equal(to[ROOM - 63], 0xa5);
	}
}

/* The contract's own examples, as numbers. */
static void test_contract(void **state)
{
	static const struct {
		int t, op;
		uint64_t a, b, want;
	} rows[] = {
	        {TUTTI_F32, TUTTI_SUM, 0xff812345, 0x3f800000, 0x7fc00000}, /* a signalling NaN of either sign */
	        {TUTTI_F32, TUTTI_SUM, 0x7f800000, 0xff800000, 0x7fc00000}, /* inf - inf */
	        {TUTTI_F32, TUTTI_SUM, 0x00000001, 0x00000001, 0x00000002}, /* subnormals stay */
	        {TUTTI_F32, TUTTI_MIN, 0x00000000, 0x80000000, 0x80000000}, /* -0 < +0 */
	        {TUTTI_F32, TUTTI_MAX, 0x80000000, 0x00000000, 0x00000000},
	        {TUTTI_F32, TUTTI_MIN, 0xffc00001, 0xff800000, 0x7fc00000}, /* NaN before everything */
	        {TUTTI_F32, TUTTI_MAX, 0x3f800000, 0xff800001, 0x7fc00000},
	        {TUTTI_F64, TUTTI_PROD, 0, 0xfff0000000000000, 0x7ff8000000000000}, /* 0 * -inf */
	        {TUTTI_BF16, TUTTI_SUM, 0x3f80, 0x3b80, 0x3f80},                    /* 1 + 2^-8: a tie goes to even */
	        {TUTTI_BF16, TUTTI_SUM, 0x3f81, 0x3b80, 0x3f82},
	        {TUTTI_BF16, TUTTI_SUM, 0x0001, 0x0001, 0x0002},
	        {TUTTI_BF16, TUTTI_SUM, 0x7f7f, 0x7b00, 0x7f80}, /* overflow */
	        {TUTTI_BF16, TUTTI_SUM, 0xff81, 0x0000, 0x7fc0},
	        {TUTTI_F16, TUTTI_SUM, 0x7bff, 0x4bff, 0x7bff}, /* 65504 + 15.99: below half a place */
	        {TUTTI_F16, TUTTI_SUM, 0x7bff, 0x4c00, 0x7c00}, /* 65504 + 16: a tie becomes infinity */
	        {TUTTI_F16, TUTTI_MIN, 0xfe01, 0x0000, 0x7e00},
	        {TUTTI_F8E4M3, TUTTI_SUM, 0x7e, 0x58, 0x7e},  /* 448 + 16 = 464: a tie goes to 448 */
	        {TUTTI_F8E4M3, TUTTI_SUM, 0x7e, 0x59, 0x7f},  /* 448 + 18: NaN */
	        {TUTTI_F8E4M3, TUTTI_PROD, 0xfe, 0x7e, 0x7f}, /* its NaN is positive */
	        {TUTTI_F8E4M3, TUTTI_MIN, 0xff, 0xfe, 0x7f},
	        {TUTTI_F8E5M2, TUTTI_SUM, 0x7b, 0x7b, 0x7c}, /* 57344 * 2: infinity */
	        {TUTTI_F8E5M2, TUTTI_SUM, 0xfb, 0xfb, 0xfc},
	        {TUTTI_F8E5M2, TUTTI_SUM, 0x7c, 0xfc, 0x7e},
	        {TUTTI_I8, TUTTI_SUM, 0x7f, 0x01, 0x80}, /* wraps */
	        {TUTTI_I32, TUTTI_PROD, 0x10000, 0x10000, 0},
	        {TUTTI_I8, TUTTI_AVG, 0xff, 0xfa, 0xfe}, /* (-1 - 6) / 3 = -2 */
	        {TUTTI_I8, TUTTI_AVG, 0x7f, 0x7f, 0x00}, /* the sum wraps to -2 first */
	        {TUTTI_U64, TUTTI_AVG, 0xfffffffffffffffe, 0x1, 0x5555555555555555},
	        {TUTTI_F32, TUTTI_AVG, 0x3f800000, 0x40000000, 0x3f800000}, /* (1 + 2) / 3 */
	};

	(void)state;
	for (const char *const *isa = kernel_isas(); *isa; isa++) {
		const struct kernel_table *table = kernel_table_isa(*isa);
		for (size_t i = 0; table && i < sizeof rows / sizeof rows[0]; i++) {
			uint64_t got = 0;
			table->two[rows[i].t][rows[i].op](&got, &rows[i].a, &rows[i].b, 1, 3);
			expect_equal(table->isa, rows[i].t, rows[i].op, 2, &got, &rows[i].want, 1);
		}
	}
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		size_t size;
	} types[KERNEL_DTYPES] = {{"i8", 1},  {"u8", 1},  {"i16", 2},    {"u16", 2},   {"i32", 4},
	                          {"u32", 4}, {"i64", 8}, {"u64", 8},    {"f16", 2},   {"bf16", 2},
	                          {"f32", 4}, {"f64", 8}, {"f8e4m3", 1}, {"f8e5m2", 1}};
	static const char *const ops[KERNEL_OPS] = {"sum", "prod", "min", "max", "avg"};

	(void)state;
	for (int t = 0; t < KERNEL_DTYPES; t++) {
		assert_string_equal(dtype_name((enum tutti_dtype)t), types[t].name);
		assert_int_equal(tutti_dtype_size((enum tutti_dtype)t), types[t].size);
		assert_int_equal(dtype_bytes((enum tutti_dtype)t), types[t].size);
	}
	for (int op = 0; op < KERNEL_OPS; op++)
		assert_string_equal(op_name((enum tutti_op)op), ops[op]);
	assert_string_equal(dtype_name((enum tutti_dtype)KERNEL_DTYPES), "?");
	assert_string_equal(op_name((enum tutti_op)KERNEL_OPS), "?");
	assert_int_equal(tutti_dtype_size((enum tutti_dtype)KERNEL_DTYPES), 0);
	assert_int_equal(tutti_dtype_size((enum tutti_dtype) - 1), 0);
}

static void test_tables(void **state)
{
	const struct kernel_table *best = NULL;
	const char *limit = getenv("TUTTI_ISA");

	(void)state;
	assert_string_equal(kernel_isas()[0], "c");
	for (const char *const *isa = kernel_isas(); *isa; isa++) {
		const struct kernel_table *table = kernel_table_isa(*isa);
		if (!table)
			continue;
		assert_string_equal(table->isa, *isa);
		EACH_ROW (t, op) {
			assert_non_null(table->two[t][op]);
			assert_non_null(table->many[t][op]);
		}
		assert_non_null(table->copy);
		best = table;
	}
	assert_null(kernel_table_isa("mmx"));
	if (limit && kernel_table_isa(limit))
		best = kernel_table_isa(limit);
	assert_ptr_equal(kernel_table(), best);
}

/* ---- speeds ------------------------------------------------------------------------------------------------------ */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Nanoseconds of one call: the median of eleven batches. */
static double time_call(const struct kernel_table *table, int t, int op, int nsrc, size_t count, void *dst,
                        const void *const *src)
{
	double ns[11];
	size_t batch = 1;

	for (int i = -1; i < 11;) {
		double start = seconds(), spent;
		for (size_t j = 0; j < batch; j++) {
			if (nsrc == 2)
				table->two[t][op](dst, src[0], src[1], count, 3);
			else
				table->many[t][op](dst, src, nsrc, count, 3);
		}
		spent = seconds() - start;
		if (i < 0 && spent < 1e-3) {
			batch *= 2;
			continue;
		}
		if (i >= 0) {
			int at = i;
			for (; at > 0 && ns[at - 1] > spent; at--)
				ns[at] = ns[at - 1];
			ns[at] = spent;
		}
		i++;
	}
	return 1e9 * ns[5] / (double)batch;
}

static void bench_row(const struct kernel_table *table, int t, int op)
{
	static const size_t counts[] = {1, 2, 4, 8, 15, 16, 31}, sizes[] = {4096, 16384, 65536, 262144, 1048576};
	static const int nsrcs[] = {2, 3, 4, 8};
	size_t size = tutti_dtype_size((enum tutti_dtype)t);
	unsigned char *mem = aligned_alloc(4096, 9 * (1048576 + 4096));
	const void *src[8];

	for (int k = 0; k < 8; k++) {
		unsigned char *p = mem + (size_t)k * (1048576 + 4096 + 64 * 5);
		for (size_t i = 0; i < 1048576 / size; i++)
			store(t, p, i, encode(is_float(t) ? t : TUTTI_F16, (double)(1 + random_below(64)) / 64));
		src[k] = p;
	}
	void *dst = mem + 8 * (size_t)(1048576 + 4096 + 64 * 5);
	printf("%-14s ns:", title(table->isa, t, op));
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		printf(" %5.1f", time_call(table, t, op, 2, counts[i], dst, src));
	for (size_t n = 0; n < sizeof nsrcs / sizeof nsrcs[0]; n++) {
		printf("  %d GB/s:", nsrcs[n]);
		for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
			printf(" %5.1f", (double)((size_t)(nsrcs[n] + 1) * sizes[i]) /
			                         time_call(table, t, op, nsrcs[n], sizes[i] / size, dst, src));
	}
	printf("\n");
	free(mem);
}

/* Calls of two sources with 1, 2, 4, 8, 15, 16 and 31 elements; then bytes moved, at 4 KiB to 1 MiB a source. */
static int bench(const char *isa_name, const char *type, const char *op_wanted)
{
	for (const char *const *isa = kernel_isas(); *isa; isa++) {
		const struct kernel_table *table = kernel_table_isa(*isa);
		if (!table || (isa_name && strcmp(isa_name, "all") != 0 && strcmp(isa_name, *isa) != 0))
			continue;
		EACH_ROW (t, op) {
			if (type && strcmp(type, "all") != 0 && strcmp(type, dtype_name((enum tutti_dtype)t)) != 0)
				continue;
			if (!op_wanted || strcmp(op_wanted, op_name((enum tutti_op)op)) == 0)
				bench_row(table, t, op);
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_tables),         cmocka_unit_test(test_names),
	        cmocka_unit_test(test_contract),       cmocka_unit_test(test_reference_pairs),
	        cmocka_unit_test(test_reference_many), cmocka_unit_test(test_all_values_of_16_bits),
	        cmocka_unit_test(test_isa_pairs),      cmocka_unit_test(test_isa_tails),
	        cmocka_unit_test(test_isa_alignments), cmocka_unit_test(test_isa_end_of_memory),
	        cmocka_unit_test(test_copy),
	};

	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
		return bench(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL);
	return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
