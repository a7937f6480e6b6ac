/* SPDX-License-Identifier: MIT */
/* The bootstrap: that n ranks become a world whatever n is, and that all learn alike why they don't. */
#include "expect.h"

#include "../../src/bootstrap/bootstrap.h"
#include "../../src/bootstrap/door.h"
#include "../../src/bootstrap/notice.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANKS 64
#define LONG  60.0
#define SHORT 3.0 /* until a start fails; every rank that can join has joined by then */

/** One rank, its wishes and what became of it. */
struct rank {
	int rank, size;
	const char *secret, *params;
	struct rendezvous root;
	struct tutti_unique_id *id; /* instead of secret and root */
	double seconds;
	const _Atomic int *stop;
	size_t bytes;            /* of the all-gather */
	bool die;                /* killed between joining and the all-gather */
	pthread_barrier_t *hold; /* waits here twice between the all-gather and the end */
	int rc;
	char text[1024];
};

static void fill(char *buf, size_t bytes, int rank)
{
	for (size_t i = 0; i < bytes; i++)
		buf[i] = (char)(rank * 31 + (int)i * 7);
}

static int gather(struct bootstrap *b, const struct rank *r)
{
	size_t n = (size_t)r->size, bytes = r->bytes;
	char *in = malloc(bytes + 1), *out = malloc(n * bytes + 1), *want = malloc(bytes + 1);
	int rc;

	fill(in, bytes, r->rank);
	rc = bootstrap_allgather(b, in, out, bytes);
	for (int i = 0; i < r->size && rc == TUTTI_OK; i++) {
		fill(want, bytes, i);
		if (memcmp(out + (size_t)i * bytes, want, bytes) != 0)
			rc = fail(TUTTI_EINVAL, "rank %d holds a wrong part of rank %d", r->rank, i);
	}
	free(in);
	free(out);
	free(want);
	return rc;
}

static int live(struct rank *r)
{
	struct bootstrap *b = NULL;
	struct door *door = NULL;
	struct contact me;
	struct door_config cfg = {.rank = r->rank, .size = r->size};
	struct net_limit limit = limit_of(r->seconds);
	int rc = TUTTI_OK;

	limit.stop = r->stop;
	if (r->id)
		rc = unique_id_read(r->id, r->rank, &r->root, &cfg.key);
	else
		auth_key_from_text(&cfg.key, r->secret);
	if (rc != TUTTI_OK)
		return rc;
	contact_self(&me, r->rank, r->size, NULL);
	snprintf(me.params, sizeof(me.params), "%s", r->params ? r->params : "TUTTI_SLOT=64\n");
	rc = door_open(&door, &cfg, &me);
	if (rc == TUTTI_OK)
		rc = bootstrap_open(&b, &r->root, r->rank, r->size, door, &me, &cfg.key, limit);
	if (r->root.listen_fd >= 0)
		close(r->root.listen_fd);
	if (rc == TUTTI_OK && r->die)
		raise(SIGKILL);
	for (int round = 0; round < 3 && rc == TUTTI_OK; round++)
		rc = gather(b, r);
	if (rc == TUTTI_OK && r->hold) {
		pthread_barrier_wait(r->hold);
		pthread_barrier_wait(r->hold);
	}
	bootstrap_close(b);
	door_close(door);
	return rc;
}

static void *live_thread(void *arg)
{
	struct rank *r = arg;

	r->rc = live(r);
	snprintf(r->text, sizeof(r->text), "%s", fail_text());
	return NULL;
}

/* n ranks that meet at a fresh listener of the loopback. */
static void prepare(struct rank *r, int n)
{
	struct net_addr at = {.family = 4, .ip = {127, 0, 0, 1}};
	char text[NET_TEXT];
	int fd;

	assert_int_equal(net_listen(&at, &fd), TUTTI_OK);
	memset(r, 0, (size_t)n * sizeof(*r));
	for (int i = 0; i < n; i++) {
		r[i] = (struct rank){.rank = i,
		                     .size = n,
		                     .secret = "one that is as long as random ones are",
		                     .seconds = LONG,
		                     .bytes = 100};
		r[i].root.listen_fd = i == 0 ? fd : -1;
		snprintf(r[i].root.text, sizeof(r[i].root.text), "%s", net_text(&at, text));
	}
}

