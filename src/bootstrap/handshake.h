/* SPDX-License-Identifier: MIT */
/*
 * The handshake on every connection, as messages and the steps between them: pure functions of bytes, so that they can
 * be fuzzed; door.c moves the bytes.
 *
 *   dialler                              acceptor
 *   greet: magic, whom it wants, nonce ─▶
 *                                      ◀─ challenge: the acceptor's share
 *   hello, share, and its proof ────────▶
 *                                      ◀─ answer: verdict, and the acceptor's proof
 *
 * A proof is a tag over all that was said before and over what the shares have in common (X25519), under a label of its
 * side. The dialler proves first: a stranger that connects receives nothing that depends on the secret, and one that
 * only listens can't even try secrets. Differences between the ranks are reported only after the proof. The keys of the
 * session are derived from the same values. So they are bound to secret, ranks and connection, and nobody can recover
 * them after the connection has ended, even with the secret.
 *
 * Messages are structs without padding in the sender's byte order; another byte order has another magic. The challenge
 * begins with the version, in every version, and the dialler looks at it before it reads the rest.
 */
#ifndef TUTTI_HANDSHAKE_H
#define TUTTI_HANDSHAKE_H

#include "../util/auth.h"
#include "door.h"

struct greet {
	uint32_t magic, version;
	int32_t to;    /* the rank that is wanted */
	int32_t size;  /* ranks of the dialler's job */
	uint64_t door; /* the wanted contact's nonce; 0: not known yet */
	uint8_t nonce[AUTH_NONCE];
};

struct challenge {
	uint32_t magic, version;
	uint8_t share[AUTH_SHARE];
};
#define CHALLENGE_HEAD offsetof(struct challenge, share)

struct proof {
	struct hello hello;
	uint8_t share[AUTH_SHARE];
	uint8_t tag[AUTH_TAG];
};

enum verdict {
	VERDICT_WELCOME = 1,
	VERDICT_SECRET, /* the proof is wrong, and so is this answer's */
	VERDICT_SIZE,
	VERDICT_RANK,    /* not the rank that was wanted, or the dialler's own is out of range */
	VERDICT_JOB,     /* the wanted rank of another job with the same secret */
	VERDICT_GARBAGE, /* never sent */
	VERDICT_VERSION, /* never sent: the challenge says the acceptor's */
};

struct answer {
	uint32_t verdict;
	int32_t rank, size; /* the acceptor's */
	uint32_t zero;
	uint8_t tag[AUTH_TAG];
};

/** One side's view. Set self, then key; the rest is the steps' own. */
struct handshake {
	const struct auth_key *key;
	int32_t rank, size;
	uint64_t door; /* acceptor: its contact's nonce */
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	uint8_t secret[AUTH_SHARE], common[AUTH_SHARE]; /* wiped by handshake_end */
};

/** Could the first n bytes of a connection be the start of a greet? */
bool handshake_plausible(const void *in, size_t n);

/* Acceptor. Each takes one whole message. */
/** WELCOME: go on, with *out to send. VERSION: send *out and hang up. GARBAGE: hang up. */
enum verdict handshake_greeted(struct handshake *h, const struct greet *in, struct challenge *out);
/** *out is to be sent unless GARBAGE; the connection is good when WELCOME, and h->proof.hello says what it is for. */
enum verdict handshake_proved(struct handshake *h, const struct proof *in, struct answer *out);

/* Dialler. */
void handshake_greet(struct handshake *h, int to, uint64_t door, struct greet *out);
/** Of a challenge's head: WELCOME: its rest is to be read. *version: the acceptor's. */
enum verdict handshake_begun(const void *head, uint32_t *version);
/** WELCOME: go on, with *out to send. */
enum verdict handshake_challenged(struct handshake *h, const struct challenge *in, const struct hello *hello,
                                  struct proof *out);
/** What came of it. SECRET also when it is the acceptor that can't prove. */
enum verdict handshake_answered(struct handshake *h, const struct answer *in);

/** After WELCOME: the keys of what this side says and hears. */
void handshake_keys(const struct handshake *h, bool dialler, uint8_t out[AUTH_KEY], uint8_t in[AUTH_KEY]);
void handshake_end(struct handshake *h);

#endif
