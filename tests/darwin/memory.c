/* SPDX-License-Identifier: MIT */
/*
 * Memory of the imaginary Darwin. Pages have 16 KiB, as on M-chips: sysconf says so, mmap returns such addresses and all
 * that takes pages refuses others. An object of shm_open is a memfd, and every memfd here is one: it is sized once, neither
 * read nor written by its descriptor, mapped with MAP_SHARED up to its length, and fstat tells of it no more than mode, owner
 * and length. Of a queue fstat tells nothing, of a socket of TCP no number. A name has up to 31 bytes. It stands in /tmp as a link to the descriptor, as long as its maker lives.
 *
 * MADV_DONTNEED leaves the bytes what they are, and MADV_FREE may.
 */
#include "imaginary.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NAME_MOST 31

static int failed(int error)
{
	errno = error;
	return -1;
}

static size_t whole_pages(size_t bytes)
{
	return (bytes + DARWIN_PAGE - 1) / DARWIN_PAGE * DARWIN_PAGE;
}

bool darwin_is_shm(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static bool link_of(const char *name, char *path, size_t cap)
{
	if (strlen(name) > NAME_MOST || !name[0]) {
		errno = name[0] ? ENAMETOOLONG : EINVAL;
		return false;
	}
	snprintf(path, cap, "/tmp/darwin-shm-%ld-%s", (long)getuid(), name);
	for (char *c = path + strlen("/tmp/"); *c; c++)
		if (*c == '/')
			*c = '+';
	return true;
}

static int find(const char *path)
{
	char target[64];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	int fd;

	if (n < 0)
		return -1;
	target[n] = '\0';
	fd = open(target, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && darwin_is_shm(fd))
		return fd;
	if (fd >= 0)
		close(fd);
	return failed(ENOENT);
}

static int make(const char *path, mode_t mode)
{
	int fd = memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING), kept;
	char target[64];

	if (fd < 0)
		return -1;
	(void)fchmod(fd, mode & 0777);
	kept = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* until shm_unlink */
	snprintf(target, sizeof(target), "/proc/%ld/fd/%d", (long)getpid(), kept);
	if (kept >= 0 && symlink(target, path) == 0)
		return fd;
	if (kept >= 0)
		close(kept);
	close(fd);
	return failed(kept < 0 ? EMFILE : EEXIST);
}

int darwin_shm_open(const char *name, int flags, ...)
{
	char path[128];
	va_list args;
	int fd;

	if (!link_of(name, path, sizeof(path)))
		return -1;
	if ((flags & O_ACCMODE) != O_RDWR)
		darwin_unknown("shm_open without O_RDWR");
	fd = flags & O_EXCL ? failed(ENOENT) : find(path);
	if (fd >= 0 || errno != ENOENT || !(flags & O_CREAT))
		return fd;
	va_start(args, flags);
	fd = make(path, (mode_t)va_arg(args, unsigned));
	va_end(args);
	return fd;
}

int darwin_shm_unlink(const char *name)
{
	char path[128], target[64];
	long pid;
	ssize_t n;
	int kept;

	if (!link_of(name, path, sizeof(path)))
		return -1;
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0 || unlink(path) < 0)
		return -1;
	target[n] = '\0';
	if (sscanf(target, "/proc/%ld/fd/%d", &pid, &kept) == 2 && pid == (long)getpid())
		close(kept);
	return 0;
}

int darwin_ftruncate(int fd, off_t bytes)
{
	struct rlimit limit;
	size_t all = whole_pages((size_t)bytes);

	if (!darwin_is_shm(fd))
		return ftruncate(fd, bytes);
	if (fcntl(fd, F_GET_SEALS) & F_SEAL_GROW)
		return failed(EINVAL);
	if (bytes <= 0 || (size_t)bytes > (SIZE_MAX >> 1) - DARWIN_PAGE)
		return failed(EINVAL);
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && all > limit.rlim_cur)
		return failed(EFBIG); /* Linux would send a signal; macOS has no such limit for it */
	if (ftruncate(fd, (off_t)all) < 0)
		return -1;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

