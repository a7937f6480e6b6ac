/* SPDX-License-Identifier: MIT */
/*
 * Messages between two ranks: a small one completes when it has left, the first of a pair as well as later ones; what was
 * sent arrives, though its sender has left; and what nobody receives, or sends, leaves nothing behind.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../fabrics.h"
#include "../ranks.h"

#define EAGER   TUTTI_EAGER_BYTES
#define WAITING 4 /* messages of a pair that may wait to be received, by default */

static const size_t sizes[] = {0, 1, 47, 48, 49, 1000, 1024, EAGER - 1, EAGER};
#define SIZES (sizeof(sizes) / sizeof(*sizes))

static int run_over(const char *transport, const char *more, int n, int (*fn)(struct tutti_comm *, void *))
{
	char variable[64];
	const char *env[] = {variable, "TUTTI_TIMEOUT=40", "TUTTI_SECRET=between ranks that send", more, NULL};
	struct ranks how = {.n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 90};
	snprintf(variable, sizeof(variable), "TUTTI_TRANSPORT=%s", transport);
	return ranks_run(&how, fn, NULL);
}

static void run_over_all(int n, int (*fn)(struct tutti_comm *, void *))
{
	static const char *const ways[][2] = {
	        {"inproc", NULL}, {"shm", NULL}, {"tcp", NULL}, {"tcp", "TUTTI_ENCRYPT=1"}};
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (run_over(ways[i][0], ways[i][1], n, fn) != 0)
			fail_msg("%d ranks over %s %s", n, ways[i][0], ways[i][1] ? ways[i][1] : "");
}

/* ---- what passes ------------------------------------------------------------------------------------------------- */

/* Of message i from that rank. */
static uint8_t byte_of(int from, int i, size_t at)
{
	return (uint8_t)(at * 7 + (size_t)from * 31 + (size_t)i * 101 + 1);
}

static int send_message(struct tutti_comm *c, int to, int i, size_t bytes)
{
	static _Thread_local uint8_t x[1 << 20];
	for (size_t k = 0; k < bytes; k++)
		x[k] = byte_of(tutti_comm_rank(c), i, k);
	RANK_OK(tutti_send(x, bytes, TUTTI_U8, to, c, NULL));
	memset(x, 0, bytes); /* it has left */
	return 0;
}

static int receive_message(struct tutti_comm *c, int from, int i, size_t bytes)
{
	static _Thread_local uint8_t x[1 << 20];
	RANK_OK(tutti_recv(x, bytes, TUTTI_U8, from, c, NULL));
	for (size_t k = 0; k < bytes; k++)
		if (x[k] != byte_of(from, i, k))
			return ranks_fail("byte %zu of message %d of %zu from rank %d is %u, not %u", k, i, bytes, from,
			                  x[k], byte_of(from, i, k));
	return 0;
}

/* ---- both send first --------------------------------------------------------------------------------------------- */

/* Rank by rank: as many messages to each other one as may wait, then what they sent. */
static int send_then_receive(struct tutti_comm *c, size_t bytes, int messages)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	for (int i = 0; i < messages; i++)
		for (int r = 0; r < n; r++)
			if (r != me && send_message(c, r, i, bytes))
				return 1;
	for (int r = 0; r < n; r++)
		for (int i = 0; i < messages; i++)
			if (r != me && receive_message(c, r, i, bytes))
				return 1;
	return 0;
}

/* In fresh communicators of which the sizes are the first ones that pass, and then in the same again. */
static int both_send_first(struct tutti_comm *c, void *unused)
{
	(void)unused;
	if (send_then_receive(c, EAGER, 1))
		return 1;
	for (size_t i = 0; i < SIZES; i++) {
		struct tutti_comm *part;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		for (int again = 0; again < 3; again++)
			if (send_then_receive(part, sizes[i], again < 2 ? 1 : WAITING))
				return 1;
		RANK_OK(tutti_comm_destroy(part));
	}
	return 0;
}

static void ranks_that_send_first_do_not_wait(void **state)
{
	(void)state;
	run_over_all(2, both_send_first);
	run_over_all(3, both_send_first);
}

