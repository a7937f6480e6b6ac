/* SPDX-License-Identifier: MIT */
/* Errors: a status and one message per thread. Functions return the status; the message says what, on what, and what to do. */
#ifndef TUTTI_ERROR_H
#define TUTTI_ERROR_H

#include "tutti.h"

/** Replaces this thread's message and returns `status`, so that one can write `return fail(TUTTI_EINVAL, "...")`. */
int fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** As fail(TUTTI_ESYSTEM), with ": <errno text>" appended; ENOMEM and EMFILE etc. keep their own advice. */
int fail_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** Puts "<context>: " before the message; returns `status`. */
int fail_while(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** This thread's message; "" when nothing failed. */
const char *fail_text(void);

#endif
