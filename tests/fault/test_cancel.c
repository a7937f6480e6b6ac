/* SPDX-License-Identifier: MIT */
/*
 * Threads that are cancelled (pthread_cancel) in a call: the call ends as any other does, cancellation acts after it, and
 * nothing stays locked. Once with the cancellation pending from before the call on, so that the first cancellation point in it
 * would end the thread; and once at some moment of a call that waits.
 */
#include "fault.h"

#define MANY 60000 /* floats: several slots, and more than a buffer of the direct tier has to begin with */

struct act {
	struct tutti_comm *c, *made;
	int (*call)(struct act *a);
	int rc;
	char text[300];
	_Atomic int in, returned;
	bool at_once; /* cancelled from before the call on */
};

static void *act(void *arg)
{
	struct act *a = arg;
	if (a->at_once)
		pthread_cancel(pthread_self());
	atomic_store(&a->in, 1);
	a->rc = a->call(a);
	atomic_store(&a->returned, 1);
	snprintf(a->text, sizeof(a->text), "%s", tutti_last_error(NULL));
	pthread_testcancel();
	return NULL;
}

/* The thread has been cancelled, and its call ended well. */
static int ended_well(struct act *a, pthread_t thread, const char *what)
{
	void *result = NULL;
	RANK_CHECK(pthread_join(thread, &result) == 0);
	if (!atomic_load(&a->returned))
		return ranks_fail("a thread was cancelled inside %s", what);
	if (result != PTHREAD_CANCELED)
		return ranks_fail("a thread was not cancelled after %s", what);
	return a->rc ? ranks_fail("%s returned %d: %s", what, a->rc, a->text) : 0;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static int neighbour(struct tutti_comm *c, int by)
{
	return (tutti_comm_rank(c) + by + tutti_comm_size(c)) % tutti_comm_size(c);
}

static int do_barrier(struct act *a)
{
	return tutti_barrier(a->c, NULL);
}

static int do_small(struct act *a)
{
	float x = 1;
	return tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, a->c, NULL);
}

static int do_large(struct act *a)
{
	static _Thread_local float in[MANY], out[MANY];
	return tutti_allreduce(in, out, MANY, TUTTI_F32, TUTTI_SUM, a->c, NULL);
}

/* To the next, from the one before, finished by `finish`. */
static int exchange(struct act *a, int (*finish)(struct tutti_request **reqs))
{
	static _Thread_local float in[MANY], out[MANY];
	struct tutti_request *reqs[2] = {NULL, NULL};
	int rc = tutti_recv(out, MANY, TUTTI_F32, neighbour(a->c, -1), a->c, &reqs[0]);
	if (!rc)
		rc = tutti_send(in, MANY, TUTTI_F32, neighbour(a->c, 1), a->c, &reqs[1]);
	return rc ? rc : finish(reqs);
}

static int by_wait(struct tutti_request **reqs)
{
	int rc = tutti_wait(&reqs[0]);
	return rc ? rc : tutti_wait(&reqs[1]);
}

static int by_wait_all(struct tutti_request **reqs)
{
	return tutti_wait_all(reqs, 2);
}

static int by_wait_any(struct tutti_request **reqs)
{
	int rc = TUTTI_OK, index;
	while (!rc && (reqs[0] || reqs[1]))
		rc = tutti_wait_any(reqs, 2, &index);
	return rc;
}

static int by_test(struct tutti_request **reqs)
{
	int rc = TUTTI_OK, done;
	for (int i = 0; i < 2; i++)
		for (done = 0; !rc && !done;)
			rc = tutti_test(&reqs[i], &done);
	return rc;
}

static int by_work(struct tutti_request **reqs)
{
	int rc = tutti_work(reqs[0], 0, 1);
	return rc ? rc : by_wait(reqs);
}

static int do_wait(struct act *a)
{
	return exchange(a, by_wait);
}

static int do_wait_all(struct act *a)
{
	return exchange(a, by_wait_all);
}

static int do_wait_any(struct act *a)
{
	return exchange(a, by_wait_any);
}

static int do_test(struct act *a)
{
	return exchange(a, by_test);
}

static int do_work(struct act *a)
{
	return exchange(a, by_work);
}

