/* SPDX-License-Identifier: MIT */
/*
 * The control plane, with ranks as processes (some of which are killed, stopped, or leave) and as threads. The test
 * directs them over shared memory, where their alarms and flight records are as well: it starts their calls and reads
 * their alarms itself, and orders everything that only the rank can do.
 */
#include "expect.h"

#include "../../src/bootstrap/door.h"
#include "../../src/control/plane.h"
#include "../../src/os/os.h"
#include "../../src/util/auth.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANKS 8
#define LIMIT (60 * UINT64_C(1000000000)) /* a test that gets here has failed: nothing waits for so long */
#define WORLD 0
#define SUB   1 /* ranks 2 and up, in falling order, in worlds of at least 4 */

enum order { NONE, JOIN, WAITING, DEADLINE, RAISE, LEAVE, LOST, PART, SHRINK, CLOSE, FORK_RAW, FORK, EXIT };

struct seat {
	_Atomic int given, done; /* orders */
	enum order order;
	int comm;
	uint64_t number;
	int rc, nsurvivors, survivors[RANKS];
	uint64_t id;
	char text[1200];
	pid_t pid, child;
	bool crashed;
	struct alarm alarm[2];
	struct flight flight[2];
};

static struct stage {
	struct contact contacts[RANKS];
	int host[RANKS], n;
	bool threads;
	_Atomic int ready;
	struct seat seat[RANKS];
} * stage;

static pthread_t threads[RANKS];

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

struct actor {
	int rank;
	struct seat *seat;
	struct door *door;
	struct control *control;
	struct control_comm *comm[2];
};

static void nap(void)
{
	struct timespec t = {.tv_nsec = 200000};

	nanosleep(&t, NULL);
}

static struct net_limit within(uint64_t ns)
{
	return (struct net_limit){.deadline = now_ns() + ns};
}

static int join_all(struct actor *a)
{
	int world[RANKS], sub[RANKS], nsub = 0, rc;

	for (int r = 0; r < stage->n; r++)
		world[r] = r;
	for (int r = stage->n - 1; r >= 2; r--)
		sub[nsub++] = r;
	rc = control_join(&a->comm[WORLD], a->control, 100, "world", world, stage->n, a->rank, &a->seat->flight[WORLD],
	                  &a->seat->alarm[WORLD]);
	if (rc == TUTTI_OK && stage->n >= 4 && a->rank >= 2)
		rc = control_join(&a->comm[SUB], a->control, 200, "tp", sub, nsub, stage->n - 1 - a->rank,
		                  &a->seat->flight[SUB], &a->seat->alarm[SUB]);
	return rc;
}

static void leave_all(struct actor *a)
{
	for (int i = 0; i < 2; i++)
		if (a->comm[i])
			control_leave(a->comm[i]);
	a->comm[WORLD] = a->comm[SUB] = NULL;
}

/* What the thread's message says of why it goes, it says afterwards. */
static int close_all(struct actor *a)
{
	leave_all(a);
	(void)fail(TUTTI_OK, "why it goes");
	if (a->control)
		control_close(a->control);
	a->control = NULL;
	return strcmp(fail_text(), "why it goes") == 0 ? TUTTI_OK : TUTTI_EPEER;
}

/* As after the network fell apart: ranks reach those of their own letter. */
static void part(struct control *c, const char *groups)
{
	service_lock();
	for (int a = 0; a < c->n; a++)
		for (int b = 0; b < a; b++)
			if (groups[a] != groups[b])
				failure_ranks_cut(c, a, b, false, "cable out");
	plane_turn_end(c);
}

static int obey(struct actor *a)
{
	struct seat *s = a->seat;
	struct control_comm *cc = a->comm[s->comm];
	pid_t pid;

	switch (s->order) {
	case JOIN:
		return join_all(a);
	case WAITING:
		control_waiting(cc, s->number, 50 * MS);
		return TUTTI_OK;
	case DEADLINE:
		control_deadline(cc, s->number, 10);
		return TUTTI_OK;
	case RAISE:
		control_raise(cc, TUTTI_EABORTED, s->text);
		return TUTTI_OK;
	case LEAVE:
		control_leave(cc);
		a->comm[s->comm] = NULL;
		return TUTTI_OK;
	case LOST:
		control_lost(a->control, (int)s->number, "link 7 timed out");
		return TUTTI_OK;
	case PART:
		part(a->control, s->text);
		return TUTTI_OK;
	case SHRINK:
		return control_shrink(cc, s->survivors, &s->nsurvivors, &s->id, within(s->number));
	case CLOSE:
	case EXIT:
		return close_all(a);
	case FORK_RAW:
	case FORK:
		pid = s->order == FORK ? fork() : _Fork();
		while (pid == 0)
			pause();
		s->child = pid;
		return TUTTI_OK;
	default:
		return TUTTI_EINVAL;
	}
}

static void serve(struct actor *a)
{
	struct seat *s = a->seat;
	enum order order;

	do {
		while (atomic_load(&s->given) == atomic_load(&s->done))
			nap();
		order = s->order;
		s->rc = obey(a);
		if (s->rc != TUTTI_OK)
			snprintf(s->text, sizeof(s->text), "%s", fail_text());
		atomic_fetch_add(&s->done, 1);
	} while (order != EXIT);
}

