/* SPDX-License-Identifier: MIT */
/*
 * Proof that both ends of a connection know the job's secret: challenge and response with libsodium's HMAC, bound to
 * both ranks, to the job's size and to fresh nonces. No secret ever travels.
 */
#ifndef TUTTI_AUTH_H
#define TUTTI_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTH_KEY   32
#define AUTH_NONCE 16
#define AUTH_TAG   32
#define AUTH_SHARE 32

struct auth_key {
	uint8_t bytes[AUTH_KEY];
	bool open; /* no secret was given: the proof is still made, with a key that everyone has; loopback only */
};

int auth_init(void); /* once per process; ESYSTEM: no source of randomness */
void auth_random(void *out, size_t n);
void auth_key_random(struct auth_key *key);
/**
 * NULL or "": the open key. A text of AUTH_CHOSEN bytes or less may be a person's choice, which can be guessed: it is
 * stretched (Argon2id, once per process and text), so that each guess costs as much. Longer ones are random. ENOMEM.
 */
#define AUTH_CHOSEN 31
int auth_key_from_text(struct auth_key *key, const char *secret);
/**
 * Reads a secret file, by default (path NULL) auth_default_path; EAUTH with the line to type when it is missing, empty
 * or readable by others. White space at its end does not count.
 */
int auth_key_from_file(struct auth_key *key, const char *path);
/**
 * ~/.config/tutti/secret, under $XDG_CONFIG_HOME where that is set; false: there is no home directory, or the path is
 * too long.
 */
bool auth_default_path(char *buf, size_t cap);
/** HMAC over n pieces, each preceded by its length, so that no two lists of pieces look alike. */
void auth_tag(uint8_t tag[AUTH_TAG], const struct auth_key *key, int n, const void *const *piece, const size_t *len);
/** A fresh secret of one connection, and the share of it (X25519) that the other side is told. */
void auth_share(uint8_t secret[AUTH_SHARE], uint8_t share[AUTH_SHARE]);
/** The secret that only the two sides have in common; false: the share is not a valid one. */
bool auth_agree(uint8_t common[AUTH_SHARE], const uint8_t secret[AUTH_SHARE], const uint8_t theirs[AUTH_SHARE]);
bool auth_equal(const uint8_t a[AUTH_TAG], const uint8_t b[AUTH_TAG]);

#endif
