/*
 * Tutti: collective communication for tensors that live in ordinary memory.
 *
 * This is the whole public interface. It is plain C, usable from C11, C++17 and any foreign-function interface: handles
 * are opaque, every function but the few that return a size or a string returns a status (TUTTI_OK == 0).
 *
 * Conventions that hold for every collective
 *   - Ranks of a communicator are 0 .. size-1. All of them call the same collectives in the same order.
 *   - `count` is in elements. Where a buffer holds one part per rank, `count` is the length of one part.
 *   - Buffers need no alignment. They must not overlap, except for the in-place forms named with each call.
 *   - `req == NULL`: the call blocks until this rank's buffers may be used again and its result is there.
 *     Otherwise it returns at once and fills `*req`; finish it with tutti_test, tutti_wait, tutti_wait_all or
 *     tutti_wait_any, and leave the buffers alone until then.
 *   - All ranks receive identical bits. The floating-point environment of the calling threads (rounding mode, flushing of
 *     subnormals, unmasked exceptions) has no effect on results: Tutti computes in the default environment and restores the
 *     caller's. Inputs such as NaN or subnormals never raise SIGFPE. Which exception flags are set afterwards is unspecified.
 *   - What each computes is what the MPI standard (4.0, chapters 3 and 6) gives its namesake; the order of arguments and
 *     the in-place forms are NCCL's. Algorithms are chosen per call; `tutti-info --algorithms` lists them with their sources.
 *   - Threads: one thread at a time may be inside calls on one communicator (different communicators are independent);
 *     tutti_comm_abort and tutti_comm_error may be called by any thread at any time.
 *   - Cancellation (pthread_cancel): no call is a cancellation point. A thread that is cancelled in a call finishes it, and
 *     cancellation acts at the thread's next cancellation point after it. To end a call sooner, abort its communicator. The
 *     caller's own functions (tutti_oob, log) run with cancellation disabled. PTHREAD_CANCEL_ASYNCHRONOUS is not supported
 *     in calls.
 *   - The end of a process that has not destroyed its communicators: when it returns from main or calls exit after its last
 *     call, calls that it took part in end well on all ranks, and a further one fails with EPEER, which names it. When it is
 *     killed, crashes or calls _exit, it died, and calls under way on other ranks may fail. docs/errors.md says more.
 *
 * Errors
 *   TUTTI_EINVAL means that nothing happened and the communicator is as healthy as before. Every other error puts the
 *   communicator out of use: it can be aborted, shrunk or destroyed, and each further call returns the same error; except
 *   TUTTI_EUSAGE, and the TUTTI_ENOMEM of tutti_mem_alloc, which concern that one call.
 *   Any collective or message may end with EPEER, ETIMEOUT, EMISMATCH, EABORTED, EAUTH, ENOMEM, ESYSTEM or EUNSUPPORTED.
 *   tutti_last_error says what was tried, on what, with whom, and what to do.
 */
#ifndef TUTTI_H
#define TUTTI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUTTI_VERSION_MAJOR 0
#define TUTTI_VERSION_MINOR 1
#define TUTTI_VERSION_PATCH 0
/** Version as one number: major * 10000 + minor * 100 + patch. */
#define TUTTI_VERSION (TUTTI_VERSION_MAJOR * 10000 + TUTTI_VERSION_MINOR * 100 + TUTTI_VERSION_PATCH)

#if defined(__GNUC__)
#define TUTTI_API __attribute__((visibility("default")))
#else
#define TUTTI_API
#endif

/* ---- errors ------------------------------------------------------------------------------------------------------ */

enum tutti_status {
	TUTTI_OK = 0,
	TUTTI_EINVAL = 1,        /* a bad argument: nothing happened, *req stays NULL */
	TUTTI_EUSAGE = 2,        /* a call out of place: a forked child, a destroyed or nested use */
	TUTTI_ENOMEM = 3,        /* out of memory or shared memory */
	TUTTI_ESYSTEM = 4,       /* a system call failed; the message names it and its errno */
	TUTTI_ETIMEOUT = 5,      /* a deadline passed; the message names who is late */
	TUTTI_EPEER = 6,         /* a rank died or can't be reached */
	TUTTI_EMISMATCH = 7,     /* ranks called different things */
	TUTTI_EABORTED = 8,      /* tutti_comm_abort was called, here or by another rank */
	TUTTI_EAUTH = 9,         /* a secret is missing or wrong */
	TUTTI_EUNSUPPORTED = 10, /* this build or machine can't do it */
	TUTTI_STATUS_MAX_ = 0x7fffffff
};

