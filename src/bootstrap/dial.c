/*
 * Dialling, the other side of door.c: blocks its caller, tries each address of a contact in turn, those first that are
 * in a network of ours, and tells how each failed. Where it was pushed out by a crowd at the door it tries again.
 */
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/secret.h"
#include "door.h"
#include "door_self.h"
#include "handshake.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS     UINT64_C(1000000)
#define DIALS  6            /* attempts on one address when the other side hangs up early */
#define SLICE  (10000 * MS) /* of the limit for one address of several */
#define ROUTES 16

static int explain(const struct door_self *d, const struct contact *to, const struct answer *answer,
                   enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_WELCOME:
		return TUTTI_OK;
	case VERDICT_SECRET:
		return fail(TUTTI_EAUTH,
		            "rank %d does not know the same secret as rank %d: check that TUTTI_SECRET, or the secret "
		            "file, is "
		            "the same on all ranks",
		            to->rank, d->rank);
	case VERDICT_SIZE:
		return fail(TUTTI_EMISMATCH, "rank %d is in a job of %d ranks, this is rank %d of %d: check TUTTI_SIZE",
		            answer->rank, answer->size, d->rank, d->size);
	case VERDICT_RANK:
		return fail(TUTTI_EPEER, "rank %d answered where rank %d was expected", answer->rank, to->rank);
	case VERDICT_JOB:
		return fail(TUTTI_EPEER, "rank %d of another job with the same secret answered", answer->rank);
	default:
		return fail(TUTTI_EPEER, "what answered does not speak Tutti");
	}
}

/* The version comes first, whatever the rest of the acceptor's challenge looks like. */
static int read_challenge(const struct door_self *d, const struct contact *to, struct challenge *challenge,
                          struct net_limit limit, int fd)
{
	uint32_t version;
	int rc = net_read(fd, challenge, CHALLENGE_HEAD, limit);

	if (rc != TUTTI_OK)
		return rc;
	switch (handshake_begun(challenge, &version)) {
	case VERDICT_WELCOME:
		return net_read(fd, (char *)challenge + CHALLENGE_HEAD, sizeof(*challenge) - CHALLENGE_HEAD, limit);
	case VERDICT_VERSION:
		return fail(TUTTI_EMISMATCH,
		            "rank %d speaks version %u of the wire, rank %d version %d: install the same Tutti on all "
		            "hosts",
		            to->rank, version, d->rank, WIRE_VERSION);
	default:
		return explain(d, to, NULL, VERDICT_GARBAGE);
	}
}

static int take_keys(struct handshake *hs, struct seal **seal)
{
	uint8_t out[AUTH_KEY], in[AUTH_KEY];

	handshake_keys(hs, true, out, in);
	*seal = seal_new(out, in);
	secret_wipe(out, sizeof(out));
	secret_wipe(in, sizeof(in));
	return *seal ? TUTTI_OK : TUTTI_ENOMEM;
}

/* The dialler's side of the handshake on a fresh connection. */
static int introduce(const struct door_self *d, const struct contact *to, const struct hello *hello,
                     struct net_limit limit, struct session *session, bool *hung_up)
{
	struct handshake hs = {.key = &d->key, .rank = d->rank, .size = d->size};
	struct greet greet;
	struct challenge challenge;
	struct proof proof;
	struct answer answer;
	int rc, fd = session->fd;

	*hung_up = false;
	handshake_greet(&hs, to->rank, to->nonce, &greet);
	rc = net_write(fd, &greet, sizeof(greet), limit);
	if (rc == TUTTI_OK)
		rc = read_challenge(d, to, &challenge, limit, fd);
	*hung_up = rc == TUTTI_EPEER;
	if (rc != TUTTI_OK)
		return rc;
	rc = explain(d, to, NULL, handshake_challenged(&hs, &challenge, hello, &proof));
	if (rc == TUTTI_OK)
		rc = net_write(fd, &proof, sizeof(proof), limit);
	if (rc == TUTTI_OK)
		rc = net_read(fd, &answer, sizeof(answer), limit);
	*hung_up = rc == TUTTI_EPEER;
	if (rc == TUTTI_OK)
		rc = explain(d, to, &answer, handshake_answered(&hs, &answer));
	if (rc == TUTTI_OK)
		rc = take_keys(&hs, &session->seal);
	handshake_end(&hs);
	return rc;
}

