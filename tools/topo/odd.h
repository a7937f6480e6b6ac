/* SPDX-License-Identifier: MIT */
/*
 * What stands out: links that are slow or late among their peers, faster one way than the other, or unsteady; devices
 * with another MTU than their network's; ranks far from their device, or crowded on one core. Pure functions of a survey.
 */
#ifndef TUTTI_TOPO_ODD_H
#define TUTTI_TOPO_ODD_H

#include "survey.h"

/** Fills s->odd. TUTTI_OK or ENOMEM. */
int odd_find(struct survey *s);
/** "slow", "late", ...: words of JSON. */
const char *odd_name(enum odd_what what);

#endif
