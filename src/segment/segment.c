/* SPDX-License-Identifier: MIT */
/* The memory that ranks of one host share: mapping, heap, directory, and the links in it. See segment.h. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/os.h"
#include "../util/error.h"
#include "../util/fd.h"

#define PAGE      4096u
#define DIRECTORY 8192u               /* entries of a region, a power of two */
#define GONE      1u                  /* key of a withdrawn entry */
#define KEEP      ((uint64_t)2 << 20) /* bytes of a rank's closed areas that stay committed for the next ones */
#define PATIENCE  16u /* number of withdrawn areas that wait for others, from which on departed users are looked for */

/* Least bytes for which a reference beats a copy: reading in place costs a wait for the peer, reading a process a call. */
#define REFER_WINDOW  8192u
#define REFER_PROCESS 32768u

struct entry {
	_Atomic uint64_t key, offset;
};

struct region {
	_Alignas(APART) _Atomic uint32_t bell;
	_Alignas(APART) _Atomic uint64_t base; /* where its owner mapped the segment */
	_Alignas(APART) _Atomic uint64_t kept; /* bytes of closed areas that are still committed */
	_Atomic uint32_t making;               /* communicators that its owner is about to become a member of */
	_Alignas(APART) struct entry entry[DIRECTORY];
	_Atomic uint8_t reads[]; /* by local rank: its owner can read that process's memory */
};

struct head {
	uint64_t nonce, stride, nlocal;
};

/*
 * First line of an area; what is published begins APART later. Others may write here what they like: nothing of it is an
 * address or a length. An area's shape its owner and its users know themselves.
 */
struct area {
	_Atomic uint32_t gone;   /* owner and users that are done with it */
	uint32_t users;          /* owner and users */
	_Atomic uint32_t closed; /* by the last of them: KEPT, GIVEN_BACK */
	_Atomic size_t depth;    /* so many bytes of each part are committed; at most as many as a part has counts */
};
_Static_assert(sizeof(struct area) <= APART, "an area's head is apart from what its users store");

enum { KEPT = 1, GIVEN_BACK };

/* Pages [at, at + pages) of this rank's own heap. */
struct extent {
	size_t at, pages;
	bool used, withdrawn;
	bool warm;               /* not used: the pages of the area that it was are still committed */
	struct area_shape shape; /* of an area */
	struct entry *entry;     /* of a published area */
	uint64_t comm;           /* of an area, whose users these are, by local rank */
	int *user, nusers;
	struct extent *next;
};

/* The mapping itself, shared by the views of ranks that are threads of one process. */
struct mapping {
	uint8_t *base;
	size_t bytes, stride;
	int nlocal, fd;
	_Atomic int refs;
};

struct segment {
	struct mapping *map;
	int me;
	struct extent *heap; /* ascending, no two free neighbours */
	size_t waiting;      /* withdrawn areas that were not closed when last counted */
	size_t patience;     /* with this many, departed users are looked for */
};

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* What the system makes of so many bytes of shared memory. */
static size_t whole_pages(size_t n)
{
	return round_up(n, (size_t)sysconf(_SC_PAGESIZE));
}

static struct region *region_of(const struct segment *s, int local)
{
	return (struct region *)(s->map->base + PAGE + s->map->stride * (size_t)local);
}

static size_t heap_start(int nlocal)
{
	return round_up(sizeof(struct region) + (size_t)nlocal, PAGE);
}

/* As much address space for each rank as the machine has memory; less where the process is limited. */
static size_t choose_stride(int nlocal)
{
	size_t want = os_memory_bytes();
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    want > limit.rlim_cur / 4 / (size_t)nlocal)
		want = limit.rlim_cur / 4 / (size_t)nlocal;
#if defined(__SANITIZE_THREAD__)
	want = want > (256u << 20) ? 256u << 20 : want; /* shadow memory is not sparse */
#endif
	size_t least = 32u << 20;
	return round_up(want < least ? least : want, 2u << 20);
}

static void map_release(struct mapping *map)
{
	if (atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) != 1) /* R15 */
		return;
	munmap(map->base, map->bytes);
	if (map->fd >= 0)
		fd_close(map->fd);
	free(map);
}

