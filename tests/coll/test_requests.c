/* SPDX-License-Identifier: MIT */
/*
 * Requests, groups, messages, communicators of communicators: everything about a call but its numbers. Each test runs
 * as threads of one process, as processes that share memory, and as processes over TCP.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "../ranks.h"

/* ---- worlds ------------------------------------------------------------------------------------------------------ */

static void run_on(const char *transport, int n, enum tutti_progress_mode mode, int (*fn)(struct tutti_comm *, void *))
{
	char variable[64];
	const char *env[] = {variable, "TUTTI_SLOT=1024", "TUTTI_SLOTS=4", "TUTTI_DIRECT=2048", "TUTTI_TIMEOUT=60",
	                     NULL};
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct ranks how = {
	        .n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .config = &config, .seconds = 90};
	config.progress = mode;
	snprintf(variable, sizeof(variable), "TUTTI_TRANSPORT=%s", transport);
	if (ranks_run(&how, fn, NULL) != 0)
		fail_msg("over %s, progress by %s", transport, mode == TUTTI_PROGRESS_THREAD ? "thread" : "caller");
}

static void run_by(int n, enum tutti_progress_mode mode, int (*fn)(struct tutti_comm *, void *))
{
	run_on("inproc", n, mode, fn);
	run_on("shm", n, mode, fn);
	run_on("tcp", n, mode, fn);
}

static void run(int n, int (*fn)(struct tutti_comm *, void *))
{
	run_by(n, TUTTI_PROGRESS_CALLER, fn);
	run_by(n, TUTTI_PROGRESS_THREAD, fn);
}

/* ---- sums whose result is known ---------------------------------------------------------------------------------- */

#define MOST 40000

struct sum {
	int32_t in[MOST], out[MOST];
	size_t count;
	int salt;
	struct tutti_request *req;
};

static struct sum *sums_make(int n)
{
	return calloc((size_t)n, sizeof(struct sum));
}

/* Fills the input of an all-reduce over c and starts it. */
static int sum_start(struct sum *s, struct tutti_comm *c, size_t count, int salt, bool block)
{
	s->count = count;
	s->salt = salt;
	for (size_t i = 0; i < count; i++) {
		s->in[i] = 7 * tutti_comm_rank(c) + 3 * (int)i + salt;
		s->out[i] = -1;
	}
	return tutti_allreduce(s->in, s->out, count, TUTTI_I32, TUTTI_SUM, c, block ? NULL : &s->req);
}

static int sum_wrong(const struct sum *s, const struct tutti_comm *c)
{
	int n = tutti_comm_size(c);
	for (size_t i = 0; i < s->count; i++)
		if (s->out[i] != n * (3 * (int)i + s->salt) + 7 * n * (n - 1) / 2)
			return ranks_fail("sum %d of %zu: element %zu is %d", s->salt, s->count, i, s->out[i]);
	return 0;
}

/* The communicator works: a blocking call over it gives what it should. */
static int works(struct tutti_comm *c, int salt)
{
	struct sum *s = sums_make(1);
	int rc = sum_start(s, c, 100, salt, true);
	int bad = rc ? ranks_fail("all-reduce %d: status %d: %s", salt, rc, tutti_last_error(c)) : sum_wrong(s, c);
	free(s);
	return bad;
}

