/* SPDX-License-Identifier: MIT */
/* A survey as text for people. */
#ifndef TUTTI_TOPO_TEXT_H
#define TUTTI_TOPO_TEXT_H

#include "survey.h"

#include <stdio.h>

void text_print(FILE *f, const struct survey *s);

#endif