static void *act(void *arg)
{
	struct actor a = {.rank = (int)(intptr_t)arg};
	struct contact *me = &stage->contacts[a.rank];
	struct door_config door = {.rank = a.rank, .size = stage->n, .iface = ""};
	struct control_config cfg = {a.rank, stage->n, stage->contacts, stage->host, NULL};

	a.seat = &stage->seat[a.rank];
	auth_key_from_text(&door.key, "");
	contact_self(me, a.rank, stage->n, "");
	a.seat->rc = door_open(&a.door, &door, me);
	atomic_fetch_add(&stage->ready, 1);
	while (atomic_load(&stage->ready) < stage->n)
		nap();
	cfg.door = a.door;
	if (a.seat->rc == TUTTI_OK)
		a.seat->rc = control_open(&a.control, &cfg, within(LIMIT));
	if (a.seat->rc != TUTTI_OK)
		snprintf(a.seat->text, sizeof(a.seat->text), "%s", fail_text());
	atomic_fetch_add(&a.seat->done, 1);
	serve(&a);
	door_close(a.door);
	return NULL;
}

/* ---- directing --------------------------------------------------------------------------------------------------- */

#define eventually(condition)                                                                                          \
	do {                                                                                                           \
		uint64_t deadline_ = now_ns() + LIMIT;                                                                 \
		while (!(condition)) {                                                                                 \
			if (now_ns() > deadline_)                                                                      \
				flunk("never: %s", #condition);                                                        \
			nap();                                                                                         \
		}                                                                                                      \
	} while (0)

static void give(int r, enum order order, int comm, uint64_t number)
{
	struct seat *s = &stage->seat[r];

	s->order = order;
	s->comm = comm;
	s->number = number;
	atomic_fetch_add(&s->given, 1);
}

static int done(int r)
{
	struct seat *s = &stage->seat[r];

	eventually(atomic_load(&s->done) == atomic_load(&s->given));
	return s->rc;
}

static int tell_rank(int r, enum order order, int comm, uint64_t number)
{
	give(r, order, comm, number);
	return done(r);
}

/* A world of n ranks; hosts[r] names r's host, as in "AABB". Joined, unless `bare`. */
static void raise_world(const char *hosts, bool as_threads, bool bare)
{
	int n = (int)strlen(hosts);
	pid_t pid;

	memset(stage, 0, sizeof(*stage));
	stage->n = n;
	stage->threads = as_threads;
	for (int r = 0; r < n; r++) {
		stage->host[r] = hosts[r];
		atomic_store(&stage->seat[r].given, 1);
	}
	for (int r = 0; r < n; r++) {
		if (as_threads) {
			assert_int_equal(pthread_create(&threads[r], NULL, act, (void *)(intptr_t)r), 0);
			continue;
		}
		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			(void)os_end_with_parent();
			act((void *)(intptr_t)r);
			exit(0); /* with the sanitizer's search for leaks */
		}
		assert_true(pid > 0);
		stage->seat[r].pid = pid;
	}
	for (int r = 0; r < n; r++)
		if (done(r) != TUTTI_OK)
			flunk("rank %d: %s", r, stage->seat[r].text);
	for (int r = 0; r < n && !bare; r++)
		assert_int_equal(tell_rank(r, JOIN, WORLD, 0), TUTTI_OK);
}

static void world_of(const char *hosts)
{
	raise_world(hosts, false, false);
}

static void murder(int r)
{
	kill(stage->seat[r].pid, SIGKILL);
}

static void stop(int r)
{
	int status;

	kill(stage->seat[r].pid, SIGSTOP);
	assert_int_equal(waitpid(stage->seat[r].pid, &status, WUNTRACED), stage->seat[r].pid);
	assert_true(WIFSTOPPED(status));
}

static bool gone(int r)
{
	int status;

	if (stage->threads || stage->seat[r].pid == 0)
		return true;
	if (waitpid(stage->seat[r].pid, &status, WNOHANG) != stage->seat[r].pid)
		return false;
	stage->seat[r].pid = 0;
	stage->seat[r].crashed = WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0;
	return true;
}

/* The living leave in good order, all others are killed. */
static int end_world(void **state)
{
	(void)state;
	for (int r = 0; r < stage->n; r++)
		if (stage->threads || stage->seat[r].pid > 0) {
			if (stage->seat[r].pid > 0)
				kill(stage->seat[r].pid, SIGCONT);
			give(r, EXIT, WORLD, 0);
		}
	for (int r = 0; r < stage->n; r++) {
		uint64_t deadline = now_ns() + LIMIT;
		if (stage->threads)
			pthread_join(threads[r], NULL);
		while (!gone(r) && now_ns() < deadline)
			nap();
		if (!gone(r)) {
			kill(stage->seat[r].pid, SIGKILL);
			flunk("rank %d did not end", r);
		}
		if (stage->seat[r].crashed)
			flunk("rank %d crashed", r);
		if (stage->seat[r].child > 0)
			kill(stage->seat[r].child, SIGKILL);
	}
	stage->n = 0;
	return 0;
}

static void call_on(int r, int comm, struct call call)
{
	flight_start(&stage->seat[r].flight[comm], &call, call.number);
}

