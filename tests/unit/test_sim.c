/* The simulator against what can be worked out by hand, and on every algorithm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../src/sim/sim.h"
#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */

#include <cmocka.h>


#define MOST 64
#define BYTE 1e-9
#define LAG  5e-6

/* Each rank is a host with a cable of two directions; or all share one wire. */
struct bench {
	struct sim_cluster cluster;
	double byte[2 * MOST];
	bool one_wire;
};

static void route(const struct sim_cluster *c, int from, int to, struct sim_route *out)
{
	const struct bench *b = c->ctx;
	*out = (struct sim_route){.latency = LAG, .hops = b->one_wire ? 1 : 2};
	out->hop[0] = b->one_wire ? 0 : from;
	out->hop[1] = c->nranks + to;
}

static struct bench *bench(int n, bool one_wire)
{
	static struct bench b;
	b = (struct bench){.one_wire = one_wire};
	for (int i = 0; i < 2 * MOST; i++)
		b.byte[i] = BYTE;
	b.cluster = (struct sim_cluster){.nranks = n, .nresources = 2 * n, .byte = b.byte, .ctx = &b, .route = route};
	return &b;
}

static struct sim_result run(struct bench *b, const char *algo, struct sim_call call)
{
	struct sim_result r;
	call.algo = algo_by_name(algo);
	call.channels = call.channels ? call.channels : 1;
	call.slots = call.slots ? call.slots : 4;
	call.slot = call.slot ? call.slot : 1 << 20;
	if (sim_run(&b->cluster, &call, &r) != TUTTI_OK)
		fail_msg("%s of %d ranks: %s", algo, b->cluster.nranks, fail_text());
	return r;
}

static void near_to(double got, double want, double share)
{
	if (fabs(got - want) > share * want)
		fail_msg("%g, not %g", got, want);
}

static void a_ring_takes_its_rounds(void **state)
{
	(void)state;
	for (int n = 2; n <= 16; n++) {
		size_t bytes = 4096 * (size_t)n;
		struct sim_call c = {.coll = COLL_ALLREDUCE, .count = bytes / 4, .esize = 4};
		struct sim_result r = run(bench(n, false), "ring", c);
		near_to(r.seconds, 2 * (n - 1) * (LAG + 4096 * BYTE), 1e-9);
		assert_int_equal(r.messages, 2 * n * (n - 1));
		assert_int_equal(r.bytes, 2 * (uint64_t)(n - 1) * bytes);
		near_to(r.busiest, 2 * (n - 1) * 4096 * BYTE / r.seconds, 1e-9);
	}
}

static void who_shares_a_wire_takes_turns(void **state)
{
	struct sim_call c = {.coll = COLL_ALLGATHER, .count = 1000, .esize = 8};
	(void)state;
	near_to(run(bench(2, false), "ring", c).seconds, LAG + 8000 * BYTE, 1e-9);
	struct sim_result r = run(bench(2, true), "ring", c);
	near_to(r.seconds, LAG + 16000 * BYTE, 1e-9);
	near_to(r.first, LAG + 8000 * BYTE, 1e-9);
	assert_int_equal(r.busiest_at, 0);
	/* all that crosses it, and little more */
	r = run(bench(8, true), "pairwise", c);
	near_to(r.seconds, LAG + 8 * 7 * 8000 * BYTE, 1e-6);
}

static void a_rank_has_one_pair_of_hands(void **state)
{
	struct sim_call c = {.coll = COLL_ALLREDUCE, .count = 1 << 16, .esize = 4};
	struct bench *b = bench(4, false);
	double without = run(b, "ring", c).seconds;
	(void)state;
	b->cluster.reduce = 1e-10;
	/* each of three rounds reduces a quarter of the vector */
	near_to(run(b, "ring", c).seconds - without, 3 * 65536 * 1e-10, 1e-6);
}

