/* SPDX-License-Identifier: MIT */
/* The door: a process that knows the secret gets in and reaches the rank that it wants; any other does no harm. */
#include "expect.h"

#include "../../src/bootstrap/door.h"
#include "../../src/bootstrap/handshake.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "../../src/util/service.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- doors of one job -------------------------------------------------------------------------------------------- */

#define SIZE 3

struct side {
	struct door *door;
	struct contact me;
};

static void open_side(struct side *s, int rank, int size, const char *secret)
{
	struct door_config cfg = {.rank = rank, .size = size, .iface = "lo"};

	auth_key_from_text(&cfg.key, secret);
	contact_self(&s->me, rank, size, NULL);
	assert_ok(door_open(&s->door, &cfg, &s->me));
}

static struct side side[SIZE];

static void keep_line(void *ctx, enum tutti_log_level level, const char *line);

static int open_all(void **state)
{
	(void)state;
	assert_ok(auth_init());
	log_set_sink((struct log_sink){.fn = keep_line});
	for (int i = 0; i < SIZE; i++)
		open_side(&side[i], i, SIZE, "secret");
	return 0;
}

/* Warnings, kept by number and text; the service thread writes them. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[4096];
static int lines;

static void keep_line(void *ctx, enum tutti_log_level level, const char *line)
{
	size_t used;

	(void)ctx;
	(void)level;
	pthread_mutex_lock(&log_lock);
	used = strlen(logged);
	snprintf(logged + used, sizeof(logged) - used, "%s\n", line);
	lines++;
	pthread_mutex_unlock(&log_lock);
}

static void assert_logged(const char *part, int most)
{
	char text[sizeof(logged)];
	int n;

	pthread_mutex_lock(&log_lock);
	memcpy(text, logged, sizeof(text));
	n = lines;
	pthread_mutex_unlock(&log_lock);
	assert_contains(text, part);
	if (n > most)
		flunk("%d lines were logged, not at most %d", n, most);
}

static int close_all(void **state)
{
	(void)state;
	for (int i = 0; i < SIZE; i++)
		door_close(side[i].door);
	log_set_sink((struct log_sink){.fn = NULL});
	logged[0] = '\0';
	lines = 0;
	return 0;
}

/* For what needs no keys. */
static int dial_as(struct door *door, const struct contact *to, const struct hello *hello, bool local,
                   struct net_limit limit, int *fd)
{
	struct session session;
	int rc = door_dial(door, to, hello, local, limit, &session);

	assert_true(rc == TUTTI_OK ? session.seal != NULL : session.seal == NULL && session.fd < 0);
	*fd = session_plain(&session);
	return rc;
}

static int dial(int from, const struct contact *to, uint64_t tag, bool local, int *fd)
{
	struct hello hello = {.kind = HELLO_DATA, .from = from, .tag = tag};

	return dial_as(side[from].door, to, &hello, local, limit_of(20), fd);
}

static int taken(struct door *door, int from, uint64_t tag)
{
	struct session session = door_take(door, HELLO_DATA, from, tag);

	return session_plain(&session);
}

/* The kept connection, once it is there; -1 after 20 seconds. */
static int take_from(struct door *door, int from, uint64_t tag)
{
	struct net_limit limit = limit_of(20);
	int fd;

	while ((fd = taken(door, from, tag)) < 0 && now_ns() < limit.deadline)
		(void)net_wait(-1, 0, limit_of(0.001));
	return fd;
}

static int take(int at, int from, uint64_t tag)
{
	int fd = take_from(side[at].door, from, tag);

	assert_true(fd >= 0);
	return fd;
}

static void assert_connected(int a, int b)
{
	char sent[] = "ping", got[sizeof(sent)];

	for (int i = 0; i < 2; i++) {
		assert_ok(net_write(i ? a : b, sent, sizeof(sent), limit_of(20)));
		assert_ok(net_read(i ? b : a, got, sizeof(got), limit_of(20)));
		assert_string_equal(got, sent);
	}
	close(a);
	close(b);
}

