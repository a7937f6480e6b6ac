/* SPDX-License-Identifier: MIT */
/*
 * The imaginary Darwin refuses what macOS refuses: each test is a thing that Linux would do. What compiles under darwin.h but
 * must not is in suite.sh.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <crt_externs.h>
#include <errno.h>
#include <libproc.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <mach/mach_time.h>
#include <mach/mach_vm.h>
#include <os/os_sync_wait_on_address.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/sysctl.h>
#include <sys/ucred.h>
#include <sys/un.h>

#define PAGE 16384u
#define SEEN 20000 /* milliseconds: longer than anything takes that works */

#define assert_refused(error, call)                                                                                    \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		assert_true((call) < 0);                                                                               \
		assert_int_equal(errno, error);                                                                        \
	} while (0)

/* Status of a child that calls fn: 0 when that was true. */
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

static void local_pair(int type, int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, type, 0, sv), 0);
}

static void close_pair(int sv[2])
{
	close(sv[0]);
	close(sv[1]);
}

/* ---- kqueue ------------------------------------------------------------------------------------------------------ */

static int queue;

static int open_queue(void **state)
{
	(void)state;
	queue = kqueue();
	return queue < 0;
}

static int close_queue(void **state)
{
	(void)state;
	close(queue);
	queue = -1;
	return 0;
}

static int change(int ident, int filter, int flags, uint32_t fflags, intptr_t data, void *udata)
{
	struct kevent k;

	EV_SET(&k, ident, filter, flags, fflags, data, udata);
	return kevent(queue, &k, 1, NULL, 0, NULL);
}

static int wait_for(struct kevent *k, int n, int ms)
{
	return kevent(queue, NULL, 0, k, n, &(struct timespec){ms / 1000, ms % 1000 * 1000000L});
}

static bool polls(int fd)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static void test_filters_are_apart(void **state)
{
	int sv[2], tags[2];
	struct kevent k[4];

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_refused(ENOENT, change(sv[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL));
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ADD, 0, 0, &tags[0]), 0);
	assert_refused(ENOENT, change(sv[0], EVFILT_WRITE, EV_DELETE, 0, 0, NULL));
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_false(polls(queue));
	assert_int_equal(change(sv[0], EVFILT_WRITE, EV_ADD, 0, 0, &tags[1]), 0);
	assert_int_equal(write(sv[1], "hello", 5), 5);
	assert_true(polls(queue));
	assert_int_equal(wait_for(k, 4, SEEN), 2); /* two events of one descriptor */
	for (int i = 0; i < 2; i++) {
		bool reads = k[i].filter == EVFILT_READ;

		assert_int_equal(k[i].ident, sv[0]);
		assert_ptr_equal(k[i].udata, &tags[!reads]);
		assert_int_equal(k[i].flags & (EV_EOF | EV_ERROR), 0);
		if (reads)
			assert_int_equal(k[i].data, 5);
	}
	assert_int_equal(wait_for(k, 1, SEEN), 1); /* what finds no room comes next time */
	assert_int_equal(change(sv[0], EVFILT_READ, EV_DISABLE, 0, 0, &tags[0]), 0);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(k[0].filter, EVFILT_WRITE);
	assert_int_equal(change(sv[0], EVFILT_WRITE, EV_DELETE, 0, 0, NULL), 0);
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ENABLE, 0, 0, &tags[1]), 0);
	close(sv[1]);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(k[0].flags & EV_EOF, EV_EOF);
	assert_int_equal(k[0].data, 5); /* the end, with bytes before it */
	close(sv[0]);
	assert_int_equal(wait_for(k, 4, 0), 0);
}

static void test_once_dispatch_and_clear(void **state)
{
	int sv[2];
	struct kevent k[4];

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ADD | EV_ONESHOT, 0, 0, NULL), 0);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_refused(ENOENT, change(sv[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL)); /* it has gone */
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ADD | EV_DISPATCH, 0, 0, NULL), 0);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_false(polls(queue));
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL), 0); /* it was only disabled */
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(change(sv[0], EVFILT_READ, EV_DELETE, 0, 0, NULL), 0);
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(wait_for(k, 4, 0), 0); /* until something new comes */
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	assert_int_equal(k[0].data, 2);
	close_pair(sv);
}

