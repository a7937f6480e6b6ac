/* SPDX-License-Identifier: MIT */
/*
 * Providers of libfabric that need no hardware, for tests: each by both ways in which slots travel. Not every version of
 * libfabric has all of them, and a build may be without it.
 */
#ifndef TESTS_FABRICS_H
#define TESTS_FABRICS_H

#include <stdbool.h>
#include <stddef.h>

struct fabric_way {
	const char *provider, *mode; /* TUTTI_LIBFABRIC_PROVIDER, TUTTI_LIBFABRIC_MODE */
};

#define FABRIC_WAYS 10
extern const struct fabric_way fabric_ways[FABRIC_WAYS];

/** Can it be used here? Found out in a child, so that this process stays without libfabric; `why` when not. */
bool fabric_usable(const struct fabric_way *way, char *why, size_t cap);

/**
 * First in main: where the system allows it, a /dev/shm of this program's own. The provider shm leaves 16 MiB there for each
 * process that is killed, under a name that a later process of the same number can't take.
 */
void fabrics_alone(void);

#endif
