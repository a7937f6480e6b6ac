/* SPDX-License-Identifier: MIT */
/*
 * The door, see door.h. The accepting side is a small state machine per connection on the service thread: greet, proof,
 * then it is handed over. Until the proof a connection is on the pending list, which is bounded in length and
 * time: a newcomer pushes out the oldest, those first that haven't even greeted, so that no number of idle strangers
 * keeps a rank away. The dialling side is in dial.c.
 */
#include "door.h"
#include "../os/os.h"
#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"
#include "../util/secret.h"
#include "../util/service.h"
#include "door_self.h"
#include "handshake.h"
#include "route.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS           UINT64_C(1000000)
#define PATIENCE     (5000 * MS) /* a connection must prove the secret within this time */
#define PENDING_MAX  64          /* pending connections at a time, beside one for each rank */
#define ACCEPTS      16          /* at a time, so that earlier connections get their turn */
#define ACCEPT_PAUSE (100 * MS)  /* when descriptors run out */
#define LISTENERS    (2 * NET_ADDRS + 2)
#define KINDS        (HELLO_NEAR + 1)
#define FORGOTTEN    256u /* tags of which nothing is kept any more */

#define NAME 40

struct listener {
	struct door *door;
	int fd;           /* -1: another door of this process has taken it over */
	bool local, root; /* root: at a rendezvous */
	char name[NAME];  /* of a local one at a rendezvous */
	const struct auth_key *key;
};

/** A connection that came in: pending, kept for door_take, or asking for an offer that does not exist yet. */
struct incoming {
	TAILQ_ENTRY(incoming) link;
	struct door *door;
	int fd;
	bool local, greeted;
	size_t have;
	uint64_t deadline;
	struct handshake hs;
	struct seal *seal; /* NULL before the proof */
	union {
		uint8_t bytes[sizeof(struct proof)];
		struct greet greet;
		struct proof proof;
	} in;
};
TAILQ_HEAD(incoming_list, incoming);

struct fd_offer {
	struct fd_offer *next;
	uint64_t tag;
	int fd;
};

struct door {
	/* Fixed while the door is open; read without the lock. */
	struct door_self self;
	struct auth_key open; /* of door_listen_local */
	unsigned forks;

	/* Guarded by the service lock. */
	struct door *next; /* of this process's */
	struct listener listeners[LISTENERS];
	int nlisteners;
	bool paused;
	struct incoming_list pending, kept, asking;
	int npending;
	struct {
		door_fn *fn;
		void *arg;
	} handlers[KINDS];
	struct fd_offer *offers;
	struct forgotten {
		uint32_t kind;
		uint64_t tag, mask;
	} forgotten[FORGOTTEN];
	unsigned nforgotten;
	uint64_t complaints;
	char refusal[256];

	_Atomic int nkept; /* relaxed: a hint for door_take, which then looks under the lock */
};

static struct door *doors; /* all of this process; guarded by the service lock */

/* ---- incoming connections ---------------------------------------------------------------------------------------- */

/* Garbage must not fill the log either. */
static bool worth_a_line(struct door *d)
{
	uint64_t n = ++d->complaints;

	return n <= 5 || n % 1000 == 0;
}

static const char *who_is(const struct incoming *g, char buf[NET_TEXT])
{
	struct net_addr a;
	pid_t pid = 0;
	uid_t uid = 0;

	if (!g->local && net_far_end(g->fd, &a))
		return net_text(&a, buf);
	if (g->local && os_peer(g->fd, &pid, &uid))
		snprintf(buf, NET_TEXT, "local process %d of user %u", (int)pid, (unsigned)uid);
	else
		snprintf(buf, NET_TEXT, "a peer that has left");
	return buf;
}

static void log_stranger(struct incoming *g, const char *what)
{
	char who[NET_TEXT];

	if (worth_a_line(g->door))
		log_warn("rank %d: %s %s; dropped (%llu so far)", g->door->self.rank, who_is(g, who), what,
		         (unsigned long long)g->door->complaints);
}

static void pending_remove(struct incoming *g)
{
	service_unwatch(g->fd);
	TAILQ_REMOVE(&g->door->pending, g, link);
	g->door->npending--;
}

static void incoming_free(struct incoming *g)
{
	struct session session = {g->fd, g->seal};

	session_close(&session);
	handshake_end(&g->hs);
	free(g);
}

