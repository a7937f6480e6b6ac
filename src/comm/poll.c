/* SPDX-License-Identifier: MIT */
/* A descriptor that is readable when progress would help. See poll.h. */
#include "poll.h"

#include "../os/os.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "comm.h"

void poll_tick(struct tutti_comm *c, bool on)
{
	if (c->poll.timer >= 0)
		os_timer_set(c->poll.timer, on ? 1000000 : 0);
}

void poll_seen(struct tutti_comm *c)
{
	if (c->poll.timer >= 0)
		os_timer_rest(c->poll.timer);
}

/*
 * Networks are in the world's queue of events. Memory cannot make a descriptor readable, nor can another thread that
 * finishes a request, so a timer ticks each millisecond while the owner has requests to finish, and only then.
 */
static int make_fd(struct tutti_comm *c)
{
	int fd = fd_keep(os_queue_open()), timer = fd_keep(os_timer_open());
	if (fd < 0 || timer < 0 || os_queue_watch(fd, timer, 0, OS_READ, 0) < 0) {
		(void)fail_errno("make a descriptor for poll loops");
		fd_close(fd);
		fd_close(timer);
		return -1;
	}
	if (c->world->wait.queue >= 0)
		(void)os_queue_watch(fd, c->world->wait.queue, 0, OS_READ, 0);
	c->poll.timer = timer;
	if (c->queue.open)
		poll_tick(c, true);
	return fd;
}

int poll_fd(struct tutti_comm *c)
{
	comm_lock(c);
	if (c->poll.fd < 0)
		c->poll.fd = make_fd(c);
	comm_unlock(c);
	return c->poll.fd;
}

void poll_look(struct tutti_comm *c)
{
	(void)queue_move(c);
	(void)progress_others(&c->world->progress, &c->queue.job);
	(void)world_pump(c->world); /* what came early for later calls, too: it keeps the descriptor readable */
}

void poll_close(struct tutti_comm *c)
{
	fd_close(c->poll.fd);
	fd_close(c->poll.timer);
	c->poll = (struct poll){-1, -1};
}
