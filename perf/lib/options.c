/* SPDX-License-Identifier: MIT */
/* Options of tutti-perf: see options.h. */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/cli/cli.h"

#define FLAG "[=0|1]"

/*
 * D: field, letter, word, kind, argument, default, help. N: those that start as zero. I: nccl-tests' that have no field:
 * their help is the reason.
 */
#define OPTIONS(D, N, I)                                                                                               \
	D(min, 'b', "minbytes", SIZE, "SIZE", "32M", "smallest size of the larger buffer; K, M, G are powers of 1024") \
	D(max, 'e', "maxbytes", SIZE, "SIZE", "32M", "largest size")                                                   \
	D(step, 'i', "stepbytes", SIZE, "SIZE", "1M", "step between sizes")                                            \
	D(factor, 'f', "stepfactor", REAL, "X", "0", "factor between sizes; replaces the step")                        \
	D(iters, 'n', "iters", INT, "N", "20", "timed calls per row")                                                  \
	D(warmup, 'w', "warmup_iters", INT, "N", "1", "untimed calls before them")                                     \
	D(aggregate, 'm', "agg_iters", INT, "N", "1", "calls per group, timed together")                               \
	D(cycles, 'N', "run_cycles", INT, "N", "1", "number of passes over all rows; 0: endless")                      \
	D(op, 'o', "op", OP, "OP", "sum", "sum, prod, min, max, avg or all")                                           \
	D(type, 'd', "datatype", TYPE, "TYPE", "float",                                                                \
	  "int8 uint8 int16 uint16 int32 uint32 int64 uint64 half bfloat16 float double f8e4m3 f8e5m2 or all")         \
	D(root, 'r', "root", ROOT, "RANK", "0", "root of rooted collectives, or all")                                  \
	D(threads, 't', "nthreads", INT, "N", "1",                                                                     \
	  "ranks as threads of this process; with 1, rank and size come from the launcher")                            \
	D(gpus, 'g', "ngpus", INT, "N", "1", "multiplies the number of ranks: -t times -g in total")                   \
	D(check, 'c', "check", INT, "N", "1", "number of calls to verify bit by bit, each with its own data; 0: none") \
	N(cpu, 'C', "report_cputime", SWITCH, FLAG, "add the CPU time of a call")                                      \
	D(average, 'a', "average", RANKS, "WHICH", "avg",                                                              \
	  "how to combine the ranks' times: rank0, avg, min, max, or 0 to 3")                                          \
	D(timeout, 'T', "timeout", REAL, "SECONDS", "0", "deadline of a call; 0: the library's default")               \
	N(stats, 'I', "iter_stats", SWITCH, FLAG, "add min, p50, p95, p99, max over the calls")                        \
	N(json, 'J', "json", TEXT, "FILE", "also write the results as JSON")                                           \
	N(memory, 'M', "memory", SWITCH, FLAG, "report the memory of rank 0 at the end")                               \
	D(unalign, 'u', "unalign", INT, "BYTES", "0",                                                                  \
	  "offset of inputs from a page boundary; results get three times this offset")                                \
	N(registered, 'R', "local_register", LEVEL, "[=0|1|2]",                                                        \
	  "register buffers with RDMA cards; 2: allocate them like --alloc, so that peers read them in place")         \
	N(stamps, 'S', "report_timestamps", SWITCH, FLAG, "add the time of day to each row")                           \
	I(parallel_init, 'p', "parallel_init", IGNORED, "N", "ignored: ranks always start at the same time")           \
	I(blocking, 'z', "blocking", IGNORED, "N", "ignored: calls block unless --nonblocking is given")               \
	I(stream_null, 'y', "stream_null", IGNORED, "N", "ignored: there are no streams")                              \
	I(cudagraph, 'G', "cudagraph", IGNORED, "N", "ignored: repeated calls are prepared only once anyway")          \
	I(cta_policy, 'x', "cta_policy", IGNORED, "N", "ignored: there are no thread blocks")                          \
	I(cta_count, 'V', "device_cta_count", IGNORED, "N", "ignored: there are no thread blocks")                     \
	I(unknown, 'K', NULL, IGNORED, "N", "ignored: accepted for compatibility with nccl-tests")                     \
	I(device, 'D', "device_implementation", REFUSED, "N", "only 0 is accepted: there are no device kernels")       \
	N(alloc, 0, "alloc", SWITCH, FLAG, "allocate buffers with tutti_mem_alloc")                                    \
	D(buffers, 0, "buffers", INT, "N", "1", "pairs of buffers, used in turn")                                      \
	D(team, 0, "team", INT, "N", "1", "threads per rank that work on a call together")                             \
	N(nonblocking, 0, "nonblocking", SWITCH, FLAG, "issue calls with requests, then wait")                         \
	D(busy, 0, "busy", REAL, "US", "0", "time to compute between calls, as a decoder does")                        \
	N(cold, 0, "cold", SWITCH, FLAG, "empty the caches between calls")                                             \
	D(skew, 0, "skew", REAL, "US", "0", "start each call up to US late, at random on each rank")                   \
	N(explain, 0, "explain", SWITCH, FLAG, "print how each call is carried out, and its predicted time")           \
	N(help, 'h', "help", SWITCH, NULL, "print this help")                                                          \
	N(man, 0, "man", SWITCH, NULL, "print the manual page")

