/* SPDX-License-Identifier: MIT */
/*
 * What rows say of their volumes against the plans of all ranks: blocks, messages, rounds. The longest chain of messages is found by
 * letting each message take one unit of time, and nothing else any.
 */
#include "plan_set.h"

#include "../../tools/sim/sim.h"

#define MOST 33

static int most(int a, int b)
{
	return a > b ? a : b;
}

/* Of the rank that has most, as in struct leg. */
struct counted {
	int sent, messages, folded, sources, peers;
};

/* The blocks of a step's message. */
static int blocks_of(const struct step *s)
{
	return s->src != BUF_NONE ? s->src_set.n : s->dst != BUF_NONE ? s->dst_set.n : 0;
}

static bool counts(const struct plan *p, int link, const int *host, int level)
{
	bool out = host && host[p->links[link].peer] != host[p->rank];
	return level < 0 || (level == 1) == out;
}

/* level -1: all links; 0: those inside hosts; 1: those between hosts. */
static struct counted count_rank(const struct plan *p, const int *host, int level)
{
	struct counted c = {0};
	int in[2] = {0}, out[2] = {0};
	for (int i = 0; i < p->nsteps; i++) {
		const struct step *s = &p->steps[i];
		int blocks = blocks_of(s);
		if (s->recv >= 0 && counts(p, s->recv, host, level))
			in[0] += blocks, in[1]++;
		if (s->send >= 0 && counts(p, s->send, host, level))
			out[0] += blocks, out[1]++;
		if (s->flags & STEP_REDUCE && (level < 0 || (s->recv >= 0 && counts(p, s->recv, host, level))))
			c.folded += blocks;
	}
	c.sent = most(in[0], out[0]);
	c.messages = most(in[1], out[1]);
	for (int i = 0; i < p->nlinks; i++) {
		bool known = false;
		for (int k = 0; k < i; k++)
			known |= p->links[k].peer == p->links[i].peer;
		c.peers += !known && counts(p, i, host, level);
	}
	for (int k = 0; k < p->nstrands; k++) { /* no link has two strands */
		int sources = 0;
		bool seen[MAX_RANKS] = {false};
		for (int i = p->strands[k].first; i < p->strands[k].first + p->strands[k].nsteps; i++) {
			int link = p->steps[i].recv;
			if (link < 0 || !counts(p, link, host, level) || seen[p->links[link].peer])
				continue;
			seen[p->links[link].peer] = true;
			sources++;
		}
		c.sources = most(c.sources, sources);
	}
	return c;
}

static struct counted count_all(const struct algo *algo, struct plan_args a, int level, struct plan **first)
{
	struct counted all = {0};
	for (a.rank = 0; a.rank < a.nranks; a.rank++) {
		struct plan *p = algo_plan(algo, &a);
		assert_non_null(p);
		struct counted c = count_rank(p, a.shape ? a.shape->host : NULL, level);
		all = (struct counted){.sent = most(all.sent, c.sent),
		                       .messages = most(all.messages, c.messages),
		                       .folded = most(all.folded, c.folded),
		                       .sources = most(all.sources, c.sources),
		                       .peers = most(all.peers, c.peers)};
		if (a.rank == 0 && first)
			*first = p;
		else
			plan_free(p);
	}
	return all;
}

/* ---- rounds ---------------------------------------------------------------------------------------------------------- */

static void one_unit(const struct sim_cluster *c, int from, int to, struct sim_route *out)
{
	(void)c;
	(void)from;
	(void)to;
	*out = (struct sim_route){.latency = 1};
}

static int longest_chain(const struct algo *algo, const struct plan_args *a)
{
	struct sim_cluster cluster = {.nranks = a->nranks, .route = one_unit};
	struct sim_call call = {.coll = a->coll,
	                        .algo = algo,
	                        .channels = a->channels,
	                        .shape = a->shape,
	                        .count = 4096,
	                        .esize = 1,
	                        .slot = 1 << 20,
	                        .slots = 64,
	                        .whole = true};
	struct sim_result r;
	assert_int_equal(sim_run(&cluster, &call, &r), 0);
	return (int)(r.seconds + 0.5);
}

