/*
 * Proves the planners: every algorithm, every collective it serves, every size. Small sizes with all roots, channels,
 * shapes, slots and chunks; larger ones with a sample of them, drawn from a seed that is printed. CHECK_SEED=<number>
 * repeats a sample, CHECK_FULL=1 leaves nothing out up to 64 ranks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../../src/algo/algo.h"
#include "../../src/plan_check.h"

static uint64_t seed = 20260101;
static bool full;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static int get_ready(void **state)
{
	(void)state;
	const char *given = getenv("CHECK_SEED");
	full = getenv("CHECK_FULL") != NULL;
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	printf("CHECK_SEED=%llu%s\n", (unsigned long long)seed, full ? " CHECK_FULL=1" : "");
	return 0;
}

/* ---- shapes ---------------------------------------------------------------------------------------------------------- */

#define MAX_RANKS 1000

enum shape_kind { APART, TOGETHER, TWOS, FOURS, UNEVEN, SCATTERED, SHAPES };

static const struct shape *make_shape(enum shape_kind kind, int n)
{
	static int host[MAX_RANKS];
	static struct shape s;
	s = (struct shape){.nranks = n, .nhosts = 0, .host = host};
	for (int r = 0, left = 0; r < n; r++) {
		if (kind == TOGETHER)
			host[r] = 0;
		else if (kind == SCATTERED)
			host[r] = r % (1 + n / 3);
		else if (kind == UNEVEN)
			host[r] = r == 0 ? 0 : left > 0 ? host[r - 1] : host[r - 1] + 1;
		else
			host[r] = r / (kind == TWOS ? 2 : 4);
		left = left > 0 ? left - 1 : (int)draw(5);
		if (host[r] >= s.nhosts)
			s.nhosts = host[r] + 1;
	}
	return kind == APART ? NULL : &s;
}

/* ---- one set of plans -------------------------------------------------------------------------------------------------- */

struct plan_set {
	struct plan *plan[MAX_RANKS];
	int n;
	size_t steps;
};

static void build_set(struct plan_set *s, const struct algo *algo, struct plan_args a)
{
	s->n = a.nranks;
	s->steps = 0;
	for (a.rank = 0; a.rank < a.nranks; a.rank++) {
		s->plan[a.rank] = algo_plan(algo, &a);
		assert_non_null(s->plan[a.rank]);
		s->steps += (size_t)s->plan[a.rank]->nsteps;
	}
}

static void free_set(struct plan_set *s)
{
	for (int r = 0; r < s->n; r++)
		plan_free(s->plan[r]);
}

static struct checker *look_at(struct plan_set *s, char *why, size_t size)
{
	return checker_create((const struct plan *const *)s->plan, s->n, why, size);
}

static void run_or_fail(struct checker *c, const struct check_run *run)
{
	char why[1500];
	if (!checker_run(c, run, why, sizeof(why)))
		fail_msg("%s [slots %d, chunks %d%s%s, order %d, straggler %d, seed %llu]", why, run->slots, run->chunks,
			 run->ragged ? " ragged" : "", run->in_place ? ", in place" : "", run->order, run->straggler,
			 (unsigned long long)run->seed);
}

static struct check_run some_run(const struct algo *algo, bool in_place)
{
	static const int slots[] = {2, 2, 3, 8};
	return (struct check_run){
		.slots = slots[draw(4)], .chunks = 1 + (int)draw(3), .ragged = draw(2), .in_place = in_place,
		.rank_order = algo->flags & ALGO_RANK_ORDER, .order = (enum check_order)draw(CHECK_ORDERS),
		.straggler = -1, .seed = draw(1u << 30),
	};
}

/* All strands as the straggler, or `most` of them. */
static void run_stragglers(struct checker *c, const struct algo *algo, bool in_place, int most)
{
	int strands = checker_strands(c);
	for (int i = 0; i < strands && i < most; i++) {
		struct check_run run = some_run(algo, in_place);
		run.straggler = strands <= most ? i : (int)draw((uint64_t)strands);
		run_or_fail(c, &run);
	}
}

static void run_all(struct checker *c, const struct algo *algo, bool in_place)
{
	static const int slots[] = {2, 3, 8};
	struct check_run run = some_run(algo, in_place);
	for (int i = 0; i < 3; i++) {
		for (run.chunks = 1; run.chunks <= 3; run.chunks++) {
			for (int order = 0; order < CHECK_ORDERS; order++) {
				run.slots = slots[i];
				run.order = (enum check_order)order;
				run.ragged = false;
				run_or_fail(c, &run);
				run.ragged = true;
				run.seed++;
				run_or_fail(c, &run);
			}
		}
	}
}

