/* SPDX-License-Identifier: MIT */
/*
 * tutti-run: the launcher. The command line is read by run/options, the job is run by run/head, and on each host by
 * run/agent, which is this same program.
 */
#include "../src/util/error.h"
#include "run/agent.h"
#include "run/head.h"
#include "run/options.h"
#include "run/secret.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STATUS_USAGE 2

static int make_secret(void)
{
	if (secret_make(getenv("TUTTI_SECRET_FILE")) == TUTTI_OK)
		return 0;
	fprintf(stderr, "tutti-run: %s\n", fail_text());
	return 1;
}

static int act(const struct run_command *c)
{
	switch (c->action) {
	case RUN_AGENT:
		return agent_main();
	case RUN_SHOW:
		return head_show(&c->options);
	case RUN_SECRET:
		return make_secret();
	case RUN_HELP:
		options_help();
		return 0;
	case RUN_MAN:
		options_man();
		return 0;
	case RUN_VERSION:
		printf("tutti-run %d.%d.%d\n", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
		return 0;
	default:
		return head_run(&c->options);
	}
}

/* If we were started without the standard files, our sockets would get their numbers. */
static int open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
	struct run_command c;
	int status;

	signal(SIGCHLD, SIG_DFL); /* a parent that ignores it would have the kernel bury our children unseen */
	if (open_standard_files() < 0)
		return STATUS_USAGE;
	status = options_read(&c, argc, argv) ? act(&c) : STATUS_USAGE;
	options_free(&c);
	return status;
}
