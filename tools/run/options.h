/* SPDX-License-Identifier: MIT */
/* The command line of tutti-run. */
#ifndef TUTTI_RUN_OPTIONS_H
#define TUTTI_RUN_OPTIONS_H

#include "head.h"

enum run_action { RUN_JOB, RUN_SHOW, RUN_AGENT, RUN_SECRET, RUN_HELP, RUN_MAN, RUN_VERSION };

struct run_command {
	enum run_action action;
	struct run_options options; /* of RUN_JOB and RUN_SHOW */
	char cwd[4096];
};

/** Reads the command line; false: a line that says what is wrong was printed. options_free in either case. */
bool options_read(struct run_command *c, int argc, char **argv);
void options_free(struct run_command *c);

void options_help(void);
void options_man(void);

#endif
