/* SPDX-License-Identifier: MIT */
/*
 * The test matrix: every collective against algorithm, transport, number of ranks, type, operation, place, count, root,
 * alignment, slots and channels. Data are exact, so a result is right to the last bit or wrong; everything that a call
 * must not write (inputs, gaps, guard zones) is also compared.
 *
 * A sample covers every pair of values of every two dimensions. What is fixed by the environment makes a world; a world
 * runs many cases. Variables:
 *   TUTTI_TEST_SEED    another sample
 *   TUTTI_TEST_WORLD   runs one world of it
 *   TUTTI_TEST_CASE    runs one case, as a failure prints it
 *   TUTTI_TEST_ONLY    "way=inproc slot=64": samples these values only
 *   TUTTI_TEST_NETWORK the transport that takes TCP's place; only ways through it, and at most 4 ranks
 *   TUTTI_TEST_CASES   of a world in a sample, before what makes it complete; default 48
 *   TUTTI_TEST_FABRIC  "net write": this provider of libfabric and mode only; otherwise they take turns
 *   TUTTI_TEST_FULL    1: not a sample but, for every transport, number of ranks and algorithm, all of collective x
 *                      type x operation x place and of collective x count x place x root
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../perf/lib/shape.h"
#include "../algos.h"
#include "../fabrics.h"
#include "../ranks.h"
#include "../seed.h"

/* ---- dimensions -------------------------------------------------------------------------------------------------- */

enum dim {
	WAY,
	RANKS,
	ALGO,
	SLOT,
	SLOTS,
	CHANNELS,
	DRIVER, /* of a world */
	COLL,
	TYPE,
	OP,
	PLACE,
	COUNT,
	ROOT,
	ALIGN,
	MODE,
	MEMORY, /* of a case */
	DIMS,
	WORLD_DIMS = COLL
};
#define VALUES 24

static const char *const fixed_values[DIMS][VALUES] = {
        [WAY] = {"inproc", "shm", "tcp", "threads-tcp", "blocks", "cyclic", "libfabric", "three"},
        [RANKS] = {"1", "2", "3", "4", "5", "7", "8", "13"},
        [ALGO] = {"default"}, /* and those of algos.h */
        [SLOT] = {"64", "200", "1024", "4096", "131072"},
        [SLOTS] = {"2", "4", "8"},
        [CHANNELS] = {"0", "1", "2", "3"},
        [DRIVER] = {"caller", "thread"},
        [COLL] = {NULL}, /* the collectives of shape.h */
        [TYPE] = {"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64", "f8e4m3",
                  "f8e5m2"},
        [OP] = {"sum", "prod", "min", "max", "avg"},
        [PLACE] = {"out", "in"},
        [COUNT] = {"0", "1", "3", "13", "44B", "48B", "52B", "slot-1", "slot", "slot+1", "block-1", "block", "block+1",
                   "3block+2", "1009", "large"},
        [ROOT] = {"first", "last", "middle"},
        [ALIGN] = {"0", "1", "4", "61"},
        [MODE] = {"block", "wait", "test"},
        [MEMORY] = {"plain", "shared", "mixed"},
};
static const char *const network_ways[VALUES] = {"tcp", "threads-tcp", "blocks", "cyclic"},
                         *const network_ranks[VALUES] = {"2", "3", "4"};
static const char *const dim_names[DIMS] = {"way",  "n",  "algo",  "slot",  "slots", "channels", "driver", "coll",
                                            "type", "op", "place", "count", "root",  "align",    "mode",   "memory"};

static const char *values[DIMS][VALUES];
static const char *network = "tcp";
static int nvalues[DIMS], first_value[DIMS + 1];

/* A choice of values; -1 where a dimension means nothing. */
struct point {
	int v[DIMS];
};

static void fill_values(void)
{
	memcpy(values, fixed_values, sizeof(values));
	for (int i = 0; algos_name(i); i++)
		values[ALGO][1 + i] = algos_name(i);
	for (int i = 0; collective_at(i); i++)
		values[COLL][i] = collective_at(i)->name;
	if (strcmp(network, "tcp") != 0) {
		memcpy(values[WAY], network_ways, sizeof(values[WAY]));
		memcpy(values[RANKS], network_ranks, sizeof(values[RANKS]));
	}
	for (int d = 0; d < DIMS; d++) {
		while (nvalues[d] < VALUES && values[d][nvalues[d]])
			nvalues[d]++;
		first_value[d + 1] = first_value[d] + nvalues[d];
	}
}

