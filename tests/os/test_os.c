/* SPDX-License-Identifier: MIT */
/*
 * The contract of src/os/os.h, tested on the file of this system: each test is a sentence of the header. A feature that
 * a system may lack is skipped if the system reports that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS   UINT64_C(1000000)
#define LONG (30000 * MS) /* longer than anything takes that works */

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void test_clock(void **state)
{
	uint64_t first = os_clock_ns(), last = first, least = UINT64_MAX;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t now = os_clock_ns();
		assert_true(now >= last);
		if (now > last && now - last < least)
			least = now - last;
		last = now;
	}
	assert_true(last > first);
	assert_true(least < 1000);
}

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

static void test_sleep_ends(void **state)
{
	_Atomic uint32_t word = 1;
	uint64_t begin = os_clock_ns();

	(void)state;
	os_sleep_on(&word, 2, LONG, OS_PROCESS); /* it holds another value */
	os_sleep_on(&word, 2, LONG, OS_HOST);
	assert_true(os_clock_ns() - begin < LONG);
	for (int reach = OS_PROCESS; reach <= OS_HOST; reach++) {
		begin = os_clock_ns();
		for (int i = 0; i < 1000 && os_clock_ns() - begin < 2 * MS; i++)
			os_sleep_on(&word, 1, 2 * MS, (enum os_reach)reach);
		assert_true(os_clock_ns() - begin >= 2 * MS); /* a sleep that always returns at once is not a sleep */
	}
	os_wake(&word, OS_PROCESS);
	os_wake(&word, OS_HOST);
}

struct turns {
	_Atomic uint32_t *word;
	enum os_reach reach;
	uint32_t me, n;
};

/* Two sides count up in turn, the one at even numbers, the other one at odd ones, and sleep until it is their turn. */
static void *take_turns(void *arg)
{
	struct turns *t = arg;

	for (uint32_t at; (at = atomic_load_explicit(t->word, memory_order_acquire)) < t->n;) {
		if (at % 2 != t->me) {
			os_sleep_on(t->word, at, LONG, t->reach);
			continue;
		}
		atomic_store_explicit(t->word, at + 1, memory_order_release);
		os_wake(t->word, t->reach);
	}
	return NULL;
}

static void test_no_wake_is_lost(void **state)
{
	_Atomic uint32_t word = 0;
	struct turns a = {&word, OS_PROCESS, 0, 5000}, b = {&word, OS_PROCESS, 1, 5000};
	uint64_t begin = os_clock_ns();
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, take_turns, &b), 0);
	take_turns(&a);
	pthread_join(thread, NULL);
	assert_true(os_clock_ns() - begin < LONG);
}

static void *sleep_until_set(void *arg)
{
	_Atomic uint32_t *word = arg;

	while (!atomic_load_explicit(word, memory_order_acquire))
		os_sleep_on(word, 0, LONG, OS_PROCESS);
	return NULL;
}

static void test_wakes_all(void **state)
{
	_Atomic uint32_t word = 0;
	pthread_t thread[8];
	uint64_t begin = os_clock_ns();

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleep_until_set, &word), 0);
	os_sleep_on(&word, 0, 20 * MS, OS_PROCESS);
	atomic_store_explicit(&word, 1, memory_order_release);
	os_wake(&word, OS_PROCESS);
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	assert_true(os_clock_ns() - begin < LONG);
}

static void test_preemptions(void **state)
{
	long before = os_preemptions();

	(void)state;
	assert_true(before >= 0);
	assert_true(os_preemptions() >= before);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

#define MOST 200

static bool is_readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

/* What the queue tells within ms, of tag: -1 if it does not tell of it. */
static int told(int queue, uint64_t tag, int ms)
{
	struct os_ready r[MOST];
	int n = os_queue_wait(queue, r, MOST, ms);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++)
		if (r[i].tag == tag)
			return (int)r[i].events;
	return -1;
}

