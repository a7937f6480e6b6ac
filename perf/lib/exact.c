/* SPDX-License-Identifier: MIT */
/* Test data with exact results: see exact.h. */
#include "exact.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A binary floating-point format. `span` bounds a product's exponents, so that all partial products are normal. */
struct format {
	int precision; /* bits of significand, with the hidden one */
	int emin;      /* exponent of the least normal number */
	int span;
};

static const struct format formats[] = {
        [TUTTI_F16] = {11, -14, 14},     [TUTTI_BF16] = {8, -126, 120}, [TUTTI_F32] = {24, -126, 120},
        [TUTTI_F64] = {53, -1022, 1000}, [TUTTI_F8E4M3] = {4, -6, 6},   [TUTTI_F8E5M2] = {3, -14, 14},
};

static const struct format *format_of(enum tutti_dtype t)
{
	return t >= TUTTI_F16 ? &formats[t] : NULL;
}

static int is_signed(enum tutti_dtype t)
{
	return t == TUTTI_I8 || t == TUTTI_I16 || t == TUTTI_I32 || t == TUTTI_I64;
}

static uint64_t mask_of(enum tutti_dtype t)
{
	return ~0ull >> (64 - 8 * tutti_dtype_size(t));
}

static int64_t sign_extend(uint64_t bits, enum tutti_dtype t)
{
	int shift = 64 - 8 * (int)tutti_dtype_size(t);

	return (int64_t)(bits << shift) >> shift;
}

/* The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

int exact_varies(const struct exact *x, size_t index)
{
	return index % (64 / tutti_dtype_size(x->type)) == 0;
}

/* A random word; stream 0 is shared by all ranks, stream rank + 1 is a rank's own. */
static uint64_t draw(const struct exact *x, size_t index, int stream)
{
	uint64_t turn = exact_varies(x, index) ? x->turn : 0;

	return mix(mix(x->seed + turn * 0x9e3779b97f4a7c15ull + (uint64_t)stream * 0xd1b54a32d192ed03ull) + index);
}

/*
 * Nearest value of the format, ties to even. In a code, exponent and fraction are adjacent, so a significand with its
 * hidden bit added to the exponent's distance from the least one is the code, carries and subnormals included.
 */
static uint64_t encode(enum tutti_dtype t, double v)
{
	const struct format *f = format_of(t);
	uint64_t sign = signbit(v) ? mask_of(t) ^ (mask_of(t) >> 1) : 0;
	int e;

	if (v == 0)
		return sign;
	frexp(v, &e);
	e = e - 1 < f->emin ? f->emin : e - 1;
	return sign + ((uint64_t)(e - f->emin) << (f->precision - 1)) +
	       (uint64_t)nearbyint(ldexp(fabs(v), f->precision - 1 - e));
}

/* The exponent that all terms of the sum at `index` share. */
static int shared_exponent(const struct exact *x, size_t index)
{
	return x->digits ? 0 : (int)((draw(x, index, 0) >> 32) % 9) - 4;
}

/*
 * A rank's term: at most 2^precision in sum over all ranks; where there are more ranks than that, some give 0. An average
 * that has few digits is of equal terms.
 */
static int64_t term(const struct exact *x, size_t index, int rank)
{
	uint64_t n = (uint64_t)x->nranks, limit = 1ull << (x->digits ? x->digits : format_of(x->type)->precision);
	uint64_t active = n < limit ? n : limit;
	uint64_t own = draw(x, index, x->digits && x->op == TUTTI_AVG ? 0 : rank + 1);
	int64_t k = 1 + (int64_t)((own >> 1) % (limit / active));

	if (((uint64_t)rank + (uint32_t)draw(x, index, 0)) % n >= active)
		return 0;
	return own & 1 ? -k : k;
}

/* A rank's factor: one rank has the mantissa, at most `span` others a power of two, the rest +1 or -1. */
static double factor(const struct exact *x, size_t index, int rank)
{
	const struct format *f = format_of(x->type);
	int n = x->nranks, active = n - 1 < f->span ? n - 1 : f->span;
	int place = (int)(((uint64_t)rank + (uint32_t)draw(x, index, 0)) % (uint64_t)n);
	uint64_t own = draw(x, index, rank + 1);
	double v = 1;

	if (place == 0)
		v += ldexp((double)(own >> (65 - f->precision)), 1 - f->precision);
	else if (place <= active)
		v = ldexp(1, (own & 2 ? 1 : -1) * (1 + (int)((own >> 2) % (uint64_t)(f->span / active))));
	return own & 1 ? -v : v;
}

