/* SPDX-License-Identifier: MIT */
/*
 * Proves the planners: every algorithm, every collective it serves, every size up to 64 and some larger. Up to 8
 * ranks with all roots, channels, and every strand as the straggler; beyond that with a sample of them, drawn from a
 * seed that is printed. TUTTI_TEST_SEED=<number> repeats a sample; TUTTI_TEST_FULL=1 does all roots, channels and shapes
 * for all sizes up to 64, with every strand as the straggler up to 16 ranks and eight of them beyond that.
 * TUTTI_TEST_CASE=<algorithm> limits it to one.
 */
#include "../seed.h"
#include "plan_set.h"

#include <time.h>

static uint64_t seed;
static bool full;

static uint64_t draw(uint64_t below)
{
	return draw_from(&seed, below);
}

static int get_ready(void **state)
{
	(void)state;
	full = getenv("TUTTI_TEST_FULL") != NULL;
	seed = test_seed();
	printf("TUTTI_TEST_SEED=%llu%s\n", (unsigned long long)seed, full ? " TUTTI_TEST_FULL=1" : "");
	return 0;
}

/* ---- one set of plans ------------------------------------------------------------------------------------------ */

/*
 * What became of the claims: that a send from IN or OUT may be read in place by its receiver, and that each block of an
 * allreduce is folded by one rank.
 */
struct verdict {
	bool claimed, refuted;
	bool once, twice;
};

static void run_or_fail(struct checker *c, const struct check_run *run)
{
	char why[WHY];
	if (!checker_run(c, run, why, sizeof(why)))
		fail_msg("%s [slots %d, chunks %d%s%s, order %d, straggler %d, seed %llu]", why, run->slots,
		         run->chunks, run->ragged ? " ragged" : "", run->in_place ? ", in place" : "", run->order,
		         run->straggler, (unsigned long long)run->seed);
}

/* One chunk only where memory would not do for more. */
static struct check_run some_run(const struct algo *algo, int n, bool in_place)
{
	static const int slots[] = {2, 2, 3, 8};
	return (struct check_run){
	        .slots = slots[draw(4)],
	        .chunks = n > 64 ? 1 : 1 + (int)draw(3),
	        .ragged = draw(2),
	        .in_place = in_place,
	        .rank_order = algo->flags & ALGO_RANK_ORDER,
	        .order = (enum check_order)draw(CHECK_ORDERS),
	        .straggler = -1,
	        .seed = draw(1u << 30),
	};
}

/* Each strand as the straggler; at most `most` of them, drawn. */
static void run_stragglers(struct checker *c, const struct algo *algo, int n, bool in_place, int most)
{
	int strands = checker_strands(c);
	for (int i = 0; i < strands && i < most; i++) {
		struct check_run run = some_run(algo, n, in_place);
		run.straggler = strands <= most ? i : (int)draw((uint64_t)strands);
		run_or_fail(c, &run);
	}
}

/* All slots, chunks and orders, with blocks of equal length and without. */
static void run_all(struct checker *c, const struct algo *algo, int n, bool in_place)
{
	static const int slots[] = {2, 3, 8};
	struct check_run run = some_run(algo, n, in_place);
	for (int i = 0; i < 3 * 3 * CHECK_ORDERS * 2; i++) {
		run.slots = slots[i % 3];
		run.chunks = 1 + i / 3 % 3;
		run.order = (enum check_order)(i / 9 % CHECK_ORDERS);
		run.ragged = i / 9 / CHECK_ORDERS;
		run.seed++;
		run_or_fail(c, &run);
	}
}

/* `work`: about so many steps may be run on it; 0: as many as there are. Returns the steps of the set. */
static size_t prove(const struct algo *algo, const struct plan_args *a, size_t work, struct verdict *v)
{
	static struct plan_set s;
	char why[WHY];
	const char *reference;
	build_set(&s, algo, *a);
	struct checker *c = look_at(&s, why);
	if (!c)
		fail_msg("%s", why);
	int most = work ? (int)(work / 4 / (s.steps + 1)) + 1 : a->nranks <= 16 ? checker_strands(c) : 8;
	for (int in_place = 0; in_place < 2; in_place++) {
		struct check_run run = some_run(algo, a->nranks, in_place);
		run_or_fail(c, &run);
		if (!work && a->nranks <= 6)
			run_all(c, algo, a->nranks, in_place);
		run_stragglers(c, algo, a->nranks, in_place, most);
	}
	bool safe = checker_by_reference(c, &reference);
	v->claimed = s.plan[0]->by_reference;
	v->refuted |= !safe;
	if (v->claimed && !safe)
		fail_msg("claims to be safe by reference, but %s", reference);
	v->once = algo->flags & ALGO_FOLDS_ONCE;
	v->twice |= !checker_folds_once(c);
	if (a->coll == COLL_ALLREDUCE && v->once && v->twice)
		fail_msg("%s claims that one rank folds each block, but several do", algo->name);
	checker_free(c);
	free_set(&s);
	return s.steps;
}

