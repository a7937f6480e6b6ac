/* SPDX-License-Identifier: MIT */
/* Threads that work on calls together: see team.h. */
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct member {
	struct team *team;
	pthread_t thread;
	int index, status;
};

struct team {
	int size, started;
	struct tutti_request *req;
	_Atomic unsigned
	        turn; /* calls so far; the members look at it without rest, as compute threads between layers do */
	_Atomic int working;
	bool over;
	struct member member[];
};

/* Looks again and again, and lets others run where cores are few. */
#define LOOK_UNTIL(condition)                                                                                          \
	for (int looks_ = 0; !(condition); looks_++)                                                                   \
		if (looks_ > 2000)                                                                                     \
	sched_yield()

static void *stand_by(void *arg)
{
	struct member *m = arg;
	struct team *t = m->team;
	for (unsigned turn = 1;; turn++) {
		LOOK_UNTIL(atomic_load_explicit(&t->turn, memory_order_acquire) == turn);
		if (t->over)
			return NULL;
		m->status = tutti_work(t->req, m->index, t->size);
		(void)atomic_fetch_sub_explicit(&t->working, 1, memory_order_release);
	}
}

static void begin(struct team *t)
{
	atomic_store_explicit(&t->working, t->started, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&t->turn, 1, memory_order_release);
}

struct team *team_open(int size)
{
	struct team *t = calloc(1, sizeof(*t) + (size_t)size * sizeof(t->member[0]));
	if (!t)
		return NULL;
	t->size = size;
	for (int i = 1; i < size; i++) {
		struct member *m = &t->member[i];
		*m = (struct member){.team = t, .index = i};
		if (pthread_create(&m->thread, NULL, stand_by, m) != 0) {
			team_close(t);
			return NULL;
		}
		t->started++;
	}
	return t;
}

void team_close(struct team *t)
{
	if (!t)
		return;
	t->over = true;
	begin(t);
	for (int i = 1; i <= t->started; i++)
		pthread_join(t->member[i].thread, NULL);
	free(t);
}

int team_work(struct team *t, struct tutti_request *req)
{
	t->req = req;
	begin(t);
	int status = tutti_work(req, 0, t->size);
	LOOK_UNTIL(atomic_load_explicit(&t->working, memory_order_acquire) == 0);
	for (int i = 1; i <= t->started; i++)
		status = status ? status : t->member[i].status;
	return status;
}
