/* SPDX-License-Identifier: MIT */
/*
 * What a rank tells all others about itself, once, in the bootstrap's all-gather. Raw and of fixed size: magic, version
 * and byte order come first and are compared before anything else is used.
 */
#ifndef TUTTI_CONTACT_H
#define TUTTI_CONTACT_H

#include "../util/net.h"

#define CONTACT_MAGIC      0x69747475u /* "utti" */
#define WIRE_VERSION       4
#define CONTACT_TRANSPORTS 6
#define CONTACT_BLOB       64

struct contact {
	uint32_t magic; /* in the sender's byte order */
	uint32_t version;
	int32_t rank, size;
	uint32_t pid;
	uint32_t naddrs;
	uint64_t nonce;        /* random; rank 0's names the world */
	uint8_t host_hint[16]; /* equal on ranks that may share a host; world.c proves it */
	char host[64];
	char local[40]; /* abstract socket name; "" none */
	struct net_addr addrs[NET_ADDRS];
	uint8_t transport[CONTACT_TRANSPORTS][CONTACT_BLOB]; /* each transport's address, in registry order */
	char params[640];                                    /* the must-be-equal variables, as text */
};

/** EMISMATCH naming rank, what, and both values, when `b` cannot work with `a`. */
int contact_agree(const struct contact *a, const struct contact *b);
/** "rank 2 (pid 4711 on hostA)" */
char *contact_text(const struct contact *c, char *buf, size_t cap);
/** Clears *me, then fills what a rank knows by itself: not addresses, not params. host_override: TUTTI_HOST or "". */
void contact_self(struct contact *me, int rank, int size, const char *host_override);

#endif
