/* SPDX-License-Identifier: MIT */
/* The rendezvous, see rendezvous.h. */
#include "rendezvous.h"
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

/* The local socket that stands for a port. Users have names of their own, so that they don't meet by mistake. */
static void local_name(uint16_t port, char name[40])
{
	snprintf(name, 40, "tutti-root-%u-%u", (unsigned)geteuid(), (unsigned)port);
}

/* The ports that the rendezvous goes by, all of this host: those of its addresses, or of its text. */
static int ports_of(const struct rendezvous *root, struct net_limit limit, uint16_t ports[NET_ADDRS], int *n)
{
	struct net_addr at[NET_ADDRS];
	int found = 0, rc = TUTTI_OK;

	if (root->naddrs)
		memcpy(at, root->addrs, sizeof(at));
	else
		rc = net_resolve(root->text, at, NET_ADDRS, &found, limit);
	*n = 0;
	for (int i = 0; i < root->naddrs + found && rc == TUTTI_OK; i++)
		if (net_is_loopback(&at[i]) && (*n == 0 || at[i].port != ports[*n - 1]))
			ports[(*n)++] = at[i].port;
	if (rc == TUTTI_OK && *n == 0)
		rc = fail(TUTTI_EAUTH, "it is not on this host, and there is no secret: set TUTTI_SECRET on all ranks");
	return rc;
}

static int listen_local(const struct rendezvous *root, struct door *door, const struct auth_key *open,
                        struct net_limit limit)
{
	uint16_t ports[NET_ADDRS];
	char name[40];
	int n, rc = ports_of(root, limit, ports, &n);

	if (rc != TUTTI_OK)
		return rc;
	for (int i = 0; i < n; i++) {
		local_name(ports[i], name);
		rc = door_listen_local(door, name, open);
		if (rc != TUTTI_EPEER)
			return rc;
	}
	return fail(
	        TUTTI_ESYSTEM,
	        "%s: does another job or another user's process use that address? Set TUTTI_SECRET on all ranks, or choose another port",
	        fail_text());
}

static int listen_everywhere(struct door *door, uint16_t port)
{
	int rc = door_listen(door, (struct net_addr){.family = 6, .port = port});

	return rc == TUTTI_OK ? rc : door_listen(door, (struct net_addr){.family = 4, .port = port});
}

static bool is_own(const struct net_addr *a, const struct net_iface *own)
{
	return own->addr.family == a->family && memcmp(own->addr.ip, a->ip, sizeof(a->ip)) == 0 &&
	       (!a->scope || a->scope == own->addr.scope);
}

/*
 * At an address of this host. A link-local one without its zone may be that of several interfaces: then at each, for it can be
 * listened at with its zone only. *opened: at so many.
 */
static int listen_at_own(struct door *door, struct net_addr at, const struct net_iface *own, int n, int *opened)
{
	int rc = TUTTI_OK;

	*opened = 0;
	for (int i = 0; i < n && rc == TUTTI_OK; i++) {
		if (!is_own(&at, &own[i]) || (*opened > 0 && own[i].addr.scope == at.scope))
			continue;
		struct net_addr here = at;
		here.scope = own[i].addr.scope;
		rc = door_listen(door, here);
		++*opened;
	}
	return rc;
}

/* What a name says of its own host isn't always what others see of it: 127.0.1.1, a service's address. */
static int listen_at_name(const struct rendezvous *root, struct door *door, struct net_limit limit)
{
	struct net_addr at[NET_ADDRS];
	struct net_iface own[NET_IFACES];
	int n, nown, opened, total = 0, rc = net_resolve(root->text, at, NET_ADDRS, &n, limit);

	if (rc == TUTTI_OK)
		rc = net_list(own, NET_IFACES, &nown);
	for (int i = 0; i < n && rc == TUTTI_OK; i++) {
		rc = listen_at_own(door, at[i], own, nown, &opened);
		total += opened;
	}
	return rc != TUTTI_OK || total > 0 ? rc : listen_everywhere(door, at[0].port);
}

/* The listener stays the caller's; connections that come when the door has closed wait there for the next world. */
static int listen_there(int listener, struct door *door)
{
	int fd = fd_keep(fcntl(listener, F_DUPFD_CLOEXEC, 0));

	return fd >= 0 ? door_adopt(door, fd) : fail_errno("can't use descriptor %d as a listener", listener);
}

