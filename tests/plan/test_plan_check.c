/* SPDX-License-Identifier: MIT */
/*
 * The checker must see what is wrong, and say where. Good plans are broken on purpose: single faults of every kind at
 * a known place, and for every algorithm each step in turn.
 */
#include "plan_set.h"

static struct plan_set set;

static void build_some(const char *algo, enum coll coll, int n, int channels)
{
	uint64_t seed = 1;
	struct plan_args a = {.coll = coll, .nranks = n, .channels = channels, .shape = make_shape(TWOS, n, &seed)};
	const struct algo *row = algo_by_name(algo);
	assert_non_null(row);
	assert_true(algo_serves(row, &a));
	build_set(&set, row, a);
}

/* Looks, and runs with every strand as the straggler, apart and in place; the first complaint, or "". */
static const char *complaint(int slots, bool rank_order)
{
	static char why[WHY];
	why[0] = 0;
	struct checker *c = look_at(&set, why);
	bool ok = c;
	for (int straggler = -1; ok && straggler < checker_strands(c); straggler++) {
		struct check_run run = {.slots = slots, .chunks = 2, .straggler = straggler, .rank_order = rank_order};
		for (int i = 0; ok && i < 4; i++) {
			run.in_place = i % 2;
			run.ragged = i / 2;
			ok = checker_run(c, &run, why, sizeof(why));
		}
	}
	if (c && ok)
		why[0] = 0;
	checker_free(c);
	return why;
}

static void expect(const char *why, const char *where, const char *what)
{
	if (!strstr(why, where) || !strstr(why, what))
		fail_msg("wanted \"%s\" and \"%s\", got \"%s\"", where, what, why);
}

static struct step *step_of(int rank, int strand, int step)
{
	struct plan *p = set.plan[rank];
	assert_true(strand < p->nstrands && step < p->strands[strand].nsteps);
	return &p->steps[p->strands[strand].first + step];
}

static void drop_step(int rank, int strand, int step)
{
	struct plan *p = set.plan[rank];
	struct step *s = step_of(rank, strand, step);
	memmove(s, s + 1, (size_t)(p->steps + p->nsteps - (s + 1)) * sizeof(*s));
	p->nsteps--;
	p->strands[strand].nsteps--;
	for (int i = 0; i < p->nstrands; i++)
		p->strands[i].first -= i > strand;
}

static void swap_steps(int rank, int strand, int x, int y)
{
	struct step s = *step_of(rank, strand, x);
	*step_of(rank, strand, x) = *step_of(rank, strand, y);
	*step_of(rank, strand, y) = s;
}

/* ---- single faults, each at its place -------------------------------------------------------------------------- */

static void good_plans_pass(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 5, 2);
	assert_string_equal(complaint(2, false), "");
	free_set(&set);
	build_some("pairwise", COLL_ALLREDUCE, 5, 1);
	assert_string_equal(complaint(2, true), "");
	free_set(&set);
}

static void one_slot_stops_a_ring(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 4, 1);
	expect(complaint(1, false), "allreduce:ring n=4 root=0: stuck: rank 0 strand 0 step 1 chunk 0",
	       "waits for a free slot to rank 1 on lane 0 (1 slots); rank 1 strand 0 step 1");
	free_set(&set);
}

static void receiving_before_sending_is_stuck(void **state)
{
	(void)state;
	build_some("bruck", COLL_ALLGATHER, 4, 1);
	for (int r = 0; r < 4; r++)
		swap_steps(r, 0, 1, 2);
	expect(complaint(8, false), "stuck: rank 0 strand 0 step 1", "waits for message 0 from rank 1 on lane 0");
	free_set(&set);
}

static void message_without_receiver(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 4, 1);
	drop_step(2, 0, 6);
	expect(complaint(2, false), "allreduce:ring n=4 root=0 rank 1 strand 0 step 5",
	       "message 5 on lane 0, but rank 2 knows only 5");
	free_set(&set);
}

static void wrong_block_in_message(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 4, 1);
	step_of(1, 0, 0)->src_set.first = 2;
	expect(complaint(2, false), "rank 2 strand 0 step 1", "message 0 on lane 0 is not what rank 1 sends");
	free_set(&set);
}

static void swapped_operands(void **state)
{
	(void)state;
	build_some("doubling", COLL_ALLREDUCE, 4, 1);
	step_of(3, 0, 2)->flags ^= STEP_LOCAL_FIRST;
	expect(complaint(2, false), "rank 3: at the end OUT block 0", "was folded differently on another rank");
	free_set(&set);
}

