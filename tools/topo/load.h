/* SPDX-License-Identifier: MIT */
/* A survey from a file: what tutti-topo --json wrote, or one machine that hwloc exported as XML. */
#ifndef TUTTI_TOPO_LOAD_H
#define TUTTI_TOPO_LOAD_H

#include "survey.h"

/** survey_free in any case. EINVAL names the file, and the line or the field; ESYSTEM: it can't be read. */
int load_survey(struct survey *s, const char *path);

#endif
