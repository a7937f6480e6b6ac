/* SPDX-License-Identifier: MIT */
/* Command lines from tables: see cli.h. */
#include "cli.h"

#include <stdbool.h>
#include <string.h>

static int complain(const struct cli *cli, const char *what, const char *arg)
{
	fprintf(stderr, "%s: %s: %s (try --help)\n", cli->name, what, arg);
	return CLI_BAD;
}

/* The option that `arg` names as -x, -xVALUE, --word or --word=VALUE; *value: what stands inside, or NULL. */
static const struct cli_option *find(const struct cli *cli, const char *arg, const char **value)
{
	size_t len = arg[1] == '-' ? strcspn(arg + 2, "=") : 0;
	for (const struct cli_option *o = cli->options; o->id; o++) {
		if (arg[1] != '-' && o->letter && arg[1] == o->letter) {
			*value = arg[2] ? arg + 2 : NULL;
			return o;
		}
		if (arg[1] == '-' && o->word && strlen(o->word) == len && memcmp(arg + 2, o->word, len) == 0) {
			*value = arg[2 + len] ? arg + 3 + len : NULL;
			return o;
		}
	}
	return NULL;
}

/* A digit that stands in the option's "[=0|1]". */
static bool lone_switch(const struct cli_option *o, const char *next)
{
	return next && next[0] >= '0' && next[0] <= '9' && !next[1] && strchr(o->arg, next[0]);
}

int cli_next(const struct cli *cli, int argc, char **argv, int *at, const char **value)
{
	*value = NULL;
	if (*at >= argc)
		return CLI_END;
	const char *arg = argv[(*at)++], *next = *at < argc ? argv[*at] : NULL;
	if (strcmp(arg, "--") == 0) {
		if (!next)
			return CLI_END;
		arg = argv[(*at)++];
		*value = arg;
		return CLI_WORD;
	}
	if (arg[0] != '-' || !arg[1]) {
		*value = arg;
		return CLI_WORD;
	}
	const struct cli_option *o = find(cli, arg, value);
	if (!o)
		return complain(cli, "no such option", arg);
	if (!o->arg)
		return *value ? complain(cli, "takes no argument", arg) : o->id;
	bool may = o->arg[0] == '[';
	if (!*value && (may ? lone_switch(o, next) : next != NULL)) {
		*value = next;
		++*at;
	}
	return *value || may ? o->id : complain(cli, "needs an argument", arg);
}

static void spell(const struct cli_option *o, char *buf, size_t cap)
{
	char letter[8] = "";
	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c%s", o->letter, o->word ? ", " : "");
	bool may = o->arg && o->arg[0] == '[';
	snprintf(buf, cap, "%s%s%s%s%s", letter, o->word ? "--" : "", o->word ? o->word : "", o->arg && !may ? " " : "",
	         o->arg ? o->arg : "");
}

/* Words of text in lines of at most `width`, each after `indent` blanks except the first. */
static void wrap(FILE *f, const char *text, int indent, int width)
{
	int column = indent;
	for (const char *p = text; *p;) {
		int len = (int)strcspn(p, " \n");
		if (column > indent && column + 1 + len > width) {
			fprintf(f, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(f, "%s%.*s", column > indent ? " " : "", len, p);
		p += len;
		if (*p == '\n') {
			fprintf(f, "\n%*s", p[1] ? indent : 0, "");
			column = indent;
		}
		p += *p != '\0';
	}
	fputc('\n', f);
}

void cli_help(const struct cli *cli, FILE *f)
{
	fprintf(f, "%s %s\n\n", cli->name, cli->usage);
	wrap(f, cli->what, 0, 100);
	fputc('\n', f);
	for (const struct cli_option *o = cli->options; o->id; o++) {
		char left[80];
		if (!o->help)
			continue;
		spell(o, left, sizeof(left));
		fprintf(f, "  %-26s%s", left, strlen(left) > 25 ? "\n                            " : "");
		wrap(f, o->help, 28, 100);
	}
	if (cli->more) {
		fputc('\n', f);
		wrap(f, cli->more, 0, 100);
	}
}

/* Text for troff: backslashes, dashes, and dots or quotes at the start of a line. */
static void troff(FILE *f, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", f);
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			fprintf(f, "%s", *text == '-' ? "\\-" : "\\e");
		else
			fputc(*text, f);
		if (*text == '\n' && (text[1] == '.' || text[1] == '\''))
			fputs("\\&", f);
	}
	fputc('\n', f);
}

void cli_man(const struct cli *cli, FILE *f)
{
	fprintf(f, ".TH \"%s\" 1 \"\" \"Tutti\"\n.SH NAME\n%s\n.SH SYNOPSIS\n.B %s\n", cli->name, cli->name, cli->name);
	troff(f, cli->usage);
	fputs(".SH DESCRIPTION\n", f);
	troff(f, cli->what);
	fputs(".SH OPTIONS\n", f);
	for (const struct cli_option *o = cli->options; o->id; o++) {
		char left[80];
		if (!o->help)
			continue;
		spell(o, left, sizeof(left));
		fputs(".TP\n.B ", f);
		troff(f, left);
		troff(f, o->help);
	}
	if (cli->more) {
		fputs(".SH NOTES\n", f);
		troff(f, cli->more);
	}
}
