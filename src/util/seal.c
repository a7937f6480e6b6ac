/* SPDX-License-Identifier: MIT */
/* Frames under authenticated encryption, see seal.h. */
#include "seal.h"
#include "error.h"
#include "fd.h"
#include "secret.h"

#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define TAG crypto_aead_chacha20poly1305_ietf_ABYTES

_Static_assert(SEAL_KEY == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "the key is the cipher's");
_Static_assert(SEAL_KEY == crypto_aead_aes256gcm_KEYBYTES && TAG == crypto_aead_aes256gcm_ABYTES &&
                       crypto_aead_aes256gcm_NPUBBYTES == crypto_aead_chacha20poly1305_ietf_NPUBBYTES,
               "both ciphers look alike from outside");
_Static_assert(SEAL_EXTRA == SEAL_HEAD + TAG, "the tag is the cipher's");

struct seal {
	struct half {
		uint8_t key[SEAL_KEY];
		uint64_t frames; /* so far */
	} out, in;
	bool aes;
	bool broken; /* a frame did not open */
};

struct seal *seal_new(const uint8_t out[SEAL_KEY], const uint8_t in[SEAL_KEY])
{
	struct seal *s = secret_alloc(sizeof(*s));

	if (!s) {
		fail(TUTTI_ENOMEM, "no memory for the keys of a connection");
		return NULL;
	}
	memcpy(s->out.key, out, SEAL_KEY);
	memcpy(s->in.key, in, SEAL_KEY);
	return s;
}

void seal_free(struct seal *s)
{
	secret_free(s);
}

bool seal_has_aes(void)
{
	return crypto_aead_aes256gcm_is_available() != 0;
}

void seal_use_aes(struct seal *s)
{
	s->aes = true;
}

static void put_le(uint8_t *to, uint64_t value, int bytes)
{
	for (int b = 0; b < bytes; b++)
		to[b] = (uint8_t)(value >> (8 * b));
}

/* 2^64 frames are not sent in a lifetime, so no nonce comes twice. */
static void next_nonce(struct half *h, uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
	memset(nonce, 0, crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
	put_le(nonce + 4, h->frames++, 8);
}

void seal_shut(struct seal *s, const void *plain, size_t n, void *frame)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], *head = frame;

	put_le(head, n, SEAL_HEAD);
	next_nonce(&s->out, nonce);
	if (s->aes)
		crypto_aead_aes256gcm_encrypt(head + SEAL_HEAD, NULL, plain, n, head, SEAL_HEAD, NULL, nonce,
		                              s->out.key);
	else
		crypto_aead_chacha20poly1305_ietf_encrypt(head + SEAL_HEAD, NULL, plain, n, head, SEAL_HEAD, NULL,
		                                          nonce, s->out.key);
}

int seal_open(struct seal *s, const void *frame, size_t len, void *plain, size_t cap, size_t *n)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	const uint8_t *head = frame;

	*n = 0;
	if (len < SEAL_HEAD)
		return s->broken ? -1 : 0;
	for (int b = 0; b < SEAL_HEAD; b++)
		*n |= (size_t)head[b] << (8 * b);
	s->broken = s->broken || *n > cap || *n > SEAL_MOST;
	if (s->broken)
		return -1;
	if (len < *n + SEAL_EXTRA)
		return 0;
	next_nonce(&s->in, nonce);
	if (s->aes)
		s->broken = crypto_aead_aes256gcm_decrypt(plain, NULL, NULL, head + SEAL_HEAD, *n + TAG, head,
		                                          SEAL_HEAD, nonce, s->in.key) != 0;
	else
		s->broken = crypto_aead_chacha20poly1305_ietf_decrypt(plain, NULL, NULL, head + SEAL_HEAD, *n + TAG,
		                                                      head, SEAL_HEAD, nonce, s->in.key) != 0;
	return s->broken ? -1 : (int)(*n + SEAL_EXTRA);
}

/* ---- over a connection ------------------------------------------------------------------------------------------- */

void session_close(struct session *s)
{
	if (s->fd >= 0)
		fd_close(s->fd);
	seal_free(s->seal);
	*s = SESSION_NONE;
}

int session_plain(struct session *s)
{
	int fd = s->fd;

	seal_free(s->seal);
	*s = SESSION_NONE;
	return fd;
}

int session_write(const struct session *s, const void *buf, size_t n, struct net_limit limit)
{
	uint8_t frame[SEAL_MOST + SEAL_EXTRA];
	const uint8_t *at = buf;
	int rc = TUTTI_OK;

	for (size_t part; n > 0 && rc == TUTTI_OK; at += part, n -= part) {
		part = n < SEAL_MOST ? n : SEAL_MOST;
		seal_shut(s->seal, at, part, frame);
		rc = net_write(s->fd, frame, part + SEAL_EXTRA, limit);
	}
	return rc;
}

static int does_not_open(void)
{
	return fail(
	        TUTTI_EAUTH,
	        "data received on the connection is not what the peer sent: something on the path changes, repeats or adds bytes");
}

int session_read(const struct session *s, void *buf, size_t n, struct net_limit limit)
{
	uint8_t frame[SEAL_MOST + SEAL_EXTRA], *at = buf;
	size_t got;
	int rc = TUTTI_OK;

	for (size_t part; n > 0 && rc == TUTTI_OK; at += part, n -= part) {
		part = n < SEAL_MOST ? n : SEAL_MOST;
		rc = net_read(s->fd, frame, part + SEAL_EXTRA, limit);
		if (rc == TUTTI_OK && (seal_open(s->seal, frame, part + SEAL_EXTRA, at, part, &got) < 0 || got != part))
			rc = does_not_open();
	}
	return rc;
}
