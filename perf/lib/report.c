/* SPDX-License-Identifier: MIT */
/* What tutti-perf prints and writes: see report.h. */
#include "report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GB 1e9

static double algorithm_bandwidth(const struct shape *s, const struct half *h)
{
	return h->t.mean > 0 ? (double)s->bytes / (h->t.mean * 1e-6) / GB : 0;
}

static double bus_bandwidth(const struct shape *s, const struct half *h)
{
	return algorithm_bandwidth(s, h) * collective_bus_factor(s->coll, s->n);
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

static void print_names(const struct options *o)
{
	printf("  %8s %7s %7s %6s", "time", "algbw", "busbw", "#wrong");
	if (o->stats)
		printf(" %8s %8s %8s %8s %8s", "min", "p50", "p95", "p99", "max");
	if (o->cpu)
		printf(" %8s", "cpu");
}

static void print_units(const struct options *o)
{
	printf("  %8s %7s %7s %6s", "(us)", "(GB/s)", "(GB/s)", "");
	if (o->stats)
		printf(" %8s %8s %8s %8s %8s", "(us)", "(us)", "(us)", "(us)", "(us)");
	if (o->cpu)
		printf(" %8s", "(us)");
}

static void print_head(const struct options *o, int nranks)
{
	static const char *const averages[] = {"rank 0", "average", "least", "largest"};
	int width = 31 + (o->stats ? 45 : 0) + (o->cpu ? 9 : 0);

	printf("# %s: %d rank%s%s, Tutti %d.%d.%d\n", o->coll->name, nranks, nranks > 1 ? "s" : "",
	       o->threads > 1 ? " in threads" : "", tutti_version() / 10000, tutti_version() / 100 % 100,
	       tutti_version() % 100);
	printf("# minimum %zu maximum %zu %s %.10g, warm-up %d, iterations %d x %d, time: %s over ranks, verify %d\n#\n",
	       o->min, o->max, o->factor > 0 ? "factor" : "step", o->factor > 0 ? o->factor : (double)o->step,
	       o->warmup, o->iters, o->aggregate, averages[o->average], o->check);
	printf("# %58s  %-*s  %s\n", "", width - 2, "out-of-place", "in-place");
	printf("# %10s %13s %10s %8s %6s", "size", "count", "type", "redop", "root");
	print_names(o);
	print_names(o);
	printf("\n# %10s %13s %10s %8s %6s", "(B)", "(elements)", "", "", "");
	print_units(o);
	print_units(o);
	putchar('\n');
}

/* Eight columns, and as many digits as they hold up to nanoseconds. */
static void print_time(double us)
{
	printf(" %8.*f", us < 100 ? 3 : us < 10000 ? 2 : 0, us);
}

static void print_half(const struct options *o, const struct shape *s, const struct half *h)
{
	const double columns[] = {h->t.min, h->t.p50, h->t.p95, h->t.p99, h->t.max};

	putchar(' ');
	if (!h->ran) {
		printf(" %8s %7s %7s %6s", "N/A", "N/A", "N/A", "N/A");
		for (int i = 0; i < (o->stats ? 5 : 0) + o->cpu; i++)
			printf(" %8s", "N/A");
		return;
	}
	print_time(h->t.mean);
	printf(" %7.*f %7.*f", algorithm_bandwidth(s, h) < 1 ? 3 : 2, algorithm_bandwidth(s, h),
	       bus_bandwidth(s, h) < 1 ? 3 : 2, bus_bandwidth(s, h));
	if (o->check > 0)
		printf(" %6" PRIu64, h->wrong);
	else
		printf(" %6s", "N/A");
	for (int i = 0; o->stats && i < 5; i++)
		print_time(columns[i]);
	if (o->cpu)
		print_time(h->t.cpu);
}

static void print_remark(const char *text)
{
	for (size_t n; *text; text += n + (text[n] == '\n')) {
		n = strcspn(text, "\n");
		printf("#     %.*s\n", (int)n, text);
	}
}

/* Now, in UTC. */
static void print_stamp(void)
{
	time_t now = time(NULL);
	struct tm utc;
	char text[32];

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	printf("  %s", text);
}

void report_explain(const char *text, const struct half h[2])
{
	static const char mark[] = "predicted ";
	const struct half *half = h[0].ran ? &h[0] : &h[1];
	const char *at = strstr(text, mark);
	double predicted = at ? strtod(at + strlen(mark), NULL) : 0;

	print_remark(text);
	if (predicted > 0 && half->ran)
		printf("#     measured %.2f us, the median: %.2f of what was predicted\n", half->t.p50,
		       half->t.p50 / predicted);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *config_json(const struct options *o, int nranks)
{
	return json_pack("{s:s s:i s:b s:I s:I s:f s:I s:i s:i s:i s:i s:i s:i s:b s:b s:i s:b s:i s:b s:f s:f}",
	                 "collective", o->coll->name, "ranks", nranks, "threads", o->threads > 1, "min_bytes",
	                 (json_int_t)o->min, "max_bytes", (json_int_t)o->max, "step_factor", o->factor, "step_bytes",
	                 (json_int_t)o->step, "iterations", o->iters, "warmup", o->warmup, "aggregated", o->aggregate,
	                 "check", o->check, "average", o->average, "unalign", o->unalign, "registered",
	                 o->registered > 0, "alloc", o->alloc, "buffers", o->buffers, "nonblocking", o->nonblocking,
	                 "team", o->team, "cold", o->cold, "busy_us", o->busy, "skew_us", o->skew);
}

static int json_open(struct report *r, int nranks, int argc, char **argv)
{
	time_t now = time(NULL);
	struct tm utc;
	char start[32];
	json_t *args = json_array();

	for (int i = 0; i < argc; i++)
		json_array_append_new(args, json_string(argv[i]));
	strftime(start, sizeof(start), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	r->results = json_array();
	r->root = json_pack("{s:i s:s s:o s:o s:O}", "version", tutti_version(), "start_time", start, "args", args,
	                    "config", config_json(r->o, nranks), "results", r->results);
	return r->root ? 0 : -1;
}

static void add_half(const struct report *r, json_t *row, const char *name, const char *stats, const struct shape *s,
                     const struct half *h)
{
	json_t *half;

	if (!h->ran)
		return;
	half = json_pack("{s:f s:f s:f}", "time", h->t.mean, "alg_bw", algorithm_bandwidth(s, h), "bus_bw",
	                 bus_bandwidth(s, h));
	if (r->o->check > 0)
		json_object_update_new(half,
		                       json_pack("{s:I s:I s:I}", "nwrong", (json_int_t)h->wrong, "out_of_bounds",
		                                 (json_int_t)h->outside, "ranks_that_differ", (json_int_t)h->differ));
	if (r->o->cpu)
		json_object_set_new(half, "cpu_time", json_real(h->t.cpu));
	json_object_set_new(row, name, half);
	json_object_set_new(row, stats,
	                    json_pack("{s:f s:f s:f s:f s:f s:f s:f}", "min", h->t.min, "max", h->t.max, "avg",
	                              h->t.mean, "p50", h->t.p50, "p95", h->t.p95, "p99", h->t.p99, "stdev",
	                              h->t.stdev));
}

static void add_row(struct report *r, const struct call *call, const struct shape *s, const struct half h[2])
{
	json_t *row =
	        json_pack("{s:I s:I s:s s:s s:i}", "size", (json_int_t)s->bytes, "count", (json_int_t)s->count, "type",
	                  perf_type_name(call->type), "redop", perf_op_name(call->op), "root", call->root);

	add_half(r, row, "out_of_place", "out_of_place_per_iter", s, &h[0]);
	add_half(r, row, "in_place", "in_place_per_iter", s, &h[1]);
	json_array_append_new(r->results, row);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

int report_open(struct report *r, const struct options *o, int nranks, int argc, char **argv)
{
	*r = (struct report){.o = o};
	if (o->json && json_open(r, nranks, argc, argv) != 0)
		return -1;
	print_head(o, nranks);
	return 0;
}

void report_reduced(size_t max)
{
	printf("# Reducing maxBytes to %zu due to memory limitation: larger buffers do not fit into the memory of a host\n",
	       max);
}

void report_row(struct report *r, const struct call *call, const struct shape *s, const struct half h[2])
{
	printf("%12zu %13zu %10s %8s %6d", s->bytes, s->count,
	       s->coll->in == EXTENT_NONE ? "none" : perf_type_name(call->type), perf_op_name(call->op), call->root);
	for (int i = 0; i < 2; i++) {
		print_half(r->o, s, &h[i]);
		r->wrong += h[i].wrong;
		r->outside += h[i].outside;
		r->differ += h[i].differ;
		if (h[i].ran) {
			r->bus_sum += bus_bandwidth(s, &h[i]);
			r->halves++;
		}
	}
	if (r->o->stamps)
		print_stamp();
	putchar('\n');
	fflush(stdout);
	if (r->root)
		add_row(r, call, s, h);
}

static void print_memory(void)
{
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "VmHWM", 5) == 0 || strncmp(line, "Rss", 3) == 0)
			printf("# Memory of rank 0's process : %s", line);
	if (f)
		fclose(f);
}

static int write_json(struct report *r, double bus, bool failed)
{
	int unwritten;

	json_object_update_new(r->root,
	                       json_pack("{s:{s:I s:b} s:{s:I s:b} s:I s:f s:b}", "out_of_bounds", "count",
	                                 (json_int_t)r->outside, "okay", r->outside == 0, "different_ranks", "count",
	                                 (json_int_t)r->differ, "okay", r->differ == 0, "wrong", (json_int_t)r->wrong,
	                                 "average_bus_bandwidth", bus, "complete", !failed));
	unwritten = json_dump_file(r->root, r->o->json, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	if (unwritten)
		fprintf(stderr, "tutti-perf: can't write %s\n", r->o->json);
	json_decref(r->root);
	json_decref(r->results);
	return unwritten;
}

static void print_sums(const struct report *r)
{
	printf("# Out of bounds values : %" PRIu64 " %s\n", r->outside, r->outside ? "FAILED" : "OK");
	printf("# Ranks with other bits: %" PRIu64 " %s\n", r->differ, r->differ ? "FAILED" : "OK");
}

int report_close(struct report *r, bool failed)
{
	double bus = r->halves > 0 ? r->bus_sum / r->halves : 0;
	int unwritten = 0;

	if (failed)
		printf("# Stopped by an error  : the results above are incomplete\n");
	if (r->o->check > 0)
		print_sums(r);
	printf("# Avg bus bandwidth    : %g\n", bus);
	if (r->o->memory)
		print_memory();
	if (r->root)
		unwritten = write_json(r, bus, failed);
	return r->wrong || r->outside || r->differ || failed || unwritten ? -1 : 0;
}
