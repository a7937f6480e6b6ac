/* SPDX-License-Identifier: MIT */
/* The service thread: which callbacks are called, when, and for the last time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/service.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
#define TSAN 1
#else
#define TSAN 0
#endif

#define MS UINT64_C(1000000)

static int acquire(void **state)
{
	(void)state;
	return service_acquire();
}

static int release(void **state)
{
	(void)state;
	service_release();
	return 0;
}

static int make_event(void)
{
	int fd = os_event_open();

	assert_true(fd >= 0);
	return fd;
}

static void ring(int fd)
{
	os_event_raise(fd);
}

static void await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 20000), 1);
	os_event_clear(fd);
}

static void watch(int fd, service_fn *fn, void *arg)
{
	service_lock();
	assert_int_equal(service_watch(fd, OS_READ, fn, arg), TUTTI_OK);
	service_unlock();
}

static void unwatch(int fd)
{
	service_lock();
	service_unwatch(fd);
	service_unlock();
}

/* ---- watches ----------------------------------------------------------------------------------------------------- */

struct seen {
	int done; /* rung at the end */
	int fd;
	unsigned events;
	pid_t thread;
	sigset_t blocked;
};

static void see(void *arg, int fd, unsigned events)
{
	struct seen *s = arg;

	service_lock(); /* may be nested */
	os_event_clear(fd);
	s->fd = fd;
	s->events = events;
	s->thread = (pid_t)syscall(SYS_gettid);
	pthread_sigmask(SIG_SETMASK, NULL, &s->blocked);
	service_unlock();
	ring(s->done);
}

static void test_callbacks_run_on_a_thread_that_blocks_signals(void **state)
{
	struct seen s = {.done = make_event()};
	int fd = make_event();

	(void)state;
	watch(fd, see, &s);
	for (int i = 0; i < 3; i++) {
		s.fd = -1;
		ring(fd);
		await(s.done);
		assert_int_equal(s.fd, fd);
		assert_int_equal(s.events, OS_READ);
		assert_int_not_equal(s.thread, getpid());
		assert_true(sigismember(&s.blocked, SIGINT) && sigismember(&s.blocked, SIGTERM));
	}
	unwatch(fd);
	close(fd);
	close(s.done);
}

static void test_rewatching(void **state)
{
	struct seen s = {.done = make_event(), .fd = -1}, other = {.done = make_event()};
	int fd = make_event(), probe = make_event();

	(void)state;
	watch(fd, see, &s);
	watch(probe, see, &other);
	service_lock();
	assert_int_equal(service_rewatch(fd, 0), TUTTI_OK);
	service_unlock();
	ring(fd);
	ring(probe);
	await(other.done);
	service_lock();
	assert_int_equal(s.fd, -1);
	assert_int_equal(service_rewatch(fd, OS_READ), TUTTI_OK);
	service_unlock();
	await(s.done);
	assert_int_equal(s.fd, fd);
	unwatch(fd);
	unwatch(probe);
	close(fd);
	close(probe);
	close(s.done);
	close(other.done);
}

/* Two events that are fetched together: the first one removes the watch of the other. */
struct rivals {
	int fd[2], calls, done;
};

static void win(void *arg, int fd, unsigned events)
{
	struct rivals *r = arg;

	(void)events;
	r->calls++;
	service_unwatch(fd == r->fd[0] ? r->fd[1] : r->fd[0]);
	service_unwatch(fd);
	ring(r->done);
}

static void test_an_event_already_fetched_is_dropped(void **state)
{
	struct rivals r = {.done = make_event()};

	(void)state;
	for (int round = 0; round < 100; round++) {
		r.calls = 0;
		r.fd[0] = make_event();
		r.fd[1] = make_event();
		ring(r.fd[0]);
		ring(r.fd[1]);
		service_lock();
		for (int i = 0; i < 2; i++)
			assert_int_equal(service_watch(r.fd[i], OS_READ, win, &r), TUTTI_OK);
		service_unlock();
		await(r.done);
		service_lock();
		assert_int_equal(r.calls, 1);
		service_unlock();
		close(r.fd[0]);
		close(r.fd[1]);
	}
	close(r.done);
}

struct guarded {
	bool alive;
	int wrong, calls;
};

static void touch(void *arg, int fd, unsigned events)
{
	struct guarded *g = arg;

	(void)fd;
	(void)events;
	g->calls++;
	g->wrong += !g->alive;
}

/* The descriptor stays readable, so the thread calls on and on; and none of its calls may follow an unwatch. */
static void test_no_call_after_unwatch(void **state)
{
	struct guarded g = {.alive = false};
	int fd = make_event(), called = 0;

	(void)state;
	ring(fd);
	for (int i = 0; i < 3000; i++) {
		service_lock();
		g.alive = true;
		assert_int_equal(service_watch(fd, OS_READ, touch, &g), TUTTI_OK);
		service_unlock();
		while (i % 100 == 0 && !called) {
			service_lock();
			called = g.calls;
			service_unlock();
		}
		service_lock();
		service_unwatch(fd);
		g.alive = false;
		service_unlock();
	}
	service_lock();
	assert_int_equal(g.wrong, 0);
	assert_true(g.calls > 0);
	service_unlock();
	close(fd);
}

/* ---- timers ------------------------------------------------------------------------------------------------------ */

