/* SPDX-License-Identifier: MIT */
/*
 * The guest in an application: aborted from any thread, destroyed in any state, forked, asleep. A communicator that ends
 * ends everywhere, never hangs, and what is not in use costs nothing.
 */
#include "fault.h"

#include <sys/resource.h>
#include <sys/stat.h>

/* ---- abort --------------------------------------------------------------------------------------------------------- */

static void *abort_it(void *arg)
{
	struct tutti_comm *c = arg;
	pause_us(100000); /* so that all ranks have been in their call for a while */
	(void)tutti_comm_abort(c, "the operator pressed a button");
	return NULL;
}

/* All ranks but the last wait in a collective that it does not call; it waits for a message that nobody sends. */
static int blocked_by_all(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc;
	float x = 0;
	pthread_t t;
	ranks_meet();
	uint64_t begin = clock_ns();
	if (me == s->victim && pthread_create(&t, NULL, abort_it, c) != 0)
		return ranks_fail("no thread");
	ranks_note("a call that another thread of rank %d aborts", s->victim);
	if (me == s->n - 1)
		rc = tutti_recv(&x, 1, TUTTI_F32, 0, c, NULL);
	else
		rc = tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL);
	if (me == s->victim)
		pthread_join(t, NULL);
	if (rc != TUTTI_EABORTED || ranks_too_late(begin, 2))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "rank %d", s->victim) | says(c, "the operator pressed a button") |
	       is_out_of_use(c, TUTTI_EABORTED);
}

static void abort_from_another_thread(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->victim = (int)way;
		if (stage_run(s, (struct ranks){0}, blocked_by_all, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

/* ---- destroy --------------------------------------------------------------------------------------------------------- */

static int quickly(struct tutti_comm *c)
{
	uint64_t begin = clock_ns();
	RANK_OK(tutti_comm_destroy(c));
	RANK_CHECK(!ranks_too_late(begin, 2));
	return 0;
}

/* Rank 0 does not take part: what the others have in flight can't end, and they destroy. */
static int destroy_in_flight(struct tutti_comm *c, void *arg)
{
	static float in[4][50000], out[4][50000];
	struct tutti_request *req[4] = {NULL};
	int me = tutti_comm_rank(c);
	(void)arg;
	RANK_OK(tutti_barrier(c, NULL));
	ranks_note("destroy with requests in flight");
	for (int i = 0; me > 0 && i < 3; i++)
		RANK_OK(tutti_allreduce(in[i], out[i], 50000, TUTTI_F32, TUTTI_SUM, c, &req[i]));
	if (me > 0)
		RANK_OK(tutti_recv(out[3], 1, TUTTI_F32, 0, c, &req[3]));
	ranks_meet();
	if (quickly(c))
		return 1;
	for (int i = 0; me > 0 && i < 4; i++) {
		int rc = tutti_wait(&req[i]);
		if (rc != TUTTI_EABORTED && rc != TUTTI_EPEER) /* it may have heard before that others left */
			return ranks_fail("status %d: %s", rc, tutti_last_error(NULL));
		RANK_CHECK(req[i] == NULL);
	}
	return 0;
}

static void destroy_with_requests_in_flight(void **state)
{
	static const struct tutti_config threads = {.size = sizeof(threads), .progress = TUTTI_PROGRESS_THREAD};
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int thread = 0; thread < 2; thread++) {
			struct stage *s = stage_new(way);
			struct ranks how = {.keep = true, .config = thread ? &threads : NULL};
			if (stage_run(s, how, destroy_in_flight, NULL))
				fail_msg("%s%s", way_names[way], thread ? ", progress thread" : "");
			stage_free(s);
		}
}

/* Some leave while the others still wait for them. */
static int leave_early(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c);
	RANK_OK(tutti_barrier(c, NULL));
	ranks_meet();
	if (me == s->victim)
		return quickly(c);
	ranks_note("a barrier without rank %d", s->victim);
	uint64_t begin = clock_ns();
	RANK_STATUS(TUTTI_EPEER, tutti_barrier(c, NULL));
	RANK_CHECK(!ranks_too_late(begin, 2));
	if (says(c, "rank %d", s->victim) || says(c, "destroyed") || says(c, "barrier #2"))
		return 1;
	return quickly(c);
}

static void rank_that_leaves_is_named(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++)
		for (int victim = 0; victim < 4; victim += 3) {
			struct stage *s = stage_new(way);
			s->victim = victim;
			if (stage_run(s, (struct ranks){.keep = true}, leave_early, NULL))
				fail_msg("%s, rank %d", way_names[way], victim);
			stage_free(s);
		}
}