static struct call collective(enum coll coll, uint64_t number, uint64_t count, enum tutti_dtype t)
{
	return (struct call){.number = number, .count = count, .coll = (uint8_t)coll, .dtype = (uint8_t)t, .root = -1};
}

static struct call allreduce(uint64_t number, uint64_t count)
{
	return collective(COLL_ALLREDUCE, number, count, TUTTI_BF16);
}

static int status(int r, int comm)
{
	return atomic_load_explicit(&stage->seat[r].alarm[comm].status, memory_order_acquire);
}

static const char *text(int r, int comm)
{
	return stage->seat[r].alarm[comm].text;
}

/* All ranks but those in `except` (a string of digits) get the alarm. */
static void all_alarmed(int comm, int expected, const char *except)
{
	for (int r = 0; r < stage->n; r++) {
		if (strchr(except, '0' + r))
			continue;
		eventually(status(r, comm) != TUTTI_OK);
		if (status(r, comm) != expected)
			flunk("rank %d: status %d: %s", r, status(r, comm), text(r, comm));
	}
}

/* ---- deaths ------------------------------------------------------------------------------------------------------ */

static void check_death(const char *hosts, int victim)
{
	char name[64], except[2] = {(char)('0' + victim), '\0'};
	uint64_t begin;

	world_of(hosts);
	for (int r = 0; r < stage->n; r++)
		if (r != victim)
			call_on(r, WORLD, allreduce(1042, 4096));
	begin = now_ns();
	murder(victim);
	all_alarmed(WORLD, TUTTI_EPEER, except);
	if (now_ns() - begin > 1000 * MS)
		print_message("%s: the death of rank %d took %.2f s to be known\n", hosts, victim,
		              (double)(now_ns() - begin) / 1e9);
	snprintf(name, sizeof(name), "rank %d (pid %d on ", victim, (int)stage->seat[victim].pid);
	for (int r = 0; r < stage->n; r++) {
		if (r == victim)
			continue;
		assert_contains(text(r, WORLD), name);
		assert_contains(text(r, WORLD), "died during allreduce #1042 (4096 x bf16, sum); ");
	}
	end_world(NULL);
}

static void a_death_is_known_to_all(void **state)
{
	static const char *const worlds[] = {"AA", "AB", "AAA", "ABC", "AAAA", "AABB", "ABAB", "AAABBB", "AABBCCDD"};

	(void)state;
	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
		int n = (int)strlen(worlds[i]);
		for (int victim = 0; victim < n; victim += victim < 2 || n < 4 ? 1 : n - 3)
			check_death(worlds[i], victim);
	}
}

static void the_text_says_who_waited(void **state)
{
	(void)state;
	world_of("AAAA");
	call_on(0, WORLD, allreduce(5, 16));
	call_on(3, WORLD, allreduce(5, 16));
	call_on(1, WORLD, allreduce(5, 16));
	flight_finish(&stage->seat[1].flight[WORLD], 5);
	murder(2);
	all_alarmed(WORLD, TUTTI_EPEER, "2");
	for (int r = 0; r < 4; r++)
		if (r != 2)
			assert_contains(text(r, WORLD), "allreduce #5 (16 x bf16, sum); ranks 0 3 were waiting in it");
	eventually(status(3, SUB) != TUTTI_OK);
	assert_contains(text(3, SUB), "communicator tp: rank 1 (pid ");
}

static void a_stopped_leader_hides_no_death(void **state)
{
	(void)state;
	world_of("AAAA");
	stop(0);
	murder(3);
	all_alarmed(WORLD, TUTTI_EPEER, "03");
	assert_contains(text(1, WORLD), "rank 3 (pid ");
	assert_contains(text(2, WORLD), "rank 3 (pid ");
}

static void others_reconnect_after_their_leaders_died(void **state)
{
	(void)state;
	world_of("AABBBB");
	murder(0);
	murder(1);
	all_alarmed(WORLD, TUTTI_EPEER, "01");
	/* B's leaders reached A's only; its ranks lead themselves now. Then B's own leaders die. */
	for (int r = 2; r < 6; r++)
		assert_int_equal(status(r, SUB), TUTTI_OK);
	murder(2);
	eventually(status(5, SUB) == TUTTI_EPEER && status(4, SUB) == TUTTI_EPEER && status(3, SUB) == TUTTI_EPEER);
	assert_contains(text(5, SUB), "rank 3 (pid ");
	assert_int_equal(status(2, SUB), TUTTI_OK);
}

static void hosts_reconnect_after_the_roots_died(void **state)
{
	uint64_t sure;

	(void)state;
	world_of("AABBCC");
	murder(0);
	murder(1);
	all_alarmed(WORLD, TUTTI_EPEER, "01");
	strcpy(stage->seat[5].text, "no way is left but a new one");
	assert_int_equal(tell_rank(5, RAISE, SUB, 0), TUTTI_OK);
	sure = now_ns();
	for (int r = 2; r < 6; r++)
		eventually(status(r, SUB) == TUTTI_EABORTED);
	assert_true(now_ns() - sure < LIMIT);
	assert_string_equal(text(2, SUB), "no way is left but a new one");
}