static int number(const struct point *p, enum dim d)
{
	return atoi(values[d][p->v[d]]);
}

static bool is(const struct point *p, enum dim d, const char *value)
{
	return strcmp(values[d][p->v[d]], value) == 0;
}

static const char *point_text(const struct point *p, enum dim from, enum dim to, char *buf, size_t cap)
{
	size_t n = 0;
	buf[0] = '\0';
	for (int d = from; d < (int)to; d++)
		if (p->v[d] >= 0 && n < cap)
			n += (size_t)snprintf(buf + n, cap - n, "%s%s=%s", n ? " " : "", dim_names[d],
			                      values[d][p->v[d]]);
	return buf;
}

/* "name=value ..." as point_text writes it. */
static void point_parse(struct point *p, const char *text)
{
	char copy[1024], *save = NULL;
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		bool known = false;
		for (int d = 0; d < DIMS; d++)
			for (int v = 0; v < nvalues[d]; v++) {
				char pair[64];
				snprintf(pair, sizeof(pair), "%s=%s", dim_names[d], values[d][v]);
				if (strcmp(pair, word) == 0) {
					p->v[d] = v;
					known = true;
				}
			}
		if (!known)
			fail_msg("%s is not a value of the matrix", word);
	}
}

/* ---- what goes together ------------------------------------------------------------------------------------------ */

static int host_of(const struct point *p, int rank)
{
	int n = number(p, RANKS);
	if (is(p, WAY, "blocks"))
		return rank / ((n + 1) / 2);
	if (is(p, WAY, "cyclic"))
		return rank % 2;
	if (is(p, WAY, "three"))
		return rank % 3;
	return is(p, WAY, "tcp") || is(p, WAY, "threads-tcp") || is(p, WAY, "libfabric") ? rank : 0;
}

/* The collective without its "v": allgatherv is run by the algorithms of allgather. */
static const char *family(const struct collective *c, char buf[32])
{
	snprintf(buf, 32, "%.*s", (int)strlen(c->name) - c->uneven, c->name);
	return buf;
}

static bool find_out(const struct point *p, const struct collective *c)
{
	int n = number(p, RANKS), host[RANKS_MAX];
	char name[32];
	if (is(p, ALGO, "default"))
		return true;
	for (int r = 0; r < n; r++)
		host[r] = host_of(p, r);
	return algos_serve(values[ALGO][p->v[ALGO]], family(c, name), n, host) && !(c->uneven && is(p, ALGO, "direct"));
}

/* Does the world's algorithm run this collective there? The direct tier has no v-forms. Asked a million times. */
static bool serves(const struct point *p, const struct collective *c)
{
	static signed char known[VALUES][VALUES][VALUES][VALUES]; /* by way, ranks, algorithm, collective; 0: not yet */
	signed char *k = &known[p->v[WAY]][p->v[RANKS]][p->v[ALGO]][c->id];
	if (!*k)
		*k = find_out(p, c) ? 1 : -1;
	return *k > 0;
}

/* Providers of libfabric that are made for tests spin: many ranks on few cores only wait for each other. */
static bool is_possible(const struct point *p)
{
	int n = number(p, RANKS);
	return !is(p, WAY, "libfabric") || (n >= 2 && n <= 4);
}

static bool world_makes_sense(const struct point *p)
{
	if (!is_possible(p))
		return false;
	for (int i = 0; i < nvalues[COLL]; i++)
		if (serves(p, collective_at(i)))
			return true;
	return false;
}

/* Clear the dimensions without meaning in this case, so that only pairs that were really tested count. */
static void normalise(struct point *p)
{
	const struct collective *c = collective_at(p->v[COLL]);
	if (!serves(p, c))
		p->v[ALGO] = -1;
	if (!c->reduces)
		p->v[OP] = -1;
	if (!c->in_place)
		p->v[PLACE] = -1;
	if (!c->rooted)
		p->v[ROOT] = -1;
	if (c->id == BARRIER)
		p->v[TYPE] = p->v[COUNT] = p->v[ALIGN] = -1;
}

/* ---- the sample -------------------------------------------------------------------------------------------------- */

