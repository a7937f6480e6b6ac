/* SPDX-License-Identifier: MIT */
/*
 * Every public entry: check the arguments, then dispatch. The checks are here and nowhere else; what they refuse is
 * TUTTI_EINVAL and leaves the communicator as it was.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/call.h"
#include "comm/choose.h"
#include "comm/comm.h"
#include "comm/finish.h"
#include "comm/group.h"
#include "comm/mem.h"
#include "comm/split.h"
#include "kernel/wire.h"
#include "util/cancel.h"
#include "util/error.h"
#include "util/float_env.h"
#include "util/log.h"
#include "util/service.h"

int tutti_version(void)
{
	return TUTTI_VERSION;
}

/* ---- collectives ------------------------------------------------------------------------------------------------------ */

int tutti_allreduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct args o = {
	        .coll = COLL_ALLREDUCE, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = -1};
	return call_start(c, &o, req);
}

int tutti_allgather(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct args o = {.coll = COLL_ALLGATHER, .in = in, .out = out, .count = count, .dtype = t, .root = -1};
	return call_start(c, &o, req);
}

int tutti_reduce_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                         struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {
	        .coll = COLL_REDUCE_SCATTER, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = -1};
	return call_start(c, &o, req);
}

/* -1 is "no root" inside; a caller's -1 must not pass for it. */
static int root_of(int root)
{
	return root == -1 ? -2 : root;
}

int tutti_broadcast(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct args o = {
	        .coll = COLL_BROADCAST, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call_start(c, &o, req);
}

int tutti_reduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, int root,
                 struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {
	        .coll = COLL_REDUCE, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = root_of(root)};
	return call_start(c, &o, req);
}

int tutti_gather(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                 struct tutti_request **req)
{
	struct args o = {.coll = COLL_GATHER, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call_start(c, &o, req);
}

int tutti_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                  struct tutti_request **req)
{
	struct args o = {.coll = COLL_SCATTER, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call_start(c, &o, req);
}

int tutti_alltoall(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                   struct tutti_request **req)
{
	struct args o = {.coll = COLL_ALLTOALL, .in = in, .out = out, .count = count, .dtype = t, .root = -1};
	return call_start(c, &o, req);
}

/* A v-form without its counts must not pass for the even form. */
static int need_counts(struct tutti_comm *c, const size_t *counts, struct tutti_request **req)
{
	if (counts)
		return TUTTI_OK;
	if (req)
		*req = NULL;
	return fail(TUTTI_EINVAL, "the array of counts is NULL%s%s", c ? " on " : "", c ? c->name : "");
}

int tutti_allgatherv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                     struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_ALLGATHER,
	                 .in = in,
	                 .out = out,
	                 .dtype = t,
	                 .root = -1,
	                 .parts = &(struct parts){.counts = counts, .displs = displs}};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call_start(c, &o, req);
}

int tutti_reduce_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                          enum tutti_op op, struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_REDUCE_SCATTER,
	                 .in = in,
	                 .out = out,
	                 .dtype = t,
	                 .op = op,
	                 .root = -1,
	                 .parts = &(struct parts){.counts = counts, .displs = displs}};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call_start(c, &o, req);
}

int tutti_gatherv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t, int root,
                  struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_GATHER,
	                 .in = in,
	                 .out = out,
	                 .dtype = t,
	                 .root = root_of(root),
	                 .parts = &(struct parts){.counts = counts, .displs = displs}};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call_start(c, &o, req);
}

int tutti_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t, int root,
                   struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_SCATTER,
	                 .in = in,
	                 .out = out,
	                 .dtype = t,
	                 .root = root_of(root),
	                 .parts = &(struct parts){.counts = counts, .displs = displs}};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call_start(c, &o, req);
}

int tutti_alltoallv(const void *in, const size_t *sendcounts, const size_t *senddispls, void *out,
                    const size_t *recvcounts, const size_t *recvdispls, enum tutti_dtype t, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct args o = {.coll = COLL_ALLTOALL,
	                 .in = in,
	                 .out = out,
	                 .dtype = t,
	                 .root = -1,
	                 .parts = &(struct parts){sendcounts, senddispls, recvcounts, recvdispls}};
	int rc = need_counts(c, sendcounts && recvcounts ? sendcounts : NULL, req);
	return rc ? rc : call_start(c, &o, req);
}

int tutti_barrier(struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_BARRIER, .dtype = TUTTI_U8, .root = -1};
	return call_start(c, &o, req);
}