/* What became of the claim that a send from IN or OUT may be read in place by its receiver. */
struct verdict {
	bool claimed, refuted;
	char why[400];
};

/* Proves one set of plans; `thorough`: every combination, otherwise a handful of runs. */
static void prove(const struct algo *algo, const struct plan_args *a, bool thorough, struct verdict *v)
{
	static struct plan_set s;
	char why[1500];
	const char *reference;
	build_set(&s, algo, *a);
	struct checker *c = look_at(&s, why, sizeof(why));
	if (!c)
		fail_msg("%s", why);
	int strands = checker_strands(c), most = (int)(400000 / (s.steps + 1)) + 2;
	if (!thorough)
		most = most > 40 ? 10 : most / 4 + 1;
	for (int in_place = 0; in_place < 2; in_place++) {
		if (thorough)
			run_all(c, algo, in_place);
		for (int i = 0; i < 3; i++) {
			struct check_run run = some_run(algo, in_place);
			run_or_fail(c, &run);
		}
		run_stragglers(c, algo, in_place, full && a->nranks <= 64 ? strands : most);
	}
	bool safe = checker_by_reference(c, &reference);
	if (s.plan[0]->by_reference && !safe)
		fail_msg("claims to be safe by reference, but %s", reference);
	v->claimed = s.plan[0]->by_reference;
	v->refuted |= !safe;
	checker_free(c);
	free_set(&s);
}

static bool is_rooted(enum coll coll)
{
	return coll == COLL_BROADCAST || coll == COLL_REDUCE || coll == COLL_GATHER || coll == COLL_SCATTER;
}

static void prove_small(const struct algo *algo, enum coll coll, int n, struct verdict *v)
{
	struct plan_args a = {.coll = coll, .nranks = n};
	for (int kind = 0; kind < SHAPES; kind++) {
		a.shape = make_shape((enum shape_kind)kind, n);
		for (a.channels = 1; a.channels <= 4; a.channels++)
			for (a.root = 0; a.root < (is_rooted(coll) ? n : 1); a.root++)
				if (algo_serves(algo, &a))
					prove(algo, &a, n <= 5 && kind < 2, v);
	}
}

static void prove_sample(const struct algo *algo, enum coll coll, int n, int samples, struct verdict *v)
{
	for (int i = 0; i < samples; i++) {
		struct plan_args a = {.coll = coll, .nranks = n};
		a.root = is_rooted(coll) ? (int)draw((uint64_t)n) : 0;
		a.channels = 1 + (int)draw(4);
		for (int kind = (int)draw(SHAPES), k = 0; k < SHAPES; k++, kind = (kind + 1) % SHAPES) {
			a.shape = make_shape((enum shape_kind)kind, n);
			if (algo_serves(algo, &a))
				break;
		}
		if (algo_serves(algo, &a))
			prove(algo, &a, false, v);
	}
}

static void prove_algo(void **state)
{
	const struct algo *algo = *state;
	for (int coll = 0; coll < COLL_COUNT; coll++) {
		struct verdict v = {0};
		clock_t start = clock();
		if (!(algo->colls >> coll & 1))
			continue;
		for (int n = 1; n <= 64; n++) {
			if (n <= (full ? 64 : 8))
				prove_small(algo, (enum coll)coll, n, &v);
			else
				prove_sample(algo, (enum coll)coll, n, 2, &v);
		}
		if (!v.claimed && !v.refuted)
			fail_msg("%s:%s may run by reference, but does not claim it", coll_name((enum coll)coll), algo->name);
		printf("%s:%s %.1f s\n", coll_name((enum coll)coll), algo->name, (double)(clock() - start) / CLOCKS_PER_SEC);
	}
}

int main(void)
{
	struct CMUnitTest tests[64];
	size_t n = 0;
	cmocka_set_test_filter(getenv("CHECK_ONLY"));
	for (const struct algo *const *a = algo_table; *a; a++)
		tests[n++] = (struct CMUnitTest){(*a)->name, prove_algo, NULL, NULL, (void *)(uintptr_t)*a};
	return _cmocka_run_group_tests("plans", tests, n, get_ready, NULL);
}