struct log {
	int done, n, order[8];
	uint64_t due[8];
};

struct mark {
	struct log *log;
	int id;
};

static void note(void *arg)
{
	struct mark *m = arg;

	if (now_ns() >= m->log->due[m->id])
		m->log->order[m->log->n++] = m->id;
	if (m->id == 4)
		ring(m->log->done);
}

static void test_timers_in_order(void **state)
{
	static const int after_ms[] = {30, 10, 20, 15, 40};
	struct log l = {.done = make_event()};
	struct mark m[5];

	(void)state;
	service_lock();
	for (int i = 0; i < 5; i++) {
		m[i] = (struct mark){.log = &l, .id = i};
		l.due[i] = now_ns() + (uint64_t)after_ms[i] * MS;
		assert_int_equal(service_at(l.due[i], note, &m[i]), TUTTI_OK);
	}
	service_cancel(note, &m[2]);
	service_unlock();
	await(l.done);
	service_lock();
	assert_int_equal(l.n, 4);
	assert_int_equal(l.order[0], 1);
	assert_int_equal(l.order[1], 3);
	assert_int_equal(l.order[2], 0);
	assert_int_equal(l.order[3], 4);
	service_unlock();
	close(l.done);
}

struct ticker {
	int left, done;
};

static void tick(void *arg)
{
	struct ticker *t = arg;

	if (--t->left == 0)
		ring(t->done);
	else if (service_at(now_ns() + MS, tick, t) != TUTTI_OK)
		abort();
}

/* The thread sleeps without end; a nearer timer must wake it. */
static void test_a_timer_sets_itself(void **state)
{
	struct ticker t = {.left = 20, .done = make_event()}, far = {.left = 1, .done = t.done};

	(void)state;
	service_lock();
	assert_int_equal(service_at(now_ns() + 3600000 * MS, tick, &far), TUTTI_OK);
	service_unlock();
	service_lock();
	assert_int_equal(service_at(now_ns(), tick, &t), TUTTI_OK);
	service_unlock();
	await(t.done);
	assert_int_equal(far.left, 1);
	close(t.done);
}

/* ---- its life ---------------------------------------------------------------------------------------------------- */

/* Service threads of this process. */
static int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	for (struct dirent *e; (e = readdir(d));) {
		char path[300], name[32] = "";
		FILE *f;
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		n += fgets(name, sizeof(name), f) && strcmp(name, "tutti-service\n") == 0;
		fclose(f);
	}
	closedir(d);
	return n;
}

/* A thread has its name a moment after it began, and one that was joined may still be listed for an instant. */
static void await_threads(int n)
{
	uint64_t until = now_ns() + 20000 * MS;

	while (threads() != n)
		assert_true(now_ns() < until);
}

static void test_the_thread_lives_as_long_as_its_users(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		assert_int_equal(service_acquire(), TUTTI_OK);
		assert_int_equal(service_acquire(), TUTTI_OK);
		await_threads(1);
		service_release();
		assert_int_equal(threads(), 1);
		service_release();
		await_threads(0);
	}
}

static long switches(pid_t thread)
{
	char path[64], line[128];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)thread);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	fclose(f);
	return n;
}

static void test_idle_costs_nothing(void **state)
{
	struct seen s = {.done = make_event()};
	int fd = make_event();
	struct pollfd nothing = {.fd = -1};
	uint64_t until;
	long before;

	(void)state;
	watch(fd, see, &s);
	ring(fd);
	await(s.done);
	/* It goes to sleep after that call, as soon as it gets a processor; from then on it must not move. */
	until = now_ns() + 20000 * MS;
	do {
		assert_true(now_ns() < until);
		before = switches(s.thread);
		poll(&nothing, 1, 300);
	} while (switches(s.thread) != before);
	unwatch(fd);
	close(fd);
	close(s.done);
}

static void test_a_forked_child_starts_afresh(void **state)
{
	unsigned forks = service_forks;
	struct guarded g = {.alive = true};
	int fd = make_event(), status;
	pid_t pid;

	(void)state;
	if (TSAN) {
		print_message("the thread sanitizer allows no threads in the child of a process with threads\n");
		skip();
	}
	watch(fd, touch, &g);
	service_lock(); /* the child must not wait for the parent's locks */
	pid = fork();
	if (pid == 0) {
		struct ticker t = {.left = 3, .done = make_event()};
		if (service_forks != forks + 1 || service_acquire() != TUTTI_OK)
			_exit(1);
		service_lock();
		tick(&t);
		service_unlock();
		await(t.done);
		service_release();
		_exit(0);
	}
	service_unlock();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ring(fd);
	for (bool called = false; !called;) { /* the parent's watch is still there */
		service_lock();
		called = g.calls > 0;
		service_unlock();
	}
	unwatch(fd);
	close(fd);
}

int main(void)
{
#define served(test) cmocka_unit_test_setup_teardown(test, acquire, release)
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_the_thread_lives_as_long_as_its_users),
	        served(test_callbacks_run_on_a_thread_that_blocks_signals),
	        served(test_rewatching),
	        served(test_an_event_already_fetched_is_dropped),
	        served(test_no_call_after_unwatch),
	        served(test_timers_in_order),
	        served(test_a_timer_sets_itself),
	        served(test_idle_costs_nothing),
	        served(test_a_forked_child_starts_afresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
