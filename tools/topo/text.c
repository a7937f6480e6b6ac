/* SPDX-License-Identifier: MIT */
/*
 * Text: hosts with equal siblings folded into one line, ranks, and pairs: as matrices while these fit a terminal, as
 * classes beyond.
 */
#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MATRIX_RANKS 16
#define WIDTH        110

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

/* 1536 -> "1.5 KiB" */
static const char *bytes_text(uint64_t bytes, char buf[24])
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	int u = 0;
	for (; v >= 1000 && u < 5; u++)
		v /= 1024;
	snprintf(buf, 24, v < 10 && u ? "%.2g %s" : "%.0f %s", v, unit[u]);
	return buf;
}

/* 25000 -> "25 Gb/s" */
static const char *speed_text(uint64_t mbps, char buf[24])
{
	if (mbps == 0)
		snprintf(buf, 24, "speed unknown");
	else if (mbps < 1000)
		snprintf(buf, 24, "%u Mb/s", (unsigned)mbps);
	else
		snprintf(buf, 24, "%g Gb/s", (double)mbps / 1000);
	return buf;
}

static const char *plural(uint32_t n)
{
	return n == 1 ? "" : "s";
}

/* Three digits, in the cells of matrices. */
static int decimals(double v)
{
	return v < 0.1 ? 4 : v < 1 ? 3 : v < 10 ? 2 : v < 100 ? 1 : 0;
}

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

static void print_node(FILE *f, const struct machine *m, const struct machine_node *node, int count)
{
	const char *kind;
	char size[24];
	if (count > 1)
		fprintf(f, "%d x ", count);
	switch (node->level) {
	case MACHINE_PACKAGE:
		fputs("package", f);
		break;
	case MACHINE_GROUP:
		fputs("group", f);
		break;
	case MACHINE_MEMORY:
		fprintf(f, "memory %s", node->bytes ? bytes_text(node->bytes, size) : "of unknown size");
		break;
	case MACHINE_CACHE:
		fprintf(f, "L%u %s", node->depth, bytes_text(node->bytes, size));
		break;
	case MACHINE_CORE:
		kind = machine_kind_name(m, node->kind);
		fprintf(f, "%s%score", kind ? kind : "", kind ? " " : "");
		if (m->kinds > 1 && !kind)
			fprintf(f, " of kind %u", node->kind);
		break;
	default:
		fputs("thread", f);
	}
}

/* How many siblings from `at` on, before `end`, are alike; *next: the one after them. */
static int alike(const struct machine *m, uint32_t at, uint32_t end, uint32_t *next)
{
	int n = 1;
	for (*next = m->node[at].end; *next < end && machine_alike(m, at, *next); *next = m->node[*next].end)
		n++;
	return n;
}

static bool is_leaf(const struct machine *m, uint32_t at)
{
	return m->node[at].end == at + 1;
}

/*
 * The children of a node whose own name ends the line so far: leaves, and a single child, go on in that line; what
 * branches gets lines of its own.
 */
static void print_below(FILE *f, const struct machine *m, uint32_t at, int indent)
{
	uint32_t end = m->node[at].end, next;
	bool branched = false;
	for (at++; at < end; at = next) {
		int n = alike(m, at, end, &next);
		bool goes_on = !branched && (is_leaf(m, at) || (n == 1 && next == end));
		if (goes_on)
			fputs(", ", f);
		else
			fprintf(f, "\n%*s", indent, "");
		print_node(f, m, &m->node[at], n);
		print_below(f, m, at, goes_on ? indent : indent + 2);
		branched = branched || !goes_on;
	}
}

static void print_tree(FILE *f, const struct machine *m, int indent)
{
	uint32_t end = m->nnodes, next;
	for (uint32_t at = 1; at < end; at = next) {
		int n = alike(m, at, end, &next);
		fprintf(f, "%*s", indent, "");
		print_node(f, m, &m->node[at], n);
		print_below(f, m, at, indent + 2);
		fputc('\n', f);
	}
}

