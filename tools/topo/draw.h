/* SPDX-License-Identifier: MIT */
/* A survey as pictures: hosts, what is in them, links and ring; and matrices as heat maps. */
#ifndef TUTTI_TOPO_DRAW_H
#define TUTTI_TOPO_DRAW_H

#include "survey.h"

/** FILE.svg or FILE.dot; EINVAL for another name, ESYSTEM, ENOMEM. */
int draw_write(const struct survey *s, const char *path);
/** FILE.svg; EINVAL also where nothing was measured. */
int heat_write(const struct survey *s, const char *path);

#endif
