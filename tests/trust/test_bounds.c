/* SPDX-License-Identifier: MIT */
/*
 * A broken or malicious rank of the job: it writes invalid addresses, offsets, lengths and indexes into shared memory
 * and into its messages at the start. The other rank gets an error that names the rank and the fault, or its result;
 * never a signal, and never an endless wait.
 *
 * Each attack is a job of two processes. The good one runs `good` and reports a status and a text to the test; the broken one
 * runs `broken`, and is killed when the good one has ended.
 */
#include "../unit/expect.h"

#include "../../src/comm/comm.h"
#include "../../src/os/os.h"
#include "tutti.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG                 ((size_t)256 << 10) /* floats: 1 MiB */
#define NEAR                 ((size_t)16 << 20)  /* of a region: all that these jobs use of it */
#define DIRECTORY            8192
#define APART_FROM_DIRECTORY 384 /* position of a region's directory; only tests know it */
#define GOOD                 0
#define LIMIT                60000 /* ms */

struct side {
	struct tutti_comm *comm;
	int other; /* socket to the other rank */
};

struct attack {
	void (*broken)(struct side *);
	int (*good)(struct side *);
	const char *says[2]; /* parts of the good rank's error; NULL: it gets none */
	const char *env[6];  /* names and values, of both */
	int broken_rank;     /* 0: is 1 */
	void (*meddle)(struct side *, int turn, uint8_t *mine, const uint8_t *all,
	               size_t bytes); /* starts by an all-gather */
};

/* ---- what both do ------------------------------------------------------------------------------------------------ */

static void say(const struct side *s)
{
	if (write(s->other, "!", 1) != 1)
		_exit(3);
}

static void await(const struct side *s)
{
	char c;
	if (read(s->other, &c, 1) != 1)
		_exit(3);
}

static void need(int rc, const char *what)
{
	if (rc == TUTTI_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, tutti_last_error(NULL));
	_exit(4);
}

static float *shared_floats(struct side *s)
{
	void *p;
	need(tutti_mem_alloc(s->comm, LONG * sizeof(float), &p), "tutti_mem_alloc");
	memset(p, 0, LONG * sizeof(float));
	return p;
}

static uint8_t *region(const struct side *s, int rank)
{
	return (uint8_t *)segment_bell(s->comm->world->segment, rank);
}

/* One past the mapping, which has a page before the regions, and their length in it. */
static uint64_t end_of_segment(const struct side *s)
{
	uint64_t stride;
	memcpy(&stride, region(s, 0) - 4096 + sizeof(uint64_t), sizeof(stride));
	return (uint64_t)(uintptr_t)region(s, 0) + 2 * stride;
}

/* The word of that value in a rank's region, once the calls under way have put it there. */
static uint64_t *await_word(const struct side *s, int rank, uint64_t value, struct tutti_request **req)
{
	uint64_t until = now_ns() + 10000000000u;
	int done = 0;
	while (now_ns() < until) {
		need(tutti_test(req, &done), "tutti_test");
		for (uint64_t *w = (uint64_t *)(void *)region(s, rank), *end = w + NEAR / 8; w < end; w++)
			if (__atomic_load_n(w, __ATOMIC_RELAXED) == value)
				return w;
	}
	fprintf(stderr, "what was to be broken is not there\n");
	_exit(5);
}

/* All that a rank has published, `then` with each; their number. */
static int each_published(const struct side *s, int rank, void (*then)(const struct side *, uint64_t *entry))
{
	uint64_t *entry = (uint64_t *)(void *)(region(s, rank) + APART_FROM_DIRECTORY);
	int n = 0;
	for (int i = 0; i < DIRECTORY; i++, entry += 2)
		if (entry[0] > 1 && entry[1]) { /* not that it is a member of a communicator */
			then(s, entry);
			n++;
		}
	return n;
}

static void await_published(const struct side *s, struct tutti_request **req,
                            void (*then)(const struct side *, uint64_t *entry))
{
	int done;
	for (int i = 0; i < 1000; i++) {
		need(tutti_test(req, &done), "tutti_test");
		if (each_published(s, 1, then) > 0)
			return;
		usleep(1000);
	}
	fprintf(stderr, "nothing was published\n");
	_exit(5);
}

/* ---- lent addresses ---------------------------------------------------------------------------------------------- */

