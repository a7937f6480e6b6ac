/* SPDX-License-Identifier: MIT */
/* Output of ranks: cut into whole lines, tagged where wanted, queued, and written when the terminal takes it. */
#ifndef TUTTI_RUN_LINES_H
#define TUTTI_RUN_LINES_H

#include "wire.h"

/** So much may wait for the ends of lines. Beyond it the line that grows is cut: memory is finite. */
#define HELD_MAX (1u << 30)

/** One of tutti-run's own outputs. */
struct sink {
	int fd;
	struct buf queue;
	size_t written;  /* of the queue; it is dropped in large pieces */
	int error;       /* errno of a write: what comes from then on is dropped */
	size_t held;     /* bytes of lines without an end yet, of all ranks */
	size_t held_max; /* 0: HELD_MAX */
	bool cut;        /* a line was cut */
};

/** One output of one rank: the line that is not complete yet. */
struct lines {
	struct buf part;
};

/** tag: "[3] " or ""; raw: pass bytes on as they come. */
void lines_add(struct lines *l, struct sink *s, const char *tag, bool raw, const char *data, size_t len);
/** The stream ended: what is left becomes a line. */
void lines_end(struct lines *l, struct sink *s, const char *tag);

void sink_add(struct sink *s, const char *data, size_t len);
/** Bytes that wait to be written. */
size_t sink_waiting(const struct sink *s);
/** Writes what goes without blocking, whole lines in one write where a pipe's atomic size allows. */
void sink_flush(struct sink *s);

#endif
