/* SPDX-License-Identifier: MIT */
/*
 * The numbers contract: special values, the same bits on all ranks whatever their instruction set and algorithm,
 * results that depend on inputs and ranks alone where that was asked, and how far the small floats are from the true sum.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../algos.h"
#include "../ranks.h"

#define COUNT      6000
#define MOST_RANKS 8

/* ---- formats, written independently of the library's ------------------------------------------------------------- */

struct format {
	enum tutti_dtype type;
	const char *name;
	int mant, bias, bits;
	uint64_t nan;
};

static const struct format formats[] = {
        {TUTTI_F16, "f16", 10, 15, 16, 0x7e00},      {TUTTI_BF16, "bf16", 7, 127, 16, 0x7fc0},
        {TUTTI_F32, "f32", 23, 127, 32, 0x7fc00000}, {TUTTI_F64, "f64", 52, 1023, 64, 0x7ff8000000000000},
        {TUTTI_F8E4M3, "f8e4m3", 3, 7, 8, 0x7f},     {TUTTI_F8E5M2, "f8e5m2", 2, 15, 8, 0x7e},
};
#define FORMATS (sizeof(formats) / sizeof(*formats))

static uint64_t sign_of(const struct format *f)
{
	return 1ull << (f->bits - 1);
}

/* The first code, without its sign, that is not a finite number. */
static uint64_t beyond(const struct format *f)
{
	return f->type == TUTTI_F8E4M3 ? 0x7f : ((1ull << (f->bits - 1 - f->mant)) - 1) << f->mant;
}

static double decode(const struct format *f, uint64_t code)
{
	uint64_t mag = code & (sign_of(f) - 1), one = 1ull << f->mant;
	int exponent = (int)(mag >> f->mant);
	double v = ldexp((double)((mag & (one - 1)) + (exponent ? one : 0)),
	                 (exponent ? exponent : 1) - f->bias - f->mant);
	if (mag >= beyond(f))
		v = mag > beyond(f) || f->type == TUTTI_F8E4M3 ? NAN : INFINITY;
	return code & sign_of(f) ? -v : v;
}

/* Nearest code, ties to even; what rounds beyond the largest number becomes infinity, or NaN where there is none. */
static uint64_t encode(const struct format *f, double v)
{
	uint64_t sign = signbit(v) ? sign_of(f) : 0, mag;
	int e;
	if (isnan(v))
		return f->nan;
	if (v == 0)
		return sign;
	if (isinf(v))
		return f->type == TUTTI_F8E4M3 ? f->nan : sign | beyond(f);
	frexp(v, &e);
	e = e - 1 < 1 - f->bias ? 1 - f->bias : e - 1;
	mag = ((uint64_t)(e + f->bias - 1) << f->mant) + (uint64_t)nearbyint(ldexp(fabs(v), f->mant - e));
	if (mag >= beyond(f))
		return f->type == TUTTI_F8E4M3 ? f->nan : sign | beyond(f);
	return sign | mag;
}

/* a (+) b as the contract says: 8 and 16 bits in f32, rounded once; -0 below +0; NaN wins. divide: AVG's last step. */
static uint64_t fold(const struct format *f, enum tutti_op op, uint64_t a, uint64_t b, int divide)
{
	double x = decode(f, a), y = decode(f, b), r;
	if (isnan(x) || isnan(y))
		return f->nan;
	switch (op) {
	case TUTTI_MIN:
		return encode(f, x < y || (x == y && signbit(x)) ? x : y);
	case TUTTI_MAX:
		return encode(f, x > y || (x == y && !signbit(x)) ? x : y);
	case TUTTI_PROD:
		r = f->bits == 64 ? x * y : (double)((float)x * (float)y);
		break;
	default:
		r = f->bits == 64 ? x + y : (double)((float)x + (float)y);
		r = !divide ? r : f->bits == 64 ? r / divide : (double)((float)r / (float)divide);
	}
	return encode(f, r);
}