static size_t size_of(int i)
{
	static const size_t sizes[] = {1, 11, 12, 13, 255, 256, 257, 3000, MOST};
	return sizes[(size_t)i % (sizeof(sizes) / sizeof(*sizes))];
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

#define FLIGHT 12

/* Completed from the last to the first, by waiting or by testing. */
static int in_reverse(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(FLIGHT);
	(void)unused;
	for (int i = 0; i < FLIGHT; i++) {
		RANK_OK(sum_start(&s[i], c, size_of(i), i, false));
		RANK_CHECK(s[i].req != NULL);
	}
	for (int i = FLIGHT; i-- > 0;) {
		for (int done = 0; i % 2 && !done;)
			RANK_OK(tutti_test(&s[i].req, &done));
		RANK_OK(tutti_wait(&s[i].req));
		RANK_CHECK(s[i].req == NULL);
		if (sum_wrong(&s[i], c))
			return 1;
	}
	free(s);
	return 0;
}

static int every_collective_at_once(struct tutti_comm *c, void *unused)
{
	enum { EACH = 700, KINDS = 8 };
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	struct tutti_request *req[KINDS + 1] = {NULL};
	uint8_t *in[KINDS], *out[KINDS];
	(void)unused;
	for (int k = 0; k < KINDS; k++) {
		in[k] = malloc((size_t)n * EACH);
		out[k] = calloc((size_t)n, EACH);
		for (int i = 0; i < n * EACH; i++)
			in[k][i] = (uint8_t)(me + k + i % EACH + 16 * (i / EACH));
	}
	RANK_OK(tutti_allgather(in[0], out[0], EACH, TUTTI_U8, c, &req[0]));
	RANK_OK(tutti_alltoall(in[1], out[1], EACH, TUTTI_U8, c, &req[1]));
	RANK_OK(tutti_broadcast(in[2], out[2], EACH, TUTTI_U8, n - 1, c, &req[2]));
	RANK_OK(tutti_reduce(in[3], out[3], EACH, TUTTI_U8, TUTTI_MAX, 0, c, &req[3]));
	RANK_OK(tutti_barrier(c, &req[KINDS]));
	RANK_OK(tutti_gather(in[4], out[4], EACH, TUTTI_U8, 0, c, &req[4]));
	RANK_OK(tutti_scatter(in[5], out[5], EACH, TUTTI_U8, 0, c, &req[5]));
	RANK_OK(tutti_reduce_scatter(in[6], out[6], EACH, TUTTI_U8, TUTTI_MIN, c, &req[6]));
	RANK_OK(tutti_allreduce(in[7], out[7], EACH, TUTTI_U8, TUTTI_SUM, c, &req[7]));
	RANK_OK(tutti_wait_all(req, KINDS + 1));
	for (int i = 0; i < EACH; i++) {
		for (int r = 0; r < n; r++) {
			RANK_CHECK(out[0][r * EACH + i] == (uint8_t)(r + i));
			RANK_CHECK(out[1][r * EACH + i] == (uint8_t)(r + 1 + i + 16 * me));
			RANK_CHECK(me != 0 || out[4][r * EACH + i] == (uint8_t)(r + 4 + i));
		}
		uint8_t most = 0, least = 255, sum = 0;
		for (int r = 0; r < n; r++) {
			uint8_t a = (uint8_t)(r + 3 + i), b = (uint8_t)(r + 6 + i + 16 * me);
			most = a > most ? a : most;
			least = b < least ? b : least;
			sum = (uint8_t)(sum + r + 7 + i);
		}
		RANK_CHECK(out[2][i] == (uint8_t)(n - 1 + 2 + i));
		RANK_CHECK(out[3][i] == (me == 0 ? most : 0));
		RANK_CHECK(out[5][i] == (uint8_t)(5 + i + 16 * me));
		RANK_CHECK(out[6][i] == least);
		RANK_CHECK(out[7][i] == sum);
	}
	for (int k = 0; k < KINDS; k++) {
		free(in[k]);
		free(out[k]);
	}
	return 0;
}

static int any_of_them(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(FLIGHT);
	struct tutti_request *reqs[FLIGHT + 1] = {NULL};
	bool seen[FLIGHT + 1] = {false};
	int index;
	(void)unused;
	for (int i = 0; i < FLIGHT; i++) {
		RANK_OK(sum_start(&s[i], c, size_of(i + 3), i, false));
		reqs[i + 1] = s[i].req;
	}
	for (int i = 0; i < FLIGHT; i++) {
		RANK_OK(tutti_wait_any(reqs, FLIGHT + 1, &index));
		RANK_CHECK(index >= 1 && index <= FLIGHT && !seen[index] && !reqs[index]);
		seen[index] = true;
		if (sum_wrong(&s[index - 1], c))
			return 1;
	}
	RANK_OK(tutti_wait_any(reqs, FLIGHT + 1, &index));
	RANK_CHECK(index == -1);
	RANK_OK(tutti_wait_all(reqs, FLIGHT + 1));
	free(s);
	return 0;
}

static int a_thousand(struct tutti_comm *c, void *unused)
{
	enum { MANY = 1000 };
	static int64_t in[MANY], out[RANKS_MAX][MANY];
	static struct tutti_request *reqs[RANKS_MAX][MANY];
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	(void)unused;
	for (int i = 0; i < MANY; i++) {
		RANK_OK(tutti_broadcast(NULL, NULL, 0, TUTTI_I64, 0, c, NULL));
		RANK_OK(tutti_allreduce(&in[i], &out[me][i], 1, TUTTI_I64, TUTTI_MAX, c, &reqs[me][i]));
	}
	RANK_OK(tutti_wait_all(reqs[me], MANY));
	for (int i = 0; i < MANY; i++)
		RANK_CHECK(out[me][i] == 0 && n > 0);
	return 0;
}

static void requests_complete_in_any_order(void **unused)
{
	(void)unused;
	run(4, in_reverse);
	run(3, every_collective_at_once);
	run(3, any_of_them);
	run_by(2, TUTTI_PROGRESS_CALLER, a_thousand);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* Rank 0 makes no call while the others wait for its part: only its progress thread can do it. */
static int without_the_caller(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(1);
	(void)unused;
	RANK_OK(sum_start(s, c, MOST, 1, false));
	if (tutti_comm_rank(c) != 0)
		RANK_OK(tutti_wait(&s->req));
	if (ranks_meet())
		return 1;
	RANK_OK(tutti_wait(&s->req));
	int bad = sum_wrong(s, c);
	free(s);
	return bad;
}

/* Rank 0's request on one communicator moves while it blocks on the other. */
static int inside_other_calls(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(1);
	struct tutti_comm *d;
	(void)unused;
	RANK_OK(tutti_comm_split(c, 0, 0, &d));
	RANK_OK(sum_start(s, d, MOST, 2, false));
	if (tutti_comm_rank(c) != 0)
		RANK_OK(tutti_wait(&s->req));
	RANK_OK(tutti_barrier(c, NULL));
	RANK_OK(tutti_wait(&s->req));
	int bad = sum_wrong(s, d);
	RANK_OK(tutti_comm_destroy(d));
	free(s);
	return bad;
}

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

/* The caller sleeps in epoll and calls tutti_test only when the descriptor says so. */
static int in_a_poll_loop(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(3);
	int fd = tutti_comm_fd(c), loop = epoll_create1(EPOLL_CLOEXEC), open = 3;
	struct epoll_event e = {.events = EPOLLIN};
	(void)unused;
	RANK_CHECK(fd >= 0 && tutti_comm_fd(c) == fd && loop >= 0);
	RANK_CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) == 0);
	for (int round = 0; round < 20; round++, open = 3) {
		if (tutti_comm_rank(c) == 0 && round == 0 && ranks_meet())
			return 1;
		for (int i = 0; i < 3; i++)
			RANK_OK(sum_start(&s[i], c, size_of(round + i), i, false));
		if (tutti_comm_rank(c) != 0 && round == 0 &&
		    ranks_meet()) /* rank 0 comes late: the others' are in flight */
			return 1;
		while (open) {
			open = 0;
			for (int i = 0, done; i < 3; i++, open += !done)
				RANK_OK(tutti_test(&s[i].req, &done));
			RANK_CHECK(!open || epoll_wait(loop, &e, 1, 20000) == 1);
		}
		for (int i = 0; i < 3; i++)
			if (sum_wrong(&s[i], c))
				return 1;
	}
	RANK_OK(tutti_barrier(c, NULL)); /* nothing is under way any more: what is readable still is soon read */
	ranks_note("reading what is readable still");
	while (is_readable(fd))
		RANK_OK(tutti_progress(c));
	if (ranks_meet())
		return 1;
	close(loop);
	free(s);
	return 0;
}