static void assert_still_open(void)
{
	int a;

	for (int local = 0; local < 2; local++) {
		assert_ok(dial(1, &side[0].me, 99, local, &a));
		assert_connected(a, take(0, 1, 99));
	}
}

/* Ends when the other side hung up. */
static void assert_hung_up(int fd)
{
	char byte;

	assert_ok(net_wait(fd, POLLIN, limit_of(20)));
	while (recv(fd, &byte, 1, MSG_DONTWAIT) > 0)
		continue;
	assert_int_equal(net_read(fd, &byte, 1, limit_of(20)), TUTTI_EPEER);
	close(fd);
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void test_connections_meet(void **state)
{
	int a[4], b;

	(void)state;
	assert_int_equal(taken(side[0].door, 1, 1), -1);
	for (int i = 0; i < 4; i++)
		assert_ok(dial(1 + i / 2, &side[0].me, (uint64_t)(7 + i % 2), i % 2, &a[i]));
	for (int i = 3; i >= 0; i--) {
		b = take(0, 1 + i / 2, (uint64_t)(7 + i % 2));
		assert_connected(a[i], b);
	}
	assert_int_equal(taken(side[0].door, 1, 7), -1);
}

struct served {
	struct hello hello;
	int fd;
	int pipe[2];
};

static void on_served(void *arg, struct session session, const struct hello *hello)
{
	struct served *s = arg;

	s->fd = session_plain(&session);
	s->hello = *hello;
	if (write(s->pipe[1], "x", 1) != 1)
		abort();
}

static void test_a_handler_gets_what_comes_and_what_came(void **state)
{
	struct served s;
	char byte;
	int a;

	(void)state;
	assert_int_equal(pipe(s.pipe), 0);
	for (int late = 0; late < 2; late++) {
		if (!late)
			door_serve(side[0].door, HELLO_DATA, on_served, &s);
		assert_ok(dial(2, &side[0].me, 5, true, &a)); /* welcomed, and so kept or served */
		if (late)
			door_serve(side[0].door, HELLO_DATA, on_served, &s);
		assert_int_equal(read(s.pipe[0], &byte, 1), 1);
		assert_int_equal(s.hello.kind, HELLO_DATA);
		assert_int_equal(s.hello.from, 2);
		assert_int_equal(s.hello.tag, 5);
		assert_connected(a, s.fd);
		door_serve(side[0].door, HELLO_DATA, NULL, NULL);
	}
	close(s.pipe[0]);
	close(s.pipe[1]);
}

static void test_wrong_secret(void **state)
{
	struct side stranger;
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	char refusal[256];
	int fd;

	(void)state;
	open_side(&stranger, 1, SIZE, "guess");
	for (int local = 0; local < 2; local++) {
		assert_int_equal(dial_as(stranger.door, &side[0].me, &hello, local, limit_of(20), &fd), TUTTI_EAUTH);
		assert_int_equal(fd, -1);
		assert_contains(fail_text(), "can't reach rank 0 (pid ");
		assert_contains(fail_text(), "rank 0 and rank 1 have different secrets: check that TUTTI_SECRET");
	}
	door_close(stranger.door);
	open_side(&stranger, 1, SIZE, NULL);
	assert_int_equal(dial_as(stranger.door, &side[0].me, &hello, false, limit_of(20), &fd), TUTTI_EAUTH);
	door_close(stranger.door);
	assert_logged("rank 0 refused a connection", 5);
	assert_logged("does not know this job's secret", 5);
	door_refusal(side[0].door, refusal, sizeof(refusal));
	assert_contains(refusal, "does not know this job's secret");
	assert_still_open();
}

static void test_wrong_size_rank_and_job(void **state)
{
	struct side other;
	struct contact to = side[0].me;
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	int fd;

	(void)state;
	open_side(&other, 1, SIZE + 1, "secret");
	assert_int_equal(dial_as(other.door, &to, &hello, true, limit_of(20), &fd), TUTTI_EMISMATCH);
	assert_contains(fail_text(), "rank 0 is in a job of 3 ranks, this is rank 1 of 4: check TUTTI_SIZE");
	door_close(other.door);

	to.rank = 2;
	assert_int_equal(dial(1, &to, 1, false, &fd), TUTTI_EPEER);
	assert_contains(fail_text(), "rank 0 answered where rank 2 was expected");
	to = side[0].me;
	to.nonce++;
	assert_int_equal(dial(1, &to, 1, false, &fd), TUTTI_EPEER);
	assert_contains(fail_text(), "rank 0 of another job with the same secret answered");
	assert_still_open();
}

static void test_all_addresses_are_tried_and_named(void **state)
{
	struct net_addr closed = {.family = 4, .ip = {127, 0, 0, 1}}, silent = closed;
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct contact to = side[0].me;
	char text[NET_TEXT];
	int fd, listener;

	(void)state;
	assert_ok(net_listen(&closed, &fd));
	close(fd);
	assert_ok(net_listen(&silent, &listener));
	to.naddrs = 2;
	to.addrs[0] = closed;
	to.addrs[1] = silent;
	assert_int_equal(dial_as(side[1].door, &to, &hello, false, limit_of(1), &fd), TUTTI_EPEER);
	assert_contains(fail_text(), net_text(&closed, text));
	assert_contains(fail_text(), "Connection refused");
	assert_contains(fail_text(), net_text(&silent, text));
	assert_contains(fail_text(), "timed out");
	to.naddrs = 3;
	to.addrs[2] = side[0].me.addrs[0];
	assert_ok(dial_as(side[1].door, &to, &hello, false, limit_of(4), &fd));
	assert_connected(fd, take(0, 1, 0));
	to.naddrs = 0;
	assert_int_equal(dial(1, &to, 0, false, &fd), TUTTI_EPEER);
	assert_contains(fail_text(), "has no address");
	close(listener);
}

/*
 * A listener whose queue is full: its host drops connections, as if it did not exist. fd[0] listens, the others fill
 * it.
 */
#define FILL 8
static struct net_addr silent_address(int fd[FILL])
{
	struct net_addr at = {.family = 4, .ip = {127, 0, 0, 1}};

	assert_ok(net_listen(&at, &fd[0]));
	assert_int_equal(listen(fd[0], 0), 0);
	for (int i = 1; i < FILL; i++)
		assert_ok(net_connect_begin(&at, NULL, &fd[i]));
	return at;
}

static void close_these(const int fd[FILL])
{
	for (int i = 0; i < FILL; i++)
		close(fd[i]);
}

static void test_a_silent_address_delays_nobody(void **state)
{
	struct contact to = side[0].me;
	uint64_t begin = now_ns();
	int fd, full[FILL];

	(void)state;
	assert_true(to.naddrs >= 1);
	to.naddrs = 2;
	to.addrs[1] = to.addrs[0];
	to.addrs[0] = silent_address(full);
	to.addrs[0].ip[3] = 1;
	to.addrs[1].ip[3] = 1;
	for (uint64_t tag = 0; tag < 4; tag++) {
		assert_ok(dial(1, &to, tag, false, &fd));
		assert_connected(fd, take(0, 1, tag));
	}
	if (now_ns() - begin > UINT64_C(9000000000))
		flunk("a silent address cost %.1f s", (double)(now_ns() - begin) * 1e-9);
	assert_logged("rank 1: rank 0 (pid ", 1);
	assert_logged("does not answer at 127.0.0.1:", 1);
	close_these(full);
}

static void test_silence_is_told_from_a_stopped_process(void **state)
{
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct contact to = side[0].me;
	struct net_addr stopped = {.family = 4, .ip = {127, 0, 0, 1}};
	struct session none;
	int full[FILL], listener;
	bool silent;

	(void)state;
	to.naddrs = 1;
	to.addrs[0] = silent_address(full);
	assert_int_equal(door_reach(side[1].door, &to, &hello, 300 * UINT64_C(1000000), limit_of(60), &silent, &none),
	                 TUTTI_EPEER);
	assert_true(silent);
	assert_contains(fail_text(), "no answer within 0.3 s");
	assert_ok(net_listen(&stopped, &listener));
	to.addrs[0] = stopped;
	assert_int_equal(door_reach(side[1].door, &to, &hello, 300 * UINT64_C(1000000), limit_of(1), &silent, &none),
	                 TUTTI_ETIMEOUT);
	assert_false(silent);
	close_these(full);
	close(listener);
}

static void test_an_interface_that_leads_nowhere_is_said(void **state)
{
	struct contact to = side[0].me;
	int fd;

	(void)state;
	to.naddrs = 1;
	to.addrs[0] = (struct net_addr){.family = 4, .port = 4711, .ip = {192, 0, 2, 77}};
	assert_int_equal(dial(1, &to, 1, false, &fd), TUTTI_EPEER);
	assert_contains(fail_text(), "TUTTI_IFACE=lo allows no interface of rank 1's host that leads to rank 0 (pid ");
	to.addrs[0] = (struct net_addr){.family = 4, .port = 1, .ip = {127, 0, 0, 1}};
	to.host_hint[0]++;
	assert_int_equal(dial(1, &to, 1, false, &fd), TUTTI_EPEER);
	assert_contains(fail_text(),
	                "rank 0 listens only on its loopback: does TUTTI_IFACE exclude the other interfaces");
}

static void test_without_a_secret_only_loopback(void **state)
{
	struct net_addr any = {.family = 4};
	struct contact to = side[0].me;
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct side open;
	int fd;

	(void)state;
	open_side(&open, 1, SIZE, NULL);
	assert_true(open.me.naddrs > 0);
	for (uint32_t i = 0; i < open.me.naddrs; i++)
		assert_true(net_is_loopback(&open.me.addrs[i]));
	assert_ok(net_listen(&any, &fd));
	assert_int_equal(door_adopt(open.door, fd), TUTTI_EAUTH);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* the door's, so closed */
	to.naddrs = 1;
	to.addrs[0] = (struct net_addr){.family = 4, .port = 4711, .ip = {192, 0, 2, 77}};
	assert_int_equal(dial_as(open.door, &to, &hello, false, limit_of(20), &fd), TUTTI_EAUTH);
	assert_contains(fail_text(), "192.0.2.77:4711 is not on this host");
	door_close(open.door);
}

/* ---- strangers --------------------------------------------------------------------------------------------------- */

static int knock(bool local)
{
	int fd;

	if (local)
		assert_ok(net_connect_local(side[0].me.local, limit_of(20), &fd));
	else
		assert_ok(net_connect(&side[0].me.addrs[0], NULL, limit_of(20), &fd));
	return fd;
}

static void test_garbage_is_dropped_at_once(void **state)
{
	static const char *const words[] = {"GET / HTTP/1.1\r\n\r\n", "t", "\x16\x03\x01", "tutx"};
	int fd;

	(void)state;
	for (int local = 0; local < 2; local++) {
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			fd = knock(local);
			assert_ok(net_write(fd, words[i], strlen(words[i]), limit_of(20)));
			if (strcmp(words[i], "t") ==
			    0) /* 't' is not how a greet starts on any machine: 'u' or 't', then "tt" */
				assert_ok(net_write(fd, "x", 1, limit_of(20)));
			assert_hung_up(fd);
		}
	}
	assert_logged("does not speak Tutti", 5);
	assert_still_open();
}

