/* The cost model and the overrides. Formulas: rounds, bytes through the busiest link, bytes reduced by the busiest rank. */
#include "tuner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../direct/direct.h"
#include "../util/error.h"

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
	for (const char *p = list + exclude, *end = list + len; p < end;) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t n = (size_t)((comma ? comma : end) - p);
		uint64_t bit = bit_of(p, n, coll);
		if (!bit) {
			char names[200];
			names_of(coll, names, sizeof(names));
			return fail(TUTTI_EINVAL, "TUTTI_ALGO=%s: \"%.*s\" is no algorithm of %s; there are: %s", text,
			            (int)n, p, coll_name(coll), names);
		}
		bits |= bit;
		p += n + 1;
	}
	if (!bits)
		return fail(TUTTI_EINVAL, "TUTTI_ALGO=%s: no algorithm after \"%s:\"", text, coll_name(coll));
	t->allowed[coll] = exclude ? ~bits : bits;
	t->forced[coll] = !exclude;
	return TUTTI_OK;
}

int tuner_allow(struct tuner *t, const char *text)
{
	for (int i = 0; i < COLL_COUNT; i++)
		t->allowed[i] = ~0ull;
	for (const char *p = text; p && *p;) {
		size_t len = strcspn(p, ";"), name = strcspn(p, ":;");
		char coll[32] = "";
		if (name < sizeof(coll))
			memcpy(coll, p, name);
		int c = coll_by_name(coll);
		if (name == len || c < 0)
			return fail(TUTTI_EINVAL,
			            "TUTTI_ALGO=%s: \"%.*s\" is not of the form collective:algorithm (as in "
			            "allreduce:ring)",
			            text, (int)len, p);
		int rc = allow_for(t, (enum coll)c, p + name + 1, len - name - 1, text);
		if (rc)
			return rc;
		p += len;
		p += *p == ';';
	}
	return TUTTI_OK;
}

/* ---- cost ---------------------------------------------------------------------------------------------------------- */

/* Rounds of messages, bytes that pass the busiest link end, bytes that the busiest rank reduces; links of one kind. */
struct volume {
	double rounds, wire, reduced;
};

static int log2_up(int n)
{
	int d = 0;
	while ((1 << d) < n)
		d++;
	return d;
}

static struct volume volume_of(const char *algo, enum coll coll, int n, double bytes, size_t slot)
{
	double lg = log2_up(n), part = bytes * (n - 1) / n, chunks = ceil(bytes / (double)slot);
	double red = coll_reduces(coll) ? 1 : 0, twice = coll == COLL_ALLREDUCE ? 2 : 1;
	bool rooted = coll == COLL_BROADCAST || coll == COLL_REDUCE;
	if (strcmp(algo, "ring") == 0)
		return rooted ? (struct volume){n - 1 + chunks, bytes, red * bytes}
		              : (struct volume){twice * (n - 1), twice * part, red * part};
	if (strcmp(algo, "tree") == 0)
		return (struct volume){2 * twice * lg + chunks, twice * bytes, red * bytes};
	if (strcmp(algo, "doubling") == 0)
		return coll == COLL_ALLREDUCE ? (struct volume){lg + (n != 1 << (int)lg), bytes * lg, bytes * lg}
		                              : (struct volume){lg, part, red * part};
	if (strcmp(algo, "halving") == 0 || strcmp(algo, "pat") == 0 || strcmp(algo, "bruck") == 0)
		return (struct volume){twice * lg, twice * part, red * part};
	if (strcmp(algo, "pairwise") == 0 || strcmp(algo, "linear") == 0)
		return rooted || coll == COLL_GATHER || coll == COLL_SCATTER
		               ? (struct volume){1, bytes * (rooted ? n - 1 : 1), red * bytes * (n - 1)}
		               : (struct volume){twice, twice * part, red * part};
	return (struct volume){lg, bytes * (rooted ? lg : 1), red * bytes * lg}; /* binomial, dissemination */
}

static double price(struct volume v, struct link_cost c, double gamma)
{
	return v.rounds * c.alpha + v.wire * c.beta + v.reduced * gamma;
}

/*
 * A rank that talks to all others at once pays for each message, if less than for a round; and streams from many that meet
 * at one cable take turns badly (8 hosts with a switch between them: 0.64 of the cable, where a ring had all of it).
 */
static double fan_out(const char *algo, int n, struct volume v, struct link_cost c, bool cables)
{
	bool all = strcmp(algo, "pairwise") == 0 || strcmp(algo, "linear") == 0;
	return all ? (n - 2) * (c.alpha * 0.3 + (cables ? v.wire * c.beta * 0.05 : 0)) : 0;
}

