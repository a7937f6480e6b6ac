/* SPDX-License-Identifier: MIT */
/*
 * Bootstrap, see bootstrap.h. In four steps, each on the connection that a rank made to rank 0 when it joined:
 *
 *   key ◀─             only where no secret was given: the job's key, drawn by rank 0. The rendezvous is a local socket
 *                      then, whose other end is of the same user; all else proves this key
 *   later ◀─           instead: rank 0 is still in the world in which the joiner was last; it hangs up, and joins again
 *   join ─▶ rank 0     the rank's contact; rank 0 waits for all, and knows who is missing
 *   neighbours ◀─      contacts of the rank's parent and children in the tree; children dial parents
 *   ready ─▶           the rank's edges of the tree stand
 *   go ◀─              everybody's do
 *
 * Until "go", rank 0 learns of every failure, on that connection or by its end, and reports it to all ranks, so all
 * show the same error. Afterwards only the tree is left, and a failure travels along it. The tree: the parent of r is r
 * without its lowest bit, so that a subtree is an interval of ranks, and an all-gather needs no copies: each part
 * arrives in place.
 *
 * A rank that waits for rank 0's verdict waits a little longer than rank 0, and a parent a little longer than its
 * children, so that the rank that knows the reason reports it first.
 */
#include "bootstrap.h"
#include "../os/os.h"
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/secret.h"
#include "../util/service.h"
#include "door.h"
#include "door_self.h"
#include "notice.h"
#include "rendezvous.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS           UINT64_C(1000000)
#define GRACE        (2000 * MS) /* for rank 0's verdict */
#define LINGER       (2000 * MS) /* for ranks that join after a failure */
#define VERDICT      (1000 * MS) /* for the same, in a rank that already knows of a failure */
#define LEVEL_GRACE  (250 * MS)  /* for each level of the tree */
#define INTRODUCTION (5000 * MS) /* for a notice that has begun to arrive */
#define CHILDREN     31

/* The tag of a hello: this for an edge of the tree; of a joiner the world it was in last, 0 where there was none. */
#define TAG_EDGE 1

/** A connection that the door handed over. */
struct arrival {
	struct arrival *next;
	struct session session;
	struct hello hello;
};

/** A neighbour in the tree. */
struct edge {
	struct session session; /* fd -1: not connected (yet) */
	int rank;
	struct contact contact;
};

struct bootstrap {
	int rank, n;
	struct door *door;
	bool drawn;               /* no secret was given: rank 0 draws the key */
	bool early;               /* rank 0 said to join later */
	const struct contact *me; /* during open only */
	double seconds;           /* length of the limit, for messages */
	struct net_limit limit;
	int event;             /* readable when the inbox isn't empty */
	struct arrival *inbox; /* guarded by the service lock */
	struct edge parent, child[CHILDREN];
	int nchildren;
};

/* ---- the tree ---------------------------------------------------------------------------------------------------- */

static int parent_of(int rank)
{
	return rank & (rank - 1);
}

static int child_of(int rank, int n, int i)
{
	int bit = 1 << i;

	return (rank == 0 || bit < (rank & -rank)) && bit < n - rank ? rank + bit : -1;
}

/* One past the last rank of the subtree of the i-th child. */
static int subtree_end(const struct bootstrap *b, int i)
{
	int end = b->child[i].rank + (1 << i);

	return end < b->n ? end : b->n;
}

/* One past the last rank of this rank's own subtree. */
static int own_end(const struct bootstrap *b)
{
	return b->nchildren ? subtree_end(b, b->nchildren - 1) : b->rank + 1;
}

static void shape_tree(struct bootstrap *b)
{
	b->parent.session = SESSION_NONE;
	b->parent.rank = parent_of(b->rank);
	for (int c; b->nchildren < CHILDREN && (c = child_of(b->rank, b->n, b->nchildren)) >= 0; b->nchildren++)
		b->child[b->nchildren] = (struct edge){.session = SESSION_NONE, .rank = c};
}