#define MAX_WORLDS 4096
#define MAX_VALUES 160

struct batch {
	struct point world;
	struct point *cases;
	int n, cap;
};

static struct batch batches[MAX_WORLDS];
static int nbatches;
static bool covered[MAX_VALUES][MAX_VALUES];
static uint64_t seed, state;

static uint32_t below(uint32_t n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((state >> 33) % n);
}

static const struct point anything = {{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}};
static struct point only; /* TUTTI_TEST_ONLY */

static bool wanted(int d, int v)
{
	return only.v[d] < 0 || only.v[d] == v;
}

/* Random values from dimension `from` on, except those fixed by `pin` (-1: none). */
static void draw(struct point *p, enum dim from, enum dim to, const struct point *pin)
{
	for (int d = from; d < (int)to; d++) {
		p->v[d] = pin->v[d] >= 0 ? pin->v[d] : only.v[d];
		if (p->v[d] < 0)
			p->v[d] = (int)below((uint32_t)nvalues[d]);
	}
}

static bool *pair(const struct point *p, int a, int b)
{
	return &covered[first_value[a] + p->v[a]][first_value[b] + p->v[b]];
}

/* How many pairs p adds; and adds them. */
static int gain(const struct point *p, int dims, bool take)
{
	int n = 0;
	for (int a = 0; a < dims; a++)
		for (int b = a + 1; b < dims; b++)
			if (p->v[a] >= 0 && p->v[b] >= 0 && !*pair(p, a, b)) {
				n++;
				*pair(p, a, b) |= take;
			}
	return n;
}

static struct batch *add_world(const struct point *p)
{
	assert_true(nbatches < MAX_WORLDS);
	batches[nbatches].world = *p;
	return &batches[nbatches++];
}

static void add_case(struct batch *b, const struct point *p)
{
	if (b->n == b->cap) {
		b->cap = b->cap ? 2 * b->cap : 32;
		b->cases = realloc(b->cases, (size_t)b->cap * sizeof(*b->cases));
		assert_non_null(b->cases);
	}
	b->cases[b->n++] = *p;
}

/* Worlds until their dimensions are covered: each the best of some random ones. */
static void sample_worlds(void)
{
	for (int dry = 0; dry < 20;) {
		struct point best = anything, p;
		int most = 0;
		for (int i = 0; i < 40; i++) {
			draw(&p, 0, WORLD_DIMS, &anything);
			int n = world_makes_sense(&p) ? gain(&p, WORLD_DIMS, false) : 0;
			if (n > most) {
				most = n;
				best = p;
			}
		}
		dry = most ? 0 : dry + 1;
		if (most) {
			gain(&best, WORLD_DIMS, true);
			add_world(&best);
		}
	}
}

static void sample_case(struct batch *b)
{
	struct point best = anything, pin = anything;
	int most = -1;
	memcpy(pin.v, b->world.v, WORLD_DIMS * sizeof(pin.v[0]));
	for (int i = 0; i < 16; i++) {
		struct point p;
		draw(&p, 0, DIMS, &pin);
		normalise(&p);
		int n = gain(&p, DIMS, false);
		if (n > most) {
			most = n;
			best = p;
		}
	}
	gain(&best, DIMS, true);
	add_case(b, &best);
}

/* Does any case have these two values? This depends on algorithm, ranks, hosts and collective. */
static bool find_case(const struct point *pin, struct point *out)
{
	struct point p;
	for (int way = 0; way < nvalues[WAY]; way++)
		for (int n = 0; n < nvalues[RANKS]; n++)
			for (int algo = 0; algo < nvalues[ALGO]; algo++)
				for (int coll = 0; coll < nvalues[COLL]; coll++) {
					struct point q = *pin;
					int *const free_[] = {&q.v[WAY], &q.v[RANKS], &q.v[ALGO], &q.v[COLL]};
					int value[] = {way, n, algo, coll};
					bool ok = wanted(WAY, way) && wanted(RANKS, n) && wanted(ALGO, algo) &&
					          wanted(COLL, coll);
					for (int i = 0; i < 4; i++)
						*free_[i] = *free_[i] >= 0 ? *free_[i] : value[i];
					draw(&p, 0, DIMS, &q);
					normalise(&p);
					for (int d = 0; d < DIMS; d++)
						ok &= pin->v[d] < 0 || p.v[d] == pin->v[d];
					if (ok && is_possible(&p)) {
						draw(&p, 0, WORLD_DIMS, &q);
						*out = p;
						normalise(out);
						return true;
					}
				}
	return false;
}

