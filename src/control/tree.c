/* SPDX-License-Identifier: MIT */
/*
 * Which rank connects to which. The two lowest reachable ranks of a host lead it, and the two lowest of all lead
 * everyone. Each rank has a connection to the leaders of its host; the leaders of a host have one to the leaders of all. All
 * ranks agree on what is reachable, so after a death the next leaders are dialled without further messages. The higher
 * rank dials. The lower one dials only if it has waited without success, because the higher one may have died
 * unnoticed.
 */
#include "../os/os.h"
#include "plane.h"

#include <errno.h>
#include <unistd.h>

#define LEADERS  2
#define MEND     (100 * MS) /* when ranks leave one after the other, most dials at once would be in vain */
#define OVERDUE  (400 * MS) /* how long higher ranks have to dial */
#define REDIAL   (100 * MS)
#define REFUSALS 3

bool tree_reachable(const struct control *c, int rank)
{
	return c->state[rank] == ALIVE && !c->cut[c->rank * c->n + rank];
}

/* Is rank one of the lowest of those that this rank can reach, on its host or everywhere? */
static bool leads(const struct control *c, int rank, bool host_only)
{
	int lower = 0;

	for (int r = 0; r < rank && lower < LEADERS; r++)
		lower += (tree_reachable(c, r) || r == c->rank) && (!host_only || c->host[r] == c->host[rank]);
	return lower < LEADERS;
}

static bool missing(const struct control *c, int rank)
{
	int low = rank < c->rank ? rank : c->rank, high = rank < c->rank ? c->rank : rank;

	if (rank == c->rank || !tree_reachable(c, rank) || conn_exists(c, rank))
		return false;
	return (c->host[low] == c->host[high] && leads(c, low, true)) || (leads(c, high, true) && leads(c, low, false));
}

/* The next rank to dial after `last`, round and round; -1: none. */
static int next_to_dial(const struct control *c, int last)
{
	int n = now_ns() < c->overdue ? c->rank : c->n;

	for (int i = 1; i <= n; i++)
		if (missing(c, (last + i) % n))
			return (last + i) % n;
	return -1;
}

int tree_dial(struct control *c, int rank, struct net_limit limit)
{
	struct hello hello = {.kind = HELLO_CONTROL, .from = c->rank};
	struct session session;
	int rc;

	plane_turn_end(c);
	rc = door_dial(c->door, &c->contacts[rank], &hello, c->host[rank] == c->host[c->rank], limit, &session);
	service_lock();
	return rc == TUTTI_OK ? conn_add(c, rank, session) : rc;
}

/*
 * A rank that does not answer may be stopped: it is dialled on and on. One that can't be connected to is given up; on
 * this host that means that its process is no more.
 */
static void dial_failed(struct control *c, int rank, int rc)
{
	if (rc == TUTTI_ETIMEOUT || rc == TUTTI_EABORTED || ++c->refused[rank] < REFUSALS || !tree_reachable(c, rank))
		return;
	if (c->host[rank] == c->host[c->rank])
		failure_saw_gone(c, rank);
	else
		failure_saw_cut(c, rank, false, fail_text());
}

/*
 * A rank that can't be reached here was alive when it sent its contact. Its communicators are notified as if it had
 * died a moment later.
 */
int tree_grow(struct control *c, struct net_limit limit)
{
	int rank, rc = TUTTI_OK;

	service_lock();
	c->overdue = UINT64_MAX;
	while (rc == TUTTI_OK && (rank = next_to_dial(c, 0)) >= 0) {
		if ((rc = tree_dial(c, rank, limit)) == TUTTI_EPEER) {
			dial_failed(c, rank, rc);
			rc = TUTTI_OK;
		}
	}
	tree_mend(c);
	plane_turn_end(c);
	if (rc != TUTTI_OK)
		return fail_while(rc, "connecting rank %d to rank %d for control messages", c->rank, rank);
	return TUTTI_OK;
}

/* ---- after a death ----------------------------------------------------------------------------------------------- */

static void pause_or_stop(struct control *c, uint64_t ns)
{
	os_sleep_on(&c->stop, 0, ns, OS_PROCESS);
}

static void *dial_missing(void *arg)
{
	struct control *c = arg;
	int rank = 0, rc;

	service_lock();
	while (!atomic_load_explicit(&c->stop, memory_order_relaxed) && (rank = next_to_dial(c, rank)) >= 0) {
		rc = tree_dial(c, rank, (struct net_limit){now_ns() + 1000 * MS, &c->stop});
		if (rc == TUTTI_OK)
			continue;
		dial_failed(c, rank, rc);
		plane_turn_end(c);
		pause_or_stop(c, REDIAL);
		service_lock();
	}
	c->dialled = true;
	plane_turn_end(c);
	return NULL;
}

/* Runs on the service thread, so the new thread blocks all signals as that does. */
static void start_dialler(void *arg)
{
	struct control *c = arg;

	if (next_to_dial(c, 0) < 0 || (c->dialling && !c->dialled))
		return;
	if (c->dialling)
		pthread_join(c->dialler, NULL); /* it has let go of the lock for good */
	c->dialled = false;
	c->dialling = pthread_create(&c->dialler, NULL, dial_missing, c) == 0;
	if (!c->dialling)
		log_warn("can't start a thread to connect to another control leader: deaths may be noticed late");
}

void tree_mend(struct control *c)
{
	uint64_t soon = now_ns() + MEND, later = now_ns() + OVERDUE;

	if (atomic_load_explicit(&c->stop, memory_order_relaxed))
		return;
	service_cancel(start_dialler, c);
	c->overdue = later;
	if (service_at(soon, start_dialler, c) != TUTTI_OK || service_at(later, start_dialler, c) != TUTTI_OK)
		log_warn("rank %d can't connect to other control leaders: %s", c->rank, fail_text());
}

void tree_stop(struct control *c)
{
	service_lock();
	atomic_store_explicit(&c->stop, 1, memory_order_release); /* R16 */
	service_cancel(start_dialler, c);
	service_unlock();
	os_wake(&c->stop, OS_PROCESS);
	if (c->dialling)
		pthread_join(c->dialler, NULL);
	c->dialling = false;
}