static struct edge *child_edge(struct bootstrap *b, int rank)
{
	for (int i = 0; i < b->nchildren; i++)
		if (b->child[i].rank == rank)
			return &b->child[i];
	return NULL;
}

/* ---- arrivals ---------------------------------------------------------------------------------------------------- */

static void on_arrival(void *arg, struct session session, const struct hello *hello)
{
	struct bootstrap *b = arg;
	struct arrival *a = malloc(sizeof(*a)), **end = &b->inbox;

	if (!a) {
		session_close(&session);
		return;
	}
	*a = (struct arrival){.session = session, .hello = *hello};
	while (*end)
		end = &(*end)->next;
	*end = a;
	os_event_raise(b->event);
}

/* Why this rank fails; the connections are closed. */
static void tell_neighbours(struct bootstrap *b, int rc)
{
	for (int i = -1; i < b->nchildren; i++) {
		struct edge *e = i < 0 ? &b->parent : &b->child[i];
		if (e->session.fd >= 0)
			notice_fail(&e->session, rc);
	}
}

/* Takes all that arrived. */
static struct arrival *empty_inbox(struct bootstrap *b)
{
	struct arrival *all;

	service_lock();
	all = b->inbox;
	b->inbox = NULL;
	os_event_clear(b->event);
	service_unlock();
	return all;
}

/*
 * A running job has no place and says so; a rank that was in this world is early for the next one. On the service
 * thread: a fresh connection takes these bytes at once.
 */
static void on_latecomer(void *arg, struct session session, const struct hello *hello)
{
	const struct door *door = arg;

	if (hello->tag == door_self(door)->nonce) {
		notice_later(&session);
		return;
	}
	fail(TUTTI_EMISMATCH,
	     "the job at this rendezvous already has a rank %d: is an old job still running there, or was this one started twice?",
	     hello->from);
	notice_fail(&session, TUTTI_EMISMATCH);
}

/* What still came when all was over. */
static void turn_away(struct arrival *all, struct door *door, int rc)
{
	for (struct arrival *a = all, *next; a; a = next) {
		next = a->next;
		if (rc == TUTTI_OK)
			on_latecomer(door, a->session, &a->hello);
		else
			notice_fail(&a->session, rc);
		free(a);
	}
}

static struct net_limit later(struct net_limit limit, uint64_t ns)
{
	if (limit.deadline < UINT64_MAX - ns)
		limit.deadline += ns;
	return limit;
}

static struct net_limit at_most(struct net_limit limit, uint64_t ns)
{
	uint64_t until = now_ns() + ns;

	if (until < limit.deadline)
		limit.deadline = until;
	return limit;
}

/* ---- rank 0 ------------------------------------------------------------------------------------------------------ */

/** Connections to rank 0, by rank; `loose` ones have not sent their contact yet. */
struct lobby {
	struct bootstrap *b;
	struct seat {
		struct session session; /* fd -1: missing */
		bool ready;
		struct contact contact;
	} * seat;
	struct arrival *loose;
	struct pollfd *polls;
	size_t cap;
	int joined, ready;
	bool open; /* the rendezvous is */
};

static void seat_text(const struct lobby *l, int rank, char *buf, size_t cap)
{
	contact_text(&l->seat[rank].contact, buf, cap);
}

/* "rank 3", "ranks 3 5-7": those without a seat; ends in "..." where they don't fit. */
static void missing_text(const struct lobby *l, char *buf, size_t cap)
{
	size_t used = (size_t)snprintf(buf, cap, "rank%s", l->b->n - 1 - l->joined == 1 ? "" : "s");

	for (int r = 1; r < l->b->n; r++) {
		int first = r;
		if (l->seat[r].session.fd >= 0)
			continue;
		while (r + 1 < l->b->n && l->seat[r + 1].session.fd < 0)
			r++;
		if (used + 32 > cap) {
			snprintf(buf + used, cap - used, " ...");
			return;
		}
		used += (size_t)snprintf(buf + used, cap - used, first == r ? " %d" : " %d-%d", first, r);
	}
}