/* The world that differs from p's in what is free the least: any with the pinned values that serves the collective. */
static struct batch *world_for(const struct point *pin, struct point *p)
{
	uint32_t start = below((uint32_t)nbatches);
	for (int i = 0; i < nbatches; i++) {
		struct batch *b = &batches[(start + (uint32_t)i) % (uint32_t)nbatches];
		struct point q = *p;
		bool ok = true;
		memcpy(q.v, b->world.v, WORLD_DIMS * sizeof(q.v[0]));
		normalise(&q);
		for (int d = 0; d < DIMS; d++)
			ok &= pin->v[d] < 0 || q.v[d] == pin->v[d];
		if (ok) {
			*p = q;
			return b;
		}
	}
	struct point world = *p;
	if (world.v[ALGO] < 0)
		world.v[ALGO] = 0;
	return add_world(&world);
}

/* What chance left out. Returns how many pairs are possible. */
static int complete_sample(void)
{
	int possible = 0;
	for (int a = 0; a < DIMS; a++)
		for (int b = a + 1; b < DIMS; b++)
			for (int i = 0; i < nvalues[a] * nvalues[b]; i++) {
				struct point pin = anything, p;
				pin.v[a] = i / nvalues[b];
				pin.v[b] = i % nvalues[b];
				if (!wanted(a, pin.v[a]) || !wanted(b, pin.v[b]))
					continue;
				if (!*pair(&pin, a, b) && find_case(&pin, &p)) {
					struct batch *to = world_for(&pin, &p);
					gain(&p, DIMS, true);
					add_case(to, &p);
					assert_true(*pair(&pin, a, b));
				}
				possible += *pair(&pin, a, b);
			}
	return possible;
}

static void make_sample(int cases_per_world)
{
	sample_worlds();
	memset(covered, 0, sizeof(covered)); /* from now on by cases, where an algorithm counts when it runs */
	for (int i = 0; i < nbatches; i++)
		for (int k = 0; k < cases_per_world; k++)
			sample_case(&batches[i]);
	int pairs = complete_sample(), cases = 0;
	for (int i = 0; i < nbatches; i++)
		cases += batches[i].n;
	print_message("TUTTI_TEST_SEED=%llu: %d worlds, %d cases, all %d possible pairs of values\n",
	              (unsigned long long)seed, nbatches, cases, pairs);
}

/* Every value of the dimensions in `of`; the others are drawn. */
static void every(struct batch *b, const enum dim *of, int n, struct point *p)
{
	if (n == 0) {
		struct point q = *p;
		draw(&q, COLL, DIMS, p);
		normalise(&q);
		for (int d = COLL; d < DIMS; d++)
			if (p->v[d] > 0 && q.v[d] < 0) /* means nothing here: once is enough */
				return;
		add_case(b, &q);
		return;
	}
	for (int v = 0; v < nvalues[*of]; v++)
		if (wanted(*of, v)) {
			p->v[*of] = v;
			every(b, of + 1, n - 1, p);
		}
	p->v[*of] = -1;
}

static void all_cases(struct batch *b)
{
	static const enum dim kernels[] = {COLL, TYPE, OP, PLACE}, lengths[] = {COLL, COUNT, PLACE, ROOT};
	struct point p = anything;
	memcpy(p.v, b->world.v, WORLD_DIMS * sizeof(p.v[0]));
	every(b, kernels, 4, &p);
	every(b, lengths, 4, &p);
}

static void make_full(void)
{
	struct point p = anything;
	for (int way = 0; way < nvalues[WAY]; way++)
		for (int n = 0; n < nvalues[RANKS]; n++)
			for (int algo = 0; algo < nvalues[ALGO]; algo++) {
				draw(&p, 0, WORLD_DIMS, &anything);
				p.v[WAY] = way;
				p.v[RANKS] = n;
				p.v[ALGO] = algo;
				if (wanted(WAY, way) && wanted(RANKS, n) && wanted(ALGO, algo) && world_makes_sense(&p))
					add_world(&p);
			}
}

