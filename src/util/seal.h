/* SPDX-License-Identifier: MIT */
/*
 * Authenticated encryption of what travels over a connection whose ends have agreed on keys (the door's handshake). A
 * frame is its length, the bytes under ChaCha20-Poly1305 (or AES-256-GCM), and a tag. Each direction has a key of its
 * own, and the number of the frame is its nonce: frames that are forged, changed, repeated, missing or out of order do
 * not open. The tag also covers the length.
 *
 * Keys are in separate memory that is excluded from core dumps (secret_alloc).
 */
#ifndef TUTTI_SEAL_H
#define TUTTI_SEAL_H

#include "net.h"

#define SEAL_KEY   32
#define SEAL_HEAD  4
#define SEAL_EXTRA (SEAL_HEAD + 16) /* a frame's bytes beyond what it carries */
#define SEAL_MOST  (32u << 10)      /* bytes that a frame carries at most */

struct seal;

/** NULL: no memory, as the thread's message says. */
struct seal *seal_new(const uint8_t out[SEAL_KEY], const uint8_t in[SEAL_KEY]);
void seal_free(struct seal *s);
/** AES-256-GCM from here on, which both sides must have; before the first frame. */
bool seal_has_aes(void);
void seal_use_aes(struct seal *s);

/** The next frame: n bytes become n + SEAL_EXTRA. */
void seal_shut(struct seal *s, const void *plain, size_t n, void *frame);
/**
 * The frame at the start of len bytes: 0 when more are needed, its length when its *n bytes are in plain, -1 when it is
 * not the peer's next frame, or carries more than cap bytes. After -1 nothing opens any more.
 */
int seal_open(struct seal *s, const void *frame, size_t len, void *plain, size_t cap, size_t *n);

/** A connection that proved itself, and its keys. fd -1: none. */
struct session {
	int fd;
	struct seal *seal;
};
#define SESSION_NONE ((struct session){-1, NULL})

void session_close(struct session *s);
/** Frees the keys; the descriptor is the caller's. For what travels in the clear. */
int session_plain(struct session *s);
/** All of n bytes in as many frames as they take; the reader must ask for the same number. EPEER on end of file. */
int session_write(const struct session *s, const void *buf, size_t n, struct net_limit limit);
/** EAUTH when a frame does not open. */
int session_read(const struct session *s, void *buf, size_t n, struct net_limit limit);

#endif