static void check_forked_child(const char *hosts, enum order how)
{
	world_of(hosts);
	assert_int_equal(tell_rank(1, how, WORLD, 0), TUTTI_OK);
	murder(1);
	eventually(status(0, WORLD) == TUTTI_EPEER);
	assert_contains(text(0, WORLD), "rank 1 (pid ");
	end_world(NULL);
}

static void a_forked_child_keeps_nobody_alive(void **state)
{
	(void)state;
	check_forked_child("AA", FORK_RAW); /* it holds the sockets: the process is watched */
	check_forked_child("AA", FORK);
	check_forked_child("AB", FORK); /* other hosts have the sockets only */
}

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

static void leaving_in_order_disturbs_nobody(void **state)
{
	(void)state;
	world_of("AABB");
	for (int r = 0; r < 4; r++) {
		call_on(r, WORLD, allreduce(3, 1));
		if (r < 2)
			flight_finish(&stage->seat[r].flight[WORLD], 3);
	}
	assert_int_equal(tell_rank(0, CLOSE, WORLD, 0), TUTTI_OK);
	assert_int_equal(tell_rank(1, CLOSE, WORLD, 0), TUTTI_OK);
	/* The ranks that go on do so without them. */
	call_on(2, SUB, allreduce(1, 1));
	call_on(3, SUB, allreduce(1, 2));
	assert_int_equal(tell_rank(3, WAITING, SUB, 1), TUTTI_OK);
	eventually(status(2, SUB) == TUTTI_EMISMATCH && status(3, SUB) == TUTTI_EMISMATCH);
	assert_int_equal(status(2, WORLD), TUTTI_OK);
	assert_int_equal(status(3, WORLD), TUTTI_OK);
}

/* Ranks 2 and 3 stay in a call in which the others' part is done: those go, one close after the other, and are not missed. */
static void check_staying(const char *hosts, uint64_t apart)
{
	world_of(hosts);
	for (int r = 0; r < stage->n; r++) {
		call_on(r, WORLD, allreduce(1, 8));
		if (r != 2 && r != 3)
			flight_finish(&stage->seat[r].flight[WORLD], 1);
	}
	for (int r = 0; r < stage->n; r++) {
		if (r == 2 || r == 3)
			continue;
		give(r, CLOSE, WORLD, 0);
		for (uint64_t end = now_ns() + apart; now_ns() < end;)
			nap();
	}
	for (int r = 0; r < stage->n; r++)
		assert_int_equal(done(r), TUTTI_OK);
	for (uint64_t end = now_ns() + 1200 * MS; now_ns() < end; nap())
		for (int r = 2; r <= 3; r++) {
			assert_int_equal(tell_rank(r, WAITING, WORLD, 1), TUTTI_OK);
			if (status(r, WORLD) != TUTTI_OK)
				flunk("%s: rank %d: %s", hosts, r, text(r, WORLD));
		}
	end_world(NULL);
}

static void who_stays_longer_accuses_nobody(void **state)
{
	(void)state;
	check_staying("AAAAAAAA", 0);
	check_staying("ABCABCAB", 0);
	check_staying("ABCABCAB", 1 * MS);
	check_staying("AAAABBBB", 10 * MS);
	check_staying("ABCDEFGH", 3 * MS);
}

/* Rank 2 does not hear of rank 3's death, and then has nobody to say goodbye to but rank 3. */
static void a_goodbye_to_nobody_keeps_the_reason(void **state)
{
	(void)state;
	world_of("ABCD");
	stop(0);
	stop(1);
	murder(3);
	eventually(gone(3));
	murder(0);
	murder(1);
	eventually(gone(0) && gone(1));
	if (tell_rank(2, CLOSE, WORLD, 0) != TUTTI_OK)
		flunk("the reason is now: %s", stage->seat[2].text);
}

static void leaving_others_in_a_call_is_an_error(void **state)
{
	(void)state;
	world_of("AAB");
	call_on(2, WORLD, collective(COLL_ALLGATHER, 16, 8, TUTTI_U8));
	call_on(0, WORLD, allreduce(17, 4));
	assert_int_equal(tell_rank(2, CLOSE, WORLD, 0), TUTTI_OK);
	eventually(status(0, WORLD) == TUTTI_EPEER && status(1, WORLD) == TUTTI_EPEER);
	assert_contains(text(0, WORLD), "rank 2 (pid ");
	assert_contains(text(0, WORLD), "destroyed its communicator after allgather #16 (8 x u8)");
	assert_contains(text(1, WORLD), "waits for it in allreduce #17 (4 x bf16, sum)");
}

static void a_later_wait_for_one_who_left_is_an_error(void **state)
{
	(void)state;
	world_of("AA");
	assert_int_equal(tell_rank(1, CLOSE, WORLD, 0), TUTTI_OK);
	assert_int_equal(status(0, WORLD), TUTTI_OK);
	call_on(0, WORLD, allreduce(1, 4));
	eventually(tell_rank(0, WAITING, WORLD, 1) == TUTTI_OK && status(0, WORLD) == TUTTI_EPEER);
	assert_contains(text(0, WORLD), "destroyed its communicator without a call");
}

/* ---- mismatches -------------------------------------------------------------------------------------------------- */

