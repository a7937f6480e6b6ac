/* SPDX-License-Identifier: MIT */
/*
 * The public calls' edges: every argument that must be refused, and that a refusal changes nothing; what may be NULL;
 * configurations of older and newer headers; forked children; the v-forms with any counts and places.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../ranks.h"

#define N      3
#define COUNT  8
#define OFF_BY SIZE_MAX / 8 /* elements whose bytes no size_t holds, for f64 and more than one rank */

static void run_as(const struct ranks *how, int (*fn)(struct tutti_comm *, void *))
{
	assert_int_equal(ranks_run(how, fn, NULL), 0);
}

static void run(int n, int (*fn)(struct tutti_comm *, void *))
{
	run_as(&(struct ranks){.n = n, .threads = true}, fn);
}

static int works(struct tutti_comm *c)
{
	int32_t one = 1, sum = 0;
	RANK_OK(tutti_allreduce(&one, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_CHECK(sum == tutti_comm_size(c) && tutti_comm_error(c) == TUTTI_OK);
	return 0;
}

/* ---- strings and numbers ----------------------------------------------------------------------------------------- */

static void names_and_sizes(void **unused)
{
	static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};
	(void)unused;
	assert_int_equal(tutti_version(), TUTTI_VERSION);
	for (int t = 0; t < 14; t++)
		assert_int_equal(tutti_dtype_size((enum tutti_dtype)t), sizes[t]);
	assert_int_equal(tutti_dtype_size((enum tutti_dtype)14), 0);
	assert_int_equal(tutti_dtype_size((enum tutti_dtype) - 1), 0);
	for (int s = TUTTI_OK; s <= TUTTI_EUNSUPPORTED; s++) {
		assert_true(strlen(tutti_strerror(s)) > 0);
		for (int r = TUTTI_OK; r < s; r++)
			assert_string_not_equal(tutti_strerror(r), tutti_strerror(s));
	}
	assert_non_null(tutti_strerror(-1));
	assert_string_equal(tutti_strerror(99), tutti_strerror(12345));
	assert_non_null(tutti_last_error(NULL));
}

/* ---- no communicator --------------------------------------------------------------------------------------------- */

#define REFUSED(call)                                                                                                  \
	do {                                                                                                           \
		assert_int_equal(call, TUTTI_EINVAL);                                                                  \
		assert_true(strlen(tutti_last_error(NULL)) > 0);                                                       \
	} while (0)

static void without_a_communicator(void **unused)
{
	int a[4] = {0}, b[4], done, index;
	size_t counts[1] = {1};
	char text[10];
	struct tutti_request *req = (struct tutti_request *)a;
	struct tutti_comm *out;
	void *p;
	(void)unused;
	REFUSED(tutti_allreduce(a, b, 1, TUTTI_I32, TUTTI_SUM, NULL, &req));
	assert_null(req);
	REFUSED(tutti_allgather(a, b, 1, TUTTI_I32, NULL, NULL));
	REFUSED(tutti_reduce_scatter(a, b, 1, TUTTI_I32, TUTTI_SUM, NULL, NULL));
	REFUSED(tutti_broadcast(a, b, 1, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_reduce(a, b, 1, TUTTI_I32, TUTTI_SUM, 0, NULL, NULL));
	REFUSED(tutti_gather(a, b, 1, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_scatter(a, b, 1, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_alltoall(a, b, 1, TUTTI_I32, NULL, NULL));
	REFUSED(tutti_allgatherv(a, b, counts, NULL, TUTTI_I32, NULL, NULL));
	REFUSED(tutti_reduce_scatterv(a, b, counts, NULL, TUTTI_I32, TUTTI_SUM, NULL, NULL));
	REFUSED(tutti_gatherv(a, b, counts, NULL, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_scatterv(a, b, counts, NULL, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_alltoallv(a, counts, NULL, b, counts, NULL, TUTTI_I32, NULL, NULL));
	REFUSED(tutti_barrier(NULL, NULL));
	REFUSED(tutti_send(a, 1, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_recv(a, 1, TUTTI_I32, 0, NULL, NULL));
	REFUSED(tutti_comm_split(NULL, 0, 0, &out));
	REFUSED(tutti_comm_shrink(NULL, &out));
	REFUSED(tutti_comm_abort(NULL, "why"));
	REFUSED(tutti_comm_destroy(NULL));
	REFUSED(tutti_comm_explain(NULL, "barrier", 0, TUTTI_U8, TUTTI_SUM, text, sizeof(text)));
	REFUSED(tutti_progress(NULL));
	REFUSED(tutti_mem_alloc(NULL, 1, &p));
	REFUSED(tutti_mem_free(NULL, a));
	REFUSED(tutti_mem_register(NULL, a, 1));
	REFUSED(tutti_mem_deregister(NULL, a));
	REFUSED(tutti_unique_id_create(NULL));
	assert_int_equal(tutti_comm_rank(NULL), -1);
	assert_int_equal(tutti_comm_size(NULL), -1);
	assert_int_equal(tutti_comm_error(NULL), TUTTI_EINVAL);
	assert_int_equal(tutti_comm_fd(NULL), -1);

	req = NULL;
	REFUSED(tutti_test(NULL, &done));
	REFUSED(tutti_test(&req, NULL));
	REFUSED(tutti_wait(NULL));
	REFUSED(tutti_wait_all(NULL, 1));
	REFUSED(tutti_wait_all(&req, -1));
	REFUSED(tutti_wait_any(&req, 1, NULL));
	REFUSED(tutti_wait_any(NULL, 1, &index));
	REFUSED(tutti_work(NULL, 0, 1));
	assert_int_equal(tutti_wait(&req), TUTTI_OK);
	assert_int_equal(tutti_test(&req, &done), TUTTI_OK);
	assert_int_equal(done, 1);
	assert_int_equal(tutti_wait_all(NULL, 0), TUTTI_OK);
	assert_int_equal(tutti_wait_any(NULL, 0, &index), TUTTI_OK);
	assert_int_equal(index, -1);
	assert_int_equal(tutti_group_end(), TUTTI_EUSAGE);
}

/* ---- making one -------------------------------------------------------------------------------------------------- */

static int lines;
static void count_line(void *ctx, enum tutti_log_level level, const char *line)
{
	(void)level;
	lines += ctx == &lines && strstr(line, "TUTTI_ALGOO") != NULL;
}

/* Everything here is local: no other rank is waited for. In a process of its own, for the environment's sake. */
static int making(struct tutti_comm *c, void *unused)
{
	struct newer {
		struct tutti_config config;
		size_t more;
	} newer = {TUTTI_CONFIG_INIT, 0};
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct tutti_unique_id id, damaged;
	struct tutti_comm *many[2], *d = c;
	(void)unused;
	RANK_OK(tutti_unique_id_create(&id));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(NULL, 1, &id, 0, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(&d, 0, &id, 0, NULL));
	RANK_CHECK(d == NULL);
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(&d, 2, &id, 2, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(&d, 2, &id, -1, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(&d, 1, NULL, 0, NULL));
	damaged = id;
	memset(damaged.bytes, 0x55, sizeof(damaged.bytes));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create(&d, 1, &damaged, 0, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(NULL, 1, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 0, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_from_env(NULL, NULL));

	config.size = 0;
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 1, &config));
	config.size = 1 << 20;
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 1, &config));
	config.size = offsetof(struct tutti_config, progress); /* an older header's: the rest is not looked at */
	config.transport = "nonsense";
	config.timeout = 10;
	RANK_OK(tutti_comm_create_threads(many, 1, &config));
	RANK_OK(works(many[0]));
	RANK_OK(tutti_comm_destroy(many[0]));
	config.size = sizeof(config);
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 2, &config));
	RANK_CHECK(!many[0] && !many[1] && strstr(tutti_last_error(NULL), "nonsense"));
	config.transport = NULL;
	config.timeout = -1;
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 1, &config));
	newer.config.size = sizeof(newer);
	RANK_OK(tutti_comm_create_threads(many, 1, &newer.config));
	RANK_OK(tutti_comm_destroy(many[0]));
	newer.more = 1;
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_create_threads(many, 1, &newer.config));

	RANK_OK(tutti_comm_create(&d, 1, &id, 0, NULL));
	RANK_CHECK(tutti_comm_rank(d) == 0 && tutti_comm_size(d) == 1);
	RANK_OK(works(d));
	RANK_OK(tutti_comm_destroy(d));
	RANK_OK(tutti_comm_from_env(&d, NULL)); /* without a launcher: alone */
	RANK_CHECK(tutti_comm_size(d) == 1);
	RANK_OK(works(d));
	RANK_OK(tutti_comm_destroy(d));
	return 0;
}

