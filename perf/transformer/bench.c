/* SPDX-License-Identifier: MIT */
/*
 * The benchmark: see bench.h. In each round three ways take their turn, so that an hour's drift of the machine meets all
 * alike: one rank with the whole model, while the others sleep; all ranks; all ranks without a single all-reduce, which
 * is as fast as these cores could be together. Figures are medians over rounds.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "report.h"

/* A decoder, and the model that is its own, if it is. */
struct subject {
	struct tutti_comm *comm;
	struct weights weights;
	struct decoder d;
};

struct bench {
	struct rank *r;
	struct subject all, single; /* single.comm is NULL where that is left out */
	struct token *tokens;       /* room for the larger of prompt and batch */
	double *calls;              /* seconds of a phase's all-reduces */
	size_t room;                /* for so many */
	struct sample *sample;      /* rounds of each way and phase */
	double pretend[PHASES];     /* seconds per weight; 0: products are computed */
};

/* ---- one phase --------------------------------------------------------------------------------------------------- */

/* Sums or the like over ranks, of doubles. */
static int over_ranks(struct bench *b, double *v, size_t n, enum tutti_op op)
{
	return tutti_allreduce(v, v, n, TUTTI_F64, op, b->all.comm, NULL);
}

static int prefill(struct bench *b, struct decoder *d, int prompt)
{
	int status = TUTTI_OK;

	for (int s = 0; s < b->r->s->batch && status == TUTTI_OK; s++) {
		for (int i = 0; i < prompt; i++)
			b->tokens[i] = (struct token){(s + i * 7) % d->w->config.vocab, s, i};
		status = decoder_step(d, b->tokens, prompt);
	}
	return status;
}

static int decode(struct bench *b, struct decoder *d, int steps)
{
	int batch = b->r->s->batch, next[256], status = TUTTI_OK;

	for (int i = 0; i < batch; i++)
		next[i] = (i * 3 + 1) % d->w->config.vocab;
	for (int k = 0; k < steps && status == TUTTI_OK; k++) {
		for (int i = 0; i < batch; i++)
			b->tokens[i] = (struct token){next[i], i, b->r->s->prompt + k};
		status = decoder_step(d, b->tokens, batch);
		if (status == TUTTI_OK)
			status = decoder_choose(d, 0, batch, next);
	}
	return status;
}

/* Runs a phase with a fresh profile; *seconds: until this rank had its last result. */
static int run_phase(struct bench *b, struct decoder *d, enum phase phase, double *seconds)
{
	const struct settings *s = b->r->s;
	int status = tutti_barrier(d->comm, NULL);
	double begin = seconds_now();

	d->profile = (struct profile){.call = b->calls, .room = b->room};
	d->compute.pretend = b->pretend[phase];
	d->compute.owed = 0;
	if (status == TUTTI_OK)
		status = phase == PREFILL ? prefill(b, d, s->prompt) : decode(b, d, s->generate);
	*seconds = seconds_now() - begin;
	return status;
}

/* Brings the ranks' times together: the longest of the whole, means of the parts; the all-reduces in two parts. */
static int gather(struct bench *b, const struct decoder *d, double seconds, struct sample *s, double tokens)
{
	double part[SECTIONS + 1], own = 0, pure = 0;
	int n = tutti_comm_size(d->comm), status;
	size_t calls = d->profile.calls < b->room ? d->profile.calls : b->room;

	for (size_t i = 0; i < calls; i++)
		own += b->calls[i];
	memcpy(part, d->profile.spent, sizeof(d->profile.spent));
	if (n > 1) {
		/* the last rank to enter a call has not waited: the least time over the ranks is the call's own */
		status = over_ranks(b, b->calls, calls, TUTTI_MIN);
		for (size_t i = 0; i < calls; i++)
			pure += b->calls[i];
		part[SECTIONS] = own - pure;
		part[REDUCE] -= own - pure;
		if (status == TUTTI_OK)
			status = over_ranks(b, part, SECTIONS + 1, TUTTI_AVG);
		if (status == TUTTI_OK)
			status = over_ranks(b, &seconds, 1, TUTTI_MAX);
		if (status != TUTTI_OK)
			return status;
	} else {
		part[SECTIONS] = 0;
	}
	s->seconds = seconds / tokens;
	for (int i = 0; i < SECTIONS; i++)
		s->section[i] = part[i] / tokens;
	s->wait = part[SECTIONS] / tokens;
	return TUTTI_OK;
}

/* ---- the ways ---------------------------------------------------------------------------------------------------- */