int tutti_send(const void *in, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
               struct tutti_request **req)
{
	struct args o = {.coll = COLL_SEND, .in = in, .count = count, .dtype = t, .root = root_of(peer)};
	return call_start(c, &o, req);
}

int tutti_recv(void *out, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c, struct tutti_request **req)
{
	struct args o = {.coll = COLL_RECV, .out = out, .count = count, .dtype = t, .root = root_of(peer)};
	return call_start(c, &o, req);
}

int tutti_group_begin(void)
{
	group_begin();
	return TUTTI_OK;
}

int tutti_group_end(void)
{
	int was = cancel_disable();
	return cancel_restore(was, group_end());
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

/* A forked child must not use its parent's requests. Requests of a communicator that has ended need no check. */
static int check_requests(struct tutti_request *const *reqs, int n)
{
	int rc = TUTTI_OK;
	for (int i = 0; i < n && !rc; i++)
		if (reqs[i] && reqs[i]->comm)
			rc = comm_check(reqs[i]->comm);
	return rc;
}

int tutti_test(struct tutti_request **req, int *done)
{
	if (!req || !done)
		return fail(TUTTI_EINVAL, "tutti_test: %s is NULL", req ? "done" : "req");
	int rc = check_requests(req, 1);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : finish_test(req, done));
}

int tutti_wait(struct tutti_request **req)
{
	if (!req)
		return fail(TUTTI_EINVAL, "tutti_wait: req is NULL");
	int rc = check_requests(req, 1);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : finish_wait(req, 1, false));
}

int tutti_wait_all(struct tutti_request **reqs, int n)
{
	if (n < 0 || (n && !reqs))
		return fail(TUTTI_EINVAL, "tutti_wait_all: %d requests at %p", n, (void *)reqs);
	int rc = check_requests(reqs, n);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : finish_wait(reqs, n, false));
}

static int wait_any(struct tutti_request **reqs, int n, int *index)
{
	(void)finish_wait(reqs, n, true);
	for (int i = 0; i < n; i++) {
		int done = 0;
		if (!reqs[i])
			continue;
		int rc = finish_test(&reqs[i], &done);
		if (done) {
			*index = i;
			return rc;
		}
	}
	return TUTTI_OK;
}

int tutti_wait_any(struct tutti_request **reqs, int n, int *index)
{
	if (n < 0 || (n && !reqs) || !index)
		return fail(TUTTI_EINVAL, "tutti_wait_any: %d requests at %p, index at %p", n, (void *)reqs,
		            (void *)index);
	*index = -1;
	int rc = check_requests(reqs, n), was = cancel_disable();
	return cancel_restore(was, rc ? rc : wait_any(reqs, n, index));
}

int tutti_progress(struct tutti_comm *c)
{
	int rc = comm_check(c);
	if (rc)
		return rc;
	int was = cancel_disable();
	poll_look(c);
	return cancel_restore(was, tutti_comm_error(c));
}

int tutti_comm_fd(struct tutti_comm *c)
{
	if (comm_check(c))
		return -1;
	int was = cancel_disable();
	return cancel_restore(was, poll_fd(c));
}

int tutti_work(struct tutti_request *req, int i, int k)
{
	if (!req || k < 1 || i < 0 || i >= k)
		return fail(TUTTI_EINVAL, "tutti_work: member %d of a team of %d, request %p", i, k, (void *)req);
	int rc = check_requests(&req, 1);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : finish_work(req));
}

/* ---- communicators ------------------------------------------------------------------------------------------------------- */

int tutti_comm_rank(const struct tutti_comm *c)
{
	return c ? c->rank : -1;
}

int tutti_comm_size(const struct tutti_comm *c)
{
	return c ? c->size : -1;
}

int tutti_comm_error(const struct tutti_comm *c)
{
	return c ? atomic_load_explicit(&c->alarm.status, memory_order_acquire) : TUTTI_EINVAL; /* A5 */
}

const char *tutti_last_error(const struct tutti_comm *c)
{
	if (!c)
		return fail_text();
	return tutti_comm_error(c) ? c->alarm.text : c->error;
}

int tutti_comm_abort(struct tutti_comm *c, const char *why)
{
	int rc = comm_check(c);
	if (rc)
		return rc;
	char text[600];
	snprintf(text, sizeof(text), "rank %d aborted communicator %s: %s", c->rank, c->name,
	         why ? why : "no reason given");
	int was = cancel_disable();
	control_raise(c->control, TUTTI_EABORTED, text);
	return cancel_restore(was, TUTTI_OK);
}

