/* SPDX-License-Identifier: MIT */
/*
 * What happens to communicators if a rank dies or becomes unreachable. A rank that notices a death tells all. Each
 * member of a communicator of the dead rank then reports its current call, and after at most GATHER each composes the
 * alarm's text from the reports. So no rank needs another one to be alive for its own alarm. After a death the alarm is
 * raised no earlier: a call that the dead rank had finished completes if everything that it sent is on its way.
 */
#include "group.h"
#include "plane.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATHER   (200 * MS)
#define PATIENCE (300 * MS) /* with a transport's complaint */

bool failure_living(const struct control_comm *cc, int member)
{
	int rank = cc->members[member];

	return cc->c->state[rank] == ALIVE && !cc->c->lost[rank] && !cc->m[member].left;
}

/* ---- the verdict ------------------------------------------------------------------------------------------------- */

/*
 * Both ends of a cut report each other, so the others decide which ranks are unreachable: all except the largest group
 * of ranks that reach each other, and of equal groups the one with the lowest rank. Both sides of a broken network come
 * to the same result, because each cut was seen from both of its ends.
 */
static void judge(struct control *c)
{
	uint8_t *group = c->scratch, *living = c->scratch + c->n;

	if (!c->cuts)
		return;
	for (int r = 0; r < c->n; r++)
		living[r] = c->state[r] == ALIVE;
	if (!group_largest(c->cut, living, c->n, group))
		return; /* no memory: the last verdict stands */
	for (int r = 0; r < c->n; r++)
		c->lost[r] = !group[r];
}

/* ---- doom: a communicator lost a member -------------------------------------------------------------------------- */

static bool waits_in_that(const struct member *m, const struct call *call)
{
	const struct call *here = m->heard ? plane_waits_in(m) : NULL;

	return here && here->number == call->number && (here->coll >= COLL_COUNT) == (call->coll >= COLL_COUNT) &&
	       (here->coll < COLL_COUNT || call_word(here) == call_word(call));
}

/* The call that most of the living ranks wait in, and these ranks. */
static bool common_call(const struct control_comm *cc, struct call *call, uint8_t *waiting)
{
	int best = 0;

	for (int i = 0; i < cc->n; i++) {
		int same = 0;
		const struct call *here = cc->m[i].heard ? plane_waits_in(&cc->m[i]) : NULL;
		for (int j = 0; here && j < cc->n; j++)
			same += waits_in_that(&cc->m[j], here);
		if (same > best) {
			best = same;
			*call = *here;
		}
	}
	for (int j = 0; j < cc->n && best > 0; j++)
		waiting[j] = waits_in_that(&cc->m[j], call);
	return best > 0;
}

static void hear_myself(struct control_comm *cc)
{
	struct member *m = &cc->m[cc->me];

	m->finished = plane_last_finished(cc);
	m->call = plane_last_call(cc);
	m->message = plane_waited_message(cc);
	m->heard = now_ns();
}

static void doom_raise(void *arg)
{
	struct control_comm *cc = arg;
	uint8_t *waiting = calloc((size_t)cc->n, 1);
	char text[TEXT_CAP] = "", what[128];
	struct call call;

	hear_myself(cc);
	plane_append(text, sizeof(text), "%s%s", cc->prefix, cc->why);
	if (waiting && common_call(cc, &call, waiting)) {
		int n = 0;
		for (int i = 0; i < cc->n; i++)
			n += waiting[i];
		plane_append(text, sizeof(text), " during %s; ", call_text(&call, what, sizeof(what)));
		plane_append_ranks(text, sizeof(text), waiting, cc->n);
		plane_append(text, sizeof(text), n == 1 ? " was waiting in it" : " were waiting in it");
	}
	free(waiting);
	plane_raise_here(cc, TUTTI_EPEER, text);
}

void failure_cancel_pending(struct control_comm *cc)
{
	if (cc->failing)
		service_cancel(doom_raise, cc);
	cc->failing = 0;
}

void failure_check_pending(struct control_comm *cc)
{
	if (!cc->failing || cc->after_death)
		return;
	for (int i = 0; i < cc->n; i++)
		if (i != cc->me && failure_living(cc, i) && !cc->m[i].heard)
			return;
	doom_raise(cc);
}

static void __attribute__((format(printf, 2, 3))) pend(struct control_comm *cc, const char *fmt, ...)
{
	va_list ap;
	size_t used = strlen(cc->why);

	if (!plane_healthy(cc))
		return;
	if (used && used < sizeof(cc->why) - 2)
		used += (size_t)snprintf(cc->why + used, sizeof(cc->why) - used, "; ");
	va_start(ap, fmt);
	vsnprintf(cc->why + used, sizeof(cc->why) - used, fmt, ap);
	va_end(ap);
	if (!cc->failing) {
		cc->failing = now_ns() + GATHER;
		for (int i = 0; i < cc->n; i++)
			cc->m[i].heard = 0;
		plane_broadcast_status(cc);
		if (service_at(cc->failing, doom_raise, cc) != TUTTI_OK)
			doom_raise(cc);
	}
	failure_check_pending(cc);
}

/* ---- deaths ------------------------------------------------------------------------------------------------------ */

static void doom_by_death(struct control_comm *cc, int member)
{
	char name[128];

	if (member == cc->me && !service_check())
		return; /* the application closed our descriptors: said already */
	if (member == cc->me)
		pend(cc, "the other ranks consider %s dead: was its connection reset?",
		     plane_rank_text(cc, member, name));
	else {
		cc->after_death = true;
		pend(cc, "%s died", plane_rank_text(cc, member, name));
	}
}

