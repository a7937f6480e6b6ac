/*
 * tutti_mem_alloc: memory that peers of the same host can read in place, and network cards as far as their transport knows
 * how. It comes from the shared segment where there is one, otherwise from the system. Belongs to a communicator and ends
 * with it.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "../util/error.h"
#include "comm.h"

struct mem {
	void *p;
	size_t bytes;
	bool shared;
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
	tell_transports(w, m, false);
	if (m->shared)
		segment_free(w->segment, m->p);
	world_unlock(w);
	if (!m->shared)
		munmap(m->p, m->bytes);
	free(m);
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
	m->shared = m->p != NULL;
	if (!m->p)
		m->p = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->p != MAP_FAILED)
		tell_transports(c->world, m, true);
	world_unlock(c->world);
	if (m->p == MAP_FAILED) {
		free(m);
		return fail(TUTTI_ENOMEM, "out of memory: %zu bytes", bytes);
	}
	m->next = c->mems;
	c->mems = m;
	*ptr = m->p;
	return TUTTI_OK;
}

int mem_free(struct tutti_comm *c, void *ptr)
{
	for (struct mem **at = &c->mems; *at; at = &(*at)->next)
		if ((*at)->p == ptr) {
			struct mem *m = *at;
			*at = m->next;
			release(c->world, m);
			return TUTTI_OK;
		}
	return fail(TUTTI_EINVAL, "%p was not allocated with tutti_mem_alloc on this communicator", ptr);
}

void mem_free_all(struct tutti_comm *c)
{
	for (struct mem *m = c->mems, *next; m; m = next) {
		next = m->next;
		release(c->world, m);
	}
	c->mems = NULL;
}