/* ---- comparing ------------------------------------------------------------------------------------------------------- */

static int wrong;

static void compare(const struct algo *algo, const struct plan_args *a, const char *what, int said, int least,
                    int limit)
{
	if (said >= least && said <= limit)
		return;
	printf("%s:%s, %d ranks of %d hosts: %s is %d, and the plans have %d to %d\n", coll_name(a->coll), algo->name,
	       a->nranks, a->shape ? a->shape->nhosts : a->nranks, what, said, least, limit);
	wrong++;
}

static void compare_flat(const struct algo *algo, struct plan_args a)
{
	struct volume v;
	struct plan *p;
	algo_volume(algo, &a, &v);
	struct counted c = count_all(algo, a, -1, &p);
	int chain = longest_chain(algo, &a);
	compare(algo, &a, "blocks", v.blocks * v.channels, p->nblocks, p->nblocks);
	compare(algo, &a, "largest", v.largest, p->max_set, p->max_set);
	plan_free(p);
	/* a tree of two or three ranks has no rank inside that is not the root */
	int few = v.pipeline > 1 && a.nranks < 4 ? 2 : 1;
	compare(algo, &a, "sent", v.all.sent, c.sent, few * c.sent);
	compare(algo, &a, "reduced", v.all.reduced, c.folded, few * c.folded);
	compare(algo, &a, "messages", most(v.all.messages, v.all.rounds), c.messages, INT32_MAX);
	compare(algo, &a, "sources", v.all.sources, 1, c.sources);
	compare(algo, &a, "peers", v.all.peers, c.peers, 2 * c.peers + 3);
	compare(algo, &a, "rounds", v.all.rounds, chain, 2 * chain);
}

static void flat_volumes_are_those_of_the_plans(void **state)
{
	(void)state;
	wrong = 0;
	for (int i = 0; algo_table[i]; i++)
		for (int coll = 0; coll < COLL_COUNT; coll++)
			for (int n = 2; n <= MOST; n++) {
				struct plan_args a = {.coll = (enum coll)coll, .nranks = n, .channels = 1};
				if (algo_serves(algo_table[i], &a))
					compare_flat(algo_table[i], a);
			}
	assert_int_equal(wrong, 0);
}

static void levels_of_volumes_are_those_of_the_plans(void **state)
{
	static const int shapes[][2] = {{2, 2}, {3, 2}, {2, 3}, {4, 4}, {3, 8}, {5, 3}, {8, 4}};
	(void)state;
	wrong = 0;
	for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
		int host[64], hosts = shapes[k][0], local = shapes[k][1];
		for (int r = 0; r < hosts * local; r++)
			host[r] = r / local;
		struct shape shape = {.nranks = hosts * local, .nhosts = hosts, .host = host};
		for (int i = 0; algo_table[i]; i++)
			for (int coll = 0; coll < COLL_COUNT; coll++) {
				struct plan_args a = {.coll = (enum coll)coll,
				                      .nranks = shape.nranks,
				                      .channels = 1,
				                      .shape = &shape};
				struct volume v;
				if (!algo_serves(algo_table[i], &a))
					continue;
				algo_volume(algo_table[i], &a, &v);
				if (!v.inside.rounds || v.pipeline)
					continue;
				struct counted near = count_all(algo_table[i], a, 0, NULL),
				               far = count_all(algo_table[i], a, 1, NULL);
				int chain = longest_chain(algo_table[i], &a);
				compare(algo_table[i], &a, "sent inside", v.inside.sent, near.sent, 2 * near.sent);
				compare(algo_table[i], &a, "sent across", v.all.sent, far.sent, far.sent);
				compare(algo_table[i], &a, "reduced across", v.all.reduced, far.folded, far.folded);
				compare(algo_table[i], &a, "sources", v.all.sources, 1, far.sources);
				compare(algo_table[i], &a, "rounds", v.all.rounds + v.inside.rounds, chain, 2 * chain);
			}
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(flat_volumes_are_those_of_the_plans),
	        cmocka_unit_test(levels_of_volumes_are_those_of_the_plans),
	};
	return cmocka_run_group_tests_name("volumes", tests, NULL, NULL);
}
