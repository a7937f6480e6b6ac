/* SPDX-License-Identifier: MIT */
/*
 * The TCP transport between two ends that live here: sockets are made by a stand-in for the world. Data comes out in
 * order and unchanged, however the stream is divided; strangers' bytes and lost peers are errors that name the rank.
 * --bench compares it with plain send and recv on the same kind of socket.
 */
#include "../../src/transport.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../flow.h"

extern const struct transport transport_tcp;

#define check(rc) check_at(rc, __LINE__)
static void check_at(int rc, int line)
{
	if (rc != TUTTI_OK)
		fail_msg("line %d: status %d: %s", line, rc, fail_text());
}

/* ---- a world of two ranks ---------------------------------------------------------------------------------------- */

#define KEPT 64

enum kind { LOCAL_PAIR, LOOPBACK };

struct world {
	enum kind kind;
	int buffer; /* of each socket, 0: the system's */
	pthread_mutex_t lock;
	struct {
		uint64_t tag;
		int fd;
	} kept[KEPT];
	int nkept, dial_status, dialled, taken, dials;
	int lost[2], silent[2];
	char how[2][256];
	struct contact contacts[2];
	struct transport_env env[2];
	void *ctx[2];
};

static void make_pair(const struct world *w, int fd[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int listener;

	if (w->kind == LOCAL_PAIR) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	} else {
		listener = socket(AF_INET, SOCK_STREAM, 0);
		fd[0] = socket(AF_INET, SOCK_STREAM, 0);
		if (w->buffer) {
			setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &w->buffer, sizeof(int));
			setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &w->buffer, sizeof(int));
		}
		assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
		assert_int_equal(listen(listener, 1), 0);
		assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
		assert_int_equal(connect(fd[0], (struct sockaddr *)&at, sizeof(at)), 0);
		fd[1] = accept(listener, NULL, NULL);
		assert_true(fd[1] >= 0);
		close(listener);
	}
	for (int i = 0; i < 2 && w->buffer; i++) {
		setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &w->buffer, sizeof(int));
		setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &w->buffer, sizeof(int));
	}
}

/* What connect is given, and dial must be. */
static const _Atomic int never;
static const struct net_limit given_limit = {UINT64_MAX - 1, &never};

static int dial(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit, int *fd)
{
	struct world *w = env->world;
	int pair[2];

	(void)peer;
	if (limit.deadline != given_limit.deadline || limit.stop != given_limit.stop)
		return (fail)(TUTTI_EINVAL, "dialled with another limit");
	if (w->dial_status)
		return (fail)(w->dial_status, "no route");
	make_pair(w, pair);
	*fd = w->dialled = pair[0];
	w->dials++;
	pthread_mutex_lock(&w->lock);
	w->kept[w->nkept].tag = tag;
	w->kept[w->nkept++].fd = pair[1];
	pthread_mutex_unlock(&w->lock);
	return TUTTI_OK;
}

static int take(const struct transport_env *env, int peer, uint64_t tag)
{
	struct world *w = env->world;
	int fd = -1;

	(void)peer;
	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < w->nkept && fd < 0; i++) {
		if (w->kept[i].tag != tag)
			continue;
		fd = w->kept[i].fd;
		w->taken = fd;
		w->kept[i] = w->kept[--w->nkept];
	}
	pthread_mutex_unlock(&w->lock);
	return fd;
}

static void lost(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;

	w->lost[env->rank]++;
	snprintf(w->how[env->rank], sizeof(w->how[0]), "%d: %s", peer, how);
}

static void silent(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;

	w->silent[env->rank]++;
	snprintf(w->how[env->rank], sizeof(w->how[0]), "%d: %s", peer, how);
}

static struct world *world_up(enum kind kind, int buffer)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->kind = kind;
	w->buffer = buffer;
	pthread_mutex_init(&w->lock, NULL);
	for (int r = 0; r < 2; r++) {
		w->contacts[r].naddrs = 1;
		w->env[r] = (struct transport_env){.rank = r,
		                                   .nranks = 2,
		                                   .contacts = w->contacts,
		                                   .world = w,
		                                   .dial = dial,
		                                   .take = take,
		                                   .lost = lost,
		                                   .silent = silent};
		check(transport_tcp.open(&w->env[r], &w->ctx[r]));
		check(transport_tcp.attach(w->ctx[r]));
	}
	return w;
}

static void world_down(struct world *w)
{
	for (int r = 0; r < 2; r++)
		transport_tcp.close(w->ctx[r]);
	for (int i = 0; i < w->nkept; i++)
		close(w->kept[i].fd);
	free(w);
}

