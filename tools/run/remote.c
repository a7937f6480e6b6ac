/* SPDX-License-Identifier: MIT */
/* Starting agents; see remote.h. */
#include "remote.h"
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "hosts.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* text in single quotes, for a shell. */
static void add_quoted(struct buf *b, const char *text)
{
	buf_add(b, "'", 1);
	for (; *text; text++) {
		if (*text == '\'')
			buf_add(b, "'\\''", 4);
		else
			buf_add(b, text, 1);
	}
	buf_add(b, "'", 1);
}

/* Run this very program if the other host also has it, else the one in its PATH. */
static void remote_command(struct buf *b)
{
	static const char script[] = "test -x \"$0\" && exec \"$0\" --agent; exec tutti-run --agent";
	char path[PATH_MAX];

	buf_add(b, "sh -c ", 6);
	add_quoted(b, script);
	buf_add(b, " ", 1);
	add_quoted(b, os_program_path(path, sizeof(path)) ? path : "");
	buf_add(b, "", 1);
}

#define WORDS_MAX 64

/* Returns only when it can't. */
static void exec_remote_shell(const char *rsh, const char *host)
{
	struct buf command = {0};
	char *words = strdup(rsh), *argv[WORDS_MAX + 3], *word;
	int n = 0;

	while (n < WORDS_MAX && (word = strsep(&words, " \t")))
		if (*word)
			argv[n++] = word;
	if (n == 0)
		return;
	remote_command(&command);
	argv[n++] = (char *)host;
	argv[n++] = command.data;
	argv[n] = NULL;
	execvp(argv[0], argv);
}

static void exec_agent(void)
{
	char path[PATH_MAX];

	if (os_program_path(path, sizeof(path)))
		execl(path, path, "--agent", (char *)NULL);
}

/*
 * In the child. An agent here leaves the terminal's session; a remote shell stays, as it may have to ask for a
 * password, but is deaf to what comes to the whole group, from the terminal or from `timeout`: the head hears it, and tells
 * the agents over this very connection. The number of the error goes to `failed`.
 */
static void become_agent(const char *host, const char *rsh, int fd, int failed)
{
	static const int ours[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	bool here = host_is_here(host);
	sigset_t none;
	int err;

	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	for (size_t i = 0; !here && i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (here) {
		setsid();
		exec_agent();
	} else {
		exec_remote_shell(rsh, host);
	}
	err = errno;
	_exit(write(failed, &err, sizeof(err)) < 0 ? 126 : 127);
}

/* Waits until the child runs another program; 0, or the errno that kept it from that. */
static int wait_for_exec(int failed)
{
	int err = 0;
	ssize_t n;

	do
		n = read(failed, &err, sizeof(err));
	while (n < 0 && errno == EINTR);
	return n > 0 ? err : 0;
}

static int cant_start(const char *host, const char *rsh, pid_t *pid, int err)
{
	if (*pid > 0)
		waitpid(*pid, NULL, 0);
	errno = err;
	if (*pid < 0)
		fail_errno("can't start a process for host %s", host);
	else if (host_is_here(host))
		fail_errno("can't run tutti-run again as the agent of this host");
	else
		fail_errno("can't run '%.*s' to reach host %s; install it here, or choose another command with --rsh",
		           (int)strcspn(rsh, " \t"), rsh, host);
	*pid = 0;
	return TUTTI_EPEER;
}

int agent_start(const char *host, const char *rsh, pid_t *pid, int *fd)
{
	int sv[2], failed[2], err;

	if (os_stream_pair(sv) < 0)
		return fail_errno("can't create a socket pair for host %s", host);
	if (os_pipe(failed) < 0) {
		close(sv[0]);
		close(sv[1]);
		return fail_errno("can't create a pipe for host %s", host);
	}
	*pid = fork();
	if (*pid == 0)
		become_agent(host, rsh, sv[1], failed[1]);
	err = *pid < 0 ? errno : 0;
	close(sv[1]);
	close(failed[1]);
	if (!err)
		err = wait_for_exec(failed[0]);
	close(failed[0]);
	if (err) {
		close(sv[0]);
		return cant_start(host, rsh, pid, err);
	}
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	*fd = sv[0];
	return TUTTI_OK;
}

int agent_end(pid_t pid, double seconds)
{
	int fd = os_process_open(pid), status = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0 || poll(&p, 1, (int)(seconds * 1000)) == 0)
		kill(pid, SIGKILL);
	if (fd >= 0)
		close(fd);
	waitpid(pid, &status, 0);
	return status;
}
