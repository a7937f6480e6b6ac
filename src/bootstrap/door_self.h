/* What the two halves of the door, accepting and dialling, share. */
#ifndef TUTTI_DOOR_SELF_H
#define TUTTI_DOOR_SELF_H

#include "door.h"

/** Who a door's rank is. Fixed while it is open. */
struct door_self {
	int rank, size;
	struct auth_key key;
	char *iface;
};

const struct door_self *door_self(const struct door *door);
/** On a local socket the kernel knows whose process the other side is: ours, or root's? */
bool door_is_our_user(int fd);

#endif
