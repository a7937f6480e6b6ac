/*
 * Messages of the bootstrap, on connections that proved themselves: a head, then so many bytes. A failure may take the
 * place of any message, and carries the text that the receiver reports in turn, word for word.
 */
#ifndef TUTTI_MESSAGE_H
#define TUTTI_MESSAGE_H

#include "../util/net.h"

enum message_kind {
	MESSAGE_JOIN = 1,   /* to rank 0: the sender's contact */
	MESSAGE_NEIGHBOURS, /* from rank 0: contacts of the tree's parent, then children */
	MESSAGE_READY,      /* to rank 0: connected to the neighbours */
	MESSAGE_GO,         /* from rank 0: all are */
	MESSAGE_UP,         /* all-gather: a subtree's part, to the parent */
	MESSAGE_DOWN,       /* all-gather: all of it, to the children */
	MESSAGE_FAIL,       /* instead of any: status and text */
};

struct message {
	uint32_t magic, kind;
	uint32_t status; /* of a failure */
	uint32_t zero;
	uint64_t bytes;
};

#define MESSAGE_TEXT 1000

int message_send(int fd, enum message_kind kind, const void *payload, size_t bytes, struct net_limit limit);
/** Receives a message of that kind and length. A failure in its place becomes this call's, and sets *told. */
int message_receive(int fd, enum message_kind kind, void *payload, size_t bytes, struct net_limit limit, bool *told);
/** Tells `status` and this thread's message, and hangs up. Does not block for long, keeps the message. */
void message_fail(int fd, int status);

/** What a head means where `kind` of `bytes` is awaited: TUTTI_OK, EMISMATCH, or EPEER for a failure. */
int message_check(const struct message *head, enum message_kind kind, size_t bytes);
/** Turns a failure's head and text, of any bytes, into this thread's message; never returns TUTTI_OK. */
int message_failure(const struct message *head, const char *text, size_t len);

#endif