static void join(struct world *w, int from, int lane, uint32_t payload, uint32_t nslots, struct link *out,
                 struct link *in)
{
	struct link_spec send = spec_of(from, from, lane, payload, nslots);
	struct link_spec receive = spec_of(from, 1 - from, lane, payload, nslots);

	int rc = transport_tcp.connect(w->ctx[1 - from], &receive, given_limit, in);

	check(transport_tcp.connect(w->ctx[from], &send, given_limit, out));
	if (rc == LINK_PENDING) /* the higher rank waits for the lower one's dial */
		rc = transport_tcp.connect(w->ctx[1 - from], &receive, given_limit, in);
	check(rc);
	assert_true(out->ready && in->ready);
	assert_int_equal(out->tag, in->tag);
}

static void pump(struct world *w, int rank)
{
	check(transport_tcp.pump(w->ctx[rank]));
}

/* ---- traffic ----------------------------------------------------------------------------------------------------- */

#define FLOWS 12

/* Actions in random order, so that every state meets every other. */
static void run_flows(struct world *w, struct flow *flows, int n, uint64_t seed)
{
	int left = n;

	while (left) {
		uint64_t r = flow_random(&seed);
		struct flow *f = &flows[(r >> 8) % (unsigned)n];
		bool before = f->to_receive > 0;

		switch (r % 4) {
		case 0:
			for (uint64_t k = (r >> 16) % 5; k && send_one(f); k--)
				;
			break;
		case 1:
			for (uint64_t k = (r >> 16) % 5; k && receive_one(f); k--)
				;
			break;
		default:
			pump(w, (int)(r & 1));
		}
		left -= before && f->to_receive == 0;
	}
	for (int i = 0; i < n; i++) {
		assert_true(link_drained(flows[i].out));
		assert_null(link_recv_begin(flows[i].in));
	}
}

static void traffic(enum kind kind, int buffer, uint32_t payload, uint32_t nslots, int n, int frames, uint64_t seed)
{
	struct world *w = world_up(kind, buffer);
	struct link out[FLOWS], in[FLOWS];
	struct flow flows[FLOWS];

	for (int i = 0; i < n; i++) {
		join(w, i % 2, i / 2, payload, nslots, &out[i], &in[i]);
		flows[i] = flow_of(&out[i], &in[i], seed + (unsigned)i, frames);
	}
	assert_int_equal(w->dials, (n + 1) / 2); /* both directions of a lane share a socket */
	run_flows(w, flows, n, seed);
	for (int i = 0; i < n; i++) {
		transport_tcp.disconnect(w->ctx[i % 2], &out[i]);
		pump(w, 1 - i % 2);
		transport_tcp.disconnect(w->ctx[1 - i % 2], &in[i]);
		assert_false(out[i].ready || in[i].ready);
		free(flows[i].memory);
	}
	assert_int_equal(w->lost[0] + w->lost[1], 0);
	world_down(w);
}

static void test_traffic(void **state)
{
	static const uint32_t payloads[] = {1, 48, 64, 1000, 20000, 65536};

	(void)state;
	for (int kind = LOCAL_PAIR; kind <= LOOPBACK; kind++)
		for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
			for (int tiny = 0; tiny < 2; tiny++)
				for (uint32_t nslots = 2; nslots <= 32; nslots *= 4)
					traffic((enum kind)kind, tiny ? (kind == LOCAL_PAIR ? 2048 : 32768) : 0,
					        payloads[i], nslots, 2, payloads[i] > 1000 ? 60 : 300,
					        i * 100 + nslots);
}

static void test_many_links(void **state)
{
	(void)state;
	traffic(LOOPBACK, 0, 20000, 4, FLOWS, 60, 1);
	traffic(LOCAL_PAIR, 2048, 500, 2, FLOWS, 200, 2);
}

/* Both send as much as they can at once, with sockets that hold little: nobody waits for the other for ever. */
static void test_both_ways(void **state)
{
	(void)state;
	for (int buffer = 0; buffer <= 4096; buffer += 4096) {
		struct world *w = world_up(buffer ? LOCAL_PAIR : LOOPBACK, buffer);
		struct link out[2], in[2];
		struct side side[2];
		pthread_t thread;

		for (int r = 0; r < 2; r++)
			join(w, r, 0, 65536, 2, &out[r], &in[r]);
		for (int r = 0; r < 2; r++) {
			side[r] = (struct side){&transport_tcp, w->ctx[r],
			                        flow_of(&out[r], &in[r], 50 + (unsigned)r, 300),
			                        flow_of(&out[1 - r], &in[1 - r], 51 - (unsigned)r, 300)};
		}
		assert_int_equal(pthread_create(&thread, NULL, one_side, &side[1]), 0);
		one_side(&side[0]);
		pthread_join(thread, NULL);
		for (int r = 0; r < 2; r++) {
			free(side[r].out.memory);
			free(side[r].in.memory);
		}
		world_down(w);
	}
}

