/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what comes over a control connection: messages as raw bytes, and messages made of the input's bytes field by
 * field, which get past the parser and into the handlers. A plane of four ranks handles them; it has no connections.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/control/plane.h"

#define RANKS 4
#define COMM  100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at, *end;
};

static uint8_t next(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/* The interesting values are small, or just beyond what is allowed. */
static struct message compose(struct input *in)
{
	struct message m = {
	        .type = next(in), .from = (int8_t)next(in), .seq = next(in), .comm = COMM + (next(in) == 0)};
	size_t text = next(in);

	m.a = (int8_t)next(in);
	m.b = (int8_t)next(in);
	m.value = next(in);
	m.call = (struct call){.number = next(in),
	                       .count = next(in),
	                       .way = next(in),
	                       .coll = next(in),
	                       .dtype = next(in),
	                       .op = next(in)};
	m.call.root = (int8_t)next(in);
	for (size_t i = 0; i < text; i++)
		m.text[i] = (char)next(in);
	m.length = (uint32_t)(MESSAGE_HEAD + text);
	return m;
}

static void hear_composed(struct control *c, struct conn *from, struct input *in)
{
	struct message made, m;

	while (in->at < in->end) {
		made = compose(in);
		if (conn_parse(&made, made.length, RANKS, &m) > 0)
			plane_handle(c, &m, from);
	}
}

static void hear_raw(struct control *c, struct conn *from, struct input *in)
{
	struct message m;
	int n;

	while ((n = conn_parse(in->at, (size_t)(in->end - in->at), RANKS, &m)) > 0) {
		plane_handle(c, &m, from);
		in->at += n;
	}
}

static void plane(struct control *c)
{
	static struct contact contacts[RANKS];
	static const int host[RANKS] = {0, 0, 1, 1};

	*c = (struct control){.rank = 1, .n = RANKS, .contacts = contacts, .host = host, .stop = 1};
	c->state = calloc(RANKS, 1);
	c->cut = calloc(RANKS * RANKS, 1);
	c->lost = calloc(RANKS, 1);
	c->scratch = calloc(2 * RANKS, 1);
	c->seen = calloc(RANKS, sizeof(*c->seen));
	if (!c->state || !c->cut || !c->lost || !c->scratch || !c->seen)
		abort();
}

static void plane_end(struct control *c)
{
	for (int i = 0; i < EARLY; i++)
		free(c->early[i]);
	free(c->state);
	free(c->cut);
	free(c->lost);
	free(c->scratch);
	free(c->seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int members[RANKS] = {3, 2, 1, 0};
	struct input in = {data, data + size};
	struct conn from = {.rank = 0, .fd = -1, .process = -1};
	struct call call = {.number = 7, .count = 3, .root = -1};
	struct flight *flight = calloc(1, sizeof(*flight));
	struct alarm *alarm = calloc(1, sizeof(*alarm));
	struct control_comm *cc;
	struct control c;
	uint8_t mode = next(&in);

	plane(&c);
	from.c = &c;
	if (!flight || !alarm || control_join(&cc, &c, COMM, "fuzz", members, RANKS, 2, flight, alarm) != TUTTI_OK)
		abort();
	flight_start(flight, &call, call.number);
	cc->shrink.waiting = mode & 2;
	cc->shrink.round = 1;
	if (mode & 1)
		hear_raw(&c, &from, &in);
	else
		hear_composed(&c, &from, &in);
	if (memchr(alarm->text, '\0', sizeof(alarm->text)) == NULL)
		abort();
	control_leave(cc);
	plane_end(&c);
	free(flight);
	free(alarm);
	return 0;
}
