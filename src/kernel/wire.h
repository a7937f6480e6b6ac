/* SPDX-License-Identifier: MIT */
/*
 * How sums travel where bandwidth is scarce: TUTTI_WIRE=bf16 or q8. A codec turns elements into fewer bytes and back. A
 * decoded value is encoded again without loss, so a result that was rounded at its source is the same everywhere,
 * however often it is forwarded.
 *
 *   bf16   of f32: rounded to nearest even, 2 bytes each. |error| <= 2^-8 |x|
 *   q8     of f32 and bf16: 32 elements share a power of two, 1 byte each and one for the 32: a step is at most 1/63.5 of the
 *          largest of the 32, |error| <= max|x| / 127, or 2^-127 if that is more. An infinity or NaN makes all 32 NaN.
 */
#ifndef TUTTI_WIRE_H
#define TUTTI_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernel.h"

struct wire_codec {
	const char *name;
	size_t (*bytes)(
	        size_t count); /* that `count` elements take: never more than they take as they are, count > 0 */
	/* no overlap, no alignment */
	void (*encode)(void *to, const void *from, size_t count);
	void (*decode)(void *to, const void *from, size_t count);
};

enum wire_row { WIRE_BF16_F32, WIRE_Q8_F32, WIRE_Q8_BF16, WIRE_ROWS };

/** Is it a name of a codec? */
bool wire_known(const char *name);
/** The codec of that name for a type, of a table of kernels; NULL: the type travels as it is. */
const struct wire_codec *wire_codec(const struct kernel_table *k, const char *name, enum tutti_dtype t);

#endif
