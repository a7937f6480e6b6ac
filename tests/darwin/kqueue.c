/* SPDX-License-Identifier: MIT */
/*
 * kqueue of the imaginary Darwin. A kqueue is an epoll descriptor, so poll and other queues can watch it. It watches a list
 * of sources. A source is a descriptor of the program with up to two filters (EVFILT_READ, EVFILT_WRITE), or a descriptor of
 * ours for another filter: an eventfd for EVFILT_USER, a timerfd, a pidfd or a signalfd. Each is readable while its filter is
 * active, so the epoll is readable while the queue has something to report.
 *
 * As on macOS: a filter belongs to a number of this process and leaves with close of that number, whoever else has the file
 * open; a copy by dup is the same queue; a forked child has none of its parent's; kevent is no place where a thread is cancelled; EVFILT_PROC refuses
 * a process that has ended, waited for or not; its event and that of EV_ONESHOT are told once.
 */
#include "imaginary.h"
#include "include/sys/event.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

struct note {
	bool is, disabled;
	struct kevent k;
};

struct source {
	struct source *next;
	uint64_t id;   /* what the epoll calls it */
	int fd;        /* that the epoll watches */
	bool ours;     /* to be closed with it */
	uint32_t mask; /* what the epoll watches it for; 0: it is not in the epoll */
	struct note note[2];
};

#define COPIES 4

struct queue {
	struct queue *next;
	int fd;           /* the epoll: the first of its numbers */
	int copy[COPIES]; /* more of them, by dup; 0: none */
	struct source *sources;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below; nobody waits under it */
static struct queue *queues;
static uint64_t last_id;

/* No place where a thread is cancelled: the lock is held. */
static void shut(int fd)
{
	(void)syscall(SYS_close, fd);
}

static int failed(int error)
{
	errno = error;
	return -1;
}

/* ---- sources ----------------------------------------------------------------------------------------------------- */

static bool is_of_descriptor(int filter)
{
	return filter == EVFILT_READ || filter == EVFILT_WRITE;
}

static struct source *find(const struct queue *q, const struct kevent *k)
{
	for (struct source *s = q->sources; s; s = s->next)
		for (int i = 0; i < 2; i++)
			if (s->note[i].is && s->note[i].k.ident == k->ident &&
			    (s->note[i].k.filter == k->filter ||
			     (is_of_descriptor(k->filter) && is_of_descriptor(s->note[i].k.filter))))
				return s;
	return NULL;
}

static struct note *note_of(struct source *s, int filter)
{
	return &s->note[filter == EVFILT_WRITE];
}

/* Makes the epoll watch what the notes want now. */
static int refresh(const struct queue *q, struct source *s)
{
	struct epoll_event e = {.data.u64 = s->id};
	int edges = 0, levels = 0;

	for (int i = 0; i < 2; i++) {
		const struct note *n = &s->note[i];

		if (!n->is || n->disabled)
			continue;
		e.events |= i ? EPOLLOUT : EPOLLIN | (s->ours ? 0 : EPOLLRDHUP);
		if (is_of_descriptor(n->k.filter))
			*(n->k.flags & EV_CLEAR ? &edges : &levels) += 1;
	}
	if (edges && levels)
		darwin_unknown("one descriptor watched with EV_CLEAR and without");
	if (edges)
		e.events |= EPOLLET;
	if (e.events == s->mask)
		return 0;
	if (epoll_ctl(q->fd, !s->mask ? EPOLL_CTL_ADD : e.events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, s->fd, &e) < 0)
		return -1;
	s->mask = e.events;
	return 0;
}

static void drop(struct queue *q, struct source *s)
{
	struct source **at = &q->sources;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->mask)
		(void)epoll_ctl(q->fd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->ours)
		shut(s->fd);
	free(s);
}

static void drop_note(struct queue *q, struct source *s, struct note *n)
{
	n->is = false;
	if (!s->note[0].is && !s->note[1].is)
		drop(q, s);
	else
		(void)refresh(q, s);
}

