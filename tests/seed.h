/* SPDX-License-Identifier: MIT */
/*
 * The seed of tests that draw at random: the same in every run unless TUTTI_TEST_SEED says otherwise, so that what fails once
 * fails again. A test prints the seed that it used.
 */
#ifndef TESTS_SEED_H
#define TESTS_SEED_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t test_seed(void)
{
	const char *given = getenv("TUTTI_TEST_SEED");

	return given ? strtoull(given, NULL, 0) : 20201;
}

#endif
