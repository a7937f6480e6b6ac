/* SPDX-License-Identifier: MIT */
/* Decoding and checking: see run.h. */
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

int noted(struct rank *r, int status)
{
	if (status == TUTTI_OK)
		return 0;
	return problem(&r->problem, "%s: %s", tutti_strerror(status), tutti_last_error(r->comm));
}

bool any_failed(struct rank *r, bool failed)
{
	int32_t mine = failed, any = 1;

	if (noted(r, tutti_allreduce(&mine, &any, 1, TUTTI_I32, TUTTI_MAX, r->comm, NULL)) != 0)
		return true;
	if (any && !failed)
		problem(&r->problem, "another rank failed");
	return any;
}

int greedy(struct decoder *d, const int *prompt, int length, int n, int *out)
{
	struct token *t = calloc((size_t)length, sizeof(*t)), one;
	int status;

	if (!t)
		return TUTTI_ENOMEM;
	for (int i = 0; i < length; i++)
		t[i] = (struct token){.id = prompt[i], .position = i};
	status = decoder_step(d, t, length);
	free(t);
	if (status == TUTTI_OK)
		status = decoder_choose(d, length - 1, 1, &out[0]);
	for (int i = 1; i < n && status == TUTTI_OK; i++) {
		one = (struct token){.id = out[i - 1], .position = length + i - 1};
		status = decoder_step(d, &one, 1);
		if (status == TUTTI_OK)
			status = decoder_choose(d, 0, 1, &out[i]);
	}
	return status;
}

/* The prompt to `tokens`, which has room for it and what is decoded; its length, or -1. Frees nothing on failure. */
static int read_prompt(struct rank *r, int **tokens)
{
	const struct settings *s = r->s;
	int most = (int)strlen(s->tokens) / 2 + 1, n;

	*tokens = calloc((size_t)most + (size_t)s->generate, sizeof(**tokens));
	if (!*tokens)
		return problem(&r->problem, "out of memory");
	n = settings_list(s->tokens, *tokens, most, r->weights.config.vocab);
	if (n < 1)
		return problem(&r->problem, "--tokens %s: expected token ids, each below %d", s->tokens,
		               r->weights.config.vocab);
	return n;
}

static int open_decoder(struct rank *r, struct decoder *d, int context, int room)
{
	*d = (struct decoder){.compute = r->compute};
	if (decoder_open(d, &r->weights, r->comm, shares_of(r->s), 1, context, room, &r->problem) != 0)
		return -1;
	decoder_overlap(d, r->s->pieces);
	return 0;
}

/* Where no logit is a number nothing can be chosen. */
static int chosen(struct rank *r, const int *tokens, int n)
{
	for (int i = 0; i < n; i++)
		if (tokens[i] >= r->weights.config.vocab)
			return problem(&r->problem,
			               "token %d: no logit is a number; weights or activations are not finite", i);
	return 0;
}

/* Decodes behind the prompt: tokens[0 .. n) come in, and s->generate more go out. d stays open where 0 is returned. */
static int decode(struct rank *r, struct decoder *d, int **tokens, int *n)
{
	bool bad;

	*n = read_prompt(r, tokens);
	bad = *n < 0 || open_decoder(r, d, *n + r->s->generate, *n + r->s->generate) != 0;
	if (any_failed(r, bad)) {
		if (!bad)
			decoder_close(d);
		return -1;
	}
	if (noted(r, greedy(d, *tokens, *n, r->s->generate, *tokens + *n)) == 0 &&
	    chosen(r, *tokens + *n, r->s->generate) == 0)
		return 0;
	decoder_close(d);
	return -1;
}

int run_generate(struct rank *r)
{
	struct decoder d;
	int *tokens = NULL, n, rc = decode(r, &d, &tokens, &n);

	if (rc == 0) {
		for (int i = 0; i < n + r->s->generate && tutti_comm_rank(r->comm) == 0; i++)
			printf("%s%d%s", i == n ? "-> " : "", tokens[i], i < n + r->s->generate - 1 ? " " : "\n");
		decoder_close(&d);
	}
	free(tokens);
	return rc;
}

/* ---- check ------------------------------------------------------------------------------------------------------- */

struct errors {
	double worst, largest; /* difference from the reference; logit of the reference */
	size_t not_finite; /* logits, of the reference or ours, that are NaN or infinite: the result is then unknown */
	int other_choice;  /* tokens that the reference would have chosen otherwise */
};

