/* SPDX-License-Identifier: MIT */
/*
 * Ranks killed by SIGKILL: at start, idle, and inside each kind of call; a leaf, the first of a host, rank 0; by memory,
 * by TCP, on two hosts, over libfabric. All others get an error that names the dead within the bound, and go on without it.
 */
#include "../fabrics.h"
#include "../seed.h"
#include "fault.h"

#define BIG ((size_t)4 << 20)

static const int victims[4][3] = {
        {3, 1, 0}, {3, 1, 0}, {5, PER_HOST, 0}, {3, 1, 0}}; /* way: leaf, leader of a host, rank 0 */

/* ---- phases: each returns the first status that is not TUTTI_OK ----------------------------------------------------- */

/* The victim is busy with this from now on. */
static void arm(struct stage *s, int rank, int calls)
{
	if (rank == s->victim && calls == 3)
		die_soon(s);
}

static int idle(struct tutti_comm *c, struct stage *s)
{
	int rc = tutti_barrier(c, NULL);
	arm(s, tutti_comm_rank(c), 3);
	while (rc == TUTTI_OK && (rc = tutti_comm_error(c)) == TUTTI_OK)
		pause_us(1000);
	return rc;
}

static int allreduces(struct tutti_comm *c, struct stage *s, size_t count)
{
	float *buf = calloc(count, sizeof(float));
	int rc = buf ? TUTTI_OK : TUTTI_ENOMEM;
	for (int i = 0; rc == TUTTI_OK; i++) {
		arm(s, tutti_comm_rank(c), i);
		rc = tutti_allreduce(buf, buf, count, TUTTI_F32, TUTTI_SUM, c, NULL);
	}
	free(buf);
	return rc;
}

static int big(struct tutti_comm *c, struct stage *s)
{
	return allreduces(c, s, BIG / sizeof(float));
}

static int small(struct tutti_comm *c, struct stage *s)
{
	return allreduces(c, s, 16);
}

static int requests(struct tutti_comm *c, struct stage *s)
{
	static float in[3][1000], out[3][1000];
	struct tutti_request *req[3] = {NULL};
	int rc = TUTTI_OK;
	for (int i = 0; rc == TUTTI_OK; i++) {
		arm(s, tutti_comm_rank(c), i);
		for (int k = 0; k < 3 && rc == TUTTI_OK; k++)
			rc = tutti_allreduce(in[k], out[k], 1000, TUTTI_F32, TUTTI_SUM, c, &req[k]);
		int waited = tutti_wait_all(req, 3);
		rc = rc ? rc : waited;
	}
	return rc;
}

static int messages(struct tutti_comm *c, struct stage *s)
{
	static char out[200000], in[200000];
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), rc = TUTTI_OK;
	for (int i = 0; rc == TUTTI_OK; i++) {
		arm(s, me, i);
		rc = tutti_group_begin();
		int sent = tutti_send(out, sizeof(out), TUTTI_I8, (me + 1) % n, c, NULL);
		int got = tutti_recv(in, sizeof(in), TUTTI_I8, (me + n - 1) % n, c, NULL);
		int ended = tutti_group_end();
		rc = rc ? rc : sent ? sent : got ? got : ended;
	}
	return rc;
}

/* Communicators come and go; the rank dies in a split, in a call on the new one, or as that is destroyed. */
static int splits(struct tutti_comm *c, struct stage *s)
{
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), rc = TUTTI_OK;
	for (int i = 0; rc == TUTTI_OK; i++) {
		struct tutti_comm *sub = NULL;
		arm(s, me, i);
		rc = tutti_comm_split(c, 0, n - me, &sub);
		if (rc)
			break;
		rc = tutti_barrier(sub, NULL);
		if (rc == TUTTI_EPEER && says(sub, "rank %d (pid %d", n - 1 - s->victim, s->pid[s->victim]))
			rc = TUTTI_ESYSTEM;
		tutti_comm_destroy(sub);
	}
	while (rc == TUTTI_EPEER && !tutti_comm_error(c)) /* the new one's alarm may come first */
		pause_us(1000);
	return rc;
}

