/* SPDX-License-Identifier: MIT */
/* Tables and JSON: see report.h. */
#include "report.h"

#include <jansson.h>
#include <string.h>

static const char *const phase_name[PHASES] = {"prefill", "decode"};
static const char *const section_name[SECTIONS] = {"products", "attention", "norm", "all-reduce", "other"};

/* All-reduces of a step, per token. */
static double calls_per_token(const struct results *r, int phase)
{
	return (2.0 * r->c->layers + 1) / (phase == PREFILL ? r->s->prompt : r->s->batch);
}

static double rate(double seconds)
{
	return seconds > 0 ? 1 / seconds : 0;
}

/* Tokens per second if ranks computed as fast as without communication, and each all-reduce took `reduce`. */
static double predicted(const struct results *r, int phase, double reduce)
{
	return rate(r->typical[WAY_SILENT][phase].seconds + reduce * calls_per_token(r, phase));
}

/* A quotient, or blanks where there is nothing to divide. */
static void print_ratio(double a, double b)
{
	if (a > 0 && b > 0)
		printf(" %9.3f", a / b);
	else
		printf(" %9s", "-");
}

static void print_rate(double v)
{
	if (v > 0)
		printf(" %9.*f", v < 100 ? 2 : v < 10000 ? 1 : 0, v);
	else
		printf(" %9s", "-");
}

static void print_head(const struct results *r)
{
	const struct config *c = r->c;

	printf("# %s: %d layer%s, hidden %d, %d heads of %d (%d for keys and values), MLP %d, %s weights\n", r->s->dir,
	       c->layers, c->layers > 1 ? "s" : "", c->hidden, c->heads, c->head_dim, c->kv_heads, c->mlp, r->type);
	printf("# %d rank%s%s, shares %s; products: %s%s%s; prompt %d, batch %d, %d tokens each, %d rounds, pieces %d\n",
	       r->ranks, r->ranks > 1 ? "s" : "", r->s->ranks > 1 ? " in threads" : "",
	       r->s->shares ? r->s->shares : "equal", r->compute->loops->name, r->compute->sgemm ? ", OpenBLAS" : "",
	       r->s->pretend ? "; PRODUCTS ARE SLEPT, for as long as they took one rank at a time" : "", r->s->prompt,
	       r->s->batch, r->s->generate, r->s->rounds, r->s->pieces);
	printf("# weights: %.1f MiB on the rank with most", r->bytes / 1048576);
	if (r->bytes_single > 0)
		printf(", %.3f of what one rank alone has", r->bytes / r->bytes_single);
	printf("\n#\n");
}

static void print_rates(const struct results *r)
{
	printf("# tokens/s %10s %9s %9s %9s %9s %9s %9s %9s\n", "ranks", "one rank", "speed-up", "silent", "of it",
	       "foreseen", "of it", "model");
	for (int p = 0; p < PHASES; p++) {
		double all = rate(r->typical[WAY_ALL][p].seconds), one = rate(r->typical[WAY_SINGLE][p].seconds);
		double silent = rate(r->typical[WAY_SILENT][p].seconds), best = predicted(r, p, r->reduce[p]);

		printf("%-11s", phase_name[p]);
		print_rate(all);
		print_rate(one);
		print_ratio(all, one);
		print_rate(silent);
		print_ratio(all, silent);
		print_rate(best);
		print_ratio(all, best);
		print_rate(predicted(r, p, r->expected[p]));
		putchar('\n');
	}
	printf("# silent: without all-reduces; foreseen: silent plus all-reduces timed alone; model: silent plus all-reduces as priced by the cost table\n#\n");
}

static void print_sections(const struct results *r)
{
	printf("# us a token");
	for (int i = 0; i < SECTIONS; i++)
		printf(" %10s", section_name[i]);
	printf(" %10s %10s %9s %12s\n", "wait", "whole", "commun.", "one call");
	for (int p = 0; p < PHASES; p++) {
		const struct sample *s = &r->typical[WAY_ALL][p];

		printf("%-12s", phase_name[p]);
		for (int i = 0; i < SECTIONS; i++)
			printf(" %10.1f", s->section[i] * 1e6);
		printf(" %10.1f %10.1f %8.1f%% %9.2f us\n", s->wait * 1e6, s->seconds * 1e6,
		       (s->section[REDUCE] + s->wait) / s->seconds * 100, r->reduce[p] * 1e6);
	}
	printf("# means over ranks; wait: in all-reduces, for the last rank to come; norm: with residuals and SwiGLU; one call: an all-reduce with nothing else to do, of %zu and %zu bytes\n",
	       r->floats[PREFILL] * 4, r->floats[DECODE] * 4);
}

static json_t *sample_json(const struct sample *s)
{
	json_t *o = json_pack("{s:f s:f}", "seconds", s->seconds, "wait", s->wait);

	for (int i = 0; i < SECTIONS; i++)
		json_object_set_new(o, section_name[i], json_real(s->section[i]));
	return o;
}

static json_t *phase_json(const struct results *r, int p)
{
	static const char *const way_name[WAYS] = {"single", "ranks", "silent"};
	json_t *o =
	        json_pack("{s:I s:f s:f s:f s:f}", "reduce_bytes", (json_int_t)(r->floats[p] * 4), "reduce_seconds",
	                  r->reduce[p], "reduce_model_seconds", r->expected[p], "foreseen_tokens_per_second",
	                  predicted(r, p, r->reduce[p]), "model_tokens_per_second", predicted(r, p, r->expected[p]));

	for (int w = 0; w < WAYS; w++)
		if (r->typical[w][p].seconds > 0)
			json_object_set_new(o, way_name[w], sample_json(&r->typical[w][p]));
	return o;
}

static int write_json(const struct results *r, struct problem *p)
{
	const struct config *c = r->c;
	json_t *model = json_pack("{s:s s:s s:i s:i s:i s:i s:i s:i s:i}", "directory", r->s->dir, "type", r->type,
	                          "layers", c->layers, "hidden", c->hidden, "mlp", c->mlp, "heads", c->heads,
	                          "kv_heads", c->kv_heads, "head_dim", c->head_dim, "vocab", c->vocab);
	json_t *o = json_pack("{s:i s:o s:i s:b s:s s:b s:i s:i s:i s:i s:i s:f s:f}", "version", tutti_version(),
	                      "model", model, "ranks", r->ranks, "threads", r->s->ranks > 1, "shares",
	                      r->s->shares ? r->s->shares : "equal", "pretend", r->s->pretend, "prompt", r->s->prompt,
	                      "batch", r->s->batch, "generate", r->s->generate, "rounds", r->s->rounds, "pieces",
	                      r->s->pieces, "weight_bytes", r->bytes, "weight_bytes_single", r->bytes_single);
	int rc;

	for (int i = 0; i < PHASES; i++)
		json_object_set_new(o, phase_name[i], phase_json(r, i));
	rc = json_dump_file(o, r->s->json, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	json_decref(o);
	return rc == 0 ? 0 : problem(p, "can't write %s", r->s->json);
}

int report_results(const struct results *r, struct problem *p)
{
	print_head(r);
	print_rates(r);
	print_sections(r);
	fflush(stdout);
	return r->s->json ? write_json(r, p) : 0;
}