static void test_ten_thousand_strangers(void **state)
{
	struct linger now = {.l_onoff = 1};
	int fd;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		fd = knock(i % 4 == 0);
		if (i % 3)
			assert_ok(net_write(fd, "nonsense", 8, limit_of(20)));
		if (i % 50 == 0)
			assert_still_open();
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
	}
	assert_logged("does not speak Tutti", 5 + 10);
	assert_still_open();
}

/* More idle connections than the door keeps: the oldest have to go, and some go in time anyway. */
static void test_slow_ones_make_room(void **state)
{
	int fd[100];

	(void)state;
	for (int i = 0; i < 100; i++)
		fd[i] = knock(i % 2);
	assert_still_open();
	for (int i = 0; i < 100; i++)
		assert_hung_up(fd[i]);
	assert_still_open();
}

struct crowd {
	pthread_t thread;
	_Atomic bool *end;
	int made;
};

/* Idles on many connections at a time, for ever new ones. */
static void *crowd_run(void *arg)
{
	struct crowd *c = arg;
	int fd[40];

	memset(fd, -1, sizeof(fd));
	while (!atomic_load(c->end)) {
		int *slot = &fd[c->made++ % 40];
		if (*slot >= 0)
			close(*slot);
		*slot = knock(true);
	}
	for (int i = 0; i < 40; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return NULL;
}

static void test_ranks_get_through_a_crowd(void **state)
{
	_Atomic bool end = false;
	struct crowd crowd[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		crowd[i] = (struct crowd){.end = &end};
		assert_int_equal(pthread_create(&crowd[i].thread, NULL, crowd_run, &crowd[i]), 0);
	}
	for (int i = 0; i < 5; i++)
		assert_still_open();
	atomic_store(&end, true);
	for (int i = 0; i < 3; i++)
		pthread_join(crowd[i].thread, NULL);
}

static int64_t processor_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/* In a child, because the limit of descriptors is the process's: it can't accept until the filling is gone. */
static int starve_and_recover(int filled, int say)
{
	struct rlimit limit = {64, 64};
	int fill[64], n = 0, fd;
	int64_t before;
	struct side self;
	char byte;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || auth_init() != TUTTI_OK)
		return 1;
	open_side(&self, 0, SIZE, "secret");
	while ((fd = dup(say)) >= 0)
		fill[n++] = fd;
	if (write(say, &self.me, sizeof(self.me)) != sizeof(self.me) || read(filled, &byte, 1) != 1)
		return 2;
	/* Somebody has connected. While that can't be accepted it must not keep a processor busy. */
	before = processor_us();
	if (net_wait(-1, 0, limit_of(0.4)) != TUTTI_ETIMEOUT)
		return 3;
	if (processor_us() - before > 200000)
		return 4;
	while (n > 0)
		close(fill[--n]);
	if (take_from(self.door, 1, 3) < 0)
		return 5;
	door_close(self.door);
	return 0;
}

