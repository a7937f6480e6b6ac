/* SPDX-License-Identifier: MIT */
/*
 * All rows of an instruction set, made from what its file has defined (simd.h says what). A row reads two vectors of
 * each source, widens them into accumulators, combines from the left, and narrows and stores once; then one vector;
 * the last, incomplete one goes through partial loads and stores. AVG of integers is left to the reference: no
 * instruction set has the division.
 */
#define FULL_LOAD(to, p, n)       memcpy(&(to), (p), sizeof(to))
#define FULL_STORE(p, from, n)    memcpy((p), &(from), sizeof(from))
#define PART_LOAD(to, p, n)       ((to) = (__typeof__(to))part_load((p), (n)))
#define PART_STORE(p, from, n)    part_store((p), (vu8)(from), (n))
#define HALF_LOAD(to, p, n)       ((to) = part_load_half((p), (n)))
#define HALF_STORE(p, from, n)    part_store_half((p), (from), (n))
#define QUARTER_LOAD(to, p, n)    ((to) = part_load_quarter((p), (n)))
#define QUARTER_STORE(p, from, n) part_store_quarter((p), (from), (n))

/*
 * Where a long call gets to in a while. A processor sees by itself what is read next, not what is written: unless it is told,
 * each line of a result that is in no cache of its own is waited for. To fetch the sources of a fold as well makes short
 * calls slower: they are there already.
 */
#define AHEAD 1024
INLINE size_t ahead(size_t at, size_t bytes)
{
	return bytes - at > AHEAD ? at + AHEAD : at;
}

/* `unroll` vectors of each source at `at`: the pointer is then fetched once for them all. */
#define FOLD_AT(unroll, raw, acc, widen, combine, finish, narrow, LOAD, STORE)                                         \
	do {                                                                                                           \
		raw r[unroll];                                                                                         \
		acc x[unroll];                                                                                         \
		const char *from = (const char *)src[0] + at;                                                          \
		_Pragma("GCC unroll 2") for (int u = 0; u < (unroll); u++)                                             \
		{                                                                                                      \
			LOAD(r[u], from + u * sizeof(raw), bytes - at);                                                \
			x[u] = widen(r[u]);                                                                            \
		}                                                                                                      \
		for (int k = 1; k < nsrc; k++) {                                                                       \
			from = (const char *)src[k] + at;                                                              \
			_Pragma("GCC unroll 2") for (int u = 0; u < (unroll); u++)                                     \
			{                                                                                              \
				LOAD(r[u], from + u * sizeof(raw), bytes - at);                                        \
				x[u] = combine(x[u], widen(r[u]));                                                     \
			}                                                                                              \
		}                                                                                                      \
		_Pragma("GCC unroll 2") for (int u = 0; u < (unroll); u++)                                             \
		{                                                                                                      \
			r[u] = narrow(finish(x[u], divisor));                                                          \
			STORE(dst + at + u * sizeof(raw), r[u], bytes - at);                                           \
		}                                                                                                      \
	} while (0)

