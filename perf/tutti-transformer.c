/* SPDX-License-Identifier: MIT */
/*
 * tutti-transformer: a decoder in tensor parallel, which shows how an engine uses Tutti and measures what it gains.
 *
 * The computation is transformer/layer.c. Here: ranks, as processes or threads, and what each is to do. Only the public
 * interface of Tutti is used.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transformer/bench.h"
#include "transformer/checkpoint.h"

static int make(const struct settings *s)
{
	struct problem p = {0};
	struct config c;

	if (!preset(s->make, &c)) {
		fprintf(stderr, "tutti-transformer: --make %s: unknown preset; known presets:", s->make);
		for (int i = 0; preset_name(i); i++)
			fprintf(stderr, " %s", preset_name(i));
		fputc('\n', stderr);
		return 2;
	}
	if ((s->set && preset_change(&c, s->set, &p) != 0) ||
	    checkpoint_make(&c, strcmp(s->type, "f32") == 0 ? ELEMENT_F32 : ELEMENT_BF16, s->files, (uint64_t)s->seed,
	                    s->dir, &p) != 0) {
		fprintf(stderr, "tutti-transformer: %s\n", p.text);
		return 1;
	}
	return 0;
}

static int compute(struct rank *r)
{
	const struct settings *s = r->s;
	int n = tutti_comm_size(r->comm), rank = tutti_comm_rank(r->comm), rc;
	struct problem why = {0};

	if (n > RANKS_LIMIT || (s->nshares && s->nshares != n))
		return problem(&r->problem, "--shares names %d ranks, there are %d (at most %d)", s->nshares, n,
		               RANKS_LIMIT);
	if (compute_open(&r->compute, s->plain ? 0 : s->threads, &why) != 0 && rank == 0)
		fprintf(stderr, "tutti-transformer: %s\n", why.text);
	rc = weights_load(&r->weights, s->dir, shares_of(s), n, rank, &r->problem);
	if (any_failed(r, rc != 0))
		return -1;
	return s->bench ? run_bench(r) : s->check ? run_check(r) : run_generate(r);
}

static void *run_rank(void *arg)
{
	struct rank *r = arg;

	r->failed = compute(r);
	if (r->failed) {
		fprintf(stderr, "tutti-transformer: rank %d: %s\n", tutti_comm_rank(r->comm), r->problem.text);
		tutti_comm_abort(r->comm, "tutti-transformer failed on another rank");
	}
	weights_free(&r->weights);
	compute_close(&r->compute);
	return NULL;
}

static int open_comms(const struct settings *s, struct tutti_comm **comms)
{
	struct tutti_config config = TUTTI_CONFIG_INIT;
	int status;

	config.timeout = s->timeout;
	status = s->ranks > 1 ? tutti_comm_create_threads(comms, s->ranks, &config)
	                      : tutti_comm_from_env(comms, &config);
	if (status != TUTTI_OK)
		fprintf(stderr, "tutti-transformer: %s: %s\n", tutti_strerror(status), tutti_last_error(NULL));
	return status;
}

static int run_ranks(const struct settings *s)
{
	struct tutti_comm *comms[RANKS_LIMIT] = {NULL};
	struct rank *ranks = calloc((size_t)s->ranks, sizeof(*ranks));
	pthread_t threads[RANKS_LIMIT];
	int started = 1, failed = 0;

	if (!ranks || open_comms(s, comms) != TUTTI_OK) {
		free(ranks);
		return 1;
	}
	for (int i = 0; i < s->ranks; i++)
		ranks[i] = (struct rank){.s = s, .comm = comms[i]};
	while (started < s->ranks && pthread_create(&threads[started], NULL, run_rank, &ranks[started]) == 0)
		started++;
	if (started < s->ranks) {
		failed = fprintf(stderr, "tutti-transformer: can't start thread %d of %d\n", started, s->ranks);
		tutti_comm_abort(comms[0], "tutti-transformer could not start its threads");
	} else {
		run_rank(&ranks[0]);
	}
	for (int i = 1; i < started; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < s->ranks; i++) {
		failed |= ranks[i].failed;
		tutti_comm_destroy(comms[i]);
	}
	free(ranks);
	return failed != 0;
}

int main(int argc, char **argv)
{
	struct settings s;

	if (settings_parse(&s, argc, argv) != 0)
		return 2;
	if (s.help || s.man) {
		(s.help ? settings_help : settings_man)(stdout);
		return 0;
	}
	return s.make ? make(&s) : run_ranks(&s);
}
