/* SPDX-License-Identifier: MIT */
/* The handshake's steps, see handshake.h. */
#include "handshake.h"
#include "../util/secret.h"

#include <string.h>

/* They differ, so that an echo is not a valid answer. */
#define MAGIC_GREET     0x74747574u /* "tutt" */
#define MAGIC_CHALLENGE 0x74747543u /* "Cutt" */

_Static_assert(sizeof(struct hello) == 16, "no padding on the wire");
_Static_assert(sizeof(struct greet) == 40, "no padding on the wire");
_Static_assert(sizeof(struct challenge) == 40, "no padding on the wire");
_Static_assert(sizeof(struct proof) == 80, "no padding on the wire");
_Static_assert(sizeof(struct answer) == 48, "no padding on the wire");

bool handshake_plausible(const void *in, size_t n)
{
	uint32_t magic = MAGIC_GREET;

	return memcmp(in, &magic, n < sizeof(magic) ? n : sizeof(magic)) == 0;
}

/* Of all that was said, up to the proof without its tag, and of what the shares have in common. */
static void dialler_tag(const struct handshake *h, const struct proof *proof, uint8_t tag[AUTH_TAG])
{
	static const char label[] = "tutti door: dialler";
	const void *piece[] = {label, &h->greet, &h->challenge, proof, h->common};
	const size_t len[] = {sizeof(label), sizeof(h->greet), sizeof(h->challenge), offsetof(struct proof, tag),
	                      sizeof(h->common)};

	auth_tag(tag, h->key, 5, piece, len);
}

/* Of all that was said, with n bytes at the end. */
static void whole_tag(const struct handshake *h, const char *label, const void *last, size_t n, uint8_t tag[AUTH_TAG])
{
	const void *piece[] = {label, &h->greet, &h->challenge, &h->proof, h->common, last};
	const size_t len[] = {strlen(label),    sizeof(h->greet),  sizeof(h->challenge),
	                      sizeof(h->proof), sizeof(h->common), n};

	auth_tag(tag, h->key, 6, piece, len);
}

static void acceptor_tag(const struct handshake *h, const struct answer *answer, uint8_t tag[AUTH_TAG])
{
	whole_tag(h, "tutti door: acceptor", answer, offsetof(struct answer, tag), tag);
}

enum verdict handshake_greeted(struct handshake *h, const struct greet *in, struct challenge *out)
{
	if (in->magic != MAGIC_GREET)
		return VERDICT_GARBAGE;
	h->greet = *in;
	h->challenge = (struct challenge){.magic = MAGIC_CHALLENGE, .version = WIRE_VERSION};
	auth_share(h->secret, h->challenge.share);
	*out = h->challenge;
	return in->version == WIRE_VERSION ? VERDICT_WELCOME : VERDICT_VERSION;
}

static enum verdict judge(const struct handshake *h)
{
	const struct hello *hello = &h->proof.hello;

	if (h->greet.size != h->size)
		return VERDICT_SIZE;
	if (h->greet.to != h->rank || hello->from < 0 || hello->from >= h->size)
		return VERDICT_RANK;
	if (h->greet.door != 0 && h->greet.door != h->door)
		return VERDICT_JOB;
	return VERDICT_WELCOME;
}

enum verdict handshake_proved(struct handshake *h, const struct proof *in, struct answer *out)
{
	uint8_t tag[AUTH_TAG];
	enum verdict verdict;

	if (!auth_agree(h->common, h->secret, in->share))
		return VERDICT_GARBAGE;
	dialler_tag(h, in, tag);
	memset(out, 0, sizeof(*out));
	if (!auth_equal(tag, in->tag)) {
		out->verdict = VERDICT_SECRET;
		return VERDICT_SECRET;
	}
	if (in->hello.kind < HELLO_BOOT || in->hello.kind > HELLO_NEAR)
		return VERDICT_GARBAGE;
	h->proof = *in;
	verdict = judge(h);
	out->verdict = verdict;
	out->rank = h->rank;
	out->size = h->size;
	acceptor_tag(h, out, out->tag);
	return verdict;
}

void handshake_greet(struct handshake *h, int to, uint64_t door, struct greet *out)
{
	h->greet =
	        (struct greet){.magic = MAGIC_GREET, .version = WIRE_VERSION, .to = to, .size = h->size, .door = door};
	auth_random(h->greet.nonce, sizeof(h->greet.nonce));
	*out = h->greet;
}

enum verdict handshake_begun(const void *head, uint32_t *version)
{
	struct challenge c = {.magic = 0};

	memcpy(&c, head, CHALLENGE_HEAD);
	*version = c.version;
	if (c.magic != MAGIC_CHALLENGE)
		return VERDICT_GARBAGE;
	return c.version == WIRE_VERSION ? VERDICT_WELCOME : VERDICT_VERSION;
}

enum verdict handshake_challenged(struct handshake *h, const struct challenge *in, const struct hello *hello,
                                  struct proof *out)
{
	uint32_t version;
	enum verdict verdict = handshake_begun(in, &version);

	if (verdict != VERDICT_WELCOME)
		return verdict;
	h->challenge = *in;
	h->proof.hello = *hello;
	auth_share(h->secret, h->proof.share);
	if (!auth_agree(h->common, h->secret, in->share))
		return VERDICT_GARBAGE;
	dialler_tag(h, &h->proof, h->proof.tag);
	*out = h->proof;
	return VERDICT_WELCOME;
}

enum verdict handshake_answered(struct handshake *h, const struct answer *in)
{
	uint8_t tag[AUTH_TAG];

	acceptor_tag(h, in, tag);
	if (!auth_equal(tag, in->tag))
		return VERDICT_SECRET;
	if (in->verdict < VERDICT_WELCOME || in->verdict > VERDICT_JOB)
		return VERDICT_GARBAGE;
	return (enum verdict)in->verdict;
}

void handshake_keys(const struct handshake *h, bool dialler, uint8_t out[AUTH_KEY], uint8_t in[AUTH_KEY])
{
	_Static_assert(AUTH_TAG == AUTH_KEY, "a tag serves as key");
	whole_tag(h, "tutti session: dialler", "", 0, dialler ? out : in);
	whole_tag(h, "tutti session: acceptor", "", 0, dialler ? in : out);
}

void handshake_end(struct handshake *h)
{
	secret_wipe(h->secret, sizeof(h->secret));
	secret_wipe(h->common, sizeof(h->common));
}
