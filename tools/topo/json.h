/* SPDX-License-Identifier: MIT */
/* A survey as JSON: docs/topology.md describes it. */
#ifndef TUTTI_TOPO_JSON_H
#define TUTTI_TOPO_JSON_H

#include "advice.h"

/** advice may be NULL. Replaces the file; "-": the standard output. ESYSTEM, ENOMEM. */
int json_write(const struct survey *s, const struct advice *a, const char *path);

#endif
