/* SPDX-License-Identifier: MIT */
/*
 * Calls that do not match. A waiting rank reports its call, and every rank compares it with its own record of that
 * number, now and at each repetition. So a member that comes late, or has already finished, is compared as well. All
 * waiting ranks report much the same, so a report without news is not forwarded for a while.
 */
#include "plane.h"

#include <inttypes.h>
#include <stdio.h>

#define REPEAT       (200 * MS)  /* how often equal reports are passed on */
#define REPEAT_LATER (1000 * MS) /* ... of a rank that has waited for longer than SETTLED */
#define SETTLED      (10000 * MS)
#define ANSWER       (1000 * MS) /* how long the silent have to answer */
#define LAST_WORDS   (1000 * MS) /* how long a message of a rank that has left may take */

static bool same_arguments(const struct call *a, const struct call *b)
{
	return a->count == b->count && call_word(a) == call_word(b);
}

static bool same_call(const struct call *a, const struct call *b)
{
	return same_arguments(a, b) && a->way == b->way;
}

static void disagree(struct control_comm *cc, int i, const struct call *a, int j, const struct call *b)
{
	char text[TEXT_CAP] = "", one[128], other[128], what[128];

	if (i > j) {
		disagree(cc, j, b, i, a);
		return;
	}
	if (same_arguments(a, b))
		plane_append(text, sizeof(text),
		             "%sranks disagree about how to run %s: rank %d runs it as %s, rank %d as %s", cc->prefix,
		             call_text(a, what, sizeof(what)), i, call_way_text(a, one, sizeof(one)), j,
		             call_way_text(b, other, sizeof(other)));
	else
		plane_append(text, sizeof(text),
		             "%sranks disagree about call #%" PRIu64 ": rank %d called %s, rank %d called %s",
		             cc->prefix, a->number, i, call_what(a, one, sizeof(one)), j,
		             call_what(b, other, sizeof(other)));
	plane_raise_all(cc, TUTTI_EMISMATCH, text);
}

/* Is `call` of `member` news? Then it is noted as said now. */
static bool note(struct control_comm *cc, int member, const struct call *call, uint64_t repeat)
{
	struct report *r = &cc->reports[call->number % REPORTS];
	uint64_t now = now_ns();

	if (r->call.number == call->number) {
		if (!same_call(&r->call, call))
			disagree(cc, r->member, &r->call, member, call);
		else if (now - r->at < repeat)
			return false;
	}
	*r = (struct report){.call = *call, .member = member, .at = now};
	return true;
}

void compare_report(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->from);
	struct call own;

	if (i < 0)
		return;
	if (!plane_healthy(cc)) { /* the sender missed the alarm */
		struct message alarm = plane_alarm_message(cc);
		plane_send(from, &alarm);
		return;
	}
	if (flight_read(cc->flight, m->call.number, &own) && !same_call(&own, &m->call))
		disagree(cc, cc->me, &own, i, &m->call);
	if (note(cc, i, &m->call, REPEAT))
		conn_broadcast(cc->c, m, from);
}

static const char *left_how(const struct member *m)
{
	return m->ended ? "ended without destroying its communicator," : "destroyed its communicator";
}

void compare_left(struct control_comm *cc)
{
	struct call mine = plane_last_call(cc);
	char text[TEXT_CAP] = "", name[128], what[128];

	if (cc->failing || mine.number <= plane_last_finished(cc))
		return;
	for (int i = 0; i < cc->n; i++) {
		const struct call *last = &cc->m[i].call;
		if (!cc->m[i].left_after || last->number >= mine.number)
			continue;
		plane_append(text, sizeof(text), "%s%s %s ", cc->prefix, plane_rank_text(cc, i, name),
		             left_how(&cc->m[i]));
		if (last->number)
			plane_append(text, sizeof(text), "after %s", call_text(last, what, sizeof(what)));
		else
			plane_append(text, sizeof(text), "without a call");
		plane_append(text, sizeof(text), "; rank %d waits for it in %s", cc->me,
		             call_text(&mine, what, sizeof(what)));
		plane_raise_all(cc, TUTTI_EPEER, text);
		return;
	}
}

/* What a peer sent before it left may still be on its way; what it will not take, or send, is known by then. */
static void check_left_message(struct control_comm *cc, const struct call *call)
{
	const struct member *peer = &cc->m[call->root];
	char text[TEXT_CAP] = "", name[128], what[128];

	if (cc->failing || !peer->left_after)
		return;
	plane_append(text, sizeof(text), "%s%s %s ", cc->prefix, plane_rank_text(cc, call->root, name), left_how(peer));
	if (peer->call.number)
		plane_append(text, sizeof(text), "after %s", call_text(&peer->call, what, sizeof(what)));
	else
		plane_append(text, sizeof(text), "without a collective call");
	plane_append(text, sizeof(text), "; rank %d waits for it in %s", cc->me, call_text(call, what, sizeof(what)));
	plane_raise_all(cc, TUTTI_EPEER, text);
}

void control_waiting_message(struct control_comm *cc, const struct call *call, uint64_t waited_ns)
{
	service_lock();
	cc->waits = *call;
	cc->waits_behind = atomic_load_explicit(&cc->flight->messages, memory_order_relaxed);
	if (plane_healthy(cc) && waited_ns >= LAST_WORDS)
		check_left_message(cc, call);
	plane_turn_end(cc->c);
}

void control_waiting(struct control_comm *cc, uint64_t number, uint64_t waited_ns)
{
	struct message m = {.type = MSG_REPORT, .comm = cc->id};

	service_lock();
	(void)service_check();
	if (plane_healthy(cc))
		compare_left(cc);
	if (plane_healthy(cc) && flight_read(cc->flight, number, &m.call) &&
	    note(cc, cc->me, &m.call, waited_ns < SETTLED ? REPEAT : REPEAT_LATER))
		plane_broadcast(cc->c, &m);
	plane_turn_end(cc->c);
}

