/*
 * Every public entry: check the arguments, then dispatch. The checks are here and nowhere else; what they refuse is
 * TUTTI_EINVAL and leaves the communicator as it was.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm.h"
#include "util/error.h"
#include "util/log.h"
#include "util/service.h"

int tutti_version(void)
{
	return TUTTI_VERSION;
}

/* ---- checks --------------------------------------------------------------------------------------------------------- */

/* Keeps the thread's message as the communicator's, for tutti_last_error. */
static int keep(struct tutti_comm *c, int rc)
{
	if (rc && c && !atomic_load_explicit(&c->alarm.status, memory_order_acquire)) /* A5 */
		snprintf(c->error, sizeof(c->alarm.text), "%s", fail_text());
	return rc;
}

static int check_comm(const struct tutti_comm *c)
{
	if (!c)
		return fail(TUTTI_EINVAL, "the communicator is NULL");
	if (c->world->forks != service_forks)
		return fail(TUTTI_EUSAGE, "communicator %s was made before fork(): a child process must make its own",
		            c->name);
	return TUTTI_OK;
}

static int check_type(enum tutti_dtype t)
{
	return (unsigned)t < KERNEL_DTYPES ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown element type %d", (int)t);
}

static int check_op(enum tutti_op op)
{
	return (unsigned)op < KERNEL_OPS ? TUTTI_OK : fail(TUTTI_EINVAL, "unknown reduction operation %d", (int)op);
}

static int check_rank(const struct tutti_comm *c, int rank, const char *what)
{
	if (rank >= 0 && rank < c->size)
		return TUTTI_OK;
	return fail(TUTTI_EINVAL, "%s %d is not a rank of %s (0 to %d)", what, rank, c->name, c->size - 1);
}

/* Bytes of `parts` parts of count elements, without overflow. */
static int check_bytes(size_t count, size_t parts, enum tutti_dtype t, size_t *bytes)
{
	size_t n;
	if (__builtin_mul_overflow(count, parts, &n) || __builtin_mul_overflow(n, dtype_bytes(t), bytes) ||
	    *bytes > PTRDIFF_MAX)
		return fail(TUTTI_EINVAL, "%zu x %zu elements of %zu bytes are more than memory can hold", count, parts,
		            dtype_bytes(t));
	return TUTTI_OK;
}

/* Sum of the v-forms' counts, and that all parts lie within what can be addressed. */
static int check_counts(const struct tutti_comm *c, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                        const char *what, size_t *span)
{
	size_t at = 0, bytes;
	*span = 0;
	if (!counts)
		return fail(TUTTI_EINVAL, "%s is NULL", what);
	for (int r = 0; r < c->size; r++) {
		size_t end, begin = displs ? displs[r] : at;
		if (__builtin_add_overflow(begin, counts[r], &end) || check_bytes(end, 1, t, &bytes) != 0)
			return fail(TUTTI_EINVAL, "%s[%d] = %zu reaches beyond what memory can hold", what, r,
			            counts[r]);
		at = end;
		if (counts[r] && bytes > *span)
			*span = bytes;
	}
	return TUTTI_OK;
}

static int check_buffer(const void *p, size_t bytes, const char *name)
{
	if (bytes && !p)
		return fail(TUTTI_EINVAL, "%s is NULL, but %zu bytes of it are needed", name, bytes);
	return TUTTI_OK;
}

/* `in` and `out` may only meet where `in_place` says. */
static int check_overlap(const void *in, size_t in_bytes, const void *out, size_t out_bytes, const void *expect_in,
                         const void *expect_out)
{
	const char *a = in, *b = out;
	if (!in_bytes || !out_bytes || a + in_bytes <= b || b + out_bytes <= a)
		return TUTTI_OK;
	if (expect_in && a == expect_in && b == expect_out)
		return TUTTI_OK;
	return fail(TUTTI_EINVAL, "in and out overlap, and not in the form that counts as in place");
}