/** Short name and meaning of a status. Never NULL; any thread. */
TUTTI_API const char *tutti_strerror(int status);

struct tutti_comm;
struct tutti_request;

/**
 * The full text of the last error: of communicator `c`, or of this thread's last failed call when `c` is NULL. Never
 * NULL; "" when nothing failed. The text stays valid until the next call on `c` (or of this thread).
 */
TUTTI_API const char *tutti_last_error(const struct tutti_comm *c);

/* ---- types and operations ---------------------------------------------------------------------------------------- */

enum tutti_dtype {
	TUTTI_I8 = 0,
	TUTTI_U8 = 1,
	TUTTI_I16 = 2,
	TUTTI_U16 = 3,
	TUTTI_I32 = 4,
	TUTTI_U32 = 5,
	TUTTI_I64 = 6,
	TUTTI_U64 = 7,
	TUTTI_F16 = 8, /* IEEE binary16 */
	TUTTI_BF16 = 9,
	TUTTI_F32 = 10,
	TUTTI_F64 = 11,
	TUTTI_F8E4M3 = 12, /* OCP FP8: no infinity, overflow becomes NaN */
	TUTTI_F8E5M2 = 13, /* OCP FP8: overflow becomes infinity */
	TUTTI_DTYPE_MAX_ = 0x7fffffff
};

/**
 * Integers wrap; AVG is the sum divided by the number of ranks once, last (integers truncate towards zero). MIN and MAX
 * order -0 before +0 and propagate NaN; every NaN result is the type's canonical quiet NaN. Values from 0x100 are
 * reserved.
 */
enum tutti_op {
	TUTTI_SUM = 0,
	TUTTI_PROD = 1,
	TUTTI_MIN = 2,
	TUTTI_MAX = 3,
	TUTTI_AVG = 4,
	TUTTI_OP_MAX_ = 0x7fffffff
};

/** Bytes of one element; 0 for an unknown type. Any thread. */
TUTTI_API size_t tutti_dtype_size(enum tutti_dtype t);

/** TUTTI_VERSION of the library that is linked. */
TUTTI_API int tutti_version(void);

/* ---- communicators ----------------------------------------------------------------------------------------------- */

/** What the processes of a job need to find each other: rank 0's address and the job's secret. Hand it over privately. */
struct tutti_unique_id {
	char bytes[128];
};

/** Who drives a request while the application computes. */
enum tutti_progress_mode {
	TUTTI_PROGRESS_CALLER = 0, /* it moves inside any Tutti call of the thread that issued it */
	TUTTI_PROGRESS_THREAD = 1, /* also by itself, by a thread that sleeps while nothing is in flight */
	TUTTI_PROGRESS_MAX_ = 0x7fffffff
};

enum tutti_log_level {
	TUTTI_LOG_ERROR = 1,
	TUTTI_LOG_WARN = 2,
	TUTTI_LOG_INFO = 3,
	TUTTI_LOG_DEBUG = 4,
	TUTTI_LOG_MAX_ = 0x7fffffff
};

/**
 * The caller's own all-gather, in place of Tutti's rendezvous: each rank gives `bytes` bytes at `in` and receives
 * nranks * bytes at `out`, in rank order. It returns 0, or anything else for failure. It must be private to the job:
 * the job's secret travels in it. It is called only from inside tutti_comm_create.
 */
struct tutti_oob {
	void *ctx;
	int (*allgather)(void *ctx, const void *in, void *out, size_t bytes);
};

