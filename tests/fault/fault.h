/* SPDX-License-Identifier: MIT */
/*
 * What the tests of failures share: the stage on which ranks see each other's processes and the time of the deed, how a
 * rank dies while it is busy, what an error must say, and that nothing is left behind. Where the system allows it, a test
 * program has a network and a /dev/shm of its own, so that what is left there is its own.
 */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../ranks.h"

/* A death must be seen within a second; the machine that tests may be slow, and that is not the library's doing. */
#define DEATH_SECONDS 2.0

/** The ways on which faults are tried. Ranks of `hosts` see hosts of three ranks each, and reach the others by TCP. */
enum way { WAY_SHM, WAY_TCP, WAY_HOSTS, WAY_FABRIC };
static const char *const way_names[] = {"shm", "tcp", "hosts", "libfabric"};

/** Shared by all ranks of a world: from ranks_share. */
struct stage {
	enum way way;
	_Atomic int pid[RANKS_MAX];
	_Atomic uint64_t deed_ns; /* when the fault happened; 0: not yet */
	_Atomic int ready[RANKS_MAX], done[RANKS_MAX];
	int victim, n, variant;
	unsigned delay_us;
};

static inline uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void pause_us(unsigned us)
{
	struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
	nanosleep(&t, NULL);
}

static inline double seconds_since(uint64_t ns)
{
	return (double)(clock_ns() - ns) * 1e-9;
}

/** Polls until the number is at least `least`. */
static inline void await(_Atomic int *number, int least)
{
	while (atomic_load(number) < least)
		pause_us(500);
}

/* ---- surroundings ------------------------------------------------------------------------------------------------ */

static bool alone; /* this program has a network and a /dev/shm of its own */

static inline bool loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
	if (fd >= 0)
		close(fd);
	return up;
}

static inline bool go_alone(void)
{
	return unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL) == 0 && loopback_up();
}

/* Half of it would be worse than nothing: a child tries first. */
static inline bool can_go_alone(void)
{
	int status = 1;
	pid_t child = fork();
	if (child == 0)
		_exit(!go_alone());
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/** First in main, with its arguments: the first selects tests by a pattern. Orphans come to this process, to be seen. */
static inline void be_alone(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	alone = can_go_alone() && go_alone();
}

static inline int count_lines(const char *path, const char *with)
{
	char line[512];
	int n = 0;
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, with) != NULL;
	if (f)
		fclose(f);
	return n;
}

