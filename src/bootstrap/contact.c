/* SPDX-License-Identifier: MIT */
/* Contacts, see contact.h. Those of others are untrusted: their strings may lack a terminating zero. */
#include "contact.h"
#include "../os/os.h"
#include "../util/auth.h"
#include "../util/error.h"
#include "../util/param.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(struct net_addr) == 24, "no padding on the wire");
_Static_assert(sizeof(struct contact) == offsetof(struct contact, params) + sizeof(((struct contact *)0)->params),
               "no padding on the wire");

char *contact_text(const struct contact *c, char *buf, size_t cap)
{
	int len = (int)strnlen(c->host, sizeof(c->host));

	if (c->pid)
		snprintf(buf, cap, "rank %d (pid %u on %.*s)", c->rank, c->pid, len, c->host);
	else if (len)
		snprintf(buf, cap, "rank %d (%.*s)", c->rank, len, c->host);
	else
		snprintf(buf, cap, "rank %d", c->rank);
	return buf;
}

static int params_agree(const struct contact *a, const struct contact *b, const char *na, const char *nb)
{
	char pa[sizeof(a->params) + 1], pb[sizeof(b->params) + 1], name[64], va[128], vb[128];

	snprintf(pa, sizeof(pa), "%.*s", (int)sizeof(a->params), a->params);
	snprintf(pb, sizeof(pb), "%.*s", (int)sizeof(b->params), b->params);
	if (!params_differ(pa, pb, name, va, vb))
		return TUTTI_OK;
	return fail(TUTTI_EMISMATCH, "%s must be the same on all ranks: it is \"%s\" on %s and \"%s\" on %s", name, va,
	            na, vb, nb);
}

int contact_agree(const struct contact *a, const struct contact *b)
{
	char na[128], nb[128];

	if (b->magic == __builtin_bswap32(a->magic))
		return fail(
		        TUTTI_EMISMATCH,
		        "a rank's byte order differs from that of rank %d: all hosts of a job must have the same byte order",
		        a->rank);
	if (b->magic != a->magic)
		return fail(TUTTI_EMISMATCH,
		            "rank %d received something that is not a contact: does the sender belong to this job?",
		            a->rank);
	contact_text(a, na, sizeof(na));
	contact_text(b, nb, sizeof(nb));
	if (b->version != a->version)
		return fail(TUTTI_EMISMATCH,
		            "%s speaks protocol version %u and %s version %u: install the same Tutti on all hosts", na,
		            a->version, nb, b->version);
	if (b->size != a->size)
		return fail(TUTTI_EMISMATCH, "%s is in a job of %d ranks and %s in one of %d", na, a->size, nb,
		            b->size);
	if (b->rank < 0 || b->rank >= b->size || b->naddrs > NET_ADDRS || !memchr(b->host, '\0', sizeof(b->host)) ||
	    !memchr(b->local, '\0', sizeof(b->local)))
		return fail(TUTTI_EMISMATCH, "the contact of rank %d, as rank %d received it, is malformed", b->rank,
		            a->rank);
	return params_agree(a, b, na, nb);
}

/*
 * Ranks of one user, of one boot of one machine, in one network namespace can reach each other's local sockets. Those of
 * different users are on different hosts, as it were: they share no memory, and speak over TCP.
 */
static void hint_of_host(const char *host, const char *override, uint8_t hint[16])
{
	char system[128];
	size_t nsystem = os_host_text(system, sizeof(system));
	uid_t user = geteuid();
	const void *given[] = {"host", override, &user}, *found[] = {system, host, &user};
	const size_t len_given[] = {4, strlen(override), sizeof(user)};
	const size_t len_found[] = {nsystem, nsystem ? 0 : strlen(host), sizeof(user)};
	struct auth_key key;
	uint8_t tag[AUTH_TAG];

	auth_key_from_text(&key, NULL);
	if (override[0])
		auth_tag(tag, &key, 3, given, len_given);
	else
		auth_tag(tag, &key, 3, found, len_found);
	memcpy(hint, tag, 16);
}

void contact_self(struct contact *me, int rank, int size, const char *host_override)
{
	const char *override = host_override ? host_override : "";

	*me = (struct contact){.magic = CONTACT_MAGIC, .version = WIRE_VERSION, .rank = rank, .size = size};
	me->pid = (uint32_t)getpid();
	auth_random(&me->nonce, sizeof(me->nonce));
	if (override[0])
		snprintf(me->host, sizeof(me->host), "%s", override);
	else if (gethostname(me->host, sizeof(me->host) - 1) < 0)
		snprintf(me->host, sizeof(me->host), "localhost");
	hint_of_host(me->host, override, me->host_hint);
}
