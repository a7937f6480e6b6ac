/* SPDX-License-Identifier: MIT */
/*
 * Tutti: collective communication for tensors in ordinary memory.
 *
 * This header is the whole public interface. It is plain C and can be used from C11, C++17 and any foreign-function
 * interface. Handles are opaque. Functions return a status (TUTTI_OK == 0), except the few that return a size, a number
 * or a string.
 *
 * Collectives
 *   - The ranks of a communicator are 0 to size-1. All of them must call the same collectives in the same order.
 *   - `count` is a number of elements. Where a buffer holds one part per rank, `count` is the length of one part.
 *   - Buffers need no alignment. Buffers must not overlap, except in the in-place forms listed with each function.
 *   - With `req == NULL` the call blocks until its result is available and this rank's buffers can be reused. Otherwise
 *     the call returns at once and stores a request in `*req`. Do not touch the buffers until the request is complete.
 *     Complete it with tutti_test, tutti_wait, tutti_wait_all or tutti_wait_any.
 *   - All ranks receive bit-identical results. The floating-point environment of the calling thread (rounding mode,
 *     flushing of subnormals, unmasked exceptions) does not affect them: Tutti computes in the default environment and
 *     restores the caller's. NaN and subnormal inputs never raise SIGFPE. The exception flags are unspecified after a
 *     call.
 *   - Each collective computes what its namesake in the MPI standard (4.0, chapters 3 and 6) computes. The argument
 *     order and the in-place forms are NCCL's. Tutti chooses an algorithm for each call. `tutti-info --algorithms`
 *     lists the algorithms and their sources.
 *
 * Threads
 *   - Only one thread at a time may be inside a call on a given communicator. Different communicators are independent.
 *   - Any thread may call tutti_comm_abort and tutti_comm_error at any time. Several threads may be inside tutti_work
 *     for the same request.
 *   - No call is a cancellation point. If a thread is cancelled (pthread_cancel) inside a call, the call completes, and
 *     the cancellation acts at the thread's next cancellation point. Abort the communicator to end a call sooner.
 *     Functions that the caller supplies (tutti_oob, log) run with cancellation disabled. Calls do not support
 *     PTHREAD_CANCEL_ASYNCHRONOUS.
 *
 * Processes that end without destroying their communicators
 *   - If the process returns from main or calls exit after its last call has completed, the calls it took part in
 *     complete on all ranks. A later call fails with TUTTI_EPEER, and the error text names the process.
 *   - If the process is killed, crashes or calls _exit, it counts as dead, and calls in progress on other ranks may
 *     fail.
 *   See docs/errors.md.
 *
 * Errors
 *   - TUTTI_EINVAL means that the call had no effect. The communicator can still be used.
 *   - TUTTI_EUSAGE, and TUTTI_ENOMEM from tutti_mem_alloc and tutti_mem_register, affect only the call that returns
 *     them.
 *   - Any other error disables the communicator: every further call on it returns the same error. It can then only be
 *     aborted, shrunk or destroyed.
 *   - Any collective or message can fail with EPEER, ETIMEOUT, EMISMATCH, EABORTED, EAUTH, ENOMEM, ESYSTEM or
 *     EUNSUPPORTED.
 *   - tutti_last_error returns a text that says what was attempted, on what, with which rank, and what to do.
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
	TUTTI_EINVAL = 1,        /* invalid argument; the call had no effect, *req is NULL */
	TUTTI_EUSAGE = 2,        /* not allowed here, for example in a forked child */
	TUTTI_ENOMEM = 3,        /* out of memory or shared memory */
	TUTTI_ESYSTEM = 4,       /* a system call failed; the text names it and its errno */
	TUTTI_ETIMEOUT = 5,      /* a deadline passed; the text names the late rank */
	TUTTI_EPEER = 6,         /* a rank died or is unreachable */
	TUTTI_EMISMATCH = 7,     /* ranks made different calls */
	TUTTI_EABORTED = 8,      /* tutti_comm_abort was called, here or by another rank */
	TUTTI_EAUTH = 9,         /* a secret is missing or wrong */
	TUTTI_EUNSUPPORTED = 10, /* not supported by this build or machine */
	TUTTI_STATUS_MAX_ = 0x7fffffff
};

