/* DOT; see dot.h. */
#include "dot.h"
#include "svg.h"

#include <math.h>

/* A text in quotes, as DOT wants it. */
static void quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		if ((unsigned char)*text >= ' ')
			fputc(*text, f);
	}
	fputc('"', f);
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

static void draw_package(FILE *f, const struct machine *m, int unit, uint32_t at, int number)
{
	int nodes;
	double memory = memory_of(m, at, &nodes) / (1 << 30);
	fprintf(f, "    u%d_p%d [label=\"%s%s%d cores\\n%d NUMA node%s, %.3g GiB\"];\n", unit, number,
	        m->node[at].level == MACHINE_PACKAGE ? "package" : "",
	        m->node[at].level == MACHINE_PACKAGE ? "\\n" : "", cores_of(m, at), nodes, nodes == 1 ? "" : "s",
	        memory);
}

static void draw_host(FILE *f, const struct survey *s, const struct units *u, int i)
{
	const struct machine *m = s->machine[u->unit[i].host];
	char name[160], ranks[80];
	int packages = 0;
	units_name(u, s, i, name, sizeof(name));
	units_ranks(u, s, i, ranks, sizeof(ranks));
	fprintf(f, "  subgraph cluster_%d {\n    label=", i);
	quoted(f, name);
	fprintf(f, ";\n    u%d [shape=plaintext, label=", i);
	quoted(f, ranks);
	fputs("];\n", f);
	for (uint32_t at = 0; at < m->nnodes; at++)
		if (m->node[at].level == MACHINE_PACKAGE)
			draw_package(f, m, i, at, packages++);
	if (!packages)
		draw_package(f, m, i, 0, packages++);
	for (uint32_t d = 0; d < m->ndevices; d++) {
		fprintf(f, "    u%d_d%u [shape=ellipse, label=", i, d);
		quoted(f, m->device[d].name);
		fprintf(f, "];\n    u%d -> u%d_d%u [style=invis];\n", i, i, d);
	}
	for (int p = 0; p < packages; p++)
		fprintf(f, "    u%d -> u%d_p%d [style=invis];\n", i, i, p);
	fputs("  }\n", f);
}

static void draw_link(FILE *f, const struct units *u, int a, int b)
{
	const struct unit_link *l = units_link(u, a, b);
	double rate = fmin(l->there, l->back), t = units_speed(u, rate);
	if (!l->pairs)
		return;
	fprintf(f, "  u%d -> u%d [dir=none, constraint=false, ", a, b);
	if (rate > 0)
		fprintf(f, "color=\"%s\", penwidth=%.1f, label=\"%.3g GB/s\\n%.3g us\"];\n", svg_speed(t).hex,
		        1 + 5 * t, rate * 1e-9, l->latency * 1e6);
	else
		fprintf(f, "style=dashed, color=\"" FAINT "\", label=\"%s\"];\n", l->via);
}

void dot_draw(FILE *f, const struct survey *s, const struct units *u)
{
	fputs("digraph tutti {\n  layout=dot; rankdir=TB; nodesep=0.5; ranksep=0.9; compound=true;\n"
	      "  node [shape=box, style=\"rounded,filled\", fillcolor=\"" CARD
	      "\", color=\"#9aa5b1\", fontname=Helvetica];\n"
	      "  edge [fontname=Helvetica, fontsize=10];\n  graph [fontname=Helvetica, color=\"#9aa5b1\"];\n",
	      f);
	for (int i = 0; i < u->n; i++) {
		if (!u->of_ranks)
			draw_host(f, s, u, i);
		else
			fprintf(f, "  u%d [label=\"rank %d\"];\n", i, u->unit[i].rank);
	}
	for (int a = 0; a < u->n; a++)
		for (int b = a + 1; b < u->n; b++)
			draw_link(f, u, a, b);
	for (int a = 0; s->ring && a < u->n; a++)
		for (int b = 0; b < u->n; b++) {
			const struct unit_link *l = units_link(u, a, b);
			if (a != b && (a < b ? l->steps : l->returns))
				fprintf(f, "  u%d -> u%d [color=\"" ACCENT "\", penwidth=2, style=bold];\n", a, b);
		}
	fputs("}\n", f);
}
