/* SPDX-License-Identifier: MIT */
/*
 * A strict imaginary Darwin for tests. With it, src/os/darwin.c and all the code above it is compiled, run and tested on
 * Linux. The compiler includes this file before every file of the program (`make check-darwin`). The folder include/ holds
 * those names of Apple's headers that this project uses.
 *
 * It works by renaming, which is easy to see and leaves no way around it. A call that macOS and Linux both have, but answer
 * differently, is a macro below that leads to tests/darwin. A name that macOS does not have is poisoned, and a file that uses
 * it does not compile. The linker's --wrap would miss calls that Linux's headers make inline, and can't refuse a constant.
 * Libraries of the system (libsodium, libfabric, cmocka) are not renamed and still see Linux.
 *
 * tests/darwin/test_darwin.c asserts what is imitated and what is refused. Anything that is not imitated ends the program
 * with a message. The variable DARWIN_LACKS lists rights that a Mac does not give every program, such as task_for_pid.
 */
#ifndef TESTS_DARWIN_H
#define TESTS_DARWIN_H

/* Linux's headers, before names change. */
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DARWIN_CALL
#include "imaginary.h"

#include <pthread/qos.h>

/* ---- what macOS does otherwise ----------------------------------------------------------------------------------- */

#define socket          darwin_socket
#define socketpair      darwin_socketpair
#define bind            darwin_bind
#define connect         darwin_connect
#define accept          darwin_accept
#define getsockopt      darwin_getsockopt
#define setsockopt      darwin_setsockopt
#define send            darwin_send
#define sendto          darwin_sendto
#define sendmsg         darwin_sendmsg
#define read            darwin_read
#define write           darwin_write
#define readv           darwin_readv
#define writev          darwin_writev
#define pread           darwin_pread
#define pwrite          darwin_pwrite
#define close           darwin_close
#define fclose          darwin_fclose
#define closedir        darwin_closedir
#define dup             darwin_dup
#define dup2            darwin_dup2
#define fcntl           darwin_fcntl
#define sigwait         darwin_sigwait
#define sigpending      darwin_sigpending
#define sigprocmask     darwin_sigprocmask
#define pthread_sigmask darwin_pthread_sigmask
#define signal          darwin_signal
#define shm_open        darwin_shm_open
#define shm_unlink      darwin_shm_unlink
#define ftruncate       darwin_ftruncate
#define fstat(fd, st)   darwin_fstat(fd, st)
#define mmap            darwin_mmap
#define munmap          darwin_munmap
#define mprotect        darwin_mprotect
#define madvise         darwin_madvise
#define sysconf         darwin_sysconf
#define getpagesize     darwin_getpagesize
#define open            darwin_open
#define fopen           darwin_fopen
#define opendir         darwin_opendir
#define readlink        darwin_readlink
#define access          darwin_access
/* a structure has the name, too */
#define sigaction(sig, new, old) darwin_sigaction(sig, new, old)
/* only of the calling thread */
#define pthread_setname_np darwin_setname
/* the one that returns an int */
int __xpg_strerror_r(int error, char *text, size_t cap);
#define strerror_r __xpg_strerror_r

/* ---- what only macOS has ----------------------------------------------------------------------------------------- */

#define SO_NOSIGPIPE DARWIN_SO_NOSIGPIPE

#undef TCP_KEEPINTVL
#undef TCP_KEEPCNT
#define TCP_KEEPALIVE        0x10
#define TCP_RXT_CONNDROPTIME DARWIN_TCP_RXT_CONNDROPTIME
#define TCP_KEEPINTVL        0x101
#define TCP_KEEPCNT          0x102
#define TCP_CONNECTION_INFO  0x106

struct tcp_connection_info {
	uint8_t tcpi_state, tcpi_snd_wscale, tcpi_rcv_wscale, unused;
	uint32_t tcpi_options, tcpi_flags, tcpi_rto, tcpi_maxseg, tcpi_snd_ssthresh, tcpi_snd_cwnd, tcpi_snd_wnd;
	uint32_t tcpi_snd_sbbytes, tcpi_rcv_wnd, tcpi_rttcur, tcpi_srtt, tcpi_rttvar, tcpi_tfo;
	uint64_t tcpi_txpackets, tcpi_txbytes, tcpi_txretransmitbytes, tcpi_rxpackets, tcpi_rxbytes;
	uint64_t tcpi_rxoutoforderbytes, tcpi_txretransmitpackets;
};

#undef MADV_FREE
#define MADV_FREE          5
#define MADV_FREE_REUSABLE 7
#define MADV_FREE_REUSE    8
#define VM_INHERIT_NONE    2

#define CLOCK_UPTIME_RAW 8

#define SIGINFO 29
#define SIGEMT  7

