/* SPDX-License-Identifier: MIT */
/* macOS 11 and later; see os.h. What follows relies on what Apple documents or publishes as source. */
#include "os.h"

#include <crt_externs.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <sys/ucred.h>
#include <sys/un.h>
#include <unistd.h>

static const struct timespec at_once = {0};

/* No call here opens a descriptor that is closed on exec: a program that another thread starts in between gets it. */
static int closed_on_exec(int fd)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

static int close_failed(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

/* 0: not known. Numbers of 4 and of 8 bytes, lowest byte first. */
static uint64_t system_number(const char *name)
{
	uint64_t value = 0;
	size_t bytes = sizeof(value);

	return sysctlbyname(name, &value, &bytes, NULL, 0) == 0 ? value : 0;
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

size_t os_clock_text(char *text, size_t cap)
{
	char boot[64];
	size_t bytes = sizeof(boot);

	if (sysctlbyname("kern.bootsessionuuid", boot, &bytes, NULL, 0) != 0)
		return 0;
	bytes = strnlen(boot, bytes);
	if (bytes > cap)
		bytes = cap;
	memcpy(text, boot, bytes);
	return bytes;
}

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

/* Since macOS 14.4; sleepers and wakers of one host all find it, or none does. */
typedef int wait_on_address(void *word, uint64_t value, size_t size, uint32_t flags, uint32_t clock, uint64_t ns);
typedef int wake_by_address(void *word, size_t size, uint32_t flags);

#define SYNC_SHARED 1u  /* OS_SYNC_WAIT_ON_ADDRESS_SHARED, OS_SYNC_WAKE_BY_ADDRESS_SHARED */
#define SYNC_CLOCK  32u /* OS_CLOCK_MACH_ABSOLUTE_TIME */

/* Before that: what the system's own libraries call. */
int __ulock_wait(uint32_t operation, void *word, uint64_t value, uint32_t us);
int __ulock_wake(uint32_t operation, void *word, uint64_t which);

#define ULOCK_COMPARE_AND_WAIT        1u
#define ULOCK_COMPARE_AND_WAIT_SHARED 3u
#define ULOCK_WAKE_ALL                0x00000100u
#define ULOCK_NO_ERRNO                0x01000000u

static struct {
	pthread_once_t once;
	wait_on_address *wait;
	wake_by_address *wake;
} sync_calls = {.once = PTHREAD_ONCE_INIT};

static void find_sync_calls(void)
{
	void *wait = dlsym(RTLD_DEFAULT, "os_sync_wait_on_address_with_timeout");
	void *wake = dlsym(RTLD_DEFAULT, "os_sync_wake_by_address_all");

	if (!wait || !wake)
		return;
	memcpy(&sync_calls.wait, &wait, sizeof(wait));
	memcpy(&sync_calls.wake, &wake, sizeof(wake));
}

static uint32_t ulock(enum os_reach reach)
{
	return (reach == OS_HOST ? ULOCK_COMPARE_AND_WAIT_SHARED : ULOCK_COMPARE_AND_WAIT) | ULOCK_NO_ERRNO;
}

void os_sleep_on(const void *word, uint32_t value, uint64_t ns, enum os_reach reach)
{
	void *at = (void *)(uintptr_t)word;
	uint64_t us = ns / 1000 + (ns % 1000 != 0);

	if (!ns)
		return;
	(void)pthread_once(&sync_calls.once, find_sync_calls);
	if (sync_calls.wait)
		(void)sync_calls.wait(at, value, sizeof(value), reach == OS_HOST ? SYNC_SHARED : 0, SYNC_CLOCK, ns);
	else
		(void)__ulock_wait(ulock(reach), at, value,
		                   us < UINT32_MAX ? (uint32_t)us : UINT32_MAX); /* 0: for ever */
}

void os_wake(const void *word, enum os_reach reach)
{
	void *at = (void *)(uintptr_t)word;

	(void)pthread_once(&sync_calls.once, find_sync_calls);
	if (sync_calls.wake)
		(void)sync_calls.wake(at, sizeof(uint32_t), reach == OS_HOST ? SYNC_SHARED : 0);
	else
		(void)__ulock_wake(ulock(reach) | ULOCK_WAKE_ALL, at, 0);
}

long os_preemptions(void)
{
	return 0;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

int os_queue_open(void)
{
	return closed_on_exec(kqueue());
}

static int change(int queue, uintptr_t id, int16_t filter, uint16_t flags, uint32_t more, int64_t data)
{
	struct kevent k;

	EV_SET(&k, id, filter, flags, more, (intptr_t)data, NULL);
	return kevent(queue, &k, 1, NULL, 0, NULL);
}

/* Takes one event, if there is one. */
static bool take(int queue, struct kevent *k)
{
	return kevent(queue, NULL, 0, k, 1, &at_once) == 1;
}

static int16_t filter_of(unsigned event)
{
	return event == OS_READ ? EVFILT_READ : EVFILT_WRITE;
}

/* What is watched is forgotten first: that fails if the descriptor is another file by now. */
int os_queue_watch(int queue, int fd, unsigned was, unsigned events, uint64_t tag)
{
	const uint16_t how = events & OS_ONCE ? EV_ADD | EV_ENABLE | EV_DISPATCH : EV_ADD | EV_ENABLE;
	void *udata = (void *)(uintptr_t)tag;
	struct kevent k[4];
	int n = 0;

	for (unsigned event = OS_READ; event <= OS_WRITE; event <<= 1)
		if (was & event) {
			EV_SET(&k[n], (uintptr_t)fd, filter_of(event), EV_DELETE, 0, 0, NULL);
			n++;
		}
	for (unsigned event = OS_READ; event <= OS_WRITE; event <<= 1)
		if (events & event) {
			EV_SET(&k[n], (uintptr_t)fd, filter_of(event), how, 0, 0, udata);
			n++;
		}
	return n ? kevent(queue, k, n, NULL, 0, NULL) : 0;
}

/* A descriptor has two filters: what is ready for both becomes one. */
static int note(struct os_ready *ready, uintptr_t *fds, int n, const struct kevent *k)
{
	unsigned event = k->filter == EVFILT_READ ? OS_READ : OS_WRITE;

	for (int i = 0; i < n; i++)
		if (fds[i] == k->ident) {
			ready[i].events |= event;
			return n;
		}
	fds[n] = k->ident;
	ready[n] = (struct os_ready){(uint64_t)(uintptr_t)k->udata, event};
	return n + 1;
}

#define BATCH 64

static int take_ready(int queue, struct os_ready *ready, int cap)
{
	struct kevent k[BATCH];
	uintptr_t fds[BATCH];
	int got = kevent(queue, NULL, 0, k, cap < BATCH ? cap : BATCH, &at_once), n = 0;

	if (got < 0)
		return errno == EINTR ? 0 : -1;
	for (int i = 0; i < got; i++)
		n = note(ready, fds, n, &k[i]);
	return n;
}

/* kevent is no cancellation point, so poll waits. It may wake for what another thread takes, or for what is ready no more. */
int os_queue_wait(int queue, struct os_ready *ready, int cap, int ms)
{
	const uint64_t ms_ns = 1000000, end = os_clock_ns() + (ms > 0 ? (uint64_t)ms * ms_ns : 0);
	struct pollfd p = {.fd = queue, .events = POLLIN};
	uint64_t now;
	int n;

	for (;;) {
		n = poll(&p, 1, ms);
		if (n < 0)
			return errno == EINTR ? 0 : -1;
		n = take_ready(queue, ready, cap);
		if (n || !ms)
			return n;
		now = ms > 0 ? os_clock_ns() : 0;
		if (ms > 0 && now >= end)
			return 0;
		ms = ms > 0 ? (int)((end - now + ms_ns - 1) / ms_ns) : ms;
	}
}

/* Events, timers, processes and signals are queues of their own with one filter: a queue can be watched itself. */
static int queue_with(uintptr_t id, int16_t filter, uint16_t flags, uint32_t more)
{
	int queue = os_queue_open();

	if (queue >= 0 && change(queue, id, filter, flags, more, 0) < 0)
		return close_failed(queue);
	return queue;
}

#define THE_ONE 1 /* name of the filter in its queue */

int os_event_open(void)
{
	return queue_with(THE_ONE, EVFILT_USER, EV_ADD | EV_CLEAR, 0);
}

void os_event_raise(int event)
{
	(void)change(event, THE_ONE, EVFILT_USER, 0, NOTE_TRIGGER, 0);
}

void os_event_clear(int event)
{
	struct kevent k;

	(void)take(event, &k);
}

int os_timer_open(void)
{
	return os_queue_open();
}

/* Forgotten first, with what it has to tell. */
void os_timer_set(int timer, uint64_t every_ns)
{
	(void)change(timer, THE_ONE, EVFILT_TIMER, EV_DELETE, 0, 0);
	if (every_ns)
		(void)change(timer, THE_ONE, EVFILT_TIMER, EV_ADD, NOTE_NSECONDS,
		             every_ns < INT64_MAX ? (int64_t)every_ns : INT64_MAX);
}

void os_timer_rest(int timer)
{
	struct kevent k;

	(void)take(timer, &k);
}

/* ---- processors and threads -------------------------------------------------------------------------------------- */

/* Threads have no processors of their own: the system places them by their class. */
bool os_cpus_allowed(uint64_t *set, size_t words)
{
	memset(set, 0, words * sizeof(*set));
	return false;
}

bool os_cpus_bind(const uint64_t *set, size_t words)
{
	(void)set;
	(void)words;
	return false;
}

size_t os_cache_bytes(void)
{
	const char *names[] = {"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"};
	uint64_t largest = 0, bytes;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		bytes = system_number(names[i]);
		largest = bytes > largest ? bytes : largest;
	}
	return (size_t)largest;
}

void os_thread_name(const char *name)
{
	(void)pthread_setname_np(name);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

uint64_t os_memory_bytes(void)
{
	return system_number("hw.memsize");
}

uint64_t os_memory_free(void)
{
	vm_statistics64_data_t v;
	mach_msg_type_number_t words = HOST_VM_INFO64_COUNT;
	mach_port_t host = mach_host_self();
	kern_return_t rc = host_statistics64(host, HOST_VM_INFO64, (host_info64_t)(void *)&v, &words);

	(void)mach_port_deallocate(mach_task_self(), host);
	return rc == KERN_SUCCESS ? (uint64_t)v.free_count * vm_kernel_page_size : 0;
}

void os_memory_not_dumped(void *p, size_t bytes)
{
	(void)p;
	(void)bytes;
}

void os_memory_not_forked(void *p, size_t bytes)
{
	(void)minherit(p, bytes, VM_INHERIT_NONE);
}

void os_memory_large_pages(void *p, size_t bytes)
{
	(void)p;
	(void)bytes;
}

int os_memory_from_node(void *p, size_t bytes, int node)
{
	(void)p;
	(void)bytes;
	return node ? EINVAL : ENOSYS;
}

/* ---- memory that processes share --------------------------------------------------------------------------------- */

/* The name can't be guessed, lasts for two calls, and opens for this user alone. */
static int open_unnamed(void)
{
	uint64_t random;
	char name[32]; /* 31 characters at most */
	int fd;

	do {
		arc4random_buf(&random, sizeof(random));
		snprintf(name, sizeof(name), "/tutti.%016llx", (unsigned long long)random);
		fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	} while (fd < 0 && errno == EEXIST);
	if (fd >= 0)
		(void)shm_unlink(name);
	return closed_on_exec(fd);
}

/* The first ftruncate is the last that the system allows. */
int os_shared_open(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open_unnamed();

	if (fd >= 0 && ftruncate(fd, (off_t)((bytes + page - 1) / page * page)) < 0)
		return close_failed(fd);
	return fd;
}

/* Only such memory has no type of file. */
int64_t os_shared_length(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && !(st.st_mode & S_IFMT) && st.st_size > 0)
		return st.st_size;
	errno = EINVAL;
	return -1;
}

int os_shared_commit(int fd, size_t at, size_t bytes)
{
	(void)fd;
	(void)at;
	(void)bytes;
	return 0;
}

int os_shared_release(int fd, size_t at, size_t bytes)
{
	(void)fd;
	(void)at;
	(void)bytes;
	errno = ENOTSUP;
	return -1;
}

/* Maps new pages there: advice would leave the bytes as they are. */
int os_private_release(void *p, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if ((uintptr_t)p % page || bytes % page) {
		errno = EINVAL;
		return -1;
	}
	return mmap(p, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0;
}

static void close_on_exec_all(const struct cmsghdr *c)
{
	size_t bytes = c->cmsg_len - CMSG_LEN(0);
	int fd;

	for (size_t at = 0; at + sizeof(fd) <= bytes; at += sizeof(fd)) {
		memcpy(&fd, (const char *)c + CMSG_LEN(0) + at, sizeof(fd));
		(void)closed_on_exec(fd);
	}
}

ssize_t os_receive_message(int sock, struct msghdr *m)
{
	ssize_t n = recvmsg(sock, m, MSG_DONTWAIT);

	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(m) : NULL; c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			close_on_exec_all(c);
	return n;
}

static int error_of(kern_return_t rc)
{
	switch (rc) {
	case KERN_INVALID_ADDRESS:
	case KERN_PROTECTION_FAILURE:
		return EFAULT;
	case MACH_SEND_INVALID_DEST:
	case KERN_INVALID_TASK:
		return ESRCH;
	default:
		return EPERM;
	}
}

/* Apple's mach/mach_vm.h, which not every kit of its headers has. */
kern_return_t mach_vm_read_overwrite(vm_map_t task, mach_vm_address_t from, mach_vm_size_t bytes, mach_vm_address_t to,
                                     mach_vm_size_t *copied);

/* Mach copies all or nothing, and callers ask where the first byte is that can't be read: page by page then. */
static kern_return_t read_pages(mach_port_name_t task, mach_vm_address_t from, mach_vm_address_t to, size_t bytes,
                                size_t *done)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	kern_return_t rc = KERN_SUCCESS;

	for (*done = 0; *done < bytes && rc == KERN_SUCCESS;) {
		size_t part = page - (size_t)((from + *done) % page);
		mach_vm_size_t copied = 0;

		if (part > bytes - *done)
			part = bytes - *done;
		rc = mach_vm_read_overwrite(task, from + *done, part, to + *done, &copied);
		*done += (size_t)copied;
	}
	return rc;
}

/* Another process's task is for root, or for a program that is entitled to debug it. */
ssize_t os_read_process(pid_t pid, uint64_t from, void *to, size_t bytes)
{
	const mach_vm_address_t here = (mach_vm_address_t)(uintptr_t)to;
	mach_port_name_t task;
	mach_vm_size_t copied = 0;
	size_t done = 0;
	kern_return_t rc = task_for_pid(mach_task_self(), pid, &task);

	if (rc != KERN_SUCCESS) {
		if (kill(pid, 0) == 0 || errno != ESRCH)
			errno = EPERM;
		return -1;
	}
	rc = mach_vm_read_overwrite(task, from, bytes, here, &copied);
	if (rc == KERN_SUCCESS)
		done = (size_t)copied;
	else if (rc == KERN_INVALID_ADDRESS || rc == KERN_PROTECTION_FAILURE)
		rc = read_pages(task, from, here, bytes, &done);
	(void)mach_port_deallocate(mach_task_self(), task);
	if (rc == KERN_SUCCESS || done)
		return (ssize_t)done;
	errno = error_of(rc);
	return -1;
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

bool os_peer(int sock, pid_t *pid, uid_t *uid)
{
	struct xucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(sock, SOL_LOCAL, LOCAL_PEERCRED, &who, &len) < 0 || len != sizeof(who) ||
	    who.cr_version != XUCRED_VERSION)
		return false;
	*uid = who.cr_uid;
	len = sizeof(*pid);
	if (getsockopt(sock, SOL_LOCAL, LOCAL_PEERPID, pid, &len) < 0)
		*pid = 0; /* it has closed its end */
	return true;
}

int os_process_open(pid_t pid)
{
	return queue_with((uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT);
}

size_t os_host_text(char *text, size_t cap)
{
	return os_clock_text(text, cap);
}

uint64_t os_process_space(void)
{
	return 0;
}

int os_end_with_parent(void)
{
	errno = ENOTSUP;
	return -1;
}

size_t os_open_files(void)
{
	int bytes = proc_pidinfo(getpid(), PROC_PIDLISTFDS, 0, NULL, 0);

	return bytes > 0 ? (size_t)bytes / sizeof(struct proc_fdinfo) : 0;
}

char **os_environment(void)
{
	return *_NSGetEnviron();
}

bool os_program_path(char *path, size_t cap)
{
	uint32_t room = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX;

	return _NSGetExecutablePath(path, &room) == 0;
}

/* Those that wait already come no more by themselves: told of once. */
int os_signals_open(const sigset_t *set)
{
	int queue = os_queue_open();
	sigset_t waiting;

	sigemptyset(&waiting);
	(void)sigpending(&waiting);
	for (int s = 1; queue >= 0 && s < NSIG; s++) {
		if (sigismember(set, s) != 1)
			continue;
		if (change(queue, (uintptr_t)s, EVFILT_SIGNAL, EV_ADD, 0, 0) < 0)
			return close_failed(queue);
		if (sigismember(&waiting, s) == 1 &&
		    (change(queue, (uintptr_t)s, EVFILT_USER, EV_ADD | EV_ONESHOT, 0, 0) < 0 ||
		     change(queue, (uintptr_t)s, EVFILT_USER, 0, NOTE_TRIGGER, 0) < 0))
			return close_failed(queue);
	}
	return queue;
}

/* The queue tells that a signal came and leaves it pending; one that is ignored is told of and is not pending. */
int os_signals_next(int signals)
{
	struct kevent k;
	sigset_t one, waiting;
	int taken, s;

	if (!take(signals, &k))
		return 0;
	s = (int)k.ident;
	sigemptyset(&one);
	sigaddset(&one, s);
	if (sigpending(&waiting) == 0 && sigismember(&waiting, s) == 1)
		(void)sigwait(&one, &taken);
	return s;
}

const char *os_error_text(int error, char *buf, size_t cap)
{
	(void)strerror_r(error, buf, cap);
	return buf;
}

/* ---- sockets and pipes ------------------------------------------------------------------------------------------- */

static int prepared(int sock, bool waits)
{
	int on = 1;

	if (closed_on_exec(sock) < 0)
		return -1;
	(void)setsockopt(sock, SOL_SOCKET, SO_NOSIGPIPE, &on,
	                 sizeof(on)); /* EINVAL: the other end has closed already */
	if (!waits && fcntl(sock, F_SETFL, O_NONBLOCK) < 0)
		return close_failed(sock);
	return sock;
}

int os_socket(int family, int type)
{
	return prepared(socket(family, type, 0), false);
}

int os_accept(int listener)
{
	return prepared(accept(listener, NULL, NULL), false);
}

int os_pipe(int ends[2])
{
	if (pipe(ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		(void)closed_on_exec(ends[i]);
	return 0;
}

int os_stream_pair(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		(void)prepared(ends[i], true);
	return 0;
}

#define MESSAGES (64 << 10) /* bytes; without asking there is room for 2 KiB */

int os_message_pair(int ends[2])
{
	const int room = MESSAGES;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		(void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		(void)setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		(void)prepared(ends[i], false);
	}
	return 0;
}

/*
 * Names are files in a folder of this user's. Nobody else's folder is used, nor one in which others may write: who can put a
 * socket there can listen in our place.
 */
static bool folder_path(char *path, size_t cap)
{
	struct stat st;
	int n = snprintf(path, cap, "/tmp/tutti-%lu", (unsigned long)geteuid());

	if (n < 0 || (size_t)n >= cap || (mkdir(path, 0700) < 0 && errno != EEXIST) || lstat(path, &st) < 0)
		return false;
	if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & (S_IRWXG | S_IRWXO)))
		return true;
	errno = EACCES;
	return false;
}

static bool local_name(const char *name, struct sockaddr_un *s)
{
	char folder[64];
	int n;

	*s = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!folder_path(folder, sizeof(folder)))
		return false;
	n = snprintf(s->sun_path, sizeof(s->sun_path), "%s/%s", folder, name);
	if (n > 0 && (size_t)n < sizeof(s->sun_path))
		return true;
	errno = ENAMETOOLONG;
	return false;
}

/*
 * Does the file's listener live? A socket of another type finds out without becoming a connection that waits there: the
 * system looks for a living socket first (ECONNREFUSED), then at its type (EPROTOTYPE).
 */
static bool is_stale(const struct sockaddr_un *s)
{
	int probe = os_socket(AF_UNIX, SOCK_DGRAM);
	bool stale = probe >= 0 && connect(probe, (const struct sockaddr *)s, sizeof(*s)) < 0 && errno == ECONNREFUSED;

	if (probe >= 0)
		close(probe);
	return stale;
}

static int bind_and_listen(int sock, const struct sockaddr_un *s, int backlog)
{
	int rc = bind(sock, (const struct sockaddr *)s, sizeof(*s));

	if (rc < 0 && errno == EADDRINUSE) {
		if (is_stale(s) && unlink(s->sun_path) == 0)
			rc = bind(sock, (const struct sockaddr *)s, sizeof(*s));
		else
			errno = EADDRINUSE;
	}
	return rc < 0 ? -1 : listen(sock, backlog);
}

/* Who made which listener: a child must leave its parent's names alone, also when it has listeners of its own. */
#define LISTENERS 64

static struct {
	_Atomic pid_t pid; /* 0, or of another process: free */
	_Atomic int sock;
} listeners[LISTENERS];

/* Where there is no room, the name stays until somebody wants it. */
static void remember_listener(int sock)
{
	pid_t me = getpid();

	for (int i = 0; i < LISTENERS; i++) {
		pid_t was = atomic_load_explicit(&listeners[i].pid, memory_order_relaxed);

		if (was == me || !atomic_compare_exchange_strong_explicit(&listeners[i].pid, &was, me,
		                                                          memory_order_relaxed, memory_order_relaxed))
			continue;
		atomic_store_explicit(&listeners[i].sock, sock, memory_order_relaxed);
		return;
	}
}

static bool forget_listener(int sock)
{
	pid_t me = getpid();

	for (int i = 0; i < LISTENERS; i++)
		if (atomic_load_explicit(&listeners[i].pid, memory_order_relaxed) == me &&
		    atomic_load_explicit(&listeners[i].sock, memory_order_relaxed) == sock) {
			atomic_store_explicit(&listeners[i].pid, 0, memory_order_relaxed);
			return true;
		}
	return false;
}

/* One at a time looks for stale names and removes them: the folder is locked meanwhile. */
int os_local_listen(const char *name, int backlog)
{
	struct sockaddr_un s;
	int sock, rc = -1, error;
	int folder;
	char path[64];

	if (!local_name(name, &s) || !folder_path(path, sizeof(path)))
		return -1;
	folder = closed_on_exec(open(path, O_RDONLY | O_DIRECTORY));
	if (folder < 0)
		return -1;
	sock = os_socket(AF_UNIX, SOCK_STREAM);
	if (sock >= 0 && flock(folder, LOCK_EX) == 0)
		rc = bind_and_listen(sock, &s, backlog);
	error = errno;
	close(folder);
	errno = error;
	if (sock >= 0 && rc < 0)
		return close_failed(sock);
	if (sock >= 0)
		remember_listener(sock);
	return sock;
}

/* A socket of another type finds out whether there is one under the name, and leaves nothing in its queue. */
static bool is_listening(const struct sockaddr_un *s)
{
	int probe = socket(AF_UNIX, SOCK_DGRAM, 0);
	bool is = probe >= 0 && connect(probe, (const struct sockaddr *)s, sizeof(*s)) < 0 && errno == EPROTOTYPE;

	if (probe >= 0)
		close(probe);
	return is;
}

/* A full queue refuses as if nobody were there. */
int os_local_connect(int sock, const char *name)
{
	struct sockaddr_un s;

	if (!local_name(name, &s))
		return -1;
	if (connect(sock, (struct sockaddr *)&s, sizeof(s)) == 0)
		return 0;
	if (errno == ECONNREFUSED)
		errno = is_listening(&s) ? EAGAIN : ECONNREFUSED;
	return -1;
}

void os_local_unlisten(int listener)
{
	struct sockaddr_un s = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(s);

	if (forget_listener(listener) && getsockname(listener, (struct sockaddr *)&s, &len) == 0 &&
	    s.sun_family == AF_UNIX && s.sun_path[0])
		(void)unlink(s.sun_path);
}

static void set_tcp(int sock, int option, int value)
{
	(void)setsockopt(sock, IPPROTO_TCP, option, &value, sizeof(value));
}

void os_tcp_keep_alive(int sock, int idle, int every, int count)
{
	int on = 1;

	(void)setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	set_tcp(sock, TCP_KEEPALIVE, idle);
	set_tcp(sock, TCP_KEEPINTVL, every);
	set_tcp(sock, TCP_KEEPCNT, count);
}

void os_tcp_give_up_after(int sock, int seconds)
{
	set_tcp(sock, TCP_RXT_CONNDROPTIME, seconds);
}

/* The system counts what it repeated, not since when: TCP_CONNECTION_INFO has no time in it. */
uint64_t os_tcp_unanswered(int sock)
{
	(void)sock;
	return 0;
}
