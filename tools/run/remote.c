/* Starting agents; see remote.h. */
#include "remote.h"
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
#include <sys/socket.h>
#include <sys/syscall.h>
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

static bool own_path(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	path[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* Runs this very program where the other host has it too, or else the one in its PATH. */
static void remote_command(struct buf *b)
{
	static const char script[] = "test -x \"$0\" && exec \"$0\" --agent; exec tutti-run --agent";
	char path[PATH_MAX];

	buf_add(b, "sh -c ", 6);
	add_quoted(b, script);
	buf_add(b, " ", 1);
	add_quoted(b, own_path(path) ? path : "");
	buf_add(b, "", 1);
}

#define WORDS_MAX 64

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
	fprintf(stderr, "tutti-run: can't run %s: %s\n", argv[0], strerror(errno));
}

static void exec_agent(void)
{
	char path[PATH_MAX];

	if (own_path(path))
		execl(path, path, "--agent", (char *)NULL);
	fprintf(stderr, "tutti-run: can't run myself: %s\n", strerror(errno));
}

/*
 * In the child. An agent here leaves the terminal's session; a remote shell stays, as it may have to ask for a
 * password, but does not hear the terminal's Ctrl-C: the head does, and tells the agents.
 */
static void become_agent(const char *host, const char *rsh, int fd)
{
	sigset_t none;

	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (host_is_here(host)) {
		setsid();
		exec_agent();
	} else {
		exec_remote_shell(rsh, host);
	}
	_exit(127);
}

int agent_start(const char *host, const char *rsh, pid_t *pid, int *fd)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return fail_errno("can't make a socket pair for host %s", host);
	*pid = fork();
	if (*pid == 0)
		become_agent(host, rsh, sv[1]);
	close(sv[1]);
	if (*pid < 0) {
		close(sv[0]);
		return fail_errno("can't start a process for host %s", host);
	}
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	*fd = sv[0];
	return TUTTI_OK;
}

int agent_end(pid_t pid, double seconds)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0 || poll(&p, 1, (int)(seconds * 1000)) == 0)
		kill(pid, SIGKILL);
	if (fd >= 0)
		close(fd);
	waitpid(pid, &status, 0);
	return status;
}