static void member_gone(struct control_comm *cc, int rank, enum rank_state state)
{
	int i = plane_member(cc, rank);

	if (i < 0)
		return;
	if (state == DEAD && !cc->m[i].left)
		doom_by_death(cc, i);
	if (state == LEFT && i != cc->me)
		cc->m[i].left = true; /* it has reported its last call before, or no rank that knows it is left */
	failure_check_pending(cc);
}

void failure_rank_gone(struct control *c, int rank, enum rank_state state)
{
	if (c->state[rank] != ALIVE)
		return;
	conn_drain(c, rank);
	if (c->state[rank] != ALIVE)
		return;
	c->state[rank] = (uint8_t)state;
	judge(c);
	for (struct control_comm *cc = c->comms; cc; cc = cc->next)
		member_gone(cc, rank, state);
	tree_mend(c);
	plane_notify(c);
}

void failure_saw_gone(struct control *c, int rank)
{
	struct message m = {.type = MSG_GONE, .a = rank, .value = DEAD};

	plane_broadcast(c, &m);
	failure_rank_gone(c, rank, DEAD);
}

/* ---- cuts -------------------------------------------------------------------------------------------------------- */

static bool on_cut(const struct control *c, int a, int b, bool hosts, int x, int y)
{
	if (hosts && c->host[a] != c->host[b])
		return (c->host[x] == c->host[a] && c->host[y] == c->host[b]) ||
		       (c->host[x] == c->host[b] && c->host[y] == c->host[a]);
	return (x == a && y == b) || (x == b && y == a);
}

static void doom_by_cut(struct control_comm *cc, int a, int b, bool hosts, const char *how)
{
	char one[128], other[128];

	for (int i = 0; i < cc->n; i++)
		for (int j = i + 1; j < cc->n; j++) {
			int x = cc->members[i], y = cc->members[j];
			if (cc->c->cut[x * cc->c->n + y] || !on_cut(cc->c, a, b, hosts, x, y))
				continue;
			pend(cc, "%s and %s can't reach each other (%s)", plane_rank_text(cc, i, one),
			     plane_rank_text(cc, j, other), how);
			return;
		}
}

void failure_ranks_cut(struct control *c, int a, int b, bool hosts, const char *how)
{
	if (c->state[a] != ALIVE || c->state[b] != ALIVE || c->cut[a * c->n + b])
		return;
	for (struct control_comm *cc = c->comms; cc; cc = cc->next)
		doom_by_cut(cc, a, b, hosts, how);
	for (int x = 0; x < c->n; x++)
		for (int y = 0; y < c->n; y++)
			if (on_cut(c, a, b, hosts, x, y))
				c->cut[x * c->n + y] = 1;
	c->cuts = true;
	judge(c);
	for (struct control_comm *cc = c->comms; cc; cc = cc->next)
		failure_check_pending(cc);
	tree_mend(c);
	plane_notify(c);
}

void failure_saw_cut(struct control *c, int rank, bool hosts, const char *how)
{
	struct message m = {.type = MSG_CUT, .a = c->rank, .b = rank, .value = hosts};

	snprintf(m.text, sizeof(m.text), "%.300s", how);
	plane_broadcast(c, &m);
	failure_ranks_cut(c, c->rank, rank, hosts, m.text);
}

void failure_note_known(struct control_comm *cc)
{
	struct control *c = cc->c;

	for (int i = 0; i < cc->n; i++) {
		if (c->state[cc->members[i]] != ALIVE)
			member_gone(cc, cc->members[i], (enum rank_state)c->state[cc->members[i]]);
		for (int j = 0; j < i; j++)
			if (c->cut[cc->members[i] * c->n + cc->members[j]]) {
				char one[128], other[128];
				pend(cc, "%s and %s lost their connection earlier", plane_rank_text(cc, j, one),
				     plane_rank_text(cc, i, other));
			}
	}
}

/* ---- transports' complaints -------------------------------------------------------------------------------------- */

static void complaint_free(struct complaint *x)
{
	struct complaint **at = &x->c->complaints;

	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	free(x);
}

/* A rank that has left a communicator of ours closed the connections that served it. */
static bool left_something(const struct control *c, int rank)
{
	for (const struct control_comm *cc = c->comms; cc; cc = cc->next) {
		int i = plane_member(cc, rank);
		if (i >= 0 && cc->m[i].left)
			return true;
	}
	return false;
}

static void complaint_due(void *arg)
{
	struct complaint *x = arg;

	if (tree_reachable(x->c, x->rank) && !left_something(x->c, x->rank))
		failure_saw_cut(x->c, x->rank, x->hosts, x->how);
	conn_flush_all(x->c);
	complaint_free(x);
}

static void complain(struct control *c, int rank, bool hosts, const char *how)
{
	struct complaint *x;

	service_lock();
	if (!service_check())
		goto out;
	for (x = c->complaints; x && x->rank != rank; x = x->next)
		;
	if (x)
		x->hosts |= hosts;
	if (x || !tree_reachable(c, rank) || !(x = calloc(1, sizeof(*x))))
		goto out;
	*x = (struct complaint){.next = c->complaints, .c = c, .rank = rank, .hosts = hosts};
	snprintf(x->how, sizeof(x->how), "%s", how);
	c->complaints = x;
	if (service_at(now_ns() + PATIENCE, complaint_due, x) != TUTTI_OK)
		complaint_due(x);
out:
	plane_turn_end(c);
}

void control_lost(struct control *c, int rank, const char *how)
{
	complain(c, rank, false, how);
}

void control_silent(struct control *c, int rank, const char *how)
{
	complain(c, rank, true, how);
}

void failure_free_complaints(struct control *c)
{
	while (c->complaints) {
		service_cancel(complaint_due, c->complaints);
		complaint_free(c->complaints);
	}
}