/** One way to a rank: its local socket (no address), or an address, perhaps from a given one of ours. */
struct route {
	struct net_addr to, from; /* family 0: none */
};

static int connect_route(const struct contact *to, const struct route *r, struct net_limit limit, int *fd)
{
	int rc;

	if (r->to.family)
		return net_connect(&r->to, r->from.family ? &r->from : NULL, limit, fd);
	rc = net_connect_local(to->local, limit, fd);
	if (rc == TUTTI_OK && !door_is_our_user(*fd)) {
		close(*fd);
		*fd = -1;
		rc = fail(TUTTI_EAUTH, "the local socket @%s is another user's", to->local);
	}
	return rc;
}

/* A crowded door may push a guest out before its turn, so an early hang-up is worth another try. */
static int dial_route(const struct door_self *d, const struct contact *to, const struct hello *hello,
                      const struct route *r, struct net_limit limit, struct session *session)
{
	char text[NET_TEXT];
	bool hung_up;
	int rc;

	for (unsigned attempt = 0;; attempt++) {
		rc = connect_route(to, r, limit, &session->fd);
		if (rc != TUTTI_OK)
			return rc;
		rc = introduce(d, to, hello, limit, session, &hung_up);
		if (rc == TUTTI_OK)
			return rc;
		session_close(session);
		if (!hung_up || attempt == DIALS - 1)
			break;
		uint64_t until = now_ns() + ((10 * MS) << attempt);
		if (until >= limit.deadline)
			break;
		if (net_wait(-1, 0, (struct net_limit){.deadline = until, .stop = limit.stop}) == TUTTI_EABORTED)
			return TUTTI_EABORTED;
	}
	return fail_while(rc, "%s", r->to.family ? net_text(&r->to, text) : "over the local socket");
}

/* The interfaces that may be used: all, or those of TUTTI_IFACE. */
static int own_interfaces(const struct door_self *d, struct net_iface own[NET_IFACES], int *n)
{
	struct net_addr allowed[NET_IFACES];
	int all, nallowed, rc = net_list(own, NET_IFACES, &all);

	*n = 0;
	if (rc == TUTTI_OK)
		rc = net_choose(own, all, d->iface, d->key.open, allowed, NET_IFACES, &nallowed);
	if (rc != TUTTI_OK)
		return rc;
	for (int i = 0; i < all; i++)
		for (int k = 0; k < nallowed; k++)
			if (memcmp(&own[i].addr, &allowed[k], sizeof(allowed[k])) == 0) {
				own[(*n)++] = own[i];
				break;
			}
	return TUTTI_OK;
}

static const struct net_iface *near_interface(const struct net_iface *own, int n, const struct net_addr *a)
{
	for (int i = 0; i < n; i++)
		if (net_is_near(&own[i], a))
			return &own[i];
	return NULL;
}

/* The address to come from: one in the same network, else any of that family; false when there is none. */
static bool choose_source(const struct net_iface *own, int n, struct route *r)
{
	const struct net_iface *best = near_interface(own, n, &r->to);

	for (int i = 0; i < n && !best; i++)
		if (own[i].addr.family == r->to.family && !net_is_link_local(&own[i].addr))
			best = &own[i];
	if (best)
		r->from = best->addr;
	return best;
}

/* A link-local address of IPv6 means something only together with an interface of ours: each is a route. */
static void add_link_local(const struct net_iface *own, int nown, const struct net_addr *a, struct route *routes,
                           int *n)
{
	for (int i = 0; i < nown && *n < ROUTES; i++) {
		if (own[i].addr.family != 6 || !net_is_link_local(&own[i].addr))
			continue;
		routes[*n] = (struct route){.to = *a, .from = own[i].addr};
		routes[(*n)++].to.scope = own[i].addr.scope;
	}
}

