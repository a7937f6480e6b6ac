/* SPDX-License-Identifier: MIT */
/*
 * Heat maps: a cell for each pair, latency and bandwidth side by side; below them the same of all pairs at once, in the
 * same colours, so that what pairs share shows. Cells contain figures if these fit. A value taken from others of its
 * class has a smaller cell.
 */
#include "../../src/util/error.h"
#include "draw.h"
#include "svg.h"

#include <math.h>
#include <string.h>

#define MARGIN  44.0
#define HEAD    92.0
#define BETWEEN 62.0
#define FOOT    56.0
#define FIGURES 24 /* ranks */

/* A column of maps with one scale. */
struct map {
	FILE *f;
	const struct survey *s;
	const double *alone, *busy; /* busy NULL: no second map */
	double unit, least, most, side;
	bool less_is_better;
	const char *title, *what, *name;
};

static void widen(struct map *m, const double *value)
{
	int n = m->s->n;
	for (int i = 0; value && i < n; i++)
		for (int j = 0; j < n; j++)
			if (i != j) {
				m->least = fmin(m->least, value[i * n + j] * m->unit);
				m->most = fmax(m->most, value[i * n + j] * m->unit);
			}
}

/* The ends of the scale; values that differ little look alike, as good as the best. */
static void find_range(struct map *m)
{
	m->least = INFINITY;
	m->most = 0;
	widen(m, m->alone);
	widen(m, m->busy);
	if (m->less_is_better)
		m->most = fmax(m->most, 4 * m->least);
	else
		m->least = fmin(m->least, m->most / 4);
}

static struct colour colour_of(const struct map *m, double v)
{
	double t = log(v / m->least) / log(m->most / m->least);
	return svg_speed(m->less_is_better ? 1 - t : t);
}

/* At most four characters wide. */
static void figure(double v, char *buf, size_t cap)
{
	static const struct {
		double below, unit;
		int decimals;
		const char *name;
	} forms[] = {{9.995, 1, 2, ""},
	             {99.95, 1, 1, ""},
	             {9999.5, 1, 0, ""},
	             {999500, 1e3, 0, "k"},
	             {INFINITY, 1e6, 0, "M"}};
	int i = 0;
	if (v > 0 && v < 0.00995) {
		snprintf(buf, cap, ".%03.0f", fmax(v * 1e3, 1));
		return;
	}
	while (v >= forms[i].below)
		i++;
	snprintf(buf, cap, "%.*f%s", forms[i].decimals, v / forms[i].unit, forms[i].name);
}

static void draw_cell(const struct map *m, double x, double y, double v, bool measured)
{
	char text[24];
	double gap = m->s->n > 64 ? 0 : 1, inset = measured ? 0 : m->side / 6;
	struct colour c = colour_of(m, v);
	svg_box(m->f, x + inset, y + inset, m->side - gap - 2 * inset, m->side - gap - 2 * inset, 0, c.hex, NULL);
	if (m->s->n > FIGURES)
		return;
	figure(v, text, sizeof(text));
	svg_text(m->f, x + m->side / 2, y + m->side / 2 + 3.5,
	         measured       ? 10.5
	         : m->side > 30 ? 9
	                        : 7.5,
	         "middle", "normal", svg_ink_on(c), text);
}

static void draw_cells(const struct map *m, const double *value, double x, double y)
{
	const struct survey *s = m->s;
	for (int i = 0; i < s->n; i++)
		for (int j = 0; j < s->n; j++) {
			double cx = x + j * m->side, cy = y + i * m->side, gap = s->n > 64 ? 0 : 1;
			bool measured = value == m->busy ? survey_busy_measured(s, i, j) : survey_measured(s, i, j);
			if (i == j)
				svg_box(m->f, cx, cy, m->side - gap, m->side - gap, 0, "#eceff2", NULL);
			else
				draw_cell(m, cx, cy, value[i * s->n + j] * m->unit, measured);
		}
}