static const struct phase {
	const char *name;
	int (*run)(struct tutti_comm *c, struct stage *s);
	const char *names; /* what the text names besides the dead */
} phases[] = {
        {"idle", idle, "died"},         {"big allreduce", big, "allreduce #"}, {"small allreduces", small, "died"},
        {"requests", requests, "died"}, {"messages", messages, "died"},        {"splits", splits, "died"},
};

/* ---- a rank's part ---------------------------------------------------------------------------------------------------- */

static int survive(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	const struct phase *p = &phases[s->variant];
	s->pid[tutti_comm_rank(c)] = getpid();
	RANK_OK(tutti_barrier(c, NULL));
	ranks_note("%s, while rank %d dies", p->name, s->victim);
	int rc = p->run(c, s);
	if (rc != TUTTI_EPEER)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	if (ranks_too_late(s->deed_ns, DEATH_SECONDS))
		return ranks_fail("the death was noticed after %.2f s", seconds_since(s->deed_ns));
	if (says(c, "rank %d (pid %d", s->victim, s->pid[s->victim]) || says(c, "died") || says(c, "%s", p->names))
		return 1;
	return is_out_of_use(c, TUTTI_EPEER) ? 1 : goes_on(c, s->n - 1);
}

static void kill_in(enum way way, int role, int phase)
{
	struct stage *s = stage_new(way);
	s->victim = victims[way][role];
	s->variant = phase;
	s->delay_us = (unsigned)rand() % 3000;
	int failed = stage_run(s, (struct ranks){.doomed = 1ull << s->victim}, survive, NULL);
	if (failed)
		fail_msg("%s: rank %d killed in %s (%u us after): %d ranks failed", way_names[way], s->victim,
		         phases[phase].name, s->delay_us, failed);
	stage_free(s);
}

static void killed_in_each_phase(enum way way)
{
	for (size_t p = 0; p < sizeof(phases) / sizeof(phases[0]); p++)
		for (int role = 0; role < 3; role++)
			kill_in(way, role, (int)p);
}

static void killed_by_memory(void **state)
{
	(void)state;
	killed_in_each_phase(WAY_SHM);
}

static void killed_by_tcp(void **state)
{
	(void)state;
	killed_in_each_phase(WAY_TCP);
}

static void killed_on_two_hosts(void **state)
{
	(void)state;
	killed_in_each_phase(WAY_HOSTS);
}

static void killed_over_libfabric(void **state)
{
	char why[400];
	(void)state;
	if (!fabric_usable(&fabric_ways[0], why, sizeof(why))) {
		print_message("%s\n", why);
		skip();
	}
	killed_in_each_phase(WAY_FABRIC);
}

/* ---- start and end ------------------------------------------------------------------------------------------------------ */

/* Before all have joined a death can't be told from a rank that is late. */
static int start(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = atoi(getenv("TUTTI_RANK"));
	char one = 1;
	if (me == s->victim) {
		s->pid[me] = getpid();
		die_soon(s);
	}
	ranks_note("start, while rank %d dies", s->victim);
	int rc = tutti_comm_from_env(&c, NULL);
	bool up = rc == TUTTI_OK;
	if (me == s->victim)
		for (;;)
			pause();
	while (rc == TUTTI_OK)
		rc = tutti_allreduce(&one, &one, 1, TUTTI_I8, TUTTI_SUM, c, NULL);
	if (rc != TUTTI_EPEER && (up || rc != TUTTI_ETIMEOUT))
		return ranks_fail("status %d: %s", rc, tutti_last_error(NULL));
	if (ranks_too_late(s->deed_ns, DEATH_SECONDS + (up ? 0 : 3)))
		return ranks_fail("noticed after %.2f s: %s", seconds_since(s->deed_ns), tutti_last_error(NULL));
	if (says(NULL, "rank %d", s->victim))
		return 1;
	return up ? tutti_comm_destroy(c) : 0;
}

