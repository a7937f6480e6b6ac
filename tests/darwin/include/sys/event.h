/* SPDX-License-Identifier: MIT */
/* Apple's kqueue, as far as its manual page goes: see tests/darwin/darwin.h. */
#ifndef DARWIN_SYS_EVENT_H
#define DARWIN_SYS_EVENT_H

#include <stdint.h>
#include <time.h>

struct kevent {
	uintptr_t ident;
	int16_t filter;
	uint16_t flags;
	uint32_t fflags;
	intptr_t data;
	void *udata;
};

#define EV_SET(event, i, filt, fl, ffl, d, u)                                                                          \
	(*(event) = (struct kevent){.ident = (uintptr_t)(i),                                                           \
	                            .filter = (int16_t)(filt),                                                         \
	                            .flags = (uint16_t)(fl),                                                           \
	                            .fflags = (uint32_t)(ffl),                                                         \
	                            .data = (intptr_t)(d),                                                             \
	                            .udata = (u)})

#define EVFILT_READ   (-1)
#define EVFILT_WRITE  (-2)
#define EVFILT_VNODE  (-4)
#define EVFILT_PROC   (-5)
#define EVFILT_SIGNAL (-6)
#define EVFILT_TIMER  (-7)
#define EVFILT_USER   (-10)

#define EV_ADD      0x0001
#define EV_DELETE   0x0002
#define EV_ENABLE   0x0004
#define EV_DISABLE  0x0008
#define EV_ONESHOT  0x0010
#define EV_CLEAR    0x0020
#define EV_RECEIPT  0x0040
#define EV_DISPATCH 0x0080
#define EV_ERROR    0x4000
#define EV_EOF      0x8000

#define NOTE_TRIGGER  0x01000000u
#define NOTE_LOWAT    0x00000001u
#define NOTE_EXIT     0x80000000u
#define NOTE_SECONDS  0x00000001u
#define NOTE_USECONDS 0x00000002u
#define NOTE_NSECONDS 0x00000004u
#define NOTE_ABSOLUTE 0x00000008u
#define NOTE_LEEWAY   0x00000010u
#define NOTE_CRITICAL 0x00000020u

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout);

#endif