static int view(struct segment **out, struct mapping *map, int me)
{
	struct segment *s = calloc(1, sizeof(*s));
	struct extent *all = calloc(1, sizeof(*all));
	if (!s || !all) {
		free(s);
		free(all);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	size_t start = heap_start(map->nlocal);
	*all = (struct extent){.at = start / PAGE, .pages = (map->stride - start) / PAGE};
	s->map = map;
	s->me = me;
	s->heap = all;
	s->patience = PATIENCE;
	atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
	if (map->fd >= 0) {
		size_t at = PAGE + map->stride * (size_t)me;
		if (os_shared_commit(map->fd, at, start) != 0) {
			int rc = fail_errno("reserve %zu bytes of shared memory", start);
			segment_close(s);
			return rc == TUTTI_ESYSTEM ? TUTTI_ENOMEM : rc;
		}
	}
	atomic_store_explicit(&region_of(s, me)->making, 1, memory_order_relaxed);
	atomic_store_explicit(&region_of(s, me)->base, (uint64_t)(uintptr_t)map->base, memory_order_release); /* R7 */
	*out = s;
	return TUTTI_OK;
}

/* The first reference is the caller's; it takes over fd when it goes well. */
static int map_memory(struct mapping **out, int fd, int nlocal, size_t stride)
{
	struct mapping *map = calloc(1, sizeof(*map));
	if (!map)
		return fail(TUTTI_ENOMEM, "out of memory");
	*map = (struct mapping){
	        .bytes = PAGE + stride * (size_t)nlocal, .stride = stride, .nlocal = nlocal, .fd = fd, .refs = 1};
	int kind = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	map->base = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE, fd, 0);
	if (map->base == MAP_FAILED) {
		free(map);
		return fail_errno("map %zu MiB of shared memory for %d ranks", (PAGE + stride * (size_t)nlocal) >> 20,
		                  nlocal);
	}
	os_memory_not_dumped(map->base, map->bytes);
	*out = map;
	return TUTTI_OK;
}

static int make_shared(size_t bytes, int *fd)
{
	*fd = fd_keep(os_shared_open(bytes));
	if (*fd < 0 && errno == EFBIG)
		return fail(TUTTI_ENOMEM, "%zu MiB of shared memory exceed the limit of file sizes (raise ulimit -f)",
		            bytes >> 20);
	return *fd < 0 ? fail_errno("can't create %zu MiB of shared memory", bytes >> 20) : TUTTI_OK;
}

int segment_create(struct segment **seg, int nlocal, uint64_t nonce, int *fd)
{
	int rc = TUTTI_ENOMEM, mine = -1;
	struct mapping *map = NULL;
	for (size_t stride = choose_stride(nlocal); stride >= 16u << 20 && !map; stride /= 2) {
		if (fd && (rc = make_shared(PAGE + stride * (size_t)nlocal, &mine)) != TUTTI_OK)
			continue;
		rc = map_memory(&map, mine, nlocal, stride);
		if (rc && mine >= 0)
			fd_close(mine);
	}
	if (!map)
		return rc;
	*(struct head *)map->base = (struct head){nonce, map->stride, (uint64_t)nlocal};
	if (fd && (*fd = fd_keep(fcntl(mine, F_DUPFD_CLOEXEC, 0))) < 0)
		rc = fail_errno("duplicate the shared memory's descriptor");
	else if ((rc = view(seg, map, 0)) != TUTTI_OK && fd)
		fd_close(*fd);
	map_release(map);
	return rc;
}

/* Is the memory as long as its head says? */
static bool has_size(size_t length, uint64_t stride, int nlocal)
{
	size_t all;
	return stride % PAGE == 0 && stride > heap_start(nlocal) &&
	       !__builtin_mul_overflow(stride, (size_t)nlocal, &all) && !__builtin_add_overflow(all, PAGE, &all) &&
	       length == whole_pages(all);
}

