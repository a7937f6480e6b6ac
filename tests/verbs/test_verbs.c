/*
 * The verbs transport on the imaginary device: what it does right where the device is strict, and what it says where the
 * device fails. Ranks are processes (and, once, threads), each with a card of its own.
 */
#include "../../transports/verbs/device.h"
#include "../fault/fault.h"
#include "imaginary.h"

#include <fcntl.h>
#include <sys/mman.h>

static struct imaginary *sea;
static char library[600], sea_path[64] = "/tmp/imaginary-XXXXXX";

/* ---- a world on the device --------------------------------------------------------------------------------------- */

static int calm_sea(void **state)
{
	(void)state;
	memset(&sea->knobs, 0, sizeof(sea->knobs));
	memset(&sea->counts, 0, sizeof(sea->counts));
	return 0;
}

struct scene {
	struct stage stage;
	struct tutti_unique_id id;
	_Atomic int id_is_there;
	size_t most_bytes;
	int expected;      /* status of what fails */
	char says[3][100]; /* what its text has */
};

static struct scene *scene_new(void)
{
	struct scene *s = ranks_share(sizeof(*s));
	assert_non_null(s);
	s->most_bytes = (size_t)3 << 19;
	return s;
}

/* A card is a host's: what it has is not shared. */
static void on_its_own_host(int rank, void *arg)
{
	char name[32];
	(void)arg;
	snprintf(name, sizeof(name), "host%d", rank);
	setenv("TUTTI_HOST", name, 1);
}

static int run(int n, struct scene *s, int (*fn)(struct tutti_comm *c, void *arg), const char *mode, const char *more,
               const char *still_more)
{
	const char *env[] = {"TUTTI_TRANSPORT=verbs", "TUTTI_LOG=error", mode, more, still_more, NULL};
	struct ranks how = {.n = n, .env = env, .seconds = 60, .start = RANKS_BY_ID, .before = on_its_own_host};
	int failed = ranks_run(&how, fn, s);
	ranks_unshare(s, sizeof(*s));
	return failed;
}

static const char *const modes[] = {"TUTTI_VERBS_MODE=write", "TUTTI_VERBS_MODE=send", "TUTTI_VERBS_MODE=uc"};

/* ---- what is right ----------------------------------------------------------------------------------------------- */

static int reduce_once(struct tutti_comm *c, size_t count, int salt)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), bad = 0;
	int32_t *x = malloc(count * sizeof(*x));
	RANK_CHECK(x);
	for (size_t i = 0; i < count; i++)
		x[i] = (int32_t)i * (me + 1) + salt;
	int rc = tutti_allreduce(x, x, count, TUTTI_I32, TUTTI_SUM, c, NULL);
	for (size_t i = 0; !rc && i < count; i++)
		bad += x[i] != (int32_t)i * (n * (n + 1) / 2) + n * salt;
	free(x);
	if (!rc && bad)
		return ranks_fail("%d of %zu elements are wrong", bad, count);
	return rc;
}

static int reduces(struct tutti_comm *c, void *arg)
{
	const struct scene *s = arg;
	for (int round = 0; round < 3; round++)
		for (size_t bytes = 4; bytes <= s->most_bytes; bytes = bytes * 5 / 4 + 4)
			RANK_OK(reduce_once(c, bytes / 4, round));
	return 0;
}

/* Each to each, in both directions at once, and then one way only. */
static int messages(struct tutti_comm *c, void *arg)
{
	int n = tutti_comm_size(c), me = tutti_comm_rank(c);
	static uint8_t out[300000], in[300000];
	(void)arg;
	for (int round = 0; round < 60; round++) {
		size_t bytes = (size_t)round * 97 % 70 ? (size_t)round * 5000 : 7;
		memset(out, me + round, bytes);
		RANK_OK(tutti_group_begin());
		RANK_OK(tutti_send(out, bytes, TUTTI_U8, (me + 1) % n, c, NULL));
		RANK_OK(tutti_recv(in, bytes, TUTTI_U8, (me + n - 1) % n, c, NULL));
		RANK_OK(tutti_group_end());
		for (size_t i = 0; i < bytes; i++)
			RANK_CHECK(in[i] == (uint8_t)((me + n - 1) % n + round));
	}
	for (int i = 0; i < 500 && me < 2; i++)
		RANK_OK(me ? tutti_recv(in, 40, TUTTI_U8, 0, c, NULL) : tutti_send(out, 40, TUTTI_U8, 1, c, NULL));
	return 0;
}