/** Return the name and meaning of a status. Never returns NULL. Any thread may call it. */
TUTTI_API const char *tutti_strerror(int status);

struct tutti_comm;
struct tutti_request;

/**
 * Return the text of the last error of communicator `c`, or of the calling thread's last failed call if `c` is NULL.
 * Never returns NULL; returns "" if nothing failed. The text is valid until the next call on `c` (until the thread's
 * next call if `c` is NULL).
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
	TUTTI_F8E4M3 = 12, /* OCP FP8 without infinity: overflow becomes NaN */
	TUTTI_F8E5M2 = 13, /* OCP FP8: overflow becomes infinity */
	TUTTI_DTYPE_MAX_ = 0x7fffffff
};

/**
 * Reduction operations. Integer overflow wraps around. AVG divides the complete sum once by the number of ranks;
 * integer division truncates towards zero. MIN and MAX order -0 before +0 and propagate NaN. Every NaN result is the
 * canonical quiet NaN of its type. Values from 0x100 are reserved.
 */
enum tutti_op {
	TUTTI_SUM = 0,
	TUTTI_PROD = 1,
	TUTTI_MIN = 2,
	TUTTI_MAX = 3,
	TUTTI_AVG = 4,
	TUTTI_OP_MAX_ = 0x7fffffff
};

/** Return the size of one element in bytes, or 0 for an unknown type. Any thread may call it. */
TUTTI_API size_t tutti_dtype_size(enum tutti_dtype t);

/** Return the TUTTI_VERSION of the library in use. Any thread may call it. */
TUTTI_API int tutti_version(void);

/* ---- communicators ----------------------------------------------------------------------------------------------- */

/** Rank 0's address and the job's secret, which all processes of the job need. Distribute it over a private channel. */
struct tutti_unique_id {
	char bytes[128];
};