/* The length comes first: it can't change, so a look at the head is safe. */
static int read_head(int fd, int nlocal, uint64_t nonce, struct head *head)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return fail_errno("get the attributes of the shared memory received from this host's lowest rank");
	if (S_ISCHR(st.st_mode))
		return fail(TUTTI_EUNSUPPORTED, "the lowest rank of this host could not create the shared memory");
	int64_t length = os_shared_length(fd);
	if (length < (int64_t)PAGE)
		return fail(
		        TUTTI_EPEER,
		        "the descriptor received from this host's lowest rank is not shared memory of a fixed size");
	const struct head *first = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (first == MAP_FAILED)
		return fail_errno("read the header of the shared memory");
	*head = *first;
	munmap((void *)(uintptr_t)first, PAGE);
	if (head->nonce != nonce || head->nlocal != (uint64_t)nlocal)
		return fail(TUTTI_EPEER,
		            "the shared memory received from this host's lowest rank belongs to another job");
	if (!has_size((size_t)length, head->stride, nlocal))
		return fail(
		        TUTTI_EPEER,
		        "the shared memory received from this host's lowest rank does not have the size that its header states");
	return TUTTI_OK;
}

int segment_join(struct segment **seg, int fd, int nlocal, int me, uint64_t nonce)
{
	struct head head = {0};
	int rc = read_head(fd, nlocal, nonce, &head);
	if (rc)
		return rc;
	int own = fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (own < 0)
		return fail_errno("duplicate the shared memory's descriptor");
	struct mapping *map;
	rc = map_memory(&map, own, nlocal, head.stride);
	if (rc) {
		fd_close(own);
		return rc;
	}
	if (((struct head *)map->base)->nonce != nonce)
		rc = fail(TUTTI_EPEER, "the mapped memory is not the leader's");
	else
		rc = view(seg, map, me);
	map_release(map);
	return rc;
}

int segment_share(struct segment **seg, struct segment *of, int me)
{
	return view(seg, of->map, me);
}

void segment_close(struct segment *s)
{
	if (!s)
		return;
	for (struct extent *e = s->heap, *next; e; e = next) {
		next = e->next;
		free(e->user);
		free(e);
	}
	map_release(s->map);
	free(s);
}

/* ---- heap -------------------------------------------------------------------------------------------------------- */

static uint8_t *extent_address(struct segment *s, const struct extent *e)
{
	return (uint8_t *)region_of(s, s->me) + e->at * PAGE;
}

static int commit(struct mapping *map, const void *p, size_t bytes)
{
	if (map->fd < 0)
		return TUTTI_OK;
	if (!fd_is_ours(map->fd)) /* another file may have its number */
		return fail(TUTTI_ESYSTEM, "the application closed the descriptor of the shared memory");
	if (os_shared_commit(map->fd, (size_t)((const uint8_t *)p - map->base), bytes) == 0)
		return TUTTI_OK;
	return fail(TUTTI_ENOMEM, "no room for %zu bytes of memory shared with this host's ranks", bytes);
}

/* Gives the pages back; they read as zero afterwards. */
static void decommit(struct mapping *map, void *p, size_t bytes)
{
	int rc = -1;
	if (map->fd < 0)
		rc = os_private_release(p, bytes);
	else if (fd_is_ours(map->fd))
		rc = os_shared_release(map->fd, (size_t)((uint8_t *)p - map->base), bytes);
	if (rc != 0)
		memset(p, 0, bytes);
}

static void merge(struct segment *s)
{
	for (struct extent *e = s->heap; e && e->next;) {
		struct extent *n = e->next;
		if (e->used || n->used || e->warm || n->warm) {
			e = n;
			continue;
		}
		e->pages += n->pages;
		e->next = n->next;
		free(n->user);
		free(n);
	}
}

/* ---- what is committed of an area --------------------------------------------------------------------------------- */

static size_t area_bytes(const struct area_shape *shape)
{
	return round_up(APART + shape->head + shape->parts * shape->part, PAGE);
}

/* Of parts that are little longer, nothing is saved. */
static size_t useful_depth(const struct area_shape *shape, size_t depth)
{
	return depth + PAGE >= shape->part || shape->part <= 4 * PAGE ? shape->part : depth;
}

/* The pages from the area's first byte on that hold the first `depth` bytes of part i. */
static struct extent pages_of(const struct area_shape *shape, size_t i, size_t depth)
{
	size_t at = APART + shape->head + i * shape->part, first = at / PAGE;
	return (struct extent){.at = first, .pages = round_up(at + depth, PAGE) / PAGE - first};
}

static size_t depth_of(const struct area *a, const struct area_shape *shape)
{
	size_t depth = atomic_load_explicit(&a->depth, memory_order_relaxed);
	return depth < shape->part ? depth : shape->part;
}

