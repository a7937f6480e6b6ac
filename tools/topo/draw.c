/* SPDX-License-Identifier: MIT */
/*
 * The picture of a job: cards in a circle, in the order of the ring, so that the ring goes round the outside and other
 * links cross the middle. A card is a host, or a pile of equal ones; of one host the ranks stand in the circle.
 */
#include "draw.h"
#include "../../src/util/error.h"
#include "boxes.h"
#include "dot.h"
#include "svg.h"
#include "units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 36.0
#define HEAD   74.0 /* title of the picture */
#define FOOT   66.0 /* legend */
#define PAD    14.0
#define CHIP   18.0
#define PILE   6.0

struct place {
	double x, y, w, h; /* the middle, and the size */
};

struct scene {
	FILE *f;
	const struct survey *s;
	struct units u;
	struct place *place; /* of each unit */
	double width, height;
};

/* The most kinds of cores that a host has. */
static uint32_t kinds_of_cores(const struct survey *s)
{
	uint32_t most = 1;
	for (int h = 0; h < s->nhosts; h++)
		most = s->machine[h]->kinds > most ? s->machine[h]->kinds : most;
	return most;
}

/* ---- cards ------------------------------------------------------------------------------------------------------- */

static struct boxes inside_of(const struct scene *c, int host)
{
	return (struct boxes){.m = c->s->machine[host],
	                      .fold = c->u.n > 2 && !c->u.of_ranks ? true : c->s->machine[host]->cores > 256};
}

static void device_text(const struct machine *m, const struct machine_device *d, char *buf, size_t cap)
{
	char speed[32] = "", near[32] = "";
	const struct machine_node *n = &m->node[d->near];
	if (d->mbps)
		snprintf(speed, sizeof(speed), d->mbps < 1000 ? " %.0f Mb/s" : " %g Gb/s",
		         d->mbps < 1000 ? (double)d->mbps : (double)d->mbps / 1000);
	if (d->near && n->os >= 0 && m->packages > 1)
		snprintf(near, sizeof(near), ", %s %d", machine_level_name(n->level), n->os);
	snprintf(buf, cap, "%s%s%s%s", d->name, speed, d->state == MACHINE_DOWN ? " down" : "", near);
}

static bool is_shown(const struct machine_device *d)
{
	return d->state != MACHINE_DOWN || d->bus[0];
}

static double widest_device(const struct machine *m)
{
	double widest = 0;
	char text[96];
	for (uint32_t i = 0; i < m->ndevices; i++)
		if (is_shown(&m->device[i])) {
			device_text(m, &m->device[i], text, sizeof(text));
			widest = fmax(widest, svg_width(text, 10) + 12);
		}
	return widest;
}

/* Chips of devices from y on, in lines of at most `width`; NULL: only their height. */
static double draw_devices(FILE *f, const struct machine *m, double x, double y, double width)
{
	double at = x, top = y;
	for (uint32_t i = 0; i < m->ndevices; i++) {
		const struct machine_device *d = &m->device[i];
		char text[96];
		if (!is_shown(d))
			continue;
		device_text(m, d, text, sizeof(text));
		double w = svg_width(text, 10) + 12;
		if (at > x && at + w > x + width) {
			at = x;
			top += CHIP + 4;
		}
		if (f) {
			svg_box(f, at, top, w, CHIP, 9, d->kind == MACHINE_RDMA ? "#e6def2" : "#dcebf5", NULL);
			svg_text(f, at + w / 2, top + 12.5, 10, "middle", "normal",
			         d->state == MACHINE_DOWN  ? SOFT
			         : d->kind == MACHINE_RDMA ? "#4c3575"
			                                   : "#1d4a6b",
			         text);
		}
		at += w + 5;
	}
	return at > x ? top + CHIP - y : 0;
}