static int reduce_long(struct side *s)
{
	float *in = shared_floats(s), *out = shared_floats(s);
	need(tutti_barrier(s->comm, NULL), "tutti_barrier");
	await(s);
	return tutti_allreduce(in, out, LONG, TUTTI_F32, TUTTI_SUM, s->comm, NULL);
}

/* Lends a vector, and then says that it stands at `address`. */
static void lend_at(struct side *s, uint64_t address)
{
	float *in = shared_floats(s), *out = shared_floats(s);
	struct tutti_request *req;
	need(tutti_barrier(s->comm, NULL), "tutti_barrier");
	need(tutti_allreduce(in, out, LONG, TUTTI_F32, TUTTI_SUM, s->comm, &req), "tutti_allreduce");
	*await_word(s, 1, (uint64_t)(uintptr_t)in, &req) = address;
	say(s);
}

static void lend_nothing(struct side *s)
{
	lend_at(s, 0x1000);
}
static void lend_beyond_the_end(struct side *s)
{
	lend_at(s, end_of_segment(s) - 4096);
}
static void lend_all_around(struct side *s)
{
	lend_at(s, UINT64_MAX - 4096);
}

/*
 * Announces, before any rank asks, that the memory is mapped elsewhere: then everything that it lends is elsewhere as
 * well.
 */
static void mapped_elsewhere(struct side *s)
{
	uint64_t nowhere = 0x123456789000;
	memcpy(region(s, 1) + 128, &nowhere, sizeof(nowhere));
	float *in = shared_floats(s), *out = shared_floats(s);
	struct tutti_request *req;
	need(tutti_barrier(s->comm, NULL), "tutti_barrier");
	need(tutti_allreduce(in, out, LONG, TUTTI_F32, TUTTI_SUM, s->comm, &req), "tutti_allreduce");
	(void)await_word(s, 1, (uint64_t)(uintptr_t)in, &req);
	say(s);
}

#define LENDS "rank 1 lends 1048576 bytes at an address that is not in the memory shared with it"

/* ---- slots ------------------------------------------------------------------------------------------------------- */

static int receive_long(struct side *s)
{
	float *out = shared_floats(s), one;
	need(tutti_recv(&one, 1, TUTTI_F32, 1, s->comm, NULL), "tutti_recv");
	await(s);
	return tutti_recv(out, LONG, TUTTI_F32, 1, s->comm, NULL);
}

/* Sends by reference, and then says that the first slot's bytes stand at `address`. */
static void refer_to(struct side *s, uint64_t address)
{
	float *in = shared_floats(s);
	struct tutti_request *req;
	need(tutti_send(in, 1, TUTTI_F32, 0, s->comm, NULL), "tutti_send");
	need(tutti_send(in, LONG, TUTTI_F32, 0, s->comm, &req), "tutti_send");
	*await_word(s, 1, (uint64_t)(uintptr_t)in, &req) = address;
	say(s);
}

static void refer_to_nothing(struct side *s)
{
	refer_to(s, 0x1000);
}
static void refer_beyond_the_end(struct side *s)
{
	refer_to(s, end_of_segment(s) - 4096);
}

#define MARK UINT64_C(0x6d61726b6d61726b)

static int receive_short(struct side *s)
{
	uint64_t got[2];
	need(tutti_recv(got, 2, TUTTI_I64, 1, s->comm, NULL), "tutti_recv");
	await(s);
	return tutti_recv(got, 2, TUTTI_I64, 1, s->comm, NULL);
}

/* A slot's length stands 8 bytes before its data. */
static void send_with_length(struct side *s, uint32_t len)
{
	uint64_t in[2] = {0}, mark[2] = {MARK, MARK};
	struct tutti_request *req;
	need(tutti_send(in, 2, TUTTI_I64, 0, s->comm, NULL), "tutti_send");
	need(tutti_send(mark, 2, TUTTI_I64, 0, s->comm, &req), "tutti_send");
	uint64_t *data = await_word(s, 1, MARK, &req);
	memcpy(data - 1, &len, sizeof(len));
	say(s);
}

static void slot_too_long(struct side *s)
{
	send_with_length(s, 0x7fffffff);
}
static void slot_that_refers(struct side *s)
{
	send_with_length(s, 16 | SLOT_REF);
}

