/* SPDX-License-Identifier: MIT */
/*
 * How a connection over libfabric ends: a peer that leaves is not an error, and one that dies is.
 */
#include "../../src/os/os.h"
#include "ends.h"

static int links_up(struct world *w, int self, struct link *out, struct link *in)
{
	struct link_spec send = spec_of(self, self, 0, 20000, 4), receive = spec_of(1 - self, self, 0, 20000, 4);
	int a = LINK_PENDING, b = LINK_PENDING;

	for (uint64_t end = patience(); (a || b) && a <= 0 && b <= 0 && now_ns() < end;) {
		a = a ? t->connect(w->ctx[self], &send, no_limit, out) : a;
		b = b ? t->connect(w->ctx[self], &receive, no_limit, in) : b;
	}
	return a ? a : b;
}

/* The other end in a process of its own, which leaves in order when its part is over. */
static void other_end(struct world *w, int peer_blob, void (*part)(struct world *, struct link *, struct link *))
{
	struct link out, in;

	(void)os_end_with_parent();
	if (t->open(&w->env[1], &w->ctx[1]) != TUTTI_OK)
		_exit(3);
	t->address(w->ctx[1], w->contacts[1].transport[2]);
	if (write(peer_blob, w->contacts[1].transport[2], CONTACT_BLOB) != CONTACT_BLOB ||
	    read(peer_blob, w->contacts[0].transport[2], CONTACT_BLOB) != CONTACT_BLOB)
		_exit(4);
	w->env[1].contacts = w->contacts;
	if (t->attach(w->ctx[1]) != TUTTI_OK)
		_exit(5);
	if (links_up(w, 1, &out, &in) != TUTTI_OK)
		_exit(6);
	part(w, &out, &in);
	t->close(w->ctx[1]);
	_exit(0);
}

static void send_slots(struct world *w, struct link *out, struct link *in, int n)
{
	struct flow flow = flow_of(out, in, 4, n);

	while (flow.to_send || !link_drained(out)) {
		send_one(&flow);
		if (t->pump(w->ctx[1]) != TUTTI_OK)
			_exit(7);
	}
}

static void sends(struct world *w, struct link *out, struct link *in)
{
	send_slots(w, out, in, 30);
	t->disconnect(w->ctx[1], out);
	t->disconnect(w->ctx[1], in);
}

static void sends_until_it_dies(struct world *w, struct link *out, struct link *in)
{
	send_slots(w, out, in, 1000000);
}

/* It is killed where it holds none of the locks that it shares: see docs/libfabric.md. */
static void sends_and_stops(struct world *w, struct link *out, struct link *in)
{
	send_slots(w, out, in, 30);
	raise(SIGSTOP);
}

static void goes(struct world *w, struct link *out, struct link *in)
{
	(void)w;
	(void)out;
	(void)in;
}

static pid_t start_other(struct world *w, void (*part)(struct world *, struct link *, struct link *))
{
	int blobs[2];
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, blobs), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(w->channel[0]);
		close(blobs[0]);
		other_end(w, blobs[1], part);
	}
	close(w->channel[1]);
	w->channel[1] = -1;
	close(blobs[1]);
	open_end(w, 0);
	if (write(blobs[0], w->contacts[0].transport[2], CONTACT_BLOB) != CONTACT_BLOB ||
	    read(blobs[0], w->contacts[1].transport[2], CONTACT_BLOB) != CONTACT_BLOB)
		fail_msg("the child did not come up");
	close(blobs[0]);
	attach(w, 0);
	return child;
}

static void end_here(struct world *w)
{
	t->close(w->ctx[0]);
	if (w->channel[0] >= 0)
		close(w->channel[0]);
	free(w);
}

static void with_a_process(const struct fabric_way *way, bool dies)
{
	struct world *w = world_new(way);
	bool quiet = strcmp(way->provider, "shm") == 0;
	pid_t child = start_other(w, !dies ? sends : quiet ? sends_and_stops : sends_until_it_dies);
	struct link out, in;
	struct flow flow;
	int status = 0;

	check(links_up(w, 0, &out, &in));
	flow = flow_of(&out, &in, 4, 30);
	for (uint64_t end = patience(); flow.to_receive; assert_true(now_ns() < end))
		if (!receive_one(&flow))
			pump(w, 0);
	while (dies && quiet && !WIFSTOPPED(status))
		pump(w, 0), (void)waitpid(child, &status, WNOHANG | WUNTRACED);
	if (dies)
		kill(child, SIGKILL);
	for (uint64_t end = dies ? patience() : now_ns() + 1500000000u; now_ns() < end && !w->lost[0];) {
		struct slot *s = link_send_begin(&out); /* into the void */
		if (s)
			link_send_end(&out, s, 100, 1);
		pump(w, 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (dies)
		assert_lost(w, 0, "1: libfabric ");
	else
		assert_int_equal(w->lost[0], 0);
	assert_int_equal(status, dies ? SIGKILL : 0);
	free(flow.memory);
	end_here(w);
}

/*
 * What nobody will acknowledge any more must not be waited for: a peer that leaves has all that it wants. Sent before that
 * is heard, or after.
 */
static void sends_to_nobody(const struct fabric_way *way, bool heard)
{
	struct world *w = world_new(way);
	pid_t child = start_other(w, goes);
	const struct fabric *f = w->ctx[0];
	struct link out, in;
	int status;

	check(links_up(w, 0, &out, &in));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (uint64_t end = patience(); heard && !f->peers[1].left; pump(w, 0))
		assert_true(now_ns() < end);
	for (int i = 0; i < 3; i++)
		send_small(&out);
	for (uint64_t end = patience(); !link_drained(&out); pump(w, 0))
		assert_true(now_ns() < end);
	assert_int_equal(w->lost[0], 0);
	end_here(w);
}

static void test_leaves_first(void **state)
{
	sends_to_nobody(*state, false);
	sends_to_nobody(*state, true);
}

static void test_leaves(void **state)
{
	with_a_process(*state, false);
}

static void test_dies(void **state)
{
	with_a_process(*state, true);
}

int main(int argc, char **argv)
{
	const struct way_test tests[] = {
	        {"the peer leaves", test_leaves},
	        {"the peer leaves first", test_leaves_first},
	        {"the peer dies", test_dies},
	};
	return run_ways("libfabric: end", NULL, 0, tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