/* Inside: pairwise on all ranks of a host. Across: each lane has its share, and all lanes leave a host by the same way. */
static double hierarchy_seconds(const struct tuner *t, const struct algo *a, const struct query *q)
{
	int hosts = t->shape->nhosts, local = t->shape->nranks / hosts > 1 ? t->shape->nranks / hosts : 1;
	bool ring = strcmp(a->name, "hierarchy-ring") == 0;
	const char *across = ring                        ? "ring"
	                     : q->coll == COLL_ALLREDUCE ? "doubling"
	                     : q->coll == COLL_ALLGATHER ? "bruck"
	                                                 : "binomial";
	struct volume far = volume_of(across, q->coll, hosts, (double)q->bytes, t->slot);
	far.reduced /= local;
	return price(volume_of("pairwise", q->coll, local, (double)q->bytes, t->slot), t->near, t->gamma) +
	       price(far, t->far, t->gamma);
}

static double algo_seconds(const struct tuner *t, const struct algo *a, const struct query *q)
{
	int n = t->shape->nranks, hosts = t->shape->nhosts;
	double bytes = (double)q->bytes;
	if (strncmp(a->name, "hierarchy", 9) == 0)
		return hierarchy_seconds(t, a, q);
	struct link_cost c = hosts > 1 ? t->far : t->near;
	struct volume v = volume_of(a->name, q->coll, n, bytes, t->slot);
	double s = price(v, c, t->gamma) + fan_out(a->name, n, v, c, hosts > 1);
	/* several ranks of a host share its way out; a ring crosses it once */
	if (hosts > 1 && n > hosts && strcmp(a->name, "ring") != 0)
		s += (n / hosts - 1) * v.wire * c.beta;
	return s;
}

/* ---- choice -------------------------------------------------------------------------------------------------------- */

static bool may(const struct tuner *t, const struct query *q, int i, struct plan_args *args)
{
	const struct algo *a = algo_table[i];
	if (!(t->allowed[q->coll] >> i & 1) || !algo_serves(a, args))
		return false;
	return !t->reproducible || !q->fold_matters || a->flags & ALGO_RANK_ORDER;
}

/*
 * In memory a second strand moves while the first waits for its chunk; a third only spreads the working set over more slots.
 * Across hosts a channel is another socket: worth it where the kernel's work for one is the limit.
 */
static int channels_for(const struct tuner *t, const struct query *q)
{
	size_t chunks = q->bytes / t->slot;
	if (t->channels > 0)
		return t->channels;
	if (t->shape->nhosts == 1)
		return chunks < 1 ? 1 : 2;
	return chunks < 16 ? 1 : chunks < 64 ? 2 : 4;
}

int tuner_choose(const struct tuner *t, const struct query *q, struct choice *out)
{
	int n = t->shape->nranks;
	struct plan_args args = {
	        .coll = q->coll, .rank = 0, .nranks = n, .root = q->root, .channels = 1, .shape = t->shape};
	*out = (struct choice){.channels = 1, .seconds = INFINITY};
	if (t->direct && direct_serves(q->coll) && t->allowed[q->coll] & DIRECT_BIT) {
		/* one-shot: everybody reads everything; two-shot: one more wait, less to fold */
		double one = t->near.alpha + (n - 1) * (double)q->bytes * (t->near.beta + t->gamma) / 2;
		double two = 2 * t->near.alpha + (double)q->bytes * (2 * t->near.beta + t->gamma);
		bool twice = q->coll == COLL_ALLREDUCE && n > 2 && two < one;
		out->two_shot = twice;
		out->seconds = twice ? two : one;
		return TUTTI_OK;
	}
	for (int i = 0; algo_table[i]; i++) {
		if (!may(t, q, i, &args))
			continue;
		double s = algo_seconds(t, algo_table[i], q);
		if (s < out->seconds)
			*out = (struct choice){.algo = algo_table[i], .channels = 1, .seconds = s};
	}
	if (out->algo) {
		out->channels = channels_for(t, q);
		return TUTTI_OK;
	}
	if (t->forced[q->coll])
		return fail(TUTTI_EINVAL, "TUTTI_ALGO forces algorithms of %s that cannot do this call%s",
		            coll_name(q->coll),
		            t->reproducible && q->fold_matters ? " with TUTTI_REPRODUCIBLE=1" : " on these ranks");
	return fail(TUTTI_EINVAL, "TUTTI_ALGO leaves no algorithm for %s on %d ranks", coll_name(q->coll), n);
}
