/* SPDX-License-Identifier: MIT */
/* Memory for keys, see secret.h: pages that are cut into blocks, and kept for the next keys. */
#include "secret.h"
#include "../os/os.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/mman.h>

#define PAGE 16384 /* bytes asked for at a time */

union block {
	union block *next;
	unsigned char bytes[SECRET_BLOCK];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static union block *unused;

/*
 * Locking may fail if the limit is too low. The pages may then be swapped out, but they are still excluded from dumps.
 */
static void add_page(void)
{
	union block *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	os_memory_not_dumped(page, PAGE);
	(void)mlock(page, PAGE);
	for (size_t i = 0; i < PAGE / sizeof(*page); i++) {
		page[i].next = unused;
		unused = &page[i];
	}
}

static void take_lock(void)
{
	pthread_mutex_lock(&lock);
}

static void give_lock(void)
{
	pthread_mutex_unlock(&lock);
}

/* A forked child finds the lock free. */
static void watch_forks(void)
{
	(void)pthread_atfork(take_lock, give_lock, give_lock);
}

void *secret_alloc(size_t bytes)
{
	union block *b = NULL;

	if (bytes > sizeof(*b))
		return NULL;
	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&lock);
	if (!unused)
		add_page();
	if (unused) {
		b = unused;
		unused = b->next;
	}
	pthread_mutex_unlock(&lock);
	if (b)
		sodium_memzero(b, sizeof(*b));
	return b;
}

void secret_free(void *p)
{
	union block *b = p;

	if (!b)
		return;
	sodium_memzero(b, sizeof(*b));
	pthread_mutex_lock(&lock);
	b->next = unused;
	unused = b;
	pthread_mutex_unlock(&lock);
}

void secret_wipe(void *p, size_t bytes)
{
	sodium_memzero(p, bytes);
}