#define ROW(env, row, size, raw, PART, acc, widen, combine, finish, narrow)                                            \
	INLINE void row##_fold(char *dst, const void *const *src, int nsrc, size_t count, uint32_t divisor)            \
	{                                                                                                              \
		size_t at = 0, bytes = count * (size);                                                                 \
		(void)divisor;                                                                                         \
		for (; bytes - at >= 2 * sizeof(raw); at += 2 * sizeof(raw)) {                                         \
			__builtin_prefetch(dst + ahead(at, bytes), 1);                                                 \
			FOLD_AT(2, raw, acc, widen, combine, finish, narrow, FULL_LOAD, FULL_STORE);                   \
		}                                                                                                      \
		for (; bytes - at >= sizeof(raw); at += sizeof(raw))                                                   \
			FOLD_AT(1, raw, acc, widen, combine, finish, narrow, FULL_LOAD, FULL_STORE);                   \
		if (at < bytes)                                                                                        \
			FOLD_AT(1, raw, acc, widen, combine, finish, narrow, PART##_LOAD, PART##_STORE);               \
	}                                                                                                              \
	static void row##_two(void *dst, const void *a, const void *b, size_t count, uint32_t divisor)                 \
	{                                                                                                              \
		const void *src[2] = {a, b};                                                                           \
		env(row##_fold(dst, src, 2, count, divisor));                                                          \
	}                                                                                                              \
	static void row##_many(void *dst, const void *const *src, int nsrc, size_t count, uint32_t divisor)            \
	{                                                                                                              \
		env(row##_fold(dst, src, nsrc, count, divisor));                                                       \
	}

#define SAME(x)        (x)
#define LEAVE(x, d)    (x)
#define ADD(x, y)      ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))

/* ---- integers: added and multiplied unsigned, so that they wrap ---- */

#define INTEGER(type, size, wrapping)                                                                                  \
	ROW(EXACT, type##_sum, size, v##wrapping, PART, v##wrapping, SAME, ADD, LEAVE, SAME)                           \
	ROW(EXACT, type##_prod, size, v##wrapping, PART, v##wrapping, SAME, MULTIPLY, LEAVE, SAME)                     \
	ROW(EXACT, type##_min, size, v##type, PART, v##type, SAME, min_##type, LEAVE, SAME)                            \
	ROW(EXACT, type##_max, size, v##type, PART, v##type, SAME, max_##type, LEAVE, SAME)

INTEGER(i8, 1, u8)
INTEGER(u8, 1, u8)
INTEGER(i16, 2, u16)
INTEGER(u16, 2, u16)
INTEGER(i32, 4, u32)
INTEGER(u32, 4, u32)
INTEGER(i64, 8, u64)
INTEGER(u64, 8, u64)

/* ---- f32 and f64 ---- */

#define DIVIDE_F32(x, d) ((x) / (float)(d))
#define DIVIDE_F64(x, d) ((x) / (double)(d))

#define FLOAT(type, size, divide)                                                                                      \
	ROW(ROUNDED, type##_sum, size, v##type, PART, v##type, SAME, ADD, LEAVE, canonical_##type)                     \
	ROW(ROUNDED, type##_prod, size, v##type, PART, v##type, SAME, MULTIPLY, LEAVE, canonical_##type)               \
	ROW(ROUNDED, type##_min, size, v##type, PART, v##type, SAME, min_##type, LEAVE, canonical_##type)              \
	ROW(ROUNDED, type##_max, size, v##type, PART, v##type, SAME, max_##type, LEAVE, canonical_##type)              \
	ROW(ROUNDED, type##_avg, size, v##type, PART, v##type, SAME, ADD, divide, canonical_##type)

FLOAT(f32, 4, DIVIDE_F32)
FLOAT(f64, 8, DIVIDE_F64)

/* ---- sums and products of the small floats, in f32 ---- */

#define SMALL_FLOAT(type, size, raw, PART, acc, add, multiply, divide)                                                 \
	ROW(ROUNDED, type##_sum, size, raw, PART, acc, type##_widen, add, LEAVE, type##_narrow)                        \
	ROW(ROUNDED, type##_prod, size, raw, PART, acc, type##_widen, multiply, LEAVE, type##_narrow)                  \
	ROW(ROUNDED, type##_avg, size, raw, PART, acc, type##_widen, add, divide, type##_narrow)

/* BF16 is the high half of f32: what stands at even places is shifted up, what stands at odd ones is there already. */
struct pair {
	vf32 even, odd;
};

INLINE struct pair bf16_widen(vu16 x)
{
	return (struct pair){(vf32)((vu32)x << 16), (vf32)((vu32)x & 0xffff0000u)};
}

INLINE vu16 bf16_narrow(struct pair x)
{
	vu32 even = (vu32)x.even, odd = (vu32)x.odd;

	return bf16_round(high_halves(even, odd), low_halves(even, odd));
}

INLINE struct pair pair_add(struct pair x, struct pair y)
{
	return (struct pair){x.even + y.even, x.odd + y.odd};
}

INLINE struct pair pair_multiply(struct pair x, struct pair y)
{
	return (struct pair){x.even * y.even, x.odd * y.odd};
}

INLINE struct pair pair_divide(struct pair x, uint32_t divisor)
{
	return (struct pair){x.even / (float)divisor, x.odd / (float)divisor};
}

SMALL_FLOAT(bf16, 2, vu16, PART, struct pair, pair_add, pair_multiply, pair_divide)

INLINE hu16 f16_narrow(vf32 x)
{
	return f16_from_canonical(canonical_f32(x));
}

SMALL_FLOAT(f16, 2, hu16, HALF, vf32, ADD, MULTIPLY, DIVIDE_F32)

/* E5M2 is the high byte of F16. */
INLINE vf32 e5m2_widen(bu8 x)
{
	return f16_widen(byte_widen(x) << 8);
}

/* E4M3's bits in F16's places make a 256th of its value, subnormals included. */
INLINE vf32 e4m3_widen(bu8 x)
{
	hu16 h = byte_widen(x), mag = h & 0x7f;

	return f16_widen(mag << 7 | (h & 0x80) << 8 | (hu16)(mag == E4M3_NAN)) * 256.0f;
}

/* narrow_magnitude of convert.h, on vectors. */
INLINE vu32 vector_narrow(vu32 mag, uint32_t mant, uint32_t bias, uint32_t top)
{
	vu32 x = min_u32(mag, (vu32){} + top), exp = max_u32(x & 0x7f800000u, (vu32){} + NARROW_MIN_EXP(bias));

	x = (vu32)((vf32)x + (vf32)(exp + NARROW_PLACE(mant)));
	return x - exp + (exp >> (23 - mant)) - NARROW_BASE(mant, bias);
}

INLINE bu8 e5m2_narrow(vf32 x)
{
	vu32 u = (vu32)x, mag = u & 0x7fffffffu, nan = (vu32)((vi32)mag > 0x7f800000);
	vu32 code = (u >> 24 & 0x80u) | vector_narrow(mag, 2, 15, E5M2_TOP);

	return byte_narrow((code & ~nan) | (E5M2_NAN & nan));
}

INLINE bu8 e4m3_narrow(vf32 x)
{
	vu32 u = (vu32)x, code = vector_narrow(u & 0x7fffffffu, 3, 7, E4M3_TOP);

	return byte_narrow((u >> 24 & 0x80u & (vu32)(code != E4M3_NAN)) | code);
}

SMALL_FLOAT(e5m2, 1, bu8, QUARTER, vf32, ADD, MULTIPLY, DIVIDE_F32)
SMALL_FLOAT(e4m3, 1, bu8, QUARTER, vf32, ADD, MULTIPLY, DIVIDE_F32)

/*
 * ---- MIN and MAX of the small floats: nothing is rounded, so they are compared as integers ----
 *
 * A negative number's bits below the sign are flipped: the integers then stand in the order of the numbers, -0 before
 * +0. Whether there was a NaN is known at the end from the greatest magnitude.
 */
#define KEYED(type, size, width, infinity, nan)                                                                        \
	struct type##_key {                                                                                            \
		vi##width key, mag;                                                                                    \
	};                                                                                                             \
	INLINE vi##width type##_flip(vi##width x)                                                                      \
	{                                                                                                              \
		return x ^ ((vi##width)(x < 0) & INT##width##_MAX);                                                    \
	}                                                                                                              \
	INLINE struct type##_key type##_key(vi##width x)                                                               \
	{                                                                                                              \
		return (struct type##_key){type##_flip(x), x & INT##width##_MAX};                                      \
	}                                                                                                              \
	INLINE vi##width type##_unkey(struct type##_key x)                                                             \
	{                                                                                                              \
		vi##width is_nan = (vi##width)(x.mag > (infinity));                                                    \
		return (type##_flip(x.key) & ~is_nan) | ((nan)&is_nan);                                                \
	}                                                                                                              \
	INLINE struct type##_key type##_first(struct type##_key x, struct type##_key y)                                \
	{                                                                                                              \
		return (struct type##_key){min_i##width(x.key, y.key), max_i##width(x.mag, y.mag)};                    \
	}                                                                                                              \
	INLINE struct type##_key type##_last(struct type##_key x, struct type##_key y)                                 \
	{                                                                                                              \
		return (struct type##_key){max_i##width(x.key, y.key), max_i##width(x.mag, y.mag)};                    \
	}                                                                                                              \
	ROW(EXACT, type##_min, size, vi##width, PART, struct type##_key, type##_key, type##_first, LEAVE,              \
	    type##_unkey)                                                                                              \
	ROW(EXACT, type##_max, size, vi##width, PART, struct type##_key, type##_key, type##_last, LEAVE, type##_unkey)

KEYED(f16, 2, 16, 0x7c00, F16_NAN)
KEYED(bf16, 2, 16, 0x7f80, BF16_NAN)
KEYED(e5m2, 1, 8, 0x7c, E5M2_NAN)
KEYED(e4m3, 1, 8, 0x7e, E4M3_NAN)

/* Whole lines of the destination at a time. */
static void copy_row(void *to, const void *from, size_t bytes)
{
	enum { VECTORS = 64 / VBYTES };
	char *dst = to;
	const char *src = from;
	size_t at = -(uintptr_t)dst % 64;

	at = at < bytes ? at : bytes;
	memcpy(dst, src, at);
	for (; bytes - at >= 64; at += 64) {
		vu8 line[VECTORS];

		__builtin_prefetch(dst + ahead(at, bytes), 1);
		__builtin_prefetch(src + ahead(at, bytes));
		_Pragma("GCC unroll 4") for (int i = 0; i < VECTORS; i++) FULL_LOAD(line[i], src + at + i * VBYTES, 0);
		_Pragma("GCC unroll 4") for (int i = 0; i < VECTORS; i++) FULL_STORE(dst + at + i * VBYTES, line[i], 0);
	}
	memcpy(dst + at, src + at, bytes - at);
}

#define ISA_TABLE(name)                                                                                                \
	{                                                                                                              \
		.isa = (name), .wire = wire_rows, .copy = copy_row,                                                    \
		.two = KERNEL_ROWS(KERNEL_FOUR_OPS, KERNEL_FIVE_OPS, two),                                             \
		.many = KERNEL_ROWS(KERNEL_FOUR_OPS, KERNEL_FIVE_OPS, many),                                           \
	}
