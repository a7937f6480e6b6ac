/*
 * A segment: memory that the ranks of one host share, and all that lives in it. One head, then a region per local rank.
 * The region's owner alone allocates in it; everybody reads and writes what was published.
 *
 * Region: a bell (the owner's sleep word), a directory (64-bit key -> offset, open addressing, append mostly), then a
 * heap in pages. Rings stand in the receiver's region under the link's tag, direct areas under the communicator's;
 * tutti_mem_alloc takes plain heap pages. The memory is sparse: address space is reserved for all of it, pages are
 * committed when they are allocated, so that running out is ENOMEM and never SIGBUS.
 *
 * Both memory transports are this file: inproc makes the segment from anonymous memory, shm from a memfd.
 */
#ifndef TUTTI_SEGMENT_H
#define TUTTI_SEGMENT_H

#include "link.h"
#include "transport.h"

struct segment;

/**
 * Makes a segment for `nlocal` ranks, as local rank 0. fd: *fd receives a memfd when it is not NULL (the caller closes
 * it), otherwise the memory is of this process only. ENOMEM, ESYSTEM.
 */
int segment_create(struct segment **seg, int nlocal, uint64_t nonce, int *fd);
/** Maps the segment behind fd as local rank `me`; EPEER when the nonce in it is another one (not the same host),
 *  EUNSUPPORTED when nothing is behind it: the leader could not make it. */
int segment_join(struct segment **seg, int fd, int nlocal, int me, uint64_t nonce);
/** Another rank's view of the same memory, for threads of one process. */
int segment_share(struct segment **seg, struct segment *of, int me);
void segment_close(struct segment *seg);

/** Zeroed pages of the own region; ENOMEM as NULL. Freed pages go back to the system. */
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

/**
 * Areas: heap pages that peers find under a key. The owner makes one, fills it in, then publishes it. It is closed when the
 * owner withdrew it and each of its `users` peers let go: until then a late peer may still find it and use what stands
 * there. Its owner may have done its part long before that peer begins.
 *
 * Its head is zeroed and committed. Of the parts only the first `depth` bytes are, and they hold what an earlier area left
 * there: a closed area's pages are kept for the next one of its shape, up to a bound, and beyond it given back by whoever
 * was the last to leave.
 */
void *segment_area(struct segment *seg, const struct area_shape *shape, unsigned users);
/** Commits the first `depth` bytes of each part, or more. One rank at a time, the owner or a user. ENOMEM. */
int segment_deepen(struct segment *seg, void *area, size_t depth);
size_t segment_depth(const void *area);
int segment_publish(struct segment *seg, uint64_t key, void *area);
void *segment_find(struct segment *seg, int local, uint64_t key);
void segment_withdraw(struct segment *seg, void *area);
void segment_let_go(struct segment *seg, int local, void *area);

/** The sleep word of a local rank. */
_Atomic uint32_t *segment_bell(struct segment *seg, int local);
/** ours = theirs + shift, for addresses that local rank `local` can let others read. */
intptr_t segment_shift(const struct segment *seg, int local);

/**
 * One direction between this rank (`self` in the world) and local rank `local`: the receiver publishes the ring, the sender finds it.
 * `reach`: how the receiver may read the sender's memory, as the receiver knows it; the sender learns it from the ring.
 */
int segment_connect(struct segment *seg, const struct link_spec *spec, int self, int local, enum link_reach reach,
                    struct link *link);
void segment_disconnect(struct segment *seg, struct link *link);

#endif
