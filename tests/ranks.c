/* SPDX-License-Identifier: MIT */
/* Worlds for tests: see ranks.h. */
#include "ranks.h"
#include "../src/os/os.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILURES_SHOWN 3
#define GATHER_BYTES   16384
#define MS             UINT64_C(1000000)
#define TICK           (10 * MS)
#define STALL          (20 * MS) /* a tick that comes later by this is more than the scheduler's whim */
#define STALLS         1024

/* What one rank tells, in memory that the test sees whatever happens to the rank. */
struct record {
	_Atomic int finished, failures;
	char note[600], text[FAILURES_SHOWN][1600];
};

/* What the ranks of a world share. */
struct board {
	struct record rank[RANKS_MAX];
	pthread_barrier_t barrier;
	_Atomic int failed, late;
	struct tutti_unique_id id;
	struct {
		uint64_t end, ns;
	} stall[STALLS];
	_Atomic int nstalls;
	_Atomic uint64_t ticked; /* all stalls up to then are listed */
	unsigned char gather[RANKS_MAX][GATHER_BYTES];
};

struct world {
	const struct ranks *how;
	int (*fn)(struct tutti_comm *c, void *arg);
	void *arg;
	struct board *board;
	int listener, port; /* RANKS_BY_ENV */
};

static struct board *board; /* of the world that this process is in */
static int worlds, late_worlds;
static _Thread_local struct {
	struct record *record;
	int rank;
} self;