static void a_late_rank_makes_all_late(void **state)
{
	struct sim_call c = {.coll = COLL_ALLREDUCE, .count = 1024, .esize = 4};
	struct bench *b = bench(5, false);
	double skew[5] = {0, 0, 0, 1e-3, 0}, without = run(b, "doubling", c).seconds;
	(void)state;
	b->cluster.skew = skew;
	struct sim_result r = run(b, "doubling", c);
	assert_true(r.seconds > 1e-3 && r.seconds <= 1e-3 + without + 1e-12);
}

/* A long stream through few slots waits for its credits; with more of them the cable is the limit. */
static void slots_are_a_limit(void **state)
{
	struct sim_call c = {.coll = COLL_BROADCAST, .count = 1 << 22, .esize = 1, .slot = 4096, .slots = 2};
	struct sim_result few = run(bench(2, false), "ring", c), many;
	(void)state;
	c.slots = 64;
	many = run(bench(2, false), "ring", c);
	near_to(many.seconds, (1 << 22) * BYTE + LAG, 0.01);
	/* two messages in a round trip */
	near_to(few.seconds, (1 << 10) / 2 * (2 * LAG + 4096 * BYTE), 0.02);
}

/* Whatever is served comes to its end, in not less than the busiest cable needs. */
static void every_algorithm_ends(void **state)
{
	(void)state;
	for (int a = 0; algo_table[a]; a++)
		for (int coll = 0; coll < COLL_COUNT; coll++)
			for (int n = 1; n <= 17; n += n < 9 ? 1 : 4) {
				int host[MOST];
				struct shape shape = {n, n > 3 ? 2 : n, host};
				struct sim_call c = {
				        .coll = (enum coll)coll, .shape = &shape, .root = n / 2, .channels = 2};
				struct plan_args args = {.coll = c.coll, .nranks = n, .channels = 2, .shape = &shape};
				for (int r = 0; r < n; r++)
					host[r] = n > 3 ? r >= n / 2 : r;
				args.root = c.root = coll == COLL_BROADCAST || coll == COLL_REDUCE ||
				                                     coll == COLL_GATHER || coll == COLL_SCATTER
				                             ? n / 2
				                             : 0;
				if (!(algo_table[a]->colls >> coll & 1) || !algo_serves(algo_table[a], &args))
					continue;
				c.count = 5003;
				c.esize = 4;
				c.slots = 2;
				c.slot = 2048;
				struct sim_result r = run(bench(n, false), algo_table[a]->name, c);
				assert_true(isfinite(r.seconds) && r.seconds >= 0 && r.first <= r.seconds);
				assert_true(n == 1 || (r.messages > 0 && r.seconds >= LAG && r.busiest <= 1.0000001));
			}
}

static void what_cannot_be_done_is_said(void **state)
{
	struct sim_result r;
	struct sim_call c = {
	        .coll = COLL_BROADCAST, .algo = algo_by_name("doubling"), .count = 1, .esize = 4, .slots = 2};
	(void)state;
	c.channels = 1;
	c.slot = 4096;
	assert_int_equal(sim_run(&bench(3, false)->cluster, &c, &r), TUTTI_EINVAL);
	c = (struct sim_call){
	        .coll = COLL_ALLGATHER, .algo = algo_by_name("bruck"), .count = 9, .esize = 8, .slots = 2};
	c.channels = 1;
	c.slot = 16;
	assert_int_equal(sim_run(&bench(16, false)->cluster, &c, &r), TUTTI_EUNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_ring_takes_its_rounds),
	        cmocka_unit_test(who_shares_a_wire_takes_turns),
	        cmocka_unit_test(a_rank_has_one_pair_of_hands),
	        cmocka_unit_test(a_late_rank_makes_all_late),
	        cmocka_unit_test(slots_are_a_limit),
	        cmocka_unit_test(every_algorithm_ends),
	        cmocka_unit_test(what_cannot_be_done_is_said),
	};
	return cmocka_run_group_tests_name("simulator", tests, NULL, NULL);
}