static inline int count_files(const char *path)
{
	int n = 0;
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/** Teardown of a test: no process, no name in /dev/shm, no local socket with a name, no listener; most worlds were in time. */
static inline int nothing_left(void **state)
{
	(void)state;
	int left = 0, late, worlds = ranks_worlds(&late);
	if (late > 1 && late > worlds / 2)
		left += fprintf(stderr, "%d of %d worlds were late\n", late, worlds);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		left += fprintf(stderr, "a process is left behind\n");
	if (alone && count_files("/dev/shm"))
		left += fprintf(stderr, "a file is left in /dev/shm\n");
	if (alone && count_lines("/proc/self/net/unix", "@"))
		left += fprintf(stderr, "a local socket is left\n");
	if (alone && count_lines("/proc/self/net/tcp", " 0A ") + count_lines("/proc/self/net/tcp6", " 0A "))
		left += fprintf(stderr, "a TCP listener is left\n");
	return left ? -1 : 0;
}

static inline void is_said_whether_alone(void **state)
{
	(void)state;
	if (!alone) {
		print_message("leftovers of sockets and /dev/shm are looked for as root only\n");
		skip();
	}
}

/* ---- worlds ------------------------------------------------------------------------------------------------------- */

#define PER_HOST 3

/** For struct ranks.before: arg is a struct stage. */
static inline void before_on_hosts(int rank, void *arg)
{
	const struct stage *s = arg;
	char name[32];
	snprintf(name, sizeof(name), "host%d", rank / PER_HOST);
	if (s->way == WAY_HOSTS)
		setenv("TUTTI_HOST", name, 1);
	if (s->way == WAY_FABRIC)
		setenv("TUTTI_LIBFABRIC_PROVIDER", "tcp;ofi_rxm", 1);
}

/** Zeroed, with the way's number of ranks. */
static inline struct stage *stage_new(enum way way)
{
	struct stage *s = ranks_share(sizeof(*s));
	assert_non_null(s);
	s->way = way;
	s->n = way == WAY_HOSTS ? 2 * PER_HOST : 4;
	return s;
}

static inline void stage_free(struct stage *s)
{
	ranks_unshare(s, sizeof(*s));
}

/** Runs fn on the stage's ranks, with "NAME=value"s besides; returns how many failed. */
static inline int stage_run(struct stage *s, struct ranks how, int (*fn)(struct tutti_comm *c, void *arg), ...)
{
	static const char *const transport[] = {"TUTTI_TRANSPORT=shm", "TUTTI_TRANSPORT=tcp", "TUTTI_TRANSPORT=shm,tcp",
	                                        "TUTTI_TRANSPORT=libfabric"};
	const char *env[8] = {transport[s->way], "TUTTI_LOG=error"};
	va_list more;
	va_start(more, fn);
	for (int i = 2; i < 7 && (env[i] = va_arg(more, const char *)); i++)
		;
	va_end(more);
	how.n = s->n;
	how.env = env;
	how.before = how.before ? how.before : before_on_hosts;
	return ranks_run(&how, fn, s);
}

/* ---- deeds -------------------------------------------------------------------------------------------------------- */

static inline void *strike(void *arg)
{
	struct stage *s = arg;
	pause_us(s->delay_us); /* at what moment of the call is left to chance */
	atomic_store(&s->deed_ns, clock_ns());
	kill(getpid(), SIGKILL);
	return NULL;
}

/** This process will be dead in s->delay_us. */
static inline void die_soon(struct stage *s)
{
	pthread_t t;
	if (pthread_create(&t, NULL, strike, s) == 0)
		pthread_detach(t);
}

/* ---- what errors must say ---------------------------------------------------------------------------------------- */

/** Inside fn: the communicator's text (or, with NULL, the thread's) has `format`'s text in it. 0, or 1 after ranks_fail. */
static inline int says(const struct tutti_comm *c, const char *format, ...)
{
	char want[256];
	va_list args;
	va_start(args, format);
	vsnprintf(want, sizeof(want), format, args);
	va_end(args);
	const char *text = tutti_last_error(c);
	return strstr(text, want) ? 0 : ranks_fail("\"%s\" is not in \"%s\"", want, text);
}

/** Inside fn: any call from now on returns `status` at once. */
static inline int is_out_of_use(struct tutti_comm *c, int status)
{
	char x[2] = {0};
	uint64_t begin = clock_ns();
	RANK_STATUS(status, tutti_comm_error(c));
	RANK_STATUS(status, tutti_allreduce(x, x, 1, TUTTI_I8, TUTTI_SUM, c, NULL));
	RANK_STATUS(status, tutti_send(x, 1, TUTTI_I8, 0, c, NULL));
	RANK_STATUS(status, tutti_barrier(c, NULL));
	RANK_CHECK(!ranks_too_late(begin, 1));
	return 0;
}

/** Inside fn: the survivors shrink, are `n`, in order, and their all-reduces are right. */
static inline int goes_on(struct tutti_comm *c, int n)
{
	struct tutti_comm *next = NULL;
	static float in[100000], out[100000];
	int me = tutti_comm_rank(c), before[RANKS_MAX];
	ranks_note("shrink");
	RANK_OK(tutti_comm_shrink(c, &next));
	RANK_CHECK(tutti_comm_size(next) == n);
	RANK_OK(tutti_allgather(&me, before, 1, TUTTI_I32, next, NULL));
	for (int i = 1; i < n; i++)
		RANK_CHECK(before[i - 1] < before[i]);
	for (size_t count = 1; count <= 100000; count *= 10) {
		for (size_t i = 0; i < count; i++)
			in[i] = (float)(tutti_comm_rank(next) + 1) + (float)(i % 7);
		ranks_note("allreduce of %zu among the survivors", count);
		RANK_OK(tutti_allreduce(in, out, count, TUTTI_F32, TUTTI_SUM, next, NULL));
		for (size_t i = 0; i < count; i++)
			if (out[i] != (float)(n * (n + 1) / 2) + (float)n * (float)(i % 7))
				return ranks_fail("wrong result after shrinking: element %zu of %zu is %g", i, count,
				                  (double)out[i]);
	}
	RANK_OK(tutti_comm_destroy(next));
	return 0;
}

#endif
