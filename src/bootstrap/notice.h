/* SPDX-License-Identifier: MIT */
/*
 * Notices of the bootstrap, on connections that proved themselves: a head, then so many bytes, sealed. A failure may
 * take the place of any notice, and carries the text that the receiver reports in turn, word for word.
 */
#ifndef TUTTI_NOTICE_H
#define TUTTI_NOTICE_H

#include "../util/seal.h"

enum notice_kind {
	NOTICE_JOIN = 1,   /* to rank 0: the sender's contact */
	NOTICE_NEIGHBOURS, /* from rank 0: contacts of the tree's parent, then children */
	NOTICE_READY,      /* to rank 0: connected to the neighbours */
	NOTICE_GO,         /* from rank 0: all are */
	NOTICE_UP,         /* all-gather: a subtree's part, to the parent */
	NOTICE_DOWN,       /* all-gather: all of it, to the children */
	NOTICE_KEY,        /* from rank 0, before JOIN: the job's key, where no secret was given */
	NOTICE_FAIL,       /* instead of any: status and text */
	NOTICE_LATER, /* from rank 0, before JOIN is heard: it is still in the world that the joiner was in; dial again */
};

struct notice {
	uint32_t magic, kind;
	uint32_t status; /* of a failure */
	uint32_t zero;
	uint64_t bytes;
};

#define NOTICE_TEXT 1000

int notice_send(const struct session *s, enum notice_kind kind, const void *payload, size_t bytes,
                struct net_limit limit);
/** What came in the place of the notice that was awaited. */
enum told { TOLD_NOTHING, TOLD_FAILURE, TOLD_LATER };

/** Receives a notice of that kind and length. A failure in its place becomes this call's; EPEER when it was LATER. */
int notice_receive(const struct session *s, enum notice_kind kind, void *payload, size_t bytes, struct net_limit limit,
                   enum told *told);
/** Tells `status` and this thread's message, and hangs up. Does not block for long, keeps the message. */
void notice_fail(struct session *s, int status);
/** Tells a joiner to come again, and hangs up. */
void notice_later(struct session *s);

/** What a head means where `kind` of `bytes` is awaited: TUTTI_OK, EMISMATCH, or EPEER for a failure. */
int notice_check(const struct notice *head, enum notice_kind kind, size_t bytes);
/** Turns a failure's head and text, of any bytes, into this thread's message; never returns TUTTI_OK. */
int notice_failure(const struct notice *head, const char *text, size_t len);

#endif