static int set_timer(int fd, const struct kevent *k)
{
	uint64_t unit = k->fflags & NOTE_NSECONDS   ? 1
	                : k->fflags & NOTE_USECONDS ? 1000
	                : k->fflags & NOTE_SECONDS  ? S
	                                            : 1000000;
	uint64_t ns = (uint64_t)k->data * unit;
	struct timespec t;

	if (k->fflags & ~(NOTE_SECONDS | NOTE_USECONDS | NOTE_NSECONDS | NOTE_CRITICAL | NOTE_LEEWAY))
		darwin_unknown("a timer's flag");
	if (k->data < 0)
		return failed(EINVAL);
	ns = ns ? ns : 1;
	t = (struct timespec){(time_t)(ns / S), (long)(ns % S)};
	return timerfd_settime(fd, 0, &(struct itimerspec){k->flags & EV_ONESHOT ? (struct timespec){0} : t, t}, NULL);
}

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return syscall(SYS_ppoll, &p, 1, &(struct timespec){0}, NULL, 0) == 1;
}

static int open_process(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd >= 0 && is_readable(fd)) { /* it has ended */
		shut(fd);
		return failed(ESRCH);
	}
	return fd < 0 && errno == EINVAL ? failed(ESRCH) : fd;
}

static int open_signal(int sig)
{
	sigset_t set, blocked;

	sigemptyset(&set);
	if (sigaddset(&set, sig) < 0)
		return failed(EINVAL);
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	if (!sigismember(&blocked, sig))
		darwin_unknown("EVFILT_SIGNAL for a signal that is not blocked");
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A descriptor for the epoll; *ours: not the program's. */
static int descriptor_for(const struct queue *q, const struct kevent *k, bool *ours)
{
	struct epoll_event e = {0};
	int fd = (int)k->ident;

	*ours = true;
	switch (k->filter) {
	case EVFILT_READ:
	case EVFILT_WRITE:
		if (fcntl(fd, F_GETFD) < 0)
			return -1;
		*ours = epoll_ctl(q->fd, EPOLL_CTL_ADD, fd, &e) < 0 && errno == EPERM;
		if (*ours) /* a file or a device that never waits */
			return eventfd(1, EFD_CLOEXEC);
		(void)epoll_ctl(q->fd, EPOLL_CTL_DEL, fd, NULL);
		return fd == q->fd ? failed(EINVAL) : fd;
	case EVFILT_USER:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case EVFILT_TIMER:
		return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	case EVFILT_PROC:
		if (k->fflags != NOTE_EXIT)
			darwin_unknown("EVFILT_PROC for anything but NOTE_EXIT");
		return open_process((pid_t)k->ident);
	case EVFILT_SIGNAL:
		return open_signal((int)k->ident);
	default:
		return failed(EINVAL);
	}
}

/* On a Mac a filter has no descriptor, so ours get numbers that nobody asks for: the upper quarter, while there is room. */
int darwin_first_of_ours(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1 << 20 ? (int)limit.rlim_cur / 4 * 3
	                                                                         : 1 << 19;
}

static int out_of_the_way(int fd)
{
	int up = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, darwin_first_of_ours()) : -1;

	if (up < 0)
		return fd;
	shut(fd);
	return up;
}

static struct source *add_source(struct queue *q, const struct kevent *k)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fd = descriptor_for(q, k, &s->ours);
	if (s->ours)
		s->fd = out_of_the_way(s->fd);
	if (s->fd < 0) {
		free(s);
		return NULL;
	}
	s->id = ++last_id;
	s->next = q->sources;
	q->sources = s;
	return s;
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

/* What a change of an existing filter, or of a new one, does beyond its flags. */
static int touch(struct source *s, struct note *n, const struct kevent *k)
{
	uint64_t one = 1;

	switch (k->filter) {
	case EVFILT_USER:
		if (k->fflags & ~NOTE_TRIGGER)
			darwin_unknown("flags of EVFILT_USER");
		if (k->fflags & NOTE_TRIGGER)
			(void)syscall(SYS_write, s->fd, &one, sizeof(one));
		return 0;
	case EVFILT_TIMER:
		return k->flags & EV_ADD ? set_timer(s->fd, &n->k) : 0;
	default:
		return 0;
	}
}