struct extent_of {
	size_t in, out;       /* bytes that the call reads and writes on this rank */
	size_t in_at, out_at; /* in place: in + in_at == out + out_at */
};

static int check_buffers(const struct op *op, const struct extent_of *x)
{
	int rc = check_buffer(op->in, x->in, "in");
	if (!rc)
		rc = check_buffer(op->out, x->out, "out");
	if (rc)
		return rc;
	const char *in = op->in, *out = op->out;
	bool meets = x->in && x->out && in + x->in_at == out + x->out_at && op->coll != COLL_ALLTOALL;
	return check_overlap(in, x->in, out, x->out, meets ? in : NULL, out);
}

/* What a call touches, by collective. parts: size for buffers that hold all ranks' parts. */
static int measure(const struct tutti_comm *c, const struct op *op, struct extent_of *x)
{
	size_t n = (size_t)c->size, one, all, part, esize = dtype_bytes(op->dtype);
	bool root = op->root == c->rank;
	int rc;
	if (op->counts) {
		rc = check_counts(c, op->counts, op->displs, op->dtype, op->rcounts ? "sendcounts" : "counts", &all);
		one = rc ? 0 : op->counts[c->rank] * esize;
		size_t before = 0;
		for (int r = 0; r < c->rank; r++)
			before += op->counts[r];
		part = (op->displs ? op->displs[c->rank] : before) * esize;
	} else {
		rc = check_bytes(op->count, 1, op->dtype, &one);
		rc = rc ? rc : check_bytes(op->count, n, op->dtype, &all);
		part = (size_t)c->rank * one;
	}
	if (rc)
		return rc;
	*x = (struct extent_of){0};
	switch (op->coll) {
	case COLL_ALLREDUCE:
		*x = (struct extent_of){one, one, 0, 0};
		break;
	case COLL_BROADCAST:
		*x = (struct extent_of){root ? one : 0, one, 0, 0};
		break;
	case COLL_REDUCE:
		*x = (struct extent_of){one, root ? one : 0, 0, 0};
		break;
	case COLL_ALLGATHER:
		*x = (struct extent_of){one, all, 0, part};
		break;
	case COLL_REDUCE_SCATTER:
		*x = (struct extent_of){all, one, part, 0};
		break;
	case COLL_GATHER:
		*x = (struct extent_of){one, root ? all : 0, 0, part};
		break;
	case COLL_SCATTER:
		*x = (struct extent_of){root ? all : 0, one, part, 0};
		break;
	case COLL_ALLTOALL:
		*x = (struct extent_of){all, all, 0, 0};
		if (op->rcounts)
			rc = check_counts(c, op->rcounts, op->rdispls, op->dtype, "recvcounts", &x->out);
		if (!rc && op->rcounts && op->rcounts[c->rank] != op->counts[c->rank])
			rc = fail(TUTTI_EINVAL, "rank %d sends %zu elements to itself, but receives %zu", c->rank,
			          op->counts[c->rank], op->rcounts[c->rank]);
		break;
	case COLL_SEND:
		x->in = one;
		break;
	case COLL_RECV:
		x->out = one;
		break;
	default:
		break;
	}
	return rc;
}

static int call(struct tutti_comm *c, const struct op *op, struct tutti_request **req)
{
	struct extent_of x;
	if (req)
		*req = NULL;
	int rc = check_comm(c);
	if (rc)
		return rc;
	rc = check_type(op->dtype);
	if (!rc)
		rc = check_op(op->op);
	if (!rc && op->root != -1)
		rc = check_rank(c, op->root, op->coll == COLL_SEND || op->coll == COLL_RECV ? "peer" : "root");
	if (!rc)
		rc = measure(c, op, &x);
	if (!rc)
		rc = check_buffers(op, &x);
	rc = rc ? fail_while(rc, "tutti_%s%s", coll_name(op->coll), op->counts ? "v" : "") : request_start(c, op, req);
	if (rc)
		group_failed(rc);
	return keep(c, rc);
}

/* ---- collectives ------------------------------------------------------------------------------------------------------ */