static int too_late(const struct lobby *l, const char *where)
{
	char missing[300], refusal[256];

	if (l->joined == l->b->n - 1) {
		for (int r = 1; r < l->b->n; r++) {
			char who[128];
			if (l->seat[r].ready)
				continue;
			seat_text(l, r, who, sizeof(who));
			return fail(TUTTI_ETIMEOUT, "%s joined, but did not connect to its neighbours within %.3g s",
			            who, l->b->seconds);
		}
	}
	missing_text(l, missing, sizeof(missing));
	door_refusal(l->b->door, refusal, sizeof(refusal));
	return fail(TUTTI_ETIMEOUT, "%s %s not joined %s within %.3g s%s%s", missing,
	            l->b->n - 1 - l->joined == 1 ? "has" : "have", where, l->b->seconds,
	            refusal[0] ? "; refused there: " : "", refusal);
}

static int left(const struct lobby *l, int rank)
{
	char who[128], missing[300];

	seat_text(l, rank, who, sizeof(who));
	if (l->joined == l->b->n - 1)
		return fail(TUTTI_EPEER, "%s left while the job was starting", who);
	missing_text(l, missing, sizeof(missing));
	return fail(TUTTI_EPEER, "%s left while the job was starting; %s had not joined yet", who, missing);
}

static int doubled(const struct lobby *l, const struct contact *other)
{
	char one[128], two[128];

	seat_text(l, other->rank, one, sizeof(one));
	contact_text(other, two, sizeof(two));
	return fail(TUTTI_EMISMATCH, "two processes claim to be rank %d: %s and %s; give each process its own rank",
	            other->rank, one, two);
}

/*
 * Read the contact of a rank that arrived, and assign its place. Hanging up before is not a failure: the dialler tries
 * again.
 */
static int seat(struct lobby *l, struct arrival *a)
{
	struct contact contact;
	struct seat *s;
	enum told told;
	int rc = notice_receive(&a->session, NOTICE_JOIN, &contact, sizeof(contact), at_most(l->b->limit, INTRODUCTION),
	                        &told);

	if (rc == TUTTI_EPEER || rc == TUTTI_ETIMEOUT) {
		session_close(&a->session);
		return TUTTI_OK;
	}
	if (rc == TUTTI_OK)
		rc = contact_agree(l->b->me, &contact);
	if (rc != TUTTI_OK)
		return rc;
	if (contact.rank != a->hello.from)
		return fail(TUTTI_EMISMATCH, "rank %d sent the contact of rank %d", a->hello.from, contact.rank);
	s = &l->seat[contact.rank];
	if (contact.rank == 0 || s->session.fd >= 0)
		return doubled(l, &contact);
	l->joined++;
	s->session = a->session;
	s->contact = contact;
	a->session = SESSION_NONE;
	return TUTTI_OK;
}

static int add_poll(struct lobby *l, size_t at, int fd)
{
	if (at == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct pollfd *grown = realloc(l->polls, cap * sizeof(*grown));
		if (!grown)
			return fail(TUTTI_ENOMEM, "no memory for the ranks that join");
		l->polls = grown;
		l->cap = cap;
	}
	l->polls[at] = (struct pollfd){.fd = fd, .events = POLLIN};
	return TUTTI_OK;
}

/* Polls the inbox, then the loose, then the seated (a missing rank's -1 is ignored by poll). */
static int poll_lobby(struct lobby *l, const char *where)
{
	size_t n = 0;
	int rc = add_poll(l, n++, l->b->event);

	for (struct arrival *a = l->loose; a && rc == TUTTI_OK; a = a->next)
		rc = add_poll(l, n++, a->session.fd);
	for (int r = 1; r < l->b->n && rc == TUTTI_OK; r++)
		rc = add_poll(l, n++, l->seat[r].session.fd);
	if (rc == TUTTI_OK)
		rc = net_poll(l->polls, n, l->b->limit);
	return rc == TUTTI_ETIMEOUT ? too_late(l, where) : rc;
}