static size_t committed(const struct area *a, const struct area_shape *shape)
{
	size_t pages = round_up(APART + shape->head, PAGE) / PAGE, all = area_bytes(shape), depth = depth_of(a, shape);
	if (depth >= shape->part)
		return all;
	for (size_t i = 0; depth && i < shape->parts; i++)
		pages += pages_of(shape, i, depth).pages;
	return pages * PAGE < all ? pages * PAGE : all;
}

static int deepen(struct mapping *map, struct area *a, const struct area_shape *shape, size_t depth)
{
	int rc = TUTTI_OK;
	depth = useful_depth(shape, depth);
	if (depth <= depth_of(a, shape))
		return TUTTI_OK;
	if (depth == shape->part)
		rc = commit(map, a, area_bytes(shape));
	size_t deep = depth;
	for (size_t i = 0; depth < shape->part && i < shape->parts && !rc; i++) {
		struct extent x = pages_of(shape, i, depth);
		size_t all = (x.at + x.pages) * PAGE - (APART + shape->head + i * shape->part);
		rc = commit(map, (uint8_t *)a + x.at * PAGE, x.pages * PAGE);
		deep = i == 0 || all < deep ? all : deep;
	}
	if (!rc)
		atomic_store_explicit(&a->depth, deep < shape->part ? deep : shape->part, memory_order_relaxed);
	return rc;
}

/* Nobody uses an area any more: its pages wait for the next one, or go. */
static void close_area(struct mapping *map, struct region *r, struct area *a, const struct area_shape *shape)
{
	size_t bytes = committed(a, shape);
	bool keep = atomic_fetch_add_explicit(&r->kept, bytes, memory_order_relaxed) + bytes <= KEEP;
	if (!keep) {
		(void)atomic_fetch_sub_explicit(&r->kept, bytes, memory_order_relaxed);
		if (area_bytes(shape) > PAGE)
			decommit(map, (uint8_t *)a + PAGE, area_bytes(shape) - PAGE);
	}
	atomic_store_explicit(&a->closed, keep ? KEPT : GIVEN_BACK, memory_order_release); /* R40 */
}

/* The owner, or one of the users, is done with an area. The last of them closes it. */
static void leave(struct mapping *map, struct region *r, struct area *a, const struct area_shape *shape)
{
	uint32_t users = a->users; /* once this one has left, the area may be another's */
	if (atomic_fetch_add_explicit(&a->gone, 1, memory_order_acq_rel) + 1 == users) /* R8 */ /* A8 */
		close_area(map, r, a, shape);
}

/* ---- directory --------------------------------------------------------------------------------------------------- */

/* The entry of `key`; with `room`, the first one that can take it. */
static struct entry *probe(struct region *r, uint64_t key, bool room)
{
	for (size_t i = 0; i < DIRECTORY; i++) {
		struct entry *e = &r->entry[(key + i) % DIRECTORY];
		uint64_t k = atomic_load_explicit(&e->key, memory_order_acquire); /* A9 pairs with R9 */
		if (room ? k <= GONE : k == key)
			return e;
		if (k == 0)
			return NULL;
	}
	return NULL;
}

/* An entry before an empty one need not be marked as deleted: probes end there as well. */
static void unlist(struct region *r, struct entry *e)
{
	atomic_store_explicit(&e->key, GONE, memory_order_release); /* R9 */
	for (size_t i = (size_t)(e - r->entry), n = 0; n < DIRECTORY; n++, i = (i + DIRECTORY - 1) % DIRECTORY) {
		const struct entry *after = &r->entry[(i + 1) % DIRECTORY];
		if (atomic_load_explicit(&r->entry[i].key, memory_order_relaxed) != GONE ||
		    atomic_load_explicit(&after->key, memory_order_relaxed) != 0)
			return;
		atomic_store_explicit(&r->entry[i].key, 0, memory_order_release); /* R9 */
	}
}

/* ---- the owner's extents ------------------------------------------------------------------------------------------- */

static uint64_t member_key(uint64_t comm)
{
	uint64_t key = (comm ^ 0x6d656d6265727321u) * 0x9e3779b97f4a7c15u;
	return key > GONE ? key : key + 2;
}

