/* SPDX-License-Identifier: MIT */
/*
 * tutti-run: its parsers, and the program itself with shell scripts as ranks. Hosts are a remote shell that drops the
 * host's name and runs the command here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include <tutti.h>

#include "../../src/os/os.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"
#include "../../tools/run/hosts.h"
#include "../../tools/run/lines.h"
#include "../../tools/run/wire.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define assert_contains(text, part) expect_part(text, part, __LINE__)

#define ARGS_MAX 32
#define ANSWER_S 20

static char program[PATH_MAX], dir[] = "/tmp/tutti-test-XXXXXX", rsh[PATH_MAX];

static void expect_part(const char *text, const char *part, int line)
{
	if (strstr(text, part))
		return;
	print_error("no \"%s\" in: %s\n", part, text);
	_fail(__FILE__, line);
}

/* ---- running the program ----------------------------------------------------------------------------------------- */

struct result {
	int status;
	char *out, *err;
	size_t out_len;
};

static char *content(int fd, size_t *len)
{
	struct buf b = {0};

	lseek(fd, 0, SEEK_SET);
	while (buf_fill(&b, fd) > 0)
		;
	if (len)
		*len = b.len;
	buf_add(&b, "", 1);
	close(fd);
	return b.data;
}

static int scratch(void)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static bool own_group; /* the program leads a process group */

static pid_t start(const char *const *args, int in, int out, int err)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const char *argv[ARGS_MAX + 2] = {program};
		for (int i = 0; args[i]; i++)
			argv[i + 1] = args[i];
		if (own_group)
			setpgid(0, 0);
		dup2(in, 0);
		dup2(out, 1);
		dup2(err, 2);
		execv(program, (char **)argv);
		_exit(99);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static struct result run_args(int in, const char *const *args)
{
	int out = scratch(), err = scratch();
	struct result r = {.status = status_of(start(args, in, out, err))};

	r.out = content(out, &r.out_len);
	r.err = content(err, NULL);
	return r;
}

/* The last run's texts live until the next one. */
static struct result last;

static void forget(void)
{
	free(last.out);
	free(last.err);
	last = (struct result){0};
}

static int run_with(int in, const char *const *args)
{
	forget();
	last = run_args(in, args);
	return last.status;
}

#define RUN_IN(fd, ...) run_with(fd, (const char *const[]){__VA_ARGS__, NULL})

static int no_input(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd;
}

#define RUN(...) RUN_IN(no_input(), __VA_ARGS__)

