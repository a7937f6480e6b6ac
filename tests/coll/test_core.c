/*
 * What the core must survive: communicators that end while others still begin, calls inside groups that need an answer at
 * once, requests that outlive what they ran on, ranks placed as threads of several processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ranks.h"

static void run(const char *transport, int n, bool keep, const char *variable, int (*fn)(struct tutti_comm *, void *))
{
	char name[64];
	const char *env[] = {name, "TUTTI_TIMEOUT=20", variable, NULL};
	struct ranks how = {.n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 60, .keep = keep};
	snprintf(name, sizeof(name), "TUTTI_TRANSPORT=%s", transport);
	if (ranks_run(&how, fn, NULL) != 0)
		fail_msg("over %s", transport);
}

static void run_near(int n, bool keep, const char *variable, int (*fn)(struct tutti_comm *, void *))
{
	run("inproc", n, keep, variable, fn);
	run("shm", n, keep, variable, fn);
}

/* ---- early leavers -------------------------------------------------------------------------------------------------- */

/* Nobody sends to rank 0: it is done, and gone, before the others come. */
static int gather_nothing(struct tutti_comm *c, void *arg)
{
	(void)arg;
	size_t counts[8] = {0};
	struct tutti_comm *part;
	int rank = tutti_comm_rank(c);
	RANK_OK(tutti_comm_split(c, 0, 0, &part));
	if (rank != 0 && ranks_meet())
		return 1;
	RANK_OK(tutti_gatherv(NULL, NULL, counts, NULL, TUTTI_F32, 0, part, NULL));
	RANK_OK(tutti_comm_destroy(part));
	return rank == 0 ? ranks_meet() : 0;
}

static void test_gather_nothing(void **state)
{
	(void)state;
	run_near(3, false, NULL, gather_nothing);
}

/* The root of a broadcast may leave as soon as it has shown its data; the others still look for each other. */
static int broadcast_and_leave(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int n = tutti_comm_size(c);
	for (int i = 0; i < 60; i++) {
		struct tutti_comm *part;
		int root = n - 1 - i % n, value = tutti_comm_rank(c) == root ? i : -1;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		RANK_OK(tutti_broadcast(&value, &value, 1, TUTTI_I32, root, part, NULL));
		RANK_OK(tutti_comm_destroy(part));
		RANK_CHECK(value == i);
	}
	return 0;
}

static void test_broadcast_and_leave(void **state)
{
	(void)state;
	run_near(4, false, NULL, broadcast_and_leave);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gather_nothing),
		cmocka_unit_test(test_broadcast_and_leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