static void requests_move(void **unused)
{
	(void)unused;
	run_by(3, TUTTI_PROGRESS_THREAD, without_the_caller);
	run(3, inside_other_calls);
	run(3, in_a_poll_loop);
}

/* ---- teams ------------------------------------------------------------------------------------------------------- */

#define TEAM 3

struct member {
	pthread_t thread;
	struct tutti_request *req;
	int index, rc;
};

static void *work(void *arg)
{
	struct member *m = arg;
	m->rc = tutti_work(m->req, m->index, TEAM);
	return NULL;
}

static int by_a_team(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(1);
	(void)unused;
	for (int round = 0; round < 30; round++) {
		struct member team[TEAM];
		RANK_OK(sum_start(s, c, size_of(round), round, false));
		for (int i = 0; i < TEAM; i++) {
			team[i] = (struct member){.req = s->req, .index = i, .rc = -1};
			if (i > 0)
				RANK_CHECK(pthread_create(&team[i].thread, NULL, work, &team[i]) == 0);
		}
		work(&team[0]);
		for (int i = 1; i < TEAM; i++)
			pthread_join(team[i].thread, NULL);
		for (int i = 0; i < TEAM; i++)
			RANK_OK(team[i].rc);
		RANK_OK(tutti_wait(&s->req));
		if (sum_wrong(s, c))
			return 1;
	}
	free(s);
	return 0;
}

