/* SPDX-License-Identifier: MIT */
/*
 * Ranks that are late: stopped, busy elsewhere, never started. Deadlines pass on all ranks with the names of the late
 * ranks, and a rank that comes back learns it from its next call.
 */
#include "fault.h"

#define DEADLINE 2.0
#define TIMEOUT  "TUTTI_TIMEOUT=2"
#define START    "TUTTI_START_TIMEOUT=2"
#define SLACK    3.0 /* one second for asking the silent, the rest for a slow machine */

static int in_time(uint64_t begin)
{
	double took = seconds_since(begin);
	bool late = ranks_too_late(begin, DEADLINE + SLACK);
	return took > DEADLINE - 0.1 && !late ? 0 : ranks_fail("took %.2f s", took);
}

static int await_others(struct stage *s, _Atomic int *counters, int but)
{
	for (int r = 0; r < s->n; r++)
		if (r != but)
			await(&counters[r], 1);
	return 0;
}

/* ---- stopped ------------------------------------------------------------------------------------------------------ */

/* Rank `helper` stops the victim, and lets it go on when all others have had their error. */
static int with_a_stopped_rank(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), helper = s->victim == 0 ? 1 : 0, rc;
	static float x[5000];
	s->pid[me] = getpid();
	RANK_OK(tutti_allreduce(x, x, 5000, TUTTI_F32, TUTTI_SUM, c, NULL));
	s->ready[me] = 1;
	if (me == s->victim) {
		ranks_note("being stopped");
		for (int r = 0; r < s->n; r++)
			await(&s->done[r == me ? helper : r], 1);
		ranks_note("calls after having been stopped");
		/* the others' parts of the first one may all be there: then it is right, and the next one fails */
		if ((rc = tutti_allreduce(x, x, 5000, TUTTI_F32, TUTTI_SUM, c, NULL)) == TUTTI_OK)
			rc = tutti_allreduce(x, x, 5000, TUTTI_F32, TUTTI_SUM, c, NULL);
		RANK_STATUS(TUTTI_ETIMEOUT, rc);
		return is_out_of_use(c, TUTTI_ETIMEOUT);
	}
	if (me == helper) {
		await_others(s, s->ready, -1);
		kill(s->pid[s->victim], SIGSTOP);
		s->deed_ns = clock_ns();
	}
	while (!s->deed_ns)
		pause_us(1000);
	ranks_note("an allreduce with rank %d stopped", s->victim);
	rc = tutti_allreduce(x, x, 5000, TUTTI_F32, TUTTI_SUM, c, NULL);
	int bad = rc != TUTTI_ETIMEOUT ? ranks_fail("status %d: %s", rc, tutti_last_error(c)) : in_time(s->deed_ns);
	bad |= says(c, "rank %d (pid %d", s->victim, s->pid[s->victim]);
	bad |= says(c, "does not answer") | says(c, "allreduce #2");
	s->done[me] = 1;
	if (me == helper) {
		await_others(s, s->done, s->victim);
		kill(s->pid[s->victim], SIGCONT);
	}
	return bad;
}

static void stopped_rank_is_named(void **state)
{
	(void)state;
	static const int victims[] = {3, 0, PER_HOST};
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->victim = victims[way];
		if (stage_run(s, (struct ranks){0}, with_a_stopped_rank, TIMEOUT, NULL))
			fail_msg("%s: rank %d stopped", way_names[way], s->victim);
		stage_free(s);
	}
}

/* ---- busy elsewhere -------------------------------------------------------------------------------------------------- */

/* The late rank makes its call when all others have given up. */
static int with_a_late_rank(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	static double x[300];
	RANK_OK(tutti_barrier(c, NULL));
	s->ready[me] = 1;
	await_others(s, s->ready, -1);
	uint64_t none = 0;
	atomic_compare_exchange_strong(&s->deed_ns, &none, clock_ns());
	if (me == s->victim) {
		await_others(s, s->done, me);
		RANK_STATUS(TUTTI_ETIMEOUT, tutti_reduce(x, x, 300, TUTTI_F64, TUTTI_MAX, 1, c, NULL));
		return is_out_of_use(c, TUTTI_ETIMEOUT);
	}
	ranks_note("a barrier for which rank %d is late", s->victim);
	int rc = tutti_barrier(c, NULL);
	int bad = rc != TUTTI_ETIMEOUT ? ranks_fail("status %d: %s", rc, tutti_last_error(c)) : in_time(s->deed_ns);
	bad |= says(c, "rank %d (pid", s->victim) | says(c, "has not called barrier #2");
	bad |= says(c, "last finished barrier #1");
	s->done[me] = 1;
	return bad;
}