/* ---- one case ---------------------------------------------------------------------------------------------------- */

#define GUARD       256
#define LARGE_BYTES (1u << 20)

static size_t count_of(const struct point *p, const struct collective *c, size_t esize)
{
	bool parts = c->in == EXTENT_PARTS || c->out == EXTENT_PARTS;
	size_t slot = (size_t)number(p, SLOT) / esize, n = (size_t)number(p, RANKS);
	size_t block = parts ? slot : slot * n, most = LARGE_BYTES / esize / (parts ? n : 1), v;
	const char *text = values[COUNT][p->v[COUNT]];
	if (strstr(text, "block"))
		v = (*text == '3' ? 3 * block + 2 : block) + (strchr(text, '+') && *text != '3') -
		    (strchr(text, '-') != NULL);
	else if (strstr(text, "slot"))
		v = slot + (strchr(text, '+') != NULL) - (strchr(text, '-') != NULL);
	else if (strchr(text, 'B'))
		v = (size_t)atoi(text) / esize;
	else if (strcmp(text, "large") == 0)
		v = 200 * block + 3;
	else
		v = (size_t)atoi(text);
	return v < most ? v : most;
}

static int root_of(const struct point *p, int n)
{
	if (p->v[ROOT] < 0 || is(p, ROOT, "first"))
		return 0;
	return is(p, ROOT, "last") ? n - 1 : n / 2;
}

/* One area of a call: the bytes as they are, and as they must be afterwards. */
struct memory {
	unsigned char *all, *base, *want;
	size_t bytes;
	struct tutti_comm *comm;
	bool shared; /* from tutti_mem_alloc */
};

#define PERIOD 4093 /* the data repeat; a prime, so that no block or chunk is a multiple of it */

static int put_parts(unsigned char *base, const struct shape *s, const struct part *parts, int n, const struct exact *x)
{
	for (int i = 0; i < n; i++) {
		struct pattern pattern;
		size_t end = parts[i].first + parts[i].count;
		if (!parts[i].count)
			continue;
		if (pattern_make(&pattern, x, parts[i].source, end < PERIOD ? end : PERIOD) != 0)
			return ranks_fail("out of memory");
		for (size_t k = 0, len; k < parts[i].count; k += len) {
			size_t at = (parts[i].first + k) % PERIOD;
			len = parts[i].count - k < PERIOD - at ? parts[i].count - k : PERIOD - at;
			pattern_write(&pattern, at, len, base + (parts[i].at + k) * tutti_dtype_size(s->type));
		}
		pattern_free(&pattern);
	}
	return 0;
}

/* Mixed: every other rank's buffers are such as its peers can read. */
static bool is_shared(const struct point *p, int rank)
{
	return p->v[MEMORY] >= 0 && (is(p, MEMORY, "shared") || (is(p, MEMORY, "mixed") && rank % 2));
}

static void *get(struct tutti_comm *c, bool shared, size_t bytes)
{
	void *p = NULL;
	if (!shared)
		return aligned_alloc(64, (bytes + 63) / 64 * 64);
	return tutti_mem_alloc(c, bytes, &p) == TUTTI_OK ? p : NULL;
}

static int prepare(struct memory *m, const struct shape *s, const struct area *a, size_t align, const struct exact *x)
{
	size_t span = a->span * tutti_dtype_size(s->type);
	m->bytes = span + 2 * GUARD + align;
	m->all = get(m->comm, m->shared, m->bytes);
	m->want = malloc(m->bytes);
	if (!m->all || !m->want)
		return ranks_fail("out of memory");
	for (size_t i = 0; i < m->bytes; i++)
		m->all[i] = (unsigned char)(0xa5 ^ i * 29);
	m->base = m->all + GUARD + align;
	if (put_parts(m->base, s, a->before, a->nbefore, x) != 0)
		return 1;
	memcpy(m->want, m->all, m->bytes);
	return put_parts(m->want + GUARD + align, s, a->after, a->nafter, x);
}