static void fold_out_of_order(void **state)
{
	(void)state;
	build_some("pairwise", COLL_REDUCE_SCATTER, 4, 1);
	swap_steps(0, 0, 4, 5);
	step_of(0, 0, 4)->flags &= (uint8_t)~STEP_FINAL;
	step_of(0, 0, 5)->flags |= STEP_FINAL;
	assert_string_equal(complaint(2, false), "");
	expect(complaint(2, true), "rank 0: at the end OUT block 0", "was not folded in rank order");
	free_set(&set);
}

static void strand_that_does_not_wait(void **state)
{
	(void)state;
	build_some("pairwise", COLL_ALLREDUCE, 4, 1);
	set.plan[2]->strands[1].after = -1;
	expect(complaint(2, false), "rank 2 strand 1 step 0 (OUT[2] -> to 3.1) chunk 0", "reads before it is written");
	free_set(&set);
}

static void final_missing_or_early(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 4, 1);
	step_of(1, 0, 3)->flags ^= STEP_FINAL;
	expect(complaint(2, false), "rank 1 strand 0 step 3", "completes a sum without marking it as final");
	step_of(1, 0, 3)->flags ^= STEP_FINAL;
	step_of(1, 0, 2)->flags ^= STEP_FINAL;
	expect(complaint(2, false), "rank 1 strand 0 step 2", "marks a sum as final that lacks a rank");
	free_set(&set);
}

static void twice_the_same(void **state)
{
	(void)state;
	build_some("pairwise", COLL_REDUCE_SCATTER, 4, 1);
	step_of(1, 0, 4)->src = BUF_IN; /* x1 + x1 */
	expect(complaint(2, false), "rank 1 strand 0 step 4", "adds a rank's contribution twice");
	free_set(&set);
}

static void link_faults(void **state)
{
	(void)state;
	build_some("ring", COLL_ALLREDUCE, 4, 2);
	struct plan_link good = set.plan[1]->links[0];
	set.plan[1]->links[0].lane = 7;
	expect(complaint(2, false), "rank 2: link from rank 1 to rank 2 on lane 0", "has no other end");
	set.plan[1]->links[0] = good;
	step_of(1, 1, 0)->send = 0;
	expect(complaint(2, false), "rank 1 strand 1", "link to 2.0 belongs to strand 0 already");
	free_set(&set);
}

static void sets_out_of_bounds(void **state)
{
	(void)state;
	build_some("bruck", COLL_ALLGATHER, 4, 1);
	step_of(0, 0, 3)->src_set.n = 3;
	expect(complaint(2, false), "rank 0 strand 0 step 3", "a set of 3 blocks, the plan says 1 to 2");
	step_of(0, 0, 3)->src_set.n = 2;
	step_of(0, 0, 3)->src_set.first = 4;
	expect(complaint(2, false), "rank 0 strand 0 step 3", "block 4, the plan has 4");
	step_of(0, 0, 3)->src_set.first = 0;
	step_of(0, 0, 3)->src_set.stride = 4;
	expect(complaint(2, false), "rank 0 strand 0 step 3", "stands twice in a set");
	free_set(&set);
}

static void buffers_that_are_not_there(void **state)
{
	(void)state;
	build_some("linear", COLL_REDUCE, 4, 1);
	step_of(2, 0, 0)->src = BUF_OUT;
	expect(complaint(2, false), "rank 2 strand 0 step 0", "this rank has no block 0 of OUT");
	free_set(&set);
	build_some("linear", COLL_BROADCAST, 4, 1);
	step_of(2, 0, 0)->dst = BUF_IN;
	expect(complaint(2, false), "rank 2 strand 0 step 0", "writes IN");
	free_set(&set);
}

static void scratch_does_not_last(void **state)
{
	(void)state;
	build_some("binomial", COLL_GATHER, 4, 1);
	swap_steps(2, 0, 1, 2); /* sends the subtree before it is there */
	expect(complaint(2, false), "rank 2 strand 0 step 1", "reads before it is written TMP block 3");
	free_set(&set);
}

static void overwritten_in_place(void **state)
{
	(void)state;
	build_some("pairwise", COLL_REDUCE_SCATTER, 4, 1);
	step_of(1, 0, 3)->dst = BUF_OUT; /* the sum so far, where this rank's own contribution still is */
	step_of(1, 0, 4)->src = BUF_OUT;
	expect(complaint(8, true), "rank 1 strand 0 step 4", "in place: reads after it was overwritten IN block 1");
	free_set(&set);
}

static void barrier_that_lets_out_early(void **state)
{
	(void)state;
	build_some("dissemination", COLL_BARRIER, 5, 1);
	for (int r = 0; r < 5; r++) {
		drop_step(r, 0, 3);
		step_of(r, 0, 2)->send = -1;
		set.plan[r]->nlinks--; /* the last one made is the one from 4 behind */
		for (int i = 0; i < set.plan[r]->nlinks; i++)
			if (set.plan[r]->links[i].outgoing && set.plan[r]->links[i].peer == (r + 4) % 5)
				set.plan[r]->links[i] = set.plan[r]->links[--set.plan[r]->nlinks];
	}
	expect(complaint(2, false), "barrier:dissemination n=5 root=0 rank 0", "leaves without having heard of rank 1");
	free_set(&set);
}