int tutti_allreduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct op o = {.coll = COLL_ALLREDUCE, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = -1};
	return call(c, &o, req);
}

int tutti_allgather(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct op o = {.coll = COLL_ALLGATHER, .in = in, .out = out, .count = count, .dtype = t, .root = -1};
	return call(c, &o, req);
}

int tutti_reduce_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op,
                         struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {
	        .coll = COLL_REDUCE_SCATTER, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = -1};
	return call(c, &o, req);
}

/* -1 is "no root" inside; a caller's -1 must not pass for it. */
static int root_of(int root)
{
	return root == -1 ? -2 : root;
}

int tutti_broadcast(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct op o = {.coll = COLL_BROADCAST, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call(c, &o, req);
}

int tutti_reduce(const void *in, void *out, size_t count, enum tutti_dtype t, enum tutti_op op, int root,
                 struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {
	        .coll = COLL_REDUCE, .in = in, .out = out, .count = count, .dtype = t, .op = op, .root = root_of(root)};
	return call(c, &o, req);
}

int tutti_gather(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                 struct tutti_request **req)
{
	struct op o = {.coll = COLL_GATHER, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call(c, &o, req);
}

int tutti_scatter(const void *in, void *out, size_t count, enum tutti_dtype t, int root, struct tutti_comm *c,
                  struct tutti_request **req)
{
	struct op o = {.coll = COLL_SCATTER, .in = in, .out = out, .count = count, .dtype = t, .root = root_of(root)};
	return call(c, &o, req);
}

int tutti_alltoall(const void *in, void *out, size_t count, enum tutti_dtype t, struct tutti_comm *c,
                   struct tutti_request **req)
{
	struct op o = {.coll = COLL_ALLTOALL, .in = in, .out = out, .count = count, .dtype = t, .root = -1};
	return call(c, &o, req);
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
	struct op o = {.coll = COLL_ALLGATHER,
	               .in = in,
	               .out = out,
	               .dtype = t,
	               .root = -1,
	               .counts = counts,
	               .displs = displs};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call(c, &o, req);
}

int tutti_reduce_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t,
                          enum tutti_op op, struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {.coll = COLL_REDUCE_SCATTER,
	               .in = in,
	               .out = out,
	               .dtype = t,
	               .op = op,
	               .root = -1,
	               .counts = counts,
	               .displs = displs};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call(c, &o, req);
}

int tutti_gatherv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t, int root,
                  struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {.coll = COLL_GATHER,
	               .in = in,
	               .out = out,
	               .dtype = t,
	               .root = root_of(root),
	               .counts = counts,
	               .displs = displs};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call(c, &o, req);
}

int tutti_scatterv(const void *in, void *out, const size_t *counts, const size_t *displs, enum tutti_dtype t, int root,
                   struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {.coll = COLL_SCATTER,
	               .in = in,
	               .out = out,
	               .dtype = t,
	               .root = root_of(root),
	               .counts = counts,
	               .displs = displs};
	int rc = need_counts(c, counts, req);
	return rc ? rc : call(c, &o, req);
}

int tutti_alltoallv(const void *in, const size_t *sendcounts, const size_t *senddispls, void *out,
                    const size_t *recvcounts, const size_t *recvdispls, enum tutti_dtype t, struct tutti_comm *c,
                    struct tutti_request **req)
{
	struct op o = {.coll = COLL_ALLTOALL,
	               .in = in,
	               .out = out,
	               .dtype = t,
	               .root = -1,
	               .counts = sendcounts,
	               .displs = senddispls,
	               .rcounts = recvcounts,
	               .rdispls = recvdispls};
	int rc = need_counts(c, sendcounts && recvcounts ? sendcounts : NULL, req);
	return rc ? rc : call(c, &o, req);
}

int tutti_barrier(struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {.coll = COLL_BARRIER, .dtype = TUTTI_U8, .root = -1};
	return call(c, &o, req);
}