enum kind { SIZE, INT, REAL, TEXT, SWITCH, LEVEL, TYPE, OP, ROOT, RANKS, IGNORED, REFUSED };

/* The number of an option for cli_next; its place in the tables is one less. */
#define ID_OF_DEFAULT(field, letter, word, kind, arg, preset, help) ID_##field,
#define ID_OF_ZERO(field, letter, word, kind, arg, help)            ID_##field,
#define ID_OF_IGNORED(name, letter, word, kind, arg, help)          ID_##name,
enum { ID_NONE, OPTIONS(ID_OF_DEFAULT, ID_OF_ZERO, ID_OF_IGNORED) ID_END };

_Static_assert(ID_END <= 64, "options.ignored has a bit for each");

static const struct row {
	enum kind kind;
	size_t offset;
	const char *preset;
} rows[] = {
#define ROW_OF_DEFAULT(field, letter, word, kind, arg, preset, help) {kind, offsetof(struct options, field), preset},
#define ROW_OF_ZERO(field, letter, word, kind, arg, help)            {kind, offsetof(struct options, field), NULL},
#define ROW_OF_IGNORED(name, letter, word, kind, arg, help)          {kind, 0, NULL},
        OPTIONS(ROW_OF_DEFAULT, ROW_OF_ZERO, ROW_OF_IGNORED)};