void *ranks_share(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void ranks_unshare(void *p, size_t bytes)
{
	munmap(p, bytes);
}

/* ---- inside a rank ----------------------------------------------------------------------------------------------- */

int ranks_fail(const char *format, ...)
{
	int i = atomic_fetch_add(&self.record->failures, 1);
	atomic_store(&board->failed, 1);
	if (i < FAILURES_SHOWN) {
		va_list args;
		va_start(args, format);
		vsnprintf(self.record->text[i], sizeof(self.record->text[i]), format, args);
		va_end(args);
	}
	return 1;
}

void ranks_note(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(self.record->note, sizeof(self.record->note), format, args);
	va_end(args);
}

int ranks_meet(void)
{
	pthread_barrier_wait(&board->barrier);
	return atomic_load(&board->failed);
}

static uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

/* What the machine withheld since then. Waits for a tick, so that all of it is listed. */
static double withheld(uint64_t since_ns)
{
	uint64_t now = clock_ns(), sum = 0;
	while (atomic_load(&board->ticked) < now)
		nanosleep(&(struct timespec){.tv_nsec = (long)MS}, NULL);
	for (int i = 0; i < atomic_load(&board->nstalls); i++) {
		uint64_t end = board->stall[i].end, ns = board->stall[i].ns;
		if (end > since_ns)
			sum += ns < end - since_ns ? ns : end - since_ns;
	}
	return (double)sum * 1e-9;
}

bool ranks_too_late(uint64_t since_ns, double seconds)
{
	double took = (double)(clock_ns() - since_ns) * 1e-9;
	if (took <= seconds || (took -= withheld(since_ns)) <= seconds)
		return false;
	atomic_store(&board->late, 1);
	return took > seconds + RANKS_PATIENCE;
}

static void enter(const struct world *w, int rank)
{
	self.record = &w->board->rank[rank];
	self.rank = rank;
}

static void run_rank(const struct world *w, struct tutti_comm *c)
{
	ranks_note("its function");
	int rc = w->fn(c, w->arg);
	ranks_note("the end, after its function had returned");
	if (rc && !atomic_load(&self.record->failures))
		ranks_fail("returned %d", rc);
	if (rc && !w->how->keep)
		(void)tutti_comm_abort(c, "the test failed on this rank");
	if (!w->how->keep && (rc = tutti_comm_destroy(c)) != TUTTI_OK)
		ranks_fail("tutti_comm_destroy returned %d", rc);
	atomic_store(&self.record->finished, 1);
}

/* ---- how ranks find each other ----------------------------------------------------------------------------------- */

static int gather(void *ctx, const void *in, void *out, size_t bytes)
{
	const struct world *w = ctx;
	if (bytes > GATHER_BYTES)
		return -1;
	memcpy(w->board->gather[self.rank], in, bytes);
	pthread_barrier_wait(&w->board->barrier);
	for (int r = 0; r < w->how->n; r++)
		memcpy((char *)out + (size_t)r * bytes, w->board->gather[r], bytes);
	pthread_barrier_wait(&w->board->barrier);
	return 0;
}

static int create(const struct world *w, struct tutti_comm **c)
{
	struct tutti_config config = TUTTI_CONFIG_INIT;
	int rc = TUTTI_OK;
	if (w->how->config)
		config = *w->how->config;
	switch (w->how->start) {
	case RANKS_BY_ENV:
		return tutti_comm_from_env(c, &config);
	case RANKS_BY_OOB:
		config.oob = (struct tutti_oob){(void *)(uintptr_t)w, gather};
		return tutti_comm_create(c, w->how->n, NULL, self.rank, &config);
	default:
		if (self.rank == 0)
			rc = tutti_unique_id_create(&w->board->id);
		pthread_barrier_wait(&w->board->barrier);
		return rc ? rc : tutti_comm_create(c, w->how->n, &w->board->id, self.rank, &config);
	}
}

static void run_by_hand(const struct world *w)
{
	int rc = w->fn(NULL, w->arg);
	if (rc && !atomic_load(&self.record->failures))
		ranks_fail("returned %d", rc);
	atomic_store(&self.record->finished, 1);
}

static void create_and_run(const struct world *w)
{
	struct tutti_comm *c;
	ranks_note("creating the communicator");
	int rc = create(w, &c);
	if (rc == TUTTI_OK)
		run_rank(w, c);
	else
		ranks_fail("the communicator could not be made, status %d: %s", rc, tutti_last_error(NULL));
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

struct thread {
	pthread_t id;
	const struct world *world;
	int rank;
	struct tutti_comm *comm;
};

static void *thread_main(void *arg)
{
	const struct thread *t = arg;
	enter(t->world, t->rank);
	if (t->comm)
		run_rank(t->world, t->comm);
	else
		create_and_run(t->world);
	return NULL;
}

static void run_threads(const struct world *w)
{
	struct tutti_comm *comms[RANKS_MAX] = {NULL};
	struct thread threads[RANKS_MAX];
	int n = w->how->n, rc = TUTTI_OK;
	enter(w, 0);
	ranks_note("tutti_comm_create_threads");
	if (w->how->start == RANKS_SIMPLY)
		rc = tutti_comm_create_threads(comms, n, w->how->config);
	if (rc != TUTTI_OK) {
		ranks_fail("tutti_comm_create_threads returned %d: %s", rc, tutti_last_error(NULL));
		return;
	}
	for (int r = 0; r < n; r++) {
		threads[r] = (struct thread){.world = w, .rank = r, .comm = comms[r]};
		if (pthread_create(&threads[r].id, NULL, thread_main, &threads[r]) != 0) {
			ranks_fail("could not start thread %d", r);
			exit(1);
		}
	}
	for (int r = 0; r < n; r++)
		pthread_join(threads[r].id, NULL);
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

static void set_number(const char *name, int value)
{
	char text[16];
	snprintf(text, sizeof(text), "%d", value);
	setenv(name, text, 1);
}

static bool has_environment(const struct ranks *how)
{
	return !how->threads && (how->start == RANKS_BY_ENV || how->start == RANKS_BY_HAND);
}

static void launch_by_env(const struct world *w)
{
	char root[64];
	snprintf(root, sizeof(root), "127.0.0.1:%d", w->port);
	set_number("TUTTI_RANK", self.rank);
	set_number("TUTTI_SIZE", w->how->n);
	setenv("TUTTI_ROOT", root, 1);
	if (self.rank == 0)
		set_number("TUTTI_ROOT_FD", w->listener);
	else
		close(w->listener);
}

static void run_process(const struct world *w, int rank)
{
	enter(w, rank);
	if (has_environment(w->how))
		launch_by_env(w);
	if (w->how->before)
		w->how->before(rank, w->arg);
	if (w->how->start == RANKS_BY_HAND)
		run_by_hand(w);
	else
		create_and_run(w);
}

/* ---- the world --------------------------------------------------------------------------------------------------- */

static int listen_somewhere(struct world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	w->listener = socket(AF_INET, SOCK_STREAM, 0);
	if (w->listener < 0 || bind(w->listener, (struct sockaddr *)&a, len) != 0 || listen(w->listener, 64) != 0 ||
	    getsockname(w->listener, (struct sockaddr *)&a, &len) != 0)
		return -1;
	w->port = ntohs(a.sin_port);
	return 0;
}

/* The library must not see the tests' own variables: it would warn of them. */
static void set_environment(const struct world *w)
{
	char name[64];
	for (char **e = environ; *e;) {
		size_t len = strcspn(*e, "=");
		snprintf(name, sizeof(name), "%.*s", (int)len, *e);
		if (strncmp(name, "TUTTI_TEST_", 11) == 0 && len < sizeof(name))
			unsetenv(name);
		else
			e++;
	}
	for (int i = 0; w->how->env && w->how->env[i]; i++)
		putenv((char *)(uintptr_t)w->how->env[i]);
}

/* The child's end of the pipe closes when it is dead, by whatever cause. */
static pid_t start(const struct world *w, int rank, int *alive)
{
	int ends[2];
	pid_t pid = -1, parent = getpid();
	if (pipe(ends) != 0)
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		(void)os_end_with_parent();
		if (getppid() != parent)
			_exit(1);
		board = w->board;
		set_environment(w);
		if (w->how->threads) {
			if (w->how->before)
				w->how->before(0, w->arg);
			run_threads(w);
		} else {
			run_process(w, rank);
		}
		exit(0);
	}
	close(ends[1]);
	*alive = ends[0];
	return pid;
}

static double seconds_now(void)
{
	return (double)clock_ns() * 1e-9;
}

/* One tick: returns early when something happened to a rank. What it lasts too long is listed, and returned in seconds. */
static double tick(struct board *b, struct pollfd *fds, int n)
{
	uint64_t begin = clock_ns(), end, stall;
	int made = atomic_load(&b->nstalls);
	poll(fds, (nfds_t)n, (int)(TICK / MS));
	end = clock_ns();
	stall = end - begin > TICK + STALL ? end - begin - TICK : 0;
	if (stall && made < STALLS) {
		b->stall[made].end = end;
		b->stall[made].ns = stall;
		atomic_store(&b->nstalls, made + 1);
	}
	atomic_store(&b->ticked, end);
	return (double)stall * 1e-9;
}

static const char *ending(int status, char *buf, size_t cap)
{
	if (WIFSIGNALED(status))
		snprintf(buf, cap, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(buf, cap, "exited with status %d", WEXITSTATUS(status));
	return buf;
}

/* Did the rank die as it was meant to? */
static bool met_its_fate(const struct ranks *how, int rank, int status)
{
	return how->doomed >> rank & 1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static double seconds_of(const struct ranks *how)
{
	return how->seconds > 0 ? how->seconds : 60;
}

/* Waits for all processes; after the deadline, or soon after one crashed, kills what is left. */
static void reap(const struct world *w, int nprocs, pid_t *pid, int *alive, int *status, bool *hung)
{
	double deadline = seconds_now() + seconds_of(w->how);
	int left = nprocs;
	while (left) {
		struct pollfd fds[RANKS_MAX];
		double rest = deadline - seconds_now();
		for (int i = 0; i < nprocs; i++)
			fds[i] = (struct pollfd){.fd = alive[i], .events = POLLIN};
		if (rest > 0)
			deadline += tick(w->board, fds, nprocs);
		for (int i = 0; i < nprocs; i++) {
			if (alive[i] < 0 || (rest > 0 && !fds[i].revents))
				continue;
			if (rest <= 0) {
				hung[i] = true;
				kill(pid[i], SIGKILL);
			}
			waitpid(pid[i], &status[i], 0);
			close(alive[i]);
			alive[i] = -1;
			left--;
			if (status[i] && !hung[i] && !met_its_fate(w->how, i, status[i]) &&
			    deadline > seconds_now() + 5)
				deadline = seconds_now() + 5;
		}
	}
}

static int report(const struct world *w, int rank, int status, bool hung)
{
	const struct record *r = &w->board->rank[rank];
	char how[128];
	int failures = atomic_load(&r->failures);
	bool fate = !hung && met_its_fate(w->how, rank, status);
	if (!failures && (fate || (!status && (atomic_load(&r->finished) || w->how->threads))))
		return 0;
	for (int i = 0; i < failures && i < FAILURES_SHOWN; i++)
		fprintf(stderr, "rank %d of %d: %s\n", rank, w->how->n, r->text[i]);
	if (failures > FAILURES_SHOWN)
		fprintf(stderr, "rank %d of %d: and %d more\n", rank, w->how->n, failures - FAILURES_SHOWN);
	if (hung && !atomic_load(&r->finished))
		fprintf(stderr, "rank %d of %d hung (%.0f s) in: %s\n", rank, w->how->n, seconds_of(w->how), r->note);
	else if (status && !hung && !fate)
		fprintf(stderr, "rank %d of %d %s in: %s\n", rank, w->how->n, ending(status, how, sizeof(how)),
		        r->note);
	return 1;
}

int ranks_run(const struct ranks *how, int (*fn)(struct tutti_comm *c, void *arg), void *arg)
{
	struct world w = {how, fn, arg, ranks_share(sizeof(struct board)), -1, 0};
	int nprocs = how->threads ? 1 : how->n, made = 0, failed = 0;
	pid_t pid[RANKS_MAX];
	int alive[RANKS_MAX], status[RANKS_MAX] = {0};
	bool hung[RANKS_MAX] = {false};
	pthread_barrierattr_t shared;
	if (!w.board || how->n > RANKS_MAX || (has_environment(how) && listen_somewhere(&w) != 0)) {
		perror("a world of ranks");
		return how->n;
	}
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&w.board->barrier, &shared, (unsigned)how->n);
	for (; made < nprocs; made++)
		if ((pid[made] = start(&w, made, &alive[made])) < 0)
			break;
	if (made < nprocs) {
		perror("start a rank");
		failed = nprocs - made;
	}
	if (w.listener >= 0)
		close(w.listener);
	reap(&w, made, pid, alive, status, hung);
	for (int r = 0; r < how->n; r++)
		failed += how->threads ? report(&w, r, status[0], hung[0]) : report(&w, r, status[r], hung[r]);
	worlds++;
	late_worlds += atomic_load(&w.board->late);
	ranks_unshare(w.board, sizeof(struct board));
	return failed;
}

int ranks_worlds(int *late)
{
	int n = worlds;
	*late = late_worlds;
	worlds = late_worlds = 0;
	return n;
}