static int text_input(const char *text)
{
	int fd = scratch();

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* A job that runs: what it prints is read line by line, and every pid in it is watched. */
#define WATCHED_MAX 16
struct live {
	pid_t pid;
	FILE *out;
	int watched[WATCHED_MAX], n;
};

static void start_live(struct live *l, const char *const *args)
{
	int pipes[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	*l = (struct live){.pid = start(args, null, pipes[1], null), .out = fdopen(pipes[0], "r")};
	close(pipes[1]);
	close(null);
}

/* Reads n lines of pids, and opens a handle on each of them. */
static void watch_lines(struct live *l, int n)
{
	char line[256], *rest, *word;

	for (; n > 0; n--) {
		assert_non_null(fgets(line, sizeof(line), l->out));
		for (rest = line; (word = strtok_r(rest, " \n", &rest));) {
			assert_true(l->n < WATCHED_MAX);
			l->watched[l->n] = os_process_open(atoi(word));
			assert_true(l->watched[l->n++] >= 0);
		}
	}
}

static void assert_all_end(struct live *l)
{
	for (int i = 0; i < l->n; i++) {
		struct pollfd p = {.fd = l->watched[i], .events = POLLIN};
		assert_int_equal(poll(&p, 1, ANSWER_S * 1000), 1);
		close(p.fd);
	}
	fclose(l->out);
}

#define START(l, ...) start_live(l, (const char *const[]){__VA_ARGS__, NULL})

static const char *in_dir(const char *name)
{
	static char path[4][PATH_MAX];
	static int turn;
	char *p = path[turn++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", dir, name);
	return p;
}

static const char *make_file(const char *name, mode_t mode, const char *text)
{
	const char *path = in_dir(name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	return path;
}

static int count(const char *text, const char *part)
{
	int n = 0;

	for (const char *s = text; (s = strstr(s, part)); s += strlen(part))
		n++;
	return n;
}

/* ---- parsers ----------------------------------------------------------------------------------------------------- */

static void show(const struct hosts *h, char *buf, size_t cap)
{
	size_t used = 0;

	buf[0] = '\0';
	for (int i = 0; i < h->n && used < cap; i++)
		used += (size_t)snprintf(buf + used, cap - used, "%s%s=%d%s%s", i ? " " : "", h->host[i].name,
		                         h->host[i].slots, h->host[i].address ? "@" : "",
		                         h->host[i].address ? h->host[i].address : "");
}

static void lists_parse(void **state)
{
	static const char *const good[][2] = {
	        {"a", "a=1"},
	        {"a:2,b", "a=2 b=1"},
	        {" a:2 , b:3 ", "a=2 b=3"},
	        {"a:2,b,a:3", "a=5 b=1"},
	        {"[fe80::1%eth0]:4,[::1]", "fe80::1%eth0=4 ::1=1"},
	        {"user@node-1.example_x.org:1023", "user@node-1.example_x.org=1023"},
	};
	static const char *const bad[][2] = {
	        {"", "not a host name"},
	        {"a,,b", "not a host name"},
	        {"a:", "slots"},
	        {"a:0", "slots"},
	        {"a:4097", "slots"},
	        {"a:99999999999", "slots"},
	        {"a:2x", "slots"},
	        {"a:-1", "slots"},
	        {"::1", "brackets"},
	        {"[::1", "] is missing"},
	        {"[::1]x", "slots"},
	        {"[]:1", "not a host name"},
	        {"-oProxyCommand=x", "not a host"},
	        {"a b", "not a host name"},
	        {"a;reboot", "not a host name"},
	        {"$(x)", "not a host name"},
	        {"a:1024", "'a:1024': is 1024 a port?"},
	        {"b,[::1]:2222", "'[::1]:2222': is 2222 a port? The number after the colon is the number of slots."},
	        {"a:2222", "--rsh 'ssh -p 2222'"},
	        {"a:22222", "set a port in ~/.ssh/config"},
	};
	struct hosts h;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		h = (struct hosts){0};
		assert_int_equal(hosts_add_list(&h, good[i][0]), TUTTI_OK);
		show(&h, text, sizeof(text));
		assert_string_equal(text, good[i][1]);
		hosts_free(&h);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		h = (struct hosts){0};
		assert_int_equal(hosts_add_list(&h, bad[i][0]), TUTTI_EINVAL);
		assert_contains(fail_text(), bad[i][1]);
		hosts_free(&h);
	}
}

static void files_parse(void **state)
{
	static const char *const good[][2] = {
	        {"a\nb:2\nc slots=3", "a=1 b=2 c=3"},
	        {"# all\n\n  a \t slots=2 # two\r\n", "a=2"},
	        {"[::1]:2\n[::2] slots=3\n", "::1=2 ::2=3"},
	        {"[fe80::1]\n", "fe80::1=1"},
	        {"[{\"ssh\": \"a\", \"ips\": [\"10.0.0.1\", \"x\"], \"rdma\": [null, \"rdma_en5\"]},\n"
	         " {\"ssh\": \"b\"}]",
	         "a=1@10.0.0.1 b=1"},
	        {"{\"backend\": \"ring\", \"envs\": [\"A=1\"],\n"
	         " \"hosts\": [{\"ssh\": \"a\", \"slots\": 4, \"ips\": []}]}",
	         "a=4"},
	        {" [\"a\", \"b\"]", "a=1 b=1"},
	        {"[\"a\", \"b\", \"a\"]", "a=2 b=1"},
	        {"a slots=4096\n", "a=4096"},
	};
	static const char *const bad[][2] = {
	        {"a\nb c\n", "hosts.txt:2: 'c'"},
	        {"a\n\nb:x\n", "hosts.txt:3: 'b:x'"},
	        {"a slots=\n", "hosts.txt:1:"},
	        {"a:2 slots=2\n", "hosts.txt:1: 'a:2': give the slots once"},
	        {"[::1]:2 slots=2\n", "once"},
	        {"\n# nothing\n", "hosts.txt: the file lists no hosts"},
	        {"", "lists no hosts"},
	        {"{\n\"hosts\": [\n{\"ssh\": }]}", "hosts.txt:3:"},
	        {"{\"host\": []}", "expected a list"},
	        {"[{\"ssh\": \"a\"}, {\"name\": \"b\"}]", "hosts.txt: hosts[1]: expected {\"ssh\""},
	        {"[{\"ssh\": \"-x\"}]", "hosts[0]"},
	        {"[{\"ssh\": \"a\", \"ips\": \"10.0.0.1\"}]", "\"ips\" must"},
	        {"[{\"ssh\": \"a\", \"ips\": [1]}]", "\"ips\" must"},
	        {"[{\"ssh\": \"a\", \"slots\": 0}]", "\"slots\" must"},
	        {"{\"envs\": [\"=1\"], \"hosts\": [{\"ssh\": \"a\"}]}", "\"envs\" must"},
	        {"{\"envs\": {}, \"hosts\": [{\"ssh\": \"a\"}]}", "\"envs\" must"},
	        {"[]", "lists no hosts"},
	        {"a slots=4096\na\n", "more than 4096 slots"},
	};
	struct hosts h;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		h = (struct hosts){0};
		assert_int_equal(hosts_add_file(&h, "hosts.txt", good[i][0], strlen(good[i][0])), TUTTI_OK);
		show(&h, text, sizeof(text));
		assert_string_equal(text, good[i][1]);
		hosts_free(&h);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		h = (struct hosts){0};
		assert_int_equal(hosts_add_file(&h, "hosts.txt", bad[i][0], strlen(bad[i][0])), TUTTI_EINVAL);
		assert_contains(fail_text(), bad[i][1]);
		hosts_free(&h);
	}
}

static void ranks_fill_hosts_in_order(void **state)
{
	struct hosts h = {0};
	int at[8];

	(void)state;
	assert_int_equal(hosts_add_list(&h, "a:1,b:2,c:2,b"), TUTTI_OK); /* b gains a slot */
	assert_int_equal(hosts_slots(&h), 6);
	assert_int_equal(hosts_place(&h, 5, at), TUTTI_OK);
	assert_memory_equal(at, ((int[]){0, 1, 1, 1, 2}), 5 * sizeof(int));
	assert_int_equal(hosts_place(&h, 1, at), TUTTI_OK);
	assert_int_equal(at[0], 0);
	assert_int_equal(hosts_place(&h, 7, at), TUTTI_EINVAL);
	assert_contains(fail_text(), "c:3");
	hosts_free(&h);
}

/* Entry i of MLX's list is rank i, whatever host it names. */
static void json_entries_are_ranks(void **state)
{
	static const char text[] =
	        "[{\"ssh\": \"a\"}, {\"ssh\": \"b\"}, {\"ssh\": \"a\", \"slots\": 2}, {\"ssh\": \"b\"}]";
	struct hosts h = {0};
	int at[5];

	(void)state;
	assert_int_equal(hosts_add_file(&h, "hosts", text, strlen(text)), TUTTI_OK);
	assert_int_equal(h.n, 2);
	assert_int_equal(hosts_place(&h, 5, at), TUTTI_OK);
	assert_memory_equal(at, ((int[]){0, 1, 0, 0, 1}), sizeof(at));
	hosts_free(&h);
}

static void jobs_travel(void **state)
{
	char *env[] = {"A=1", "B=", NULL}, *argv[] = {"prog", "", "x y", NULL};
	int rank[] = {2, 3, 5, 7};
	struct job job = {.size = 8,
	                  .rank = rank,
	                  .count = 4,
	                  .everywhere = true,
	                  .input = INPUT_ALL,
	                  .bind = "core",
	                  .secret = "s",
	                  .cwd = "/tmp",
	                  .nenv = 2,
	                  .env = env,
	                  .argc = 3,
	                  .argv = argv};
	struct job got;
	struct buf b = {0};

	(void)state;
	job_pack(&b, &job);
	assert_true(job_unpack(&got, b.data, b.len));
	assert_true(got.size == 8 && got.count == 4 && got.everywhere && !got.cwd_must);
	assert_memory_equal(got.rank, rank, sizeof(rank));
	assert_string_equal(got.cwd, "/tmp");
	assert_string_equal(got.env[1], "B=");
	assert_string_equal(got.argv[2], "x y");
	assert_null(got.argv[3]);
	job_free(&got);
	for (size_t len = 0; len < b.len; len++) {
		assert_false(job_unpack(&got, b.data, len));
		job_free(&got);
	}
	rank[3] = 8; /* beyond the size */
	b.len = 0;
	job_pack(&b, &job);
	assert_false(job_unpack(&got, b.data, b.len));
	job_free(&got);
	rank[3] = 5; /* twice */
	b.len = 0;
	job_pack(&b, &job);
	assert_false(job_unpack(&got, b.data, b.len));
	job_free(&got);
	buf_free(&b);
}

static void frames_travel_in_pieces(void **state)
{
	struct buf all = {0}, part = {0};
	struct frame f;
	size_t at = 0;

	(void)state;
	frame_add(&all, FRAME_OUTPUT, 5, "hello", 5);
	frame_add_u32(&all, FRAME_EXIT, 5, 0x01020304);
	for (size_t i = 0; i + 1 < 12 + 5; i++) {
		buf_add(&part, all.data + i, 1);
		assert_int_equal(frame_next(&part, &at, &f), 0);
	}
	assert_int_equal(at, 0);
	assert_int_equal(frame_next(&all, &at, &f), 1);
	assert_true(f.kind == FRAME_OUTPUT && f.rank == 5 && f.len == 5);
	assert_memory_equal(f.data, "hello", 5);
	assert_int_equal(frame_next(&all, &at, &f), 1);
	assert_int_equal(frame_u32(&f), 0x01020304);
	assert_int_equal(frame_next(&all, &at, &f), 0);
	at = 0;
	all.data[0] = 99;
	assert_int_equal(frame_next(&all, &at, &f), -1);
	buf_free(&all);
	buf_free(&part);
}

static void endless_lines_are_cut(void **state)
{
	struct lines l = {0};
	struct sink s = {.fd = -1, .held_max = 1 << 20};
	char block[65536];

	(void)state;
	memset(block, 'x', sizeof(block));
	for (size_t n = 0; n <= s.held_max; n += sizeof(block)) {
		assert_false(s.cut);
		lines_add(&l, &s, "[0] ", false, block, sizeof(block));
	}
	assert_true(s.cut);
	assert_true(s.queue.len > s.held_max);
	assert_int_equal(s.held, 0);
	assert_memory_equal(s.queue.data, "[0] x", 5);
	assert_int_equal(s.queue.data[s.queue.len - 1], '\n');
	buf_free(&s.queue);
}

/* ---- what ranks see ---------------------------------------------------------------------------------------------- */

static void ranks_know_their_place(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "3", "sh", "-c", "echo $TUTTI_RANK/$TUTTI_SIZE/$TUTTI_LOCAL_RANK."), 0);
	assert_contains(last.out, "0/3/0.\n");
	assert_contains(last.out, "1/3/1.\n");
	assert_contains(last.out, "2/3/2.\n");
	assert_int_equal(strlen(last.out), 21);
	assert_string_equal(last.err, "");
}