/* What a seated rank said: that it is ready, or why it fails; or it left. */
static int hear(struct lobby *l, int rank)
{
	struct seat *s = &l->seat[rank];
	enum told told;
	int rc = notice_receive(&s->session, NOTICE_READY, NULL, 0, at_most(l->b->limit, INTRODUCTION), &told);

	if (rc == TUTTI_EPEER && !told)
		return left(l, rank);
	if (rc != TUTTI_OK && !told)
		return fail_while(rc, "rank %d", rank);
	if (rc != TUTTI_OK && l->joined < l->b->n - 1) {
		char missing[300];
		missing_text(l, missing, sizeof(missing));
		return fail(rc, "%.600s; %s had not joined", fail_text(), missing);
	}
	if (rc != TUTTI_OK)
		return rc;
	l->ready += !s->ready;
	s->ready = true;
	return TUTTI_OK;
}

/* Serves what the last poll found. */
static int serve_lobby(struct lobby *l)
{
	struct pollfd *p = l->polls + 1;
	struct arrival **at = &l->loose;
	int rc = TUTTI_OK;

	while (*at) {
		struct arrival *a = *at;
		bool ready = (p++)->revents != 0;
		if (ready && rc == TUTTI_OK)
			rc = seat(l, a);
		if (!ready || rc != TUTTI_OK) {
			at = &a->next;
			continue;
		}
		*at = a->next;
		free(a);
	}
	for (int r = 1; r < l->b->n && rc == TUTTI_OK; r++)
		if ((p++)->revents)
			rc = hear(l, r);
	return rc;
}

/* Every joined rank accepts a rank that has the key. A rank to which the key can't be sent has left. */
static void give_keys(struct lobby *l, const struct arrival *a)
{
	uint8_t key[AUTH_KEY];

	door_get_key(l->b->door, key);
	for (; a && l->b->drawn; a = a->next)
		(void)notice_send(&a->session, NOTICE_KEY, key, sizeof(key), at_most(l->b->limit, INTRODUCTION));
	secret_wipe(key, sizeof(key));
}

static int step_lobby(struct lobby *l, const char *where)
{
	int rc = poll_lobby(l, where);

	if (rc == TUTTI_OK)
		rc = serve_lobby(l);
	if (rc == TUTTI_OK && l->polls[0].revents) {
		struct arrival **end = &l->loose;
		while (*end)
			end = &(*end)->next;
		*end = empty_inbox(l->b);
		give_keys(l, *end);
	}
	return rc;
}

/* Contacts of parent and children, in that order. */
static int send_neighbours(struct lobby *l, int rank)
{
	struct contact list[1 + CHILDREN];
	size_t n = 0;
	int rc;

	list[n++] = l->seat[parent_of(rank)].contact;
	for (int i = 0, c; i < CHILDREN && (c = child_of(rank, l->b->n, i)) >= 0; i++)
		list[n++] = l->seat[c].contact;
	rc = notice_send(&l->seat[rank].session, NOTICE_NEIGHBOURS, list, n * sizeof(list[0]), l->b->limit);
	return rc == TUTTI_EPEER ? left(l, rank) : rc;
}

static int send_go(struct lobby *l, int rank)
{
	int rc = notice_send(&l->seat[rank].session, NOTICE_GO, NULL, 0, l->b->limit);

	return rc == TUTTI_EPEER ? left(l, rank) : rc;
}

/*
 * Report the failure also to ranks that join a little later. They were started at about the same time, and would
 * otherwise look for rank 0 until their limit.
 */