static uint64_t load(const struct format *f, const unsigned char *p, size_t i)
{
	uint64_t v = 0;
	for (int k = 0; k < f->bits / 8; k++)
		v |= (uint64_t)p[i * (size_t)f->bits / 8 + (size_t)k] << (8 * k);
	return v;
}

static void store(const struct format *f, unsigned char *p, size_t i, uint64_t v)
{
	for (int k = 0; k < f->bits / 8; k++)
		p[i * (size_t)f->bits / 8 + (size_t)k] = (unsigned char)(v >> (8 * k));
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

#define SPECIALS 18

/* Zeros, subnormals, the least and the largest numbers, ones, infinities and NaNs of several payloads. */
static uint64_t special(const struct format *f, size_t k)
{
	uint64_t mag, inf = beyond(f), one = (uint64_t)f->bias << f->mant, normal = 1ull << f->mant;
	const uint64_t mags[SPECIALS / 2] = {0,
	                                     1,
	                                     normal - 1,
	                                     normal,
	                                     one + 1,
	                                     inf,
	                                     inf - 1,
	                                     f->type == TUTTI_F8E4M3 ? inf : inf + 1,
	                                     f->type == TUTTI_F8E4M3 ? one : inf + (normal >> 1) + (normal >> 2)};
	mag = mags[k / 2 % (SPECIALS / 2)];
	return k % 2 ? mag | sign_of(f) : mag;
}

/* Full significands within a factor of 16 or so, of both signs: sums round at nearly every step. */
static uint64_t noise(const struct format *f, int rank, size_t i)
{
	uint64_t h = ((uint64_t)rank * 1000003 + i + 1) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
	h ^= h >> 32;
	double v = ldexp(1 + ldexp((double)(h >> 12), -52), (int)(h % 4) - 2);
	return encode(f, h & 512 ? -v : v);
}

/* ---- worlds ------------------------------------------------------------------------------------------------------ */

/* The task and the findings of a world: shared by all processes. */
struct job {
	const struct format *f;
	enum tutti_op op;
	int n, skew;
	const char *algo, *coll;
	bool blocks; /* pretend two hosts */
	size_t count;
	unsigned char out[MOST_RANKS][COUNT * 8], kept[COUNT * 8];
};

/* Ranks differ in their kernels: the widest, the plainest, ... */
static void another_isa(int rank, void *arg)
{
	const struct job *job = arg;
	static const char *const isa[] = {
#if defined(__x86_64__)
		"avx512",
		"c",
		"avx2",
#elif defined(__aarch64__)
		"neon",
		"c",
#else
		"c",
#endif
	};
	char host[16];
	setenv("TUTTI_ISA", isa[(size_t)(rank + job->skew) % (sizeof(isa) / sizeof(*isa))], 1);
	snprintf(host, sizeof(host), "host%d", rank / ((job->n + 1) / 2));
	if (job->blocks)
		setenv("TUTTI_HOST", host, 1);
}

static int run(struct job *job, const char *transport, const char *reproducible, int (*fn)(struct tutti_comm *, void *))
{
	char way[64], algo[64], repro[64];
	const char *env[] = {
	        way, repro, "TUTTI_SLOT=1024", "TUTTI_DIRECT=4096", "TUTTI_TIMEOUT=60", job->algo ? algo : NULL, NULL};
	struct ranks how = {.n = job->n, .env = env, .before = another_isa, .seconds = 90};
	how.threads = strcmp(transport, "inproc") == 0;
	snprintf(way, sizeof(way), "TUTTI_TRANSPORT=%s", transport);
	snprintf(repro, sizeof(repro), "TUTTI_REPRODUCIBLE=%s", reproducible);
	if (job->algo)
		snprintf(algo, sizeof(algo), "TUTTI_ALGO=%s:%s", job->coll, job->algo);
	int failed = ranks_run(&how, fn, job);
	if (failed)
		print_error("%s over %s, n = %d, %s\n", job->algo ? job->algo : "default", transport, job->n,
		            job->blocks ? "two hosts" : "one host");
	return failed;
}

static struct job *new_job(int n, const char *coll)
{
	struct job *job = ranks_share(sizeof(*job));
	assert_non_null(job);
	job->n = n;
	job->coll = coll;
	return job;
}

/* After a result was put into job->out: every rank has the same bits. */
static int all_equal(struct job *job, const char *what, size_t count)
{
	if (ranks_meet())
		return 1;
	size_t bytes = count * (size_t)job->f->bits / 8;
	for (int r = 1; r < job->n; r++)
		for (size_t i = 0; memcmp(job->out[r], job->out[0], bytes) != 0 && i < count; i++)
			if (load(job->f, job->out[r], i) != load(job->f, job->out[0], i))
				return ranks_fail("%s, %s, op %d: element %zu is %#llx on rank %d, %#llx on rank 0",
				                  what, job->f->name, job->op, i,
				                  (unsigned long long)load(job->f, job->out[r], i), r,
				                  (unsigned long long)load(job->f, job->out[0], i));
	return ranks_meet();
}

/* ---- special values ---------------------------------------------------------------------------------------------- */

static size_t power(size_t base, int n)
{
	return n ? base * power(base, n - 1) : 1;
}

/* Every combination of special values over the ranks. */
static int specials(struct tutti_comm *c, void *arg)
{
	struct job *job = arg;
	int me = tutti_comm_rank(c), n = job->n;
	size_t count = power(SPECIALS, n);
	static _Thread_local unsigned char in[COUNT * 8];
	for (size_t k = 0; k < FORMATS; k++)
		for (int op = TUTTI_SUM; op <= TUTTI_AVG; op++) {
			const struct format *f = &formats[k];
			for (size_t i = 0; i < count; i++)
				store(f, in, i, special(f, i / power(SPECIALS, me)));
			if (me == 0) {
				job->f = f;
				job->op = (enum tutti_op)op;
			}
			RANK_OK(tutti_allreduce(in, job->out[me], count, f->type, (enum tutti_op)op, c, NULL));
			if (all_equal(job, "special values", count))
				return 1;
			bool fixed = n < 3 || op == TUTTI_MIN || op == TUTTI_MAX; /* otherwise the order counts */
			for (size_t i = 0; fixed && i < count; i++) {
				uint64_t want = special(f, i);
				if (n == 1 && isnan(decode(f, want)))
					want = f->nan;
				for (int r = 1; r < n; r++)
					want = fold(f, (enum tutti_op)op, want, special(f, i / power(SPECIALS, r)),
					            op == TUTTI_AVG ? n : 0);
				if (load(f, job->out[me], i) != want)
					return ranks_fail(
					        "%s, op %d: element %zu, of %#llx and %#llx ..., is %#llx, not %#llx",
					        f->name, op, i, (unsigned long long)special(f, i),
					        (unsigned long long)special(f, i / SPECIALS),
					        (unsigned long long)load(f, job->out[me], i), (unsigned long long)want);
			}
			if (ranks_meet())
				return 1;
		}
	return 0;
}

static void special_values(void **unused)
{
	static const char *const algos[] = {"direct", "ring", "pairwise", "tree"};
	int failed = 0;
	(void)unused;
	for (int n = 1; n <= 3; n++)
		for (size_t a = 0; a < 4; a++) {
			struct job *job = new_job(n, "allreduce");
			job->algo = n == 1 ? NULL : algos[a];
			job->skew = (int)a;
			failed += run(job, "shm", "0", specials);
			ranks_unshare(job, sizeof(*job));
		}
	assert_int_equal(failed, 0);
}

/* ---- whole numbers ----------------------------------------------------------------------------------------------- */

static int integers(struct tutti_comm *c, void *arg)
{
	int me = tutti_comm_rank(c);
	int8_t a[4] = {100, -100, (int8_t)(me - 4), (int8_t)(me ? -128 : 1)}, b[4];
	uint8_t u[2] = {200, (uint8_t)(me == 2 ? 5 : 0)}, v[2];
	int64_t w[1] = {INT64_MAX}, x[1];
	(void)arg;
	RANK_OK(tutti_allreduce(a, b, 4, TUTTI_I8, TUTTI_SUM, c, NULL)); /* of three ranks */
	RANK_CHECK(b[0] == 44 && b[1] == -44 && b[2] == -9 && b[3] == 1);
	RANK_OK(tutti_allreduce(a, b, 4, TUTTI_I8, TUTTI_AVG, c, NULL)); /* of the wrapped sum, towards zero */
	RANK_CHECK(b[0] == 14 && b[1] == -14 && b[2] == -3 && b[3] == 0);
	RANK_OK(tutti_allreduce(a, b, 4, TUTTI_I8, TUTTI_PROD, c, NULL));
	RANK_CHECK(b[0] == (int8_t)(1000000 & 255) && b[2] == -24 && b[3] == 0);
	RANK_OK(tutti_allreduce(u, v, 2, TUTTI_U8, TUTTI_AVG, c, NULL));
	RANK_CHECK(v[0] == (600 & 255) / 3 && v[1] == 1);
	RANK_OK(tutti_allreduce(w, x, 1, TUTTI_I64, TUTTI_SUM, c, NULL));
	RANK_CHECK(x[0] == INT64_MAX - 2);
	return 0;
}

static void integers_wrap(void **unused)
{
	int failed = 0;
	(void)unused;
	for (int i = -1; i < 0 || algos_name(i); i++) {
		const char *algo = i < 0 ? NULL : algos_name(i);
		const int one_host[3] = {0};
		if (algo && !algos_serve(algo, "allreduce", 3, one_host))
			continue;
		struct job *job = new_job(3, "allreduce");
		job->algo = algo;
		failed += run(job, "shm", "0", integers);
		ranks_unshare(job, sizeof(*job));
	}
	assert_int_equal(failed, 0);
}

/* ---- the same bits everywhere ------------------------------------------------------------------------------------ */

/* Sums that round at every step: ranks and repetitions agree. */
static int same_bits(struct tutti_comm *c, void *arg)
{
	struct job *job = arg;
	int me = tutti_comm_rank(c), n = job->n;
	static const enum tutti_op ops[] = {TUTTI_SUM, TUTTI_PROD, TUTTI_AVG};
	static _Thread_local unsigned char in[COUNT * 8], again[COUNT * 8];
	for (size_t k = 0; k < FORMATS; k++)
		for (size_t o = 0; o < 3; o++) {
			const struct format *f = &formats[k];
			size_t count = o == 1 ? 37 : COUNT - 1, part = count / (size_t)n;
			for (size_t i = 0; i < count; i++)
				store(f, in, i, noise(f, me, i));
			if (me == 0) {
				job->f = f;
				job->op = ops[o];
			}
			if (ranks_meet())
				return 1;
			if (strcmp(job->coll, "allreduce") == 0) {
				RANK_OK(tutti_allreduce(in, job->out[me], count, f->type, ops[o], c, NULL));
				RANK_OK(tutti_allreduce(in, again, count, f->type, ops[o], c, NULL));
			} else { /* parts that are gathered show whether two ranks' kernels agree with each other's */
				RANK_OK(tutti_reduce_scatter(in, again, part, f->type, ops[o], c, NULL));
				RANK_OK(tutti_allgather(again, job->out[me], part, f->type, c, NULL));
				RANK_OK(tutti_reduce_scatter(in, in + part * (size_t)me * tutti_dtype_size(f->type),
				                             part, f->type, ops[o], c, NULL));
				RANK_OK(tutti_allgather(in + part * (size_t)me * tutti_dtype_size(f->type), again, part,
				                        f->type, c, NULL));
				count = part * (size_t)n;
			}
			RANK_CHECK(memcmp(again, job->out[me], count * tutti_dtype_size(f->type)) == 0);
			if (all_equal(job, "noise", count))
				return 1;
		}
	return 0;
}

static void all_ranks_have_the_same_bits(void **unused)
{
	static const int sizes[] = {2, 5, 8};
	int failed = 0;
	(void)unused;
	for (int i = -1; i < 0 || algos_name(i); i++)
		for (int k = 0; k < 2; k++)
			for (int blocks = 0; blocks < 2; blocks++) {
				const char *algo = i < 0 ? NULL : algos_name(i),
				           *coll = k ? "reduce_scatter" : "allreduce";
				int n = sizes[(i + 1 + k + blocks) % 3], host[MOST_RANKS];
				for (int r = 0; r < n; r++)
					host[r] = blocks ? r / ((n + 1) / 2) : 0;
				if (algo && !algos_serve(algo, coll, n, host))
					continue;
				struct job *job = new_job(n, coll);
				job->algo = algo;
				job->blocks = blocks;
				job->skew = i + 1;
				failed += run(job, "shm,tcp", "0", same_bits);
				ranks_unshare(job, sizeof(*job));
			}
	assert_int_equal(failed, 0);
}

/* ---- TUTTI_REPRODUCIBLE ------------------------------------------------------------------------------------------ */

/* x0 (+) x1 (+) ... from the left, rounded at each step: what all of it must equal, bit for bit. */
static uint64_t in_rank_order(const struct job *job, size_t i)
{
	uint64_t v = noise(job->f, 0, i);
	for (int r = 1; r < job->n; r++)
		v = fold(job->f, job->op, v, noise(job->f, r, i), job->op == TUTTI_AVG && r == job->n - 1 ? job->n : 0);
	return v;
}

static int result_wrong(const struct job *job, const char *what, const unsigned char *out, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (load(job->f, out, i) != load(job->f, job->kept, first + i))
			return ranks_fail("%s, %s, op %d, %zu elements: element %zu is %#llx, not %#llx", what,
			                  job->f->name, job->op, count, i, (unsigned long long)load(job->f, out, i),
			                  (unsigned long long)load(job->f, job->kept, first + i));
	return 0;
}

/* Any size, collective and root: the same element of the same inputs has the same bits. */
static int fixed_bits(struct tutti_comm *c, void *arg)
{
	struct job *job = arg;
	const struct format *f = job->f;
	static const size_t sizes[] = {1, 7, 100, 1023, COUNT};
	static _Thread_local unsigned char in[COUNT * 8], out[COUNT * 8];
	int me = tutti_comm_rank(c), n = job->n;
	for (size_t i = 0; i < COUNT; i++)
		store(f, in, i, noise(f, me, i));
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		RANK_OK(tutti_allreduce(in, out, sizes[s], f->type, job->op, c, NULL));
		if (result_wrong(job, "allreduce", out, 0, sizes[s]))
			return 1;
		for (int root = 0; root < n; root++) {
			RANK_OK(tutti_reduce(in, out, sizes[s], f->type, job->op, root, c, NULL));
			if (me == root && result_wrong(job, "reduce", out, 0, sizes[s]))
				return 1;
		}
		size_t part = sizes[s] / (size_t)n;
		RANK_OK(tutti_reduce_scatter(in, out, part, f->type, job->op, c, NULL));
		if (result_wrong(job, "reduce_scatter", out, part * (size_t)me, part))
			return 1;
	}
	return 0;
}