static void killed_at_start(void **state)
{
	static const unsigned delays[] = {0, 2000, 5000, 10000, 20000, 40000};
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++)
		for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
			struct stage *s = stage_new(way);
			s->victim = victims[way][i % 3];
			s->delay_us = delays[i] + (unsigned)rand() % 2000;
			struct ranks how = {.doomed = 1ull << s->victim, .start = RANKS_BY_HAND};
			int failed = stage_run(s, how, start, "TUTTI_START_TIMEOUT=3", NULL);
			if (failed)
				fail_msg("%s: rank %d killed %u us after its start: %d ranks failed", way_names[way],
				         s->victim, s->delay_us, failed);
			stage_free(s);
		}
}

static int end(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	RANK_OK(tutti_barrier(c, NULL));
	s->ready[me] = 1;
	if (me == s->victim) {
		for (int r = 0; r < s->n; r++) /* some may still be in the barrier */
			await(&s->ready[r], 1);
		die_soon(s);
		for (;;)
			pause();
	}
	ranks_note("destroy, while rank %d dies", s->victim);
	uint64_t begin = clock_ns();
	RANK_OK(tutti_comm_destroy(c));
	RANK_CHECK(!ranks_too_late(begin, 2));
	return 0;
}

static void killed_as_others_destroy(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++)
		for (int role = 0; role < 3; role++) {
			struct stage *s = stage_new(way);
			s->victim = victims[way][role];
			s->delay_us = (unsigned)rand() % 3000;
			struct ranks how = {.doomed = 1ull << s->victim, .keep = true};
			assert_int_equal(stage_run(s, how, end, NULL), 0);
			stage_free(s);
		}
}

/* ---- several ------------------------------------------------------------------------------------------------------------- */

/* Half of the ranks die at once, the leaders among them: the proved dead don't count against a majority. */
static int outlive_half(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	float x[64] = {0};
	int rc = tutti_barrier(c, NULL);
	s->pid[me] = getpid();
	if (me < s->n / 2) {
		die_soon(s);
		while (rc == TUTTI_OK)
			rc = tutti_allreduce(x, x, 64, TUTTI_F32, TUTTI_MAX, c, NULL);
		for (;;)
			pause();
	}
	ranks_note("allreduces, while ranks 0 to %d die", s->n / 2 - 1);
	while (rc == TUTTI_OK)
		rc = tutti_allreduce(x, x, 64, TUTTI_F32, TUTTI_MAX, c, NULL);
	if (rc != TUTTI_EPEER)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	for (int r = 0, named = 0; !named; r++) {
		char who[64];
		snprintf(who, sizeof(who), "rank %d (pid %d", r, s->pid[r]);
		named = strstr(tutti_last_error(c), who) != NULL;
		if (r == s->n / 2)
			return ranks_fail("none of the dead is named: %s", tutti_last_error(c));
	}
	return goes_on(c, s->n - s->n / 2);
}

static void half_of_them_killed(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		struct ranks how = {.doomed = (1ull << s->n / 2) - 1};
		if (stage_run(s, how, outlive_half, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

int main(int argc, char **argv)
{
	unsigned seed = (unsigned)test_seed();
	printf("TUTTI_TEST_SEED=%u\n", seed);
	srand(seed);
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(is_said_whether_alone),
	        cmocka_unit_test_teardown(killed_by_memory, nothing_left),
	        cmocka_unit_test_teardown(killed_by_tcp, nothing_left),
	        cmocka_unit_test_teardown(killed_on_two_hosts, nothing_left),
	        cmocka_unit_test_teardown(killed_over_libfabric, nothing_left),
	        cmocka_unit_test_teardown(killed_at_start, nothing_left),
	        cmocka_unit_test_teardown(killed_as_others_destroy, nothing_left),
	        cmocka_unit_test_teardown(half_of_them_killed, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
