/* Options of tutti-perf: see options.h. */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum kind { SIZE, INT, REAL, TEXT, SWITCH, TYPE, OP, ROOT, RANKS };

struct row {
	char letter;
	const char *word;
	enum kind kind;
	size_t offset;
	const char *arg, *preset, *help;
};

#define AT(field) offsetof(struct options, field)

static const struct row rows[] = {
	{'b', "minbytes", SIZE, AT(min), "SIZE", "32M", "least size, of the larger buffer; K, M, G are powers of 1024"},
	{'e', "maxbytes", SIZE, AT(max), "SIZE", "32M", "largest size"},
	{'i', "stepbytes", SIZE, AT(step), "SIZE", "1M", "step between sizes"},
	{'f', "stepfactor", REAL, AT(factor), "X", "0", "factor between sizes, in place of a step"},
	{'n', "iters", INT, AT(iters), "N", "20", "timed calls of each row"},
	{'w', "warmup_iters", INT, AT(warmup), "N", "1", "calls before them"},
	{'m', "agg_iters", INT, AT(aggregate), "N", "1", "calls in one group, timed together"},
	{'N', "run_cycles", INT, AT(cycles), "N", "1", "times to go through all rows; 0: for ever"},
	{'o', "op", OP, AT(op), "OP|all", "sum", "sum, prod, min, max, avg"},
	{'d', "datatype", TYPE, AT(type), "TYPE|all", "float",
	 "int8 uint8 int16 uint16 int32 uint32 int64 uint64 half bfloat16 float double f8e4m3 f8e5m2"},
	{'r', "root", ROOT, AT(root), "RANK|all", "0", "root of rooted collectives"},
	{'t', "nthreads", INT, AT(threads), "N", "1",
	 "ranks as threads of this process; with 1, the launcher's environment says who we are"},
	{'g', "ngpus", INT, AT(gpus), "1", "1", "accepted for nccl-tests' sake; only 1"},
	{'c', "check", INT, AT(check), "N", "1", "calls whose every bit is verified on data of their own; 0: none"},
	{'C', "report_cputime", SWITCH, AT(cpu), "0|1", "0", "add the CPU time burned in a call"},
	{'a', "average", RANKS, AT(average), "WHICH", "1", "time over ranks: 0 rank0, 1 avg, 2 min, 3 max"},
	{'T', "timeout", REAL, AT(timeout), "SECONDS", "0", "deadline of a call; 0: the library's"},
	{'I', "iter_stats", SWITCH, AT(stats), "0|1", "0", "add min, p50, p95, p99, max over the calls"},
	{'J', "json", TEXT, AT(json), "FILE", NULL, "write the results as JSON, too"},
	{'M', "memory", SWITCH, AT(memory), "0|1", "0", "report rank 0's memory at the end"},
	{'u', "unalign", INT, AT(unalign), "BYTES", "0", "sources start BYTES behind a page boundary, results 3 * BYTES"},
	{'R', "local_register", SWITCH, AT(registered), "0|1", "0", "register the buffers"},
	{0, "alloc", SWITCH, AT(alloc), "0|1", "0", "buffers from tutti_mem_alloc"},
	{0, "buffers", INT, AT(buffers), "N", "1", "pairs of buffers to take in turn"},
	{0, "nonblocking", SWITCH, AT(nonblocking), "0|1", "0", "issue with requests, then wait"},
	{0, "busy", REAL, AT(busy), "US", "0", "compute between calls, as a decoder does"},
	{0, "cold", SWITCH, AT(cold), "0|1", "0", "empty the caches between calls"},
	{0, "skew", REAL, AT(skew), "US", "0", "each rank starts each call up to US late, at random"},
	{0, "explain", SWITCH, AT(explain), "0|1", "0", "print how each call is done"},
	{'h', "help", SWITCH, AT(help), NULL, "0", "this text"},
	{0, "man", SWITCH, AT(man), NULL, "0", "a manual page for man(1), made from the same table"},
};

#define ROWS (sizeof(rows) / sizeof(*rows))

/* nccl-tests' name first, then others that people write. */
static const char *const types[][4] = {
	[TUTTI_I8] = {"int8", "i8"},         [TUTTI_U8] = {"uint8", "u8"},
	[TUTTI_I16] = {"int16", "i16"},      [TUTTI_U16] = {"uint16", "u16"},
	[TUTTI_I32] = {"int32", "i32", "int"}, [TUTTI_U32] = {"uint32", "u32"},
	[TUTTI_I64] = {"int64", "i64"},      [TUTTI_U64] = {"uint64", "u64"},
	[TUTTI_F16] = {"half", "f16", "float16"}, [TUTTI_BF16] = {"bfloat16", "bf16"},
	[TUTTI_F32] = {"float", "f32", "float32"}, [TUTTI_F64] = {"double", "f64", "float64"},
	[TUTTI_F8E4M3] = {"f8e4m3", "fp8_e4m3", "float8_e4m3"}, [TUTTI_F8E5M2] = {"f8e5m2", "fp8_e5m2", "float8_e5m2"},
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
	}
	return -1;
}

