/* SPDX-License-Identifier: MIT */
/* Boxes in boxes; see boxes.h. */
#include "boxes.h"

#include <math.h>
#include <string.h>

#define CORE  9.0 /* side of a square, and the room to the next */
#define GAP   3.0
#define PAD   7.0
#define TITLE 13.0
#define BAR   15.0
#define FONT  9.5

struct pen {
	FILE *f; /* NULL: only the size is wanted */
	const struct boxes *b;
};

/* The content of a box: children that are boxes, cores, bars. Single children that only hold others are passed over. */
struct content {
	uint32_t box[64];
	int times[64]; /* how many alike it stands for */
	int nboxes, nbars;
	uint32_t bar[16];
	int cores;
	uint32_t first_core; /* cores of a box stand one after the other */
};

static int cores_below(const struct machine *m, uint32_t at)
{
	unsigned unit = m->cores ? MACHINE_CORE : MACHINE_THREAD;
	int n = 0;
	for (uint32_t i = at; i < m->node[at].end; i++)
		n += m->node[i].level == unit;
	return n;
}

static bool is_core(const struct machine *m, uint32_t at)
{
	return m->node[at].level == (m->cores ? MACHINE_CORE : MACHINE_THREAD);
}

static void collect(const struct boxes *b, uint32_t at, struct content *c)
{
	const struct machine *m = b->m;
	for (uint32_t i = at + 1; i < m->node[at].end; i = m->node[i].end) {
		const struct machine_node *n = &m->node[i];
		int last = c->nboxes - 1;
		if (n->level == MACHINE_MEMORY) {
			if (c->nbars < 16)
				c->bar[c->nbars++] = i;
		} else if (is_core(m, i)) {
			c->first_core = c->cores++ ? c->first_core : i;
		} else if (cores_below(m, i) < 2) { /* a core's own cache */
			collect(b, i, c);
		} else if (b->fold && last >= 0 && machine_alike(m, c->box[last], i)) {
			c->times[last]++;
		} else if (c->nboxes < 64) {
			c->times[c->nboxes] = 1;
			c->box[c->nboxes++] = i;
		}
	}
}

static void amount(uint64_t bytes, char *buf, size_t cap)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	int u = 0;
	for (; v >= 1000 && u < 4; u++)
		v /= 1024;
	snprintf(buf, cap, v < 10 && u ? "%.2g %s" : "%.0f %s", v, unit[u]);
}

static void title(const struct machine *m, uint32_t at, int times, char *buf, size_t cap)
{
	const struct machine_node *n = &m->node[at];
	char size[24], count[16] = "", number[16] = "";
	if (times > 1)
		snprintf(count, sizeof(count), "%d × ", times);
	else if (n->os >= 0)
		snprintf(number, sizeof(number), " %d", n->os);
	amount(n->bytes, size, sizeof(size));
	if (n->level == MACHINE_CACHE)
		snprintf(buf, cap, "%sL%u %s", count, n->depth, size);
	else
		snprintf(buf, cap, "%s%s%s", count, machine_level_name(n->level), number);
}

static int columns_of_cores(int n)
{
	return n <= 8 ? (n > 4 ? (n + 1) / 2 : n) : n <= 32 ? 8 : 16;
}

static int columns_of_boxes(int n)
{
	return n <= 3 ? n : n <= 8 && n % 2 == 0 ? n / 2 : (int)ceil(sqrt(n));
}

/* A core is used, or may be used, or neither. */
static bool lit(const struct boxes *b, uint32_t core)
{
	const struct machine *m = b->m;
	for (uint32_t i = core; i < m->node[core].end; i++)
		if (m->node[i].level == MACHINE_THREAD && m->node[i].os >= 0 &&
		    cpus_has(b->used ? b->used : &m->may, (unsigned)m->node[i].os))
			return true;
	return false;
}

const char *boxes_core(const struct machine *m, unsigned kind)
{
	if (kind + 1 >= m->kinds)
		return BOXES_CORE;
	return kind + 2 == m->kinds ? BOXES_THRIFTY : BOXES_THRIFTIEST;
}