static void teams_work(void **unused)
{
	(void)unused;
	run(2, by_a_team);
	run_by(4, TUTTI_PROGRESS_CALLER, by_a_team);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* Two communicators, started in opposite orders on even and odd ranks; with requests among them; nested. */
static int over_two_communicators(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(4);
	struct tutti_comm *d, *of[2];
	int odd = tutti_comm_rank(c) % 2;
	(void)unused;
	RANK_OK(tutti_comm_split(c, 0, -tutti_comm_rank(c), &d));
	of[odd] = c;
	of[!odd] = d;
	for (int round = 0; round < 10; round++) {
		size_t count[] = {size_of(round + 4 * odd), size_of(round + 4 * !odd)};
		RANK_OK(tutti_group_begin());
		RANK_OK(sum_start(&s[0], of[0], count[0], 10, true));
		RANK_OK(tutti_group_begin());
		RANK_OK(sum_start(&s[1], of[1], count[1], 10, true));
		RANK_OK(tutti_group_end());
		RANK_OK(sum_start(&s[2], of[0], count[0], 12, false));
		RANK_OK(sum_start(&s[3], of[1], count[1], 12, true));
		RANK_OK(tutti_group_end());
		RANK_CHECK(s[2].req != NULL);
		RANK_OK(tutti_wait(&s[2].req));
		for (int i = 0; i < 4; i++)
			if (sum_wrong(&s[i], of[i % 2]))
				return 1;
	}
	RANK_OK(tutti_comm_destroy(d));
	free(s);
	return 0;
}

static int an_empty_group(struct tutti_comm *c, void *unused)
{
	(void)unused;
	RANK_OK(tutti_group_begin());
	RANK_OK(tutti_group_end());
	RANK_STATUS(TUTTI_EUSAGE, tutti_group_end());
	return works(c, 5);
}

static void groups_run_together(void **unused)
{
	(void)unused;
	run(4, over_two_communicators);
	run_by(2, TUTTI_PROGRESS_CALLER, an_empty_group);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void letter(int32_t *text, size_t count, int from, int to, int number)
{
	for (size_t i = 0; i < count; i++)
		text[i] = (int32_t)i * 31 + from * 1000 + to * 100 + number;
}

static int letter_wrong(const int32_t *text, size_t count, int from, int to, int number)
{
	for (size_t i = 0; i < count; i++)
		if (text[i] != (int32_t)i * 31 + from * 1000 + to * 100 + number)
			return ranks_fail("message %d from %d to %d: element %zu of %zu is %d", number, from, to, i,
			                  count, text[i]);
	return 0;
}

/* Everybody to everybody, oneself included, in one group. */
static int all_pairs(struct tutti_comm *c, void *unused)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), bad = 0;
	int32_t *in = calloc((size_t)n * MOST, 4), *out = calloc((size_t)n * MOST, 4);
	(void)unused;
	for (int k = 0; k < 9; k++) {
		size_t count = k == 8 ? 0 : size_of(k + 1);
		RANK_OK(tutti_group_begin());
		for (int r = 0; r < n; r++) {
			letter(in + (size_t)r * MOST, count, me, r, k);
			RANK_OK(tutti_recv(out + (size_t)r * MOST, count, TUTTI_I32, r, c, NULL));
			RANK_OK(tutti_send(in + (size_t)r * MOST, count, TUTTI_I32, r, c, NULL));
		}
		RANK_OK(tutti_group_end());
		for (int r = 0; r < n; r++)
			bad |= letter_wrong(out + (size_t)r * MOST, count, r, me, k);
	}
	free(in);
	free(out);
	return bad;
}