/* Free the entry; its connection lives on. */
static struct session incoming_release(struct incoming *g)
{
	struct session session = {g->fd, g->seal};

	free(g);
	return session;
}

static void drop_pending(struct incoming *g)
{
	pending_remove(g);
	incoming_free(g);
}

static void expire(void *arg);

static void arm(struct door *d)
{
	struct incoming *oldest = TAILQ_FIRST(&d->pending);

	service_cancel(expire, d);
	if (oldest && service_at(oldest->deadline, expire, d) != TUTTI_OK)
		log_warn("rank %d: %s", d->self.rank, fail_text());
}

static void expire(void *arg)
{
	struct door *d = arg;
	uint64_t now = now_ns();

	for (struct incoming *g; (g = TAILQ_FIRST(&d->pending)) && g->deadline <= now;) {
		log_stranger(g, "connected but did not identify itself");
		drop_pending(g);
	}
	arm(d);
}

/* ---- descriptors given and asked for ----------------------------------------------------------------------------- */

static struct fd_offer *offer_find(struct door *d, uint64_t tag)
{
	struct fd_offer *offer = d->offers;

	while (offer && offer->tag != tag)
		offer = offer->next;
	return offer;
}

static void answer_ask(struct incoming *g, int fd)
{
	if (net_send_fd(g->fd, fd) != TUTTI_OK)
		log_warn("rank %d: %s", g->door->self.rank, fail_text());
}

/* While a rank waits for an offer it sends nothing more: any event means that it left. */
static void asker_left(void *arg, int fd, unsigned events)
{
	struct incoming *g = arg;

	(void)events;
	service_unwatch(fd);
	TAILQ_REMOVE(&g->door->asking, g, link);
	incoming_free(g);
}

static void receive_ask(struct incoming *g)
{
	struct fd_offer *offer = offer_find(g->door, g->hs.proof.hello.tag);

	if (offer)
		answer_ask(g, offer->fd);
	else if (service_watch(g->fd, OS_READ, asker_left, g) == TUTTI_OK) {
		TAILQ_INSERT_TAIL(&g->door->asking, g, link);
		return;
	}
	incoming_free(g);
}

static void answer_waiting(struct door *d, const struct fd_offer *offer)
{
	struct incoming *next;

	for (struct incoming *g = TAILQ_FIRST(&d->asking); g; g = next) {
		next = TAILQ_NEXT(g, link);
		if (g->hs.proof.hello.tag != offer->tag)
			continue;
		answer_ask(g, offer->fd);
		asker_left(g, g->fd, 0);
	}
}

static void offer_remove(struct door *d, uint64_t tag)
{
	for (struct fd_offer **at = &d->offers; *at; at = &(*at)->next) {
		struct fd_offer *offer = *at;
		if (offer->tag != tag)
			continue;
		*at = offer->next;
		fd_close(offer->fd);
		free(offer);
		return;
	}
}

int door_give(struct door *d, uint64_t tag, int fd)
{
	struct fd_offer *offer = NULL;
	int rc = TUTTI_OK;

	service_lock();
	offer_remove(d, tag);
	if (fd < 0)
		goto out;
	offer = malloc(sizeof(*offer));
	if (!offer) {
		rc = fail(TUTTI_ENOMEM, "out of memory: can't offer a descriptor to other ranks");
		goto out;
	}
	*offer = (struct fd_offer){.next = d->offers, .tag = tag, .fd = fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 0))};
	if (offer->fd < 0) {
		rc = fail_errno("can't duplicate a descriptor for other ranks");
		free(offer);
		goto out;
	}
	d->offers = offer;
	answer_waiting(d, offer);
out:
	service_unlock();
	return rc;
}

/* ---- connections that proved themselves -------------------------------------------------------------------------- */

static void unkeep(struct incoming *g)
{
	TAILQ_REMOVE(&g->door->kept, g, link);
	atomic_fetch_sub_explicit(&g->door->nkept, 1, memory_order_relaxed);
}