static void check_mismatch(struct call mine, struct call theirs, const char *a, const char *b)
{
	char expected[300];

	world_of("AAB");
	call_on(0, WORLD, mine);
	call_on(1, WORLD, mine);
	call_on(2, WORLD, theirs);
	flight_finish(&stage->seat[2].flight[WORLD], theirs.number); /* it is done, and so does not wait */
	assert_int_equal(tell_rank(0, WAITING, WORLD, mine.number), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_EMISMATCH, "");
	if (mine.way != theirs.way)
		snprintf(expected, sizeof(expected),
		         "ranks disagree about how to run allreduce #17 (4096 x bf16, sum): rank 0 runs it as %s, "
		         "rank 2 as %s",
		         a, b);
	else
		snprintf(expected, sizeof(expected),
		         "ranks disagree about call #17: rank 0 called %s, rank 2 called %s", a, b);
	for (int r = 0; r < 3; r++)
		assert_string_equal(text(r, WORLD), expected);
	end_world(NULL);
}

static void different_calls_are_shown_to_all(void **state)
{
	struct call base = allreduce(17, 4096), other;

	(void)state;
	other = base;
	other.count = 4095;
	check_mismatch(base, other, "allreduce (4096 x bf16, sum)", "allreduce (4095 x bf16, sum)");
	other = base;
	other.dtype = TUTTI_F16;
	check_mismatch(base, other, "allreduce (4096 x bf16, sum)", "allreduce (4096 x f16, sum)");
	other = base;
	other.op = TUTTI_MAX;
	check_mismatch(base, other, "allreduce (4096 x bf16, sum)", "allreduce (4096 x bf16, max)");
	other = base;
	base.way = call_way(WAY_ONE_SHOT, 1, 0, 0);
	other.way = call_way(WAY_TWO_SHOT, 1, 0, 0);
	check_mismatch(base, other, "direct one-shot x1", "direct two-shot x1");
	other.way = call_way(200, 2, 0, 77);
	check_mismatch(base, other, "direct one-shot x1", "an unknown algorithm x2 in chunks of 77 elements");
	base.way = 0;
	other = collective(COLL_BARRIER, 17, 0, TUTTI_I8);
	check_mismatch(base, other, "allreduce (4096 x bf16, sum)", "barrier");
	base = collective(COLL_BROADCAST, 17, 4, TUTTI_F32);
	base.root = 0;
	other = base;
	other.root = 1;
	check_mismatch(base, other, "broadcast (4 x f32, root 0)", "broadcast (4 x f32, root 1)");
	base = collective(COLL_ALLGATHER, 17, 0x12, TUTTI_F32);
	base.vector = 1;
	other = base;
	other.count = 0x13;
	check_mismatch(base, other, "allgatherv (f32, counts 00000012)", "allgatherv (f32, counts 00000013)");
}

static void equal_calls_are_no_mismatch_and_late_ones_are_compared(void **state)
{
	(void)state;
	world_of("AABB");
	for (int r = 0; r < 3; r++)
		call_on(r, WORLD, allreduce(1, 8));
	for (int r = 0; r < 3; r++)
		assert_int_equal(tell_rank(r, WAITING, WORLD, 1), TUTTI_OK);
	call_on(3, WORLD, allreduce(1, 9));
	eventually(tell_rank(1, WAITING, WORLD, 1) == TUTTI_OK && status(3, WORLD) != TUTTI_OK);
	all_alarmed(WORLD, TUTTI_EMISMATCH, "");
	assert_contains(text(0, WORLD), "rank 3 called allreduce (9 x bf16, sum)");
}

/* A call whose record was replaced long ago is not judged. */
static void what_is_forgotten_is_not_judged(void **state)
{
	(void)state;
	world_of("AA");
	call_on(0, WORLD, allreduce(1, 8));
	for (uint64_t i = 1; i <= FLIGHT_CALLS + 1; i++)
		call_on(1, WORLD, allreduce(i, 9));
	assert_int_equal(tell_rank(0, WAITING, WORLD, 1), TUTTI_OK);
	assert_int_equal(tell_rank(1, WAITING, WORLD, FLIGHT_CALLS + 1), TUTTI_OK);
	assert_int_equal(tell_rank(0, DEADLINE, WORLD, 1), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_ETIMEOUT, "");
}

/* ---- deadlines --------------------------------------------------------------------------------------------------- */

static void deadlines_name_the_late_and_the_silent(void **state)
{
	(void)state;
	world_of("AABBB");
	for (int r = 0; r < 5; r++) {
		call_on(r, WORLD, collective(COLL_ALLGATHER, 16, 2, TUTTI_F32));
		if (r != 1)
			flight_finish(&stage->seat[r].flight[WORLD], 16);
	}
	call_on(0, WORLD, allreduce(17, 4));
	call_on(4, WORLD, allreduce(17, 4));
	stop(2); /* a leader */
	assert_int_equal(tell_rank(4, DEADLINE, WORLD, 17), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_ETIMEOUT, "2");
	assert_contains(text(0, WORLD), "rank 1 (pid ");
	assert_contains(text(0, WORLD), "has not called allreduce #17 (4 x bf16, sum) after 10.0 s; it is in allg");
	assert_contains(text(3, WORLD), "; nor has rank 3 (pid ");
	assert_contains(text(3, WORLD), "it last finished allgather #16 (2 x f32)");
	assert_contains(text(1, WORLD), "; rank 2 (pid ");
	assert_contains(text(1, WORLD), "does not answer; is it stopped?");
	kill(stage->seat[2].pid, SIGCONT);
	eventually(status(2, WORLD) == TUTTI_ETIMEOUT);
}

