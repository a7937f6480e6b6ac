/* Reads the description of a cluster: see cluster_file.h. Every complaint names the line and the field. */
#include "cluster_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/util/error.h"

#define MOST_BYTES (64 << 20)
#define LEAST_NS   1e-6
#define MOST_NS    1e9

/* Where the reader is: an element of "hosts", a member of "switches", or neither, and a field there. */
struct reader {
	const char *text, *name;
	const char *top, *key; /* "hosts" or "switches"; the name of a switch */
	size_t index;          /* of a group of hosts */
	struct cluster_file *f;
	json_t *numbers; /* of switches, by name */
};

/* ---- lines: JSON that the library has accepted is walked once more to where something stands --------------------- */

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		p += *p == '\\' && p[1];
	return *p ? p + 1 : p;
}

static const char *skip_value(const char *p)
{
	int depth = 0;
	if (*p == '"')
		return skip_string(p);
	while (*p && (depth || !strchr(",]}", *p))) {
		depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
		p = *p == '"' ? skip_string(p) : p + 1;
		if (!depth && (p[-1] == ']' || p[-1] == '}'))
			break;
	}
	return p;
}

/* The value of a member of the object at p, or the index-th element of the array there; NULL: there is none. */
static const char *child(const char *p, const char *key, size_t index)
{
	bool object = *p == '{';
	if (!object && *p != '[')
		return NULL;
	for (p = skip_space(p + 1); *p && *p != '}' && *p != ']'; p = skip_space(p)) {
		bool found = !object && index-- == 0;
		if (object) {
			size_t len = key ? strlen(key) : 0;
			found = key && strncmp(p + 1, key, len) == 0 && p[1 + len] == '"';
			p = skip_space(skip_space(skip_string(p)) + 1);
		}
		if (found)
			return p;
		p = skip_space(skip_value(p));
		p += *p == ',';
	}
	return NULL;
}

static int line_of(const struct reader *r, const char *field)
{
	const char *at = skip_space(r->text), *next = r->top ? child(at, r->top, 0) : NULL;
	int line = 1;
	at = next ? next : at;
	next = r->top ? child(at, r->key, r->index) : NULL;
	at = next ? next : at;
	next = field ? child(at, field, 0) : NULL;
	at = next ? next : at;
	for (const char *p = r->text; p < at; p++)
		line += *p == '\n';
	return line;
}

__attribute__((format(printf, 3, 4))) static int wrong(const struct reader *r, const char *field, const char *fmt, ...)
{
	char where[64] = "", what[160];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (r->top && r->key)
		snprintf(where, sizeof(where), "%s.%.32s", r->top, r->key);
	else if (r->top)
		snprintf(where, sizeof(where), "%s[%zu]", r->top, r->index);
	return fail(TUTTI_EINVAL, "%s:%d: %s%s%.32s%s%s", r->name, line_of(r, field), where,
	            where[0] && field ? "." : "", field ? field : "", where[0] || field ? ": " : "", what);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Stays as it is where the object has none. */
static int number(const struct reader *r, const json_t *o, const char *field, double least, double most, double *value)
{
	const json_t *v = json_object_get(o, field);
	double x = json_number_value(v);
	if (!v)
		return TUTTI_OK;
	if (!json_is_number(v) || !(x >= least && x <= most))
		return wrong(r, field, "a number from %.9g to %.9g is expected", least, most);
	*value = x;
	return TUTTI_OK;
}

static int whole(const struct reader *r, const json_t *o, const char *field, int most, int *value)
{
	double x = *value;
	int rc = number(r, o, field, 1, most, &x);
	if (!rc && x != floor(x))
		return wrong(r, field, "a whole number is expected");
	*value = (int)x;
	return rc;
}

/* One of an array of [bytes, nanoseconds]. */
static int read_point(const struct reader *r, const json_t *v, struct price_point *p)
{
	const json_t *bytes = json_array_get(v, 0), *ns = json_array_get(v, 1);
	*p = (struct price_point){json_number_value(bytes), json_number_value(ns)};
	bool right = json_array_size(v) == 2 && json_is_number(bytes) && json_is_number(ns) && p->bytes >= 1 &&
	             p->bytes <= 1e15 && p->ns >= LEAST_NS && p->ns <= MOST_NS;
	return right ? TUTTI_OK
	             : wrong(r, "copy_ns",
	                     "pairs of bytes and nanoseconds are expected, as [[65536, 0.2], [1048576, 0.4]]");
}

/* A number for all calls, or points. */
static int read_copy(const struct reader *r, const json_t *root)
{
	struct cluster_file *f = r->f;
	const json_t *v = json_object_get(root, "copy_ns");
	f->ncopy = !v ? 0 : json_is_array(v) ? (int)fmin((double)json_array_size(v), CLUSTER_POINTS + 1) : 1;
	if (!json_is_array(v))
		return number(r, root, "copy_ns", LEAST_NS, MOST_NS, &f->copy[0].ns);
	if (f->ncopy < 1 || f->ncopy > CLUSTER_POINTS)
		return wrong(r, "copy_ns", "1 to %d pairs are expected", CLUSTER_POINTS);
	for (int i = 0; i < f->ncopy; i++) {
		int rc = read_point(r, json_array_get(v, (size_t)i), &f->copy[i]);
		if (rc)
			return rc;
		if (i && f->copy[i].bytes <= f->copy[i - 1].bytes)
			return wrong(r, "copy_ns", "more and more bytes are expected, not %.15g after %.15g",
			             f->copy[i].bytes, f->copy[i - 1].bytes);
	}
	return TUTTI_OK;
}

static int known_fields(const struct reader *r, const json_t *o, const char *fields)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)o, key, value)
	{
		const char *at = strstr(fields, key);
		size_t len = strlen(key);
		while (at && len && !((at == fields || at[-1] == ' ') && (at[len] == ' ' || !at[len])))
			at = strstr(at + 1, key);
		if (!at || !len)
			return wrong(r, key, "no such field; there are: %s", fields);
	}
	return TUTTI_OK;
}

