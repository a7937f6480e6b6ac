/* SPDX-License-Identifier: MIT */
/*
 * Command lines of Tutti's programs: one table of options, from which parsing, --help and the manual page are made.
 * Stand-alone: includes nothing of the library.
 */
#ifndef CLI_H
#define CLI_H

#include <stdio.h>

struct cli_option {
	/* arg: the name of its argument; NULL: none; "[X]": may follow, only as --word=X, -lX or a lone digit that is in X */
	int id;           /* > 0; what cli_next returns */
	char letter;      /* 0: none */
	const char *word; /* without dashes */
	const char *arg;
	const char *help; /* NULL: not shown */
};

struct cli {
	const char *name, *usage, *what;  /* program, its arguments, one paragraph */
	const struct cli_option *options; /* ends with id 0 */
	const char *more;                 /* more paragraphs for --help and the page; may be NULL */
};

enum { CLI_END = 0, CLI_WORD = -1, CLI_BAD = -2 };

/**
 * The next option from argv[*at] on: its id, with *value its argument (NULL: none). CLI_WORD: *value is a word that is
 * not an option. CLI_BAD: one line was printed. "--" ends the options: what follows are words.
 */
int cli_next(const struct cli *cli, int argc, char **argv, int *at, const char **value);
void cli_help(const struct cli *cli, FILE *f);
/** A page for man(1), in troff. */
void cli_man(const struct cli *cli, FILE *f);

#endif
