/* SPDX-License-Identifier: MIT */
/*
 * The seam to the operating system: what the library, the transports, the tools and perf need of it beyond POSIX. This
 * header is the contract. One file for each system implements it (linux.c, darwin.c); what must cost nothing is inline in a
 * header of the same name. No other file includes a header of one system or calls a function that only one system has
 * (tests/layering.sh). Functions of POSIX are called where they are used.
 *
 * Unless a function says otherwise: any thread may call it, it does not block, and it fails with -1 and errno. It logs
 * nothing and knows nothing of Tutti. Descriptors that it returns are closed on exec; the caller passes them to fd_keep and
 * closes them. If a system lacks something, the function's result says so, and every caller manages without it.
 * tests/os/test_os.c checks an implementation against this text.
 */
#ifndef TUTTI_OS_H
#define TUTTI_OS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#if defined(__linux__)
#include "linux.h"
#elif defined(__APPLE__)
#include "darwin.h"
#else
#error "src/os has no file for this system yet: write one that keeps the contract in os.h"
#endif

/* ---- time -------------------------------------------------------------------------------------------------------- */

/*
 * uint64_t os_clock_ns(void)
 *
 * Nanoseconds since some moment before the first call. The clock never goes back, nobody sets it, and its resolution is
 * better than a microsecond. All threads and processes of a host see the same clock, except those in another time namespace.
 * The function can't fail and avoids a system call if it can, because the hot path calls it.
 */

/** Text that is equal for processes that see the same clock. Returns its length, at most cap; 0: not known. */
size_t os_clock_text(char *text, size_t cap);

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

/** Which threads may sleep on a word. The sleepers and the wakers must pass the same value. */
enum os_reach {
	OS_PROCESS, /* threads of this process */
	OS_HOST     /* threads of all processes that have mapped the memory of the word, at any address */
};

/**
 * Blocks while the aligned 32-bit word holds `value`, until os_wake or for at most ns nanoseconds. Reading the word and
 * falling asleep are one step with respect to os_wake: a thread that changes the word and then calls os_wake is never
 * missed. The function may also return early because of a signal, or without a reason, so callers read the word again. It does
 * not say why it returned, and it orders no memory.
 */
void os_sleep_on(const void *word, uint32_t value, uint64_t ns, enum os_reach reach);

/** Wakes all threads that sleep on the word. It is not an error if none does. */
void os_wake(const void *word, enum os_reach reach);

/**
 * How often the system took the core from the calling thread and gave it to another one, since the thread began. Always 0
 * if the system does not count this for threads.
 */
long os_preemptions(void);

/* ---- events ------------------------------------------------------------------------------------------------------ */

/*
 * A queue reports which of many descriptors are ready. It is itself a descriptor, readable while it has something to report,
 * so poll and other queues can watch it. A forked child may only close its parent's queues, timers and events, and may find
 * them closed.
 */
int os_queue_open(void);

enum {
	OS_READ = 1,  /* a read would not wait: there are bytes, the end, or an error that it returns */
	OS_WRITE = 2, /* a write would not wait: there is room, or an error that it returns */
	OS_ONCE = 4   /* report once, then not before the next os_queue_watch for this descriptor */
};

struct os_ready {
	uint64_t tag;
	unsigned events; /* OS_READ, OS_WRITE. After a hang-up or an error, both may be set, watched for or not */
};

/**
 * From now on the queue watches fd for `events` (0: for nothing) and reports it by `tag`. `was` is what the queue watched fd
 * for before, 0 if it did not; with OS_ONCE, events that were reported still count as watched. An event that is ready already
 * is reported, and every wait reports it again while it stays ready. A thread in os_queue_wait sees the change. A descriptor
 * leaves its queues when all its copies are closed. Fails with EBADF, EINVAL or ENOENT if fd or queue is no longer the file
 * that `was` is about, because the application closed it; a call that changes nothing (`was` equals `events`) finds this out
 * as well. EEXIST, or no error: it was watched although `was` is 0.
 */
int os_queue_watch(int queue, int fd, unsigned was, unsigned events, uint64_t tag);

