/* The queue pair of a pair: made with what the device allows, and brought up towards the peer's. */
#ifndef TUTTI_VERBS_QP_H
#define TUTTI_VERBS_QP_H

#include "pair.h"

/** What the peer must know of our queue pair; travels as it is. */
struct greeting {
	uint32_t version, mode, qpn, psn, mtu, window, frame;
	uint16_t lid, has_gid;
	uint8_t gid[16];
};

int qp_make(struct pair *p);
struct greeting qp_greeting(const struct pair *p);
/** To "ready to receive and to send". */
int qp_connect(struct pair *p, const struct greeting *peer);
/** Whatever is posted comes back as flushed. */
void qp_stop(struct pair *p);

#endif
