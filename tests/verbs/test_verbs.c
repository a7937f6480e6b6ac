/* SPDX-License-Identifier: MIT */
/*
 * The verbs transport on the imaginary device: what it does right where the device is strict, and what it says where the
 * device fails. Ranks are processes (and, once, threads), each with a card of its own.
 */
#include "sea.h"

/* Each to each, in both directions at once, and then one way only. */
static int messages(struct tutti_comm *c, void *arg)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	static uint8_t out[300000], in[300000];
	(void)arg;
	for (int round = 0; round < 60; round++) {
		size_t bytes = (size_t)round * 97 % 70 ? (size_t)round * 5000 : 7;
		memset(out, me + round, bytes);
		RANK_OK(tutti_group_begin());
		RANK_OK(tutti_send(out, bytes, TUTTI_U8, (me + 1) % n, c, NULL));
		RANK_OK(tutti_recv(in, bytes, TUTTI_U8, (me + n - 1) % n, c, NULL));
		RANK_OK(tutti_group_end());
		for (size_t i = 0; i < bytes; i++)
			RANK_CHECK(in[i] == (uint8_t)((me + n - 1) % n + round));
	}
	for (int i = 0; i < 500 && me < 2; i++)
		RANK_OK(me ? tutti_recv(in, 40, TUTTI_U8, 0, c, NULL) : tutti_send(out, 40, TUTTI_U8, 1, c, NULL));
	return 0;
}

static void test_all_modes(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), reduces, modes[m], "TUTTI_CHANNELS=3", NULL), 0);
		assert_int_equal(run(3, scene_new(), messages, modes[m], NULL, NULL), 0);
		assert_true(m == 0 ? sea->counts.writes > 0 : sea->counts.sends > 0);
		nothing_was_lost();
		calm_sea(NULL);
	}
}

static void test_any_order_of_placement(void **state)
{
	(void)state;
	sea->knobs.reorder = true;
	assert_int_equal(run(2, scene_new(), reduces, modes[0], NULL, NULL), 0);
	assert_int_equal(run(3, scene_new(), messages, modes[0], "TUTTI_SLOTS=2", NULL), 0);
	nothing_was_lost();
}

static void test_ranks_are_threads(void **state)
{
	const char *env[] = {"TUTTI_TRANSPORT=verbs", NULL};
	struct ranks how = {.n = 3, .threads = true, .env = env, .start = RANKS_BY_ID};
	struct scene *s = scene_new();
	(void)state;
	s->most_bytes = 40000;
	assert_int_equal(ranks_run(&how, reduces, s), 0);
	ranks_unshare(s, sizeof(*s));
	nothing_was_lost();
}

/* Now the one, now the other has nothing to do but to sleep. */
static int one_comes_late(struct tutti_comm *c, void *arg)
{
	float in[16] = {1}, out[16];
	(void)arg;
	for (int i = 0; i < 10; i++) {
		if (tutti_comm_rank(c) == i % 2)
			usleep(20000);
		RANK_OK(tutti_allreduce(in, out, 16, TUTTI_F32, TUTTI_SUM, c, NULL));
		RANK_CHECK(out[0] == 2);
	}
	return 0;
}

static void test_sleepers_are_woken(void **state)
{
	struct scene *s = scene_new();
	(void)state;
	s->most_bytes = 20000;
	assert_int_equal(run(2, s, reduces, modes[0], "TUTTI_WAIT=sleep", NULL), 0);
	assert_int_equal(run(2, scene_new(), one_comes_late, modes[0], "TUTTI_WAIT=sleep", NULL), 0);
	assert_true(sea->counts.slept_for > 0);
}

static int all_to_all(struct tutti_comm *c, void *arg)
{
	static uint8_t in[4 * 50000], out[4 * 50000];
	(void)arg;
	for (int i = 0; i < 10; i++)
		RANK_OK(tutti_alltoall(in, out, 50000, TUTTI_U8, c, NULL));
	return reduces(c, arg);
}

/* As Apple's: UC only, few of everything, frames alike, no completion channel. */
static void test_a_poor_device(void **state)
{
	(void)state;
	sea->knobs.uc_only = sea->knobs.equal_frames = sea->knobs.no_channel = true;
	sea->knobs.max_qp = 10;
	sea->knobs.max_mr = 100;
	sea->knobs.max_wr = 300;
	assert_int_equal(run(4, scene_new(), all_to_all, "TUTTI_VERBS_MODE=auto", NULL, NULL), 0);
	assert_true(sea->counts.sends > 0 && sea->counts.writes == 0);
	assert_in_range(sea->counts.most_qps, 3, 4); /* one a peer, and perhaps the one made on trial */
	assert_in_range(sea->counts.most_mrs, 1, 12);
	nothing_was_lost();
}