/* ---- which sets ------------------------------------------------------------------------------------------------ */

/* All channels, up to as many as the algorithm uses. */
static void prove_channels(const struct algo *algo, struct plan_args a, struct verdict *v)
{
	size_t steps = 0, before;
	for (a.channels = 1; a.channels <= 4 && algo_serves(algo, &a); a.channels++) {
		before = steps;
		steps = prove(algo, &a, 0, v);
		if (steps == before)
			break;
	}
}

/*
 * All roots and channels; all shapes for an algorithm that uses the shape, otherwise two: one that ignores it is proved
 * twice.
 */
static void prove_all(const struct algo *algo, enum coll coll, int n, struct verdict *v)
{
	struct plan_args a = {.coll = coll, .nranks = n};
	for (int i = 0; i < (algo->can ? (int)SHAPES : 2); i++) {
		int kind = algo->can || !i ? i : 1 + (int)draw(SHAPES - 1);
		a.shape = make_shape((enum shape_kind)kind, n, &seed);
		for (a.root = 0; a.root < (is_rooted(coll) ? n : 1); a.root++)
			prove_channels(algo, a, v);
	}
}

static void prove_one(const struct algo *algo, enum coll coll, int n, size_t work, struct verdict *v)
{
	struct plan_args a = {.coll = coll, .nranks = n};
	a.root = is_rooted(coll) ? (int)draw((uint64_t)n) : 0;
	a.channels = n > 64 ? 1 : 1 + (int)draw(4);
	for (int kind = (int)draw(SHAPES), tries = 0; tries < SHAPES; tries++, kind = (kind + 1) % SHAPES) {
		a.shape = make_shape((enum shape_kind)kind, n, &seed);
		if (algo_serves(algo, &a)) {
			prove(algo, &a, work, v);
			return;
		}
	}
}

/* Steps of all ranks together grow with n log n or with n squared: only the first kind is for 1000 ranks every day. */
static bool is_light(const struct algo *algo, enum coll coll)
{
	static const int host[100] = {[50 ... 99] = 1};
	const struct shape shape = {.nranks = 100, .nhosts = 2, .host = host};
	struct plan_args a = {.coll = coll, .nranks = 100, .rank = 99, .channels = 1, .shape = &shape};
	struct plan *p = algo_plan(algo, &a);
	assert_non_null(p);
	bool light = p->nsteps < 50;
	plan_free(p);
	return light;
}

static void prove_coll(const struct algo *algo, enum coll coll)
{
	struct verdict v = {0};
	clock_t start = clock();
	for (int n = 1; n <= (full ? 64 : 8); n++)
		prove_all(algo, coll, n, &v);
	for (int n = 9; !full && n <= 64; n++)
		prove_one(algo, coll, n, 20000, &v);
	prove_one(algo, coll, 100, 20000, &v);
	if (full || is_light(algo, coll)) {
		prove_one(algo, coll, 255, 20000, &v);
		prove_one(algo, coll, 1000, 20000, &v);
	}
	if (!v.claimed && !v.refuted)
		fail_msg("%s:%s may run by reference, but does not claim it", coll_name(coll), algo->name);
	if (coll == COLL_ALLREDUCE && !v.once && !v.twice)
		fail_msg("%s folds each block on one rank, but does not claim it", algo->name);
	printf("  %s:%s %.1f s\n", coll_name(coll), algo->name, (double)(clock() - start) / CLOCKS_PER_SEC);
}

static void prove_algo(void **state)
{
	const struct algo *algo = *state;
	for (int coll = 0; coll < COLL_COUNT; coll++)
		if (algo->colls >> coll & 1)
			prove_coll(algo, (enum coll)coll);
}

int main(void)
{
	struct CMUnitTest tests[64];
	size_t n = 0;
	for (const struct algo *const *a = algo_table; *a; a++)
		tests[n++] = (struct CMUnitTest){(*a)->name, prove_algo, NULL, NULL, (void *)(uintptr_t)*a};
	cmocka_set_test_filter(getenv("TUTTI_TEST_CASE"));
	return _cmocka_run_group_tests("plans", tests, n, get_ready, NULL);
}
