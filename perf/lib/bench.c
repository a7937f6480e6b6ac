/* SPDX-License-Identifier: MIT */
/* One rank's part in measuring: see bench.h. */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../src/os/os.h"
#include "../../tools/machine/system.h"
#include "fit.h"

#define PAGE   4096
#define POISON 0xa5

/* Memory of one area: a page of guard, elements, a page of guard; all of it is poison where no part is. */
struct memory {
	unsigned char *raw, *base;
	size_t bytes;
};

/* A pair of buffers. `turn` is that of the data last put there. */
struct slot {
	struct memory area[2];
	uint64_t turn;
};

/* A half row while it runs. */
struct run {
	struct bench *b;
	struct shape shape;
	struct exact x;
	struct pattern own; /* this rank's input */
	struct slot *slots;
	int nslots;
	uint64_t turn;
	bool in_place;
	double *us; /* per timed call */
	double cpu; /* ns over all timed calls */
	struct half local;
};

static double read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* In ns. */
static double monotonic(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* For a rank that is a process, this includes the library's threads. */
static clockid_t cpu_clock(const struct options *o)
{
	return o->threads > 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What an empty interval measures. */
static double clock_cost(clockid_t id)
{
	double d[1001];

	for (int i = 0; i < 1001; i++) {
		double start = read_clock(id);

		d[i] = read_clock(id) - start;
	}
	qsort(d, 1001, sizeof(*d), by_value);
	return d[500];
}

static size_t cache_bytes(void)
{
	size_t last = os_cache_bytes();

	return 2 * (last ? last : 32 << 20);
}

int bench_open(struct bench *b, const struct options *o, struct tutti_comm *comm)
{
	*b = (struct bench){.o = o, .comm = comm, .rank = tutti_comm_rank(comm), .n = tutti_comm_size(comm)};
	b->clock_cost = clock_cost(CLOCK_MONOTONIC);
	b->cpu_cost = clock_cost(cpu_clock(o));
	if (o->team > 1 && !(b->team = team_open(o->team)))
		return -1;
	if (!o->cold)
		return 0;
	b->evict_bytes = cache_bytes();
	b->evict = calloc(1, b->evict_bytes);
	return b->evict ? 0 : -1;
}

void bench_close(struct bench *b)
{
	team_close(b->team);
	free(b->evict);
	b->evict = NULL;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static int memory_open(struct bench *b, struct memory *m, size_t bytes, size_t shift)
{
	void *raw = NULL;

	m->bytes = (bytes + shift + 2 * PAGE + PAGE - 1) / PAGE * PAGE;
	if (b->o->alloc && tutti_mem_alloc(b->comm, m->bytes, &raw) != TUTTI_OK)
		return TUTTI_ENOMEM;
	if (!b->o->alloc)
		raw = aligned_alloc(PAGE, m->bytes);
	if (!raw) {
		snprintf(b->why, sizeof(b->why),
		         "no memory for a buffer of %zu bytes; lower -e, -m, --buffers or the number of ranks",
		         m->bytes);
		return TUTTI_ENOMEM;
	}
	m->raw = raw;
	m->base = m->raw + PAGE + shift;
	return b->o->registered ? tutti_mem_register(b->comm, raw, m->bytes) : TUTTI_OK;
}

static void memory_close(struct bench *b, struct memory *m)
{
	if (m->raw && b->o->registered)
		tutti_mem_deregister(b->comm, m->raw);
	if (m->raw && b->o->alloc)
		tutti_mem_free(b->comm, m->raw);
	else
		free(m->raw);
	m->raw = NULL;
}

/* Pairs of buffers. */
static int slots_of(const struct options *o)
{
	return o->aggregate > o->buffers ? o->aggregate : o->buffers;
}

static int run_open(struct run *r)
{
	const struct options *o = r->b->o;
	size_t size = tutti_dtype_size(r->shape.type);
	int status = TUTTI_OK;

	r->nslots = slots_of(o);
	r->slots = calloc((size_t)r->nslots, sizeof(*r->slots));
	r->us = calloc((size_t)o->iters, sizeof(*r->us));
	if (!r->slots || !r->us || pattern_make(&r->own, &r->x, r->b->rank, r->shape.total) != 0)
		return TUTTI_ENOMEM;
	for (int i = 0; i < r->nslots && status == TUTTI_OK; i++)
		for (int a = 0; a < 2 && status == TUTTI_OK; a++)
			status = memory_open(r->b, &r->slots[i].area[a], r->shape.area[a].span * size,
			                     (size_t)o->unalign * (a ? 3 : 1));
	return status;
}

static void run_close(struct run *r)
{
	for (int i = 0; r->slots && i < r->nslots; i++)
		for (int a = 0; a < 2; a++)
			memory_close(r->b, &r->slots[i].area[a]);
	free(r->slots);
	free(r->us);
	pattern_free(&r->own);
	shape_free(&r->shape);
}

static unsigned char *element(const struct run *r, const struct slot *s, int area, size_t at)
{
	return s->area[area].base + at * tutti_dtype_size(r->shape.type);
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

static void put_inputs(struct run *r, struct slot *s, bool only_what_varies)
{
	s->turn = ++r->turn % PATTERN_TURNS;
	pattern_turn(&r->own, s->turn);
	for (int a = 0; a < 2; a++)
		for (int i = 0; i < r->shape.area[a].nbefore; i++) {
			const struct part *p = &r->shape.area[a].before[i];

			(only_what_varies ? pattern_touch : pattern_write)(&r->own, p->first, p->count,
			                                                   element(r, s, a, p->at));
		}
}

/* Everything anew: poison, then inputs of another seed. */
static int renew(struct run *r, int op)
{
	r->x.op = op;
	r->x.seed += 0x632be59bd9b4e019ull;
	pattern_free(&r->own);
	if (pattern_make(&r->own, &r->x, r->b->rank, r->shape.total) != 0)
		return TUTTI_ENOMEM;
	for (uint64_t turn = 0; turn < PATTERN_TURNS; turn++) /* none is made between calls that are timed */
		pattern_turn(&r->own, turn);
	for (int i = 0; i < r->nslots; i++) {
		for (int a = 0; a < 2; a++)
			memset(r->slots[i].area[a].raw, POISON, r->slots[i].area[a].bytes);
		put_inputs(r, &r->slots[i], false);
	}
	return TUTTI_OK;
}

/*
 * What a caller does between calls: it writes its next input. Out of place one element per 64 bytes is enough to make
 * every cache line this core's again; in place the last result stands there, and all is written.
 */
static void rewrite(struct run *r, struct slot *s)
{
	put_inputs(r, s, !r->in_place);
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static uint64_t not_poison(const unsigned char *from, const unsigned char *to)
{
	uint64_t n = 0;

	for (; from < to; from++)
		n += *from != POISON;
	return n;
}

static int check_part(struct run *r, const struct slot *s, int area, const struct part *p)
{
	struct exact x = r->x;
	struct pattern made;
	size_t wrong;

	x.turn = s->turn;
	if (pattern_make(&made, &x, p->source, p->first + p->count) != 0)
		return TUTTI_ENOMEM;
	wrong = pattern_wrong(&made, p->first, p->count, element(r, s, area, p->at));
	pattern_free(&made);
	*(p->result ? &r->local.wrong : &r->local.outside) += wrong;
	return TUTTI_OK;
}

static int check_area(struct run *r, const struct slot *s, int a)
{
	const struct memory *m = &s->area[a];
	const unsigned char *at = m->raw;
	int status = TUTTI_OK;

	for (int i = 0; i < r->shape.area[a].nafter && status == TUTTI_OK; i++) {
		const struct part *p = &r->shape.area[a].after[i];

		r->local.outside += not_poison(at, element(r, s, a, p->at));
		at = element(r, s, a, p->at + p->count);
		status = check_part(r, s, a, p);
	}
	r->local.outside += not_poison(at, m->raw + m->bytes);
	return status;
}

/* The slots that the last `calls` calls used, ending before slot `next`. */
static int check_slots(struct run *r, int next, int calls)
{
	int status = TUTTI_OK;

	for (int i = 1; i <= calls && status == TUTTI_OK; i++)
		for (int a = 0; a < 2 && status == TUTTI_OK; a++)
			status = check_area(r, &r->slots[(next + r->nslots - i) % r->nslots], a);
	return status;
}

static uint64_t hash(const unsigned char *p, size_t bytes, uint64_t h)
{
	uint64_t word;

	for (; bytes >= 8; p += 8, bytes -= 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * 0x9fb21c651e98df25ull;
		h ^= h >> 32;
	}
	for (; bytes > 0; p++, bytes--)
		h = (h ^ *p) * 0x9fb21c651e98df25ull;
	return h;
}

static uint64_t hash_results(const struct run *r, const struct slot *s)
{
	uint64_t h = 1;

	for (int a = 0; a < 2; a++)
		for (int i = 0; i < r->shape.area[a].nafter; i++) {
			const struct part *p = &r->shape.area[a].after[i];

			if (p->result)
				h = hash(element(r, s, a, p->at), p->count * tutti_dtype_size(r->shape.type), h);
		}
	return h;
}

/* Everybody's `bytes` bytes, in rank order, in memory that the caller frees. */
static int share(const struct bench *b, const void *mine, size_t bytes, void **all)
{
	int status;

	*all = malloc(bytes * (size_t)b->n);
	if (!*all)
		return TUTTI_ENOMEM;
	status = tutti_allgather(mine, *all, bytes, TUTTI_U8, b->comm, NULL);
	if (status != TUTTI_OK) {
		free(*all);
		*all = NULL;
	}
	return status;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static void spin(double ns)
{
	double end = monotonic() + ns;

	while (monotonic() < end)
		;
}

/* A delay of this rank's own, below --skew. */
static double delay(const struct run *r)
{
	uint64_t h = (r->turn * 1000003 + (uint64_t)r->b->rank) * 0x9e3779b97f4a7c15ull;

	return r->b->o->skew * 1e3 * ldexp((double)(h >> 11), -53);
}

static void before_call(struct run *r)
{
	const struct bench *b = r->b;

	if (b->evict)
		for (size_t i = 0; i < b->evict_bytes; i += 64)
			b->evict[i]++;
	if (b->o->busy > 0)
		spin(b->o->busy * 1e3);
	if (b->o->skew > 0)
		spin(delay(r));
}

static int call_slot(struct run *r, int slot, struct tutti_request **req)
{
	struct slot *s = &r->slots[slot];
	unsigned char *base[2] = {s->area[0].base, s->area[1].base};

	return shape_call(&r->shape, base, r->b->comm, req);
}

/* Until it is done. */
static int call_now(struct run *r, int slot)
{
	struct tutti_request *req = NULL;
	int status, end;

	if (!r->b->team)
		return call_slot(r, slot, NULL);
	status = call_slot(r, slot, &req);
	if (status == TUTTI_OK)
		status = team_work(r->b->team, req);
	end = tutti_wait(&req);
	return status ? status : end;
}

static int call_with_requests(struct run *r, int first, int calls)
{
	struct tutti_request *reqs[64] = {NULL};
	int status = TUTTI_OK, issued = 0;

	while (calls > 0 && status == TUTTI_OK) {
		int now = calls < 64 ? calls : 64, end;

		for (issued = 0; issued < now && status == TUTTI_OK; issued++)
			status = call_slot(r, (first + issued) % r->nslots, &reqs[issued]);
		end = tutti_wait_all(reqs, issued);
		status = status ? status : end;
		first += now;
		calls -= now;
	}
	return status;
}

static int call_group(struct run *r, int first, int calls)
{
	int status = tutti_group_begin(), end;

	for (int i = 0; i < calls && status == TUTTI_OK; i++)
		status = call_slot(r, (first + i) % r->nslots, NULL);
	end = tutti_group_end();
	return status ? status : end;
}

static int call_all(struct run *r, int first, int calls)
{
	if (r->b->o->nonblocking)
		return call_with_requests(r, first, calls);
	return calls > 1 ? call_group(r, first, calls) : call_now(r, first);
}

/* One iteration; its time in µs per call goes to *us. */
static int iterate(struct run *r, int first, double *us)
{
	struct bench *b = r->b;
	int calls = b->o->aggregate, status;
	double cpu = 0, start;

	for (int i = 0; i < calls; i++)
		rewrite(r, &r->slots[(first + i) % r->nslots]);
	before_call(r);
	if (b->o->cpu)
		cpu = read_clock(cpu_clock(b->o));
	start = monotonic();
	status = call_all(r, first, calls);
	*us = fmax(0, monotonic() - start - b->clock_cost) / 1e3 / calls;
	if (b->o->cpu)
		r->cpu += fmax(0, read_clock(cpu_clock(b->o)) - cpu - b->cpu_cost);
	return status;
}

static int timed_loop(struct run *r)
{
	const struct options *o = r->b->o;
	int status = tutti_barrier(r->b->comm, NULL), next = 0;

	for (int i = -o->warmup; i < o->iters && status == TUTTI_OK; i++) {
		if (i <= 0)
			r->cpu = 0;
		status = iterate(r, next, &r->us[i < 0 ? 0 : i]);
		next = (next + o->aggregate) % r->nslots;
	}
	if (status == TUTTI_OK && o->check > 0)
		status = check_slots(r, next, o->aggregate);
	return status;
}

/* Calls on data that share nothing with those of the call before, so that a stale result can't pass for a right one. */
static int checked_calls(struct run *r)
{
	int status = TUTTI_OK;

	for (int i = 0; i < r->b->o->check && status == TUTTI_OK; i++) {
		status = renew(r, r->x.op);
		if (status == TUTTI_OK)
			status = call_now(r, 0);
		if (status == TUTTI_OK)
			status = check_slots(r, 1, 1);
	}
	return status;
}

/* All ranks hold the same bits, also where sums are rounded. */
static int check_identity(struct run *r)
{
	uint64_t mine, *all = NULL;
	void *shared;
	int status = renew(r, EXACT_NOISE);

	if (status == TUTTI_OK)
		status = call_now(r, 0);
	mine = hash_results(r, &r->slots[0]);
	if (status == TUTTI_OK)
		status = share(r->b, &mine, sizeof(mine), &shared);
	if (status != TUTTI_OK)
		return status;
	all = shared;
	for (int i = 0; r->b->rank == 0 && i < r->b->n; i++)
		r->local.differ += all[i] != all[0];
	free(shared);
	return TUTTI_OK;
}

/* Which clock this is: ranks with the same one may compare times. */
static uint64_t clock_identity(void)
{
	char text[128];
	size_t n = os_clock_text(text, sizeof(text));

	return hash((unsigned char *)text, n, 1);
}

/* Nobody leaves before everybody has entered; only ranks that share a clock can tell. */
static int check_barrier(struct run *r)
{
	struct stamp {
		uint64_t clock;
		double enter, leave;
	} mine = {.clock = clock_identity()}, *all;
	void *shared;
	double last = 0;
	int status;

	spin(1e3 * r->b->rank);
	mine.enter = monotonic();
	status = call_slot(r, 0, NULL);
	mine.leave = monotonic();
	if (status == TUTTI_OK)
		status = share(r->b, &mine, sizeof(mine), &shared);
	if (status != TUTTI_OK)
		return status;
	all = shared;
	for (int i = 0; i < r->b->n; i++)
		if (all[i].clock == mine.clock)
			last = fmax(last, all[i].enter);
	r->local.wrong += mine.leave < last;
	free(shared);
	return TUTTI_OK;
}

/* ---- figures of all ranks ---------------------------------------------------------------------------------------- */

static double over_ranks(const double *all, size_t stride, int n, int how)
{
	double v = all[0];

	for (int i = 1; i < n && how != AVERAGE_RANK0; i++) {
		double next = all[(size_t)i * stride];

		v = how == AVERAGE_MEAN ? v + next : how == AVERAGE_MIN ? fmin(v, next) : fmax(v, next);
	}
	return how == AVERAGE_MEAN ? v / n : v;
}

/* The least of the sorted values that at least p of them do not exceed. */
static double percentile(const double *sorted, int n, double p)
{
	int i = (int)ceil(p * n) - 1;

	return sorted[i < 0 ? 0 : i];
}

static void summarise(double *us, int n, struct times *t)
{
	double sum = 0, squares = 0;

	qsort(us, (size_t)n, sizeof(*us), by_value);
	for (int i = 0; i < n; i++)
		sum += us[i];
	t->mean = sum / n;
	for (int i = 0; i < n; i++)
		squares += (us[i] - t->mean) * (us[i] - t->mean);
	t->stdev = n > 1 ? sqrt(squares / (n - 1)) : 0;
	t->min = us[0];
	t->max = us[n - 1];
	t->p50 = percentile(us, n, 0.50);
	t->p95 = percentile(us, n, 0.95);
	t->p99 = percentile(us, n, 0.99);
}

static int collect_times(struct run *r, struct half *h)
{
	const struct bench *b = r->b;
	size_t n = (size_t)b->o->iters;
	void *shared;
	double *all;
	int status = share(b, r->us, n * sizeof(*r->us), &shared);

	if (status != TUTTI_OK)
		return status;
	all = shared;
	for (size_t i = 0; i < n; i++)
		r->us[i] = over_ranks(all + i, n, b->n, b->o->average);
	free(shared);
	summarise(r->us, (int)n, &h->t);
	return TUTTI_OK;
}

static int collect_counts(struct run *r, struct half *h)
{
	struct counts {
		uint64_t wrong, outside, differ;
		double cpu;
	} mine = {r->local.wrong, r->local.outside, r->local.differ, r->cpu}, *all;
	void *shared;
	int status = share(r->b, &mine, sizeof(mine), &shared);

	if (status != TUTTI_OK)
		return status;
	all = shared;
	for (int i = 0; i < r->b->n; i++) {
		h->wrong += all[i].wrong;
		h->outside += all[i].outside;
		h->differ += all[i].differ;
		h->t.cpu += all[i].cpu / 1e3 / r->b->o->iters / r->b->o->aggregate / r->b->n;
	}
	free(shared);
	return TUTTI_OK;
}

static int verify(struct run *r)
{
	int status;

	if (r->b->o->check == 0)
		return TUTTI_OK;
	if (r->shape.coll->id == BARRIER)
		return check_barrier(r);
	status = checked_calls(r);
	return status == TUTTI_OK && r->shape.coll->same ? check_identity(r) : status;
}

/* Digits of sums that TUTTI_WIRE leaves as they are: with more of them, right results would count as wrong. */
static int digits_left(const struct exact *x)
{
	const char *wire = getenv("TUTTI_WIRE");
	bool sum = x->op == TUTTI_SUM || x->op == TUTTI_AVG, coded = x->type == TUTTI_F32 || x->type == TUTTI_BF16;

	if (!wire || !*wire || !sum || !coded)
		return 0;
	return strcmp(wire, "bf16") == 0 ? 8 : 6;
}

/* Bytes that this rank's buffers take in rows of that size. */
static double wanted(const struct bench *b, size_t bytes)
{
	const struct options *o = b->o;
	enum tutti_dtype type = o->type == ALL ? TUTTI_U8 : (enum tutti_dtype)o->type;
	int op = o->op == ALL ? TUTTI_SUM : o->op, root = o->root == ALL ? 0 : o->root;
	struct shape s;
	double span;

	if (shape_make(&s, o->coll, type, op, root, b->rank, b->n, bytes, false) != 0)
		return 0;
	span = (double)(s.area[0].span + s.area[1].span) * (double)tutti_dtype_size(type);
	shape_free(&s);
	return slots_of(o) * (span + 6 * PAGE);
}

int bench_fit(struct bench *b)
{
	const struct options *o = b->o;
	struct claim mine = {.host = clock_identity(), .available = (double)system_free_memory("")};
	void *all;
	double share_of;
	int status;

	b->max = o->max;
	if (o->coll->in == EXTENT_NONE)
		return TUTTI_OK;
	mine.wanted = wanted(b, o->max);
	status = share(b, &mine, sizeof(mine), &all);
	if (status != TUTTI_OK)
		return status;
	share_of = fit_share(all, b->n);
	free(all);
	if (share_of < 1)
		b->max = (size_t)((double)o->max * share_of);
	if (b->max >= o->min)
		return TUTTI_OK;
	snprintf(b->why, sizeof(b->why),
	         "no memory for rows of %zu bytes (-b), only for %zu; lower -b, -m, --buffers or the number of ranks",
	         o->min, b->max);
	return TUTTI_ENOMEM;
}

int bench_half(struct bench *b, const struct call *call, bool in_place, struct half *h)
{
	struct run r = {.b = b, .in_place = in_place};
	int status = TUTTI_ENOMEM, op = call->coll->reduces ? call->op : EXACT_COPY;

	*h = (struct half){.ran = true};
	r.x = (struct exact){.type = (enum tutti_dtype)call->type, .op = op, .nranks = b->n, .seed = ++b->serial};
	r.x.digits = digits_left(&r.x);
	if (shape_make(&r.shape, call->coll, r.x.type, call->op, call->root, b->rank, b->n, call->bytes, in_place) == 0)
		status = run_open(&r);
	if (status == TUTTI_OK)
		status = renew(&r, op);
	if (status == TUTTI_OK)
		status = timed_loop(&r);
	if (status == TUTTI_OK)
		status = verify(&r);
	if (status == TUTTI_OK)
		status = collect_times(&r, h);
	if (status == TUTTI_OK)
		status = collect_counts(&r, h);
	run_close(&r);
	return status;
}
