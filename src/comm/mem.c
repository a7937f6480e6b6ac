/* SPDX-License-Identifier: MIT */
/* Memory of a communicator. See mem.h. */
#include "mem.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "../util/error.h"
#include "comm.h"

enum mem_kind {
	MEM_SHARED, /* of the segment */
	MEM_OWN,    /* of the system */
	MEM_GUEST,  /* the application's */
};

struct mem {
	void *p;
	size_t bytes;
	enum mem_kind kind;
	bool told; /* transports know of it */
	struct mem *next;
};

/* Under the world's lock. */
static void tell_transports(const struct world *w, const struct mem *m, bool given)
{
	for (int i = 0; i < w->ntransports; i++)
		if (w->transport[i].usable && w->transport[i].t->memory)
			w->transport[i].t->memory(w->transport[i].ctx, m->p, m->bytes, given);
}

static void release(struct world *w, struct mem *m)
{
	world_lock(w);
	if (m->told)
		tell_transports(w, m, false);
	if (m->kind == MEM_SHARED)
		segment_free(w->segment, m->p);
	world_unlock(w);
	if (m->kind == MEM_OWN)
		munmap(m->p, m->bytes);
	free(m);
}

/* Under the world's lock. */
static void keep(struct tutti_comm *c, struct mem *m, bool tell)
{
	m->told = tell;
	if (tell)
		tell_transports(c->world, m, true);
	m->next = c->mems;
	c->mems = m;
}

/* What was allocated (or registered: guest) at p is taken from the list; NULL: there is no such thing. */
static struct mem *take(struct tutti_comm *c, const void *p, bool guest)
{
	for (struct mem **at = &c->mems; *at; at = &(*at)->next)
		if ((*at)->p == p && ((*at)->kind == MEM_GUEST) == guest) {
			struct mem *m = *at;
			*at = m->next;
			return m;
		}
	return NULL;
}

int mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr)
{
	struct mem *m = calloc(1, sizeof(*m));
	if (!m)
		return fail(TUTTI_ENOMEM, "out of memory");
	m->bytes = bytes ? bytes : 1;
	world_lock(c->world);
	if (c->world->segment)
		m->p = segment_alloc(c->world->segment, m->bytes);
	m->kind = m->p ? MEM_SHARED : MEM_OWN;
	if (!m->p)
		m->p = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->p != MAP_FAILED)
		keep(c, m, true);
	world_unlock(c->world);
	if (m->p == MAP_FAILED) {
		free(m);
		return fail(TUTTI_ENOMEM, "out of memory: %zu bytes", bytes);
	}
	*ptr = m->p;
	return TUTTI_OK;
}

int mem_free(struct tutti_comm *c, void *ptr)
{
	struct mem *m = take(c, ptr, false);

	if (!m)
		return fail(TUTTI_EINVAL, "%p was not allocated with tutti_mem_alloc on this communicator", ptr);
	release(c->world, m);
	return TUTTI_OK;
}

/* Is all of it in memory that transports know of already? */
static bool is_told(const struct tutti_comm *c, const void *p, size_t bytes)
{
	for (const struct mem *m = c->mems; m; m = m->next)
		if (m->told && m->kind != MEM_GUEST && (uintptr_t)p - (uintptr_t)m->p < m->bytes &&
		    bytes <= m->bytes - ((uintptr_t)p - (uintptr_t)m->p))
			return true;
	return false;
}

int mem_register(struct tutti_comm *c, void *ptr, size_t bytes)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return fail(TUTTI_ENOMEM, "out of memory");
	*m = (struct mem){.p = ptr, .bytes = bytes, .kind = MEM_GUEST};
	world_lock(c->world);
	keep(c, m, !is_told(c, ptr, bytes));
	world_unlock(c->world);
	return TUTTI_OK;
}

int mem_deregister(struct tutti_comm *c, void *ptr)
{
	struct mem *m = take(c, ptr, true);

	if (!m)
		return fail(TUTTI_EINVAL, "%p was not registered with tutti_mem_register on this communicator", ptr);
	release(c->world, m);
	return TUTTI_OK;
}

void mem_free_all(struct tutti_comm *c)
{
	for (struct mem *m = c->mems, *next; m; m = next) {
		next = m->next;
		release(c->world, m);
	}
	c->mems = NULL;
}
