/* SPDX-License-Identifier: MIT */
/* The overrides, and the choice among what they leave. */
#include "tuner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../direct/direct.h"
#include "../util/error.h"
#include "../util/float_env.h"
#include "model.h"

/* ---- TUTTI_ALGO ---------------------------------------------------------------------------------------------------- */

static uint64_t bit_of(const char *name, size_t len, enum coll coll)
{
	if (len == 6 && memcmp(name, "direct", 6) == 0)
		return direct_serves(coll) ? DIRECT_BIT : 0;
	for (int i = 0; algo_table[i]; i++)
		if (strlen(algo_table[i]->name) == len && memcmp(algo_table[i]->name, name, len) == 0)
			return algo_table[i]->colls >> coll & 1 ? 1ull << i : 0;
	return 0;
}

static void names_of(enum coll coll, char *buf, size_t cap)
{
	size_t n = direct_serves(coll) ? (size_t)snprintf(buf, cap, "direct ") : 0;
	for (int i = 0; algo_table[i]; i++)
		if (algo_table[i]->colls >> coll & 1 && n < cap)
			n += (size_t)snprintf(buf + n, cap - n, "%s ", algo_table[i]->name);
	if (n && n <= cap)
		buf[n - 1] = '\0';
}

/* "ring,tree" or "^ring" after the colon. */
static int allow_for(struct tuner *t, enum coll coll, const char *list, size_t len, const char *text)
{
	bool exclude = len && *list == '^';
	uint64_t bits = 0;
	const char *p = list + exclude, *end = list + len;
	if (p == end)
		return fail(TUTTI_EINVAL, "TUTTI_ALGO=%s: no algorithm after \"%s:%s\"", text, coll_name(coll),
		            exclude ? "^" : "");
	for (bool last = false; !last;) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t n = (size_t)((comma ? comma : end) - p);
		uint64_t bit = bit_of(p, n, coll);
		last = !comma;
		if (!n)
			return fail(TUTTI_EINVAL, "TUTTI_ALGO=%s: no algorithm %s a comma", text,
			            last ? "after" : "before");
		if (!bit) {
			char names[200];
			names_of(coll, names, sizeof(names));
			return fail(TUTTI_EINVAL, "TUTTI_ALGO=%s: \"%.*s\" is not an algorithm for %s; known: %s", text,
			            (int)n, p, coll_name(coll), names);
		}
		bits |= bit;
		p += n + 1;
	}
	t->allowed[coll] = exclude ? ~bits : bits;
	t->forced[coll] = !exclude;
	return TUTTI_OK;
}

int tuner_allow(struct tuner *t, const char *text)
{
	for (int i = 0; i < COLL_COUNT; i++) {
		t->allowed[i] = ~0ull;
		t->forced[i] = false;
	}
	for (const char *p = text; p && *p;) {
		size_t len = strcspn(p, ";"), name = strcspn(p, ":;");
		char coll[32] = "";
		if (name < sizeof(coll))
			memcpy(coll, p, name);
		int c = coll_by_name(coll);
		if (name == len || c < 0)
			return fail(
			        TUTTI_EINVAL,
			        "TUTTI_ALGO=%s: \"%.*s\" is not of the form collective:algorithm (as in allreduce:ring)",
			        text, (int)len, p);
		int rc = allow_for(t, (enum coll)c, p + name + 1, len - name - 1, text);
		if (rc)
			return rc;
		p += len;
		p += *p == ';';
	}
	return TUTTI_OK;
}

/* ---- choice -------------------------------------------------------------------------------------------------------- */

static bool may(const struct tuner *t, const struct query *q, int i, struct plan_args *args)
{
	const struct algo *a = algo_table[i];
	if (!(t->allowed[q->coll] >> i & 1) || !algo_serves(a, args))
		return false;
	if (q->folded_once && !(a->flags & ALGO_FOLDS_ONCE))
		return false;
	return !t->reproducible || !q->fold_matters || a->flags & ALGO_RANK_ORDER;
}

/*
 * In memory a second strand moves while the first waits for its chunk; a third only spreads the working set over more slots.
 * Across hosts a channel is another socket: worth it where the kernel's work for one is the limit.
 */
static int channels_wanted(const struct tuner *t, const struct query *q)
{
	size_t chunks = q->bytes / t->slot;
	if (t->channels > 0)
		return t->channels;
	if (t->shape->nhosts == 1)
		return chunks < 1 ? 1 : 2;
	return chunks < 4 ? 1 : chunks < 64 ? 2 : 4;
}

/* As many as there are sockets and peers for; 0: not even for one. */
static int channels_for(const struct tuner *t, const struct query *q, const struct algo *a)
{
	int channels = channels_wanted(t, q);
	while (channels && ((t->sockets && model_sockets(t, a, q->coll, channels) > t->sockets) ||
	                    (t->peers && model_peers(t, a, q->coll, channels) > t->peers)))
		channels--;
	return channels;
}

