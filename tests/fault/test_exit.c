/* SPDX-License-Identifier: MIT */
/*
 * Processes that end without having destroyed their communicators: calls that they have finished complete on the
 * others, and the next call names the process that has ended.
 */
#include "fault.h"

#define SMALL 512

/* Warm, so that links are there; then the victim's last call, after which it returns from its function and exits. */
static int last_call_is_late(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	static double x[SMALL];
	int me = tutti_comm_rank(c);
	RANK_OK(tutti_broadcast(x, x, SMALL, TUTTI_F64, s->victim, c, NULL));
	RANK_OK(tutti_barrier(c, NULL));
	for (int i = 0; i < SMALL; i++)
		x[i] = me == s->victim ? i : 0;
	ranks_meet();
	if (me == s->victim)
		return tutti_broadcast(x, x, SMALL, TUTTI_F64, s->victim, c, NULL);
	pause_us(600000); /* its process is gone by now */
	ranks_note("the last call of a rank that has ended");
	RANK_OK(tutti_broadcast(x, x, SMALL, TUTTI_F64, s->victim, c, NULL));
	for (int i = 0; i < SMALL; i++)
		RANK_CHECK(x[i] == i);
	atomic_store(&s->done[me], 1);
	for (int r = 0; r < s->n; r++) /* an error of one rank would be an error of the others as well */
		if (r != s->victim)
			await(&s->done[r], 1);
	ranks_note("a call that it did not make");
	RANK_STATUS(TUTTI_EPEER, tutti_barrier(c, NULL));
	if (says(c, "rank %d (pid", s->victim) ||
	    says(c, "ended without destroying its communicator, after broadcast #3"))
		return 1;
	RANK_OK(tutti_comm_destroy(c));
	return 0;
}

static void finished_calls_end_well_after_an_exit(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++)
		for (int victim = 0; victim < 4; victim += 3) {
			struct stage *s = stage_new(way);
			s->victim = victim;
			if (stage_run(s, (struct ranks){.keep = true}, last_call_is_late,
			              "TUTTI_ALGO=broadcast:binomial", NULL))
				fail_msg("%s, rank %d", way_names[way], victim);
			stage_free(s);
		}
}

/* All end when they have their result: some a moment before others. */
static int compute_and_end(struct tutti_comm *c, void *arg)
{
	static float in[30000], out[30000];
	int n = tutti_comm_size(c);
	(void)arg;
	for (int i = 0; i < 30000; i++)
		in[i] = (float)(i % 100);
	RANK_OK(tutti_allreduce(in, out, 30000, TUTTI_F32, TUTTI_SUM, c, NULL));
	for (int i = 0; i < 30000; i++)
		RANK_CHECK(out[i] == (float)(n * (i % 100)));
	return 0;
}

static void jobs_without_destroy_are_good(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int job = 0; job < 25; job++) {
			struct stage *s = stage_new(way);
			if (stage_run(s, (struct ranks){.keep = true}, compute_and_end, NULL))
				fail_msg("%s, job %d", way_names[way], job);
			stage_free(s);
		}
}

static int in_the_middle(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	static float x[100];
	int me = tutti_comm_rank(c);
	struct tutti_request *req = NULL;
	RANK_OK(tutti_barrier(c, NULL));
	ranks_meet();
	if (me == s->victim)
		return tutti_allreduce(x, x, 100, TUTTI_F32, TUTTI_SUM, c, &req); /* begun, and left so */
	if (me == (s->victim + 1) % s->n)
		pause_us(300000);
	uint64_t begin = clock_ns();
	ranks_note("a call that rank %d did not finish", s->victim);
	int rc = tutti_allreduce(x, x, 100, TUTTI_F32, TUTTI_SUM, c, NULL);
	rc = rc ? rc : tutti_barrier(c, NULL);
	RANK_STATUS(TUTTI_EPEER, rc);
	RANK_CHECK(!ranks_too_late(begin, DEATH_SECONDS));
	if (says(c, "rank %d (pid", s->victim))
		return 1;
	RANK_OK(tutti_comm_destroy(c));
	return 0;
}

static void exit_in_a_call_is_a_death(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++) {
		struct stage *s = stage_new(way);
		s->victim = 2;
		if (stage_run(s, (struct ranks){.keep = true}, in_the_middle, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(finished_calls_end_well_after_an_exit, nothing_left),
	        cmocka_unit_test_teardown(jobs_without_destroy_are_good, nothing_left),
	        cmocka_unit_test_teardown(exit_in_a_call_is_a_death, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
