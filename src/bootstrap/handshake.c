/* The handshake's steps, see handshake.h. */
#include "handshake.h"

#include <string.h>

/* They differ, so that an echo is no answer. */
#define MAGIC_GREET     0x74747574u /* "tutt" */
#define MAGIC_CHALLENGE 0x74747543u /* "Cutt" */

_Static_assert(sizeof(struct hello) == 16, "no padding on the wire");
_Static_assert(sizeof(struct greet) == 40, "no padding on the wire");
_Static_assert(sizeof(struct challenge) == 24, "no padding on the wire");
_Static_assert(sizeof(struct proof) == 48, "no padding on the wire");
_Static_assert(sizeof(struct answer) == 48, "no padding on the wire");

bool handshake_plausible(const void *in, size_t n)
{
	uint32_t magic = MAGIC_GREET;

	return memcmp(in, &magic, n < sizeof(magic) ? n : sizeof(magic)) == 0;
}

static void dialler_tag(const struct handshake *h, const struct hello *hello, uint8_t tag[AUTH_TAG])
{
	static const char label[] = "tutti door: dialler";
	const void *piece[] = {label, &h->greet, &h->challenge, hello};
	const size_t len[] = {sizeof(label), sizeof(h->greet), sizeof(h->challenge), sizeof(*hello)};

	auth_tag(tag, h->key, 4, piece, len);
}

static void acceptor_tag(const struct handshake *h, const struct answer *answer, uint8_t tag[AUTH_TAG])
{
	static const char label[] = "tutti door: acceptor";
	const void *piece[] = {label, &h->greet, &h->challenge, &h->proof, answer};
	const size_t len[] = {sizeof(label), sizeof(h->greet), sizeof(h->challenge), sizeof(h->proof),
	                      offsetof(struct answer, tag)};

	auth_tag(tag, h->key, 5, piece, len);
}

enum verdict handshake_greeted(struct handshake *h, const struct greet *in, struct challenge *out)
{
	if (in->magic != MAGIC_GREET)
		return VERDICT_GARBAGE;
	h->greet = *in;
	h->challenge = (struct challenge){.magic = MAGIC_CHALLENGE, .version = WIRE_VERSION};
	auth_random(h->challenge.nonce, sizeof(h->challenge.nonce));
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

	dialler_tag(h, &in->hello, tag);
	memset(out, 0, sizeof(*out));
	if (!auth_equal(tag, in->tag)) {
		out->verdict = VERDICT_SECRET;
		return VERDICT_SECRET;
	}
	if (in->hello.kind < HELLO_BOOT || in->hello.kind > HELLO_GIVE)
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

enum verdict handshake_challenged(struct handshake *h, const struct challenge *in, const struct hello *hello,
                                  struct proof *out)
{
	if (in->magic != MAGIC_CHALLENGE)
		return VERDICT_GARBAGE;
	h->challenge = *in;
	if (in->version != WIRE_VERSION)
		return VERDICT_VERSION;
	h->proof.hello = *hello;
	dialler_tag(h, hello, h->proof.tag);
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
