/* SPDX-License-Identifier: MIT */
/*
 * Mach of the imaginary Darwin: ports of tasks, reading another task's memory, ticks, and the host's statistics. A port is
 * a name of this process for a pidfd, so it dies with its task; names are counted, and one that was given back is none.
 * task_for_pid refuses when DARWIN_LACKS names it: so does a Mac for whoever has not the right to debug.
 */
#include "include/mach/mach.h"
#include "imaginary.h"
#include "include/mach/mach_time.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define S     UINT64_C(1000000000)
#define SELF  0x103u
#define HOST  0x207u
#define FIRST 0x1003u
#define PORTS 1024

static struct port {
	pid_t pid;
	int fd, references;
} ports[PORTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

vm_size_t vm_page_size = DARWIN_PAGE, vm_kernel_page_size = DARWIN_PAGE;

static bool has_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void in_child(void) /* a child has no ports but its own */
{
	pthread_mutex_init(&lock, NULL);
	for (int i = 0; i < PORTS; i++) {
		if (ports[i].references)
			close(ports[i].fd);
		ports[i].references = 0;
	}
}

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, in_child);
}

mach_port_t mach_task_self(void)
{
	return SELF;
}

mach_port_t mach_host_self(void)
{
	return HOST;
}

static struct port *port_of(mach_port_name_t name)
{
	unsigned i = (name - FIRST) / 0x100;

	return name >= FIRST && (name - FIRST) % 0x100 == 0 && i < PORTS && ports[i].references ? &ports[i] : NULL;
}

/* The lock is held. A name for the living process of the pidfd; one that it has already, or a free one. */
static mach_port_name_t name_for(pid_t pid, int fd)
{
	int i = 0, free_one = -1;

	for (; i < PORTS; i++) {
		if (ports[i].references && ports[i].pid == pid && !has_ended(ports[i].fd))
			break;
		if (!ports[i].references && free_one < 0)
			free_one = i;
	}
	if (i == PORTS) {
		if (free_one < 0)
			darwin_unknown("so many ports of tasks: does nobody give them back?");
		i = free_one;
		ports[i] = (struct port){pid, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0};
	}
	ports[i].references++;
	return FIRST + 0x100u * (unsigned)i;
}

kern_return_t task_for_pid(mach_port_t self, int pid, mach_port_name_t *task)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int fd;

	pthread_once(&once, watch_forks);
	*task = MACH_PORT_NULL;
	if (self != SELF)
		return KERN_INVALID_ARGUMENT;
	if (pid != getpid() && darwin_lacks("task_for_pid"))
		return KERN_FAILURE;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0 || has_ended(fd)) {
		if (fd >= 0)
			close(fd);
		return KERN_FAILURE;
	}
	pthread_mutex_lock(&lock);
	*task = name_for((pid_t)pid, fd);
	pthread_mutex_unlock(&lock);
	close(fd);
	return KERN_SUCCESS;
}

kern_return_t mach_port_deallocate(mach_port_t task, mach_port_name_t name)
{
	struct port *p;
	kern_return_t rc = KERN_SUCCESS;

	if (task != SELF)
		return KERN_INVALID_ARGUMENT;
	if (name == SELF || name == HOST)
		return KERN_SUCCESS;
	pthread_mutex_lock(&lock);
	p = port_of(name);
	if (!p)
		rc = KERN_INVALID_NAME;
	else if (--p->references == 0)
		close(p->fd);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* All or nothing, as Mach copies: by way of memory of ours. */
static kern_return_t copy(pid_t pid, mach_vm_address_t from, mach_vm_size_t bytes, mach_vm_address_t to)
{
	struct iovec mine = {malloc(bytes ? bytes : 1), bytes}, theirs = {(void *)(uintptr_t)from, bytes};
	kern_return_t rc = KERN_INVALID_ADDRESS;
	ssize_t n = process_vm_readv(pid, &mine, 1, &theirs, 1, 0);

	if (n < 0 && errno == ESRCH)
		rc = MACH_SEND_INVALID_DEST;
	if (n < 0 && errno == EPERM)
		rc = KERN_PROTECTION_FAILURE;
	theirs.iov_base = (void *)(uintptr_t)to;
	if (n == (ssize_t)bytes && process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0) == n)
		rc = KERN_SUCCESS;
	free(mine.iov_base);
	return rc;
}

kern_return_t mach_vm_read_overwrite(vm_map_t task, mach_vm_address_t from, mach_vm_size_t bytes, mach_vm_address_t to,
                                     mach_vm_size_t *got)
{
	pid_t pid = task == SELF ? getpid() : -1;
	struct port *p;
	bool dead;
	kern_return_t rc;

	pthread_mutex_lock(&lock);
	p = port_of(task);
	if (p)
		pid = p->pid;
	dead = p && has_ended(p->fd);
	pthread_mutex_unlock(&lock);
	rc = pid < 0 || dead ? MACH_SEND_INVALID_DEST : copy(pid, from, bytes, to);
	*got = rc == KERN_SUCCESS ? bytes : 0;
	return rc;
}

/* ---- the host ---------------------------------------------------------------------------------------------------- */

kern_return_t host_page_size(host_t host, vm_size_t *bytes)
{
	*bytes = DARWIN_PAGE;
	return host == HOST ? KERN_SUCCESS : KERN_INVALID_ARGUMENT;
}

kern_return_t host_statistics64(host_t host, host_flavor_t flavor, host_info64_t out, mach_msg_type_number_t *count)
{
	uint64_t available = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	if (flavor != HOST_VM_INFO64)
		darwin_unknown("host_statistics64 for anything but HOST_VM_INFO64");
	if (host != HOST || *count < HOST_VM_INFO64_COUNT)
		return KERN_FAILURE;
	*(vm_statistics64_t)(void *)out = (vm_statistics64_data_t){.free_count = (natural_t)(available / DARWIN_PAGE)};
	*count = HOST_VM_INFO64_COUNT;
	return KERN_SUCCESS;
}

/* ---- ticks ------------------------------------------------------------------------------------------------------- */

uint64_t mach_absolute_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 24000000 + (uint64_t)t.tv_nsec * 3 / 125;
}

uint64_t mach_continuous_time(void)
{
	return mach_absolute_time();
}

kern_return_t mach_timebase_info(mach_timebase_info_t info)
{
	*info = (struct mach_timebase_info){125, 3};
	return KERN_SUCCESS;
}

uint64_t clock_gettime_nsec_np(clockid_t clock)
{
	uint64_t ticks = mach_absolute_time();

	if (clock != 8 /* CLOCK_UPTIME_RAW */ && clock != CLOCK_MONOTONIC_RAW)
		darwin_unknown("clock_gettime_nsec_np of another clock");
	return ticks / 3 * 125 + ticks % 3 * 125 / 3;
}