/*
 * Will a user of this rank's area never release it? It may have left the communicator before the area existed, or
 * without having looked for it. A rank that has made a communicator lists itself before it announces that, so the count
 * is read first here.
 */
static bool has_left(struct segment *s, int local, uint64_t comm)
{
	struct region *r = region_of(s, local);
	return !atomic_load_explicit(&r->making, memory_order_acquire) && !probe(r, member_key(comm), false); /* A110 */
}

/* Closes a withdrawn area if all its users have left: what they let go of before is seen by then. */
static uint32_t close_deserted(struct segment *s, const struct extent *e, struct area *a)
{
	for (int i = 0; i < e->nusers; i++)
		if (!has_left(s, e->user[i], e->comm))
			return 0;
	if (!atomic_load_explicit(&a->closed, memory_order_acquire)) /* A40 */
		close_area(s->map, region_of(s, s->me), a, &e->shape);
	return atomic_load_explicit(&a->closed, memory_order_relaxed);
}

/* Closed areas of this rank: only now may their entries go. look: also those that wait for ranks which have left. */
static void reclaim(struct segment *s, bool look)
{
	size_t waiting = 0;
	look |= s->waiting >= s->patience;
	for (struct extent *e = s->heap; e; e = e->next) {
		if (!e->used || !e->withdrawn)
			continue;
		struct area *a = (struct area *)extent_address(s, e);
		uint32_t closed = atomic_load_explicit(&a->closed, memory_order_acquire); /* A40 */
		if (!closed && look)
			closed = close_deserted(s, e, a);
		if (!closed) {
			waiting++;
			continue;
		}
		if (e->entry)
			unlist(region_of(s, s->me), e->entry);
		if (closed == GIVEN_BACK)
			decommit(s->map, a, PAGE);
		e->warm = closed == KEPT;
		e->used = e->withdrawn = false;
		e->entry = NULL;
	}
	s->waiting = waiting;
	if (look)
		s->patience = waiting > PATIENCE / 2 ? 2 * waiting : PATIENCE;
	merge(s);
}

static void cool(struct segment *s, struct extent *e)
{
	struct area *a = (struct area *)extent_address(s, e);
	(void)atomic_fetch_sub_explicit(&region_of(s, s->me)->kept, committed(a, &e->shape), memory_order_relaxed);
	decommit(s->map, a, e->pages * PAGE);
	e->warm = false;
}

static bool cool_all(struct segment *s)
{
	size_t waiting = s->waiting;
	reclaim(s, true);
	bool some = s->waiting < waiting;
	for (struct extent *e = s->heap; e; e = e->next)
		if (e->warm) {
			cool(s, e);
			some = true;
		}
	merge(s);
	return some;
}

static struct extent *take_cold(struct segment *s, size_t pages)
{
	for (struct extent *e = s->heap; e; e = e->next) {
		if (e->used || e->warm || e->pages < pages)
			continue;
		if (e->pages > pages) {
			struct extent *rest = malloc(sizeof(*rest));
			if (!rest)
				return NULL;
			*rest = (struct extent){.at = e->at + pages, .pages = e->pages - pages, .next = e->next};
			e->pages = pages;
			e->next = rest;
		}
		e->used = true;
		return e;
	}
	return NULL;
}

/*
 * Zeroed address space of which the first `ready` bytes are committed. Memory kept for other areas is released if there
 * is no room.
 */
static struct extent *take(struct segment *s, size_t bytes, size_t ready)
{
	size_t pages = bytes <= s->map->stride ? round_up(bytes ? bytes : 1, PAGE) / PAGE : SIZE_MAX;
	struct extent *e = NULL;
	do {
		if ((e = take_cold(s, pages)) && commit(s->map, extent_address(s, e), round_up(ready, PAGE)) == 0)
			return e;
		if (e)
			e->used = false;
	} while (cool_all(s));
	fail(TUTTI_ENOMEM, "no room for %zu bytes of memory shared with this host's ranks", bytes);
	return NULL;
}

void *segment_alloc(struct segment *s, size_t bytes)
{
	reclaim(s, false);
	struct extent *e = take(s, bytes, bytes ? bytes : 1);
	return e ? extent_address(s, e) : NULL;
}