/* ---- fork ------------------------------------------------------------------------------------------------------------ */

static int in_the_child(struct tutti_comm *c, struct tutti_request **req)
{
	float x = 0;
	int done;
	struct tutti_comm *sub;
	if (tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL) != TUTTI_EUSAGE ||
	    tutti_send(&x, 1, TUTTI_F32, 0, c, NULL) != TUTTI_EUSAGE || tutti_barrier(c, NULL) != TUTTI_EUSAGE)
		return 2;
	if (tutti_comm_split(c, 0, 0, &sub) != TUTTI_EUSAGE || tutti_comm_shrink(c, &sub) != TUTTI_EUSAGE ||
	    tutti_comm_abort(c, "from a child") != TUTTI_EUSAGE)
		return 3;
	if (*req && tutti_test(req, &done) != TUTTI_EUSAGE)
		return 4;
	int rc = tutti_comm_destroy(c);
	return rc == TUTTI_OK || rc == TUTTI_EUSAGE ? 0 : 5;
}

/* Forks with a request in flight; the child touches everything and exits; the parents go on. */
static int fork_and_go_on(struct tutti_comm *c, void *arg)
{
	static float in[10000], out[10000];
	struct tutti_request *req = NULL;
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), status = 0;
	(void)arg;
	RANK_OK(tutti_barrier(c, NULL));
	for (size_t i = 0; i < 10000; i++)
		in[i] = (float)me;
	RANK_OK(tutti_allreduce(in, out, 10000, TUTTI_F32, TUTTI_SUM, c, &req));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		int rc = in_the_child(c, &req);
#ifdef __SANITIZE_ADDRESS__
		_exit(rc); /* what belongs to the parent is only forgotten here */
#else
		exit(rc); /* with its handlers */
