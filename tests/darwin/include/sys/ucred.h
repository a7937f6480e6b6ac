/* SPDX-License-Identifier: MIT */
/* See tests/darwin/darwin.h. */
#ifndef DARWIN_SYS_UCRED_H
#define DARWIN_SYS_UCRED_H

#include <sys/types.h>

#define XUCRED_VERSION 0

struct xucred {
	unsigned cr_version;
	uid_t cr_uid;
	short cr_ngroups;
	gid_t cr_groups[16];
};

#endif