static void test_a_number_leaves_by_close(void **state)
{
	int sv[2], copy, other;
	struct kevent k[4];

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_int_equal(change(sv[0], EVFILT_READ, EV_ADD, 0, 0, NULL), 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	copy = dup(sv[0]);
	close(sv[0]); /* the copy keeps the file open, and is not watched */
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_refused(EBADF, change(sv[0], EVFILT_READ, EV_ADD, 0, 0, NULL));
	assert_refused(EBADF, change(sv[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL));
	assert_int_equal(change(copy, EVFILT_READ, EV_ADD, 0, 0, NULL), 0);
	other = open("/dev/null", O_RDONLY);
	assert_int_equal(other, sv[0]);
	assert_int_equal(dup2(other, copy), copy); /* so does another file that takes its number */
	assert_int_equal(wait_for(k, 4, 0), 0);
	assert_refused(ENOENT, change(copy, EVFILT_READ, EV_ENABLE, 0, 0, NULL));
	assert_int_equal(change(other, EVFILT_READ, EV_ADD, 0, 0, NULL), 0); /* a device that never waits */
	assert_int_equal(wait_for(k, 4, SEEN), 1);
	close(other);
	close(copy);
	close(sv[1]);
}

static void test_user_filter(void **state)
{
	struct kevent k[2];

	(void)state;
	assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
	assert_int_equal(change(2, EVFILT_USER, EV_ADD, 0, 0, NULL), 0);
	assert_false(polls(queue));
	for (int i = 0; i < 3; i++)
		assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
	assert_true(polls(queue));
	assert_int_equal(wait_for(k, 2, SEEN), 1); /* once for all */
	assert_int_equal(k[0].ident, 1);
	assert_int_equal(k[0].filter, EVFILT_USER);
	assert_int_equal(wait_for(k, 2, 0), 0);
	assert_int_equal(change(2, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(wait_for(k, 2, SEEN), 1); /* without EV_CLEAR it stays */
	assert_refused(ENOENT, change(3, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL));
}

static void test_timer_filter(void **state)
{
	struct kevent k;

	(void)state;
	assert_int_equal(change(7, EVFILT_TIMER, EV_ADD, NOTE_NSECONDS, 1000000, NULL), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wait_for(&k, 1, SEEN), 1);
		assert_true(k.data >= 1); /* how often */
		assert_int_equal(k.ident, 7);
	}
	usleep(20000);
	assert_true(polls(queue));
	assert_int_equal(wait_for(&k, 1, 0), 1);
	assert_true(k.data > 1);
	assert_int_equal(change(7, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 1000, NULL),
	                 0); /* set anew, and what it had to tell is gone */
	assert_false(polls(queue));
	assert_int_equal(change(7, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_USECONDS, 1, NULL), 0);
	assert_int_equal(wait_for(&k, 1, SEEN), 1);
	assert_refused(ENOENT, change(7, EVFILT_TIMER, EV_DELETE, 0, 0, NULL));
}

static void test_process_filter(void **state)
{
	struct kevent k;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(change(pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL), 0);
	assert_int_equal(wait_for(&k, 1, 0), 0);
	kill(pid, SIGKILL);
	assert_int_equal(wait_for(&k, 1, SEEN), 1);
	assert_int_equal(k.fflags, NOTE_EXIT);
	assert_int_equal(k.flags & EV_EOF, EV_EOF);
	assert_int_equal(wait_for(&k, 1, 0), 0);                                     /* told once */
	assert_refused(ESRCH, change(pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL)); /* not waited for */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_refused(ESRCH, change(pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL));
}

static void test_signal_filter(void **state)
{
	struct kevent k;
	sigset_t set, old, now;
	int sig;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	assert_int_equal(change(SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL), 0);
	kill(getpid(), SIGUSR1);
	assert_int_equal(wait_for(&k, 1, SEEN), 1);
	assert_int_equal(k.ident, SIGUSR1);
	assert_int_equal(k.data, 1);
	assert_int_equal(wait_for(&k, 1, 0), 0);
	sigpending(&now);
	assert_true(sigismember(&now, SIGUSR1)); /* telling does not take it */
	assert_int_equal(sigwait(&set, &sig), 0);
	assert_int_equal(sig, SIGUSR1);
	sigpending(&now);
	assert_false(sigismember(&now, SIGUSR1));
	kill(getpid(), SIGUSR1);
	assert_int_equal(wait_for(&k, 1, SEEN), 1);
	signal(SIGUSR1, SIG_IGN); /* drops it */
	sigpending(&now);
	assert_false(sigismember(&now, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGUSR1, SIG_DFL);
}

static void test_errors_as_events(void **state)
{
	struct kevent k[2], changes[2];
	struct stat st;
	int null = open("/dev/null", O_RDONLY), sv[2], nothing = 0;

	(void)state;
	assert_int_equal(pipe(sv), 0);
	EV_SET(&changes[0], 77, EVFILT_USER, EV_DELETE, 0, 0, NULL);
	EV_SET(&changes[1], sv[0], EVFILT_READ, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	assert_int_equal(kevent(queue, changes, 2, k, 2, NULL), 2);
	assert_int_equal(k[0].flags, EV_ERROR);
	assert_int_equal(k[0].data, ENOENT);
	assert_int_equal(k[1].flags, EV_ERROR);
	assert_int_equal(k[1].data, 0);
	assert_refused(EBADF, kevent(null, NULL, 0, k, 2, &(struct timespec){0}));
	assert_refused(EINVAL, change(0, -99, EV_ADD, 0, 0, NULL));
	assert_refused(ENXIO, read(queue, &nothing, sizeof(nothing)));
	assert_int_equal(fstat(queue, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(st.st_ino, 0);
	close_pair(sv);
	close(null);
}

static void test_copies_of_a_queue(void **state)
{
	int copy = fcntl(queue, F_DUPFD_CLOEXEC, 50), other = dup(queue);
	struct kevent k;

	(void)state;
	assert_true(copy >= 50 && other >= 0);
	assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
	close(queue);
	close(other);
	queue = copy;
	assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
	assert_true(polls(queue));
	assert_int_equal(wait_for(&k, 1, SEEN), 1);
}

static void close_in_child(void) /* a handler of the program, which comes before the imaginary Darwin's */
{
	if (queue >= 0)
		close(queue);
}

static bool has_no_queue(void)
{
	return fcntl(queue, F_GETFD) < 0 && errno == EBADF && kevent(queue, NULL, 0, NULL, 0, NULL) < 0;
}

static void test_no_queue_in_a_child(void **state)
{
	(void)state;
	assert_int_equal(change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL), 0);
	assert_int_equal(in_child(has_no_queue), 0);
	assert_int_equal(change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL), 0);
	assert_true(polls(queue)); /* the parent's goes on */
}

static void *wait_long(void *arg)
{
	struct kevent k;

	return (void *)(intptr_t)(arg == NULL && wait_for(&k, 1, 300) == 0);
}

static void test_kevent_is_not_cancelled(void **state)
{
	pthread_t thread;
	void *result;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, wait_long, NULL), 0);
	pthread_cancel(thread);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, (void *)1);
}

/* ---- sockets ----------------------------------------------------------------------------------------------------- */

static void test_types_of_sockets(void **state)
{
	const int cloexec = O_CLOEXEC, nonblock = O_NONBLOCK; /* the flags that Linux takes beside a type */
	int sv[2];

	(void)state;
	assert_refused(EPROTONOSUPPORT, socket(AF_INET, SOCK_STREAM | cloexec, 0));
	assert_refused(EPROTONOSUPPORT, socket(AF_UNIX, SOCK_STREAM | nonblock, 0));
	assert_refused(EPROTONOSUPPORT, socketpair(AF_UNIX, SOCK_STREAM | cloexec, 0, sv));
	assert_refused(EPROTONOSUPPORT, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	assert_refused(EPROTONOSUPPORT, socket(AF_UNIX, SOCK_SEQPACKET, 0));
}

static int broken_pair[2];

static bool sends(void)
{
	return send(broken_pair[0], "x", 1, 0) < 0 && errno == EPIPE;
}

static bool writes(void)
{
	return write(broken_pair[0], "x", 1) < 0 && errno == EPIPE;
}

static bool sends_a_message(void)
{
	struct iovec byte = {(char[]){'x'}, 1};

	return sendmsg(broken_pair[0], &(struct msghdr){.msg_iov = &byte, .msg_iovlen = 1}, 0) < 0 && errno == EPIPE;
}

static void test_sigpipe(void **state)
{
	bool (*const all[])(void) = {sends, writes, sends_a_message};
	int on = 1, linux_flag = 0x4000;
	socklen_t len = sizeof(on);

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int quiet = 0; quiet <= 1; quiet++) {
			int status;

			local_pair(SOCK_STREAM, broken_pair);
			if (quiet)
				assert_int_equal(setsockopt(broken_pair[0], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)),
				                 0);
			assert_int_equal(getsockopt(broken_pair[0], SOL_SOCKET, SO_NOSIGPIPE, &on, &len), 0);
			assert_int_equal(on, quiet);
			on = 1;
			close(broken_pair[1]);
			status = in_child(all[i]);
			if (quiet)
				assert_int_equal(status, 0);
			else
				assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
			close(broken_pair[0]);
		}
	local_pair(SOCK_STREAM, broken_pair);
	assert_refused(EOPNOTSUPP, send(broken_pair[0], "x", 1, linux_flag)); /* the bit of MSG_NOSIGNAL */
	close(broken_pair[1]);
	assert_refused(EINVAL, setsockopt(broken_pair[0], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on))); /* too late */
	close(broken_pair[0]);
}