static int add_note(struct queue *q, struct source **s, const struct kevent *k)
{
	const uint16_t kept = EV_ONESHOT | EV_CLEAR | EV_DISPATCH;
	bool fresh = !*s;
	struct note *n;

	if (is_of_descriptor(k->filter) && (k->fflags || k->data))
		darwin_unknown("EVFILT_READ or EVFILT_WRITE with a low-water mark");
	if (fresh && !(*s = add_source(q, k)))
		return -1;
	if ((*s)->mask &&
	    epoll_ctl(q->fd, EPOLL_CTL_MOD, (*s)->fd, &(struct epoll_event){(*s)->mask, {.u64 = (*s)->id}}) < 0)
		(*s)->mask = 0; /* a library of the system has closed the number, and it is another file's now */
	n = note_of(*s, k->filter);
	n->disabled = n->is && n->disabled;
	n->is = true;
	n->k = *k;
	n->k.flags = k->flags & kept;
	n->k.fflags = k->fflags & ~NOTE_TRIGGER;
	if (k->filter == EVFILT_TIMER || k->filter == EVFILT_SIGNAL)
		n->k.flags |= EV_CLEAR;
	n->disabled = false;
	return 0;
}

static int change(struct queue *q, const struct kevent *k)
{
	struct source *s = find(q, k);
	struct note *n = s ? note_of(s, k->filter) : NULL;
	bool fresh = !n || !n->is;
	int error;

	if (fresh && !(k->flags & EV_ADD)) {
		bool bad = is_of_descriptor(k->filter) && fcntl((int)k->ident, F_GETFD) < 0;

		return failed(bad ? EBADF : ENOENT);
	}
	if (k->flags & EV_DELETE) {
		drop_note(q, s, n);
		return 0;
	}
	if (k->flags & EV_ADD) {
		if (add_note(q, &s, k) < 0)
			return -1;
		n = note_of(s, k->filter);
	}
	n->k.udata = k->udata;
	if (k->flags & EV_ENABLE)
		n->disabled = false;
	if (k->flags & EV_DISABLE)
		n->disabled = true;
	if (touch(s, n, k) == 0 && refresh(q, s) == 0)
		return 0;
	error = errno;
	if (fresh)
		drop_note(q, s, n);
	return failed(error);
}

/* ---- what is told ------------------------------------------------------------------------------------------------ */

/* Takes what the timer has counted, or the signals that have come. 0: somebody else has. */
static int64_t take_count(const struct source *s, const struct note *n)
{
	struct signalfd_siginfo info;
	uint64_t count = 0;

	if (n->k.filter != EVFILT_SIGNAL)
		return syscall(SYS_read, s->fd, &count, sizeof(count)) == sizeof(count) ? (int64_t)count : 0;
	while (syscall(SYS_read, s->fd, &info, sizeof(info)) == sizeof(info)) {
		darwin_signal_told((int)info.ssi_signo);
		count++;
	}
	return (int64_t)count;
}

static bool is_active(const struct source *s, struct note *n, uint32_t events, struct kevent *out)
{
	const uint32_t broken = EPOLLHUP | EPOLLERR;
	int bytes = 0;

	*out = n->k;
	switch (n->k.filter) {
	case EVFILT_READ:
		if (!(events & (EPOLLIN | EPOLLRDHUP | broken)))
			return false;
		if (events & (EPOLLRDHUP | EPOLLHUP))
			out->flags |= EV_EOF;
		out->data = !s->ours && ioctl(s->fd, FIONREAD, &bytes) == 0 ? bytes : 1;
		return true;
	case EVFILT_WRITE:
		if (!(events & (EPOLLOUT | broken)))
			return false;
		if (events & EPOLLHUP)
			out->flags |= EV_EOF;
		out->data = 4096;
		return true;
	case EVFILT_USER:
		return is_readable(s->fd) && (!(n->k.flags & EV_CLEAR) || take_count(s, n) > 0);
	case EVFILT_PROC:
		out->fflags = NOTE_EXIT;
		out->flags |= EV_EOF | EV_ONESHOT;
		n->k.flags |= EV_ONESHOT;
		return true;
	default:
		out->data = (intptr_t)take_count(s, n);
		return out->data > 0;
	}
}

