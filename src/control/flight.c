/* SPDX-License-Identifier: MIT */
/* The flight recorder: reading records, saying them, dumping them. See flight.h. */
#include "flight.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../algo/algo.h"
#include "../kernel/kernel.h"
#include "../kernel/wire.h"
#include "plane.h"

uint64_t flight_clock(void)
{
	return now_ns();
}

bool flight_read(struct flight *f, uint64_t number, struct call *out)
{
	struct flight_slot *s = &f->slot[number % FLIGHT_CALLS];
	uint64_t count, way, word;

	if (number == 0 || atomic_load_explicit(&s->number, memory_order_acquire) != number) /* A6 pairs with R6 */
		return false;
	/* A writer that replaced any of the words cleared the number before: acquire here makes the second look see that. */
	count = atomic_load_explicit(&s->count, memory_order_acquire); /* A6 */
	way = atomic_load_explicit(&s->way, memory_order_acquire);     /* A6 */
	word = atomic_load_explicit(&s->word, memory_order_acquire);   /* A6 */
	if (atomic_load_explicit(&s->number, memory_order_relaxed) != number)
		return false;
	*out = (struct call){
	        .number = number,
	        .count = count,
	        .way = way,
	        .coll = (uint8_t)word,
	        .dtype = (uint8_t)(word >> 8),
	        .op = (uint8_t)(word >> 16),
	        .vector = (uint8_t)(word >> 24),
	        .root = (int32_t)(uint32_t)(word >> 32),
	};
	return true;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static char *describe(const struct call *c, char *buf, size_t cap, bool with_number)
{
	buf[0] = '\0';
	plane_append(buf, cap, "%s%s", coll_name(c->coll), c->vector ? "v" : "");
	if (with_number)
		plane_append(buf, cap, " #%" PRIu64, c->number);
	if (c->coll == COLL_BARRIER)
		return buf;
	if (c->vector)
		plane_append(buf, cap, " (%s, counts %08" PRIx32, dtype_name(c->dtype),
		             (uint32_t)(c->count ^ c->count >> 32));
	else
		plane_append(buf, cap, " (%" PRIu64 " x %s", c->count, dtype_name(c->dtype));
	if (coll_reduces((enum coll)c->coll))
		plane_append(buf, cap, ", %s", op_name(c->op));
	if (c->coll == COLL_SEND || c->coll == COLL_RECV)
		plane_append(buf, cap, ", %s rank %d", c->coll == COLL_SEND ? "to" : "from", c->root);
	else if (c->root >= 0)
		plane_append(buf, cap, ", root %d", c->root);
	plane_append(buf, cap, ")");
	return buf;
}

char *call_text(const struct call *c, char *buf, size_t cap)
{
	return describe(c, buf, cap, true);
}

char *call_what(const struct call *c, char *buf, size_t cap)
{
	return describe(c, buf, cap, false);
}

static const char *algo_name(unsigned algo)
{
	if (algo == WAY_ONE_SHOT || algo == WAY_TWO_SHOT)
		return algo == WAY_ONE_SHOT ? "direct one-shot" : "direct two-shot";
	for (unsigned i = 1; algo_table[i - 1]; i++)
		if (i == algo)
			return algo_table[i - 1]->name;
	return algo ? "an unknown algorithm" : "nothing to do";
}

char *call_way_text(const struct call *c, char *buf, size_t cap)
{
	unsigned channels = (unsigned)(c->way >> 8 & 0xff), codec = (unsigned)(c->way >> 16 & 0xff);

	buf[0] = '\0';
	plane_append(buf, cap, "%s", algo_name((unsigned)(c->way & 0xff)));
	if (channels)
		plane_append(buf, cap, " x%u", channels);
	if (codec)
		plane_append(buf, cap, " as %s",
		             codec <= WIRE_ROWS ? kernel_table()->wire[codec - 1].name : "an unknown codec");
	if (c->way >> 24)
		plane_append(buf, cap, " in chunks of %" PRIu64 " elements", c->way >> 24);
	return buf;
}

/* ---- the dump ---------------------------------------------------------------------------------------------------- */

static void expand(char *out, size_t cap, const char *path, int rank)
{
	out[0] = '\0';
	while (*path) {
		size_t plain = strcspn(path, "%");
		if (plain)
			plane_append(out, cap, "%.*s", (int)plain, path);
		else if (path[1] == 'r')
			plane_append(out, cap, "%d", rank);
		else
			plane_append(out, cap, "%%");
		path += plain ? plain : path[1] == 'r' ? 2 : 1;
	}
}

static void put_string(FILE *file, const char *s)
{
	fputc('"', file);
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20)
			fprintf(file, "\\u%04x", (unsigned)*s);
		else
			fprintf(file, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
	}
	fputc('"', file);
}

