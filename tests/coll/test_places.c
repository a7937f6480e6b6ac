/* SPDX-License-Identifier: MIT */
/*
 * Over a network, a payload is received at its final place and not through a slot, but only while the call lasts. Seen
 * from outside: parts of a receive's buffer grow while the receive lasts, and the buffer of a call that has ended early
 * is left alone from then on, whatever is still in flight and whichever thread still pumps.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../ranks.h"

static void run(int n, bool times_out, enum tutti_progress_mode mode, int (*fn)(struct tutti_comm *, void *), void *arg)
{
	const char *env[] = {"TUTTI_TRANSPORT=tcp", "TUTTI_SLOT=128K",
	                     times_out ? "TUTTI_TIMEOUT=2" : "TUTTI_TIMEOUT=60", "TUTTI_LOG=error", NULL};
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct ranks how = {.n = n, .env = env, .config = &config, .seconds = 90};
	config.progress = mode;
	assert_int_equal(ranks_run(&how, fn, arg), 0);
}

static void pause_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&t, NULL);
}

/* ---- it comes there ---------------------------------------------------------------------------------------------- */

#define PART     ((size_t)128 << 10) /* TUTTI_SLOT */
#define PARTS    64
#define ONE_SLOT 100000

#define ROUNDS 120

/* The sender moves its message only in calls, so the receiver can look at it in peace. */
struct pauses {
	_Atomic int pumped,
	        looked;    /* the round in which the sender was so far; the one in which the receiver has looked */
	_Atomic bool seen; /* a part of which the beginning is there, and the end is not */
};

/* Sends what the socket takes, and goes on when the receiver has looked at that. */
static int send_with_a_pause(struct tutti_comm *c, struct pauses *p, int round, char *x)
{
	struct tutti_request *req;
	int done = 0;
	RANK_OK(tutti_send(x, PARTS * PART, TUTTI_I8, 0, c, &req));
	for (int i = 0; i < round && !done; i++)
		RANK_OK(tutti_test(&req, &done));
	p->pumped = round;
	while (p->looked < round)
		pause_ms(1);
	return done ? 0 : tutti_wait(&req);
}

static bool is_part_there(const char *x, int round)
{
	size_t whole = 0;
	while (whole < PARTS && x[whole * PART + PART - 1] == round)
		whole++;
	return whole < PARTS && x[whole * PART] == round;
}

static int receive_and_look(struct tutti_comm *c, struct pauses *p, int round, char *x)
{
	struct tutti_request *req;
	int done = 0;
	RANK_OK(tutti_recv(x, PARTS * PART, TUTTI_I8, 1, c, &req));
	while (p->pumped < round) {
		if (round % 2) /* in every other round the socket is full before anything is taken out */
			RANK_OK(tutti_test(&req, &done));
		p->seen |= is_part_there(x, round);
	}
	for (int i = 0; i < 1000 && !done && !p->seen; i++) {
		RANK_OK(tutti_test(&req, &done));
		p->seen |= is_part_there(x, round);
	}
	p->looked = round;
	if (!done)
		RANK_OK(tutti_wait(&req));
	for (size_t i = 0; i < PARTS * PART; i++)
		RANK_CHECK(x[i] == round);
	return 0;
}

/* What goes through slots in memory reaches the buffer a whole part at a time. */
static int parts_grow(struct tutti_comm *c, void *arg)
{
	static char x[PARTS * PART];
	struct pauses *p = arg;
	int me = tutti_comm_rank(c);
	for (int round = 1; round <= ROUNDS && !p->seen; round++) {
		memset(x, me ? round : 0, sizeof(x));
		if (ranks_meet() || (me ? send_with_a_pause(c, p, round, x) : receive_and_look(c, p, round, x)))
			return 1;
		ranks_note("after round %d", round);
		if (ranks_meet())
			return 1;
	}
	return p->seen ? 0 : ranks_fail("in %d rounds no part was seen to grow", ROUNDS);
}

static void payload_comes_where_it_belongs(void **unused)
{
	struct pauses *p = ranks_share(sizeof(*p));
	(void)unused;
	assert_non_null(p);
	run(2, false, TUTTI_PROGRESS_CALLER, parts_grow, p);
	ranks_unshare(p, sizeof(*p));
}

/* ---- it stays away ----------------------------------------------------------------------------------------------- */

#define LONG ((size_t)32 << 20)

struct stage {
	bool stops; /* the sender is stopped, and the deadline passes; else the receiver aborts */
	_Atomic int sender, sending, over;
	_Atomic bool whole; /* it came before anybody could end it early: nothing was seen */
};

