/* SPDX-License-Identifier: MIT */
/* The words of what went wrong: what was tried, on what, and what to do about it. One per rank. */
#ifndef TRANSFORMER_PROBLEM_H
#define TRANSFORMER_PROBLEM_H

#include <stdarg.h>
#include <stdio.h>

struct problem {
	char text[512];
};

/** Notes the problem and returns -1, so that the caller can return it. The first one noted stays. */
__attribute__((format(printf, 2, 3))) static inline int problem(struct problem *p, const char *format, ...)
{
	va_list args;

	if (p->text[0])
		return -1;
	va_start(args, format);
	vsnprintf(p->text, sizeof(p->text), format, args);
	va_end(args);
	return -1;
}

#endif
