/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the libfabric transport share: a world of two ranks whose ends live here (or one of them in a child),
 * over every provider that needs no hardware and both ways in which slots travel. Providers that this machine's libfabric
 * does not have are skipped by name.
 */
#ifndef TESTS_LIBFABRIC_ENDS_H
#define TESTS_LIBFABRIC_ENDS_H

#include "../../src/transport.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../transports/libfabric/state.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../fabrics.h"
#include "../flow.h"

extern const struct transport transport_libfabric;
static const struct transport *const t = &transport_libfabric;

#define check(rc) check_at(rc, __LINE__)
static inline void check_at(int rc, int line)
{
	if (rc != TUTTI_OK)
		fail_msg("line %d: status %d: %s", line, rc, fail_text());
}

/** Until when a test waits for what must come; what gets there has failed. */
static inline uint64_t patience(void)
{
	return now_ns() + 60 * UINT64_C(1000000000);
}

/* ---- a world of two ranks ---------------------------------------------------------------------------------------- */

struct world {
	pthread_mutex_t lock;
	int channel[2]; /* the pair's connection; -1: taken */
	int lost[2];
	char how[2][500];
	struct params params;
	struct contact contacts[2];
	struct transport_env env[2];
	void *ctx[2];
};

static const struct net_limit no_limit = {UINT64_MAX, NULL};

static inline int dial(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit, int *fd)
{
	(void)limit;
	struct world *w = env->world;

	(void)peer;
	(void)tag;
	pthread_mutex_lock(&w->lock);
	*fd = w->channel[env->rank];
	w->channel[env->rank] = -1;
	pthread_mutex_unlock(&w->lock);
	return *fd < 0 ? (fail)(TUTTI_EPEER, "nobody there") : TUTTI_OK;
}

static inline int take(const struct transport_env *env, int peer, uint64_t tag)
{
	int fd = -1;

	(void)dial(env, peer, tag, no_limit, &fd);
	return fd;
}

static inline void lost(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;

	w->lost[env->rank]++;
	snprintf(w->how[env->rank], sizeof(w->how[0]), "%d: %s", peer, how);
}

static inline struct world *world_new(const struct fabric_way *way)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	pthread_mutex_init(&w->lock, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, w->channel), 0);
	w->params = (struct params){
	        .libfabric_provider = way->provider, .libfabric_mode = way->mode, .wait = "auto", .slot = 1 << 17};
	for (int r = 0; r < 2; r++)
		w->env[r] = (struct transport_env){.rank = r,
		                                   .nranks = 2,
		                                   .index = 2,
		                                   .params = &w->params,
		                                   .loopback_only = true,
		                                   .world = w,
		                                   .dial = dial,
		                                   .take = take,
		                                   .lost = lost};
	return w;
}

static inline void open_end(struct world *w, int r)
{
	if (t->open(&w->env[r], &w->ctx[r]) != TUTTI_OK) {
		print_message("%s\n", fail_text());
		t->close(w->ctx[r]);
		skip();
	}
	t->address(w->ctx[r], w->contacts[r].transport[2]);
}

static inline void attach(struct world *w, int r)
{
	w->env[r].contacts = w->contacts;
	check(t->attach(w->ctx[r]));
	assert_int_not_equal(t->fabric(w->ctx[r]), 0);
}

static inline struct world *world_up(const struct fabric_way *way)
{
	struct world *w = world_new(way);

	for (int r = 0; r < 2; r++)
		open_end(w, r);
	for (int r = 0; r < 2; r++)
		attach(w, r);
	assert_int_equal(t->fabric(w->ctx[0]), t->fabric(w->ctx[1]));
	return w;
}

static inline void world_down(struct world *w)
{
	for (int r = 0; r < 2; r++)
		t->close(w->ctx[r]);
	for (int r = 0; r < 2; r++)
		if (w->channel[r] >= 0)
			close(w->channel[r]);
	free(w);
}

static inline void pump(struct world *w, int rank)
{
	check(t->pump(w->ctx[rank]));
}