/* ---- directories, and heads of areas ----------------------------------------------------------------------------- */

static void to_beyond(const struct side *s, uint64_t *entry)
{
	(void)s;
	entry[1] = UINT64_C(1) << 60;
}
static void to_the_end(const struct side *s, uint64_t *entry)
{
	entry[1] = end_of_segment(s) - ((uint64_t)(uintptr_t)region(s, 0) - 4096) - 4096 + 128;
}
static void to_another(const struct side *s, uint64_t *entry)
{
	entry[1] -= (uint64_t)(region(s, 1) - region(s, 0));
}
static void to_between(const struct side *s, uint64_t *entry)
{
	(void)s;
	entry[1] += 8;
}

static int reduce_short(struct side *s)
{
	float one = 1, sum;
	await(s);
	return tutti_allreduce(&one, &sum, 1, TUTTI_F32, TUTTI_SUM, s->comm, NULL);
}

static void publish_area(struct side *s, void (*then)(const struct side *, uint64_t *entry))
{
	static float one = 1, sum;
	struct tutti_request *req;
	need(tutti_allreduce(&one, &sum, 1, TUTTI_F32, TUTTI_SUM, s->comm, &req), "tutti_allreduce");
	await_published(s, &req, then);
	say(s);
}

static void area_beyond(struct side *s)
{
	publish_area(s, to_beyond);
}
static void area_at_the_end(struct side *s)
{
	publish_area(s, to_the_end);
}
static void area_of_another(struct side *s)
{
	publish_area(s, to_another);
}
static void area_between(struct side *s)
{
	publish_area(s, to_between);
}

/* By links, and from memory that is not shared. */
static int reduce_by_ring(struct side *s)
{
	float *in = calloc(LONG, sizeof(*in)), *out = calloc(LONG, sizeof(*out));
	await(s);
	return tutti_allreduce(in, out, LONG, TUTTI_F32, TUTTI_SUM, s->comm, NULL);
}

static void publish_ring(struct side *s, void (*then)(const struct side *, uint64_t *entry))
{
	static float in[LONG], out[LONG];
	struct tutti_request *req;
	need(tutti_allreduce(in, out, LONG, TUTTI_F32, TUTTI_SUM, s->comm, &req), "tutti_allreduce");
	await_published(s, &req, then);
	say(s);
}

/* A message's ring is its sender's. */
static void publish_message(struct side *s)
{
	static float one;
	struct tutti_request *req;
	need(tutti_send(&one, 1, TUTTI_F32, 0, s->comm, &req), "tutti_send");
	for (int done; each_published(s, 1, to_beyond) == 0 && req;)
		need(tutti_test(&req, &done), "tutti_test");
	say(s);
}

static int receive_one(struct side *s)
{
	float one;
	await(s);
	return tutti_recv(&one, 1, TUTTI_F32, 1, s->comm, NULL);
}

static void ring_beyond(struct side *s)
{
	publish_ring(s, to_beyond);
}

static struct ring *ring_there;

static void keep_ring(const struct side *s, uint64_t *entry)
{
	ring_there = (struct ring *)(void *)(region(s, 0) - 4096 + entry[1]);
}

/* Changes what the sender has lent, and then says that it can't read it: copy it, please. */
static void refuse_what_was_not_lent(struct side *s)
{
	publish_ring(s, keep_ring);
	struct slot *slot = ring_there->first;
	while (!(slot_len(slot) & SLOT_REF))
		usleep(1000);
	((struct slot_ref *)(void *)slot->data)->addr = 0x1000;
	slot->len = SLOT_REF | 0x7ffffff0;
	atomic_fetch_or(&ring_there->lease, LEASE_REFUSED);
}

/* The line before an area, and its fields all ones. */
static void scribble(const struct side *s, uint64_t *entry)
{
	memset(region(s, 0) - 4096 + entry[1] - 128, 0xff, 128);
}

static void heads_of_areas(struct side *s)
{
	publish_ring(s, scribble);
}

static int reduce_and_leave(struct side *s)
{
	int rc = reduce_by_ring(s);
	char text[1000];
	snprintf(text, sizeof(text), "%s", tutti_last_error(s->comm));
	tutti_comm_destroy(s->comm);
	s->comm = NULL;
	(void)fail(rc, "%s", text);
	return rc;
}