static struct sockaddr_un path_of(const char *path)
{
	struct sockaddr_un s = {.sun_family = AF_UNIX};

	memcpy(s.sun_path, path, strlen(path));
	return s;
}

static void test_local_names(void **state)
{
	struct sockaddr_un s = {.sun_family = AF_UNIX, .sun_path = "\0abstract"};
	struct sockaddr_storage big = {.ss_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(sizeof(s.sun_path), 104);
	assert_refused(ENOENT, bind(sock, (struct sockaddr *)&s, sizeof(s)));
	assert_refused(ENOENT, connect(sock, (struct sockaddr *)&s, sizeof(s)));
	assert_refused(EINVAL, bind(sock, (struct sockaddr *)&s, sizeof(sa_family_t))); /* Linux would find a name */
	memset((char *)&big + sizeof(sa_family_t), 'x', 118);
	assert_refused(EINVAL, bind(sock, (struct sockaddr *)&big, sizeof(sa_family_t) + 109));
	close(sock);
}

static void test_a_full_listener(void **state)
{
	char path[64];
	struct sockaddr_un s;
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), sock[3], peer, on = 1;
	socklen_t len = sizeof(on);

	(void)state;
	snprintf(path, sizeof(path), "/tmp/test-darwin-%ld", (long)getpid());
	s = path_of(path);
	assert_int_equal(bind(listener, (struct sockaddr *)&s, sizeof(s)), 0);
	assert_int_equal(listen(listener, 1), 0);
	for (int i = 0; i < 3; i++) {
		sock[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		if (i < 2)
			assert_int_equal(connect(sock[i], (struct sockaddr *)&s, sizeof(s)), 0);
	}
	assert_refused(ECONNREFUSED, connect(sock[2], (struct sockaddr *)&s, sizeof(s))); /* Linux: waits, or EAGAIN */
	assert_false(fcntl(sock[2], F_GETFL) & O_NONBLOCK);
	assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)), 0);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	assert_true(fcntl(peer, F_GETFL) & O_NONBLOCK); /* as the listener */
	assert_int_equal(getsockopt(peer, SOL_SOCKET, SO_NOSIGPIPE, &on, &len), 0);
	assert_int_equal(on, 1);
	assert_false(fcntl(peer, F_GETFD) & FD_CLOEXEC);
	for (int i = 0; i < 3; i++)
		close(sock[i]);
	close(peer);
	close(listener);
	assert_int_equal(access(path, F_OK), 0); /* its name stays */
	unlink(path);
}