/* Numbers of ranks at the edges, and the lines between hosts. */
static void draw_edges(const struct map *m, double x, double y)
{
	int n = m->s->n, step = n <= 32 ? 1 : n <= 64 ? 4 : n / 16;
	double all = n * m->side;
	for (int i = 0; i < n; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%d", i);
		if (i % step == 0) {
			svg_text(m->f, x - 6, y + (i + 0.5) * m->side + 3.5, 10, "end", "normal", SOFT, text);
			svg_text(m->f, x + (i + 0.5) * m->side, y - 6, 10, "middle", "normal", SOFT, text);
		}
		if (i && n <= 64 && m->s->rank[i].host != m->s->rank[i - 1].host && m->s->nhosts < n) {
			svg_line(m->f, x, y + i * m->side - 0.5, x + all, y + i * m->side - 0.5, INK, 1, NULL);
			svg_line(m->f, x + i * m->side - 0.5, y, x + i * m->side - 0.5, y + all, INK, 1, NULL);
		}
	}
}

static void draw_map(const struct map *m, const double *value, double x, double y, const char *how)
{
	char title[96];
	snprintf(title, sizeof(title), "%s%s, %s", m->title, how, m->what);
	svg_text(m->f, x, y - 30, 13, "start", "bold", INK, title);
	draw_cells(m, value, x, y);
	draw_edges(m, x, y);
}

static void draw_column(struct map *m, double x)
{
	char least[48], most[48], number[24];
	double all = m->s->n * m->side, below = HEAD;
	find_range(m);
	draw_map(m, m->alone, x, HEAD, m->busy ? " alone" : "");
	if (m->busy)
		draw_map(m, m->busy, x, below = HEAD + all + BETWEEN, " of all at once");
	figure(m->less_is_better ? m->most : m->least, number, sizeof(number));
	snprintf(least, sizeof(least), "%s", number);
	figure(m->less_is_better ? m->least : m->most, number, sizeof(number));
	snprintf(most, sizeof(most), "%s %s", number, m->name);
	svg_scale(m->f, x, below + all + 14, least, most);
}

static double side_of(int n)
{
	return n <= 4 ? 60 : n <= 12 ? 40 : n <= FIGURES ? 30 : fmax(480.0 / n, 2);
}

int heat_write(const struct survey *s, const char *path)
{
	size_t len = strlen(path);
	if (!s->latency)
		return fail(TUTTI_EINVAL, "--heat %s: nothing was measured: it needs two ranks at least", path);
	if (len < 5 || strcmp(path + len - 4, ".svg") != 0)
		return fail(TUTTI_EINVAL, "--heat %s: the name of the file must end in .svg", path);
	FILE *f = fopen(path, "we");
	if (!f)
		return fail_errno("can't write %s", path);
	double side = side_of(s->n), all = s->n * side;
	struct map late = {.f = f,
	                   .s = s,
	                   .alone = s->latency,
	                   .busy = s->busy.latency,
	                   .unit = 1e6,
	                   .side = side,
	                   .less_is_better = true,
	                   .title = "Latency",
	                   .what = "µs: half a round trip of 8 bytes",
	                   .name = "µs"};
	struct map fast = {.f = f,
	                   .s = s,
	                   .alone = s->bandwidth,
	                   .busy = s->busy.bandwidth,
	                   .unit = 1e-9,
	                   .side = side,
	                   .title = "Bandwidth",
	                   .what = "GB/s: 1 MiB, row to column",
	                   .name = "GB/s"};
	double width = fmax(all, svg_width("Bandwidth of all at once, GB/s: 1 MiB, row to column", 13));
	svg_begin(f, 3 * MARGIN + 2 * width, HEAD + all + (late.busy ? BETWEEN + all : 0) + FOOT);
	char title[120];
	snprintf(title, sizeof(title), "%d ranks on %d host%s%s", s->n, s->nhosts, s->nhosts == 1 ? "" : "s",
	         s->measured || s->busy.measured ? "; small cells: as others of their class" : "");
	svg_text(f, MARGIN, 34, 18, "start", "bold", INK, title);
	draw_column(&late, MARGIN);
	draw_column(&fast, 2 * MARGIN + width);
	svg_end(f);
	return fclose(f) == 0 ? TUTTI_OK : fail_errno("can't write %s", path);
}