int tutti_send(const void *in, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c,
               struct tutti_request **req)
{
	struct op o = {.coll = COLL_SEND, .in = in, .count = count, .dtype = t, .root = root_of(peer)};
	return call(c, &o, req);
}

int tutti_recv(void *out, size_t count, enum tutti_dtype t, int peer, struct tutti_comm *c, struct tutti_request **req)
{
	struct op o = {.coll = COLL_RECV, .out = out, .count = count, .dtype = t, .root = root_of(peer)};
	return call(c, &o, req);
}

int tutti_group_begin(void)
{
	group_begin();
	return TUTTI_OK;
}

int tutti_group_end(void)
{
	return group_end();
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

/* A forked child has no part in its parent's requests. Those of a communicator that has ended stand for themselves. */
static int check_requests(struct tutti_request *const *reqs, int n)
{
	int rc = TUTTI_OK;
	for (int i = 0; i < n && !rc; i++)
		if (reqs[i] && reqs[i]->comm)
			rc = check_comm(reqs[i]->comm);
	return rc;
}

int tutti_test(struct tutti_request **req, int *done)
{
	if (!req || !done)
		return fail(TUTTI_EINVAL, "tutti_test: %s is NULL", req ? "done" : "req");
	int rc = check_requests(req, 1);
	return rc ? rc : request_test(req, done);
}

int tutti_wait(struct tutti_request **req)
{
	if (!req)
		return fail(TUTTI_EINVAL, "tutti_wait: req is NULL");
	int rc = check_requests(req, 1);
	return rc ? rc : request_wait(req, 1, false);
}

int tutti_wait_all(struct tutti_request **reqs, int n)
{
	if (n < 0 || (n && !reqs))
		return fail(TUTTI_EINVAL, "tutti_wait_all: %d requests at %p", n, (void *)reqs);
	int rc = check_requests(reqs, n);
	return rc ? rc : request_wait(reqs, n, false);
}

int tutti_wait_any(struct tutti_request **reqs, int n, int *index)
{
	if (n < 0 || (n && !reqs) || !index)
		return fail(TUTTI_EINVAL, "tutti_wait_any: %d requests at %p, index at %p", n, (void *)reqs,
		            (void *)index);
	*index = -1;
	int rc = check_requests(reqs, n);
	if (rc)
		return rc;
	(void)request_wait(reqs, n, true);
	for (int i = 0; i < n; i++) {
		int done = 0;
		if (!reqs[i])
			continue;
		rc = request_test(&reqs[i], &done);
		if (done) {
			*index = i;
			return rc;
		}
	}
	return TUTTI_OK;
}

int tutti_progress(struct tutti_comm *c)
{
	int rc = check_comm(c);
	if (rc)
		return rc;
	comm_look(c);
	return tutti_comm_error(c);
}

int tutti_comm_fd(struct tutti_comm *c)
{
	return check_comm(c) ? -1 : comm_fd(c);
}

int tutti_work(struct tutti_request *req, int i, int k)
{
	if (!req || k < 1 || i < 0 || i >= k)
		return fail(TUTTI_EINVAL, "tutti_work: member %d of a team of %d, request %p", i, k, (void *)req);
	int rc = check_requests(&req, 1);
	return rc ? rc : request_work(req);
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
	int rc = check_comm(c);
	if (rc)
		return rc;
	char text[600];
	snprintf(text, sizeof(text), "rank %d aborted communicator %s: %s", c->rank, c->name,
	         why ? why : "no reason given");
	control_raise(c->control, TUTTI_EABORTED, text);
	return TUTTI_OK;
}

int tutti_comm_destroy(struct tutti_comm *c)
{
	if (!c)
		return fail(TUTTI_EINVAL, "the communicator is NULL");
	comm_free(c);
	return TUTTI_OK;
}

int tutti_comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out)
{
	int rc = check_comm(c);
	if (!rc && !out)
		rc = fail(TUTTI_EINVAL, "tutti_comm_split: out is NULL");
	return rc ? rc : keep(c, comm_split(c, color, key, out));
}