/* Any number but a NaN, with many zeros of both signs: -0 is below +0. */
static uint64_t comparable(const struct exact *x, size_t index, int rank)
{
	const struct format *f = format_of(x->type);
	uint64_t mask = mask_of(x->type), bits = draw(x, index, rank + 1) & mask;
	uint64_t magnitude = mask >> 1, fraction = f ? (1ull << (f->precision - 1)) - 1 : 0;

	if (!f)
		return bits;
	if (draw(x, index, 0) % 8 == 0 || !(bits & magnitude & ~fraction))
		return bits & ~magnitude;
	if ((bits & magnitude & ~fraction) == (magnitude & ~fraction))
		bits &= ~(x->type == TUTTI_F8E4M3 ? 1 : fraction);
	return bits;
}

/* Full significands within a factor of 128. */
static uint64_t noise(const struct exact *x, size_t index, int rank)
{
	uint64_t h = draw(x, index, rank + 1);
	double v = ldexp(1 + ldexp((double)(h >> 12), -52), (int)(h % 7) - 3);

	if (!format_of(x->type))
		return h & mask_of(x->type);
	return encode(x->type, h & 2048 ? -v : v);
}

static uint64_t input(const struct exact *x, int rank, size_t index)
{
	if (x->op == EXACT_NOISE)
		return noise(x, index, rank);
	if (x->op == TUTTI_MIN || x->op == TUTTI_MAX)
		return comparable(x, index, rank);
	if (x->op == EXACT_COPY || !format_of(x->type))
		return draw(x, index, rank + 1) & mask_of(x->type);
	if (x->op == TUTTI_PROD)
		return encode(x->type, factor(x, index, rank));
	return encode(x->type, ldexp((double)term(x, index, rank), shared_exponent(x, index)));
}

/* Bits in an order in which unsigned comparison is the type's: -0 before +0. */
static uint64_t order_key(uint64_t bits, enum tutti_dtype t)
{
	uint64_t mask = mask_of(t), sign = mask ^ (mask >> 1);

	if (is_signed(t))
		return bits ^ sign;
	if (!format_of(t))
		return bits;
	return bits & sign ? ~bits & mask : bits | sign;
}

static uint64_t result_of_compare(const struct exact *x, size_t index)
{
	uint64_t best = input(x, 0, index);

	for (int r = 1; r < x->nranks; r++) {
		uint64_t bits = input(x, r, index);
		uint64_t a = order_key(bits, x->type), b = order_key(best, x->type);

		if (x->op == TUTTI_MIN ? a < b : a > b)
			best = bits;
	}
	return best;
}

static uint64_t result_of_integers(const struct exact *x, size_t index)
{
	uint64_t mask = mask_of(x->type), v = x->op == TUTTI_PROD;

	for (int r = 0; r < x->nranks; r++)
		v = x->op == TUTTI_PROD ? v * input(x, r, index) : v + input(x, r, index);
	v &= mask;
	if (x->op == TUTTI_AVG && is_signed(x->type))
		return (uint64_t)(sign_extend(v, x->type) / x->nranks) & mask;
	return x->op == TUTTI_AVG ? v / (uint64_t)x->nranks : v;
}

static uint64_t result_of_floats(const struct exact *x, size_t index)
{
	int64_t sum = 0;
	double product = 1, v;

	if (x->op == TUTTI_PROD) {
		for (int r = 0; r < x->nranks; r++)
			product *= factor(x, index, r);
		return encode(x->type, product);
	}
	for (int r = 0; r < x->nranks; r++)
		sum += term(x, index, r);
	v = ldexp((double)sum, shared_exponent(x, index));
	return encode(x->type, x->op == TUTTI_AVG ? v / x->nranks : v);
}

uint64_t exact_bits(const struct exact *x, int rank, size_t index)
{
	if (rank != EXACT_RESULT)
		return input(x, rank, index);
	if (x->op == TUTTI_MIN || x->op == TUTTI_MAX)
		return result_of_compare(x, index);
	return format_of(x->type) ? result_of_floats(x, index) : result_of_integers(x, index);
}

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