static void rank_0_inherits_the_listener(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "2", "--tag", "sh", "-c",
	                     "[ \"$TUTTI_ROOT_FD\" ] && readlink /proc/self/fd/$TUTTI_ROOT_FD; echo at $TUTTI_ROOT"),
	                 0);
	assert_contains(last.out, "[0] socket:[");
	assert_null(strstr(last.out, "[1] socket:["));
	assert_contains(last.out, "[1] at 127.0.0.1:");
}

static void the_secret_is_fresh_and_hidden(void **state)
{
	static const char *const script = "case \"$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ')\" in "
	                                  "*\"$TUTTI_SECRET\"*) echo leaked;; esac; echo $TUTTI_SECRET";
	char first[65];

	(void)state;
	assert_int_equal(RUN("--rsh", rsh, "-H", "a,b", "sh", "-c", script), 0);
	assert_int_equal(strlen(last.out), 2 * 65);
	assert_int_equal(strspn(last.out, "0123456789abcdef"), 64);
	assert_memory_equal(last.out, last.out + 65, 65);
	memcpy(first, last.out, 64);
	assert_int_equal(RUN("sh", "-c", script), 0);
	assert_int_equal(strlen(last.out), 65);
	assert_memory_not_equal(first, last.out, 64);
}

static void environment_and_directory_are_given(void **state)
{
	(void)state;
	setenv("TEST_RUN_GIVEN", "from here", 1);
	assert_int_equal(RUN("--rsh", rsh, "-H", "a", "--env", "A=x y", "--env", "TEST_RUN_GIVEN", "--env",
	                     "E=", "--cwd", dir, "sh", "-c", "echo \"$A/$TEST_RUN_GIVEN/${E-unset}.\"; pwd"),
	                 0);
	assert_contains(last.out, "x y/from here/.\n");
	assert_contains(last.out, dir);
	unsetenv("TEST_RUN_GIVEN");
	assert_int_equal(RUN("--env", "TEST_RUN_GIVEN", "true"), 2);
	assert_contains(last.err, "--env TEST_RUN_GIVEN=VALUE");
	assert_int_equal(RUN("--cwd", in_dir("missing"), "true"), 126);
	assert_contains(last.err, in_dir("missing"));

	assert_int_equal(mkdir(in_dir("sub"), 0700), 0);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(RUN("--cwd", "sub", "pwd"), 0);
	assert_contains(last.out, in_dir("sub"));
	assert_int_equal(chdir("/"), 0);
}