static const struct {
	const char *setting, *named; /* the message names this */
} bad_variables[] = {
        {"TUTTI_SLOT=1", "TUTTI_SLOT"},          {"TUTTI_SLOTS=3", "TUTTI_SLOTS"},
        {"TUTTI_ALGO=allreduce:rings", "rings"}, {"TUTTI_ALGO=allreduces:ring", "allreduces"},
        {"TUTTI_ALGO=barrier:ring", "barrier"},  {"TUTTI_TRANSPORT=carrier-pigeon", "carrier-pigeon"},
        {"TUTTI_TIMEOUT=soon", "TUTTI_TIMEOUT"}, {"TUTTI_WAIT=forever", "TUTTI_WAIT"},
        {"TUTTI_ISA=mmx", "TUTTI_ISA"},          {"TUTTI_REPRODUCIBLE=yes", "TUTTI_REPRODUCIBLE"},
};

static int bad_environment(struct tutti_comm *c, void *unused)
{
	(void)c;
	(void)unused;
	for (size_t i = 0; i < sizeof(bad_variables) / sizeof(*bad_variables); i++) {
		char name[64], *equals;
		struct tutti_comm *many[2];
		snprintf(name, sizeof(name), "%s", bad_variables[i].setting);
		equals = strchr(name, '=');
		*equals = '\0';
		setenv(name, equals + 1, 1);
		int rc = tutti_comm_create_threads(many, 2, NULL);
		if (rc != TUTTI_EINVAL || !strstr(tutti_last_error(NULL), bad_variables[i].named) || many[0] || many[1])
			return ranks_fail("%s: status %d: %s", bad_variables[i].setting, rc, tutti_last_error(NULL));
		unsetenv(name);
	}
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct tutti_comm *alone;
	config.log = count_line;
	config.log_ctx = &lines;
	setenv("TUTTI_ALGOO", "ring", 1);
	RANK_OK(tutti_comm_create_threads(&alone, 1, &config));
	RANK_CHECK(lines > 0);
	RANK_OK(tutti_comm_destroy(alone));
	setenv("TUTTI_RANK", "2", 1);
	setenv("TUTTI_SIZE", "2", 1);
	setenv("TUTTI_ROOT", "127.0.0.1:1", 1);
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_from_env(&alone, NULL));
	RANK_CHECK(alone == NULL && strstr(tutti_last_error(NULL), "TUTTI_RANK"));
	return 0;
}

