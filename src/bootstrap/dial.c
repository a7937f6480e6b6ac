/* SPDX-License-Identifier: MIT */
/*
 * Dialling, the other side of door.c: blocks its caller. The routes to a rank (route.c) are tried at the same time, each a
 * moment after the one before or as soon as that has failed, so that a silent address costs a moment and not its time-out.
 * One at a time proves itself: of two that get in, the other side might take the one that is hung up. Where a route was
 * pushed out by a crowd at the door it is tried again. The message tells how each failed.
 */
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/secret.h"
#include "door.h"
#include "door_self.h"
#include "handshake.h"
#include "route.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS    UINT64_C(1000000)
#define DIALS 6            /* attempts on one address when the other side hangs up early */
#define APART (250 * MS)   /* from one route's start to the next one's */
#define SLICE (10000 * MS) /* for a proof, when other routes wait for their turn */
#define NEVER UINT64_MAX

static int explain(const struct door_self *d, const struct contact *to, const struct answer *answer,
                   enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_WELCOME:
		return TUTTI_OK;
	case VERDICT_SECRET:
		return fail(
		        TUTTI_EAUTH,
		        "rank %d and rank %d have different secrets: check that TUTTI_SECRET, or the secret file, is the same on all ranks",
		        to->rank, d->rank);
	case VERDICT_SIZE:
		return fail(TUTTI_EMISMATCH, "rank %d is in a job of %d ranks, this is rank %d of %d: check TUTTI_SIZE",
		            answer->rank, answer->size, d->rank, d->size);
	case VERDICT_RANK:
		return fail(TUTTI_EPEER, "rank %d answered where rank %d was expected", answer->rank, to->rank);
	case VERDICT_JOB:
		return fail(TUTTI_EPEER, "rank %d of another job with the same secret answered", answer->rank);
	default:
		return fail(TUTTI_EPEER, "the process that answered does not speak Tutti's protocol");
	}
}

/* ---- one route --------------------------------------------------------------------------------------------------- */

enum phase {
	PAUSED,     /* it begins, or begins again, when it is due */
	CONNECTING, /* the other side's kernel has not answered yet */
	GREETED,    /* waits for the challenge */
	CHALLENGED, /* waits for its turn to prove itself */
	PROVING,    /* waits for the answer */
	WELCOME,
	OVER,
};

struct attempt {
	struct route route;
	enum phase phase;
	int fd;            /* -1: none */
	struct seal *seal; /* WELCOME: the session's */
	unsigned tries;
	uint64_t due, since; /* PAUSED: when; else when this phase began */
	struct handshake hs;
	struct proof proof;
	size_t have;
	union {
		uint8_t bytes[1];
		struct challenge challenge;
		struct answer answer;
	} in;
	int status; /* how it ended, and why in words */
	bool silent;
	char why[240];
};

/** A dial under way. */
struct dial {
	const struct door_self *self;
	const struct contact *to;
	const struct hello *hello;
	struct net_limit limit;
	uint64_t patience; /* with a host that does not answer at all */
	struct attempt attempt[ROUTES];
	int n;
};

static void enter(struct attempt *a, enum phase phase)
{
	a->phase = phase;
	a->since = now_ns();
	a->have = 0;
}

static void hang_up(struct attempt *a)
{
	if (a->fd >= 0)
		fd_close(a->fd);
	a->fd = -1;
	handshake_end(&a->hs);
}

static void end(struct attempt *a, int status)
{
	hang_up(a);
	enter(a, OVER);
	a->status = status;
	snprintf(a->why, sizeof(a->why), "%s", fail_text());
}

/* After the connection stood. */
static void end_at(struct attempt *a, int status)
{
	char text[NET_TEXT];

	(void)fail_while(status, "%s", a->route.to.family ? net_text(&a->route.to, text) : "over the local socket");
	end(a, status);
}

/* A crowded door may drop a connection before its turn, so an early hang-up is worth another try. */
static void broke(const struct dial *d, struct attempt *a, int status)
{
	uint64_t again = now_ns() + ((10 * MS) << a->tries);

	if (status != TUTTI_EPEER || ++a->tries >= DIALS || again >= d->limit.deadline) {
		end_at(a, status);
		return;
	}
	hang_up(a);
	enter(a, PAUSED);
	a->due = again;
}

/* A fresh connection takes these few bytes at once. */
static int put(const struct attempt *a, const void *buf, size_t n)
{
	return net_write(a->fd, buf, n, (struct net_limit){.deadline = 0});
}