/* Its other end has closed it and has sent nothing over it: a communicator ended there before this rank wanted the link. */
static bool is_spent(const struct incoming *g)
{
	char byte;

	return g->hs.proof.hello.kind == HELLO_DATA && recv(g->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void drop_spent(struct door *d)
{
	struct incoming *next;

	for (struct incoming *g = TAILQ_FIRST(&d->kept); g; g = next) {
		next = TAILQ_NEXT(g, link);
		if (!is_spent(g))
			continue;
		unkeep(g);
		incoming_free(g);
	}
}

static bool is_of(const struct incoming *g, const struct forgotten *f)
{
	const struct hello *hello = &g->hs.proof.hello;

	return hello->kind == f->kind && ((hello->tag ^ f->tag) & f->mask) == 0;
}

static bool is_forgotten(const struct incoming *g)
{
	const struct door *d = g->door;

	for (unsigned i = 0; i < FORGOTTEN && i < d->nforgotten; i++)
		if (is_of(g, &d->forgotten[i]))
			return true;
	return false;
}

static void keep(struct incoming *g)
{
	drop_spent(g->door);
	if (is_forgotten(g)) {
		incoming_free(g);
		return;
	}
	TAILQ_INSERT_TAIL(&g->door->kept, g, link);
	atomic_fetch_add_explicit(&g->door->nkept, 1, memory_order_relaxed);
}

static void hand_over(struct incoming *g)
{
	struct hello hello = g->hs.proof.hello;
	struct door *d = g->door;

	d->handlers[hello.kind].fn(d->handlers[hello.kind].arg, incoming_release(g), &hello);
}

static void settle(struct incoming *g)
{
	uint32_t kind = g->hs.proof.hello.kind;

	if (kind == HELLO_GIVE)
		receive_ask(g);
	else if (kind == HELLO_NEAR)
		incoming_free(g);
	else if (g->door->handlers[kind].fn)
		hand_over(g);
	else
		keep(g);
}

static void deliver_kept(void *arg)
{
	struct door *d = arg;
	struct incoming *next;

	for (struct incoming *g = TAILQ_FIRST(&d->kept); g; g = next) {
		next = TAILQ_NEXT(g, link);
		if (!d->handlers[g->hs.proof.hello.kind].fn)
			continue;
		unkeep(g);
		hand_over(g);
	}
}

void door_serve(struct door *d, enum hello_kind kind, door_fn *fn, void *arg)
{
	service_lock();
	d->handlers[kind].fn = fn;
	d->handlers[kind].arg = arg;
	if (fn && !TAILQ_EMPTY(&d->kept) && service_at(0, deliver_kept, d) != TUTTI_OK)
		log_warn("rank %d: %s", d->self.rank, fail_text());
	service_unlock();
}

struct session door_take(struct door *d, enum hello_kind kind, int from, uint64_t tag)
{
	struct session session = SESSION_NONE;
	struct incoming *g;

	if (atomic_load_explicit(&d->nkept, memory_order_relaxed) == 0)
		return session;
	service_lock();
	TAILQ_FOREACH (g, &d->kept, link) {
		const struct hello *hello = &g->hs.proof.hello;
		if (hello->kind == (uint32_t)kind && hello->from == from && hello->tag == tag)
			break;
	}
	if (g) {
		unkeep(g);
		session = incoming_release(g);
	}
	service_unlock();
	return session;
}

void door_forget(struct door *d, enum hello_kind kind, uint64_t tag, uint64_t mask)
{
	const struct forgotten these = {kind, tag, mask};
	struct incoming *next;

	service_lock();
	d->forgotten[d->nforgotten++ % FORGOTTEN] = these;
	for (struct incoming *g = TAILQ_FIRST(&d->kept); g; g = next) {
		next = TAILQ_NEXT(g, link);
		if (!is_of(g, &these))
			continue;
		unkeep(g);
		incoming_free(g);
	}
	service_unlock();
}

const struct door_self *door_self(const struct door *d)
{
	return &d->self;
}

bool door_is_same_host(const struct door_self *d, const struct contact *to)
{
	static const uint8_t unknown[sizeof(to->host_hint)];

	return memcmp(to->host_hint, d->host_hint, sizeof(unknown)) == 0 ||
	       memcmp(to->host_hint, unknown, sizeof(unknown)) == 0;
}

/* ---- the accepting side ------------------------------------------------------------------------------------------ */

static bool reply(struct incoming *g, const void *buf, size_t n)
{
	/* A fresh socket's buffer has room for a few dozen bytes; if it has not, the other side is not a rank. */
	return send(g->fd, buf, n, OS_NO_SIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

static void refuse(struct incoming *g, enum verdict verdict)
{
	const struct hello *hello = &g->hs.proof.hello;
	struct door *d = g->door;
	char who[NET_TEXT], *text = d->refusal;
	size_t cap = sizeof(d->refusal);

	who_is(g, who);
	if (verdict == VERDICT_SECRET)
		snprintf(text, cap, "%s does not know this job's secret", who);
	else if (verdict == VERDICT_SIZE)
		snprintf(text, cap, "rank %d at %s belongs to a job of %d ranks, not %d", hello->from, who,
		         g->hs.greet.size, d->self.size);
	else if (verdict == VERDICT_RANK)
		snprintf(text, cap, "rank %d at %s wanted rank %d", hello->from, who, g->hs.greet.to);
	else if (verdict == VERDICT_JOB)
		snprintf(text, cap, "rank %d at %s belongs to another job with the same secret", hello->from, who);
	else
		snprintf(text, cap, "%s speaks protocol version %u, not %d", who, g->hs.greet.version, WIRE_VERSION);
	if (worth_a_line(d))
		log_warn("rank %d refused a connection: %s", d->self.rank, text);
}

/* True: the connection stays. */
static bool receive_greet(struct incoming *g)
{
	struct challenge challenge;
	enum verdict verdict = handshake_greeted(&g->hs, &g->in.greet, &challenge);

	if (verdict != VERDICT_GARBAGE && !reply(g, &challenge, sizeof(challenge)))
		return false;
	if (verdict == VERDICT_VERSION)
		refuse(g, verdict);
	g->greeted = true;
	g->have = 0;
	return verdict == VERDICT_WELCOME;
}

/* The keys of what follows. */
static bool agree_on_keys(struct incoming *g)
{
	uint8_t out[AUTH_KEY], in[AUTH_KEY];

	handshake_keys(&g->hs, false, out, in);
	handshake_end(&g->hs);
	g->seal = seal_new(out, in);
	secret_wipe(out, sizeof(out));
	secret_wipe(in, sizeof(in));
	return g->seal;
}

/* The connection is dropped or settled. */
static void receive_proof(struct incoming *g)
{
	struct answer answer;
	enum verdict verdict = handshake_proved(&g->hs, &g->in.proof, &answer);

	if (verdict == VERDICT_GARBAGE || (g->hs.proof.hello.kind >= HELLO_GIVE && !g->local)) {
		log_stranger(g, "requested an unknown resource");
		drop_pending(g);
		return;
	}
	if (verdict == VERDICT_WELCOME && !agree_on_keys(g)) {
		log_warn("rank %d drops a connection: %s", g->door->self.rank, fail_text());
		drop_pending(g);
		return;
	}
	if (!reply(g, &answer, sizeof(answer))) {
		drop_pending(g);
		return;
	}
	if (verdict != VERDICT_WELCOME) {
		refuse(g, verdict);
		drop_pending(g);
		return;
	}
	pending_remove(g);
	settle(g);
}

/* Read the available bytes, but nothing beyond the proof: the rest is for the owner of the connection. */
static void on_guest(void *arg, int fd, unsigned events)
{
	struct incoming *g = arg;

	(void)events;
	for (;;) {
		size_t want = g->greeted ? sizeof(struct proof) : sizeof(struct greet);
		ssize_t got = recv(fd, g->in.bytes + g->have, want - g->have, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			drop_pending(g);
			return;
		}
		g->have += (size_t)got;
		if (!g->greeted && !handshake_plausible(g->in.bytes, g->have)) {
			log_stranger(g, "does not speak Tutti");
			drop_pending(g);
			return;
		}
		if (g->have < want)
			continue;
		if (g->greeted) {
			receive_proof(g);
			return;
		}
		if (!receive_greet(g)) {
			drop_pending(g);
			return;
		}
	}
}

bool door_is_our_user(int fd)
{
	pid_t pid;
	uid_t uid;

	return os_peer(fd, &pid, &uid) && (uid == geteuid() || uid == 0);
}

/* The oldest of those that have said nothing sensible yet, else the oldest. */
static struct incoming *least_welcome(struct door *d)
{
	struct incoming *g;

	TAILQ_FOREACH (g, &d->pending, link)
		if (!g->greeted)
			return g;
	return TAILQ_FIRST(&d->pending);
}

static void admit(const struct listener *l, int fd)
{
	struct door *d = l->door;
	struct incoming *g = malloc(sizeof(*g));

	if (!g) {
		fd_close(fd);
		return;
	}
	*g = (struct incoming){.door = d, .fd = fd, .local = l->local, .deadline = now_ns() + PATIENCE};
	g->hs = (struct handshake){.key = l->key, .rank = d->self.rank, .size = d->self.size, .door = d->self.nonce};
	if (l->local && !door_is_our_user(fd)) {
		log_stranger(g, "is not allowed to connect");
		incoming_free(g);
		return;
	}
	if (d->npending >= PENDING_MAX + d->self.size)
		drop_pending(least_welcome(d));
	if (service_watch(fd, OS_READ, on_guest, g) != TUTTI_OK) {
		incoming_free(g);
		return;
	}
	TAILQ_INSERT_TAIL(&d->pending, g, link);
	if (d->npending++ == 0)
		arm(d);
	on_guest(g, fd, OS_READ);
}

static void listen_again(void *arg)
{
	struct door *d = arg;

	d->paused = false;
	for (int i = 0; i < d->nlisteners; i++)
		if (d->listeners[i].fd >= 0)
			(void)service_rewatch(d->listeners[i].fd, OS_READ);
}

/* Out of descriptors or memory: what can't be accepted stays at the listener, and must not keep us awake. */
static void pause_listening(struct door *d)
{
	if (d->paused || service_at(now_ns() + ACCEPT_PAUSE, listen_again, d) != TUTTI_OK)
		return;
	d->paused = true;
	if (worth_a_line(d))
		log_warn("rank %d can't accept a connection: %s; raise the limit of open files (ulimit -n)",
		         d->self.rank, strerror(errno));
	for (int i = 0; i < d->nlisteners; i++)
		if (d->listeners[i].fd >= 0)
			(void)service_rewatch(d->listeners[i].fd, 0);
}

static void on_listener(void *arg, int fd, unsigned events)
{
	struct listener *l = arg;

	(void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		int in = net_accept(fd);
		if (in >= 0) {
			admit(l, in);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_listening(l->door);
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static void close_listener(int fd, bool local)
{
	if (local)
		os_local_unlisten(fd);
	fd_close(fd);
}

/* Takes fd, also on failure. With the lock held. */
static int add_listener(struct door *d, int fd, bool local)
{
	struct listener *l = &d->listeners[d->nlisteners];
	int rc;

	if (d->nlisteners == LISTENERS) {
		close_listener(fd, local);
		return fail(TUTTI_EINVAL, "rank %d already listens on %d addresses", d->self.rank, LISTENERS);
	}
	*l = (struct listener){.door = d, .fd = fd, .local = local, .key = d->self.key};
	rc = service_watch(fd, OS_READ, on_listener, l);
	if (rc == TUTTI_OK)
		d->nlisteners++;
	else
		close_listener(fd, local);
	return rc;
}

static int add_local(struct door *d, struct contact *me)
{
	uint8_t name[16];
	int fd, rc;

	auth_random(name, sizeof(name));
	strcpy(me->local, "tutti-");
	for (size_t i = 0; i < sizeof(name); i++)
		snprintf(me->local + 6 + 2 * i, 3, "%02x", name[i]);
	rc = net_listen_local(me->local, &fd);
	return rc == TUTTI_OK ? add_listener(d, fd, true) : rc;
}

/* One listener for each address. An address may have gone since it was listed, so only to get none is an error. */
static int add_tcp(struct door *d, struct contact *me)
{
	struct net_addr found[NET_ADDRS];
	int n, rc = net_interfaces(d->self.iface, d->self.key->open, found, NET_ADDRS, &n), last = TUTTI_OK;

	if (rc != TUTTI_OK)
		return rc;
	for (int i = 0; i < n; i++) {
		int fd;
		last = net_listen(&found[i], &fd);
		if (last == TUTTI_OK)
			last = add_listener(d, fd, false);
		if (last == TUTTI_OK)
			me->addrs[me->naddrs++] = found[i];
	}
	return me->naddrs ? TUTTI_OK : last;
}

/* ---- the rendezvous: of a process's worlds the one that began last is there --------------------------------------- */

/* name: of a local one; else at. */
static bool is_at(const struct listener *l, const struct net_addr *at, const char *name)
{
	struct net_addr own;

	if (l->fd < 0 || !l->root || l->local != (name != NULL))
		return false;
	if (name)
		return strcmp(l->name, name) == 0;
	if (!net_local_end(l->fd, &own) || own.port != at->port)
		return false;
	if (net_is_any(&own))
		return own.family == 6 || own.family == at->family;
	return own.family == at->family && own.scope == at->scope && memcmp(own.ip, at->ip, sizeof(own.ip)) == 0;
}

/* Do they let in the same ranks? The key of a local rendezvous is the job's name's; it is looked at when one is taken. */
static bool are_alike(const struct door *a, const struct door *b, bool local)
{
	return a->forks == b->forks && a->self.rank == b->self.rank && a->self.size == b->self.size &&
	       memcmp(local ? &a->open : a->self.key, local ? &b->open : b->self.key, sizeof(a->open)) == 0;
}

static struct listener *find_root(const struct door *d, const struct net_addr *at, const char *name)
{
	for (struct door *other = doors; other; other = other->next)
		for (int i = 0; i < other->nlisteners && are_alike(d, other, name != NULL); i++)
			if (is_at(&other->listeners[i], at, name))
				return &other->listeners[i];
	return NULL;
}

static int add_root(struct door *d, int fd, const char *name)
{
	struct listener *l = &d->listeners[d->nlisteners];
	int rc = add_listener(d, fd, name != NULL);

	if (rc != TUTTI_OK)
		return rc;
	l->root = true;
	l->key = name ? &d->open : d->self.key;
	snprintf(l->name, sizeof(l->name), "%s", name ? name : "");
	return TUTTI_OK;
}

/* The rendezvous belonged to another world of this process, or to this one: new connections are for this one. */
static int take_over(struct door *d, struct listener *l)
{
	char name[NAME];
	int fd = l->fd;

	if (l->door == d)
		return TUTTI_OK;
	memcpy(name, l->name, sizeof(name));
	service_unwatch(fd);
	l->fd = -1;
	return add_root(d, fd, l->local ? name : NULL);
}

int door_listen(struct door *d, struct net_addr at)
{
	struct listener *l;
	int fd, rc;

	service_lock();
	l = find_root(d, &at, NULL);
	if (l)
		rc = take_over(d, l);
	else if ((rc = net_listen(&at, &fd)) == TUTTI_OK)
		rc = door_adopt(d, fd);
	service_unlock();
	return rc;
}

int door_listen_local(struct door *d, const char *name, const struct auth_key *open)
{
	struct listener *l;
	int fd, rc;

	service_lock();
	d->open = *open;
	l = find_root(d, NULL, name);
	if (l)
		rc = take_over(d, l);
	else if ((rc = net_listen_local(name, &fd)) == TUTTI_OK)
		rc = add_root(d, fd, name);
	service_unlock();
	return rc;
}

void door_set_key(struct door *d, const uint8_t key[AUTH_KEY])
{
	service_lock();
	memcpy(d->self.key->bytes, key, AUTH_KEY);
	service_unlock();
}

void door_set_hint(struct door *d, const uint8_t hint[16])
{
	service_lock();
	memcpy(d->self.host_hint, hint, sizeof(d->self.host_hint));
	service_unlock();
}

void door_get_key(const struct door *d, uint8_t key[AUTH_KEY])
{
	memcpy(key, d->self.key->bytes, AUTH_KEY);
}

static int check_adoptable(const struct door *d, int fd, struct net_addr *at)
{
	char text[NET_TEXT];
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || !net_local_end(fd, at))
		return fail(TUTTI_EINVAL, "descriptor %d, given as rank %d's listener, is not a TCP socket", fd,
		            d->self.rank);
	if (d->self.key->open && !net_is_loopback(at))
		return fail(
		        TUTTI_EAUTH,
		        "rank %d can't listen on %s without a secret, because other hosts can reach it: set TUTTI_SECRET on all ranks, or use a loopback address",
		        d->self.rank, net_text(at, text));
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return fail_errno("can't use descriptor %d as a listener", fd);
	return TUTTI_OK;
}

int door_adopt(struct door *d, int listen_fd)
{
	struct listener *l = NULL;
	struct net_addr at;
	int rc;

	service_lock();
	rc = check_adoptable(d, listen_fd, &at);
	if (rc == TUTTI_OK)
		l = find_root(d, &at, NULL);
	if (rc == TUTTI_OK && !l)
		rc = add_root(d, listen_fd, NULL);
	else
		fd_close(listen_fd);
	if (l)
		rc = take_over(d, l);
	service_unlock();
	return rc;
}

static int open_listeners(struct door *d, const struct door_config *cfg, struct contact *me)
{
	int rc;

	service_lock();
	d->next = doors;
	doors = d;
	me->naddrs = 0;
	memset(me->addrs, 0, sizeof(me->addrs));
	rc = cfg->local_only ? TUTTI_OK : add_tcp(d, me);
	if (rc == TUTTI_OK)
		rc = add_local(d, me);
	service_unlock();
	return rc;
}

static void free_door(struct door *d)
{
	free(d->self.iface);
	paths_free(d->self.paths);
	secret_free(d->self.key);
	free(d);
}

static int make_door(struct door **door, const struct door_config *cfg, const struct contact *me)
{
	struct door *d;
	int rc = auth_init();

	*door = NULL;
	if (rc != TUTTI_OK)
		return rc;
	if (cfg->rank < 0 || cfg->rank >= cfg->size)
		return fail(TUTTI_EINVAL, "rank %d is not in a job of %d ranks: expected 0 to %d", cfg->rank, cfg->size,
		            cfg->size - 1);
	d = malloc(sizeof(*d));
	if (!d)
		return fail(TUTTI_ENOMEM, "out of memory for rank %d's listener", cfg->rank);
	*d = (struct door){.forks = service_forks};
	d->self = (struct door_self){.rank = cfg->rank, .size = cfg->size, .nonce = me->nonce};
	TAILQ_INIT(&d->pending);
	TAILQ_INIT(&d->kept);
	TAILQ_INIT(&d->asking);
	d->self.iface = strdup(cfg->iface ? cfg->iface : "");
	d->self.paths = paths_new();
	memcpy(d->self.host_hint, me->host_hint, sizeof(d->self.host_hint));
	d->self.key = secret_alloc(sizeof(*d->self.key));
	if (d->self.key)
		*d->self.key = cfg->key;
	if (!d->self.iface || !d->self.paths || !d->self.key)
		rc = fail(TUTTI_ENOMEM, "out of memory for rank %d's listener", cfg->rank);
	else
		rc = service_acquire();
	if (rc == TUTTI_OK)
		*door = d;
	else
		free_door(d);
	return rc;
}

int door_open(struct door **door, const struct door_config *cfg, struct contact *me)
{
	int rc = make_door(door, cfg, me);

	if (rc != TUTTI_OK)
		return rc;
	rc = open_listeners(*door, cfg, me);
	if (rc != TUTTI_OK) {
		door_close(*door);
		*door = NULL;
	}
	return rc;
}

static void drop_all(struct incoming_list *list, bool watched)
{
	for (struct incoming *g; (g = TAILQ_FIRST(list));) {
		if (watched)
			service_unwatch(g->fd);
		TAILQ_REMOVE(list, g, link);
		incoming_free(g);
	}
}

/* In a forked child the service knows nothing of this door; only its memory and its copies of descriptors go. */
void door_close(struct door *d)
{
	bool ours;

	if (!d)
		return;
	ours = d->forks == service_forks;
	service_lock();
	if (ours) {
		service_cancel(expire, d);
		service_cancel(listen_again, d);
		service_cancel(deliver_kept, d);
	}
	for (struct door **at = &doors; *at; at = &(*at)->next)
		if (*at == d) {
			*at = d->next;
			break;
		}
	for (int i = 0; i < d->nlisteners; i++) {
		if (d->listeners[i].fd < 0)
			continue;
		if (ours)
			service_unwatch(d->listeners[i].fd);
		close_listener(d->listeners[i].fd, d->listeners[i].local);
	}
	drop_all(&d->pending, ours);
	drop_all(&d->asking, ours);
	drop_all(&d->kept, false);
	while (d->offers)
		offer_remove(d, d->offers->tag);
	service_unlock();
	if (ours)
		service_release();
	free_door(d);
}

void door_refusal(struct door *d, char *buf, size_t cap)
{
	service_lock();
	snprintf(buf, cap, "%s", d->refusal);
	service_unlock();
}