static void creation_checks_its_arguments(void **unused)
{
	(void)unused;
	run(1, making);
	run(1, bad_environment);
}

/* ---- collectives ------------------------------------------------------------------------------------------------- */

/* One call with everything that can be wrong in it. */
struct args {
	const void *in;
	void *out;
	size_t count;
	enum tutti_dtype type;
	enum tutti_op op;
	int root;
	const size_t *counts, *displs;
};

struct kind {
	const char *name;
	bool op, root, parts, in_parts, out_parts, vector;
	int (*call)(const struct args *a, struct tutti_comm *c, struct tutti_request **req);
};

#define CALL(name, expr)                                                                                               \
	static int call_##name(const struct args *a, struct tutti_comm *c, struct tutti_request **req)                 \
	{                                                                                                              \
		return expr;                                                                                           \
	}
CALL(allreduce, tutti_allreduce(a->in, a->out, a->count, a->type, a->op, c, req))
CALL(allgather, tutti_allgather(a->in, a->out, a->count, a->type, c, req))
CALL(reduce_scatter, tutti_reduce_scatter(a->in, a->out, a->count, a->type, a->op, c, req))
CALL(broadcast, tutti_broadcast(a->in, a->out, a->count, a->type, a->root, c, req))
CALL(reduce, tutti_reduce(a->in, a->out, a->count, a->type, a->op, a->root, c, req))
CALL(gather, tutti_gather(a->in, a->out, a->count, a->type, a->root, c, req))
CALL(scatter, tutti_scatter(a->in, a->out, a->count, a->type, a->root, c, req))
CALL(alltoall, tutti_alltoall(a->in, a->out, a->count, a->type, c, req))
CALL(allgatherv, tutti_allgatherv(a->in, a->out, a->counts, a->displs, a->type, c, req))
CALL(reduce_scatterv, tutti_reduce_scatterv(a->in, a->out, a->counts, a->displs, a->type, a->op, c, req))
CALL(gatherv, tutti_gatherv(a->in, a->out, a->counts, a->displs, a->type, a->root, c, req))
CALL(scatterv, tutti_scatterv(a->in, a->out, a->counts, a->displs, a->type, a->root, c, req))
CALL(alltoallv, tutti_alltoallv(a->in, a->counts, a->displs, a->out, a->counts, a->displs, a->type, c, req))
CALL(send, tutti_send(a->in, a->count, a->type, a->root, c, req))
CALL(recv, tutti_recv(a->out, a->count, a->type, a->root, c, req))

