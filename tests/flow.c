/* SPDX-License-Identifier: MIT */
/* See flow.h. */
#include "flow.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tutti.h"

uint64_t flow_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static struct frame_of flow_next(uint64_t *state, uint32_t payload)
{
	static const uint32_t edges[] = {0, 1, 8, 47, 48, 49, 64, 1023, 1024, 8191, 8192, 8193, 1 << 20};
	uint64_t r = flow_random(state), pick = flow_random(state);
	uint32_t len = (uint32_t)(pick % (payload + 1));

	if (r % 4 == 0)
		len = edges[pick % (sizeof(edges) / sizeof(edges[0]))];
	else if (r % 4 == 1)
		len = payload; /* runs of equal frames */
	else if (r % 4 == 2)
		len = (uint32_t)(pick % 64);
	if (len > payload)
		len = payload;
	return (struct frame_of){.len = len, .sig = (uint32_t)(r >> 32), .ref = r & 16, .seed = pick};
}

void paint(uint8_t *p, const struct frame_of *f)
{
	uint64_t state = f->seed, v = 0;

	for (uint32_t i = 0; i < f->len; i++, v >>= 8) {
		if (i % 8 == 0)
			v = flow_random(&state);
		p[i] = (uint8_t)v;
	}
}

void assert_painted(const uint8_t *p, const struct frame_of *f)
{
	uint64_t state = f->seed, v = 0;

	for (uint32_t i = 0; i < f->len; i++, v >>= 8) {
		if (i % 8 == 0)
			v = flow_random(&state);
		if (p[i] != (uint8_t)v)
			fail_msg("byte %u of %u is %#x, expected %#x", i, f->len, p[i], (unsigned)(uint8_t)v);
	}
}

struct flow flow_of(struct link *out, struct link *in, uint64_t seed, int frames)
{
	uint8_t *memory = malloc((size_t)(in->mask + 1) * in->payload);

	assert_non_null(memory);
	return (struct flow){out, in, seed, seed, frames, frames, memory, out->refer_any != REFER_NEVER};
}

bool send_one(struct flow *f)
{
	struct slot *s = f->to_send ? link_send_begin(f->out) : NULL;
	struct frame_of frame;
	uint8_t *memory;

	if (!s)
		return false;
	frame = flow_next(&f->send_state, f->out->payload);
	frame.ref &= f->refers;
	memory = f->memory + (size_t)(f->out->pos & f->out->mask) * f->out->payload;
	if (frame.ref) {
		struct slot_ref ref = {(uint64_t)(uintptr_t)memory, frame.len};
		paint(memory, &frame);
		memcpy(s->data, &ref, sizeof(ref));
	} else {
		paint(slot_payload(s, frame.len), &frame);
	}
	link_send_end(f->out, s, frame.len | (frame.ref ? SLOT_REF : 0), frame.sig);
	f->to_send--;
	return true;
}

bool receive_one(struct flow *f)
{
	struct slot *s = link_recv_begin(f->in);
	struct frame_of frame;

	if (!s)
		return false;
	assert_true(f->to_receive > 0);
	frame = flow_next(&f->receive_state, f->in->payload);
	assert_int_equal(s->len, frame.len);
	assert_int_equal(s->sig, frame.sig);
	assert_painted(slot_payload(s, s->len), &frame);
	link_recv_end(f->in);
	f->to_receive--;
	return true;
}

void *one_side(void *arg)
{
	struct side *s = arg;

	while (s->out.to_send || s->in.to_receive || !link_drained(s->out.out)) {
		while (send_one(&s->out) || receive_one(&s->in))
			;
		assert_int_equal(s->t->pump(s->ctx), TUTTI_OK);
		sched_yield();
	}
	return NULL;
}

struct link_spec spec_of(int from, int self, int lane, uint32_t payload, uint32_t nslots)
{
	return (struct link_spec){.comm = 7,
	                          .peer = 1 - self,
	                          .lane = lane,
	                          .outgoing = from == self,
	                          .payload = payload,
	                          .nslots = nslots};
}