static void greet(struct dial *d, struct attempt *a)
{
	struct greet out;
	int rc;

	a->hs = (struct handshake){.key = d->self->key, .rank = d->self->rank, .size = d->self->size};
	handshake_greet(&a->hs, d->to->rank, d->to->nonce, &out);
	rc = put(a, &out, sizeof(out));
	if (rc == TUTTI_OK)
		enter(a, GREETED);
	else
		broke(d, a, rc);
}

static void connected(struct dial *d, struct attempt *a)
{
	int rc = net_connect_end(a->fd, &a->route.to);

	a->silent = rc != TUTTI_OK && net_is_silence(errno);
	if (rc == TUTTI_OK)
		greet(d, a);
	else
		end(a, rc);
}

static void begin_local(struct dial *d, struct attempt *a)
{
	int rc = net_connect_local(d->to->local, d->limit, &a->fd);

	if (rc == TUTTI_OK && !door_is_our_user(a->fd))
		rc = fail(TUTTI_EAUTH, "the local socket @%s belongs to another user", d->to->local);
	if (rc == TUTTI_OK)
		greet(d, a);
	else
		end(a, rc);
}

static void begin(struct dial *d, struct attempt *a)
{
	const struct net_addr *to = &a->route.to;
	char text[NET_TEXT];
	int rc;

	if (!to->family) {
		begin_local(d, a);
		return;
	}
	if (d->self->key->open && !net_is_loopback(to))
		rc = fail(TUTTI_EAUTH, "%s is not on this host, and there is no secret: set TUTTI_SECRET on all ranks",
		          net_text(to, text));
	else
		rc = net_connect_begin(to, a->route.from.family ? &a->route.from : NULL, &a->fd);
	a->silent = rc == TUTTI_EPEER && net_is_silence(errno);
	if (rc == TUTTI_OK)
		enter(a, CONNECTING);
	else
		end(a, rc);
}

/* The version comes first, whatever the rest of the acceptor's challenge looks like. */
static void begun(struct dial *d, struct attempt *a)
{
	uint32_t version;
	enum verdict verdict = handshake_begun(&a->in.challenge, &version);

	if (verdict == VERDICT_VERSION)
		end_at(a,
		       fail(TUTTI_EMISMATCH,
		            "rank %d speaks protocol version %u, rank %d version %d: install the same Tutti on all hosts",
		            d->to->rank, version, d->self->rank, WIRE_VERSION));
	else if (verdict != VERDICT_WELCOME)
		end_at(a, explain(d->self, d->to, NULL, verdict));
}

static void challenged(struct dial *d, struct attempt *a)
{
	enum verdict verdict = handshake_challenged(&a->hs, &a->in.challenge, d->hello, &a->proof);

	if (verdict == VERDICT_WELCOME)
		enter(a, CHALLENGED);
	else
		end_at(a, explain(d->self, d->to, NULL, verdict));
}

static void prove(const struct dial *d, struct attempt *a)
{
	int rc = put(a, &a->proof, sizeof(a->proof));

	if (rc == TUTTI_OK)
		enter(a, PROVING);
	else
		broke(d, a, rc);
}

static int take_keys(struct attempt *a)
{
	uint8_t out[AUTH_KEY], in[AUTH_KEY];

	handshake_keys(&a->hs, true, out, in);
	a->seal = seal_new(out, in);
	secret_wipe(out, sizeof(out));
	secret_wipe(in, sizeof(in));
	return a->seal ? TUTTI_OK : TUTTI_ENOMEM;
}

static void answered(struct dial *d, struct attempt *a)
{
	int rc = explain(d->self, d->to, &a->in.answer, handshake_answered(&a->hs, &a->in.answer));

	if (rc == TUTTI_OK)
		rc = take_keys(a);
	if (rc == TUTTI_OK)
		enter(a, WELCOME);
	else
		end_at(a, rc);
}

