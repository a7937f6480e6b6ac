/* SPDX-License-Identifier: MIT */
/* SVG, written straight into a file: shapes, texts, a scale of colours for speeds. Sizes are pixels, y goes down. */
#ifndef TUTTI_TOPO_SVG_H
#define TUTTI_TOPO_SVG_H

#include <stdio.h>

/* The few colours of all pictures. */
#define INK    "#1f2a37"
#define SOFT   "#66717e"
#define FAINT  "#c9d0d8"
#define PAPER  "#ffffff"
#define CARD   "#f6f8fa"
#define ACCENT "#111827" /* the ring */

struct colour {
	char hex[8];
};

/** 0 the slowest, 1 the fastest: orange over purple to navy, and ever darker, for readers who do not see colours. */
struct colour svg_speed(double t);
/** Black or white, whichever is read better on it. */
const char *svg_ink_on(struct colour c);

void svg_begin(FILE *f, double width, double height);
void svg_end(FILE *f);
/** stroke NULL: none. */
void svg_box(FILE *f, double x, double y, double w, double h, double round, const char *fill, const char *stroke);
void svg_dot(FILE *f, double x, double y, double r, const char *fill, const char *stroke);
void svg_line(FILE *f, double x1, double y1, double x2, double y2, const char *stroke, double width, const char *dash);
/** A line that ends in an arrow's head. */
void svg_arrow(FILE *f, double x1, double y1, double x2, double y2, const char *stroke, double width);
/** anchor: start, middle, end. weight: normal, bold. What XML forbids in `text` is escaped. */
void svg_text(FILE *f, double x, double y, double size, const char *anchor, const char *weight, const char *fill,
              const char *text);
/** One or two lines (NULL: one) around a point, on a piece of paper that covers the lines below. */
void svg_label(FILE *f, double x, double y, double size, const char *text, const char *second);
void svg_label_size(double size, const char *text, const char *second, double *w, double *h);
/** About how wide a text will be. */
double svg_width(const char *text, double size);
/** The bar of colours with its ends named, 160 wide and 10 high. */
void svg_scale(FILE *f, double x, double y, const char *least, const char *most);

#endif