static void cores_are_shared_out(void **state)
{
	static const char *const script = "grep Cpus_allowed_list /proc/self/status";
	cpu_set_t mine;
	char *half;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	assert_int_equal(RUN("-n", "2", "--bind", "none", "sh", "-c", script), 0);
	half = last.out + strlen(last.out) / 2;
	assert_int_equal(memcmp(last.out, half, strlen(half)), 0);
	assert_int_equal(RUN("-n", "2", "--dry-run", "true"), 0);
	if (CPU_COUNT(&mine) < 2 || strstr(last.out, "cpus all")) {
		print_message("ranks are not bound here: too few cores\n");
		skip();
	}
	assert_int_equal(RUN("-n", "2", "sh", "-c", script), 0);
	half = strchr(last.out, '\n') + 1;
	assert_int_not_equal(strncmp(last.out, half, (size_t)(half - last.out)), 0);
}

/* ---- how jobs end ------------------------------------------------------------------------------------------------ */

/* Ranks leave their pids here; everyone waits until all are there. */
#define GATHER                                                                                                         \
	"echo $$ > pid.$TUTTI_RANK.new; mv pid.$TUTTI_RANK.new pid.$TUTTI_RANK; "                                      \
	"i=0; while [ $i -lt $TUTTI_SIZE ]; do [ -e pid.$i ] && i=$((i + 1)); done; "

static pid_t take_pid(int i)
{
	char name[32], *text;
	pid_t pid;
	int fd;

	snprintf(name, sizeof(name), "pid.%d", i);
	fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	text = content(fd, NULL);
	pid = atoi(text);
	assert_true(pid > 1);
	free(text);
	unlink(in_dir(name));
	return pid;
}

/* Ranks are dead and buried when tutti-run ends. */
static void assert_ranks_gone(int n)
{
	for (int i = 0; i < n; i++) {
		assert_int_equal(kill(take_pid(i), 0), -1);
		assert_int_equal(errno, ESRCH);
	}
}

/* What was not a child of the agent dies as surely, but is for others to bury. */
static void assert_dies(pid_t pid)
{
	struct pollfd p = {.fd = os_process_open(pid), .events = POLLIN};

	if (p.fd < 0)
		return;
	assert_int_equal(poll(&p, 1, ANSWER_S * 1000), 1);
	close(p.fd);
}

static void first_failure_gives_the_status(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "4", "--cwd", dir, "--grace", "0", "sh", "-c",
	                     GATHER "[ $TUTTI_RANK = 2 ] && exit 7; exec sleep 1000"),
	                 7);
	assert_contains(last.err, "rank 2 exited with status 7");
	assert_contains(last.err, "ranks 0 1 3");
	assert_ranks_gone(4);
}

/* A rank that begins to join so many communicators of the job, one after the other. */
static int join(int times)
{
	struct tutti_comm *comm;

	for (int i = 0; i < times; i++)
		if (tutti_comm_from_env(&comm, NULL) != TUTTI_OK || tutti_comm_destroy(comm) != TUTTI_OK)
			return 9;
	return 0;
}

static int run_joining(const char *times)
{
	char self[PATH_MAX], script[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	snprintf(script, sizeof(script), "exec %s --join $((%s))", self, times);
	return RUN("-n", "3", "--timeout", "40", "sh", "-c", script);
}

/* Nobody waits for a rank that has ended well: not for its first communicator, not for its next. */
static void a_rank_that_does_not_join_is_told(void **state)
{
	(void)state;
	assert_int_equal(run_joining("TUTTI_RANK != 1"), 1);
	assert_contains(last.err, "rank 1 exited with status 0 and never joined the job, which rank ");
	assert_int_equal(run_joining("TUTTI_RANK != 0"), 1);
	assert_contains(last.err, "rank 0 exited with status 0 and never joined the job, which rank ");
	assert_int_equal(run_joining("2 - (TUTTI_RANK == 2)"), 1);
	assert_contains(last.err,
	                "rank 2 exited with status 0 and did not join the job's next communicator, which rank ");
	assert_int_equal(run_joining("2"), 0);
	assert_int_equal(run_joining("0"), 0);
}

/* A rank may make a job of its own, as large as the one that it is in: nobody is missed there. */
static void a_job_of_a_ranks_own_is_another_one(void **state)
{
	char self[PATH_MAX], script[PATH_MAX + 200];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	self[n > 0 ? n : 0] = '\0';
	snprintf(script, sizeof(script),
	         "[ $TUTTI_RANK = 1 ] && TUTTI_ROOT=127.0.0.1:9 TUTTI_START_TIMEOUT=1 %s --join 1; exit 0", self);
	assert_int_equal(RUN("-n", "3", "--timeout", "40", "sh", "-c", script), 0);
	assert_null(strstr(last.err, "never joined"));
}

static void signals_are_named(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "2", "--cwd", dir, "--grace", "0", "sh", "-c",
	                     GATHER "[ $TUTTI_RANK = 1 ] && kill -SEGV $$; exec sleep 1000"),
	                 128 + SIGSEGV);
	assert_contains(last.err, "rank 1 was killed by signal 11 (Segmentation fault)");
	assert_ranks_gone(2);
}

static void survivors_may_speak_first(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "2", "--cwd", dir, "--grace", "60", "sh", "-c",
	                     GATHER "[ $TUTTI_RANK = 1 ] && exit 3; "
	                            "while kill -0 $(cat pid.1) 2>/dev/null; do :; done; echo rank 1 is gone; exit 4"),
	                 3);
	assert_string_equal(last.out, "rank 1 is gone\n");
	assert_null(strstr(last.err, "ending"));
	assert_ranks_gone(2);
}