static struct extent *extent_of(struct segment *s, const void *p)
{
	for (struct extent *e = s->heap; e; e = e->next)
		if (e->used && extent_address(s, e) == p)
			return e;
	return NULL;
}

void segment_free(struct segment *s, void *p)
{
	struct extent *e = extent_of(s, p);
	if (!e)
		return;
	decommit(s->map, p, e->pages * PAGE);
	e->used = false;
	merge(s);
}

bool segment_of_threads(const struct segment *s)
{
	return s->map->fd < 0;
}

bool segment_reaches(const struct segment *s, const void *p, size_t bytes)
{
	const uint8_t *b = p, *lo = s->map->base;
	return segment_of_threads(s) ||
	       (b >= lo && b < lo + s->map->bytes && bytes <= (size_t)(lo + s->map->bytes - b));
}

/* ---- areas ------------------------------------------------------------------------------------------------------- */

static bool same_shape(const struct area_shape *a, const struct area_shape *b)
{
	return a->head == b->head && a->part == b->part && a->parts == b->parts;
}

/* A closed area of that shape, with its pages; NULL. */
static struct extent *take_warm(struct segment *s, const struct area_shape *shape)
{
	for (struct extent *e = s->heap; e; e = e->next) {
		struct area *a = (struct area *)extent_address(s, e);
		if (!e->warm || !same_shape(&e->shape, shape))
			continue;
		(void)atomic_fetch_sub_explicit(&region_of(s, s->me)->kept, committed(a, shape), memory_order_relaxed);
		e->warm = false;
		e->used = true;
		return e;
	}
	return NULL;
}

static int note_users(struct segment *s, struct extent *e, const struct area_users *users)
{
	int *user = realloc(e->user, (size_t)(users->n > 0 ? users->n : 1) * sizeof(*user));
	if (!user)
		return fail(TUTTI_ENOMEM, "out of memory");
	e->user = user;
	e->comm = users->comm;
	e->nusers = 0;
	for (int i = 0; i < users->n; i++)
		if (users->local[i] != s->me)
			user[e->nusers++] = users->local[i];
	return TUTTI_OK;
}

void *segment_area(struct segment *s, const struct area_shape *shape, const struct area_users *users)
{
	reclaim(s, false);
	struct extent *e = take_warm(s, shape);
	size_t depth = e ? depth_of((struct area *)extent_address(s, e), shape) : 0;
	if (!e && !(e = take(s, area_bytes(shape), APART + shape->head)))
		return NULL;
	struct area *a = (struct area *)extent_address(s, e);
	if (note_users(s, e, users) != TUTTI_OK) {
		segment_free(s, a);
		return NULL;
	}
	e->shape = *shape;
	*a = (struct area){.users = (uint32_t)e->nusers + 1, .depth = depth};
	memset((uint8_t *)a + APART, 0, shape->head);
	return (uint8_t *)a + APART;
}

static struct area *area_of(void *area)
{
	return (struct area *)((uint8_t *)area - APART);
}

int segment_deepen(struct segment *s, void *area, const struct area_shape *shape, size_t depth)
{
	return deepen(s->map, area_of(area), shape, depth);
}

size_t segment_depth(const void *area, const struct area_shape *shape)
{
	return depth_of((const struct area *)((const uint8_t *)area - APART), shape);
}

static struct entry *free_entry(struct segment *s, uint64_t key)
{
	struct entry *e = probe(region_of(s, s->me), key, true);
	if (!e) {
		reclaim(s, true);
		e = probe(region_of(s, s->me), key, true);
	}
	if (!e)
		fail(TUTTI_ENOMEM, "the shared directory of this rank is full (%u links and communicators)", DIRECTORY);
	return e;
}

int segment_publish(struct segment *s, uint64_t key, void *area)
{
	struct entry *e = free_entry(s, key);
	struct extent *x = extent_of(s, (uint8_t *)area - APART);
	if (!e || !x)
		return TUTTI_ENOMEM;
	x->entry = e;
	atomic_store_explicit(&e->offset, (uint64_t)((uint8_t *)area - s->map->base), memory_order_relaxed);
	atomic_store_explicit(&e->key, key, memory_order_release); /* R9 */
	return TUTTI_OK;
}