static int switch_named(const struct reader *r, const json_t *o, int *out)
{
	const json_t *v = json_object_get(o, "switch"), *n;
	if (!v)
		return TUTTI_OK;
	if (!json_is_string(v))
		return wrong(r, "switch", "the name of a switch is expected");
	if (!(n = json_object_get(r->numbers, json_string_value(v))))
		return wrong(r, "switch", "\"switches\" has none of the name \"%.32s\"", json_string_value(v));
	*out = (int)json_integer_value(n);
	return TUTTI_OK;
}

/* ---- groups and switches ----------------------------------------------------------------------------------------- */

static int read_group(struct reader *r, const json_t *o, struct host_group *g)
{
	*g = (struct host_group){.count = 1, .ranks = 1, .at = -1, .out = 1};
	if (!json_is_object(o))
		return wrong(r, NULL, "an object is expected");
	int rc = known_fields(r, o, "count ranks cores gbit gbit_in switch skew_us");
	rc = rc ? rc : whole(r, o, "count", CLUSTER_RANKS, &g->count);
	rc = rc ? rc : whole(r, o, "ranks", CLUSTER_RANKS, &g->ranks);
	rc = rc ? rc : whole(r, o, "cores", CLUSTER_RANKS, &g->cores);
	rc = rc ? rc : number(r, o, "gbit", 1e-6, 1e6, &g->out);
	g->in = g->out;
	rc = rc ? rc : number(r, o, "gbit_in", 1e-6, 1e6, &g->in);
	rc = rc ? rc : number(r, o, "skew_us", 0, 1e9, &g->skew);
	return rc ? rc : switch_named(r, o, &g->at);
}

static int read_hosts(struct reader *r, const json_t *hosts)
{
	struct cluster_file *f = r->f;
	if (!json_is_array(hosts) || !json_array_size(hosts))
		return wrong(r, "hosts", "an array of at least one host is expected");
	if (!(f->groups = calloc(json_array_size(hosts), sizeof(*f->groups))))
		return fail(TUTTI_ENOMEM, "out of memory");
	r->top = "hosts";
	for (r->index = 0; r->index < json_array_size(hosts); r->index++) {
		struct host_group *g = &f->groups[f->ngroups++];
		int rc = read_group(r, json_array_get(hosts, r->index), g);
		if (rc)
			return rc;
		if ((double)f->nranks + (double)g->count * g->ranks > CLUSTER_RANKS)
			return wrong(r, NULL, "more than %d ranks", CLUSTER_RANKS);
		f->nhosts += g->count;
		f->nranks += g->count * g->ranks;
	}
	return TUTTI_OK;
}

static int read_switch(struct reader *r, const json_t *o, struct switch_group *s)
{
	*s = (struct switch_group){.above = -1};
	if (!json_is_object(o) || !json_object_get(o, "uplink_gbit"))
		return wrong(r, NULL, "an object with uplink_gbit is expected");
	int rc = known_fields(r, o, "uplink_gbit switch");
	rc = rc ? rc : number(r, o, "uplink_gbit", 1e-6, 1e6, &s->gbit);
	return rc ? rc : switch_named(r, o, &s->above);
}

/* Who hangs on itself has more above it than there may be, as well. */
static int check_levels(const struct reader *r, int of)
{
	int levels = 0;
	for (int i = of; i >= 0; i = r->f->switches[i].above)
		if (++levels > CLUSTER_LEVELS)
			return wrong(r, "switch", "a cycle, or more than %d switches above each other", CLUSTER_LEVELS);
	return TUTTI_OK;
}

