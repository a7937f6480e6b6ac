/* SPDX-License-Identifier: MIT */
/* The choice of a way, and of a codec on slow cables. See choose.h. */
#include "choose.h"

#include "../kernel/wire.h"
#include "comm.h"

static bool order_matters(const struct args *a)
{
	bool is_float = a->dtype >= TUTTI_F16;
	return coll_reduces(a->coll) && is_float && a->op != TUTTI_MIN && a->op != TUTTI_MAX;
}

/* Shorter ones take as long for their latency. */
#define WIRE_LEAST 4096

/* What the elements of a call are in on their way between hosts; NULL: as they are. */
static const struct wire_codec *codec_for(const struct tutti_comm *c, const struct args *a, size_t bytes)
{
	const char *name = c->world->params.wire;
	bool folds = a->coll == COLL_ALLREDUCE || a->coll == COLL_REDUCE_SCATTER || a->coll == COLL_REDUCE;
	bool sums = a->op == TUTTI_SUM || a->op == TUTTI_AVG;
	if (!name || c->shape.nhosts < 2 || bytes < WIRE_LEAST || !folds || !sums)
		return NULL;
	return wire_codec(kernel_table(), name, a->dtype);
}

/* An allreduce must be folded once, or ranks would end with what different roundings made of it. */
static bool choose_coded(const struct tuner *plain, struct query q, const struct wire_codec *codec,
                         struct choice *choice)
{
	struct tuner t = *plain;
	tuner_narrow(&t, codec->bytes(q.bytes / q.esize), q.bytes);
	q.folded_once = q.coll == COLL_ALLREDUCE;
	if (tuner_choose(&t, &q, choice) != TUTTI_OK)
		return false;
	choice->codec = codec;
	return true;
}

int choose_run(const struct tutti_comm *c, const struct args *a, struct choice *choice)
{
	size_t esize = dtype_bytes(a->dtype);
	struct query q = {.coll = a->coll,
	                  .bytes = args_largest(a, c->size) * esize,
	                  .esize = esize,
	                  .root = a->root < 0 ? 0 : a->root,
	                  .fold_matters = order_matters(a)};
	const struct wire_codec *codec = codec_for(c, a, q.bytes);
	if (codec && choose_coded(&c->tuner, q, codec, choice))
		return TUTTI_OK;
	return tuner_choose(&c->tuner, &q, choice);
}