static void linger(struct lobby *l, int rc)
{
	struct net_limit limit = at_most(l->b->limit, LINGER);
	char text[NOTICE_TEXT];

	snprintf(text, sizeof(text), "%s", fail_text());
	while (l->joined < l->b->n - 1 && net_wait(l->b->event, POLLIN, limit) == TUTTI_OK) {
		struct arrival *all = empty_inbox(l->b);
		for (struct arrival *a = all; a; a = a->next)
			l->joined++;
		fail(rc, "%s", text);
		turn_away(all, l->b->door, rc);
	}
	fail(rc, "%s", text);
}

/* Keeps the connections of rank 0's own children, tells a failure to all, and frees the lobby. */
static void leave_lobby(struct lobby *l, int rc)
{
	for (struct arrival *a = l->loose; a; a = a->next)
		l->joined++;
	turn_away(l->loose, l->b->door, rc);
	for (int r = 1; r < l->b->n; r++) {
		struct edge *e = child_edge(l->b, r);
		struct session *s = &l->seat[r].session;
		if (rc != TUTTI_OK && s->fd >= 0) {
			notice_fail(s, rc);
		} else if (s->fd >= 0 && e) {
			e->session = *s;
			e->contact = l->seat[r].contact;
		} else {
			session_close(s);
		}
	}
	if (rc != TUTTI_OK && l->open)
		linger(l, rc);
	free(l->seat);
	free(l->polls);
}

static int host_job(struct bootstrap *b, const struct rendezvous *root, const struct auth_key *key)
{
	struct lobby l = {.b = b, .seat = calloc((size_t)b->n, sizeof(*l.seat))};
	int rc;

	if (!l.seat)
		return fail(TUTTI_ENOMEM, "no memory for the contacts of %d ranks", b->n);
	for (int r = 0; r < b->n; r++)
		l.seat[r] = (struct seat){.session = SESSION_NONE};
	l.seat[0].contact = *b->me;
	rc = rendezvous_open(root, b->door, key, b->limit);
	l.open = rc == TUTTI_OK;
	while (rc == TUTTI_OK && l.joined < b->n - 1)
		rc = step_lobby(&l, root->text);
	for (int r = 1; r < b->n && rc == TUTTI_OK; r++)
		rc = send_neighbours(&l, r);
	while (rc == TUTTI_OK && l.ready < b->n - 1)
		rc = step_lobby(&l, root->text);
	for (int r = 1; r < b->n && rc == TUTTI_OK; r++)
		rc = send_go(&l, r);
	leave_lobby(&l, rc);
	return rc;
}

/* ---- the other ranks --------------------------------------------------------------------------------------------- */

/* What rank 0 says next. That it left may follow from a failure which it could not tell. */
static int hear_root(struct bootstrap *b, const struct session *root, enum notice_kind kind, void *payload,
                     size_t bytes)
{
	enum told told;
	int rc = notice_receive(root, kind, payload, bytes, later(b->limit, GRACE), &told);

	b->early = told == TOLD_LATER && (kind == NOTICE_KEY || kind == NOTICE_NEIGHBOURS);
	if (rc == TUTTI_OK || told)
		return rc;
	if (rc == TUTTI_ETIMEOUT)
		return fail(
		        rc,
		        "rank 0 accepted rank %d, but did not start the job within %.3g s: it knows which ranks are missing",
		        b->rank, b->seconds);
	if (rc == TUTTI_EPEER)
		return fail(rc, "rank 0 left while the job was starting");
	return fail_while(rc, "rank %d, joining", b->rank);
}

static int learn_neighbours(struct bootstrap *b, const struct session *root)
{
	struct contact list[1 + CHILDREN];
	int rc = hear_root(b, root, NOTICE_NEIGHBOURS, list, (size_t)(1 + b->nchildren) * sizeof(list[0]));

	for (int i = -1; i < b->nchildren && rc == TUTTI_OK; i++) {
		struct edge *e = i < 0 ? &b->parent : &b->child[i];
		e->contact = list[i + 1];
		rc = contact_agree(b->me, &e->contact);
		if (rc == TUTTI_OK && e->contact.rank != e->rank)
			rc = fail(TUTTI_EMISMATCH, "rank 0 named rank %d as neighbour of rank %d, which is rank %d",
			          e->contact.rank, b->rank, e->rank);
	}
	return rc;
}

