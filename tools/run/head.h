/* SPDX-License-Identifier: MIT */
/* The head: what the user sees of a job. It starts an agent on each host and lasts until all ranks have ended. */
#ifndef TUTTI_RUN_HEAD_H
#define TUTTI_RUN_HEAD_H

#include "hosts.h"
#include "wire.h"

struct run_options {
	int n; /* ranks */
	struct hosts hosts;
	const char *bind, *cwd, *rsh;
	bool cwd_must;
	char **env; /* NAME=VALUE */
	int nenv;
	double timeout; /* seconds; 0: none */
	double grace;
	enum run_input input;
	bool tag;
	int argc;
	char **argv; /* program and arguments, NULL-terminated */
};

#define STATUS_OUTPUT  1
#define STATUS_MISSING 1
#define STATUS_TIMEOUT 124
#define STATUS_LOST    125

/**
 * Runs the job. Returns the exit status: 0; that of the rank that failed first (128 + the signal that killed it);
 * 128 + the signal that ended tutti-run; 124 at the time limit; 125 when a host was lost; 126 or 127 when the program
 * could not be run or was not found; 1 when the output could not be written,
 * or when ranks wait to be joined by one that has ended.
 */
int head_run(const struct run_options *o);
/** Says what would run where. Returns the exit status. */
int head_show(const struct run_options *o);

#endif