int darwin_fstat(int fd, struct stat *st)
{
	int rc = fstat(fd, st);

	if (rc == 0 && darwin_is_shm(fd))
		*st = (struct stat){.st_mode = st->st_mode & 0777,
		                    .st_uid = st->st_uid,
		                    .st_gid = st->st_gid,
		                    .st_size = st->st_size};
	if (rc == 0 && darwin_is_kqueue(fd))
		*st = (struct stat){.st_mode = S_IFIFO};
	if (rc == 0 && S_ISSOCK(st->st_mode) && darwin_is_inet(fd))
		st->st_dev = st->st_ino = 0; /* local ones alone have a number */
	return rc;
}

/* ---- pages ------------------------------------------------------------------------------------------------------- */

static bool is_aligned(const void *p)
{
	return (uintptr_t)p % DARWIN_PAGE == 0;
}

/* What macOS says to a mapping of an object of shm_open; 0: nothing. */
static int shm_error(size_t bytes, int flags, int fd, off_t at)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return errno;
	if (!(flags & MAP_SHARED) || !(fcntl(fd, F_GET_SEALS) & F_SEAL_GROW))
		return EINVAL;
	return (size_t)at + whole_pages(bytes) > (size_t)st.st_size ? EINVAL : 0;
}

void *darwin_mmap(void *p, size_t bytes, int prot, int flags, int fd, off_t at)
{
	size_t all = whole_pages(bytes);
	uint8_t *room, *begin;
	int error = flags & MAP_ANONYMOUS || !darwin_is_shm(fd) ? 0 : shm_error(bytes, flags, fd, at);

	if (!bytes || all < bytes || (size_t)at % DARWIN_PAGE || (flags & MAP_FIXED && !is_aligned(p)))
		error = EINVAL;
	if (error) {
		errno = error;
		return MAP_FAILED;
	}
	if (flags & MAP_FIXED)
		return mmap(p, all, prot, flags, fd, at);
	room = mmap(NULL, all + DARWIN_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	begin = (uint8_t *)(((uintptr_t)room + DARWIN_PAGE - 1) / DARWIN_PAGE * DARWIN_PAGE);
	if (mmap(begin, all, prot, flags | MAP_FIXED, fd, at) == MAP_FAILED) {
		error = errno;
		munmap(room, all + DARWIN_PAGE);
		errno = error;
		return MAP_FAILED;
	}
	if (begin > room)
		munmap(room, (size_t)(begin - room));
	munmap(begin + all, DARWIN_PAGE - (size_t)(begin - room));
	return begin;
}

int darwin_munmap(void *p, size_t bytes)
{
	return !is_aligned(p) || !bytes ? failed(EINVAL) : munmap(p, whole_pages(bytes));
}

int darwin_mprotect(void *p, size_t bytes, int prot)
{
	return !is_aligned(p) ? failed(EINVAL) : mprotect(p, whole_pages(bytes), prot);
}

#define APPLE_FREE          5
#define APPLE_FREE_REUSABLE 7
#define APPLE_FREE_REUSE    8

int darwin_madvise(void *p, size_t bytes, int advice)
{
	if (!is_aligned(p) || !bytes)
		return failed(EINVAL);
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case APPLE_FREE:
	case APPLE_FREE_REUSABLE:
	case APPLE_FREE_REUSE:
		return 0;
	default:
		return failed(EINVAL);
	}
}

int minherit(void *p, size_t bytes, int inherit)
{
	if (inherit != 2 /* VM_INHERIT_NONE */)
		darwin_unknown("minherit for anything but VM_INHERIT_NONE");
	return !is_aligned(p) ? failed(EINVAL) : madvise(p, whole_pages(bytes), MADV_DONTFORK);
}