static void nothing_was_lost(void)
{
	assert_int_equal(sea->counts.lost, 0);
	assert_int_equal(sea->counts.waited, 0);
}

static void test_all_modes(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), reduces, modes[m], "TUTTI_CHANNELS=3", NULL), 0);
		assert_int_equal(run(3, scene_new(), messages, modes[m], NULL, NULL), 0);
		assert_true(m == 0 ? sea->counts.writes > 0 : sea->counts.sends > 0);
		nothing_was_lost();
		calm_sea(NULL);
	}
}

static void test_any_order_of_placement(void **state)
{
	(void)state;
	sea->knobs.reorder = true;
	assert_int_equal(run(2, scene_new(), reduces, modes[0], NULL, NULL), 0);
	assert_int_equal(run(3, scene_new(), messages, modes[0], "TUTTI_SLOTS=2", NULL), 0);
	nothing_was_lost();
}

static void test_ranks_are_threads(void **state)
{
	const char *env[] = {"TUTTI_TRANSPORT=verbs", NULL};
	struct ranks how = {.n = 3, .threads = true, .env = env, .start = RANKS_BY_ID};
	struct scene *s = scene_new();
	(void)state;
	s->most_bytes = 40000;
	assert_int_equal(ranks_run(&how, reduces, s), 0);
	ranks_unshare(s, sizeof(*s));
	nothing_was_lost();
}

static void test_sleepers_are_woken(void **state)
{
	struct scene *s = scene_new();
	(void)state;
	s->most_bytes = 20000;
	assert_int_equal(run(2, s, reduces, modes[0], "TUTTI_WAIT=sleep", NULL), 0);
	assert_true(sea->counts.slept_for > 0);
}

static int all_to_all(struct tutti_comm *c, void *arg)
{
	static uint8_t in[4 * 50000], out[4 * 50000];
	(void)arg;
	for (int i = 0; i < 10; i++)
		RANK_OK(tutti_alltoall(in, out, 50000, TUTTI_U8, c, NULL));
	return reduces(c, arg);
}

/* As Apple's: UC only, few of everything, frames alike, no completion channel. */
static void test_a_poor_device(void **state)
{
	(void)state;
	sea->knobs.uc_only = sea->knobs.equal_frames = sea->knobs.no_channel = true;
	sea->knobs.max_qp = 10;
	sea->knobs.max_mr = 100;
	sea->knobs.max_wr = 300;
	assert_int_equal(run(4, scene_new(), all_to_all, "TUTTI_VERBS_MODE=auto", NULL, NULL), 0);
	assert_true(sea->counts.sends > 0 && sea->counts.writes == 0);
	assert_in_range(sea->counts.most_qps, 3, 4); /* one a peer, and perhaps the one made on trial */
	assert_in_range(sea->counts.most_mrs, 1, 12);
	nothing_was_lost();
}

/* Every communicator has channels of its own; what one leaves the next one takes. */
static int split_often(struct tutti_comm *c, void *arg)
{
	(void)arg;
	for (int i = 0; i < 80; i++) {
		struct tutti_comm *sub = NULL;
		RANK_OK(tutti_comm_split(c, 0, 0, &sub));
		RANK_OK(reduce_once(sub, 30000, i));
		RANK_OK(tutti_comm_destroy(sub));
	}
	return 0;
}