static const struct cli_option cli_options[] = {
#define CLI_OF_DEFAULT(field, letter, word, kind, arg, preset, help)                                                   \
	{ID_##field, letter, word, arg, help " (" preset ")"},
#define CLI_OF_ZERO(field, letter, word, kind, arg, help) {ID_##field, letter, word, arg, help},
        OPTIONS(CLI_OF_DEFAULT, CLI_OF_ZERO, CLI_OF_ZERO){0},
};

static const struct cli cli = {
        .name = "tutti-perf",
        .usage = "COLLECTIVE [options]",
        .what = "Times one collective over a range of sizes, out of place and in place, and verifies every bit of the results. "
                "Options and output follow nccl-tests. "
                "If started under a name of nccl-tests, such as all_reduce_perf, the name selects the collective. "
                "Run it under tutti-run or any launcher that Tutti supports, or with -t to run ranks as threads.",
        .options = cli_options,
};

/* nccl-tests' name first, then others that people write. */
static const char *const types[][4] = {
        [TUTTI_I8] = {"int8", "i8"},
        [TUTTI_U8] = {"uint8", "u8"},
        [TUTTI_I16] = {"int16", "i16"},
        [TUTTI_U16] = {"uint16", "u16"},
        [TUTTI_I32] = {"int32", "i32", "int"},
        [TUTTI_U32] = {"uint32", "u32"},
        [TUTTI_I64] = {"int64", "i64"},
        [TUTTI_U64] = {"uint64", "u64"},
        [TUTTI_F16] = {"half", "f16", "float16"},
        [TUTTI_BF16] = {"bfloat16", "bf16"},
        [TUTTI_F32] = {"float", "f32", "float32"},
        [TUTTI_F64] = {"double", "f64", "float64"},
        [TUTTI_F8E4M3] = {"f8e4m3", "fp8_e4m3", "float8_e4m3"},
        [TUTTI_F8E5M2] = {"f8e5m2", "fp8_e5m2", "float8_e5m2"},
};

static const char *const ops[] = {"sum", "prod", "min", "max", "avg"};
static const char *const averages[] = {"rank0", "avg", "min", "max"};

#define LENGTH(a) ((int)(sizeof(a) / sizeof(*(a))))

const char *perf_type_name(int type)
{
	return type >= 0 && type < LENGTH(types) ? types[type][0] : NULL;
}

const char *perf_op_name(int op)
{
	if (op < 0)
		return "none";
	return op < LENGTH(ops) ? ops[op] : NULL;
}

static int type_by_name(const char *name)
{
	for (int t = 0; t < LENGTH(types); t++)
		for (int i = 0; i < 4 && types[t][i]; i++)
			if (strcmp(name, types[t][i]) == 0)
				return t;
	return -2;
}

static int by_name(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	return -2;
}

static int read_size(const char *text, size_t *size)
{
	char *end;
	double v = strtod(text, &end);
	const char *units = "KMG", *unit = *end ? strchr(units, *end & ~32) : NULL;

	if (unit) {
		v *= (double)(1ull << (10 * (unit - units + 1)));
		end++;
	}
	if (end == text || *end || !(v >= 0 && v < 1e18))
		return -1;
	*size = (size_t)v;
	return 0;
}

static int read_int(const char *text, int *value)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (end == text || *end || errno || v < 0 || v > 1000000000)
		return -1;
	*value = (int)v;
	return 0;
}

static int read_real(const char *text, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end == text || *end || !(*value >= 0 && *value < 1e12) ? -1 : 0;
}

static int read_value(const struct row *r, const char *text, struct options *o)
{
	void *field = (char *)o + r->offset;
	int *number = field;

	switch (r->kind) {
	case SIZE:
		return read_size(text, field);
	case INT:
		return read_int(text, field);
	case REAL:
		return read_real(text, field);
	case TEXT:
		*(const char **)field = text;
		return 0;
	case SWITCH:
		*(bool *)field = strcmp(text, "0") != 0;
		return strcmp(text, "0") && strcmp(text, "1") ? -1 : 0;
	case LEVEL:
		return read_int(text, number) != 0 || *number > 2 ? -1 : 0;
	case TYPE:
		*number = strcmp(text, "all") == 0 ? ALL : type_by_name(text);
		return *number < ALL ? -1 : 0;
	case OP:
		*number = strcmp(text, "all") == 0 ? ALL : by_name(text, ops, LENGTH(ops));
		return *number < ALL ? -1 : 0;
	case ROOT:
		*number = ALL;
		return strcmp(text, "all") == 0 ? 0 : read_int(text, number);
	case RANKS:
		*number = by_name(text, averages, LENGTH(averages));
		return *number < 0 && (read_int(text, number) || *number >= LENGTH(averages)) ? -1 : 0;
	case IGNORED:
	case REFUSED:
		return 0;
	}
	return -1;
}

static int complain(const char *what, const char *arg)
{
	fprintf(stderr, "tutti-perf: %s: %s (try --help)\n", what, arg);
	return -1;
}

