/* SPDX-License-Identifier: MIT */
/* Products: see products.h. */
#include "products.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "profile.h"

enum { ROW_MAJOR = 101, AS_IS = 111, TRANSPOSED = 112 };

/* Multiply-adds between two calls of `between`: a few milliseconds of one core. */
#define PANEL_WORK 2e8

static struct {
	pthread_mutex_t lock;
	bool tried;
	sgemm_fn *sgemm;
} blas = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void load(int n)
{
	char threads[16];
	void *lib;

	/* else it starts one for each core when it is loaded, and ends never where these find no memory */
	snprintf(threads, sizeof(threads), "%d", n);
	setenv("OPENBLAS_NUM_THREADS", threads, 1);
	lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return;
	*(void **)&blas.sgemm = dlsym(lib, "cblas_sgemm");
}

int compute_open(struct compute *c, int threads, struct problem *why)
{
	*c = (struct compute){.loops = loops_best(), .few = 32};
	if (threads == 0)
		return 0;
	pthread_mutex_lock(&blas.lock);
	if (!blas.tried)
		load(threads);
	blas.tried = true;
	pthread_mutex_unlock(&blas.lock);
	if (!blas.sgemm)
		return problem(
		        why,
		        "libopenblas.so.0 can't be loaded (Debian: apt install libopenblas0-pthread): prefill uses plain loops, which are many times slower");
	c->sgemm = blas.sgemm;
	return 0;
}

void compute_close(struct compute *c)
{
	free(c->panel);
	c->panel = NULL;
}

/* Rows [from, from + rows) of w as f32, by way of the panel. NULL: out of memory. */
static const float *rows_of(struct compute *c, const struct matrix *w, int from, int rows)
{
	size_t at = (size_t)from * w->cols, n = (size_t)rows * w->cols;

	if (w->type == ELEMENT_F32)
		return (const float *)w->at + at;
	if (n > c->panel_floats) {
		free(c->panel);
		c->panel = aligned_alloc(4096, (n * 4 + 4095) & ~(size_t)4095);
		c->panel_floats = c->panel ? n : 0;
		if (!c->panel)
			return NULL;
	}
	c->loops->widen(w->type, (const uint16_t *)w->at + at, n, c->panel);
	return c->panel;
}

static void by_loops(struct compute *c, const struct matrix *w, int from, int rows, const float *x, size_t ldx, int n,
                     float *y, size_t ldy)
{
	const char *at = (const char *)w->at + (size_t)from * w->cols * element_size(w->type);

	c->loops->dots(w->type, at, (size_t)w->cols, rows, w->cols, x, ldx, n, y + from, ldy);
}

static int panel_rows(const struct matrix *w, int n)
{
	double rows = PANEL_WORK / ((double)w->cols * n);

	return rows < 64 ? 64 : rows < w->rows ? (int)rows & ~15 : w->rows;
}

/*
 * Sleeps as long as the product would take. What a sleep takes too long is taken from the next ones; what is asked of the
 * communicator meanwhile moves by its own thread or not at all.
 */
static void sleep_instead(struct compute *c, double seconds)
{
	double begin = seconds_now(), asked;

	c->owed += seconds;
	asked = c->owed > 20e-6 ? c->owed : 0; /* the shortest sleep that is one */
	if (asked > 0)
		nanosleep(&(struct timespec){(time_t)asked, (long)((asked - (double)(time_t)asked) * 1e9)}, NULL);
	c->owed -= seconds_now() - begin;
}

void product(struct compute *c, const struct matrix *w, const float *x, size_t ldx, int n, float *y, size_t ldy)
{
	int step;

	if (w->rows == 0 || n == 0)
		return;
	c->weights += (double)w->rows * w->cols;
	if (c->pretend > 0) {
		sleep_instead(c, (double)w->rows * w->cols * c->pretend);
		return;
	}
	step = n > c->few || c->between ? panel_rows(w, n) : w->rows;
	for (int from = 0; from < w->rows; from += step) {
		int rows = w->rows - from < step ? w->rows - from : step;
		const float *panel = c->sgemm && n > c->few && w->cols > 0 ? rows_of(c, w, from, rows) : NULL;

		if (panel)
			c->sgemm(ROW_MAJOR, AS_IS, TRANSPOSED, n, rows, w->cols, 1, x, (int)ldx, panel, w->cols, 0,
			         y + from, (int)ldy);
		else
			by_loops(c, w, from, rows, x, ldx, n, y, ldy);
		if (c->between)
			c->between(c->arg);
	}
}
