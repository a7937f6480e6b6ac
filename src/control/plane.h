/* SPDX-License-Identifier: MIT */
/*
 * Inside the control plane: its state and what its parts offer each other. All of it is guarded by the service lock.
 *
 *   conn.c      messages on connections: parsing, sealing, buffers, hang-ups
 *   tree.c      which rank connects to which, now and after a death
 *   control.c   life of the plane and of communicators; the table of messages; alarms
 *   failure.c   deaths and lost connections, and what they mean for communicators
 *   compare.c   mismatched, late and silent calls
 *   shutdown.c  leaving in order
 *   shrink.c    agreement on the survivors
 *   flight.c    the recorder
 *
 * Every message goes to everyone: a rank that has not seen it handles it and passes it on over its other connections.
 * Two ranks of each host and two ranks of all have a connection to the rest, so one stopped or dead process
 * does not cut off any other.
 */
#ifndef TUTTI_CONTROL_PLANE_H
#define TUTTI_CONTROL_PLANE_H

#include <pthread.h>
#include <stddef.h>

#include "../util/clock.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"
#include "../util/service.h"
#include "control.h"

#define MS       UINT64_C(1000000)
#define TEXT_CAP 1000 /* of an alarm's text, and of a message's */
#define EARLY    32   /* messages kept for communicators that this rank has not joined yet */
#define PARTED   64   /* communicators this rank has left, of which it tells a new neighbour */
#define REPORTS  8    /* calls per communicator whose waiting ranks the plane remembers */

/* ---- messages ---------------------------------------------------------------------------------------------------- */

enum message_type {
	MSG_HERE = 1, /* first on each connection */
	MSG_GONE,     /* rank a is gone: value is an enum rank_state */
	MSG_CUT,      /* a and b can't reach each other; value: nor can the rest of their hosts; text: how */
	MSG_LEAVE,    /* rank a left the communicator; call: its last; value: its process ended without destroying it */
	MSG_REPORT,   /* the sender waits in `call` */
	MSG_ASK,      /* where are you? */
	MSG_STATUS,   /* here: call was started last, `value` finished last */
	MSG_RAISE,    /* alarm: value is the status, and the text */
	MSG_JOIN,     /* the sender shrinks, for the a-th time */
	MSG_PREPARE,  /* the leader proposes: a-th time, id value, text: bits of the members that survive */
	MSG_ACK,      /* the sender agrees with id value */
	MSG_COMMIT,   /* all agreed; as PREPARE */
	MSG_MESSAGE,  /* before STATUS: the sender waits in message `call`; number 0: in none */
	MSG_TYPES
};

/** As it travels, in host byte order: the bootstrap has compared it. `text` is as long as `length` says. */
struct message {
	uint32_t length; /* of everything */
	uint32_t type;
	int32_t from;  /* who says it */
	uint32_t seq;  /* counts what `from` said, from 1 */
	uint64_t comm; /* id; GONE and CUT: unused */
	int32_t a, b;
	uint64_t value;
	struct call call;    /* number 0: none */
	char text[TEXT_CAP]; /* ends with NUL once parsed */
};

#define MESSAGE_HEAD offsetof(struct message, text)
#define MESSAGE_TEXT (TEXT_CAP - 1)
#define FRAME_MOST   (sizeof(struct message) + SEAL_EXTRA)
_Static_assert(MESSAGE_HEAD == 72, "no padding travels");

/**
 * The message at the start of len bytes: 0 when more are needed, its length when *out was filled, -1 when it cannot be
 * a message of a world of nranks.
 */
int conn_parse(const void *buf, size_t len, int nranks, struct message *out);

/* ---- state ------------------------------------------------------------------------------------------------------- */

enum rank_state { ALIVE, LEFT, DEAD };

/** One connection to another rank. */
struct conn {
	struct conn *next;
	struct control *c;
	struct seal *seal;
	int rank, fd, process; /* process: readable when it has ended; -1 where the peer's process can't be watched */
	int error;             /* of a failed send, for the reader to tell */
	bool reading, full;    /* full: the peer does not read, the service says when it does */
	bool greeted;          /* the peer has sent something: it was not closing when we connected */
	size_t nin, nout, cap_out;
	char *out;
	char in[8 * FRAME_MOST];
};

/** What was seen of a rank's messages: the last number, and which of the 64 up to it. */
struct window {
	uint32_t last;
	uint64_t mask;
};

/** A transport's complaint, kept for a moment: the better reason may be on its way. */
struct complaint {
	struct complaint *next;
	struct control *c;
	int rank;
	bool hosts; /* also for the other ranks of the two hosts */
	char how[300];
};