static int open_queue(void)
{
	int queue = os_queue_open();

	assert_true(queue >= 0);
	assert_int_equal(fcntl(queue, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	return queue;
}

static void make_pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	fcntl(sv[1], F_SETFL, O_NONBLOCK);
}

static void watch(int queue, int fd, unsigned was, unsigned events, uint64_t tag)
{
	assert_int_equal(os_queue_watch(queue, fd, was, events, tag), 0);
}

static void test_queue_tells(void **state)
{
	const uint64_t tag = UINT64_C(0xfedcba9876543210);
	int queue = open_queue(), sv[2];
	char byte;

	(void)state;
	make_pair(sv);
	assert_int_equal(told(queue, tag, 0), -1);
	watch(queue, sv[0], 0, OS_READ, tag);
	assert_int_equal(told(queue, tag, 0), -1);
	assert_false(is_readable(queue, 0));
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(told(queue, tag, 20000), OS_READ);
	assert_int_equal(told(queue, tag, 0), OS_READ); /* again while it stays so */
	assert_true(is_readable(queue, 0));
	assert_int_equal(read(sv[0], &byte, 1), 1);
	assert_int_equal(told(queue, tag, 0), -1);
	watch(queue, sv[0], OS_READ, OS_READ | OS_WRITE, 7); /* another tag, ready already */
	assert_int_equal(told(queue, 7, 20000), OS_WRITE);
	watch(queue, sv[0], OS_READ | OS_WRITE, OS_READ, 7);
	assert_int_equal(told(queue, 7, 0), -1);
	watch(queue, sv[0], OS_READ, 0, 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(told(queue, 7, 0), -1);
	watch(queue, sv[0], 0, OS_READ, 8); /* ready before it was watched */
	assert_int_equal(told(queue, 8, 20000), OS_READ);
	close(sv[0]);
	assert_int_equal(told(queue, 8, 0), -1); /* it left by itself */
	close(sv[1]);
	close(queue);
}

static void test_queue_tells_of_the_end(void **state)
{
	int queue = open_queue(), sv[2];
	char byte;

	(void)state;
	make_pair(sv);
	watch(queue, sv[0], 0, OS_READ, 1);
	close(sv[1]);
	assert_true(told(queue, 1, 20000) & OS_READ);
	assert_int_equal(read(sv[0], &byte, 1), 0);
	close(sv[0]);
	close(queue);
}

static void test_queue_tells_once(void **state)
{
	const unsigned once = OS_READ | OS_ONCE;
	int queue = open_queue(), event = os_event_open(), other;

	(void)state;
	os_event_raise(event);
	watch(queue, event, 0, once, 5);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(told(queue, 5, 20000), OS_READ);
		assert_int_equal(told(queue, 5, 0), -1);
		watch(queue, event, once, once, 5);
	}
	close(event);
	assert_int_equal(os_queue_watch(queue, event, once, once, 5), -1); /* it is gone */
	other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(other, event); /* another file under its number */
	assert_int_equal(os_queue_watch(queue, event, once, once, 5), -1);
	assert_int_equal(os_queue_watch(other, other, once, once, 5), -1); /* no queue */
	assert_int_equal(os_queue_wait(other, &(struct os_ready){0}, 1, 0), -1);
	close(other);
	close(queue);
}

static void test_queue_of_many(void **state)
{
	int queue = open_queue(), outer = open_queue(), event[MOST], seen = 0;
	bool heard[MOST] = {false};
	struct os_ready r[10];

	(void)state;
	watch(outer, queue, 0, OS_READ, 1);
	assert_int_equal(told(outer, 1, 0), -1);
	for (int i = 0; i < MOST; i++) {
		event[i] = os_event_open();
		os_event_raise(event[i]);
		watch(queue, event[i], 0, OS_READ, (uint64_t)i);
	}
	assert_int_equal(told(outer, 1, 20000), OS_READ); /* a queue in a queue */
	for (int n; (n = os_queue_wait(queue, r, 10, 0)) > 0 && seen < MOST;)
		for (int i = 0; i < n; i++) {
			assert_false(heard[r[i].tag]);
			heard[r[i].tag] = true;
			os_event_clear(event[r[i].tag]);
			seen++;
		}
	assert_int_equal(seen, MOST);
	assert_int_equal(os_queue_wait(queue, r, 10, 0), 0);
	assert_int_equal(told(outer, 1, 0), -1);
	for (int i = 0; i < MOST; i++)
		close(event[i]);
	close(outer);
	close(queue);
}

static void *raise_late(void *arg)
{
	usleep(20000);
	os_event_raise(*(int *)arg);
	return NULL;
}

static void test_queue_waits(void **state)
{
	int queue = open_queue(), event = os_event_open();
	uint64_t begin = os_clock_ns();
	pthread_t thread;

	(void)state;
	watch(queue, event, 0, OS_READ, 3);
	assert_int_equal(told(queue, 3, 5), -1);
	assert_true(os_clock_ns() - begin >= 4 * MS);
	assert_int_equal(pthread_create(&thread, NULL, raise_late, &event), 0);
	assert_int_equal(told(queue, 3, -1), OS_READ);
	pthread_join(thread, NULL);
	close(event);
	close(queue);
}

static void *wait_for_ever(void *arg)
{
	(void)os_queue_wait(*(int *)arg, &(struct os_ready){0}, 1, -1);
	return NULL;
}

static void test_queue_can_be_cancelled(void **state)
{
	int queue = open_queue();
	pthread_t thread;
	void *result;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, &queue), 0);
	pthread_cancel(thread);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	close(queue);
}

