/* SPDX-License-Identifier: MIT */
/* Linux 5.3 and later; see os.h. */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000) /* nanoseconds */

/* ---- time -------------------------------------------------------------------------------------------------------- */

static ssize_t boot_text(char *text, size_t cap)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, cap) : -1;

	if (fd >= 0)
		close(fd);
	return n;
}

/* What is this boot's and this namespace's. */
static size_t boot_and(const char *ns, char *text, size_t cap)
{
	ssize_t boot = boot_text(text, cap), more;

	if (boot <= 0)
		return 0;
	more = readlink(ns, text + boot, cap - (size_t)boot);
	return (size_t)(more > 0 ? boot + more : boot);
}

size_t os_clock_text(char *text, size_t cap)
{
	return boot_and("/proc/self/ns/time", text, cap);
}

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

void os_sleep_on(const void *word, uint32_t value, uint64_t ns, enum os_reach reach)
{
	struct timespec t = {.tv_sec = (time_t)(ns / S), .tv_nsec = (long)(ns % S)};

	(void)syscall(SYS_futex, word, reach == OS_HOST ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, value, &t, NULL, 0);
}

void os_wake(const void *word, enum os_reach reach)
{
	(void)syscall(SYS_futex, word, reach == OS_HOST ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

long os_preemptions(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

int os_queue_open(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

int os_queue_watch(int queue, int fd, unsigned was, unsigned events, uint64_t tag)
{
	struct epoll_event e = {.data.u64 = tag};

	if (!was && !events)
		return 0;
	e.events = (events & OS_READ ? EPOLLIN : 0u) | (events & OS_WRITE ? EPOLLOUT : 0u) |
	           (events & OS_ONCE ? EPOLLONESHOT : 0u);
	return epoll_ctl(queue, !was ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, &e);
}

static unsigned events_of(uint32_t e)
{
	const uint32_t broken = EPOLLHUP | EPOLLERR;

	return (e & (EPOLLIN | broken) ? OS_READ : 0u) | (e & (EPOLLOUT | broken) ? OS_WRITE : 0u);
}

#define BATCH 64

int os_queue_wait(int queue, struct os_ready *ready, int cap, int ms)
{
	struct epoll_event e[BATCH];
	int n = epoll_wait(queue, e, cap < BATCH ? cap : BATCH, ms);

	for (int i = 0; i < n; i++)
		ready[i] = (struct os_ready){e[i].data.u64, events_of(e[i].events)};
	return n < 0 && errno == EINTR ? 0 : n;
}

int os_event_open(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void os_event_raise(int event)
{
	(void)!write(event, &(uint64_t){1}, sizeof(uint64_t)); /* EAGAIN: full, so it is raised */
}

void os_event_clear(int event)
{
	uint64_t count;

	(void)!read(event, &count, sizeof(count));
}

int os_timer_open(void)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

void os_timer_set(int timer, uint64_t every_ns)
{
	struct timespec every = {.tv_sec = (time_t)(every_ns / S), .tv_nsec = (long)(every_ns % S)};

	(void)timerfd_settime(timer, 0, &(struct itimerspec){every, every}, NULL);
}

void os_timer_rest(int timer)
{
	os_event_clear(timer);
}

/* ---- processors and threads -------------------------------------------------------------------------------------- */

bool os_cpus_allowed(uint64_t *set, size_t words)
{
	memset(set, 0, words * sizeof(*set));
	return sched_getaffinity(0, words * sizeof(*set), (cpu_set_t *)set) == 0;
}

bool os_cpus_bind(const uint64_t *set, size_t words)
{
	return sched_setaffinity(0, words * sizeof(*set), (const cpu_set_t *)set) == 0;
}

size_t os_cache_bytes(void)
{
	long last = sysconf(_SC_LEVEL3_CACHE_SIZE);

	if (last <= 0)
		last = sysconf(_SC_LEVEL2_CACHE_SIZE);
	return last > 0 ? (size_t)last : 0;
}

void os_thread_name(const char *name)
{
	(void)pthread_setname_np(pthread_self(), name);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

uint64_t os_memory_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t os_memory_free(void)
{
	return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void os_memory_not_dumped(void *p, size_t bytes)
{
	(void)madvise(p, bytes, MADV_DONTDUMP);
}

void os_memory_not_forked(void *p, size_t bytes)
{
	(void)madvise(p, bytes, MADV_DONTFORK);
}

void os_memory_large_pages(void *p, size_t bytes)
{
	(void)madvise(p, bytes, MADV_HUGEPAGE);
}

#define NODES 1024

int os_memory_from_node(void *p, size_t bytes, int node)
{
	unsigned long mask[NODES / 8 / sizeof(unsigned long)] = {0}, bits = 8 * sizeof(mask[0]);

	if (node < 0 || node >= NODES)
		return EINVAL;
	mask[(unsigned long)node / bits] |= 1ul << (unsigned long)node % bits;
	return syscall(SYS_mbind, p, bytes, 1 /* MPOL_PREFERRED */, mask, NODES + 1ul, 0) == 0 ? 0 : errno;
}

/* ---- memory that processes share --------------------------------------------------------------------------------- */

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) /* who touches what is beyond a file's end dies */

/* Beyond the limit of file sizes a signal would end the process. */
static bool is_too_long(size_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur;
}

int os_shared_open(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), all = (bytes + page - 1) / page * page;
	int fd, error;

	if (is_too_long(all)) {
		errno = EFBIG;
		return -1;
	}
	fd = memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || (ftruncate(fd, (off_t)all) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int64_t os_shared_length(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &st) == 0)
		return st.st_size;
	errno = EINVAL;
	return -1;
}

int os_shared_commit(int fd, size_t at, size_t bytes)
{
	int rc = fallocate(fd, 0, (off_t)at, (off_t)bytes);

	return rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS) ? 0 : rc;
}

int os_shared_release(int fd, size_t at, size_t bytes)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes);
}

int os_private_release(void *p, size_t bytes)
{
	if (bytes % (size_t)sysconf(_SC_PAGESIZE) == 0)
		return madvise(p, bytes, MADV_DONTNEED);
	errno = EINVAL;
	return -1;
}

ssize_t os_receive_message(int sock, struct msghdr *m)
{
	return recvmsg(sock, m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}

ssize_t os_read_process(pid_t pid, uint64_t from, void *to, size_t bytes)
{
	struct iovec mine = {to, bytes}, theirs = {(void *)(uintptr_t)from, bytes};

	return process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

bool os_peer(int sock, pid_t *pid, uid_t *uid)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid == (uid_t)-1)
		return false;
	*pid = who.pid;
	*uid = who.uid;
	return true;
}

int os_process_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

size_t os_host_text(char *text, size_t cap)
{
	return boot_and("/proc/self/ns/net", text, cap);
}

uint64_t os_process_space(void)
{
	struct stat ns;

	return stat("/proc/self/ns/pid", &ns) == 0 ? ns.st_ino : 0;
}

int os_end_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL);
}