/** How a request makes progress while the application computes. */
enum tutti_progress_mode {
	TUTTI_PROGRESS_CALLER = 0, /* only inside Tutti calls of the thread that issued it */
	TUTTI_PROGRESS_THREAD = 1, /* also in a background thread, which sleeps when idle */
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
 * An all-gather supplied by the caller, used instead of Tutti's rendezvous. Each rank contributes `bytes` bytes at `in`
 * and receives nranks * bytes bytes at `out`, in rank order. It returns 0 on success and any other value on failure. It
 * must be private to the job, because it carries the job's secret. Tutti calls it only while a communicator is being
 * created.
 */
struct tutti_oob {
	void *ctx;
	int (*allgather)(void *ctx, const void *in, void *out, size_t bytes);
};

/** Options of a communicator. Initialize with TUTTI_CONFIG_INIT, then set fields. Zero means the default. */
struct tutti_config {
	size_t size;          /* sizeof(struct tutti_config) */
	const char *name;     /* appears in error and log texts; default "world" */
	double timeout;       /* seconds a collective may stand still; default TUTTI_TIMEOUT or 600 */
	double start_timeout; /* seconds for start-up; default TUTTI_START_TIMEOUT or 60 */
	enum tutti_progress_mode progress;
	const char *transport; /* overrides TUTTI_TRANSPORT, same syntax: "shm,tcp" or "^shm" */
	struct tutti_oob oob;
	void (*log)(void *ctx, enum tutti_log_level level, const char *line); /* default: stderr, at level TUTTI_LOG */
	void *log_ctx;
	int encrypt; /* 1: encrypt data between hosts, as TUTTI_ENCRYPT=1; same on all ranks */
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
 * Create a communicator from the launcher's environment. Without a launcher, the communicator has size 1. Environments
 * are recognized in this order: TUTTI_RANK/SIZE/ROOT, torchrun, PMI (MPICH), Open MPI, Slurm, MLX. cfg may be NULL.
 *
 * A process may call this several times, before or after destroying earlier communicators. Each call creates a
 * communicator of all ranks, and all ranks must create them in the same order. Any thread may call it; concurrent calls
 * are serialized.
 *
 * Errors: EINVAL (a variable is malformed), EAUTH, ETIMEOUT, EMISMATCH, EPEER, ESYSTEM, ENOMEM.
 */
TUTTI_API int tutti_comm_from_env(struct tutti_comm **comm, const struct tutti_config *cfg);

/**
 * Create an id and open the listener it names. The calling process must then become rank 0. Any thread may call it.
 *
 * Errors: EINVAL (id is NULL, or a variable is malformed), ESYSTEM, ENOMEM.
 */
TUTTI_API int tutti_unique_id_create(struct tutti_unique_id *id);

/**
 * Create a communicator of nranks processes or threads that all call this with the same id. `id` may be NULL if
 * cfg->oob is set. cfg may be NULL. Blocks until all ranks have joined or start_timeout has passed. On error *comm is
 * NULL and all resources are released.
 *
 * Errors: those of tutti_comm_from_env, and EUSAGE (rank 0 is not in the process that created the id).
 */
TUTTI_API int tutti_comm_create(struct tutti_comm **comm, int nranks, const struct tutti_unique_id *id, int rank,
                                const struct tutti_config *cfg);

/**
 * Create nranks communicators whose ranks are threads of this process. comms[i] belongs to rank i. One thread calls
 * this. Each communicator is then used by its own thread. On error all comms[i] are NULL.
 *
 * Errors: EINVAL, ENOMEM, ESYSTEM.
 */
TUTTI_API int tutti_comm_create_threads(struct tutti_comm **comms, int nranks, const struct tutti_config *cfg);

/**
 * Split `comm`. Ranks with the same color form a new communicator, ordered by key and then by rank in `comm`. A rank
 * that passes a negative color gets *out == NULL. All ranks of `comm` must call this.
 *
 * Errors: EINVAL, and those of any collective.
 */
TUTTI_API int tutti_comm_split(struct tutti_comm *comm, int color, int key, struct tutti_comm **out);

/**
 * Create a communicator of the surviving ranks after a failure. Every survivor must call this. The survivors keep their
 * order. The caller still has to destroy the old communicator.
 *
 * Errors: EPEER on ranks that are not in a majority partition of the old ranks (see docs/errors.md). ETIMEOUT if a
 * survivor does not call this within the start-up timeout; the text names it, and the caller may try again.
 */
TUTTI_API int tutti_comm_shrink(struct tutti_comm *comm, struct tutti_comm **out);

/** Return the caller's rank in `comm`, or -1 if `comm` is NULL. */
TUTTI_API int tutti_comm_rank(const struct tutti_comm *comm);

/** Return the number of ranks of `comm`, or -1 if `comm` is NULL. */
TUTTI_API int tutti_comm_size(const struct tutti_comm *comm);

/** Return TUTTI_OK if `comm` can be used, else the status that every call on it returns. Any thread may call it. */
TUTTI_API int tutti_comm_error(const struct tutti_comm *comm);

/**
 * Abort `comm`. All calls in progress, on every rank, return TUTTI_EABORTED. `why` appears in their error texts; it may
 * be NULL. The communicator still has to be destroyed. Any thread may call it.
 *
 * Errors: EINVAL (comm is NULL), EUSAGE.
 */
TUTTI_API int tutti_comm_abort(struct tutti_comm *comm, const char *why);

/**
 * Destroy `comm`. This is a local operation and never hangs. No other thread may be inside a call on `comm`. Requests
 * that are still pending complete with TUTTI_EABORTED.
 *
 * Errors: EINVAL (comm is NULL).
 */
TUTTI_API int tutti_comm_destroy(struct tutti_comm *comm);

/**
 * Describe how a call would be carried out: transports, algorithm, channels and predicted time. `coll` is the name of
 * the call without its prefix, for example "allreduce". `count`, `t` and `op` are the call's arguments; `op` is ignored
 * if the call does not reduce. The text is meant for people. It is truncated to `cap` bytes, including the terminating
 * zero. This is a local operation. The choice is the same on every rank.
 *
 * Errors: EINVAL.
 */
TUTTI_API int tutti_comm_explain(const struct tutti_comm *c, const char *coll, size_t count, enum tutti_dtype t,
                                 enum tutti_op op, char *text, size_t cap);

/* ---- collectives ------------------------------------------------------------------------------------------------- */

/*
 * Errors of every function in this section: EINVAL, EUSAGE, and those listed under "Errors" at the top of this header.
 * Buffer lengths are in elements. `size` is the number of ranks, `rank` is the caller's rank.
 */

/**
 * Reduce `in` element by element over all ranks and store the result in `out` on every rank.
 * in: count. out: count. In place: in == out.
 */
TUTTI_API int tutti_allreduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                              struct tutti_comm *c, struct tutti_request **req);

/**
 * Gather the `in` of all ranks, in rank order, into `out` on every rank.
 * in: count. out: size * count. In place: in == out + rank * count.
 */
TUTTI_API int tutti_allgather(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                              struct tutti_request **req);

/**
 * Reduce `in` element by element over all ranks and store part `rank` of the result in `out`.
 * in: size * count. out: count. In place: out == in + rank * count.
 */
TUTTI_API int tutti_reduce_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                                   struct tutti_comm *c, struct tutti_request **req);

