/* SPDX-License-Identifier: MIT */
/*
 * Routes: the ways to a rank, in the order in which they are to be tried, and what is remembered of each host: the
 * address of it that answered.
 */
#ifndef TUTTI_ROUTE_H
#define TUTTI_ROUTE_H

#include "door_self.h"

/** One way to a rank: its local socket (no address), or an address, perhaps from a given one of ours. */
struct route {
	struct net_addr to, from; /* family 0: none */
};

#define ROUTES 16

/** Over TCP: first the address that answered before, then those in a network of ours, then the others. EPEER: none. */
int routes_plan(const struct door_self *d, const struct contact *to, struct route routes[ROUTES], int *n);
/** This one answered; `instead` is the one that was tried first and was silent, NULL: none. That is said once a host. */
void routes_worked(const struct door_self *d, const struct contact *to, const struct route *r,
                   const struct route *instead);

struct paths *paths_new(void);
void paths_free(struct paths *paths);

#endif
