/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#ifndef DARWIN_CRT_EXTERNS_H
#define DARWIN_CRT_EXTERNS_H

char ***_NSGetEnviron(void);

#endif