/* Could an area of that shape stand there, in the heap of that rank? */
static bool may_stand(const struct mapping *map, int local, uint64_t offset, const struct area_shape *shape)
{
	uint64_t region = PAGE + (uint64_t)map->stride * (uint64_t)local, end = region + map->stride;
	return offset >= region + heap_start(map->nlocal) + APART && offset < end && (offset - APART) % PAGE == 0 &&
	       area_bytes(shape) <= end - (offset - APART);
}

int segment_find(struct segment *s, int local, uint64_t key, const struct area_shape *shape, void **area)
{
	struct entry *e = probe(region_of(s, local), key, false);
	if (!e)
		return LINK_PENDING;
	uint64_t offset = atomic_load_explicit(&e->offset, memory_order_relaxed);
	if (!may_stand(s->map, local, offset, shape))
		return fail(
		        TUTTI_EPEER,
		        "its directory of shared memory names offset %#llx, which is not in its own part: is that process broken?",
		        (unsigned long long)offset);
	*area = s->map->base + offset;
	return TUTTI_OK;
}

void segment_withdraw(struct segment *s, void *area)
{
	struct extent *x = extent_of(s, area_of(area));
	if (!x)
		return;
	x->withdrawn = true;
	leave(s->map, region_of(s, s->me), area_of(area), &x->shape);
	reclaim(s, false);
}

void segment_let_go(struct segment *s, int local, void *area, const struct area_shape *shape)
{
	leave(s->map, region_of(s, local), area_of(area), shape);
}

/* ---- members ----------------------------------------------------------------------------------------------------- */

void segment_making(struct segment *s, bool begins)
{
	_Atomic uint32_t *making = &region_of(s, s->me)->making;
	if (begins)
		(void)atomic_fetch_add_explicit(making, 1, memory_order_release); /* R110 */
	else
		(void)atomic_fetch_sub_explicit(making, 1, memory_order_release); /* R110 */
}

int segment_enlist(struct segment *s, uint64_t comm, struct entry **entry)
{
	*entry = free_entry(s, member_key(comm));
	if (!*entry)
		return TUTTI_ENOMEM;
	atomic_store_explicit(&(*entry)->key, member_key(comm), memory_order_release); /* R9 */
	return TUTTI_OK;
}

void segment_delist(struct segment *s, struct entry *entry)
{
	unlist(region_of(s, s->me), entry);
}

void segment_reads(struct segment *s, int local, bool can)
{
	atomic_store_explicit(&region_of(s, s->me)->reads[local], can, memory_order_relaxed);
}

/* How a local rank reads what this one refers to. What it can't read after all it refuses. */
static enum link_reach reach_of(const struct segment *s, int local)
{
	if (segment_of_threads(s))
		return REACH_ALL;
	bool reads = atomic_load_explicit(&region_of(s, local)->reads[s->me], memory_order_relaxed);
	return reads ? REACH_PROCESS : REACH_WINDOW;
}

_Atomic uint32_t *segment_bell(struct segment *s, int local)
{
	return &region_of(s, local)->bell;
}

