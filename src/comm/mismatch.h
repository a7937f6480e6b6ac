/* SPDX-License-Identifier: MIT */
/* What a slot of another call proves: which ranks called different things, as an error of both. */
#ifndef TUTTI_MISMATCH_H
#define TUTTI_MISMATCH_H

#include "request.h"

/**
 * A run of r has found a slot of another call. The control plane finds out who called what, and raises that on all ranks. What
 * has no record there (a message, the counts of a pair) is raised from here. l: the link with the slot; NULL: the direct tier
 * saw it.
 */
void mismatch_found(struct tutti_comm *c, struct tutti_request *r, struct link *l);

#endif
