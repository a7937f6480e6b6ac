/*
 * The libfabric transport between two ends that live here, or here and in a child, over every provider that needs no
 * hardware and both ways in which slots travel: what goes in comes out, credits and memory come back, strangers and
 * nonsense do no harm, a peer that leaves is no error and one that dies is one. Providers that this machine's libfabric
 * does not have are skipped by name.
 */
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../fabrics.h"
#include "../flow.h"
#include "../ranks.h"

extern const struct transport transport_libfabric;
static const struct transport *const t = &transport_libfabric;

#define check(rc) check_at(rc, __LINE__)
static void check_at(int rc, int line)
{
	if (rc != TUTTI_OK)
		fail_msg("line %d: status %d: %s", line, rc, fail_text());
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

static int dial(const struct transport_env *env, int peer, uint64_t tag, int *fd)
{
	struct world *w = env->world;

	(void)peer;
	(void)tag;
	pthread_mutex_lock(&w->lock);
	*fd = w->channel[env->rank];
	w->channel[env->rank] = -1;
	pthread_mutex_unlock(&w->lock);
	return *fd < 0 ? (fail)(TUTTI_EPEER, "nobody there") : TUTTI_OK;
}

static int take(const struct transport_env *env, int peer, uint64_t tag)
{
	int fd = -1;

	(void)dial(env, peer, tag, &fd);
	return fd;
}

static void lost(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;

	w->lost[env->rank]++;
	snprintf(w->how[env->rank], sizeof(w->how[0]), "%d: %s", peer, how);
}

static struct world *world_new(const struct fabric_way *way)
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

static void open_end(struct world *w, int r)
{
	if (t->open(&w->env[r], &w->ctx[r]) != TUTTI_OK) {
		print_message("%s\n", fail_text());
		t->close(w->ctx[r]);
		skip();
	}
	t->address(w->ctx[r], w->contacts[r].transport[2]);
}

static void attach(struct world *w, int r)
{
	w->env[r].contacts = w->contacts;
	check(t->attach(w->ctx[r]));
	assert_int_not_equal(t->fabric(w->ctx[r]), 0);
}

static struct world *world_up(const struct fabric_way *way)
{
	struct world *w = world_new(way);

	for (int r = 0; r < 2; r++)
		open_end(w, r);
	for (int r = 0; r < 2; r++)
		attach(w, r);
	assert_int_equal(t->fabric(w->ctx[0]), t->fabric(w->ctx[1]));
	return w;
}

static void world_down(struct world *w)
{
	for (int r = 0; r < 2; r++)
		t->close(w->ctx[r]);
	for (int r = 0; r < 2; r++)
		if (w->channel[r] >= 0)
			close(w->channel[r]);
	free(w);
}

static struct link_spec spec_of(int from, int self, int lane, uint32_t payload, uint32_t nslots)
{
	return (struct link_spec){.comm = 7,
	                          .peer = 1 - self,
	                          .lane = lane,
	                          .outgoing = from == self,
	                          .payload = payload,
	                          .nslots = nslots};
}

static void pump(struct world *w, int rank)
{
	check(t->pump(w->ctx[rank]));
}

static void join(struct world *w, int from, int lane, uint32_t payload, uint32_t nslots, struct link *out,
                 struct link *in)
{
	struct link_spec send = spec_of(from, from, lane, payload, nslots);
	struct link_spec receive = spec_of(from, 1 - from, lane, payload, nslots);
	int a = LINK_PENDING, b = LINK_PENDING;

	for (uint64_t end = now_ns() + 10000000000u; a || b;) {
		a = a ? t->connect(w->ctx[from], &send, out) : a;
		b = b ? t->connect(w->ctx[1 - from], &receive, in) : b;
		assert_true(now_ns() < end);
		check(a == LINK_PENDING ? TUTTI_OK : a);
		check(b == LINK_PENDING ? TUTTI_OK : b);
	}
	assert_true(out->ready && in->ready);
	assert_int_equal(out->tag, in->tag);
}

static const struct wire *wire_of(const struct link *l)
{
	return l->wire;
}

/* ---- traffic ----------------------------------------------------------------------------------------------------- */

#define FLOWS 8

/* Actions in random order, so that every state meets every other. */
static void run_flows(struct world *w, struct flow *flows, int n, uint64_t seed)
{
	uint64_t end = now_ns() + 60000000000u;

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
		while (!link_drained(flows[i].out)) {
			pump(w, 0);
			pump(w, 1);
			assert_true(now_ns() < end);
		}
		assert_null(link_recv_begin(flows[i].in));
	}
}

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
		for (int k = 0; k < 200 && (f[0]->ended || f[1]->ended); k++) {
			pump(w, 0);
			pump(w, 1);
		}
		assert_int_equal(f[0]->ended + f[1]->ended, 0);
		assert_in_range(f[0]->nwires, 1, 4);
		first = first ? first : f[0]->e.regions;
		assert_ptr_equal(f[0]->e.regions, first);
	}
	world_down(w);
}