static const struct kind kinds[] = {
        {"allreduce", true, false, false, false, false, false, call_allreduce},
        {"allgather", false, false, true, false, true, false, call_allgather},
        {"reduce_scatter", true, false, true, true, false, false, call_reduce_scatter},
        {"broadcast", false, true, false, false, false, false, call_broadcast},
        {"reduce", true, true, false, false, false, false, call_reduce},
        {"gather", false, true, true, false, true, false, call_gather},
        {"scatter", false, true, true, true, false, false, call_scatter},
        {"alltoall", false, false, true, true, true, false, call_alltoall},
        {"allgatherv", false, false, true, false, true, true, call_allgatherv},
        {"reduce_scatterv", true, false, true, true, false, true, call_reduce_scatterv},
        {"gatherv", false, true, true, false, true, true, call_gatherv},
        {"scatterv", false, true, true, true, false, true, call_scatterv},
        {"alltoallv", false, false, true, true, true, true, call_alltoallv},
        {"send", false, true, false, false, false, false, call_send},
        {"recv", false, true, false, false, false, false, call_recv},
};
#define KINDS (sizeof(kinds) / sizeof(*kinds))

/* Refused in all ways of calling, with *req cleared and a message that names the call. */
static int refused(const struct kind *k, const struct args *a, struct tutti_comm *c, const char *why)
{
	for (int with = 0; with < 2; with++) {
		struct tutti_request *req = (struct tutti_request *)&with;
		int rc = k->call(a, c, with ? &req : NULL);
		if (rc != TUTTI_EINVAL || (with && req) || !strstr(tutti_last_error(c), k->name))
			return ranks_fail("%s with %s: status %d, request %p: %s", k->name, why, rc,
			                  with ? (void *)req : NULL, tutti_last_error(c));
	}
	return 0;
}

/* Each on the rank where the buffer counts: the root is the caller. */
static int arguments(struct tutti_comm *c, void *unused)
{
	double in[N * COUNT + 1] = {0}, out[N * COUNT + 1];
	size_t counts[N] = {COUNT, COUNT, COUNT}, too_many[N] = {COUNT, COUNT, OFF_BY}, far[N] = {0, SIZE_MAX - 2, 8};
	int me = tutti_comm_rank(c), bad = 0;
	(void)unused;
	for (size_t i = 0; i < KINDS; i++) {
		const struct kind *k = &kinds[i];
		const struct args good = {in, out, COUNT, TUTTI_F64, TUTTI_SUM, me, counts, NULL};
		struct args a = good;
		bool recv = strcmp(k->name, "recv") == 0, send = strcmp(k->name, "send") == 0;
		bool only_out = recv, only_in = send, message = recv || send;
		static const int types[] = {-1, 14, 255, TUTTI_DTYPE_MAX_};
		for (size_t t = 0; t < 4; t++, a = good) {
			a.type = (enum tutti_dtype)types[t];
			bad |= refused(k, &a, c, "a bad type");
		}
		static const int ops[] = {-1, 5, 0x100, TUTTI_OP_MAX_};
		for (size_t t = 0; k->op && t < 4; t++, a = good) {
			a.op = (enum tutti_op)ops[t];
			bad |= refused(k, &a, c, "a bad op");
		}
		static const int roots[] = {-1, -2, N, INT32_MAX, INT32_MIN};
		for (size_t t = 0; k->root && t < 5; t++, a = good) {
			a.root = roots[t];
			bad |= refused(k, &a, c, "a bad rank");
		}
		if (!only_out) {
			a.in = NULL;
			bad |= refused(k, &a, c, "in == NULL");
			a = good;
		}
		if (!only_in) {
			a.out = NULL;
			bad |= refused(k, &a, c, "out == NULL");
			a = good;
		}
		if (!message) {
			a.out = in + 1; /* not in any in-place form: rank * COUNT or 0 would be */
			bad |= refused(k, &a, c, "buffers that overlap");
			a = good;
		}
		if (k->in_parts && k->out_parts) {
			a.out = in;
			bad |= refused(k, &a, c, "an in-place form that it has not");
			a = good;
		}
		a.count = SIZE_MAX;
		a.counts = too_many;
		bad |= refused(k, &a, c, "a count beyond memory");
		a = good;
		a.count = k->parts ? SIZE_MAX / 16 : OFF_BY + 1;
		a.displs = far;
		bad |= refused(k, &a, c, "bytes beyond memory");
		a = good;
		if (k->vector) {
			a.counts = NULL;
			int rc = k->call(&a, c, NULL);
			bad |= rc != TUTTI_EINVAL ? ranks_fail("%s without counts: status %d", k->name, rc) : 0;
		}
	}
	return bad || works(c);
}