/* Read the expected message, and nothing beyond it: the rest is for the owner of the connection. */
static void receive(struct dial *d, struct attempt *a)
{
	size_t want = a->phase == PROVING        ? sizeof(struct answer)
	              : a->have < CHALLENGE_HEAD ? CHALLENGE_HEAD
	                                         : sizeof(struct challenge);
	ssize_t got = recv(a->fd, a->in.bytes + a->have, want - a->have, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		if (got == 0)
			broke(d, a, fail(TUTTI_EPEER, "the other side closed the connection"));
		else
			broke(d, a, (fail_errno("the connection was lost"), TUTTI_EPEER));
		return;
	}
	a->have += (size_t)got;
	if (a->have < want)
		return;
	if (a->phase == PROVING)
		answered(d, a);
	else if (want == CHALLENGE_HEAD)
		begun(d, a);
	else
		challenged(d, a);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static bool waits(const struct attempt *a)
{
	return a->phase == CONNECTING || a->phase == GREETED || a->phase == CHALLENGED || a->phase == PROVING;
}

/* When the attempt has had its time: a silent host by its caller's patience, a proof while others wait for their turn. */
static uint64_t due_of(const struct dial *d, const struct attempt *a)
{
	if (a->phase == PAUSED)
		return a->due;
	if (a->phase == CONNECTING)
		return d->patience < NEVER - a->since ? a->since + d->patience : NEVER;
	if (a->phase == PROVING && d->n > 1)
		return a->since + SLICE;
	return NEVER;
}

static void time_out(struct dial *d, struct attempt *a)
{
	char text[NET_TEXT];
	int rc = fail(TUTTI_ETIMEOUT, "timed out");

	if (a->phase == CONNECTING && now_ns() < d->limit.deadline)
		rc = fail(TUTTI_EPEER, "no answer within %.3g s", (double)d->patience * 1e-9);
	if (a->phase == CONNECTING) {
		a->silent = true;
		end(a, fail_while(rc, "connecting to %s", net_text(&a->route.to, text)));
	} else if (a->phase != OVER) {
		end_at(a, rc);
	}
}

/* Begins what is due, ends what had its time, and lets one prove itself. The next route need not wait for one that failed. */
static void step(struct dial *d)
{
	uint64_t now = now_ns();
	bool proving = false;

	for (int i = 0; i < d->n; i++) {
		struct attempt *a = &d->attempt[i];
		if (a->phase == PAUSED && now >= a->due)
			begin(d, a);
		else if (now >= due_of(d, a))
			time_out(d, a);
		if (a->phase == OVER && i + 1 < d->n && d->attempt[i + 1].tries == 0 && d->attempt[i + 1].due > now)
			d->attempt[i + 1].due = now;
		proving |= a->phase == PROVING || a->phase == WELCOME;
	}
	for (int i = 0; i < d->n && !proving; i++) {
		if (d->attempt[i].phase == CHALLENGED)
			prove(d, &d->attempt[i]);
		proving = d->attempt[i].phase == PROVING;
	}
}

/* Sleeps until one of them can go on; TUTTI_OK also when it is time for a step. */
static int sleep_until_ready(struct dial *d)
{
	struct pollfd p[ROUTES];
	struct net_limit limit = d->limit;
	int rc;

	for (int i = 0; i < d->n; i++) {
		const struct attempt *a = &d->attempt[i];
		uint64_t due = due_of(d, a);
		p[i] = (struct pollfd){.fd = waits(a) ? a->fd : -1,
		                       .events = a->phase == CONNECTING ? POLLOUT : POLLIN};
		limit.deadline = due < limit.deadline ? due : limit.deadline;
	}
	rc = net_poll(p, (size_t)d->n, limit);
	for (int i = 0; i < d->n && rc == TUTTI_OK; i++) {
		struct attempt *a = &d->attempt[i];
		if (p[i].revents == 0)
			continue;
		if (a->phase == CONNECTING)
			connected(d, a);
		else if (a->phase == CHALLENGED)
			broke(d, a, fail(TUTTI_EPEER, "the other side closed the connection"));
		else
			receive(d, a);
	}
	return rc == TUTTI_ETIMEOUT ? TUTTI_OK : rc;
}

static bool under_way(const struct dial *d)
{
	for (int i = 0; i < d->n; i++)
		if (d->attempt[i].phase != OVER)
			return true;
	return false;
}

static struct attempt *welcome(struct dial *d)
{
	for (int i = 0; i < d->n; i++)
		if (d->attempt[i].phase == WELCOME)
			return &d->attempt[i];
	return NULL;
}

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

/* All that failed in one text, and the gravest status. */
static int all_failed(const struct dial *d, bool *silent)
{
	char who[128], text[800] = "";
	bool loopback = d->attempt[0].route.to.family;
	int status = TUTTI_OK;

	*silent = true;
	for (int i = 0; i < d->n; i++) {
		const struct attempt *a = &d->attempt[i];
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, "%s%s", used ? "; " : "", a->why);
		if (gravity(a->status) > gravity(status))
			status = a->status;
		*silent &= a->silent;
		loopback &= net_is_loopback(&a->route.to);
	}
	if (loopback && !door_is_same_host(d->self, d->to)) {
		size_t used = strlen(text);
		snprintf(
		        text + used, sizeof(text) - used,
		        "; rank %d listens only on its loopback: does TUTTI_IFACE exclude the other interfaces there, or are they down?",
		        d->to->rank);
	}
	return fail(status, "can't reach %s: %s", contact_text(d->to, who, sizeof(who)), text);
}