static void run_threads(struct rank *r, int n)
{
	pthread_t thread[RANKS];

	for (int i = 0; i < n; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	for (int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
}

/* Each rank's status is its exit code; -1 when it was killed. */
static void run_processes(struct rank *r, int n)
{
	pid_t pid[RANKS];

	for (int i = 0; i < n; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			_exit(live(&r[i]));
	}
	if (r[0].root.listen_fd >= 0)
		close(r[0].root.listen_fd);
	for (int i = 0; i < n; i++) {
		int status;
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		r[i].rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
}

static void assert_all(const struct rank *r, int n, int rc, const char *part)
{
	for (int i = 0; i < n; i++) {
		if (r[i].rc != rc)
			flunk("rank %d: %d, not %d: %s", i, r[i].rc, rc, r[i].text);
		if (part)
			assert_contains(r[i].text, part);
	}
}

/* ---- it works ---------------------------------------------------------------------------------------------------- */

static void test_threads(void **state)
{
	static const size_t bytes[] = {0, 1, 8, 1400, 100000};
	struct rank r[RANKS];

	(void)state;
	for (int n = 1; n <= 17; n++) {
		prepare(r, n);
		for (int i = 0; i < n; i++)
			r[i].bytes = bytes[n % 5];
		run_threads(r, n);
		assert_all(r, n, TUTTI_OK, NULL);
	}
}

static void test_processes(void **state)
{
	struct rank r[RANKS];

	(void)state;
	for (int n = 1; n <= 17; n++) {
		prepare(r, n);
		run_processes(r, n);
		assert_all(r, n, TUTTI_OK, NULL);
	}
}

static void test_many(void **state)
{
	struct rank r[RANKS];

	(void)state;
	prepare(r, RANKS);
	run_processes(r, RANKS);
	assert_all(r, RANKS, TUTTI_OK, NULL);
}

static void test_without_secret(void **state)
{
	struct rank r[5];

	(void)state;
	prepare(r, 5);
	for (int i = 0; i < 5; i++)
		r[i].secret = NULL;
	run_threads(r, 5);
	assert_all(r, 5, TUTTI_OK, NULL);
}

/* Counts what the ranks say about trying again. */
static _Atomic int retries;

static void count_retries(void *ctx, enum tutti_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (strstr(line, "will try again to join"))
		atomic_fetch_add(&retries, 1);
}

static void test_rank_0_is_late(void **state)
{
	struct rank r[4];
	pthread_t thread[4];

	(void)state;
	prepare(r, 4);
	close(r[0].root.listen_fd);
	r[0].root.listen_fd = -1;
	atomic_store(&retries, 0);
	log_set_sink((struct log_sink){.fn = count_retries});
	log_set_level(TUTTI_LOG_DEBUG);
	for (int i = 1; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	while (atomic_load(&retries) < 6)
		sched_yield();
	assert_int_equal(pthread_create(&thread[0], NULL, live_thread, &r[0]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	log_set_level(TUTTI_LOG_WARN);
	log_set_sink((struct log_sink){.fn = NULL});
	assert_all(r, 4, TUTTI_OK, NULL);
}

/* Rank 0 takes the first address that it can have; the others find it, past whatever is at the other one. */
static void test_candidates(void **state)
{
	struct net_addr taken = {.family = 4, .ip = {127, 0, 0, 1}}, open = taken;
	struct rank r[3];
	int silent, fd;

	(void)state;
	prepare(r, 3);
	close(r[0].root.listen_fd);
	assert_int_equal(net_listen(&taken, &silent), TUTTI_OK);
	assert_int_equal(net_listen(&open, &fd), TUTTI_OK);
	close(fd);
	for (int i = 0; i < 3; i++) {
		r[i].root.listen_fd = -1;
		r[i].root.naddrs = 2;
		r[i].root.addrs[0] = taken;
		r[i].root.addrs[1] = open;
	}
	run_threads(r, 3);
	close(silent);
	assert_all(r, 3, TUTTI_OK, NULL);
}

static void test_unique_id(void **state)
{
	struct tutti_unique_id id, damaged;
	struct rendezvous root;
	struct auth_key key;
	struct rank r[5];

	(void)state;
	assert_int_equal(unique_id_make(&id, ""), TUTTI_OK);
	memset(r, 0, sizeof(r));
	for (int i = 0; i < 5; i++)
		r[i] = (struct rank){.rank = i, .size = 5, .id = &id, .seconds = LONG, .bytes = 9};
	run_threads(r, 5);
	assert_all(r, 5, TUTTI_OK, NULL);

	assert_int_equal(unique_id_read(&id, 0, &root, &key), TUTTI_EUSAGE);
	assert_contains(fail_text(), "must be in the process that created");
	for (size_t i = 0; i < sizeof(id); i += 13) {
		damaged = id;
		damaged.bytes[i] ^= 4;
		assert_int_equal(unique_id_read(&damaged, 1, &root, &key), TUTTI_EINVAL);
	}
	assert_int_equal(unique_id_make(&id, "nosuch0"), TUTTI_EINVAL);
	assert_contains(fail_text(), "nosuch0");
	assert_int_equal(unique_id_make(&id, "lo"), TUTTI_OK);
	assert_int_equal(unique_id_read(&id, 0, &root, &key), TUTTI_OK);
	assert_true(net_is_loopback(&root.addrs[0]));
	close(root.listen_fd);
}

/* ---- it fails, and says why -------------------------------------------------------------------------------------- */

static void test_missing(void **state)
{
	struct rank all[7], r[4];

	(void)state;
	prepare(all, 7);
	r[0] = all[0];
	r[1] = all[1];
	r[2] = all[3];
	r[3] = all[4];
	for (int i = 0; i < 4; i++)
		r[i].seconds = SHORT;
	run_threads(r, 4);
	assert_all(r, 4, TUTTI_ETIMEOUT, "ranks 2 5-6 have not joined 127.0.0.1:");
	for (int i = 1; i < 4; i++)
		assert_string_equal(r[i].text, r[0].text);
}

static void test_no_rank_0(void **state)
{
	struct rank r[2];

	(void)state;
	prepare(r, 2);
	close(r[0].root.listen_fd);
	r[1].seconds = SHORT;
	run_threads(r + 1, 1);
	assert_int_equal(r[1].rc, TUTTI_ETIMEOUT);
	assert_contains(r[1].text, "rank 1 could not join rank 0 at 127.0.0.1:");
	assert_contains(r[1].text, "Connection refused");
}

static void test_wrong_size(void **state)
{
	struct rank r[4];

	(void)state;
	prepare(r, 4);
	r[2].size = 5;
	for (int i = 0; i < 4; i++)
		r[i].seconds = SHORT;
	run_threads(r, 4);
	assert_int_equal(r[2].rc, TUTTI_EMISMATCH);
	assert_contains(r[2].text, "rank 0 is in a job of 4 ranks, this is rank 2 of 5");
	for (int i = 0; i < 4; i++) {
		if (i == 2)
			continue;
		assert_int_equal(r[i].rc, TUTTI_ETIMEOUT);
		assert_contains(r[i].text, "rank 2 has not joined");
		assert_contains(r[i].text, "belongs to a job of 5 ranks, not 4");
	}
}

static void test_wrong_secret(void **state)
{
	struct rank r[3];

	(void)state;
	prepare(r, 3);
	r[1].secret = "another one, as long as random ones are";
	for (int i = 0; i < 3; i++)
		r[i].seconds = SHORT;
	run_threads(r, 3);
	assert_int_equal(r[1].rc, TUTTI_EAUTH);
	assert_contains(r[1].text, "TUTTI_SECRET");
	assert_int_equal(r[0].rc, TUTTI_ETIMEOUT);
	assert_string_equal(r[0].text, r[2].text);
	assert_contains(r[0].text, "rank 1 has not joined");
	assert_contains(r[0].text, "does not know this job's secret");
}

static void test_duplicate(void **state)
{
	struct rank r[4];

	(void)state;
	prepare(r, 4);
	r[3].rank = 1;
	run_threads(r, 4);
	assert_all(r, 4, TUTTI_EMISMATCH, "two processes claim to be rank 1: rank 1 (pid ");
}

static void test_rank_out_of_range(void **state)
{
	struct rank r[2];

	(void)state;
	prepare(r, 2);
	close(r[0].root.listen_fd);
	r[1].rank = 2;
	run_threads(r + 1, 1);
	assert_int_equal(r[1].rc, TUTTI_EINVAL);
	assert_contains(r[1].text, "rank 2 is not in a job of 2 ranks");
}

static void test_params_differ(void **state)
{
	struct rank r[4];

	(void)state;
	prepare(r, 4);
	r[2].params = "TUTTI_SLOT=128\n";
	run_threads(r, 4);
	assert_all(r, 4, TUTTI_EMISMATCH, "TUTTI_SLOT must be the same on all ranks: it is \"64\" on rank 0");
	assert_contains(r[1].text, "\"128\" on rank 2 (pid ");
}

static void test_bytes_differ(void **state)
{
	struct rank r[6];

	(void)state;
	prepare(r, 6);
	r[5].bytes = 101;
	run_threads(r, 6);
	assert_all(r, 6, TUTTI_EMISMATCH, "it sent 101 bytes, expected 100");
	assert_contains(r[0].text, "rank 5 (pid ");
}

static void test_killed_in_the_middle(void **state)
{
	static const int victims[] = {0, 3, 4, 6, 7};
	struct rank r[8];

	(void)state;
	for (size_t v = 0; v < sizeof(victims) / sizeof(victims[0]); v++) {
		prepare(r, 8);
		r[victims[v]].die = true;
		run_processes(r, 8);
		for (int i = 0; i < 8; i++)
			if (r[i].rc != (i == victims[v] ? -1 : TUTTI_EPEER))
				flunk("victim %d: rank %d ended with %d", victims[v], i, r[i].rc);
	}
}

/* Joins as a rank, as bootstrap_open does, and does no more. */
static int join_only(const struct rank *r, struct door **door, struct contact *me, struct session *session)
{
	struct door_config cfg = {.rank = r->rank, .size = r->size};
	struct hello hello = {.kind = HELLO_BOOT, .from = r->rank};
	struct contact zero = {.naddrs = 1};
	struct net_limit limit = limit_of(LONG);
	int n, rc;

	auth_key_from_text(&cfg.key, r->secret);
	contact_self(me, r->rank, r->size, NULL);
	snprintf(me->params, sizeof(me->params), "TUTTI_SLOT=64\n");
	rc = door_open(door, &cfg, me);
	if (rc == TUTTI_OK)
		rc = net_resolve(r->root.text, zero.addrs, 1, &n, limit);
	if (rc == TUTTI_OK)
		rc = door_dial(*door, &zero, &hello, false, limit, session);
	if (rc == TUTTI_OK)
		rc = notice_send(session, NOTICE_JOIN, me, sizeof(*me), limit);
	return rc;
}

static void test_killed_while_others_are_awaited(void **state)
{
	struct door *door;
	struct contact me;
	struct rank r[5];
	pthread_t thread[5];
	struct session session;

	(void)state;
	prepare(r, 5);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	assert_ok(join_only(&r[3], &door, &me, &session));
	session_close(&session);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	door_close(door);
	assert_all(r, 3, TUTTI_EPEER, "left while the job was starting");
	assert_contains(r[0].text, "rank 3 (pid ");
	assert_contains(r[0].text, "4 had not joined yet");
}

/* Everybody has joined, but one never connects to its parent. */
static void test_stuck_after_joining(void **state)
{
	struct door *door;
	struct contact me;
	struct rank r[4];
	pthread_t thread[4];
	struct session session;

	(void)state;
	prepare(r, 4);
	for (int i = 0; i < 3; i++) {
		r[i].seconds = SHORT;
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	}
	assert_ok(join_only(&r[3], &door, &me, &session));
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	session_close(&session);
	door_close(door);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(r[i].rc, TUTTI_ETIMEOUT);
		assert_string_equal(r[i].text, r[0].text);
	}
	assert_contains(r[0].text, "but did not connect to its neighbours");
}

static void test_latecomer(void **state)
{
	pthread_barrier_t hold;
	pthread_t thread[3];
	struct rank r[3], late;

	(void)state;
	prepare(r, 3);
	assert_int_equal(pthread_barrier_init(&hold, NULL, 4), 0);
	for (int i = 0; i < 3; i++) {
		r[i].hold = &hold;
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	}
	late = r[2];
	late.hold = NULL;
	pthread_barrier_wait(&hold);
	live_thread(&late);
	pthread_barrier_wait(&hold);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&hold);
	assert_all(r, 3, TUTTI_OK, NULL);
	assert_int_equal(late.rc, TUTTI_EMISMATCH);
	assert_contains(late.text, "already has a rank 2");
}

static void test_stopped(void **state)
{
	_Atomic int stop = 0;
	struct rank r[3];
	pthread_t thread[2];

	(void)state;
	prepare(r, 3);
	r[0].stop = r[1].stop = &stop;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, live_thread, &r[i]), 0);
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(r[0].rc, TUTTI_EABORTED);
	assert_int_equal(r[1].rc, TUTTI_EABORTED);
}

static void test_beyond_loopback_without_secret(void **state)
{
	struct rank r[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		r[i] = (struct rank){.rank = i, .size = 2, .seconds = LONG, .root.listen_fd = -1};
		snprintf(r[i].root.text, sizeof(r[i].root.text), "192.0.2.77:4711");
	}
	run_threads(r, 2);
	assert_all(r, 2, TUTTI_EAUTH, "set TUTTI_SECRET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_processes),
	        cmocka_unit_test(test_many),
	        cmocka_unit_test(test_killed_in_the_middle),
	        cmocka_unit_test(test_threads),
	        cmocka_unit_test(test_without_secret),
	        cmocka_unit_test(test_rank_0_is_late),
	        cmocka_unit_test(test_candidates),
	        cmocka_unit_test(test_unique_id),
	        cmocka_unit_test(test_missing),
	        cmocka_unit_test(test_no_rank_0),
	        cmocka_unit_test(test_wrong_size),
	        cmocka_unit_test(test_wrong_secret),
	        cmocka_unit_test(test_duplicate),
	        cmocka_unit_test(test_rank_out_of_range),
	        cmocka_unit_test(test_params_differ),
	        cmocka_unit_test(test_bytes_differ),
	        cmocka_unit_test(test_killed_while_others_are_awaited),
	        cmocka_unit_test(test_stuck_after_joining),
	        cmocka_unit_test(test_latecomer),
	        cmocka_unit_test(test_stopped),
	        cmocka_unit_test(test_beyond_loopback_without_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
