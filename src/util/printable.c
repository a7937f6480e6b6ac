/* SPDX-License-Identifier: MIT */
/* Control characters as \xNN, see printable.h. */
#include "printable.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

size_t utf8_bytes(const char *text)
{
	/* The second byte tells overlong forms, surrogates and what is beyond Unicode. */
	static const struct {
		uint8_t first, last, least, most, bytes;
	} forms[] = {
	        {0x00, 0x7f, 0, 0xff, 1},    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
	        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
	        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	const uint8_t *s = (const uint8_t *)text;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (s[0] < forms[i].first || s[0] > forms[i].last)
			continue;
		if (forms[i].bytes > 1 && (s[1] < forms[i].least || s[1] > forms[i].most))
			return 0;
		for (size_t k = 2; k < forms[i].bytes; k++)
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		return forms[i].bytes;
	}
	return 0;
}

/* C0, DEL, and C1: U+0080 to U+009F. */
static bool is_control(const uint8_t *s)
{
	return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

char *printable(char *to, size_t cap, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *s = (const uint8_t *)text;
	size_t used = 0;

	while (*s) {
		size_t n = is_control(s) ? 0 : utf8_bytes((const char *)s), need = n ? n : 4;

		if (used + need >= cap)
			break;
		if (n)
			memcpy(to + used, s, n);
		else
			memcpy(to + used, (char[4]){'\\', 'x', digits[*s >> 4], digits[*s & 15]}, 4);
		used += need;
		s += n ? n : 1;
	}
	to[used] = '\0';
	return to;
}
