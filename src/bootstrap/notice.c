/* SPDX-License-Identifier: MIT */
/* Notices of the bootstrap, see notice.h. */
#include "notice.h"
#include "../util/clock.h"
#include "../util/error.h"

#include <string.h>
#include <sys/socket.h>

#define MAGIC    0x746f6f62u /* "boot" */
#define FAREWELL 1000000000u

_Static_assert(sizeof(struct notice) == 24, "no padding on the wire");

int notice_send(const struct session *s, enum notice_kind kind, const void *payload, size_t bytes,
                struct net_limit limit)
{
	struct notice head = {.magic = MAGIC, .kind = kind, .bytes = bytes};
	int rc = session_write(s, &head, sizeof(head), limit);

	return rc == TUTTI_OK ? session_write(s, payload, bytes, limit) : rc;
}

int notice_check(const struct notice *head, enum notice_kind kind, size_t bytes)
{
	if (head->magic != MAGIC)
		return fail(TUTTI_EMISMATCH, "it sent something that is not a bootstrap message");
	if (head->kind == NOTICE_FAIL)
		return head->bytes <= NOTICE_TEXT ? TUTTI_EPEER : fail(TUTTI_EMISMATCH, "its error text is too long");
	if (head->kind != (uint32_t)kind)
		return fail(TUTTI_EMISMATCH, "it sent notice %u, expected %d", head->kind, (int)kind);
	if (head->bytes != bytes)
		return fail(TUTTI_EMISMATCH, "it sent %llu bytes, expected %zu", (unsigned long long)head->bytes,
		            bytes);
	return TUTTI_OK;
}

int notice_failure(const struct notice *head, const char *text, size_t len)
{
	int status = (int)head->status;

	if (status <= TUTTI_OK || status > TUTTI_EUNSUPPORTED)
		status = TUTTI_EPEER;
	return fail(status, "%.*s", (int)strnlen(text, len), text);
}

int notice_receive(const struct session *s, enum notice_kind kind, void *payload, size_t bytes, struct net_limit limit,
                   enum told *told)
{
	char text[NOTICE_TEXT];
	struct notice head;
	int rc = session_read(s, &head, sizeof(head), limit);

	*told = TOLD_NOTHING;
	if (rc != TUTTI_OK)
		return rc;
	if (head.magic == MAGIC && head.kind == NOTICE_LATER) {
		*told = TOLD_LATER;
		return fail(TUTTI_EPEER, "rank 0 is still in the previous world");
	}
	rc = notice_check(&head, kind, bytes);
	if (rc == TUTTI_OK)
		return session_read(s, payload, bytes, limit);
	if (rc != TUTTI_EPEER)
		return rc;
	rc = session_read(s, text, (size_t)head.bytes, limit);
	*told = rc == TUTTI_OK ? TOLD_FAILURE : TOLD_NOTHING;
	return *told ? notice_failure(&head, text, (size_t)head.bytes) : rc;
}

/* The last words. Closing with bytes unread would reset the connection, perhaps before they are read. */
static void part(struct session *s, const struct notice *head, const char *text, size_t len)
{
	struct net_limit limit = {.deadline = now_ns() + FAREWELL};
	char rest[4096];

	if (session_write(s, head, sizeof(*head), limit) == TUTTI_OK && session_write(s, text, len, limit) == TUTTI_OK)
		shutdown(s->fd, SHUT_WR);
	while (recv(s->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
		continue;
	session_close(s);
}

void notice_later(struct session *s)
{
	struct notice head = {.magic = MAGIC, .kind = NOTICE_LATER};

	part(s, &head, NULL, 0);
}

void notice_fail(struct session *s, int status)
{
	char text[NOTICE_TEXT];
	size_t len = strnlen(fail_text(), sizeof(text));
	struct notice head = {.magic = MAGIC, .kind = NOTICE_FAIL, .status = (uint32_t)status, .bytes = len};

	memcpy(text, fail_text(), len);
	part(s, &head, text, len);
	fail(status, "%.*s", (int)len, text);
}
