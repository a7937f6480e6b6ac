/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. Apple's has sun_len first; here it stands where it disturbs nobody. */
#ifndef DARWIN_SYS_UN_H
#define DARWIN_SYS_UN_H

#include <sys/socket.h>

struct sockaddr_un {
	sa_family_t sun_family;
	char sun_path[104];
	unsigned char sun_len;
};

#define SOL_LOCAL      0
#define LOCAL_PEERCRED 0x001
#define LOCAL_PEERPID  0x002

#endif
