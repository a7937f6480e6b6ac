/* The table of --predict: see predict.h. */
#include "predict.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../src/tuner/tuner.h"
#include "../../src/util/error.h"
#include "../../src/util/param.h"
#include "cluster.h"

#define MOST_ALGOS 16
#define ESIZE      4 /* f32 */

struct table {
	const struct predict *p;
	struct cluster cluster;
	struct tuner tuner;
	struct params params;
	enum coll coll;
	int n;
	const struct algo *algo[MOST_ALGOS];
	json_t *rows;
};

static int find_algos(struct table *t)
{
	struct plan_args a = {
	        .coll = t->coll, .nranks = t->cluster.sim.nranks, .channels = 1, .shape = &t->cluster.shape};
	for (int i = 0; algo_table[i] && t->n < MOST_ALGOS; i++)
		if (algo_table[i]->colls >> t->coll & 1 && algo_serves(algo_table[i], &a))
			t->algo[t->n++] = algo_table[i];
	return t->n ? TUTTI_OK : fail(TUTTI_EINVAL, "no algorithm serves %s on this cluster", t->p->coll);
}

/* What a communicator of these ranks would take. */
static int choose(const struct table *t, size_t bytes, struct choice *choice)
{
	struct query q = {.coll = t->coll, .bytes = bytes, .esize = ESIZE};
	return tuner_choose(&t->tuner, &q, choice);
}

static int simulate(const struct table *t, const struct algo *algo, size_t bytes, int channels, double *seconds)
{
	size_t n = coll_owned(t->coll) ? (size_t)t->cluster.sim.nranks : 1;
	struct sim_call call = {.coll = t->coll,
	                        .algo = algo,
	                        .channels = channels,
	                        .shape = &t->cluster.shape,
	                        .count = bytes / ESIZE / n,
	                        .esize = ESIZE,
	                        .slot = (size_t)t->params.slot,
	                        .slots = (int)t->params.slots};
	struct sim_result r;
	int rc = sim_run(&t->cluster.sim, &call, &r);
	*seconds = rc ? NAN : r.seconds;
	return rc == TUTTI_EUNSUPPORTED ? TUTTI_OK : rc;
}

static void print_head(const struct table *t)
{
	printf("# %s on %d ranks of %d hosts, f32; microseconds, simulated; * the fastest, + what would be chosen, # "
	       "both\n%12s",
	       t->p->coll, t->cluster.sim.nranks, t->cluster.nhosts, "bytes");
	for (int i = 0; i < t->n; i++)
		printf(" %15s ", t->algo[i]->name);
	printf("\n");
}

static int add_json(struct table *t, size_t bytes, const double *seconds, const char *best, const char *chosen)
{
	json_t *by = json_object();
	for (int i = 0; i < t->n; i++)
		if (!isnan(seconds[i]))
			json_object_set_new(by, t->algo[i]->name, json_real(seconds[i]));
	json_t *row = json_pack("{s:I s:o s:s s:s}", "bytes", (json_int_t)bytes, "seconds", by, "fastest", best,
	                        "chosen", chosen);
	return row && json_array_append_new(t->rows, row) == 0 ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

static int row(struct table *t, size_t bytes)
{
	double seconds[MOST_ALGOS];
	struct choice choice;
	int best = 0, rc = choose(t, bytes, &choice);
	for (int i = 0; i < t->n && !rc; i++) {
		rc = simulate(t, t->algo[i], bytes, choice.channels, &seconds[i]);
		if (isnan(seconds[best]) || seconds[i] < seconds[best])
			best = i;
	}
	if (rc || t->rows)
		return rc ? rc : add_json(t, bytes, seconds, t->algo[best]->name, choice.algo->name);
	printf("%12zu", bytes);
	for (int i = 0; i < t->n; i++) {
		char mark = t->algo[i] == choice.algo ? (i == best ? '#' : '+') : (i == best ? '*' : ' ');
		if (isnan(seconds[i]))
			printf(" %15s%c", "-", mark);
		else
			printf(" %15.2f%c", seconds[i] * 1e6, mark);
	}
	printf("\n");
	return fflush(stdout) == 0 ? TUTTI_OK : fail(TUTTI_ESYSTEM, "can't write to the standard output");
}

static int write_json(struct table *t)
{
	json_t *root = json_pack("{s:i s:s s:i s:i s:O}", "format", 1, "collective", t->p->coll, "ranks",
	                         t->cluster.sim.nranks, "hosts", t->cluster.nhosts, "rows", t->rows);
	int rc = root ? strcmp(t->p->json, "-") == 0 ? json_dumpf(root, stdout, JSON_INDENT(1))
	                                             : json_dump_file(root, t->p->json, JSON_INDENT(1))
	              : -1;
	json_decref(root);
	return rc == 0 ? TUTTI_OK : fail(TUTTI_ESYSTEM, "can't write %s", t->p->json);
}

static int all_rows(struct table *t)
{
	int rc = find_algos(t);
	if (!rc && !t->rows)
		print_head(t);
	for (double size = (double)t->p->min; !rc && size <= (double)t->p->max; size *= t->p->factor)
		rc = row(t, (size_t)size / ESIZE * ESIZE);
	return rc || !t->rows ? rc : write_json(t);
}

int predict_print(const struct predict *p)
{
	struct table t = {.p = p, .coll = (enum coll)coll_by_name(p->coll)};
	if (coll_by_name(p->coll) < 0 || coll_by_name(p->coll) >= COLL_COUNT || coll_by_name(p->coll) == COLL_BARRIER)
		return fail(TUTTI_EINVAL, "--predict %s: no such collective; allreduce, allgather, ...", p->coll);
	int rc = params_read(&t.params);
	if (rc)
		return rc;
	rc = cluster_read(&t.cluster, p->cluster);
	if (!rc) {
		t.rows = p->json ? json_array() : NULL;
		t.tuner = (struct tuner){
		        .shape = &t.cluster.shape, .slot = (size_t)t.params.slot, .channels = (int)t.params.channels};
		tuner_prices(&t.tuner, &t.cluster.costs, COST_SHM, COST_NETWORK);
		rc = tuner_allow(&t.tuner, t.params.algo);
	}
	rc = rc ? rc : all_rows(&t);
	json_decref(t.rows);
	cluster_free(&t.cluster);
	params_free(&t.params);
	return rc;
}