static void test_event(void **state)
{
	int event = os_event_open();

	(void)state;
	assert_true(event >= 0);
	assert_int_equal(fcntl(event, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_false(is_readable(event, 0));
	os_event_clear(event); /* of what is not raised: nothing, at once */
	for (int i = 0; i < 3; i++)
		os_event_raise(event);
	assert_true(is_readable(event, 20000));
	os_event_clear(event); /* once for all */
	assert_false(is_readable(event, 0));
	close(event);
}

static void test_timer(void **state)
{
	int timer = os_timer_open(), queue = open_queue();
	bool rested = false;

	(void)state;
	assert_true(timer >= 0);
	assert_int_equal(fcntl(timer, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	watch(queue, timer, 0, OS_READ, 9);
	assert_int_equal(told(queue, 9, 0), -1);
	os_timer_set(timer, MS);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(told(queue, 9, 20000), OS_READ);
		assert_true(is_readable(timer, 0)); /* until it is told to rest */
		os_timer_rest(timer);
	}
	os_timer_set(timer, 100 * MS);
	for (int i = 0; i < 100 && !rested; i++) { /* a busy machine may come back only after the next tick */
		assert_true(is_readable(timer, 20000));
		os_timer_rest(timer);
		rested = !is_readable(timer, 0);
	}
	assert_true(rested);
	assert_true(is_readable(timer, 20000));
	os_timer_set(timer, 0);
	assert_false(is_readable(timer, 5));
	assert_int_equal(told(queue, 9, 0), -1);
	os_timer_set(timer, LONG);
	os_timer_rest(timer); /* of what has not ticked: nothing, at once */
	assert_false(is_readable(timer, 0));
	close(timer);
	close(queue);
}

/* ---- memory that processes share --------------------------------------------------------------------------------- */

#define MEM ((size_t)1 << 20)

static unsigned char *map_shared(int fd)
{
	unsigned char *p = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void assert_all(const unsigned char *p, size_t bytes, unsigned char value)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(p[i], value);
}

static void test_shared_memory(void **state)
{
	const int64_t page = sysconf(_SC_PAGESIZE);
	int fd = os_shared_open(MEM - 100);
	unsigned char *a, *b;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_true(os_shared_length(fd) >= (int64_t)MEM - 100);
	assert_true(os_shared_length(fd) < (int64_t)MEM - 100 + page);
	assert_int_equal(os_shared_length(fd) % page, 0);
	a = map_shared(fd);
	b = map_shared(fd);
	assert_int_equal(os_shared_commit(fd, 0, MEM), 0);
	assert_all(b, MEM, 0);
	memset(a, 7, MEM);
	assert_all(b, MEM, 7);
	if (os_shared_release(fd, MEM / 4, MEM / 2) == 0)
		assert_all(b + MEM / 4, MEM / 2, 0);
	else
		assert_all(b + MEM / 4, MEM / 2, 7);
	assert_all(b, MEM / 4, 7);
	assert_all(b + MEM * 3 / 4, MEM / 4, 7);
	munmap(a, MEM);
	munmap(b, MEM);
	close(fd);
}

static void test_shared_length_is_for_good(void **state)
{
	int fd = os_shared_open(MEM), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	FILE *file = tmpfile();

	(void)state;
	assert_int_not_equal(ftruncate(fd, (off_t)MEM / 2), 0);
	assert_int_not_equal(ftruncate(fd, (off_t)MEM * 2), 0);
	assert_int_equal(os_shared_length(fd), MEM);
	assert_int_equal(os_shared_length(null), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ftruncate(fileno(file), (off_t)MEM), 0);
	assert_int_equal(os_shared_length(fileno(file)), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(os_shared_length(-1), -1);
	fclose(file);
	close(null);
	close(fd);
}

/* A child's status: 0 when `fn` said true. */
static int in_child(bool (*fn)(void))
{
	pid_t pid = fork();
	int status = -1;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn() ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool fails_at_a_limit(void)
{
	struct rlimit limit = {MEM / 2, MEM / 2};

	return setrlimit(RLIMIT_FSIZE, &limit) == 0 && (os_shared_open(MEM) >= 0 || errno == EFBIG);
}

static void test_shared_memory_beyond_a_limit(void **state)
{
	(void)state;
	assert_int_equal(in_child(fails_at_a_limit), 0);
}

static void test_shared_memory_is_sparse(void **state)
{
	int fd = os_shared_open((size_t)1 << 40); /* no machine has so much */
	unsigned char *p = mmap(NULL, (size_t)1 << 40, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)state;
	if (fd < 0 || p == MAP_FAILED)
		skip(); /* a limit of this process */
	p[(size_t)1 << 39] = 1;
	munmap(p, (size_t)1 << 40);
	close(fd);
}

static void test_private_release(void **state)
{
	unsigned char *p = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int done;

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 7, MEM);
	done = os_private_release(p + MEM / 4, MEM / 2);
	assert_all(p + MEM / 4, MEM / 2, done == 0 ? 0 : 7);
	assert_all(p, MEM / 4, 7);
	assert_all(p + MEM * 3 / 4, MEM / 4, 7);
	memset(p, 7, MEM);
	assert_int_equal(os_private_release(p + MEM / 4, 100), -1); /* not whole pages */
	assert_int_equal(os_private_release(p + MEM / 4 + 8, MEM / 2), -1);
	assert_all(p, MEM, 7);
	munmap(p, MEM);
}

/* Room for one descriptor, aligned as its header wants. */
union carrier {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr message(struct iovec *byte, union carrier *c)
{
	return (struct msghdr){
	        .msg_iov = byte, .msg_iovlen = 1, .msg_control = c->room, .msg_controllen = sizeof(c->room)};
}

static void test_shared_memory_is_handed_over(void **state)
{
	int fd = os_shared_open(MEM), got, sv[2];
	char text = 'x';
	struct iovec byte = {&text, 1};
	union carrier c = {.room = {0}};
	struct msghdr m = message(&byte, &c);
	unsigned char *a = map_shared(fd), *b;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(os_receive_message(sv[1], &m), -1); /* it does not wait */
	assert_int_equal(errno, EAGAIN);
	m = message(&byte, &c);
	c.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(&c.head), &fd, sizeof(int));
	assert_int_equal(sendmsg(sv[0], &m, 0), 1);
	close(fd);
	memset(&c, 0, sizeof(c));
	m = message(&byte, &c);
	assert_int_equal(os_receive_message(sv[1], &m), 1);
	assert_non_null(CMSG_FIRSTHDR(&m));
	memcpy(&got, CMSG_DATA(&c.head), sizeof(int));
	assert_int_equal(fcntl(got, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(os_shared_length(got), MEM);
	b = map_shared(got);
	a[5] = 9;
	assert_int_equal(b[5], 9);
	munmap(a, MEM);
	munmap(b, MEM);
	close(got);
	close(sv[0]);
	close(sv[1]);
}

static volatile unsigned char theirs[100];

static void test_read_process(void **state)
{
	unsigned char got[sizeof(theirs)] = {0};
	int sv[2], status;
	ssize_t n;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		memset((unsigned char *)(uintptr_t)theirs, 42, sizeof(theirs));
		close(sv[0]);
		_exit(write(sv[1], "x", 1) == 1 && read(sv[1], &byte, 1) == 0 ? 0 : 1);
	}
	close(sv[1]);
	assert_int_equal(read(sv[0], &byte, 1), 1); /* it has written */
	n = os_read_process(pid, (uint64_t)(uintptr_t)theirs, got, sizeof(got));
	if (n >= 0) {
		assert_int_equal(n, sizeof(got));
		assert_all(got, sizeof(got), 42);
		assert_int_equal(os_read_process(pid, 8, got, 8), -1);
		assert_int_equal(errno, EFAULT);
		assert_int_equal(os_read_process(pid, (uint64_t)(uintptr_t)theirs, NULL, 8), -1);
		assert_int_equal(errno, EFAULT);
	}
	close(sv[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(os_read_process(pid, (uint64_t)(uintptr_t)theirs, got, sizeof(got)), -1);
	if (n < 0)
		skip(); /* this system or container forbids it */
	assert_int_equal(errno, ESRCH);
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

static void test_peer(void **state)
{
	int sv[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), tcp = socket(AF_INET, SOCK_STREAM, 0);
	pid_t pid = -1;
	uid_t uid = (uid_t)-2;

	(void)state;
	make_pair(sv);
	assert_true(os_peer(sv[0], &pid, &uid));
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, geteuid());
	assert_false(os_peer(null, &pid, &uid));
	assert_false(tcp >= 0 && os_peer(tcp, &pid, &uid));
	close(sv[0]);
	close(sv[1]);
	close(null);
	if (tcp >= 0)
		close(tcp);
}

static void test_process_ends(void **state)
{
	int fd, late, queue = open_queue();
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	fd = os_process_open(pid);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_false(is_readable(fd, 0));
	watch(queue, fd, 0, OS_READ, 4);
	assert_int_equal(told(queue, 4, 0), -1);
	kill(pid, SIGKILL);
	assert_true(is_readable(fd, 20000)); /* nobody has waited for it yet */
	assert_true(is_readable(fd, 0));
	assert_int_equal(told(queue, 4, 20000), OS_READ);
	late = os_process_open(pid);
	assert_true(late >= 0 ? is_readable(late, 20000) : errno == ESRCH);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(is_readable(fd, 0));
	assert_int_equal(os_process_open(pid), -1);
	assert_int_equal(errno, ESRCH);
	if (late >= 0)
		close(late);
	close(fd);
	close(queue);
}

static int life[2]; /* a pipe that is open as long as somebody lives */

static bool leave_a_child(void)
{
	char byte;
	int ready[2];

	if (pipe(ready) < 0)
		return false;
	if (fork() == 0) {
		int rc = os_end_with_parent();
		(void)!write(ready[1], rc == 0 ? "y" : "n", 1);
		if (rc == 0)
			pause();
		_exit(0);
	}
	return read(ready[0], &byte, 1) == 1 && byte == 'y';
}

static void test_ends_with_parent(void **state)
{
	int status;

	(void)state;
	assert_int_equal(pipe(life), 0);
	status = in_child(leave_a_child);
	close(life[1]);
	assert_true(is_readable(life[0], 20000)); /* the end: all have ended */
	close(life[0]);
	if (status)
		skip(); /* this system does not do it */
}

static ino_t own_file;

static void test_program_path(void **state)
{
	char path[4096], little[4];
	struct stat st;

	(void)state;
	if (!os_program_path(path, sizeof(path)))
		skip();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_ino, own_file);
	assert_false(os_program_path(little, sizeof(little)));
}

static char host[128], clock_text[128];
static size_t host_length, clock_length;
static uint64_t space;

static bool is_where_its_parent_is(void)
{
	char text[sizeof(host)];

	char clock[sizeof(host)];

	return os_clock_text(clock, sizeof(clock)) == clock_length && memcmp(clock, clock_text, clock_length) == 0 &&
	       os_process_space() == space && os_host_text(text, sizeof(text)) == host_length &&
	       memcmp(text, host, host_length) == 0;
}

static void test_host_and_space(void **state)
{
	(void)state;
	space = os_process_space();
	host_length = os_host_text(host, sizeof(host));
	clock_length = os_clock_text(clock_text, sizeof(clock_text));
	assert_true(clock_length <= sizeof(clock_text));
	assert_true(host_length <= sizeof(host));
	assert_int_equal(in_child(is_where_its_parent_is), 0);
}

static void test_signals(void **state)
{
	bool seen[2] = {false};
	sigset_t set, old;
	int fd, sig;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &old);
	fd = os_signals_open(&set);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_false(is_readable(fd, 0));
	assert_int_equal(os_signals_next(fd), 0); /* it does not wait */
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR2);
	assert_true(is_readable(fd, 20000));
	while ((sig = os_signals_next(fd))) {
		assert_true(sig == SIGUSR1 || sig == SIGUSR2);
		seen[sig == SIGUSR2] = true;
	}
	assert_true(seen[0] && seen[1]);
	assert_false(is_readable(fd, 0));
	close(fd);
	signal(SIGUSR1, SIG_IGN); /* drops what a system may still hold */
	signal(SIGUSR2, SIG_IGN);
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
}

static void test_error_text(void **state)
{
	char buf[100];

	(void)state;
	assert_string_equal(os_error_text(ENOENT, buf, sizeof(buf)), strerror(ENOENT));
	assert_true(os_error_text(99999, buf, sizeof(buf))[0]);
}

/* ---- sockets and pipes ------------------------------------------------------------------------------------------- */

static bool waits(int fd)
{
	return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static bool ends_with_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static void close_both(int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

/* Sending into a socket whose other side has closed is an error, and not a signal, which would end this test. */
static void assert_breaks_silently(int sock)
{
	ssize_t n;

	for (int i = 0; i < 2000 && (n = send(sock, "x", 1, OS_NO_SIGNAL | MSG_DONTWAIT)) >= 0; i++)
		usleep(1000); /* a reset takes its time */
	assert_int_equal(n, -1);
	assert_true(errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN);
	n = send(sock, "x", 1, OS_NO_SIGNAL | MSG_DONTWAIT);
	assert_int_equal(n, -1);
}

static void test_tcp_sockets(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = os_socket(AF_INET, SOCK_STREAM), a = os_socket(AF_INET, SOCK_STREAM), b, on = 0;
	socklen_t len = sizeof(at), one = sizeof(on);
	char text[6];

	(void)state;
	assert_true(listener >= 0 && a >= 0);
	assert_true(ends_with_exec(a) && !waits(a));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(os_accept(listener), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(connect(a, (struct sockaddr *)&at, sizeof(at)) == 0 || errno == EINPROGRESS);
	assert_true(is_readable(listener, 20000));
	b = os_accept(listener);
	assert_true(b >= 0 && ends_with_exec(b) && !waits(b));
	os_tcp_keep_alive(a, 5, 1, 127);
	assert_int_equal(getsockopt(a, SOL_SOCKET, SO_KEEPALIVE, &on, &one), 0);
	assert_true(on);
	os_tcp_give_up_after(a, 10);
	assert_int_equal(send(a, "hello", 6, OS_NO_SIGNAL | OS_NO_DELAY), 6);
	assert_true(is_readable(b, 20000));
	assert_int_equal(recv(b, text, sizeof(text), MSG_WAITALL), 6);
	assert_string_equal(text, "hello");
	assert_int_equal(os_tcp_unanswered(a), 0);
	close(a);
	assert_breaks_silently(b);
	close(b);
	close(listener);
}

static void test_tcp_options_of_others(void **state)
{
	int sv[2];

	(void)state;
	make_pair(sv);
	os_tcp_keep_alive(sv[0], 5, 1, 3);
	os_tcp_give_up_after(-1, 5);
	assert_int_equal(os_tcp_unanswered(sv[0]), 0);
	assert_int_equal(os_tcp_unanswered(-1), 0);
	close_both(sv);
}

static void test_pipes_and_pairs(void **state)
{
	int p[2], s[2], m[2];
	char text[100];

	(void)state;
	assert_int_equal(os_pipe(p), 0);
	assert_int_equal(os_stream_pair(s), 0);
	assert_int_equal(os_message_pair(m), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(ends_with_exec(p[i]) && ends_with_exec(s[i]) && ends_with_exec(m[i]));
		assert_true(waits(p[i]) && waits(s[i]) && !waits(m[i]));
	}
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(read(p[0], text, sizeof(text)), 1);
	assert_int_equal(send(m[0], "one", 3, OS_NO_SIGNAL | MSG_DONTWAIT), 3);
	assert_int_equal(send(m[0], "three", 5, OS_NO_SIGNAL | MSG_DONTWAIT), 5);
	assert_int_equal(recv(m[1], text, sizeof(text), 0), 3);
	assert_int_equal(recv(m[1], text, sizeof(text), 0), 5);
	assert_int_equal(recv(m[1], text, sizeof(text), 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(s[1]);
	assert_breaks_silently(s[0]);
	close(m[1]);
	assert_breaks_silently(m[0]);
	close(m[0]);
	close(s[0]);
	close_both(p);
}

static char local[41]; /* as long as a name may be */

static int dial_local(void)
{
	int sock = os_socket(AF_UNIX, SOCK_STREAM);

	if (os_local_connect(sock, local) == 0)
		return sock;
	close(sock);
	return -1;
}

static void test_local_names(void **state)
{
	int listener, a, b, n;
	char long_name[200];
	pid_t pid;
	uid_t uid;

	(void)state;
	n = snprintf(local, sizeof(local), "tutti-test-os-%ld-", (long)getpid());
	memset(local + n, 'x', sizeof(local) - 1 - (size_t)n);
	assert_int_equal(dial_local(), -1);
	listener = os_local_listen(local, 4);
	assert_true(listener >= 0 && ends_with_exec(listener) && !waits(listener));
	assert_int_equal(os_local_listen(local, 4), -1);
	assert_int_equal(errno, EADDRINUSE);
	a = dial_local();
	assert_true(a >= 0);
	assert_true(is_readable(listener, 20000));
	b = os_accept(listener);
	assert_true(b >= 0 && ends_with_exec(b) && !waits(b));
	assert_true(os_peer(b, &pid, &uid));
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, geteuid());
	close(a);
	assert_breaks_silently(b);
	close(b);
	os_local_unlisten(listener);
	close(listener);
	assert_int_equal(dial_local(), -1);
	listener = os_local_listen(local, 4); /* free again */
	assert_true(listener >= 0);
	close(listener); /* as by a process that is killed */
	listener = os_local_listen(local, 4);
	assert_true(listener >= 0);
	os_local_unlisten(listener);
	close(listener);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(os_local_listen(long_name, 4), -1);
	a = os_socket(AF_UNIX, SOCK_STREAM);
	assert_int_equal(os_local_connect(a, long_name), -1);
	close(a);
}

/* ---- this machine ------------------------------------------------------------------------------------------------ */

#define WORDS 64

static void test_cpus(void **state)
{
	uint64_t all[WORDS], one[WORDS] = {0}, now[WORDS], none[WORDS] = {0};
	int first = -1, n = 0;

	(void)state;
	memset(all, 0xff, sizeof(all));
	memset(now, 0xff, sizeof(now));
	if (!os_cpus_allowed(all, WORDS))
		skip();
	for (int i = 0; i < WORDS * 64; i++)
		if (all[i / 64] >> i % 64 & 1) {
			first = first < 0 ? i : first;
			n++;
		}
	assert_true(n >= 1);
	assert_true(n <= sysconf(_SC_NPROCESSORS_CONF));
	one[first / 64] = UINT64_C(1) << first % 64;
	if (os_cpus_bind(one, WORDS)) {
		assert_true(os_cpus_allowed(now, WORDS));
		assert_memory_equal(now, one, sizeof(one));
		assert_false(os_cpus_bind(none, WORDS));
		assert_true(os_cpus_bind(all, WORDS));
		assert_true(os_cpus_allowed(now, WORDS));
		assert_memory_equal(now, all, sizeof(all));
	}
}

static void test_cache(void **state)
{
	(void)state;
	if (!os_cache_bytes())
		skip();
	assert_true(os_cache_bytes() >= 4096);
	assert_true(os_cache_bytes() < os_memory_bytes());
}

static void test_thread_name(void **state)
{
	char name[16];

	(void)state;
	os_thread_name("test-os-thread1");
	assert_int_equal(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
	assert_string_equal(name, "test-os-thread1");
}

static void test_memory_of_the_machine(void **state)
{
	(void)state;
	assert_true(os_memory_bytes() >= (uint64_t)64 << 20);
	assert_true(os_memory_free() <= os_memory_bytes());
}

static unsigned char *pages;

static bool has_pages(void)
{
	int p[2];

	return pipe(p) == 0 && write(p[1], pages, 1) == 1; /* EFAULT: there is nothing */
}

static void test_memory_wishes(void **state)
{
	size_t bytes = (size_t)4 << 20;
	int rc;

	(void)state;
	pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(pages, MAP_FAILED);
	os_memory_not_dumped(pages, bytes);
	os_memory_large_pages(pages, bytes);
	rc = os_memory_from_node(pages, bytes, 0);
	assert_true(rc == 0 || rc == ENOSYS || rc == EPERM);
	assert_int_not_equal(os_memory_from_node(pages, bytes, -1), 0);
	assert_int_not_equal(os_memory_from_node(pages, bytes, 1000000), 0);
	memset(pages, 7, bytes);
	assert_all(pages, bytes, 7);
	assert_int_equal(in_child(has_pages), 0);
	os_memory_not_forked(pages, bytes);
	assert_int_not_equal(in_child(has_pages), 0);
	assert_all(pages, bytes, 7);
	munmap(pages, bytes);
}

static void test_open_files(void **state)
{
	size_t before = os_open_files(), after;
	int fd[20];

	(void)state;
	if (before == 0)
		skip();
	assert_true(before >= 3);
	for (int i = 0; i < 20; i++)
		fd[i] = os_event_open();
	after = os_open_files();
	for (int i = 0; i < 20; i++)
		close(fd[i]);
	assert_true(after >= before + 20);
	assert_int_equal(os_open_files(), before);
}

static bool has_variable(const char *text)
{
	for (char **e = os_environment(); e && *e; e++)
		if (strcmp(*e, text) == 0)
			return true;
	return false;
}

static void test_environment(void **state)
{
	(void)state;
	assert_false(has_variable("TEST_OS=here"));
	setenv("TEST_OS", "here", 1);
	assert_true(has_variable("TEST_OS=here"));
	unsetenv("TEST_OS");
	assert_false(has_variable("TEST_OS=here"));
}

int main(int argc, char **argv)
{
	struct stat st;
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_clock),
	        cmocka_unit_test(test_sleep_ends),
	        cmocka_unit_test(test_no_wake_is_lost),
	        cmocka_unit_test(test_wakes_all),
	        cmocka_unit_test(test_preemptions),
	        cmocka_unit_test(test_queue_tells),
	        cmocka_unit_test(test_queue_tells_of_the_end),
	        cmocka_unit_test(test_queue_tells_once),
	        cmocka_unit_test(test_queue_of_many),
	        cmocka_unit_test(test_queue_waits),
	        cmocka_unit_test(test_queue_can_be_cancelled),
	        cmocka_unit_test(test_event),
	        cmocka_unit_test(test_timer),
	        cmocka_unit_test(test_shared_memory),
	        cmocka_unit_test(test_shared_length_is_for_good),
	        cmocka_unit_test(test_shared_memory_beyond_a_limit),
	        cmocka_unit_test(test_shared_memory_is_sparse),
	        cmocka_unit_test(test_private_release),
	        cmocka_unit_test(test_shared_memory_is_handed_over),
	        cmocka_unit_test(test_read_process),
	        cmocka_unit_test(test_peer),
	        cmocka_unit_test(test_process_ends),
	        cmocka_unit_test(test_ends_with_parent),
	        cmocka_unit_test(test_program_path),
	        cmocka_unit_test(test_host_and_space),
	        cmocka_unit_test(test_signals),
	        cmocka_unit_test(test_error_text),
	        cmocka_unit_test(test_tcp_sockets),
	        cmocka_unit_test(test_tcp_options_of_others),
	        cmocka_unit_test(test_pipes_and_pairs),
	        cmocka_unit_test(test_local_names),
	        cmocka_unit_test(test_cpus),
	        cmocka_unit_test(test_cache),
	        cmocka_unit_test(test_thread_name),
	        cmocka_unit_test(test_memory_of_the_machine),
	        cmocka_unit_test(test_memory_wishes),
	        cmocka_unit_test(test_open_files),
	        cmocka_unit_test(test_environment),
	};
	(void)argc;
	if (stat(argv[0], &st) == 0)
		own_file = st.st_ino;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
