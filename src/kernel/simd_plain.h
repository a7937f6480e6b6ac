/* SPDX-License-Identifier: MIT */
/*
 * What AVX2 and NEON, which have neither masks nor three-way logic, write in the compiler's terms.
 */
#define MIN_MAX_64(type)                                                                                               \
	INLINE v##type min_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		v##type less = (v##type)(a < b);                                                                       \
		return (a & less) | (b & ~less);                                                                       \
	}                                                                                                              \
	INLINE v##type max_##type(v##type a, v##type b)                                                                \
	{                                                                                                              \
		v##type less = (v##type)(a < b);                                                                       \
		return (b & less) | (a & ~less);                                                                       \
	}

/* Up, when the low half is above a half, or is a half and the high half is odd; compared as signed numbers. */
INLINE vu16 bf16_round(vu16 high, vu16 low)
{
	vi16 tie_bit = (vi16)(low | (high & 1)) ^ INT16_MIN;
	vu16 up = (vu16)(tie_bit > 0), nan = (vu16)((vi16)(high & 0x7fff) > 0x7f80);

	return ((high - up) & ~nan) | (BF16_NAN & nan);
}
