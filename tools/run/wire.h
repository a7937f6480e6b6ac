/* SPDX-License-Identifier: MIT */
/*
 * What tutti-run and its agents say to each other: frames over one byte stream per host, in buffers that grow. The head
 * starts an agent on every host, sends it the job, learns where rank 0 will listen, and tells all to go.
 *
 *   head -> agent    JOB, GO, INPUT, SIGNAL
 *   agent -> head    READY, OUTPUT, ERRORS, TAKEN, CLOSED, JOINING, EXIT, FAILED
 *
 * The end of the stream, for whatever reason, tells the agent to end what it started, by SIGTERM and after HARSHER_S by
 * SIGKILL: that is what keeps a host clean when the head or the network dies.
 */
#ifndef TUTTI_RUN_WIRE_H
#define TUTTI_RUN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** First bytes of an agent. Output of a login shell before them is skipped. */
#define WIRE_HELLO     "\n:tutti-run agent 3:\n"
#define WIRE_HELLO_LEN (sizeof(WIRE_HELLO) - 1)

#define HARSHER_S 2.0 /* from SIGTERM to SIGKILL */
#define FRAME_MAX (16u << 20)
#define INPUT_MAX 32768u

enum frame_kind {
	FRAME_JOB = 1, /* struct job, packed */
	FRAME_GO,      /* TUTTI_ROOT: start the ranks */
	FRAME_INPUT,   /* bytes for a rank's stdin, at most INPUT_MAX before its TAKEN; none: end of file */
	FRAME_SIGNAL,  /* u32: send this signal to the process groups of all ranks */
	FRAME_READY,   /* the job is understood; from the host of rank 0: where its listener can be reached */
	FRAME_OUTPUT,  /* bytes of a rank's stdout */
	FRAME_ERRORS,  /* bytes of a rank's stderr */
	FRAME_TAKEN,   /* the rank's INPUT was written: send more */
	FRAME_CLOSED,  /* the rank reads its stdin no more */
	FRAME_JOINING, /* the rank begins to join the job's next world, which needs all ranks */
	FRAME_EXIT,    /* u32: wait status, 256 * exit status or the signal; all output came before */
	FRAME_FAILED,  /* u32 exit status, then text: nothing can run here */
};

/** Bytes on their way. Zero is empty; running out of memory ends the program. */
struct buf {
	char *data;
	size_t len, cap;
};

void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_u32(struct buf *b, uint32_t value);
void buf_drop(struct buf *b, size_t len); /* from the front */
void buf_free(struct buf *b);
/** One read into b; the result of read(2), EINTR apart. Ends with EAGAIN on non-blocking files. */
ssize_t buf_fill(struct buf *b, int fd);
/** Writes as much of b as fd takes; false when fd is broken. */
bool buf_flush(struct buf *b, int fd);

struct frame {
	uint32_t kind, rank, len;
	const char *data; /* into the buffer: gone with the next buf_drop */
};

void frame_add(struct buf *b, enum frame_kind kind, int rank, const void *data, size_t len);
void frame_add_u32(struct buf *b, enum frame_kind kind, int rank, uint32_t value);
/** 1: *f is the frame at *at, which moves behind it (drop those bytes when done); 0: not all there yet; -1: garbage. */
int frame_next(const struct buf *b, size_t *at, struct frame *f);
/** The u32 at the start of the payload; 0 when there is none. */
uint32_t frame_u32(const struct frame *f);

/** What an agent must know. The strings belong to the packed frame's copy in `text`. */
struct job {
	int size, count; /* so many of the job's ranks run on this host */
	int *rank;       /* which ones, in ascending order */
	bool everywhere; /* false: all ranks of the job are on this host */
	bool cwd_must;   /* the user named cwd: it is an error where it is missing */
	int input;       /* which ranks read stdin: enum run_input */
	const char *bind, *secret, *cwd;
	int nenv, argc;
	char **env;  /* NAME=VALUE */
	char **argv; /* NULL-terminated */
	char *text;
};

enum run_input { INPUT_FIRST, INPUT_ALL, INPUT_NONE };

void job_pack(struct buf *b, const struct job *job);
/** False: the frame is not a job. The job must be freed either way. */
bool job_unpack(struct job *job, const char *data, size_t len);
void job_free(struct job *job);

#endif