static void late_rank_is_named(void **state)
{
	(void)state;
	static const int victims[] = {0, 2, 0};
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->victim = victims[way];
		if (stage_run(s, (struct ranks){0}, with_a_late_rank, TIMEOUT, NULL))
			fail_msg("%s: rank %d late", way_names[way], s->victim);
		stage_free(s);
	}
}

/* A message that nobody sends: the deadline holds as well. */
static int without_a_sender(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	char x[10];
	ranks_meet();
	uint64_t begin = clock_ns();
	if (me == s->victim) {
		ranks_note("a receive without a send");
		RANK_STATUS(TUTTI_ETIMEOUT, tutti_recv(x, sizeof(x), TUTTI_I8, 0, c, NULL));
		return in_time(begin) | says(c, "rank 0 (pid") | says(c, "has made no collective call yet") |
		       says(c, "has not called the send that rank %d waits for in recv #1 (10 x i8, from rank 0)", me);
	}
	while (!tutti_comm_error(c) && seconds_since(begin) < DEADLINE + SLACK + RANKS_PATIENCE)
		pause_us(1000);
	return is_out_of_use(c, TUTTI_ETIMEOUT);
}

static void missing_message_ends_at_the_deadline(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++) {
		struct stage *s = stage_new(way);
		s->victim = 2;
		if (stage_run(s, (struct ranks){0}, without_a_sender, TIMEOUT, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

/* ---- a peer that is stopped, gone, or waits itself --------------------------------------------------------------------- */

enum peer { PEER_STOPPED, PEER_LEFT, PEER_DEAD };

/* Ranks that have no part in it hear of it as well. */
static int hear(struct tutti_comm *c, int status)
{
	uint64_t begin = clock_ns();
	while (!tutti_comm_error(c) && seconds_since(begin) < DEADLINE + SLACK + RANKS_PATIENCE)
		pause_us(1000);
	return is_out_of_use(c, status);
}

/* Rank 0 stops, leaves or dies; rank 1 receives from it. */
static int with_an_absent_peer(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), status = s->variant == PEER_STOPPED ? TUTTI_ETIMEOUT : TUTTI_EPEER;
	char x[10];
	s->pid[me] = getpid();
	ranks_meet();
	uint64_t begin = clock_ns();
	if (me == 0) {
		if (s->variant == PEER_LEFT)
			return 0;
		if (s->variant == PEER_DEAD)
			die_soon(s);
		await(&s->done[1], 1);
		return 0;
	}
	if (me == 2 && s->variant == PEER_STOPPED)
		kill(s->pid[0], SIGSTOP);
	if (me != 1) {
		int bad = hear(c, status);
		await(&s->done[1], 1);
		if (me == 2)
			kill(s->pid[0], SIGCONT);
		return bad;
	}
	ranks_note("a receive from a peer that is absent: %d", s->variant);
	int rc = tutti_recv(x, sizeof(x), TUTTI_I8, 0, c, NULL);
	int bad = rc == status ? 0 : ranks_fail("status %d: %s", rc, tutti_last_error(c));
	bad |= says(c, "rank 0 (pid %d", s->pid[0]) | says(c, "recv #1 (10 x i8, from rank 0)");
	if (s->variant == PEER_STOPPED)
		bad |= says(c, "does not answer; is it stopped?") | in_time(begin);
	else if (s->variant == PEER_LEFT)
		bad |= says(c, "destroyed its communicator") | says(c, "rank 1 waits for it");
	else
		bad |= says(c, "died during recv #1");
	if (s->variant != PEER_STOPPED && ranks_too_late(begin, 4))
		bad |= ranks_fail("took %.1f s", seconds_since(begin));
	s->done[1] = 1;
	return bad;
}

static void peer_of_a_message_is_told(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = PEER_STOPPED; variant <= PEER_DEAD; variant++) {
			struct stage *s = stage_new(way);
			s->variant = variant;
			s->delay_us = 1000000; /* the wait is reported at 50 ms: time for that on a busy machine */
			struct ranks how = {.doomed = variant == PEER_DEAD};
			if (stage_run(s, how, with_an_absent_peer, variant == PEER_STOPPED ? TIMEOUT : NULL, NULL))
				fail_msg("%s: %d", way_names[way], variant);
			stage_free(s);
		}
}

/* Rank 1 is late for a barrier, because it waits in a send to rank 2. */
static int with_a_sender_in_a_call(struct tutti_comm *c, void *arg)
{
	(void)arg;
	static char x[1 << 20];
	int me = tutti_comm_rank(c);
	ranks_meet();
	if (me == 1) {
		pause_us(1000000); /* rank 0's deadline comes first */
		ranks_note("a send that nobody receives");
		RANK_STATUS(TUTTI_ETIMEOUT, tutti_send(x, sizeof(x), TUTTI_I8, 2, c, NULL));
	} else if (me == 0) {
		RANK_STATUS(TUTTI_ETIMEOUT, tutti_barrier(c, NULL));
	} else if (hear(c, TUTTI_ETIMEOUT)) {
		return 1;
	}
	return says(c, "has not called barrier #1") | says(c, "it is in send #1 (1048576 x i8, to rank 2)");
}

static void sender_in_a_call_is_told(void **state)
{
	(void)state;
	struct stage *s = stage_new(WAY_SHM);
	assert_int_equal(stage_run(s, (struct ranks){0}, with_a_sender_in_a_call, TIMEOUT, NULL), 0);
	stage_free(s);
}

/* ---- not late: slow, but within the deadline ---------------------------------------------------------------------------- */

/* Each call takes longer than half of the deadline; two of them do not add up. */
static int slow_but_in_time(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	int x = 1, y = 0;
	for (int i = 0; i < 2; i++) {
		if (me == i)
			pause_us(s->delay_us);
		int rc = tutti_allreduce(&x, &y, 1, TUTTI_I32, TUTTI_SUM, c, NULL);
		if (rc == TUTTI_ETIMEOUT)
			return !(s->done[me] = 1);
		RANK_OK(rc);
		RANK_CHECK(y == tutti_comm_size(c));
	}
	return 0;
}

/* Did a rank see the deadline pass, which is a little less than twice the delay? */
static bool is_timed_out(enum way way, unsigned deadline)
{
	struct stage *s = stage_new(way);
	char timeout[32];
	bool late = false;
	s->delay_us = deadline * 540000;
	snprintf(timeout, sizeof(timeout), "TUTTI_TIMEOUT=%u", deadline);
	if (stage_run(s, (struct ranks){.seconds = 120}, slow_but_in_time, timeout, NULL))
		fail_msg("%s: with a deadline of %u s", way_names[way], deadline);
	for (int r = 0; r < s->n; r++)
		late |= s->done[r];
	stage_free(s);
	return late;
}

static void slow_rank_is_waited_for(void **state)
{
	(void)state;
	/* a machine that is busy delays a rank by seconds; the library's fault would be one in any measure */
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		unsigned deadline = 3;
		while (deadline <= 12 && is_timed_out(way, deadline))
			deadline *= 2;
		if (deadline > 12)
			fail_msg("%s: calls that are slow, but in time, pass the deadline", way_names[way]);
	}
}

