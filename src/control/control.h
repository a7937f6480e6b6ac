/* SPDX-License-Identifier: MIT */
/*
 * Control plane: deaths, deadlines, aborts, mismatches, survivors. It never carries data.
 *
 * The two lowest living ranks of a host lead it: its ranks connect to them over local sockets (HELLO_CONTROL). The two
 * lowest of all lead everyone: the leaders of hosts connect to them over TCP. The leaders depend only on the hosts and
 * on the set of dead ranks, so if a leader dies, all ranks know the next one. As there are two of each, one that is
 * dead or stopped does not cut off anybody. Messages are small and go to everyone. All of it runs on the service
 * thread, which sleeps unless something happens.
 *
 * A communicator joins with its members and gives an alarm: when something ends it, the control plane writes the text,
 * then the status. The waiting rank reads the alarm in its wait loop.
 */
#ifndef TUTTI_CONTROL_H
#define TUTTI_CONTROL_H

#include "../bootstrap/door.h"
#include "../util/alarm.h"
#include "flight.h"

struct control;
struct control_comm;

struct control_config {
	int rank, nranks;
	const struct contact *contacts; /* of all ranks; stays valid until control_close */
	const int *host;                /* host[r]: ranks with equal numbers reach each other by local socket */
	struct door *door;
};

/** Connects to the leaders; collective in effect, but waits for nobody longer than `limit`. */
int control_open(struct control **out, const struct control_config *cfg, struct net_limit limit);
/** Says goodbye and disconnects. All its communicators were left before. Never hangs; NULL is fine. */
void control_close(struct control *c);

/** members[i]: world rank of member i, ascending in i or not; n members; me: own index. flight and alarm outlive it. */
int control_join(struct control_comm **out, struct control *c, uint64_t id, const char *name, const int *members, int n,
                 int me, struct flight *flight, struct alarm *alarm);
/** Members that wait in a call which this rank did not make get EPEER. NULL is fine. */
void control_leave(struct control_comm *cc);

/**
 * This rank has waited for `waited_ns` in call `number` (called at 50 ms and then about every 250 ms; any thread; does
 * not block). The plane compares all members' records of that number: differing ones raise EMISMATCH on all within a
 * second; a member that left raises EPEER.
 */
void control_waiting(struct control_comm *cc, uint64_t number, uint64_t waited_ns);

/**
 * The deadline passed in call `number`: asks all members where they are (for at most 1 s), raises ETIMEOUT on all with
 * the names of the late and of the silent ("rank 3 has not called allreduce #17 ... after 10.0 s; it last finished
 * allgather #16"; "rank 2 (pid 4711 on hostA) does not answer; is it stopped?"). Returns when the alarm is raised.
 */
void control_deadline(struct control_comm *cc, uint64_t number, double seconds);

/**
 * The same for a rank that waits in a send or receive: call->root is its peer, call->number counts the messages of the two
 * in that direction. A peer that has left the communicator raises EPEER, after a second in which what it sent may still come.
 */
void control_waiting_message(struct control_comm *cc, const struct call *call, uint64_t waited_ns);

/** The deadline passed in a send or receive: ETIMEOUT says what its peer is doing, or that it does not answer. */
void control_deadline_message(struct control_comm *cc, const struct call *call, double seconds);

/**
 * A transport lost its connection to world rank `rank`, or could not make one. Unless that rank turns out to have died,
 * or left in order, all communicators of both get EPEER, and shrinking leaves one of the two out.
 */
void control_lost(struct control *c, int rank, const char *how);
/** The same, but nothing comes from that rank's host at all: no rank of one of the two hosts reaches one of the other. */
void control_silent(struct control *c, int rank, const char *how);

/** Raises `status` with `text` on all members, here at once. Any thread. */
void control_raise(struct control_comm *cc, int status, const char *text);

/**
 * Shrink: every survivor calls it. The lowest reachable survivor leads; all get the same list (indices into the
 * communicator's members, ascending) and the same new id. EPEER in a partition without a majority of the members,
 * ETIMEOUT when a living member does not call it before limit.
 */
int control_shrink(struct control_comm *cc, int *survivors, int *n, uint64_t *id, struct net_limit limit);

/** TUTTI_FLIGHT: can the record be written there? Makes the file. */
int flight_check(const char *path, int rank);
/** TUTTI_FLIGHT: writes the last calls of this rank to `path` (JSON lines; %r replaced by rank). */
int flight_dump(struct flight *f, const char *path, int rank, const char *comm_name, const struct alarm *alarm);

#endif