/* Where a slot is written into the receiver's memory the ranks must be in calls, but in any. */
static int both_send_first_in_calls(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	if (both_send_first(c, unused))
		return 1;
	for (int from = 0; from < 2; from++) {
		struct tutti_comm *part;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		for (int i = 0; i < WAITING && me == from; i++)
			if (send_message(part, 1 - me, i, EAGER))
				return 1;
		if (me == from)
			RANK_OK(tutti_comm_destroy(part));
		RANK_OK(tutti_barrier(c, NULL));
		if (me == from)
			continue;
		for (int i = 0; i < WAITING; i++)
			if (receive_message(part, from, i, EAGER))
				return 1;
		RANK_OK(tutti_comm_destroy(part));
	}
	return 0;
}

static void ranks_that_send_first_over_fabrics(void **state)
{
	int used = 0;
	(void)state;
	for (int i = 0; i < FABRIC_WAYS; i++) {
		char why[300], provider[100], mode[60];
		if (strncmp(fabric_ways[i].provider, "udp", 3) == 0 ||
		    !fabric_usable(&fabric_ways[i], why, sizeof(why)))
			continue; /* udp takes seconds to start */
		snprintf(provider, sizeof(provider), "TUTTI_LIBFABRIC_PROVIDER=%s", fabric_ways[i].provider);
		snprintf(mode, sizeof(mode), "TUTTI_LIBFABRIC_MODE=%s", fabric_ways[i].mode);
		const char *env[] = {"TUTTI_TRANSPORT=libfabric", provider, mode, "TUTTI_TIMEOUT=40", NULL};
		struct ranks how = {.n = 2, .env = env, .seconds = 90};
		if (ranks_run(&how, both_send_first_in_calls, NULL) != 0)
			fail_msg("%s, %s", provider, mode);
		used++;
	}
	if (!used) {
		print_message("no provider of libfabric can be used here\n");
		skip();
	}
}

static void ranks_that_send_first_over_verbs(void **state)
{
	static const char *const modes[] = {"TUTTI_VERBS_MODE=write", "TUTTI_VERBS_MODE=send", "TUTTI_VERBS_MODE=uc",
	                                    "TUTTI_VERBS_CONNECT=cm"};
	char library[400], sea[64];
	const char *bin = getenv("TESTED_BIN");
	(void)state;
	snprintf(library, sizeof(library), "%s/../tests/verbs/libimaginary.so", bin ? bin : "build/bin");
	if (access(library, R_OK) != 0) {
		print_message("%s, a device for tests, was not built\n", library);
		skip();
	}
	for (int i = 0; i < 4; i++) {
		snprintf(sea, sizeof(sea), "IMAGINARY_RDMA=/tmp/tutti-messages-%d-%d", (int)getpid(), i);
		char lib[450];
		snprintf(lib, sizeof(lib), "TUTTI_VERBS_LIB=%s", library);
		const char *env[] = {"TUTTI_TRANSPORT=verbs",
		                     lib,
		                     sea,
		                     modes[i],
		                     "TUTTI_TIMEOUT=40",
		                     "TUTTI_SECRET=between ranks that send",
		                     NULL};
		struct ranks how = {.n = 2, .env = env, .seconds = 90};
		int failed = ranks_run(&how, both_send_first_in_calls, NULL);
		(void)remove(strchr(sea, '=') + 1);
		if (failed)
			fail_msg("%s", modes[i]);
	}
}

/* ---- the peer is elsewhere ----------------------------------------------------------------------------------------- */

/* Both directions in turn, the sender's calls while the receiver makes none. */
static int while_the_peer_makes_no_call(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	(void)unused;
	for (int turn = 0; turn < 2 * (int)SIZES; turn++) {
		struct tutti_comm *part;
		int from = turn % 2;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		RANK_CHECK(ranks_meet() == 0);
		for (int i = 0; i < WAITING && me == from; i++)
			if (send_message(part, 1 - me, i, sizes[turn / 2]))
				return 1;
		RANK_CHECK(ranks_meet() == 0);
		for (int i = 0; i < WAITING && me != from; i++)
			if (receive_message(part, from, i, sizes[turn / 2]))
				return 1;
		RANK_OK(tutti_comm_destroy(part));
	}
	return 0;
}

