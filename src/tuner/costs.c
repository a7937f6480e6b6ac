/* SPDX-License-Identifier: MIT */
/* Tables of costs: priors, reading, writing; see costs.h. */
#include "costs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../algo/algo.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"
#include "../util/param.h"

#define NS          1e-9
#define LEAST_NS    1e-4
#define MOST_NS     1e9
#define MOST_VALUES 3
#define MOST_BYTES  65536 /* of a table; a larger file is not one */
#define VERSION     1

#define MEMORY(kind) offsetof(struct costs, direct[kind])
#define LINK(kind)   offsetof(struct costs, link[kind])

/*
 * The priors: nanoseconds. Only their ratios matter. They are those of no machine in particular, and say what holds on
 * nearly all: memory is near, the kernel far, and reading a peer's bytes where they stand cheaper than having them sent.
 */
static const struct row {
	struct cost_row row;
	size_t at;
	double prior[MOST_VALUES];
} rows[] = {
        {{"inproc", "threads of a process: latency, byte, further message", 3}, LINK(COST_INPROC), {400, 0.125, 120}},
        {{"shm", "processes that share memory: the same", 3}, LINK(COST_SHM), {400, 0.125, 120}},
        {{"loopback", "sockets within a machine: the same", 3}, LINK(COST_LOOPBACK), {6000, 0.25, 1800}},
        {{"network", "machines: the same", 3}, LINK(COST_NETWORK), {12000, 0.8333, 3600}},
        {{"direct-inproc", "direct tier between threads: latency, byte", 2}, MEMORY(COST_INPROC), {380, 0.03}},
        {{"direct-shm", "direct tier between processes: the same", 2}, MEMORY(COST_SHM), {380, 0.03}},
        {{"copy", "a byte copied", 1}, offsetof(struct costs, copy), {0.03}},
        {{"reduce", "a byte reduced", 1}, offsetof(struct costs, reduce), {0.1}},
};

_Static_assert(sizeof(rows) / sizeof(rows[0]) == COST_ROWS, "a row for each");

bool cost_row(int i, struct cost_row *row)
{
	if (i < 0 || i >= COST_ROWS)
		return false;
	*row = rows[i].row;
	return true;
}

double *cost_values(struct costs *c, int i)
{
	return (double *)((char *)c + rows[i].at);
}

