/* SPDX-License-Identifier: MIT */
/*
 * tutti-topo: what the hosts of a job are made of, what its ranks share, and how fast they reach each other.
 * topo/survey collects, topo/measure times, topo/text and topo/json tell.
 */
#include "../src/util/error.h"
#include "../src/util/param.h"
#include "cli/cli.h"
#include "topo/advice.h"
#include "topo/draw.h"
#include "topo/json.h"
#include "topo/load.h"
#include "topo/measure.h"
#include "topo/memory.h"
#include "topo/odd.h"
#include "topo/predict.h"
#include "topo/survey.h"
#include "topo/text.h"
#include "tutti.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_NO_MEASURE = 1,
	OPT_JSON,
	OPT_LOAD,
	OPT_PLAN,
	OPT_HOSTFILE,
	OPT_FORMAT,
	OPT_DRAW,
	OPT_HEAT,
	OPT_PREDICT,
	OPT_CLUSTER,
	OPT_RANKS,
	OPT_PLOT,
	OPT_MIN,
	OPT_MAX,
	OPT_FACTOR,
	OPT_CHOOSE,
	OPT_HELP,
	OPT_MAN,
	OPT_VERSION
};

static const struct cli_option options[] = {
        {OPT_NO_MEASURE, 0, "no-measure", NULL, "Show the hardware and what ranks share, but measure nothing."},
        {OPT_JSON, 0, "json", "FILE",
         "Also write everything as JSON. With -, write JSON to the standard output instead of the text."},
        {OPT_LOAD, 0, "load", "FILE",
         "Read a file written by --json, or XML exported by hwloc (lstopo FILE.xml), instead of inspecting this machine. /dev/stdin reads a pipe."},
        {OPT_PLAN, 0, "plan", NULL,
         "Also show what a communicator would choose: ring, leaders, algorithm and predicted time for each size. Lists missing cables, too."},
        {OPT_HOSTFILE, 0, "hostfile", "FILE", "Write a host file for tutti-run with the hosts in ring order."},
        {OPT_FORMAT, 0, "format", "KIND", "Format of the host file: tutti, or mlx for mlx.launch. Default: tutti."},
        {OPT_DRAW, 0, "draw", "FILE",
         "Draw the hosts, their hardware, the links and the ring, as FILE.svg, or as FILE.dot for Graphviz."},
        {OPT_HEAT, 0, "heat", "FILE", "Draw latency and bandwidth of all pairs as heat maps, as FILE.svg."},
        {OPT_PREDICT, 0, "predict", "COLLECTIVE",
         "Simulate a collective on the cluster of --cluster and show the time of each algorithm."},
        {OPT_CLUSTER, 0, "cluster", "FILE", "Description of the cluster in JSON; see docs/topology.md."},
        {OPT_RANKS, 0, "ranks", "LIST",
         "Predict for several numbers of ranks, for example 2,4,8, at the size of -e, instead of for several sizes. Uses the first ranks of the cluster."},
        {OPT_PLOT, 0, "plot", "FILE", "Also plot the prediction as SVG. Needs gnuplot."},
        {OPT_CHOOSE, 0, "choose", "FILE",
         "Write the fastest algorithm per size to FILE, for use as TUTTI_TUNE_FILE. The rest is copied from the current table. Applies to communicators with the same number of ranks and hosts."},
        {OPT_MIN, 'b', NULL, "SIZE",
         "Smallest size of the larger buffer for --predict; K, M, G are powers of 1024. Default: 4K."},
        {OPT_MAX, 'e', NULL, "SIZE", "Largest size. Default: 64M."},
        {OPT_FACTOR, 'f', NULL, "X", "Factor between sizes. Default: 4."},
        {OPT_HELP, 'h', "help", NULL, "Print this help."},
        {OPT_MAN, 0, "man", NULL, "Print the manual page."},
        {OPT_VERSION, 'V', "version", NULL, "Print the version."},
        {0},
};

static const struct cli cli = {
        .name = "tutti-topo",
        .usage = "[options]",
        .what = "Shows this machine: packages, memories, caches, cores, network devices, and how much of it this process may use. "
                "As the ranks of a job, it shows every host, what the ranks share, the latency and bandwidth between all pairs, and the best order of the ranks in a ring. "
                "It also measures memory bandwidth, with one core and with all cores at once.",
        .options = options,
        .more = "Latency is half the median round trip of 8 bytes. "
                "Bandwidth is measured with messages of 1 MiB sent back to back until the last one is acknowledged; 1 GB is 10^9 bytes. "
                "Pairs are measured both concurrently and one at a time. "
                "With more than 8 ranks, only representatives of each class are measured one at a time. "
                "The measurement takes about 12 seconds.\n\n"
                "Examples:\n\n"
                "tutti-topo\n\n"
                "tutti-run -n 4 tutti-topo\n\n"
                "tutti-run -H node1,node2 tutti-topo --json links.json\n\n"
                "tutti-topo --load links.json --plan --draw links.svg --hostfile hosts",
};

struct asked {
	bool measure;
	bool plan;
	const char *json, *load, *hostfile, *draw, *heat;
	enum hostfile_format format;
	struct predict predict;
};

static int complain(const char *text)
{
	fprintf(stderr, "tutti-topo: %s\n", text);
	return 1;
}

