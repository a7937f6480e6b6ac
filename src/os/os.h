/*
 * The seam to the operating system: what the library, the transports, the tools and perf need of it beyond POSIX. This
 * header is the contract; one file for each system keeps it (linux.c), with what must cost nothing inline in a header of the
 * same name. No other file includes a header of one system or calls what only one system has (tests/layering.sh). What
 * POSIX has is called where it is used.
 *
 * Unless a function says otherwise: any thread may call it, it does not block, and it fails with -1 and errno. It logs
 * nothing and knows nothing of Tutti. Descriptors that come from here are closed on exec; the caller passes them to fd_keep
 * and closes them. Where a system lacks something, the function says so by its result, and each caller does without.
 * tests/os/test_os.c holds an implementation against this text.
 */
#ifndef TUTTI_OS_H
#define TUTTI_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include "linux.h"
#else
#error "src/os has no file for this system yet: write one that keeps the contract in os.h"
#endif

/* ---- time -------------------------------------------------------------------------------------------------------- */

/*
 * uint64_t os_clock_ns(void)
 *
 * Nanoseconds since some moment before the first call. Never goes back, is not set by anybody, and has a resolution of less
 * than a microsecond. Threads and processes of one host see the same clock, but for those in another time namespace. It
 * can't fail and makes no system call where the system allows that: the hot path asks it.
 */

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

/** Whose threads sleep on a word. Those who sleep and those who wake must say the same. */
enum os_reach {
	OS_PROCESS, /* threads of this process */
	OS_HOST     /* whoever has mapped the memory that the word is in, at whatever address */
};

/**
 * Blocks while the aligned 32-bit word holds `value`, until os_wake or for at most ns nanoseconds. The look at the word and
 * the falling asleep are one step for os_wake: who changes the word and then wakes is never missed. It also returns early for
 * a signal, or for no reason, so callers look at the word again; it says nothing about why it returned, and orders no
 * memory.
 */
void os_sleep_on(const void *word, uint32_t value, uint64_t ns, enum os_reach reach);

/** Wakes all threads that sleep on the word. Nobody sleeping is no error. */
void os_wake(const void *word, enum os_reach reach);

/**
 * How often the system took the core from the calling thread and gave it to another one, since the thread began. 0, always,
 * where the system does not count that for threads.
 */
long os_preemptions(void);

#endif