static int dial_parent(struct bootstrap *b)
{
	const struct contact *to = &b->parent.contact;
	struct hello hello = {.kind = HELLO_BOOT, .from = b->rank, .tag = TAG_EDGE};

	if (memcmp(to->host_hint, b->me->host_hint, sizeof(to->host_hint)) == 0 && to->local[0] &&
	    door_dial(b->door, to, &hello, true, at_most(b->limit, INTRODUCTION), &b->parent.session) == TUTTI_OK)
		return TUTTI_OK;
	return door_dial(b->door, to, &hello, false, b->limit, &b->parent.session);
}

/* A parent that is gone may have heard from rank 0 that the job fails, a moment before this rank does. */
static int reach_parent(struct bootstrap *b, const struct session *root)
{
	char text[NOTICE_TEXT];
	int rc = dial_parent(b);

	if (rc != TUTTI_EPEER)
		return rc;
	snprintf(text, sizeof(text), "%s", fail_text());
	if (net_wait(root->fd, POLLIN, at_most(b->limit, VERDICT)) == TUTTI_OK)
		return hear_root(b, root, NOTICE_FAIL, NULL, 0);
	return fail(rc, "%s", text);
}

/* Takes those that came; of one child's connections the last counts, because it dialled again. */
static int seat_children(struct bootstrap *b)
{
	int missing = 0;

	for (struct arrival *a = empty_inbox(b), *next; a; a = next) {
		struct edge *e = a->hello.tag == TAG_EDGE ? child_edge(b, a->hello.from) : NULL;
		next = a->next;
		if (e) {
			session_close(&e->session);
			e->session = a->session;
		} else {
			session_close(&a->session);
		}
		free(a);
	}
	for (int i = 0; i < b->nchildren; i++)
		missing += b->child[i].session.fd < 0;
	return missing;
}

/* Until all children are here; meanwhile rank 0 may say that the job fails, and nothing else. */
static int await_children(struct bootstrap *b, const struct session *root)
{
	while (seat_children(b) > 0) {
		struct pollfd p[] = {{.fd = b->event, .events = POLLIN}, {.fd = root->fd, .events = POLLIN}};
		int rc = net_poll(p, 2, later(b->limit, GRACE));
		if (rc != TUTTI_OK)
			return fail_while(rc, "rank %d, waiting for its neighbours to connect", b->rank);
		if (p[1].revents)
			return hear_root(b, root, NOTICE_FAIL, NULL, 0);
	}
	return TUTTI_OK;
}

static int learn_key(struct bootstrap *b, const struct session *root)
{
	uint8_t key[AUTH_KEY];
	int rc = hear_root(b, root, NOTICE_KEY, key, sizeof(key));

	if (rc == TUTTI_OK)
		door_set_key(b->door, key);
	secret_wipe(key, sizeof(key));
	return rc;
}

static int join_steps(struct bootstrap *b, const struct session *root)
{
	int rc = b->drawn ? learn_key(b, root) : TUTTI_OK;

	if (rc != TUTTI_OK)
		return rc;
	rc = notice_send(root, NOTICE_JOIN, b->me, sizeof(*b->me), b->limit);

	/* Where rank 0 hung up it has said why: that is read next. */
	if (rc == TUTTI_OK || rc == TUTTI_EPEER)
		rc = learn_neighbours(b, root);
	if (rc == TUTTI_OK && b->parent.rank != 0)
		rc = reach_parent(b, root);
	if (rc == TUTTI_OK)
		rc = await_children(b, root);
	if (rc != TUTTI_OK)
		return rc;
	rc = notice_send(root, NOTICE_READY, NULL, 0, b->limit);
	return rc == TUTTI_OK || rc == TUTTI_EPEER ? hear_root(b, root, NOTICE_GO, NULL, 0) : rc;
}

