/* SPDX-License-Identifier: MIT */
/* Launchers: what the environment says about rank, size and rank 0's address. Pure parsing; one function per launcher. */
#ifndef TUTTI_LAUNCH_H
#define TUTTI_LAUNCH_H

#include "../bootstrap/bootstrap.h"
#include "../util/param.h"

struct launch {
	const char *launcher; /* "tutti", "torchrun", "pmi", "openmpi", "slurm", "mlx", or "alone" */
	int rank, size;
	struct rendezvous root;
	struct auth_key key;
};

/** getenv of the environment looked at; tests and fuzzers give their own. */
typedef const char *launch_getenv(void *ctx, const char *name);

/**
 * Tries the launchers in order; alone: rank 0 of 1. EINVAL names variable and value; EAUTH names the secret file and
 * how to make it, when ranks may be on several hosts and no secret is there.
 */
int launch_read(struct launch *out, const struct params *p, launch_getenv *get, void *ctx);

#endif
