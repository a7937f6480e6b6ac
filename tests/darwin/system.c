/* SPDX-License-Identifier: MIT */
/*
 * The rest of the imaginary Darwin: sleeping on a word, what sysctl tells, names, paths. As on macOS there is no /proc and
 * no /sys, and a thread names only itself.
 */
#include "imaginary.h"
#include "include/crt_externs.h"
#include "include/libproc.h"
#include "include/mach-o/dyld.h"
#include "include/os/os_sync_wait_on_address.h"
#include "include/pthread/qos.h"
#include "include/sys/sysctl.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

static int failed(int error)
{
	errno = error;
	return -1;
}

bool darwin_lacks(const char *name)
{
	const char *list = getenv("DARWIN_LACKS"), *at = list ? strstr(list, name) : NULL;

	return at != NULL;
}

void darwin_unknown(const char *what)
{
	fprintf(stderr, "the imaginary Darwin does not imitate this: %s\n", what);
	abort();
}

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

/* ns 0: without end. 0 or an errno. */
static int sleep_on(void *word, uint32_t value, uint64_t ns, bool shared)
{
	struct timespec t = {(time_t)(ns / S), (long)(ns % S)};
	long rc = syscall(SYS_futex, word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, value, ns ? &t : NULL, NULL, 0);

	return rc == 0 || errno == EAGAIN ? 0 : errno;
}

static int wake(void *word, int n, bool shared)
{
	return syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0) > 0 ? 0 : ENOENT;
}

/* Private calls that Apple's own libraries make: operation and flags by their numbers. */
#define UL_COMPARE_AND_WAIT        1u
#define UL_COMPARE_AND_WAIT_SHARED 3u
#define ULF_WAKE_ALL               0x00000100u
#define ULF_NO_ERRNO               0x01000000u

int __ulock_wait(uint32_t operation, void *word, uint64_t value, uint32_t timeout_us);
int __ulock_wait2(uint32_t operation, void *word, uint64_t value, uint64_t timeout_ns, uint64_t value2);
int __ulock_wake(uint32_t operation, void *word, uint64_t value);

static int ulock_result(uint32_t operation, int error)
{
	if (!error)
		return 0;
	return operation & ULF_NO_ERRNO ? -error : failed(error);
}

static int ulock_check(uint32_t operation, const void *word, uint32_t flags)
{
	uint32_t what = operation & 0xff;

	if (operation & ~(0xffu | flags | ULF_NO_ERRNO))
		return EINVAL;
	if (what != UL_COMPARE_AND_WAIT && what != UL_COMPARE_AND_WAIT_SHARED)
		return EINVAL;
	return !word || (uintptr_t)word % sizeof(uint32_t) ? EINVAL : 0;
}

int __ulock_wait2(uint32_t operation, void *word, uint64_t value, uint64_t timeout_ns, uint64_t value2)
{
	int error = ulock_check(operation, word, 0);

	if (value2)
		error = EINVAL;
	if (!error)
		error = sleep_on(word, (uint32_t)value, timeout_ns, (operation & 0xff) == UL_COMPARE_AND_WAIT_SHARED);
	return ulock_result(operation, error);
}

int __ulock_wait(uint32_t operation, void *word, uint64_t value, uint32_t timeout_us)
{
	return __ulock_wait2(operation, word, value, timeout_us * UINT64_C(1000), 0);
}

int __ulock_wake(uint32_t operation, void *word, uint64_t value)
{
	int error = ulock_check(operation, word, ULF_WAKE_ALL);

	(void)value;
	if (!error)
		error = wake(word, operation & ULF_WAKE_ALL ? INT_MAX : 1,
		             (operation & 0xff) == UL_COMPARE_AND_WAIT_SHARED);
	return ulock_result(operation, error);
}

/* Those of macOS 14.4; a word of four bytes. */
int os_sync_wait_on_address_with_timeout(void *word, uint64_t value, size_t size, os_sync_wait_on_address_flags_t flags,
                                         os_clockid_t clock, uint64_t timeout_ns)
{
	int error;

	if (size == 8)
		darwin_unknown("os_sync_wait_on_address for a word of eight bytes");
	if (size != 4 || !word || (uintptr_t)word % 4 || flags & ~OS_SYNC_WAIT_ON_ADDRESS_SHARED ||
	    clock != OS_CLOCK_MACH_ABSOLUTE_TIME || !timeout_ns)
		return failed(EINVAL);
	error = sleep_on(word, (uint32_t)value, timeout_ns, flags == OS_SYNC_WAIT_ON_ADDRESS_SHARED);
	return error ? failed(error) : 0;
}