/* Several messages to the same peer keep their order, mixed with collectives; blocking ones need no group. */
static int in_their_order(struct tutti_comm *c, void *unused)
{
	enum { LETTERS = 6 };
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), right = (me + 1) % n, left = (me + n - 1) % n, bad = 0;
	int32_t *in = calloc(LETTERS * MOST, 4), *out = calloc(LETTERS * MOST, 4);
	struct tutti_request *reqs[2 * LETTERS];
	struct sum *s = sums_make(1);
	(void)unused;
	for (int k = 0; k < LETTERS; k++) {
		letter(in + k * MOST, size_of(k + 4), me, right, k);
		RANK_OK(tutti_send(in + k * MOST, size_of(k + 4), TUTTI_I32, right, c, &reqs[k]));
	}
	RANK_OK(sum_start(s, c, 5000, 3, false));
	for (int k = 0; k < LETTERS; k++)
		RANK_OK(tutti_recv(out + k * MOST, size_of(k + 4), TUTTI_I32, left, c, &reqs[LETTERS + k]));
	RANK_OK(tutti_wait(&s->req));
	RANK_OK(tutti_wait_all(reqs, 2 * LETTERS));
	for (int k = 0; k < LETTERS; k++)
		bad |= letter_wrong(out + k * MOST, size_of(k + 4), left, me, k);
	for (int k = 0; k < LETTERS && me < 2; k++) {
		letter(in, size_of(k), 0, 1, k);
		RANK_OK(me == 0 ? tutti_send(in, size_of(k), TUTTI_I32, 1, c, NULL)
		                : tutti_recv(out, size_of(k), TUTTI_I32, 0, c, NULL));
		bad |= me == 1 ? letter_wrong(out, size_of(k), 0, 1, k) : 0;
	}
	free(in);
	free(out);
	free(s);
	return bad;
}

