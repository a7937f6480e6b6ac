/* SPDX-License-Identifier: MIT */
/*
 * The control plane's life, its communicators' and their alarms, and the table of messages. See control.h for what it
 * promises and plane.h for its parts.
 */
#include "../os/os.h"
#include "../util/cancel.h"
#include "../util/printable.h"
#include "plane.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct control *planes; /* of this process; guarded by the service lock */

/* ---- text -------------------------------------------------------------------------------------------------------- */

void plane_append(char *text, size_t cap, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + used, cap - used, fmt, ap);
	va_end(ap);
}

void plane_append_ranks(char *text, size_t cap, const uint8_t *set, int n)
{
	int count = 0, end;

	for (int r = 0; r < n; r++)
		count += set[r] != 0;
	plane_append(text, cap, count == 1 ? "rank" : "ranks");
	for (int r = 0; r < n; r = end) {
		for (end = r + 1; set[r] && end < n && set[end]; end++)
			;
		if (set[r] && end - r > 2)
			plane_append(text, cap, " %d-%d", r, end - 1);
		else if (set[r])
			plane_append(text, cap, end - r == 2 ? " %d %d" : " %d", r, r + 1);
	}
}

const char *plane_rank_text(const struct control_comm *cc, int member, char buf[128])
{
	const struct contact *contact = &cc->c->contacts[cc->members[member]];

	snprintf(buf, 128, "rank %d (pid %" PRIu32 " on %.60s)", member, contact->pid, contact->host);
	return buf;
}

/* ---- news: threads that wait for the plane ----------------------------------------------------------------------- */

void plane_notify(struct control *c)
{
	atomic_fetch_add_explicit(&c->news, 1, memory_order_relaxed); /* the lock guards what the news is about */
	if (c->sleepers)
		os_wake(&c->news, OS_PROCESS);
}

void plane_wait(struct control *c, uint64_t until)
{
	uint32_t seen = atomic_load_explicit(&c->news, memory_order_relaxed);
	uint64_t now = now_ns();

	c->sleepers++;
	plane_turn_end(c);
	os_sleep_on(&c->news, seen, until > now ? until - now : 0, OS_PROCESS);
	service_lock();
	c->sleepers--;
}

void plane_turn_end(struct control *c)
{
	conn_flush_all(c);
	service_unlock();
}

/* ---- speaking ---------------------------------------------------------------------------------------------------- */

static void stamp(struct control *c, struct message *m)
{
	m->from = c->rank;
	m->seq = ++c->seq;
	if (m->length == 0)
		m->length = (uint32_t)(MESSAGE_HEAD + strnlen(m->text, MESSAGE_TEXT));
}

void plane_broadcast_first(struct control *c, struct message *m)
{
	stamp(c, m);
	conn_broadcast(c, m, NULL);
}

void plane_broadcast(struct control *c, struct message *m)
{
	shutdown_announce(c);
	plane_broadcast_first(c, m);
}

void plane_send(struct conn *w, struct message *m)
{
	stamp(w->c, m);
	conn_put(w, m);
}

struct call plane_last_call(const struct control_comm *cc)
{
	uint64_t number = atomic_load_explicit(&cc->flight->started, memory_order_acquire); /* A13 */
	struct call call = {.number = 0};

	if (!flight_read(cc->flight, number, &call))
		call.number = number;
	return call;
}

uint64_t plane_last_finished(const struct control_comm *cc)
{
	return atomic_load_explicit(&cc->flight->finished, memory_order_acquire); /* A13 */
}

struct call plane_waited_message(const struct control_comm *cc)
{
	uint64_t finished = atomic_load_explicit(&cc->flight->messages, memory_order_relaxed);

	return cc->waits_behind == finished ? cc->waits : (struct call){.number = 0};
}

const struct call *plane_waits_in(const struct member *m)
{
	if (m->message.number)
		return &m->message;
	return m->call.number > m->finished ? &m->call : NULL;
}