/* Every communicator has channels of its own; what one leaves the next one takes. */
static int split_often(struct tutti_comm *c, void *arg)
{
	(void)arg;
	for (int i = 0; i < 80; i++) {
		struct tutti_comm *sub = NULL;
		RANK_OK(tutti_comm_split(c, 0, 0, &sub));
		RANK_OK(reduce_once(sub, 30000, i));
		RANK_OK(tutti_comm_destroy(sub));
	}
	return 0;
}

static void test_channels_come_and_go(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), split_often, modes[m], NULL, NULL), 0);
		assert_in_range(sea->counts.most_mrs, 1, 5); /* 80 of them at once would be 80 MiB: 7 and more */
		nothing_was_lost();
		calm_sea(NULL);
	}
}

/* Each from its own memory of tutti_mem_alloc, at any place in it; what is freed may come again as another's. */
static int from_lent_memory(struct tutti_comm *c, void *arg)
{
	enum { BYTES = 500000 };
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	static uint8_t in[BYTES];
	(void)arg;
	for (int round = 0; round < 20; round++) {
		size_t bytes = (size_t)BYTES / 20 * (size_t)(round + 1), at = (size_t)round * 13 % 64;
		void *p, *sum;
		RANK_OK(tutti_mem_alloc(c, bytes + 64, &p));
		RANK_OK(tutti_mem_alloc(c, 40000, &sum));
		memset((uint8_t *)p + at, me + round, bytes);
		RANK_OK(tutti_group_begin());
		RANK_OK(tutti_send((uint8_t *)p + at, bytes, TUTTI_U8, (me + 1) % n, c, NULL));
		RANK_OK(tutti_recv(in, bytes, TUTTI_U8, (me + n - 1) % n, c, NULL));
		RANK_OK(tutti_group_end());
		for (size_t i = 0; i < bytes; i++)
			RANK_CHECK(in[i] == (uint8_t)((me + n - 1) % n + round));
		memset(sum, 1, 40000);
		RANK_OK(tutti_allreduce(sum, sum, 40000, TUTTI_U8, TUTTI_SUM, c, NULL));
		for (size_t i = 0; i < 40000; i++)
			RANK_CHECK(((uint8_t *)sum)[i] == n);
		RANK_OK(tutti_mem_free(c, p));
		if (round % 2) /* the rest end with the communicator */
			RANK_OK(tutti_mem_free(c, sum));
	}
	return 0;
}

static void test_lent_memory_is_not_copied(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(3, scene_new(), from_lent_memory, modes[m], "TUTTI_CHANNELS=2", NULL), 0);
		assert_int_equal(m == 0, sea->counts.bare > 0);
		assert_in_range(sea->counts.most_mrs, 1, m == 0 ? 20 : 5);
		nothing_was_lost();
		calm_sea(NULL);
	}
	assert_int_equal(run(3, scene_new(), messages, modes[0], NULL, NULL), 0);
	assert_int_equal(sea->counts.bare, 0);
}

static int pass_on(struct tutti_comm *c, uint8_t *p, size_t bytes, int round)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	static uint8_t in[300000];
	memset(p, me + round, bytes);
	RANK_OK(tutti_group_begin());
	RANK_OK(tutti_send(p, bytes, TUTTI_U8, (me + 1) % n, c, NULL));
	RANK_OK(tutti_recv(in, bytes, TUTTI_U8, (me + n - 1) % n, c, NULL));
	RANK_OK(tutti_group_end());
	RANK_CHECK(in[0] == (me + n - 1) % n + round && !memcmp(in, in + 1, bytes - 1));
	return 0;
}

/* From memory of the program's own, registered more than once, in part and beside memory of tutti_mem_alloc. */
static int from_registered_memory(struct tutti_comm *c, void *arg)
{
	enum { BYTES = 300000 };
	(void)arg;
	for (int round = 0; round < 5; round++) {
		uint8_t *p = malloc(BYTES);
		void *own;
		RANK_CHECK(p);
		RANK_OK(tutti_mem_alloc(c, BYTES, &own));
		RANK_OK(tutti_mem_register(c, own, BYTES));
		RANK_OK(tutti_mem_register(c, p, BYTES));
		RANK_OK(tutti_mem_register(c, p, BYTES));
		RANK_OK(tutti_mem_register(c, p, BYTES / 2));
		for (int k = 0; k < 3; k++) {
			if (pass_on(c, p, BYTES, round + k) || pass_on(c, own, BYTES, round + k))
				return 1;
			RANK_OK(tutti_mem_deregister(c, p));
		}
		RANK_STATUS(TUTTI_EINVAL, tutti_mem_deregister(c, p));
		RANK_OK(tutti_mem_deregister(c, own));
		RANK_STATUS(TUTTI_EINVAL, tutti_mem_deregister(c, own));
		RANK_OK(tutti_mem_free(c, own));
		free(p);
	}
	return 0;
}