static int send_long(struct tutti_comm *c, struct stage *s, char *x)
{
	struct tutti_request *req;
	int rc = tutti_send(x, LONG, TUTTI_I8, 0, c, &req), done = 0;
	s->sender = getpid();
	for (; !rc && !done; s->sending++) /* it fills the socket, and has more to send */
		rc = tutti_test(&req, &done);
	s->whole |= !rc;
	return s->whole || rc == (s->stops ? TUTTI_ETIMEOUT : TUTTI_EABORTED)
	               ? 0
	               : ranks_fail("status %d: %s", rc, tutti_last_error(c));
}

static int receive_long(struct tutti_comm *c, struct tutti_comm *other, struct stage *s, char *x)
{
	struct tutti_request *req;
	int done = 0, rc = TUTTI_OK;
	RANK_OK(tutti_recv(x, LONG, TUTTI_I8, 1, c, &req));
	while (x[0] != 1 && !done)
		RANK_OK(tutti_test(&req, &done));
	for (int seen = s->sending; s->sending < seen + 100 && !s->whole;)
		pause_ms(1);
	if (s->stops)
		kill(s->sender, SIGSTOP);
	else
		RANK_OK(tutti_comm_abort(c, "half of it is enough"));
	while (!rc && !done)
		rc = tutti_test(&req, &done);
	memset(x, 2, LONG);
	if (s->stops)
		kill(s->sender, SIGCONT);
	s->whole |= !rc;
	if (s->whole)
		return 0;
	RANK_STATUS(s->stops ? TUTTI_ETIMEOUT : TUTTI_EABORTED, rc);
	for (int i = 0; i < 300; i++) { /* pumps all that there is */
		RANK_OK(tutti_progress(other));
		pause_ms(1);
	}
	for (size_t i = 0; i < LONG; i++)
		if (x[i] != 2)
			return ranks_fail("byte %zu was written after the end of the call", i);
	return 0;
}

static int ends_early(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	struct tutti_comm *other;
	char *x = malloc(LONG);
	int me = tutti_comm_rank(c);
	RANK_CHECK(x);
	RANK_OK(tutti_comm_split(c, 0, 0, &other));
	RANK_OK(tutti_barrier(other, NULL));
	memset(x, me, LONG);
	int bad = me ? send_long(c, s, x) : receive_long(c, other, s, x);
	s->over |= !me;
	while (!bad && !s->over)
		pause_ms(1);
	free(x);
	RANK_OK(tutti_comm_destroy(other));
	return bad;
}

static void what_ended_early_is_left_alone(void **unused)
{
	(void)unused;
	for (int stops = 0; stops < 2; stops++)
		for (int mode = 0; mode < 2; mode++) {
			struct stage *s = ranks_share(sizeof(*s));
			assert_non_null(s);
			s->stops = stops;
			for (int tries = 0; tries == 0 || s->whole; tries++) {
				assert_true(tries < 20);
				s->whole = s->over = s->sending = 0;
				run(2, stops, mode ? TUTTI_PROGRESS_THREAD : TUTTI_PROGRESS_CALLER, ends_early, s);
			}
			ranks_unshare(s, sizeof(*s));
		}
}

/* A child has only a copy of the buffer: its end of the call is not the parent's. */
static int forks(struct tutti_comm *c, void *unused)
{
	static char x[ONE_SLOT];
	struct tutti_request *req;
	int status = -1;
	(void)unused;
	for (int round = 1; round < 3; round++) {
		bool last = round == 2;
		memset(x, tutti_comm_rank(c) ? round : 0, sizeof(x));
		if (tutti_comm_rank(c)) {
			if (last && ranks_meet())
				return 1;
			RANK_OK(tutti_send(x, sizeof(x), TUTTI_I8, 0, c, NULL));
			continue;
		}
		RANK_OK(tutti_recv(x, sizeof(x), TUTTI_I8, 1, c, &req));
		if (last) {
			pid_t child = fork();
			if (child == 0)
				_exit(tutti_comm_destroy(c));
			RANK_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
			if (ranks_meet())
				return 1;
		}
		RANK_OK(tutti_wait(&req));
		RANK_CHECK(x[0] == round && x[ONE_SLOT - 1] == round);
	}
	return 0;
}

static void forked_child_ends_nothing(void **unused)
{
	(void)unused;
	run(2, false, TUTTI_PROGRESS_CALLER, forks, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(payload_comes_where_it_belongs),
	        cmocka_unit_test(what_ended_early_is_left_alone),
	        cmocka_unit_test(forked_child_ends_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