static void sigterm_comes_before_sigkill(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "3", "--cwd", dir, "--grace", "0", "sh", "-c",
	                     "case $TUTTI_RANK in 0) trap 'echo bye; exit 0' TERM;; 1) trap '' TERM;; esac; " GATHER
	                     "case $TUTTI_RANK in 0) while :; do :; done;; 1) exec sleep 1000;; 2) exit 5;; esac"),
	                 5);
	assert_string_equal(last.out, "bye\n");
	assert_contains(last.err, "killing what still runs: rank 1");
	assert_ranks_gone(3);
}

static void leftovers_of_a_rank_are_killed(void **state)
{
	(void)state;
	assert_int_equal(RUN("--cwd", dir, "sh", "-c", "sleep 1000 & echo $! > pid.0"), 0);
	assert_dies(take_pid(0));
}

static void time_limits_hold(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "2", "--timeout", "0.2", "sleep", "1000"), 124);
	assert_contains(last.err, "within 0.2 s");
	assert_int_equal(RUN("-n", "2", "--timeout", "60", "true"), 0);
}

static void missing_programs_are_told(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "4", "no-such-program"), 127);
	assert_contains(last.err, "can't run no-such-program: No such file");
	assert_int_equal(RUN(make_file("data", 0600, "text")), 126);
	assert_contains(last.err, "Permission denied");
}

/* A rank and its child; both print their pids, then sleep. */
#define SLEEPERS "sleep 1000 & echo $$ $!; wait"

static void nothing_survives_kill_9(void **state)
{
	struct live l;

	(void)state;
	START(&l, "-n", "3", "sh", "-c", SLEEPERS);
	watch_lines(&l, 3);
	kill(l.pid, SIGKILL);
	assert_int_equal(status_of(l.pid), -SIGKILL);
	assert_all_end(&l);

	START(&l, "--rsh", rsh, "-H", "a:2,b", "sh", "-c", SLEEPERS);
	watch_lines(&l, 3);
	kill(l.pid, SIGKILL);
	assert_int_equal(status_of(l.pid), -SIGKILL);
	assert_all_end(&l);
}

static void interrupts_are_passed_on(void **state)
{
	struct live l;

	(void)state;
	START(&l, "-n", "2", "sh", "-c", SLEEPERS);
	watch_lines(&l, 2);
	kill(l.pid, SIGINT);
	assert_int_equal(status_of(l.pid), 128 + SIGINT);
	assert_all_end(&l);

	/* Deaf ranks, and a grace that the test would not survive: the second signal kills. */
	START(&l, "-n", "2", "--grace", "1000", "sh", "-c", "trap '' INT TERM; " SLEEPERS);
	watch_lines(&l, 2);
	kill(l.pid, SIGINT);
	kill(l.pid, SIGTERM);
	status_of(l.pid);
	assert_all_end(&l);
}

/* What `timeout` and a closed terminal do. The remote shell here is in our group, as ssh is. */
static void signals_to_the_group_leave_time(void **state)
{
	static const int signals[] = {SIGTERM, SIGHUP};
	struct live l;
	char line[64];

	(void)state;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		own_group = true;
		START(&l, "--rsh", rsh, "-H", "a,b", "--grace", "60", "sh", "-c",
		      "trap 'sleep 0.5; echo bye; exit 0' TERM HUP; sleep 1000 & echo $$; wait");
		own_group = false;
		watch_lines(&l, 2);
		kill(-l.pid, signals[i]);
		assert_non_null(fgets(line, sizeof(line), l.out));
		assert_string_equal(line, "bye\n");
		assert_non_null(fgets(line, sizeof(line), l.out));
		assert_string_equal(line, "bye\n");
		assert_int_equal(status_of(l.pid), 128 + signals[i]);
		assert_all_end(&l);
	}
}

/* Ranks may clean up although no process asks them to. */
static void a_lost_head_leaves_time(void **state)
{
	struct live l;

	(void)state;
	START(&l, "--rsh", rsh, "-H", "a,b", "--cwd", dir, "sh", "-c",
	      "trap 'echo bye > bye.$TUTTI_RANK; exit 0' TERM; sleep 1000 & echo $$; wait");
	watch_lines(&l, 2);
	kill(l.pid, SIGKILL);
	assert_int_equal(status_of(l.pid), -SIGKILL);
	assert_all_end(&l);
	assert_int_equal(unlink(in_dir("bye.0")), 0);
	assert_int_equal(unlink(in_dir("bye.1")), 0);
	/* deaf ranks don't stay */
	START(&l, "-n", "2", "sh", "-c", "trap '' TERM; " SLEEPERS);
	watch_lines(&l, 2);
	kill(l.pid, SIGKILL);
	assert_int_equal(status_of(l.pid), -SIGKILL);
	assert_all_end(&l);
}

static void users_signals_are_passed_on(void **state)
{
	struct live l;
	char line[64];

	(void)state;
	own_group = true;
	START(&l, "--rsh", rsh, "-H", "a,b", "sh", "-c",
	      "trap 'echo one' USR1; trap 'echo two; exit 0' USR2; echo $$; while :; do sleep 0.1; done");
	own_group = false;
	watch_lines(&l, 2);
	kill(-l.pid, SIGUSR1);
	for (int i = 0; i < 2; i++) {
		assert_non_null(fgets(line, sizeof(line), l.out));
		assert_string_equal(line, "one\n");
	}
	kill(l.pid, SIGUSR2);
	for (int i = 0; i < 2; i++) {
		assert_non_null(fgets(line, sizeof(line), l.out));
		assert_string_equal(line, "two\n");
	}
	assert_int_equal(status_of(l.pid), 0);
	assert_all_end(&l);
}

/* As daemons and some CI runners start their children. */
static void an_ignored_sigchld_does_not_matter(void **state)
{
	(void)state;
	signal(SIGCHLD, SIG_IGN);
	pid_t pid = start((const char *const[]){"-n", "2", "--timeout", "60", "sh", "-c", "exit 3", NULL}, no_input(),
	                  no_input(), no_input());
	signal(SIGCHLD, SIG_DFL);
	assert_int_equal(status_of(pid), 3);
}