/* What the other end sent before it went, and that it went, is here. */
static void await_end(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	assert_int_equal(poll(&p, 1, 60000), 1);
}

/* Drops this process's hold of a socket behind the transport's back. */
static void replace(int fd)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(nothing >= 0 && dup2(nothing, fd) == fd);
	close(nothing);
}

/* ---- a peer made by hand ----------------------------------------------------------------------------------------- */

/* The receiving end at rank 0; the test holds the sender's socket. */
static int raw_sender(struct world *w, uint32_t payload, uint32_t nslots, struct link *in)
{
	struct link_spec spec = spec_of(1, 0, 0, payload, nslots);

	check(transport_tcp.connect(w->ctx[0], &spec, given_limit, in));
	assert_int_equal(w->nkept, 1);
	return w->kept[--w->nkept].fd;
}

static size_t image(uint8_t *to, const uint32_t *lens, size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t head[2] = {lens[i], (uint32_t)i};
		struct frame_of f = {.len = lens[i], .seed = i};
		memcpy(to + at, head, sizeof(head));
		paint(to + at + sizeof(head), &f);
		at += sizeof(head) + lens[i];
	}
	return at;
}

static int drain(struct link *in, const uint32_t *lens, int done)
{
	struct slot *s;

	for (; (s = link_recv_begin(in)); done++) {
		struct frame_of f = {.len = lens[done], .seed = (uint64_t)done};
		assert_int_equal(s->len, lens[done]);
		assert_int_equal(s->sig, done);
		assert_painted(slot_payload(s, s->len), &f);
		link_recv_end(in);
	}
	return done;
}