int tutti_comm_shrink(struct tutti_comm *c, struct tutti_comm **out)
{
	int rc = check_comm(c);
	if (!rc && !out)
		rc = fail(TUTTI_EINVAL, "tutti_comm_shrink: out is NULL");
	return rc ? rc : comm_shrink(c, out);
}

/* The caller's struct may be of an older or a newer header: what it has beyond ours must be zero. */
static int read_config(struct tutti_config *to, const struct tutti_config *from)
{
	*to = (struct tutti_config)TUTTI_CONFIG_INIT;
	if (!from)
		return TUTTI_OK;
	if (from->size < offsetof(struct tutti_config, timeout) || from->size > 4096)
		return fail(TUTTI_EINVAL, "tutti_config.size is %zu: initialise it with TUTTI_CONFIG_INIT", from->size);
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (((const char *)from)[i])
			return fail(TUTTI_EINVAL,
			            "tutti_config has fields that this library (version %d) does not know",
			            TUTTI_VERSION);
	if (!(to->timeout >= 0 && to->timeout <= 1e9 && to->start_timeout >= 0 && to->start_timeout <= 1e9))
		return fail(TUTTI_EINVAL, "tutti_config: a timeout is not between 0 and 1e9 seconds");
	if (to->log)
		log_set_sink((struct log_sink){to->log, to->log_ctx});
	return TUTTI_OK;
}

/* The world, and its first communicator: all of it. Takes over *params. */
static int make_world(struct tutti_comm **comm, struct world_start *start, const struct tutti_config *cfg,
                      struct params *params)
{
	double timeout = cfg->timeout > 0 ? cfg->timeout : params->timeout;
	struct world *w;
	start->seconds = cfg->start_timeout > 0 ? cfg->start_timeout : params->start_timeout;
	start->transport = cfg->transport;
	start->oob = cfg->oob.allgather ? cfg->oob : start->oob;
	int rc = world_create(&w, start, params);
	if (rc)
		return rc;
	int *members = calloc((size_t)w->nranks, sizeof(int));
	for (int r = 0; members && r < w->nranks; r++)
		members[r] = r;
	struct comm_spec spec = {w, w->id, members, w->nranks, w->rank, cfg->name, timeout, cfg->progress};
	rc = members ? comm_make(comm, &spec) : fail(TUTTI_ENOMEM, "out of memory");
	free(members);
	world_unref(w); /* the communicator holds its own */
	return rc;
}

static const char *environment(void *ctx, const char *name)
{
	(void)ctx;
	return getenv(name);
}

int tutti_comm_from_env(struct tutti_comm **comm, const struct tutti_config *config)
{
	struct tutti_config cfg;
	struct params params;
	struct launch launch;
	if (!comm)
		return fail(TUTTI_EINVAL, "tutti_comm_from_env: comm is NULL");
	*comm = NULL;
	int rc = read_config(&cfg, config);
	if (rc || (rc = params_read(&params)) != TUTTI_OK)
		return rc;
	rc = launch_read(&launch, &params, environment, NULL);
	if (rc) {
		params_free(&params);
		return rc;
	}
	struct world_start start = {.rank = launch.rank, .nranks = launch.size, .root = launch.root, .key = launch.key};
	rc = make_world(comm, &start, &cfg, &params);
	return rc ? fail_while(rc, "rank %d of %d (%s)", launch.rank, launch.size, launch.launcher) : rc;
}

int tutti_unique_id_create(struct tutti_unique_id *id)
{
	struct params params;
	if (!id)
		return fail(TUTTI_EINVAL, "tutti_unique_id_create: id is NULL");
	int rc = auth_init();
	if (rc || (rc = params_read(&params)) != TUTTI_OK)
		return rc;
	rc = unique_id_make(id, params.iface);
	params_free(&params);
	return rc;
}