static int to_oneself(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	int32_t in[300], out[300] = {0};
	struct tutti_request *reqs[2];
	(void)unused;
	RANK_STATUS(TUTTI_EINVAL, tutti_send(in, 300, TUTTI_I32, me, c, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_recv(out, 300, TUTTI_I32, me, c, NULL));
	for (int k = 0; k < 4; k++) {
		letter(in, 300, me, me, k);
		if (k % 2)
			RANK_OK(tutti_recv(out, 300, TUTTI_I32, me, c, &reqs[0]));
		RANK_OK(tutti_send(in, 300, TUTTI_I32, me, c, &reqs[1]));
		if (k % 2 == 0)
			RANK_OK(tutti_recv(out, 300, TUTTI_I32, me, c, &reqs[0]));
		RANK_OK(tutti_wait_all(reqs, 2));
		if (letter_wrong(out, 300, me, me, k))
			return 1;
	}
	RANK_OK(tutti_recv(out, 300, TUTTI_I32, me, c, &reqs[0]));
	RANK_OK(tutti_send(in, 300, TUTTI_I32, me, c, NULL)); /* its receive is in flight */
	RANK_OK(tutti_wait(&reqs[0]));
	return works(c, 1);
}

static int of_another_length(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	int32_t text[100] = {0};
	(void)unused;
	int rc = me == 0 ? tutti_send(text, 90, TUTTI_I32, 1, c, NULL) : tutti_recv(text, 100, TUTTI_I32, 0, c, NULL);
	if (rc == TUTTI_OK) /* a short message may have left before the receiver saw it */
		rc = tutti_barrier(c, NULL);
	RANK_CHECK(rc == TUTTI_EMISMATCH && tutti_comm_error(c) == TUTTI_EMISMATCH);
	RANK_STATUS(TUTTI_EMISMATCH, tutti_barrier(c, NULL));
	return 0;
}

static void messages_arrive(void **unused)
{
	(void)unused;
	run(4, all_pairs);
	run(3, in_their_order);
	run(2, to_oneself);
	run_by(1, TUTTI_PROGRESS_CALLER, to_oneself);
	run_by(2, TUTTI_PROGRESS_CALLER, of_another_length);
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

/* Halves in reverse order, then pairs of the halves; parents may end before children. */
static int halves_of_halves(struct tutti_comm *c, void *unused)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	struct tutti_comm *half, *pair, *none;
	(void)unused;
	RANK_OK(tutti_comm_split(c, me % 2, -me, &half));
	int expect = (n - me % 2 + 1) / 2;
	RANK_CHECK(tutti_comm_size(half) == expect && tutti_comm_rank(half) == expect - 1 - me / 2);
	if (works(half, 1) || works(c, 2))
		return 1;
	RANK_OK(tutti_comm_split(half, tutti_comm_rank(half) / 2 ? 7 : -3, 5, &pair));
	RANK_CHECK((pair != NULL) == (tutti_comm_rank(half) >= 2));
	RANK_OK(tutti_comm_split(c, -1, 0, &none));
	RANK_CHECK(none == NULL);
	RANK_OK(tutti_comm_destroy(half));
	if (pair && works(pair, 3))
		return 1;
	if (pair)
		RANK_OK(tutti_comm_destroy(pair));
	return works(c, 4);
}

/* Equal colors of two splits are different communicators; keys of equal value keep the old order. */
static int several_at_once(struct tutti_comm *c, void *unused)
{
	enum { COMMS = 5 };
	struct tutti_comm *d[COMMS];
	struct sum *s = sums_make(COMMS);
	int me = tutti_comm_rank(c);
	(void)unused;
	for (int i = 0; i < COMMS; i++) {
		RANK_OK(tutti_comm_split(c, i % 2, 0, &d[i]));
		RANK_CHECK(tutti_comm_rank(d[i]) == me && tutti_comm_size(d[i]) == tutti_comm_size(c));
	}
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < COMMS; i++) {
			int k = (i * (me % 2 ? 2 : 1) + me) % COMMS;
			RANK_OK(sum_start(&s[k], d[k], size_of(round + k), k, false));
		}
		for (int i = 0; i < COMMS; i++) {
			int k = (i * (me % 2 ? 1 : 3)) % COMMS;
			RANK_OK(tutti_wait(&s[k].req));
			if (sum_wrong(&s[k], d[k]))
				return 1;
		}
	}
	for (int i = 0; i < COMMS; i++)
		RANK_OK(tutti_comm_destroy(d[(i + me) % COMMS]));
	free(s);
	return works(c, 1);
}

/* Made and ended again and again: what they used is given back. */
static int many_in_a_row(struct tutti_comm *c, void *unused)
{
	(void)unused;
	for (int i = 0; i < 40; i++) {
		struct tutti_comm *d;
		RANK_OK(tutti_comm_split(c, 3, i % 2 ? tutti_comm_rank(c) : -tutti_comm_rank(c), &d));
		int bad = works(d, i);
		RANK_OK(tutti_comm_destroy(d));
		if (bad)
			return 1;
	}
	return 0;
}

static void communicators_split(void **unused)
{
	(void)unused;
	run(7, halves_of_halves);
	run(4, several_at_once);
	run_by(3, TUTTI_PROGRESS_CALLER, many_in_a_row);
	run_by(1, TUTTI_PROGRESS_CALLER, many_in_a_row);
}

