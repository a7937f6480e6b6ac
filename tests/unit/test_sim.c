/* SPDX-License-Identifier: MIT */
/* The simulator against what can be worked out by hand, and on every algorithm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */
#include "../../tools/sim/sim.h"

#include <cmocka.h>

#define MOST 64
#define BYTE 1e-9
#define LAG  5e-6

/* Each rank is a host with a cable of two directions; or all share one wire. */
struct bench {
	struct sim_cluster cluster;
	double byte[2 * MOST];
	bool one_wire;
	double frames, slow; /* what frames cost; rank 0's own time for a message that it sends */
};

static void route(const struct sim_cluster *c, int from, int to, struct sim_route *out)
{
	const struct bench *b = c->ctx;
	*out = (struct sim_route){.latency = LAG, .hops = b->one_wire ? 1 : 2, .frame = 1000, .frames = b->frames};
	out->send = from ? 0 : b->slow;
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

/* What waits for its own cable has no place yet at the receiver's: no cable ever rests. */
static void messages_queue_where_they_are(void **state)
{
	struct sim_call c = {.coll = COLL_ALLGATHER, .count = 1000, .esize = 8};
	(void)state;
	for (int n = 3; n <= 16; n++)
		near_to(run(bench(n, false), "pairwise", c).seconds, LAG + (n - 1) * 8000 * BYTE, 1e-9);
}

/* Nor what its rank is still at work for. */
static void messages_leave_when_they_are_made(void **state)
{
	struct sim_call c = {.coll = COLL_GATHER, .count = 1000, .esize = 8, .root = 2};
	struct bench *b = bench(3, false);
	double skew[3] = {0, 1e-6, 0};
	(void)state;
	b->slow = 24e-6; /* it begins first, and sends last */
	b->cluster.skew = skew;
	near_to(run(b, "linear", c).seconds, LAG + 24e-6 + 8000 * BYTE, 1e-9);
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

/* At both ends, and for messages that take more than one only. */
static void frames_take_time(void **state)
{
	struct sim_call small = {.coll = COLL_BROADCAST, .count = 250, .esize = 4},
	                large = {.coll = COLL_BROADCAST, .count = 251, .esize = 4};
	struct bench *b = bench(2, false);
	(void)state;
	b->frames = 1e-6;
	near_to(run(b, "binomial", small).seconds, LAG + 1000 * BYTE, 1e-9);
	near_to(run(b, "binomial", large).seconds, LAG + 1004 * BYTE + 2e-6, 1e-9);
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
				struct shape shape = {.nranks = n, .nhosts = n > 3 ? 2 : n, .host = host};
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

/* ---- symmetry and rhythm ----------------------------------------------------------------------------------------- */

/*
 * Hosts of `per` ranks: a cable out, one in, and a memory each, one host after the other; ranks of a host share what it
 * has.
 */
static void route_of_hosts(const struct sim_cluster *c, int from, int to, struct sim_route *out)
{
	int per = c->nranks / c->units, a = from / per, b = to / per;
	if (a == b)
		*out = (struct sim_route){
		        .latency = 1e-7, .send = 1e-7, .receive = 1e-7, .copy = 1e-11, .hops = 1, .hop = {3 * a + 2}};
	else
		*out = (struct sim_route){.latency = LAG,
		                          .send = 1e-6,
		                          .receive = 2e-6,
		                          .copy = 1e-10,
		                          .hops = 2,
		                          .hop = {3 * a, 3 * b + 1}};
}

struct racks {
	struct sim_cluster cluster;
	struct shape shape;
	double byte[3 * 256];
	int host[256], cores[256];
};

static void make_racks(struct racks *x, int hosts, int per, int cores)
{
	*x = (struct racks){0};
	for (int i = 0; i < 3 * hosts; i++)
		x->byte[i] = i % 3 == 2 ? BYTE / 50 : BYTE;
	for (int i = 0; i < hosts * per; i++)
		x->host[i] = i / per;
	for (int i = 0; i < hosts; i++)
		x->cores[i] = cores;
	x->shape = (struct shape){.nranks = hosts * per, .nhosts = hosts, .host = x->host};
	x->cluster = (struct sim_cluster){.nranks = hosts * per,
	                                  .nresources = 3 * hosts,
	                                  .units = hosts,
	                                  .byte = x->byte,
	                                  .copy = 1e-10,
	                                  .reduce = 2e-10,
	                                  .cpu = x->host,
	                                  .cores = x->cores,
	                                  .ncpus = hosts,
	                                  .route = route_of_hosts};
}

/* Folded and whole are the same to the last digits, where messages of different units don't meet at the same moment. */
static void one_for_all(struct racks *x, const char *algo, enum coll coll, size_t bytes, double share)
{
	struct sim_result folded, whole;
	int n = x->cluster.nranks;
	struct sim_call c = {.coll = coll,
	                     .algo = algo_by_name(algo),
	                     .channels = 1,
	                     .shape = &x->shape,
	                     .count = bytes / 4 / (size_t)n * (coll_owned(coll) ? 1 : (size_t)n),
	                     .esize = 4,
	                     .slot = 16384,
	                     .slots = 4};
	struct plan_args a = {.coll = coll, .nranks = n, .channels = 1, .shape = &x->shape};
	if (!algo_serves(c.algo, &a))
		return;
	assert_int_equal(sim_run(&x->cluster, &c, &folded), TUTTI_OK);
	c.whole = true;
	assert_int_equal(sim_run(&x->cluster, &c, &whole), TUTTI_OK);
	if (folded.units != x->shape.nhosts || whole.units != 1)
		fail_msg("%s on %d hosts: %d units", algo, x->shape.nhosts, folded.units);
	if (fabs(folded.seconds - whole.seconds) > share * whole.seconds || folded.messages != whole.messages ||
	    folded.bytes != whole.bytes)
		fail_msg("%s on %d ranks of %d hosts, %zu bytes: %.9g s by one unit, %.9g s by all", algo, n,
		         x->shape.nhosts, bytes, folded.seconds, whole.seconds);
}

static void one_unit_stands_for_all(void **state)
{
	static struct racks x;
	static const struct {
		int hosts, per, cores;
	} racks[] = {{8, 1, 1}, {7, 1, 1}, {4, 2, 2}, {8, 4, 2}, {5, 3, 3}, {16, 8, 8}, {32, 8, 4}, {12, 8, 8}};
	(void)state;
	for (size_t i = 0; i < sizeof(racks) / sizeof(racks[0]); i++) {
		int hosts = racks[i].hosts;
		make_racks(&x, hosts, racks[i].per, racks[i].cores);
		for (size_t bytes = 8192; bytes <= 8 << 20; bytes *= 32) {
			one_for_all(&x, "ring", COLL_ALLREDUCE, bytes, 1e-9);
			one_for_all(&x, "ring", COLL_ALLGATHER, bytes, 1e-9);
			one_for_all(&x, "hierarchy-ring", COLL_ALLREDUCE, bytes, 1e-9);
			if (hosts & (hosts - 1))
				continue;
			one_for_all(&x, "hierarchy", COLL_ALLREDUCE, bytes, 1e-9);
			if ((racks[i].per & (racks[i].per - 1)) == 0)
				one_for_all(&x, "doubling", COLL_ALLREDUCE, bytes, 1e-9);
		}
	}
}

/* Blocks that aren't equally long count as the longest: between what fewer and more elements take. */
static void uneven_blocks_count_as_the_longest(void **state)
{
	static struct racks x;
	struct sim_result folded, least, most;
	make_racks(&x, 8, 2, 2);
	struct sim_call c = {.coll = COLL_ALLREDUCE,
	                     .algo = algo_by_name("ring"),
	                     .channels = 1,
	                     .shape = &x.shape,
	                     .count = 16 * 100 + 5,
	                     .esize = 4,
	                     .slot = 16384,
	                     .slots = 4};
	(void)state;
	assert_int_equal(sim_run(&x.cluster, &c, &folded), TUTTI_OK);
	c.whole = true;
	assert_int_equal(sim_run(&x.cluster, &c, &least), TUTTI_OK);
	c.count = 16 * 101;
	assert_int_equal(sim_run(&x.cluster, &c, &most), TUTTI_OK);
	assert_int_equal(folded.units, 8);
	assert_true(least.seconds <= folded.seconds);
	near_to(folded.seconds, most.seconds, 1e-9);
}

/*
 * Unequal parts are simulated one by one: a tree, a root, a late rank, a number of hosts that is not a power of two.
 */
static void what_is_not_alike_stays_whole(void **state)
{
	static struct racks x;
	static const struct {
		const char *algo;
		enum coll coll;
	} cases[] = {{"tree", COLL_ALLREDUCE},
	             {"ring", COLL_BROADCAST},
	             {"doubling", COLL_ALLREDUCE},
	             {"hierarchy", COLL_ALLREDUCE},
	             {"ring", COLL_ALLREDUCE}};
	double skew[12] = {0};
	struct sim_result r;
	(void)state;
	skew[7] = 1e-6;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_racks(&x, 6, 2, 2);
		struct sim_call c = {.coll = cases[i].coll,
		                     .algo = algo_by_name(cases[i].algo),
		                     .channels = 1,
		                     .shape = &x.shape,
		                     .count = 1200,
		                     .esize = 4,
		                     .slot = 16384,
		                     .slots = 4};
		x.cluster.skew = i == 4 ? skew : NULL;
		assert_int_equal(sim_run(&x.cluster, &c, &r), TUTTI_OK);
		if (r.units != 1)
			fail_msg("%s: %d units", cases[i].algo, r.units);
	}
}

static void a_long_stream_keeps_its_rhythm(void **state)
{
	static const char *const algos[] = {"tree", "doubling", "ring", "hierarchy", "hierarchy-ring"};
	static struct racks x;
	struct sim_result all, some;
	(void)state;
	make_racks(&x, 6, 2, 1);
	for (size_t i = 0; i < sizeof(algos) / sizeof(algos[0]); i++) {
		struct sim_call c = {.coll = COLL_ALLREDUCE,
		                     .algo = algo_by_name(algos[i]),
		                     .channels = 1,
		                     .shape = &x.shape,
		                     .count = 12 << 18,
		                     .esize = 4,
		                     .slot = 2048,
		                     .slots = 4,
		                     .whole = true};
		assert_int_equal(sim_run(&x.cluster, &c, &all), TUTTI_OK);
		c.work = 1;
		assert_int_equal(sim_run(&x.cluster, &c, &some), TUTTI_OK);
		assert_true(all.rest == 0 && some.rest > 100);
		if (fabs(all.seconds - some.seconds) > 0.03 * all.seconds)
			fail_msg("%s: %g s by its rhythm, %g s chunk by chunk", algos[i], some.seconds, all.seconds);
		near_to((double)some.bytes, (double)all.bytes, 0.01);
	}
}

/* A token bucket: what fits into it passes at once; what comes then waits for as much less. */
static void a_bucket_lets_the_first_bytes_through(void **state)
{
	struct sim_call c = {.coll = COLL_ALLGATHER, .count = 1000, .esize = 8};
	struct bench *b = bench(2, false);
	double burst[2 * MOST] = {3000, 3000, 3000, 3000};
	(void)state;
	b->cluster.burst = burst;
	near_to(run(b, "ring", c).seconds, LAG + 5000 * BYTE, 1e-9);
	c.count = 300;
	near_to(run(b, "ring", c).seconds, LAG, 1e-9);
	c = (struct sim_call){.coll = COLL_BROADCAST, .count = 1 << 20, .esize = 1, .slot = 4096, .slots = 64};
	near_to(run(b, "ring", c).seconds, LAG + ((1 << 20) - 3000) * BYTE, 1e-6);
}

/* Of calls at each other's heels only the first one finds full buckets. */
static void buckets_stay_empty_in_calls_on_end(void **state)
{
	struct sim_call c = {.coll = COLL_ALLGATHER, .count = 1000, .esize = 8};
	struct bench *b = bench(2, false);
	double burst[2 * MOST] = {9000, 9000, 9000, 9000}, alone = run(b, "ring", c).seconds;
	(void)state;
	c.before = 5;
	near_to(run(b, "ring", c).seconds, alone, 1e-9);
	b->cluster.burst = burst;
	near_to(run(b, "ring", c).seconds, 8000 * BYTE, 1e-9); /* what was saved of the latency is spent again */
	c.before = 0;
	near_to(run(b, "ring", c).seconds, LAG, 1e-9);
}

/* Two ranks of a host on one core take turns. */
static void ranks_share_cores(void **state)
{
	static struct racks x;
	struct sim_result alone, shared;
	struct sim_call c = {
	        .coll = COLL_ALLREDUCE, .algo = algo_by_name("pairwise"), .channels = 1, .shape = &x.shape};
	(void)state;
	c.count = 1 << 20;
	c.esize = 4;
	c.slot = 1 << 22;
	c.slots = 4;
	make_racks(&x, 1, 2, 2);
	x.cluster.reduce = x.cluster.copy = 1e-7; /* what computing takes is all */
	assert_int_equal(sim_run(&x.cluster, &c, &alone), TUTTI_OK);
	x.cores[0] = 1;
	assert_int_equal(sim_run(&x.cluster, &c, &shared), TUTTI_OK);
	/* rank 0 folds its half and takes over the other; rank 1 puts the first part into scratch before it folds */
	near_to(alone.seconds, 3 * (2 << 20) * 1e-7, 0.01);
	near_to(shared.seconds, 5 * (2 << 20) * 1e-7, 0.01);
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
	c.algo = algo_by_name("ring"); /* more slots than an event can number */
	c.slot = 4096;
	c.slots = 1 << 28;
	assert_int_equal(sim_run(&bench(16, false)->cluster, &c, &r), TUTTI_EUNSUPPORTED);
	assert_non_null(strstr(fail_text(), "more slots"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_ring_takes_its_rounds),
	        cmocka_unit_test(who_shares_a_wire_takes_turns),
	        cmocka_unit_test(messages_queue_where_they_are),
	        cmocka_unit_test(messages_leave_when_they_are_made),
	        cmocka_unit_test(a_rank_has_one_pair_of_hands),
	        cmocka_unit_test(a_late_rank_makes_all_late),
	        cmocka_unit_test(slots_are_a_limit),
	        cmocka_unit_test(every_algorithm_ends),
	        cmocka_unit_test(one_unit_stands_for_all),
	        cmocka_unit_test(uneven_blocks_count_as_the_longest),
	        cmocka_unit_test(what_is_not_alike_stays_whole),
	        cmocka_unit_test(a_long_stream_keeps_its_rhythm),
	        cmocka_unit_test(a_bucket_lets_the_first_bytes_through),
	        cmocka_unit_test(buckets_stay_empty_in_calls_on_end),
	        cmocka_unit_test(ranks_share_cores),
	        cmocka_unit_test(frames_take_time),
	        cmocka_unit_test(what_cannot_be_done_is_said),
	};
	return cmocka_run_group_tests_name("simulator", tests, NULL, NULL);
}
