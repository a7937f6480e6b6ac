/* SPDX-License-Identifier: MIT */
/* The table with one more row: programs that are linked with it have it in place of the library's. */
#include "algo.h"

#define ROW(x) extern const struct algo algo_##x;
#include "rows.h"
ROW(chain)
#undef ROW

#define ROW(x) &algo_##x,
const struct algo *const algo_table[] = {
#include "rows.h"
        ROW(chain) NULL,
};
