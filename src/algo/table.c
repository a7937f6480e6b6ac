/* SPDX-License-Identifier: MIT */
/* The table of algorithms, from its rows. */
#include "algo.h"

#define ROW(x) extern const struct algo algo_##x;
#include "rows.h"
#undef ROW

#define ROW(x) &algo_##x,
const struct algo *const algo_table[] = {
#include "rows.h"
        NULL,
};
