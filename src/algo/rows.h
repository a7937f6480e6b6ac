/* SPDX-License-Identifier: MIT */
/* The rows of the table of algorithms: ROW(x) for algo_x. Of equal prices the first row wins. */
ROW(pairwise)
ROW(linear)
ROW(doubling)
ROW(halving)
ROW(ring)
ROW(tree)
ROW(binomial)
ROW(bruck)
ROW(pat)
ROW(dissemination)
ROW(hierarchy)
ROW(hierarchy_ring)
