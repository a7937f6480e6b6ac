/* SPDX-License-Identifier: MIT */
/* A transport that this build leaves out: it is listed like the others, and says why it can't be used. */
#ifndef TUTTI_ABSENT_H
#define TUTTI_ABSENT_H

#include "../src/transport.h"
#include "../src/util/error.h"

#define ABSENT_TRANSPORT(ID, WHAT, WHY)                                                                                \
	static int absent_open(const struct transport_env *env, void **ctx)                                            \
	{                                                                                                              \
		(void)env;                                                                                             \
		*ctx = NULL;                                                                                           \
		return fail(TUTTI_EUNSUPPORTED, WHY);                                                                  \
	}                                                                                                              \
	static void absent_close(void *ctx)                                                                            \
	{                                                                                                              \
		(void)ctx;                                                                                             \
	}                                                                                                              \
	const struct transport transport_##ID = {                                                                      \
	        .name = #ID, .what = WHAT " (not in this build)", .open = absent_open, .close = absent_close}

#endif