static int do_group(struct act *a)
{
	static _Thread_local float in[MANY], out[MANY];
	tutti_group_begin();
	int rc = tutti_send(in, MANY, TUTTI_F32, neighbour(a->c, 1), a->c, NULL);
	if (!rc)
		rc = tutti_recv(out, MANY, TUTTI_F32, neighbour(a->c, -1), a->c, NULL);
	int end = tutti_group_end();
	return rc ? rc : end;
}

static int do_split(struct act *a)
{
	return tutti_comm_split(a->c, 0, 0, &a->made);
}

static int do_create(struct act *a)
{
	return tutti_comm_from_env(&a->made, NULL);
}

static int do_create_threads(struct act *a)
{
	struct tutti_comm *two[2];
	struct tutti_config config = TUTTI_CONFIG_INIT;
	config.transport = "inproc";
	int rc = tutti_comm_create_threads(two, 2, &config);
	(void)a;
	for (int i = 0; !rc && i < 2; i++)
		rc = tutti_comm_destroy(two[i]);
	return rc;
}

/* A world of its own for each rank. */
static int do_create_alone(struct act *a)
{
	struct tutti_unique_id id;
	int rc = tutti_unique_id_create(&id);
	return rc ? rc : tutti_comm_create(&a->made, 1, &id, 0, NULL);
}

static int do_local(struct act *a)
{
	char text[200];
	void *p = NULL;
	int rc = tutti_mem_alloc(a->c, 1 << 20, &p);
	rc = rc ? rc : tutti_mem_free(a->c, p);
	rc = rc ? rc : tutti_comm_explain(a->c, "allreduce", 1, TUTTI_F32, TUTTI_SUM, text, sizeof(text));
	rc = rc ? rc : tutti_comm_fd(a->c) < 0;
	return rc ? rc : tutti_progress(a->c);
}

/* Of the one that was made. */
static int do_destroy(struct act *a)
{
	int rc = tutti_comm_destroy(a->made);
	a->made = NULL;
	return rc;
}

/* Ends the communicator with the error that is wanted, which the recorder takes down; then it is shrunk. */
static int do_fail(struct act *a)
{
	int rc = tutti_comm_abort(a->c, "this test has it so");
	rc = rc ? rc : tutti_barrier(a->c, NULL);
	return rc == TUTTI_EABORTED ? TUTTI_OK : 1000 + rc;
}

static int do_shrink(struct act *a)
{
	return tutti_comm_shrink(a->c, &a->made);
}

struct step {
	const char *what;
	int (*call)(struct act *a);
};

