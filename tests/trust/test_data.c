/* SPDX-License-Identifier: MIT */
/*
 * Data over TCP with TUTTI_ENCRYPT=1: changed or truncated data is detected, and a listener at the interface does not
 * see any of it. Without it, the listener sees everything, as docs/security.md states.
 */
#include "../unit/expect.h"

#include "../../src/util/auth.h"
#include "../../transports/tcp/cover.h"
#include "tutti.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the cover of a stream --------------------------------------------------------------------------------------- */

static const uint8_t one[SEAL_KEY] = {1}, two[SEAL_KEY] = {2};

struct ends {
	int fd[2];
	struct cover *cover[2];
};

static void open_ends(struct ends *e, bool aes)
{
	struct seal *a = seal_new(one, two), *b = seal_new(two, one);

	assert_true(a && b);
	if (aes) {
		seal_use_aes(a);
		seal_use_aes(b);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, e->fd), 0);
	e->cover[0] = cover_new(a);
	e->cover[1] = cover_new(b);
	assert_true(e->cover[0] && e->cover[1]);
}

static void close_ends(struct ends *e)
{
	for (int i = 0; i < 2; i++) {
		cover_free(e->cover[i]);
		close(e->fd[i]);
	}
}

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* In pieces of all sizes, on a socket that is full again and again. */
static void pass_all(bool aes)
{
	static uint8_t out[1 << 20], in[1 << 20];
	size_t sent = 0, got = 0;
	struct ends e;

	open_ends(&e, aes);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = byte_at(i);
	for (unsigned turn = 1; got < sizeof(in); turn++) {
		size_t part = turn * 1237 % 90000, rest = sizeof(out) - sent, room = turn * 7919 % 70000 + 1;
		struct iovec from[2] = {{out + sent, rest < part ? rest / 2 : part / 2}, {NULL, 0}}, to[2];
		from[1] = (struct iovec){out + sent + from[0].iov_len, rest - from[0].iov_len};
		ssize_t n = rest ? cover_send(e.cover[0], e.fd[0], from, 2) : 0;
		assert_true(n >= 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		room = room < sizeof(in) - got ? room : sizeof(in) - got;
		to[0] = (struct iovec){in + got, room / 3};
		to[1] = (struct iovec){in + got + room / 3, room - room / 3};
		n = cover_receive(e.cover[1], e.fd[1], to, 2);
		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(in, out, sizeof(in));
	assert_false(cover_holds(e.cover[1]));
	close(e.fd[0]);
	e.fd[0] = dup(e.fd[1]);
	assert_int_equal(cover_receive(e.cover[1], e.fd[1], &(struct iovec){in, 1}, 1), 0);
	close_ends(&e);
}

static void test_all_arrives(void **state)
{
	(void)state;
	pass_all(false);
	if (seal_has_aes())
		pass_all(true);
}

/* Each byte of a frame, changed on its way; and the frame cut short. */
static void test_changed_or_cut_data_is_found(void **state)
{
	uint8_t text[16] = "sixteen bytes..", frame[64], got[64];

	(void)state;
	for (size_t byte = 0; byte <= sizeof(text) + SEAL_EXTRA; byte++) {
		bool cut = byte == sizeof(text) + SEAL_EXTRA;
		struct iovec from = {text, sizeof(text)}, to = {got, sizeof(got)};
		struct ends e, on;
		open_ends(&e, false);
		open_ends(&on, false);
		assert_int_equal(cover_send(e.cover[0], e.fd[0], &from, 1), sizeof(text));
		ssize_t n = recv(e.fd[1], frame, sizeof(frame), 0);
		assert_int_equal(n, sizeof(text) + SEAL_EXTRA);
		if (!cut)
			frame[byte] ^= 0x40;
		assert_int_equal(send(on.fd[0], frame, (size_t)n - cut, 0), n - cut);
		shutdown(on.fd[0], SHUT_WR);
		errno = 0;
		assert_int_equal(cover_receive(on.cover[1], on.fd[1], &to, 1), -1);
		assert_int_equal(errno, EBADMSG);
		close_ends(&e);
		close_ends(&on);
	}
}

/* ---- a listener at the interface --------------------------------------------------------------------------------- */

#define MARK  "what only the ranks may know"
#define BYTES (64 * 1024)

/* Rank `rank` of two; sends or receives a broadcast full of marks. Never returns. */
static void be_rank(int rank, const struct tutti_unique_id *id, const char *encrypt)
{
	struct tutti_comm *comm;
	char *buf = calloc(1, BYTES);
	int rc;

	setenv("TUTTI_TRANSPORT", "tcp", 1);
	setenv("TUTTI_ENCRYPT", encrypt, 1);
	for (size_t i = 0; buf && rank == 0 && i + sizeof(MARK) < BYTES; i += sizeof(MARK))
		memcpy(buf + i, MARK, sizeof(MARK));
	rc = tutti_comm_create(&comm, 2, id, rank, NULL);
	for (int i = 0; i < 4 && rc == TUTTI_OK; i++)
		rc = tutti_broadcast(buf, buf, BYTES, TUTTI_U8, 0, comm, NULL);
	if (rc != TUTTI_OK)
		fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error(NULL));
	else if (strcmp(buf, MARK) != 0)
		rc = -1;
	if (comm)
		tutti_comm_destroy(comm);
	_exit(rc ? 1 : 0);
}

/* Looks for the mark in all that passes the interfaces until both ranks have ended. */
static bool overheard(int tap, const pid_t pid[2])
{
	static char packet[1 << 17];
	bool seen = false;
	int left = 2, status;

	while (left > 0) {
		struct pollfd p = {.fd = tap, .events = POLLIN};
		ssize_t n = poll(&p, 1, 20) > 0 ? recv(tap, packet, sizeof(packet), MSG_DONTWAIT) : 0;
		seen |= n > 0 && memmem(packet, (size_t)n, MARK, strlen(MARK));
		for (int i = 0; i < 2; i++)
			if (waitpid(pid[i], &status, WNOHANG) == pid[i]) {
				assert_int_equal(status, 0);
				left--;
			}
	}
	for (ssize_t n; (n = recv(tap, packet, sizeof(packet), MSG_DONTWAIT)) > 0;)
		seen |= memmem(packet, (size_t)n, MARK, strlen(MARK)) != NULL;
	return seen;
}

static void listen_to_a_job(const char *encrypt, bool expected)
{
	int tap = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), size = 8 << 20;
	struct tutti_unique_id id;
	pid_t pid[2];
	int pipes[2];

	if (tap < 0)
		skip(); /* it takes root */
	(void)setsockopt(tap, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	assert_int_equal(pipe(pipes), 0);
	for (int r = 0; r < 2; r++) {
		pid[r] = fork();
		if (pid[r] != 0)
			continue;
		/* rank 0 must have made the id */
		if (r == 0 && (tutti_unique_id_create(&id) || write(pipes[1], &id, sizeof(id)) != sizeof(id)))
			_exit(2);
		if (r == 1 && read(pipes[0], &id, sizeof(id)) != sizeof(id))
			_exit(2);
		be_rank(r, &id, encrypt);
	}
	bool seen = overheard(tap, pid);
	close(tap);
	close(pipes[0]);
	close(pipes[1]);
	if (seen != expected)
		flunk("TUTTI_ENCRYPT=%s: a listener %s the data", encrypt, seen ? "saw" : "did not see");
}

static void test_a_listener_sees_no_encrypted_data(void **state)
{
	(void)state;
	listen_to_a_job("1", false);
}

static void test_a_listener_sees_data_in_the_clear(void **state)
{
	(void)state;
	listen_to_a_job("0", true);
}

/* ---- what does not encrypt is refused ----------------------------------------------------------------------------- */

static void test_a_transport_that_does_not_encrypt_is_refused(void **state)
{
	struct tutti_config cfg = TUTTI_CONFIG_INIT;
	struct tutti_comm *comms[2];

	(void)state;
	cfg.encrypt = 1;
	cfg.transport = "verbs,tcp";
	assert_int_equal(tutti_comm_create_threads(comms, 2, &cfg), TUTTI_EUNSUPPORTED);
	assert_contains(tutti_last_error(NULL), "verbs, which does not encrypt");
	cfg.transport = NULL;
	assert_ok(tutti_comm_create_threads(comms, 2, &cfg));
	for (int i = 0; i < 2; i++)
		tutti_comm_destroy(comms[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_all_arrives),
	        cmocka_unit_test(test_changed_or_cut_data_is_found),
	        cmocka_unit_test(test_a_listener_sees_no_encrypted_data),
	        cmocka_unit_test(test_a_listener_sees_data_in_the_clear),
	        cmocka_unit_test(test_a_transport_that_does_not_encrypt_is_refused),
	};

	if (auth_init() != TUTTI_OK)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
