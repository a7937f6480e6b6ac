/* Output of ranks: cut into whole lines, tagged where wanted, queued, and written when the terminal takes it. */
#ifndef TUTTI_RUN_LINES_H
#define TUTTI_RUN_LINES_H

#include "wire.h"

/** A line longer than this is cut: memory is finite. */
#define LINE_LONG (1u << 20)

/** One of tutti-run's own outputs. */
struct sink {
	int fd;
	struct buf queue;
	bool broken; /* nobody reads it any more; what comes is dropped */
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
/** Writes what goes without blocking, whole lines in one write where a pipe's atomic size allows. */
void sink_flush(struct sink *s);

#endif
