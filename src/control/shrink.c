/* SPDX-License-Identifier: MIT */
/*
 * Agreement on the survivors, in two phases. Every survivor says JOIN. The leader, the lowest living member, waits
 * until all living have, then proposes the list (PREPARE); a list to which all in it agreed (ACK) is final (COMMIT). A
 * death in between changes the list, and so the proposal; when the leader dies the next one proposes. A member that has
 * committed never agrees to another list: it answers with the final one, so no two lists are final in one round.
 */
#include "plane.h"

#include <inttypes.h>
#include <string.h>

#include "../util/auth.h"

#define AGAIN  (250 * MS)  /* how often what was said is repeated */
#define SETTLE (2000 * MS) /* how long a side without a majority hopes to hear of others */

static bool listed(const struct control_comm *cc, int i)
{
	return cc->shrink.list[i / 8] >> i % 8 & 1;
}

static int leader(const struct control_comm *cc)
{
	for (int i = 0; i < cc->n; i++)
		if (failure_living(cc, i))
			return i;
	return -1;
}

/*
 * Ranks that are known to be dead do not count. Of the others, which may still run where this side can't reach them,
 * more than half must be on this side, or half including the lowest rank.
 */
static bool majority(const struct control_comm *cc)
{
	int possible = 0, living = 0, lowest = -1;

	for (int i = 0; i < cc->n; i++) {
		if (cc->c->state[cc->members[i]] != ALIVE || cc->m[i].left)
			continue;
		if (possible++ == 0)
			lowest = i;
		living += failure_living(cc, i);
	}
	return 2 * living > possible || (2 * living == possible && lowest >= 0 && failure_living(cc, lowest));
}

/* ---- saying ------------------------------------------------------------------------------------------------------ */

static void say_round(struct control_comm *cc, enum message_type type)
{
	struct shrink *s = &cc->shrink;
	struct message m = {.type = type, .comm = cc->id, .a = (int32_t)s->round, .value = s->id};

	if (type == MSG_PREPARE || type == MSG_COMMIT) {
		memcpy(m.text, s->list, (size_t)cc->n / 8 + 1);
		m.length = (uint32_t)(MESSAGE_HEAD + (size_t)cc->n / 8 + 1);
	}
	plane_broadcast(cc->c, &m);
}

/* Makes the list of the living the proposal; true when that is a new one. */
static bool propose(struct control_comm *cc)
{
	struct shrink *s = &cc->shrink;
	bool fresh = s->id == 0;

	for (int i = 0; i < cc->n; i++)
		fresh |= listed(cc, i) != failure_living(cc, i);
	if (!fresh)
		return false;
	memset(s->list, 0, (size_t)cc->n / 8 + 1);
	for (int i = 0; i < cc->n; i++) {
		cc->m[i].agreed = i == cc->me;
		s->list[i / 8] |= (uint8_t)(failure_living(cc, i) << i % 8);
	}
	auth_random(&s->id, sizeof(s->id));
	return true;
}

static void lead(struct control_comm *cc, bool again)
{
	for (int i = 0; i < cc->n; i++)
		if (failure_living(cc, i) && cc->m[i].joined < cc->shrink.round)
			return;
	if (propose(cc) || again)
		say_round(cc, MSG_PREPARE);
	for (int i = 0; i < cc->n; i++)
		if (listed(cc, i) && !cc->m[i].agreed)
			return;
	cc->shrink.committed = cc->shrink.round;
	say_round(cc, MSG_COMMIT);
}

/* ---- hearing ----------------------------------------------------------------------------------------------------- */

static bool is_final(const struct shrink *s, const struct message *m)
{
	return s->committed == s->round && s->committed == (uint64_t)m->a;
}

static void enter(struct control_comm *cc, uint64_t round)
{
	cc->shrink.round = round;
	cc->shrink.id = 0;
	cc->m[cc->me].joined = round;
	say_round(cc, MSG_JOIN);
}

void shrink_on_join(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->from);
	uint64_t round = (uint64_t)m->a;

	(void)from;
	if (i < 0)
		return;
	if (round > cc->m[i].joined)
		cc->m[i].joined = round;
	if (is_final(&cc->shrink, m))
		say_round(cc, MSG_COMMIT);
	else if (cc->shrink.waiting && round > cc->shrink.round)
		enter(cc, round); /* it has tried more often */
}

static bool is_list(const struct control_comm *cc, const struct message *m)
{
	return m->length == MESSAGE_HEAD + (size_t)cc->n / 8 + 1;
}