static void test_channels_come_and_go(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run(2, scene_new(), split_often, modes[m], NULL, NULL), 0);
		assert_in_range(sea->counts.most_mrs, 1, 5); /* 80 of them at once would be 80 MiB: 7 and more */
		nothing_was_lost();
		calm_sea(NULL);
	}
}

/* ---- what goes wrong --------------------------------------------------------------------------------------------- */

/* Calls until one fails: with the expected status, on all ranks, and the text says what it must. */
static int until_it_fails(struct tutti_comm *c, void *arg)
{
	struct scene *s = arg;
	int rc = TUTTI_OK;
	for (int i = 0; i < 100000 && rc == TUTTI_OK; i++) {
		ranks_note("call %d", i);
		rc = reduce_once(c, i % 2 ? 10 : 100000, i);
	}
	if (rc != s->expected)
		return ranks_fail("status %d instead of %d: %s", rc, s->expected, tutti_last_error(c));
	for (int i = 0; i < 3; i++)
		if (says(c, "%s", s->says[i]))
			return 1;
	return is_out_of_use(c, s->expected);
}

static struct scene *failing(int status, const char *a, const char *b, const char *c)
{
	struct scene *s = scene_new();
	const char *texts[] = {a, b, c};
	s->expected = status;
	for (int i = 0; i < 3; i++)
		snprintf(s->says[i], sizeof(s->says[i]), "%s", texts[i]);
	return s;
}

static void test_a_bad_completion(void **state)
{
	static const char *const what[] = {"an RDMA WRITE to rank", "a SEND to rank", "a SEND to rank"};
	(void)state;
	for (int m = 0; m < 3; m++) {
		sea->knobs.fail_status = IBV_WC_REM_ACCESS_ERR;
		atomic_store(&sea->knobs.fail_at, 200);
		assert_int_equal(run(3, failing(TUTTI_EPEER, "imaginary0:1", what[m], "remote access error"),
		                     until_it_fails, modes[m], NULL, NULL),
		                 0);
	}
}

static void test_a_peer_falls_silent(void **state)
{
	(void)state;
	atomic_store(&sea->knobs.vanish_at, 200);
	assert_int_equal(run(3, failing(TUTTI_EPEER, "imaginary0:1", "transport retry counter exceeded", "rank"),
	                     until_it_fails, modes[0], "TUTTI_VERBS_QP=timeout=14,retry=3", NULL),
	                 0);
	calm_sea(NULL);
	atomic_store(&sea->knobs.vanish_at, 200); /* UC has no answers: only the silence is seen */
	assert_int_equal(run(2, failing(TUTTI_ETIMEOUT, "allreduce", "3.0 s", "rank"), until_it_fails, modes[2],
	                     "TUTTI_TIMEOUT=3", NULL),
	                 0);
}

static void test_a_message_is_lost(void **state)
{
	(void)state;
	atomic_store(&sea->knobs.lose_at, 200);
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "lost 1 messages from rank", "UC"), until_it_fails,
	                     modes[2], NULL, NULL),
	                 0);
}

/* The port of one rank goes down in the middle; then the same processes go on over TCP. */
static int port_goes_down(struct tutti_comm *c, void *arg)
{
	struct scene *s = arg;
	struct tutti_comm *next = NULL;
	int me = tutti_comm_rank(c), rc;
	for (int i = 0; i < 5; i++)
		RANK_OK(reduce_once(c, 1000, i));
	if (me == 0)
		for (int i = 0; i < IMAGINARY_CARDS; i++)
			atomic_store(&sea->knobs.down[i], 1);
	rc = until_it_fails(c, arg);
	if (rc)
		return rc;
	if (me == 0)
		RANK_OK(tutti_unique_id_create(&s->id));
	atomic_store(&s->id_is_there, s->id_is_there || me == 0);
	await(&s->id_is_there, 1);
	RANK_OK(tutti_comm_create(&next, tutti_comm_size(c), &s->id, me, NULL));
	RANK_OK(reduce_once(next, 100000, 7));
	return tutti_comm_destroy(next);
}

