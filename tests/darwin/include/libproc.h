/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#ifndef DARWIN_LIBPROC_H
#define DARWIN_LIBPROC_H

#include <stdint.h>
#include <sys/types.h>

#define PROC_PIDLISTFDS          1
#define PROC_PIDLISTFD_SIZE      ((int)sizeof(struct proc_fdinfo))
#define PROC_PIDPATHINFO_MAXSIZE 4096

struct proc_fdinfo {
	int32_t proc_fd;
	uint32_t proc_fdtype;
};

int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int size);
int proc_pidpath(int pid, void *path, uint32_t size);

#endif
