/* SPDX-License-Identifier: MIT */
/* The inside of a machine as boxes in boxes: packages, groups, shared caches; memories as bars, cores as squares. */
#ifndef TUTTI_TOPO_BOXES_H
#define TUTTI_TOPO_BOXES_H

#include "../machine/machine.h"
#include "svg.h"

/* Colours of cores: used ones, those of them that are not of the strongest kind, the third kind, and all others. */
#define BOXES_CORE       "#2f6fa7"
#define BOXES_THRIFTY    "#8fb8d6"
#define BOXES_THRIFTIEST "#c6dcec"
#define BOXES_IDLE       "#e3e8ed"

struct boxes {
	const struct machine *m;
	const struct cpus *used; /* threads of which the cores are shown as used; NULL: those that may be used */
	bool fold;               /* siblings that are alike are drawn once, with their number */
};

/** The colour of a used core of that kind. */
const char *boxes_core(const struct machine *m, unsigned kind);
/** Size of the whole. */
void boxes_size(const struct boxes *b, double *w, double *h);
void boxes_draw(FILE *f, const struct boxes *b, double x, double y);

#endif
