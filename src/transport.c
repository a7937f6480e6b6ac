/* SPDX-License-Identifier: MIT */
/* The registry of transports, and what all of them share: names of links, TUTTI_TRANSPORT. The contract is in transport.h. */
#include "transport.h"

#include <stdio.h>
#include <string.h>

#include "util/error.h"

/* Where neither TUTTI_SLOT, TUTTI_SLOTS nor a transport says otherwise. */
#define SLOT_BYTES (128u << 10)
#define SLOTS      4

extern const struct transport transport_inproc, transport_shm, transport_verbs, transport_libfabric, transport_tcp;

const struct transport *const transport_table[] = {&transport_inproc,    &transport_shm, &transport_verbs,
                                                   &transport_libfabric, &transport_tcp, NULL};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	h ^= h >> 31;
	h *= 0x94d049bb133111ebu;
	return h ^ h >> 29;
}

uint64_t link_tag(const struct link_spec *spec, int self)
{
	uint64_t from = (uint64_t)(spec->outgoing ? self : spec->peer),
	         to = (uint64_t)(spec->outgoing ? spec->peer : self);
	uint64_t h = mix(mix(spec->comm, from << 32 | to), (uint64_t)(int64_t)spec->lane);
	return h < 16 ? h + 16 : h; /* the smallest numbers mean other things */
}

const struct transport *transport_find(const char *name, size_t len)
{
	for (int i = 0; transport_table[i]; i++)
		if (strlen(transport_table[i]->name) == len && memcmp(transport_table[i]->name, name, len) == 0)
			return transport_table[i];
	return NULL;
}

struct ring_size transport_ring(const struct transport *t, bool cable)
{
	if (t && cable && t->ring_cable.payload)
		return t->ring_cable;
	return t && t->ring.payload ? t->ring : (struct ring_size){SLOT_BYTES, SLOTS};
}

static int unknown(const char *text, const char *name, size_t len)
{
	char names[128] = "";

	for (int i = 0; transport_table[i]; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
		         transport_table[i]->name);
	return fail(TUTTI_EINVAL, "TUTTI_TRANSPORT=%s: unknown transport \"%.*s\"; known transports: %s", text,
	            (int)len, name, names);
}

int transport_allowed(const char *text, const struct transport *t, bool *allowed)
{
	bool exclude = text && *text == '^', named = false;
	*allowed = true;
	if (!text || !*text)
		return TUTTI_OK;
	for (const char *p = text + exclude; *p;) {
		size_t len = strcspn(p, ",");
		if (!transport_find(p, len))
			return unknown(text, p, len);
		if (strlen(t->name) == len && memcmp(t->name, p, len) == 0)
			named = true;
		p += len;
		p += *p == ',';
	}
	*allowed = named != exclude;
	return TUTTI_OK;
}
