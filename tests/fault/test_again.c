/* SPDX-License-Identifier: MIT */
/*
 * Communicators from the environment, one after the other and two at a time, in one process: rank 0 is late with each
 * destroy, so that the others ask for the next world while it is still in the one before. With the listener that tutti-run
 * gives rank 0, and without; with a secret, over TCP, and without one, over a local socket.
 */
#include "fault.h"

#include <arpa/inet.h>

#define LATE_US 300000
#define SECRET  "TUTTI_SECRET=one that is as long as random ones are"

struct play {
	bool plain; /* no listener is inherited */
	int port;
	_Atomic int asked; /* another rank has asked for a world too early */
};

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 &&
	            getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	close(fd);
	return ntohs(a.sin_port);
}

static void set_root(int rank, void *arg)
{
	const struct play *p = arg;
	char root[32];
	(void)rank;
	if (!p->plain)
		return;
	snprintf(root, sizeof(root), "127.0.0.1:%d", p->port);
	setenv("TUTTI_ROOT", root, 1);
	unsetenv("TUTTI_ROOT_FD");
}

static int add_up(struct tutti_comm *c)
{
	float x = (float)tutti_comm_rank(c), n = (float)tutti_comm_size(c);
	RANK_OK(tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_CHECK(x == n * (n - 1) / 2);
	return 0;
}

static void be_late(struct tutti_comm *c, unsigned us)
{
	if (tutti_comm_rank(c) == 0)
		pause_us(us);
}

static int in_turn(struct tutti_comm *c, void *arg)
{
	(void)arg;
	for (int i = 0; i < 3; i++) {
		ranks_note("world %d", i);
		RANK_OK(tutti_comm_from_env(&c, NULL));
		if (add_up(c))
			return 1;
		be_late(c, LATE_US);
		tutti_comm_destroy(c);
	}
	return 0;
}

/* Of two worlds the older one ends first, then the younger one; the next begins beside the other one. */
static int two_at_a_time(struct tutti_comm *c, void *arg)
{
	struct tutti_comm *two[2] = {NULL, NULL};
	(void)c;
	(void)arg;
	for (int i = 0; i < 6; i++) {
		int at = i < 3 ? i % 2 : (i + 1) % 2;
		ranks_note("world %d", i);
		if (two[at])
			tutti_comm_destroy(two[at]);
		RANK_OK(tutti_comm_from_env(&two[at], NULL));
		for (int k = 0; k < 2; k++)
			if (two[k] && add_up(two[k]))
				return 1;
		be_late(two[at], LATE_US / 3);
	}
	tutti_comm_destroy(two[0]);
	tutti_comm_destroy(two[1]);
	return 0;
}

static void *make_one(void *arg)
{
	struct tutti_comm *c = NULL;
	int *rc = arg;
	*rc = tutti_comm_from_env(&c, NULL);
	if (*rc)
		ranks_fail("%s", tutti_last_error(NULL));
	else if (!(*rc = add_up(c)))
		tutti_comm_destroy(c);
	return NULL;
}

static int by_two_threads(struct tutti_comm *c, void *arg)
{
	pthread_t thread[2];
	int rc[2];
	(void)c;
	(void)arg;
	for (int i = 0; i < 2; i++)
		RANK_CHECK(pthread_create(&thread[i], NULL, make_one, &rc[i]) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	return rc[0] || rc[1];
}

/* Rank 0 does not join a second world: the error says so, and the first world goes on. */
static int too_early(struct tutti_comm *c, void *arg)
{
	struct tutti_config hurry = TUTTI_CONFIG_INIT;
	struct tutti_comm *next;
	struct play *p = arg;
	hurry.start_timeout = 1;
	RANK_OK(tutti_comm_from_env(&c, NULL));
	if (tutti_comm_rank(c) == 1) {
		int rc = tutti_comm_from_env(&next, &hurry);
		atomic_store(&p->asked, 1);
		RANK_STATUS(TUTTI_ETIMEOUT, rc);
		RANK_CHECK(strstr(tutti_last_error(NULL), "did not start the next world within ") ||
		           strstr(tutti_last_error(NULL), "could not join rank 0")); /* the time ended in a dial */
	}
	await(&p->asked, 1);
	if (add_up(c))
		return 1;
	tutti_comm_destroy(c);
	return 0;
}

static void play(int (*fn)(struct tutti_comm *c, void *arg), bool plain, const char *secret)
{
	const char *const env[] = {"TUTTI_TRANSPORT=tcp", "TUTTI_START_TIMEOUT=20", secret, NULL};
	struct play *p = ranks_share(sizeof(*p));
	struct ranks how = {.n = 3, .start = RANKS_BY_HAND, .env = env, .before = set_root};
	assert_non_null(p);
	*p = (struct play){.plain = plain, .port = free_port()};
	assert_int_equal(ranks_run(&how, fn, p), 0);
	ranks_unshare(p, sizeof(*p));
}

static void everywhere(int (*fn)(struct tutti_comm *c, void *arg))
{
	play(fn, false, SECRET);
	play(fn, true, SECRET);
	play(fn, true, NULL);
}

static void worlds_in_turn(void **state)
{
	(void)state;
	everywhere(in_turn);
}

static void two_worlds_at_a_time(void **state)
{
	(void)state;
	everywhere(two_at_a_time);
}

static void two_threads_make_worlds(void **state)
{
	(void)state;
	everywhere(by_two_threads);
}

static void the_next_world_does_not_come(void **state)
{
	(void)state;
	everywhere(too_early);
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(worlds_in_turn, nothing_left),
	        cmocka_unit_test_teardown(two_worlds_at_a_time, nothing_left),
	        cmocka_unit_test_teardown(two_threads_make_worlds, nothing_left),
	        cmocka_unit_test_teardown(the_next_world_does_not_come, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
