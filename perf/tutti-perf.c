/* SPDX-License-Identifier: MIT */
/*
 * tutti-perf: measure and verify one collective over sizes, types, operations and roots.
 *
 * Each rank, a process or a thread, goes through the same rows (perf/lib/bench.c); rank 0 prints them. It uses the
 * public interface only, and so measures what a caller gets.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/bench.h"
#include "lib/report.h"

/* One rank of this process. */
struct rank {
	const struct options *o;
	struct tutti_comm *comm;
	struct report *report; /* rank 0's, else NULL */
	int failed;            /* the status of the call that failed */
};

static void explain(const struct bench *b, const struct call *call, size_t count, const struct half h[2])
{
	char text[1024];
	enum tutti_op op = call->op < 0 ? TUTTI_SUM : (enum tutti_op)call->op;

	if (tutti_comm_explain(b->comm, call->coll->name, count, (enum tutti_dtype)call->type, op, text,
	                       sizeof(text)) != TUTTI_OK)
		snprintf(text, sizeof(text), "can't be explained: %s", tutti_last_error(b->comm));
	report_explain(text, h);
}

static int do_row(struct bench *b, const struct call *call, struct report *report)
{
	struct half h[2] = {{.ran = false}, {.ran = false}};
	struct shape s;
	int status = bench_half(b, call, false, &h[0]);

	if (status == TUTTI_OK && call->coll->in_place)
		status = bench_half(b, call, true, &h[1]);
	if (status != TUTTI_OK || !report)
		return status;
	if (shape_make(&s, call->coll, (enum tutti_dtype)call->type, call->op, call->root, b->rank, b->n, call->bytes,
	               false) != 0)
		return TUTTI_ENOMEM;
	report_row(report, call, &s, h);
	if (b->o->explain)
		explain(b, call, s.count, h);
	shape_free(&s);
	return TUTTI_OK;
}

static size_t next_size(const struct options *o, size_t size)
{
	size_t grown = (size_t)((double)size * o->factor);

	if (o->factor <= 0)
		return size + o->step;
	return grown > size ? grown : size + 1;
}

static int do_sizes(struct bench *b, struct call *call, struct report *report)
{
	const struct options *o = b->o;
	int status = TUTTI_OK;

	if (call->coll->in == EXTENT_NONE)
		return do_row(b, call, report);
	for (call->bytes = o->min; call->bytes <= b->max && status == TUTTI_OK; call->bytes = next_size(o, call->bytes))
		status = do_row(b, call, report);
	return status;
}

/* One value where the option names it or it does not apply; else all of them. */
struct range {
	int first, last;
};

static struct range range_of(int chosen, bool applies, int n, int otherwise)
{
	if (!applies)
		return (struct range){otherwise, otherwise};
	return chosen == ALL ? (struct range){0, n - 1} : (struct range){chosen, chosen};
}

static int do_cycle(struct bench *b, struct report *report)
{
	const struct options *o = b->o;
	const struct collective *c = o->coll;
	struct range types = range_of(o->type, c->in != EXTENT_NONE, TUTTI_F8E5M2 + 1, TUTTI_U8);
	struct range ops = range_of(o->op, c->reduces, TUTTI_AVG + 1, -1);
	struct range roots = range_of(o->root, c->rooted, b->n, -1);
	struct call call = {.coll = c};
	int status = TUTTI_OK;

	for (call.type = types.first; call.type <= types.last; call.type++)
		for (call.op = ops.first; call.op <= ops.last; call.op++)
			for (call.root = roots.first; call.root <= roots.last && status == TUTTI_OK; call.root++)
				status = do_sizes(b, &call, report);
	return status;
}

static int rank_fails(struct rank *r, const struct bench *b, int rank, int status)
{
	const char *text = b->why[0] ? b->why : tutti_last_error(r->comm);

	if (status == TUTTI_ENOMEM && !text[0])
		text = "lower -e, -m, --buffers or the number of ranks";
	fprintf(stderr, "tutti-perf: rank %d: %s: %s\n", rank, tutti_strerror(status), text);
	tutti_comm_abort(r->comm, "tutti-perf failed on another rank");
	return status;
}