static void a_deadline_without_a_culprit_says_so(void **state)
{
	(void)state;
	world_of("AA");
	call_on(0, WORLD, allreduce(1, 4));
	call_on(1, WORLD, allreduce(1, 4));
	assert_int_equal(tell_rank(0, DEADLINE, WORLD, 1), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_ETIMEOUT, "");
	assert_contains(text(1, WORLD), "rank 0 is not done with allreduce #1 (4 x bf16, sum) after 10.0 s: no ");
}

/* ---- raising ----------------------------------------------------------------------------------------------------- */

static void an_abort_reaches_all_and_the_first_counts(void **state)
{
	(void)state;
	world_of("AABBCC");
	strcpy(stage->seat[5].text, "out of patience");
	assert_int_equal(tell_rank(5, RAISE, WORLD, 0), TUTTI_OK);
	assert_int_equal(status(5, WORLD), TUTTI_EABORTED);
	all_alarmed(WORLD, TUTTI_EABORTED, "");
	strcpy(stage->seat[1].text, "too late");
	assert_int_equal(tell_rank(1, RAISE, WORLD, 0), TUTTI_OK);
	for (int r = 0; r < 6; r++)
		assert_string_equal(text(r, WORLD), "out of patience");
	assert_int_equal(status(3, SUB), TUTTI_OK);
}

static void what_happened_before_joining_counts(void **state)
{
	(void)state;
	raise_world("AAB", false, true);
	assert_int_equal(tell_rank(1, JOIN, WORLD, 0), TUTTI_OK);
	strcpy(stage->seat[1].text, "changed my mind");
	assert_int_equal(tell_rank(1, RAISE, WORLD, 0), TUTTI_OK);
	assert_int_equal(tell_rank(0, JOIN, WORLD, 0), TUTTI_OK);
	eventually(status(0, WORLD) == TUTTI_EABORTED);
	murder(1);
	eventually(gone(1));
	assert_int_equal(tell_rank(2, JOIN, WORLD, 0), TUTTI_OK);
	eventually(status(2, WORLD) != TUTTI_OK);
}

/* ---- shrinking --------------------------------------------------------------------------------------------------- */

static void check_survivors(const char *expected)
{
	int first = *expected ? expected[0] - '0' : 0, n = (int)strlen(expected);

	for (const char *p = expected; *p; p++) {
		struct seat *s = &stage->seat[*p - '0'];
		if (done(*p - '0') != TUTTI_OK)
			flunk("rank %c: %s", *p, s->text);
		assert_int_equal(s->nsurvivors, n);
		assert_true(s->id == stage->seat[first].id && s->id != 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(s->survivors[i], expected[i] - '0');
	}
}

static void shrink(const char *who_calls)
{
	for (const char *p = who_calls; *p && *p - '0' < stage->n; p++)
		give(*p - '0', SHRINK, WORLD, LIMIT / 2);
}

static void check_shrink(const char *hosts, const char *victims, const char *survivors)
{
	world_of(hosts);
	for (const char *p = victims; *p; p++)
		murder(*p - '0');
	shrink(survivors);
	check_survivors(survivors);
	end_world(NULL);
}

static void survivors_agree(void **state)
{
	(void)state;
	check_shrink("AA", "1", "0");
	check_shrink("AB", "0", "1");
	check_shrink("AAAA", "", "0123");
	check_shrink("AAAA", "2", "013");
	check_shrink("AABB", "0", "123");
	check_shrink("AABB", "01", "23");
	check_shrink("AABBCC", "03", "1245");
	check_shrink("ABCD", "013", "2");
}

static void a_death_while_shrinking_restarts_it(void **state)
{
	(void)state;
	for (int victim = 0; victim < 5; victim++) {
		char callers[6] = "01234", survivors[6] = "";
		int n = 0;
		world_of("AABBB");
		callers[victim] = '\0'; /* those before the victim call, it dies, then the rest do */
		shrink(callers);
		murder(victim);
		shrink(&callers[victim + 1]);
		for (int r = 0; r < 5; r++)
			if (r != victim)
				survivors[n++] = (char)('0' + r);
		check_survivors(survivors);
		end_world(NULL);
	}
}

static void a_leader_may_die_while_all_agree(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		uint64_t id;
		world_of("AABB");
		shrink("0123");
		for (int spin = 0; spin < i * 20000; spin++)
			atomic_load(&stage->seat[0].given);
		murder(0);
		for (int r = 1; r < 4; r++)
			assert_int_equal(done(r), TUTTI_OK);
		id = stage->seat[1].id;
		for (int r = 1; r < 4; r++) {
			assert_true(stage->seat[r].id == id);
			assert_int_equal(stage->seat[r].nsurvivors, stage->seat[1].nsurvivors);
		}
		end_world(NULL);
	}
}

static void shrinking_twice_gives_new_answers(void **state)
{
	uint64_t id;

	(void)state;
	world_of("AAAA");
	murder(1);
	shrink("023");
	check_survivors("023");
	id = stage->seat[0].id;
	murder(0);
	shrink("23");
	check_survivors("23");
	assert_true(stage->seat[2].id != id);
}