static int listen_at_first(const struct rendezvous *root, struct door *door)
{
	int rc = TUTTI_OK;

	for (int i = 0; i < root->naddrs; i++) {
		rc = door_listen(door, root->addrs[i]);
		if (rc == TUTTI_OK)
			break;
	}
	return rc;
}

int rendezvous_open(const struct rendezvous *root, struct door *door, const struct auth_key *key,
                    struct net_limit limit)
{
	int rc;

	if (key->open)
		rc = listen_local(root, door, key, limit);
	else if (root->listen_fd >= 0)
		rc = listen_there(root->listen_fd, door);
	else
		rc = root->naddrs ? listen_at_first(root, door) : listen_at_name(root, door, limit);
	return rc == TUTTI_OK ? rc : fail_while(rc, "rank 0 can't open the rendezvous %s", root->text);
}

static struct net_limit within(struct net_limit limit, uint64_t ns)
{
	uint64_t until = now_ns() + ns;

	return (struct net_limit){.deadline = until < limit.deadline ? until : limit.deadline, .stop = limit.stop};
}

/* Is it of no use to try again? Where addresses are candidates, somebody else may answer at one of them. */
static bool is_final(const struct rendezvous *root, int status)
{
	switch (status) {
	case TUTTI_EPEER:
	case TUTTI_ETIMEOUT:
		return false;
	case TUTTI_EAUTH:
		return root->naddrs == 0;
	default:
		return true;
	}
}

/* All names are tried; the last failure counts, but one that is final goes before it. */
static int dial_local(const struct rendezvous *root, struct door *door, const struct auth_key *open,
                      const struct hello *hello, struct net_limit limit, struct session *session)
{
	uint16_t ports[NET_ADDRS];
	char name[40];
	int n, rc = ports_of(root, limit, ports, &n);

	for (int i = 0; i < n && rc == TUTTI_OK; i++) {
		local_name(ports[i], name);
		rc = door_dial_local(door, name, open, hello, limit, session);
		if (rc == TUTTI_OK || is_final(root, rc))
			return rc;
		rc = i < n - 1 ? TUTTI_OK : rc;
	}
	return rc;
}

static int dial_once(const struct rendezvous *root, struct door *door, const struct auth_key *key,
                     const struct hello *hello, uint64_t ns, struct net_limit limit, struct session *session)
{
	struct contact zero = {.rank = 0};
	int n = root->naddrs, rc = TUTTI_OK;

	if (key->open)
		return dial_local(root, door, key, hello, within(limit, ns), session);
	snprintf(zero.host, sizeof(zero.host), "%.63s", root->text);
	if (n > 0)
		memcpy(zero.addrs, root->addrs, sizeof(zero.addrs));
	else
		rc = net_resolve(root->text, zero.addrs, NET_ADDRS, &n, limit);
	zero.naddrs = (uint32_t)n;
	return rc == TUTTI_OK ? door_dial(door, &zero, hello, false, within(limit, ns), session) : rc;
}

int rendezvous_dial(const struct rendezvous *root, struct door *door, const struct auth_key *key,
                    const struct hello *hello, double seconds, struct net_limit limit, struct session *session)
{
	uint64_t round = 2000 * MS, pause = 10 * MS;

	for (;;) {
		int rc = dial_once(root, door, key, hello, round, limit, session);
		if (rc == TUTTI_OK)
			return rc;
		if (is_final(root, rc))
			return fail_while(rc, "rank %d can't join %s", hello->from, root->text);
		if (now_ns() + pause >= limit.deadline)
			return fail_while(rc == TUTTI_EPEER ? TUTTI_ETIMEOUT : rc,
			                  "rank %d could not join rank 0 at %s within %.3g s", hello->from, root->text,
			                  seconds);
		log_debug("rank %d will try again to join: %s", hello->from, fail_text());
		rc = net_wait(-1, 0, within(limit, pause));
		if (rc == TUTTI_EABORTED)
			return rc;
		pause = pause < 320 * MS ? 2 * pause : pause;
		round = round < 16000 * MS ? 2 * round : round;
	}
}
