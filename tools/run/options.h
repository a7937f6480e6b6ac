/* The options of tutti-run: one table, from which parsing, the help text and the manual page are made. */
#ifndef TUTTI_RUN_OPTIONS_H
#define TUTTI_RUN_OPTIONS_H

#include "head.h"

enum run_action { RUN_JOB, RUN_SHOW, RUN_AGENT, RUN_SECRET, RUN_HELP, RUN_MAN, RUN_VERSION };

struct run_command {
	enum run_action action;
	struct run_options options; /* of RUN_JOB and RUN_SHOW */
	char cwd[4096];
};

/** Reads the command line. EINVAL says what is wrong. options_free in either case. */
int options_read(struct run_command *c, int argc, char **argv);
void options_free(struct run_command *c);

void options_help(void);
void options_man(void);

#endif