static void put(int fd, const uint8_t *p, size_t n)
{
	assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

/* Long frames, after which long ones are expected, then others; cut anywhere. */
static void test_every_cut(void **state)
{
	static const uint32_t lens[] = {8200, 8200, 100, 0, 8200, 9000, 48, 49, 8300, 8200, 20, 8200, 3};
	const int n = sizeof(lens) / sizeof(lens[0]);
	static uint8_t bytes[80000];
	size_t total = image(bytes, lens, (size_t)n);

	(void)state;
	for (size_t cut = 1; cut < total; cut += cut % 8200 < 300 || cut % 8200 > 7900 ? 1 : 17) {
		struct world *w = world_up(LOCAL_PAIR, 0);
		struct link in;
		int fd = raw_sender(w, 9000, 4, &in), done = 0;

		put(fd, bytes, cut);
		for (int i = 0; i < 8; i++) {
			pump(w, 0);
			done = drain(&in, lens, done);
		}
		put(fd, bytes + cut, total - cut);
		for (int i = 0; i < 32 && done < n; i++) {
			pump(w, 0);
			done = drain(&in, lens, done);
		}
		assert_int_equal(done, n);
		close(fd);
		world_down(w);
	}
}

static void test_byte_by_byte(void **state)
{
	static const uint32_t lens[] = {8200, 8200, 5, 8200, 0, 60, 8200, 48};
	const int n = sizeof(lens) / sizeof(lens[0]);
	static uint8_t bytes[40000];
	size_t total = image(bytes, lens, (size_t)n);
	struct world *w = world_up(LOCAL_PAIR, 0);
	struct link in;
	int fd = raw_sender(w, 9000, 2, &in), done = 0;

	(void)state;
	for (size_t i = 0; i < total; i++) {
		put(fd, bytes + i, 1);
		pump(w, 0);
		done = drain(&in, lens, done);
	}
	assert_int_equal(done, n);
	close(fd);
	world_down(w);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

#define MEMORY 60000
#define GUARD  0xa5

/* What a receiver wants where, of frames as image() makes them: those whose length is not 0. */
struct wish {
	uint8_t memory[MEMORY];
	size_t at[16];
	uint64_t told;
};

static void tell(struct link *in, struct wish *x, const uint32_t *lens, uint64_t n)
{
	for (; x->told < n && x->told - in->pos <= in->mask; x->told++)
		if (lens[x->told])
			link_place(in, x->told, x->memory + x->at[x->told], lens[x->told], (uint32_t)x->told);
}

static void wish_for(struct wish *x, const uint32_t *lens, size_t n)
{
	size_t at = 100;

	*x = (struct wish){0};
	memset(x->memory, GUARD, sizeof(x->memory));
	for (size_t i = 0; i < n; i++, at += lens[i - 1] + 10)
		x->at[i] = at;
	assert_true(at < sizeof(x->memory));
}

/* The place of frame i, and what stands around it. */
static void assert_placed(const struct wish *x, const uint32_t *lens, size_t i)
{
	struct frame_of f = {.len = lens[i], .seed = i};

	assert_painted(x->memory + x->at[i], &f);
	for (size_t k = 1; k <= 10; k++)
		assert_true(x->memory[x->at[i] - k] == GUARD && x->memory[x->at[i] + lens[i] + k - 1] == GUARD);
}

/* Takes what has come; frames with a place are there, unless they came before it was told (late). Returns how many there are. */
static size_t drain_placed(struct link *in, struct wish *x, const uint32_t *lens, const uint32_t *wished, size_t done,
                           bool late)
{
	struct slot *s;

	for (; (s = link_recv_begin(in)); done++) {
		struct frame_of f = {.len = lens[done], .seed = done};
		const struct slot_ref *ref = (const struct slot_ref *)s->data;
		bool refers = s->len & SLOT_REF;

		assert_int_equal(s->len & ~SLOT_REF, lens[done]);
		assert_int_equal(s->sig, done);
		if (refers) {
			assert_int_equal(wished[done], lens[done]);
			assert_ptr_equal(ref->addr, x->memory + x->at[done]);
			assert_placed(x, wished, done);
		} else {
			assert_true(late || !wished[done] || wished[done] != lens[done]);
			assert_painted(slot_payload(s, s->len), &f);
		}
		link_recv_end(in);
	}
	return done;
}

/*
 * Frames that come where they are wanted, cut anywhere, with places told before anything comes; told while the frames come; and
 * for some of them: none (0), or for another length, and then they are in the ring as ever.
 */
static void test_places(void **state)
{
	static const uint32_t lens[] = {8200, 8200, 100, 0, 8200, 9000, 48, 49, 8200, 20, 3};
	static const uint32_t wishes[][11] = {
	        {8200, 8200, 100, 0, 8200, 9000, 48, 49, 8200, 20, 3},
	        {8200, 0, 100, 0, 0, 9000, 0, 49, 0, 20, 0},
	        {8100, 8200, 101, 1, 8200, 1, 49, 48, 9000, 20, 4},
	};
	enum { N = sizeof(lens) / sizeof(lens[0]) };
	static uint8_t bytes[80000];
	static struct wish x;
	size_t total = image(bytes, lens, N);

	(void)state;
	for (size_t cut = 1; cut < total; cut += cut % 8200 < 300 || cut % 8200 > 7900 ? 7 : 307) {
		const uint32_t *wished = wishes[cut % 3];
		bool late = cut % 2;
		struct world *w = world_up(LOCAL_PAIR, 0);
		struct link in;
		int fd = raw_sender(w, 9000, 4, &in);
		size_t done = 0;

		wish_for(&x, wished, N);
		put(fd, bytes, cut);
		for (int i = 0; i < 64 && done < N; i++) {
			if (!late || i % 3)
				tell(&in, &x, wished, N);
			pump(w, 0);
			done = drain_placed(&in, &x, lens, wished, done, late);
			if (i == 8)
				put(fd, bytes + cut, total - cut);
		}
		assert_int_equal(done, N);
		close(fd);
		world_down(w);
	}
}

/* Another call's frame of the same length has nothing to look for in the memory of this one. */
static void test_place_of_another_call(void **state)
{
	static const uint32_t lens[] = {20, 9000};
	static uint8_t bytes[20000];
	static struct wish x;
	size_t total = image(bytes, lens, 2);
	struct frame_of f = {.len = 9000, .seed = 1};
	struct world *w = world_up(LOCAL_PAIR, 0);
	struct link in;
	int fd = raw_sender(w, 9000, 4, &in);
	struct slot *s;

	(void)state;
	wish_for(&x, lens, 2);
	link_place(&in, 1, x.memory + x.at[1], 9000, 77);
	put(fd, bytes, total);
	for (int i = 0; i < 8; i++)
		pump(w, 0);
	assert_int_equal(drain(&in, lens, 0), 2);
	assert_int_equal(x.memory[x.at[1]], GUARD);
	s = (struct slot *)(in.slots + in.stride);
	assert_int_equal(s->len, 9000);
	assert_painted(slot_payload(s, 9000), &f);
	close(fd);
	world_down(w);
}

/* When its link has ended, nothing more comes to a place: not the rest of a frame, not the next one. */
static void test_place_of_an_ended_link(void **state)
{
	static const uint32_t lens[] = {9000, 9000};
	static uint8_t bytes[20000];
	static struct wish x;
	size_t total = image(bytes, lens, 2);

	(void)state;
	for (int both = 0; both < 2; both++) {
		struct world *w = world_up(LOCAL_PAIR, 0);
		struct link in, back;
		int fd = raw_sender(w, 9000, 4, &in);

		if (both) { /* the stream lives on, for the other direction */
			struct link_spec spec = spec_of(0, 0, 0, 9000, 4);
			check(transport_tcp.connect(w->ctx[0], &spec, given_limit, &back));
		}
		wish_for(&x, lens, 2);
		tell(&in, &x, lens, 2);
		put(fd, bytes, 5000);
		for (int i = 0; i < 4; i++)
			pump(w, 0);
		assert_int_not_equal(x.memory[x.at[0] + 4000], GUARD);
		transport_tcp.disconnect(w->ctx[0], &in);
		memset(x.memory, GUARD, sizeof(x.memory));
		(void)!send(fd, bytes + 5000, total - 5000, MSG_NOSIGNAL);
		for (int i = 0; i < 8; i++)
			pump(w, 0);
		for (size_t i = 0; i < sizeof(x.memory); i++)
			assert_int_equal(x.memory[i], GUARD);
		close(fd);
		world_down(w);
	}
}

/* Packets for this socket are dropped before the kernel answers them, as if the cable were unplugged. */
static void pull_cable(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog all = {1, &drop};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all)), 0);
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