/* ---- deadlines --------------------------------------------------------------------------------------------------- */

static bool all_heard(const struct control_comm *cc)
{
	for (int i = 0; i < cc->n; i++)
		if (i != cc->me && failure_living(cc, i) && !cc->m[i].heard)
			return false;
	return true;
}

static void add_doing(char *text, const struct member *m)
{
	const struct call *here = plane_waits_in(m);
	char what[128];

	if (!here && m->call.number == 0)
		plane_append(text, TEXT_CAP, "has made no collective call yet");
	else
		plane_append(text, TEXT_CAP, "%s %s", here ? "is in" : "last finished",
		             call_text(here ? here : &m->call, what, sizeof(what)));
}

static void add_late(char *text, const struct control_comm *cc, int i, bool first, const char *call, double seconds)
{
	char name[128];

	if (first)
		plane_append(text, TEXT_CAP, "%s has not called %s after %.1f s; it ", plane_rank_text(cc, i, name),
		             call, seconds);
	else
		plane_append(text, TEXT_CAP, "; nor has %s; it ", plane_rank_text(cc, i, name));
	add_doing(text, &cc->m[i]);
}

static void add_silent(char *text, const struct control_comm *cc, int i, bool first, const char *call, double seconds)
{
	char name[128];

	if (first)
		plane_append(text, TEXT_CAP, "%s is not done after %.1f s: ", call, seconds);
	else
		plane_append(text, TEXT_CAP, "; ");
	plane_append(text, TEXT_CAP, "%s does not answer; is it stopped?", plane_rank_text(cc, i, name));
}

static void late_text(char *text, const struct control_comm *cc, uint64_t number, double seconds)
{
	struct call call = {.number = number};
	char what[128];
	int n = 0;

	if (flight_read(cc->flight, number, &call))
		call_text(&call, what, sizeof(what));
	else
		snprintf(what, sizeof(what), "call #%" PRIu64, number);
	plane_append(text, TEXT_CAP, "%s", cc->prefix);
	for (int i = 0; i < cc->n; i++)
		if (i != cc->me && cc->m[i].heard && cc->m[i].call.number < number)
			add_late(text, cc, i, n++ == 0, what, seconds);
	for (int i = 0; i < cc->n; i++)
		if (i != cc->me && failure_living(cc, i) && !cc->m[i].heard)
			add_silent(text, cc, i, n++ == 0, what, seconds);
	if (n == 0)
		plane_append(text, TEXT_CAP,
		             "rank %d is not done with %s after %.1f s: no rank is late; is a connection too slow?",
		             cc->me, what, seconds);
}

void control_deadline(struct control_comm *cc, uint64_t number, double seconds)
{
	struct message ask = {.type = MSG_ASK, .comm = cc->id};
	uint64_t until = now_ns() + ANSWER;
	char text[TEXT_CAP] = "";

	service_lock();
	(void)service_check();
	if (plane_healthy(cc)) {
		for (int i = 0; i < cc->n; i++)
			cc->m[i].heard = 0;
		plane_broadcast(cc->c, &ask);
	}
	while (plane_healthy(cc) && !all_heard(cc) && now_ns() < until)
		plane_wait(cc->c, until);
	if (plane_healthy(cc)) {
		late_text(text, cc, number, seconds);
		plane_raise_all(cc, TUTTI_ETIMEOUT, text);
	}
	plane_turn_end(cc->c);
}

static void late_message_text(char *text, const struct control_comm *cc, const struct call *call, double seconds)
{
	const struct member *peer = &cc->m[call->root];
	const char *other = coll_name(call->coll == COLL_SEND ? COLL_RECV : COLL_SEND);
	bool meets = peer->message.coll + call->coll == COLL_SEND + COLL_RECV && peer->message.root == cc->me &&
	             peer->message.number == call->number;
	char what[128], name[128];

	plane_append(text, TEXT_CAP, "%s", cc->prefix);
	call_text(call, what, sizeof(what));
	if (!peer->heard) {
		add_silent(text, cc, call->root, true, what, seconds);
	} else if (meets) {
		plane_append(text, TEXT_CAP, "%s of rank %d is not done after %.1f s: %s is in the matching %s; ", what,
		             cc->me, seconds, plane_rank_text(cc, call->root, name), other);
		plane_append(text, TEXT_CAP, "is the connection too slow?");
	} else {
		plane_append(text, TEXT_CAP, "%s has not called the %s that rank %d waits for in %s after %.1f s; it ",
		             plane_rank_text(cc, call->root, name), other, cc->me, what, seconds);
		add_doing(text, peer);
	}
}

void control_deadline_message(struct control_comm *cc, const struct call *call, double seconds)
{
	struct message ask = {.type = MSG_ASK, .comm = cc->id};
	uint64_t until = now_ns() + ANSWER;
	char text[TEXT_CAP] = "";

	service_lock();
	if (plane_healthy(cc))
		check_left_message(cc, call);
	if (plane_healthy(cc)) {
		cc->m[call->root].heard = 0;
		plane_broadcast(cc->c, &ask);
	}
	while (plane_healthy(cc) && failure_living(cc, call->root) && !cc->m[call->root].heard && now_ns() < until)
		plane_wait(cc->c, until);
	if (plane_healthy(cc)) {
		late_message_text(text, cc, call, seconds);
		plane_raise_all(cc, TUTTI_ETIMEOUT, text);
	}
	plane_turn_end(cc->c);
}
