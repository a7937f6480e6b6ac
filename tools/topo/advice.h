/* SPDX-License-Identifier: MIT */
/*
 * What a communicator of these ranks chooses: the ring, the leaders of hosts, an algorithm for each size, and the time
 * that the cost model predicts. The library's own planners and tuner are asked; no rule of theirs is repeated here. And
 * what would help: cables that are missing, and a list of hosts in a better order.
 */
#ifndef TUTTI_TOPO_ADVICE_H
#define TUTTI_TOPO_ADVICE_H

#include "../../src/tuner/tuner.h"
#include "survey.h"

#include <stdio.h>

struct advised_call {
	enum coll coll;
	size_t bytes; /* of the larger buffer */
	char algo[32];
	int channels;
	double seconds;
};

struct advice {
	int n, ncalls, nleaders, nmissing;
	int *ring;         /* n ranks: as a communicator goes round now */
	int *leader;       /* ranks that communicate across hosts in a hierarchy; empty without a hierarchy */
	int (*missing)[2]; /* pairs of hosts that lack a cable which others have */
	struct advised_call *call;
};

/** Of a communicator that is there; */
int advise_comm(struct advice *a, const struct survey *s, const struct tutti_comm *c);
/** of a survey's job as it would be with TUTTI_TOPO_FILE naming it, by this machine's table of costs. */
int advise_survey(struct advice *a, const struct survey *s);
void advice_free(struct advice *a);
void advice_print(FILE *f, const struct survey *s, const struct advice *a);

enum hostfile_format { HOSTFILE_TUTTI, HOSTFILE_MLX };
/** Hosts in the order in which the measured ring comes to them (else in that of ranks). "-": the standard output. */
int hostfile_write(const struct survey *s, enum hostfile_format format, const char *path);

#endif
