/* SPDX-License-Identifier: MIT */
/* Options; see options.h. */
#include "options.h"
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "../../src/util/param.h"
#include "../cli/cli.h"
#include "bind.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOST_FILE_MAX (1u << 20)
#define DEFAULT_RSH   "ssh -x -T -o ConnectTimeout=15 -o ServerAliveInterval=10"

enum option_id {
	OPT_RANKS = 1,
	OPT_HOST,
	OPT_HOSTFILE,
	OPT_RSH,
	OPT_BIND,
	OPT_ENV,
	OPT_CWD,
	OPT_TIMEOUT,
	OPT_GRACE,
	OPT_TAG,
	OPT_STDIN,
	OPT_DRY_RUN,
	OPT_SECRET,
	OPT_AGENT,
	OPT_HELP,
	OPT_MAN,
	OPT_VERSION,
};

static const struct cli_option table[] = {
        {OPT_RANKS, 'n', "ranks", "N", "Number of ranks. Default: one per slot of the hosts, or 1."},
        {OPT_HOST, 'H', "host", "LIST",
         "Hosts and their slots: a:2,b:2. A host without a number has one slot. Ranks fill the hosts in this order. The number is not a port: set a port with --rsh 'ssh -p PORT' or in ~/.ssh/config."},
        {OPT_HOSTFILE, 0, "hostfile", "FILE",
         "Read hosts from a file. Text: one host per line as 'host', 'host:2' or 'host slots=2', with # comments. JSON: a list of {\"ssh\": \"host\", \"ips\": [\"10.0.0.1\"], \"slots\": 2}, or an object with that list as \"hosts\". As with mlx.launch, each entry of a JSON list takes the next ranks, even if a host occurs twice."},
        {OPT_RSH, 0, "rsh", "COMMAND",
         "Command that runs a command line on a host. Its last two arguments are the host and the command line. Default: " DEFAULT_RSH
         "."},
        {OPT_BIND, 0, "bind", "HOW",
         "How to bind ranks to CPUs. core: each rank gets its own share of the cores. numa: each rank gets whole NUMA nodes. none: no binding. Default: core, or none on a host with more ranks than cores."},
        {OPT_ENV, 0, "env", "NAME[=VALUE]",
         "Set a variable for the ranks, or pass on its current value. Variables that begin with TUTTI_ are always passed on. May be repeated."},
        {OPT_CWD, 0, "cwd", "DIR", "Working directory of the ranks. Default: the current one, on hosts that have it."},
        {OPT_TIMEOUT, 0, "timeout", "SECONDS", "End the job with status 124 after this time."},
        {OPT_GRACE, 0, "grace", "SECONDS",
         "After a rank has failed, wait this long for the others to report their errors, then send SIGTERM, and SIGKILL two seconds later. Default: 2."},
        {OPT_TAG, 0, "tag", NULL, "Prefix each line of output with [rank]."},
        {OPT_STDIN, 0, "stdin", "WHO", "Ranks that read the standard input: 0, all or none. Default: 0."},
        {OPT_DRY_RUN, 0, "dry-run", NULL, "Print what would run where, without running it."},
        {OPT_SECRET, 0, "make-secret", NULL,
         "Create the secret file for jobs under launchers that do not provide a secret, and print its path: ~/.config/tutti/secret, or TUTTI_SECRET_FILE. Copy the file to all hosts."},
        {OPT_AGENT, 0, "agent", NULL, NULL},
        {OPT_HELP, 'h', "help", NULL, "Print this help."},
        {OPT_MAN, 0, "man", NULL, "Print the manual page."},
        {OPT_VERSION, 'V', "version", NULL, "Print the version."},
        {0},
};

static const struct cli cli = {
        .name = "tutti-run",
        .usage = "[options] program [arguments]",
        .what = "Runs N copies of a program, the ranks of a Tutti job, on this host or on several. "
                "tutti-run tells the ranks how to find each other, forwards their input and output in whole lines, and ends the job when a rank fails.",
        .options = table,
        .more = "The exit status is 0 if all ranks exited with 0. "
                "Otherwise it is the status of the rank that failed first, or 128 plus the number of the signal that killed that rank or ended tutti-run. "
                "124: the time limit was reached. "
                "125: a host can't be reached or was lost. "
                "126: the program or its directory can't be used. "
                "127: the program was not found. "
                "2: the command line is wrong. "
                "1: the output can't be written, or a rank exited while other ranks were waiting for it to join.\n\n"
                "tutti-run starts itself as an agent on every other host. "
                "Each job has a new secret, which travels to the agents over that connection and to the ranks in their environment, never on a command line. "
                "Rank 0 inherits a listening socket, so you need not choose a port. "
                "TUTTI_IFACE selects the interface at which the first host is reached.\n\n"
                "Nothing is left behind. "
                "Each rank leads a process group, which is killed when the rank ends, when tutti-run ends (even by SIGKILL), and when the connection to its host breaks. "
                "Ranks that are still running then get SIGTERM, and SIGKILL two seconds later. "
                "SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to the ranks and end the job; a second one kills the ranks. "
                "SIGUSR1 and SIGUSR2 are passed on.\n\n"
                "Examples:\n\n"
                "tutti-run -n 4 ./program\n\n"
                "tutti-run -H node1:2,node2:2 --env OMP_NUM_THREADS=8 ./program\n\n"
                "tutti-run --hostfile hosts.json --tag --timeout 600 ./program",
};

