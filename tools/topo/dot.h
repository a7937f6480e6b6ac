/* SPDX-License-Identifier: MIT */
/* The same picture for Graphviz: hosts as tables of packages and devices, links and ring as edges. */
#ifndef TUTTI_TOPO_DOT_H
#define TUTTI_TOPO_DOT_H

#include "units.h"

#include <stdio.h>

void dot_draw(FILE *f, const struct survey *s, const struct units *u);

#endif