/** Options of a communicator. Initialise with TUTTI_CONFIG_INIT, then set fields; zero means the default. */
struct tutti_config {
	size_t size;          /* sizeof(struct tutti_config) */
	const char *name;     /* shown in messages; default "world" */
	double timeout;       /* seconds a rank waits in one collective; default TUTTI_TIMEOUT or 600 */
	double start_timeout; /* seconds for start-up; default TUTTI_START_TIMEOUT or 60 */
	enum tutti_progress_mode progress;
	const char *transport; /* as TUTTI_TRANSPORT, which it overrides: "shm,tcp" or "^shm" */
	struct tutti_oob oob;
	void (*log)(void *ctx, enum tutti_log_level level, const char *line); /* default: TUTTI_LOG to stderr */
	void *log_ctx;
	int encrypt; /* 1: as TUTTI_ENCRYPT=1, on all ranks: data between hosts is encrypted */
};
#ifdef __cplusplus
#define TUTTI_CONFIG_INIT                                                                                              \
	{                                                                                                              \
		sizeof(struct tutti_config), NULL, 0, 0, TUTTI_PROGRESS_CALLER, NULL, {NULL, NULL}, NULL, NULL, 0      \
	}
#else
#define TUTTI_CONFIG_INIT                                                                                              \
	{                                                                                                              \
		.size = sizeof(struct tutti_config)                                                                    \
	}
#endif

/**
 * Make the communicator that the launcher's environment describes; alone, without a launcher, one of size 1. The
 * environments understood, in order: TUTTI_RANK/SIZE/ROOT, torchrun, PMI (MPICH), Open MPI, Slurm, MLX.
 * cfg may be NULL. A process may call it again, after destroying what it made or beside it: each call makes a communicator
 * of all ranks, which make them in the same order; calls of several threads take turns. Errors: EINVAL (a variable is
 * malformed), EAUTH, ETIMEOUT, EMISMATCH, EPEER, ESYSTEM, ENOMEM.
 */
TUTTI_API int tutti_comm_from_env(struct tutti_comm **comm, const struct tutti_config *cfg);

/**
 * Make an id and open its listener; the calling process must then become rank 0. Errors: EINVAL (id is NULL, a variable is
 * malformed), ESYSTEM, ENOMEM. Any thread.
 */
TUTTI_API int tutti_unique_id_create(struct tutti_unique_id *id);

/**
 * Make a communicator of nranks processes or threads that all call this with the same id. With cfg->oob set, `id` may
 * be NULL. Blocks until all ranks are there or start_timeout passes. On error *comm is NULL and nothing is left open.
 * Errors: as of tutti_comm_from_env; EUSAGE (rank 0 is not in the process that made the id).
 */
TUTTI_API int tutti_comm_create(struct tutti_comm **comm, int nranks, const struct tutti_unique_id *id, int rank,
                                const struct tutti_config *cfg);

/**
 * Make nranks communicators of one world whose ranks are threads of this process: comms[i] is rank i's. Called by one
 * thread; each communicator is then used by a thread of its own. Errors: EINVAL, ENOMEM, ESYSTEM; all comms are NULL then.
 */
TUTTI_API int tutti_comm_create_threads(struct tutti_comm **comms, int nranks, const struct tutti_config *cfg);

/**
 * Collective over `comm`: ranks of equal color form a new communicator, ordered by key, then by old rank. A negative
 * color gives *out == NULL. Errors: EINVAL, and those of any collective.
 */
TUTTI_API int tutti_comm_split(struct tutti_comm *comm, int color, int key, struct tutti_comm **out);

/**
 * After a failure: called by every survivor, makes a communicator of the living, in their old order. The old one stays
 * to be destroyed. A partition without a majority of the old ranks gets TUTTI_EPEER; ETIMEOUT names survivors that did not
 * call it within the start-up timeout, and it may be called again.
 */
TUTTI_API int tutti_comm_shrink(struct tutti_comm *comm, struct tutti_comm **out);

/** This process's rank; the number of ranks. -1 for NULL. */
TUTTI_API int tutti_comm_rank(const struct tutti_comm *comm);
TUTTI_API int tutti_comm_size(const struct tutti_comm *comm);

/** TUTTI_OK while the communicator is healthy, else the status that every call returns. Any thread. */
TUTTI_API int tutti_comm_error(const struct tutti_comm *comm);

/** From any thread: all calls in progress, on every rank, return TUTTI_EABORTED with `why`. Frees nothing. */
TUTTI_API int tutti_comm_abort(struct tutti_comm *comm, const char *why);

/** Local, never hangs. No thread may be inside a call on it; requests that are left complete with TUTTI_EABORTED. */
TUTTI_API int tutti_comm_destroy(struct tutti_comm *comm);