static void rate_text(double there, double back, char *buf, size_t cap)
{
	double most = fmax(there, back) * 1e-9, least = fmin(there, back) * 1e-9;
	if (most > 1.15 * least)
		snprintf(buf, cap, "%.2g | %.2g GB/s", there * 1e-9, back * 1e-9);
	else
		snprintf(buf, cap, "%.3g GB/s", most);
}

/* Lines below a card's title. */
static int card_lines(const struct scene *c, int i, char line[3][120])
{
	const struct unit *x = &c->u.unit[i];
	const struct machine *m = c->s->machine[x->host];
	const struct unit_link *in = units_link(&c->u, i, i);
	char rate[64];
	int n = 0;
	snprintf(line[n++], 120, "%u package%s, %u cores%s", m->packages, m->packages == 1 ? "" : "s",
	         m->cores ? m->cores : m->threads, x->hosts > 1 ? " each" : "");
	if (c->u.of_ranks && c->s->n > 1)
		snprintf(line[n++], 120, "%d ranks", c->s->n);
	else if (c->s->n > 1)
		units_ranks(&c->u, c->s, i, line[n++], 120);
	if (!in->pairs || c->u.of_ranks)
		return n;
	const char *where = x->hosts > 1 ? "among them" : "inside", *by = x->hosts > 1 ? "" : in->via;
	rate_text(in->there, in->there, rate, sizeof(rate));
	if (in->there > 0)
		snprintf(line[n++], 120, "%s%s%s %s · %.3g µs", where, by[0] ? ", " : "", by, rate, in->latency * 1e6);
	else
		snprintf(line[n++], 120, "%s, %s", where, in->via);
	return n;
}

static void card_title(const struct scene *c, int i, char *buf, size_t cap)
{
	const struct unit *x = &c->u.unit[i];
	size_t n = 0;
	if (x->hosts > 1)
		n = (size_t)snprintf(buf, cap, "%d hosts: ", x->hosts);
	if (c->u.of_ranks)
		snprintf(buf, cap, "%s", survey_host(c->s, x->host));
	else
		units_name(&c->u, c->s, i, buf + n, cap - n);
}

static void size_card(const struct scene *c, int i, double *w, double *h)
{
	struct boxes b = inside_of(c, c->u.unit[i].host);
	char line[3][120], text[160];
	int lines = card_lines(c, i, line);
	boxes_size(&b, w, h);
	card_title(c, i, text, sizeof(text));
	*w = fmax(fmax(*w, widest_device(b.m)), 1.08 * svg_width(text, 15));
	for (int k = 0; k < lines; k++)
		*w = fmax(*w, svg_width(line[k], 11));
	*h += 30 + 15 * lines + 9;
	double devices = draw_devices(NULL, b.m, 0, 0, *w);
	*h += devices > 0 ? devices + 9 : 0;
	*w += 2 * PAD;
	*h += PAD;
}

/* Where the ranks of a host may run together; false: unknown of one of them. */
static bool used_by_ranks(const struct survey *s, int host, struct cpus *used)
{
	*used = (struct cpus){{0}};
	for (int r = 0; r < s->n; r++) {
		if (s->rank[r].host == host && !s->rank[r].bound)
			return false;
		for (int i = 0; s->rank[r].host == host && i < CPUS_MAX / 64; i++)
			used->word[i] |= s->rank[r].cpus.word[i];
	}
	return true;
}