static void a_full_disk_is_told(void **state)
{
	int full = open("/dev/full", O_RDWR | O_CLOEXEC), err = scratch();
	char *text;

	(void)state;
	assert_true(full >= 0);
	assert_int_equal(status_of(start((const char *const[]){"-n", "2", "yes", NULL}, no_input(), full, err)), 1);
	text = content(err, NULL);
	assert_contains(text, "can't write the output: No space left on device");
	assert_int_equal(count(text, "No space"), 1);
	free(text);
	/* also what is written when all ranks have ended, and on stderr, where nothing can be said */
	assert_int_equal(status_of(start((const char *const[]){"echo", "x", NULL}, no_input(), full, no_input())), 1);
	assert_int_equal(
	        status_of(start((const char *const[]){"sh", "-c", "echo x >&2", NULL}, no_input(), no_input(), full)),
	        1);
	close(full);
}

static void a_dead_agent_takes_its_ranks_along(void **state)
{
	(void)state;
	assert_int_equal(RUN("--rsh", rsh, "-H", "a:2,b:2", "--grace", "0", "--cwd", dir, "sh", "-c",
	                     GATHER "[ $TUTTI_RANK = 3 ] && kill -9 $PPID; exec sleep 1000"),
	                 125);
	assert_contains(last.err, "lost host b, with ranks 2 3");
	assert_dies(take_pid(2));
	assert_dies(take_pid(3));
	assert_ranks_gone(2);
}

static void a_closed_output_ends_the_job(void **state)
{
	struct live l;
	char line[16];

	(void)state;
	START(&l, "-n", "2", "yes");
	assert_non_null(fgets(line, sizeof(line), l.out));
	fclose(l.out);
	assert_int_equal(status_of(l.pid), 128 + SIGPIPE);
}

/* ---- input and output -------------------------------------------------------------------------------------------- */