/* The first route was silent, where another one is not. */
static const struct route *passed_over(const struct dial *d, const struct attempt *winner)
{
	const struct attempt *first = &d->attempt[0];

	return winner != first && (first->phase == CONNECTING || first->silent) ? &first->route : NULL;
}

static int run(struct dial *d, bool *silent, struct session *session)
{
	struct attempt *winner = NULL;
	char who[128];
	int rc = TUTTI_OK;

	while (rc == TUTTI_OK && !(winner = welcome(d)) && under_way(d)) {
		step(d);
		if (now_ns() >= d->limit.deadline)
			for (int i = 0; i < d->n; i++)
				time_out(d, &d->attempt[i]);
		else if (under_way(d))
			rc = sleep_until_ready(d);
	}
	if (winner) {
		*session = (struct session){.fd = winner->fd, .seal = winner->seal};
		winner->fd = -1;
		if (winner->route.to.family)
			routes_worked(d->self, d->to, &winner->route, passed_over(d, winner));
	}
	for (int i = 0; i < d->n; i++)
		hang_up(&d->attempt[i]);
	if (rc != TUTTI_OK)
		return fail_while(rc, "reaching %s", contact_text(d->to, who, sizeof(who)));
	return winner ? TUTTI_OK : all_failed(d, silent);
}

static int dial_routes(const struct door_self *self, const struct contact *to, const struct hello *hello,
                       const struct route *routes, int n, uint64_t patience, struct net_limit limit, bool *silent,
                       struct session *session)
{
	struct dial d = {.self = self, .to = to, .hello = hello, .limit = limit, .patience = patience, .n = n};
	uint64_t now = now_ns();

	for (int i = 0; i < n; i++)
		d.attempt[i] = (struct attempt){.route = routes[i], .fd = -1, .due = now + APART * (uint64_t)i};
	return run(&d, silent, session);
}

int door_reach(const struct door *door, const struct contact *to, const struct hello *hello, uint64_t patience,
               struct net_limit limit, bool *silent, struct session *session)
{
	struct route routes[ROUTES];
	int n, rc = routes_plan(door_self(door), to, routes, &n);

	*session = SESSION_NONE;
	*silent = false;
	return rc == TUTTI_OK ? dial_routes(door_self(door), to, hello, routes, n, patience, limit, silent, session)
	                      : rc;
}

int door_dial(const struct door *door, const struct contact *to, const struct hello *hello, bool local,
              struct net_limit limit, struct session *session)
{
	struct route here = {.to = {.family = 0}};
	bool silent;
	char who[128];

	if (!local)
		return door_reach(door, to, hello, NEVER, limit, &silent, session);
	*session = SESSION_NONE;
	if (!to->local[0])
		return fail(TUTTI_EPEER, "%s has no local socket", contact_text(to, who, sizeof(who)));
	return dial_routes(door_self(door), to, hello, &here, 1, NEVER, limit, &silent, session);
}

int door_dial_local(const struct door *door, const char *name, const struct auth_key *open, const struct hello *hello,
                    struct net_limit limit, struct session *session)
{
	struct route here = {.to = {.family = 0}};
	struct door_self self = *door_self(door);
	struct auth_key key = *open;
	struct contact to = {.rank = 0};
	bool silent;

	*session = SESSION_NONE;
	self.key = &key;
	snprintf(to.local, sizeof(to.local), "%s", name);
	return dial_routes(&self, &to, hello, &here, 1, NEVER, limit, &silent, session);
}

bool door_is_near(const struct door *door, const struct contact *to, struct net_limit limit)
{
	struct hello hello = {.kind = HELLO_NEAR, .from = door_self(door)->rank};
	struct session session;

	if (door_dial(door, to, &hello, true, limit, &session) != TUTTI_OK)
		return false;
	session_close(&session);
	return true;
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