static void who_does_not_shrink_is_named(void **state)
{
	(void)state;
	world_of("AAA");
	give(0, SHRINK, WORLD, 600 * MS);
	give(2, SHRINK, WORLD, 600 * MS);
	assert_int_equal(done(0), TUTTI_ETIMEOUT);
	assert_int_equal(done(2), TUTTI_ETIMEOUT);
	assert_contains(stage->seat[0].text, "missing: rank 1 (pid ");
	shrink("1"); /* later they meet, though two have tried before */
	shrink("02");
	check_survivors("012");
}

static void a_lost_connection_ends_what_needs_it(void **state)
{
	(void)state;
	world_of("AABB");
	call_on(0, WORLD, allreduce(2, 2));
	assert_int_equal(tell_rank(1, LOST, WORLD, 3), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_EPEER, "");
	assert_contains(text(2, WORLD), "rank 1 (pid ");
	assert_contains(text(2, WORLD), "can't reach each other (link 7 timed out) during allreduce #2");
	assert_int_equal(status(3, SUB), TUTTI_OK);
	/* One of the two is left out, the same one everywhere. */
	shrink("0123");
	check_survivors("012");
	assert_int_equal(done(3), TUTTI_EPEER);
}

static void check_partition(const char *groups, const char *survivors)
{
	world_of(groups);
	for (int r = 0; r < stage->n; r++) {
		strcpy(stage->seat[r].text, groups);
		assert_int_equal(tell_rank(r, PART, WORLD, 0), TUTTI_OK);
	}
	all_alarmed(WORLD, TUTTI_EPEER, "");
	shrink("01234567"); /* those there are */
	check_survivors(survivors);
	for (int r = 0; r < stage->n; r++)
		if (!strchr(survivors, '0' + r))
			assert_int_equal(done(r), TUTTI_EPEER);
	end_world(NULL);
}

