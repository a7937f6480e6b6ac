/* SPDX-License-Identifier: MIT */
/* The word that ends all calls of a communicator. The control plane raises it, every wait watches it. */
#ifndef TUTTI_ALARM_H
#define TUTTI_ALARM_H

#include <stdatomic.h>

/** Raised once: the first wins. Readers load status with acquire, then read text. */
struct alarm {
	_Atomic int status; /* TUTTI_OK: healthy */
	char text[1000];
};

#endif