static void print_device(FILE *f, const struct machine *m, const struct machine_device *d)
{
	static const char *const state[] = {"state unknown", "down", "up"};
	const struct machine_node *near = &m->node[d->near];
	char name[48], speed[24];

	snprintf(name, sizeof(name), d->kind == MACHINE_RDMA ? "%s:%u" : "%s", d->name, d->port);
	fprintf(f, "  %-10s %-7s %s, %s", name, d->kind == MACHINE_RDMA ? "RDMA" : "network", state[d->state],
	        speed_text(d->mbps, speed));
	const char *const more[] = {d->layer, d->ip, d->address, d->bus};
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		if (more[i][0])
			fprintf(f, ", %s", more[i]);
	if (d->mtu)
		fprintf(f, ", MTU %u", d->mtu);
	if (d->near && near->os >= 0)
		fprintf(f, ", near %s %d", machine_level_name(near->level), near->os);
	fputc('\n', f);
}

static void print_use(FILE *f, const struct survey *s, const struct machine *m)
{
	char list[256];
	uint32_t cores = m->cores ? m->cores : m->threads;
	fprintf(f, "  %s may use %d of %u core%s, %d of %u thread%s: %s%s\n", s->file ? "its process" : "this process",
	        machine_cores(m, &m->may, NULL), cores, plural(cores), cpus_count(&m->may), m->threads,
	        plural(m->threads), cpus_text(&m->may, list, sizeof(list)),
	        m->unknown & MACHINE_NO_AFFINITY ? " (assumed: the system does not say)" : "");
}

static void print_speeds(FILE *f, const struct survey *s, int host)
{
	for (int i = 0; i < s->nspeeds; i++) {
		const struct memory_speed *v = &s->speed[i];
		const struct machine_node *node = &s->machine[host]->node[v->node];
		double gb[4] = {v->core_read * 1e-9, v->core_copy * 1e-9, v->read * 1e-9, v->copy * 1e-9};
		if (v->host != host)
			continue;
		fputs("  memory", f);
		if (node->os >= 0)
			fprintf(f, " %d", node->os);
		if (!v->cores) {
			fputs(": not measured, too little of it is free\n", f);
			continue;
		}
		fprintf(f, ": one core reads %.*f GB/s and copies %.*f", decimals(gb[0]), gb[0], decimals(gb[1]),
		        gb[1]);
		if (v->cores > 1)
			fprintf(f, ", %d at once %.*f and %.*f", v->cores, decimals(gb[2]), gb[2], decimals(gb[3]),
			        gb[3]);
		fputc('\n', f);
	}
}

static void print_unknown(FILE *f, const struct survey *s, const struct machine *m)
{
	if (m->unknown & MACHINE_FOREIGN && !s->file)
		fputs("  described by hwloc's variables (HWLOC_XMLFILE and others), not by the machine itself\n", f);
	if (m->unknown & MACHINE_NO_IO)
		fputs("  hwloc lists no devices (no support or no permission): PCI addresses and locality are unknown\n",
		      f);
	if (m->unknown & MACHINE_NO_SYS)
		fputs("  /sys is missing: speed and state of devices are unknown\n", f);
	if (m->unknown & MACHINE_MORE_DEVICES)
		fprintf(f, "  only the first %d devices are shown\n", MACHINE_DEVICES);
}

static void print_head(FILE *f, const struct machine *m, int host, bool several)
{
	char size[24];
	if (several)
		fprintf(f, "host %d, ", host);
	fprintf(f, "%s: ", m->name[0] ? m->name : "a machine");
	if (m->arch[0])
		fprintf(f, "%s, ", m->arch);
	if (m->cpu[0])
		fprintf(f, "%s, ", m->cpu);
	fprintf(f, "%u package%s, %u core%s, %u thread%s, %s of memory\n", m->packages, plural(m->packages), m->cores,
	        plural(m->cores), m->threads, plural(m->threads),
	        m->memory ? bytes_text(m->memory, size) : "unknown size");
}

static char *drawn(const struct machine *m)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	print_tree(f, m, 2);
	return fclose(f) == 0 ? text : NULL;
}

/* The first host whose tree looks the same. */
static int twin(const struct survey *s, int host)
{
	char *mine = drawn(s->machine[host]), *other = NULL;
	int h = 0;
	for (; mine && h < host; h++, free(other)) {
		other = drawn(s->machine[h]);
		if (other && strcmp(mine, other) == 0) {
			free(other);
			break;
		}
	}
	free(mine);
	return mine ? h : host;
}

