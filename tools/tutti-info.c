/* SPDX-License-Identifier: MIT */
/*
 * tutti-info: what this build is and what it can do here: transports with the reason where one can't be used, kernels,
 * variables, algorithms; and plans: printed, and proved.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/algo/algo.h"
#include "../src/bootstrap/contact.h"
#include "../src/comm/comm.h"
#include "../src/kernel/kernel.h"
#include "../src/util/error.h"
#include "../src/util/param.h"
#include "check/plan_check.h"
#include "cli/cli.h"
#include "doctor/doctor.h"
#include "tune/tune.h"
#include "tutti.h"

enum {
	OPT_TRANSPORTS = 1,
	OPT_DEVICES,
	OPT_DOCTOR,
	OPT_PARAMS,
	OPT_ALGOS,
	OPT_KERNELS,
	OPT_PLAN,
	OPT_CHECK,
	OPT_TUNE,
	OPT_RANKS,
	OPT_RANK,
	OPT_ROOT,
	OPT_CHANNELS,
	OPT_HOSTS,
	OPT_HELP,
	OPT_MAN,
	OPT_VERSION
};

static const struct cli_option options[] = {
        {OPT_TRANSPORTS, 't', "transports", NULL, "List the transports, and why a transport can't be used."},
        {OPT_DEVICES, 'd', "devices", NULL,
         "List the devices of the network transports, and which ones are used or why not."},
        {OPT_DOCTOR, 0, "doctor", NULL,
         "Check this machine for common RDMA faults. Under a launcher, also check that the ranks reach each other."},
        {OPT_PARAMS, 'p', "params", NULL, "List all TUTTI_ variables: meaning, default and current value."},
        {OPT_ALGOS, 'a', "algorithms", NULL,
         "List the algorithms, the collectives that they serve, and their sources."},
        {OPT_KERNELS, 'k', "kernels", NULL, "List the instruction sets of the reduction kernels, and the one in use."},
        {OPT_PLAN, 0, "plan", "COLL:ALGO", "Print the plan of an algorithm, for example --plan allreduce:ring -n 8."},
        {OPT_CHECK, 0, "check", "COLL:ALGO",
         "Prove that the plans of all ranks are correct: right sums, nothing overwritten too early, no deadlock."},
        {OPT_TUNE, 0, "tune", NULL,
         "Measure the cost of the job's links and write the cost table, from which algorithms are chosen afterwards."},
        {OPT_RANKS, 'n', "ranks", "N", "Number of ranks of the plan. Default: 4."},
        {OPT_RANK, 'r', "rank", "R", "Rank whose plan to print. Default: all with up to 8 ranks, else rank 0."},
        {OPT_ROOT, 0, "root", "R", "Root of a rooted collective. Default: 0."},
        {OPT_CHANNELS, 'c', "channels", "C", "Number of channels of the plan. Default: 1."},
        {OPT_HOSTS, 0, "hosts", "H", "Number of hosts, with the ranks spread evenly. Default: 1. hierarchy needs 2."},
        {OPT_HELP, 'h', "help", NULL, "Print this help."},
        {OPT_MAN, 0, "man", NULL, "Print the manual page."},
        {OPT_VERSION, 'V', "version", NULL, "Print the version."},
        {0},
};

static const struct cli cli = {
        .name = "tutti-info",
        .usage = "[options]",
        .what = "Shows what this build of Tutti contains and what it can do on this machine. "
                "Without options: version, transports and kernels. "
                "Under a launcher, it creates a communicator and shows which transport connects the ranks.",
        .options = options,
        .more = "--tune takes some seconds. "
                "Without a cost table, algorithms are chosen by default costs. "
                "Run it as the ranks of a job on the hosts that matter. "
                "One pair of ranks is measured for each kind of link between the ranks. "
                "Memory and sockets within this machine are measured between threads if the job has no such pair. "
                "Rank 0 writes the table to TUTTI_TUNE_FILE, or to tutti/tune-HOSTNAME in $XDG_CACHE_HOME (default: ~/.cache). "
                "In later jobs, the rank 0 on this machine reads it for all ranks. "
                "TUTTI_TUNE_FILE=none ignores it.\n\n"
                "Examples:\n\n"
                "tutti-info --params\n\n"
                "tutti-info --check allreduce:ring -n 8\n\n"
                "tutti-run -n 2 tutti-info --tune\n\n"
                "tutti-run -H node1,node2 tutti-info --tune",
};

struct asked {
	int transports, devices, doctor, params, algos, kernels, check, tune;
	const char *plan;
	int n, rank, root, channels, hosts;
};

static void print_line(void *ctx, const char *text)
{
	(void)ctx;
	puts(text);
}

/* ---- what is here ----------------------------------------------------------------------------------------------------- */