static int compare(const struct memory *m, const struct shape *s, int area, const char *what)
{
	size_t i = 0, wrong = 0, esize = tutti_dtype_size(s->type);
	if (memcmp(m->all, m->want, m->bytes) == 0)
		return 0;
	for (size_t k = m->bytes; k-- > 0;)
		if (m->all[k] != m->want[k]) {
			i = k;
			wrong++;
		}
	ptrdiff_t at = (ptrdiff_t)i - (m->base - m->all);
	return ranks_fail(
	        "%s: %zu wrong bytes in area %d of %zu elements, the first at byte %td (element %td%s): %02x, not %02x",
	        what, wrong, area, s->area[area].span, at, at / (ptrdiff_t)esize,
	        at < 0 || (size_t)at >= s->area[area].span * esize ? ", a guard zone" : "", m->all[i], m->want[i]);
}

static int call(const struct point *p, const struct shape *s, unsigned char *const base[2], struct tutti_comm *c)
{
	struct tutti_request *req = NULL;
	if (is(p, MODE, "block") || s->coll->id == SENDRECV)
		return shape_call(s, base, c, is(p, MODE, "block") ? NULL : &req);
	int rc = shape_call(s, base, c, &req), done = 0;
	if (rc || is(p, MODE, "wait"))
		return rc ? rc : tutti_wait(&req);
	while (!done && !rc)
		rc = tutti_test(&req, &done);
	return rc;
}

/* The forced algorithm is the one that runs. */
static int check_choice(const struct point *p, const struct shape *s, struct tutti_comm *c, const char *what)
{
	char text[256];
	const char *name = p->v[ALGO] >= 0 ? values[ALGO][p->v[ALGO]] : "default";
	if (strcmp(name, "default") == 0 || s->coll->uneven)
		return 0;
	int rc = tutti_comm_explain(c, s->coll->name, s->count, s->type, (enum tutti_op)s->op, text, sizeof(text));
	if (rc || !strstr(text, name))
		return ranks_fail("%s: explained as \"%s\" (status %d)", what, rc ? tutti_last_error(NULL) : text, rc);
	return 0;
}

static int run_case(const struct point *p, uint64_t data_seed, struct tutti_comm *c)
{
	const struct collective *coll = collective_at(p->v[COLL]);
	int rank = tutti_comm_rank(c), n = tutti_comm_size(c), failed = 0, rc;
	enum tutti_dtype t = p->v[TYPE] < 0 ? TUTTI_U8 : (enum tutti_dtype)p->v[TYPE];
	int op = p->v[OP] < 0 ? TUTTI_SUM : p->v[OP];
	size_t esize = tutti_dtype_size(t), count = p->v[COUNT] < 0 ? 0 : count_of(p, coll, esize);
	bool parts = coll->in == EXTENT_PARTS || coll->out == EXTENT_PARTS;
	size_t align = p->v[ALIGN] < 0 ? 0 : (size_t)number(p, ALIGN);
	struct memory m[2] = {{.comm = c, .shared = is_shared(p, rank)}, {.comm = c, .shared = is_shared(p, rank)}};
	struct exact x = {.type = t, .op = coll->reduces ? op : EXACT_COPY, .nranks = n, .seed = data_seed};
	struct shape s;
	char what[512] = "TUTTI_TEST_CASE='";
	point_text(p, 0, DIMS, what + strlen(what), sizeof(what) - 32);
	snprintf(what + strlen(what), sizeof(what) - strlen(what), "'");
	ranks_note("%s", what);
	if (shape_make(&s, coll, t, op, root_of(p, n), rank, n, count * esize * (parts ? (size_t)n : 1),
	               p->v[PLACE] > 0) != 0)
		return ranks_fail("out of memory");
	for (int i = 0; i < 2; i++)
		failed |= prepare(&m[i], &s, &s.area[i], i ? align * 7 % 64 : align, &x);
	failed |= check_choice(p, &s, c, what);
	rc = failed ? TUTTI_OK : call(p, &s, (unsigned char *[]){m[0].base, m[1].base}, c);
	if (rc)
		failed = ranks_fail("%s: status %d: %s", what, rc, tutti_last_error(c));
	for (int i = 0; i < 2; i++) {
		failed |= failed ? 0 : compare(&m[i], &s, i, what);
		if (!m[i].shared)
			free(m[i].all);
		else if (m[i].all && tutti_mem_free(c, m[i].all))
			failed |= ranks_fail("%s: %s", what, tutti_last_error(c));
		free(m[i].want);
	}
	shape_free(&s);
	return rc ? -1 : failed;
}