static int from_registered_memory_alone(struct tutti_comm *c, void *arg)
{
	static uint8_t p[300000];
	(void)arg;
	RANK_OK(tutti_mem_register(c, p, sizeof(p)));
	return pass_on(c, p, sizeof(p), 1); /* it ends with the communicator */
}

static int from_deregistered_memory(struct tutti_comm *c, void *arg)
{
	static uint8_t p[300000];
	(void)arg;
	RANK_OK(tutti_mem_register(c, p, sizeof(p)));
	RANK_OK(tutti_mem_deregister(c, p));
	return pass_on(c, p, sizeof(p), 1);
}

static void test_registered_memory_is_not_copied(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), from_registered_memory, modes[m], NULL, NULL), 0);
		assert_in_range(sea->counts.most_mrs, 1, m == 0 ? 8 : 5);
		nothing_was_lost();
		calm_sea(NULL);
		assert_int_equal(run(2, scene_new(), from_registered_memory_alone, modes[m], NULL, NULL), 0);
		assert_int_equal(m == 0, sea->counts.bare > 0);
		nothing_was_lost();
		calm_sea(NULL);
	}
	assert_int_equal(run(2, scene_new(), from_deregistered_memory, modes[0], NULL, NULL), 0);
	assert_int_equal(sea->counts.bare, 0);
}

/* A card that can't register it sends copies. */
static void test_lent_memory_that_is_too_much(void **state)
{
	(void)state;
	sea->knobs.max_mr = 2;
	assert_int_equal(run(2, scene_new(), from_lent_memory, modes[0], NULL, NULL), 0);
	nothing_was_lost();
}

/* Nobody receives what is sent: once the deadline has passed, its memory is gone, and others go on using the card. */
static int ends_early(struct tutti_comm *c, bool lent)
{
	enum { BYTES = 16 << 20 };
	int me = tutti_comm_rank(c);
	struct tutti_comm *other = NULL;
	char x[1] = {0};
	RANK_OK(tutti_comm_split(c, 0, me, &other));
	RANK_OK(reduce_once(other, 100, 1));
	RANK_OK(me ? tutti_recv(x, 1, TUTTI_U8, 0, c, NULL) : tutti_send(x, 1, TUTTI_U8, 1, c, NULL));
	if (me == 0) {
		void *p = NULL;
		if (lent)
			RANK_OK(tutti_mem_alloc(c, BYTES, &p));
		else
			p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		RANK_CHECK(p != MAP_FAILED);
		RANK_STATUS(TUTTI_ETIMEOUT, tutti_send(p, BYTES, TUTTI_U8, 1, c, NULL));
		if (lent)
			RANK_OK(tutti_mem_free(c, p));
		else
			munmap(p, BYTES);
	}
	while (!tutti_comm_error(c))
		usleep(1000);
	for (int i = 0; i < 100; i++)
		RANK_OK(reduce_once(other, 1000, i));
	RANK_OK(tutti_comm_destroy(other));
	return 0;
}

static int a_send_ends_early(struct tutti_comm *c, void *arg)
{
	(void)arg;
	return ends_early(c, false);
}

static int a_send_of_lent_memory_ends_early(struct tutti_comm *c, void *arg)
{
	(void)arg;
	return ends_early(c, true);
}

static void test_memory_after_a_deadline(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), a_send_ends_early, modes[m], "TUTTI_TIMEOUT=3", "TUTTI_SLOT=1M"),
		                 0);
		assert_int_equal(run(2, scene_new(), a_send_of_lent_memory_ends_early, modes[m], "TUTTI_TIMEOUT=3",
		                     "TUTTI_SLOT=1M"),
		                 0);
	}
}

/* ---- what goes wrong --------------------------------------------------------------------------------------------- */

static void test_a_bad_completion(void **state)
{
	static const char *const what[] = {"an RDMA WRITE to rank", "a SEND to rank", "a SEND to rank"};
	(void)state;
	for (int m = 0; m < 3; m++) {
		sea->knobs.fail_status = IBV_WC_REM_ACCESS_ERR;
		atomic_store(&sea->knobs.fail_at, 200);
		assert_int_equal(run(3, failing(TUTTI_EPEER, "imaginary0:1", what[m], "remote access error"),
		                     until_it_fails, modes[m], NULL, NULL),
		                 0);
	}
}