static void print_hosts(FILE *f, const struct survey *s)
{
	for (int h = 0; h < s->nhosts; h++) {
		const struct machine *m = s->machine[h];
		int like = twin(s, h);
		print_head(f, m, h, s->nhosts > 1);
		if (like < h)
			fprintf(f, "  built like host %d\n", like);
		else
			print_tree(f, m, 2);
		if (s->n == 1)
			print_use(f, s, m);
		if (m->quota > 0)
			fprintf(f, "  control groups allow %s the time of %.3g processors\n",
			        s->n > 1  ? "its ranks"
			        : s->file ? "its process"
			                  : "this process",
			        m->quota);
		print_speeds(f, s, h);
		for (uint32_t i = 0; i < m->ndevices; i++)
			print_device(f, m, &m->device[i]);
		print_unknown(f, s, m);
	}
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

/* Items of a list, several to a line. */
struct flow {
	FILE *f;
	int indent, column;
	const char *between;
};

static void __attribute__((format(printf, 2, 3))) flow_add(struct flow *l, const char *fmt, ...)
{
	char item[2048];
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(item, sizeof(item), fmt, args);
	va_end(args);
	if (l->column > l->indent && l->column + len > WIDTH) {
		fprintf(l->f, "%s\n%*s", l->between, l->indent, "");
		l->column = l->indent;
	} else if (l->column > l->indent) {
		l->column += fprintf(l->f, "%s ", l->between);
	}
	l->column += fprintf(l->f, "%s", item);
}

static int members(const int *label, int n, int value)
{
	int count = 0;
	for (int i = 0; i < n; i++)
		count += label[i] == value;
	return count;
}

#define RANKS_TEXT 512

/* "rank 3", "ranks 0-3,8": those with this label. */
static const char *numbers_text(const char *what, const int *label, int n, int value, char buf[RANKS_TEXT])
{
	size_t used = (size_t)snprintf(buf, RANKS_TEXT, "%s%s", what, members(label, n, value) == 1 ? "" : "s");
	const char *before = " ";
	for (int i = 0, last; i < n && used < RANKS_TEXT; i = last + 1) {
		last = i;
		if (label[i] != value)
			continue;
		while (last + 1 < n && label[last + 1] == value)
			last++;
		used += (size_t)snprintf(buf + used, RANKS_TEXT - used, "%s%d", before, i);
		if (last > i && used < RANKS_TEXT)
			used += (size_t)snprintf(buf + used, RANKS_TEXT - used, "-%d", last);
		before = ",";
	}
	return buf;
}

static const char *ranks_text(const int *label, int n, int value, char buf[RANKS_TEXT])
{
	return numbers_text("rank", label, n, value, buf);
}

typedef bool related(const struct survey *s, int i, int j);

static bool same_memory(const struct survey *s, int i, int j)
{
	return s->rank[i].memory == s->rank[j].memory;
}

static bool same_threads(const struct survey *s, int i, int j)
{
	return memcmp(&s->rank[i].cpus, &s->rank[j].cpus, sizeof(struct cpus)) == 0;
}

static bool common_cores(const struct survey *s, int i, int j)
{
	struct cpus a, b;
	const struct machine *m = s->machine[s->rank[i].host];
	machine_cores(m, &s->rank[i].cpus, &a);
	machine_cores(m, &s->rank[j].cpus, &b);
	return cpus_overlap(&a, &b);
}

static void rename_group(int *label, int n, int from, int to)
{
	for (int i = 0; i < n; i++)
		if (label[i] == from)
			label[i] = to;
}

/* Ranks of a host that are related, perhaps through others, get one label, the lowest of them; other hosts' get -1. */
static void label_groups(const struct survey *s, int host, related *relation, int *label)
{
	for (int i = 0; i < s->n; i++) {
		label[i] = s->rank[i].host == host ? i : -1;
		for (int j = 0; j < i && label[i] >= 0; j++) {
			int low = label[i] < label[j] ? label[i] : label[j];
			if (label[j] >= 0 && label[j] != label[i] && relation(s, i, j))
				rename_group(label, i + 1, label[i] + label[j] - low, low);
		}
	}
}

/* Groups of at least two; `none` where there are none. */
static void print_groups(FILE *f, const struct survey *s, const int *label, const char *some, const char *none)
{
	struct flow list = {f, 4, 4, ";"};
	char buf[RANKS_TEXT];
	int groups = 0;
	fputs("    ", f);
	for (int i = 0; i < s->n; i++)
		if (label[i] == i && members(label, s->n, i) > 1)
			flow_add(&list, "%s%s", groups++ ? "" : some, ranks_text(label, s->n, i, buf));
	fprintf(f, "%s\n", groups ? "" : none);
}

static void print_places(FILE *f, const struct survey *s, int host, int *label)
{
	struct flow list = {f, 4, 4, ";"};
	char buf[RANKS_TEXT], threads[1024];
	label_groups(s, host, same_threads, label);
	fputs("    ", f);
	for (int i = 0; i < s->n; i++)
		if (label[i] == i)
			flow_add(&list, "%s on %s", ranks_text(label, s->n, i, buf),
			         s->rank[i].bound ? cpus_text(&s->rank[i].cpus, threads, sizeof(threads))
			                          : "unknown threads");
	fputc('\n', f);
}

static void print_host_ranks(FILE *f, const struct survey *s, int host, int *label)
{
	char buf[RANKS_TEXT];
	for (int i = 0; i < s->n; i++)
		label[i] = s->rank[i].host;
	fprintf(f, "  host %d, %s: %s\n", host, s->machine[host]->name, ranks_text(label, s->n, host, buf));
	int here = members(label, s->n, host);
	print_places(f, s, host, label);
	if (here < 2)
		return;
	label_groups(s, host, same_memory, label);
	print_groups(f, s, label, "memory is shared by ", "no memory is shared");
	label_groups(s, host, common_cores, label);
	print_groups(f, s, label, "cores are shared by ", "no core is shared");
}

static void print_host_lists(FILE *f, const struct survey *s)
{
	int *label = calloc((size_t)s->n, sizeof(*label));
	fputs("ranks, and the threads of their hosts that they may use\n", f);
	for (int h = 0; label && h < s->nhosts; h++)
		print_host_ranks(f, s, h, label);
	free(label);
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

typedef void cell_text(const struct survey *s, int i, int j, char buf[16]);

/* A value taken from others of its class is marked with ~. */
static void number_cell(double v, bool measured, char buf[16])
{
	snprintf(buf, 16, "%s%.*f", measured ? "" : "~", decimals(v), v);
}

static void latency_cell(const struct survey *s, int i, int j, char buf[16])
{
	number_cell(s->latency[i * s->n + j] * 1e6, survey_measured(s, i, j), buf);
}

static void bandwidth_cell(const struct survey *s, int i, int j, char buf[16])
{
	number_cell(s->bandwidth[i * s->n + j] * 1e-9, survey_measured(s, i, j), buf);
}

static void busy_latency_cell(const struct survey *s, int i, int j, char buf[16])
{
	number_cell(s->busy.latency[i * s->n + j] * 1e6, survey_busy_measured(s, i, j), buf);
}

static void busy_bandwidth_cell(const struct survey *s, int i, int j, char buf[16])
{
	number_cell(s->busy.bandwidth[i * s->n + j] * 1e-9, survey_busy_measured(s, i, j), buf);
}

static void via_cell(const struct survey *s, int i, int j, char buf[16])
{
	snprintf(buf, 16, "%s", survey_via(s, i, j));
}

static int widest(const struct survey *s, cell_text *cell)
{
	char buf[16];
	int width = 4;
	for (int i = 0; i < s->n; i++)
		for (int j = 0; j < s->n; j++) {
			if (i != j)
				cell(s, i, j, buf);
			if (i != j && (int)strlen(buf) > width)
				width = (int)strlen(buf);
		}
	return width + 1;
}

static void print_matrix(FILE *f, const struct survey *s, const char *title, cell_text *cell)
{
	char buf[16];
	int width = widest(s, cell);
	fprintf(f, "%s\n    ", title);
	for (int j = 0; j < s->n; j++)
		fprintf(f, "%*d", width, j);
	fputc('\n', f);
	for (int i = 0; i < s->n; i++) {
		fprintf(f, "%4d", i);
		for (int j = 0; j < s->n; j++) {
			if (i == j)
				strcpy(buf, "-");
			else
				cell(s, i, j, buf);
			fprintf(f, "%*s", width, buf);
		}
		fputc('\n', f);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The values of a class, the one of pair (i, j), over all its ways: median, extremes, and the pair with the worst. */
static void print_range(FILE *f, const struct survey *s, int i, int j, const double *value, const bool *measured,
                        double unit, bool most_is_worst)
{
	double *v = calloc((size_t)s->n * (size_t)s->n, sizeof(*v)), worst = 0;
	int n = 0, a = 0, b = 0;
	for (int k = 0; v && k < s->n; k++)
		for (int l = 0; l < s->n; l++) {
			if (k == l || !survey_same_class(s, i, j, k, l) || (measured && !measured[k * s->n + l]))
				continue;
			double x = v[n++] = value[k * s->n + l] * unit;
			if (n == 1 || (most_is_worst ? x > worst : x < worst)) {
				worst = x;
				a = k;
				b = l;
			}
		}
	if (n == 0)
		fputs("not measured\n", f);
	if (n > 0) {
		qsort(v, (size_t)n, sizeof(*v), by_value);
		double median = (v[(n - 1) / 2] + v[n / 2]) / 2, best = v[most_is_worst ? 0 : n - 1];
		fprintf(f, "median %.*f, best %.*f, worst %.*f (%d to %d)\n", decimals(median), median, decimals(best),
		        best, decimals(worst), worst, a, b);
	}
	free(v);
}

static void print_class(FILE *f, const struct survey *s, int i, int j, int pairs)
{
	fprintf(f, "  %s, by %s: %d pair%s\n", survey_relation(s, i, j), survey_via(s, i, j), pairs,
	        plural((uint32_t)pairs));
	if (!s->latency)
		return;
	if (pairs == 1) {
		char us[16], there[16], back[16];
		latency_cell(s, i, j, us);
		bandwidth_cell(s, i, j, there);
		bandwidth_cell(s, j, i, back);
		fprintf(f, "    latency, us: %s\n    bandwidth, GB/s: %s from %d to %d, %s back\n", us, there, i, j,
		        back);
		return;
	}
	fputs("    latency, us: ", f);
	print_range(f, s, i, j, s->latency, s->measured, 1e6, true);
	fputs("    bandwidth, GB/s: ", f);
	print_range(f, s, i, j, s->bandwidth, s->measured, 1e-9, false);
	if (!s->measured || !s->busy.bandwidth)
		return;
	fputs("    all at once, GB/s: ", f);
	print_range(f, s, i, j, s->busy.bandwidth, s->busy.measured, 1e-9, false);
}

static int measured_pairs(const struct survey *s, const bool *measured)
{
	int pairs = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = i + 1; j < s->n; j++)
			pairs += !measured || measured[i * s->n + j];
	return pairs;
}

/* Between the hosts of two groups, or of one. */
static double mean_rate(const struct survey *s, const double *rate, int from, int to)
{
	double sum = 0;
	int ways = 0;
	for (int i = 0; i < s->n; i++)
		for (int j = 0; j < s->n; j++)
			if (s->rank[i].host != s->rank[j].host && s->group[s->rank[i].host] == from &&
			    s->group[s->rank[j].host] == to) {
				sum += rate[i * s->n + j];
				ways++;
			}
	return ways ? sum / ways : 0;
}

static void print_groups_of_hosts(FILE *f, const struct survey *s)
{
	int groups = survey_groups(s);
	char buf[RANKS_TEXT];
	if (groups < 2)
		return;
	fputs("groups of hosts by what pairs have at once, as of a switch, or of a slow cable\n", f);
	for (int g = 0; g < groups; g++)
		if (members(s->group, s->nhosts, g))
			fprintf(f, "  group %d: %s\n", g, numbers_text("host", s->group, s->nhosts, g, buf));
	for (int from = 0; from < groups; from++)
		for (int to = 0; to < groups; to++) {
			double alone = mean_rate(s, s->bandwidth, from, to) * 1e-9;
			double busy = mean_rate(s, survey_rates(s), from, to) * 1e-9;
			if (alone > 0)
				fprintf(f, "  group %d to %d: %.*f GB/s alone, %.*f at once\n", from, to,
				        decimals(alone), alone, decimals(busy), busy);
		}
}

/* How much of it all was looked at itself. */
static void print_measured(FILE *f, const struct survey *s)
{
	int all = s->n * (s->n - 1) / 2;
	if (!s->measured && !(s->busy.bandwidth && s->busy.measured))
		return;
	fprintf(f, "measured: %d of %d pairs alone", measured_pairs(s, s->measured), all);
	if (s->busy.bandwidth)
		fprintf(f, ", %d at once", measured_pairs(s, s->busy.measured));
	fputs("; values marked ~ are taken from a pair of the same two hosts or of the same class\n", f);
}

static void print_busy(FILE *f, const struct survey *s)
{
	int i = 0, j = 1, ways = survey_sharing(s, &i, &j);
	if (s->n <= MATRIX_RANKS) {
		char title[96];
		snprintf(title, sizeof(title), "latency, us, of %d pairs at once", s->n / 2);
		print_matrix(f, s, title, busy_latency_cell);
		snprintf(title, sizeof(title), "bandwidth, GB/s, of %d pairs at once", s->n / 2);
		print_matrix(f, s, title, busy_bandwidth_cell);
	}
	fprintf(f, "at once: %d of %d ways have less than two thirds of what they have alone", ways,
	        2 * measured_pairs(s, s->busy.measured));
	if (ways) {
		char alone[16], busy[16];
		bandwidth_cell(s, i, j, alone);
		busy_bandwidth_cell(s, i, j, busy);
		fprintf(f, "; worst %d to %d, %s GB/s in place of %s", i, j, busy, alone);
	}
	fputc('\n', f);
}

static int print_classes(FILE *f, const struct survey *s)
{
	struct pair_class class[SURVEY_CLASSES];
	int n = survey_classes(s, class);
	fputs("pairs\n", f);
	for (int k = 0; k < n; k++)
		print_class(f, s, class[k].i, class[k].j, class[k].pairs);
	return n;
}

static void print_odd(FILE *f, const struct survey *s)
{
	fputs(s->nodd ? "odd ones out\n" : "odd ones out: none\n", f);
	for (int i = 0; i < s->nodd; i++)
		fprintf(f, "  %s\n", s->odd[i].text);
}

static void print_ring(FILE *f, const struct survey *s)
{
	struct flow list = {f, 2, 2, ""};
	bool plain = true;
	for (int i = 0; i < s->n; i++)
		plain = plain && s->ring[i] == i;
	fprintf(f, "ring for large messages: slowest step %.*f GB/s", decimals(s->ring_rate * 1e-9),
	        s->ring_rate * 1e-9);
	if (plain) {
		fputs(", in rank order\n", f);
		return;
	}
	fprintf(f, "; in rank order it is %.*f GB/s\n  ", decimals(s->plain_rate * 1e-9), s->plain_rate * 1e-9);
	for (int i = 0; i < s->n; i++)
		flow_add(&list, "%d", s->ring[i]);
	fputc('\n', f);
}

void text_print(FILE *f, const struct survey *s)
{
	if (s->file)
		fprintf(f, "read from %s: this machine was neither inspected nor measured\n", s->file);
	print_hosts(f, s);
	if (s->n < 2)
		return;
	print_host_lists(f, s);
	int classes = print_classes(f, s);
	if (s->n > 2 && s->n <= MATRIX_RANKS && classes > 1)
		print_matrix(f, s, "transport", via_cell);
	if (!s->latency) {
		print_odd(f, s);
		return;
	}
	print_measured(f, s);
	print_groups_of_hosts(f, s);
	if (s->n > 2 && s->n <= MATRIX_RANKS) {
		print_matrix(f, s, "latency, us: half a round trip of 8 bytes", latency_cell);
		print_matrix(f, s, "bandwidth, GB/s: messages of 1 MiB from row to column", bandwidth_cell);
	}
	if (s->busy.latency)
		print_busy(f, s);
	print_ring(f, s);
	print_odd(f, s);
}