static void *dial_thread(void *arg)
{
	struct contact *to = arg;
	int fd;

	if (dial(1, to, 3, false, &fd) != TUTTI_OK)
		return (void *)fail_text();
	close(fd);
	return NULL;
}

static void test_out_of_descriptors(void **state)
{
	int up[2], down[2], status, idle;
	struct contact to;
	pthread_t thread;
	void *said;
	pid_t pid;

	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	pid = fork();
	if (pid == 0)
		_exit(starve_and_recover(down[0], up[1]));
	open_all(state);
	assert_int_equal(read(up[0], &to, sizeof(to)), sizeof(to));
	assert_ok(net_connect(&to.addrs[0], NULL, limit_of(20), &idle));
	assert_int_equal(pthread_create(&thread, NULL, dial_thread, &to), 0);
	assert_int_equal(write(down[1], "x", 1), 1);
	pthread_join(thread, &said);
	if (said)
		flunk("%s", (char *)said);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	close(idle);
	close_all(state);
	for (int i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static void assert_same_file(int a, int b)
{
	char byte = 0;

	assert_int_equal(write(b, "q", 1), 1);
	assert_int_equal(read(a, &byte, 1), 1);
	assert_int_equal(byte, 'q');
}

static void test_a_descriptor_is_given(void **state)
{
	int p[2], got;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_ok(door_give(side[0].door, 42, p[1]));
	close(p[1]); /* the door has its own */
	for (int from = 1; from < SIZE; from++) {
		assert_ok(door_ask(side[from].door, &side[0].me, 42, limit_of(20), &got));
		assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
		assert_same_file(p[0], got);
		close(got);
	}
	assert_ok(door_give(side[0].door, 42, -1));
	assert_int_equal(door_ask(side[1].door, &side[0].me, 42, limit_of(0.1), &got), TUTTI_ETIMEOUT);
	assert_contains(fail_text(), "asking rank 0 (pid ");
	close(p[0]);
}

static void *ask_thread(void *arg)
{
	int *got = arg;

	if (door_ask(side[1].door, &side[0].me, 43, limit_of(20), got) != TUTTI_OK)
		*got = -1;
	return NULL;
}

/* An asker that gave up stands among those that wait, so that the giver meets a dead connection first. */
static void test_asked_before_given(void **state)
{
	pthread_t thread;
	int p[2], got = -1;

	(void)state;
	assert_int_equal(door_ask(side[2].door, &side[0].me, 43, limit_of(0.1), &got), TUTTI_ETIMEOUT);
	assert_int_equal(pthread_create(&thread, NULL, ask_thread, &got), 0);
	assert_int_equal(pipe(p), 0);
	assert_ok(door_give(side[0].door, 43, p[1]));
	pthread_join(thread, NULL);
	assert_true(got >= 0);
	assert_same_file(p[0], got);
	close(got);
	close(p[0]);
	close(p[1]);
}

static void test_descriptors_go_over_local_sockets_only(void **state)
{
	struct hello hello = {.kind = HELLO_GIVE, .from = 1, .tag = 44};
	int fd;

	(void)state;
	assert_int_equal(dial_as(side[1].door, &side[0].me, &hello, false, limit_of(20), &fd), TUTTI_EPEER);
	assert_still_open();
}

/* What a contact says of its host proves nothing, and neither does an address. */
static void test_a_local_socket_proves_one_host(void **state)
{
	struct contact elsewhere = side[0].me, other = side[0].me;
	struct hello hello = {.kind = HELLO_NEAR, .from = 1};
	int fd;

	(void)state;
	assert_true(door_is_near(side[1].door, &side[0].me, limit_of(20)));
	snprintf(elsewhere.local, sizeof(elsewhere.local), "tutti-of-another-host");
	assert_false(door_is_near(side[1].door, &elsewhere, limit_of(20)));
	other.nonce++;
	assert_false(door_is_near(side[1].door, &other, limit_of(20)));
	assert_int_equal(dial_as(side[1].door, &side[0].me, &hello, false, limit_of(20), &fd), TUTTI_EPEER);
	assert_still_open();
}

/* ---- forks ------------------------------------------------------------------------------------------------------- */

#ifdef __SANITIZE_THREAD__
#define TSAN 1
#else
#define TSAN 0
#endif

/* A child that closes what it inherited leaves the parent's alone, and can have doors of its own. */
static void test_a_forked_child_does_no_harm(void **state)
{
	unsigned forks = service_forks;
	int status;
	pid_t pid;

	(void)state;
	if (TSAN) {
		print_message("the thread sanitizer allows no threads in the child of a process with threads\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		struct side self;
		int rc = service_forks == forks + 1 ? 0 : 1;
		open_side(&self, 0, SIZE, "secret");
		for (int i = 0; i < SIZE; i++)
			door_close(side[i].door);
		door_close(self.door);
		_exit(rc);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(service_forks, forks);
	assert_still_open();
}

/* ---- the handshake's steps --------------------------------------------------------------------------------------- */

/* What dialler and acceptor say and hear with after the last good handshake. */
static uint8_t keys[4][AUTH_KEY];

/* A whole handshake with one byte of one message changed on its way; -1: none. What each side makes of it. */
static void shake(int message, size_t byte, enum verdict *dialler, enum verdict *acceptor)
{
	struct hello hello = {.kind = HELLO_CONTROL, .from = 1, .tag = 0x1122334455667788};
	struct auth_key key;
	struct handshake d, a;
	struct {
		struct greet greet;
		struct challenge challenge;
		struct proof proof;
		struct answer answer;
	} m;
	void *const at[] = {&m.greet, &m.challenge, &m.proof, &m.answer};

#define TAMPER(i) (message == (i) ? (void)(((uint8_t *)at[i])[byte] ^= 0x10) : (void)0)
	auth_key_from_text(&key, "secret");
	d = (struct handshake){.key = &key, .rank = 1, .size = 2};
	a = (struct handshake){.key = &key, .rank = 0, .size = 2, .door = 5};
	*dialler = *acceptor = VERDICT_GARBAGE;
	handshake_greet(&d, 0, 5, &m.greet);
	TAMPER(0);
	if (handshake_greeted(&a, &m.greet, &m.challenge) != VERDICT_WELCOME)
		return;
	TAMPER(1);
	*dialler = handshake_challenged(&d, &m.challenge, &hello, &m.proof);
	if (*dialler != VERDICT_WELCOME)
		return;
	TAMPER(2);
	*acceptor = handshake_proved(&a, &m.proof, &m.answer);
	if (*acceptor == VERDICT_GARBAGE) {
		*dialler = VERDICT_GARBAGE;
		return;
	}
	TAMPER(3);
	*dialler = handshake_answered(&d, &m.answer);
#undef TAMPER
	if (*dialler == VERDICT_WELCOME && *acceptor == VERDICT_WELCOME) {
		handshake_keys(&d, true, keys[0], keys[1]);
		handshake_keys(&a, false, keys[2], keys[3]);
	}
}

static void test_every_byte_of_the_handshake_counts(void **state)
{
	static const size_t sizes[] = {sizeof(struct greet), sizeof(struct challenge), sizeof(struct proof),
	                               sizeof(struct answer)};
	enum verdict dialler, acceptor;

	(void)state;
	shake(-1, 0, &dialler, &acceptor);
	assert_int_equal(dialler, VERDICT_WELCOME);
	assert_int_equal(acceptor, VERDICT_WELCOME);
	for (int message = 0; message < 4; message++) {
		for (size_t byte = 0; byte < sizes[message]; byte++) {
			shake(message, byte, &dialler, &acceptor);
			if (dialler == VERDICT_WELCOME || (message < 3 && acceptor == VERDICT_WELCOME))
				flunk("byte %zu of message %d was changed, and nobody noticed", byte, message);
		}
	}
}

/* Each direction has a key, both sides the same ones, and no two connections share one. */
static void test_keys_of_a_session(void **state)
{
	uint8_t before[4][AUTH_KEY];
	enum verdict dialler, acceptor;

	(void)state;
	shake(-1, 0, &dialler, &acceptor);
	assert_int_equal(dialler, VERDICT_WELCOME);
	assert_memory_equal(keys[0], keys[3], AUTH_KEY);
	assert_memory_equal(keys[1], keys[2], AUTH_KEY);
	assert_memory_not_equal(keys[0], keys[1], AUTH_KEY);
	memcpy(before, keys, sizeof(before));
	shake(-1, 0, &dialler, &acceptor);
	assert_memory_not_equal(before[0], keys[0], AUTH_KEY);
	assert_memory_not_equal(before[1], keys[1], AUTH_KEY);
}

/* A share that makes the common secret predictable (a point of low order) is refused. */
static void test_a_share_of_nothing(void **state)
{
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct auth_key key;
	struct handshake d = {.key = &key, .rank = 1, .size = 2}, a = {.key = &key, .rank = 0, .size = 2};
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	struct answer answer;

	(void)state;
	auth_key_from_text(&key, "secret");
	handshake_greet(&d, 0, 0, &greet);
	assert_int_equal(handshake_greeted(&a, &greet, &challenge), VERDICT_WELCOME);
	memset(challenge.share, 0, sizeof(challenge.share));
	assert_int_equal(handshake_challenged(&d, &challenge, &hello, &proof), VERDICT_GARBAGE);
	memset(proof.share, 0, sizeof(proof.share));
	assert_int_equal(handshake_proved(&a, &proof, &answer), VERDICT_GARBAGE);
}

/* An acceptor that only says what it heard can't pass, nor one that says nothing right. */
static void test_an_echo_is_no_answer(void **state)
{
	struct auth_key key;
	struct handshake d = {.key = &key, .rank = 1, .size = 2};
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct challenge echo;
	struct greet greet;
	struct proof proof;

	(void)state;
	auth_key_from_text(&key, "secret");
	handshake_greet(&d, 0, 0, &greet);
	_Static_assert(sizeof(greet) >= sizeof(echo), "the greet is long enough to be echoed");
	memcpy(&echo, &greet, sizeof(echo));
	assert_int_equal(handshake_challenged(&d, &echo, &hello, &proof), VERDICT_GARBAGE);
}

/* ---- contacts ---------------------------------------------------------------------------------------------------- */

static void test_contacts_agree_or_say_why_not(void **state)
{
	struct contact a, b, bad;
	char text[128];

	(void)state;
	contact_self(&a, 0, 4, "");
	contact_self(&b, 2, 4, "");
	snprintf(a.params, sizeof(a.params), "TUTTI_SLOT=64\n");
	snprintf(b.params, sizeof(b.params), "TUTTI_SLOT=64\n");
	assert_ok(contact_agree(&a, &b));
	assert_memory_equal(a.host_hint, b.host_hint, sizeof(a.host_hint));
	assert_true(a.nonce != b.nonce);
	assert_contains(contact_text(&b, text, sizeof(text)), "rank 2 (pid ");

	bad = b;
	bad.magic = __builtin_bswap32(bad.magic);
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);
	assert_contains(fail_text(), "byte order");
	bad = b;
	bad.version++;
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);
	assert_contains(fail_text(), "install the same Tutti");
	bad = b;
	bad.size = 5;
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);
	assert_contains(fail_text(), "in a job of 4 ranks and rank 2");
	bad = b;
	memset(bad.host, 'x', sizeof(bad.host));
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);
	bad = b;
	bad.naddrs = NET_ADDRS + 1;
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);
	bad = b;
	memset(bad.params, 'x', sizeof(bad.params));
	assert_int_equal(contact_agree(&a, &bad), TUTTI_EMISMATCH);

	contact_self(&b, 2, 4, "elsewhere");
	assert_memory_not_equal(a.host_hint, b.host_hint, sizeof(a.host_hint));
	assert_string_equal(b.host, "elsewhere");
}