static int join_once(struct bootstrap *b, const struct rendezvous *root, const struct auth_key *key)
{
	struct hello hello = {.kind = HELLO_BOOT, .from = b->rank, .tag = root->last ? *root->last : 0};
	struct session session;
	int rc = rendezvous_dial(root, b->door, key, &hello, b->seconds, b->limit, &session);

	b->early = false;

	if (rc != TUTTI_OK)
		return rc;
	rc = join_steps(b, &session);
	if (b->early) {
		session_close(&session);
	} else if (rc != TUTTI_OK) {
		notice_fail(&session, rc);
		tell_neighbours(b, rc);
	} else if (b->parent.rank == 0) {
		b->parent.session = session;
	} else {
		session_close(&session);
	}
	return rc;
}

static int join_job(struct bootstrap *b, const struct rendezvous *root, const struct auth_key *key)
{
	uint64_t pause = 10 * MS;
	int rc;

	for (;;) {
		rc = join_once(b, root, key);
		if (!b->early)
			return rc;
		if (now_ns() + pause >= b->limit.deadline)
			return fail(
			        TUTTI_ETIMEOUT,
			        "rank 0 at %s did not start the next world within %.3g s: it is still in the previous one, together with rank %d",
			        root->text, b->seconds, b->rank);
		rc = net_wait(-1, 0, at_most(b->limit, pause));
		if (rc == TUTTI_EABORTED)
			return rc;
		pause = pause < 160 * MS ? 2 * pause : pause;
	}
}

int bootstrap_open(struct bootstrap **out, const struct rendezvous *root, int rank, int nranks, struct door *door,
                   const struct contact *me, const struct auth_key *key, struct net_limit limit)
{
	struct bootstrap *b = calloc(1, sizeof(*b));
	uint64_t now = now_ns();
	int rc;

	*out = NULL;
	if (!b)
		return fail(TUTTI_ENOMEM, "no memory for rank %d's bootstrap", rank);
	*b = (struct bootstrap){.rank = rank, .n = nranks, .door = door, .me = me, .limit = limit};
	b->drawn = key->open;
	b->seconds = limit.deadline > now ? (double)(limit.deadline - now) / 1e9 : 0;
	shape_tree(b);
	b->event = fd_keep(os_event_open());
	if (b->event < 0) {
		rc = fail_errno("can't create rank %d's event descriptor", rank);
		free(b);
		return rc;
	}
	door_serve(door, HELLO_BOOT, on_arrival, b);
	if (rank == 0)
		rc = nranks > 1 ? host_job(b, root, key) : TUTTI_OK;
	else
		rc = join_job(b, root, key);
	door_serve(door, HELLO_BOOT, rc == TUTTI_OK ? on_latecomer : NULL, door);
	turn_away(empty_inbox(b), door, rc);
	fd_close(b->event);
	b->event = -1;
	if (rc == TUTTI_OK)
		*out = b;
	else
		bootstrap_close(b);
	return rc;
}

void bootstrap_close(struct bootstrap *b)
{
	if (!b)
		return;
	session_close(&b->parent.session);
	for (int i = 0; i < b->nchildren; i++)
		session_close(&b->child[i].session);
	free(b);
}

/* ---- all-gather -------------------------------------------------------------------------------------------------- */

static int levels(int n)
{
	return n > 1 ? 32 - __builtin_clz((unsigned)n - 1) : 0;
}

/* A neighbour's failure to keep its part; what it told stands for itself. */
static int blame(const struct edge *e, int rc, bool told)
{
	char who[128];

	if (rc == TUTTI_OK || told)
		return rc;
	contact_text(&e->contact, who, sizeof(who));
	if (rc == TUTTI_EPEER)
		return fail(rc, "%s left while the job was starting", who);
	return fail_while(rc, "%s, while the job was starting", who);
}