/* What a rank does not use may be NULL, and so may everything when there is nothing to move. */
static int absent_buffers(struct tutti_comm *c, void *unused)
{
	int me = tutti_comm_rank(c);
	int32_t a[N] = {me, me, me}, b[N] = {-1, -1, -1};
	size_t none[N] = {0};
	(void)unused;
	RANK_OK(tutti_broadcast(me == 1 ? a : NULL, b, 1, TUTTI_I32, 1, c, NULL));
	RANK_CHECK(b[0] == 1);
	RANK_OK(tutti_reduce(a, me == 2 ? b : NULL, 1, TUTTI_I32, TUTTI_SUM, 2, c, NULL));
	RANK_CHECK(me != 2 || b[0] == 3);
	RANK_OK(tutti_gather(a, me == 0 ? b : NULL, 1, TUTTI_I32, 0, c, NULL));
	RANK_CHECK(me != 0 || (b[0] == 0 && b[1] == 1 && b[2] == 2));
	RANK_OK(tutti_scatter(me == 2 ? a : NULL, b, 1, TUTTI_I32, 2, c, NULL));
	RANK_CHECK(b[0] == 2);
	for (size_t i = 0; i < KINDS; i++) {
		const struct args nothing = {NULL, NULL, 0, TUTTI_I32, TUTTI_SUM, 1, none, NULL};
		struct tutti_request *req = NULL;
		if (strcmp(kinds[i].name, "send") == 0 || strcmp(kinds[i].name, "recv") == 0)
			continue;
		RANK_OK(kinds[i].call(&nothing, c, NULL));
		RANK_OK(kinds[i].call(&nothing, c, &req));
		RANK_OK(tutti_wait(&req));
	}
	struct tutti_request *reqs[2];
	RANK_OK(tutti_send(NULL, 0, TUTTI_I32, (me + 1) % N, c, &reqs[0]));
	RANK_OK(tutti_recv(NULL, 0, TUTTI_I32, (me + 2) % N, c, &reqs[1]));
	RANK_OK(tutti_wait_all(reqs, 2));
	return works(c);
}