static int tell(struct queue *q, uint64_t id, uint32_t events, struct kevent *out, int room)
{
	struct source *s = q->sources;
	int told = 0;

	while (s && s->id != id)
		s = s->next;
	if (!s)
		return 0;
	for (int i = 0; i < 2; i++) {
		struct note *n = &s->note[i];
		bool last = i == 1 || !s->note[1].is;

		if (!n->is || n->disabled)
			continue;
		if (told == room) { /* it comes next time, also when it is an edge */
			(void)epoll_ctl(q->fd, EPOLL_CTL_MOD, s->fd, &(struct epoll_event){s->mask, {.u64 = id}});
			return told;
		}
		if (!is_active(s, n, events, &out[told]))
			continue;
		told++;
		if (n->k.flags & EV_ONESHOT) {
			drop_note(q, s, n);
			if (last)
				return told;
		} else if (n->k.flags & EV_DISPATCH) {
			n->disabled = true;
			(void)refresh(q, s);
		}
	}
	return told;
}

/* ---- the calls --------------------------------------------------------------------------------------------------- */

/* Where the queue has that number, fd or one of copy; NULL: it has not. */
static int *number_in(struct queue *q, int fd)
{
	if (q->fd == fd)
		return &q->fd;
	for (int i = 0; i < COPIES; i++)
		if (q->copy[i] == fd && fd > 0)
			return &q->copy[i];
	return NULL;
}

static void remove_queue(struct queue *q)
{
	struct queue **at = &queues;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	while (q->sources)
		drop(q, q->sources);
	free(q);
}

static void leave(int fd);

/* A test that is compiled for Linux may have closed the number, and another file may have it now. */
static bool is_epoll(int fd)
{
	char path[32], what[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, what, sizeof(what));
	return n > 0 && memmem(what, (size_t)n, "eventpoll", 9);
}

static void shut_queue(int fd)
{
	if (is_epoll(fd))
		shut(fd);
}

static struct queue *queue_of(int fd)
{
	int error = errno;
	struct queue *q = queues;

	while (q && !number_in(q, fd))
		q = q->next;
	if (q && !is_epoll(fd)) {
		leave(fd);
		q = NULL;
	}
	errno = error;
	return q;
}

/* A number of a queue closes. True: it was the last one, and the queue has ended. */
static bool lose_number(struct queue *q, int *number)
{
	int *last = NULL;

	for (int i = 0; i < COPIES; i++)
		if (q->copy[i] && &q->copy[i] != number)
			last = &q->copy[i];
	if (number == &q->fd && !last) {
		remove_queue(q);
		return true;
	}
	if (number == &q->fd) {
		q->fd = *last;
		number = last;
	}
	*number = 0;
	return false;
}

/* The number leaves all queues; if it is one's last, that ends. */
static void leave(int fd)
{
	if (fd < 0)
		return;
	for (struct queue *q = queues, *next; q; q = next) {
		int *number = number_in(q, fd);

		next = q->next;
		if (number && lose_number(q, number))
			continue;
		for (struct source *s = q->sources, *after; s; s = after) {
			const struct note *n = &s->note[s->note[0].is ? 0 : 1];

			after = s->next;
			if (is_of_descriptor(n->k.filter) && (int)n->k.ident == fd)
				drop(q, s);
		}
	}
}

/* What is the parent's: shuts what it has inherited of it, and forgets it. */
static void forget(void)
{
	for (struct queue *q = queues; q; q = q->next) {
		for (struct source *s = q->sources; s; s = s->next)
			s->mask = 0; /* the epoll is the parent's, too */
		shut_queue(q->fd);
		for (int i = 0; i < COPIES; i++)
			shut_queue(q->copy[i]);
	}
	while (queues)
		remove_queue(queues);
}

static pid_t owner; /* the process that has the queues */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* A handler of the program may be called before this one, and close. */
static void in_child(void)
{
	if (owner == getpid())
		return;
	pthread_mutex_init(&lock, NULL);
	owner = getpid();
	forget();
}

static void watch_forks(void)
{
	owner = getpid();
	pthread_atfork(before_fork, after_fork, in_child);
}

static void enter(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	in_child();
	pthread_mutex_lock(&lock);
}

int kqueue(void)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (!q)
		return failed(ENOMEM);
	enter();
	q->fd = epoll_create1(0);
	leave(q->fd); /* its last owner may have been closed by what is compiled for Linux */
	if (q->fd >= 0) {
		q->next = queues;
		queues = q;
	}
	pthread_mutex_unlock(&lock);
	if (q->fd >= 0)
		return q->fd;
	free(q);
	return -1;
}