static void test_peers(void **state)
{
	int sv[2], tcp = socket(AF_INET, SOCK_STREAM, 0), lone = socket(AF_UNIX, SOCK_STREAM, 0);
	pid_t pid = 0;
	struct xucred who;
	socklen_t len = sizeof(pid), size = sizeof(who);
	uid_t uid;
	gid_t gid;

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_int_equal(getsockopt(sv[0], SOL_LOCAL, LOCAL_PEERPID, &pid, &len), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(getsockopt(sv[0], SOL_LOCAL, LOCAL_PEERCRED, &who, &size), 0);
	assert_int_equal(who.cr_version, XUCRED_VERSION);
	assert_int_equal(who.cr_uid, geteuid());
	assert_int_equal(getpeereid(sv[0], &uid, &gid), 0);
	assert_int_equal(gid, getegid());
	close(sv[1]);
	assert_refused(ENOTCONN, getsockopt(sv[0], SOL_LOCAL, LOCAL_PEERPID, &pid, &len)); /* it has left */
	assert_refused(ENOTCONN, getsockopt(lone, SOL_LOCAL, LOCAL_PEERCRED, &who, &size));
	assert_int_equal(getsockopt(tcp, SOL_LOCAL, LOCAL_PEERCRED, &who, &size),
	                 0); /* of another family: IP_OPTIONS */
	assert_int_equal(size, 0);
	assert_refused(EINVAL, getpeereid(tcp, &uid, &gid));
	close(sv[0]);
	close(lone);
	close(tcp);
}

static void test_local_datagrams(void **state)
{
	static char many[4096];
	int sv[2], on = 1, n = 0;

	(void)state;
	local_pair(SOCK_DGRAM, sv);
	setsockopt(sv[0], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
	assert_refused(EMSGSIZE, send(sv[0], many, sizeof(many), MSG_DONTWAIT));
	assert_int_equal(send(sv[0], many, 2048, MSG_DONTWAIT), 2048);
	while (n < 10000 && send(sv[0], many, 100, MSG_DONTWAIT) == 100)
		n++;
	assert_int_equal(errno, ENOBUFS); /* not EAGAIN */
	close(sv[1]);
	assert_refused(ECONNRESET, send(sv[0], many, 1, MSG_DONTWAIT));
	close(sv[0]);
}

static int hand_over(int sock, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec byte = {(char[]){'x'}, 1};
	struct msghdr m = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof(c.room)};

	memcpy(CMSG_DATA(&c.head), &fd, sizeof(fd));
	return (int)sendmsg(sock, &m, 0);
}

static int take_over(int sock)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	char text;
	struct iovec byte = {&text, 1};
	struct msghdr m = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof(c.room)};
	int fd = -1;

	if (recvmsg(sock, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(&c.head), sizeof(fd));
	return fd;
}