/**
 * Copy the root's `in` to `out` on every rank. `in` is used on root only.
 * in: count. out: count. In place: in == out.
 */
TUTTI_API int tutti_broadcast(const void *in, void *out, size_t count, enum tutti_dtype t, int root,
                              struct tutti_comm *c, struct tutti_request **req);

/**
 * Reduce `in` element by element over all ranks and store the result in the root's `out`. `out` is used on root only.
 * in: count. out: count. In place on root: in == out.
 */
TUTTI_API int tutti_reduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, int root,
                           struct tutti_comm *c, struct tutti_request **req);

/**
 * Gather the `in` of all ranks, in rank order, into the root's `out`. `out` is used on root only.
 * in: count. out: size * count. In place on root: in == out + root * count.
 */
TUTTI_API int tutti_gather(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                           struct tutti_request **req);

/**
 * Copy part `rank` of the root's `in` to `out`. `in` is used on root only.
 * in: size * count. out: count. In place on root: out == in + root * count.
 */
TUTTI_API int tutti_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                            struct tutti_request **req);

/**
 * Copy part j of `in` to part `rank` of rank j's `out`, for every rank j.
 * in: size * count. out: size * count. There is no in-place form.
 */
TUTTI_API int tutti_alltoall(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                             struct tutti_request **req);

/*
 * The v-forms. Rank j's part has counts[j] elements and starts at element displs[j] of the buffer that holds all parts.
 * displs == NULL means that the parts are packed in rank order. `counts` must be the same on every rank, including
 * zeros, else the ranks get EMISMATCH. `displs` may differ between ranks. The displacement of an empty part is ignored.
 * Both arrays are copied before the call returns. The in-place forms are those above, with displs[rank] in place of
 * rank * count.
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
 * Copy sendcounts[j] elements, starting at element senddispls[j] of `in`, to rank j. There they start at element
 * recvdispls[rank] of `out`. Rank j's recvcounts[rank] must equal sendcounts[j], also if it is 0, else all ranks get
 * EMISMATCH. Displacements that are NULL mean packed parts. All arrays are copied before the call returns. There is no
 * in-place form.
 */
TUTTI_API int tutti_alltoallv(const void *in, const size_t *sendcounts, const size_t *senddispls, void *out,
                              const size_t *recvcounts, const size_t *recvdispls, enum tutti_dtype t,
                              struct tutti_comm *c, struct tutti_request **req);

/** Complete once every rank has entered the barrier. */
TUTTI_API int tutti_barrier(struct tutti_comm *c, struct tutti_request **req);

/** Largest message, in bytes, that tutti_send completes without waiting for the receiver. */
#define TUTTI_EAGER_BYTES 4096

/**
 * Send `count` elements to rank `peer`, or receive them from it. Messages between two ranks match in the order in which
 * they were issued. Count and type must be equal on both sides, also for empty messages, else both ranks get EMISMATCH.
 * A send to the caller's own rank matches a receive from it.
 *
 * A send of up to TUTTI_EAGER_BYTES completes as soon as it has left this rank. The receiver need not have issued the
 * receive or be inside any call, and the first message to a rank is no exception. The message arrives even if the
 * sender destroys the communicator in the meantime. This holds while fewer than four messages of this rank are waiting
 * at the receiver; beyond that, a send may wait.
 *
 * A longer send may wait for its receive. Use a group to exchange long messages.
 *
 * Over verbs and libfabric, the first send from one rank to another on a communicator also waits for the other rank to
 * send to or receive from this rank. If the two have communicated before, it is enough that the other rank is inside
 * any call.
 */