static int show_transports(void)
{
	struct tutti_comm *c;
	int rc = tutti_comm_from_env(&c, NULL);
	if (rc) {
		fprintf(stderr, "tutti-info: %s\n", tutti_last_error(NULL));
		return 1;
	}
	const struct world *w = c->world;
	if (w->rank == 0) {
		printf("transports\n");
		for (int i = 0; i < w->ntransports; i++) {
			const struct world_transport *x = &w->transport[i];
			printf("  %-8s %-5s %s%s%s\n", x->t->name, x->usable ? "yes" : "no", x->t->what,
			       x->usable ? "" : "; not usable: ", x->usable ? "" : x->reason);
		}
	}
	if (w->nranks > 1 && w->rank == 0)
		for (int r = 0; r < w->nranks; r++) {
			char who[160];
			printf("  rank %d: %s, host %d, by %s\n", r, contact_text(&w->contacts[r], who, sizeof(who)),
			       w->host[r], world_via(w, r));
		}
	tutti_comm_destroy(c);
	return 0;
}

/* The table that is about to be written need not exist or be valid. */
static int measure_costs(void)
{
	struct tutti_comm *c;
	const char *given = getenv("TUTTI_TUNE_FILE");
	char *file = strdup(given ? given : "");
	int rc = file && setenv("TUTTI_TUNE_FILE", "none", 1) == 0 ? tutti_comm_from_env(&c, NULL) : TUTTI_ENOMEM;
	if (rc) {
		fprintf(stderr, "tutti-info: %s\n", tutti_last_error(NULL));
		free(file);
		return 1;
	}
	rc = tune(c, file);
	if (rc)
		fprintf(stderr, "tutti-info: rank %d: %s\n", tutti_comm_rank(c), fail_text());
	tutti_comm_destroy(c);
	free(file);
	return rc != 0;
}

/* What the machine shows, and then the job, when this is a rank of one: that each reaches each, firewalls or not. */
static int examine(void)
{
	const char *size = getenv("TUTTI_SIZE"), *rank = getenv("TUTTI_RANK");
	struct tutti_comm *c;
	int faults = !rank || atoi(rank) == 0 ? doctor_examine() : 0, one = 1, sum = 0;
	if (!size || atoi(size) < 2)
		return faults != 0;
	int rc = tutti_comm_from_env(&c, NULL);
	if (!rc && (rc = tutti_alltoall((int[1024]){0}, (int[1024]){0}, 1024 / (size_t)tutti_comm_size(c), TUTTI_I32, c,
	                                NULL)) == TUTTI_OK)
		rc = tutti_allreduce(&one, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL);
	if (rc) {
		fprintf(stderr, "tutti-info: the ranks of the job can't reach each other: %s\n",
		        tutti_last_error(NULL));
		return 1;
	}
	if (c->rank == 0) {
		printf("the job\n  ok    each of %d ranks reaches each\n", sum);
		for (int r = 1; r < sum; r++)
			printf("  ok    rank %d: by %s\n", r, world_via(c->world, r));
	}
	tutti_comm_destroy(c);
	return faults != 0;
}

static void show_params(void)
{
	struct param_row row;
	for (int i = 0; param_row(i, &row); i++) {
		const char *value = getenv(row.variable);
		if (value && strcmp(row.variable, "TUTTI_SECRET") == 0)
			value = "(set; not shown)";
		printf("%s%s%s\n    %s.", row.variable, value ? "=" : "", value ? value : "", row.doc);
		if (row.dflt[0])
			printf(" Default: %s.", row.dflt);
		printf("%s\n", row.equal ? " Equal on all ranks." : "");
	}
}