static int other_arguments(struct tutti_comm *c, void *unused)
{
	struct tutti_request *req = NULL;
	char text[200] = "";
	int index;
	(void)unused;
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_split(c, 0, 0, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_shrink(c, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_mem_alloc(c, 10, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_explain(c, NULL, 0, TUTTI_U8, TUTTI_SUM, text, sizeof(text)));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_explain(c, "send", 0, TUTTI_U8, TUTTI_SUM, text, sizeof(text)));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_explain(c, "allreduce", 0, TUTTI_U8, TUTTI_SUM, NULL, sizeof(text)));
	RANK_STATUS(TUTTI_EINVAL, tutti_comm_explain(c, "allreduce", 0, TUTTI_U8, TUTTI_SUM, text, 0));
	RANK_STATUS(TUTTI_EINVAL,
	            tutti_comm_explain(c, "allreduce", 0, (enum tutti_dtype)50, TUTTI_SUM, text, sizeof(text)));
	RANK_STATUS(TUTTI_EINVAL,
	            tutti_comm_explain(c, "allreduce", 0, TUTTI_U8, (enum tutti_op)50, text, sizeof(text)));
	RANK_OK(tutti_comm_explain(c, "allreduce", 1000, TUTTI_F32, TUTTI_SUM, text, 8));
	RANK_CHECK(strlen(text) == 7);
	RANK_OK(tutti_comm_explain(c, "allreduce", 1000, TUTTI_F32, TUTTI_SUM, text, sizeof(text)));
	RANK_CHECK(strstr(text, "inproc"));
	RANK_OK(tutti_barrier(c, &req));
	RANK_STATUS(TUTTI_EINVAL, tutti_work(req, 0, 0));
	RANK_STATUS(TUTTI_EINVAL, tutti_work(req, 2, 2));
	RANK_STATUS(TUTTI_EINVAL, tutti_work(req, -1, 2));
	RANK_OK(tutti_wait_any(&req, 1, &index));
	RANK_CHECK(index == 0 && !req);
	return works(c);
}

static void calls_check_their_arguments(void **unused)
{
	(void)unused;
	run(N, arguments);
	run(N, absent_buffers);
	run(N, other_arguments);
}

/* ---- the v-forms ------------------------------------------------------------------------------------------------- */

#define PARTS 4
#define ROOM  4096

/* Uneven counts with zeros among them; places packed, or in reverse order with gaps, and of an empty part nowhere. */
struct places {
	size_t counts[PARTS], displs[PARTS];
	const size_t *given; /* NULL: packed */
};

static void place(struct places *p, int n, int round)
{
	static const size_t some[] = {0, 1, 7, 12, 13, 100, 333, 0, 5};
	size_t at = 0;
	for (int i = 0; i < n; i++)
		p->counts[i] = some[(size_t)(i * 5 + round * 3) % 9];
	p->given = round % 2 ? p->displs : NULL;
	for (int k = 0; k < n; k++) {
		int i = round % 2 ? n - 1 - k : k;
		p->displs[i] = p->given && !p->counts[i] ? SIZE_MAX - (size_t)i : at;
		at += p->counts[i] + (round % 2 ? 3 : 0);
	}
}

static int32_t value(int from, int to, size_t i)
{
	return from * 100000 + to * 10000 + (int32_t)i;
}

/* The part at `at` is `count` values; everything else was never touched, which the caller sees from `left`. */
static int part_wrong(int32_t *out, size_t at, size_t count, int from, int to, const char *what)
{
	for (size_t i = 0; i < count; i++) {
		if (out[at + i] != value(from, to, i))
			return ranks_fail("%s: element %zu from %d to %d is %d", what, i, from, to, out[at + i]);
		out[at + i] = -1;
	}
	return 0;
}

static int touched(int32_t *out, const char *what)
{
	for (size_t i = 0; i < ROOM; i++)
		if (out[i] != -1)
			return ranks_fail("%s: element %zu lies in no part and is %d", what, i, out[i]);
	return 0;
}