/** This rank left a communicator, after this call. */
struct parting {
	uint64_t comm;
	struct call last;
	bool ended; /* by the end of the process */
};

struct control {
	struct control *next; /* of this process */
	int rank, n;
	const struct contact *contacts;
	const int *host;
	struct door *door;

	uint8_t *state;   /* enum rank_state of each rank */
	uint8_t *cut;     /* [a * n + b]: a and b lost each other */
	bool cuts;        /* there are any */
	uint8_t *lost;    /* the result for the cuts: which ranks are unreachable from the rest */
	uint8_t *scratch; /* of the judge */
	struct window *seen;
	uint32_t seq;

	struct conn *conns;
	struct control_comm *comms;
	struct complaint *complaints;
	struct message *early[EARLY];
	unsigned nearly;

	_Atomic uint32_t news; /* word on which threads sleep that wait for the plane to learn something */
	int sleepers;
	_Atomic int stop; /* the plane closes */
	bool leaving;     /* and says goodbye; taken: a rank that stays has received it */
	bool taken;
	struct parting parted[PARTED];
	unsigned nparted, parted_said; /* how many it has left; how many of these the others were told of */
	pthread_t dialler;
	uint64_t overdue;       /* when to dial the ranks that should have dialled */
	bool dialling, dialled; /* the thread exists; has ended */
	uint8_t *refused;       /* how often a rank could not be dialled */
};

/** What is known of a member. */
struct member {
	uint64_t finished, heard; /* heard: when its status came; 0: not since it was asked */
	struct call call;         /* started last */
	struct call message;      /* the send or receive that it waits in; number 0: none */
	bool left;                /* the communicator */
	bool left_after;          /* it has said so: after `call` */
	bool ended;               /* and without destroying the communicator */
	uint64_t joined;          /* how often it called shrink */
	bool agreed;
};

struct report {
	struct call call;
	int member;
	uint64_t at; /* when it was last passed on */
};

struct shrink {
	uint64_t round; /* how often this rank called it */
	bool waiting;
	uint64_t id, committed; /* the proposal; the round whose list is final */
	uint8_t *list;          /* bits of members */
	uint64_t quorum_since;  /* when this side was first seen without a majority; 0: it has one */
};

struct control_comm {
	struct control_comm *next;
	struct control *c;
	uint64_t id;
	char prefix[64]; /* "communicator tp: ", or "" */
	int n, me;
	int *members; /* world ranks */
	struct flight *flight;
	struct alarm *alarm;
	struct member *m;
	struct report reports[REPORTS];
	bool told; /* its alarm was passed on */
	uint64_t
	        failing; /* a rank is gone: when the text is due at the latest; earlier if all living ranks have reported their calls */
	bool after_death; /* a rank died: not earlier, because what it had sent may be all that a call needs */
	char why[400];
	struct call waits;     /* the message that this rank was last seen waiting in... */
	uint64_t waits_behind; /* ...as long as so many messages have finished */
	struct shrink shrink;
};

/* ---- conn.c ------------------------------------------------------------------------------------------------------ */

/** Add a connection. Takes ownership of the session, also on error. Sends the new neighbour what this rank knows. */
int conn_add(struct control *c, int rank, struct session session);
bool conn_exists(const struct control *c, int rank);
/** Handle everything that the rank sent before: its last messages count. */
void conn_drain(struct control *c, int rank);
/** Send queued messages and free closed connections: at the end of a turn, with no connection in use. */
void conn_flush_all(struct control *c);
void conn_close_all(struct control *c);
/** Send queued messages and free nothing: also in the middle of a turn. */
void conn_send_all(struct control *c);
/** The application closed our descriptors: do not send to or read from their numbers any more. */
void conn_lose_all(struct control *c);
void conn_close(struct conn *w);
/** Queue m on all connections but one. */
void conn_broadcast(struct control *c, const struct message *m, const struct conn *except);
void conn_put(struct conn *w, const struct message *m);

/* ---- tree.c ------------------------------------------------------------------------------------------------------ */

/** Dial missing connections, in this thread: at the start. */
int tree_grow(struct control *c, struct net_limit limit);
/** Dial missing connections soon, in a separate thread: after a death. */
void tree_mend(struct control *c);
void tree_stop(struct control *c);
bool tree_reachable(const struct control *c, int rank);
/** Connect to a rank; the lock is released meanwhile. */
int tree_dial(struct control *c, int rank, struct net_limit limit);

/* ---- control.c --------------------------------------------------------------------------------------------------- */

/**
 * Send m to all other ranks, after what shutdown_leave_comm has kept. from, seq and, if it is 0, length (from the text)
 * are filled in.
 */
