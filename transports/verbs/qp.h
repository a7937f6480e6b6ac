/* SPDX-License-Identifier: MIT */
/* The queue pair of a pair: made with what the device allows, and brought up towards the peer's. */
#ifndef TUTTI_VERBS_QP_H
#define TUTTI_VERBS_QP_H

#include "pair.h"

/** What the peer must know of our queue pair; travels as it is. */
struct greeting {
	uint32_t version, mode, qpn, psn, mtu, window, frame;
	uint16_t lid, has_gid;
	uint8_t gid[16];
	struct cm_place place;
};

int qp_make(struct pair *p);
struct greeting qp_greeting(const struct pair *p);
/** EMISMATCH when the peer's transport is set up in another way. */
int qp_agrees(const struct pair *p, const struct greeting *peer);
/** To "ready to receive and to send". */
int qp_connect(struct pair *p, const struct greeting *peer);
/** The same in steps, for a caller that knows the path to the peer: applies TUTTI_VERBS_QP. 0, or -1 with errno. */
int qp_set(struct pair *p, struct ibv_qp_attr *attr, int mask);
/** Whatever is posted comes back as flushed. */
void qp_stop(struct pair *p);

#endif
