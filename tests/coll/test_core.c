/* SPDX-License-Identifier: MIT */
/*
 * What the core must survive: communicators that end while others still begin, calls inside groups that need an answer at
 * once, requests that outlive what they ran on, ranks placed as threads of several processes. And what is only seen inside: what
 * a communicator keeps, and how it was set up.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/comm/comm.h"
#include "../fabrics.h"
#include "../ranks.h"

static void run(const char *transport, int n, bool keep, const char *variable, int (*fn)(struct tutti_comm *, void *))
{
	char name[64];
	const char *env[] = {name, "TUTTI_TIMEOUT=20", variable, NULL};
	struct ranks how = {
	        .n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 60, .keep = keep};
	snprintf(name, sizeof(name), "TUTTI_TRANSPORT=%s", transport);
	if (ranks_run(&how, fn, NULL) != 0)
		fail_msg("over %s", transport);
}

static void run_near(int n, bool keep, const char *variable, int (*fn)(struct tutti_comm *, void *))
{
	run("inproc", n, keep, variable, fn);
	run("shm", n, keep, variable, fn);
}

/* ---- early leavers -------------------------------------------------------------------------------------------------- */

/* An empty message is a message as well: its sender may leave before the others are done. */
static int gather_nothing(struct tutti_comm *c, void *arg)
{
	(void)arg;
	size_t counts[8] = {0};
	for (int i = 0; i < 20; i++) {
		struct tutti_comm *part;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		RANK_OK(tutti_gatherv(NULL, NULL, counts, NULL, TUTTI_F32, i % 3, part, NULL));
		RANK_OK(tutti_comm_destroy(part));
	}
	return 0;
}

static void test_gather_nothing(void **state)
{
	(void)state;
	run_near(3, false, NULL, gather_nothing);
}

/* The root of a broadcast may leave as soon as it has shown its data; the others still look for each other. */
static int broadcast_and_leave(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int n = tutti_comm_size(c);
	for (int i = 0; i < 60; i++) {
		struct tutti_comm *part;
		int root = n - 1 - i % n, value = tutti_comm_rank(c) == root ? i : -1;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		RANK_OK(tutti_broadcast(&value, &value, 1, TUTTI_I32, root, part, NULL));
		RANK_OK(tutti_comm_destroy(part));
		RANK_CHECK(value == i);
	}
	return 0;
}

static void test_broadcast_and_leave(void **state)
{
	(void)state;
	run_near(4, false, NULL, broadcast_and_leave);
}

