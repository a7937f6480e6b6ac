/* SPDX-License-Identifier: MIT */
/*
 * The seam to the operating system: what the library, the transports, the tools and perf need of it beyond POSIX. This
 * header is the contract; one file for each system keeps it (linux.c, darwin.c), with what must cost nothing inline in a header of the
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
 * Nanoseconds since some moment before the first call. Never goes back, is not set by anybody, and has a resolution of less
 * than a microsecond. Threads and processes of one host see the same clock, but for those in another time namespace. It
 * can't fail and makes no system call where the system allows that: the hot path asks it.
 */

/** Text that is the same for those who see the same clock. Returns its length, at most cap; 0: not known. */
size_t os_clock_text(char *text, size_t cap);

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

/* ---- events ------------------------------------------------------------------------------------------------------ */

/*
 * A queue tells which of many descriptors are ready. It is a descriptor itself, readable while it has something to tell, so
 * poll and other queues can watch it. A forked child must not use its parent's queues, timers and events, only close them,
 * and may find them closed.
 */
int os_queue_open(void);

enum {
	OS_READ = 1,  /* a read would not wait: there are bytes, the end, or an error that it returns */
	OS_WRITE = 2, /* a write would not wait: there is room, or an error that it returns */
	OS_ONCE = 4   /* tell once, then not before the next os_queue_watch for this descriptor */
};

struct os_ready {
	uint64_t tag;
	unsigned events; /* OS_READ, OS_WRITE. After a hang-up or an error, both may be set, watched for or not */
};

/**
 * From now on the queue watches fd for `events`, 0: for nothing, and tells of it by `tag`. `was`: what it was watched for
 * in this queue before, 0 if it was not; with OS_ONCE, what was told already counts as watched. What is ready already is told
 * of, and again by each wait while it stays so. A thread in os_queue_wait sees the change. A descriptor that is closed, in
 * all its copies, leaves its queues by itself. Fails with EBADF, EINVAL or ENOENT where fd or queue is no longer the file that
 * `was` is about, because the application closed it; a call that changes nothing (`was` equals `events`) finds that out, too.
 * EEXIST, or no error: it was watched, though `was` says 0.
 */
int os_queue_watch(int queue, int fd, unsigned was, unsigned events, uint64_t tag);

/**
 * Waits until something is ready, for at most ms milliseconds (-1: without end), and writes down up to cap of it; what
 * found no room comes next time. Returns their number; 0: nothing in that time, or a signal came. -1: `queue` is none. A thread can
 * be cancelled in it, and nothing is lost then.
 */
int os_queue_wait(int queue, struct os_ready *ready, int cap, int ms);

/** A descriptor that is readable from os_event_raise to os_event_clear, for poll and queues. Never read or written otherwise. */
int os_event_open(void);
void os_event_raise(int event);
void os_event_clear(int event);

/**
 * A descriptor that becomes readable each `every_ns` nanoseconds after os_timer_set, and stays so until os_timer_rest or
 * the next os_timer_set. 0: no more, and not readable. A tick may come late by what the system rounds timers to.
 */
int os_timer_open(void);
void os_timer_set(int timer, uint64_t every_ns);
void os_timer_rest(int timer);

/* ---- processors and threads -------------------------------------------------------------------------------------- */

/*
 * A set of processors is a bit for each by the system's number, in 64-bit words, the lowest first; `words` is how many words
 * there is room for, which on Linux is to be a multiple of 16.
 */

/** Where the calling thread may run. False: the system does not say, or one of them has no room. */
bool os_cpus_allowed(uint64_t *set, size_t words);

/** Binds the calling thread. False: the system refuses that, or never binds threads. */
bool os_cpus_bind(const uint64_t *set, size_t words);

/** The largest cache that a processor of this machine has, in bytes; 0: not known. */
size_t os_cache_bytes(void);

/** Names the calling thread for debuggers and the like: up to 15 characters. */
void os_thread_name(const char *name);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/** Of the machine, in bytes. */
uint64_t os_memory_bytes(void);

/** Of these, what nobody uses: at least so much can be had. 0: not known. */
uint64_t os_memory_free(void);

/* Of the pages in [p, p + bytes) of the calling process: wishes, which a system may ignore. */
void os_memory_not_dumped(void *p, size_t bytes);  /* they are in no file that a crash leaves */
void os_memory_not_forked(void *p, size_t bytes);  /* a forked child has nothing at these addresses */
void os_memory_large_pages(void *p, size_t bytes); /* few large ones */

/**
 * Takes them from a NUMA node as long as it has some, from others then. 0, or an errno; EINVAL: there is no such node, ENOSYS:
 * the system gives no choice.
 */
int os_memory_from_node(void *p, size_t bytes, int node);

/* ---- memory that processes share --------------------------------------------------------------------------------- */

/**
 * A descriptor of at least `bytes` zeroed bytes without a name, for mmap with MAP_SHARED here and in every process that the
 * descriptor is passed to. Its length is a multiple of the system's page (sysconf), and nobody can change it. It is sparse: what
 * nobody has touched takes no memory. It is neither read nor written with its descriptor. Fails, and sends no signal, where a
 * limit of this process is less.
 */
int os_shared_open(size_t bytes);