int tutti_comm_create(struct tutti_comm **comm, int nranks, const struct tutti_unique_id *id, int rank,
                      const struct tutti_config *config)
{
	struct tutti_config cfg;
	struct params params;
	struct world_start start = {.rank = rank, .nranks = nranks, .root = {.listen_fd = -1}};
	if (!comm)
		return fail(TUTTI_EINVAL, "tutti_comm_create: comm is NULL");
	*comm = NULL;
	if (nranks < 1 || rank < 0 || rank >= nranks)
		return fail(TUTTI_EINVAL, "tutti_comm_create: rank %d of %d", rank, nranks);
	int rc = read_config(&cfg, config);
	if (!rc && !id && !cfg.oob.allgather)
		rc = fail(TUTTI_EINVAL, "tutti_comm_create: neither an id nor an all-gather of the caller's is given");
	if (!rc)
		rc = auth_init();
	if (!rc && id && !cfg.oob.allgather)
		rc = unique_id_read(id, rank, &start.root, &start.key);
	if (rc || (rc = params_read(&params)) != TUTTI_OK)
		return rc;
	return make_world(comm, &start, &cfg, &params);
}

/* ---- ranks as threads: one temporary thread makes each, over an all-gather in memory ------------------------------------- */

struct meeting {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int n, here, leaving, failed;
	unsigned round;
	uint8_t *all;
};

struct maker {
	struct meeting *meeting;
	int rank, rc;
	struct tutti_comm **comm;
	const struct tutti_config *cfg;
	char text[1024];
};