static void test_descriptors_on_their_way(void **state)
{
	int sv[2], file = open("/dev/null", O_RDONLY | O_CLOEXEC), q = kqueue(), got;

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_int_equal(hand_over(sv[0], file), 1);
	got = take_over(sv[1]);
	assert_true(got >= 0);
	assert_false(fcntl(got, F_GETFD) & FD_CLOEXEC); /* whatever the sender's was */
	assert_refused(EINVAL, hand_over(sv[0], q));
	close(got);
	close(file);
	close(q);
	close_pair(sv);
}

static void test_tcp_options(void **state)
{
	int tcp = socket(AF_INET, SOCK_STREAM, 0), sv[2], value = 5, linux_keepidle = 4;
	struct tcp_connection_info info;
	struct stat st;
	socklen_t len = sizeof(info);

	(void)state;
	local_pair(SOCK_STREAM, sv);
	assert_int_equal(fstat(tcp, &st), 0);
	assert_int_equal(st.st_ino, 0);
	assert_int_equal(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPALIVE, &value, sizeof(value)), 0);
	assert_int_equal(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPINTVL, &value, sizeof(value)), 0);
	assert_int_equal(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPCNT, &value, sizeof(value)), 0);
	assert_int_equal(setsockopt(tcp, IPPROTO_TCP, TCP_RXT_CONNDROPTIME, &value, sizeof(value)), 0);
	assert_refused(ENOPROTOOPT, setsockopt(tcp, IPPROTO_TCP, linux_keepidle, &value, sizeof(value)));
	assert_int_equal(getsockopt(tcp, IPPROTO_TCP, TCP_CONNECTION_INFO, &info, &len), 0);
	assert_true(setsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)) < 0);
	close_pair(sv);
	close(tcp);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int make_object(void)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "/test-darwin-%ld", (long)getpid());
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_refused(EEXIST, shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	assert_int_equal(shm_unlink(name), 0);
	assert_refused(ENOENT, shm_unlink(name));
	assert_refused(ENOENT, shm_open(name, O_RDWR));
	return fd;
}