/**
 * Write to `text` how a call would be done here and now: transports, algorithm, channels, chunk. `coll` is the name of
 * the call without its prefix ("allreduce"), the other arguments are the call's; `op` is ignored where there is none.
 * The text is for people, always terminated, cut at `cap` bytes. Local; every rank gets the same choice. Errors: EINVAL.
 */
TUTTI_API int tutti_comm_explain(const struct tutti_comm *c, const char *coll, size_t count, enum tutti_dtype t,
                                 enum tutti_op op, char *text, size_t cap);

/* ---- collectives ------------------------------------------------------------------------------------------------- */

/** out[i] = op over ranks of in[i], on every rank. in, out: count elements. In place: in == out. */
TUTTI_API int tutti_allreduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                              struct tutti_comm *c, struct tutti_request **req);

/** out = the ranks' parts in rank order. in: count; out: size * count. In place: in == out + rank * count. */
TUTTI_API int tutti_allgather(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                              struct tutti_request **req);

/** out = part `rank` of the reduction. in: size * count; out: count. In place: out == in + rank * count. */
TUTTI_API int tutti_reduce_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                                   struct tutti_comm *c, struct tutti_request **req);

/** out on every rank = in on root. in is read on root only. In place: in == out. */
TUTTI_API int tutti_broadcast(const void *in, void *out, size_t count, enum tutti_dtype t, int root,
                              struct tutti_comm *c, struct tutti_request **req);

/** out on root = the reduction of all in. out is used on root only. In place on root: in == out. */
TUTTI_API int tutti_reduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, int root,
                           struct tutti_comm *c, struct tutti_request **req);

/** out on root = the ranks' parts in rank order. in: count; out: size * count, root only. In place: in == out + root * count. */
TUTTI_API int tutti_gather(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                           struct tutti_request **req);

/** out = part `rank` of root's in. in: size * count, root only; out: count. In place: out == in + root * count on root. */
TUTTI_API int tutti_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                            struct tutti_request **req);

/** Part j of in goes to part `rank` of rank j's out. in, out: size * count. No in-place form. */
TUTTI_API int tutti_alltoall(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                             struct tutti_request **req);

/*
 * The v-forms: rank j's part has counts[j] elements (the same array on every rank) and stands at displs[j] elements in
 * the buffer that holds all parts; displs == NULL means packed. Only a rank's own displs matter to it. Zero counts are
 * allowed, and compared like others: ranks whose counts differ get EMISMATCH. The displs of such parts are ignored. The arrays
 * are copied before the call returns. In place: as above, with displs[rank] in place of rank * count.
 */
TUTTI_API int tutti_allgatherv(const void *in, void *out, const size_t *counts, const size_t *displs,
                               enum tutti_dtype t, struct tutti_comm *c, struct tutti_request **req);
TUTTI_API int tutti_reduce_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs,
                                    enum tutti_dtype t, enum tutti_op op, struct tutti_comm *c,
                                    struct tutti_request **req);
TUTTI_API int tutti_gatherv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                            int root, struct tutti_comm *c, struct tutti_request **req);
TUTTI_API int tutti_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                             int root, struct tutti_comm *c, struct tutti_request **req);

/**
 * sendcounts[j] elements at in + senddispls[j] go to rank j, whose recvcounts[rank] must be equal, also where it is 0
 * (else EMISMATCH on all ranks); they stand there at recvdispls[rank]. displs: in elements, NULL means packed. The
 * arrays are copied. No in-place form.
 */
TUTTI_API int tutti_alltoallv(const void *in, const size_t *sendcounts, const size_t *senddispls, void *out,
                              const size_t *recvcounts, const size_t *recvdispls, enum tutti_dtype t,
                              struct tutti_comm *c, struct tutti_request **req);

/** Returns when every rank has entered it. */
TUTTI_API int tutti_barrier(struct tutti_comm *c, struct tutti_request **req);

/** Bytes of a message that its sender need not wait with for the receiver: see tutti_send. */
#define TUTTI_EAGER_BYTES 4096