static void lines_stay_whole(void **state)
{
	int next[4] = {0};

	(void)state;
	assert_int_equal(RUN("-n", "4", "--tag", "sh", "-c",
	                     "i=0; while [ $i -lt 300 ]; do printf 'li'; printf 'ne %d\\n' $i; i=$((i + 1)); done"),
	                 0);
	for (char *save = NULL, *line = strtok_r(last.out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char expect[32];
		int r = line[0] == '[' ? line[1] - '0' : -1;
		assert_true(r >= 0 && r < 4);
		snprintf(expect, sizeof(expect), "[%d] line %d", r, next[r]++);
		assert_string_equal(line, expect);
	}
	for (int r = 0; r < 4; r++)
		assert_int_equal(next[r], 300);
}

static void long_and_open_lines_stay_whole(void **state)
{
	(void)state;
	assert_int_equal(RUN("-n", "3", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' $TUTTI_RANK"), 0);
	assert_int_equal(last.out_len, 3 * 3000001);
	for (char *line = last.out; line < last.out + last.out_len; line += 3000001) {
		assert_int_equal(line[3000000], '\n');
		assert_int_equal(strspn(line, (char[]){line[0], '\0'}), 3000000);
	}
}

static void one_rank_is_passed_through(void **state)
{
	(void)state;
	assert_int_equal(RUN("sh", "-c", "printf 'a\\000b'; printf oops >&2"), 0);
	assert_int_equal(last.out_len, 3);
	assert_memory_equal(last.out, "a\0b", 3);
	assert_string_equal(last.err, "oops");
}

static void input_goes_where_it_should(void **state)
{
	int fd = text_input("one\ntwo\n");

	(void)state;
	assert_int_equal(RUN_IN(fd, "-n", "2", "--tag", "cat"), 0);
	assert_string_equal(last.out, "[0] one\n[0] two\n");
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(RUN_IN(fd, "-n", "2", "--tag", "--stdin", "all", "cat"), 0);
	assert_int_equal(count(last.out, "[0] one\n"), 1);
	assert_int_equal(count(last.out, "[1] two\n"), 1);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(RUN_IN(fd, "-n", "2", "--stdin", "none", "cat"), 0);
	assert_string_equal(last.out, "");
	close(fd);
}

static void much_input_arrives(void **state)
{
	int fd = scratch();

	(void)state;
	assert_int_equal(ftruncate(fd, 3000000), 0);
	assert_int_equal(RUN_IN(fd, "--rsh", rsh, "-H", "a:2,b", "--stdin", "all", "wc", "-c"), 0);
	assert_string_equal(last.out, "3000000\n3000000\n3000000\n");
	close(fd);
}

static void endless_input_does_not_matter(void **state)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(RUN_IN(fd, "-n", "2", "--stdin", "all", "sh", "-c", "head -c 100000 | wc -c"), 0);
	assert_string_equal(last.out, "100000\n100000\n");
	close(fd);
}

/* ---- several hosts ----------------------------------------------------------------------------------------------- */

static void hosts_may_be_unequal(void **state)
{
	(void)state;
	assert_int_equal(RUN("--rsh", rsh, "-H", "a,b:3,c:4", "-n", "5", "--tag", "sh", "-c",
	                     "echo local $TUTTI_LOCAL_RANK of $TUTTI_SIZE"),
	                 0);
	assert_contains(last.out, "[0] local 0 of 5\n");
	assert_contains(last.out, "[1] local 0 of 5\n");
	assert_contains(last.out, "[3] local 2 of 5\n");
	assert_contains(last.out, "[4] local 0 of 5\n");
	assert_int_equal(count(last.out, "\n"), 5);
	assert_int_equal(RUN("--rsh", rsh, "-H", "a,b", "-n", "3", "true"), 1);
	assert_contains(last.err, "3 ranks, but the hosts have 2 slots");
	assert_int_equal(RUN("--rsh", rsh, "-H", "a,b", "--grace", "0", "sh", "-c", "exit $TUTTI_RANK"), 1);
	assert_contains(last.err, "rank 1 on b exited with status 1");
}

static void host_files_are_read(void **state)
{
	const char *file = make_file("hosts.json", 0600,
	                             "{\"envs\": [\"A=json\"],\n"
	                             " \"hosts\": [{\"ssh\": \"a\", \"ips\": [\"192.0.2.7\"]},\n"
	                             " {\"ssh\": \"b\", \"slots\": 2}]}");

	(void)state;
	assert_int_equal(RUN("--rsh", rsh, "--hostfile", file, "--tag", "sh", "-c", "echo $A at $TUTTI_ROOT"), 0);
	assert_contains(last.out, "[0] json at 192.0.2.7:");
	assert_contains(last.out, "[2] json at 192.0.2.7:");
	assert_int_equal(RUN("--hostfile", make_file("hosts", 0600, "a\nb:none\n"), "true"), 2);
	assert_contains(last.err, "hosts:2: 'b:none'");
	assert_int_equal(RUN("--hostfile", in_dir("missing"), "true"), 2);
	assert_contains(last.err, "missing: No such file");
	assert_int_equal(RUN("--rsh", rsh, "--hostfile", file, "--dry-run", "-n", "3", "prog", "x"), 0);
	assert_contains(last.out, "rank 2 on b, local rank 1, cpus core: prog x\n");
}

static void noise_of_logins_is_skipped(void **state)
{
	const char *noisy = make_file("noisy", 0700, "#!/bin/sh\necho Welcome; shift; exec sh -c \"$*\"\n");

	(void)state;
	assert_int_equal(RUN("--rsh", noisy, "-H", "a", "echo", "fine"), 0);
	assert_string_equal(last.out, "fine\n");
	/* a long greeting, whose parts are like the beginning of the agent's */
	noisy = make_file("noisier", 0700,
	                  "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' '\\n'; printf '\\n:tutti-run age'; shift; "
	                  "exec sh -c \"$*\"\n");
	assert_int_equal(RUN("--rsh", noisy, "-H", "a,b", "echo", "fine"), 0);
	assert_string_equal(last.out, "fine\nfine\n");
}

static void unreachable_hosts_are_named(void **state)
{
	const char *refuse = make_file("refuse", 0700, "#!/bin/sh\n[ $1 = b ] && exit 255\nshift; exec sh -c \"$*\"\n");
	const char *bare = make_file("bare", 0700, "#!/bin/sh\necho 'tutti-run: not found' >&2; exit 127\n");
	const char *babble = make_file("babble", 0700, "#!/bin/sh\nexec yes\n");

	(void)state;
	assert_int_equal(RUN("--rsh", refuse, "-H", "a,b", "--cwd", dir, "touch", "ran"), 125);
	assert_contains(last.err, "can't reach host b");
	assert_contains(last.err, "ended with status 255");
	assert_int_equal(access(in_dir("ran"), F_OK), -1); /* all hosts or none */
	assert_int_equal(RUN("--rsh", bare, "-H", "a", "true"), 125);
	assert_contains(last.err, "tutti-run was not found on host a");
	assert_int_equal(RUN("--rsh", babble, "-H", "a", "true"), 125);
	assert_contains(last.err, "host a printed 16 MiB");
	assert_int_equal(RUN("--rsh", "no-such-shell -x", "-H", "a", "true"), 125);
	assert_contains(last.err, "can't run 'no-such-shell' to reach host a; install it here");
	assert_contains(last.err, "No such file");
	assert_null(strstr(last.err, "tutti-run was not found"));
}

static void hosts_may_take_turns(void **state)
{
	const char *file = make_file("turns.json", 0600, "[{\"ssh\": \"a\"}, {\"ssh\": \"b\"}, {\"ssh\": \"a\"}]");
	const char *named = make_file("named", 0700, "#!/bin/sh\nexport AT=$1; shift\nexec sh -c \"$*\"\n");
	int fd = text_input("words\n");

	(void)state;
	assert_int_equal(RUN_IN(fd, "--rsh", named, "--hostfile", file, "--tag", "--stdin", "all", "sh", "-c",
	                        "read w; echo $w $TUTTI_LOCAL_RANK on $AT of $TUTTI_SIZE"),
	                 0);
	assert_contains(last.out, "[0] words 0 on a of 3\n");
	assert_contains(last.out, "[1] words 0 on b of 3\n");
	assert_contains(last.out, "[2] words 1 on a of 3\n");
	close(fd);
	assert_int_equal(RUN("--rsh", named, "--hostfile", file, "--dry-run", "prog"), 0);
	assert_contains(last.out, "rank 2 on a, local rank 1,");
	assert_int_equal(RUN("--rsh", named, "--hostfile", file, "--grace", "0", "sh", "-c",
	                     "[ $TUTTI_RANK = 2 ] && kill -9 $PPID; exec sleep 1000"),
	                 125);
	assert_contains(last.err, "lost host a, with ranks 0 2\n");
}

static void sixty_four_ranks_run(void **state)
{
	char line[32];

	(void)state;
	assert_int_equal(RUN("--rsh", rsh, "-H", "a:32,b:32", "sh", "-c", "echo rank $TUTTI_RANK."), 0);
	for (int r = 0; r < 64; r++) {
		snprintf(line, sizeof(line), "rank %d.\n", r);
		assert_int_equal(count(last.out, line), 1);
	}
}

/* ---- the command line -------------------------------------------------------------------------------------------- */

static void wrong_command_lines_are_told(void **state)
{
	static const struct {
		const char *args[3], *hint;
	} bad[] = {
	        {{NULL}, "no program was given"},
	        {{"-n", "0", "true"}, "-n 0: expected a number"},
	        {{"-n", "two", "true"}, "-n two"},
	        {{"-n"}, "needs an argument: -n"},
	        {{"-np", "2", "true"}, "-np is not an option: the number of ranks is -n N"},
	        {{"--nonsense", "true"}, "--nonsense"},
	        {{"-x", "true"}, "no such option: -x"},
	        {{"--tag=yes", "true"}, "--tag=yes"},
	        {{"--bind", "socket", "true"}, "core, numa or none"},
	        {{"--stdin", "1", "true"}, "0, all or none"},
	        {{"--timeout", "soon", "true"}, "expected seconds"},
	        {{"--grace", "-1", "true"}, "expected seconds"},
	        {{"--env", "=1", "true"}, "NAME=VALUE"},
	        {{"--rsh", " ", "true"}, "expected a command"},
	        {{"-H", "a:b", "true"}, "'a:b'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *args[4] = {bad[i].args[0], bad[i].args[1], bad[i].args[2]};
		assert_int_equal(run_with(no_input(), args), 2);
		assert_contains(last.err, bad[i].hint);
		assert_int_equal(count(last.err, "\n"), 1);
	}
}

static void options_end_at_the_program(void **state)
{
	(void)state;
	assert_int_equal(RUN("printf", "%s.", "-n", "--tag", "x"), 0);
	assert_string_equal(last.out, "-n.--tag.x.");
}

static void help_and_manual_list_all_options(void **state)
{
	static const char *const names[] = {
	        "ranks", "host", "hostfile", "rsh",     "bind",        "env",  "cwd", "timeout",
	        "grace", "tag",  "stdin",    "dry-run", "make-secret", "help", "man", "version",
	};
	char text[64];

	(void)state;
	assert_int_equal(RUN("--version"), 0);
	assert_contains(last.out, "tutti-run ");
	assert_int_equal(RUN("--help"), 0);
	assert_null(strstr(last.out, "--agent"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(text, sizeof(text), "--%s", names[i]);
		assert_contains(last.out, text);
	}
	assert_int_equal(RUN("--man"), 0);
	assert_contains(last.out, ".TH \"tutti-run\" 1");
	assert_contains(last.out, "\\-n, \\-\\-ranks N\n");
	assert_contains(last.out, "\\-\\-dry\\-run\n");
}

static void secrets_are_made_once(void **state)
{
	struct auth_key key;
	struct stat st;
	const char *path = in_dir("cfg/tutti/secret");

	(void)state;
	setenv("XDG_CONFIG_HOME", in_dir("cfg"), 1);
	assert_int_equal(RUN("--make-secret"), 0);
	assert_contains(last.out, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_OK);
	assert_int_equal(RUN("--make-secret"), 1);
	assert_contains(last.err, "already exists");
	unsetenv("XDG_CONFIG_HOME");
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
	const char *bin = getenv("TESTED_BIN");
	char self[PATH_MAX], *slash;
	ssize_t n;

	(void)state;
	if (bin) {
		snprintf(program, sizeof(program), "%s/tutti-run", bin);
	} else {
		n = readlink("/proc/self/exe", self, sizeof(self) - 1);
		self[n > 0 ? n : 0] = '\0';
		slash = strrchr(self, '/');
		snprintf(program, sizeof(program), "%.*s/../../bin/tutti-run", slash ? (int)(slash - self) : 0, self);
	}
	signal(SIGPIPE, SIG_IGN);
	if (auth_init() != TUTTI_OK || !mkdtemp(dir))
		return -1;
	snprintf(rsh, sizeof(rsh), "%s", make_file("rsh", 0700, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"));
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static int tear_down(void **state)
{
	(void)state;
	forget();
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* An argument is a pattern of names. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(lists_parse),
	        cmocka_unit_test(files_parse),
	        cmocka_unit_test(ranks_fill_hosts_in_order),
	        cmocka_unit_test(json_entries_are_ranks),
	        cmocka_unit_test(jobs_travel),
	        cmocka_unit_test(frames_travel_in_pieces),
	        cmocka_unit_test(endless_lines_are_cut),
	        cmocka_unit_test(ranks_know_their_place),
	        cmocka_unit_test(rank_0_inherits_the_listener),
	        cmocka_unit_test(the_secret_is_fresh_and_hidden),
	        cmocka_unit_test(environment_and_directory_are_given),
	        cmocka_unit_test(cores_are_shared_out),
	        cmocka_unit_test(first_failure_gives_the_status),
	        cmocka_unit_test(a_rank_that_does_not_join_is_told),
	        cmocka_unit_test(a_job_of_a_ranks_own_is_another_one),
	        cmocka_unit_test(signals_are_named),
	        cmocka_unit_test(survivors_may_speak_first),
	        cmocka_unit_test(sigterm_comes_before_sigkill),
	        cmocka_unit_test(leftovers_of_a_rank_are_killed),
	        cmocka_unit_test(time_limits_hold),
	        cmocka_unit_test(missing_programs_are_told),
	        cmocka_unit_test(nothing_survives_kill_9),
	        cmocka_unit_test(interrupts_are_passed_on),
	        cmocka_unit_test(signals_to_the_group_leave_time),
	        cmocka_unit_test(a_lost_head_leaves_time),
	        cmocka_unit_test(users_signals_are_passed_on),
	        cmocka_unit_test(an_ignored_sigchld_does_not_matter),
	        cmocka_unit_test(a_full_disk_is_told),
	        cmocka_unit_test(a_dead_agent_takes_its_ranks_along),
	        cmocka_unit_test(a_closed_output_ends_the_job),
	        cmocka_unit_test(lines_stay_whole),
	        cmocka_unit_test(long_and_open_lines_stay_whole),
	        cmocka_unit_test(one_rank_is_passed_through),
	        cmocka_unit_test(input_goes_where_it_should),
	        cmocka_unit_test(much_input_arrives),
	        cmocka_unit_test(endless_input_does_not_matter),
	        cmocka_unit_test(hosts_may_be_unequal),
	        cmocka_unit_test(host_files_are_read),
	        cmocka_unit_test(noise_of_logins_is_skipped),
	        cmocka_unit_test(unreachable_hosts_are_named),
	        cmocka_unit_test(hosts_may_take_turns),
	        cmocka_unit_test(sixty_four_ranks_run),
	        cmocka_unit_test(wrong_command_lines_are_told),
	        cmocka_unit_test(options_end_at_the_program),
	        cmocka_unit_test(help_and_manual_list_all_options),
	        cmocka_unit_test(secrets_are_made_once),
	};

	if (argc > 2 && strcmp(argv[1], "--join") == 0)
		return join(atoi(argv[2]));
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
