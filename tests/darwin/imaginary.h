/* SPDX-License-Identifier: MIT */
/*
 * What the files of the imaginary Darwin share: the calls that tests/darwin/darwin.h puts in place of Linux's. Each does what
 * the call of that name does on macOS, as far as this project needs it, and refuses what macOS refuses. They are weak
 * symbols, so a test can define its own version of a call, as it can on a Mac.
 */
#ifndef TESTS_DARWIN_IMAGINARY_H
#define TESTS_DARWIN_IMAGINARY_H

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define DARWIN_PAGE ((size_t)16384) /* of an M-chip */
#ifndef DARWIN_CALL
#define DARWIN_CALL __attribute__((weak)) /* what is defined; a weak use would not be looked for in a library */
#endif

/* sockets.c */
DARWIN_CALL int darwin_socket(int family, int type, int protocol);
DARWIN_CALL int darwin_socketpair(int family, int type, int protocol, int sv[2]);
DARWIN_CALL int darwin_bind(int sock, const struct sockaddr *to, socklen_t len);
DARWIN_CALL int darwin_connect(int sock, const struct sockaddr *to, socklen_t len);
DARWIN_CALL int darwin_accept(int listener, struct sockaddr *from, socklen_t *len);
DARWIN_CALL int darwin_getsockopt(int sock, int level, int option, void *value, socklen_t *len);
DARWIN_CALL int darwin_setsockopt(int sock, int level, int option, const void *value, socklen_t len);
DARWIN_CALL ssize_t darwin_send(int sock, const void *p, size_t n, int flags);
DARWIN_CALL ssize_t darwin_sendto(int sock, const void *p, size_t n, int flags, const struct sockaddr *to,
                                  socklen_t len);
DARWIN_CALL ssize_t darwin_sendmsg(int sock, const struct msghdr *m, int flags);
DARWIN_CALL ssize_t darwin_read(int fd, void *p, size_t n);
DARWIN_CALL ssize_t darwin_write(int fd, const void *p, size_t n);
DARWIN_CALL ssize_t darwin_readv(int fd, const struct iovec *v, int n);
DARWIN_CALL ssize_t darwin_writev(int fd, const struct iovec *v, int n);
DARWIN_CALL ssize_t darwin_pread(int fd, void *p, size_t n, off_t at);
DARWIN_CALL ssize_t darwin_pwrite(int fd, const void *p, size_t n, off_t at);

bool darwin_is_inet(int sock);

/* kqueue.c: descriptors that close must leave their queues */
DARWIN_CALL int darwin_close(int fd);
DARWIN_CALL int darwin_fclose(FILE *f);
DARWIN_CALL int darwin_closedir(DIR *d);
DARWIN_CALL int darwin_dup(int fd);
DARWIN_CALL int darwin_dup2(int fd, int to);
DARWIN_CALL int darwin_fcntl(int fd, int command, ...);
bool darwin_is_kqueue(int fd);
/** From this number on descriptors may be the imaginary Darwin's own. */
int darwin_first_of_ours(void);

/* signals.c: those that a queue has told of stay pending */
DARWIN_CALL int darwin_sigwait(const sigset_t *set, int *sig);
DARWIN_CALL int darwin_sigpending(sigset_t *set);
DARWIN_CALL int darwin_sigprocmask(int how, const sigset_t *set, sigset_t *old);
DARWIN_CALL int darwin_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
DARWIN_CALL int darwin_sigaction(int sig, const struct sigaction *a, struct sigaction *old);
DARWIN_CALL void (*darwin_signal(int sig, void (*handler)(int)))(int);
void darwin_signal_told(int sig);

/* memory.c */
bool darwin_is_shm(int fd);
DARWIN_CALL int darwin_shm_open(const char *name, int flags, ...);
DARWIN_CALL int darwin_shm_unlink(const char *name);
DARWIN_CALL int darwin_ftruncate(int fd, off_t bytes);
DARWIN_CALL int darwin_fstat(int fd, struct stat *st);
DARWIN_CALL void *darwin_mmap(void *p, size_t bytes, int prot, int flags, int fd, off_t at);
DARWIN_CALL int darwin_munmap(void *p, size_t bytes);
DARWIN_CALL int darwin_mprotect(void *p, size_t bytes, int prot);
DARWIN_CALL int darwin_madvise(void *p, size_t bytes, int advice);
int minherit(void *p, size_t bytes, int inherit);

/* system.c */
DARWIN_CALL long darwin_sysconf(int name);
DARWIN_CALL int darwin_getpagesize(void);
DARWIN_CALL int darwin_open(const char *path, int flags, ...);
DARWIN_CALL FILE *darwin_fopen(const char *path, const char *mode);
DARWIN_CALL DIR *darwin_opendir(const char *path);
DARWIN_CALL ssize_t darwin_readlink(const char *path, char *to, size_t cap);
DARWIN_CALL int darwin_access(const char *path, int mode);
DARWIN_CALL int darwin_setname(const char *name);
int pthread_threadid_np(pthread_t thread, uint64_t *id);
uint64_t clock_gettime_nsec_np(clockid_t clock);
int getpeereid(int sock, uid_t *uid, gid_t *gid);

/** Whether this Mac lacks what macOS has by that name: the variable DARWIN_LACKS is a list of such names. */
bool darwin_lacks(const char *name);

/** Ends the process: the program relies on what the imaginary Darwin does not imitate. */
_Noreturn void darwin_unknown(const char *what);

/* What Apple's headers define under names that Linux has no use for. */
#define DARWIN_SO_NOSIGPIPE         0x1022
#define DARWIN_TCP_RXT_CONNDROPTIME 0x80

#endif