intptr_t segment_shift(const struct segment *s, int local)
{
	uint64_t theirs = atomic_load_explicit(&region_of(s, local)->base, memory_order_acquire); /* A7 */
	return (intptr_t)((uint64_t)(uintptr_t)s->map->base - theirs);
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static void fill(struct segment *s, const struct link_spec *spec, uint64_t tag, struct ring *ring, int local,
                 struct link *l)
{
	*l = (struct link){
	        .slots = (uint8_t *)ring->first,
	        .stride = (uint32_t)slot_stride(spec->payload),
	        .mask = spec->nslots - 1,
	        .payload = spec->payload,
	        .outgoing = spec->outgoing,
	        .ready = true,
	        .credit = &ring->credit,
	        .lease = &ring->lease,
	        .copied = &ring->copied,
	        .bell = segment_bell(s, local),
	        .peer = spec->peer,
	        .tag = tag,
	        .wire = ring,
	        .segment = s,
	        .window = s->map->base,
	        .window_bytes = s->map->bytes,
	        .refer_any = REFER_NEVER,
	        .refer_window = REFER_NEVER,
	};
}

static struct area_shape shape_of_ring(size_t stride, uint32_t nslots)
{
	return (struct area_shape){.head = sizeof(struct ring), .part = stride, .parts = nslots};
}

/* Its slots have the pages that their heads stand in; the sender sees to those of a longer payload. */
static struct ring *make_ring(struct segment *s, const struct link_spec *spec, uint64_t tag, int local)
{
	size_t stride = slot_stride(spec->payload);
	struct area_shape shape = shape_of_ring(stride, spec->nslots);
	struct ring *ring = segment_area(s, &shape, &(struct area_users){spec->comm, &local, 1});
	if (!ring)
		return NULL;
	int rc = segment_deepen(s, ring, &shape, sizeof(struct slot));
	for (uint32_t i = 0; i < spec->nslots && !rc; i++) /* the pages may be those of an earlier ring */
		atomic_store_explicit(&((struct slot *)((uint8_t *)ring->first + i * stride))->seq, 0,
		                      memory_order_relaxed);
	if (rc || segment_publish(s, tag, ring) != TUTTI_OK) {
		segment_free(s, area_of(ring));
		return NULL;
	}
	return ring;
}

static void ready_for(struct link *l, struct ring *ring)
{
	struct area_shape shape = shape_of_ring(l->stride, l->mask + 1);
	size_t depth = segment_depth(ring, &shape), least = sizeof(struct slot) + SLOT_INLINE;
	depth = depth > least ? depth : least;
	l->committed = depth < l->stride ? (uint32_t)(depth - sizeof(struct slot)) : l->payload;
	l->committed = l->committed > SLOT_INLINE ? l->committed : SLOT_INLINE;
}

/* Twice as much as before at least: a ring grows a few times in its life. */
int link_commit(struct link *l, size_t bytes)
{
	struct area_shape shape = shape_of_ring(l->stride, l->mask + 1);
	size_t depth = sizeof(struct slot) + (bytes > 2 * (size_t)l->committed ? bytes : 2 * (size_t)l->committed);
	int rc = segment_deepen(l->segment, l->wire, &shape, depth < l->stride ? depth : l->stride);
	if (!rc)
		ready_for(l, l->wire);
	return rc;
}

/* The ring of a link, made here or found there. */
static int ring_of(struct segment *s, const struct link_spec *spec, uint64_t tag, int local, void **ring)
{
	struct area_shape shape = shape_of_ring(slot_stride(spec->payload), spec->nslots);
	if (spec->outgoing != (spec->lane < 0))
		return segment_find(s, local, tag, &shape, ring);
	*ring = make_ring(s, spec, tag, local);
	return *ring ? TUTTI_OK : TUTTI_ENOMEM;
}

int segment_connect(struct segment *s, const struct link_spec *spec, int self, int local, struct link *link)
{
	uint64_t tag = link_tag(spec, self);
	void *ring;
	int rc = ring_of(s, spec, tag, local, &ring);
	if (rc)
		return rc;
	fill(s, spec, tag, ring, local, link);
	if (!spec->outgoing) {
		link->reach = segment_of_threads(s) ? REACH_ALL : REACH_PROCESS;
		link->window_shift = segment_shift(s, local);
		return TUTTI_OK;
	}
	link->reach = reach_of(s, local);
	ready_for(link, ring);
	link->refer_window = REFER_WINDOW;
	link->refer_any = link->reach == REACH_ALL       ? REFER_WINDOW
	                  : link->reach == REACH_PROCESS ? REFER_PROCESS
	                                                 : REFER_NEVER;
	if (link->reach == REACH_PROCESS && !(link->loans = calloc(spec->nslots, sizeof(*link->loans))))
		return fail(TUTTI_ENOMEM, "out of memory");
	return TUTTI_OK;
}

static struct region *region_holding(const struct segment *s, const void *p)
{
	return region_of(s, (int)((size_t)((const uint8_t *)p - s->map->base - PAGE) / s->map->stride));
}

void segment_disconnect(struct segment *s, struct link *link)
{
	struct area_shape shape = shape_of_ring(link->stride, link->mask + 1);
	struct region *r = region_holding(s, link->wire);
	if (r == region_of(s, s->me))
		segment_withdraw(s, link->wire);
	else
		leave(s->map, r, area_of(link->wire), &shape);
	free(link->loans);
	link->loans = NULL;
	link->ready = false;
}