/* A wrong result is noted, and the next case follows; an error ends the world. */
static int run_cases(struct tutti_comm *c, void *arg)
{
	const struct batch *b = arg;
	int wrong = 0;
	for (int i = 0; i < b->n && wrong >= 0; i++) {
		int rc = run_case(&b->cases[i], seed * 1000003 + (uint64_t)i, c);
		wrong = rc < 0 ? rc : wrong + rc;
	}
	return wrong != 0;
}

/* ---- one world --------------------------------------------------------------------------------------------------- */

/* "allreduce:ring;allgather:ring": the algorithm for each collective that it serves. */
static void algo_variable(const struct point *p, char *buf, size_t cap)
{
	size_t n = (size_t)snprintf(buf, cap, "TUTTI_ALGO=");
	const char *name = values[ALGO][p->v[ALGO]];
	for (int i = 0; i < nvalues[COLL] && !is(p, ALGO, "default"); i++) {
		const struct collective *c = collective_at(i);
		if (c->uneven || !serves(p, c))
			continue;
		n += (size_t)snprintf(buf + n, cap - n, "%s:%s;", c->name, name);
		if (is(p, ALGO, "direct") && (c->id == ALLGATHER || c->id == REDUCE_SCATTER))
			n += (size_t)snprintf(buf + n - 1, cap - n, ",ring;") - 1; /* the v-forms, which it has not */
	}
	if (buf[n - 1] == ';')
		buf[n - 1] = '\0';
}

static void before(int rank, void *arg)
{
	const struct batch *b = arg;
	char host[32];
	snprintf(host, sizeof(host), "host%d", host_of(&b->world, rank));
	if (is(&b->world, WAY, "blocks") || is(&b->world, WAY, "cyclic") || is(&b->world, WAY, "three"))
		setenv("TUTTI_HOST", host, 1);
	if (is(&b->world, WAY, "three") && host_of(&b->world, rank) == 2)
		setenv("TUTTI_LIBFABRIC_PROVIDER", "none", 1);
}

static const char *transport_of(const struct point *p, char buf[64])
{
	const char *name = network;
	bool hosts = is(p, WAY, "blocks") || is(p, WAY, "cyclic");
	if (is(p, WAY, "shm") || is(p, WAY, "inproc") || is(p, WAY, "libfabric"))
		name = values[WAY][p->v[WAY]];
	if (is(p, WAY, "three")) /* memory in a host, libfabric between two of them, TCP with the third */
		name = "shm,libfabric,tcp";
	snprintf(buf, 64, "TUTTI_TRANSPORT=%s%s", hosts ? "shm," : "", name);
	return buf;
}

/* Processes start in turn in all ways; threads that speak TCP must each join by themselves. */
static enum ranks_start start_of(const struct point *p, int index)
{
	static const enum ranks_start turn[] = {RANKS_BY_ID, RANKS_BY_OOB, RANKS_BY_ENV};
	if (is(p, WAY, "inproc"))
		return RANKS_SIMPLY;
	return turn[index % (is(p, WAY, "threads-tcp") ? 2 : 3)];
}

static bool usable[FABRIC_WAYS];

/* The providers and modes of libfabric that can be used here take turns; NULL: there is none. */
static const struct fabric_way *fabric_of(const struct point *p, int index)
{
	const char *given = getenv("TUTTI_TEST_FABRIC");
	char name[64];
	for (int i = 0; i < FABRIC_WAYS; i++) {
		const struct fabric_way *f = &fabric_ways[(index + i) % FABRIC_WAYS];
		bool local = strcmp(f->provider, "shm") == 0;
		snprintf(name, sizeof(name), "%s %s", f->provider, f->mode);
		if (usable[(index + i) % FABRIC_WAYS] && (!given || strcmp(given, name) == 0) &&
		    !(local && is(p, WAY, "three")))
			return f;
	}
	return NULL;
}

