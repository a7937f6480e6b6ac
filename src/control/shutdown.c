/* SPDX-License-Identifier: MIT */
/*
 * Leaving in order. Every rank that stays must learn of it, or it would consider this rank dead. The neighbours that
 * would forward the message may be leaving as well. So a rank goes when a rank that stays has received its goodbye (it
 * confirms by hanging up, after forwarding it), or when no rank stays. A neighbour that leaves takes no goodbye: if
 * there is no other neighbour, the next rank is dialled.
 */
#include "plane.h"

#include <stdio.h>

#define FAREWELL (300 * MS) /* longest time to wait: a stopped neighbour takes no goodbye */

#define LEAVE_DELAY (1 * MS) /* how much later than at once the others learn that this rank has left */

static struct message leave_message(const struct control *c, unsigned i)
{
	const struct parting *p = &c->parted[i % PARTED];

	return (struct message){.type = MSG_LEAVE, .comm = p->comm, .a = c->rank, .value = p->ended, .call = p->last};
}

void shutdown_announce(struct control *c)
{
	for (; c->parted_said != c->nparted; c->parted_said++) {
		struct message leave = leave_message(c, c->parted_said);
		plane_broadcast_first(c, &leave);
	}
}

static void on_delay(void *arg)
{
	struct control *c = arg;

	shutdown_announce(c);
	conn_flush_all(c);
}

void shutdown_leave_comm(struct control *c, const struct parting *p)
{
	bool first = c->parted_said == c->nparted;

	c->parted[c->nparted++ % PARTED] = *p;
	if (c->nparted - c->parted_said == PARTED ||
	    (first && service_at(now_ns() + LEAVE_DELAY, on_delay, c) != TUTTI_OK))
		shutdown_announce(c);
}

void shutdown_cancel(struct control *c)
{
	service_cancel(on_delay, c);
}

void shutdown_send_state(struct conn *w)
{
	struct control *c = w->c;

	for (unsigned i = c->nparted > PARTED ? c->nparted - PARTED : 0; i < c->nparted; i++) {
		struct message leave = leave_message(c, i);
		plane_send(w, &leave);
	}
}

void shutdown_taken(struct conn *w)
{
	struct control *c = w->c;

	if (!tree_reachable(c, w->rank))
		return;
	if (w->greeted)
		c->taken = true;
	else
		c->state[w->rank] = LEFT; /* it was closing as we came */
	plane_notify(c);
}

static bool somebody_stays(const struct control *c)
{
	for (int r = 0; r < c->n; r++)
		if (r != c->rank && tree_reachable(c, r))
			return true;
	return false;
}

static bool has_neighbour(const struct control *c)
{
	for (int r = 0; r < c->n; r++)
		if (tree_reachable(c, r) && conn_exists(c, r))
			return true;
	return false;
}

/* Treat a rank that can't be dialled as departed. Do not broadcast it: a rank that knows better will correct this. */
static void find_neighbour(struct control *c, uint64_t until)
{
	int rank = 0;

	while (rank < c->n && (rank == c->rank || !tree_reachable(c, rank)))
		rank++;
	if (rank < c->n && tree_dial(c, rank, (struct net_limit){until, NULL}) != TUTTI_OK)
		c->state[rank] = LEFT;
}

void shutdown_goodbye(struct control *c, uint64_t until)
{
	struct message bye = {.type = MSG_GONE, .a = c->rank, .value = LEFT};
	uint64_t enough = now_ns() + FAREWELL;
	char why[TEXT_CAP];

	snprintf(why, sizeof(why), "%s", fail_text());
	until = until < enough ? until : enough;
	c->leaving = true;
	c->state[c->rank] = LEFT; /* so that a new neighbour is told */
	plane_broadcast(c, &bye);
	while (!c->taken && somebody_stays(c) && now_ns() < until) {
		if (has_neighbour(c))
			plane_wait(c, until);
		else
			find_neighbour(c, until);
	}
	(void)fail(TUTTI_OK, "%s", why); /* why this rank goes, not whom it could not tell */
}