/* ---- splitting --------------------------------------------------------------------------------------------------- */

static int split(struct side *s)
{
	struct tutti_comm *half = NULL;
	int rc = tutti_comm_split(s->comm, 0, 0, &half);
	if (rc == TUTTI_OK && tutti_comm_size(half) != 2)
		rc = fail(TUTTI_EINVAL, "the new communicator has %d ranks", tutti_comm_size(half));
	return rc;
}

/* What a split says: color, key, rank. */
static void split_as(struct side *s, int32_t rank)
{
	int32_t mine[3] = {0, 1, rank}, all[6];
	need(tutti_allgather(mine, all, sizeof(mine), TUTTI_U8, s->comm, NULL), "tutti_allgather");
}

static void split_as_nobody(struct side *s)
{
	split_as(s, 1 << 28);
}
static void split_as_less_than_nobody(struct side *s)
{
	split_as(s, -(1 << 28));
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

static int call_once(struct side *s)
{
	float one = 1, sum;
	return tutti_allreduce(&one, &sum, 1, TUTTI_F32, TUTTI_SUM, s->comm, NULL);
}

static void nothing(struct side *s)
{
	(void)s;
}

enum { TURN_KEY, TURN_CONTACTS };

/* The only ones that are long beside the contacts; how many all-gathers come between depends on the job. */
static bool are_facts(int turn, size_t bytes)
{
	return turn > TURN_CONTACTS && turn < 100 && bytes > sizeof(struct costs);
}

static struct costs costs_in(const uint8_t *facts, size_t bytes)
{
	struct costs c;
	memcpy(&c, facts + bytes - sizeof(c), sizeof(c));
	return c;
}

static void unknown_algorithm(struct side *s, int turn, uint8_t *mine, const uint8_t *all, size_t bytes)
{
	(void)s;
	(void)all;
	if (!are_facts(turn, bytes))
		return;
	struct costs c = costs_in(mine, bytes);
	c.nchoices = 1;
	c.choice[0] =
	        (struct cost_choice){.bytes = UINT64_MAX, .ranks = 2, .hosts = 1, .coll = COLL_ALLREDUCE, .algo = 200};
	memcpy(mine + bytes - sizeof(c), &c, sizeof(c));
}

static void costs_of_no_number(struct side *s, int turn, uint8_t *mine, const uint8_t *all, size_t bytes)
{
	(void)s;
	(void)all;
	if (are_facts(turn, bytes))
		memset(mine + bytes - sizeof(struct costs), 0xff, offsetof(struct costs, measured));
}

/* Another host's rank that claims the memory of rank 0's. */
static void foreign_fabric(struct side *s, int turn, uint8_t *mine, const uint8_t *all, size_t bytes)
{
	static uint64_t nonce;
	(void)s;
	if (turn == TURN_CONTACTS)
		mine[offsetof(struct contact, host_hint)] ^= 1;
	if (are_facts(turn, bytes))
		for (int i = 0; i < WORLD_TRANSPORTS; i++)
			memcpy(mine + (size_t)i * sizeof(nonce), &nonce, sizeof(nonce));
	if (turn == TURN_CONTACTS + 100) { /* what all have said */
		memcpy(&nonce, all + offsetof(struct contact, nonce), sizeof(nonce));
		nonce |= 1;
		/* it knows better, and so makes the same all-gathers as rank 0 */
		((uint8_t *)(uintptr_t)all)[offsetof(struct contact, host_hint)] ^= 1;
	}
	(void)bytes;
}

/* A status that does not exist. */
static void starts_with_status(struct side *s, int turn, uint8_t *mine, const uint8_t *all, size_t bytes)
{
	int32_t status = -7;
	(void)s;
	(void)all;
	static bool last;
	last |= are_facts(turn, bytes);
	if (last && bytes == sizeof(status))
		memcpy(mine, &status, sizeof(status));
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

static void abort_loudly(struct side *s)
{
	need(tutti_comm_abort(s->comm, "\033[2J\033]0;mine\007 \xc2\x9b"
	                               "31m\r\nrank 0 is to blame"),
	     "tutti_comm_abort");
}

static int wait_for_it(struct side *s)
{
	return tutti_barrier(s->comm, NULL);
}

static void host_with_escapes(struct side *s, int turn, uint8_t *mine, const uint8_t *all, size_t bytes)
{
	(void)s;
	(void)all;
	(void)bytes;
	if (turn == TURN_CONTACTS)
		memcpy(mine + offsetof(struct contact, host), "\033]0;mine\007", 10);
}

static void die(struct side *s)
{
	need(tutti_barrier(s->comm, NULL), "tutti_barrier");
	_exit(0);
}

static int wait_twice(struct side *s)
{
	need(tutti_barrier(s->comm, NULL), "tutti_barrier");
	return tutti_barrier(s->comm, NULL);
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

struct meddler {
	struct side *side;
	int rank, turn;
	const struct attack *attack; /* NULL: it is the good rank's */
};

static bool pass(int fd, void *buf, size_t bytes, bool out)
{
	for (size_t n = 0; n < bytes;) {
		uint8_t *at = (uint8_t *)buf + n;
		ssize_t k = out ? write(fd, at, bytes - n) : read(fd, at, bytes - n);
		if (k <= 0)
			return false;
		n += (size_t)k;
	}
	return true;
}

static int gather(void *ctx, const void *in, void *out, size_t bytes)
{
	struct meddler *m = ctx;
	uint8_t *all = out, *mine = all + (size_t)m->rank * bytes, *theirs = all + (size_t)!m->rank * bytes;
	memmove(mine, in, bytes);
	if (m->attack)
		m->attack->meddle(m->side, m->turn, mine, all, bytes);
	bool ok = m->rank == 0 ? pass(m->side->other, mine, bytes, true) && pass(m->side->other, theirs, bytes, false)
	                       : pass(m->side->other, theirs, bytes, false) && pass(m->side->other, mine, bytes, true);
	if (m->attack)
		m->attack->meddle(m->side, m->turn + 100, mine, all, bytes);
	m->turn++;
	return ok ? 0 : 1;
}

static int start(struct side *s, const struct attack *a, int rank, bool broken)
{
	struct meddler m = {s, rank, 0, broken ? a : NULL};
	struct tutti_config cfg = TUTTI_CONFIG_INIT;
	struct tutti_unique_id id;
	if (a->meddle) {
		cfg.oob.ctx = &m;
		cfg.oob.allgather = gather;
		return tutti_comm_create(&s->comm, 2, NULL, rank, &cfg);
	}
	if (rank == 0)
		need(tutti_unique_id_create(&id), "tutti_unique_id_create");
	if (rank == 0 ? !pass(s->other, id.bytes, sizeof(id), true) : !pass(s->other, id.bytes, sizeof(id), false))
		_exit(3);
	return tutti_comm_create(&s->comm, 2, &id, rank, NULL);
}

static void be_rank(const struct attack *a, int rank, bool broken, int other, int report)
{
	struct side s = {.other = other};
	char text[2000];
	(void)os_end_with_parent();
	for (int i = 0; i < 6 && a->env[i]; i += 2)
		setenv(a->env[i], a->env[i + 1], 1);
	setenv("TUTTI_TIMEOUT", "30", 0);
	int rc = start(&s, a, rank, broken);
	if (broken) {
		close(report);
		if (rc == TUTTI_OK)
			a->broken(&s);
		for (;;)
			pause();
	}
	if (rc == TUTTI_OK)
		rc = a->good(&s);
	int n = snprintf(text, sizeof(text), "%d %s", rc, rc ? tutti_last_error(s.comm) : "");
	if (write(report, text, (size_t)n) != n)
		_exit(3);
	_exit(0);
}

/* The good rank's report; it must come, and its process end well. By then the broken one has had its time. */
static void judge(pid_t good, pid_t broken, int report, char *text, size_t cap)
{
	struct pollfd p = {.fd = report, .events = POLLIN};
	ssize_t n = poll(&p, 1, LIMIT) > 0 ? read(report, text, cap - 1) : -1;
	int status = 0;
	if (n < 0)
		kill(good, SIGKILL);
	waitpid(good, &status, 0);
	kill(broken, SIGKILL);
	waitpid(broken, NULL, 0);
	text[n > 0 ? n : 0] = '\0';
	if (n < 0)
		flunk("the good rank hangs");
	if (WIFSIGNALED(status))
		flunk("the good rank died by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	assert_int_equal(status, 0);
}

static void run(const struct attack *a)
{
	int pair[2], report[2], broken_rank = a->meddle && a->broken_rank == 0 ? 0 : 1;
	char text[2000];
	pid_t pid[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe(report), 0);
	fflush(NULL);
	for (int r = 0; r < 2; r++)
		if ((pid[r] = fork()) == 0)
			be_rank(a, r, r == broken_rank, pair[r], report[1]);
	close(report[1]);
	close(pair[0]);
	close(pair[1]);
	judge(pid[!broken_rank], pid[broken_rank], report[0], text, sizeof(text));
	close(report[0]);
	print_message("           %s\n", text);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f || (unsigned char)*c >= 0x80)
			flunk("the text has a control character");
	for (int i = 0; i < 2 && a->says[i]; i++)
		assert_contains(text, a->says[i]);
	if (a->says[0] ? strncmp(text, "0 ", 2) == 0 : strncmp(text, "0 ", 2) != 0)
		flunk("the good rank's status is another one");
}

#define SHM  .env = {"TUTTI_TRANSPORT", "shm"}
#define RING .env = {"TUTTI_TRANSPORT", "shm", "TUTTI_ALGO", "allreduce:ring", "TUTTI_TIMEOUT", "2"}
#define ATTACK(name, ...)                                                                                              \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		run(&(struct attack){__VA_ARGS__});                                                                    \
	}

ATTACK(test_lends_nothing, .broken = lend_nothing, .good = reduce_long, .says = {LENDS}, SHM)
ATTACK(test_lends_beyond_the_end, .broken = lend_beyond_the_end, .good = reduce_long, .says = {LENDS}, SHM)
ATTACK(test_lends_all_around, .broken = lend_all_around, .good = reduce_long, .says = {LENDS}, SHM)
ATTACK(test_mapped_elsewhere, .broken = mapped_elsewhere, .good = reduce_long, .says = {LENDS}, SHM)
ATTACK(test_refers_to_nothing, .broken = refer_to_nothing, .good = receive_long, .says = {"rank 1: "}, SHM)
ATTACK(test_refers_beyond_the_end, .broken = refer_beyond_the_end, .good = receive_long, .says = {"rank 1: "}, SHM)
ATTACK(test_slot_too_long, .broken = slot_too_long, .good = receive_short, .says = {"rank 1 sends"}, SHM)
ATTACK(test_slot_that_refers, .broken = slot_that_refers, .good = receive_short, .says = {"rank 1: "}, SHM)
ATTACK(test_area_beyond, .broken = area_beyond, .good = reduce_short,
       .says = {"rank 1: its directory of shared memory names offset"}, SHM)
ATTACK(test_area_at_the_end, .broken = area_at_the_end, .good = reduce_short,
       .says = {"rank 1: its directory of shared memory"}, SHM)
ATTACK(test_area_of_another, .broken = area_of_another, .good = reduce_short,
       .says = {"rank 1: its directory of shared memory"}, SHM)
ATTACK(test_area_between, .broken = area_between, .good = reduce_short,
       .says = {"rank 1: its directory of shared memory"}, SHM)
ATTACK(test_ring_beyond, .broken = ring_beyond, .good = reduce_by_ring,
       .says = {"rank 1: its directory of shared memory"}, RING)
ATTACK(test_message_beyond, .broken = publish_message, .good = receive_one,
       .says = {"rank 1: its directory of shared memory"}, SHM)
ATTACK(test_refuses_what_was_not_lent, .broken = refuse_what_was_not_lent, .good = reduce_by_ring,
       .says = {"is not done with allreduce"}, RING)
ATTACK(test_heads_of_areas, .broken = heads_of_areas, .good = reduce_and_leave, .says = {"is not done with allreduce"},
       RING)
ATTACK(test_split_as_nobody, .broken = split_as_nobody, .good = split, SHM)
ATTACK(test_split_as_less_than_nobody, .broken = split_as_less_than_nobody, .good = split, SHM)
ATTACK(test_unknown_algorithm, .broken = nothing, .good = call_once, .says = {"rank 0 ", "a table of costs"}, SHM,
       .meddle = unknown_algorithm)
ATTACK(test_costs_of_no_number, .broken = nothing, .good = call_once, .says = {"rank 0 ", "a table of costs"}, SHM,
       .meddle = costs_of_no_number)
ATTACK(test_foreign_fabric, .broken = nothing, .good = call_once, .says = {"rank 1 ", "shares memory"},
       .meddle = foreign_fabric, .broken_rank = 1)
ATTACK(test_starts_with_status, .broken = nothing, .good = call_once, .says = {"rank 1 ", "EPEER"}, SHM,
       .meddle = starts_with_status, .broken_rank = 1)
ATTACK(test_abort_with_escapes, .broken = abort_loudly, .good = wait_for_it,
       .says = {"\\x1b[2J\\x1b]0;mine\\x07 \\xc2\\x9b31m\\x0d\\x0arank 0"}, SHM)
ATTACK(test_host_with_escapes, .broken = die, .good = wait_twice,
       .says = {"rank 1 (pid ", "on \\x1b]0;mine\\x07) died"}, SHM, .meddle = host_with_escapes, .broken_rank = 1)

/* ---- the memory itself ------------------------------------------------------------------------------------------- */

#define NONCE  UINT64_C(0x1234567)
#define STRIDE (UINT64_C(32) << 20)
#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* The descriptor that a broken leader passes on. */
static int join(uint64_t stride, uint64_t bytes, int seals)
{
	uint64_t head[3] = {NONCE, stride, 2};
	struct segment *seg = NULL;
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	int rc = segment_join(&seg, fd, 2, 1, NONCE);
	segment_close(rc ? NULL : seg);
	close(fd);
	return rc;
}

static void test_memory_that_ends_early(void **state)
{
	(void)state;
	assert_ok(join(STRIDE, 4096 + 2 * STRIDE, SEALED));
	assert_int_equal(join(STRIDE, 4096 + 2 * STRIDE - 1, SEALED), TUTTI_EPEER);
	assert_contains(fail_text(), "does not have the size");
	assert_int_equal(join(STRIDE, 4096, SEALED), TUTTI_EPEER);
	assert_int_equal(join(STRIDE + 8, 4096 + 2 * (STRIDE + 8), SEALED), TUTTI_EPEER);
	assert_int_equal(join(4096, 3 * 4096, SEALED), TUTTI_EPEER);
	assert_int_equal(join(UINT64_C(1) << 63, 4096, SEALED), TUTTI_EPEER);
}

/* A rank that could truncate it later, or remove the seal, could crash all readers. */
static void test_memory_that_could_be_cut(void **state)
{
	struct segment *seg;
	int fd;
	(void)state;
	assert_int_equal(join(STRIDE, 4096 + 2 * STRIDE, F_SEAL_GROW | F_SEAL_SEAL), TUTTI_EPEER);
	assert_ok(segment_create(&seg, 2, NONCE, &fd));
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	close(fd);
	segment_close(seg);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_lends_nothing),
	        cmocka_unit_test(test_lends_beyond_the_end),
	        cmocka_unit_test(test_lends_all_around),
	        cmocka_unit_test(test_mapped_elsewhere),
	        cmocka_unit_test(test_refers_to_nothing),
	        cmocka_unit_test(test_refers_beyond_the_end),
	        cmocka_unit_test(test_slot_too_long),
	        cmocka_unit_test(test_slot_that_refers),
	        cmocka_unit_test(test_area_beyond),
	        cmocka_unit_test(test_area_at_the_end),
	        cmocka_unit_test(test_area_of_another),
	        cmocka_unit_test(test_area_between),
	        cmocka_unit_test(test_ring_beyond),
	        cmocka_unit_test(test_message_beyond),
	        cmocka_unit_test(test_refuses_what_was_not_lent),
	        cmocka_unit_test(test_heads_of_areas),
	        cmocka_unit_test(test_memory_that_ends_early),
	        cmocka_unit_test(test_memory_that_could_be_cut),
	        cmocka_unit_test(test_split_as_nobody),
	        cmocka_unit_test(test_split_as_less_than_nobody),
	        cmocka_unit_test(test_unknown_algorithm),
	        cmocka_unit_test(test_costs_of_no_number),
	        cmocka_unit_test(test_foreign_fabric),
	        cmocka_unit_test(test_starts_with_status),
	        cmocka_unit_test(test_abort_with_escapes),
	        cmocka_unit_test(test_host_with_escapes),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