/**
 * Waits until something is ready, for at most ms milliseconds (-1: without limit), and stores up to cap entries; the rest
 * follows in the next call. Returns the number of entries; 0: nothing became ready in time, or a signal came. -1: `queue` is
 * not a queue. A thread can be cancelled here without losing anything.
 */
int os_queue_wait(int queue, struct os_ready *ready, int cap, int ms);

/** A descriptor that is readable from os_event_raise to os_event_clear, for poll and queues. Callers never read or write it. */
int os_event_open(void);
void os_event_raise(int event);
void os_event_clear(int event);

/**
 * A descriptor that becomes readable every `every_ns` nanoseconds after os_timer_set, and stays readable until os_timer_rest or
 * the next os_timer_set. 0 stops it and makes it unreadable. A tick may be late by the system's timer resolution.
 */
int os_timer_open(void);
void os_timer_set(int timer, uint64_t every_ns);
void os_timer_rest(int timer);

/* ---- processors and threads -------------------------------------------------------------------------------------- */

/*
 * A set of processors has one bit for each, by the system's number, in 64-bit words, the lowest first. `words` is the number of
 * words that fit; on Linux it must be a multiple of 16.
 */

/** Where the calling thread may run. False: the system does not say, or a processor does not fit into the set. */
bool os_cpus_allowed(uint64_t *set, size_t words);

/** Binds the calling thread. False: the system refuses, or it can't bind threads. */
bool os_cpus_bind(const uint64_t *set, size_t words);

/** The largest cache that a processor of this machine has, in bytes; 0: not known. */
size_t os_cache_bytes(void);

/** Names the calling thread for debuggers and similar tools: up to 15 characters. */
void os_thread_name(const char *name);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/** Memory of the machine in bytes. */
uint64_t os_memory_bytes(void);

/** The part of it that is free: at least this much can be allocated. 0: not known. */
uint64_t os_memory_free(void);

/* Hints about the pages in [p, p + bytes) of the calling process. A system may ignore them. */
void os_memory_not_dumped(void *p, size_t bytes);  /* a core file does not contain them */
void os_memory_not_forked(void *p, size_t bytes);  /* a forked child has no memory at these addresses */
void os_memory_large_pages(void *p, size_t bytes); /* use large pages */

/**
 * Takes the pages from a NUMA node while it has free memory, then from others. Returns 0 or an errno. EINVAL: no such node.
 * ENOSYS: the system does not offer a choice.
 */
int os_memory_from_node(void *p, size_t bytes, int node);

/* ---- memory that processes share --------------------------------------------------------------------------------- */

/**
 * A descriptor of at least `bytes` zeroed bytes without a name, for mmap with MAP_SHARED in this process and in every process
 * that receives the descriptor. Its length is a multiple of the system's page size (sysconf), and nobody can change it. It is
 * sparse: memory that nobody has touched is not allocated. Callers do not read or write the descriptor. Fails, without a
 * signal, if a limit of this process is lower.
 */
int os_shared_open(size_t bytes);

/** Its length. EINVAL: it does not come from os_shared_open, or its length could still change. */
int64_t os_shared_length(int fd);

/**
 * Allocates memory for bytes [at, at + bytes) now, so that the first access can't end the process. Fails with ENOSPC or
 * another error if there is none. If a system can't allocate in advance, it returns 0 and does nothing.
 */
int os_shared_commit(int fd, size_t at, size_t bytes);

/** Returns their memory; they read as zero afterwards, in all mappings. -1: not possible, and nothing has changed. */
int os_shared_release(int fd, size_t at, size_t bytes);

/** The same for a private anonymous mapping. -1 also if p or bytes is not a multiple of the system's page size. */
int os_private_release(void *p, size_t bytes);

/** recvmsg that does not wait. Descriptors that come with the message are closed on exec. */
ssize_t os_receive_message(int sock, struct msghdr *m);

/**
 * Copies bytes at address `from` of another process to `to`. Returns the number of bytes copied, which may be smaller than
 * requested. -1: EFAULT, some bytes are not mapped, in that process or in this one. ESRCH, the process is gone. EPERM, ENOSYS or
 * another error, this process may not read that one at any address. A process can lose this right at any time.
 */