static int measure(struct bench *b, struct subject *who, enum way way, int round)
{
	const struct settings *s = b->r->s;
	int status = TUTTI_OK;

	who->d.alone = way == WAY_SILENT;
	for (int phase = 0; phase < PHASES && status == TUTTI_OK; phase++) {
		struct sample *sample = &b->sample[(round * WAYS + (int)way) * PHASES + phase];
		double seconds, tokens = (double)(phase == PREFILL ? s->prompt : s->generate) * s->batch;

		status = run_phase(b, &who->d, phase, &seconds);
		if (status == TUTTI_OK)
			status = gather(b, &who->d, seconds, sample, tokens);
	}
	who->d.alone = false;
	return status;
}

/* The others are in the barrier meanwhile, asleep. */
static int measure_single(struct bench *b, int round)
{
	int status = TUTTI_OK;

	if (b->single.d.x)
		status = measure(b, &b->single, WAY_SINGLE, round);
	return status == TUTTI_OK ? tutti_barrier(b->all.comm, NULL) : status;
}

static int measure_round(struct bench *b, int round)
{
	int status = TUTTI_OK;

	if (b->single.comm)
		status = measure_single(b, round);
	if (status == TUTTI_OK)
		status = measure(b, &b->all, WAY_ALL, round);
	return status == TUTTI_OK ? measure(b, &b->all, WAY_SILENT, round) : status;
}

/* Buffers, tables and memory are touched for the first time before anything counts. */
static int warm_up(struct bench *b)
{
	int few = b->r->s->prompt < 64 ? b->r->s->prompt : 64, status = TUTTI_OK;

	if (b->single.d.x) {
		status = prefill(b, &b->single.d, few);
		if (status == TUTTI_OK)
			status = decode(b, &b->single.d, 1);
	}
	if (status == TUTTI_OK)
		status = prefill(b, &b->all.d, few);
	return status == TUTTI_OK ? decode(b, &b->all.d, 1) : status;
}

/* ---- an all-reduce alone ----------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Calls of one size one after the other, each on values that its rank has just written, as a product leaves them. */
static int time_reduce(struct bench *b, size_t n, double *seconds)
{
	enum { CALLS = 101 };
	float *v = b->all.d.partial;
	double spent[CALLS];
	int status = tutti_barrier(b->all.comm, NULL);

	for (int i = 0; i < CALLS && status == TUTTI_OK; i++) {
		memset(v, 0, n * 4);
		spent[i] = seconds_now();
		status = tutti_allreduce(v, v, n, TUTTI_F32, TUTTI_SUM, b->all.comm, NULL);
		spent[i] = seconds_now() - spent[i];
	}
	if (status == TUTTI_OK)
		status = over_ranks(b, spent, CALLS, TUTTI_MIN);
	*seconds = median(spent, CALLS);
	return status;
}

/* What the library expects of the call, by the prices that it chooses algorithms by; 0: it does not say. */
static double expected(struct bench *b, size_t n)
{
	static const char mark[] = "predicted ";
	char text[1024];
	const char *at = NULL;

	if (tutti_comm_explain(b->all.comm, "allreduce", n, TUTTI_F32, TUTTI_SUM, text, sizeof(text)) == TUTTI_OK)
		at = strstr(text, mark);
	return at ? strtod(at + strlen(mark), NULL) * 1e-6 : 0;
}

/* ---- sleep in place of work -------------------------------------------------------------------------------------- */

/* What this rank's weights cost in a phase: the least of three times. */
static int calibrate_phase(struct bench *b, enum phase phase)
{
	struct decoder *d = &b->all.d;
	int status = TUTTI_OK;

	for (int i = 0; i < 3 && status == TUTTI_OK; i++) {
		double each;

		d->profile = (struct profile){0};
		d->compute.weights = 0;
		status = phase == PREFILL ? prefill(b, d, b->r->s->prompt) : decode(b, d, 2);
		each = d->profile.spent[PRODUCTS] / d->compute.weights;
		b->pretend[phase] = i == 0 || each < b->pretend[phase] ? each : b->pretend[phase];
	}
	return status;
}

