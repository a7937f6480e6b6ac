/* SPDX-License-Identifier: MIT */
/*
 * Worlds for tests: N ranks as threads of one process or as processes, each with an environment of its own, run one
 * function. Every world lives in processes forked for it: a crash or a hang ends the test with words and not the test's
 * process, and variables that the library reads once per process can differ from world to world.
 */
#ifndef TESTS_RANKS_H
#define TESTS_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tutti.h"

#define RANKS_MAX 64

/** How the ranks find each other. */
enum ranks_start {
	RANKS_SIMPLY,  /* threads: tutti_comm_create_threads; processes: by id */
	RANKS_BY_ID,   /* tutti_unique_id_create */
	RANKS_BY_OOB,  /* an all-gather of the test's */
	RANKS_BY_ENV,  /* tutti_comm_from_env, with TUTTI_RANK and its relatives; processes only */
	RANKS_BY_HAND, /* the same environment, but fn gets NULL and makes (and destroys) its own; processes only */
};

struct ranks {
	int n;
	bool threads; /* of one process; else a process each */
	enum ranks_start start;
	const char *const *env; /* "NAME=value" of all ranks, NULL at the end; may be NULL */
	/* Before the communicator is made, in each process (threads: once, as rank 0): setenv what differs; or NULL */
	void (*before)(int rank, void *arg);
	const struct tutti_config *config;
	double seconds;            /* until everything is killed; 0: 60 */
	bool keep;                 /* do not destroy the communicators: fn did */
	unsigned long long doomed; /* bit r: rank r may be killed by SIGKILL without failing the test; processes only */
};

/**
 * Runs fn on every rank and returns how many failed: fn returned something else than 0, the communicator could not be
 * made, a process crashed, leaked (sanitizers) or hung. Says on stderr which and why. Others see what fn writes to arg
 * only if arg came from ranks_share.
 */
int ranks_run(const struct ranks *how, int (*fn)(struct tutti_comm *c, void *arg), void *arg);

/** Zeroed memory that all processes of later worlds share with the test; ranks_unshare ends it. NULL: none left. */
void *ranks_share(size_t bytes);
void ranks_unshare(void *p, size_t bytes);

/** Inside fn: the reason for failing; the first few of a rank are shown. Returns 1, so that fn can return it. */
int ranks_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Inside fn: what this rank is about to do; shown when it crashes or hangs. */
void ranks_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Inside fn: waits for all ranks of the world without the library's help; 1 when one of them has failed. */
int ranks_meet(void);

/**
 * Inside fn: is it more than so many seconds since then (CLOCK_MONOTONIC)? Those in which the machine let nothing of this
 * world run do not count: the process that waits for the ranks ticks, and sees them. The world has been late then, which
 * ranks_worlds tells; true only when it is too late by RANKS_PATIENCE. A machine that is busy makes some worlds late, a
 * fault of the library's all of them.
 */
#define RANKS_PATIENCE 20.0
bool ranks_too_late(uint64_t since_ns, double seconds);
/** How many worlds there were since this was asked last, and in how many of them a rank was late. */
int ranks_worlds(int *late);

/** Inside fn: fails this rank with the expression, its place and the library's message. */
#define RANK_CHECK(expr)                                                                                               \
	do {                                                                                                           \
		if (!(expr))                                                                                           \
			return ranks_fail("%s:%d: %s; last error: %s", __FILE__, __LINE__, #expr,                      \
			                  tutti_last_error(NULL));                                                     \
	} while (0)
/** The same for a status that is expected. */
#define RANK_STATUS(want, call)                                                                                        \
	do {                                                                                                           \
		int status_ = (call);                                                                                  \
		if (status_ != (want))                                                                                 \
			return ranks_fail("%s:%d: %s returned %d, not %s: %s", __FILE__, __LINE__, #call, status_,     \
			                  #want, tutti_last_error(NULL));                                              \
	} while (0)
#define RANK_OK(call) RANK_STATUS(TUTTI_OK, call)

#endif