ssize_t os_read_process(pid_t pid, uint64_t from, void *to, size_t bytes);

/* ---- processes --------------------------------------------------------------------------------------------------- */

/**
 * Process and user at the other end of a connected local socket, as of the time when it connected or listened. pid 0: the
 * process has no number here, for example because it is in another pid namespace. False: not known, or not a local socket.
 */
bool os_peer(int sock, pid_t *pid, uid_t *uid);

/**
 * A descriptor that becomes readable when the process has ended, even if its parent has not waited for it, and stays readable.
 * Callers do not read it. ESRCH: there is no such process, or it has ended already. The process need not be a child.
 */
int os_process_open(pid_t pid);

/**
 * Text that is equal for processes that can reach each other by names of local sockets and may share memory: processes of one
 * boot of one machine in one network namespace. Returns its length, at most cap; 0: not known.
 */
size_t os_host_text(char *text, size_t cap);

/** Two processes with equal values use the same number for a third process. 0: not known, or all processes of the host do. */
uint64_t os_process_space(void);

/**
 * The system kills the calling process when the thread that created it ends, also after exec. -1: this system can't do that.
 * The parent may have ended before the call, so callers check this afterwards.
 */
int os_end_with_parent(void);

/** The number of open descriptors of the calling process, or slightly more; 0: not known. */
size_t os_open_files(void);

/** The environment, as getenv sees it; ends with NULL. */
char **os_environment(void);

/** The path of the running program, 0-terminated. False: not known, or longer than cap. */
bool os_program_path(char *path, size_t cap);

/**
 * A descriptor that is readable while signals of the set are pending; all threads block these signals. os_signals_next returns
 * the number of one of them, or 0 if there is none. A signal that comes twice before it is taken may be reported once.
 */
int os_signals_open(const sigset_t *set);
int os_signals_next(int signals);

/** The system's text for an errno, in buf or in static memory. */
const char *os_error_text(int error, char *buf, size_t cap);

/* ---- sockets and pipes ------------------------------------------------------------------------------------------- */

/*
 * OS_NO_SIGNAL   flag for every send: if the peer has closed the socket, the send fails with EPIPE, without a signal
 * OS_NO_DELAY    flag for a send: its last byte is sent at once, also while other packets of the socket wait in the
 *                network device's queue; 0 if the system never holds it back for that reason
 */

/** A socket that does not wait. */
int os_socket(int family, int type);

/** The next pending connection of a listener. The call does not wait, and the connection is non-blocking. */
int os_accept(int listener);

/** Their ends are blocking. */
int os_pipe(int ends[2]);
int os_stream_pair(int ends[2]);

/** Two connected non-blocking local sockets that preserve message boundaries, for messages of a few KiB. */
int os_message_pair(int ends[2]);

/**
 * Local sockets by name, of up to 40 letters, digits and hyphens. Nobody outside this host can reach them; other users may. A
 * name is free again when all copies of its listener are closed. EADDRINUSE: somebody listens by that name.
 */
int os_local_listen(const char *name, int backlog);

/**
 * Connects a socket of family AF_UNIX, at once or not at all. EAGAIN: too many connections wait there already; try again.
 * ECONNREFUSED or another error: nobody listens by that name, or, if the system can't tell the two apart, too many wait.
 */
int os_local_connect(int sock, const char *name);

/** Called before a listener of os_local_listen is closed. Removes what the system keeps of its name. Does nothing in a child. */
void os_local_unlisten(int listener);

/* The next three do nothing with sockets that are not TCP, or if the system has no such function. */

/** After `idle` seconds of silence the system probes the other host `count` (at most 127) times, then ends the connection. */
void os_tcp_keep_alive(int sock, int idle, int every, int count);

/** The system ends the connection if sent bytes are not taken for this long, also if the other host answers that it has no room. */
void os_tcp_give_up_after(int sock, int seconds);

/**
 * For how many nanoseconds the other host has owed an answer: sent bytes or the system's probes were repeated, and nothing
 * came back. 0: it owes none, or the system does not say.
 */
uint64_t os_tcp_unanswered(int sock);

#endif