/**
 * Point to point. Messages between two ranks match in the order in which they were issued; count and type must be equal
 * on both sides (else EMISMATCH on both; a message of no elements is compared like any other). A send to oneself pairs
 * with a receive from oneself.
 *
 * A send of up to TUTTI_EAGER_BYTES is done when it has left, the first one to a rank like later ones: whether that rank is
 * about to receive it, or is in a call at all, makes no difference, as long as fewer than four messages of this rank wait to
 * be received there. It arrives also when this rank destroys the communicator meanwhile. A longer send may wait for its
 * receive: exchange those inside a group. Over verbs and libfabric the first send of a pair on a communicator also waits
 * until the other rank sends to or receives from this one, or, when the two have exchanged something before, is in any call.
 */
TUTTI_API int tutti_send(const void *in, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
                         struct tutti_request **req);
TUTTI_API int tutti_recv(void *out, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
                         struct tutti_request **req);

/**
 * Between begin and end, of one thread, calls only start: sends, receives and collectives of several communicators then
 * run concurrently. Calls with req == NULL are done when tutti_group_end returns. Groups nest; the outermost end counts.
 * tutti_group_end returns the first error.
 */
TUTTI_API int tutti_group_begin(void);
TUTTI_API int tutti_group_end(void);

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/** Make progress; *done = 1 and *req = NULL once finished. Returns the operation's status. NULL *req is done. */
TUTTI_API int tutti_test(struct tutti_request **req, int *done);

/** Block until finished; sets *req = NULL, also on error. */
TUTTI_API int tutti_wait(struct tutti_request **req);

/** Block until all are finished; returns the first error. NULL entries are done. */
TUTTI_API int tutti_wait_all(struct tutti_request **reqs, int n);

/** Block until one is finished; *index says which (-1 when all entries are NULL). */
TUTTI_API int tutti_wait_any(struct tutti_request **reqs, int n, int *index);

/** Move whatever is in flight on `c`, without blocking. Returns TUTTI_OK or the communicator's error. */
TUTTI_API int tutti_progress(struct tutti_comm *c);

/**
 * A descriptor that polls readable when tutti_progress or tutti_test would help, for epoll, kqueue or poll loops. When it
 * is readable call tutti_progress, which makes it quiet until there is more, then test what is in flight. It belongs to the
 * communicator; do not read or close it. -1 on failure.
 */
TUTTI_API int tutti_comm_fd(struct tutti_comm *c);

/**
 * Member i of a team of k threads helps with `req` until it is finished: long copies and reductions are shared out among
 * the members that are there. Each member may come when it is ready; ranks may have teams of different sizes, or none.
 * After all members have returned, tutti_wait or tutti_test by one thread ends the request; nobody does before. Returns the
 * operation's status. Errors: EINVAL (k < 1, i not in 0..k-1, no request). Threads: this is the one call that several
 * threads make on a request at once.
 */
TUTTI_API int tutti_work(struct tutti_request *req, int i, int k);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/**
 * Memory that peers on the same host can read in place, and RDMA cards can send from; zeroed, aligned to 4096 bytes. A local
 * call. What is not freed ends with the communicator; freed is what no call uses; freeing NULL is no error. Errors: EINVAL
 * (ptr is NULL; freed is what was not allocated), ENOMEM.
 */
TUTTI_API int tutti_mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr);
TUTTI_API int tutti_mem_free(struct tutti_comm *c, void *ptr);

/**
 * Registers memory of your own with the RDMA cards that this rank uses: long messages, and long pieces that a collective only
 * sends, then go from where they stand, as they do from tutti_mem_alloc. A local call. The range stays mapped until
 * tutti_mem_deregister of the same ptr, or until the communicator ends: a card keeps on reading the pages that it was told of,
 * also when the address has got others. A range that is registered twice is deregistered twice.
 * It does nothing, and is no error, where nothing would be gained: on one host peers read your memory in place anyway; TCP and
 * libfabric take no registrations; and a card that has no room for the range gets copies, as without.
 * Errors: EINVAL (ptr is NULL or bytes is 0; ptr is not registered on this communicator), ENOMEM.
 */
TUTTI_API int tutti_mem_register(struct tutti_comm *c, void *ptr, size_t bytes);
TUTTI_API int tutti_mem_deregister(struct tutti_comm *c, void *ptr);

#ifdef __cplusplus
}
#endif
#endif
