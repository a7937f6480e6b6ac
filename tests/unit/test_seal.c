/* SPDX-License-Identifier: MIT */
/* Sealed frames: what arrives is what was said, or nothing. */
#include "expect.h"

#include "../../src/util/auth.h"
#include "../../src/util/error.h"
#include "../../src/util/seal.h"
#include "../../src/util/secret.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint8_t one[SEAL_KEY] = {1}, two[SEAL_KEY] = {2};
static struct seal *a, *b;

static int begin(void **state)
{
	(void)state;
	assert_ok(auth_init());
	a = seal_new(one, two);
	b = seal_new(two, one);
	return a && b ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	seal_free(a);
	seal_free(b);
	return 0;
}

static void test_there_and_back(void **state)
{
	char frame[100 + SEAL_EXTRA], text[100], got[100];
	size_t n;

	(void)state;
	for (size_t len = 0; len <= sizeof(text); len++) {
		memset(text, (int)len, sizeof(text));
		seal_shut(len % 3 ? a : b, text, len, frame);
		for (size_t less = 0; less < len + SEAL_EXTRA; less++)
			assert_int_equal(seal_open(len % 3 ? b : a, frame, less, got, sizeof(got), &n), 0);
		assert_int_equal(seal_open(len % 3 ? b : a, frame, sizeof(frame), got, sizeof(got), &n),
		                 len + SEAL_EXTRA);
		assert_int_equal(n, len);
		assert_memory_equal(got, text, len);
	}
}

/* Nothing that was said can be read on the way. */
static void test_what_travels_says_nothing(void **state)
{
	char frame[64 + SEAL_EXTRA], text[64];

	(void)state;
	memset(text, 'x', sizeof(text));
	seal_shut(a, text, sizeof(text), frame);
	assert_null(memmem(frame, sizeof(frame), "xxxx", 4));
}

/* Every byte counts, also those of the length; nothing opens afterwards, not even what is right. */
static void test_changed(void **state)
{
	char text[8] = "7 bytes", got[64];
	size_t n;

	for (size_t byte = 0; byte < sizeof(text) + SEAL_EXTRA; byte++) {
		char frame[64] = {0}, good[64] = {0};
		seal_shut(a, text, sizeof(text), frame);
		seal_shut(a, text, sizeof(text), good);
		frame[byte] = (char)(frame[byte] ^ 1);
		assert_int_equal(seal_open(b, frame, sizeof(frame), got, sizeof(got), &n), -1);
		assert_int_equal(seal_open(b, good, sizeof(good), got, sizeof(got), &n), -1);
		end(state);
		begin(state);
	}
}

enum how { REPEATED, LEFT_OUT, SWAPPED, REFLECTED, OF_ANOTHER, TOO_LONG };

static void test_replayed_and_reordered(void **state)
{
	char first[32], second[32], got[16], text[8] = "message";
	size_t n;

	for (enum how how = REPEATED; how <= TOO_LONG; how++) {
		struct seal *other = seal_new(two, two);
		seal_shut(a, text, sizeof(text), first);
		seal_shut(how == OF_ANOTHER ? other : a, text, sizeof(text), second);
		if (how == REPEATED || how == OF_ANOTHER)
			assert_true(seal_open(b, first, sizeof(first), got, sizeof(got), &n) > 0);
		assert_int_equal(seal_open(how == REFLECTED ? a : b,
		                           how == REPEATED || how == REFLECTED || how == TOO_LONG ? first : second,
		                           sizeof(first), got, how == TOO_LONG ? 7 : sizeof(got), &n),
		                 -1);
		seal_free(other);
		end(state);
		begin(state);
	}
}

static void pair(struct session s[2])
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	s[0] = (struct session){fd[0], seal_new(one, two)};
	s[1] = (struct session){fd[1], seal_new(two, one)};
}

static void test_a_session(void **state)
{
	static char out[SEAL_MOST + 5], in[sizeof(out)];
	struct session s[2];

	(void)state;
	pair(s);
	memset(out, 'o', sizeof(out));
	assert_ok(session_write(&s[0], out, sizeof(out), limit_of(20)));
	assert_ok(session_write(&s[0], out, 0, limit_of(20)));
	assert_ok(session_read(&s[1], in, sizeof(in), limit_of(20)));
	assert_memory_equal(in, out, sizeof(out));
	assert_ok(session_write(&s[0], out, 3, limit_of(20)));
	assert_int_equal(session_read(&s[1], in, 4, limit_of(0.2)), TUTTI_ETIMEOUT); /* one byte more is awaited */
	session_close(&s[0]);
	assert_int_equal(session_read(&s[1], in, 4, limit_of(20)), TUTTI_EPEER);
	session_close(&s[1]);
}

static void test_a_session_with_somebody_on_its_way(void **state)
{
	char frame[3 + SEAL_EXTRA] = {3}, in[3];
	struct session s[2];

	(void)state;
	pair(s);
	assert_ok(net_write(s[0].fd, frame, sizeof(frame), limit_of(20)));
	assert_int_equal(session_read(&s[1], in, sizeof(in), limit_of(20)), TUTTI_EAUTH);
	assert_contains(fail_text(), "something on the path");
	session_close(&s[0]);
	session_close(&s[1]);
}

/* Blocks are wiped, and given again. */
static void test_secret_memory(void **state)
{
	static const char zeros[SECRET_BLOCK];
	void *block[300];

	(void)state;
	assert_null(secret_alloc(SECRET_BLOCK + 1));
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 300; i++) {
			block[i] = secret_alloc(SECRET_BLOCK);
			assert_non_null(block[i]);
			assert_memory_equal(block[i], zeros, SECRET_BLOCK);
			memset(block[i], 'k', SECRET_BLOCK);
		}
		for (int i = 0; i < 300; i++)
			secret_free(block[i]);
	}
}

int main(void)
{
#define sealed(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
	        sealed(test_there_and_back),
	        sealed(test_what_travels_says_nothing),
	        sealed(test_changed),
	        sealed(test_replayed_and_reordered),
	        cmocka_unit_test(test_a_session),
	        cmocka_unit_test(test_a_session_with_somebody_on_its_way),
	        cmocka_unit_test(test_secret_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