static void sender_needs_nothing_of_its_peer(void **state)
{
	(void)state;
	run_over_all(2, while_the_peer_makes_no_call);
}

/* ---- the sender leaves --------------------------------------------------------------------------------------------- */

static int sent_and_destroyed(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	(void)unused;
	for (int turn = 0; turn < 4 * (int)SIZES; turn++) {
		struct tutti_comm *part;
		int from = turn % 2, count = turn % 4 < 2 ? 1 : WAITING;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		for (int i = 0; i < count && me == from; i++)
			if (send_message(part, 1 - me, i, sizes[turn / 4]))
				return 1;
		if (me == from)
			RANK_OK(tutti_comm_destroy(part));
		RANK_CHECK(ranks_meet() == 0);
		for (int i = 0; i < count && me != from; i++)
			if (receive_message(part, from, i, sizes[turn / 4]))
				return 1;
		if (me == from)
			continue;
		if (turn == 3) { /* and messages that it did not send do not hang */
			uint8_t x;
			RANK_STATUS(TUTTI_EPEER, tutti_recv(&x, 1, TUTTI_U8, from, part, NULL));
			RANK_CHECK(strstr(tutti_last_error(part), "destroyed its communicator"));
		}
		RANK_OK(tutti_comm_destroy(part));
	}
	return 0;
}

static void sent_messages_outlive_their_sender(void **state)
{
	(void)state;
	run_over_all(2, sent_and_destroyed);
}

/* ---- nothing is left ----------------------------------------------------------------------------------------------- */

static int open_files(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/*
 * Communicators that are destroyed while each rank waits for a message that is not sent, another is left that nobody receives,
 * and one rank is in a collective.
 */
static int destroyed_early(struct tutti_comm *c, int rounds, bool counts_files)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), files = 0;
	for (int i = 0; i < rounds; i++) {
		struct tutti_comm *part;
		struct tutti_request *req[3] = {NULL};
		float x[9] = {0}, y[9], z[9];
		if (i == 60)
			files = open_files();
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		int rc = n > 2 ? tutti_send(x, 9, TUTTI_F32, (me + 1) % n, part, &req[0]) : TUTTI_OK;
		if (!rc)
			rc = tutti_recv(y, 9, TUTTI_F32, (me + 1) % n, part, &req[1]);
		if (!rc && me == i % n)
			rc = tutti_allreduce(x, z, 9, TUTTI_F32, TUTTI_SUM, part, &req[2]);
		if (rc && rc != TUTTI_EPEER) /* others may have left it by now */
			return ranks_fail("round %d: status %d: %s", i, rc, tutti_last_error(NULL));
		RANK_OK(tutti_comm_destroy(part));
		(void)tutti_wait_all(req, 3);
	}
	RANK_CHECK(ranks_meet() == 0);
	if (counts_files && open_files() > files + 20)
		return ranks_fail("%d descriptors after 60 communicators, %d after %d", files, open_files(), rounds);
	return 0;
}

/* More than the directory of a rank has entries; a collective of every second or third one. */
static int in_memory(struct tutti_comm *c, void *unused)
{
	(void)unused;
	return destroyed_early(c, 9000, false);
}

static int in_memory_for_longer(struct tutti_comm *c, void *unused)
{
	(void)unused;
	return destroyed_early(c, 17000, false);
}

static int over_sockets(struct tutti_comm *c, void *unused)
{
	(void)unused;
	return destroyed_early(c, 300, true);
}

static void unfinished_calls_leave_nothing(void **state)
{
	(void)state;
	assert_int_equal(run_over("inproc", NULL, 2, in_memory_for_longer), 0);
	assert_int_equal(run_over("shm", "TUTTI_ALGO=allreduce:^direct", 3, in_memory), 0);
	assert_int_equal(run_over("tcp", NULL, 3, over_sockets), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(ranks_that_send_first_do_not_wait),
	        cmocka_unit_test(sender_needs_nothing_of_its_peer),
	        cmocka_unit_test(sent_messages_outlive_their_sender),
	        cmocka_unit_test(unfinished_calls_leave_nothing),
	        cmocka_unit_test(ranks_that_send_first_over_fabrics),
	        cmocka_unit_test(ranks_that_send_first_over_verbs),
	};
	fabrics_alone();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