struct side {
	struct world *w;
	int rank;
	struct flow out, in;
};

static void *one_side(void *arg)
{
	struct side *s = arg;

	while (s->out.to_send || s->in.to_receive || !link_drained(s->out.out)) {
		while (send_one(&s->out) || receive_one(&s->in))
			;
		pump(s->w, s->rank);
		sched_yield();
	}
	return NULL;
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
		side[r] = (struct side){w, r, flow_of(&out[r], &in[r], 50 + (unsigned)r, 100),
		                        flow_of(&out[1 - r], &in[1 - r], 51 - (unsigned)r, 100)};
	assert_int_equal(pthread_create(&thread, NULL, one_side, &side[1]), 0);
	one_side(&side[0]);
	pthread_join(thread, NULL);
	for (int i = 0; i < 100; i++) /* credits that the other side left to be read */
		for (int r = 0; r < 2; r++)
			pump(w, r);
	for (int r = 0; r < 2; r++) {
		assert_true(wire_of(&out[r])->posted - wire_of(&out[r])->granted <= 2);
		free(side[r].out.memory);
		free(side[r].in.memory);
	}
	assert_int_equal(w->lost[0] + w->lost[1], 0);
	world_down(w);
}

/* ---- what must not be believed ----------------------------------------------------------------------------------- */

static void assert_lost(const struct world *w, int rank, const char *how)
{
	assert_int_equal(w->lost[rank], 1);
	if (!strstr(w->how[rank], how))
		fail_msg("expected \"%s\" in: %s", how, w->how[rank]);
}

static void send_small(struct link *out)
{
	struct slot *s = link_send_begin(out);

	assert_non_null(s);
	link_send_end(out, s, 8, 1);
}

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
		assert_int_equal(f->strangers, 1);
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
			while (!link_drained(&out))
				pump(w, 0), pump(w, 1);
			((struct wire *)out.wire)->posted--; /* once more */
		} else {
			((struct wire *)in.wire)->told = (uint64_t)-3; /* it owes more than it got */
			for (int k = 0; k < 100; k++)
				pump(w, 0), pump(w, 1);
		}
		for (uint64_t end = now_ns() + 5000000000u; !w->lost[0] && !w->lost[1] && now_ns() < end;)
			pump(w, 0), pump(w, 1);
		if (kind == 0 && strcmp(way->mode, "write") == 0)
			assert_lost(w, 1, "rank 0: it gave a slot that is in use");
		else
			assert_lost(w, 0, "rank 1: it gave back slots that it never got");
		world_down(w);
	}
}

/* Somebody else with an endpoint of the same fabric, who knows the address: it can send, and nothing comes of it. */
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

/* ---- how it ends ------------------------------------------------------------------------------------------------- */

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

/* ---- sleeping ---------------------------------------------------------------------------------------------------- */

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
		rest(w);
		assert_int_equal(poll(&p, 1, 0), 0);
		send_small(&out);
		for (int k = 0; k < 100; k++)
			pump(w, 0);
		assert_int_equal(poll(&p, 1, 5000), 1);
		for (uint64_t end = now_ns() + 5000000000u; !link_recv_begin(&in); assert_true(now_ns() < end))
			pump(w, 1);
		link_recv_end(&in);
	}
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

/* What a rank says at its start when nothing but libfabric is allowed. */
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

static const struct {
	const char *name;
	void (*fn)(void **state);
} tests[] = {
        {"traffic", test_traffic},     {"many links", test_many_links},       {"reuse", test_reuse},
        {"both ways", test_both_ways}, {"wrong nonce", test_wrong_nonce},     {"nonsense", test_nonsense},
        {"a stranger", test_stranger}, {"the peer leaves", test_leaves},      {"the peer dies", test_dies},
        {"sleep", test_sleep},         {"loopback only", test_loopback_only},
};
#define TESTS (sizeof(tests) / sizeof(tests[0]))

/* The first argument selects tests by a pattern. */
int main(int argc, char **argv)
{
	static struct CMUnitTest all[TESTS * FABRIC_WAYS + 2];
	static char names[TESTS * FABRIC_WAYS][64];
	size_t n = 0;

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	all[n++] = (struct CMUnitTest){"start", test_start, NULL, NULL, NULL}; /* before this process has loaded it */
	all[n++] = (struct CMUnitTest){"refusals", test_refusals, NULL, NULL, NULL};
	for (size_t i = 0; i < FABRIC_WAYS; i++)
		for (size_t k = 0; k < TESTS; k++, n++) {
			char *name = names[i * TESTS + k];
			snprintf(name, sizeof(names[0]), "%s over %s by %s", tests[k].name, fabric_ways[i].provider,
			         fabric_ways[i].mode);
			all[n] = (struct CMUnitTest){name, tests[k].fn, NULL, NULL, (void *)(uintptr_t)&fabric_ways[i]};
		}
	return _cmocka_run_group_tests("libfabric", all, n, NULL, NULL);
}