#endif
	}
	ranks_note("the parent of a forked child");
	RANK_CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return ranks_fail("the child ended with %x", (unsigned)status);
	RANK_OK(tutti_wait(&req));
	RANK_CHECK(out[0] == (float)(n * (n - 1) / 2) && out[9999] == out[0]);
	for (int i = 0; i < 100; i++)
		RANK_OK(tutti_allreduce(in, out, 100, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_CHECK(out[99] == (float)(n * (n - 1) / 2));
	return 0;
}

static void forked_child_is_told_and_harms_nobody(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		if (stage_run(s, (struct ranks){0}, fork_and_go_on, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

/* Rank 0 or 1 of a world of two children; `from` and `to` are ends of a pipe for its id. */
static int make_a_world(int rank, int from, int to)
{
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct tutti_unique_id id;
	struct tutti_comm *c;
	float x = 1;
	config.start_timeout = 20;
	if (rank == 0 && (tutti_unique_id_create(&id) != TUTTI_OK || write(to, &id, sizeof(id)) != sizeof(id)))
		return 1;
	if (rank == 1 && read(from, &id, sizeof(id)) != sizeof(id))
		return 2;
	if (tutti_comm_create(&c, 2, &id, rank, &config) != TUTTI_OK)
		return 3;
	int rc = tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL);
	return tutti_comm_destroy(c) != TUTTI_OK || rc != TUTTI_OK || x != 2 ? 4 : 0;
}

/* A process that has had a world forks two, which make one of their own: they are not threads of one process. */
static int have_a_world_and_fork(void)
{
	struct tutti_comm *had[2];
	int ends[2], bad = 0;
	if (tutti_comm_create_threads(had, 2, NULL) != TUTTI_OK || pipe(ends) != 0)
		return 5;
	(void)tutti_comm_destroy(had[0]);
	(void)tutti_comm_destroy(had[1]);
	for (int rank = 0; rank < 2; rank++)
		if (fork() == 0)
			_exit(make_a_world(rank, ends[0], ends[1]));
	for (int status, i = 0; i < 2; i++)
		bad |= wait(&status) < 0 || !WIFEXITED(status) ? 6 : WEXITSTATUS(status);
	return bad;
}

static void forked_children_make_a_world(void **state)
{
	int status;
	(void)state;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(have_a_world_and_fork());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* The victim leaves a child behind that holds its sockets and memory, then dies. */
static int die_with_a_child(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	float x = 0;
	RANK_OK(tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL));
	ranks_meet();
	if (me == s->victim) {
		if ((s->pid[me] = fork()) == 0) {
			for (int r = 0; r < s->n; r++)
				if (r != me)
					await(&s->done[r], 1);
			_exit(0);
		}
		die_soon(s);
		for (;;)
			pause();
	}
	ranks_note("allreduces, while rank %d dies and its child lives", s->victim);
	rc = tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL);
	if (rc != TUTTI_EPEER || ranks_too_late(s->deed_ns, DEATH_SECONDS))
		rc = ranks_fail("status %d after %.2f s: %s", rc, seconds_since(s->deed_ns), tutti_last_error(c));
	else
		rc = says(c, "rank %d (pid", s->victim) | says(c, "died");
	rc |= goes_on(c, s->n - 1);
	s->done[me] = 1;
	return rc;
}

static int no_orphans(void **state)
{
	while (waitpid(-1, NULL, 0) > 0) /* the children of the dead, which have been told to end */
		;
	return nothing_left(state);
}

static void forked_child_does_not_hide_a_death(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->victim = 1;
		if (stage_run(s, (struct ranks){.doomed = 2}, die_with_a_child, NULL))
			fail_msg("%s", way_names[way]);
		(void)no_orphans(NULL);
		stage_free(s);
	}
}

/* ---- at rest ------------------------------------------------------------------------------------------------------------ */

static double cpu_seconds(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static int rest(struct tutti_comm *c, void *arg)
{
	static float x[30000];
	struct tutti_request *req = NULL;
	(void)arg;
	RANK_OK(tutti_allreduce(x, x, 30000, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_allreduce(x, x, 30000, TUTTI_F32, TUTTI_SUM, c, &req));
	RANK_OK(tutti_wait(&req));
	ranks_meet();
	double burnt = 1;
	/* on a busy machine it comes to rest late, and is charged for some of what others do */
	for (int i = 0; i < 5 && burnt >= 0.02; i++) {
		double before = cpu_seconds();
		pause_us(2000000);
		burnt = cpu_seconds() - before;
	}
	ranks_meet();
	return burnt < 0.02 ? 0 : ranks_fail("%.1f ms of CPU time in 2 s of rest, and no less before", burnt * 1e3);
}

static void rest_costs_nothing(void **state)
{
	static const struct tutti_config threads = {.size = sizeof(threads), .progress = TUTTI_PROGRESS_THREAD};
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		if (stage_run(s, (struct ranks){.config = way == WAY_HOSTS ? &threads : NULL}, rest, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

/* ---- flight recorder ------------------------------------------------------------------------------------------------------- */

static int record(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc;
	double x = 0;
	RANK_OK(tutti_broadcast(&x, &x, 1, TUTTI_F64, 1, c, NULL));
	if (me == s->victim)
		rc = tutti_reduce(&x, &x, 1, TUTTI_F64, TUTTI_MIN, 0, c, NULL);
	else
		rc = tutti_reduce(&x, &x, 1, TUTTI_F64, TUTTI_MAX, 0, c, NULL);
	rc = rc ? rc : tutti_barrier(c, NULL);
	RANK_STATUS(TUTTI_EMISMATCH, rc);
	return 0;
}

static void last_calls_are_written(void **state)
{
	char dir[] = "/tmp/flight.XXXXXX", variable[64], path[64], line[2048];
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(variable, sizeof(variable), "TUTTI_FLIGHT=%s/%%r.json", dir);
	struct stage *s = stage_new(WAY_SHM);
	s->victim = 2;
	assert_int_equal(stage_run(s, (struct ranks){0}, record, variable, NULL), 0);
	for (int r = 0; r < s->n; r++) {
		bool head = false, broadcast = false, reduce = false;
		snprintf(path, sizeof(path), "%s/%d.json", dir, r);
		FILE *f = fopen(path, "re");
		assert_non_null(f);
		while (fgets(line, sizeof(line), f)) {
			head |= strstr(line, "ranks disagree about call #2") != NULL;
			broadcast |=
			        strstr(line, "\"call\":1,\"what\":\"broadcast\"") && strstr(line, "\"finished\":true");
			reduce |= strstr(line, "\"call\":2,\"what\":\"reduce\"") &&
			          strstr(line, r == s->victim ? "\"op\":\"min\"" : "\"op\":\"max\"");
		}
		fclose(f);
		assert_true(head && broadcast && reduce);
		unlink(path);
	}
	stage_free(s);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(abort_from_another_thread, nothing_left),
	        cmocka_unit_test_teardown(destroy_with_requests_in_flight, nothing_left),
	        cmocka_unit_test_teardown(rank_that_leaves_is_named, nothing_left),
	        cmocka_unit_test_teardown(forked_child_is_told_and_harms_nobody, nothing_left),
	        cmocka_unit_test_teardown(forked_children_make_a_world, nothing_left),
	        cmocka_unit_test_teardown(forked_child_does_not_hide_a_death, nothing_left),
	        cmocka_unit_test_teardown(rest_costs_nothing, nothing_left),
	        cmocka_unit_test_teardown(last_calls_are_written, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