static int run_world(struct batch *b, int index)
{
	char algo[600], slot[32], slots[32], channels[32], direct[32], provider[64], mode[64], text[256], transport[64];
	const struct point *p = &b->world;
	struct tutti_config config = TUTTI_CONFIG_INIT;
	const char *env[] = {transport_of(p, transport), algo,   slot, slots, channels,
	                     "TUTTI_TIMEOUT=100",        direct, NULL, NULL,  NULL};
	struct ranks how = {.n = number(p, RANKS),
	                    .threads = is(p, WAY, "inproc") || is(p, WAY, "threads-tcp"),
	                    .env = env,
	                    .before = before,
	                    .config = &config,
	                    .seconds = 300 + b->n / 4,
	                    .start = start_of(p, index)};
	config.progress = is(p, DRIVER, "thread") ? TUTTI_PROGRESS_THREAD : TUTTI_PROGRESS_CALLER;
	algo_variable(p, algo, sizeof(algo));
	snprintf(slot, sizeof(slot), "TUTTI_SLOT=%s", values[SLOT][p->v[SLOT]]);
	snprintf(slots, sizeof(slots), "TUTTI_SLOTS=%s", values[SLOTS][p->v[SLOTS]]);
	snprintf(channels, sizeof(channels), "TUTTI_CHANNELS=%s", values[CHANNELS][p->v[CHANNELS]]);
	snprintf(direct, sizeof(direct), "TUTTI_DIRECT=%s",
	         values[SLOT][p->v[SLOT]]); /* its edges are those of slots */
	if (is(p, WAY, "libfabric") || is(p, WAY, "three")) {
		const struct fabric_way *fabric = fabric_of(p, index);
		if (!fabric)
			return 0; /* a test of its own says why */
		snprintf(provider, sizeof(provider), "TUTTI_LIBFABRIC_PROVIDER=%s", fabric->provider);
		snprintf(mode, sizeof(mode), "TUTTI_LIBFABRIC_MODE=%s", fabric->mode);
		env[7] = provider;
		env[8] = mode;
	}
	int failed = ranks_run(&how, run_cases, b);
	if (failed && env[7])
		print_error("with %s %s\n", provider, mode);
	if (failed)
		print_error("world %d (%s, %d cases): %d ranks failed; again with TUTTI_TEST_SEED=%llu "
		            "TUTTI_TEST_WORLD=%d\n",
		            index, point_text(p, 0, WORLD_DIMS, text, sizeof(text)), b->n, failed,
		            (unsigned long long)seed, index);
	return failed != 0;
}

/* ---- the test ---------------------------------------------------------------------------------------------------- */

static void one_case(const char *text)
{
	struct batch b = {.n = 1, .cap = 1};
	struct point p = {{0}};
	point_parse(&p, text);
	b.world = p;
	normalise(&p);
	b.cases = &p;
	assert_int_equal(run_world(&b, 0), 0);
}

static void all_calls_are_right(void **unused)
{
	const char *one = getenv("TUTTI_TEST_CASE"), *world = getenv("TUTTI_TEST_WORLD"),
	           *full = getenv("TUTTI_TEST_FULL"), *cases = getenv("TUTTI_TEST_CASES");
	int failed = 0;
	(void)unused;
	if (one) {
		one_case(one);
		return;
	}
	bool all = full && strcmp(full, "1") == 0;
	if (all)
		make_full();
	else
		make_sample(cases ? atoi(cases) : 48);
	for (int i = 0; i < nbatches && failed < 12; i++) {
		if (world && i != atoi(world))
			continue;
		if (all)
			all_cases(&batches[i]);
		failed += run_world(&batches[i], i);
		free(batches[i].cases);
		if (all)
			print_message("world %d of %d: %d cases\n", i + 1, nbatches, batches[i].n);
	}
	assert_int_equal(failed, 0);
}

static void find_fabrics(void)
{
	for (int i = 0; i < FABRIC_WAYS; i++) {
		char why[400];
		usable[i] = fabric_usable(&fabric_ways[i], why, sizeof(why));
		if (!usable[i])
			print_message("without %s by %s: %s\n", fabric_ways[i].provider, fabric_ways[i].mode, why);
	}
}

static void libfabric_has_providers(void **unused)
{
	(void)unused;
	for (int i = 0; i < FABRIC_WAYS; i++)
		if (usable[i])
			return;
	skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(libfabric_has_providers),
	                                   cmocka_unit_test(all_calls_are_right)};
	const char *limits = getenv("TUTTI_TEST_ONLY"), *other = getenv("TUTTI_TEST_NETWORK");
	seed = test_seed();
	state = seed;
	network = other ? other : network;
	fill_values();
	fabrics_alone();
	find_fabrics();
	only = anything;
	if (limits)
		point_parse(&only, limits);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