static void consider(struct choice *best, const struct choice *one)
{
	if (one->seconds < best->seconds)
		*best = *one;
}

static void consider_direct(const struct tuner *t, const struct query *q, struct choice *best)
{
	if (!t->direct || !direct_serves(q->coll) || !(t->allowed[q->coll] & DIRECT_BIT))
		return;
	bool can_twice = q->coll == COLL_ALLREDUCE && t->shape->nranks > 2;
	for (int twice = 0; twice <= can_twice; twice++)
		consider(best,
		         &(struct choice){.two_shot = twice, .channels = 1, .seconds = model_direct(t, q, twice)});
}

/* If no algorithm has enough sockets, all compete; the code that needs the socket then reports what is missing. */
static void consider_plans(const struct tuner *t, const struct query *q, bool enough, struct choice *best)
{
	struct plan_args args = {.coll = q->coll,
	                         .rank = 0,
	                         .nranks = t->shape->nranks,
	                         .root = q->root,
	                         .channels = 1,
	                         .shape = t->shape};
	for (int i = 0; algo_table[i]; i++) {
		int channels = channels_for(t, q, algo_table[i]);
		if (may(t, q, i, &args) && (channels || !enough))
			consider(best,
			         &(struct choice){.algo = algo_table[i],
			                          .channels = channels ? channels : 1,
			                          .seconds = model_plan(t, algo_table[i], q, channels ? channels : 1)});
	}
}

/* Preset, not priced: of the choices for such calls the first that is for this size. */
static bool choose_preset(const struct tuner *t, const struct query *q, struct choice *out)
{
	struct plan_args args = {
	        .coll = q->coll, .nranks = t->shape->nranks, .root = q->root, .channels = 1, .shape = t->shape};
	for (uint64_t i = 0; t->preset && i < t->preset->nchoices && i < COST_CHOICES; i++) {
		const struct cost_choice *x = &t->preset->choice[i];
		if (x->coll != q->coll || x->ranks != (uint32_t)t->shape->nranks || x->hosts != t->shape->nhosts ||
		    q->bytes > x->bytes)
			continue;
		int channels = channels_for(t, q, algo_table[x->algo]);
		if (!channels || !may(t, q, x->algo, &args))
			return false;
		*out = (struct choice){.algo = algo_table[x->algo],
		                       .channels = channels,
		                       .seconds = model_plan(t, algo_table[x->algo], q, channels)};
		return true;
	}
	return false;
}

static int choose(const struct tuner *t, const struct query *q, struct choice *out)
{
	if (choose_preset(t, q, out))
		return TUTTI_OK;
	*out = (struct choice){.channels = 1, .seconds = INFINITY};
	consider_direct(t, q, out);
	consider_plans(t, q, true, out);
	if (isinf(out->seconds))
		consider_plans(t, q, false, out);
	if (!isinf(out->seconds))
		return TUTTI_OK;
	if (t->forced[q->coll])
		return fail(TUTTI_EINVAL, "TUTTI_ALGO allows only algorithms for %s that can't do this call%s",
		            coll_name(q->coll),
		            t->reproducible && q->fold_matters ? " with TUTTI_REPRODUCIBLE=1" : " on these ranks");
	return fail(TUTTI_EINVAL, "TUTTI_ALGO leaves no algorithm for %s on %d ranks", coll_name(q->coll),
	            t->shape->nranks);
}

int tuner_choose(const struct tuner *t, const struct query *q, struct choice *out)
{
	float_env callers = float_env_enter();
	int rc = choose(t, q, out);
	float_env_leave(callers);
	return rc;
}

void tuner_prices(struct tuner *t, const struct costs *c, enum cost_link intra, enum cost_link inter)
{
	float_env callers = float_env_enter();
	t->intra = c->link[intra];
	t->inter = c->link[inter];
	t->direct_cost = c->direct[intra < COST_MEMORIES ? intra : COST_SHM];
	t->copy = c->copy;
	t->reduce = c->reduce;
	/* sockets within a machine are a way without a cable; what is faster than they are copies as memory does */
	double sockets = c->link[COST_LOOPBACK].beta;
	t->ends = sockets < t->inter.beta ? sockets : smaller(2 * c->copy, t->inter.beta);
	t->preset = c;
	float_env_leave(callers);
}

void tuner_narrow(struct tuner *t, size_t coded, size_t plain)
{
	float_env callers = float_env_enter();
	float_env_opaque(coded);
	float_env_opaque(plain);
	double share = (double)coded / (double)plain;
	t->inter.beta *= share;
	t->ends *= share;
	float_env_leave(callers);
}