void plane_broadcast_status(struct control_comm *cc)
{
	struct message m = {.type = MSG_STATUS, .comm = cc->id};
	struct message waits = {.type = MSG_MESSAGE, .comm = cc->id, .call = plane_waited_message(cc)};

	plane_broadcast(cc->c, &waits);
	m.value = plane_last_finished(cc);
	m.call = plane_last_call(cc);
	plane_broadcast(cc->c, &m);
}

struct message plane_alarm_message(const struct control_comm *cc)
{
	struct message m = {.type = MSG_RAISE, .comm = cc->id};

	m.value = (uint64_t)atomic_load_explicit(&cc->alarm->status, memory_order_relaxed);
	memcpy(m.text, cc->alarm->text, MESSAGE_TEXT);
	return m;
}

/* What is known of ranks and communicators, for a neighbour that may not have heard it. */
static void brief_ranks(struct conn *w)
{
	struct control *c = w->c;

	for (int a = 0; a < c->n; a++) {
		struct message gone = {.type = MSG_GONE, .a = a, .value = c->state[a]};
		if (c->state[a] != ALIVE)
			plane_send(w, &gone);
		for (int b = 0; b < a; b++) {
			struct message cut = {
			        .type = MSG_CUT, .a = a, .b = b, .text = "reported earlier by other ranks"};
			if (c->cut[a * c->n + b])
				plane_send(w, &cut);
		}
	}
}

static void brief_comms(struct conn *w)
{
	for (struct control_comm *cc = w->c->comms; cc; cc = cc->next) {
		struct message m = plane_alarm_message(cc);
		if (m.value != TUTTI_OK)
			plane_send(w, &m);
		for (int i = 0; i < cc->n; i++) {
			struct message left = {.type = MSG_LEAVE, .comm = cc->id, .a = cc->members[i]};
			left.call = cc->m[i].call;
			left.value = cc->m[i].ended;
			if (cc->m[i].left_after)
				plane_send(w, &left);
		}
	}
	shutdown_send_state(w);
}

/* Communicators first: after which call a rank has left one is to be known before that it is gone. */
void plane_send_state(struct conn *w)
{
	struct message here = {.type = MSG_HERE};

	plane_send(w, &here);
	brief_comms(w);
	brief_ranks(w);
}

/* ---- alarms ------------------------------------------------------------------------------------------------------ */

bool plane_healthy(const struct control_comm *cc)
{
	return atomic_load_explicit(&cc->alarm->status, memory_order_relaxed) == TUTTI_OK;
}

void plane_raise_here(struct control_comm *cc, int status, const char *text)
{
	if (!plane_healthy(cc))
		return;
	printable(cc->alarm->text, sizeof(cc->alarm->text), text);
	atomic_store_explicit(&cc->alarm->status, status, memory_order_release); /* R5: the text stands */
	log_info("%s: %s", tutti_strerror(status), text);
	failure_cancel_pending(cc);
	plane_notify(cc->c);
}

void plane_raise_all(struct control_comm *cc, int status, const char *text)
{
	struct message m;

	if (!plane_healthy(cc))
		return;
	plane_raise_here(cc, status, text);
	cc->told = true;
	m = plane_alarm_message(cc);
	plane_broadcast(cc->c, &m);
}

void control_raise(struct control_comm *cc, int status, const char *text)
{
	service_lock();
	plane_raise_all(cc, status, text);
	plane_turn_end(cc->c);
}

/* ---- hearing ----------------------------------------------------------------------------------------------------- */

int plane_member(const struct control_comm *cc, int rank)
{
	for (int i = 0; i < cc->n; i++)
		if (cc->members[i] == rank)
			return i;
	return -1;
}

static void hear_gone(struct control *c, const struct message *m)
{
	failure_rank_gone(c, m->a, (enum rank_state)m->value);
}

static void hear_cut(struct control *c, const struct message *m)
{
	failure_ranks_cut(c, m->a, m->b, m->value != 0, m->text);
}