/* ---- values ------------------------------------------------------------------------------------------------------ */

static int set_count(int *n, const char *text)
{
	int64_t v;

	if (text[0] == 'p') /* mpirun's -np */
		return fail(TUTTI_EINVAL, "-n%s is not an option: the number of ranks is -n N, as in -n 2", text);
	if (!parse_size(text, &v) || v < 1 || v > HOST_SLOTS_MAX)
		return fail(TUTTI_EINVAL, "-n %s: expected a number from 1 to %d", text, HOST_SLOTS_MAX);
	*n = (int)v;
	return TUTTI_OK;
}

static int set_seconds(double *seconds, const char *option, const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= 1e9))
		return fail(TUTTI_EINVAL, "--%s %s: expected seconds", option, text);
	*seconds = v;
	return TUTTI_OK;
}

static int set_input(enum run_input *input, const char *who)
{
	if (strcmp(who, "0") == 0)
		*input = INPUT_FIRST;
	else if (strcmp(who, "all") == 0)
		*input = INPUT_ALL;
	else if (strcmp(who, "none") == 0)
		*input = INPUT_NONE;
	else
		return fail(TUTTI_EINVAL, "--stdin %s: expected 0, all or none", who);
	return TUTTI_OK;
}

/* Takes over `text`. */
static int add_env(struct run_options *o, char *text)
{
	char **grown = realloc(o->env, (size_t)(o->nenv + 1) * sizeof(*grown));

	if (grown)
		o->env = grown;
	if (!grown || !text) {
		free(text);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	o->env[o->nenv++] = text;
	return TUTTI_OK;
}

static int set_env(struct run_options *o, const char *text)
{
	const char *value = getenv(text);
	char *both = NULL;

	if (text[0] == '=' || !text[0])
		return fail(TUTTI_EINVAL, "--env %s: expected NAME or NAME=VALUE", text);
	if (strchr(text, '='))
		return add_env(o, strdup(text));
	if (!value)
		return fail(TUTTI_EINVAL, "--env %s: it is not set here; give a value: --env %s=VALUE", text, text);
	return add_env(o, asprintf(&both, "%s=%s", text, value) < 0 ? NULL : both);
}

static int read_host_file(struct hosts *hosts, const char *path)
{
	struct buf b = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
	ssize_t n = fd < 0 ? -1 : 1;

	while (n > 0 && b.len <= HOST_FILE_MAX)
		n = buf_fill(&b, fd);
	if (n < 0) {
		fail_errno("can't read the host file %s", path);
		rc = TUTTI_EINVAL;
	} else if (b.len > HOST_FILE_MAX) {
		rc = fail(TUTTI_EINVAL, "the host file %s is larger than %u bytes", path, HOST_FILE_MAX);
	} else {
		rc = hosts_add_file(hosts, path, b.data ? b.data : "", b.len);
	}
	if (fd >= 0)
		close(fd);
	buf_free(&b);
	return rc;
}

static int apply(struct run_command *c, int id, const char *arg)
{
	struct run_options *o = &c->options;

	switch (id) {
	case OPT_RANKS:
		return set_count(&o->n, arg);
	case OPT_HOST:
		return hosts_add_list(&o->hosts, arg);
	case OPT_HOSTFILE:
		return read_host_file(&o->hosts, arg);
	case OPT_RSH:
		o->rsh = arg;
		return arg[strspn(arg, " \t")] ? TUTTI_OK : fail(TUTTI_EINVAL, "--rsh: expected a command");
	case OPT_BIND:
		o->bind = arg;
		return bind_known(arg) ? TUTTI_OK : fail(TUTTI_EINVAL, "--bind %s: expected core, numa or none", arg);
	case OPT_ENV:
		return set_env(o, arg);
	case OPT_CWD:
		o->cwd = arg;
		o->cwd_must = true;
		return TUTTI_OK;
	case OPT_TIMEOUT:
		return set_seconds(&o->timeout, "timeout", arg);
	case OPT_GRACE:
		return set_seconds(&o->grace, "grace", arg);
	case OPT_TAG:
		o->tag = true;
		return TUTTI_OK;
	case OPT_STDIN:
		return set_input(&o->input, arg);
	case OPT_DRY_RUN:
		c->action = RUN_SHOW;
		return TUTTI_OK;
	case OPT_AGENT:
		c->action = RUN_AGENT;
		return TUTTI_OK;
	case OPT_SECRET:
		c->action = RUN_SECRET;
		return TUTTI_OK;
	case OPT_HELP:
		c->action = RUN_HELP;
		return TUTTI_OK;
	case OPT_MAN:
		c->action = RUN_MAN;
		return TUTTI_OK;
	default:
		c->action = RUN_VERSION;
		return TUTTI_OK;
	}
}

/* ---- the command line -------------------------------------------------------------------------------------------- */

/* An absolute directory, as other hosts have another idea of the current one. */
static int set_directory(struct run_command *c)
{
	const char *dir = c->options.cwd;
	size_t used = 0;

	if (!dir || dir[0] != '/') {
		if (!getcwd(c->cwd, sizeof(c->cwd)))
			return fail_errno("can't tell the current directory");
		used = strlen(c->cwd);
	}
	if (dir && (size_t)snprintf(c->cwd + used, sizeof(c->cwd) - used, "%s%s", used ? "/" : "", dir) >=
	                   sizeof(c->cwd) - used)
		return fail(TUTTI_EINVAL, "--cwd: the name is too long");
	c->options.cwd = c->cwd;
	return TUTTI_OK;
}

/* What ranks get of the environment here: TUTTI_ variables, then the host file's, then those of --env. */
static int gather_env(struct run_options *o)
{
	char **given = o->env;
	int ngiven = o->nenv, rc = TUTTI_OK;

	o->env = NULL;
	o->nenv = 0;
	for (char **e = os_environment(); *e && rc == TUTTI_OK; e++)
		if (strncmp(*e, "TUTTI_", 6) == 0)
			rc = add_env(o, strdup(*e));
	for (int i = 0; i < o->hosts.nenv && rc == TUTTI_OK; i++)
		rc = add_env(o, strdup(o->hosts.env[i]));
	for (int i = 0; i < ngiven; i++) {
		if (rc == TUTTI_OK)
			rc = add_env(o, given[i]);
		else
			free(given[i]);
	}
	free(given);
	return rc;
}

static int complete(struct run_command *c)
{
	struct run_options *o = &c->options;
	char here[32];
	int rc = TUTTI_OK;

	if (o->argc == 0)
		return fail(TUTTI_EINVAL, "no program was given: tutti-run %s", cli.usage);
	if (o->hosts.n == 0) {
		snprintf(here, sizeof(here), "localhost:%d", o->n ? o->n : 1);
		rc = hosts_add_list(&o->hosts, here);
	}
	if (o->n == 0)
		o->n = hosts_slots(&o->hosts);
	if (rc == TUTTI_OK)
		rc = set_directory(c);
	if (rc == TUTTI_OK)
		rc = gather_env(o);
	return rc;
}

static int read_words(struct run_command *c, int argc, char **argv)
{
	const char *value;
	int at = 1, id, rc;

	while ((id = cli_next(&cli, argc, argv, &at, &value)) > 0) {
		rc = apply(c, id, value);
		if (rc != TUTTI_OK)
			return rc;
	}
	if (id == CLI_WORD)
		at--;
	c->options.argc = argc - at;
	c->options.argv = argv + at;
	return id == CLI_BAD ? CLI_BAD : TUTTI_OK;
}

bool options_read(struct run_command *c, int argc, char **argv)
{
	int rc;

	*c = (struct run_command){.options = {.bind = "core", .rsh = DEFAULT_RSH, .grace = 2}};
	rc = read_words(c, argc, argv);
	if (rc == TUTTI_OK && (c->action == RUN_JOB || c->action == RUN_SHOW))
		rc = complete(c);
	if (rc != TUTTI_OK && rc != CLI_BAD)
		fprintf(stderr, "tutti-run: %s\n", fail_text());
	return rc == TUTTI_OK;
}

void options_free(struct run_command *c)
{
	for (int i = 0; i < c->options.nenv; i++)
		free(c->options.env[i]);
	free(c->options.env);
	hosts_free(&c->options.hosts);
}

void options_help(void)
{
	cli_help(&cli, stdout);
}

void options_man(void)
{
	cli_man(&cli, stdout);
}
