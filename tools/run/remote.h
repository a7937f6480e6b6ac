/* SPDX-License-Identifier: MIT */
/* Starting an agent on a host: this program itself, directly or through a remote shell. */
#ifndef TUTTI_RUN_REMOTE_H
#define TUTTI_RUN_REMOTE_H

#include <sys/types.h>

/** Starts it, its stdin and stdout at the other end of *fd, which is non-blocking. Status and message. */
int agent_start(const char *host, const char *rsh, pid_t *pid, int *fd);
/** Gives it that long to end by itself, then kills it. Returns its wait status. */
int agent_end(pid_t pid, double seconds);

#endif