void plane_broadcast(struct control *c, struct message *m);
/** The same, but ahead of the kept messages. */
void plane_broadcast_first(struct control *c, struct message *m);
/** Send m to one neighbour. */
void plane_send(struct conn *w, struct message *m);
/** Handle a message that came over `from`. */
void plane_handle(struct control *c, const struct message *m, struct conn *from);
/** Send a new neighbour what it may have missed. */
void plane_send_state(struct conn *w);
/** Wake the threads in plane_wait. */
void plane_notify(struct control *c);
/** Sleep until plane_notify or `until`; the lock is released meanwhile. */
void plane_wait(struct control *c, uint64_t until);
/** End a turn: send queued messages, release the lock. */
void plane_turn_end(struct control *c);
/** The alarm as a message. */
struct message plane_alarm_message(const struct control_comm *cc);
void plane_raise_here(struct control_comm *cc, int status, const char *text);
void plane_raise_all(struct control_comm *cc, int status, const char *text);
bool plane_healthy(const struct control_comm *cc);
/** Index of a world rank in the communicator; -1. */
int plane_member(const struct control_comm *cc, int rank);
/** "rank 2 (pid 4711 on hostA)", by the communicator's numbers. */
const char *plane_rank_text(const struct control_comm *cc, int member, char buf[128]);
/** Appends to text. */
void plane_append(char *text, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/** Appends "rank 2" or "ranks 0 2-5". */
void plane_append_ranks(char *text, size_t cap, const uint8_t *set, int n);
void plane_broadcast_status(struct control_comm *cc);
/** This rank's last started call, and the number of its last finished one. */
struct call plane_last_call(const struct control_comm *cc);
uint64_t plane_last_finished(const struct control_comm *cc);
/** The send or receive that this rank waits in; number 0: none. */
struct call plane_waited_message(const struct control_comm *cc);
/** What a member waits in, a message or another call; NULL: nothing. */
const struct call *plane_waits_in(const struct member *m);

/* ---- failure.c --------------------------------------------------------------------------------------------------- */

/** A rank is gone (LEFT or DEAD): note it, and raise the alarm of its communicators soon. */
void failure_rank_gone(struct control *c, int rank, enum rank_state state);
/** a and b, or their whole hosts, lost each other. */
void failure_ranks_cut(struct control *c, int a, int b, bool hosts, const char *how);
/** As above, from this rank's own observation: informs the others first. */
void failure_saw_gone(struct control *c, int rank);
void failure_saw_cut(struct control *c, int rank, bool hosts, const char *how);
/** Raise the alarm of a failing communicator if all living ranks have reported their calls. */
void failure_check_pending(struct control_comm *cc);
void failure_cancel_pending(struct control_comm *cc);
/** On joining: a member may be gone already. */
void failure_note_known(struct control_comm *cc);
void failure_free_complaints(struct control *c);
/** Is this member neither gone nor out of reach? */
bool failure_living(const struct control_comm *cc, int member);

/* ---- compare.c --------------------------------------------------------------------------------------------------- */

void compare_report(struct control_comm *cc, const struct message *m, struct conn *from);
/** Raise EPEER if this rank waits in a call that a member left without making. */
void compare_left(struct control_comm *cc);

/* ---- shutdown.c -------------------------------------------------------------------------------------------------- */

/**
 * Say goodbye, and wait (not for long, and not after `until`) until a rank that stays has received it. The lock is
 * released meanwhile.
 */
void shutdown_goodbye(struct control *c, uint64_t until);
/** While this rank leaves: the other end has hung up. */
void shutdown_taken(struct conn *w);
/**
 * This rank left a communicator. The others are informed within LEAVE_DELAY, and before any other message, so that a
 * rank that makes and frees many communicators wakes the others' service threads once for many of them.
 */
void shutdown_leave_comm(struct control *c, const struct parting *p);
/** Send what shutdown_leave_comm has kept. */
void shutdown_announce(struct control *c);
/** Send a new neighbour the last communicators that this rank left. */
void shutdown_send_state(struct conn *w);
/** Nothing more will be sent. */
void shutdown_cancel(struct control *c);

/* ---- shrink.c ---------------------------------------------------------------------------------------------------- */

void shrink_on_join(struct control_comm *cc, const struct message *m, struct conn *from);
void shrink_on_prepare(struct control_comm *cc, const struct message *m, struct conn *from);
void shrink_on_ack(struct control_comm *cc, const struct message *m, struct conn *from);
void shrink_on_commit(struct control_comm *cc, const struct message *m, struct conn *from);

/* ---- flight.c ---------------------------------------------------------------------------------------------------- */

/** As call_text without the number: "allreduce (4096 x bf16, sum)". */
char *call_what(const struct call *c, char *buf, size_t cap);

#endif
