/* SPDX-License-Identifier: MIT */
/*
 * A crew: the threads that are currently in tutti_work on a communicator. One thread at a time holds the communicator's
 * lock and moves its calls. If a step of a call is a long range of bytes, that thread divides the range into slices,
 * and the other threads take some of them. A member that is late, or that was preempted before it took a slice, is not
 * waited for. Without a crew, the calling thread does everything.
 *
 * Memory order (docs/memory-model.md): R19 a job is shared out / A19 a slice is taken; R20 it is finished / A20.
 */
#ifndef TUTTI_CREW_H
#define TUTTI_CREW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CREW_LEAST 32768 /* bytes from which sharing is worth its two meetings, each the price of a cache line or two */

/** Does bytes from..to of a job; any thread, slices in any order, several at once. */
typedef void crew_fn(const void *job, size_t from, size_t to);

struct crew {
	_Alignas(128) _Atomic uint64_t open; /* jobs so far << 32 | slices of the last one that nobody has taken yet */
	_Atomic uint32_t busy;               /* slices of it that are not finished */
	_Atomic int present;                 /* threads in tutti_work */
	crew_fn *fn;
	const void *job;
	size_t bytes, slice;
};

void crew_enter(struct crew *crew);
void crew_leave(struct crew *crew);

/** Takes and does a slice, if there is one. Any thread that is in the crew. */
bool crew_help(struct crew *crew);

/** What crew_do does with a job that is worth sharing. */
void crew_share(struct crew *crew, size_t bytes, crew_fn *fn, const void *job);

/**
 * Do the whole job, with the help of the members that are there. The caller holds the communicator's lock. crew may be
 * NULL.
 */
static inline void crew_do(struct crew *crew, size_t bytes, crew_fn *fn, const void *job)
{
	if (crew && bytes >= CREW_LEAST && atomic_load_explicit(&crew->present, memory_order_relaxed) > 1)
		crew_share(crew, bytes, fn, job);
	else
		fn(job, 0, bytes);
}

/** memcpy by the crew. */
void crew_copy(struct crew *crew, void *to, const void *from, size_t bytes);

#endif
