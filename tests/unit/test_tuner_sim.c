/* SPDX-License-Identifier: MIT */
/*
 * The tuner's prices against the simulator, which runs the plans: on clusters of equal hosts, what is chosen is
 * within a tenth of the best in nearly all cases and never much worse. Both take what links cost from one description.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/tuner/model.h"
#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */
#include "../../tools/topo/cluster.h"

#include <cmocka.h>

#define ESIZE 4
#define SLOT  (60 << 10) /* as TCP's between machines */

struct score {
	int cases, good;
	double worst;
	char what[160];
};

/* Simulated, and what streams that meet lose. */
static int simulate(struct cluster *c, enum coll coll, const struct algo *algo, int channels, size_t bytes,
                    double *seconds)
{
	struct sim_call call = {.coll = coll,
	                        .algo = algo,
	                        .channels = channels,
	                        .shape = &c->shape,
	                        .count = bytes / ESIZE / (size_t)(coll_owned(coll) ? c->sim.nranks : 1),
	                        .esize = ESIZE,
	                        .slot = SLOT,
	                        .slots = 4};
	struct plan_args a = {.coll = coll, .nranks = c->sim.nranks, .channels = channels, .shape = &c->shape};
	struct sim_result r;
	*seconds = INFINITY;
	if (!algo_serves(algo, &a))
		return TUTTI_OK;
	int rc = sim_run(&c->sim, &call, &r);
	*seconds = rc ? INFINITY : r.seconds;
	return rc == TUTTI_EUNSUPPORTED ? TUTTI_OK : rc;
}

/* Every algorithm with the channels that were chosen: those are not what is in question. */
static void one_case(struct cluster *c, enum coll coll, size_t bytes, const char *name, struct score *score)
{
	struct tuner t = {.shape = &c->shape, .slot = SLOT};
	struct query q = {.coll = coll, .bytes = bytes, .esize = ESIZE};
	struct choice choice;
	double best = INFINITY, took, chosen = INFINITY;
	const char *first = "";
	tuner_prices(&t, &c->costs, COST_SHM, COST_NETWORK);
	assert_int_equal(tuner_allow(&t, ""), TUTTI_OK);
	assert_int_equal(tuner_choose(&t, &q, &choice), TUTTI_OK);
	for (int i = 0; algo_table[i]; i++) {
		assert_int_equal(simulate(c, coll, algo_table[i], choice.channels, bytes, &took), TUTTI_OK);
		took *= model_meeting(&t, algo_table[i], &q);
		chosen = algo_table[i] == choice.algo ? took : chosen;
		first = took < best ? algo_table[i]->name : first;
		best = took < best ? took : best;
	}
	assert_true(isfinite(best) && isfinite(chosen));
	score->cases++;
	score->good += chosen <= 1.1 * best;
	if (getenv("TUTTI_TEST_SHOW") && chosen > 1.1 * best)
		printf("%s, %s of %zu bytes: %s takes %.2f of %s\n", name, coll_name(coll), bytes, choice.algo->name,
		       chosen / best, first);
	if (chosen / best <= score->worst)
		return;
	score->worst = chosen / best;
	snprintf(score->what, sizeof(score->what), "%s, %s of %zu bytes: %s takes %.2f of %s's time", name,
	         coll_name(coll), bytes, choice.algo->name, chosen / best, first);
}

static void one_cluster(enum coll coll, int hosts, int ranks, double gbit, double latency, struct score *score)
{
	char path[] = "/tmp/tutti-tuner-XXXXXX", name[80];
	struct cluster c;
	struct costs costs;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	dprintf(fd,
	        "{\"hosts\": [{\"count\": %d, \"ranks\": %d, \"gbit\": %g}], \"latency_us\": %g, \"message_us\": %g,"
	        " \"copy_ns\": 0.1}",
	        hosts, ranks, gbit, latency, latency / 4);
	close(fd);
	costs_priors(&costs);
	assert_int_equal(cluster_read(&c, path, 0, &costs), TUTTI_OK);
	unlink(path);
	snprintf(name, sizeof(name), "%d hosts of %d ranks, %g Gbit/s, %g us", hosts, ranks, gbit, latency);
	for (size_t bytes = 256; bytes <= 64 << 20; bytes *= coll == COLL_ALLREDUCE ? 4 : 16)
		one_case(&c, coll, bytes, name, score);
	cluster_free(&c);
}

/* Of each collective, how many of a hundred cases must be within a tenth of the best, and how many times the best's time the worst may take. */
static const struct {
	enum coll coll;
	int good;
	double worst;
} bounds[] = {{COLL_ALLREDUCE, 95, 1.3}, {COLL_ALLGATHER, 92, 1.7}, {COLL_REDUCE_SCATTER, 90, 1.9},
              {COLL_BROADCAST, 86, 1.7}, {COLL_REDUCE, 84, 1.7},    {COLL_GATHER, 85, 1.7},
              {COLL_SCATTER, 85, 1.8}};

static void the_choice_is_nearly_the_best(void **state)
{
	static const int shapes[][2] = {{2, 1}, {3, 1}, {4, 1}, {6, 1}, {8, 1}, {16, 1}, {2, 2},
	                                {4, 2}, {8, 2}, {2, 4}, {4, 4}, {3, 8}, {8, 8}};
	static const double cables[][2] = {{1, 20}, {10, 20}, {10, 5}, {100, 5}};
	bool kept = true;
	(void)state;
	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		struct score score = {0};
		for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
			for (size_t k = 0; k < sizeof(cables) / sizeof(cables[0]); k++)
				one_cluster(bounds[i].coll, shapes[s][0], shapes[s][1], cables[k][0], cables[k][1],
				            &score);
		printf("%s: %d cases, %d within a tenth of the best; the worst: %s\n", coll_name(bounds[i].coll),
		       score.cases, score.good, score.what);
		kept = kept && score.worst <= bounds[i].worst && 100 * score.good >= bounds[i].good * score.cases;
	}
	assert_true(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_choice_is_nearly_the_best)};
	return cmocka_run_group_tests_name("tuner and simulator", tests, NULL, NULL);
}