static int open_files(void)
{
	int n = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* A connection made for a receive that nobody answers ends with its communicator, on both sides. */
static int leave_receives_open(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int n = tutti_comm_size(c), before = 0;
	float x[9];
	for (int i = 0; i < 60; i++) {
		struct tutti_comm *part;
		struct tutti_request *req;
		before = i == 10 ? open_files() : before;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		RANK_OK(tutti_recv(x, 9, TUTTI_F32, (tutti_comm_rank(c) + 1) % n, part, &req));
		RANK_OK(tutti_comm_destroy(part));
		RANK_STATUS(TUTTI_EABORTED, tutti_wait(&req));
	}
	int after = open_files();
	return after > before + 10 ? ranks_fail("%d descriptors became %d", before, after) : 0;
}

static void test_leave_receives_open(void **state)
{
	(void)state;
	run("tcp", 3, false, NULL, leave_receives_open);
}

/* ---- answers inside groups, requests after the end --------------------------------------------------------------------- */

static int split_in_group(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int rank = tutti_comm_rank(c), mine = rank + 1, sum = 0, total = 0;
	struct tutti_comm *part;
	RANK_OK(tutti_group_begin());
	RANK_OK(tutti_allreduce(&mine, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_comm_split(c, rank / 2, 0, &part));
	RANK_OK(tutti_allreduce(&mine, &total, 1, TUTTI_I32, TUTTI_SUM, part, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_broadcast(&mine, &mine, 1, TUTTI_I32, 77, c, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_group_end());
	RANK_CHECK(tutti_comm_size(part) == 2);
	RANK_CHECK(sum == 10 && total == (rank < 2 ? 3 : 7));
	return tutti_comm_destroy(part);
}

static void test_split_in_group(void **state)
{
	(void)state;
	run_near(4, false, NULL, split_in_group);
}

/* The request has failed already when its communicator goes: what it has to say is its own. */
static int outlive(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int rank = tutti_comm_rank(c), value = 0, done = 0;
	struct tutti_request *failed = NULL, *left = NULL;
	struct tutti_comm *whole, *part;
	RANK_OK(tutti_comm_split(c, 0, 0, &whole));
	RANK_OK(tutti_comm_split(c, 0, 0, &part));
	RANK_OK(tutti_recv(&value, 1, TUTTI_I32, 1 - rank, whole, &failed));
	RANK_OK(tutti_recv(&value, 1, TUTTI_I32, 1 - rank, part, &left));
	RANK_OK(tutti_test(&failed, &done));
	RANK_CHECK(!done);
	if (ranks_meet())
		return 1;
	RANK_OK(tutti_comm_abort(whole, "enough"));
	RANK_STATUS(TUTTI_EABORTED, tutti_progress(whole));
	RANK_OK(tutti_comm_destroy(whole));
	RANK_OK(tutti_comm_destroy(part));
	RANK_STATUS(TUTTI_EABORTED, tutti_wait(&failed));
	RANK_CHECK(strstr(tutti_last_error(NULL), "enough") && !failed);
	RANK_STATUS(TUTTI_EABORTED, tutti_test(&left, &done));
	RANK_CHECK(strstr(tutti_last_error(NULL), "destroyed") && done && !left);
	return 0;
}

static void test_outlive(void **state)
{
	(void)state;
	run_near(2, false, NULL, outlive);
}

/*
 * The receiver may be about to read the sender's memory when the sender's call ends early: it must not read what the sender
 * does with its memory then.
 */
static int take_back(struct tutti_comm *c, void *arg)
{
	(void)arg;
	enum { BYTES = 200000 };
	int rank = tutti_comm_rank(c), done = 0;
	uint8_t *data = malloc(BYTES);
	struct tutti_request *req = NULL;
	struct tutti_comm *part;
	RANK_CHECK(data);
	memset(data, rank ? 0 : 1, BYTES);
	RANK_OK(tutti_comm_split(c, 0, 0, &part));
	if (rank == 0) {
		RANK_OK(tutti_send(data, 1, TUTTI_U8, 1, part, NULL)); /* connects */
		RANK_OK(tutti_send(data, BYTES, TUTTI_U8, 1, part, &req));
		RANK_OK(tutti_test(&req, &done));
		RANK_CHECK(!done);
		RANK_OK(tutti_comm_destroy(part));
		RANK_STATUS(TUTTI_EABORTED, tutti_wait(&req));
		memset(data, 2, BYTES);
		free(data);
		return ranks_meet();
	}
	RANK_OK(tutti_recv(data, 1, TUTTI_U8, 0, part, NULL));
	if (ranks_meet())
		return 1;
	RANK_STATUS(TUTTI_EABORTED, tutti_recv(data, BYTES, TUTTI_U8, 0, part, NULL));
	free(data);
	return tutti_comm_destroy(part);
}

static void test_take_back(void **state)
{
	(void)state;
	run_near(2, false, NULL, take_back);
}

/* ---- calls that differ, with more calls behind them ---------------------------------------------------------------------- */

static int differ_early(struct tutti_comm *c, void *arg)
{
	(void)arg;
	static float in[4096], out[4][4096];
	struct tutti_request *r[4];
	int n = 0; /* on a slow machine the verdict comes between two of the calls, and the next one gets it */
	while (n < 4 && tutti_allreduce(in, out[n], n == 0 && tutti_comm_rank(c) == 1 ? 4096 : 16, TUTTI_F32, TUTTI_SUM,
	                                c, &r[n]) == TUTTI_OK)
		n++;
	RANK_STATUS(TUTTI_EMISMATCH, tutti_wait_all(r, n));
	return 0;
}

static void test_differ_early(void **state)
{
	(void)state;
	run_near(2, false, "TUTTI_DIRECT=1024", differ_early);
}

/* ---- ranks as threads of several processes ------------------------------------------------------------------------------- */

struct placed {
	struct tutti_unique_id id;
	int rank, failed;
	pthread_t thread;
};

#define EACH  2 /* ranks of a process */
#define LARGE 50000

static void *placed_rank(void *arg)
{
	struct placed *p = arg;
	struct tutti_comm *c;
	int n = 2 * EACH, total = n * (n + 1) / 2, *in = malloc(LARGE * sizeof(int)),
	    *out = malloc(LARGE * sizeof(int));
	p->failed = 1;
	if (!in || !out || tutti_comm_create(&c, n, &p->id, p->rank, NULL) != TUTTI_OK)
		return NULL;
	for (int i = 0; i < LARGE; i++)
		in[i] = p->rank + 1;
	p->failed = 0;
	for (size_t count = 1; count <= LARGE; count = count * 7 + 1) {
		p->failed |= tutti_allreduce(in, out, count, TUTTI_I32, TUTTI_SUM, c, NULL) != TUTTI_OK;
		p->failed |= out[0] != total || out[count - 1] != total;
		p->failed |= tutti_reduce(in, out, count, TUTTI_I32, TUTTI_SUM, 1, c, NULL) != TUTTI_OK;
	}
	p->failed |= tutti_comm_destroy(c) != TUTTI_OK;
	free(in);
	free(out);
	return NULL;
}

static int several_processes(struct tutti_comm *c, void *arg)
{
	(void)arg;
	struct placed p[EACH];
	int failed = 0, rank = tutti_comm_rank(c);
	if (rank == 0)
		RANK_OK(tutti_unique_id_create(&p[0].id));
	RANK_OK(tutti_broadcast(&p[0].id, &p[0].id, sizeof(p[0].id), TUTTI_U8, 0, c, NULL));
	for (int i = 0; i < EACH; i++) {
		p[i] = (struct placed){.id = p[0].id, .rank = rank * EACH + i};
		RANK_CHECK(pthread_create(&p[i].thread, NULL, placed_rank, &p[i]) == 0);
	}
	for (int i = 0; i < EACH; i++) {
		pthread_join(p[i].thread, NULL);
		failed += p[i].failed;
	}
	RANK_CHECK(!failed);
	return 0;
}

static void test_several_processes(void **state)
{
	(void)state;
	run("shm", 2, false, NULL, several_processes);
	run("inproc,shm", 2, false, NULL, several_processes);
	run("inproc,tcp", 2, false, NULL, several_processes);
}

/* ---- arguments at the edge --------------------------------------------------------------------------------------------- */

/* More ranks than the direct tier's buffer has lines. */
static int many_in_a_small_buffer(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int n = tutti_comm_size(c), rank = tutti_comm_rank(c);
	int64_t in[24 * 9], out[9];
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < n * 9; i++)
			in[i] = (rank + 1) * (i + round);
		RANK_OK(tutti_reduce_scatter(in, out, 9, TUTTI_I64, TUTTI_SUM, c, NULL));
		for (int i = 0; i < 9; i++)
			RANK_CHECK(out[i] == (int64_t)n * (n + 1) / 2 * (rank * 9 + i + round));
	}
	return 0;
}

static void test_many_in_a_small_buffer(void **state)
{
	(void)state;
	run("inproc", 24, false, "TUTTI_DIRECT=64", many_in_a_small_buffer);
}

static int at_the_edge(struct tutti_comm *c, void *arg)
{
	(void)arg;
	void *p;
	int rank = tutti_comm_rank(c), value[4] = {0}, back[4];
	size_t send[2] = {1, 1}, receive[2] = {1, 1};
	RANK_STATUS(TUTTI_ENOMEM, tutti_mem_alloc(c, SIZE_MAX, &p));
	RANK_STATUS(TUTTI_ENOMEM, tutti_mem_alloc(c, SIZE_MAX / 2, &p));
	receive[rank] = 2; /* to oneself */
	RANK_STATUS(TUTTI_EINVAL, tutti_alltoallv(value, send, NULL, back, receive, NULL, TUTTI_I32, c, NULL));
	RANK_STATUS(TUTTI_EINVAL, tutti_allreduce(value, value, SIZE_MAX / 4, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_mem_alloc(c, 0, &p));
	return tutti_mem_free(c, p);
}

static void test_at_the_edge(void **state)
{
	(void)state;
	run_near(2, false, NULL, at_the_edge);
}

/* A child may neither move its parent's requests nor disturb them. */
static int forked_child(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int rank = tutti_comm_rank(c), value = rank + 1, sum = 0, status = -1;
	struct tutti_request *req;
	RANK_CHECK(tutti_comm_fd(c) >= 0);
	if (rank == 1 && ranks_meet())
		return 1;
	RANK_OK(tutti_allreduce(&value, &sum, 1, TUTTI_I32, TUTTI_SUM, c, &req));
	if (rank == 0) { /* its peer has not begun */
		pid_t child = fork();
		if (child == 0) {
			int bad = tutti_wait(&req) != TUTTI_EUSAGE || !req;
			bad |= tutti_comm_destroy(c) != TUTTI_OK;
			bad |= tutti_wait(&req) != TUTTI_EABORTED;
			_exit(bad);
		}
		RANK_CHECK(child > 0 && waitpid(child, &status, 0) == child);
		RANK_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		if (ranks_meet())
			return 1;
	}
	RANK_OK(tutti_wait(&req));
	RANK_CHECK(sum == 3);
	return 0;
}

static void test_forked_child(void **state)
{
	(void)state;
	run("shm", 2, false, NULL, forked_child);
}

/* Where a process may not make files as large as the shared memory, a network takes its place, and no signal comes. */
static void small_files(int rank, void *arg)
{
	(void)arg;
	struct rlimit limit = {1 << 20, 1 << 20};
	if (rank == 0)
		(void)setrlimit(RLIMIT_FSIZE, &limit);
}

static int sum_of_ranks(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int value = tutti_comm_rank(c), sum = 0;
	RANK_OK(tutti_allreduce(&value, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL));
	RANK_CHECK(sum == 3);
	return 0;
}

static void test_small_files(void **state)
{
	(void)state;
	struct ranks how = {.n = 3, .before = small_files};
	assert_int_equal(ranks_run(&how, sum_of_ranks, NULL), 0);
}

/* ---- what is kept ----------------------------------------------------------------------------------------------------- */

static int kept(const struct tutti_comm *c, size_t count)
{
	int n = 0;
	for (const struct prepared *p = c->prepared.even.oldest; p; p = p->younger)
		n += p->args.count == count;
	return n;
}

/* Calls that differ in anything but their buffers, as those of a model's layer do. */
static int calls_of_one_count(struct tutti_comm *c, void *arg)
{
	enum { COUNT = 4096 };
	static _Thread_local float in[2 * COUNT], out[2 * COUNT];
	int peer = 1 - tutti_comm_rank(c);
	(void)arg;
	RANK_OK(tutti_allreduce(in, out, COUNT, TUTTI_F32, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_allreduce(in, out, COUNT, TUTTI_BF16, TUTTI_SUM, c, NULL));
	RANK_OK(tutti_allgather(in, out, COUNT, TUTTI_F32, c, NULL));
	RANK_OK(tutti_broadcast(in, out, COUNT, TUTTI_F32, 0, c, NULL));
	RANK_OK(tutti_broadcast(in, out, COUNT, TUTTI_F32, 1, c, NULL));
	tutti_group_begin();
	RANK_OK(tutti_send(in, COUNT, TUTTI_F32, peer, c, NULL));
	RANK_OK(tutti_recv(out, COUNT, TUTTI_F32, peer, c, NULL));
	RANK_OK(tutti_group_end());
	RANK_CHECK(kept(c, COUNT) == 7);
	return 0;
}

static void test_prepared_calls_stand_side_by_side(void **state)
{
	(void)state;
	run_near(2, false, NULL, calls_of_one_count);
}

/* Shapes that an engine alternates, and those that once fell into one place of the table. */
static int shape(struct tutti_comm *c, int i)
{
	static _Thread_local float in[2 * 16384], out[2 * 16384];
	static const size_t counts[] = {1,    2,    7,    8,    11,   12,   256,  511,  768,  896,  1024,
	                                1536, 2048, 3072, 4096, 4864, 5120, 6144, 8192, 8960, 11008};
	size_t n = counts[i / 3];
	switch (i % 3) {
	case 0:
		return tutti_allreduce(in, out, n, TUTTI_F32, TUTTI_SUM, c, NULL);
	case 1:
		return tutti_allreduce(in, out, n, n == 11 ? TUTTI_I8 : TUTTI_BF16, TUTTI_SUM, c, NULL);
	default:
		return i == 62 ? tutti_barrier(c, NULL) : tutti_allgather(in, out, n, TUTTI_BF16, c, NULL);
	}
}

static int v_shape(struct tutti_comm *c, int i)
{
	static _Thread_local float in[4096], out[4096];
	size_t counts[2] = {(size_t)i * 8, (size_t)i * 8 + (size_t)(i % 3)}, displs[2] = {1024, 0};
	const size_t *places = i % 2 ? displs : NULL;
	switch (i % 4) {
	case 0:
		return tutti_allgatherv(in, out, counts, places, TUTTI_F32, c, NULL);
	case 1:
		return tutti_reduce_scatterv(in, out, counts, places, TUTTI_F32, TUTTI_SUM, c, NULL);
	case 2:
		return tutti_gatherv(in, out, counts, places, TUTTI_F32, 0, c, NULL);
	default:
		counts[0] = counts[1];
		return tutti_alltoallv(in, counts, NULL, out, counts, places, TUTTI_F32, c, NULL);
	}
}

/* However many of 64 shapes take turns, each is prepared once. */
static int shapes_in_turn(struct tutti_comm *c, void *arg)
{
	(void)arg;
	uint64_t made = c->prepared.even.made;
	for (int i = 0; i < 3 * 63; i++)
		RANK_OK(shape(c, i % 63));
	RANK_CHECK(c->prepared.even.made - made == 63);
	for (int i = 0; i < 3 * 64; i++)
		RANK_OK(v_shape(c, i % 64));
	RANK_CHECK(c->prepared.vector.made == 64);
	return 0;
}

static void test_no_shape_evicts_another(void **state)
{
	(void)state;
	run_near(2, false, NULL, shapes_in_turn);
}

/* Parts of all lengths go the way of even ones, and end where the caller's displacements say. */
static int v_forms(struct tutti_comm *c, size_t most, bool apart)
{
	static int32_t in[400000], out[400000];
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	size_t counts[8], displs[8], at = 0;
	for (int r = 0; r < n; r++)
		counts[r] = r == 1 ? 0 : most / (size_t)(r + 1);
	for (int k = 0; k < n; k++) { /* apart: in the opposite order, with holes */
		int r = apart ? n - 1 - k : k;
		displs[r] = at;
		at += counts[r] + (apart ? 3 : 0);
	}
	memset(out, 0xff, sizeof(out));
	for (size_t i = 0; i < counts[me]; i++)
		in[i] = me * 1000 + (int32_t)i;
	RANK_OK(tutti_allgatherv(in, out, counts, apart ? displs : NULL, TUTTI_I32, c, NULL));
	for (int r = 0; r < n; r++)
		for (size_t i = 0; i < counts[r]; i++)
			RANK_CHECK(out[displs[r] + i] == r * 1000 + (int32_t)i);
	RANK_CHECK(!apart || out[displs[0] + counts[0]] == -1);
	for (size_t i = 0; i < at; i++)
		in[i] = -5;
	for (int r = 0; r < n; r++)
		for (size_t i = 0; i < counts[r]; i++)
			in[displs[r] + i] = me + r * 1000 + (int32_t)i;
	struct tutti_request *req = NULL;
	RANK_OK(tutti_reduce_scatterv(in, out, counts, apart ? displs : NULL, TUTTI_I32, TUTTI_SUM, c, &req));
	size_t mine = counts[me];
	memset(counts, 0, sizeof(counts)); /* the arrays are the caller's again */
	memset(displs, 0, sizeof(displs));
	RANK_OK(tutti_wait(&req));
	for (size_t i = 0; i < mine; i++)
		RANK_CHECK(out[i] == n * (n - 1) / 2 + n * (me * 1000 + (int32_t)i));
	return 0;
}

static int v_forms_of_all_lengths(struct tutti_comm *c, void *arg)
{
	static const size_t most[] = {1, 2, 4, 100, 5000, 40000, 150000};
	(void)arg;
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++)
		for (int apart = 0; apart < 2; apart++)
			if (v_forms(c, most[i], apart) != 0)
				return 1;
	for (const struct prepared *p = c->prepared.vector.oldest; p; p = p->younger)
		RANK_CHECK(p->kind == RUN_DIRECT);
	return 0;
}

static void test_v_forms_take_the_direct_way(void **state)
{
	(void)state;
	run("shm", 2, false, NULL, v_forms_of_all_lengths);
	run("shm", 4, false, NULL, v_forms_of_all_lengths);
}

/* A program whose counts never repeat: the table stays bounded, and the shapes between them work on. */
static int endless_shapes(struct tutti_comm *c, void *arg)
{
	static _Thread_local int32_t in[8192], out[2 * 8192];
	(void)arg;
	for (size_t i = 1; i <= 5000; i++) {
		int32_t mine = tutti_comm_rank(c), sum = 0;
		size_t counts[2] = {i, i + 1};
		RANK_OK(tutti_allreduce(in, out, i, TUTTI_I32, TUTTI_SUM, c, NULL));
		RANK_OK(tutti_allgatherv(in, out, counts, NULL, TUTTI_I32, c, NULL));
		RANK_OK(tutti_allreduce(&mine, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL));
		RANK_CHECK(sum == 1);
	}
	const struct prepared_table *tables[] = {&c->prepared.even, &c->prepared.vector};
	for (int i = 0; i < 2; i++)
		RANK_CHECK(tables[i]->bytes <= PREPARED_BYTES && tables[i]->made >= 5000);
	return 0;
}

/* Requests outlive the places of their calls in the table, and let go of them in the end. */
static int many_shapes_in_flight(struct tutti_comm *c, void *arg)
{
	enum { N = 4000, MOST = 64 };
	static struct tutti_request *r[2][N];
	static int32_t out[2][N][2 * MOST];
	int me = tutti_comm_rank(c), in[MOST];
	(void)arg;
	for (int i = 0; i < MOST; i++)
		in[i] = 1000 * me + i;
	if (me == 1 && ranks_meet()) /* all of rank 0's wait */
		return 1;
	for (int i = 0; i < N; i++) {
		size_t counts[2] = {1 + (size_t)(i % MOST), 1 + (size_t)(i / MOST)};
		RANK_OK(tutti_allgatherv(in, out[me][i], counts, NULL, TUTTI_I32, c, &r[me][i]));
	}
	if (me == 0 && ranks_meet())
		return 1;
	RANK_OK(tutti_wait_all(r[me], N));
	for (int i = 0; i < N; i++) {
		int first = 1 + i % MOST, second = 1 + i / MOST;
		RANK_CHECK(out[me][i][0] == 0 && out[me][i][first - 1] == first - 1 && out[me][i][first] == 1000 &&
		           out[me][i][first + second - 1] == 1000 + second - 1);
	}
	for (const struct prepared *p = c->prepared.vector.oldest; p; p = p->younger)
		RANK_CHECK(p->held == 0);
	RANK_CHECK(c->prepared.vector.made == N && c->prepared.vector.count < N);
	return 0;
}

static void test_requests_hold_their_calls(void **state)
{
	(void)state;
	run("inproc", 2, false, NULL, many_shapes_in_flight);
	run("tcp", 2, false, NULL, many_shapes_in_flight);
}

static void test_prepared_calls_are_bounded(void **state)
{
	(void)state;
	run_near(2, false, NULL, endless_shapes);
}

/* ---- a communicator's memory ------------------------------------------------------------------------------------------ */

#define KIB ((int64_t)1024)

/* Bytes that are committed of the memory that this host's ranks share. */
static int64_t committed(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		char name[64], path[64];
		struct stat st;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, name, sizeof(name) - 1);
		name[n > 0 ? n : 0] = '\0';
		if (strstr(name, "memfd:tutti") && fstat(fd, &st) == 0)
			return (int64_t)st.st_blocks * 512;
	}
	return -1;
}

static int check_sum(struct tutti_comm *c, size_t count)
{
	static int32_t in[100000], out[100000];
	int n = tutti_comm_size(c);
	for (size_t i = 0; i < count; i++)
		in[i] = tutti_comm_rank(c) + (int32_t)i;
	RANK_OK(tutti_allreduce(in, out, count, TUTTI_I32, TUTTI_SUM, c, NULL));
	for (size_t i = 0; i < count; i++)
		RANK_CHECK(out[i] == n * (n - 1) / 2 + n * (int32_t)i);
	return 0;
}

/* More of them, one after the other, than a rank's directory has entries. */
static int split_use_free(struct tutti_comm *c, void *arg)
{
	(void)arg;
	int64_t at_first = 0;
	for (int i = 0; i < 10000; i++) {
		struct tutti_comm *part;
		RANK_OK(tutti_comm_split(c, 0, 0, &part));
		if (check_sum(part, i % 100 == 7 ? 100000 : i % 10 == 5 ? 1000 : 2) != 0)
			return 1;
		RANK_OK(tutti_comm_destroy(part));
		at_first = i == 200 ? committed() : at_first;
	}
	RANK_CHECK(ranks_meet() == 0);
	RANK_CHECK(at_first > 0);
	if (committed() > at_first + tutti_comm_size(c) * 256 * KIB)
		return ranks_fail("%lld KiB after 10000 communicators, %lld after 200", (long long)(committed() / KIB),
		                  (long long)(at_first / KIB));
	return 0;
}

static void test_communicators_one_after_the_other(void **state)
{
	(void)state;
	run("shm", 2, false, NULL, split_use_free);
}

/* Side by side: each takes memory for what it does, and leaves it to the others or to the system. */
static int live_side_by_side(struct tutti_comm *c, void *arg)
{
#ifdef __SANITIZE_THREAD__ /* it leaves little address space to the segment */
	enum { MANY = 50 };
#else
	enum { MANY = 300 };
#endif
	static struct tutti_comm *part[MANY];
	int64_t n = tutti_comm_size(c), before = committed();
	(void)arg;
	RANK_CHECK(before > 0 && ranks_meet() == 0);
	for (int i = 0; i < MANY; i++) {
		RANK_OK(tutti_comm_split(c, 0, 0, &part[i]));
		RANK_CHECK(check_sum(part[i], 2) == 0 && check_sum(part[i], 2000) == 0);
	}
	RANK_CHECK(ranks_meet() == 0);
	int64_t each = (committed() - before) / MANY / n;
	if (each > 64 * KIB)
		return ranks_fail("%lld KiB a communicator and rank", (long long)(each / KIB));
	for (int i = 0; i < MANY; i += 50)
		RANK_CHECK(check_sum(part[i], 100000) == 0);
	RANK_CHECK(ranks_meet() == 0);
	for (int i = 0; i < MANY; i++) /* rank 0 has left all before the others begin */
		if (tutti_comm_rank(c) == 0)
			RANK_OK(tutti_comm_destroy(part[i]));
	RANK_CHECK(ranks_meet() == 0);
	for (int i = 0; i < MANY; i++)
		if (tutti_comm_rank(c) != 0)
			RANK_OK(tutti_comm_destroy(part[i]));
	RANK_CHECK(ranks_meet() == 0);
	if (committed() > before + n * (2048 + 4 * MANY) * KIB)
		return ranks_fail("%lld KiB are left of %d communicators", (long long)((committed() - before) / KIB),
		                  MANY);
	return 0;
}

static void test_communicators_side_by_side(void **state)
{
	(void)state;
	run("shm", 2, false, NULL, live_side_by_side);
}

/* A ring has memory for what passes, however long its slots are. */
static int small_all_to_all(struct tutti_comm *c, void *arg)
{
	(void)arg;
	uint8_t in[16] = {0}, out[16];
	int64_t n = tutti_comm_size(c), before = committed();
	RANK_CHECK(before > 0 && ranks_meet() == 0);
	RANK_OK(tutti_alltoall(in, out, 1, TUTTI_U8, c, NULL));
	RANK_CHECK(ranks_meet() == 0);
	int64_t pair = (committed() - before) / (n * (n - 1));
	return pair <= 20 * KIB ? 0 : ranks_fail("%lld KiB a pair", (long long)(pair / KIB));
}

static void test_small_all_to_all(void **state)
{
	(void)state;
	static const char *const env[] = {"TUTTI_TRANSPORT=shm", "TUTTI_ALGO=alltoall:pairwise", NULL};
	assert_int_equal(ranks_run(&(struct ranks){.n = 8, .env = env}, small_all_to_all, NULL), 0);
}

static bool is_large; /* this machine, as it were: one more processor than it has, all with numbers beyond 1024 */

/* Takes the place of the system's. A kernel for many processors refuses a set that has no room for them. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	const int n = (int)sysconf(_SC_NPROCESSORS_ONLN) + 1;
	if (!is_large)
		return syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
	if (size < 256) {
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < n; i++)
		CPU_SET_S(1024 + i, size, set);
	return 0;
}

static void live_on_a_large_machine(int rank, void *arg)
{
	(void)rank;
	(void)arg;
	is_large = true;
}

static int has_room(struct tutti_comm *c, void *arg)
{
	(void)arg;
	RANK_CHECK(!c->world->wait.crowded);
	RANK_OK(tutti_barrier(c, NULL));
	return 0;
}

static void test_many_processors(void **state)
{
	static const char *const env[] = {"TUTTI_TRANSPORT=shm", NULL};
	const int n = (int)sysconf(_SC_NPROCESSORS_ONLN) + 1;
	(void)state;
	if (n > 16)
		skip(); /* as many ranks as that would need */
	assert_int_equal(
	        ranks_run(&(struct ranks){.n = n, .env = env, .before = live_on_a_large_machine}, has_room, NULL), 0);
}

