/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the verbs transport share: the imaginary device's sea, and worlds on it. Ranks are processes, each
 * with a card of its own.
 */
#ifndef TESTS_VERBS_SEA_H
#define TESTS_VERBS_SEA_H

#include "../../transports/verbs/device.h"
#include "../fault/fault.h"
#include "imaginary.h"

#include <fcntl.h>
#include <sys/mman.h>

static struct imaginary *sea;
static char library[600], sea_path[64] = "/tmp/imaginary-XXXXXX";

/* ---- a world on the device --------------------------------------------------------------------------------------- */

static inline int calm_sea(void **state)
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
	int device;        /* that goes down */
};

static inline struct scene *scene_new(void)
{
	struct scene *s = ranks_share(sizeof(*s));
	assert_non_null(s);
	s->most_bytes = (size_t)3 << 19;
	return s;
}

/* A card is a host's: what it has is not shared. */
static inline void on_its_own_host(int rank, void *arg)
{
	char name[32];
	(void)arg;
	snprintf(name, sizeof(name), "host%d", rank);
	setenv("TUTTI_HOST", name, 1);
}

static inline int run(int n, struct scene *s, int (*fn)(struct tutti_comm *c, void *arg), const char *mode,
                      const char *more, const char *still_more)
{
	const char *env[] = {"TUTTI_TRANSPORT=verbs", "TUTTI_LOG=error", mode, more, still_more, NULL};
	struct ranks how = {.n = n, .env = env, .seconds = 60, .start = RANKS_BY_ID, .before = on_its_own_host};
	int failed = ranks_run(&how, fn, s);
	ranks_unshare(s, sizeof(*s));
	return failed;
}

static const char *const modes[] = {"TUTTI_VERBS_MODE=write", "TUTTI_VERBS_MODE=send", "TUTTI_VERBS_MODE=uc"};

/* ---- what is right ----------------------------------------------------------------------------------------------- */

static inline int reduce_once(struct tutti_comm *c, size_t count, int salt)
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

static inline int reduces(struct tutti_comm *c, void *arg)
{
	const struct scene *s = arg;
	for (int round = 0; round < 3; round++)
		for (size_t bytes = 4; bytes <= s->most_bytes; bytes = bytes * 5 / 4 + 4)
			RANK_OK(reduce_once(c, bytes / 4, round));
	return 0;
}

static inline void nothing_was_lost(void)
{
	assert_int_equal(sea->counts.lost, 0);
	assert_int_equal(sea->counts.waited, 0);
}

/* ---- what goes wrong --------------------------------------------------------------------------------------------- */

/* Calls until one fails: with the expected status, on all ranks, and the text says what it must. */
static inline int until_it_fails(struct tutti_comm *c, void *arg)
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

static inline struct scene *failing(int status, const char *a, const char *b, const char *c)
{
	struct scene *s = scene_new();
	const char *texts[] = {a, b, c};
	s->expected = status;
	for (int i = 0; i < 3; i++)
		snprintf(s->says[i], sizeof(s->says[i]), "%s", texts[i]);
	return s;
}

/* A port goes down in the middle; then the same processes go on over TCP. */
static inline int port_goes_down(struct tutti_comm *c, void *arg)
{
	struct scene *s = arg;
	struct tutti_comm *next = NULL;
	int me = tutti_comm_rank(c), rc;
	for (int i = 0; i < 5; i++)
		RANK_OK(reduce_once(c, 1000, i));
	if (me == 0)
		atomic_store(&sea->knobs.device_down[s->device], 1);
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

/* ---- all --------------------------------------------------------------------------------------------------------- */

/* The library lies beside the test. */
static inline int find_library(const char *self)
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

static inline int run_all(const char *name, const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	int failed;
	if (find_library(argv[0]) != 0) {
		fprintf(stderr, "%s is not there\n", library);
		return 1;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
	unlink(sea_path);
	return failed;
}
#define SEA_TEST(name) cmocka_unit_test_setup(name, calm_sea)

#endif
