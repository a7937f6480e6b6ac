/* SPDX-License-Identifier: MIT */
/* The table of --predict: see predict.h. */
#include "predict.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/transport.h"
#include "../../src/tuner/model.h"
#include "../../src/util/error.h"
#include "../../src/util/param.h"

#define ESIZE       4    /* f32 */
#define SHARPNESS   1.02 /* a crossover is as exact as this factor */
#define MOST_ROWS   256
#define MOST_BEFORE 200 /* calls that empty the buckets; those that take more do not */
#define DOUBT       1.05

struct table {
	const struct predict *p;
	struct cluster cluster;
	struct tuner tuner;
	struct params params;
	struct costs costs; /* of this machine */
	enum coll coll;
	size_t bytes;
	struct prediction out;
};

/* ---- one place of the axis --------------------------------------------------------------------------------------- */

/* Hosts of a description are joined by TCP. */
static struct ring_size ring_of(const struct table *t)
{
	const struct transport *cable = t->cluster.shape.nhosts > 1 ? transport_find("tcp", 3) : NULL;
	struct ring_size ring = transport_ring(cable, true);
	if (t->params.slot)
		ring.payload = (uint32_t)t->params.slot;
	if (t->params.slots)
		ring.nslots = (uint32_t)t->params.slots;
	return ring;
}

static int take_cluster(struct table *t, int ranks)
{
	cluster_free(&t->cluster);
	int rc = cluster_read(&t->cluster, t->p->cluster, ranks, &t->costs);
	if (rc)
		return rc;
	t->tuner = (struct tuner){
	        .shape = &t->cluster.shape, .slot = ring_of(t).payload, .channels = (int)t->params.channels};
	return tuner_allow(&t->tuner, t->params.algo);
}

static int go_to(struct table *t, size_t at)
{
	int rc = t->p->ranks ? take_cluster(t, (int)at) : TUTTI_OK;
	if (rc)
		return rc;
	if (!t->p->ranks)
		t->bytes = at / ESIZE * ESIZE;
	cluster_size(&t->cluster, t->bytes);
	tuner_prices(&t->tuner, &t->cluster.costs, COST_SHM, COST_NETWORK);
	return TUTTI_OK;
}

/* What a communicator of these ranks would take. */
static int choose(const struct table *t, struct choice *choice)
{
	struct query q = {.coll = t->coll, .bytes = t->bytes, .esize = ESIZE};
	return tuner_choose(&t->tuner, &q, choice);
}

static bool serves(const struct table *t, const struct algo *algo)
{
	struct plan_args a = {
	        .coll = t->coll, .nranks = t->cluster.sim.nranks, .channels = 1, .shape = &t->cluster.shape};
	return algo_serves(algo, &a);
}

/*
 * Buckets are full only before the first calls; a program makes consecutive calls, which have emptied them. Buckets are
 * refilled while they run empty, so this takes more calls than the bucket holds vectors.
 */
static int calls_before(const struct table *t)
{
	double most = 0;
	for (int i = 0; t->cluster.sim.burst && i < t->cluster.sim.nresources; i++)
		most = fmax(most, t->cluster.sim.burst[i]);
	return most > 0 ? 4 + (int)fmin(8 * most / (double)t->bytes, MOST_BEFORE) : 0;
}

static int simulate(const struct table *t, const struct algo *algo, int channels, double *seconds)
{
	size_t n = coll_owned(t->coll) ? (size_t)t->cluster.sim.nranks : 1;
	struct sim_call call = {.coll = t->coll,
	                        .algo = algo,
	                        .channels = channels,
	                        .shape = &t->cluster.shape,
	                        .count = t->bytes / ESIZE / n,
	                        .esize = ESIZE,
	                        .slot = t->tuner.slot,
	                        .slots = (int)ring_of(t).nslots};
	struct sim_result r;
	call.before = calls_before(t);
	*seconds = NAN;
	if (!serves(t, algo))
		return TUTTI_OK;
	int rc = sim_run(&t->cluster.sim, &call, &r);
	struct query q = {.coll = t->coll, .bytes = t->bytes, .esize = ESIZE};
	*seconds = rc ? NAN : r.seconds * model_meeting(&t->tuner, algo, &q);
	return rc == TUTTI_EUNSUPPORTED ? TUTTI_OK : rc;
}

