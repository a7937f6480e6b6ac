/* SPDX-License-Identifier: MIT */
/*
 * Starting: a world, and its first communicator, from the environment, a unique id, the caller's own all-gather, or as
 * threads of this process. All of it runs in the default floating-point environment, and so do the threads of the library,
 * which begin in that of their creator.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "comm/comm.h"
#include "os/os.h"
#include "util/cancel.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/float_env.h"
#include "util/log.h"
#include "util/secret.h"
#include "util/service.h"

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
	params->encrypt |= cfg->encrypt != 0;
	start->oob = cfg->oob.allgather ? cfg->oob : start->oob;
	int rc = world_create(&w, start, params);
	if (rc)
		return rc;
	int *members = calloc((size_t)w->nranks, sizeof(int));
	for (int r = 0; members && r < w->nranks; r++)
		members[r] = r;
	struct comm_spec spec = {w, w->id, members, w->nranks, w->rank, cfg->name, timeout, cfg->progress, NULL};
	rc = members ? comm_make(comm, &spec) : fail(TUTTI_ENOMEM, "out of memory");
	free(members);
	world_making(w, false);
	world_unref(w); /* the communicator holds its own */
	return rc;
}

static const char *environment(void *ctx, const char *name)
{
	(void)ctx;
	return getenv(name);
}

/*
 * The listener that tutti-run gave rank 0 serves all its worlds in turn, and stays open between them. The number may be
 * another file of the application by now, so it is used only if it is that listener.
 */
static int inherited_listener(const struct rendezvous *root)
{
	const char *port = strrchr(root->text, ':');
	struct net_addr at;
	if (root->listen_fd < 0)
		return -1;
	if (net_is_listener(root->listen_fd) && net_local_end(root->listen_fd, &at) && port &&
	    atoi(port + 1) == at.port) {
		(void)fcntl(root->listen_fd, F_SETFD, FD_CLOEXEC);
		return root->listen_fd;
	}
	log_warn("TUTTI_ROOT_FD=%d is not a listener at TUTTI_ROOT=%s: rank 0 listens there itself", root->listen_fd,
	         root->text);
	return -1;
}

/*
 * tutti-run ends a job that waits for a rank which has ended. It hears of each world that a rank begins to join, over a socket
 * that the rank has inherited; the number may be another file of the application's by now. Size and rendezvous tell its job from
 * another one, which a rank or a child of it may make.
 */
static void tell_launcher(const struct params *p, const struct launch *launch)
{
	char job[sizeof(launch->root.text) + 16];
	struct stat s;
	long long inode;
	int fd;
	if (!p->join_fd || sscanf(p->join_fd, "%d:%lld", &fd, &inode) != 2)
		return;
	if (fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode) && (long long)s.st_ino == inode) {
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		snprintf(job, sizeof(job), "%d %s", launch->size, launch->root.text);
		(void)!send(fd, job, strlen(job), OS_NO_SIGNAL | MSG_DONTWAIT);
	}
}

/*
 * A process may make several communicators from the environment, also while it has others: one at a time, and each says which
 * world was the last, so that rank 0, when it is still in that, has it wait for the next.
 */
static struct {
	pthread_mutex_t lock;
	unsigned forks;
	uint64_t last;
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int make_in_turn(struct tutti_comm **comm, struct world_start *start, const struct tutti_config *cfg,
                        struct params *params)
{
	if (turns.forks != service_forks) { /* the thread that held it is not in this process */
		pthread_mutex_init(&turns.lock, NULL);
		turns.forks = service_forks;
		turns.last = 0;
	}
	pthread_mutex_lock(&turns.lock);
	start->root.last = &turns.last;
	int rc = make_world(comm, start, cfg, params);
	pthread_mutex_unlock(&turns.lock);
	return rc;
}

static int from_env(struct tutti_comm **comm, const struct tutti_config *config)
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
	params_forget_secret(&params);
	if (rc == TUTTI_OK)
		tell_launcher(&params, &launch);
	if (rc) {
		params_free(&params);
		return rc;
	}
	launch.root.listen_fd = inherited_listener(&launch.root);
	struct world_start start = {.rank = launch.rank, .nranks = launch.size, .root = launch.root, .key = launch.key};
	rc = make_in_turn(comm, &start, &cfg, &params);
	secret_wipe(&launch.key, sizeof(launch.key));
	secret_wipe(&start.key, sizeof(start.key));
	return rc ? fail_while(rc, "rank %d of %d (%s)", launch.rank, launch.size, launch.launcher) : rc;
}

static int create_id(struct tutti_unique_id *id)
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

static int create(struct tutti_comm **comm, int nranks, const struct tutti_unique_id *id, int rank,
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
	if (!rc)
		rc = params_read(&params);
	if (!rc) {
		params_forget_secret(&params);
		rc = make_world(comm, &start, &cfg, &params);
	}
	fd_close(start.root.listen_fd);
	secret_wipe(&start.key, sizeof(start.key));
	return rc;
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

static int create_threads(struct tutti_comm **comms, int nranks, const struct tutti_config *config)
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

/* ---- the public entries -------------------------------------------------------------------------------------------------- */

int tutti_comm_from_env(struct tutti_comm **comm, const struct tutti_config *config)
{
	int was = cancel_disable();
	float_env callers = float_env_enter();
	int rc = from_env(comm, config);
	float_env_leave(callers);
	return cancel_restore(was, rc);
}

int tutti_unique_id_create(struct tutti_unique_id *id)
{
	int was = cancel_disable();
	float_env callers = float_env_enter();
	int rc = create_id(id);
	float_env_leave(callers);
	return cancel_restore(was, rc);
}

int tutti_comm_create(struct tutti_comm **comm, int nranks, const struct tutti_unique_id *id, int rank,
                      const struct tutti_config *config)
{
	int was = cancel_disable();
	float_env callers = float_env_enter();
	int rc = create(comm, nranks, id, rank, config);
	float_env_leave(callers);
	return cancel_restore(was, rc);
}

int tutti_comm_create_threads(struct tutti_comm **comms, int nranks, const struct tutti_config *config)
{
	int was = cancel_disable();
	float_env callers = float_env_enter();
	int rc = create_threads(comms, nranks, config);
	float_env_leave(callers);
	return cancel_restore(was, rc);
}
