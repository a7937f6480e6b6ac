/* Control characters as \xNN, see printable.h. */
#include "printable.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character at s, which is UTF-8 and no control character; 0: it is neither. */
static size_t plain_bytes(const uint8_t *s)
{
	/* The second byte tells overlong forms, surrogates and what is beyond Unicode; C1 is C2 80 to C2 9F. */
	static const struct {
		uint8_t first, last, least, most, bytes;
	} forms[] = {
	        {0x20, 0x7e, 0, 0xff, 1},    {0xc2, 0xc2, 0xa0, 0xbf, 2}, {0xc3, 0xdf, 0x80, 0xbf, 2},
	        {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
	        {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
	        {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

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

char *printable(char *to, size_t cap, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *s = (const uint8_t *)text;
	size_t used = 0;

	while (*s) {
		size_t n = plain_bytes(s), need = n ? n : 4;
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
