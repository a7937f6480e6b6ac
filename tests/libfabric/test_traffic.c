/* SPDX-License-Identifier: MIT */
/*
 * Traffic over libfabric: what goes in comes out, credits and memory come back, a rank that sleeps is woken.
 */
#include "ends.h"

#define FLOWS 8

static void traffic(struct world *w, uint32_t payload, uint32_t nslots, int n, int frames, uint64_t seed)
{
	struct link out[FLOWS], in[FLOWS];
	struct flow flows[FLOWS];

	for (int i = 0; i < n; i++) {
		join(w, i % 2, i / 2, payload, nslots, &out[i], &in[i]);
		flows[i] = flow_of(&out[i], &in[i], seed + (unsigned)i, frames);
	}
	run_flows(w, flows, n, seed);
	for (int i = 0; i < n; i++) {
		t->disconnect(w->ctx[i % 2], &out[i]);
		pump(w, 1 - i % 2);
		t->disconnect(w->ctx[1 - i % 2], &in[i]);
		assert_false(out[i].ready || in[i].ready);
		free(flows[i].memory);
	}
	assert_int_equal(w->lost[0] + w->lost[1], 0);
}

static void test_traffic(void **state)
{
	static const uint32_t payloads[] = {1, 48, 64, 1000, 20000, 131072};
	struct world *w = world_up(*state);

	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
		for (uint32_t nslots = 2; nslots <= 32; nslots *= 4)
			traffic(w, payloads[i], nslots, 2, payloads[i] > 1000 ? 30 : 100, i * 100 + nslots);
	traffic(w, 64, 1024, 1, 3000, 5); /* more slots than a wire has */
	world_down(w);
}

static void test_many_links(void **state)
{
	struct world *w = world_up(*state);

	traffic(w, 5000, 4, FLOWS, 40, 1);
	traffic(w, 300, 2, FLOWS, 100, 2);
	world_down(w);
}

/* Links come and go: their places, numbers and memory come back when both sides have let go. */
static void test_reuse(void **state)
{
	struct world *w = world_up(*state);
	const struct fabric *f[2] = {w->ctx[0], w->ctx[1]};
	const struct region *first = NULL;

	for (int i = 0; i < 40; i++) {
		traffic(w, 3000, 4, 4, 5, (uint64_t)i);
		pump_until(w, !f[0]->ended && !f[1]->ended);
		assert_in_range(f[0]->nwires, 1, 4);
		first = first ? first : f[0]->e.regions;
		assert_ptr_equal(f[0]->e.regions, first);
	}
	world_down(w);
}

/* Both send as much as they can at once, each on a thread of its own. */
static void test_both_ways(void **state)
{
	struct world *w = world_up(*state);
	struct link out[2], in[2];
	struct side side[2];
	pthread_t thread;

	for (int r = 0; r < 2; r++)
		join(w, r, 0, 65536, 2, &out[r], &in[r]);
	for (int r = 0; r < 2; r++)
		side[r] = (struct side){t, w->ctx[r], flow_of(&out[r], &in[r], 50 + (unsigned)r, 100),
		                        flow_of(&out[1 - r], &in[1 - r], 51 - (unsigned)r, 100)};
	assert_int_equal(pthread_create(&thread, NULL, one_side, &side[1]), 0);
	one_side(&side[0]);
	pthread_join(thread, NULL);
	for (int r = 0; r < 2; r++) {
		/* credits that the other side left to be read */
		pump_until(w, wire_of(&out[r])->posted - wire_of(&out[r])->granted <= 2);
		free(side[r].out.memory);
		free(side[r].in.memory);
	}
	assert_int_equal(w->lost[0] + w->lost[1], 0);
	world_down(w);
}

static void rest(struct world *w)
{
	for (int i = 0; i < 400; i++)
		for (int r = 0; r < 2; r++)
			pump(w, r);
}

/* Does the queue's own descriptor say that something is there, when libfabric says that one may sleep? */
static bool is_stuck(const struct fabric *f)
{
	struct fid *queue = &f->e.cq->fid;
	struct pollfd p = {.fd = f->e.wait_fd, .events = POLLIN};

	return fi_trywait(f->e.fabric, &queue, 1) == 0 && poll(&p, 1, 0) == 1;
}

static void test_sleep(void **state)
{
	struct world *w = world_up(*state);
	struct pollfd p = {.fd = t->sleep_fd(w->ctx[1]), .events = POLLIN};
	struct link out, in;
	struct flow flow;

	if (p.fd < 0) {
		print_message("this provider has no descriptor to sleep on\n");
		world_down(w);
		skip();
	}
	join(w, 0, 0, 4096, 4, &out, &in);
	flow = flow_of(&out, &in, 1, 5);
	run_flows(w, &flow, 1, 1); /* the first contact needs both */
	free(flow.memory);
	rest(w);
	if (is_stuck(w->ctx[1])) {
		print_message("this provider's descriptor stays readable after fi_trywait\n");
		world_down(w);
		skip();
	}
	for (int i = 0; i < 5; i++) {
		for (uint64_t end = patience(); rest(w), poll(&p, 1, 0) != 0;)
			assert_true(now_ns() < end);
		send_small(&out);
		for (int k = 0; k < 100; k++)
			pump(w, 0);
		assert_int_equal(poll(&p, 1, 60000), 1);
		for (uint64_t end = patience(); !link_recv_begin(&in); assert_true(now_ns() < end))
			pump(w, 1);
		link_recv_end(&in);
	}
	world_down(w);
}

int main(int argc, char **argv)
{
	const struct way_test tests[] = {
	        {"traffic", test_traffic},     {"many links", test_many_links}, {"reuse", test_reuse},
	        {"both ways", test_both_ways}, {"sleep", test_sleep},
	};
	return run_ways("libfabric: traffic", NULL, 0, tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
