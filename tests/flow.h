/* SPDX-License-Identifier: MIT */
/*
 * Traffic for tests of transports: frames whose length, signature and bytes both sides can compute, some of them by
 * reference, through any two ends of a link. Includes cmocka's assertions: for test programs only.
 */
#ifndef TESTS_FLOW_H
#define TESTS_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "../src/transport.h"

/** The next number of a sequence. */
uint64_t flow_random(uint64_t *state);

struct frame_of {
	uint32_t len, sig;
	bool ref;
	uint64_t seed;
};

void paint(uint8_t *p, const struct frame_of *f);
void assert_painted(const uint8_t *p, const struct frame_of *f);

/** One direction under test: what is still to be sent and to be received. */
struct flow {
	struct link *out, *in;
	uint64_t send_state, receive_state;
	int to_send, to_receive;
	uint8_t *memory; /* what slots refer to, a payload's worth for each slot; the caller frees it */
	bool refers;     /* the sender may refer to memory */
};

struct flow flow_of(struct link *out, struct link *in, uint64_t seed, int frames);
/** false: there is no room, or nothing is left. */
bool send_one(struct flow *f);
/** false: nothing is there. What is there is right. */
bool receive_one(struct flow *f);

/** One rank's end of a transport, with a flow each way. one_side, for a thread, moves it until both are through. */
struct side {
	const struct transport *t;
	void *ctx;
	struct flow out, in;
};

void *one_side(void *arg);

/** A link of two ranks, from one of them, as `self` sees it. */
struct link_spec spec_of(int from, int self, int lane, uint32_t payload, uint32_t nslots);

#endif
