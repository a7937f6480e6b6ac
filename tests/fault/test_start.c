/* SPDX-License-Identifier: MIT */
/*
 * Ranks that do not fit together at start: another secret, size, rank or variable. All of them, or those that are left, get
 * an error that says what and whose; nobody waits for longer than the start may take.
 */
#include "fault.h"

enum {
	START_SECONDS = 3,
	SLACK = 3,
};

/* The environment of the odd rank. */
static const struct misfit {
	const char *name, *variable, *value; /* the others' value, if they have one, in `others` */
	const char *others;
	int odd, odd_status, status;       /* what the odd one gets, and the others */
	const char *odd_says[3], *says[3]; /* %d: the odd rank */
} misfits[] = {
        {"secret",
         "TUTTI_SECRET",
         "swordfish",
         "TUTTI_SECRET=open sesame",
         2,
         TUTTI_EAUTH,
         TUTTI_ETIMEOUT,
         {"secret"},
         {"rank 2", "secret"}},
        {"secret of rank 0",
         "TUTTI_SECRET",
         "swordfish",
         "TUTTI_SECRET=open sesame",
         0,
         TUTTI_ETIMEOUT,
         TUTTI_EAUTH,
         {"ranks 1-3", "secret"},
         {"secret"}},
        {"size", "TUTTI_SIZE", "5", NULL, 3, TUTTI_EMISMATCH, TUTTI_ETIMEOUT, {"5", "4"}, {"5 ranks, not 4", "rank 3"}},
        {"size of rank 0", "TUTTI_SIZE", "3", NULL, 0, TUTTI_ETIMEOUT, TUTTI_EMISMATCH, {"4 ranks, not 3"}, {"3", "4"}},
        {"rank", "TUTTI_RANK", "1", NULL, 2, TUTTI_EMISMATCH, TUTTI_EMISMATCH, {"rank 1"}, {"rank 1"}},
        {"algorithm",
         "TUTTI_ALGO",
         "allreduce:ring",
         "TUTTI_ALGO=allreduce:tree",
         1,
         TUTTI_EMISMATCH,
         TUTTI_EMISMATCH,
         {"TUTTI_ALGO", "allreduce:ring", "allreduce:tree"},
         {"rank 1", "allreduce:ring", "TUTTI_ALGO"}},
        {"slot",
         "TUTTI_SLOT",
         "32768",
         NULL,
         3,
         TUTTI_EMISMATCH,
         TUTTI_EMISMATCH,
         {"TUTTI_SLOT", "32768", "0"},
         {"rank 3", "TUTTI_SLOT", "32768"}},
        {"slot of rank 0",
         "TUTTI_SLOT",
         "32768",
         NULL,
         0,
         TUTTI_EMISMATCH,
         TUTTI_EMISMATCH,
         {"TUTTI_SLOT", "32768", "0"},
         {"rank 0", "TUTTI_SLOT", "32768"}},
        {"algorithm, unknown",
         "TUTTI_ALGO",
         "allreduce:spiral",
         NULL,
         3,
         TUTTI_EMISMATCH,
         TUTTI_EMISMATCH,
         {"spiral"},
         {"rank 3", "spiral"}},
};

static void be_odd(int rank, void *arg)
{
	const struct stage *s = arg;
	const struct misfit *m = &misfits[s->variant];
	if (rank == m->odd)
		setenv(m->variable, m->value, 1);
}

static int try_to_start(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	const struct misfit *m = &misfits[s->variant];
	const char *value = getenv(m->variable);
	bool odd = value && strcmp(value, m->value) == 0;
	const char *const *texts = odd ? m->odd_says : m->says;
	int want = odd ? m->odd_status : m->status;
	if (strcmp(m->variable, "TUTTI_RANK") == 0)
		odd = false; /* there are two of them */
	ranks_note("start, where one has another %s", m->name);
	uint64_t begin = clock_ns();
	int rc = tutti_comm_from_env(&c, NULL);
	if (rc != want || c)
		return ranks_fail("status %d: %s", rc, tutti_last_error(NULL));
	if (ranks_too_late(begin, START_SECONDS + SLACK))
		return ranks_fail("took %.2f s: %s", seconds_since(begin), tutti_last_error(NULL));
	for (int i = 0; i < 3 && texts[i]; i++)
		if (says(NULL, "%s", texts[i]))
			return 1;
	return 0;
}

static void misfits_are_named(void **state)
{
	(void)state;
	for (int i = 0; i < (int)(sizeof(misfits) / sizeof(misfits[0])); i++) {
		struct stage *s = stage_new(WAY_SHM);
		s->variant = i;
		struct ranks how = {.start = RANKS_BY_HAND, .before = be_odd};
		if (stage_run(s, how, try_to_start, "TUTTI_START_TIMEOUT=3", misfits[i].others, NULL))
			fail_msg("another %s", misfits[i].name);
		stage_free(s);
	}
}

/* One rank's configuration names transports, the others' and all variables do not. */
static int start_with_another_config(struct tutti_comm *c, void *arg)
{
	struct tutti_config cfg = TUTTI_CONFIG_INIT;
	(void)arg;
	if (atoi(getenv("TUTTI_RANK")) == 1)
		cfg.transport = "tcp";
	RANK_STATUS(TUTTI_EMISMATCH, tutti_comm_from_env(&c, &cfg));
	return says(NULL, "TUTTI_TRANSPORT must be the same on all ranks: it is \"");
}

static void a_configuration_is_compared_like_the_variable(void **state)
{
	struct ranks how = {.n = 3, .start = RANKS_BY_HAND};
	(void)state;
	assert_int_equal(ranks_run(&how, start_with_another_config, NULL), 0);
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(misfits_are_named, nothing_left),
	        cmocka_unit_test_teardown(a_configuration_is_compared_like_the_variable, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