static int plan_routes(const struct door_self *d, const struct contact *to, struct route routes[ROUTES], int *n)
{
	struct net_iface own[NET_IFACES];
	int nown, rc = own_interfaces(d, own, &nown);

	*n = 0;
	if (rc != TUTTI_OK)
		return rc;
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < to->naddrs && i < NET_ADDRS && *n < ROUTES; i++) {
			const struct net_addr *a = &to->addrs[i];
			bool scoped = a->family == 6 && net_is_link_local(a);
			if ((a->family != 4 && a->family != 6) ||
			    (!scoped && near_interface(own, nown, a)) != (pass == 0))
				continue;
			if (scoped) {
				add_link_local(own, nown, a, routes, n);
				continue;
			}
			routes[*n] = (struct route){.to = *a};
			if (!d->iface[0] || net_is_loopback(a) || choose_source(own, nown, &routes[*n]))
				++*n;
		}
	}
	return TUTTI_OK;
}

/** What became of the routes tried so far. */
struct tried {
	char text[700];
	int status;
};

/* The gravest says what is wrong: a secret, then a mismatch, then anything but a time-out. */
static int gravity(int status)
{
	switch (status) {
	case TUTTI_OK:
		return 0;
	case TUTTI_ETIMEOUT:
		return 1;
	case TUTTI_EPEER:
		return 2;
	case TUTTI_EMISMATCH:
		return 4;
	case TUTTI_EAUTH:
		return 5;
	default:
		return 3;
	}
}

static void note_failure(struct tried *t, int status)
{
	size_t used = strlen(t->text);

	snprintf(t->text + used, sizeof(t->text) - used, "%s%s", used ? "; " : "", fail_text());
	if (gravity(status) > gravity(t->status))
		t->status = status;
}

static int dial_routes(const struct door_self *d, const struct contact *to, const struct hello *hello,
                       const struct route *routes, int n, struct net_limit limit, struct session *session)
{
	struct tried tried = {.status = TUTTI_OK};
	char who[128], text[NET_TEXT];

	for (int i = 0; i < n; i++) {
		uint64_t now = now_ns(), left = now < limit.deadline ? limit.deadline - now : 0;
		uint64_t slice = n > 1 && left / (uint64_t)(n - i) > SLICE ? SLICE : left / (uint64_t)(n - i);
		struct net_limit part = {.deadline = now + slice, .stop = limit.stop};
		int rc;

		if (d->key.open && routes[i].to.family && !net_is_loopback(&routes[i].to))
			rc = fail(TUTTI_EAUTH,
			          "%s is beyond this host, and there is no secret: set TUTTI_SECRET on all ranks",
			          net_text(&routes[i].to, text));
		else
			rc = dial_route(d, to, hello, &routes[i], part, session);
		if (rc == TUTTI_OK)
			return rc;
		if (rc == TUTTI_EABORTED)
			return fail_while(rc, "reaching %s", contact_text(to, who, sizeof(who)));
		note_failure(&tried, rc);
	}
	if (n == 0)
		return fail(TUTTI_EPEER, "%s has no address that this rank could use",
		            contact_text(to, who, sizeof(who)));
	return fail(tried.status, "can't reach %s: %s", contact_text(to, who, sizeof(who)), tried.text);
}

int door_dial(const struct door *door, const struct contact *to, const struct hello *hello, bool local,
              struct net_limit limit, struct session *session)
{
	struct route routes[ROUTES] = {{.to = {.family = 0}}};
	int n = 1, rc = TUTTI_OK;

	*session = SESSION_NONE;
	if (!local)
		rc = plan_routes(door_self(door), to, routes, &n);
	else if (!to->local[0])
		n = 0;
	if (rc != TUTTI_OK)
		return rc;
	return dial_routes(door_self(door), to, hello, routes, n, limit, session);
}

int door_ask(const struct door *door, const struct contact *to, uint64_t tag, struct net_limit limit, int *fd)
{
	struct hello hello = {.kind = HELLO_GIVE, .from = door_self(door)->rank, .tag = tag};
	char who[128];
	struct session session;
	int rc = door_dial(door, to, &hello, true, limit, &session);

	*fd = -1;
	if (rc != TUTTI_OK)
		return rc;
	rc = net_recv_fd(session.fd, limit, fd);
	session_close(&session);
	return rc == TUTTI_OK ? rc : fail_while(rc, "asking %s for a descriptor", contact_text(to, who, sizeof(who)));
}