static inline void join(struct world *w, int from, int lane, uint32_t payload, uint32_t nslots, struct link *out,
                        struct link *in)
{
	struct link_spec send = spec_of(from, from, lane, payload, nslots);
	struct link_spec receive = spec_of(from, 1 - from, lane, payload, nslots);
	int a = LINK_PENDING, b = LINK_PENDING;

	for (uint64_t end = patience(); a || b;) {
		a = a ? t->connect(w->ctx[from], &send, no_limit, out) : a;
		b = b ? t->connect(w->ctx[1 - from], &receive, no_limit, in) : b;
		assert_true(now_ns() < end);
		check(a == LINK_PENDING ? TUTTI_OK : a);
		check(b == LINK_PENDING ? TUTTI_OK : b);
	}
	assert_true(out->ready && in->ready);
	assert_int_equal(out->tag, in->tag);
}

/** Both ranks move until the condition holds. */
#define pump_until(w, condition)                                                                                       \
	for (uint64_t end_ = patience(); !(condition); assert_true(now_ns() < end_))                                   \
	pump(w, 0), pump(w, 1)

static inline const struct wire *wire_of(const struct link *l)
{
	return l->wire;
}

/* ---- traffic ----------------------------------------------------------------------------------------------------- */

/* Actions in random order, so that every state meets every other. */
static inline void run_flows(struct world *w, struct flow *flows, int n, uint64_t seed)
{
	uint64_t end = patience();

	for (int left = n; left;) {
		uint64_t r = flow_random(&seed);
		struct flow *f = &flows[(r >> 8) % (unsigned)n];
		bool before = f->to_receive > 0;

		if (r % 4 == 0)
			for (uint64_t k = (r >> 16) % 5; k && send_one(f); k--)
				;
		else if (r % 4 == 1)
			for (uint64_t k = (r >> 16) % 5; k && receive_one(f); k--)
				;
		else
			pump(w, (int)(r & 1));
		left -= before && f->to_receive == 0;
		assert_true(now_ns() < end);
	}
	for (int i = 0; i < n; i++) {
		pump_until(w, link_drained(flows[i].out));
		assert_null(link_recv_begin(flows[i].in));
	}
}

static inline void send_small(struct link *out)
{
	struct slot *s = link_send_begin(out);

	assert_non_null(s);
	link_send_end(out, s, 8, 1);
}

static inline void assert_lost(const struct world *w, int rank, const char *how)
{
	assert_int_equal(w->lost[rank], 1);
	if (!strstr(w->how[rank], how))
		fail_msg("expected \"%s\" in: %s", how, w->how[rank]);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

struct way_test {
	const char *name;
	void (*fn)(void **state);
};

/* Each test over each way, after those that need none; the first argument selects by a pattern. */
static inline int run_ways(const char *group, const struct CMUnitTest *first, size_t nfirst,
                           const struct way_test *tests, size_t ntests, int argc, char **argv)
{
	struct CMUnitTest *all = calloc(nfirst + ntests * FABRIC_WAYS, sizeof(*all));
	char(*names)[64] = calloc(ntests * FABRIC_WAYS, sizeof(*names));
	size_t n = 0;
	int failed;

	if (!all || !names)
		return 1;
	fabrics_alone();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	while (n < nfirst)
		all[n] = first[n], n++;
	for (size_t i = 0; i < FABRIC_WAYS; i++)
		for (size_t k = 0; k < ntests; k++, n++) {
			char *name = names[i * ntests + k];
			snprintf(name, sizeof(names[0]), "%s over %s by %s", tests[k].name, fabric_ways[i].provider,
			         fabric_ways[i].mode);
			all[n] = (struct CMUnitTest){name, tests[k].fn, NULL, NULL, (void *)(uintptr_t)&fabric_ways[i]};
		}
	failed = _cmocka_run_group_tests(group, all, n, NULL, NULL);
	free(all);
	free(names);
	return failed;
}

#endif
