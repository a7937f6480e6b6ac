/* SPDX-License-Identifier: MIT */
/*
 * inproc: ranks that are threads of one process. The ring is plain memory, and a receiver may read any of the sender's
 * memory in place. The lowest rank of the process makes the segment; the others find it in a list of the process.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/segment/segment.h"
#include "../../src/util/error.h"

struct inproc {
	const struct transport_env *env;
	struct segment *segment;
	int *local; /* rank -> index in the segment, -1: another process */
	uint64_t nonce;
};

/* Segments that leaders made and whose followers have not all come yet. */
static struct made {
	uint64_t nonce;
	int waiting;
	struct segment
	        *segment; /* a view of the list's own, so that an early leaver takes nothing away; NULL: it failed */
	struct made *next;
} * list;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t list_grew = PTHREAD_COND_INITIALIZER;

static int inproc_open(const struct transport_env *env, void **ctx)
{
	struct inproc *c = calloc(1, sizeof(*c));
	if (!c || !(c->local = calloc((size_t)env->nranks, sizeof(int)))) {
		free(c);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	c->env = env;
	*ctx = c;
	return TUTTI_OK;
}

static void inproc_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	struct inproc *c = ctx;
	memcpy(blob, &c->env->process, sizeof(c->env->process));
}

static int lead(struct inproc *c, int nlocal)
{
	struct made *m = calloc(1, sizeof(*m));
	if (!m)
		return fail(TUTTI_ENOMEM, "out of memory");
	int rc = segment_create(&c->segment, nlocal, c->nonce, NULL);
	if (!rc)
		rc = segment_share(&m->segment, c->segment, 0);
	m->nonce = c->nonce;
	m->waiting = nlocal - 1;
	pthread_mutex_lock(&list_lock);
	m->next = list;
	list = m;
	pthread_cond_broadcast(&list_grew);
	pthread_mutex_unlock(&list_lock);
	return rc;
}

static int follow(struct inproc *c, int me)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	int rc = TUTTI_OK;
	pthread_mutex_lock(&list_lock);
	struct made **at = &list;
	while (rc == TUTTI_OK) {
		for (at = &list; *at && (*at)->nonce != c->nonce; at = &(*at)->next)
			;
		if (*at)
			break;
		if (pthread_cond_timedwait(&list_grew, &list_lock, &until) != 0)
			rc = fail(TUTTI_ETIMEOUT, "the lowest rank of this process did not create the shared segment");
	}
	struct made *m = *at;
	if (rc == TUTTI_OK) {
		rc = m->segment ? segment_share(&c->segment, m->segment, me)
		                : fail(TUTTI_EUNSUPPORTED,
		                       "the lowest rank of this process could not create the shared segment");
		if (--m->waiting == 0) {
			*at = m->next;
			segment_close(m->segment);
			free(m);
		}
	}
	pthread_mutex_unlock(&list_lock);
	return rc;
}

static int inproc_attach(void *ctx)
{
	struct inproc *c = ctx;
	const struct transport_env *env = c->env;
	int nlocal = 0, leader = -1;
	for (int r = 0; r < env->nranks; r++) {
		uint64_t process;
		memcpy(&process, env->contacts[r].transport[env->index], sizeof(process));
		c->local[r] = process == env->process ? nlocal++ : -1;
		if (c->local[r] == 0)
			leader = r;
	}
	if (nlocal < 2)
		return fail(TUTTI_EUNSUPPORTED, "this process holds one rank only");
	c->nonce = env->contacts[leader].nonce | 1;
	int me = c->local[env->rank];
	return me == 0 ? lead(c, nlocal) : follow(c, me);
}

static uint64_t inproc_fabric(void *ctx)
{
	struct inproc *c = ctx;
	return c->segment ? c->nonce : 0;
}

static int inproc_connect(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link)
{
	struct inproc *c = ctx;
	(void)limit; /* nothing is dialled */
	return segment_connect(c->segment, spec, c->env->rank, c->local[spec->peer], link);
}

static void inproc_disconnect(void *ctx, struct link *link)
{
	struct inproc *c = ctx;
	segment_disconnect(c->segment, link);
}

static struct segment *inproc_segment(void *ctx, const int **local)
{
	struct inproc *c = ctx;
	*local = c->local;
	return c->segment;
}

static void inproc_close(void *ctx)
{
	struct inproc *c = ctx;
	if (!c)
		return;
	segment_close(c->segment);
	free(c->local);
	free(c);
}

const struct transport transport_inproc = {
        .name = "inproc",
        .what = "threads of one process: plain memory",
        .encrypts = true,
        .open = inproc_open,
        .address = inproc_address,
        .attach = inproc_attach,
        .fabric = inproc_fabric,
        .connect = inproc_connect,
        .disconnect = inproc_disconnect,
        .segment = inproc_segment,
        .close = inproc_close,
};