static void draw_card(const struct scene *c, int i, const struct place *p)
{
	const struct unit *u = &c->u.unit[i];
	struct boxes b = inside_of(c, u->host);
	char line[3][120], text[160];
	int lines = card_lines(c, i, line);
	double x = p->x - p->w / 2, y = p->y - p->h / 2, w, h;
	struct cpus used;
	if (used_by_ranks(c->s, u->host, &used))
		b.used = &used;
	for (int k = u->hosts > 2 ? 2 : u->hosts - 1; k > 0; k--)
		svg_box(c->f, x + PILE * k, y - PILE * k, p->w, p->h, 10, CARD, FAINT);
	svg_box(c->f, x, y, p->w, p->h, 10, CARD, "#9aa5b1");
	card_title(c, i, text, sizeof(text));
	svg_text(c->f, x + PAD, y + 23, 15, "start", "bold", INK, text);
	y += 30;
	for (int k = 0; k < lines; k++)
		svg_text(c->f, x + PAD, y += 14, 11, "start", "normal", SOFT, line[k]);
	y += lines + 9;
	boxes_draw(c->f, &b, x + PAD, y);
	boxes_size(&b, &w, &h);
	draw_devices(c->f, b.m, x + PAD, y + h + 9, p->w - 2 * PAD);
}