static void test_objects(void **state)
{
	const char *const fits = "/23456789012345678901234567890a", *const too_long =
	                                                                    "/23456789012345678901234567890ab";
	int fd = make_object(), other;
	struct stat st;
	char byte = 0;
	char *p;

	(void)state;
	assert_int_equal(strlen(fits), 31);
	other = shm_open(fits, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(other >= 0);
	close(other);
	assert_int_equal(shm_unlink(fits), 0);
	assert_refused(ENAMETOOLONG, shm_open(too_long, O_RDWR | O_CREAT | O_EXCL, 0600));
	assert_ptr_equal(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED); /* it has no length yet */
	assert_int_equal(ftruncate(fd, PAGE + 1), 0);
	assert_refused(EINVAL, ftruncate(fd, PAGE + 1));
	assert_refused(EINVAL, ftruncate(fd, 4 * PAGE));
	assert_refused(EINVAL, ftruncate(fd, 0));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 2 * PAGE);
	assert_int_equal(st.st_mode, 0600); /* and no type */
	assert_int_equal(st.st_ino, 0);
	assert_refused(ENXIO, read(fd, &byte, 1));
	assert_refused(ENXIO, write(fd, &byte, 1));
	assert_refused(ENXIO, pread(fd, &byte, 1, 0));
	assert_refused(ENXIO, pwrite(fd, &byte, 1, 0));
	assert_ptr_equal(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), MAP_FAILED);
	assert_ptr_equal(mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED); /* beyond its end */
	assert_ptr_equal(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 4096), MAP_FAILED);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	p[2 * PAGE - 1] = 1;
	munmap(p, 2 * PAGE);
	close(fd);
}

