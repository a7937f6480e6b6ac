/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and files of the application's: standard streams that are closed, descriptors of ours that it closes, a
 * library that it unloads, names that are not regular files.
 */
#include "fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

/* ---- standard streams ---------------------------------------------------------------------------------------------- */

#define FAR 200 /* where the test keeps its own */

static void close_standard_streams(int rank, void *arg)
{
	(void)arg;
	before_on_hosts(rank, arg);
	for (int fd = 0; fd < 3; fd++) {
		(void)fcntl(fd, F_DUPFD_CLOEXEC, FAR);
		close(fd);
	}
}

/* Nothing is open under the three numbers, in no state of a communicator. */
static int standard_streams_are_free(const char *when)
{
	struct stat st;
	for (int fd = 0; fd < 3; fd++)
		if (fstat(fd, &st) == 0)
			return ranks_fail("%s descriptor %d is open", when, fd);
	return 0;
}

static int without_standard_streams(struct tutti_comm *c, void *arg)
{
	static float x[50000];
	struct tutti_comm *half;
	int me = tutti_comm_rank(c);
	(void)arg;
	if (standard_streams_are_free("at start"))
		return 1;
	RANK_OK(tutti_allreduce(x, x, 50000, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_CHECK(tutti_comm_fd(c) > 2);
	RANK_OK(tutti_comm_split(c, me % 2, 0, &half));
	RANK_OK(tutti_alltoall(x, x + 100, 10, TUTTI_F32, half, NULL));
	RANK_OK(tutti_barrier(c, NULL));
	if (standard_streams_are_free("with a communicator"))
		return 1;
	RANK_OK(tutti_comm_destroy(half));
	return standard_streams_are_free("in the end");
}

static void closed_standard_streams_stay_closed(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		struct ranks how = {.before = close_standard_streams, .start = RANKS_BY_ENV};
		if (stage_run(s, how, without_standard_streams, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

/* ---- all descriptors ------------------------------------------------------------------------------------------------ */

#define FOREIGN 60
#define CONTENT "the application's own words\n"

/* The application's files, under numbers that were the library's. */
static int open_foreign(int fd[FOREIGN])
{
	char name[] = "/tmp/foreign.XXXXXX";
	int file = mkstemp(name);
	RANK_CHECK(file >= 0 && write(file, CONTENT, strlen(CONTENT)) == (ssize_t)strlen(CONTENT));
	for (int i = 0; i < FOREIGN; i++)
		RANK_CHECK((fd[i] = open(name, O_RDWR)) >= 0);
	unlink(name);
	close(file);
	return 0;
}

static int foreign_are_untouched(const int fd[FOREIGN])
{
	for (int i = 0; i < FOREIGN; i++) {
		if (lseek(fd[i], 0, SEEK_CUR) != 0)
			return ranks_fail("descriptor %d of the application was closed, read or written", fd[i]);
		close(fd[i]);
	}
	return 0;
}

static double cpu_of_process(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int close_everything(struct tutti_comm *c, struct stage *s)
{
	static float x[1000];
	int fd[FOREIGN], rc = TUTTI_OK;
	for (int i = 3; i < 1024; i++)
		close(i);
	if (open_foreign(fd))
		return 1;
	atomic_store(&s->deed_ns, clock_ns());
	double before = cpu_of_process();
	pause_us(300000);
	if (cpu_of_process() - before > 0.15)
		return ranks_fail("%.0f ms of CPU time in 300 ms of rest", (cpu_of_process() - before) * 1e3);
	ranks_note("a call after all descriptors were closed");
	for (int i = 0; i < 1000 && rc == TUTTI_OK; i++)
		rc = tutti_allreduce(x, x, 1000, TUTTI_F32, TUTTI_SUM, c, NULL);
	if (rc != TUTTI_ESYSTEM)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	if (says(c, "rank %d (pid %d", s->victim, (int)getpid()) ||
	    says(c, "closed descriptors that it had not opened"))
		return 1;
	ranks_note("the end after all descriptors were closed");
	RANK_OK(tutti_comm_destroy(c));
	return foreign_are_untouched(fd);
}

static int one_closes_all(struct tutti_comm *c, void *arg)
{
	static float x[1000];
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	RANK_OK(tutti_allreduce(x, x, 1000, TUTTI_F32, TUTTI_SUM, c, NULL));
	ranks_meet();
	if (me == s->victim) {
		rc = close_everything(c, s);
	} else {
		ranks_note("calls while rank %d closes all descriptors", s->victim);
		while (rc == TUTTI_OK)
			rc = tutti_allreduce(x, x, 1000, TUTTI_F32, TUTTI_SUM, c, NULL);
		rc = says(c, "rank %d (pid", s->victim);
		RANK_OK(tutti_comm_destroy(c));
	}
	ranks_meet();
	return rc;
}

static void closing_all_descriptors_ends_the_world(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++)
		for (int victim = 0; victim < 3; victim += 2) {
			struct stage *s = stage_new(way);
			s->victim = victim;
			if (stage_run(s, (struct ranks){.keep = true}, one_closes_all, NULL))
				fail_msg("%s, rank %d", way_names[way], victim);
			stage_free(s);
		}
}

/* ---- a library that is unloaded --------------------------------------------------------------------------------------- */

static int load_use_unload(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	char *tests = strstr(path, "/tests/fault/");
	if (!tests)
		return 2;
	strcpy(tests, "/lib/libtutti.so.0");
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return 3;
	int (*create)(struct tutti_comm **, int, const struct tutti_config *);
	*(void **)&create = dlsym(lib, "tutti_comm_create_threads");
	struct tutti_comm *c[2];
	if (!create || create(c, 2, NULL) != TUTTI_OK)
		return 4;
	if (dlclose(lib) != 0)
		return 5;
	pause_us(100000); /* the service thread lives on */
	exit(0);          /* with its handlers */
}

static void unloading_with_a_live_communicator_is_harmless(void **state)
{
	int status = 0;
	(void)state;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(load_use_unload());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- names that are no regular files ------------------------------------------------------------------------------------ */

struct heard {
	_Atomic int warnings;
	char text[1000];
};

static void hear_warning(void *ctx, enum tutti_log_level level, const char *line)
{
	struct heard *h = ctx;
	if (level == TUTTI_LOG_WARN && strstr(line, "TUTTI_FLIGHT")) {
		snprintf(h->text, sizeof(h->text), "%s", line);
		atomic_fetch_add(&h->warnings, 1);
	}
}

static int runs_and_warns(struct tutti_comm *c, void *arg)
{
	struct heard h = {0};
	struct tutti_config config = TUTTI_CONFIG_INIT;
	float x = 0;
	(void)c;
	config.log = hear_warning;
	config.log_ctx = &h;
	RANK_OK(tutti_comm_from_env(&c, &config));
	RANK_CHECK(atomic_load(&h.warnings) == 1); /* said at start, not when the record is needed */
	RANK_CHECK(strstr(h.text, arg));
	RANK_OK(tutti_allreduce(&x, &x, 1, TUTTI_F32, TUTTI_SUM, c, NULL));
	ranks_note("destroy, with a flight record that can't be written");
	RANK_OK(tutti_comm_destroy(c));
	RANK_CHECK(atomic_load(&h.warnings) == 2);
	return 0;
}

static int is_refused(struct tutti_comm *c, void *arg)
{
	(void)arg;
	ranks_note("start with a FIFO as TUTTI_TOPO_FILE");
	RANK_CHECK(tutti_comm_from_env(&c, NULL) != TUTTI_OK);
	return says(NULL, "TUTTI_TOPO_FILE");
}

static void only_regular_files_are_opened(void **state)
{
	char dir[] = "/tmp/files.XXXXXX", fifo[64], flight[128], nowhere[128], topo[128];
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	snprintf(flight, sizeof(flight), "TUTTI_FLIGHT=%s", fifo);
	snprintf(nowhere, sizeof(nowhere), "TUTTI_FLIGHT=%s/not/there", dir);
	snprintf(topo, sizeof(topo), "TUTTI_TOPO_FILE=%s", fifo);
	struct ranks how = {.n = 2, .start = RANKS_BY_HAND, .seconds = 30};
	how.env = (const char *const[]){flight, NULL};
	assert_int_equal(ranks_run(&how, runs_and_warns, "is not a regular file"), 0);
	int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* writing would not block at once */
	assert_int_equal(ranks_run(&how, runs_and_warns, "is not a regular file"), 0);
	close(reader);
	how.env = (const char *const[]){nowhere, NULL};
	assert_int_equal(ranks_run(&how, runs_and_warns, "/not/there"), 0);
	how.env = (const char *const[]){topo, NULL};
	assert_int_equal(ranks_run(&how, is_refused, NULL), 0);
	unlink(fifo);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(closed_standard_streams_stay_closed, nothing_left),
	        cmocka_unit_test_teardown(closing_all_descriptors_ends_the_world, nothing_left),
	        cmocka_unit_test_teardown(unloading_with_a_live_communicator_is_harmless, nothing_left),
	        cmocka_unit_test_teardown(only_regular_files_are_opened, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