static const struct step steps[] = {
        {"barrier", do_barrier},
        {"a small allreduce", do_small},
        {"a large allreduce", do_large},
        {"a large allreduce again", do_large},
        {"wait", do_wait},
        {"wait_all", do_wait_all},
        {"wait_any", do_wait_any},
        {"test", do_test},
        {"work", do_work},
        {"a group", do_group},
        {"local calls", do_local},
        {"split", do_split},
        {"destroy of what was split", do_destroy},
        {"create_threads", do_create_threads},
        {"unique_id_create and create", do_create_alone},
        {"destroy of what was made alone", do_destroy},
        {"abort and a call after it", do_fail},
        {"shrink", do_shrink},
        {"destroy of what was shrunk", do_destroy},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* ---- pending from the beginning -------------------------------------------------------------------------------------- */

static int act_at_once(struct act *a, const struct step *s)
{
	pthread_t thread;
	a->call = s->call;
	a->at_once = true;
	atomic_store(&a->returned, 0);
	ranks_note("%s, in a thread that is cancelled", s->what);
	RANK_CHECK(pthread_create(&thread, NULL, act, a) == 0);
	return ended_well(a, thread, s->what);
}

static int each_call(struct tutti_comm *c, void *arg)
{
	struct act a = {.c = c};
	(void)arg;
	for (size_t i = 0; i < STEPS; i++)
		if (act_at_once(&a, &steps[i]))
			return 1;
	return 0;
}

static int start_and_destroy(struct tutti_comm *c, void *arg)
{
	static const struct step start = {"from_env", do_create}, end = {"destroy", do_destroy};
	struct act a = {0};
	(void)c;
	(void)arg;
	return act_at_once(&a, &start) || act_at_once(&a, &end);
}

static const char *const ways[] = {"TUTTI_TRANSPORT=inproc", "TUTTI_TRANSPORT=shm", "TUTTI_TRANSPORT=tcp",
                                   "TUTTI_TRANSPORT=libfabric"};

/* Every call, over every transport, with a flight record to be written and all that there is to log. */
static void calls_are_no_cancellation_points(void **state)
{
	char flight[] = "/tmp/flight.XXXXXX", variable[64];
	(void)state;
	int fd = mkstemp(flight);
	assert_true(fd >= 0);
	snprintf(variable, sizeof(variable), "TUTTI_FLIGHT=%s", flight);
	for (int way = 0; way < 4; way++) {
		const char *const env[] = {ways[way], variable, "TUTTI_LOG=error", NULL};
		struct ranks how = {.n = 2, .threads = way == 0, .env = env};
		if (ranks_run(&how, each_call, NULL))
			fail_msg("%s", ways[way]);
		how.start = RANKS_BY_HAND;
		if (way > 0 && ranks_run(&how, start_and_destroy, NULL))
			fail_msg("start and end, %s", ways[way]);
	}
	close(fd);
	unlink(flight);
}

/* ---- at some moment --------------------------------------------------------------------------------------------------- */

static const struct step waiting[] = {
        {"barrier", do_barrier}, {"wait", do_wait}, {"a group", do_group}, {"split", do_split}, {"from_env", do_create},
};

static void sink(void *ctx, enum tutti_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

/* Rank 0's thread is cancelled while it waits for the others; its process works on in another world. */
static int cancel_in(struct act *a, const struct step *s, struct tutti_comm *other, unsigned us)
{
	pthread_t thread;
	int rc = 0;
	a->call = s->call;
	atomic_store(&a->in, 0);
	atomic_store(&a->returned, 0);
	ranks_note("%s, in a thread that is cancelled %u us later", s->what, us);
	RANK_CHECK(pthread_create(&thread, NULL, act, a) == 0);
	await(&a->in, 1);
	pause_us(us);
	pthread_cancel(thread);
	pause_us(2000);
	ranks_note("another world, while %s waits in a thread that was cancelled", s->what);
	for (int i = 0; i < 20 && !rc; i++)
		rc = do_large(&(struct act){.c = other});
	RANK_OK(rc);
	ranks_meet();
	return ended_well(a, thread, s->what);
}

static int come_late(struct act *a, const struct step *s, struct tutti_comm *other)
{
	int rc = 0;
	ranks_note("another world, while %s waits in a thread of rank 0", s->what);
	for (int i = 0; i < 20 && !rc; i++)
		rc = do_large(&(struct act){.c = other});
	RANK_OK(rc);
	ranks_meet();
	RANK_OK(s->call(a));
	return 0;
}

static int at_some_moment(struct tutti_comm *c, void *arg)
{
	struct act a = {0}, other = {0};
	unsigned seed = 1;
	struct tutti_config quiet = TUTTI_CONFIG_INIT;
	quiet.log = sink;
	(void)c;
	(void)arg;
	RANK_OK(tutti_comm_from_env(&a.c, &quiet));
	RANK_OK(do_create(&other));
	for (size_t i = 0; i < 3 * sizeof(waiting) / sizeof(waiting[0]); i++) {
		const struct step *s = &waiting[i % (sizeof(waiting) / sizeof(waiting[0]))];
		unsigned us = (unsigned)rand_r(&seed) % (i < 5 ? 200 : 100000);
		if (tutti_comm_rank(a.c) == 0 ? cancel_in(&a, s, other.made, us) : come_late(&a, s, other.made))
			return 1;
		if (a.made)
			RANK_OK(do_destroy(&a));
	}
	RANK_OK(do_destroy(&other));
	RANK_OK(tutti_comm_destroy(a.c));
	return 0;
}

static void other_worlds_go_on(void **state)
{
	(void)state;
	for (int way = 1; way < 3; way++) {
		const char *const env[] = {ways[way], "TUTTI_LOG=debug", NULL};
		struct ranks how = {.n = 2, .start = RANKS_BY_HAND, .env = env};
		if (ranks_run(&how, at_some_moment, NULL))
			fail_msg("%s", ways[way]);
	}
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(calls_are_no_cancellation_points, nothing_left),
	        cmocka_unit_test_teardown(other_worlds_go_on, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
