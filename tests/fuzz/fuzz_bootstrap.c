/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what ranks tell each other while they start: notices' heads and failures, and contacts. The input is laid over
 * a good one, so that it gets past the first comparison.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/bootstrap/contact.h"
#include "../../src/bootstrap/notice.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hear_notice(const uint8_t *data, size_t size)
{
	struct notice head;
	int rc;

	if (size < sizeof(head))
		return;
	memcpy(&head, data, sizeof(head));
	data += sizeof(head);
	size -= sizeof(head);
	rc = notice_check(&head, NOTICE_UP, 100);
	if (rc == TUTTI_OK && (head.kind != NOTICE_UP || head.bytes != 100))
		abort();
	if (rc == TUTTI_EPEER && (head.kind != NOTICE_FAIL || head.bytes > NOTICE_TEXT))
		abort();
	rc = notice_failure(&head, (const char *)data, size);
	if (rc <= TUTTI_OK || rc > TUTTI_EUNSUPPORTED)
		abort();
}

static void overlay(void *on, size_t n, const uint8_t *data, size_t size, size_t at)
{
	at %= n;
	memcpy((uint8_t *)on + at, data, size < n - at ? size : n - at);
}

static void meet(const uint8_t *data, size_t size)
{
	struct contact a, *b = malloc(sizeof(*b));
	char text[128];
	size_t at;

	if (!b || size < 2)
		goto out;
	contact_self(&a, 0, 8, "host");
	memcpy(a.params, "TUTTI_ALGO=\nTUTTI_SLOT=65536\n", 30);
	*b = a;
	b->rank = 5;
	at = (size_t)data[0] << 8 | data[1];
	overlay(b, sizeof(*b), data + 2, size - 2, at);
	contact_text(b, text, sizeof(text));
	if (contact_agree(&a, b) == TUTTI_OK &&
	    (b->rank < 0 || b->rank >= 8 || b->naddrs > NET_ADDRS || !memchr(b->host, 0, sizeof(b->host)) ||
	     !memchr(b->local, 0, sizeof(b->local))))
		abort();
out:
	free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (auth_init() != TUTTI_OK)
		abort();
	if (size > 0 && data[0] == 0)
		hear_notice(data + 1, size - 1);
	else if (size > 0)
		meet(data + 1, size - 1);
	return 0;
}