static void hear_leave(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->a);

	(void)from;
	if (i < 0 || i == cc->me || cc->m[i].left_after)
		return;
	cc->m[i].left = cc->m[i].left_after = true;
	cc->m[i].ended = m->value != 0;
	cc->m[i].call = m->call;
	compare_left(cc);
	failure_check_pending(cc);
}

static void hear_ask(struct control_comm *cc, const struct message *m, struct conn *from)
{
	(void)m;
	(void)from;
	plane_broadcast_status(cc);
}

static void hear_status(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->from);

	(void)from;
	if (i < 0 || cc->m[i].left)
		return;
	cc->m[i].call = m->call;
	cc->m[i].finished = m->value;
	cc->m[i].heard = now_ns();
	failure_check_pending(cc);
}

static void hear_message(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->from);

	(void)from;
	if (i >= 0)
		cc->m[i].message = m->call;
}

static void hear_raise(struct control_comm *cc, const struct message *m, struct conn *from)
{
	if (!cc->told)
		conn_broadcast(cc->c, m, from);
	cc->told = true;
	plane_raise_here(cc, (int)m->value, m->text);
}

/*
 * Thrifty handlers pass a message on themselves, when it says something new; all others' are passed on before they are
 * handled. What is kept early waits for the communicator to be joined.
 */
static const struct {
	void (*about_rank)(struct control *c, const struct message *m);
	void (*about_comm)(struct control_comm *cc, const struct message *m, struct conn *from);
	bool thrifty, early;
} table[MSG_TYPES] = {
        [MSG_GONE] = {.about_rank = hear_gone},
        [MSG_CUT] = {.about_rank = hear_cut},
        [MSG_LEAVE] = {.about_comm = hear_leave, .early = true},
        [MSG_REPORT] = {.about_comm = compare_report, .thrifty = true},
        [MSG_ASK] = {.about_comm = hear_ask},
        [MSG_STATUS] = {.about_comm = hear_status},
        [MSG_RAISE] = {.about_comm = hear_raise, .thrifty = true, .early = true},
        [MSG_JOIN] = {.about_comm = shrink_on_join},
        [MSG_PREPARE] = {.about_comm = shrink_on_prepare},
        [MSG_ACK] = {.about_comm = shrink_on_ack},
        [MSG_COMMIT] = {.about_comm = shrink_on_commit},
        [MSG_MESSAGE] = {.about_comm = hear_message},
};

/* Two ways lead to most ranks: what came the one way is dropped when it comes the other. */
static bool first_time(struct window *w, uint32_t seq)
{
	uint32_t behind = w->last - seq;

	if (seq > w->last) {
		uint32_t step = seq - w->last;
		w->mask = step < 64 ? w->mask << step | 1 : 1;
		w->last = seq;
		return true;
	}
	if (behind >= 64 || w->mask >> behind & 1)
		return false;
	w->mask |= UINT64_C(1) << behind;
	return true;
}

static struct control_comm *find(const struct control *c, uint64_t id)
{
	struct control_comm *cc = c->comms;

	while (cc && cc->id != id)
		cc = cc->next;
	return cc;
}

static void keep(struct control *c, const struct message *m)
{
	struct message **place = &c->early[c->nearly++ % EARLY];

	free(*place);
	*place = malloc(sizeof(*m));
	if (*place)
		memcpy(*place, m, sizeof(*m));
}

static void handle(struct control *c, const struct message *m, struct conn *from)
{
	struct control_comm *cc = find(c, m->comm);
	bool about_comm = table[m->type].about_comm;

	if (!table[m->type].thrifty || !cc)
		conn_broadcast(c, m, from);
	if (!about_comm)
		table[m->type].about_rank(c, m);
	else if (cc)
		table[m->type].about_comm(cc, m, from);
	else if (table[m->type].early)
		keep(c, m);
	plane_notify(c);
}

