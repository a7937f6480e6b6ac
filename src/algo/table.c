/* The table of algorithms: one row for each, in the order in which equal prices are decided. */
#include "algo.h"

extern const struct algo algo_pairwise, algo_linear, algo_doubling, algo_halving, algo_ring, algo_tree, algo_binomial,
        algo_bruck, algo_pat, algo_dissemination, algo_hierarchy, algo_hierarchy_ring;

const struct algo *const algo_table[] = {
        &algo_pairwise,  &algo_linear,         &algo_doubling, &algo_halving, &algo_ring,
        &algo_tree,      &algo_binomial,       &algo_bruck,    &algo_pat,     &algo_dissemination,
        &algo_hierarchy, &algo_hierarchy_ring, NULL,
};