static void test_a_peer_falls_silent(void **state)
{
	(void)state;
	atomic_store(&sea->knobs.vanish_at, 200);
	assert_int_equal(run(3, failing(TUTTI_EPEER, "imaginary0:1", "transport retry counter exceeded", "rank"),
	                     until_it_fails, modes[0], "TUTTI_VERBS_QP=timeout=14,retry=3", NULL),
	                 0);
	calm_sea(NULL);
	atomic_store(&sea->knobs.vanish_at, 200); /* UC has no acknowledgements: only the silence is visible */
	assert_int_equal(run(2, failing(TUTTI_ETIMEOUT, "allreduce", " after ", "rank"), until_it_fails, modes[2],
	                     "TUTTI_TIMEOUT=3", NULL),
	                 0);
}

static void test_a_message_is_lost(void **state)
{
	(void)state;
	atomic_store(&sea->knobs.lose_at, 200);
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "lost 1 messages from rank", "UC"), until_it_fails,
	                     modes[2], NULL, NULL),
	                 0);
}

static void test_the_port_goes_down(void **state)
{
	(void)state;
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "port error", "rank"), port_goes_down, modes[0],
	                     "TUTTI_TRANSPORT=verbs,tcp", NULL),
	                 0);
}

static int dies(struct tutti_comm *c, void *arg)
{
	struct scene *s = arg;
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	s->stage.pid[me] = getpid();
	RANK_OK(tutti_barrier(c, NULL));
	for (int i = 0; rc == TUTTI_OK; i++) {
		if (me == s->stage.victim && i == 5)
			die_soon(&s->stage);
		rc = reduce_once(c, 200000, i);
	}
	if (rc != TUTTI_EPEER)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	RANK_CHECK(!ranks_too_late(s->stage.deed_ns, DEATH_SECONDS));
	if (says(c, "rank %d (pid %d", s->stage.victim, s->stage.pid[s->stage.victim]))
		return 1;
	return goes_on(c, tutti_comm_size(c) - 1);
}

static void test_a_rank_is_killed(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		const char *env[] = {"TUTTI_TRANSPORT=verbs", "TUTTI_LOG=error", modes[m], NULL};
		struct ranks how = {.n = 3, .env = env, .start = RANKS_BY_ID, .doomed = 1 << 1};
		struct scene *s = scene_new();
		s->stage.victim = 1;
		s->stage.delay_us = 3000;
		assert_int_equal(ranks_run(&how, dies, s), 0);
		ranks_unshare(s, sizeof(*s));
	}
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static int all_to_all_fails(struct tutti_comm *c, void *arg)
{
	static uint8_t in[4 * 50], out[4 * 50];
	int rc = tutti_alltoall(in, out, 50, TUTTI_U8, c, NULL);
	const struct scene *s = arg;
	if (rc != s->expected)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	for (int i = 0; i < 3; i++)
		if (says(c, "%s", s->says[i]))
			return 1;
	return 0;
}

/* Plans with fewer peers are chosen; what needs more says how many there are. */
static void test_too_few_queue_pairs(void **state)
{
	(void)state;
	sea->knobs.max_qp = 2;
	assert_int_equal(run(5, scene_new(), reduces, modes[0], "TUTTI_TIMEOUT=20", NULL), 0);
	assert_int_equal(sea->counts.most_qps, 2);
	assert_int_equal(
	        run(4, failing(TUTTI_EUNSUPPORTED, "create a queue pair on imaginary0:1", "up to 3 peers", "has 2"),
	            all_to_all_fails, modes[0], NULL, NULL),
	        0);
}

static void test_memory_runs_out(void **state)
{
	(void)state;
	sea->knobs.max_pinned = (2 << 20) + 1;
	assert_int_equal(run(2, failing(TUTTI_ENOMEM, "imaginary0:1: cannot register", "KiB", "ulimit -l"),
	                     until_it_fails, modes[0], "TUTTI_SLOT=8M", NULL),
	                 0);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        SEA_TEST(test_all_modes),
	        SEA_TEST(test_any_order_of_placement),
	        SEA_TEST(test_ranks_are_threads),
	        SEA_TEST(test_sleepers_are_woken),
	        SEA_TEST(test_a_poor_device),
	        SEA_TEST(test_channels_come_and_go),
	        SEA_TEST(test_a_bad_completion),
	        SEA_TEST(test_a_peer_falls_silent),
	        SEA_TEST(test_a_message_is_lost),
	        SEA_TEST(test_the_port_goes_down),
	        SEA_TEST(test_a_rank_is_killed),
	        SEA_TEST(test_too_few_queue_pairs),
	        SEA_TEST(test_memory_runs_out),
	        SEA_TEST(test_memory_after_a_deadline),
	        SEA_TEST(test_lent_memory_is_not_copied),
	        SEA_TEST(test_registered_memory_is_not_copied),
	        SEA_TEST(test_lent_memory_that_is_too_much),
	};
	return run_all("verbs", tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
