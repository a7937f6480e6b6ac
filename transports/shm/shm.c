/* SPDX-License-Identifier: MIT */
/*
 * shm: processes of one host. The lowest of the ranks that might share memory makes it and leaves it with its door;
 * the others ask for it over the local socket, whose peer was authenticated, map it and read the nonce in it: that, not a
 * name, proves the same host. Nothing is left in the file system.
 *
 * Where one process may read another's memory (found by trying it on a word of known value), a sender may refer to any
 * of its memory instead of copying it into a slot.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/os/os.h"
#include "../../src/segment/segment.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "../../src/util/log.h"

struct shm {
	const struct transport_env *env;
	struct segment *segment;
	int *local; /* rank -> index in the segment, -1: cannot share memory */
	uint64_t nonce;
	uint64_t word; /* random; its address and value go into the address, for the peers' probe */
};

struct shm_address {
	uint64_t word_at, word;
};

static void shm_close(void *ctx)
{
	struct shm *c = ctx;
	if (!c)
		return;
	segment_close(c->segment);
	free(c->local);
	free(c);
}

static int shm_open_(const struct transport_env *env, void **ctx)
{
	struct shm *c = calloc(1, sizeof(*c));
	if (!c)
		return fail(TUTTI_ENOMEM, "out of memory");
	c->env = env;
	c->local = calloc((size_t)env->nranks, sizeof(int));
	if (!c->local) {
		shm_close(c);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	c->word = env->process * 0x9e3779b97f4a7c15u + (uint64_t)env->rank;
	*ctx = c;
	return TUTTI_OK;
}

static void shm_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	struct shm *c = ctx;
	struct shm_address a = {(uint64_t)(uintptr_t)&c->word, c->word};
	memcpy(blob, &a, sizeof(a));
}

static bool probe(const struct contact *peer, int index)
{
	struct shm_address a;
	memcpy(&a, peer->transport[index], sizeof(a));
	uint64_t got = 0;
	return os_read_process((pid_t)peer->pid, a.word_at, &got, sizeof(got)) == (ssize_t)sizeof(got) && got == a.word;
}

static int lead(struct shm *c, int nlocal)
{
	int fd = -1, rc = segment_create(&c->segment, nlocal, c->nonce, &fd);
	if (rc) /* ranks that ask must not wait for it */
		fd = fd_keep(open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (fd >= 0) {
		int given = c->env->give(c->env, c->nonce, fd);
		rc = rc ? rc : given;
		fd_close(fd);
	}
	return rc;
}

static int follow(struct shm *c, int leader, int nlocal)
{
	int fd = -1, rc = c->env->ask(c->env, leader, c->nonce, &fd);
	if (rc)
		return fail_while(rc, "ask rank %d for its shared memory", leader);
	rc = segment_join(&c->segment, fd, nlocal, c->local[c->env->rank], c->nonce);
	fd_close(fd);
	return rc;
}

static int shm_attach(void *ctx)
{
	struct shm *c = ctx;
	const struct transport_env *env = c->env;
	const struct contact *me = &env->contacts[env->rank];
	int nlocal = 0, leader = -1;
	for (int r = 0; r < env->nranks; r++) {
		bool near = memcmp(env->contacts[r].host_hint, me->host_hint, sizeof(me->host_hint)) == 0;
		c->local[r] = near ? nlocal++ : -1;
		if (c->local[r] == 0)
			leader = r;
	}
	c->nonce = env->contacts[leader].nonce | 1;
	int rc = leader == env->rank ? lead(c, nlocal) : follow(c, leader, nlocal);
	if (rc)
		return rc;
	for (int r = 0; r < env->nranks; r++)
		if (c->local[r] >= 0)
			segment_reads(c->segment, c->local[r], probe(&env->contacts[r], env->index));
	return TUTTI_OK;
}

static uint64_t shm_fabric(void *ctx)
{
	struct shm *c = ctx;
	return c->segment ? c->nonce : 0;
}

static int shm_connect(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link)
{
	struct shm *c = ctx;
	(void)limit; /* nothing is dialled */
	int peer = spec->peer;
	if (!spec->outgoing && spec->lane >= 0) /* still? */
		segment_reads(c->segment, c->local[peer], probe(&c->env->contacts[peer], c->env->index));
	int rc = segment_connect(c->segment, spec, c->env->rank, c->local[peer], link);
	link->peer_pid = c->env->contacts[peer].pid;
	return rc;
}

static void shm_disconnect(void *ctx, struct link *link)
{
	segment_disconnect(((struct shm *)ctx)->segment, link);
}

static struct segment *shm_segment(void *ctx, const int **local)
{
	struct shm *c = ctx;
	*local = c->local;
	return c->segment;
}

const struct transport transport_shm = {
        .name = "shm",
        .what = "processes of one host: shared memory, single-copy reads where allowed",
        .encrypts = true,
        .open = shm_open_,
        .address = shm_address,
        .attach = shm_attach,
        .fabric = shm_fabric,
        .connect = shm_connect,
        .disconnect = shm_disconnect,
        .segment = shm_segment,
        .close = shm_close,
};