int tutti_comm_destroy(struct tutti_comm *c)
{
	if (!c)
		return fail(TUTTI_EINVAL, "the communicator is NULL");
	int was = cancel_disable();
	comm_free(c);
	return cancel_restore(was, TUTTI_OK);
}

int tutti_comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	int rc = comm_check(c);
	if (!rc && !out)
		rc = fail(TUTTI_EINVAL, "tutti_comm_split: out is NULL");
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : comm_keep_error(c, comm_split(c, color, key, out)));
}

int tutti_comm_shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	int rc = comm_check(c);
	if (!rc && !out)
		rc = fail(TUTTI_EINVAL, "tutti_comm_shrink: out is NULL");
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : comm_shrink(c, out));
}

/* ---- memory --------------------------------------------------------------------------------------------------------------- */

int tutti_mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr)
{
	int rc = comm_check(c);
	if (!rc && !ptr)
		rc = fail(TUTTI_EINVAL, "tutti_mem_alloc: ptr is NULL");
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : comm_keep_error(c, mem_alloc(c, bytes, ptr)));
}

int tutti_mem_free(struct tutti_comm *c, void *ptr)
{
	int rc = comm_check(c);
	int was = cancel_disable();
	return cancel_restore(was, rc || !ptr ? rc : comm_keep_error(c, mem_free(c, ptr)));
}

int tutti_mem_register(struct tutti_comm *c, void *ptr, size_t bytes)
{
	int rc = comm_check(c);
	if (!rc && (!ptr || !bytes))
		rc = fail(TUTTI_EINVAL, "tutti_mem_register: %zu bytes at %p are no memory", bytes, ptr);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : comm_keep_error(c, mem_register(c, ptr, bytes)));
}

int tutti_mem_deregister(struct tutti_comm *c, void *ptr)
{
	int rc = comm_check(c);
	int was = cancel_disable();
	return cancel_restore(was, rc ? rc : comm_keep_error(c, mem_deregister(c, ptr)));
}

/* ---- explaining ------------------------------------------------------------------------------------------------------------ */

static int explain(const struct tutti_comm *comm, const char *coll, size_t count, enum tutti_dtype t, enum tutti_op op,
                   char *text, size_t cap)
{
	struct tutti_comm *c = (struct tutti_comm *)(uintptr_t)comm;
	int rc = comm_check(c), kind = coll ? coll_by_name(coll) : -1;
	if (!rc && (kind < 0 || kind >= COLL_COUNT || !text || !cap))
		rc = fail(TUTTI_EINVAL, "tutti_comm_explain: no collective \"%s\", or no room for text",
		          coll ? coll : "NULL");
	if (!rc)
		rc = args_check_dtype(t);
	if (!rc && coll_reduces((enum coll)kind))
		rc = args_check_op(op);
	if (rc)
		return rc;
	struct args o = {.coll = (enum coll)kind, .count = count, .dtype = t, .op = op, .root = -1};
	struct choice choice;
	char ways[64] = "";
	for (int i = 0; i < c->world->ntransports; i++)
		for (int r = 0; r < c->size; r++)
			if (r != c->rank && c->world->via[c->members[r]] == i) {
				size_t n = strlen(ways);
				snprintf(ways + n, sizeof(ways) - n, "%s%s", n ? "+" : "",
				         c->world->transport[i].t->name);
				break;
			}
	if (c->size == 1) {
		snprintf(text, cap, "copy");
		return TUTTI_OK;
	}
	if ((rc = choose_run(c, &o, &choice)) != TUTTI_OK)
		return rc;
	snprintf(text, cap, "%s%s%s %s x%d, predicted %.2f us", ways, choice.codec ? " as " : "",
	         choice.codec ? choice.codec->name : "",
	         choice.algo       ? choice.algo->name
	         : choice.two_shot ? "direct two-shot"
	                           : "direct one-shot",
	         choice.channels, choice.seconds * 1e6);
	return TUTTI_OK;
}

int tutti_comm_explain(const struct tutti_comm *comm, const char *coll, size_t count, enum tutti_dtype t,
                       enum tutti_op op, char *text, size_t cap)
{
	float_env callers = float_env_enter();
	int rc = explain(comm, coll, count, t, op, text, cap);
	float_env_leave(callers);
	return rc;
}