int os_sync_wait_on_address(void *word, uint64_t value, size_t size, os_sync_wait_on_address_flags_t flags)
{
	return os_sync_wait_on_address_with_timeout(word, value, size, flags, OS_CLOCK_MACH_ABSOLUTE_TIME,
	                                            UINT64_MAX / 2);
}

static int os_sync_wake(void *word, size_t size, os_sync_wake_by_address_flags_t flags, int n)
{
	int error;

	if ((size != 4 && size != 8) || !word || (uintptr_t)word % size || flags & ~OS_SYNC_WAKE_BY_ADDRESS_SHARED)
		return failed(EINVAL);
	error = wake(word, n, flags == OS_SYNC_WAKE_BY_ADDRESS_SHARED);
	return error ? failed(error) : 0;
}

int os_sync_wake_by_address_any(void *word, size_t size, os_sync_wake_by_address_flags_t flags)
{
	return os_sync_wake(word, size, flags, 1);
}

int os_sync_wake_by_address_all(void *word, size_t size, os_sync_wake_by_address_flags_t flags)
{
	return os_sync_wake(word, size, flags, INT_MAX);
}

/* ---- what the machine is ----------------------------------------------------------------------------------------- */

/* A MacBook of 2023 with as many processors and as much memory as there are here. */
static bool number_of(const char *name, uint64_t *value, size_t *size)
{
	const uint64_t cpus = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	const struct {
		const char *name;
		uint64_t value;
		size_t size;
	} all[] = {
	        {"hw.memsize", memory, 8},
	        {"hw.pagesize", DARWIN_PAGE, 8},
	        {"hw.cachelinesize", 128, 8},
	        {"hw.l1dcachesize", 65536, 8},
	        {"hw.l2cachesize", 4194304, 8},
	        {"hw.ncpu", cpus, 4},
	        {"hw.activecpu", cpus, 4},
	        {"hw.physicalcpu", cpus, 4},
	        {"hw.logicalcpu", cpus, 4},
	        {"hw.physicalcpu_max", cpus, 4},
	        {"hw.logicalcpu_max", cpus, 4},
	        {"hw.nperflevels", cpus > 1 ? 2 : 1, 4},
	        {"hw.perflevel0.physicalcpu", (cpus + 1) / 2, 4},
	        {"hw.perflevel0.logicalcpu", (cpus + 1) / 2, 4},
	        {"hw.perflevel0.l2cachesize", 16777216, 4},
	        {"hw.perflevel1.physicalcpu", cpus / 2, 4},
	        {"hw.perflevel1.logicalcpu", cpus / 2, 4},
	        {"hw.perflevel1.l2cachesize", 4194304, 4},
	        {"hw.optional.arm64", 1, 4},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i].name, name) == 0) {
			*value = all[i].value;
			*size = all[i].size;
			return true;
		}
	return false;
}

static bool text_of(const char *name, char *text, size_t cap)
{
	ssize_t n = -1;
	int fd;

	if (strcmp(name, "kern.osrelease") == 0)
		return snprintf(text, cap, "23.4.0") > 0;
	if (strcmp(name, "hw.model") == 0)
		return snprintf(text, cap, "Mac15,3") > 0;
	if (strcmp(name, "machdep.cpu.brand_string") == 0)
		return snprintf(text, cap, "Apple M3") > 0;
	if (strcmp(name, "kern.bootsessionuuid") != 0)
		return false;
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, 36);
		close(fd);
	}
	text[n == 36 ? n : 0] = '\0';
	return n == 36;
}

int sysctlbyname(const char *name, void *old, size_t *old_size, void *new, size_t new_size)
{
	char text[64];
	uint64_t value;
	const void *from = &value;
	size_t size;

	if (new || new_size)
		return failed(EPERM);
	if (!number_of(name, &value, &size)) {
		if (!text_of(name, text, sizeof(text)))
			return failed(ENOENT);
		from = text;
		size = strlen(text) + 1;
	}
	if (old && *old_size < size)
		return failed(ENOMEM);
	if (old)
		memcpy(old, from, size); /* of a number the low half first */
	*old_size = size;
	return 0;
}