static void reference_to_what_changes(void **state)
{
	(void)state;
	char why[WHY];
	const char *where;
	build_some("doubling", COLL_ALLREDUCE, 2, 1);
	struct checker *c = look_at(&set, why);
	assert_non_null(c);
	struct check_run run = {.slots = 2, .chunks = 1, .straggler = 1};
	assert_true(checker_run(c, &run, why, sizeof(why)));
	assert_true(checker_by_reference(c, &where));
	run.in_place = true;
	assert_true(checker_run(c, &run, why, sizeof(why)));
	assert_false(checker_by_reference(c, &where));
	expect(where, "allreduce:doubling n=2 root=0 rank 1 strand 0 step 1",
	       "reads block 0 by reference after rank 0 has overwritten it in place");
	checker_free(c);
	free_set(&set);
}

/* ---- every step of every algorithm ----------------------------------------------------------------------------- */

static void build_row(const struct algo *algo, enum coll coll)
{
	build_some(algo->name, coll, 5, 1);
}

static void must_complain(const struct algo *algo, enum coll coll, const char *fault, int strand, int step)
{
	const char *why = complaint(2, algo->flags & ALGO_RANK_ORDER);
	char name[64];
	snprintf(name, sizeof(name), "%s:%s n=5", coll_name(coll), algo->name);
	if (!strstr(why, name) || !strstr(why, "rank "))
		fail_msg("%s: %s at rank 3 strand %d step %d was not seen: \"%s\"", name, fault, strand, step, why);
	free_set(&set);
}

static void break_steps(const struct algo *algo, enum coll coll, int strand, int nsteps)
{
	for (int step = 0; step < nsteps; step++) {
		build_row(algo, coll);
		drop_step(3, strand, step);
		must_complain(algo, coll, "a dropped step", strand, step);

		build_row(algo, coll);
		struct step *s = step_of(3, strand, step);
		if (set.plan[3]->nblocks > 1 && coll != COLL_BARRIER) {
			struct block_set *blocks = s->src ? &s->src_set : &s->dst_set;
			blocks->first = (blocks->first + 1) % set.plan[3]->nblocks;
			must_complain(algo, coll, "a wrong set", strand, step);
			build_row(algo, coll);
			s = step_of(3, strand, step);
		}
		if (s->flags & STEP_REDUCE) {
			s->flags ^= STEP_FINAL;
			must_complain(algo, coll, "the wrong final", strand, step);
		} else {
			s->flags |= STEP_FINAL;
			must_complain(algo, coll, "a final copy", strand, step);
		}
	}
}

static void every_step_matters(void **state)
{
	(void)state;
	for (const struct algo *const *a = algo_table; *a; a++) {
		for (int coll = 0; coll < COLL_COUNT; coll++) {
			if (!((*a)->colls >> coll & 1))
				continue;
			int nsteps[16], nstrands;
			build_row(*a, (enum coll)coll);
			nstrands = set.plan[3]->nstrands;
			assert_in_range(nstrands, 1, 16);
			for (int i = 0; i < nstrands; i++)
				nsteps[i] = set.plan[3]->strands[i].nsteps;
			free_set(&set);
			for (int i = 0; i < nstrands; i++)
				break_steps(*a, (enum coll)coll, i, nsteps[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(good_plans_pass),
	        cmocka_unit_test(one_slot_stops_a_ring),
	        cmocka_unit_test(receiving_before_sending_is_stuck),
	        cmocka_unit_test(message_without_receiver),
	        cmocka_unit_test(wrong_block_in_message),
	        cmocka_unit_test(swapped_operands),
	        cmocka_unit_test(fold_out_of_order),
	        cmocka_unit_test(strand_that_does_not_wait),
	        cmocka_unit_test(final_missing_or_early),
	        cmocka_unit_test(twice_the_same),
	        cmocka_unit_test(link_faults),
	        cmocka_unit_test(sets_out_of_bounds),
	        cmocka_unit_test(buffers_that_are_not_there),
	        cmocka_unit_test(scratch_does_not_last),
	        cmocka_unit_test(overwritten_in_place),
	        cmocka_unit_test(barrier_that_lets_out_early),
	        cmocka_unit_test(reference_to_what_changes),
	        cmocka_unit_test(every_step_matters),
	};
	return cmocka_run_group_tests_name("plan checker", tests, NULL, NULL);
}