/** Its length. EINVAL: os_shared_open did not make it, or its length could still change. */
int64_t os_shared_length(int fd);

/**
 * Takes memory for bytes [at, at + bytes) now, so that the first touch of them can't end the process. Fails with ENOSPC or
 * another error when there is none. Where a system can't take it in advance, it is 0 and does nothing.
 */
int os_shared_commit(int fd, size_t at, size_t bytes);

/** Gives their memory back; they read as zero afterwards, in all mappings. -1: that can't be done, and nothing has changed. */
int os_shared_release(int fd, size_t at, size_t bytes);

/** The same for an anonymous mapping of this process alone. -1 also if p or bytes is not a multiple of the system's page. */
int os_private_release(void *p, size_t bytes);

/** recvmsg that does not wait; descriptors that come with the message are closed on exec. */
ssize_t os_receive_message(int sock, struct msghdr *m);

/**
 * Copies bytes at address `from` of another process to `to`. Returns how many it has copied, maybe fewer than asked for. -1:
 * EFAULT, some of them are not mapped, there or here; ESRCH, the process is gone; EPERM, ENOSYS or another error, this process
 * may not read that one, whatever the address. It may lose that right at any time.
 */
ssize_t os_read_process(pid_t pid, uint64_t from, void *to, size_t bytes);

/* ---- processes --------------------------------------------------------------------------------------------------- */

/**
 * Process and user at the other end of a connected local socket, as they were when it connected or listened. pid 0: it has no
 * number here, as when it is in another pid namespace. False: not known, or not a local socket.
 */
bool os_peer(int sock, pid_t *pid, uid_t *uid);

/**
 * A descriptor that becomes readable when the process has ended, whether or not its parent has waited for it, and stays so.
 * Never read. ESRCH: there is no such process, or it has ended already. Others than children may be watched, too.
 */
int os_process_open(pid_t pid);

/**
 * Text that is the same for processes that reach each other by the names of local sockets, and may share memory: those of one
 * boot of one machine, in one network namespace. Returns its length, at most cap; 0: not known.
 */
size_t os_host_text(char *text, size_t cap);

/** Two processes with the same value call a third one by the same number. 0: not known, or all of the host do. */
uint64_t os_process_space(void);

/**
 * The system kills the calling process when the thread that made it ends, also after it runs another program. -1: this system
 * does no such thing. The parent may have ended before the call, so ask for it afterwards.
 */
int os_end_with_parent(void);

/** How many descriptors the calling process has open, or a few more; 0: not known. */
size_t os_open_files(void);

/** The environment, as getenv sees it; ends with NULL. */
char **os_environment(void);

/** The path of the running program, 0-terminated. False: not known, or longer than cap. */
bool os_program_path(char *path, size_t cap);

/**
 * A descriptor that is readable while signals of the set, which all threads block, have come. os_signals_next: the number of
 * one of them, 0 when there is none. A signal that comes twice before it is taken may be told once.
 */
int os_signals_open(const sigset_t *set);
int os_signals_next(int signals);

/** The system's words for an errno: in buf, or for ever. */
const char *os_error_text(int error, char *buf, size_t cap);

/* ---- sockets and pipes ------------------------------------------------------------------------------------------- */

/*
 * OS_NO_SIGNAL   flag of each send: on a socket from here, one whose other side has closed it is EPIPE, without a signal
 * OS_NO_DELAY    flag of a send: its last byte goes out at once, also while other packets of the socket wait in the
 *                network device's queue; 0 where the system never holds it back for that
 */

/** A socket that does not wait. */
int os_socket(int family, int type);

/** The next connection that waits at a listener; neither the call nor the connection waits. */
int os_accept(int listener);

/** Their ends wait, until the caller says otherwise. */
int os_pipe(int ends[2]);
int os_stream_pair(int ends[2]);

/** Two connected local sockets that keep messages apart, up to some KiB each, and do not wait. */
int os_message_pair(int ends[2]);

/**
 * Local sockets by name, of up to 40 letters, digits and hyphens: nobody outside this host reaches them, but maybe other users do. A
 * name is free again when its listener is closed, in all its copies. EADDRINUSE: somebody listens by that name.
 */
int os_local_listen(const char *name, int backlog);

/**
 * Connects a socket of family AF_UNIX, at once or not at all. EAGAIN: too many wait there already, and one may come again.
 * ECONNREFUSED or another error: nobody listens by that name, or, where the system can't tell the two apart, too many wait.
 */
int os_local_connect(int sock, const char *name);

/** Just before a listener of os_local_listen is closed: removes what the system may keep of its name. Nothing in a child. */
void os_local_unlisten(int listener);

/* The next three do nothing with what is no TCP socket, or where the system has no such thing. */

/** After `idle` seconds without a word the system asks the other host, `count` (at most 127) times, then breaks off. */
void os_tcp_keep_alive(int sock, int idle, int every, int count);

/** The system breaks off when bytes of ours were not taken for so long, also if the other host answers that it has no room. */
void os_tcp_give_up_after(int sock, int seconds);

/**
 * For how long, in nanoseconds, the other host owes an answer: bytes of ours or the system's questions were repeated, and
 * nothing at all came back. 0: it owes none, or the system does not say.
 */
uint64_t os_tcp_unanswered(int sock);

#endif