static void *run_rank(void *arg)
{
	struct rank *r = arg;
	struct bench b = {0};
	int status = TUTTI_ENOMEM, rank = tutti_comm_rank(r->comm);

	if (r->o->root >= tutti_comm_size(r->comm)) {
		if (rank == 0)
			fprintf(stderr, "tutti-perf: -r %d: there are only %d ranks\n", r->o->root,
			        tutti_comm_size(r->comm));
		r->failed = TUTTI_EINVAL;
		return NULL;
	}
	if (bench_open(&b, r->o, r->comm) == 0)
		status = bench_fit(&b);
	if (r->report && status == TUTTI_OK && b.max < r->o->max)
		report_reduced(b.max);
	for (int i = 0; (i < r->o->cycles || r->o->cycles == 0) && status == TUTTI_OK; i++)
		status = do_cycle(&b, r->report);
	if (status != TUTTI_OK)
		r->failed = rank_fails(r, &b, rank, status);
	bench_close(&b);
	return NULL;
}

/* The variable that shows that a launcher started several processes; NULL: there is none. */
static const char *launched_as_many(void)
{
	static const char *const sizes[] = {"TUTTI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE",
	                                    "SLURM_STEP_NUM_TASKS"};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		const char *value = getenv(sizes[i]);

		if (value && atoi(value) > 1)
			return sizes[i];
	}
	return NULL;
}

/* Ranks are processes or threads of one process: each process would have a world of its own. */
static int check_launch(const struct options *o)
{
	const char *name = o->threads > 1 ? launched_as_many() : NULL;

	if (!name)
		return 0;
	fprintf(stderr,
	        "tutti-perf: -t and -g create ranks within one process, but %s=%s means that a launcher started several processes; start one process, or drop -t and -g\n",
	        name, getenv(name));
	return -1;
}

/* The communicators of the ranks in this process. */
static int open_comms(const struct options *o, struct tutti_comm **comms)
{
	struct tutti_config config = TUTTI_CONFIG_INIT;
	int status;

	config.timeout = o->timeout;
	status = o->threads > 1 ? tutti_comm_create_threads(comms, o->threads, &config)
	                        : tutti_comm_from_env(comms, &config);
	if (status != TUTTI_OK)
		fprintf(stderr, "tutti-perf: %s: %s\n", tutti_strerror(status), tutti_last_error(NULL));
	return status;
}

static void run_ranks(struct rank *ranks, int n)
{
	pthread_t *threads = calloc((size_t)n, sizeof(*threads));
	int started = 1;

	while (threads && started < n && pthread_create(&threads[started], NULL, run_rank, &ranks[started]) == 0)
		started++;
	if (started < n) {
		ranks[0].failed = TUTTI_ESYSTEM;
		fprintf(stderr, "tutti-perf: can't start thread %d of %d\n", started, n);
		tutti_comm_abort(ranks[0].comm, "tutti-perf could not start its threads");
	} else {
		run_rank(&ranks[0]);
	}
	while (--started > 0)
		pthread_join(threads[started], NULL);
	free(threads);
}

static int measure(const struct options *o, int argc, char **argv)
{
	struct tutti_comm **comms = calloc((size_t)o->threads, sizeof(*comms));
	struct rank *ranks = calloc((size_t)o->threads, sizeof(*ranks));
	struct report report;
	bool reports = false;
	int failed = -1;

	if (!comms || !ranks || check_launch(o) != 0 || open_comms(o, comms) != TUTTI_OK)
		goto out;
	for (int i = 0; i < o->threads; i++)
		ranks[i] = (struct rank){.o = o, .comm = comms[i]};
	if (tutti_comm_rank(comms[0]) == 0) {
		if (report_open(&report, o, tutti_comm_size(comms[0]), argc, argv) != 0)
			goto out;
		reports = true;
		options_ignored(o, stderr);
		ranks[0].report = &report;
	}
	run_ranks(ranks, o->threads);
	failed = 0;
	for (int i = 0; i < o->threads; i++)
		failed |= ranks[i].failed;
	if (reports && report_close(&report, failed != 0) != 0)
		failed = -1;
out:
	for (int i = 0; comms && i < o->threads; i++)
		if (comms[i])
			tutti_comm_destroy(comms[i]);
	free(comms);
	free(ranks);
	return failed;
}

int main(int argc, char **argv)
{
	struct options o;

	if (options_parse(&o, argc, argv) != 0)
		return 2;
	if (o.help || o.man) {
		(o.help ? options_help : options_man)(stdout);
		return 0;
	}
	return measure(&o, argc, argv) == 0 ? 0 : 1;
}
