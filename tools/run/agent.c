/* SPDX-License-Identifier: MIT */
/*
 * The agent starts ranks, carries their input and output, reports how they end, and leaves nothing behind: every rank
 * is the leader of a process group that is killed when the rank ends, when the head says so, or, after SIGTERM and a
 * grace, when the head is gone; and the system, where it can, kills a rank whose agent dies.
 *
 * One thread, one poll loop. Output of ranks is read only while the head keeps up, so a slow terminal slows the ranks
 * down rather than filling memory.
 */
#include "agent.h"
#include "../../src/os/os.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/net.h"
#include "bind.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKLOG_MAX      (256u << 10) /* bytes for the head that wait; beyond it the ranks wait */
#define DRAIN_READS      16
#define POLLS            4
#define STATUS_NOT_FOUND 127
#define STATUS_NOT_RUN   126

struct child {
	pid_t pid;               /* 0: ended */
	int in, out, err, joins; /* joins: a message each time that it begins to join a world of the job */
	bool in_ends;            /* close stdin when `input` is written */
	struct buf input;
};

struct agent {
	struct job job;
	struct child *child;
	struct binding *binding;
	struct buf from, to;  /* the head */
	struct pollfd *polls; /* 3 of our own, then POLLS for each rank */
	int signals, root_fd;
	bool have_job, started, head_gone;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int rank_of(const struct agent *a, const struct child *c)
{
	return a->job.rank[c - a->child];
}

static void signal_all(const struct agent *a, int sig)
{
	for (int i = 0; a->child && i < a->job.count; i++)
		if (a->child[i].pid && kill(-a->child[i].pid, sig) < 0)
			kill(a->child[i].pid, sig); /* it left its group */
}

static void say_failed(struct agent *a, uint32_t status, const char *text)
{
	struct buf b = {0};

	buf_add_u32(&b, status);
	buf_add(&b, text, strlen(text));
	frame_add(&a->to, FRAME_FAILED, 0, b.data, b.len);
	buf_free(&b);
}

/* ---- the job: environment, directory, rank 0's listener ---------------------------------------------------------- */

static int enter_directory(const struct job *job)
{
	char host[256] = "";

	if (chdir(job->cwd) == 0)
		return TUTTI_OK;
	if (job->cwd_must)
		return fail_errno("can't enter the directory %s", job->cwd);
	gethostname(host, sizeof(host) - 1);
	fprintf(stderr, "tutti-run: %s has no directory %s; its ranks start in the login directory\n", host, job->cwd);
	return TUTTI_OK;
}

static void set_environment(const struct job *job)
{
	char number[16];

	for (int i = 0; i < job->nenv; i++) {
		char *equals = strchr(job->env[i], '=');
		if (!equals)
			continue;
		*equals = '\0';
		setenv(job->env[i], equals + 1, 1);
	}
	snprintf(number, sizeof(number), "%d", job->size);
	setenv("TUTTI_SIZE", number, 1);
	setenv("TUTTI_SECRET", job->secret, 1);
	unsetenv("TUTTI_ROOT_FD");
	unsetenv("TUTTI_JOIN_FD");
}

/* Rank 0 inherits a listener, so no port is chosen that another process could take before rank 0 does. */
static int open_root(struct agent *a, char text[NET_TEXT])
{
	struct net_addr at = {.family = 4, .ip = {127, 0, 0, 1}}, here[NET_ADDRS];
	int n, rc;

	if (a->job.everywhere) {
		rc = net_interfaces(getenv("TUTTI_IFACE"), false, here, NET_ADDRS, &n);
		if (rc != TUTTI_OK)
			return rc;
		if (n == 0)
			return fail(TUTTI_EINVAL, "no network interface is up");
		at = (struct net_addr){.family = here[0].family};
	}
	rc = net_listen(&at, &a->root_fd);
	if (rc != TUTTI_OK)
		return rc;
	if (a->job.everywhere) {
		here[0].port = at.port;
		at = here[0];
	}
	net_text(&at, text);
	return TUTTI_OK;
}

static void take_job(struct agent *a, const struct frame *f)
{
	char root[NET_TEXT] = "";
	int rc = TUTTI_OK;

	if (a->have_job || !job_unpack(&a->job, f->data, f->len)) {
		say_failed(a, STATUS_NOT_RUN, "the agent received a malformed job");
		return;
	}
	a->have_job = true;
	rc = enter_directory(&a->job);
	if (rc == TUTTI_OK) {
		set_environment(&a->job);
		rc = a->job.rank[0] == 0 ? open_root(a, root) : TUTTI_OK;
	}
	if (rc != TUTTI_OK) {
		say_failed(a, STATUS_NOT_RUN, fail_text());
		return;
	}
	a->binding = bind_plan(a->job.bind, a->job.count);
	frame_add(&a->to, FRAME_READY, 0, root, strlen(root));
}

/* ---- starting ranks ---------------------------------------------------------------------------------------------- */

struct pipes {
	int in[2], out[2], err[2], joins[2], failed[2];
};

static bool open_pipes(struct pipes *p, bool with_input)
{
	memset(p, -1, sizeof(*p));
	if (with_input ? os_pipe(p->in) < 0 : (p->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	return os_pipe(p->out) == 0 && os_pipe(p->err) == 0 && os_pipe(p->failed) == 0 &&
	       os_message_pair(p->joins) == 0;
}

static void close_pipes(struct pipes *p)
{
	int *all[] = {p->in, p->out, p->err, p->joins, p->failed};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		close_fd(&all[i][0]);
		close_fd(&all[i][1]);
	}
}

static void default_signals(void)
{
	static const int changed[] = {SIGPIPE, SIGINT,  SIGQUIT, SIGTERM, SIGHUP,
	                              SIGUSR1, SIGUSR2, SIGXFSZ, SIGTTIN, SIGTTOU};
	sigset_t none;

	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++)
		signal(changed[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The rank's end of `joins` outlives exec. Its inode is told as well: the number alone may be another file's later. */
static void pass_joins(int fd)
{
	struct stat s;
	char text[48];

	if (fstat(fd, &s) < 0 || fcntl(fd, F_SETFD, 0) < 0)
		return;
	snprintf(text, sizeof(text), "%d:%llu", fd, (unsigned long long)s.st_ino);
	setenv("TUTTI_JOIN_FD", text, 1);
}

/* In the child. Returns only when the program can't be run. */
static void become_rank(const struct agent *a, int i, const struct pipes *p, pid_t agent)
{
	char number[16];

	setpgid(0, 0);
	(void)os_end_with_parent();
	if (getppid() != agent)
		_exit(STATUS_NOT_RUN);
	if (dup2(p->in[0], 0) < 0 || dup2(p->out[1], 1) < 0 || dup2(p->err[1], 2) < 0)
		return;
	bind_apply(a->binding, i);
	snprintf(number, sizeof(number), "%d", a->job.rank[i]);
	setenv("TUTTI_RANK", number, 1);
	snprintf(number, sizeof(number), "%d", i);
	setenv("TUTTI_LOCAL_RANK", number, 1);
	if (a->job.rank[i] == 0) {
		fcntl(a->root_fd, F_SETFD, 0);
		snprintf(number, sizeof(number), "%d", a->root_fd);
		setenv("TUTTI_ROOT_FD", number, 1);
	}
	pass_joins(p->joins[1]);
	default_signals();
	execvp(a->job.argv[0], a->job.argv);
}

static bool wants_input(const struct agent *a, int i)
{
	return a->job.input == INPUT_ALL || (a->job.input == INPUT_FIRST && a->job.rank[i] == 0);
}

/* 0, or the errno that kept the rank from starting. */
static int start_rank(struct agent *a, int i)
{
	struct child *c = &a->child[i];
	struct pipes p;
	pid_t self = getpid(), pid = -1;
	ssize_t n;
	int err = 0;

	if (open_pipes(&p, wants_input(a, i)))
		pid = fork();
	if (pid < 0) {
		err = errno;
		close_pipes(&p);
		return err;
	}
	if (pid == 0) {
		become_rank(a, i, &p, self);
		err = errno;
		n = write(p.failed[1], &err, sizeof(err));
		_exit(n < 0 ? STATUS_NOT_RUN : STATUS_NOT_FOUND);
	}
	close_fd(&p.failed[1]);
	do
		n = read(p.failed[0], &err, sizeof(err));
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		waitpid(pid, NULL, 0);
		close_pipes(&p);
		return err;
	}
	*c = (struct child){.pid = pid, .in = p.in[1], .out = p.out[0], .err = p.err[0], .joins = p.joins[0]};
	p.in[1] = p.out[0] = p.err[0] = p.joins[0] = -1;
	close_pipes(&p);
	fcntl(c->out, F_SETFL, O_NONBLOCK);
	fcntl(c->err, F_SETFL, O_NONBLOCK);
	if (c->in >= 0)
		fcntl(c->in, F_SETFL, O_NONBLOCK);
	return 0;
}

static bool make_room(struct agent *a)
{
	size_t n = (size_t)a->job.count;
	struct pollfd *polls = realloc(a->polls, (3 + POLLS * n) * sizeof(*polls));

	if (polls)
		a->polls = polls;
	a->child = calloc(n, sizeof(*a->child));
	for (size_t i = 0; a->child && i < n; i++)
		a->child[i] = (struct child){.in = -1, .out = -1, .err = -1, .joins = -1};
	return polls && a->child;
}

static void start_all(struct agent *a, const struct frame *f)
{
	char root[NET_TEXT + 256];
	int err;

	if (!a->have_job || a->started)
		return;
	a->started = true;
	snprintf(root, sizeof(root), "%.*s", (int)f->len, f->data);
	err = make_room(a) && setenv("TUTTI_ROOT", root, 1) == 0 ? 0 : ENOMEM;
	for (int i = 0; !err && i < a->job.count; i++)
		err = start_rank(a, i);
	close_fd(&a->root_fd);
	if (err) {
		errno = err;
		fail_errno("can't run %s", a->job.argv[0]);
		say_failed(a, err == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUN, fail_text());
	}
}

/* ---- input and output of ranks ----------------------------------------------------------------------------------- */

static void close_input(struct agent *a, struct child *c)
{
	close_fd(&c->in);
	buf_free(&c->input);
	frame_add(&a->to, FRAME_CLOSED, rank_of(a, c), NULL, 0);
}

static void write_input(struct agent *a, struct child *c)
{
	if (!buf_flush(&c->input, c->in)) {
		close_input(a, c);
		return;
	}
	if (c->input.len)
		return;
	if (c->in_ends)
		close_input(a, c);
	else
		frame_add(&a->to, FRAME_TAKEN, rank_of(a, c), NULL, 0);
}

static void take_input(struct agent *a, const struct frame *f)
{
	struct child *c;
	int i = 0;

	while (a->child && i < a->job.count && a->job.rank[i] != (int)f->rank)
		i++;
	if (!a->child || i == a->job.count || a->child[i].in < 0)
		return;
	c = &a->child[i];
	buf_add(&c->input, f->data, f->len);
	c->in_ends = f->len == 0;
	write_input(a, c);
}

/* Passes on what there is; false at the end of the stream. */
static bool read_output(struct agent *a, struct child *c, int fd, enum frame_kind kind)
{
	struct buf b = {0};
	ssize_t n = buf_fill(&b, fd);
	bool more = n > 0 || (n < 0 && errno == EAGAIN);

	if (n > 0)
		frame_add(&a->to, kind, rank_of(a, c), b.data, b.len);
	buf_free(&b);
	return more;
}

/* The last output: at most what a pipe holds, in case a process that left the group still writes. */
static void drain(struct agent *a, struct child *c, int *fd, enum frame_kind kind)
{
	size_t before;

	for (int i = 0; *fd >= 0 && i < DRAIN_READS; i++) {
		before = a->to.len;
		if (!read_output(a, c, *fd, kind) || a->to.len == before)
			break;
	}
	close_fd(fd);
}

/* Worlds that the rank has begun to join since it was asked last. One of another size or rendezvous is not the job's. */
static void hear_joins(struct agent *a, struct child *c)
{
	char ours[NET_TEXT + 300], joined[sizeof(ours)];
	const char *root = getenv("TUTTI_ROOT");
	ssize_t n = 0;

	snprintf(ours, sizeof(ours), "%d %s", a->job.size, root ? root : "");
	while (c->joins >= 0 && (n = recv(c->joins, joined, sizeof(joined), MSG_DONTWAIT)) > 0)
		if ((size_t)n == strlen(ours) && memcmp(joined, ours, (size_t)n) == 0)
			frame_add(&a->to, FRAME_JOINING, rank_of(a, c), NULL, 0);
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(&c->joins);
}

/*
 * A rank ended. The rest of its group is killed while the dead leader keeps the group's number reserved; then follow
 * its last output and its status.
 */
static void end_rank(struct agent *a, struct child *c)
{
	int status = 0;
	uint32_t value;

	kill(-c->pid, SIGKILL);
	waitpid(c->pid, &status, 0);
	c->pid = 0;
	drain(a, c, &c->out, FRAME_OUTPUT);
	drain(a, c, &c->err, FRAME_ERRORS);
	hear_joins(a, c);
	close_fd(&c->joins);
	if (c->in >= 0)
		close_input(a, c);
	value = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status) * 256;
	frame_add_u32(&a->to, FRAME_EXIT, rank_of(a, c), value);
}

static void reap(struct agent *a)
{
	for (int i = 0; a->child && i < a->job.count; i++) {
		struct child *c = &a->child[i];
		siginfo_t info = {0};
		if (c->pid && waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
			end_rank(a, c);
	}
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void obey(struct agent *a)
{
	struct frame f;
	size_t at = 0;
	int rc;

	while ((rc = frame_next(&a->from, &at, &f)) > 0) {
		if (f.kind == FRAME_JOB)
			take_job(a, &f);
		else if (f.kind == FRAME_GO)
			start_all(a, &f);
		else if (f.kind == FRAME_INPUT)
			take_input(a, &f);
		else if (f.kind == FRAME_SIGNAL)
			signal_all(a, (int)frame_u32(&f));
	}
	buf_drop(&a->from, at);
	if (rc < 0)
		a->head_gone = true;
}

static void take_signals(struct agent *a)
{
	for (int sig; (sig = os_signals_next(a->signals));)
		if (sig != SIGCHLD)
			a->head_gone = true;
	reap(a);
}

static void hear_head(struct agent *a)
{
	ssize_t n = buf_fill(&a->from, STDIN_FILENO);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		a->head_gone = true;
	obey(a);
}

static int fill_polls(const struct agent *a)
{
	const bool room = a->to.len < BACKLOG_MAX;
	struct pollfd *p = a->polls;
	int n = 3;

	p[0] = (struct pollfd){.fd = a->head_gone ? -1 : STDIN_FILENO, .events = POLLIN};
	p[1] = (struct pollfd){.fd = a->to.len ? STDOUT_FILENO : -1, .events = POLLOUT};
	p[2] = (struct pollfd){.fd = a->signals, .events = POLLIN};
	for (int i = 0; a->child && i < a->job.count; i++, n += POLLS) {
		const struct child *c = &a->child[i];
		p[n] = (struct pollfd){.fd = room ? c->out : -1, .events = POLLIN};
		p[n + 1] = (struct pollfd){.fd = room ? c->err : -1, .events = POLLIN};
		p[n + 2] = (struct pollfd){.fd = c->input.len ? c->in : -1, .events = POLLOUT};
		p[n + 3] = (struct pollfd){.fd = room ? c->joins : -1, .events = POLLIN};
	}
	return n;
}

static void serve_child(struct agent *a, struct child *c, const struct pollfd p[POLLS])
{
	if (p[0].revents && !read_output(a, c, c->out, FRAME_OUTPUT))
		close_fd(&c->out);
	if (p[1].revents && !read_output(a, c, c->err, FRAME_ERRORS))
		close_fd(&c->err);
	if (p[2].revents)
		write_input(a, c);
	if (p[3].revents)
		hear_joins(a, c);
}

/* The head comes last: its orders change the list that was polled. When it is gone, what it would get is dropped. */
static void turn(struct agent *a, int ms)
{
	int n = fill_polls(a);

	if (poll(a->polls, (nfds_t)n, ms) < 0)
		return;
	for (int i = 0; 3 + POLLS * i < n; i++)
		serve_child(a, &a->child[i], &a->polls[3 + POLLS * i]);
	if (a->polls[2].revents)
		take_signals(a);
	if (a->polls[0].revents)
		hear_head(a);
	if (!buf_flush(&a->to, STDOUT_FILENO)) {
		a->head_gone = true;
		buf_drop(&a->to, a->to.len);
	}
}

static bool any_runs(const struct agent *a)
{
	for (int i = 0; a->child && i < a->job.count; i++)
		if (a->child[i].pid)
			return true;
	return false;
}

/* The head is gone. Ranks may have something to put in order, as when it asks them to end. */
static void end_ranks(struct agent *a)
{
	uint64_t due = now_ns() + (uint64_t)(HARSHER_S * 1e9), now;

	signal_all(a, SIGTERM);
	while (any_runs(a) && (now = now_ns()) < due)
		turn(a, (int)((due - now) / 1000000) + 1);
	signal_all(a, SIGKILL);
	for (int i = 0; a->child && i < a->job.count; i++)
		if (a->child[i].pid)
			waitpid(a->child[i].pid, NULL, 0);
}

static int listen_to_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* the terminal's signals come to the head, which decides */
	signal(SIGQUIT, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* these come from the head as well, should somebody send them to all of our name */
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_SETMASK, &set, NULL);
	return os_signals_open(&set);
}

int agent_main(void)
{
	struct agent a = {.root_fd = -1, .signals = listen_to_signals(), .polls = calloc(3, sizeof(*a.polls))};

	if (a.signals < 0 || !a.polls) {
		fprintf(stderr, "tutti-run: the agent can't start: %s\n", strerror(errno));
		return 1;
	}
	fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
	fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
	buf_add(&a.to, WIRE_HELLO, WIRE_HELLO_LEN);
	while (!a.head_gone)
		turn(&a, -1);
	end_ranks(&a);
	bind_free(a.binding);
	job_free(&a.job);
	buf_free(&a.from);
	buf_free(&a.to);
	free(a.child);
	free(a.polls);
	return 0;
}
