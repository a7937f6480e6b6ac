/* SPDX-License-Identifier: MIT */
/*
 * Whom the libfabric transport believes, and what it refuses: strangers and nonsense do no harm, and what can't be had
 * has a reason.
 */
#include "../ranks.h"
#include "ends.h"

/* A note with a wrong nonce is a stranger's: it reaches nothing. (Where messages travel it does not even match.) */
static void test_wrong_nonce(void **state)
{
	const struct fabric_way *way = *state;
	struct world *w = world_up(way);
	const struct fabric *f = w->ctx[1];
	struct link out, in, good_out, good_in;
	struct flow flow;

	join(w, 0, 0, 1000, 4, &out, &in);
	join(w, 0, 1, 1000, 4, &good_out, &good_in);
	flow = flow_of(&good_out, &good_in, 3, 20);
	((struct wire *)out.wire)->far_note ^= UINT64_C(1) << 40;
	send_small(&out);
	run_flows(w, &flow, 1, 9);
	assert_null(link_recv_begin(&in));
	if (strcmp(way->mode, "write") == 0)
		pump_until(w, f->strangers == 1);
	assert_int_equal(w->lost[0] + w->lost[1], 0);
	free(flow.memory);
	world_down(w);
}

/* A peer that writes into a slot which it does not have, or gives back what it never got, is out of its mind. */
static void test_nonsense(void **state)
{
	const struct fabric_way *way = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct world *w = world_up(way);
		struct link out, in;

		join(w, 0, 0, 1000, 4, &out, &in);
		if (kind == 0 && strcmp(way->mode, "write") == 0) {
			send_small(&out);
			pump_until(w, link_drained(&out));
			((struct wire *)out.wire)->posted--; /* once more */
		} else {
			((struct wire *)in.wire)->told = (uint64_t)-3; /* it owes more than it got */
			for (int k = 0; k < 100; k++)
				pump(w, 0), pump(w, 1);
		}
		pump_until(w, w->lost[0] || w->lost[1]);
		if (kind == 0 && strcmp(way->mode, "write") == 0)
			assert_lost(w, 1, "rank 0: it gave a slot that is in use");
		else
			assert_lost(w, 0, "rank 1: it gave back slots that it never received");
		world_down(w);
	}
}

/* A shorter name than what has come of it already: bytes of it would go beyond its place. */
static void test_second_hello(void **state)
{
	struct world *w = world_up(*state);
	struct fabric *f = w->ctx[0];
	struct record hello = {.kind = RECORD_HELLO, .number = 1};
	struct link out, in;
	int rc = TUTTI_OK;

	join(w, 0, 0, 1000, 4, &out, &in);
	check(channel_say(&f->peers[1].channel, &hello));
	for (int i = 0; i < 1000000 && rc == TUTTI_OK; i++)
		rc = t->pump(w->ctx[1]);
	assert_int_equal(rc, TUTTI_EPEER);
	if (!strstr(fail_text(), "rank 0 sent the length"))
		fail_msg("%s", fail_text());
	world_down(w);
}

/* A stranger with an endpoint of the same fabric that knows the address: it can send, but has no effect. */
static void test_stranger(void **state)
{
	const struct fabric_way *way = *state;
	struct world *w = world_up(way), *other = world_up(way);
	struct fabric *f = w->ctx[1], *s = other->ctx[0];
	struct link out, in, theirs_out, theirs_in;
	struct flow flow;
	uint8_t name[ADDRESS_MAX];
	uint32_t bytes;
	struct wire *wire;

	join(w, 0, 0, 1000, 4, &out, &in);
	join(other, 0, 0, 1000, 4, &theirs_out, &theirs_in);
	check(endpoint_name(&f->e, name, &bytes));
	wire = theirs_out.wire;
	check(endpoint_insert(&s->e, name, &wire->addr)); /* its slots go there now, with a key of its own world */
	send_small(&theirs_out);
	for (int i = 0; i < 300; i++) {
		(void)t->pump(s);
		pump(w, 1);
	}
	assert_null(link_recv_begin(&in));
	flow = flow_of(&out, &in, 3, 50);
	run_flows(w, &flow, 1, 9);
	assert_int_equal(w->lost[0] + w->lost[1], 0);
	free(flow.memory);
	world_down(other);
	world_down(w);
}