/* ---- never started ----------------------------------------------------------------------------------------------------------- */

static int without_the_absent(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = atoi(getenv("TUTTI_RANK"));
	if (s->variant >> me & 1)
		return 0;
	ranks_note("start without some ranks");
	uint64_t begin = clock_ns();
	int rc = tutti_comm_from_env(&c, NULL);
	if (rc != TUTTI_ETIMEOUT || c)
		return ranks_fail("status %d: %s", rc, tutti_last_error(NULL));
	RANK_CHECK(!ranks_too_late(begin, DEADLINE + SLACK));
	for (int r = 0; r < s->n; r++)
		if (s->variant >> r & 1 && says(NULL, r ? "%d" : "rank %d", r))
			return 1;
	return 0;
}

static void absent_ranks_are_named(void **state)
{
	static const int absent[] = {1 << 3, 1 << 1 | 1 << 2, 1 << 0};
	(void)state;
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		struct stage *s = stage_new(WAY_SHM);
		s->variant = absent[i];
		struct ranks how = {.start = RANKS_BY_HAND};
		if (stage_run(s, how, without_the_absent, START, NULL))
			fail_msg("absent: %x", (unsigned)absent[i]);
		stage_free(s);
	}
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(stopped_rank_is_named, nothing_left),
	        cmocka_unit_test_teardown(late_rank_is_named, nothing_left),
	        cmocka_unit_test_teardown(missing_message_ends_at_the_deadline, nothing_left),
	        cmocka_unit_test_teardown(peer_of_a_message_is_told, nothing_left),
	        cmocka_unit_test_teardown(sender_in_a_call_is_told, nothing_left),
	        cmocka_unit_test_teardown(slow_rank_is_waited_for, nothing_left),
	        cmocka_unit_test_teardown(absent_ranks_are_named, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