void shrink_on_prepare(struct control_comm *cc, const struct message *m, struct conn *from)
{
	struct shrink *s = &cc->shrink;
	int i = leader(cc);

	(void)from;
	if (is_final(s, m)) {
		say_round(cc, MSG_COMMIT);
		return;
	}
	if (!s->waiting || s->round != (uint64_t)m->a || i < 0 || cc->members[i] != m->from || !is_list(cc, m))
		return;
	s->id = m->value;
	memcpy(s->list, m->text, (size_t)cc->n / 8 + 1);
	say_round(cc, MSG_ACK);
}

void shrink_on_ack(struct control_comm *cc, const struct message *m, struct conn *from)
{
	int i = plane_member(cc, m->from);

	(void)from;
	if (i >= 0 && cc->shrink.waiting && cc->shrink.id == m->value)
		cc->m[i].agreed = true;
}

void shrink_on_commit(struct control_comm *cc, const struct message *m, struct conn *from)
{
	struct shrink *s = &cc->shrink;

	(void)from;
	if (!s->waiting || s->round != (uint64_t)m->a || s->committed == s->round || !is_list(cc, m))
		return;
	s->id = m->value;
	memcpy(s->list, m->text, (size_t)cc->n / 8 + 1);
	s->committed = s->round;
}

/* ---- the caller -------------------------------------------------------------------------------------------------- */

static int no_majority(const struct control_comm *cc)
{
	char text[TEXT_CAP] = "", name[128];

	for (int i = 0; i < cc->n; i++)
		if (cc->c->lost[cc->members[i]])
			plane_append(text, sizeof(text), "%s%s", text[0] ? ", " : "", plane_rank_text(cc, i, name));
	return fail(TUTTI_EPEER, "%scan't shrink here: rank %d is not in a majority; separated from the rest: %s",
	            cc->prefix, cc->me, text[0] ? text : "this rank");
}

static int too_late(const struct control_comm *cc)
{
	char text[TEXT_CAP] = "", name[128];

	for (int i = 0; i < cc->n; i++)
		if (failure_living(cc, i) && cc->m[i].joined < cc->shrink.round)
			plane_append(text, sizeof(text), "%s%s", text[0] ? ", " : "", plane_rank_text(cc, i, name));
	if (text[0])
		return fail(TUTTI_ETIMEOUT, "%severy surviving rank must call tutti_comm_shrink; missing: %s",
		            cc->prefix, text);
	return fail(TUTTI_ETIMEOUT, "%sthe survivors did not agree on a list in time", cc->prefix);
}

static int survivors_of(const struct control_comm *cc, int *survivors, int *n, uint64_t *id)
{
	*n = 0;
	for (int i = 0; i < cc->n; i++)
		if (listed(cc, i))
			survivors[(*n)++] = i;
	*id = cc->shrink.id;
	if (!listed(cc, cc->me))
		return fail(TUTTI_EPEER, "%sthe survivors left rank %d out: they can't reach it", cc->prefix, cc->me);
	return TUTTI_OK;
}

/* Is there hope? A view without a majority may be a moment's: cuts are found one by one. */
static bool hopeless(struct control_comm *cc, uint64_t now)
{
	struct shrink *s = &cc->shrink;

	if (failure_living(cc, cc->me) && majority(cc))
		s->quorum_since = 0;
	else if (s->quorum_since == 0)
		s->quorum_since = now;
	return s->quorum_since != 0 && now - s->quorum_since > SETTLE;
}

static int agree(struct control_comm *cc, struct net_limit limit)
{
	struct shrink *s = &cc->shrink;
	uint64_t said = now_ns(), now;

	while ((now = now_ns()) < limit.deadline) {
		bool again = now - said >= AGAIN;
		if (s->committed == s->round)
			return TUTTI_OK;
		if (hopeless(cc, now))
			return no_majority(cc);
		if (net_stopped(limit))
			return fail(TUTTI_EABORTED, "%sshrinking was stopped", cc->prefix);
		if (again) {
			say_round(cc, MSG_JOIN);
			said = now;
		}
		if (leader(cc) == cc->me && !s->quorum_since)
			lead(cc, again);
		if (s->committed != s->round)
			plane_wait(cc->c, now + AGAIN < limit.deadline ? now + AGAIN : limit.deadline);
	}
	return too_late(cc);
}

int control_shrink(struct control_comm *cc, int *survivors, int *n, uint64_t *id, struct net_limit limit)
{
	int rc;

	service_lock();
	cc->shrink.waiting = true;
	cc->shrink.quorum_since = 0;
	enter(cc, cc->shrink.round + 1);
	rc = agree(cc, limit);
	cc->shrink.waiting = false;
	if (rc == TUTTI_OK)
		rc = survivors_of(cc, survivors, n, id);
	plane_turn_end(cc->c);
	return rc;
}