static void only_a_majority_goes_on(void **state)
{
	(void)state;
	check_partition("AABBB", "234");
	check_partition("AABA", "013");
	check_partition("ABBA", "03"); /* of two halves the one with the lowest rank */
	check_partition("AB", "0");
	check_partition("ABCDE", "");
	assert_contains(stage->seat[0].text, "rank 0 is not in a majority; separated from the rest: rank 1 (pid ");
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static void ranks_may_be_threads(void **state)
{
	(void)state;
	raise_world("AAAA", true, false);
	call_on(2, SUB, allreduce(1, 1));
	call_on(3, SUB, allreduce(1, 2));
	assert_int_equal(tell_rank(2, WAITING, SUB, 1), TUTTI_OK);
	eventually(status(2, SUB) == TUTTI_EMISMATCH && status(3, SUB) == TUTTI_EMISMATCH);
	assert_contains(text(2, SUB), "communicator tp: ranks disagree about call #1: rank 0 called allreduce (2 x");
	assert_int_equal(tell_rank(3, CLOSE, WORLD, 0), TUTTI_OK);
	shrink("012");
	check_survivors("012");
	strcpy(stage->seat[1].text, "enough");
	assert_int_equal(tell_rank(1, RAISE, WORLD, 0), TUTTI_OK);
	all_alarmed(WORLD, TUTTI_EABORTED, "3");
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static void malformed_messages_are_refused(void **state)
{
	struct message m = {.length = MESSAGE_HEAD + 3, .type = MSG_RAISE, .from = 1, .seq = 1, .text = "abc"};
	struct message out, bad;

	(void)state;
	m.value = TUTTI_EPEER;
	assert_int_equal(conn_parse(&m, sizeof(m), 2, &out), MESSAGE_HEAD + 3);
	assert_string_equal(out.text, "abc");
	assert_int_equal(conn_parse(&m, MESSAGE_HEAD + 2, 2, &out), 0);
	assert_int_equal(conn_parse(&m, MESSAGE_HEAD - 1, 2, &out), 0);
	assert_int_equal(conn_parse(&m, sizeof(m), 1, &out), -1); /* from */
#define REFUSED(change)                                                                                                \
	bad = m;                                                                                                       \
	change;                                                                                                        \
	assert_int_equal(conn_parse(&bad, sizeof(bad), 2, &out), -1)
	REFUSED(bad.length = MESSAGE_HEAD - 1);
	REFUSED(bad.length = MESSAGE_HEAD + MESSAGE_TEXT + 1);
	REFUSED(bad.type = 0);
	REFUSED(bad.type = MSG_TYPES);
	REFUSED(bad.from = -1);
	REFUSED(bad.seq = 0);
	REFUSED(bad.value = TUTTI_OK);
	REFUSED(bad.value = 11);
	REFUSED((bad.type = MSG_GONE, bad.value = ALIVE));
	REFUSED((bad.type = MSG_GONE, bad.value = DEAD, bad.a = 2));
	REFUSED((bad.type = MSG_CUT, bad.a = 1, bad.b = 1));
	REFUSED((bad.type = MSG_CUT, bad.a = 1, bad.b = -1));
	REFUSED((bad.type = MSG_JOIN, bad.a = 0));
#undef REFUSED
}

static void calls_are_said(void **state)
{
	struct call c = collective(COLL_REDUCE, 5, 4, TUTTI_F32);
	char buf[64], tiny[8];

	(void)state;
	c.op = TUTTI_MAX;
	c.root = 2;
	assert_string_equal(call_text(&c, buf, sizeof(buf)), "reduce #5 (4 x f32, max, root 2)");
	assert_string_equal(call_what(&c, buf, sizeof(buf)), "reduce (4 x f32, max, root 2)");
	assert_string_equal(call_text(&c, tiny, sizeof(tiny)), "reduce ");
	c = (struct call){.number = 1, .coll = 255, .dtype = 255, .op = 255, .root = -1};
	assert_string_equal(call_text(&c, buf, sizeof(buf)), "unknown #1 (0 x ?)");
}

static void records_are_kept_for_a_while(void **state)
{
	static struct flight f;
	struct call c = allreduce(1, 7), out;

	(void)state;
	assert_false(flight_read(&f, 0, &out));
	assert_false(flight_read(&f, 1, &out));
	flight_start(&f, &c, c.number);
	assert_true(flight_read(&f, 1, &out));
	assert_true(out.number == 1 && out.count == 7 && out.root == -1 && call_word(&out) == call_word(&c));
	c.number = 1 + FLIGHT_CALLS;
	flight_start(&f, &c, c.number);
	assert_false(flight_read(&f, 1, &out));
	assert_true(flight_read(&f, 1 + FLIGHT_CALLS, &out));
}

static void dumps_are_json_lines(void **state)
{
	static struct flight f = {.timed = true};
	static struct alarm alarm = {.text = "it said \"no\"\n"};
	char dir[] = "/tmp/tutti-test-XXXXXX", path[64], line[600];
	struct call c = {.coll = COLL_BROADCAST, .dtype = TUTTI_F32, .root = 1};
	FILE *file;

	(void)state;
	alarm.status = TUTTI_EPEER;
	for (c.number = 1; c.number <= 70; c.number++) {
		c.count = c.number * 2;
		flight_start(&f, &c, c.number);
		if (c.number < 70)
			flight_finish(&f, c.number);
	}
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/%%r%%.json", dir);
	assert_int_equal(flight_dump(&f, path, 12, "tp", &alarm), TUTTI_OK);
	snprintf(path, sizeof(path), "%s/12%%.json", dir);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	assert_string_equal(line, "{\"comm\":\"tp\",\"rank\":12,\"started\":70,\"finished\":69,\"status\":6,"
	                          "\"error\":\"it said \\\"no\\\"\\u000a\"}\n");
	for (int i = 7; i <= 70; i++) {
		assert_non_null(fgets(line, sizeof(line), file));
		snprintf(path, sizeof(path), "\"call\":%d,\"what\":\"broadcast\",\"vector\":false,\"count\":%d,", i,
		         2 * i);
		assert_contains(line, path);
		assert_contains(line, i < 70 ? "\"end_ns\":" : "\"finished\":false}");
	}
	assert_null(fgets(line, sizeof(line), file));
	fclose(file);
	snprintf(path, sizeof(path), "%s/12%%.json", dir);
	unlink(path);
	rmdir(dir);
	assert_int_equal(flight_dump(&f, "/nonexistent/%r", 0, "", &alarm), TUTTI_ESYSTEM);
	assert_contains(fail_text(), "/nonexistent/0");
}

int main(void)
{
#define STAGED(test) cmocka_unit_test_teardown(test, end_world)
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(malformed_messages_are_refused),
	        cmocka_unit_test(calls_are_said),
	        cmocka_unit_test(records_are_kept_for_a_while),
	        cmocka_unit_test(dumps_are_json_lines),
	        STAGED(a_death_is_known_to_all),
	        STAGED(the_text_says_who_waited),
	        STAGED(a_stopped_leader_hides_no_death),
	        STAGED(others_reconnect_after_their_leaders_died),
	        STAGED(hosts_reconnect_after_the_roots_died),
	        STAGED(a_forked_child_keeps_nobody_alive),
	        STAGED(leaving_in_order_disturbs_nobody),
	        STAGED(who_stays_longer_accuses_nobody),
	        STAGED(a_goodbye_to_nobody_keeps_the_reason),
	        STAGED(leaving_others_in_a_call_is_an_error),
	        STAGED(a_later_wait_for_one_who_left_is_an_error),
	        STAGED(different_calls_are_shown_to_all),
	        STAGED(equal_calls_are_no_mismatch_and_late_ones_are_compared),
	        STAGED(what_is_forgotten_is_not_judged),
	        STAGED(deadlines_name_the_late_and_the_silent),
	        STAGED(a_deadline_without_a_culprit_says_so),
	        STAGED(an_abort_reaches_all_and_the_first_counts),
	        STAGED(what_happened_before_joining_counts),
	        STAGED(survivors_agree),
	        STAGED(a_death_while_shrinking_restarts_it),
	        STAGED(a_leader_may_die_while_all_agree),
	        STAGED(shrinking_twice_gives_new_answers),
	        STAGED(who_does_not_shrink_is_named),
	        STAGED(a_lost_connection_ends_what_needs_it),
	        STAGED(only_a_majority_goes_on),
	        STAGED(ranks_may_be_threads),
	};

	if (auth_init() != TUTTI_OK)
		return 1;
	stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stage == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
