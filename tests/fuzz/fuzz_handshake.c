/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the handshake's steps. Either side is given arbitrary messages, and must not be persuaded; then a true
 * handshake is changed on its way as the input says, and both sides must notice.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/bootstrap/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct auth_key key;

static void require(bool truth)
{
	if (!truth)
		abort();
}

/* Whole messages are cut from the input; false when it has no more. */
static bool cut(const uint8_t **at, size_t *left, void *out, size_t n)
{
	if (*left < n)
		return false;
	memcpy(out, *at, n);
	*at += n;
	*left -= n;
	return true;
}

static void accept_strangers(const uint8_t *at, size_t left)
{
	struct handshake h = {.key = &key, .rank = 0, .size = 4, .door = 9};
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	struct answer answer;
	bool plausible = handshake_plausible(at, left);

	if (!cut(&at, &left, &greet, sizeof(greet)) || handshake_greeted(&h, &greet, &challenge) != VERDICT_WELCOME)
		return;
	require(plausible);
	if (cut(&at, &left, &proof, sizeof(proof))) {
		enum verdict verdict = handshake_proved(&h, &proof, &answer);
		require(verdict == VERDICT_SECRET || verdict == VERDICT_GARBAGE); /* a share of nothing */
	}
}

static void dial_a_stranger(const uint8_t *at, size_t left)
{
	struct handshake h = {.key = &key, .rank = 1, .size = 4};
	struct hello hello = {.kind = HELLO_DATA, .from = 1};
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	struct answer answer;

	handshake_greet(&h, 0, 9, &greet);
	if (!cut(&at, &left, &challenge, sizeof(challenge)) ||
	    handshake_challenged(&h, &challenge, &hello, &proof) != VERDICT_WELCOME)
		return;
	if (cut(&at, &left, &answer, sizeof(answer)))
		require(handshake_answered(&h, &answer) == VERDICT_SECRET);
}

/* The input says pairs of place and change. True when it changes something after all. */
static bool tamper(const uint8_t **at, size_t *left, void *message, size_t n)
{
	uint8_t before[sizeof(struct proof)];

	memcpy(before, message, n);
	for (; *left >= 2 && (*at)[0] < n; *at += 2, *left -= 2)
		((uint8_t *)message)[(*at)[0]] ^= (*at)[1];
	if (*left) {
		++*at;
		--*left;
	}
	return memcmp(before, message, n) != 0;
}

static void tamper_with_all(const uint8_t *at, size_t left)
{
	struct handshake d = {.key = &key, .rank = 1, .size = 4}, a = {.key = &key, .rank = 0, .size = 4, .door = 9};
	struct hello hello = {.kind = HELLO_DATA, .from = 1, .tag = 77};
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	struct answer answer;
	enum verdict verdict;
	bool changed;

	handshake_greet(&d, 0, 9, &greet);
	changed = tamper(&at, &left, &greet, sizeof(greet));
	if (handshake_greeted(&a, &greet, &challenge) != VERDICT_WELCOME)
		return;
	changed |= tamper(&at, &left, &challenge, sizeof(challenge));
	if (handshake_challenged(&d, &challenge, &hello, &proof) != VERDICT_WELCOME)
		return;
	changed |= tamper(&at, &left, &proof, sizeof(proof));
	verdict = handshake_proved(&a, &proof, &answer);
	require((verdict == VERDICT_WELCOME) == !changed);
	changed |= tamper(&at, &left, &answer, sizeof(answer));
	require((handshake_answered(&d, &answer) == VERDICT_WELCOME) == !changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;

	if (!begun) {
		require(auth_init() == 0);
		auth_key_from_text(&key, "secret");
		begun = true;
	}
	if (size == 0)
		return 0;
	switch (data[0] % 3) {
	case 0:
		accept_strangers(data + 1, size - 1);
		break;
	case 1:
		dial_a_stranger(data + 1, size - 1);
		break;
	default:
		tamper_with_all(data + 1, size - 1);
	}
	return 0;
}
