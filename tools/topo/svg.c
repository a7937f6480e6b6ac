/* SPDX-License-Identifier: MIT */
/* Shapes of SVG; see svg.h. */
#include "svg.h"

#include <math.h>
#include <string.h>

#define FONT "font-family=\"Inter, 'DejaVu Sans', Helvetica, Arial, sans-serif\""

/* ---- colours ----------------------------------------------------------------------------------------------------- */

struct colour svg_speed(double t)
{
	static const double stop[][3] = {{243, 158, 45}, {232, 98, 86}, {184, 60, 131}, {113, 40, 152}, {28, 42, 120}};
	const int last = (int)(sizeof(stop) / sizeof(stop[0])) - 1;
	struct colour c;
	t = t < 0 || isnan(t) ? 0 : t > 1 ? 1 : t;
	int i = (int)(t * last) < last ? (int)(t * last) : last - 1;
	double part = t * last - i, rgb[3];
	for (int k = 0; k < 3; k++)
		rgb[k] = stop[i][k] + part * (stop[i + 1][k] - stop[i][k]);
	snprintf(c.hex, sizeof(c.hex), "#%02x%02x%02x", (unsigned)rgb[0] & 255, (unsigned)rgb[1] & 255,
	         (unsigned)rgb[2] & 255);
	return c;
}

const char *svg_ink_on(struct colour c)
{
	unsigned r, g, b;
	if (sscanf(c.hex, "#%2x%2x%2x", &r, &g, &b) != 3)
		return INK;
	return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? INK : PAPER;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

void svg_begin(FILE *f, double width, double height)
{
	fprintf(f,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" " FONT
	        ">\n<rect width=\"100%%\" height=\"100%%\" fill=\"" PAPER "\"/>\n",
	        width, height, width, height);
}

void svg_end(FILE *f)
{
	fputs("</svg>\n", f);
}

void svg_box(FILE *f, double x, double y, double w, double h, double round, const char *fill, const char *stroke)
{
	fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%.1f\" fill=\"%s\"", x, y, w, h,
	        round, fill);
	if (stroke)
		fprintf(f, " stroke=\"%s\"", stroke);
	fputs("/>\n", f);
}

void svg_dot(FILE *f, double x, double y, double r, const char *fill, const char *stroke)
{
	fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" stroke=\"%s\"/>\n", x, y, r, fill, stroke);
}

void svg_line(FILE *f, double x1, double y1, double x2, double y2, const char *stroke, double width, const char *dash)
{
	fprintf(f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%.1f\"", x1, y1,
	        x2, y2, stroke, width);
	if (dash)
		fprintf(f, " stroke-dasharray=\"%s\"", dash);
	fputs(" stroke-linecap=\"round\"/>\n", f);
}

void svg_arrow(FILE *f, double x1, double y1, double x2, double y2, const char *stroke, double width)
{
	double len = hypot(x2 - x1, y2 - y1), dx = (x2 - x1) / len, dy = (y2 - y1) / len, head = 5 * width;
	double bx = x2 - head * dx, by = y2 - head * dy, half = head * 0.45;
	if (len < head)
		return;
	svg_line(f, x1, y1, bx, by, stroke, width, NULL);
	fprintf(f, "<polygon points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\" fill=\"%s\"/>\n", x2, y2, bx - half * dy,
	        by + half * dx, bx + half * dy, by - half * dx, stroke);
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

static void escaped(FILE *f, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '&':
			fputs("&amp;", f);
			break;
		default:
			if ((unsigned char)*text >= ' ')
				fputc(*text, f);
		}
}

void svg_text(FILE *f, double x, double y, double size, const char *anchor, const char *weight, const char *fill,
              const char *text)
{
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.1f\" text-anchor=\"%s\" font-weight=\"%s\" fill=\"%s\">",
	        x, y, size, anchor, weight, fill);
	escaped(f, text);
	fputs("</text>\n", f);
}

double svg_width(const char *text, double size)
{
	size_t letters = 0;
	for (; *text; text++)
		letters += ((unsigned char)*text & 0xc0) != 0x80; /* UTF-8 goes on */
	return 0.6 * size * (double)letters;
}

void svg_label_size(double size, const char *text, const char *second, double *w, double *h)
{
	double a = svg_width(text, size), b = second ? svg_width(second, size) : 0;
	*w = (a > b ? a : b) + 6;
	*h = (second ? 2.3 : 1.2) * size + 4;
}

void svg_label(FILE *f, double x, double y, double size, const char *text, const char *second)
{
	double w, h;
	svg_label_size(size, text, second, &w, &h);
	svg_box(f, x - w / 2, y - h / 2, w, h, 4, PAPER, NULL);
	svg_text(f, x, y + (second ? -0.2 : 0.36) * size, size, "middle", "normal", INK, text);
	if (second)
		svg_text(f, x, y + 0.95 * size, size, "middle", "normal", SOFT, second);
}

void svg_scale(FILE *f, double x, double y, const char *least, const char *most)
{
	for (int i = 0; i < 32; i++)
		svg_box(f, x + 5 * i, y, 5.5, 10, 0, svg_speed(i / 31.0).hex, NULL);
	svg_text(f, x, y + 24, 11, "start", "normal", SOFT, least);
	svg_text(f, x + 160, y + 24, 11, "end", "normal", SOFT, most);
}