void costs_priors(struct costs *c)
{
	memset(c, 0, sizeof(*c));
	for (int i = 0; i < COST_ROWS; i++)
		for (int k = 0; k < rows[i].row.values; k++)
			cost_values(c, i)[k] = rows[i].prior[k] * NS;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

struct place {
	const char *name;
	int line;
};

/*
 * The next word of a line; false at its end. A truncated word ends in dots, so that it is neither a name nor a number.
 */
static bool next_word(const char **at, const char *end, char *word, size_t cap)
{
	const char *p = *at;
	size_t n = 0;
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	for (; p < end && *p != ' ' && *p != '\t' && *p != '\r' && *p != '#'; p++, n++)
		if (n < cap - 1)
			word[n] = *p;
	if (n < cap)
		word[n] = '\0';
	else
		memcpy(word + cap - 4, "...", 4);
	*at = p;
	return n > 0;
}

static int parse_version(const char *at, const char *end, struct place where)
{
	char word[32];
	int64_t version;
	if (!next_word(&at, end, word, sizeof(word)) || !parse_size(word, &version))
		return fail(TUTTI_EINVAL, "%s:%d: expected \"tutti-tune %d\"", where.name, where.line, VERSION);
	if (version != VERSION)
		return fail(
		        TUTTI_EINVAL,
		        "%s:%d: the table has version %lld, this library reads version %d: run tutti-info --tune again",
		        where.name, where.line, (long long)version, VERSION);
	return TUTTI_OK;
}

static int parse_row(struct costs *c, const char *name, const char *at, const char *end, struct place where)
{
	char word[32];
	int i = 0;
	while (i < COST_ROWS && strcmp(rows[i].row.name, name) != 0)
		i++;
	if (i == COST_ROWS)
		return fail(TUTTI_EINVAL, "%s:%d: unknown row \"%s\"", where.name, where.line, name);
	for (int k = 0; k < rows[i].row.values; k++) {
		double ns;
		if (!next_word(&at, end, word, sizeof(word)))
			return fail(TUTTI_EINVAL, "%s:%d: %s has %d values, found %d", where.name, where.line, name,
			            rows[i].row.values, k);
		if (!parse_decimal(word, &ns) || ns < LEAST_NS || ns > MOST_NS)
			return fail(TUTTI_EINVAL, "%s:%d: \"%s\" is not a time in nanoseconds from 0.0001 to 1e9",
			            where.name, where.line, word);
		cost_values(c, i)[k] = ns * NS;
	}
	if (next_word(&at, end, word, sizeof(word)))
		return fail(TUTTI_EINVAL, "%s:%d: \"%s\" is one value too many for %s", where.name, where.line, word,
		            name);
	c->measured |= UINT64_C(1) << i;
	return TUTTI_OK;
}

/* ---- choices --------------------------------------------------------------------------------------------------------- */

int costs_choose(struct costs *c, struct cost_choice choice)
{
	if (c->nchoices == COST_CHOICES)
		return fail(TUTTI_EINVAL, "a cost table has room for %d choices", COST_CHOICES);
	c->choice[c->nchoices++] = choice;
	return TUTTI_OK;
}

void costs_forget(struct costs *c, const struct cost_choice *like)
{
	uint64_t kept = 0;
	for (uint64_t i = 0; i < c->nchoices; i++) {
		const struct cost_choice *x = &c->choice[i];
		if (x->coll != like->coll || x->ranks != like->ranks || x->hosts != like->hosts)
			c->choice[kept++] = *x;
	}
	memset(&c->choice[kept], 0, (COST_CHOICES - kept) * sizeof(c->choice[0]));
	c->nchoices = kept;
}

static int algorithms(void)
{
	int n = 0;
	while (algo_table[n])
		n++;
	return n;
}

bool costs_plausible(const struct costs *c)
{
	bool good = c->nchoices <= COST_CHOICES;
	for (uint64_t i = 0; good && i < c->nchoices; i++)
		good = c->choice[i].coll < COLL_COUNT && c->choice[i].algo < algorithms();
	for (int i = 0; good && i < COST_ROWS; i++) {
		const double *v = (const double *)((const char *)c + rows[i].at);
		for (int k = 0; k < rows[i].row.values; k++)
			good &= v[k] >= LEAST_NS * NS && v[k] <= MOST_NS * NS; /* and no NaN */
	}
	return good;
}

static int algo_number(const char *name, int coll)
{
	for (int i = 0; algo_table[i]; i++)
		if (strcmp(algo_table[i]->name, name) == 0 && algo_table[i]->colls >> coll & 1)
			return i;
	return -1;
}

static bool whole(const char *word, int64_t most, int64_t *out)
{
	return parse_size(word, out) && *out >= 1 && *out <= most;
}

static int parse_choice(struct costs *c, const char *at, const char *end, struct place where)
{
	char word[6][32] = {{0}};
	int n = 0, coll, algo;
	int64_t ranks, hosts, bytes = INT64_MAX;
	while (n < 6 && next_word(&at, end, word[n], sizeof(word[n])))
		n++;
	if (n != 5)
		return fail(TUTTI_EINVAL, "%s:%d: expected \"choose COLLECTIVE RANKS HOSTS BYTES ALGORITHM\"",
		            where.name, where.line);
	if ((coll = coll_by_name(word[0])) < 0 || coll >= COLL_COUNT)
		return fail(TUTTI_EINVAL, "%s:%d: unknown collective \"%s\"", where.name, where.line, word[0]);
	if (!whole(word[1], INT32_MAX, &ranks) || !whole(word[2], ranks < UINT16_MAX ? ranks : UINT16_MAX, &hosts))
		return fail(TUTTI_EINVAL, "%s:%d: invalid rank or host count: ranks=%s hosts=%s", where.name,
		            where.line, word[1], word[2]);
	if (strcmp(word[3], "*") != 0 && !whole(word[3], INT64_MAX, &bytes))
		return fail(TUTTI_EINVAL, "%s:%d: \"%s\" is neither a number of bytes nor *", where.name, where.line,
		            word[3]);
	if ((algo = algo_number(word[4], coll)) < 0)
		return fail(TUTTI_EINVAL, "%s:%d: \"%s\" is not an algorithm for %s", where.name, where.line, word[4],
		            word[0]);
	struct cost_choice choice = {.bytes = (uint64_t)bytes,
	                             .ranks = (uint32_t)ranks,
	                             .hosts = (uint16_t)hosts,
	                             .coll = (uint8_t)coll,
	                             .algo = (uint8_t)algo};
	return costs_choose(c, choice) ? fail(TUTTI_EINVAL, "%s:%d: %s", where.name, where.line, fail_text())
	                               : TUTTI_OK;
}

int costs_parse(struct costs *c, const char *text, size_t len, const char *name)
{
	struct costs new = *c;
	struct place where = {name, 1};
	new.nchoices = 0;
	bool begun = false;
	for (const char *at = text, *end, *stop = text + len; at < stop; at = end + 1, where.line++) {
		char word[32];
		if (!(end = memchr(at, '\n', (size_t)(stop - at))))
			end = stop;
		if (!next_word(&at, end, word, sizeof(word)))
			continue;
		bool head = strcmp(word, "tutti-tune") == 0 && !begun;
		bool choice = begun && strcmp(word, "choose") == 0;
		int rc = head     ? parse_version(at, end, where)
		         : choice ? parse_choice(&new, at, end, where)
		         : begun  ? parse_row(&new, word, at, end, where)
		                  : fail(TUTTI_EINVAL,
		                         "%s:%d: not a cost table: it does not begin with \"tutti-tune %d\"", name,
		                         where.line, VERSION);
		if (rc)
			return rc;
		begun = true;
	}
	if (!begun)
		return fail(TUTTI_EINVAL, "%s:%d: the table is empty", name, where.line);
	*c = new;
	return TUTTI_OK;
}

int costs_read(struct costs *c, const char *path)
{
	char *text = malloc(MOST_BYTES);
	size_t len = 0;
	ssize_t got = 1;
	int fd = -1, rc = text ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	/* do not block on something that is not a regular file */
	if (!rc && (fd = fd_keep(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK))) < 0)
		rc = fail_errno("can't read the cost table %s", path);
	while (!rc && got > 0 && len < MOST_BYTES) {
		if ((got = read(fd, text + len, MOST_BYTES - len)) < 0)
			rc = fail_errno("can't read the cost table %s", path);
		len += got > 0 ? (size_t)got : 0;
	}
	if (!rc)
		rc = len < MOST_BYTES ? costs_parse(c, text, len, path)
		                      : fail(TUTTI_EINVAL, "%s:1: too long for a cost table", path);
	if (fd >= 0)
		fd_close(fd);
	free(text);
	return rc;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

void costs_print(const struct costs *c, FILE *f)
{
	struct costs all = *c;
	fprintf(f, "# Costs of links and memory in nanoseconds, measured by tutti-info --tune.\ntutti-tune %d\n",
	        VERSION);
	for (int i = 0; i < COST_ROWS; i++) {
		if (!(c->measured >> i & 1))
			continue;
		fprintf(f, "%-13s", rows[i].row.name);
		for (int k = 0; k < rows[i].row.values; k++) {
			double ns = cost_values(&all, i)[k] / NS;
			fprintf(f, " %.*f", ns < 10 ? 4 : 0, ns);
		}
		fprintf(f, "  # %s\n", rows[i].row.what);
	}
	for (uint64_t i = 0; i < c->nchoices; i++) {
		const struct cost_choice *x = &c->choice[i];
		char bytes[24] = "*";
		if (x->bytes < INT64_MAX)
			snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)x->bytes);
		fprintf(f, "choose %s %u %u %s %s\n", coll_name((enum coll)x->coll), x->ranks, x->hosts, bytes,
		        algo_table[x->algo]->name);
	}
}

/* ---- which file ------------------------------------------------------------------------------------------------------ */

bool costs_path(const char *tune_file, char *buf, size_t cap)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	bool cached = cache && cache[0] == '/';
	char host[65] = "";
	if (tune_file && tune_file[0]) {
		int n = snprintf(buf, cap, "%s", tune_file);
		return strcmp(tune_file, "none") != 0 && (size_t)n < cap;
	}
	if ((!cached && !(home && home[0])) || gethostname(host, sizeof(host) - 1) < 0)
		return false;
	for (char *p = host; *p; p++)
		*p = *p == '/' ? '_' : *p;
	int n = snprintf(buf, cap, "%s%s/tutti/tune-%s", cached ? cache : home, cached ? "" : "/.cache", host);
	return (size_t)n < cap;
}

void costs_load(struct costs *c, const char *tune_file)
{
	char path[4096];
	bool asked = tune_file && tune_file[0];
	costs_priors(c);
	if (!costs_path(tune_file, path, sizeof(path)) || (!asked && access(path, F_OK) != 0))
		return;
	if (costs_read(c, path) != TUTTI_OK)
		log_warn("%s; algorithms are chosen by default costs (run tutti-info --tune to measure)", fail_text());
	else
		log_debug("link costs: %s", path);
}