static void put_head(FILE *file, int rank, const char *comm_name)
{
	fprintf(file, "{\"comm\":");
	put_string(file, comm_name);
	fprintf(file, ",\"rank\":%d,", rank);
}

static void put_time(FILE *file, const char *name, const _Atomic uint64_t *ns)
{
	fprintf(file, "\"%s\":%" PRIu64 ",", name, atomic_load_explicit(ns, memory_order_relaxed));
}

static void put_call(FILE *file, struct flight *f, const struct call *c, bool finished)
{
	struct flight_slot *s = &f->slot[c->number % FLIGHT_CALLS];
	char how[128];

	fprintf(file, "\"call\":%" PRIu64 ",\"what\":\"%s\",\"vector\":%s,", c->number, coll_name(c->coll),
	        c->vector ? "true" : "false");
	fprintf(file, "\"count\":%" PRIu64 ",\"dtype\":\"%s\",", c->count, dtype_name(c->dtype));
	if (coll_reduces((enum coll)c->coll))
		fprintf(file, "\"op\":\"%s\",", op_name(c->op));
	if (c->root >= 0)
		fprintf(file, "\"root\":%d,", c->root);
	if (c->way)
		fprintf(file, "\"how\":\"%s\",", call_way_text(c, how, sizeof(how)));
	if (f->timed)
		put_time(file, "begin_ns", &s->begin_ns);
	if (f->timed && finished)
		put_time(file, "end_ns", &s->end_ns);
	fprintf(file, "\"finished\":%s}\n", finished ? "true" : "false");
}

int flight_check(const char *path, int rank)
{
	char name[1024];
	FILE *file;

	expand(name, sizeof(name), path, rank);
	file = file_open(name, "a");
	if (!file)
		return fail_while(TUTTI_ESYSTEM, "TUTTI_FLIGHT: the record can't be written");
	fclose(file);
	return TUTTI_OK;
}

int flight_dump(struct flight *f, const char *path, int rank, const char *comm_name, const struct alarm *alarm)
{
	uint64_t finished = atomic_load_explicit(&f->finished, memory_order_acquire); /* A13 */
	uint64_t last = atomic_load_explicit(&f->started, memory_order_acquire);      /* A13 */
	int status = atomic_load_explicit(&alarm->status, memory_order_acquire);      /* A5 */
	struct call call;
	char name[1024];
	FILE *file;
	int failed;

	expand(name, sizeof(name), path, rank);
	file = file_open(name, "a");
	if (!file)
		return fail_while(TUTTI_ESYSTEM, "TUTTI_FLIGHT: the record can't be written");
	put_head(file, rank, comm_name);
	fprintf(file, "\"started\":%" PRIu64 ",\"finished\":%" PRIu64 ",\"status\":%d,\"error\":", last, finished,
	        status);
	put_string(file, status == TUTTI_OK ? "" : alarm->text);
	fprintf(file, "}\n");
	for (uint64_t i = last > FLIGHT_CALLS ? last - FLIGHT_CALLS + 1 : 1; i <= last; i++) {
		if (!flight_read(f, i, &call))
			continue;
		put_head(file, rank, comm_name);
		put_call(file, f, &call, i <= finished);
	}
	failed = ferror(file);
	if (fclose(file) != 0 || failed)
		return fail_errno("can't write the flight record %s", name);
	return TUTTI_OK;
}