static void store(struct pattern *p, size_t index)
{
	uint64_t v = exact_bits(&p->x, p->rank, index);
	unsigned char *to = p->bytes + index * p->size;

	switch (p->size) {
	case 1:
		*to = (uint8_t)v;
		break;
	case 2:
		memcpy(to, &(uint16_t){(uint16_t)v}, 2);
		break;
	case 4:
		memcpy(to, &(uint32_t){(uint32_t)v}, 4);
		break;
	default:
		memcpy(to, &v, 8);
	}
}

int pattern_make(struct pattern *p, const struct exact *x, int rank, size_t count)
{
	*p = (struct pattern){.x = *x, .rank = rank, .size = tutti_dtype_size(x->type)};
	p->length = count < PATTERN_PERIOD ? count : PATTERN_PERIOD;
	p->bytes = malloc(p->length * p->size + 1);
	if (!p->bytes)
		return -1;
	for (size_t i = 0; i < p->length; i++)
		store(p, i);
	return 0;
}

void pattern_free(struct pattern *p)
{
	free(p->bytes);
	p->bytes = NULL;
	for (int i = 0; i < PATTERN_TURNS; i++) {
		free(p->kept[i]);
		p->kept[i] = NULL;
	}
}

static inline void move(unsigned char *to, const unsigned char *from, size_t size)
{
	switch (size) {
	case 1:
		*to = *from;
		break;
	case 2:
		memcpy(to, from, 2);
		break;
	case 4:
		memcpy(to, from, 4);
		break;
	default:
		memcpy(to, from, 8);
	}
}

void pattern_turn(struct pattern *p, uint64_t turn)
{
	size_t each = 64 / p->size, n = (p->length + each - 1) / each;
	int place = (int)(turn % PATTERN_TURNS);
	unsigned char *kept = p->kept[place];

	p->x.turn = turn;
	if (kept && p->turn[place] == turn) {
		for (size_t i = 0; i < n; i++)
			move(p->bytes + i * 64, kept + i * p->size, p->size);
		return;
	}
	for (size_t i = 0; i < p->length; i += each)
		store(p, i);
	if (!kept)
		kept = p->kept[place] = malloc(n * p->size);
	for (size_t i = 0; kept && i < n; i++)
		move(kept + i * p->size, p->bytes + i * 64, p->size);
	p->turn[place] = turn;
}

/* The longest run from logical index `first` that is contiguous in the pattern. */
static size_t run_at(size_t first, size_t count)
{
	size_t left = PATTERN_PERIOD - first % PATTERN_PERIOD;

	return count < left ? count : left;
}

static const unsigned char *at(const struct pattern *p, size_t first)
{
	return p->bytes + first % PATTERN_PERIOD * p->size;
}

void pattern_write(const struct pattern *p, size_t first, size_t count, void *dst)
{
	unsigned char *to = dst;

	for (size_t n; count > 0; first += n, count -= n, to += n * p->size) {
		n = run_at(first, count);
		memcpy(to, at(p, first), n * p->size);
	}
}

void pattern_touch(const struct pattern *p, size_t first, size_t count, void *dst)
{
	size_t each = 64 / p->size;
	unsigned char *to = dst;

	for (size_t n; count > 0; first += n, count -= n, to += n * p->size) {
		const unsigned char *from = at(p, first);

		n = run_at(first, count);
		for (size_t i = (each - first % PATTERN_PERIOD % each) % each; i < n; i += each)
			move(to + i * p->size, from + i * p->size, p->size);
	}
}

size_t pattern_wrong(const struct pattern *p, size_t first, size_t count, const void *src)
{
	const unsigned char *from = src;
	size_t wrong = 0;

	for (size_t n; count > 0; first += n, count -= n, from += n * p->size) {
		const unsigned char *want = at(p, first);

		n = run_at(first, count);
		if (memcmp(from, want, n * p->size) == 0)
			continue;
		for (size_t i = 0; i < n; i++)
			wrong += memcmp(from + i * p->size, want + i * p->size, p->size) != 0;
	}
	return wrong;
}