size_t os_open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

char **os_environment(void)
{
	return environ;
}

bool os_program_path(char *path, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", path, cap);

	if (n <= 0 || (size_t)n >= cap)
		return false;
	path[n] = '\0';
	return true;
}

int os_signals_open(const sigset_t *set)
{
	return signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int os_signals_next(int signals)
{
	struct signalfd_siginfo s;

	return read(signals, &s, sizeof(s)) == sizeof(s) ? (int)s.ssi_signo : 0;
}

const char *os_error_text(int error, char *buf, size_t cap)
{
	return strerror_r(error, buf, cap);
}

/* ---- sockets and pipes ------------------------------------------------------------------------------------------- */

int os_socket(int family, int type)
{
	return socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int os_accept(int listener)
{
	return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int os_pipe(int ends[2])
{
	return pipe2(ends, O_CLOEXEC);
}

int os_stream_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
}

int os_message_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
}

/* Abstract names, which a network namespace has to itself. 0: too long. */
static socklen_t local_name(const char *name, struct sockaddr_un *s)
{
	size_t len = strlen(name);

	*s = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len >= sizeof(s->sun_path)) {
		errno = ENAMETOOLONG;
		return 0;
	}
	memcpy(s->sun_path + 1, name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

int os_local_listen(const char *name, int backlog)
{
	struct sockaddr_un s;
	socklen_t len = local_name(name, &s);
	int sock = len ? os_socket(AF_UNIX, SOCK_STREAM) : -1, error;

	if (sock < 0 || (bind(sock, (struct sockaddr *)&s, len) == 0 && listen(sock, backlog) == 0))
		return sock;
	error = errno;
	close(sock);
	errno = error;
	return -1;
}

int os_local_connect(int sock, const char *name)
{
	struct sockaddr_un s;
	socklen_t len = local_name(name, &s);

	return len ? connect(sock, (struct sockaddr *)&s, len) : -1;
}

void os_local_unlisten(int listener)
{
	(void)listener;
}

static void set_tcp(int sock, int option, int value)
{
	(void)setsockopt(sock, IPPROTO_TCP, option, &value, sizeof(value));
}

void os_tcp_keep_alive(int sock, int idle, int every, int count)
{
	int on = 1;

	(void)setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	set_tcp(sock, TCP_KEEPIDLE, idle);
	set_tcp(sock, TCP_KEEPINTVL, every);
	set_tcp(sock, TCP_KEEPCNT, count);
}

void os_tcp_give_up_after(int sock, int seconds)
{
	set_tcp(sock, TCP_USER_TIMEOUT, seconds * 1000);
}

#define REPEATS 2 /* one may be lost on a network that is well */

uint64_t os_tcp_unanswered(int sock)
{
	struct tcp_info i = {.tcpi_state = 0};
	socklen_t len = sizeof(i);
	uint32_t heard;

	if (getsockopt(sock, IPPROTO_TCP, TCP_INFO, &i, &len) < 0 ||
	    (i.tcpi_retransmits < REPEATS && i.tcpi_probes < REPEATS))
		return 0;
	heard = i.tcpi_last_ack_recv < i.tcpi_last_data_recv ? i.tcpi_last_ack_recv : i.tcpi_last_data_recv;
	return heard * UINT64_C(1000000);
}