/* ---- what macOS does not have ------------------------------------------------------------------------------------ */

#undef SOCK_CLOEXEC
#undef SOCK_NONBLOCK
#undef MSG_NOSIGNAL
#undef MSG_CMSG_CLOEXEC
#undef MSG_MORE
#undef MSG_CONFIRM
#undef MSG_ERRQUEUE
#undef MSG_ZEROCOPY
#undef SO_PEERCRED
#undef SO_PROTOCOL
#undef SO_DOMAIN
#undef SO_BINDTODEVICE
#undef SO_BUSY_POLL
#undef SO_INCOMING_CPU
#undef SO_ZEROCOPY
#undef SO_PRIORITY
#undef SO_MARK
#undef SOL_TCP
#undef TCP_KEEPIDLE
#undef TCP_USER_TIMEOUT
#undef TCP_QUICKACK
#undef TCP_CORK
#undef TCP_INFO
#undef TCP_DEFER_ACCEPT
#undef POLLRDHUP
#undef O_TMPFILE
#undef O_PATH
#undef O_DIRECT
#undef F_ADD_SEALS
#undef F_GET_SEALS
#undef MAP_POPULATE
#undef MAP_HUGETLB
#undef MAP_LOCKED
#undef MADV_DONTDUMP
#undef MADV_DODUMP
#undef MADV_DONTFORK
#undef MADV_WIPEONFORK
#undef MADV_HUGEPAGE
#undef MADV_NOHUGEPAGE
#undef MADV_REMOVE
#undef CLOCK_BOOTTIME
#undef CLOCK_MONOTONIC_COARSE
#undef RUSAGE_THREAD
#undef CPU_SET
#undef CPU_ZERO
#undef CPU_ISSET
#undef CPU_COUNT
#undef CPU_SETSIZE
#undef AF_PACKET
#undef PF_PACKET
#undef AF_NETLINK
#undef sigtimedwait
#pragma GCC poison SOCK_CLOEXEC SOCK_NONBLOCK MSG_NOSIGNAL MSG_CMSG_CLOEXEC MSG_MORE MSG_CONFIRM MSG_ERRQUEUE          \
        MSG_ZEROCOPY
#pragma GCC poison SO_PEERCRED SO_PROTOCOL SO_DOMAIN SO_BINDTODEVICE SO_BUSY_POLL SO_INCOMING_CPU SO_ZEROCOPY          \
        SO_PRIORITY
#pragma GCC poison SO_MARK SOL_TCP TCP_KEEPIDLE TCP_USER_TIMEOUT TCP_QUICKACK TCP_CORK TCP_INFO TCP_DEFER_ACCEPT       \
        POLLRDHUP
#pragma GCC poison O_TMPFILE O_PATH O_DIRECT F_ADD_SEALS F_GET_SEALS MAP_POPULATE MAP_HUGETLB MAP_LOCKED AF_PACKET     \
        PF_PACKET
#pragma GCC poison MADV_DONTDUMP MADV_DODUMP MADV_DONTFORK MADV_WIPEONFORK MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_REMOVE
#pragma GCC poison CLOCK_BOOTTIME CLOCK_MONOTONIC_COARSE RUSAGE_THREAD AF_NETLINK
#pragma GCC poison cpu_set_t CPU_SET CPU_ZERO CPU_ISSET CPU_COUNT CPU_SETSIZE sched_setaffinity sched_getaffinity      \
        sched_getcpu
#pragma GCC poison pthread_setaffinity_np pthread_getaffinity_np pthread_timedjoin_np pthread_tryjoin_np gettid getcpu
#pragma GCC poison accept4 pipe2 dup3 sendmmsg recvmmsg ppoll splice vmsplice tee close_range posix_fallocate fallocate
#pragma GCC poison syscall prctl epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd timerfd_create    \
        signalfd
#pragma GCC poison inotify_init inotify_init1 pidfd_open memfd_create process_vm_readv process_vm_writev mremap mincore
#pragma GCC poison pthread_barrier_init pthread_barrier_wait pthread_condattr_setclock pthread_mutex_timedlock
#pragma GCC poison pthread_spin_lock sem_init sem_timedwait clock_nanosleep timer_create sigtimedwait sigwaitinfo
#pragma GCC poison sysinfo getauxval get_nprocs execvpe fexecve environ unshare setns ptrace sethostname
#pragma GCC poison program_invocation_name program_invocation_short_name secure_getenv explicit_bzero getrandom
#pragma GCC poison strchrnul mempcpy memrchr rawmemchr strverscmp canonicalize_file_name malloc_trim mallinfo mallinfo2

/* For the program this is a Mac. */
#undef __linux__
#undef __linux
#undef linux
#undef __gnu_linux__
#define __APPLE__ 1
#define __MACH__  1

#endif
