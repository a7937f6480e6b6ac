/* SPDX-License-Identifier: MIT */
/*
 * Connecting by rdma_cm, for fabrics where an exchange of queue pairs' numbers is not enough (iWARP; routes that the
 * connection manager must ask for). librdmacm is found at run time, as libibverbs is. It does no more than necessary:
 * the queue pair is created as always, and brought up with the values of the connection manager.
 *
 * The pair's greeting has settled which side connects, over an authenticated socket: the higher rank listens, at an
 * address and with a token of this pair that are in its greeting. A request that does not show the token is refused,
 * and so is an answer without the token's other half.
 */
#ifndef TUTTI_VERBS_CM_H
#define TUTTI_VERBS_CM_H

#include <stddef.h>
#include <stdint.h>

#define CM_TOKEN 32

struct cm;
struct pair;
struct device;

/** In the greeting; travels as it is. */
struct cm_place {
	uint8_t address[16];   /* IPv6, or IPv4 mapped into it */
	uint16_t port, unused; /* network byte order; 0: not by rdma_cm */
	uint8_t ask[CM_TOKEN], answer[CM_TOKEN];
};

/** Listens at an address of the device's port. */
int cm_open(struct cm **out, struct device *d);
void cm_close(struct cm *cm);
/** Readable when cm_look has something to do. */
int cm_fd(const struct cm *cm);

/** The pair's place, and from now on the peer may connect to it. */
struct cm_place cm_expect(struct cm *cm, struct pair *p);
/** To the peer's place. What then comes of it, pair_joined or pair_break say, out of cm_look. */
int cm_connect(struct cm *cm, struct pair *p, const struct cm_place *place);
void cm_look(struct cm *cm);
/** Ends what the pair has to do with it. */
void cm_forget(struct cm *cm, struct pair *p);

#endif