/* ---- endings ----------------------------------------------------------------------------------------------------- */

static int left_over(struct tutti_comm *c, void *unused)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), done = 0;
	int32_t text[100];
	struct tutti_request *a, *b, *never;
	struct tutti_comm *d;
	(void)unused;
	RANK_OK(tutti_comm_split(c, 0, 0, &d));
	RANK_OK(tutti_recv(text, 100, TUTTI_I32, (me + 1) % n, d, &never));
	RANK_OK(tutti_recv(text, 100, TUTTI_I32, (me + 1) % n, d, &a));
	RANK_OK(tutti_recv(text, 100, TUTTI_I32, me, d, &b));
	RANK_OK(tutti_comm_destroy(d));
	RANK_STATUS(TUTTI_EABORTED, tutti_wait(&a));
	RANK_STATUS(TUTTI_EABORTED, tutti_test(&b, &done));
	RANK_CHECK(!a && !b && done == 1 && strlen(tutti_last_error(NULL)) > 0);
	RANK_STATUS(TUTTI_EABORTED, tutti_wait_all(&never, 1));
	return works(c, 1);
}

struct aborter {
	struct tutti_comm *c;
	int rc;
};

static void *abort_it(void *arg)
{
	struct aborter *a = arg;
	a->rc = tutti_comm_abort(a->c, "enough is enough");
	return NULL;
}

/* Rank 0 is blocked where nobody joins it; a thread of its own ends that, on all ranks. */
static int aborted_while_blocked(struct tutti_comm *c, void *unused)
{
	int32_t text[10];
	pthread_t thread;
	struct aborter a = {c, -1};
	bool first = tutti_comm_rank(c) == 0;
	(void)unused;
	if (works(c, 1) || ranks_meet())
		return 1;
	if (first)
		RANK_CHECK(pthread_create(&thread, NULL, abort_it, &a) == 0);
	RANK_STATUS(TUTTI_EABORTED,
	            tutti_recv(text, 10, TUTTI_I32, (tutti_comm_rank(c) + 1) % tutti_comm_size(c), c, NULL));
	RANK_CHECK(strstr(tutti_last_error(c), "enough is enough") && strstr(tutti_last_error(c), "rank 0"));
	RANK_CHECK(tutti_comm_error(c) == TUTTI_EABORTED);
	RANK_STATUS(TUTTI_EABORTED, tutti_barrier(c, NULL));
	RANK_STATUS(TUTTI_EABORTED, tutti_progress(c));
	if (first) {
		pthread_join(thread, NULL);
		RANK_OK(a.rc);
	}
	return 0;
}

/* Requests in flight end with the abort's status, a team's threads return. */
static int aborted_in_flight(struct tutti_comm *c, void *unused)
{
	struct sum *s = sums_make(2);
	int32_t text[10];
	struct tutti_request *reqs[3] = {NULL};
	int index, me = tutti_comm_rank(c), other = (me + 1) % tutti_comm_size(c);
	(void)unused;
	RANK_OK(tutti_recv(text, 10, TUTTI_I32, other, c, &reqs[0]));
	RANK_OK(tutti_recv(text, 10, TUTTI_I32, other, c, &reqs[1]));
	RANK_OK(tutti_recv(text, 10, TUTTI_I32, other, c, &reqs[2]));
	if (ranks_meet())
		return 1;
	if (me == 0)
		RANK_OK(tutti_comm_abort(c, NULL));
	RANK_STATUS(TUTTI_EABORTED, tutti_work(reqs[0], 0, 1));
	RANK_STATUS(TUTTI_EABORTED, tutti_wait_any(reqs, 3, &index));
	RANK_CHECK(index >= 0 && !reqs[index]);
	RANK_STATUS(TUTTI_EABORTED, tutti_wait_all(reqs, 3));
	RANK_CHECK(!reqs[0] && !reqs[1] && !reqs[2]);
	RANK_STATUS(TUTTI_EABORTED, sum_start(s, c, 10, 0, false));
	RANK_CHECK(s->req == NULL);
	free(s);
	return 0;
}

