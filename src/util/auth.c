/* SPDX-License-Identifier: MIT */
/* Proof of the job's secret; see auth.h. Keys are digests of the secret's text, so that secrets may have any length. */
#include "auth.h"
#include "error.h"
#include "fd.h"
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_MAX 4096

_Static_assert(AUTH_TAG == crypto_auth_hmacsha512256_BYTES, "the tag is the HMAC's");
_Static_assert(AUTH_SHARE == crypto_scalarmult_BYTES && AUTH_SHARE == crypto_scalarmult_SCALARBYTES,
               "shares are of X25519");
_Static_assert(AUTH_KEY == crypto_auth_hmacsha512256_KEYBYTES, "the key is the HMAC's");

int auth_init(void)
{
	if (sodium_init() < 0)
		return fail(TUTTI_ESYSTEM, "libsodium found no source of randomness: is /dev/urandom there?");
	return TUTTI_OK;
}

void auth_random(void *out, size_t n)
{
	randombytes_buf(out, n);
}

void auth_key_random(struct auth_key *key)
{
	auth_random(key->bytes, sizeof(key->bytes));
	key->open = false;
}

static void digest(uint8_t out[AUTH_KEY], const void *secret, size_t len)
{
	static const unsigned char purpose[] = "tutti job secret";
	crypto_generichash_state state;

	crypto_generichash_init(&state, purpose, sizeof(purpose) - 1, AUTH_KEY);
	crypto_generichash_update(&state, secret, len);
	crypto_generichash_final(&state, out, AUTH_KEY);
	sodium_memzero(&state, sizeof(state));
}

/* What was stretched last, by the digest of its text: worlds and ranks of one process have one secret. */
struct stretched {
	uint8_t of[AUTH_KEY], key[AUTH_KEY];
};

/* 4 MiB, three times over: some 10 ms, and ranks that start together on one host still have the memory. */
static int stretch(uint8_t key[AUTH_KEY], const void *secret, size_t len)
{
	static const unsigned char salt[crypto_pwhash_SALTBYTES] = "tutti job secret";
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct stretched *last;
	uint8_t of[AUTH_KEY];
	int rc = TUTTI_OK;

	digest(of, secret, len);
	pthread_mutex_lock(&lock);
	if (last && sodium_memcmp(last->of, of, AUTH_KEY) == 0)
		memcpy(key, last->key, AUTH_KEY);
	else if (crypto_pwhash(key, AUTH_KEY, secret, len, salt, 3, 4 << 20, crypto_pwhash_ALG_ARGON2ID13) != 0)
		rc = fail(TUTTI_ENOMEM, "out of memory while deriving a key from the secret (4 MiB are needed)");
	else if (last || (last = secret_alloc(sizeof(*last)))) {
		memcpy(last->of, of, AUTH_KEY);
		memcpy(last->key, key, AUTH_KEY);
	}
	pthread_mutex_unlock(&lock);
	sodium_memzero(of, sizeof(of));
	return rc;
}

static int key_from_bytes(struct auth_key *key, const void *secret, size_t len)
{
	key->open = len == 0;
	if (len > 0 && len <= AUTH_CHOSEN)
		return stretch(key->bytes, secret, len);
	digest(key->bytes, secret, len);
	return TUTTI_OK;
}

int auth_key_from_text(struct auth_key *key, const char *secret)
{
	return key_from_bytes(key, secret ? secret : "", secret ? strlen(secret) : 0);
}

bool auth_default_path(char *buf, size_t cap)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (config && config[0])
		n = snprintf(buf, cap, "%s/tutti/secret", config);
	else if (home && home[0])
		n = snprintf(buf, cap, "%s/.config/tutti/secret", home);
	else
		return false;
	return (size_t)n < cap;
}

static int check_private(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail_errno("can't get the attributes of the secret file %s", path);
	if (!S_ISREG(st.st_mode))
		return fail(TUTTI_EAUTH, "the secret file %s is not a plain file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return fail(
		        TUTTI_EAUTH,
		        "the secret file %s belongs to another user: create your own with `tutti-run --make-secret`",
		        path);
	if (st.st_mode & 077)
		return fail(TUTTI_EAUTH, "other users can access the secret file %s (mode %03o): chmod 600 %s", path,
		            (unsigned)st.st_mode & 0777, path);
	return TUTTI_OK;
}

static ssize_t read_all(int fd, char *buf, size_t cap)
{
	size_t have = 0;

	while (have < cap) {
		ssize_t n = read(fd, buf + have, cap - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int auth_key_from_file(struct auth_key *key, const char *path)
{
	char standard[SECRET_MAX], text[SECRET_MAX + 1];
	ssize_t n;
	int fd, rc;

	if (!path && !auth_default_path(standard, sizeof(standard)))
		return fail(TUTTI_EAUTH, "no secret: HOME is not set, so set TUTTI_SECRET_FILE=/path/to/secret");
	if (!path)
		path = standard;
	fd = fd_keep(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (fd < 0 && errno == ENOENT)
		return fail(
		        TUTTI_EAUTH,
		        "secret file %s not found: run `tutti-run --make-secret` on one host and copy the file to the others, or set TUTTI_SECRET_FILE",
		        path);
	if (fd < 0) {
		fail_errno("can't open the secret file %s", path);
		return TUTTI_EAUTH;
	}
	rc = check_private(fd, path);
	if (rc != TUTTI_OK)
		goto out;
	n = read_all(fd, text, sizeof(text));
	if (n < 0) {
		rc = fail_errno("can't read the secret file %s", path);
		goto out;
	}
	while (n > 0 && strchr(" \t\r\n", text[n - 1]))
		n--;
	if (n == 0)
		rc = fail(TUTTI_EAUTH, "the secret file %s is empty: remove it and run `tutti-run --make-secret`",
		          path);
	else if (n > SECRET_MAX)
		rc = fail(TUTTI_EAUTH, "the secret file %s is longer than %d bytes", path, SECRET_MAX);
	else
		rc = key_from_bytes(key, text, (size_t)n);
out:
	sodium_memzero(text, sizeof(text));
	fd_close(fd);
	return rc;
}

void auth_tag(uint8_t tag[AUTH_TAG], const struct auth_key *key, int n, const void *const *piece, const size_t *len)
{
	crypto_auth_hmacsha512256_state state;

	crypto_auth_hmacsha512256_init(&state, key->bytes, sizeof(key->bytes));
	for (int i = 0; i < n; i++) {
		uint8_t prefix[8];
		for (int b = 0; b < 8; b++)
			prefix[b] = (uint8_t)((uint64_t)len[i] >> (8 * b));
		crypto_auth_hmacsha512256_update(&state, prefix, sizeof(prefix));
		crypto_auth_hmacsha512256_update(&state, piece[i], len[i]);
	}
	crypto_auth_hmacsha512256_final(&state, tag);
	sodium_memzero(&state, sizeof(state));
}

void auth_share(uint8_t secret[AUTH_SHARE], uint8_t share[AUTH_SHARE])
{
	auth_random(secret, AUTH_SHARE);
	crypto_scalarmult_base(share, secret);
}

bool auth_agree(uint8_t common[AUTH_SHARE], const uint8_t secret[AUTH_SHARE], const uint8_t theirs[AUTH_SHARE])
{
	return crypto_scalarmult(common, secret, theirs) == 0;
}

bool auth_equal(const uint8_t a[AUTH_TAG], const uint8_t b[AUTH_TAG])
{
	return sodium_memcmp(a, b, AUTH_TAG) == 0;
}