static int receive(struct edge *e, enum notice_kind kind, void *buf, size_t bytes, struct net_limit limit)
{
	enum told told;
	int rc = notice_receive(&e->session, kind, buf, bytes, limit, &told);

	return blame(e, rc, told);
}

/* A connection that broke while we spoke may still hold the reason. */
static int send_to(struct edge *e, enum notice_kind kind, const void *buf, size_t bytes, struct net_limit limit)
{
	int rc = notice_send(&e->session, kind, buf, bytes, limit);

	return rc == TUTTI_EPEER ? receive(e, NOTICE_FAIL, NULL, 0, limit) : blame(e, rc, false);
}

/*
 * A rank that has everything does not fail because a child is gone: the next rank that needs that child reports it by
 * name.
 */
static int send_down(struct edge *e, const void *buf, size_t bytes, struct net_limit limit)
{
	int rc = send_to(e, NOTICE_DOWN, buf, bytes, limit);

	return rc == TUTTI_EPEER ? TUTTI_OK : rc;
}

/* The limit for what comes from below: the child that waits for the highest subtree is the last to give up. */
static struct net_limit limit_up(const struct bootstrap *b)
{
	return later(b->limit, LEVEL_GRACE * (uint64_t)b->nchildren);
}

static struct net_limit limit_down(const struct bootstrap *b)
{
	int depth = __builtin_popcount((unsigned)b->rank);

	return later(b->limit, LEVEL_GRACE * (uint64_t)(levels(b->n) + depth));
}

static int blame_silent(struct bootstrap *b, const struct pollfd *p)
{
	for (int i = 0; i < b->nchildren; i++)
		if (p[i].fd >= 0)
			return blame(&b->child[i], fail(TUTTI_ETIMEOUT, "no message within %.3g s", b->seconds), false);
	return TUTTI_ETIMEOUT;
}

/* Each child's subtree as it comes; the parent says nothing now unless the job fails. */
static int gather_up(struct bootstrap *b, char *out, size_t bytes)
{
	struct pollfd p[CHILDREN + 1];
	int n = b->nchildren, rc = TUTTI_OK;

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = b->child[i].session.fd, .events = POLLIN};
	p[n] = (struct pollfd){.fd = b->parent.session.fd, .events = POLLIN};
	for (int missing = n; missing > 0 && rc == TUTTI_OK;) {
		rc = net_poll(p, (size_t)n + 1, limit_up(b));
		if (rc == TUTTI_ETIMEOUT)
			return blame_silent(b, p);
		if (rc == TUTTI_OK && b->parent.session.fd >= 0 && p[n].revents)
			return receive(&b->parent, NOTICE_FAIL, NULL, 0, limit_up(b));
		for (int i = 0; i < n && rc == TUTTI_OK; i++) {
			size_t first = (size_t)b->child[i].rank, end = (size_t)subtree_end(b, i);
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			rc = receive(&b->child[i], NOTICE_UP, out + first * bytes, (end - first) * bytes, limit_up(b));
			p[i].fd = -1;
			missing--;
		}
	}
	return rc;
}

int bootstrap_allgather(void *bootstrap, const void *in, void *out, size_t bytes)
{
	struct bootstrap *b = bootstrap;
	char *own = (char *)out + (size_t)b->rank * bytes;
	int rc;

	memmove(own, in, bytes);
	rc = gather_up(b, out, bytes);
	if (rc == TUTTI_OK && b->rank != 0)
		rc = send_to(&b->parent, NOTICE_UP, own, (size_t)(own_end(b) - b->rank) * bytes, limit_up(b));
	if (rc == TUTTI_OK && b->rank != 0)
		rc = receive(&b->parent, NOTICE_DOWN, out, (size_t)b->n * bytes, limit_down(b));
	for (int i = b->nchildren - 1; i >= 0 && rc == TUTTI_OK; i--)
		rc = send_down(&b->child[i], out, (size_t)b->n * bytes, limit_down(b));
	if (rc != TUTTI_OK)
		tell_neighbours(b, rc);
	return rc;
}
