/* SPDX-License-Identifier: MIT */
/* DOT; see dot.h. */
#include "dot.h"
#include "svg.h"

#include <math.h>

/* A text inside of a label of HTML. */
static void escaped(FILE *f, const char *text)
{
	for (; *text; text++)
		if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
			fprintf(f, "&#%d;", *text);
		else if ((unsigned char)*text >= ' ')
			fputc(*text, f);
}

static int cores_of(const struct machine *m, uint32_t at)
{
	int n = 0;
	for (uint32_t i = at; i < m->node[at].end; i++)
		n += m->node[i].level == (m->cores ? MACHINE_CORE : MACHINE_THREAD);
	return n;
}

static double memory_of(const struct machine *m, uint32_t at, int *nodes)
{
	double bytes = 0;
	*nodes = 0;
	for (uint32_t i = at; i < m->node[at].end; i++)
		if (m->node[i].level == MACHINE_MEMORY) {
			bytes += (double)m->node[i].bytes;
			++*nodes;
		}
	return bytes;
}

static void draw_package(FILE *f, const struct machine *m, uint32_t at, int number)
{
	int nodes;
	double memory = memory_of(m, at, &nodes) / (1 << 30);
	fputs("<TD BORDER=\"1\" COLOR=\"" FAINT "\" BGCOLOR=\"" PAPER "\"><FONT POINT-SIZE=\"9\">", f);
	if (number >= 0)
		fprintf(f, "package %d<BR/>", number);
	fprintf(f, "%d cores<BR/>%d NUMA node%s<BR/>%.3g GiB</FONT></TD>", cores_of(m, at), nodes,
	        nodes == 1 ? "" : "s", memory);
}

static void draw_devices(FILE *f, const struct machine *m)
{
	fprintf(f, "<TR><TD COLSPAN=\"%u\"><FONT POINT-SIZE=\"9\" COLOR=\"" SOFT "\">", m->packages ? m->packages : 1);
	for (uint32_t d = 0; d < m->ndevices; d++) {
		fputs(d % 4 == 0 && d ? "<BR/>" : d ? ", " : "", f);
		escaped(f, m->device[d].name);
	}
	fputs("</FONT></TD></TR>", f);
}

/* A host is a table: its name, its ranks, its packages, its devices. */
static void draw_host(FILE *f, const struct survey *s, const struct units *u, int i)
{
	const struct machine *m = s->machine[u->unit[i].host];
	char name[160], ranks[80];
	units_name(u, s, i, name, sizeof(name));
	units_ranks(u, s, i, ranks, sizeof(ranks));
	fprintf(f,
	        "<<TABLE BORDER=\"1\" CELLBORDER=\"0\" CELLSPACING=\"4\" STYLE=\"ROUNDED\" COLOR=\"#9aa5b1\" BGCOLOR=\"" CARD
	        "\"><TR><TD COLSPAN=\"%u\"><B>",
	        m->packages ? m->packages : 1);
	if (u->unit[i].hosts > 1)
		fprintf(f, "%d hosts: ", u->unit[i].hosts);
	escaped(f, name);
	fprintf(f, "</B><BR/><FONT POINT-SIZE=\"10\" COLOR=\"" SOFT "\">%s</FONT></TD></TR><TR>", ranks);
	for (uint32_t at = 0; at < m->nnodes; at++)
		if (m->node[at].level == MACHINE_PACKAGE)
			draw_package(f, m, at, m->node[at].os);
	if (!m->packages)
		draw_package(f, m, 0, -1);
	fputs("</TR>", f);
	if (m->ndevices)
		draw_devices(f, m);
	fputs("</TABLE>>", f);
}

/* Figures only of the ring where there are many links. */
static void draw_link(FILE *f, const struct units *u, int a, int b)
{
	const struct unit_link *l = units_link(u, a, b);
	double rate = fmin(l->there, l->back), t = units_speed(u, rate);
	if (!l->pairs)
		return;
	fprintf(f, "  u%d -> u%d [dir=none, ", a, b);
	if (rate > 0)
		fprintf(f, "color=\"%s\", penwidth=%.1f", svg_speed(t).hex, 1 + 5 * t);
	else
		fprintf(f, "style=dashed, color=\"" FAINT "\", label=\"%s\"", l->via);
	if (rate > 0 && (u->n <= 4 || l->steps || l->returns))
		fprintf(f, ", label=\"%.3g GB/s\\n%.3g us\"", rate * 1e-9, l->latency * 1e6);
	fputs("];\n", f);
}

/* Nodes stand in a circle, clockwise in the order of the ring, from the top; two stand side by side. */
static void draw_node(FILE *f, const struct survey *s, const struct units *u, int i)
{
	double radius = fmax(u->of_ranks ? 1.4 : 2.3, u->n * (u->of_ranks ? 0.25 : 0.6));
	double angle = (u->n == 2 ? M_PI : M_PI / 2) - 2 * M_PI * i / u->n;
	fprintf(f, "  u%d [pos=\"%.2f,%.2f!\", label=", i, 1.2 * radius * cos(angle), radius * sin(angle));
	if (u->of_ranks)
		fprintf(f, "\"%d\"];\n", u->unit[i].rank);
	else
		draw_host(f, s, u, i);
	fputs(u->of_ranks ? "" : "];\n", f);
}

void dot_draw(FILE *f, const struct survey *s, const struct units *u)
{
	fprintf(f,
	        "digraph tutti {\n  layout=neato; splines=true; outputorder=edgesfirst;\n"
	        "  node [shape=%s, style=filled, fillcolor=\"" CARD "\", color=\"#9aa5b1\", fontname=Helvetica];\n"
	        "  edge [fontname=Helvetica, fontsize=10];\n",
	        u->of_ranks ? "circle" : "plain");
	for (int i = 0; i < u->n; i++)
		draw_node(f, s, u, i);
	for (int a = 0; a < u->n; a++)
		for (int b = a + 1; b < u->n; b++)
			draw_link(f, u, a, b);
	for (int a = 0; s->ring && a < u->n; a++)
		for (int b = 0; b < u->n; b++) {
			const struct unit_link *l = units_link(u, a, b);
			if (a != b && (a < b ? l->steps : l->returns))
				fprintf(f, "  u%d -> u%d [color=\"" ACCENT "\", penwidth=2];\n", a, b);
		}
	fputs("}\n", f);
}