static void draw_rank(const struct scene *c, int i, const struct place *p)
{
	char text[16];
	units_name(&c->u, c->s, i, text, sizeof(text));
	svg_dot(c->f, p->x, p->y, p->w / 2, CARD, "#9aa5b1");
	svg_text(c->f, p->x, p->y + 4.5, 13, "middle", "bold", INK, text);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

static bool overlap(const struct place *a, const struct place *b, double room)
{
	return fabs(a->x - b->x) < (a->w + b->w) / 2 + room && fabs(a->y - b->y) < (a->h + b->h) / 2 + room;
}

static void put_in_circle(struct scene *c, double rx, double ry)
{
	/* from the upper left clockwise; of two, side by side */
	double begin = c->u.n == 2 ? M_PI : c->u.n == 4 ? -0.75 * M_PI : -0.5 * M_PI;
	for (int i = 0; i < c->u.n; i++) {
		double angle = begin + 2 * M_PI * i / c->u.n;
		c->place[i].x = rx * cos(angle);
		c->place[i].y = ry * sin(angle);
	}
}

/* The smallest circle, a little flat, in which no two cards come near each other. */
static void spread_out(struct scene *c, double room)
{
	double rx = c->u.n == 2 ? 150 : 60, ry = rx * 0.8;
	for (bool clear = false; !clear; rx *= 1.04, ry *= 1.04) {
		clear = true;
		put_in_circle(c, rx, ry);
		for (int i = 0; i < c->u.n && clear; i++)
			for (int j = 0; j < i && clear; j++)
				clear = !overlap(&c->place[i], &c->place[j], room);
	}
}

/* Moves all so that their corner is at x, y; *w, *h: what they take. */
static void move_to(struct scene *c, double x, double y, double *w, double *h)
{
	double left = INFINITY, top = INFINITY, right = -INFINITY, bottom = -INFINITY;
	for (int i = 0; i < c->u.n; i++) {
		const struct place *p = &c->place[i];
		double pile = c->u.unit[i].hosts > 1 ? 2 * PILE : 0;
		left = fmin(left, p->x - p->w / 2);
		right = fmax(right, p->x + p->w / 2 + pile);
		top = fmin(top, p->y - p->h / 2 - pile);
		bottom = fmax(bottom, p->y + p->h / 2);
	}
	for (int i = 0; i < c->u.n; i++) {
		c->place[i].x += x - left;
		c->place[i].y += y - top;
	}
	*w = right - left;
	*h = bottom - top;
}

/* ---- links and ring ---------------------------------------------------------------------------------------------- */

struct way {
	double x1, y1, x2, y2;
};

/* Is a point within `room` of a place? Piles stand out at the top and the right. */
static bool is_at(const struct scene *c, int unit, double x, double y, double room)
{
	const struct place *p = &c->place[unit];
	double pile = c->u.unit[unit].hosts > 1 ? 2 * PILE : 0;
	if (c->u.of_ranks)
		return hypot(x - p->x, y - p->y) < p->w / 2 + room;
	return x > p->x - p->w / 2 - room && x < p->x + p->w / 2 + pile + room && y > p->y - p->h / 2 - pile - room &&
	       y < p->y + p->h / 2 + room;
}

/* From edge to edge, `aside` to the left of the straight way, with `room` at both ends. */
static struct way way_between(const struct scene *c, int a, int b, double aside, double room)
{
	const struct place *p = &c->place[a], *q = &c->place[b];
	double len = hypot(q->x - p->x, q->y - p->y), dx = (q->x - p->x) / len, dy = (q->y - p->y) / len;
	struct way w = {p->x + aside * dy, p->y - aside * dx, q->x + aside * dy, q->y - aside * dx};
	double left = len;
	for (; left > 1 && is_at(c, a, w.x1, w.y1, room); left--, w.x1 += dx, w.y1 += dy)
		;
	for (; left > 1 && is_at(c, b, w.x2, w.y2, room); left--, w.x2 -= dx, w.y2 -= dy)
		;
	return w;
}

static void draw_link(const struct scene *c, int a, int b)
{
	const struct unit_link *l = units_link(&c->u, a, b);
	struct way w = way_between(c, a, b, 0, 0);
	double rate = fmin(l->there, l->back), t = units_speed(&c->u, rate);
	double many = c->u.n > 16 ? 0.3 : c->u.of_ranks ? 0.55 : 1;
	if (!l->pairs)
		return;
	if (rate <= 0)
		svg_line(c->f, w.x1, w.y1, w.x2, w.y2, FAINT, 2 * many, "5,5");
	else
		svg_line(c->f, w.x1, w.y1, w.x2, w.y2, svg_speed(t).hex, (2 + 7 * t) * many, NULL);
}

/* Of the ring's arrows from the middle of a link. */
static double aside_of(const struct scene *c)
{
	return c->u.of_ranks ? 9 : 13;
}

static void draw_steps(const struct scene *c, int a, int b, int steps)
{
	struct way w = way_between(c, a, b, aside_of(c), 4);
	if (!steps)
		return;
	svg_arrow(c->f, w.x1, w.y1, w.x2, w.y2, ACCENT, c->u.n > 16 ? 1.4 : 2.2);
	if (steps > 1) {
		char text[16];
		snprintf(text, sizeof(text), "%d×", steps);
		svg_label(c->f, w.x1 + 0.4 * (w.x2 - w.x1), w.y1 + 0.4 * (w.y2 - w.y1), 10.5, text, NULL);
	}
}

/* Beside the ring's arrow, to the left of the way from a to b, which is the outside; else on the link. */
static void put_label(const struct scene *c, int a, int b, bool outside, const char *text, const char *second)
{
	struct way w = way_between(c, a, b, 0, 0);
	double len = hypot(w.x2 - w.x1, w.y2 - w.y1), nx = (w.y2 - w.y1) / len, ny = -(w.x2 - w.x1) / len;
	double size = c->u.of_ranks ? 10 : 11.5, along = outside ? 0.5 : a % 2 ? 0.68 : 0.32, lw, lh, off = 0;
	svg_label_size(size, text, second, &lw, &lh);
	if (outside)
		off = aside_of(c) + 5 + fabs(nx) * lw / 2 + fabs(ny) * lh / 2;
	svg_label(c->f, w.x1 + along * (w.x2 - w.x1) + off * nx, w.y1 + along * (w.y2 - w.y1) + off * ny, size, text,
	          second);
}

/* With few cards every link has its figures, with more only those of the ring. */
static void draw_figures(const struct scene *c, int a, int b)
{
	const struct unit_link *l = units_link(&c->u, a, b);
	bool step = l->steps || l->returns;
	char rate[48], latency[40];
	if (!l->pairs || (c->u.n > (c->u.of_ranks ? 3 : 5) && !step) || c->u.n > (c->u.of_ranks ? 8 : 12))
		return;
	rate_text(l->there, l->back, rate, sizeof(rate));
	snprintf(latency, sizeof(latency), "%.3g µs", l->latency * 1e6);
	if (l->there <= 0)
		put_label(c, a, b, step, l->via, NULL);
	else
		put_label(c, l->steps || !step ? a : b, l->steps || !step ? b : a, step, rate, latency);
	if (c->u.n == 2 && l->there > 0)
		put_label(c, b, a, true, l->via, NULL);
}

static void draw_pairs(const struct scene *c, void (*draw)(const struct scene *c, int a, int b))
{
	for (int a = 0; a < c->u.n; a++)
		for (int b = a + 1; b < c->u.n; b++)
			draw(c, a, b);
}

static void draw_ring_between(const struct scene *c, int a, int b)
{
	const struct unit_link *l = units_link(&c->u, a, b);
	if (!c->s->ring)
		return;
	draw_steps(c, a, b, l->steps);
	draw_steps(c, b, a, l->returns);
}

/* Slow links last, so that they are seen. */
static void draw_links(const struct scene *c)
{
	for (int tenth = 10; tenth >= 0; tenth--)
		for (int a = 0; a < c->u.n; a++)
			for (int b = a + 1; b < c->u.n; b++) {
				const struct unit_link *l = units_link(&c->u, a, b);
				if ((int)(10 * units_speed(&c->u, fmin(l->there, l->back))) == tenth)
					draw_link(c, a, b);
			}
}

/* ---- title and legend -------------------------------------------------------------------------------------------- */

static void draw_title(const struct scene *c)
{
	const struct survey *s = c->s;
	char text[160];
	if (s->n > 1)
		snprintf(text, sizeof(text), "%d host%s, %d ranks", s->nhosts, s->nhosts == 1 ? "" : "s", s->n);
	else
		snprintf(text, sizeof(text), "%s", survey_host(s, 0));
	svg_text(c->f, MARGIN, 38, 20, "start", "bold", INK, text);
	bool plain = true;
	for (int i = 0; s->ring && i < s->n; i++)
		plain = plain && s->ring[i] == i;
	if (s->ring && plain)
		snprintf(text, sizeof(text), "The ring goes in the order of ranks; its slowest step has %.3g GB/s.",
		         s->ring_rate * 1e-9);
	else if (s->ring)
		snprintf(text, sizeof(text),
		         "The ring's slowest step has %.3g GB/s; in the order of ranks it would have %.3g.",
		         s->ring_rate * 1e-9, s->plain_rate * 1e-9);
	else if (s->n > 1)
		snprintf(text, sizeof(text), "Links were not measured.");
	else
		snprintf(text, sizeof(text), "%.90s", s->machine[0]->cpu[0] ? s->machine[0]->cpu : s->machine[0]->arch);
	svg_text(c->f, MARGIN, 58, 12, "start", "normal", SOFT, text);
}

/* A square and its meaning; where the next one stands. */
static double draw_meaning(const struct scene *c, double x, double y, const char *fill, const char *edge,
                           const char *text)
{
	svg_box(c->f, x, y - 8, 10, 10, 2, fill, edge);
	svg_text(c->f, x + 16, y + 1, 11, "start", "normal", SOFT, text);
	return x + 16 + svg_width(text, 11) + 18;
}

static void draw_legend(const struct scene *c)
{
	double y = c->height - FOOT + 26, x = MARGIN;
	char least[32], most[32];
	if (c->u.fastest > 0) {
		snprintf(least, sizeof(least), "%.2g", fmin(c->u.slowest, c->u.fastest / 4) * 1e-9);
		snprintf(most, sizeof(most), "%.3g GB/s", c->u.fastest * 1e-9);
		svg_scale(c->f, x, y - 8, least, most);
		x += 200;
	}
	if (c->s->ring) {
		svg_arrow(c->f, x, y - 3, x + 40, y - 3, ACCENT, 2.2);
		svg_text(c->f, x + 48, y + 1, 11, "start", "normal", SOFT, "ring");
		x += 100;
	}
	x = draw_meaning(c, x, y, BOXES_CORE, NULL, "core");
	if (kinds_of_cores(c->s) > 1)
		x = draw_meaning(c, x, y, BOXES_THRIFTY, NULL, "efficiency core");
	if (kinds_of_cores(c->s) > 2)
		x = draw_meaning(c, x, y, BOXES_THRIFTIEST, NULL, "low-power core");
	draw_meaning(c, x, y, BOXES_IDLE, FAINT, "core that is not used");
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void draw_all(struct scene *c, struct place *host)
{
	svg_begin(c->f, c->width, c->height);
	draw_title(c);
	draw_links(c);
	if (host)
		draw_card(c, 0, host);
	for (int i = 0; i < c->u.n && !(host && c->s->n == 1); i++)
		(host ? draw_rank : draw_card)(c, i, &c->place[i]);
	draw_pairs(c, draw_ring_between);
	draw_pairs(c, draw_figures);
	draw_legend(c);
	svg_end(c->f);
}

static void set_out(struct scene *c)
{
	/* room at the sides for labels, which stand outside */
	double w = 0, h = 0, hw = 0, hh = 0, side = c->u.n > 1 && c->u.of_ranks ? 64 : c->u.n > 2 ? 30 : 10;
	struct place host = {0};
	for (int i = 0; i < c->u.n; i++) {
		struct place *p = &c->place[i];
		size_card(c, i, &p->w, &p->h);
		hw = p->w;
		hh = p->h;
		if (c->u.of_ranks)
			p->w = p->h = 34;
	}
	if (c->u.of_ranks)
		host = (struct place){MARGIN + hw / 2, 0, hw, hh};
	if (c->u.n > 1) {
		spread_out(c, c->u.of_ranks ? 56 : c->u.n == 2 ? 180 : c->u.n <= 5 ? 110 : 76);
		move_to(c, MARGIN + (c->u.of_ranks ? hw + 2 * side : side), HEAD + side / 2, &w, &h);
	}
	/* the machine and the circle stand beside each other, their middles on one line */
	double tallest = fmax(h, hh);
	for (int i = 0; c->u.of_ranks && i < c->u.n; i++)
		c->place[i].y += (tallest - h) / 2;
	host.y = HEAD + side / 2 + tallest / 2;
	c->width = fmax(2 * MARGIN + w + (c->u.of_ranks ? hw + (w > 0 ? 3 * side : 0) : 2 * side),
	                kinds_of_cores(c->s) > 2   ? 820
	                : kinds_of_cores(c->s) > 1 ? 700
	                                           : 620);
	c->height = HEAD + side + (c->u.of_ranks ? tallest : h) + FOOT;
	draw_all(c, c->u.of_ranks ? &host : NULL);
}

static bool ends_in(const char *path, const char *end)
{
	size_t n = strlen(path), k = strlen(end);
	return n > k && strcmp(path + n - k, end) == 0;
}

static int draw_units(struct scene *c, bool dot)
{
	int rc = units_make(&c->u, c->s);
	c->place = rc ? NULL : calloc((size_t)c->u.n, sizeof(*c->place));
	if (!rc && !c->place)
		rc = fail(TUTTI_ENOMEM, "out of memory");
	if (!rc && dot)
		dot_draw(c->f, c->s, &c->u);
	else if (!rc)
		set_out(c);
	free(c->place);
	units_free(&c->u);
	return rc;
}

int draw_write(const struct survey *s, const char *path)
{
	bool dot = ends_in(path, ".dot");
	if (!dot && !ends_in(path, ".svg"))
		return fail(TUTTI_EINVAL, "--draw %s: the name of the file must end in .svg or .dot", path);
	struct scene c = {.f = fopen(path, "we"), .s = s};
	if (!c.f)
		return fail_errno("can't write %s", path);
	int rc = draw_units(&c, dot);
	if (fclose(c.f) != 0 && !rc)
		rc = fail_errno("can't write %s", path);
	return rc;
}
