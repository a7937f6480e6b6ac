/* SPDX-License-Identifier: MIT */
/* Options of tutti-transformer, in one table (settings.c): parsing, defaults, --help and --man come from it. */
#ifndef TRANSFORMER_SETTINGS_H
#define TRANSFORMER_SETTINGS_H

#include <stdbool.h>
#include <stdio.h>

#define RANKS_LIMIT 256

struct settings {
	const char *dir; /* the checkpoint */
	/* what to do */
	const char *make; /* a preset's name */
	bool check, bench;
	/* making */
	const char *set, *type;
	int files, seed;
	/* computing */
	const char *tokens, *shares;
	int generate, batch, context, ranks, threads, pieces;
	bool plain;
	double timeout;
	/* measuring */
	int prompt, rounds;
	bool single, pretend;
	const char *json;
	bool help, man;

	double share[RANKS_LIMIT]; /* from `shares` */
	int nshares;
};

/** Reads the command line; on a mistake prints one line and returns -1. */
int settings_parse(struct settings *s, int argc, char **argv);
void settings_help(FILE *f);
void settings_man(FILE *f);

/** Numbers from "1,2,3", at most n, each below `limit`; how many, or -1. */
int settings_list(const char *text, int *to, int n, int limit);

#endif
