/* Linux 5.3 and later; see os.h. */
#include "os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000) /* nanoseconds */

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