/* The row that `arg` names as -x, -xVALUE, --word or --word=VALUE; *value is what follows inside it, or NULL. */
static const struct row *find_row(const char *arg, const char **value)
{
	size_t length = strcspn(arg + 2, "=");

	for (size_t i = 0; i < ROWS; i++) {
		if (arg[1] != '-' && rows[i].letter == arg[1]) {
			*value = arg[2] ? arg + 2 : NULL;
			return &rows[i];
		}
		if (arg[1] == '-' && strlen(rows[i].word) == length && strncmp(arg + 2, rows[i].word, length) == 0) {
			*value = arg[2 + length] ? arg + 3 + length : NULL;
			return &rows[i];
		}
	}
	return NULL;
}

/* A switch may stand alone or, as nccl-tests has it, be followed by 0 or 1. */
static const char *value_of_switch(const char *next)
{
	return next && (strcmp(next, "0") == 0 || strcmp(next, "1") == 0) ? next : NULL;
}

static int complain(const char *what, const char *arg)
{
	fprintf(stderr, "tutti-perf: %s: %s (try --help)\n", what, arg);
	return -1;
}

static int read_args(struct options *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = NULL, *next = i + 1 < argc ? argv[i + 1] : NULL;
		const struct row *r;

		if (argv[i][0] != '-') {
			o->coll = collective_by_name(argv[i]);
			if (!o->coll)
				return complain("no such collective", argv[i]);
			continue;
		}
		r = find_row(argv[i], &value);
		if (!r || !argv[i][1])
			return complain("no such option", argv[i]);
		if (!value) {
			value = r->kind == SWITCH ? value_of_switch(next) : next;
			i += value != NULL;
		}
		if (!value && r->kind == SWITCH)
			value = "1";
		if (!value || read_value(r, value, o) != 0)
			return complain(value ? "a bad value" : "a value is missing", argv[i]);
	}
	return 0;
}

static int check(struct options *o, bool max_given)
{
	if (o->help || o->man)
		return 0;
	if (!o->coll)
		return complain("which collective", "none was named");
	if (o->min > o->max && !max_given)
		o->max = o->min;
	if (o->min > o->max)
		return complain("-b is larger than -e", o->coll->name);
	if (o->factor == 0 ? o->step == 0 : o->factor <= 1)
		return complain("sizes would never grow", "-f must be above 1, -i above 0");
	if (o->gpus != 1)
		return complain("-g", "ranks are processes or, with -t, threads");
	if (o->iters < 1 || o->aggregate < 1 || o->threads < 1 || o->buffers < 1)
		return complain("-n, -m, -t and --buffers", "must be at least 1");
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
	for (size_t i = 0; i < ROWS; i++)
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

/* Names of a row as people type them: "-b, --minbytes SIZE". */
static void row_names(const struct row *r, char *names, size_t size)
{
	snprintf(names, size, "%s%c%s--%s%s%s", r->letter ? "-" : "", r->letter ? r->letter : ' ',
		 r->letter ? ", " : "  ", r->word, r->arg ? " " : "", r->arg ? r->arg : "");
}

static void print_preset(FILE *f, const struct row *r)
{
	if (r->preset && r->kind != SWITCH)
		fprintf(f, " (%s)", r->preset);
	fputc('\n', f);
}

/* In a manual page a minus is escaped, lest it become a hyphen that can't be pasted. */
static void put_roff(FILE *f, const char *text)
{
	for (; *text; text++)
		fprintf(f, *text == '-' ? "\\%c" : "%c", *text);
}

void options_help(FILE *f)
{
	fprintf(f, "usage: tutti-perf COLLECTIVE [OPTION]...\nMeasures and verifies a collective: ");
	for (int i = 0; collective_at(i); i++)
		fprintf(f, "%s%s", i ? " " : "", collective_at(i)->name);
	fprintf(f, ".\nUnder nccl-tests' names (all_reduce_perf, ...) the collective is implied.\n\n");
	for (size_t i = 0; i < ROWS; i++) {
		char names[64];

		row_names(&rows[i], names, sizeof(names));
		fprintf(f, "  %-30s %s", names, rows[i].help);
		print_preset(f, &rows[i]);
	}
}

void options_man(FILE *f)
{
	fprintf(f, ".TH TUTTI-PERF 1\n.SH NAME\ntutti-perf \\- measure and verify collectives\n.SH SYNOPSIS\n"
		   ".B tutti-perf\n.I COLLECTIVE\n.RI [ OPTION ]...\n.SH DESCRIPTION\n"
		   "Times calls of one collective over a range of sizes, out of place and in place, and verifies every\n"
		   "bit of the results. Output and options follow nccl-tests. Run it under tutti-run or any launcher\n"
		   "that Tutti knows, or with\n.B \\-t\nfor ranks that are threads. The collectives:\n");
	for (int i = 0; collective_at(i); i++)
		fprintf(f, "%s%s", collective_at(i)->name, collective_at(i + 1) ? ", " : ".\n.SH OPTIONS\n");
	for (size_t i = 0; i < ROWS; i++) {
		char names[64];

		row_names(&rows[i], names, sizeof(names));
		fputs(".TP\n.B ", f);
		put_roff(f, names);
		fputc('\n', f);
		put_roff(f, rows[i].help);
		print_preset(f, &rows[i]);
	}
	fprintf(f, ".SH EXIT STATUS\n0 when all results were right, 1 when one was wrong or a call failed, 2 for a wrong\n"
		   "command line.\n.SH SEE ALSO\n.BR tutti-run (1)\n");
}