static void show_algos(void)
{
	for (int i = 0; algo_table[i]; i++) {
		const struct algo *a = algo_table[i];
		printf("%s: %s\n    source: %s\n    serves:", a->name, a->what, a->source);
		for (int k = 0; k < COLL_COUNT; k++)
			if (a->colls >> k & 1)
				printf(" %s", coll_name((enum coll)k));
		printf("%s\n",
		       a->flags & ALGO_RANK_ORDER ? "\n    keeps the order of ranks (TUTTI_REPRODUCIBLE=1)" : "");
	}
}

static void show_kernels(void)
{
	printf("kernels   ");
	for (const char *const *isa = kernel_isas(); *isa; isa++)
		printf("%s%s ", *isa, kernel_table_isa(*isa) ? "" : " (not on this CPU)");
	printf("\n  in use: %s\n", kernel_table()->isa);
}

/* ---- plans -------------------------------------------------------------------------------------------------------------- */

/* Reads COLL:ALGO; false after a message. */
static bool read_plan(const char *text, struct plan_args *args, const struct algo **algo)
{
	const char *colon = strchr(text, ':');
	char coll[32] = "";
	if (colon && (size_t)(colon - text) < sizeof(coll))
		memcpy(coll, text, (size_t)(colon - text));
	int kind = coll_by_name(coll);
	*algo = colon ? algo_by_name(colon + 1) : NULL;
	if (kind < 0 || kind >= COLL_COUNT || !*algo) {
		fprintf(stderr, "tutti-info: %s is not of the form COLLECTIVE:ALGORITHM (see --algorithms)\n", text);
		return false;
	}
	args->coll = (enum coll)kind;
	if (!algo_serves(*algo, args)) {
		fprintf(stderr, "tutti-info: %s does not serve %s on %d ranks and %d hosts\n", (*algo)->name, coll,
		        args->nranks, args->shape->nhosts);
		return false;
	}
	return true;
}

static int print_plans(const struct asked *q, const struct algo *algo, struct plan_args *args)
{
	int first = q->rank >= 0 ? q->rank : 0, last = q->rank >= 0 ? q->rank : q->n <= 8 ? q->n - 1 : 0;
	for (int r = first; r <= last; r++) {
		args->rank = r;
		struct plan *p = algo_plan(algo, args);
		if (!p)
			return 1;
		plan_print(p, print_line, NULL);
		plan_free(p);
	}
	return 0;
}

/* One run per strand that lags behind, in place and not, with few slots and more: a proof for these ranks. */
static int prove(struct checker *c, const struct algo *algo, char *why, size_t cap, long *runs)
{
	for (int in_place = 0; in_place < 2; in_place++)
		for (int slots = 2; slots <= 3; slots++)
			for (int chunks = 1; chunks <= 3; chunks++)
				for (int s = -1; s < checker_strands(c); s++, ++*runs) {
					struct check_run run = {.slots = slots,
					                        .chunks = chunks,
					                        .in_place = in_place,
					                        .rank_order = algo->flags & ALGO_RANK_ORDER,
					                        .straggler = s};
					if (!checker_run(c, &run, why, cap))
						return 1;
				}
	return 0;
}

static int check_plans(const struct asked *q, const struct algo *algo, struct plan_args *args)
{
	char why[512];
	long runs = 0;
	int made = 0, rc = 1;
	const struct plan **plans = calloc((size_t)q->n, sizeof(struct plan *));
	for (; plans && made < q->n; made++) {
		args->rank = made;
		if (!(plans[made] = algo_plan(algo, args)))
			break;
	}
	struct checker *c = plans && made == q->n ? checker_create(plans, q->n, why, sizeof(why)) : NULL;
	if (c)
		rc = prove(c, algo, why, sizeof(why), &runs);
	if (rc)
		fprintf(stderr, "tutti-info: %s\n", c || made == q->n ? why : "out of memory");
	else
		printf("%s:%s on %d ranks is right: %ld runs, by %s\n", coll_name(args->coll), algo->name, q->n, runs,
		       checker_by_reference(c, NULL) ? "copy and by reference" : "copy");
	checker_free(c);
	for (int r = 0; r < made; r++)
		plan_free((struct plan *)(uintptr_t)plans[r]);
	free(plans);
	return rc;
}