static int uneven(struct tutti_comm *c, void *unused)
{
	static _Thread_local int32_t in[ROOM], out[ROOM];
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), bad = 0;
	(void)unused;
	memset(out, -1, sizeof(out));
	for (int round = 0; round < 8 && !bad; round++) {
		struct places p, mine;
		int root = round % n;
		place(&p, n, round);
		for (size_t i = 0; i < p.counts[me]; i++)
			in[i] = value(me, 0, i);
		RANK_OK(tutti_allgatherv(in, out, p.counts, p.given, TUTTI_I32, c, NULL));
		for (int r = 0; r < n; r++)
			bad |= part_wrong(out, p.displs[r], p.counts[r], r, 0, "allgatherv");
		bad |= touched(out, "allgatherv");
		RANK_OK(tutti_gatherv(in, me == root ? out : NULL, p.counts, p.given, TUTTI_I32, root, c, NULL));
		for (int r = 0; r < n && me == root; r++)
			bad |= part_wrong(out, p.displs[r], p.counts[r], r, 0, "gatherv");
		bad |= touched(out, "gatherv");

		for (int r = 0; r < n; r++)
			for (size_t i = 0; i < p.counts[r]; i++)
				in[p.displs[r] + i] = value(me, r, i);
		RANK_OK(tutti_scatterv(me == root ? in : NULL, out, p.counts, p.given, TUTTI_I32, root, c, NULL));
		bad |= part_wrong(out, 0, p.counts[me], root, me, "scatterv") || touched(out, "scatterv");
		RANK_OK(tutti_reduce_scatterv(in, out, p.counts, p.given, TUTTI_I32, TUTTI_MAX, c, NULL));
		bad |= part_wrong(out, 0, p.counts[me], n - 1, me, "reduce_scatterv") ||
		       touched(out, "reduce_scatterv");

		/* rank a sends to b what place() gives rank b in round + a; so b receives from a the same */
		place(&p, n, round + me);
		place(&mine, n, round);
		size_t at = 0;
		for (int r = 0; r < n; r++) {
			struct places theirs;
			place(&theirs, n, round + r);
			mine.counts[r] = theirs.counts[me];
			mine.displs[r] = mine.given && !mine.counts[r] ? SIZE_MAX / 4 : at;
			at += mine.counts[r] + (round % 2 ? 2 : 0);
			for (size_t i = 0; i < p.counts[r]; i++)
				in[p.displs[r] + i] = value(me, r, i);
		}
		RANK_OK(tutti_alltoallv(in, p.counts, p.given, out, mine.counts, round % 2 ? mine.displs : NULL,
		                        TUTTI_I32, c, NULL));
		for (int r = 0; r < n; r++)
			bad |= part_wrong(out, mine.displs[r], mine.counts[r], r, me, "alltoallv");
		bad |= touched(out, "alltoallv");
	}
	return bad;
}

static void v_forms_take_any_counts_and_places(void **unused)
{
	static const char *const ways[] = {"TUTTI_TRANSPORT=inproc", "TUTTI_TRANSPORT=shm", "TUTTI_TRANSPORT=tcp"};
	(void)unused;
	for (int i = 0; i < 3; i++)
		for (int n = 1; n <= PARTS; n++) {
			const char *env[] = {ways[i], "TUTTI_SLOT=128", "TUTTI_SLOTS=2", NULL};
			run_as(&(struct ranks){.n = n, .threads = i == 0, .env = env}, uneven);
		}
}

/* ---- forks ------------------------------------------------------------------------------------------------------- */

/* A child must not touch its parent's communicator, and does no harm by ending it. */
static int in_a_child(struct tutti_comm *c, void *unused)
{
	int status = -1, value_ = 0;
	void *p;
	struct tutti_request *req;
	(void)unused;
	RANK_OK(tutti_barrier(c, NULL));
	pid_t pid = fork();
	if (pid == 0) {
		bool right = tutti_barrier(c, NULL) == TUTTI_EUSAGE &&
		             tutti_allreduce(&status, &value_, 1, TUTTI_I32, TUTTI_SUM, c, &req) == TUTTI_EUSAGE &&
		             !req && tutti_mem_alloc(c, 10, &p) == TUTTI_EUSAGE && tutti_comm_fd(c) == -1 &&
		             tutti_comm_abort(c, "by a child") == TUTTI_EUSAGE &&
		             strstr(tutti_last_error(NULL), "fork") && tutti_comm_destroy(c) == TUTTI_OK;
		_exit(right ? 0 : 1);
	}
	RANK_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	RANK_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return works(c);
}

static void children_are_kept_out(void **unused)
{
	static const char *const ways[] = {"TUTTI_TRANSPORT=shm", "TUTTI_TRANSPORT=tcp"};
	(void)unused;
	for (int i = 0; i < 2; i++) {
		const char *env[] = {ways[i], NULL};
		run_as(&(struct ranks){.n = 2, .env = env}, in_a_child);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(names_and_sizes),
	        cmocka_unit_test(without_a_communicator),
	        cmocka_unit_test(creation_checks_its_arguments),
	        cmocka_unit_test(calls_check_their_arguments),
	        cmocka_unit_test(v_forms_take_any_counts_and_places),
	        cmocka_unit_test(children_are_kept_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