long darwin_sysconf(int name)
{
	switch (name) {
	case _SC_PAGESIZE:
		return (long)DARWIN_PAGE;
	case _SC_AVPHYS_PAGES:
	case _SC_LEVEL2_CACHE_SIZE:
	case _SC_LEVEL3_CACHE_SIZE:
		return failed(EINVAL);
	case _SC_PHYS_PAGES:
		return sysconf(name) / (long)(DARWIN_PAGE / (size_t)sysconf(_SC_PAGESIZE));
	default:
		return sysconf(name);
	}
}

int darwin_getpagesize(void)
{
	return (int)DARWIN_PAGE;
}

int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int size)
{
	struct proc_fdinfo *out = buffer;
	const int room = size / (int)sizeof(*out);
	int n = 0;
	DIR *dir;

	(void)arg;
	if (pid != getpid() || flavor != PROC_PIDLISTFDS)
		darwin_unknown("proc_pidinfo for anything but the own descriptors");
	dir = opendir("/proc/self/fd");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir) || atoi(e->d_name) >= darwin_first_of_ours())
			continue;
		if (buffer && n == room)
			break;
		if (buffer)
			out[n] = (struct proc_fdinfo){atoi(e->d_name), 0};
		n++;
	}
	if (dir)
		closedir(dir);
	return (buffer ? n : n + 20) * (int)sizeof(*out); /* asked for the size, macOS adds some */
}

/* ---- names and paths --------------------------------------------------------------------------------------------- */

extern char **environ;

char ***_NSGetEnviron(void)
{
	return &environ;
}

int _NSGetExecutablePath(char *path, uint32_t *size)
{
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n < 0)
		return -1;
	own[n++] = '\0';
	if (*size < (uint32_t)n) {
		*size = (uint32_t)n;
		return -1;
	}
	memcpy(path, own, (size_t)n);
	return 0;
}

int proc_pidpath(int pid, void *path, uint32_t size)
{
	if (pid != getpid())
		darwin_unknown("proc_pidpath of another process");
	return _NSGetExecutablePath(path, &size) == 0 ? (int)strlen(path) : 0;
}

int darwin_setname(const char *name)
{
	char cut[16];

	snprintf(cut, sizeof(cut), "%.15s", name);
	return pthread_setname_np(pthread_self(), cut);
}

int pthread_set_qos_class_self_np(qos_class_t class, int priority)
{
	switch (class) {
	case QOS_CLASS_USER_INTERACTIVE:
	case QOS_CLASS_USER_INITIATED:
	case QOS_CLASS_DEFAULT:
	case QOS_CLASS_UTILITY:
	case QOS_CLASS_BACKGROUND:
		return priority > 0 || priority < -15 ? EINVAL : 0;
	default:
		return EINVAL;
	}
}

qos_class_t qos_class_self(void)
{
	return QOS_CLASS_DEFAULT;
}

int pthread_threadid_np(pthread_t thread, uint64_t *id)
{
	if (thread && !pthread_equal(thread, pthread_self()))
		darwin_unknown("pthread_threadid_np of another thread");
	*id = (uint64_t)syscall(SYS_gettid);
	return 0;
}

static bool is_of_linux(const char *path)
{
	bool is = strncmp(path, "/proc", 5) == 0 || strncmp(path, "/sys/", 5) == 0 || strcmp(path, "/sys") == 0;

	if (is)
		errno = ENOENT;
	return is;
}

int darwin_open(const char *path, int flags, ...)
{
	va_list args;
	int fd;

	if (is_of_linux(path))
		return -1;
	va_start(args, flags);
	fd = flags & O_CREAT ? open(path, flags, va_arg(args, unsigned)) : open(path, flags);
	va_end(args);
	return fd;
}

FILE *darwin_fopen(const char *path, const char *mode)
{
	return is_of_linux(path) ? NULL : fopen(path, mode);
}

DIR *darwin_opendir(const char *path)
{
	return is_of_linux(path) ? NULL : opendir(path);
}

ssize_t darwin_readlink(const char *path, char *to, size_t cap)
{
	return is_of_linux(path) ? -1 : readlink(path, to, cap);
}

int darwin_access(const char *path, int mode)
{
	return is_of_linux(path) ? -1 : access(path, mode);
}