/*
 * Three worlds: in one rank 0 sends into a cable that is out, in one rank 0 waits behind such a cable for what nobody sends,
 * and in one rank 1 does not read, as if it were stopped. The first two are silent, the third is not, however long it takes.
 */
static void test_silent_hosts_are_told_from_busy_ranks(void **state)
{
	struct world *w[3];
	struct link out[3], in[3];
	uint64_t end = now_ns() + UINT64_C(60000000000);

	(void)state;
	for (int i = 0; i < 3; i++) {
		w[i] = world_up(LOOPBACK, i == 2 ? 4096 : 0);
		join(w[i], i == 1 ? 1 : 0, 0, 65536, 4, &out[i], &in[i]);
		assert_int_equal(option(w[i]->dialled, SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_true(option(w[i]->dialled, IPPROTO_TCP, TCP_KEEPIDLE) <= 4);
		assert_int_equal(option(w[i]->taken, SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_true(option(w[i]->taken, IPPROTO_TCP, TCP_KEEPIDLE) <= 4);
	}
	pull_cable(w[0]->taken);
	pull_cable(w[1]->taken);
	struct flow flow[2] = {flow_of(&out[0], &in[0], 1, 4), flow_of(&out[2], &in[2], 1, 4)};
	for (int i = 0; i < 2; i++)
		while (send_one(&flow[i]))
			;
	do {
		for (int i = 0; i < 3; i++) {
			pump(w[i], 0);
			transport_tcp.look(w[i]->ctx[0]);
		}
		assert_int_equal(w[2]->lost[0] + w[2]->silent[0], 0);
		assert_true(now_ns() < end);
		(void)poll(NULL, 0, 20);
	} while (!w[0]->silent[0] || !w[1]->silent[0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(w[i]->silent[0], i < 2);
		assert_int_equal(w[i]->lost[0], 0);
		if (i < 2)
			assert_non_null(strstr(w[i]->how[0], "1: nothing was received from rank 1's host for "));
		world_down(w[i]);
	}
	free(flow[0].memory);
	free(flow[1].memory);
}

static void assert_lost(const struct world *w, int rank, const char *how)
{
	assert_int_equal(w->lost[rank], 1);
	if (!strstr(w->how[rank], how))
		fail_msg("expected \"%s\" in: %s", how, w->how[rank]);
}

static void test_garbage(void **state)
{
	static const uint32_t bad[] = {101, 1000000, 0x80000000u | 8, 0xffffffffu};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct world *w = world_up(LOCAL_PAIR, 0);
		uint32_t frame[2] = {bad[i], 0};
		struct link in, good_out, good_in;
		struct flow flow;
		int fd = raw_sender(w, 100, 2, &in);

		join(w, 1, 1, 100, 2, &good_out, &good_in);
		flow = flow_of(&good_out, &good_in, 3, 20);
		put(fd, (uint8_t *)frame, sizeof(frame));
		pump(w, 0);
		assert_lost(w, 0, "1: rank 1 sent");
		assert_null(link_recv_begin(&in));
		run_flows(w, &flow, 1, 9); /* the others go on */
		assert_lost(w, 0, "1: rank 1 sent");
		free(flow.memory);
		close(fd);
		world_down(w);
	}
}

/* A long frame was expected, and its place is filled with what a short, bad one brings along. */
static void test_garbage_after_long(void **state)
{
	static uint8_t bytes[40000];
	static const uint32_t lens[] = {9000};
	size_t total = image(bytes, lens, 1);
	struct world *w = world_up(LOCAL_PAIR, 0);
	struct link in;
	int fd = raw_sender(w, 9000, 2, &in);

	(void)state;
	put(fd, bytes, total);
	while (drain(&in, lens, 0) == 0)
		pump(w, 0);
	memset(bytes, 0x7f, sizeof(bytes));
	put(fd, bytes, sizeof(bytes));
	pump(w, 0);
	assert_lost(w, 0, "rank 1 sent");
	assert_null(link_recv_begin(&in));
	close(fd);
	world_down(w);
}

/* ---- how it ends ------------------------------------------------------------------------------------------------- */

/*
 * An end of file is not a death, wherever it comes; a reset is. Everything that arrived completely before is available.
 */
static void test_end_anywhere(void **state)
{
	static const uint32_t lens[] = {60, 300};
	const struct linger reset = {.l_onoff = 1};
	uint8_t bytes[400];
	size_t total = image(bytes, lens, 2);

	(void)state;
	for (size_t cut = 0; cut < 2 * total; cut++) {
		struct world *w = world_up(LOOPBACK, 0);
		bool dies = cut >= total;
		struct link in;
		int fd = raw_sender(w, 300, 4, &in);

		put(fd, bytes, cut % total);
		if (dies)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		await_end(w->dialled);
		pump(w, 0);
		pump(w, 0);
		pump(w, 0);
		assert_int_equal(drain(&in, lens, 0), cut % total >= sizeof(uint32_t[2]) + lens[0]);
		if (dies)
			assert_lost(w, 0, "1: the TCP connection with rank 1 broke");
		else
			assert_int_equal(w->lost[0], 0);
		world_down(w);
	}
}

/* The end has arrived already; what it means is seen at the latest when something is sent after it. */
static void send_until_closed(struct world *w, struct link *out)
{
	await_end(w->dialled);
	for (int i = 0; i < 1000 && !w->lost[0]; i++) {
		struct slot *s = link_send_begin(out);
		if (s)
			link_send_end(out, s, 0, 1);
		pump(w, 0);
	}
}

static void test_receiver_gone(void **state)
{
	(void)state;
	for (int meant = 0; meant < 2; meant++) {
		struct world *w = world_up(LOOPBACK, 0);
		struct link out, in;
		int fd;

		join(w, 0, 0, 1000, 8, &out, &in);
		fd = w->taken;
		link_send_end(&out, link_send_begin(&out), 1000, 1);
		pump(w, 0); /* lies unread when the receiver closes */
		if (meant)
			transport_tcp.disconnect(w->ctx[1], &in);
		else
			replace(fd);
		send_until_closed(w, &out);
		if (meant)
			assert_int_equal(w->lost[0], 0);
		else
			assert_lost(w, 0, "1: the TCP connection with rank 1 broke");
		transport_tcp.disconnect(w->ctx[0], &out);
		world_down(w);
	}
}

#ifndef __SANITIZE_THREAD__ /* which has to see what is sent */
static _Thread_local int last_flags;

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	last_flags = flags;
	return syscall(SYS_sendto, fd, p, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	last_flags = flags;
	return syscall(SYS_sendmsg, fd, msg, flags);
}

static int flags_of_frame(struct world *w, struct link *out, uint32_t bytes)
{
	struct slot *s = link_send_begin(out);

	assert_non_null(s);
	memset(slot_payload(s, bytes), 1, bytes);
	link_send_end(out, s, bytes, 1);
	pump(w, 0);
	return last_flags;
}

/* The end of a long frame does not wait in the kernel; short ones may share a packet. */
static void test_ends_are_not_held_back(void **state)
{
	struct world *w = world_up(LOOPBACK, 0);
	struct link out, in;

	(void)state;
	join(w, 0, 0, 20000, 4, &out, &in);
	assert_true(flags_of_frame(w, &out, 20000) & MSG_EOR);
	assert_false(flags_of_frame(w, &out, 8) & MSG_EOR);
	transport_tcp.disconnect(w->ctx[0], &out);
	transport_tcp.disconnect(w->ctx[1], &in);
	world_down(w);
}
#endif

/* A process that sends and then leaves in order, or dies. */
static void test_sender_process(void **state)
{
	(void)state;
	for (int dies = 0; dies < 2; dies++) {
		struct world *w = world_up(LOOPBACK, 0);
		struct link out, in;
		struct flow flow;
		pid_t child;
		int status;

		join(w, 0, 0, 20000, 8, &out, &in);
		flow = flow_of(&out, &in, 4, 8);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			while (send_one(&flow))
				;
			while (!link_drained(&out))
				transport_tcp.pump(w->ctx[0]);
			if (!dies)
				transport_tcp.disconnect(w->ctx[0], &out);
			_exit(0); /* what the kernel has taken arrives */
		}
		replace(w->dialled);
		while (flow.to_receive)
			if (!receive_one(&flow)) {
				assert_int_equal(w->lost[1], 0);
				pump(w, 1);
			}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		await_end(w->taken);
		pump(w, 1);
		assert_int_equal(w->lost[1], 0); /* that a process is gone, others tell */
		free(flow.memory);
		world_down(w);
	}
}

/* ---- sleeping ---------------------------------------------------------------------------------------------------- */

static bool would_wake(struct world *w, int rank, int ms)
{
	struct pollfd p = {.fd = transport_tcp.sleep_fd(w->ctx[rank]), .events = POLLIN};
	return poll(&p, 1, ms) == 1;
}

static void test_sleep(void **state)
{
	struct world *w = world_up(LOCAL_PAIR, 0);
	struct link out, in;
	struct flow flow;

	(void)state;
	join(w, 0, 0, 4096, 2, &out, &in);
	flow = flow_of(&out, &in, 11, 3000);
	assert_false(would_wake(w, 0, 0) || would_wake(w, 1, 0));

	/* the sender fills ring and socket: it wakes when the peer has read, not before */
	for (int i = 0; i < 2000; i++) {
		send_one(&flow);
		pump(w, 0);
	}
	assert_false(link_drained(&out));
	assert_false(would_wake(w, 0, 0));
	assert_true(would_wake(w, 1, 10000));

	/* the receiver's ring is full: more bytes must not wake it */
	for (int i = 0; i < 200; i++)
		pump(w, 1);
	assert_non_null(link_recv_begin(&in));
	assert_false(would_wake(w, 1, 0));
	while (receive_one(&flow))
		;
	pump(w, 1);
	while (!would_wake(w, 0, 0)) {
		while (receive_one(&flow))
			;
		pump(w, 1);
	}
	flow.to_send = 0;
	while (!link_drained(&out)) {
		while (receive_one(&flow))
			;
		pump(w, 0);
		pump(w, 1);
	}
	while (receive_one(&flow) || (pump(w, 1), link_recv_begin(&in)))
		;
	assert_false(would_wake(w, 0, 0) || would_wake(w, 1, 0));

	/* a closed connection wakes once */
	transport_tcp.disconnect(w->ctx[0], &out);
	assert_true(would_wake(w, 1, 10000));
	pump(w, 1);
	assert_false(would_wake(w, 1, 0));
	free(flow.memory);
	world_down(w);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void test_life(void **state)
{
	struct link_spec spec = spec_of(0, 0, 0, 100, 2);
	struct world *w = world_up(LOCAL_PAIR, 0);
	uint8_t blob[CONTACT_BLOB], zero[CONTACT_BLOB] = {0};
	struct link link = {0};

	(void)state;
	memset(blob, 1, sizeof(blob));
	transport_tcp.address(w->ctx[0], blob);
	assert_memory_equal(blob, zero, sizeof(blob));
	assert_int_not_equal(transport_tcp.fabric(w->ctx[0]), 0);
	assert_int_equal(transport_tcp.fabric(w->ctx[0]), transport_tcp.fabric(w->ctx[1]));
	w->contacts[1].naddrs = 0;
	assert_int_equal(transport_tcp.fabric(w->ctx[1]), 0);
	w->dial_status = TUTTI_ETIMEOUT;
	assert_int_equal(transport_tcp.connect(w->ctx[0], &spec, given_limit, &link), TUTTI_ETIMEOUT);
	assert_string_equal(fail_text(), "no route");
	assert_false(link.ready);
	transport_tcp.disconnect(w->ctx[0], &link);
	transport_tcp.close(NULL);
	world_down(w);
}

/* ---- bench ------------------------------------------------------------------------------------------------------- */

#define BENCH_PAYLOAD 65536u
#define BENCH_ROUNDS  2000

struct bench {
	struct world *w;
	int rank, fd[2]; /* raw: out, in */
	struct link out, in;
	uint8_t *from, *to;
	size_t bytes;
};

static void raw_exchange(struct bench *b)
{
	size_t sent = 0, got = 0;

	while (sent < b->bytes || got < b->bytes) {
		ssize_t n = sent < b->bytes ? send(b->fd[0], b->from + sent, b->bytes - sent, MSG_DONTWAIT) : 0;
		sent += n > 0 ? (size_t)n : 0;
		n = got < b->bytes ? recv(b->fd[1], b->to + got, b->bytes - got, MSG_DONTWAIT) : 0;
		got += n > 0 ? (size_t)n : 0;
	}
}

static void link_exchange(struct bench *b)
{
	size_t sent = 0, got = 0;

	while (sent < b->bytes || got < b->bytes || !link_drained(&b->out)) {
		struct slot *s = sent < b->bytes ? link_send_begin(&b->out) : NULL;

		if (s) {
			size_t n = b->bytes - sent < BENCH_PAYLOAD ? b->bytes - sent : BENCH_PAYLOAD;
			bool ref = n >= b->out.refer_any;
			struct slot_ref r = {(uint64_t)(uintptr_t)(b->from + sent), n};
			memcpy(ref ? s->data : slot_payload(s, n), ref ? (void *)&r : b->from + sent,
			       ref ? sizeof(r) : n);
			link_send_end(&b->out, s, (uint32_t)n | (ref ? SLOT_REF : 0), 1);
			sent += n;
			continue;
		}
		s = link_recv_begin(&b->in);
		if (s) {
			memcpy(b->to + got, slot_payload(s, s->len), s->len);
			got += s->len;
			link_recv_end(&b->in);
			continue;
		}
		check(transport_tcp.pump(b->w->ctx[b->rank]));
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static const size_t bench_sizes[] = {8, 512, 4096, 32768, 262144, 2097152, 16777216};

/* Rounds of both kinds in turn; rank 0 prints medians. */
static void *bench_side(void *arg)
{
	struct bench *b = arg;

	for (size_t i = 0; i < sizeof(bench_sizes) / sizeof(bench_sizes[0]); i++) {
		int rounds = bench_sizes[i] < 100000 ? BENCH_ROUNDS : bench_sizes[i] < 3000000 ? 200 : 20;
		double us[2][BENCH_ROUNDS];

		b->bytes = bench_sizes[i];
		for (int k = 0; k < 2 * rounds; k++) {
			uint64_t t = now_ns();
			if (k % 2)
				link_exchange(b);
			else
				raw_exchange(b);
			us[k % 2][k / 2] = (double)(now_ns() - t) / 1000;
		}
		for (int k = 0; k < 2; k++)
			qsort(us[k], (size_t)rounds, sizeof(double), by_value);
		if (b->rank == 0)
			printf("%9zu B  send/recv %9.2f us  link %9.2f us  ratio %.2f\n", b->bytes, us[0][rounds / 2],
			       us[1][rounds / 2], us[1][rounds / 2] / us[0][rounds / 2]);
	}
	return NULL;
}

static int bench(void)
{
	struct world *w = world_up(LOOPBACK, 0);
	struct bench b[2];
	pthread_t thread;
	int pair[2][2], on = 1;

	for (int r = 0; r < 2; r++) {
		make_pair(w, pair[r]);
		setsockopt(pair[r][0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	for (int r = 0; r < 2; r++) {
		b[r] = (struct bench){.w = w, .rank = r, .fd = {pair[r][0], pair[1 - r][1]}};
		b[r].from = calloc(1, 16777216);
		b[r].to = calloc(1, 16777216);
	}
	join(w, 0, 0, BENCH_PAYLOAD, 8, &b[0].out, &b[1].in);
	join(w, 1, 0, BENCH_PAYLOAD, 8, &b[1].out, &b[0].in);
	pthread_create(&thread, NULL, bench_side, &b[1]);
	bench_side(&b[0]);
	pthread_join(thread, NULL);
	world_down(w);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_life),
	        cmocka_unit_test(test_traffic),
	        cmocka_unit_test(test_many_links),
	        cmocka_unit_test(test_both_ways),
	        cmocka_unit_test(test_silent_hosts_are_told_from_busy_ranks),
	        cmocka_unit_test(test_every_cut),
	        cmocka_unit_test(test_byte_by_byte),
	        cmocka_unit_test(test_places),
	        cmocka_unit_test(test_place_of_another_call),
	        cmocka_unit_test(test_place_of_an_ended_link),
	        cmocka_unit_test(test_garbage),
	        cmocka_unit_test(test_garbage_after_long),
	        cmocka_unit_test(test_end_anywhere),
	        cmocka_unit_test(test_receiver_gone),
	        cmocka_unit_test(test_sender_process),
#ifndef __SANITIZE_THREAD__
	        cmocka_unit_test(test_ends_are_not_held_back),
#endif
	        cmocka_unit_test(test_sleep),
	};

	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
		return bench();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
