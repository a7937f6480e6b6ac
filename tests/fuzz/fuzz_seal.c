/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes sealed frames: arbitrary bytes must not open; true frames, cut, changed, repeated or swapped as the input says,
 * open only as long as they come as they were sent.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/util/auth.h"
#include "../../src/util/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CAP    64
#define FRAMES 4

static void require(bool truth)
{
	if (!truth)
		abort();
}

static void open_arbitrary(struct seal *s, const uint8_t *data, size_t size)
{
	uint8_t plain[CAP];
	size_t n;
	int rc = seal_open(s, data, size, plain, sizeof(plain), &n);

	require(rc <= 0);
	require(rc < 0 || size < CAP + SEAL_EXTRA);
}

/* Of each two bytes the first says which frame comes next, the second how it is changed. */
static void open_tampered(struct seal *out, struct seal *in, const uint8_t *data, size_t size)
{
	uint8_t frame[FRAMES][CAP + SEAL_EXTRA], said[CAP] = "what is said", plain[CAP];
	bool good = true;
	size_t n;

	for (size_t i = 0; i < FRAMES; i++)
		seal_shut(out, said, 10 * i, frame[i]);
	for (size_t at = 0, due = 0; at + 2 <= size && due < FRAMES; at += 2, due++) {
		size_t which = data[at] % FRAMES, len = 10 * which + SEAL_EXTRA;
		uint8_t changed[sizeof(frame[0])];

		memcpy(changed, frame[which], len);
		changed[data[at] / FRAMES % len] ^= data[at + 1];
		good = good && which == due && data[at + 1] == 0;
		int rc = seal_open(in, changed, len, plain, sizeof(plain), &n);
		require((rc > 0) == good);
		require(rc <= 0 || ((size_t)rc == len && n == 10 * which && memcmp(plain, said, n) == 0));
		if (rc == 0) /* its length was changed, and more is awaited */
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t one[SEAL_KEY] = {1}, two[SEAL_KEY] = {2};
	struct seal *a, *b;

	require(auth_init() == 0);
	a = seal_new(one, two);
	b = seal_new(two, one);
	require(a && b);
	if (size > 0 && data[0] % 2)
		open_arbitrary(b, data + 1, size - 1);
	else if (size > 0)
		open_tampered(a, b, data + 1, size - 1);
	seal_free(a);
	seal_free(b);
	return 0;
}