/* Each rank in turn, with the machine to itself. */
static int calibrate(struct bench *b)
{
	int n = tutti_comm_size(b->all.comm), rank = tutti_comm_rank(b->all.comm), status = TUTTI_OK;

	b->all.d.alone = true;
	for (int turn = 0; turn < n && status == TUTTI_OK; turn++) {
		for (int phase = 0; phase < PHASES && rank == turn && status == TUTTI_OK; phase++)
			status = calibrate_phase(b, phase);
		if (status == TUTTI_OK)
			status = tutti_barrier(b->all.comm, NULL);
	}
	b->all.d.alone = false;
	return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static int open_subject(struct bench *b, struct subject *who, const struct weights *w, const double *shares)
{
	const struct settings *s = b->r->s;

	who->d = (struct decoder){.compute = b->r->compute};
	who->d.compute.panel = NULL;
	who->d.compute.panel_floats = 0;
	if (decoder_open(&who->d, w, who->comm, shares, s->batch, s->prompt + s->generate, s->prompt, &b->r->problem) !=
	    0)
		return -1;
	decoder_overlap(&who->d, s->pieces);
	return 0;
}

static void close_subject(struct subject *who)
{
	if (who->d.x)
		decoder_close(&who->d);
	compute_close(&who->d.compute);
	weights_free(&who->weights);
}

/* Rank 0 gets a communicator of its own and all of the weights. */
static int open_single(struct bench *b)
{
	struct rank *r = b->r;
	int rank = tutti_comm_rank(r->comm);

	if (!r->s->single || r->s->pretend || tutti_comm_size(r->comm) == 1)
		return 0;
	if (noted(r, tutti_comm_split(r->comm, rank, 0, &b->single.comm)) != 0)
		return -1;
	if (rank != 0)
		return 0;
	if (weights_load(&b->single.weights, r->s->dir, NULL, 1, 0, &r->problem) != 0)
		return -1;
	return open_subject(b, &b->single, &b->single.weights, NULL);
}

static int open_bench(struct bench *b)
{
	const struct settings *s = b->r->s;
	size_t steps = (size_t)(s->generate > s->batch ? s->generate : s->batch);
	int most = s->prompt > s->batch ? s->prompt : s->batch;

	if (s->batch > 256)
		return problem(&b->r->problem, "--batch: at most 256");
	b->all.comm = b->r->comm;
	b->room = steps * (2 * (size_t)b->r->weights.config.layers + 1) * (size_t)s->pieces;
	b->calls = calloc(b->room, sizeof(*b->calls));
	b->tokens = calloc((size_t)most, sizeof(*b->tokens));
	b->sample = calloc((size_t)s->rounds * WAYS * PHASES, sizeof(*b->sample));
	if (!b->calls || !b->tokens || !b->sample)
		return problem(&b->r->problem, "out of memory");
	if (open_subject(b, &b->all, &b->r->weights, shares_of(s)) != 0)
		return -1;
	return open_single(b);
}

static void close_bench(struct bench *b)
{
	close_subject(&b->single);
	if (b->single.comm)
		tutti_comm_destroy(b->single.comm);
	close_subject(&b->all);
	free(b->calls);
	free(b->tokens);
	free(b->sample);
}

/* The median of each figure over the rounds. */
static struct sample typical(struct bench *b, enum way way, enum phase phase)
{
	struct sample out;
	double v[1024];
	int rounds = b->r->s->rounds < 1024 ? b->r->s->rounds : 1024;

	for (size_t k = 0; k < sizeof(out) / sizeof(double); k++) {
		for (int i = 0; i < rounds; i++)
			v[i] = ((const double *)&b->sample[(i * WAYS + (int)way) * PHASES + (int)phase])[k];
		((double *)&out)[k] = median(v, (size_t)rounds);
	}
	return out;
}

static int summarise(struct bench *b, struct results *out)
{
	const struct settings *s = b->r->s;
	const struct config *c = &b->r->weights.config;
	double bytes[2] = {(double)b->r->weights.bytes, (double)b->single.weights.bytes};
	int status = TUTTI_OK;

	*out = (struct results){.s = s, .c = c, .compute = &b->r->compute, .type = weights_type(&b->r->weights)};
	out->ranks = tutti_comm_size(b->all.comm);
	for (int phase = 0; phase < PHASES && status == TUTTI_OK; phase++) {
		size_t n = (size_t)(phase == PREFILL ? s->prompt : s->batch) * c->hidden;

		for (int way = 0; way < WAYS; way++)
			out->typical[way][phase] = typical(b, way, phase);
		out->floats[phase] = n;
		out->expected[phase] = expected(b, n);
		status = time_reduce(b, n, &out->reduce[phase]);
	}
	if (status == TUTTI_OK)
		status = over_ranks(b, bytes, 2, TUTTI_MAX);
	out->bytes = bytes[0];
	out->bytes_single = bytes[1];
	return status;
}

int run_bench(struct rank *r)
{
	struct bench b = {.r = r};
	struct results results;
	int rc = open_bench(&b);

	if (any_failed(r, rc != 0))
		rc = -1;
	if (rc == 0)
		rc = noted(r, warm_up(&b));
	if (rc == 0 && r->s->pretend)
		rc = noted(r, calibrate(&b));
	for (int i = 0; i < r->s->rounds && rc == 0; i++)
		rc = noted(r, measure_round(&b, i));
	if (rc == 0)
		rc = noted(r, summarise(&b, &results));
	if (rc == 0 && tutti_comm_rank(r->comm) == 0)
		rc = report_results(&results, &r->problem);
	close_bench(&b);
	return rc;
}