static int slots_are_of(struct tutti_comm *c, void *arg)
{
	const struct ring_size *ring = arg;
	RANK_CHECK(c->world->params.slot == ring->payload);
	RANK_CHECK(c->world->params.slots == ring->nslots);
	RANK_OK(tutti_barrier(c, NULL));
	return 0;
}

static int failed_with(const char *const *env, uint32_t bytes, uint32_t slots)
{
	struct ring_size ring = {bytes, slots};
	return ranks_run(&(struct ranks){.n = 2, .env = env}, slots_are_of, &ring);
}

static void live_apart(int rank, void *arg)
{
	(void)arg;
	setenv("TUTTI_HOST", rank ? "second" : "first", 1);
}

static int failed_apart(const char *const *env, uint32_t bytes, uint32_t slots)
{
	struct ring_size ring = {bytes, slots};
	return ranks_run(&(struct ranks){.n = 2, .env = env, .before = live_apart}, slots_are_of, &ring);
}

static void test_slots_suit_the_transport(void **state)
{
	const char *memory[] = {"TUTTI_TRANSPORT=shm", NULL}, *sockets[] = {"TUTTI_TRANSPORT=tcp", NULL},
	           *asked[] = {"TUTTI_TRANSPORT=tcp", "TUTTI_SLOT=64K", "TUTTI_SLOTS=2", NULL};
	(void)state;
	assert_int_equal(failed_with(memory, 128 << 10, 4), 0);
	assert_int_equal(failed_with(sockets, 192 << 10, 8), 0);
	assert_int_equal(failed_apart(sockets, 60 << 10, 4), 0);
	assert_int_equal(failed_apart(asked, 64 << 10, 2), 0);
}