/*
 * For a choice: a simulation can't distinguish times within a twentieth. If only one stream enters each rank, as in a
 * ring, no streams meet, and the real time is closest to the predicted one.
 */
static double in_doubt(const struct table *t, int algo, double seconds)
{
	return t->p->choose && model_sources(&t->tuner, t->out.algo[algo], t->coll) > 1 ? seconds * DOUBT : seconds;
}

static bool better(const struct table *t, const struct predict_row *row, int algo)
{
	return !isnan(row->seconds[algo]) && (row->best < 0 || in_doubt(t, algo, row->seconds[algo]) <
	                                                               in_doubt(t, row->best, row->seconds[row->best]));
}

static int fill_row(struct table *t, struct predict_row *row)
{
	struct choice choice;
	int rc = choose(t, &choice);
	row->bytes = t->bytes;
	row->ranks = t->cluster.sim.nranks;
	row->best = row->chosen = -1;
	for (int i = 0; i < t->out.nalgos && !rc; i++) {
		rc = simulate(t, t->out.algo[i], choice.channels, &row->seconds[i]);
		if (!rc && better(t, row, i))
			row->best = i;
		if (t->out.algo[i] == choice.algo)
			row->chosen = i;
	}
	return rc;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static int find_algos(struct table *t)
{
	struct prediction *o = &t->out;
	for (int i = 0; algo_table[i] && o->nalgos < PREDICT_ALGOS; i++)
		if (t->tuner.allowed[t->coll] >> i & 1 && serves(t, algo_table[i]))
			o->algo[o->nalgos++] = algo_table[i];
	return o->nalgos ? TUTTI_OK : fail(TUTTI_EINVAL, "no algorithm serves %s on this cluster", t->p->coll);
}

static void print_head(const struct table *t)
{
	printf("# %s\n# microseconds, simulated; * the fastest%s, + what would be chosen, # both\n%12s", t->out.title,
	       t->p->choose ? ", or one in which no streams meet, within 5 % of it: written" : "",
	       t->p->ranks ? "ranks" : "bytes");
	for (int i = 0; i < t->out.nalgos; i++)
		printf(" %15s ", t->out.algo[i]->name);
	printf("\n");
}

static int print_row(const struct table *t, const struct predict_row *row)
{
	printf("%12zu", row->at);
	for (int i = 0; i < t->out.nalgos; i++) {
		char mark = i == row->chosen ? (i == row->best ? '#' : '+') : (i == row->best ? '*' : ' ');
		if (isnan(row->seconds[i]))
			printf(" %15s%c", "-", mark);
		else
			printf(" %15.2f%c", row->seconds[i] * 1e6, mark);
	}
	printf("\n");
	return fflush(stdout) == 0 ? TUTTI_OK : fail(TUTTI_ESYSTEM, "can't write to the standard output");
}

static int add_row(struct table *t, size_t at)
{
	struct predict_row *row = &t->out.rows[t->out.nrows];
	row->at = at;
	int rc = go_to(t, at);
	rc = rc ? rc : fill_row(t, row);
	t->out.nrows += !rc;
	return rc || t->p->json ? rc : print_row(t, row);
}

/* "2,4,8", each above the one before; `most` numbers at most. */
static int read_ranks(const char *text, size_t *at, int most, int *n)
{
	char *end;
	const char *p = text;
	for (*n = 0; *n < most; p = end + 1) {
		long v = strtol(p, &end, 10);
		if (end == p || v < 1 || v > CLUSTER_RANKS || (*n && (size_t)v <= at[*n - 1]) || (*end && *end != ','))
			break;
		at[(*n)++] = (size_t)v;
		if (!*end)
			return TUTTI_OK;
	}
	return fail(TUTTI_EINVAL, "--ranks %s: expected ascending numbers separated by commas, for example 2,4,8",
	            text);
}

static int all_rows(struct table *t)
{
	size_t at[MOST_ROWS];
	int n = 0, rc = TUTTI_OK;
	if (t->p->ranks)
		rc = read_ranks(t->p->ranks, at, MOST_ROWS, &n);
	else
		for (double size = (double)t->p->min; size <= (double)t->p->max && n < MOST_ROWS; size *= t->p->factor)
			at[n++] = (size_t)size / ESIZE * ESIZE;
	t->bytes = t->p->max / ESIZE * ESIZE;
	t->out.rows = calloc((size_t)n + 1, sizeof(*t->out.rows));
	t->out.cross = calloc((size_t)n + 1, sizeof(*t->out.cross));
	if (!rc && (!t->out.rows || !t->out.cross))
		rc = fail(TUTTI_ENOMEM, "out of memory");
	if (!rc && !t->p->json)
		print_head(t);
	for (int i = 0; i < n && !rc; i++)
		rc = add_row(t, at[i]);
	return rc;
}

/* ---- crossovers -------------------------------------------------------------------------------------------------- */

static int overtaken(struct table *t, size_t at, const struct predict_cross *c, bool *is)
{
	double from, to;
	struct choice choice;
	int rc = go_to(t, at);
	rc = rc ? rc : choose(t, &choice);
	rc = rc ? rc : simulate(t, t->out.algo[c->from], choice.channels, &from);
	rc = rc ? rc : simulate(t, t->out.algo[c->to], choice.channels, &to);
	*is = !rc && (isnan(from) || in_doubt(t, c->to, to) < in_doubt(t, c->from, from));
	return rc;
}

/* Between two rows with different winners: where the later one overtakes the earlier one. */
static int find_crossover(struct table *t, const struct predict_row *a, const struct predict_row *b)
{
	struct predict_cross *c = &t->out.cross[t->out.ncross++];
	size_t low = a->at, high = b->at;
	*c = (struct predict_cross){.from = a->best, .to = b->best};
	while ((double)high > (double)low * SHARPNESS && high - low > (t->p->ranks ? 1 : ESIZE)) {
		size_t middle = (size_t)sqrt((double)low * (double)high);
		bool is;
		middle = middle <= low ? low + 1 : middle;
		int rc = overtaken(t, middle, c, &is);
		if (rc)
			return rc;
		if (is)
			high = middle;
		else
			low = middle;
	}
	c->at = high;
	return TUTTI_OK;
}

static int all_crossovers(struct table *t)
{
	int rc = TUTTI_OK;
	for (int i = 1; i < t->out.nrows && !rc; i++) {
		const struct predict_row *a = &t->out.rows[i - 1], *b = &t->out.rows[i];
		if (a->best < 0 || b->best < 0 || a->best == b->best)
			continue;
		rc = find_crossover(t, a, b);
		const struct predict_cross *c = &t->out.cross[t->out.ncross - 1];
		if (!rc && !t->p->json)
			printf("# from about %zu %s on, %s is %s %s\n", c->at, t->p->ranks ? "ranks" : "bytes",
			       t->out.algo[c->to]->name, t->p->choose ? "written, and not" : "faster than",
			       t->out.algo[c->from]->name);
	}
	return rc;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *name_of(const struct table *t, int i)
{
	return i < 0 ? json_null() : json_string(t->out.algo[i]->name);
}

/* The fastest is that, whatever a doubt would choose. */
static json_t *json_row(const struct table *t, const struct predict_row *row)
{
	json_t *by = json_object();
	int fastest = -1;
	for (int i = 0; i < t->out.nalgos; i++) {
		if (isnan(row->seconds[i]))
			continue;
		json_object_set_new(by, t->out.algo[i]->name, json_real(row->seconds[i]));
		fastest = fastest < 0 || row->seconds[i] < row->seconds[fastest] ? i : fastest;
	}
	return json_pack("{s:I s:i s:o s:o s:o}", "bytes", (json_int_t)row->bytes, "ranks", row->ranks, "seconds", by,
	                 "fastest", name_of(t, fastest), "chosen", name_of(t, row->chosen));
}

static int write_json(struct table *t)
{
	json_t *rows = json_array(), *crossovers = json_array();
	for (int i = 0; i < t->out.nrows; i++)
		json_array_append_new(rows, json_row(t, &t->out.rows[i]));
	for (int i = 0; i < t->out.ncross; i++)
		json_array_append_new(crossovers, json_pack("{s:I s:o s:o}", t->p->ranks ? "ranks" : "bytes",
		                                            (json_int_t)t->out.cross[i].at, "from",
		                                            name_of(t, t->out.cross[i].from), "to",
		                                            name_of(t, t->out.cross[i].to)));
	json_t *root =
	        json_pack("{s:i s:s s:i s:i s:o s:o}", "format", 1, "collective", t->p->coll, "ranks",
	                  t->cluster.sim.nranks, "hosts", t->cluster.nhosts, "rows", rows, "crossovers", crossovers);
	int rc = root ? strcmp(t->p->json, "-") == 0 ? json_dumpf(root, stdout, JSON_INDENT(1))
	                                             : json_dump_file(root, t->p->json, JSON_INDENT(1))
	              : -1;
	json_decref(root);
	return rc == 0 ? TUTTI_OK : fail(TUTTI_ESYSTEM, "can't write %s", t->p->json);
}

/* ---- what is to be chosen ---------------------------------------------------------------------------------------- */

static int add_choice(struct costs *c, struct cost_choice choice, size_t bytes, const struct algo *best)
{
	choice.bytes = bytes;
	while (algo_table[choice.algo] != best)
		choice.algo++;
	return costs_choose(c, choice);
}

/* From crossover to crossover, and the last for all that is larger; in place of what the table said of such calls. */
static int write_choices(const struct table *t)
{
	const struct prediction *o = &t->out;
	struct costs c = t->costs;
	struct cost_choice such = {.ranks = (uint32_t)t->cluster.sim.nranks,
	                           .hosts = (uint16_t)t->cluster.nhosts,
	                           .coll = (uint8_t)t->coll};
	int last = o->nrows ? o->rows[o->nrows - 1].best : -1;
	if (t->cluster.nhosts > UINT16_MAX)
		return fail(TUTTI_EINVAL, "--choose supports at most %d hosts", UINT16_MAX);
	costs_forget(&c, &such);
	int rc = TUTTI_OK;
	for (int i = 0; i < o->ncross && !rc; i++)
		rc = add_choice(&c, such, o->cross[i].at - 1, o->algo[o->cross[i].from]);
	if (!rc && last >= 0)
		rc = add_choice(&c, such, INT64_MAX, o->algo[last]);
	if (rc)
		return rc;
	FILE *f = fopen(t->p->choose, "we");
	if (!f)
		return fail_errno("can't write %s", t->p->choose);
	costs_print(&c, f);
	return fclose(f) == 0 ? TUTTI_OK : fail_errno("can't write %s", t->p->choose);
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static int predict_all(struct table *t)
{
	char title[160];
	int rc = take_cluster(t, 0);
	if (rc)
		return rc;
	if (t->p->ranks)
		snprintf(title, sizeof(title), "%s of %zu bytes on the first ranks of %d on %d hosts, f32", t->p->coll,
		         t->p->max, t->cluster.sim.nranks, t->cluster.nhosts);
	else
		snprintf(title, sizeof(title), "%s on %d ranks of %d hosts, f32", t->p->coll, t->cluster.sim.nranks,
		         t->cluster.nhosts);
	t->out.asked = t->p;
	t->out.title = title;
	rc = find_algos(t);
	rc = rc ? rc : all_rows(t);
	rc = rc ? rc : all_crossovers(t);
	rc = rc || !t->p->plot ? rc : predict_plot(&t->out, t->p->plot);
	rc = rc || !t->p->choose ? rc : write_choices(t);
	return rc || !t->p->json ? rc : write_json(t);
}

int predict_print(const struct predict *p)
{
	struct table t = {.p = p, .coll = (enum coll)coll_by_name(p->coll)};
	if (coll_by_name(p->coll) < 0 || coll_by_name(p->coll) >= COLL_COUNT || coll_by_name(p->coll) == COLL_BARRIER)
		return fail(TUTTI_EINVAL, "--predict %s: unknown collective; expected allreduce, allgather, ...",
		            p->coll);
	if (p->choose && p->ranks)
		return fail(TUTTI_EINVAL, "--choose can't be combined with --ranks");
	int rc = params_read(&t.params);
	if (rc)
		return rc;
	costs_load(&t.costs, t.params.tune_file);
	rc = predict_all(&t);
	free(t.out.rows);
	free(t.out.cross);
	cluster_free(&t.cluster);
	params_free(&t.params);
	return rc;
}
