/* SPDX-License-Identifier: MIT */
/* What the two halves of the door, accepting and dialling, share. */
#ifndef TUTTI_DOOR_SELF_H
#define TUTTI_DOOR_SELF_H

#include "door.h"

struct paths;

/**
 * The rank that a door belongs to. Fixed while the door is open, except for the key, which the bootstrap may set, and
 * for what it learns about paths.
 */
struct door_self {
	int rank, size;
	uint64_t nonce;       /* its contact's, which is its world's name where this is rank 0 */
	struct auth_key *key; /* secret memory */
	char *iface;
	uint8_t host_hint[16];
	struct paths *paths; /* route.c's */
};

const struct door_self *door_self(const struct door *door);
/** Do both say that they are on one host? (Not known of a contact that has no hint: true.) */
bool door_is_same_host(const struct door_self *d, const struct contact *to);
/** On a local socket the kernel knows whose process the other side is: ours, or root's? */
bool door_is_our_user(int fd);

#endif