int main(void)
{
#define with_doors(test) cmocka_unit_test_setup_teardown(test, open_all, close_all)
	const struct CMUnitTest tests[] = {
	        with_doors(test_connections_meet),
	        with_doors(test_a_handler_gets_what_comes_and_what_came),
	        with_doors(test_wrong_secret),
	        with_doors(test_wrong_size_rank_and_job),
	        with_doors(test_all_addresses_are_tried_and_named),
	        with_doors(test_without_a_secret_only_loopback),
	        with_doors(test_a_silent_address_delays_nobody),
	        with_doors(test_silence_is_told_from_a_stopped_process),
	        with_doors(test_an_interface_that_leads_nowhere_is_said),
	        with_doors(test_garbage_is_dropped_at_once),
	        with_doors(test_ten_thousand_strangers),
	        with_doors(test_slow_ones_make_room),
	        with_doors(test_ranks_get_through_a_crowd),
	        cmocka_unit_test(test_out_of_descriptors),
	        with_doors(test_a_descriptor_is_given),
	        with_doors(test_asked_before_given),
	        with_doors(test_descriptors_go_over_local_sockets_only),
	        with_doors(test_a_local_socket_proves_one_host),
	        with_doors(test_a_forked_child_does_no_harm),
	        with_doors(test_every_byte_of_the_handshake_counts),
	        with_doors(test_keys_of_a_session),
	        with_doors(test_a_share_of_nothing),
	        with_doors(test_an_echo_is_no_answer),
	        with_doors(test_contacts_agree_or_say_why_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