static int read_word(struct options *o, const char *word)
{
	o->coll = collective_by_name(word);
	return o->coll ? 0 : complain("no such collective", word);
}

/* An option that has no field. 0 asks for nothing, and is silent. */
static int note_ignored(struct options *o, int id, const char *text)
{
	int value;

	if (read_int(text, &value) != 0)
		return complain("a bad value", text);
	if (rows[id - 1].kind == REFUSED && value != 0)
		return complain(cli_options[id - 1].word, cli_options[id - 1].help);
	if (value != 0)
		o->ignored |= UINT64_C(1) << id;
	return 0;
}

void options_ignored(const struct options *o, FILE *f)
{
	for (int i = 0; i < LENGTH(rows); i++)
		if (o->ignored >> cli_options[i].id & 1)
			fprintf(f, "tutti-perf: -%c: %s\n", cli_options[i].letter, cli_options[i].help);
}

static int read_args(struct options *o, int argc, char **argv)
{
	const char *value;
	int at = 1, id;

	while ((id = cli_next(&cli, argc, argv, &at, &value)) != CLI_END) {
		if (id == CLI_BAD || (id == CLI_WORD && read_word(o, value) != 0))
			return -1;
		if (id > 0 && rows[id - 1].kind >= IGNORED && note_ignored(o, id, value) != 0)
			return -1;
		if (id > 0 && read_value(&rows[id - 1], value ? value : "1", o) != 0)
			return complain("a bad value", argv[at - 1]);
	}
	return 0;
}

static int check(struct options *o, bool max_given)
{
	if (o->help || o->man)
		return 0;
	if (!o->coll)
		return complain("which collective", "no collective given");
	if (o->min > o->max && !max_given)
		o->max = o->min;
	if (o->min > o->max)
		return complain("-b is larger than -e", o->coll->name);
	if (o->factor == 0 ? o->step == 0 : o->factor <= 1)
		return complain("sizes would never grow", "-f must be above 1, -i above 0");
	if (o->iters < 1 || o->aggregate < 1 || o->threads < 1 || o->gpus < 1 || o->buffers < 1 || o->team < 1)
		return complain("-n, -m, -t, -g, --buffers and --team", "must be at least 1");
	if ((long long)o->threads * o->gpus > 65536)
		return complain("-t and -g", "too many ranks for one process");
	o->threads *= o->gpus;
	o->alloc |= o->registered == 2;
	if (o->team > 1 && (o->nonblocking || o->aggregate > 1))
		return complain("--team", "works on one call at a time: can't be combined with -m or --nonblocking");
	if (o->unalign > 1024)
		return complain("-u", "must be at most 1024");
	return 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	bool max_given;

	memset(o, 0, sizeof(*o));
	o->coll = collective_by_name(name ? name + 1 : argv[0]);
	for (int i = 0; i < LENGTH(rows); i++)
		if (rows[i].preset)
			read_value(&rows[i], rows[i].preset, o);
	o->max = 0;
	if (read_args(o, argc, argv) != 0)
		return -1;
	max_given = o->max != 0;
	if (!max_given)
		read_size("32M", &o->max);
	return check(o, max_given);
}

/* The description with what stands in other tables. */
static struct cli with_names(char *more, size_t size)
{
	struct cli full = cli;
	size_t at = (size_t)snprintf(more, size, "Collectives:");

	for (int i = 0; collective_at(i) && at < size; i++)
		at += (size_t)snprintf(more + at, size - at, " %s", collective_at(i)->name);
	if (at < size)
		snprintf(
		        more + at, size - at,
		        ".\nExit status: 0 if all results are correct, 1 if a result is wrong or a call failed, 2 if the command line is wrong.");
	full.more = more;
	return full;
}

void options_help(FILE *f)
{
	char more[512];
	struct cli full = with_names(more, sizeof(more));

	cli_help(&full, f);
}

void options_man(FILE *f)
{
	char more[512];
	struct cli full = with_names(more, sizeof(more));

	cli_man(&full, f);
}