/* ---- what can't be had ------------------------------------------------------------------------------------------- */

static void refused(const struct fabric_way *way, bool loopback_only, const char *why)
{
	struct world *w = world_new(way);
	int rc;

	w->env[0].loopback_only = loopback_only;
	rc = t->open(&w->env[0], &w->ctx[0]);
	assert_int_equal(rc, TUTTI_EUNSUPPORTED);
	if (!strstr(fail_text(), why))
		fail_msg("expected \"%s\" in: %s", why, fail_text());
	t->close(w->ctx[0]);
	close(w->channel[0]);
	close(w->channel[1]);
	free(w);
}

static void test_refusals(void **state)
{
	(void)state;
	refused(&(struct fabric_way){"nosuch", "auto"}, true, "no usable provider \"nosuch\" here; it knows: ");
	refused(&(struct fabric_way){"none", "auto"}, true, "TUTTI_LIBFABRIC_PROVIDER=none");
	t->close(NULL);
}

/* The error of a rank's start if only libfabric is allowed. */
static int start_fails(struct tutti_comm *c, void *arg)
{
	int rc = tutti_comm_from_env(&c, NULL);

	if (rc != TUTTI_EUNSUPPORTED)
		return ranks_fail("status %d: %s", rc, tutti_last_error(NULL));
	if (!strstr(tutti_last_error(NULL), arg))
		return ranks_fail("\"%s\" is not in \"%s\"", (const char *)arg, tutti_last_error(NULL));
	return 0;
}

static void fails_with(const char *variable, const char *text)
{
	const char *env[] = {"TUTTI_TRANSPORT=libfabric", "TUTTI_LOG=error", variable, NULL};
	struct ranks how = {.n = 2, .start = RANKS_BY_HAND, .env = env};

	assert_int_equal(ranks_run(&how, start_fails, (void *)(uintptr_t)text), 0);
}

static void test_start(void **state)
{
	(void)state;
	fails_with("TUTTI_LIBFABRIC_LIB=/nonexistent/libfabric.so.1", "libfabric can't be loaded: /nonexistent/");
	fails_with("TUTTI_LIBFABRIC_LIB=libc.so.6", "libc.so.6 has no symbol fi_getinfo: is it another library?");
	fails_with("TUTTI_LIBFABRIC_PROVIDER=nosuch", "no usable provider \"nosuch\" here; it knows: ");
	fails_with("TUTTI_LIBFABRIC_PROVIDER=none", "libfabric: TUTTI_LIBFABRIC_PROVIDER=none");
}

/* Without a secret only what stays on this machine is opened. */
static void test_loopback_only(void **state)
{
	struct world *w = world_new(*state);
	const struct fabric *f;

	open_end(w, 0);
	f = w->ctx[0];
	assert_true(f->choices.n > 0);
	for (int i = 0; i < f->choices.n; i++)
		assert_true(f->choices.list[i].local);
	t->close(w->ctx[0]);
	close(w->channel[0]);
	close(w->channel[1]);
	free(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest first[] = {
	        {"start", test_start, NULL, NULL, NULL}, /* before this process has loaded it */
	        {"refusals", test_refusals, NULL, NULL, NULL},
	};
	const struct way_test tests[] = {
	        {"wrong nonce", test_wrong_nonce},     {"nonsense", test_nonsense},
	        {"a second hello", test_second_hello}, {"a stranger", test_stranger},
	        {"loopback only", test_loopback_only},
	};
	return run_ways("libfabric: trust", first, sizeof(first) / sizeof(first[0]), tests,
	                sizeof(tests) / sizeof(tests[0]), argc, argv);
}