static int with_plan(const struct asked *q)
{
	int *host = calloc((size_t)q->n, sizeof(int)), rc = 1;
	for (int r = 0; host && r < q->n; r++)
		host[r] = (int)((long)r * q->hosts / q->n);
	struct shape shape = {.nranks = q->n, .nhosts = q->hosts, .host = host};
	struct plan_args args = {.nranks = q->n, .root = q->root, .channels = q->channels, .shape = &shape};
	const struct algo *algo;
	if (host && read_plan(q->plan, &args, &algo))
		rc = q->check ? check_plans(q, algo, &args) : print_plans(q, algo, &args);
	free(host);
	return rc;
}

/* ---- command line --------------------------------------------------------------------------------------------------------- */

static int number(const char *text, int least, int most, const char *what)
{
	char *end;
	long v = strtol(text, &end, 10);
	if (*end || end == text || v < least || v > most) {
		fprintf(stderr, "tutti-info: %s %s: expected a number from %d to %d\n", what, text, least, most);
		exit(2);
	}
	return (int)v;
}

static int read_options(struct asked *q, int argc, char **argv)
{
	const char *value;
	for (int at = 1, id; (id = cli_next(&cli, argc, argv, &at, &value)) != CLI_END;) {
		switch (id) {
		case OPT_TRANSPORTS:
			q->transports = 1;
			break;
		case OPT_DEVICES:
			q->devices = 1;
			break;
		case OPT_DOCTOR:
			q->doctor = 1;
			break;
		case OPT_PARAMS:
			q->params = 1;
			break;
		case OPT_ALGOS:
			q->algos = 1;
			break;
		case OPT_KERNELS:
			q->kernels = 1;
			break;
		case OPT_CHECK:
			q->check = 1; /* and the plan */
			q->plan = value;
			break;
		case OPT_PLAN:
			q->plan = value;
			break;
		case OPT_TUNE:
			q->tune = 1;
			break;
		case OPT_RANKS:
			q->n = number(value, 1, 4096, "-n");
			break;
		case OPT_RANK:
			q->rank = number(value, 0, 4095, "-r");
			break;
		case OPT_ROOT:
			q->root = number(value, 0, 4095, "--root");
			break;
		case OPT_CHANNELS:
			q->channels = number(value, 1, 64, "-c");
			break;
		case OPT_HOSTS:
			q->hosts = number(value, 1, 4096, "--hosts");
			break;
		case OPT_HELP:
			cli_help(&cli, stdout);
			exit(0);
		case OPT_MAN:
			cli_man(&cli, stdout);
			exit(0);
		case OPT_VERSION:
			printf("tutti-info %d.%d.%d\n", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
			exit(0);
		default:
			if (id == CLI_WORD)
				fprintf(stderr, "tutti-info: unexpected word: %s (try --help)\n", value);
			return 2;
		}
	}
	if (q->rank >= q->n || q->root >= q->n || q->hosts > q->n) {
		fprintf(stderr, "tutti-info: rank, root and hosts must fit %d ranks\n", q->n);
		return 2;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct asked q = {.n = 4, .rank = -1, .channels = 1, .hosts = 1};
	int rc = read_options(&q, argc, argv);
	if (rc)
		return rc;
	if (q.plan)
		return with_plan(&q);
	if (q.tune)
		return measure_costs();
	if (q.doctor)
		return examine();
	bool all = !q.transports && !q.devices && !q.params && !q.algos && !q.kernels;
	if (all)
		printf("tutti %d.%d.%d\n", tutti_version() / 10000, tutti_version() / 100 % 100, tutti_version() % 100);
	if (q.devices)
		rc = doctor_devices();
	if (q.params)
		show_params();
	if (q.algos)
		show_algos();
	if (all || q.kernels)
		show_kernels();
	return all || q.transports ? show_transports() | rc : rc;
}
