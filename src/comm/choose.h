/* SPDX-License-Identifier: MIT */
/* How a call is run on a communicator: by which algorithm, or in the direct tier, and in what its elements travel. */
#ifndef TUTTI_CHOOSE_H
#define TUTTI_CHOOSE_H

#include "../tuner/tuner.h"
#include "args.h"

struct tutti_comm;

/** The same on all ranks. EINVAL when TUTTI_ALGO and its like leave nothing that can do it. */
int choose_run(const struct tutti_comm *c, const struct args *a, struct choice *choice);

#endif
