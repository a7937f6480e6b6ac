/* SPDX-License-Identifier: MIT */
/* Sets of processors; see cpus.h. */
#include "cpus.h"
#include "../os/os.h"

#include <stdio.h>
#include <string.h>

int cpus_count(const struct cpus *s)
{
	int n = 0;
	for (int i = 0; i < CPUS_MAX / 64; i++)
		n += __builtin_popcountll(s->word[i]);
	return n;
}

bool cpus_overlap(const struct cpus *a, const struct cpus *b)
{
	for (int i = 0; i < CPUS_MAX / 64; i++)
		if (a->word[i] & b->word[i])
			return true;
	return false;
}

char *cpus_text(const struct cpus *s, char *buf, size_t cap)
{
	size_t used = 0;
	buf[0] = '\0';
	for (unsigned i = 0, last; i < CPUS_MAX && used < cap; i = last + 1) {
		last = i;
		if (!cpus_has(s, i))
			continue;
		while (cpus_has(s, last + 1))
			last++;
		used += (size_t)snprintf(buf + used, cap - used, "%s%u", used ? "," : "", i);
		if (last > i && used < cap)
			used += (size_t)snprintf(buf + used, cap - used, "-%u", last);
	}
	return buf;
}

/* Parse a number below CPUS_MAX; NULL: there is none. */
static const char *parse_number(const char *text, unsigned *out)
{
	const char *p = text;
	for (*out = 0; *p >= '0' && *p <= '9' && *out < CPUS_MAX; p++)
		*out = *out * 10 + (unsigned)(*p - '0');
	return p > text && *out < CPUS_MAX ? p : NULL;
}

bool cpus_parse(struct cpus *s, const char *text)
{
	memset(s, 0, sizeof(*s));
	for (unsigned first, last; *text; text += *text == ',') {
		if (!(text = parse_number(text, &first)))
			return false;
		last = first;
		if (*text == '-' && !(text = parse_number(text + 1, &last)))
			return false;
		if (last < first || (*text && *text != ',') || (*text == ',' && !text[1]))
			return false;
		for (unsigned i = first; i <= last; i++)
			cpus_add(s, i);
	}
	return true;
}

bool cpus_allowed(struct cpus *s)
{
	memset(s, 0, sizeof(*s));
	return os_cpus_allowed(s->word, CPUS_MAX / 64);
}

bool cpus_bind(const struct cpus *s)
{
	return os_cpus_bind(s->word, CPUS_MAX / 64);
}
