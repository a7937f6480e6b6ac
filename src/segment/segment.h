/* SPDX-License-Identifier: MIT */
/*
 * A segment: memory that the ranks of one host share, and all that lives in it. One head, then a region per local rank.
 * The region's owner alone allocates in it; everybody reads and writes what was published.
 *
 * Region: a bell (the owner's sleep word), a directory (64-bit key -> offset, open addressing, append mostly), then a
 * heap in pages. Rings stand under the link's tag in the receiver's region, those of messages in the sender's; direct areas
 * stand under the communicator's, which the owner is a member of as long as the directory lists it. tutti_mem_alloc takes
 * plain heap pages. The memory is sparse: address space is reserved for all of it, pages are committed when they are
 * allocated, so that running out is ENOMEM and never SIGBUS.
 *
 * Both memory transports are this file: inproc makes the segment from anonymous memory, shm from memory
 * without a name that is handed over by its descriptor.
 */
#ifndef TUTTI_SEGMENT_H
#define TUTTI_SEGMENT_H

#include "../engine/link.h"
#include "../transport.h"

struct segment;

/**
 * Makes a segment for `nlocal` ranks, as local rank 0. fd: *fd receives its descriptor when it is not NULL (the caller closes
 * it), otherwise the memory is of this process only. ENOMEM, ESYSTEM.
 */
int segment_create(struct segment **seg, int nlocal, uint64_t nonce, int *fd);
/** Maps the segment behind fd as local rank `me`; EPEER when the nonce in it is another one (not the same host) or the file has
 *  not, for good, the size that its head says; EUNSUPPORTED when nothing is behind it: the leader could not make it. */
int segment_join(struct segment **seg, int fd, int nlocal, int me, uint64_t nonce);
/** Another rank's view of the same memory, for threads of one process. */
int segment_share(struct segment **seg, struct segment *of, int me);
void segment_close(struct segment *seg);

/** Allocate zeroed pages of this rank's region; NULL: out of memory. Freed pages go back to the system. */
void *segment_alloc(struct segment *seg, size_t bytes);
void segment_free(struct segment *seg, void *p);
/** Can every local rank read these bytes where they are? In the segment; or anywhere, when the ranks are threads. */
bool segment_reaches(const struct segment *seg, const void *p, size_t bytes);
/** Are the local ranks threads of one process? */
bool segment_of_threads(const struct segment *seg);

/** An area is a head and parts of equal length. */
struct area_shape {
	size_t head, part, parts;
};

/** Whom an area of communicator `comm` is for: n local ranks; the owner is not a user of its own area. */
struct area_users {
	uint64_t comm;
	const int *local;
	int n;
};

/**
 * Areas: heap pages that peers find under a key. The owner makes one, fills it in, then publishes it. It is closed when
 * the owner has withdrawn it and each of its users has released it or left the communicator. Until then, a late user
 * may still find it and use its content; the owner may have done its part long before. Owner and users compute the
 * shape themselves, so data that another rank could write is never used as a length.
 *
 * Its head is zeroed and committed. Of the parts only the first `depth` bytes are, and they hold what an earlier area left
 * there: a closed area's pages are kept for the next one of its shape, up to a bound, and beyond it given back by whoever
 * was the last to leave.
 */
void *segment_area(struct segment *seg, const struct area_shape *shape, const struct area_users *users);
/** Commits the first `depth` bytes of each part, or more. One rank at a time, the owner or a user. ENOMEM. */
int segment_deepen(struct segment *seg, void *area, const struct area_shape *shape, size_t depth);
size_t segment_depth(const void *area, const struct area_shape *shape);
int segment_publish(struct segment *seg, uint64_t key, void *area);
/** LINK_PENDING: it is not there yet. EPEER: what the rank has published can't be an area of that shape. */
int segment_find(struct segment *seg, int local, uint64_t key, const struct area_shape *shape, void **area);
void segment_withdraw(struct segment *seg, void *area);
void segment_let_go(struct segment *seg, int local, void *area, const struct area_shape *shape);

/**
 * Which communicators this rank is a member of, for the owners of areas. It enlists itself before another member can make an
 * area for it, and delists itself when it has let go of all areas that it has found. As long as the id of a communicator that
 * it is to be a member of is not known, it is `making` one; a segment begins so. ENOMEM.
 */
struct entry;
void segment_making(struct segment *seg, bool begins);
int segment_enlist(struct segment *seg, uint64_t comm, struct entry **entry);
void segment_delist(struct segment *seg, struct entry *entry);

/** Can this rank read the memory of that local rank's process? Said before any rank connects, and when it has changed. */
void segment_reads(struct segment *seg, int local, bool can);

/** The sleep word of a local rank. */
_Atomic uint32_t *segment_bell(struct segment *seg, int local);
/** ours = theirs + shift, for addresses that local rank `local` can let others read. */
intptr_t segment_shift(const struct segment *seg, int local);

/**
 * One direction between this rank (`self` in the world) and local rank `local`. The receiver publishes the ring and the
 * sender finds it; on a lane of messages the other way round, so that a send needs nothing of a peer that is elsewhere.
 */
int segment_connect(struct segment *seg, const struct link_spec *spec, int self, int local, struct link *link);
void segment_disconnect(struct segment *seg, struct link *link);

#endif