static int compare(struct rank *r, const int *tokens, int n, const float *logits, struct errors *e)
{
	size_t all = (size_t)n * r->weights.config.vocab;
	double *want = calloc(all, sizeof(*want));
	struct checkpoint from;
	int rc = -1;

	*e = (struct errors){0};
	if (!want)
		return problem(&r->problem, "out of memory");
	if (checkpoint_open(&from, r->s->dir, &r->problem) == 0) {
		rc = reference_logits(&from, &r->weights.config, tokens, n, want, &r->problem);
		checkpoint_close(&from);
	}
	for (size_t i = 0; i < all && rc == 0; i++) {
		double error = fabs(logits[i] - want[i]);

		e->not_finite += !isfinite(error);
		e->worst = error > e->worst ? error : e->worst;
		e->largest = fabs(want[i]) > e->largest ? fabs(want[i]) : e->largest;
	}
	for (int i = 0; i < n && rc == 0; i++) {
		size_t row = (size_t)i * r->weights.config.vocab, a = 0, b = 0;

		for (size_t k = 1; k < (size_t)r->weights.config.vocab; k++) {
			a = logits[row + k] > logits[row + a] ? k : a;
			b = want[row + k] > want[row + b] ? k : b;
		}
		e->other_choice += a != b;
	}
	free(want);
	return rc;
}

/* Ranks whose logits have other bits than rank 0's; -1 on failure. */
static int other_bits(struct rank *r, const float *logits, size_t n)
{
	float *first = malloc(n * 4);
	int32_t differs, all = 0;
	int rc;

	if (any_failed(r, !first)) {
		free(first);
		return problem(&r->problem, "out of memory");
	}
	rc = noted(r, tutti_broadcast(logits, first, n, TUTTI_F32, 0, r->comm, NULL));
	differs = rc != 0 || memcmp(first, logits, n * 4) != 0;
	free(first);
	if (rc != 0 || noted(r, tutti_allreduce(&differs, &all, 1, TUTTI_I32, TUTTI_SUM, r->comm, NULL)) != 0)
		return -1;
	return all;
}

static int report(struct rank *r, const int *tokens, int n, const float *logits)
{
	struct errors e;
	bool bad = false;
	int differ = other_bits(r, logits, (size_t)n * r->weights.config.vocab);

	if (differ < 0)
		return -1;
	if (tutti_comm_rank(r->comm) == 0) {
		if (compare(r, tokens, n, logits, &e) != 0)
			return -1;
		bad = differ || e.not_finite || !(e.worst <= CHECK_LIMIT * e.largest);
		printf("# %d ranks, %s weights, %d tokens, %zu logits: largest error %.3g of the largest logit (limit %g); not finite %zu; other choices %d; ranks with other bits %d: %s\n",
		       tutti_comm_size(r->comm), weights_type(&r->weights), n, (size_t)n * r->weights.config.vocab,
		       e.worst / e.largest, CHECK_LIMIT, e.not_finite, e.other_choice, differ, bad ? "FAILED" : "OK");
	}
	return bad ? problem(&r->problem, "the check failed") : 0;
}

int run_check(struct rank *r)
{
	int vocab = r->weights.config.vocab, *tokens = NULL, n, rc = -1;
	struct token *t = NULL;
	float *logits = NULL;
	struct decoder d;

	if (decode(r, &d, &tokens, &n) != 0)
		goto out;
	for (int i = 0; i < n + r->s->generate && tutti_comm_rank(r->comm) == 0; i++)
		printf("%s%d%s", i == n ? "-> " : "", tokens[i], i < n + r->s->generate - 1 ? " " : "\n");
	n += r->s->generate;
	logits = calloc((unsigned)n, (unsigned)vocab * sizeof(*logits));
	t = calloc((unsigned)n, sizeof(*t));
	if (any_failed(r, !logits || !t))
		goto close;
	for (int i = 0; i < n; i++)
		t[i] = (struct token){.id = tokens[i], .position = i};
	rc = noted(r, decoder_step(&d, t, n));
	for (int i = 0; i < n && rc == 0; i++)
		rc = noted(r, decoder_logits(&d, i, logits + (size_t)i * vocab));
	if (rc == 0)
		rc = report(r, tokens, n, logits);
close:
	decoder_close(&d);
out:
	free(t);
	free(logits);
	free(tokens);
	return rc;
}