static void test_pages(void **state)
{
	char *p[8], *files;
	int file = open("/proc/self/exe", O_RDONLY);

	(void)state;
	assert_int_equal(file, -1); /* there is no /proc */
	assert_int_equal(errno, ENOENT);
	assert_int_equal(sysconf(_SC_PAGESIZE), PAGE);
	for (int i = 0; i < 8; i++) {
		p[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_int_equal((uintptr_t)p[i] % PAGE, 0);
		p[i][PAGE - 1] = 1; /* a whole page */
	}
	assert_refused(EINVAL, munmap(p[0] + 4096, 4096));
	assert_refused(EINVAL, mprotect(p[0] + 4096, 4096, PROT_READ));
	assert_refused(EINVAL, madvise(p[0] + 4096, 4096, MADV_DONTNEED));
	assert_refused(EINVAL, madvise(p[0], PAGE, 16)); /* Linux's MADV_DONTDUMP */
	assert_int_equal(madvise(p[0], PAGE, MADV_DONTNEED), 0);
	assert_int_equal(p[0][PAGE - 1], 1); /* the bytes stay */
	for (int i = 0; i < 8; i++)
		assert_int_equal(munmap(p[i], 4096), 0);
	files = mmap(NULL, 100, PROT_READ, MAP_PRIVATE, -1, 0);
	assert_ptr_equal(files, MAP_FAILED);
}

/* ---- Mach -------------------------------------------------------------------------------------------------------- */

static char theirs[64] = "before";

static void test_tasks(void **state)
{
	char got[64];
	int sv[2];
	char byte;
	pid_t pid;
	mach_port_name_t task, again;
	mach_vm_size_t n;
	const mach_vm_address_t to = (uintptr_t)got, from = (uintptr_t)theirs;

	(void)state;
	local_pair(SOCK_STREAM, sv);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		strcpy(theirs, "after");
		(void)!write(sv[1], "x", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(sv[0], &byte, 1), 1);
	setenv("DARWIN_LACKS", "task_for_pid", 1);
	assert_int_equal(task_for_pid(mach_task_self(), pid, &task), KERN_FAILURE);
	assert_int_equal(task_for_pid(mach_task_self(), getpid(), &task), KERN_SUCCESS);
	assert_int_equal(mach_port_deallocate(mach_task_self(), task), KERN_SUCCESS);
	unsetenv("DARWIN_LACKS");
	assert_int_equal(task_for_pid(mach_task_self(), pid, &task), KERN_SUCCESS);
	assert_int_equal(task_for_pid(mach_task_self(), pid, &again), KERN_SUCCESS);
	assert_int_equal(again, task);
	assert_int_not_equal(task, (unsigned)pid);
	assert_int_equal(mach_vm_read_overwrite(task, from, sizeof(got), to, &n), KERN_SUCCESS);
	assert_int_equal(n, sizeof(got));
	assert_string_equal(got, "after");
	assert_int_equal(mach_vm_read_overwrite((vm_map_t)pid, from, 1, to, &n), MACH_SEND_INVALID_DEST);
	assert_int_equal(mach_vm_read_overwrite(task, 8, 8, to, &n), KERN_INVALID_ADDRESS);
	assert_int_equal(mach_vm_read_overwrite(task, from, 1 << 30, to, &n),
	                 KERN_INVALID_ADDRESS); /* all or nothing */
	assert_int_equal(n, 0);
	assert_int_equal(mach_port_deallocate(mach_task_self(), again), KERN_SUCCESS);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(mach_vm_read_overwrite(task, from, 1, to, &n), MACH_SEND_INVALID_DEST);
	assert_int_equal(mach_port_deallocate(mach_task_self(), task), KERN_SUCCESS);
	assert_int_equal(mach_port_deallocate(mach_task_self(), task), KERN_INVALID_NAME); /* once too often */
	assert_int_equal(task_for_pid(mach_task_self(), pid, &task), KERN_FAILURE);
	close_pair(sv);
}

static void test_ticks(void **state)
{
	mach_timebase_info_data_t base;
	uint64_t ticks = mach_absolute_time();

	(void)state;
	assert_int_equal(mach_timebase_info(&base), KERN_SUCCESS);
	assert_int_not_equal(base.numer, base.denom); /* a tick is no nanosecond */
	usleep(1000);
	assert_true((mach_absolute_time() - ticks) * base.numer / base.denom >= 900000);
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

int __ulock_wait(uint32_t operation, void *word, uint64_t value, uint32_t timeout_us);
int __ulock_wake(uint32_t operation, void *word, uint64_t value);

static void test_words(void **state)
{
	uint32_t word[2] = {1, 0};
	char *odd = (char *)word + 1;

	(void)state;
	assert_int_equal(__ulock_wait(1, word, 2, 0), 0); /* it holds another value */
	assert_refused(ETIMEDOUT, __ulock_wait(1, word, 1, 1000));
	assert_refused(ETIMEDOUT, __ulock_wait(3, word, 1, 1000));
	assert_int_equal(__ulock_wait(1 | 0x01000000, word, 1, 1000), -ETIMEDOUT); /* ULF_NO_ERRNO */
	assert_refused(ENOENT, __ulock_wake(1 | 0x100, word, 0));                  /* nobody sleeps */
	assert_refused(EINVAL, __ulock_wait(1, odd, 1, 1000));
	assert_refused(EINVAL, __ulock_wait(1 | 0x100, word, 1, 1000));
	assert_refused(EINVAL, __ulock_wait(99, word, 1, 1000));
	assert_refused(ETIMEDOUT, os_sync_wait_on_address_with_timeout(word, 1, 4, OS_SYNC_WAIT_ON_ADDRESS_SHARED,
	                                                               OS_CLOCK_MACH_ABSOLUTE_TIME, 1000));
	assert_refused(EINVAL, os_sync_wait_on_address_with_timeout(word, 1, 4, OS_SYNC_WAIT_ON_ADDRESS_NONE,
	                                                            OS_CLOCK_MACH_ABSOLUTE_TIME, 0));
	assert_refused(EINVAL, os_sync_wait_on_address_with_timeout(word, 1, 2, OS_SYNC_WAIT_ON_ADDRESS_NONE,
	                                                            OS_CLOCK_MACH_ABSOLUTE_TIME, 1000));
	assert_refused(ENOENT, os_sync_wake_by_address_all(word, 4, OS_SYNC_WAKE_BY_ADDRESS_NONE));
}

static void test_sysctl(void **state)
{
	uint64_t memory = 0;
	int cpus = 0;
	size_t size = sizeof(memory);

	(void)state;
	assert_int_equal(sysctlbyname("hw.memsize", &memory, &size, NULL, 0), 0);
	assert_true(memory > (uint64_t)64 << 20);
	size = sizeof(cpus);
	assert_int_equal(sysctlbyname("hw.perflevel0.physicalcpu", &cpus, &size, NULL, 0), 0);
	assert_true(cpus >= 1);
	assert_int_equal(size, 4);
	assert_refused(ENOMEM, sysctlbyname("hw.memsize", &cpus, &size, NULL, 0)); /* it has eight bytes */
	assert_refused(ENOENT, sysctlbyname("hw.nothing", &memory, &size, NULL, 0));
}

static void test_program(void **state)
{
	char path[4096], little[4];
	uint32_t size = sizeof(path);
	struct proc_fdinfo fd[256];

	(void)state;
	assert_int_equal(_NSGetExecutablePath(path, &size), 0);
	assert_int_equal(access(path, X_OK), 0);
	size = sizeof(little);
	assert_int_equal(_NSGetExecutablePath(little, &size), -1);
	assert_true(size > sizeof(little));
	assert_non_null(*_NSGetEnviron());
	assert_true(proc_pidinfo(getpid(), PROC_PIDLISTFDS, 0, fd, sizeof(fd)) >= 3 * PROC_PIDLISTFD_SIZE);
	assert_int_equal(pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 0), 0);
	assert_int_equal(pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 1), EINVAL);
}