/* An all-gather: the first of a round makes the place, the last one to leave takes it away. */
static int meet(void *ctx, const void *in, void *out, size_t bytes)
{
	struct maker *m = ctx;
	struct meeting *t = m->meeting;
	pthread_mutex_lock(&t->lock);
	while (t->leaving && !t->failed)
		pthread_cond_wait(&t->changed, &t->lock);
	unsigned round = t->round;
	if (!t->all && !(t->all = malloc((size_t)t->n * bytes)))
		t->failed = 1;
	if (t->all)
		memcpy(t->all + (size_t)m->rank * bytes, in, bytes);
	if (++t->here == t->n) {
		t->round++;
		t->leaving = t->n;
		pthread_cond_broadcast(&t->changed);
	}
	while (t->round == round && !t->failed)
		pthread_cond_wait(&t->changed, &t->lock);
	int rc = t->round == round ? -1 : 0;
	if (!rc)
		memcpy(out, t->all, (size_t)t->n * bytes);
	if (!rc && --t->leaving == 0) {
		t->here = 0;
		free(t->all);
		t->all = NULL;
		pthread_cond_broadcast(&t->changed);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

static void *make_rank(void *arg)
{
	struct maker *m = arg;
	struct tutti_config cfg = *m->cfg;
	struct params params;
	struct world_start start = {
	        .rank = m->rank, .nranks = m->meeting->n, .root = {.listen_fd = -1}, .threads = true};
	cfg.oob = (struct tutti_oob){m, meet};
	m->rc = params_read(&params);
	if (!m->rc)
		m->rc = make_world(m->comm, &start, &cfg, &params);
	if (m->rc) { /* the others must not wait for this one */
		snprintf(m->text, sizeof(m->text), "%s", fail_text());
		pthread_mutex_lock(&m->meeting->lock);
		m->meeting->failed = 1;
		pthread_cond_broadcast(&m->meeting->changed);
		pthread_mutex_unlock(&m->meeting->lock);
	}
	return NULL;
}

/* The first failure that is not only the echo of another's. */
static int first_failure(const struct maker *makers, int n)
{
	const struct maker *worst = NULL;
	for (int i = 0; i < n; i++)
		if (makers[i].rc && (!worst || worst->rc == TUTTI_ESYSTEM))
			worst = &makers[i];
	return worst ? fail(worst->rc, "%s", worst->text) : TUTTI_OK;
}

int tutti_comm_create_threads(struct tutti_comm **comms, int nranks, const struct tutti_config *config)
{
	struct tutti_config cfg;
	if (!comms || nranks < 1)
		return fail(TUTTI_EINVAL, "tutti_comm_create_threads: %d ranks, comms at %p", nranks, (void *)comms);
	for (int i = 0; i < nranks; i++)
		comms[i] = NULL;
	int rc = read_config(&cfg, config), made = 0;
	if (rc || (rc = auth_init()) != TUTTI_OK)
		return rc;
	struct meeting meeting = {.n = nranks};
	pthread_mutex_init(&meeting.lock, NULL);
	pthread_cond_init(&meeting.changed, NULL);
	struct maker *makers = calloc((size_t)nranks, sizeof(*makers));
	pthread_t *threads = calloc((size_t)nranks, sizeof(*threads));
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; makers && threads && made < nranks; made++) {
		makers[made] = (struct maker){.meeting = &meeting, .rank = made, .comm = &comms[made], .cfg = &cfg};
		if (pthread_create(&threads[made], NULL, make_rank, &makers[made]) != 0)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (made < nranks) {
		pthread_mutex_lock(&meeting.lock);
		meeting.failed = 1;
		pthread_cond_broadcast(&meeting.changed);
		pthread_mutex_unlock(&meeting.lock);
	}
	for (int i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
	rc = made < nranks ? fail(TUTTI_ENOMEM, "could not start %d threads", nranks) : first_failure(makers, nranks);
	for (int i = 0; rc && i < nranks; i++)
		if (comms[i]) {
			comm_free(comms[i]);
			comms[i] = NULL;
		}
	free(meeting.all);
	free(makers);
	free(threads);
	pthread_mutex_destroy(&meeting.lock);
	pthread_cond_destroy(&meeting.changed);
	return rc;
}

/* ---- memory --------------------------------------------------------------------------------------------------------------- */

int tutti_mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr)
{
	int rc = check_comm(c);
	if (!rc && !ptr)
		rc = fail(TUTTI_EINVAL, "tutti_mem_alloc: ptr is NULL");
	return rc ? rc : keep(c, mem_alloc(c, bytes, ptr));
}

int tutti_mem_free(struct tutti_comm *c, void *ptr)
{
	int rc = check_comm(c);
	return rc || !ptr ? rc : keep(c, mem_free(c, ptr));
}

int tutti_mem_register(struct tutti_comm *c, void *ptr, size_t bytes)
{
	(void)ptr;
	(void)bytes; /* no transport here has a use for it */
	return check_comm(c);
}

int tutti_mem_deregister(struct tutti_comm *c, void *ptr)
{
	(void)ptr;
	return check_comm(c);
}

/* ---- explaining ------------------------------------------------------------------------------------------------------------ */

int tutti_comm_explain(const struct tutti_comm *comm, const char *coll, size_t count, enum tutti_dtype t,
                       enum tutti_op op, char *text, size_t cap)
{
	struct tutti_comm *c = (struct tutti_comm *)(uintptr_t)comm;
	int rc = check_comm(c), kind = coll ? coll_by_name(coll) : -1;
	if (!rc && (kind < 0 || kind >= COLL_COUNT || !text || !cap))
		rc = fail(TUTTI_EINVAL, "tutti_comm_explain: no collective \"%s\", or no room for text",
		          coll ? coll : "NULL");
	if (!rc)
		rc = check_type(t);
	if (!rc && (kind == COLL_ALLREDUCE || kind == COLL_REDUCE_SCATTER || kind == COLL_REDUCE))
		rc = check_op(op);
	if (rc)
		return rc;
	struct op o = {.coll = (enum coll)kind, .count = count, .dtype = t, .op = op, .root = -1};
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
	if ((rc = comm_choose(c, &o, &choice)) != TUTTI_OK)
		return rc;
	snprintf(text, cap, "%s %s x%d, predicted %.1f us", ways,
	         choice.algo       ? choice.algo->name
	         : choice.two_shot ? "direct two-shot"
	                           : "direct one-shot",
	         choice.channels, choice.seconds * 1e6);
	return TUTTI_OK;
}