static void test_slots_suit_libfabric(void **state)
{
	static const struct fabric_way tcp = {"tcp;ofi_rxm", "auto"};
	const char *fabric[] = {"TUTTI_TRANSPORT=libfabric", "TUTTI_LIBFABRIC_PROVIDER=tcp;ofi_rxm", NULL};
	const char *near[] = {"TUTTI_TRANSPORT=shm,libfabric", "TUTTI_LIBFABRIC_PROVIDER=tcp;ofi_rxm", NULL};
	char why[200];
	(void)state;
	if (!fabric_usable(&tcp, why, sizeof(why))) {
		print_message("%s\n", why);
		skip();
	}
	assert_int_equal(failed_with(fabric, 256 << 10, 4), 0);
	assert_int_equal(failed_with(near, 128 << 10, 4), 0); /* memory joins them */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_gather_nothing),
	        cmocka_unit_test(test_broadcast_and_leave),
	        cmocka_unit_test(test_leave_receives_open),
	        cmocka_unit_test(test_split_in_group),
	        cmocka_unit_test(test_outlive),
	        cmocka_unit_test(test_take_back),
	        cmocka_unit_test(test_differ_early),
	        cmocka_unit_test(test_several_processes),
	        cmocka_unit_test(test_many_in_a_small_buffer),
	        cmocka_unit_test(test_at_the_edge),
	        cmocka_unit_test(test_forked_child),
	        cmocka_unit_test(test_small_files),
	        cmocka_unit_test(test_prepared_calls_stand_side_by_side),
	        cmocka_unit_test(test_no_shape_evicts_another),
	        cmocka_unit_test(test_requests_hold_their_calls),
	        cmocka_unit_test(test_prepared_calls_are_bounded),
	        cmocka_unit_test(test_v_forms_take_the_direct_way),
	        cmocka_unit_test(test_communicators_one_after_the_other),
	        cmocka_unit_test(test_communicators_side_by_side),
	        cmocka_unit_test(test_small_all_to_all),
	        cmocka_unit_test(test_many_processors),
	        cmocka_unit_test(test_slots_suit_the_transport),
	        cmocka_unit_test(test_slots_suit_libfabric),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
