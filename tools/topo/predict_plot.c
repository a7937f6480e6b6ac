/* SPDX-License-Identifier: MIT */
/* The picture of --predict, by gnuplot: see predict.h. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h"
#include "predict.h"

/* In gnuplot's single quotes a quote is written twice. */
static void quoted(FILE *f, const char *text)
{
	fputc('\'', f);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', f);
		fputc(*text, f);
	}
	fputc('\'', f);
}

static void write_data(FILE *f, const struct prediction *p)
{
	fprintf(f, "$rows << END\n");
	for (int r = 0; r < p->nrows; r++) {
		fprintf(f, "%zu", p->rows[r].at);
		for (int i = 0; i < p->nalgos; i++)
			fprintf(f, " %.9g", p->rows[r].seconds[i] * 1e6); /* NaN: a gap */
		fprintf(f, "\n");
	}
	fprintf(f, "END\n$chosen << END\n");
	for (int r = 0; r < p->nrows; r++)
		if (p->rows[r].chosen >= 0 && !isnan(p->rows[r].seconds[p->rows[r].chosen]))
			fprintf(f, "%zu %.9g\n", p->rows[r].at, p->rows[r].seconds[p->rows[r].chosen] * 1e6);
	fprintf(f, "END\n");
}

/* Each crossover is a thin line from top to bottom. */
static void write_crossovers(FILE *f, const struct prediction *p)
{
	for (int i = 0; i < p->ncross; i++)
		fprintf(f, "set arrow from %zu, graph 0 to %zu, graph 1 nohead dt 3 lc rgb '#888888' back\n",
		        p->cross[i].at, p->cross[i].at);
}

static void write_script(FILE *f, const struct prediction *p, const char *file)
{
	fprintf(f, "set terminal svg size 800,520 font 'sans-serif,13' background rgb 'white'\nset output ");
	quoted(f, file);
	fprintf(f, "\nset title ");
	quoted(f, p->title);
	fprintf(f,
	        " noenhanced\nset logscale y\nset logscale x 2\nset grid\nset key outside right noenhanced\n"
	        "set xlabel '%s'\nset ylabel 'microseconds, simulated'\nset format y '%%g'\nset datafile missing 'nan'\n",
	        p->asked->ranks ? "ranks" : "bytes of the larger buffer");
	fprintf(f, "set format x '%s'\n", p->asked->ranks ? "%g" : "%.0b%BB");
	write_data(f, p);
	write_crossovers(f, p);
	fprintf(f, "plot ");
	for (int i = 0; i < p->nalgos; i++) {
		fprintf(f, "$rows using 1:%d with linespoints lw 2 pt 7 ps 0.4 title ", i + 2);
		quoted(f, p->algo[i]->name);
		fprintf(f, ", ");
	}
	fprintf(f, "$chosen using 1:2 with points pt 6 ps 1.4 lw 2 lc rgb 'black' title 'would be chosen'\n");
}

int predict_plot(const struct prediction *p, const char *file)
{
	/* popen's child would only say that to the user's terminal */
	if (system("command -v gnuplot >/dev/null 2>&1") != 0)
		return fail(TUTTI_ESYSTEM, "--plot: gnuplot was not found in the PATH; install it");
	void (*was)(int) = signal(SIGPIPE, SIG_IGN);
	FILE *f = popen("gnuplot", "w");
	int rc = f ? TUTTI_OK : fail(TUTTI_ESYSTEM, "--plot: can't start gnuplot: %s", strerror(errno));
	if (f) {
		write_script(f, p, file);
		if (pclose(f) != 0)
			rc = fail(TUTTI_ESYSTEM, "--plot %s: gnuplot could not draw it", file);
	}
	signal(SIGPIPE, was);
	return rc;
}
