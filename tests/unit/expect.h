/* SPDX-License-Identifier: MIT */
/* What unit tests expect of texts and statuses, and what they say when it is not so. Includes cmocka. */
#ifndef TESTS_UNIT_EXPECT_H
#define TESTS_UNIT_EXPECT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/net.h"

#define flunk(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))
#define assert_contains(text, part)                                                                                    \
	do {                                                                                                           \
		if (!strstr(text, part))                                                                               \
			flunk("\"%s\" does not contain \"%s\"", text, part);                                           \
	} while (0)
#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != TUTTI_OK)                                                                                   \
			flunk("%s: %d: %s", #call, rc_, fail_text());                                                  \
	} while (0)

static inline struct net_limit limit_of(double seconds)
{
	return (struct net_limit){.deadline = now_ns() + (uint64_t)(seconds * 1e9)};
}

#endif
