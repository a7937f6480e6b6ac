/* SPDX-License-Identifier: MIT */
/* Sharing a stretch of bytes among threads. See crew.h. */
#include "crew.h"

#include <sched.h>
#include <string.h>

#include "../kernel/kernel.h"
#include "wait.h"

#define COPY_LONG   4096 /* bytes from which the C library's memcpy is not the best */
#define SLICE_LEAST 8192
#define SLICE_ALIGN 4096 /* whole elements of every type, and no line in two slices of an aligned buffer */
#define TURNS       4    /* slices per member: a late or slow member takes fewer */

void crew_enter(struct crew *crew)
{
	(void)atomic_fetch_add_explicit(&crew->present, 1, memory_order_relaxed);
}

void crew_leave(struct crew *crew)
{
	(void)atomic_fetch_sub_explicit(&crew->present, 1, memory_order_relaxed);
}

bool crew_help(struct crew *crew)
{
	uint64_t open = atomic_load_explicit(&crew->open, memory_order_relaxed);
	do {
		if ((uint32_t)open == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&crew->open, &open, open - 1, memory_order_acquire, /* A19 */
	                                                memory_order_relaxed));
	/* the job stays what it is until this slice is finished */
	size_t from = ((uint32_t)open - 1) * crew->slice, to = from + crew->slice;
	crew->fn(crew->job, from, to < crew->bytes ? to : crew->bytes);
	(void)atomic_fetch_sub_explicit(&crew->busy, 1, memory_order_release); /* R20 */
	return true;
}

void crew_share(struct crew *crew, size_t bytes, crew_fn *fn, const void *job)
{
	int members = atomic_load_explicit(&crew->present, memory_order_relaxed);
	size_t parts = members > 1 ? (size_t)members * TURNS : 1;
	size_t slice = (bytes / parts + SLICE_ALIGN) / SLICE_ALIGN * SLICE_ALIGN;
	crew->slice = slice < SLICE_LEAST ? SLICE_LEAST : slice;
	crew->bytes = bytes;
	crew->fn = fn;
	crew->job = job;
	uint32_t slices = (uint32_t)((bytes + crew->slice - 1) / crew->slice);
	atomic_store_explicit(&crew->busy, slices, memory_order_relaxed);
	uint64_t before = atomic_load_explicit(&crew->open, memory_order_relaxed) >> 32;
	atomic_store_explicit(&crew->open, (before + 1) << 32 | slices, memory_order_release); /* R19 */
	while (crew_help(crew))
		;
	for (int looks = 0; atomic_load_explicit(&crew->busy, memory_order_acquire); looks++) { /* A20 */
		if (looks < 1000)
			cpu_pause();
		else
			sched_yield();
	}
}

struct copy {
	uint8_t *to;
	const uint8_t *from;
};

static void copy(const void *job, size_t from, size_t to)
{
	const struct copy *c = job;
	if (to - from < COPY_LONG)
		memcpy(c->to + from, c->from + from, to - from);
	else
		kernel_table()->copy(c->to + from, c->from + from, to - from);
}

void crew_copy(struct crew *crew, void *to, const void *from, size_t bytes)
{
	struct copy job = {to, from};
	if (bytes) /* buffers of no elements may be NULL */
		crew_do(crew, bytes, copy, &job);
}