static void endings_are_clean(void **unused)
{
	(void)unused;
	run(3, left_over);
	run(3, aborted_while_blocked);
	run(2, aborted_in_flight);
}

/* ---- what is refused changes nothing ----------------------------------------------------------------------------- */

static int refused(struct tutti_comm *c, void *unused)
{
	int32_t a[64] = {0}, b[64];
	struct tutti_request *req = (struct tutti_request *)&a;
	struct sum *s = sums_make(1);
	(void)unused;
	RANK_OK(sum_start(s, c, MOST, 9, false));
	if (tutti_comm_rank(c) == 0) { /* one rank only: no other rank learns of it */
		RANK_STATUS(TUTTI_EINVAL, tutti_allreduce(a, b, 64, TUTTI_I32, (enum tutti_op)9, c, &req));
		RANK_CHECK(req == NULL);
		RANK_STATUS(TUTTI_EINVAL, tutti_allreduce(a, a + 1, 60, TUTTI_I32, TUTTI_SUM, c, NULL));
		RANK_STATUS(TUTTI_EINVAL, tutti_broadcast(a, b, 64, TUTTI_I32, 99, c, NULL));
		RANK_STATUS(TUTTI_EINVAL, tutti_send(a, 64, TUTTI_I32, -1, c, NULL));
		RANK_STATUS(TUTTI_EINVAL, tutti_recv(NULL, 64, TUTTI_I32, 1, c, NULL));
		RANK_CHECK(strlen(tutti_last_error(c)) > 0 && tutti_comm_error(c) == TUTTI_OK);
	}
	RANK_OK(tutti_wait(&s->req));
	int bad = sum_wrong(s, c);
	free(s);
	return bad || works(c, 8);
}

static int own_memory(struct tutti_comm *c, void *unused)
{
	enum { BLOCKS = 12 };
	void *block[BLOCKS];
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	(void)unused;
	for (int round = 0; round < 3; round++) {
		for (int k = 0; k < BLOCKS; k++) {
			size_t count = size_of(k);
			RANK_OK(tutti_mem_alloc(c, count * 4, &block[k]));
			RANK_CHECK((uintptr_t)block[k] % 4096 == 0);
			int32_t *p = block[k];
			for (size_t i = 0; i < count; i++) {
				RANK_CHECK(p[i] == 0);
				p[i] = me + (int)i;
			}
			RANK_OK(tutti_mem_register(c, p, count * 4));
			RANK_OK(tutti_allreduce(p, p, count, TUTTI_I32, TUTTI_SUM, c, NULL));
			for (size_t i = 0; i < count; i++)
				RANK_CHECK(p[i] == n * (int)i + n * (n - 1) / 2);
			RANK_OK(tutti_mem_deregister(c, p));
		}
		for (int k = 0; k < BLOCKS - round; k++) /* the rest goes with the communicator */
			RANK_OK(tutti_mem_free(c, block[(k * 5) % BLOCKS]));
	}
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_free(c, &n));
	RANK_OK(tutti_mem_register(c, &n, sizeof(n)));
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_free(c, &n));
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_deregister(c, &me));
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_register(c, NULL, 8));
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_register(c, &n, 0));
	RANK_OK(tutti_mem_free(c, NULL));
	RANK_OK(tutti_mem_alloc(c, 0, &block[0]));
	RANK_OK(tutti_mem_free(c, block[0]));
	return works(c, 1);
}

static void the_rest_is_healthy(void **unused)
{
	(void)unused;
	run(3, refused);
	run(3, own_memory);
	run_by(1, TUTTI_PROGRESS_CALLER, own_memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(requests_complete_in_any_order),
	        cmocka_unit_test(requests_move),
	        cmocka_unit_test(teams_work),
	        cmocka_unit_test(groups_run_together),
	        cmocka_unit_test(messages_arrive),
	        cmocka_unit_test(communicators_split),
	        cmocka_unit_test(endings_are_clean),
	        cmocka_unit_test(the_rest_is_healthy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