bool darwin_is_kqueue(int fd)
{
	bool is;

	enter();
	is = queue_of(fd);
	pthread_mutex_unlock(&lock);
	return is;
}

/* The changes; what failed, and with EV_RECEIPT what did not, is told as events. -1: an error found no room there. */
static int apply(struct queue *q, const struct kevent *changes, int n, struct kevent *events, int room)
{
	int told = 0;

	for (int i = 0; i < n; i++) {
		int error = change(q, &changes[i]) < 0 ? errno : 0;

		if (!error && !(changes[i].flags & EV_RECEIPT))
			continue;
		if (told == room) {
			if (!error)
				continue;
			return failed(error);
		}
		events[told] = changes[i];
		events[told].flags = EV_ERROR;
		events[told++].data = error;
	}
	return told;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * S + (uint64_t)t.tv_nsec;
}

#define BATCH 64

/* Not glibc's epoll_wait, which is a place where threads are cancelled. */
static int sleep_on(int fd, struct epoll_event *e, int n, uint64_t until)
{
	uint64_t now = until == UINT64_MAX || !until ? 0 : now_ns();
	int ms = until == UINT64_MAX ? -1 : until <= now ? 0 : (int)((until - now + 999999) / 1000000);

	return (int)syscall(SYS_epoll_pwait, fd, e, n, ms, NULL, 8);
}

static int gather(int fd, struct kevent *events, int room, uint64_t until)
{
	struct epoll_event e[BATCH];
	int told = 0;

	for (;;) {
		int n = sleep_on(fd, e, room < BATCH ? room : BATCH, until);
		struct queue *q;

		if (n < 0)
			return -1;
		enter();
		q = queue_of(fd);
		for (int i = 0; q && i < n && told < room; i++)
			told += tell(q, e[i].data.u64, e[i].events, events + told, room - told);
		pthread_mutex_unlock(&lock);
		if (!q)
			return failed(EBADF);
		if (told || (until != UINT64_MAX && (!until || now_ns() >= until)))
			return told;
	}
}

int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout)
{
	uint64_t until = UINT64_MAX;
	struct queue *q;
	int told = 0;

	if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= (long)S))
		return failed(EINVAL);
	if (timeout)
		until = timeout->tv_sec || timeout->tv_nsec
		                ? now_ns() + (uint64_t)timeout->tv_sec * S + (uint64_t)timeout->tv_nsec
		                : 0;
	enter();
	q = queue_of(kq);
	if (q)
		told = apply(q, changes, nchanges, events, nevents);
	pthread_mutex_unlock(&lock);
	if (!q)
		return failed(EBADF);
	if (told || nevents == 0)
		return told;
	return gather(kq, events, nevents, until);
}

/* ---- descriptors that close -------------------------------------------------------------------------------------- */

static void close_number(int fd)
{
	int error = errno;

	enter();
	leave(fd);
	pthread_mutex_unlock(&lock);
	errno = error;
}

int darwin_close(int fd)
{
	close_number(fd);
	return close(fd);
}

int darwin_fclose(FILE *f)
{
	close_number(fileno(f));
	return fclose(f);
}

int darwin_closedir(DIR *d)
{
	close_number(dirfd(d));
	return closedir(d);
}

/* One more number of a queue, if fd is one. */
static int copied(int fd, int copy)
{
	struct queue *q;
	int i = 0;

	if (copy < 0)
		return copy;
	enter();
	q = queue_of(fd);
	while (q && i < COPIES && q->copy[i])
		i++;
	if (q && i == COPIES)
		darwin_unknown("so many copies of a queue");
	if (q)
		q->copy[i] = copy;
	pthread_mutex_unlock(&lock);
	return copy;
}

int darwin_dup(int fd)
{
	return copied(fd, dup(fd));
}

int darwin_dup2(int fd, int to)
{
	if (fd == to || fcntl(fd, F_GETFD) < 0)
		return dup2(fd, to);
	close_number(to);
	return copied(fd, dup2(fd, to));
}

int darwin_fcntl(int fd, int command, ...)
{
	va_list args;
	long value;
	int result;

	va_start(args, command);
	value = va_arg(args, long);
	va_end(args);
	result = fcntl(fd, command, value);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}
