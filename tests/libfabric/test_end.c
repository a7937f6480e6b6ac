/*
 * How a connection over libfabric ends: a peer that leaves is no error, and one that dies is one.
 */
#include "ends.h"

/* The other end in a process of its own: it sends until it dies or has sent all, and then leaves in order. */
static void other_end(struct world *w, int peer_blob, bool dies)
{
	struct link out, in;
	struct link_spec send = spec_of(1, 1, 0, 20000, 4), receive = spec_of(0, 1, 0, 20000, 4);
	struct flow flow;
	int a = LINK_PENDING, b = LINK_PENDING;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (t->open(&w->env[1], &w->ctx[1]) != TUTTI_OK)
		_exit(3);
	t->address(w->ctx[1], w->contacts[1].transport[2]);
	if (write(peer_blob, w->contacts[1].transport[2], CONTACT_BLOB) != CONTACT_BLOB ||
	    read(peer_blob, w->contacts[0].transport[2], CONTACT_BLOB) != CONTACT_BLOB)
		_exit(4);
	w->env[1].contacts = w->contacts;
	if (t->attach(w->ctx[1]) != TUTTI_OK)
		_exit(5);
	while (a || b) {
		a = a ? t->connect(w->ctx[1], &send, &out) : a;
		b = b ? t->connect(w->ctx[1], &receive, &in) : b;
		if (a > 0 || b > 0)
			_exit(6);
	}
	flow = flow_of(&out, &in, 4, dies ? 1000000 : 30);
	while (flow.to_send || !link_drained(&out)) {
		send_one(&flow);
		if (t->pump(w->ctx[1]) != TUTTI_OK)
			_exit(7);
	}
	t->disconnect(w->ctx[1], &out);
	t->disconnect(w->ctx[1], &in);
	t->close(w->ctx[1]);
	_exit(0);
}

static pid_t start_other(struct world *w, bool dies)
{
	int blobs[2];
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, blobs), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(w->channel[0]);
		close(blobs[0]);
		other_end(w, blobs[1], dies);
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

static void with_a_process(const struct fabric_way *way, bool dies)
{
	struct world *w = world_new(way);
	pid_t child = start_other(w, dies);
	struct link out, in;
	struct flow flow;
	int a = LINK_PENDING, b = LINK_PENDING, status;
	struct link_spec send = spec_of(0, 0, 0, 20000, 4), receive = spec_of(1, 0, 0, 20000, 4);

	for (uint64_t end = now_ns() + 20000000000u; a || b;) {
		a = a ? t->connect(w->ctx[0], &send, &out) : a;
		b = b ? t->connect(w->ctx[0], &receive, &in) : b;
		check(a == LINK_PENDING ? TUTTI_OK : a);
		check(b == LINK_PENDING ? TUTTI_OK : b);
		assert_true(now_ns() < end);
	}
	flow = flow_of(&out, &in, 4, 30);
	for (uint64_t end = now_ns() + 20000000000u; flow.to_receive; assert_true(now_ns() < end))
		if (!receive_one(&flow))
			pump(w, 0);
	if (dies)
		kill(child, SIGKILL);
	for (uint64_t end = now_ns() + (dies ? 5000000000u : 1500000000u); now_ns() < end && !w->lost[0];) {
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
	t->close(w->ctx[0]);
	if (w->channel[0] >= 0)
		close(w->channel[0]);
	free(w);
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
	        {"the peer dies", test_dies},
	};
	return run_ways("libfabric: end", NULL, 0, tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