static void draw_cores(struct pen *p, const struct content *c, double x, double y, double *w, double *h)
{
	const struct machine *m = p->b->m;
	int columns = columns_of_cores(c->cores), k = 0;
	*w = columns * (CORE + GAP) - GAP;
	*h = (c->cores + columns - 1) / columns * (CORE + GAP) - GAP;
	for (uint32_t i = c->first_core; p->f && k < c->cores && i < m->nnodes; i++) {
		if (!is_core(m, i))
			continue;
		bool on = lit(p->b, i);
		svg_box(p->f, x + k % columns * (CORE + GAP), y + k / columns * (CORE + GAP), CORE, CORE, 2,
		        on ? boxes_core(m, m->node[i].kind) : BOXES_IDLE, on ? NULL : FAINT);
		k++;
	}
}

/* Draws what is inside a node, from its corner; *w, *h: what it takes. */
static void draw_inside(struct pen *p, uint32_t at, double x, double y, double *w, double *h);

static void draw_box(struct pen *p, uint32_t at, int times, double x, double y, double w, double h)
{
	char name[64];
	double iw, ih;
	title(p->b->m, at, times, name, sizeof(name));
	for (int k = times > 3 ? 2 : times - 1; k > 0; k--) /* a pile */
		svg_box(p->f, x + 3.0 * k, y - 3.0 * k, w, h, 4, PAPER, FAINT);
	svg_box(p->f, x, y, w, h, 4, p->b->m->node[at].level == MACHINE_CACHE ? "#eef2f6" : PAPER, FAINT);
	svg_text(p->f, x + PAD, y + TITLE - 1, FONT, "start", "normal", SOFT, name);
	draw_inside(p, at, x + PAD, y + TITLE + 5, &iw, &ih);
}

static void size_of_box(struct pen *p, uint32_t at, int times, double *w, double *h)
{
	struct pen dry = {NULL, p->b};
	char name[64];
	title(p->b->m, at, times, name, sizeof(name));
	draw_inside(&dry, at, 0, 0, w, h);
	*w = fmax(*w, svg_width(name, FONT)) + 2 * PAD;
	*h += TITLE + 5 + PAD;
}

static void draw_inside(struct pen *p, uint32_t at, double x, double y, double *w, double *h)
{
	struct content c = {.nboxes = 0};
	double cw = 0, ch = 0, widest = 0, tallest = 0, top = y;
	collect(p->b, at, &c);
	*w = c.nbars ? 76 : 0;
	for (int k = 0; k < c.nboxes; k++) {
		double bw, bh;
		size_of_box(p, c.box[k], c.times[k], &bw, &bh);
		widest = fmax(widest, bw);
		tallest = fmax(tallest, bh);
		if (c.times[k] > 1)
			top = y + 6; /* room for the pile */
	}
	if (c.nboxes) {
		int columns = columns_of_boxes(c.nboxes);
		for (int k = 0; p->f && k < c.nboxes; k++)
			draw_box(p, c.box[k], c.times[k], x + k % columns * (widest + 8),
			         top + k / columns * (tallest + 8), widest, tallest);
		*w = fmax(*w, columns * (widest + 8) - 8 + (top > y ? 6 : 0));
		top += (c.nboxes + columns - 1) / columns * (tallest + 8);
	}
	if (c.cores) {
		draw_cores(p, &c, x, top, &cw, &ch);
		*w = fmax(*w, cw);
		top += ch + 7;
	}
	for (int k = 0; k < c.nbars; k++, top += BAR + 4) {
		char size[24], name[64];
		amount(p->b->m->node[c.bar[k]].bytes, size, sizeof(size));
		snprintf(name, sizeof(name), "memory %s", p->b->m->node[c.bar[k]].bytes ? size : "");
		*w = fmax(*w, svg_width(name, FONT) + 8);
		if (p->f) {
			svg_box(p->f, x, top, *w, BAR, 3, "#e4ecd9", NULL);
			svg_text(p->f, x + 5, top + BAR - 4, FONT, "start", "normal", "#4b5d33", name);
		}
	}
	*h = top - y - (c.nbars ? 4 : c.cores ? 7 : c.nboxes ? 8 : 0);
}

void boxes_size(const struct boxes *b, double *w, double *h)
{
	struct pen p = {NULL, b};
	draw_inside(&p, 0, 0, 0, w, h);
}

void boxes_draw(FILE *f, const struct boxes *b, double x, double y)
{
	struct pen p = {f, b};
	double w, h;
	draw_inside(&p, 0, x, y, &w, &h);
}
