/* SPDX-License-Identifier: MIT */
/*
 * tutti_mem_alloc: memory that peers of the same host can read in place, and network cards as far as their transport knows
 * how. It comes from the shared segment where there is one, otherwise from the system. And tutti_mem_register: memory of the
 * application's, which network cards are told of likewise. Both belong to a communicator and end with it.
 */
#ifndef TUTTI_MEM_H
#define TUTTI_MEM_H

#include <stddef.h>

struct tutti_comm;
struct mem;

int mem_alloc(struct tutti_comm *c, size_t bytes, void **ptr);
int mem_free(struct tutti_comm *c, void *ptr);
int mem_register(struct tutti_comm *c, void *ptr, size_t bytes);
int mem_deregister(struct tutti_comm *c, void *ptr);
void mem_free_all(struct tutti_comm *c);

#endif