#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, open_queue, close_queue)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        QUEUE_TEST(test_filters_are_apart),
	        QUEUE_TEST(test_once_dispatch_and_clear),
	        QUEUE_TEST(test_a_number_leaves_by_close),
	        QUEUE_TEST(test_user_filter),
	        QUEUE_TEST(test_timer_filter),
	        QUEUE_TEST(test_process_filter),
	        QUEUE_TEST(test_signal_filter),
	        QUEUE_TEST(test_errors_as_events),
	        QUEUE_TEST(test_copies_of_a_queue),
	        QUEUE_TEST(test_no_queue_in_a_child),
	        QUEUE_TEST(test_kevent_is_not_cancelled),
	        cmocka_unit_test(test_types_of_sockets),
	        cmocka_unit_test(test_sigpipe),
	        cmocka_unit_test(test_local_names),
	        cmocka_unit_test(test_a_full_listener),
	        cmocka_unit_test(test_peers),
	        cmocka_unit_test(test_local_datagrams),
	        cmocka_unit_test(test_descriptors_on_their_way),
	        cmocka_unit_test(test_tcp_options),
	        cmocka_unit_test(test_objects),
	        cmocka_unit_test(test_pages),
	        cmocka_unit_test(test_tasks),
	        cmocka_unit_test(test_ticks),
	        cmocka_unit_test(test_words),
	        cmocka_unit_test(test_sysctl),
	        cmocka_unit_test(test_program),
	};
	pthread_atfork(NULL, NULL, close_in_child);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