/* All files first: the text is the last that can fail, and says the least about why. */
static int report(const struct survey *s, const struct advice *a, const struct asked *q)
{
	int rc = TUTTI_OK;
	if (q->json)
		rc = json_write(s, a, q->json);
	if (!rc && q->hostfile)
		rc = hostfile_write(s, q->format, q->hostfile);
	if (!rc && q->draw)
		rc = draw_write(s, q->draw);
	if (!rc && q->heat)
		rc = heat_write(s, q->heat);
	if (rc)
		return complain(fail_text());
	if ((q->json && strcmp(q->json, "-") == 0) || (q->hostfile && strcmp(q->hostfile, "-") == 0))
		return fflush(stdout) == 0 ? 0 : complain("can't write to the standard output");
	text_print(stdout, s);
	if (a)
		advice_print(stdout, s, a);
	return fflush(stdout) == 0 ? 0 : complain("can't write to the standard output");
}

/* c: of the job; NULL: the survey is a file's. */
static int advise_and_report(const struct survey *s, const struct tutti_comm *c, const struct asked *q)
{
	struct advice a = {0};
	int rc = !q->plan ? TUTTI_OK : c ? advise_comm(&a, s, c) : advise_survey(&a, s);
	rc = rc ? complain(fail_text()) : report(s, q->plan ? &a : NULL, q);
	advice_free(&a);
	return rc;
}

/* Communication ends with the last gather, so a rank without a report to make may leave. */
static int look(struct tutti_comm *c, const struct asked *q)
{
	struct survey s;
	bool reports = tutti_comm_rank(c) == 0;
	int rc = survey_take(&s, c);
	if (rc == TUTTI_OK && q->measure)
		rc = memory_measure_all(&s, c);
	if (rc == TUTTI_OK && q->measure && s.n > 1)
		rc = measure_all(&s, c);
	if (rc == TUTTI_OK && reports && s.latency)
		rc = survey_ring(&s);
	if (rc == TUTTI_OK && reports)
		rc = odd_find(&s);
	rc = rc ? complain(fail_text()) : reports ? advise_and_report(&s, c, q) : 0;
	survey_free(&s);
	return rc;
}

static int look_at_file(const struct asked *q)
{
	struct survey s;
	int rc = load_survey(&s, q->load);
	rc = rc ? complain(fail_text()) : advise_and_report(&s, NULL, q);
	survey_free(&s);
	return rc;
}

static bool read_size(const char *text, size_t *size)
{
	int64_t v;
	if (!parse_size(text, &v) || v < 4) {
		fprintf(stderr, "tutti-topo: %s: expected a size of at least 4\n", text);
		return false;
	}
	*size = (size_t)v;
	return true;
}

static int predict(struct asked *q)
{
	if (!q->predict.coll || !q->predict.cluster) {
		fprintf(stderr, "tutti-topo: --predict and --cluster must be used together\n");
		return 2;
	}
	q->predict.json = q->json;
	return predict_print(&q->predict) == TUTTI_OK ? 0 : complain(fail_text());
}

/* 0, or the status to end with: 2 when the command line is wrong; -1: all was said. */
static int read_options(struct asked *q, int argc, char **argv)
{
	const char *value;
	for (int at = 1, id; (id = cli_next(&cli, argc, argv, &at, &value)) != CLI_END;) {
		switch (id) {
		case OPT_NO_MEASURE:
			q->measure = false;
			break;
		case OPT_JSON:
			q->json = value;
			break;
		case OPT_LOAD:
			q->load = value;
			break;
		case OPT_PLAN:
			q->plan = true;
			break;
		case OPT_HOSTFILE:
			q->hostfile = value;
			break;
		case OPT_FORMAT:
			if (strcmp(value, "tutti") != 0 && strcmp(value, "mlx") != 0) {
				fprintf(stderr, "tutti-topo: --format %s: expected tutti or mlx\n", value);
				return 2;
			}
			q->format = strcmp(value, "mlx") == 0 ? HOSTFILE_MLX : HOSTFILE_TUTTI;
			break;
		case OPT_DRAW:
			q->draw = value;
			break;
		case OPT_HEAT:
			q->heat = value;
			break;
		case OPT_PREDICT:
			q->predict.coll = value;
			break;
		case OPT_CLUSTER:
			q->predict.cluster = value;
			break;
		case OPT_RANKS:
			q->predict.ranks = value;
			break;
		case OPT_PLOT:
			q->predict.plot = value;
			break;
		case OPT_CHOOSE:
			q->predict.choose = value;
			break;
		case OPT_MIN:
		case OPT_MAX:
			if (!read_size(value, id == OPT_MIN ? &q->predict.min : &q->predict.max))
				return 2;
			break;
		case OPT_FACTOR:
			if (!parse_decimal(value, &q->predict.factor) || q->predict.factor <= 1) {
				fprintf(stderr, "tutti-topo: -f %s: expected a number above 1\n", value);
				return 2;
			}
			break;
		case OPT_HELP:
			cli_help(&cli, stdout);
			return -1;
		case OPT_MAN:
			cli_man(&cli, stdout);
			return -1;
		case OPT_VERSION:
			printf("tutti-topo %d.%d.%d\n", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR, TUTTI_VERSION_PATCH);
			return -1;
		default:
			if (id == CLI_WORD)
				fprintf(stderr, "tutti-topo: unexpected word: %s (try --help)\n", value);
			return 2;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct asked q = {.measure = true, .predict = {.min = 4096, .max = 64 << 20, .factor = 4}};
	struct tutti_comm *c;
	int rc = read_options(&q, argc, argv);
	if (rc)
		return rc > 0 ? rc : 0;
	if (q.predict.coll || q.predict.cluster)
		return predict(&q);
	if (q.load)
		return look_at_file(&q);
	if (tutti_comm_from_env(&c, NULL) != TUTTI_OK)
		return complain(tutti_last_error(NULL));
	rc = look(c, &q);
	tutti_comm_destroy(c);
	return rc;
}