static void reproducible_results(void **unused)
{
	static const struct {
		const char *transport, *algo;
		bool blocks;
	} ways[] = {
	        {"inproc", NULL, false},       {"shm", NULL, false},        {"tcp", NULL, false},
	        {"shm,tcp", NULL, true},       {"inproc", "direct", false}, {"shm", "pairwise", false},
	        {"shm,tcp", "pairwise", true},
	};
	int failed = 0;
	(void)unused;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		for (size_t k = i % 2; k < FORMATS; k += 2)
			for (int avg = 0; avg < 2; avg++) {
				struct job *job = new_job(i % 3 ? 5 : 4, "allreduce");
				job->f = &formats[k];
				job->op = avg ? TUTTI_AVG : TUTTI_SUM;
				job->algo = ways[i].algo;
				job->blocks = ways[i].blocks;
				for (size_t e = 0; e < COUNT; e++)
					store(job->f, job->kept, e, in_rank_order(job, e));
				failed += run(job, ways[i].transport, "1", fixed_bits);
				ranks_unshare(job, sizeof(*job));
			}
	assert_int_equal(failed, 0);
}

/* What cannot keep it is refused, and only where it matters. */
static int forced(struct tutti_comm *c, void *arg)
{
	const struct job *job = arg;
	float in[100] = {1}, out[100];
	int32_t a[100] = {1}, b[100];
	int want = algos_reproducible(job->algo) ? TUTTI_OK : TUTTI_EINVAL;
	RANK_STATUS(want, tutti_allreduce(in, out, 100, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_CHECK(want == TUTTI_OK || strstr(tutti_last_error(c), "TUTTI_REPRODUCIBLE"));
	RANK_OK(tutti_allreduce(in, out, 100, TUTTI_F32, TUTTI_MAX, c, NULL));
	RANK_OK(tutti_allreduce(a, b, 100, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_CHECK(b[0] == tutti_comm_size(c));
	return 0;
}

static void what_is_not_reproducible_is_refused(void **unused)
{
	int failed = 0;
	(void)unused;
	for (int i = 0; algos_name(i); i++) {
		const int one_host[4] = {0};
		if (!algos_serve(algos_name(i), "allreduce", 4, one_host))
			continue;
		struct job *job = new_job(4, "allreduce");
		job->algo = algos_name(i);
		failed += run(job, "shm", "1", forced);
		ranks_unshare(job, sizeof(*job));
	}
	assert_int_equal(failed, 0);
}

/* ---- how near to the true sum ------------------------------------------------------------------------------------ */

/*
 * A plan rounds the sum at most n - 1 times, each by at most u times its magnitude, which is at most the sum of all
 * magnitudes; the direct tier adds in f32 and rounds once. Against the f64 sum:
 */
static int near_enough(struct tutti_comm *c, void *arg)
{
	const struct job *job = arg;
	const struct format *f = job->f;
	static _Thread_local unsigned char in[COUNT * 8], out[COUNT * 8];
	int me = tutti_comm_rank(c), n = job->n;
	double u = ldexp(1, -1 - f->mant), worst = 0;
	bool once = strcmp(job->algo, "direct") == 0;
	for (size_t i = 0; i < COUNT; i++)
		store(f, in, i, noise(f, me, i));
	RANK_OK(tutti_allreduce(in, out, COUNT, f->type, TUTTI_SUM, c, NULL));
	for (size_t i = 0; i < COUNT; i++) {
		double sum = 0, all = 0;
		for (int r = 0; r < n; r++) {
			sum += decode(f, noise(f, r, i));
			all += fabs(decode(f, noise(f, r, i)));
		}
		double error = fabs(decode(f, load(f, out, i)) - sum);
		double allowed = once ? u * fabs(sum) + n * ldexp(all, -24) : (n - 1) * u * (1 + n * u) * all;
		if (!(error <= allowed))
			return ranks_fail("%s: element %zu is off by %g, allowed is %g", f->name, i, error, allowed);
		worst = error / all > worst ? error / all : worst;
	}
	RANK_CHECK(worst > 0 || f->bits == 64); /* it did round */
	return 0;
}

static void small_floats_are_near_the_true_sum(void **unused)
{
	int failed = 0;
	(void)unused;
	for (size_t k = 0; k < 2; k++)
		for (int i = 0; algos_name(i); i++) {
			const int one_host[7] = {0};
			if (!algos_serve(algos_name(i), "allreduce", 7, one_host))
				continue;
			struct job *job = new_job(7, "allreduce");
			job->f = &formats[k];
			job->algo = algos_name(i);
			failed += run(job, "shm", "0", near_enough);
			ranks_unshare(job, sizeof(*job));
		}
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(special_values),
	        cmocka_unit_test(integers_wrap),
	        cmocka_unit_test(all_ranks_have_the_same_bits),
	        cmocka_unit_test(reproducible_results),
	        cmocka_unit_test(what_is_not_reproducible_is_refused),
	        cmocka_unit_test(small_floats_are_near_the_true_sum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