TUTTI_API int tutti_send(const void *in, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
                         struct tutti_request **req);
TUTTI_API int tutti_recv(void *out, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
                         struct tutti_request **req);

/**
 * Group calls. Calls that a thread makes between tutti_group_begin and tutti_group_end only start; they may belong to
 * several communicators, and they run concurrently. Calls with req == NULL are complete when tutti_group_end returns.
 * Groups nest; only the outermost tutti_group_end completes calls. tutti_group_end returns the first error.
 */
TUTTI_API int tutti_group_begin(void);
TUTTI_API int tutti_group_end(void);

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/**
 * Make progress without blocking. If the request is complete, set *done to 1 and *req to NULL and return the status of
 * the operation. Otherwise set *done to 0. A NULL *req counts as complete.
 */
TUTTI_API int tutti_test(struct tutti_request **req, int *done);

/**
 * Block until the request is complete and return its status. Sets *req to NULL, also on error. NULL *req is complete.
 */
TUTTI_API int tutti_wait(struct tutti_request **req);

/** Block until all n requests are complete and return the first error. NULL entries count as complete. */
TUTTI_API int tutti_wait_all(struct tutti_request **reqs, int n);

/**
 * Block until one request is complete, store its index in *index and return its status. If all are NULL, *index is -1.
 */
TUTTI_API int tutti_wait_any(struct tutti_request **reqs, int n, int *index);

/** Make progress on all requests of `c` without blocking. Returns TUTTI_OK or the communicator's error. */
TUTTI_API int tutti_progress(struct tutti_comm *c);

/**
 * Return a file descriptor for poll, epoll or kqueue, or -1 on failure. It is readable when tutti_progress or
 * tutti_test can make progress. When it is readable, call tutti_progress, which clears it until there is more to do,
 * and then test the pending requests. The communicator owns the descriptor; do not read or close it.
 */
TUTTI_API int tutti_comm_fd(struct tutti_comm *c);

/**
 * Help to complete `req` as member i of a team of k threads, and return its status once it is complete. Members that
 * are inside this call share long copies and reductions. Members may enter at different times. Ranks may have teams of
 * different sizes, or none. Complete the request from one thread with tutti_wait or tutti_test, after every member has
 * returned. This is the only function that several threads may call on the same request at the same time.
 *
 * Errors: EINVAL (req is NULL, k < 1, or i is not in 0..k-1), and those of the operation.
 */
TUTTI_API int tutti_work(struct tutti_request *req, int i, int k);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/**
 * Allocate memory that peers on the same host can read in place and that RDMA cards can send from. It is zeroed and
 * aligned to 4096 bytes. Both functions are local. Memory still allocated is released when the communicator is
 * destroyed. Do not free a buffer that a call is still using. Freeing NULL is a no-op.
 *
 * Errors: EINVAL (ptr is NULL in tutti_mem_alloc; the memory was not allocated on this communicator), ENOMEM.
 */
TUTTI_API int tutti_mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr);
TUTTI_API int tutti_mem_free(struct tutti_comm *c, void *ptr);

/**
 * Register the caller's own memory with the RDMA cards that this rank uses. Cards can then send long messages, and long
 * pieces that a collective only forwards, directly from it, as from tutti_mem_alloc. Both functions are local.
 *
 * Keep the range mapped until tutti_mem_deregister is called with the same ptr or the communicator is destroyed: a card
 * continues to read the registered pages even if other pages are mapped at that address. A range that is registered
 * twice must be deregistered twice.
 *
 * Registration is a hint. It succeeds without effect where it cannot help: peers on the same host read any memory in
 * place, and TCP and libfabric do not use registrations. If a card has no room for the range, data is copied as without
 * it.
 *
 * Errors: EINVAL (ptr is NULL, bytes is 0, or ptr is not registered on this communicator), ENOMEM.
 */
TUTTI_API int tutti_mem_register(struct tutti_comm *c, void *ptr, size_t bytes);
TUTTI_API int tutti_mem_deregister(struct tutti_comm *c, void *ptr);

#ifdef __cplusplus
}
#endif
#endif