void plane_handle(struct control *c, const struct message *m, struct conn *from)
{
	if (m->from != c->rank && first_time(&c->seen[m->from], m->seq) && m->type != MSG_HERE)
		handle(c, m, from);
	if (m->type == MSG_GONE && m->a == from->rank && m->from == from->rank && !c->leaving)
		conn_close(from); /* its goodbye is taken */
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

static void comm_free(struct control_comm *cc)
{
	free(cc->members);
	free(cc->m);
	free(cc->shrink.list);
	free(cc);
}

static void hear_early(struct control_comm *cc)
{
	struct control *c = cc->c;

	for (int i = 0; i < EARLY; i++) {
		struct message *m = c->early[i];
		if (!m || m->comm != cc->id)
			continue;
		c->early[i] = NULL;
		table[m->type].about_comm(cc, m, NULL);
		free(m);
	}
}

int control_join(struct control_comm **out, struct control *c, uint64_t id, const char *name, const int *members, int n,
                 int me, struct flight *flight, struct alarm *alarm)
{
	struct control_comm *cc = calloc(1, sizeof(*cc));

	if (cc) {
		*cc = (struct control_comm){.c = c, .id = id, .n = n, .me = me, .flight = flight, .alarm = alarm};
		cc->members = malloc((size_t)n * sizeof(*cc->members));
		cc->m = calloc((size_t)n, sizeof(*cc->m));
		cc->shrink.list = calloc((size_t)n / 8 + 1, 1);
	}
	if (!cc || !cc->members || !cc->m || !cc->shrink.list) {
		if (cc)
			comm_free(cc);
		return fail(TUTTI_ENOMEM, "no memory for the control data of a communicator of %d ranks", n);
	}
	memcpy(cc->members, members, (size_t)n * sizeof(*cc->members));
	if (name && name[0] && strcmp(name, "world") != 0)
		snprintf(cc->prefix, sizeof(cc->prefix), "communicator %.40s: ", name);
	service_lock();
	cc->next = c->comms;
	c->comms = cc;
	hear_early(cc);
	failure_note_known(cc);
	plane_turn_end(c);
	*out = cc;
	return TUTTI_OK;
}

void control_leave(struct control_comm *cc)
{
	struct parting p = {0};
	struct control_comm **at;
	struct control *c;

	if (!cc)
		return;
	c = cc->c;
	p.comm = cc->id;
	p.last = plane_last_call(cc);
	service_lock();
	shutdown_leave_comm(c, &p);
	failure_cancel_pending(cc);
	for (at = &c->comms; *at != cc; at = &(*at)->next)
		;
	*at = cc->next;
	plane_turn_end(c);
	comm_free(cc);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* The application has closed our descriptors: its communicators end, and no other rank is to blame. */
static void end_by_loss(void)
{
	char name[128], text[TEXT_CAP];

	for (struct control *c = planes; c; c = c->next) {
		conn_lose_all(c);
		for (struct control_comm *cc = c->comms; cc; cc = cc->next) {
			snprintf(
			        text, sizeof(text),
			        "%s%s closed descriptors that it had not opened, including the library's: a program must close only what it has opened",
			        cc->prefix, plane_rank_text(cc, cc->me, name));
			plane_raise_all(cc, TUTTI_ESYSTEM, text);
		}
		conn_send_all(c);
	}
}

/*
 * A forked child must not hold connections open after its parent died: other hosts have nothing else to notice by. The
 * lock is held over the fork, so that the lists are whole; the service gives the child a fresh one.
 */
static void close_in_child(void)
{
	for (struct control *c = planes; c; c = c->next)
		for (struct conn *w = c->conns; w; w = w->next)
			fd_close(w->fd);
	planes = NULL; /* so that a child of the child closes nothing */
}

static void watch_forks(void)
{
	pthread_atfork(service_lock, service_unlock, close_in_child);
}

/*
 * The process ends by exit or by the return of main, and has not destroyed its communicators. It says goodbye just
 * before it ends, so that calls which it has finished complete on the others. It can't leave calls in order that it has
 * not finished.
 */
static bool is_idle(const struct control *c)
{
	for (const struct control_comm *cc = c->comms; cc; cc = cc->next)
		if (plane_healthy(cc) && plane_last_call(cc).number > plane_last_finished(cc))
			return false;
	return c->comms != NULL;
}

static void leave_by_exit(struct control *c, uint64_t until)
{
	for (struct control_comm *cc = c->comms; cc; cc = cc->next) {
		struct parting p = {.comm = cc->id, .last = plane_last_call(cc), .ended = true};
		shutdown_leave_comm(c, &p);
	}
	shutdown_goodbye(c, until);
	conn_close_all(c);
}

/* The lock is released while one leaves: the list may be another one then. */
static struct control *next_to_leave(void)
{
	struct control *c = planes;

	while (c && (c->leaving || !is_idle(c)))
		c = c->next;
	return c;
}

#define EXIT (500 * MS) /* of the process's end, at most */

static void __attribute__((destructor)) at_exit(void)
{
	uint64_t until = now_ns() + EXIT;

	(void)cancel_disable(); /* the thread ends */
	if (!service_lock_until(until))
		return;
	for (struct control *c; (c = next_to_leave()) && service_check();)
		leave_by_exit(c, until);
	service_unlock();
}

static void on_dial(void *arg, struct session session, const struct hello *hello)
{
	struct control *c = arg;

	if (hello->from < 0 || hello->from >= c->n || hello->from == c->rank) {
		session_close(&session);
		return;
	}
	if (conn_add(c, hello->from, session) != TUTTI_OK)
		log_warn("can't receive control messages from rank %d: %s", hello->from, fail_text());
	conn_flush_all(c);
}

static void plane_free(struct control *c)
{
	for (int i = 0; i < EARLY; i++)
		free(c->early[i]);
	failure_free_complaints(c);
	free(c->state);
	free(c->cut);
	free(c->lost);
	free(c->scratch);
	free(c->seen);
	free(c->refused);
	free(c);
}

static struct control *plane_new(const struct control_config *cfg)
{
	size_t n = (size_t)cfg->nranks;
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->rank = cfg->rank;
	c->n = cfg->nranks;
	c->contacts = cfg->contacts;
	c->host = cfg->host;
	c->door = cfg->door;
	c->state = calloc(n, sizeof(*c->state));
	c->cut = calloc(n * n, sizeof(*c->cut));
	c->lost = calloc(n, sizeof(*c->lost));
	c->scratch = calloc(2, n);
	c->seen = calloc(n, sizeof(*c->seen));
	c->refused = calloc(n, sizeof(*c->refused));
	if (c->state && c->cut && c->lost && c->scratch && c->seen && c->refused)
		return c;
	plane_free(c);
	return NULL;
}

int control_open(struct control **out, const struct control_config *cfg, struct net_limit limit)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct control *c;
	int rc;

	if (cfg->nranks >= MESSAGE_TEXT * 8)
		return fail(TUTTI_EUNSUPPORTED, "%d ranks are too many for the control plane", cfg->nranks);
	c = plane_new(cfg);
	if (!c)
		return fail(TUTTI_ENOMEM, "no memory for the control plane of %d ranks", cfg->nranks);
	rc = service_acquire();
	if (rc != TUTTI_OK) {
		plane_free(c);
		return rc;
	}
	pthread_once(&once, watch_forks);
	service_lock();
	service_on_loss(end_by_loss);
	c->next = planes;
	planes = c;
	door_serve(c->door, HELLO_CONTROL, on_dial, c);
	service_unlock();
	rc = tree_grow(c, limit);
	if (rc != TUTTI_OK)
		control_close(c);
	else
		*out = c;
	return rc;
}

void control_close(struct control *c)
{
	struct control **at;

	if (!c)
		return;
	tree_stop(c);
	service_lock();
	if (service_check())
		shutdown_goodbye(c, UINT64_MAX);
	door_serve(c->door, HELLO_CONTROL, NULL, NULL);
	conn_close_all(c);
	failure_free_complaints(c);
	shutdown_cancel(c);
	for (at = &planes; *at != c; at = &(*at)->next)
		;
	*at = c->next;
	service_unlock();
	service_release();
	plane_free(c);
}