static void test_the_port_goes_down(void **state)
{
	(void)state;
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "port error", "rank"), port_goes_down, modes[0],
	                     "TUTTI_TRANSPORT=verbs,tcp", NULL),
	                 0);
}

static int dies(struct tutti_comm *c, void *arg)
{
	struct scene *s = arg;
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	s->stage.pid[me] = getpid();
	RANK_OK(tutti_barrier(c, NULL));
	for (int i = 0; rc == TUTTI_OK; i++) {
		if (me == s->stage.victim && i == 5)
			die_soon(&s->stage);
		rc = reduce_once(c, 200000, i);
	}
	if (rc != TUTTI_EPEER)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	RANK_CHECK(seconds_since(s->stage.deed_ns) < DEATH_SECONDS);
	if (says(c, "rank %d (pid %d", s->stage.victim, s->stage.pid[s->stage.victim]))
		return 1;
	return goes_on(c, tutti_comm_size(c) - 1);
}

static void test_a_rank_is_killed(void **state)
{
	(void)state;
	for (int m = 0; m < 3; m++) {
		const char *env[] = {"TUTTI_TRANSPORT=verbs", "TUTTI_LOG=error", modes[m], NULL};
		struct ranks how = {.n = 3, .env = env, .start = RANKS_BY_ID, .doomed = 1 << 1};
		struct scene *s = scene_new();
		s->stage.victim = 1;
		s->stage.delay_us = 3000;
		assert_int_equal(ranks_run(&how, dies, s), 0);
		ranks_unshare(s, sizeof(*s));
	}
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static int all_to_all_fails(struct tutti_comm *c, void *arg)
{
	static uint8_t in[4 * 50], out[4 * 50];
	int rc = tutti_alltoall(in, out, 50, TUTTI_U8, c, NULL);
	const struct scene *s = arg;
	if (rc != s->expected)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	for (int i = 0; i < 3; i++)
		if (says(c, "%s", s->says[i]))
			return 1;
	return 0;
}

/* Plans with fewer peers are chosen; what needs more says how many there are. */
static void test_too_few_queue_pairs(void **state)
{
	(void)state;
	sea->knobs.max_qp = 2;
	assert_int_equal(run(5, scene_new(), reduces, modes[0], "TUTTI_TIMEOUT=20", NULL), 0);
	assert_int_equal(sea->counts.most_qps, 2);
	assert_int_equal(run(4,
	                     failing(TUTTI_EUNSUPPORTED, "make a queue pair on imaginary0:1", "up to 3 peers", "has 2"),
	                     all_to_all_fails, modes[0], NULL, NULL),
	                 0);
}

static void test_memory_runs_out(void **state)
{
	(void)state;
	sea->knobs.max_pinned = (2 << 20) + 1;
	assert_int_equal(run(2, failing(TUTTI_ENOMEM, "imaginary0:1 cannot register", "KiB", "ulimit -l"),
	                     until_it_fails, modes[0], "TUTTI_SLOT=8M", NULL),
	                 0);
}

/* ---- what keeps it from being used ------------------------------------------------------------------------------- */

static char listed[1000];
static void list_line(void *ctx, const char *text)
{
	(void)ctx;
	snprintf(listed, sizeof(listed), "%s", text);
}

/* The port that is chosen, or why none is. */
static const char *opened(void)
{
	struct params p;
	struct device d = {0};
	char gid[GID_TEXT];
	assert_int_equal(params_read(&p), TUTTI_OK);
	if (device_open(&d, &p) == TUTTI_OK)
		snprintf(listed, sizeof(listed), "%s %s %s", d.name, gid_text(&d, gid), device_mode_name(&d));
	else
		snprintf(listed, sizeof(listed), "%s", tutti_last_error(NULL));
	device_close(&d);
	params_free(&p);
	return listed;
}

static void opened_with(const char *name, const char *value, const char *want)
{
	setenv(name, value, 1);
	if (!strstr(opened(), want))
		fail_msg("%s=%s: \"%s\" does not say \"%s\"", name, value, listed, want);
	unsetenv(name);
	setenv("TUTTI_VERBS_LIB", library, 1);
}

static void test_choice_of_a_port(void **state)
{
	struct params p;
	(void)state;
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1 GID 4 (RoCE v2 10.77.0.");
	opened_with("TUTTI_VERBS_GID", "2", "GID 2 (RoCE v2 fe80::");
	opened_with("TUTTI_VERBS_GID", "0", "nothing at TUTTI_VERBS_GID=0");
	opened_with("TUTTI_VERBS_DEVICE", "imaginary0:1", "imaginary0:1 GID 4");
	opened_with("TUTTI_VERBS_DEVICE", "imaginary0:2,mlx5_0", "no RDMA device is named by");
	opened_with("TUTTI_VERBS_QP", "mtu=1024,speed=3", "TUTTI_VERBS_QP=mtu=1024,speed=3: at \"speed=3\"");
	opened_with("TUTTI_VERBS_LIB", "libnothing.so.9", "libnothing.so.9 cannot be loaded");
	opened_with("TUTTI_VERBS_LIB", "libm.so.6", "libm.so.6 has no ibv_");
	sea->knobs.uc_only = true;
	opened_with("TUTTI_VERBS_MODE", "auto", " uc");
	opened_with("TUTTI_VERBS_MODE", "write", "it makes no RC queue pairs");
	calm_sea(NULL);
	sea->knobs.no_gid = true;
	opened_with("TUTTI_VERBS_MODE", "auto", "it has no GID");
	calm_sea(NULL);
	for (int i = 0; i < IMAGINARY_CARDS; i++)
		atomic_store(&sea->knobs.down[i], 1);
	opened_with("TUTTI_VERBS_MODE", "auto", "it is down: check");
	calm_sea(NULL);
	sea->knobs.max_pinned = 65536;
	opened_with("TUTTI_VERBS_MODE", "auto", "cannot register 1024 KiB");
	calm_sea(NULL);
	assert_int_equal(params_read(&p), TUTTI_OK);
	assert_int_equal(devices_list(&p, list_line, NULL), TUTTI_OK);
	assert_non_null(strstr(listed, "imaginary0:1: yes, GID 4 (RoCE v2 10.77.0."));
	params_free(&p);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

/* The library lies beside the test. */
static int find_library(const char *self)
{
	const char *slash = strrchr(self, '/');
	int fd = mkstemp(sea_path);
	snprintf(library, sizeof(library), "%.*s/libimaginary.so", slash ? (int)(slash - self) : 1, slash ? self : ".");
	if (fd < 0 || ftruncate(fd, sizeof(*sea)) != 0 || access(library, R_OK) != 0)
		return -1;
	sea = mmap(NULL, sizeof(*sea), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	setenv("IMAGINARY_RDMA", sea_path, 1);
	setenv("TUTTI_VERBS_LIB", library, 1);
	return sea == MAP_FAILED ? -1 : 0;
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup(name, calm_sea)
	const struct CMUnitTest tests[] = {
	        TEST(test_choice_of_a_port),     TEST(test_all_modes),          TEST(test_any_order_of_placement),
	        TEST(test_ranks_are_threads),    TEST(test_sleepers_are_woken), TEST(test_a_poor_device),
	        TEST(test_channels_come_and_go), TEST(test_a_bad_completion),   TEST(test_a_peer_falls_silent),
	        TEST(test_a_message_is_lost),    TEST(test_the_port_goes_down), TEST(test_a_rank_is_killed),
	        TEST(test_too_few_queue_pairs),  TEST(test_memory_runs_out),
	};
	if (find_library(argv[0]) != 0) {
		fprintf(stderr, "%s is not there\n", library);
		return 1;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(sea_path);
	return failed;
}