static int number_switches(struct reader *r, const json_t *switches)
{
	const char *key;
	json_t *value;
	int i = 0;
	if (switches && !json_is_object(switches))
		return wrong(r, "switches", "an object is expected: switches by name");
	if (json_object_size(switches) > CLUSTER_RANKS)
		return wrong(r, "switches", "more than %d switches", CLUSTER_RANKS);
	json_object_foreach((json_t *)(uintptr_t)switches, key, value)
	{
		if (json_object_set_new(r->numbers, key, json_integer(i++)))
			return fail(TUTTI_ENOMEM, "out of memory");
	}
	r->f->switches = calloc((size_t)i + 1, sizeof(*r->f->switches));
	return r->f->switches ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

static int read_switches(struct reader *r, const json_t *switches)
{
	json_t *value;
	int rc = number_switches(r, switches), i = 0;
	if (rc)
		return rc;
	r->top = "switches";
	json_object_foreach((json_t *)(uintptr_t)switches, r->key, value)
	{
		if ((rc = read_switch(r, value, &r->f->switches[i++])))
			return rc;
	}
	r->f->nswitches = i;
	i = 0;
	json_object_foreach((json_t *)(uintptr_t)switches, r->key, value)
	{
		if ((rc = check_levels(r, i++)))
			return rc;
	}
	r->top = r->key = NULL;
	return TUTTI_OK;
}

static int read_all(struct reader *r, const json_t *root)
{
	struct cluster_file *f = r->f;
	if (!json_is_object(root))
		return wrong(r, NULL, "an object with an array \"hosts\" is expected");
	int rc = known_fields(r, root,
	                      "hosts switches cores latency_us message_us frames_us copy_ns reduce_ns burst_kb");
	rc = rc ? rc : whole(r, root, "cores", CLUSTER_RANKS, &f->cores);
	rc = rc ? rc : number(r, root, "latency_us", 1e-3, 1e9, &f->latency_us);
	rc = rc ? rc : number(r, root, "message_us", 1e-3, 1e9, &f->message_us);
	rc = rc ? rc : number(r, root, "frames_us", 0, 1e9, &f->frames_us);
	rc = rc ? rc : read_copy(r, root);
	rc = rc ? rc : number(r, root, "reduce_ns", LEAST_NS, MOST_NS, &f->reduce_ns);
	rc = rc ? rc : number(r, root, "burst_kb", 0, 1e9, &f->burst_kb);
	rc = rc ? rc : read_switches(r, json_object_get(root, "switches"));
	return rc ? rc : read_hosts(r, json_object_get(root, "hosts"));
}

int cluster_file_parse(struct cluster_file *f, const char *text, size_t len, const char *name)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	char *copy = root ? strndup(text, len) : NULL; /* the walk needs an end */
	struct reader r = {.text = copy, .name = name, .f = f, .numbers = json_object()};
	*f = (struct cluster_file){0};
	int rc = !root               ? fail(TUTTI_EINVAL, "%s:%d: %s", name, error.line, error.text)
	         : copy && r.numbers ? read_all(&r, root)
	                             : fail(TUTTI_ENOMEM, "out of memory");
	json_decref(root);
	json_decref(r.numbers);
	free(copy);
	if (rc)
		cluster_file_free(f);
	return rc;
}

int cluster_file_read(struct cluster_file *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	*f = (struct cluster_file){0};
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MOST_BYTES) {
		int rc = fail(TUTTI_ESYSTEM, "%s: %s", path,
		              fd < 0 ? strerror(errno) : "a file of at most 64 MiB is expected");
		if (fd >= 0)
			close(fd);
		return rc;
	}
	char *text = malloc((size_t)st.st_size + 1);
	size_t len = 0;
	ssize_t n = 0;
	while (text && len < (size_t)st.st_size && (n = read(fd, text + len, (size_t)st.st_size - len)) > 0)
		len += (size_t)n;
	int rc = !text   ? fail(TUTTI_ENOMEM, "out of memory")
	         : n < 0 ? fail(TUTTI_ESYSTEM, "%s: %s", path, strerror(errno))
	                 : cluster_file_parse(f, text, len, path);
	free(text);
	close(fd);
	return rc;
}

int cluster_file_cut(struct cluster_file *f, int ranks)
{
	struct host_group *g = realloc(f->groups, ((size_t)f->ngroups + 1) * sizeof(*g));
	int left = ranks, i = 0;
	if (!g)
		return fail(TUTTI_ENOMEM, "out of memory");
	f->groups = g;
	f->nhosts = 0;
	while (left) {
		struct host_group part = g[i];
		int full = left / part.ranks < part.count ? left / part.ranks : part.count;
		f->nhosts += full;
		left -= full * part.ranks;
		g[i].count = full;
		i += full > 0;
		if (left && full < part.count) { /* one that is not full */
			part.count = 1;
			part.ranks = left;
			g[i++] = part;
			f->nhosts++;
			left = 0;
		}
	}
	f->ngroups = i;
	f->nranks = ranks;
	return TUTTI_OK;
}

void cluster_file_free(struct cluster_file *f)
{
	free(f->groups);
	free(f->switches);
	*f = (struct cluster_file){0};
}
