/* SPDX-License-Identifier: MIT */
/* Descriptors, see fd.h. Entries are found by number; the owner of a descriptor owns its entry. */
#include "fd.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST 3 /* above the standard streams */
#define PAGE  1024
#define PAGES 1024

/* Relaxed: the kernel gives a number to one owner at a time, and its close and open are the order between them. */
struct identity {
	_Atomic uint64_t dev, ino;
	_Atomic uint32_t type; /* 1 + that of st_mode: some systems give sockets and queues no inode; 0: not known */
};

static uint32_t type_of(const struct stat *st)
{
	return 1 + (uint32_t)(st->st_mode & S_IFMT);
}

static void set(struct identity *id, uint64_t dev, uint64_t ino, uint32_t type)
{
	atomic_store_explicit(&id->dev, dev, memory_order_relaxed);
	atomic_store_explicit(&id->ino, ino, memory_order_relaxed);
	atomic_store_explicit(&id->type, type, memory_order_relaxed);
}

static _Atomic(struct identity *) pages[PAGES];

/* NULL: there is no memory for it, or the number is beyond all tables; such a descriptor is taken to be ours. */
static struct identity *entry(int fd, bool make)
{
	struct identity *fresh, *page = NULL;

	if (fd < 0 || fd >= PAGE * PAGES)
		return NULL;
	page = atomic_load_explicit(&pages[fd / PAGE], memory_order_acquire); /* A55 */
	if (!page && make && (fresh = calloc(PAGE, sizeof(*fresh)))) {
		if (atomic_compare_exchange_strong_explicit(&pages[fd / PAGE], &page, fresh,
		                                            memory_order_acq_rel,  /* R55 */
		                                            memory_order_acquire)) /* A55 */
			page = fresh;
		else
			free(fresh);
	}
	return page ? &page[fd % PAGE] : NULL;
}

static void remember(int fd)
{
	struct identity *id = entry(fd, true);
	struct stat st;

	if (id && fstat(fd, &st) == 0)
		set(id, (uint64_t)st.st_dev, st.st_ino, type_of(&st));
	else if (id)
		set(id, 0, 0, 0);
}

int fd_keep(int fd)
{
	int up, error;

	if (fd >= 0 && fd < FIRST) {
		up = fcntl(fd, F_DUPFD_CLOEXEC, FIRST);
		error = errno;
		close(fd);
		errno = error;
		fd = up;
	}
	if (fd >= 0)
		remember(fd);
	return fd;
}

bool fd_is_ours(int fd)
{
	const struct identity *id = entry(fd, false);
	uint32_t type = id ? atomic_load_explicit(&id->type, memory_order_relaxed) : 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return false;
	return !type || (type == type_of(&st) && atomic_load_explicit(&id->ino, memory_order_relaxed) == st.st_ino &&
	                 atomic_load_explicit(&id->dev, memory_order_relaxed) == (uint64_t)st.st_dev);
}

void fd_close(int fd)
{
	struct identity *id = entry(fd, false);
	bool ours = fd_is_ours(fd);

	if (id)
		set(id, 0, 0, 0);
	if (ours)
		close(fd);
}

FILE *file_open(const char *path, const char *mode)
{
	int how = mode[0] == 'a' ? O_WRONLY | O_APPEND | O_CREAT : O_RDONLY;
	int fd = fd_keep(open(path, how | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666));
	struct stat st;
	FILE *f = NULL;

	if (fd < 0 && errno != ENXIO) /* ENXIO: a FIFO that nobody reads */
		(void)fail_errno("can't open %s", path);
	else if (fd < 0 || (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)))
		(void)fail(TUTTI_ESYSTEM, "%s is not a regular file", path);
	else if (!(f = fdopen(fd, mode)))
		(void)fail_errno("can't open %s", path);
	if (!f && fd >= 0)
		close(fd);
	return f;
}
