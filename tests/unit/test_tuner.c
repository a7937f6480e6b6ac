/* SPDX-License-Identifier: MIT */
/* The tuner: tables of costs, TUTTI_ALGO, the choice by given costs, sockets; and that all ranks choose by rank 0's table. */
#include "expect.h"

#include "../../src/tuner/costs.h"
#include "../../src/tuner/model.h"
#include "../../src/tuner/tuner.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "../float_env.h"
#include "../ranks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define assert_ns(seconds, ns) assert_true(fabs((seconds)*1e9 / (ns)-1) < 1e-9)

static char logged[2048], folder[] = "/tmp/tutti-tuner-XXXXXX";

static void keep(void *ctx, enum tutti_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%s\n", line);
}

static int fresh(void **state)
{
	(void)state;
	logged[0] = '\0';
	log_set_sink((struct log_sink){.fn = keep});
	return 0;
}

/* ---- tables ---------------------------------------------------------------------------------------------------------- */

static int parse(struct costs *c, const char *text)
{
	return costs_parse(c, text, strlen(text), "T");
}

static void a_table_replaces_the_rows_that_it_has(void **state)
{
	struct costs c, prior;
	(void)state;
	costs_priors(&prior);
	c = prior;
	assert_int_equal(
	        parse(&c, "# a comment\n\n\ttutti-tune 1 # and one\r\nnetwork 20000 0.5 1000.25\n  copy 0.125"), 0);
	assert_ns(c.link[COST_NETWORK].alpha, 20000);
	assert_ns(c.link[COST_NETWORK].beta, 0.5);
	assert_ns(c.link[COST_NETWORK].gap, 1000.25);
	assert_ns(c.copy, 0.125);
	assert_true(c.measured == (1u << (COST_ROW_LINK + COST_NETWORK) | 1u << COST_ROW_COPY));
	assert_memory_equal(&c.link[COST_SHM], &prior.link[COST_SHM], sizeof(prior.link[0]));
	assert_memory_equal(&c.direct, &prior.direct, sizeof(prior.direct));
}

static void damage_is_named_with_its_line(void **state)
{
	static const struct {
		const char *text, *why;
	} damaged[] = {
	        {"", "T:1: the table is empty"},
	        {"# nothing\n\n", "T:3: the table is empty"},
	        {"copy 1\n", "T:1: not a cost table"},
	        {"\x7f"
	         "ELF\n",
	         "T:1: not a cost table"},
	        {"tutti-tune\n", "T:1: expected \"tutti-tune 1\""},
	        {"tutti-tune one\n", "T:1: expected \"tutti-tune 1\""},
	        {"#\ntutti-tune 2\ncopy 1\n", "T:2: the table has version 2, this library reads version 1"},
	        {"tutti-tune 1\ntutti-tune 1\n", "T:2: unknown row \"tutti-tune\""},
	        {"tutti-tune 1\ncopy 1\nwarp 1\n", "T:3: unknown row \"warp\""},
	        {"tutti-tune 1\nnetwork 1 2\n", "T:2: network has 3 values, found 2"},
	        {"tutti-tune 1\nnetwork 1 2 # 3\n", "T:2: network has 3 values, found 2"},
	        {"tutti-tune 1\ncopy 1 2\n", "T:2: \"2\" is one value too many for copy"},
	        {"tutti-tune 1\ncopy -1\n", "T:2: \"-1\" is not a time"},
	        {"tutti-tune 1\ncopy 0\n", "T:2: \"0\" is not a time"},
	        {"tutti-tune 1\ncopy 0.00009\n", "T:2: \"0.00009\" is not a time"},
	        {"tutti-tune 1\ncopy nan\n", "T:2: \"nan\" is not a time"},
	        {"tutti-tune 1\ncopy 1e3\n", "T:2: \"1e3\" is not a time"},
	        {"tutti-tune 1\ncopy 1000000001\n", "T:2: \"1000000001\" is not a time"},
	        {"tutti-tune 1\ncopy 1.0000000000000000000000000000000000000000\n", "...\" is not a time"},
	        {"tutti-tune 1\nreduce 0.", NULL},
	        {"choose allreduce 4 2 * ring\n", "T:1: not a cost table"},
	        {"tutti-tune 1\nchoose allreduce 4 2 *\n",
	         "T:2: expected \"choose COLLECTIVE RANKS HOSTS BYTES ALGORITHM\""},
	        {"tutti-tune 1\nchoose allreduce 4 2 * ring tree\n", "T:2: expected \"choose COLLECTIVE"},
	        {"tutti-tune 1\nchoose send 4 2 * ring\n", "T:2: unknown collective \"send\""},
	        {"tutti-tune 1\nchoose allreduce 0 2 * ring\n", "T:2: invalid rank or host count: ranks=0 hosts=2"},
	        {"tutti-tune 1\nchoose allreduce 4 5 * ring\n", "T:2: invalid rank or host count: ranks=4 hosts=5"},
	        {"tutti-tune 1\nchoose allreduce 4 2 -1 ring\n", "T:2: \"-1\" is neither a number of bytes"},
	        {"tutti-tune 1\nchoose allreduce 4 2 * bruck\n", "T:2: \"bruck\" is not an algorithm for allreduce"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		struct costs c, before;
		costs_priors(&c);
		before = c;
		int rc = parse(&c, damaged[i].text);
		if (rc != TUTTI_EINVAL)
			flunk("taken: %s", damaged[i].text);
		assert_contains(fail_text(), damaged[i].why ? damaged[i].why : "T:2:");
		assert_memory_equal(&c, &before, sizeof(c));
	}
}

static const char *file_in_folder(const char *name, const char *text)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	return path;
}

static void what_is_printed_is_read(void **state)
{
	struct costs c, back;
	struct cost_row row;
	char text[4096] = "";
	(void)state;
	costs_priors(&c);
	for (int i = 0; cost_row(i, &row); i++)
		for (int k = 0; k < row.values; k++)
			cost_values(&c, i)[k] = (k == 1 ? 0.25 : 1000 * (i + 1) + k) * 1e-9;
	c.measured = (1u << COST_ROWS) - 1;
	FILE *f = fmemopen(text, sizeof(text), "w");
	costs_print(&c, f);
	fclose(f);
	costs_priors(&back);
	if (parse(&back, text) != 0)
		flunk("%s", fail_text());
	for (int i = 0; cost_row(i, &row); i++)
		for (int k = 0; k < row.values; k++)
			assert_true(fabs(cost_values(&back, i)[k] / cost_values(&c, i)[k] - 1) < 1e-3);
	assert_true(back.measured == c.measured);
}

static void choices_are_kept_in_order(void **state)
{
	struct costs c, back;
	char text[4096] = "", line[64];
	(void)state;
	costs_priors(&c);
	if (parse(&c, "tutti-tune 1\nchoose allreduce 8 4 64K doubling\nchoose allgather 8 4 * ring\ncopy 2\n"
	              "choose allreduce 8 4 * hierarchy # the rest\n") != 0)
		flunk("%s", fail_text());
	assert_int_equal(c.nchoices, 3);
	assert_int_equal(c.choice[0].bytes, 65536);
	assert_int_equal(c.choice[2].bytes, INT64_MAX);
	assert_string_equal(algo_table[c.choice[2].algo]->name, "hierarchy");
	FILE *f = fmemopen(text, sizeof(text), "w");
	costs_print(&c, f);
	fclose(f);
	costs_priors(&back);
	assert_int_equal(parse(&back, text), 0);
	assert_int_equal(back.nchoices, 3);
	assert_memory_equal(back.choice, c.choice, sizeof(c.choice));
	costs_forget(&back, &(struct cost_choice){.coll = COLL_ALLREDUCE, .ranks = 8, .hosts = 2});
	assert_int_equal(back.nchoices, 3);
	costs_forget(&back, &(struct cost_choice){.coll = COLL_ALLREDUCE, .ranks = 8, .hosts = 4});
	assert_int_equal(back.nchoices, 1);
	assert_memory_equal(&back.choice[0], &c.choice[1], sizeof(c.choice[0]));
	/* one table's choices do not add to another's, and there is an end to them */
	strcpy(text, "tutti-tune 1\n");
	for (int i = 1; i <= COST_CHOICES; i++) {
		snprintf(line, sizeof(line), "choose barrier 2 1 %d dissemination\n", i);
		strcat(text, line);
	}
	assert_int_equal(parse(&back, text), 0);
	assert_int_equal(back.nchoices, COST_CHOICES);
	strcat(text, line);
	assert_int_equal(parse(&back, text), TUTTI_EINVAL);
	assert_contains(fail_text(), "has room for 24 choices");
}

static void which_file(void **state)
{
	char path[300], host[65] = "", want[300];
	(void)state;
	gethostname(host, sizeof(host) - 1);
	assert_true(costs_path("here", path, sizeof(path)));
	assert_string_equal(path, "here");
	assert_false(costs_path("none", path, sizeof(path)));
	setenv("HOME", "/home/u", 1);
	setenv("XDG_CACHE_HOME", "/cache", 1);
	assert_true(costs_path(NULL, path, sizeof(path)));
	snprintf(want, sizeof(want), "/cache/tutti/tune-%s", host);
	assert_string_equal(path, want);
	setenv("XDG_CACHE_HOME", "not/absolute", 1); /* the standard says: ignore it */
	assert_true(costs_path("", path, sizeof(path)));
	snprintf(want, sizeof(want), "/home/u/.cache/tutti/tune-%s", host);
	assert_string_equal(path, want);
	assert_false(costs_path("", path, 12));
	unsetenv("HOME");
	assert_false(costs_path(NULL, path, sizeof(path)));
}

static void a_table_that_cannot_be_used_is_a_warning(void **state)
{
	struct costs c, prior;
	(void)state;
	costs_priors(&prior);
	setenv("XDG_CACHE_HOME", folder, 1);
	costs_load(&c, NULL); /* nobody has measured: not a word */
	assert_string_equal(logged, "");
	costs_load(&c, "/nowhere/table");
	assert_contains(logged, "/nowhere/table");
	assert_contains(logged, "default costs");
	assert_memory_equal(&c, &prior, sizeof(c));
	logged[0] = '\0';
	const char *path = file_in_folder("damaged", "tutti-tune 1\ncopy 1\nreduce x\n");
	costs_load(&c, path);
	assert_contains(logged, "damaged:3: ");
	assert_memory_equal(&c, &prior, sizeof(c));
	costs_load(&c, folder);
	assert_contains(logged, folder);
	assert_memory_equal(&c, &prior, sizeof(c));
	logged[0] = '\0';
	char *big = malloc(70000);
	assert_non_null(big);
	memset(big, '\n', 70000);
	big[69999] = '\0';
	costs_load(&c, file_in_folder("big", big));
	free(big);
	assert_contains(logged, "too long");
	logged[0] = '\0';
	costs_load(&c, file_in_folder("good", "tutti-tune 1\ncopy 7\n"));
	assert_string_equal(logged, "");
	assert_ns(c.copy, 7);
}

/* ---- TUTTI_ALGO ------------------------------------------------------------------------------------------------------ */

static void lists_of_algorithms(void **state)
{
	static const struct {
		const char *text, *why; /* NULL: it is good */
	} given[] = {
	        {"allreduce:ring", NULL},
	        {"allreduce:ring,tree;allgather:^bruck", NULL},
	        {"allreduce:ring;", NULL},
	        {"allreduce:ring,", "no algorithm after a comma"},
	        {"allreduce:ring,;allgather:ring", "no algorithm after a comma"},
	        {"allreduce:ring,,tree", "no algorithm before a comma"},
	        {"allreduce:,ring", "no algorithm before a comma"},
	        {"allreduce:^ring,", "no algorithm after a comma"},
	        {"allreduce:", "no algorithm after \"allreduce:\""},
	        {"allreduce:^", "no algorithm after \"allreduce:^\""},
	        {"allreduce:star", "\"star\" is not an algorithm for allreduce"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		struct tuner t = {0};
		int rc = tuner_allow(&t, given[i].text);
		if ((rc == TUTTI_OK) != !given[i].why)
			flunk("%s: status %d", given[i].text, rc);
		if (given[i].why)
			assert_contains(fail_text(), given[i].why);
	}
}

/* ---- choice ---------------------------------------------------------------------------------------------------------- */

#define MOST_RANKS 64

static struct tuner tuner_of(struct shape *shape, int *host, int n, int hosts, const struct costs *costs)
{
	for (int r = 0; r < n; r++)
		host[r] = (int)((long)r * hosts / n);
	*shape = (struct shape){.nranks = n, .nhosts = hosts, .host = host};
	struct tuner t = {.shape = shape, .direct = hosts == 1, .slot = 128 << 10};
	tuner_prices(&t, costs, COST_SHM, COST_NETWORK);
	assert_int_equal(tuner_allow(&t, NULL), 0);
	return t;
}

static struct choice choose(const struct tuner *t, enum coll coll, size_t bytes)
{
	struct query q = {.coll = coll, .bytes = bytes, .esize = 4, .fold_matters = true};
	struct choice choice;
	if (tuner_choose(t, &q, &choice) != TUTTI_OK)
		flunk("%s of %zu: %s", coll_name(coll), bytes, fail_text());
	assert_true(choice.seconds > 0 && isfinite(choice.seconds));
	return choice;
}

/* A codec's bytes, whatever a cable's share of a byte is: more data never costs less. */
static void fewer_bytes_keep_prices_in_order(void **state)
{
	static const double loopback[] = {0.01e-9, 0.1e-9, 0.2e-9, 1e-9};
	static const size_t share[] = {4, 2, 1}; /* of 4 */
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	costs.link[COST_NETWORK].beta = 0.2e-9;
	for (size_t k = 0; k < sizeof(loopback) / sizeof(loopback[0]) * 3; k++) {
		costs.link[COST_LOOPBACK].beta = loopback[k / 3];
		struct tuner t = tuner_of(&shape, host, 16, 2, &costs);
		tuner_narrow(&t, share[k % 3], 4);
		assert_true(t.ends < t.inter.beta);
		for (int i = 0; algo_table[i]; i++) {
			struct plan_args a = {.coll = COLL_ALLREDUCE, .nranks = 16, .channels = 1, .shape = &shape};
			double last = 0;
			for (size_t bytes = 1 << 20; algo_serves(algo_table[i], &a) && bytes <= 1 << 30; bytes *= 4) {
				struct query q = {.coll = COLL_ALLREDUCE, .bytes = bytes, .esize = 4};
				double seconds = model_plan(&t, algo_table[i], &q, 2);
				if (seconds <= last)
					flunk("%s of %zu: %g after %g", algo_table[i]->name, bytes, seconds, last);
				last = seconds;
			}
		}
	}
}

/* Ranks choose alike whatever their threads' rounding is: the price has the same bits. */
static void rounding_makes_no_other_choice(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	for (int ranks = 2; ranks <= 12; ranks++)
		for (size_t bytes = 8; bytes <= 64 << 20; bytes *= 2) {
			struct query q = {.coll = COLL_ALLREDUCE, .bytes = bytes, .esize = 4};
			struct choice want, got;
			struct tuner t = tuner_of(&shape, host, ranks, ranks % 2 ? 1 : 2, &costs);
			assert_int_equal(tuner_choose(&t, &q, &want), TUTTI_OK);
			for (int env = 1; env < CALLERS_ENVS; env++) {
				callers_env_set((enum callers_env)env);
				tuner_prices(&t, &costs, COST_SHM, COST_NETWORK);
				tuner_narrow(&t, 1, 3);
				tuner_prices(&t, &costs, COST_SHM, COST_NETWORK);
				int rc = tuner_choose(&t, &q, &got);
				callers_env_reset();
				assert_int_equal(rc, TUTTI_OK);
				assert_ptr_equal(got.algo, want.algo);
				assert_memory_equal(&got.seconds, &want.seconds, sizeof(want.seconds));
			}
		}
}

/* Choices in a table override prices, but not TUTTI_ALGO, and not for other numbers of ranks. */
static void what_is_preset_is_chosen(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	assert_int_equal(parse(&costs,
	                       "tutti-tune 1\nchoose allreduce 8 4 1000 tree\nchoose allreduce 8 4 4M pairwise\n"
	                       "choose allreduce 8 8 * tree\nchoose allreduce 4 1 1M ring\n"),
	                 0);
	struct tuner t = tuner_of(&shape, host, 8, 4, &costs), plain = t;
	plain.preset = NULL;
	assert_string_equal(choose(&t, COLL_ALLREDUCE, 1000).algo->name, "tree");
	assert_string_equal(choose(&t, COLL_ALLREDUCE, 1001).algo->name, "pairwise");
	assert_string_equal(choose(&t, COLL_ALLREDUCE, 4 << 20).algo->name, "pairwise");
	assert_ptr_equal(choose(&t, COLL_ALLREDUCE, 64 << 20).algo, choose(&plain, COLL_ALLREDUCE, 64 << 20).algo);
	assert_ptr_equal(choose(&t, COLL_ALLGATHER, 1000).algo, choose(&plain, COLL_ALLGATHER, 1000).algo);
	assert_int_equal(tuner_allow(&t, "allreduce:^tree,pairwise"), 0);
	assert_string_not_equal(choose(&t, COLL_ALLREDUCE, 1000).algo->name, "tree");
	assert_string_not_equal(choose(&t, COLL_ALLREDUCE, 1 << 20).algo->name, "pairwise");
	t = tuner_of(&shape, host, 4, 1, &costs); /* also instead of the direct tier */
	assert_string_equal(choose(&t, COLL_ALLREDUCE, 1 << 20).algo->name, "ring");
	assert_null(choose(&t, COLL_ALLREDUCE, 2 << 20).algo);
}

/* Long vectors lose time where streams of several ranks meet at a host's cable; short ones, rings and memory do not. */
static void long_streams_meet(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	struct query q = {.coll = COLL_ALLREDUCE, .bytes = 256 << 10, .esize = 4};
	(void)state;
	costs_priors(&costs);
	struct tuner t = tuner_of(&shape, host, 8, 8, &costs);
	assert_true(model_meeting(&t, algo_by_name("halving"), &q) == 1);
	q.bytes++;
	assert_true(fabs(model_meeting(&t, algo_by_name("halving"), &q) - 1.02) < 1e-9);
	assert_true(fabs(model_meeting(&t, algo_by_name("pairwise"), &q) - 1.06) < 1e-9);
	assert_true(model_meeting(&t, algo_by_name("ring"), &q) == 1);
	assert_true(model_meeting(&t, algo_by_name("tree"), &q) == 1);
	t = tuner_of(&shape, host, 8, 1, &costs);
	assert_true(model_meeting(&t, algo_by_name("halving"), &q) == 1);
}

static void unmeasured_memory_is_for_the_direct_tier(void **state)
{
	static const enum coll served[] = {COLL_ALLREDUCE, COLL_ALLGATHER, COLL_REDUCE_SCATTER, COLL_BROADCAST,
	                                   COLL_BARRIER};
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	for (int n = 2; n <= MOST_RANKS; n++) {
		struct tuner t = tuner_of(&shape, host, n, 1, &costs);
		for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
			for (size_t bytes = 8; bytes <= (size_t)1 << 32; bytes *= 2)
				if (choose(&t, served[i], bytes).algo)
					flunk("%s of %zu on %d ranks", coll_name(served[i]), bytes, n);
	}
}

/* The smallest power of two for which the algorithm is `name` ("": the direct tier); 0: none. */
static size_t first_for(const struct tuner *t, enum coll coll, const char *name)
{
	for (size_t bytes = 8; bytes <= (size_t)1 << 32; bytes *= 2) {
		const struct algo *a = choose(t, coll, bytes).algo;
		if (strcmp(a ? a->name : "", name) == 0)
			return bytes;
	}
	return 0;
}

static void a_longer_latency_moves_halving_to_longer_messages(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	size_t last = 0;
	(void)state;
	costs_priors(&costs);
	/* of still longer ones a chunk's rounds are all that counts: then a ring's chunks are the fewest */
	for (double us = 1; us <= 100; us *= 10) {
		costs.link[COST_NETWORK].alpha = us * 1e-6;
		costs.link[COST_NETWORK].gap = us * 0.3e-6;
		struct tuner t = tuner_of(&shape, host, 16, 16, &costs);
		size_t now = first_for(&t, COLL_ALLREDUCE, "halving");
		assert_true(now > last);
		last = now;
	}
}

/* Halving lets several streams meet at a cable, and beyond a power of two it sends everything once more. */
static void long_messages_go_round_a_ring(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	for (int n = 3; n <= MOST_RANKS; n++) {
		struct tuner t = tuner_of(&shape, host, n, n, &costs);
		struct choice best = choose(&t, COLL_ALLREDUCE, 256 << 20);
		assert_string_equal(best.algo->name, "ring");
		assert_int_equal(tuner_allow(&t, "allreduce:halving"), 0);
		double halving = choose(&t, COLL_ALLREDUCE, 256 << 20).seconds;
		assert_true(halving > best.seconds * ((n & (n - 1)) == 0 ? 1.005 : 1.3));
	}
}

static void a_dear_direct_tier_leaves_long_messages_to_plans(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	costs.direct[COST_SHM].beta = 2 * costs.link[COST_SHM].beta;
	struct tuner t = tuner_of(&shape, host, 4, 1, &costs);
	assert_null(choose(&t, COLL_ALLREDUCE, 8).algo);
	assert_non_null(choose(&t, COLL_ALLREDUCE, 64 << 20).algo);
	costs.direct[COST_SHM].alpha = 1e-3;
	t = tuner_of(&shape, host, 4, 1, &costs);
	assert_non_null(choose(&t, COLL_ALLREDUCE, 8).algo);
	assert_int_equal(tuner_allow(&t, "allreduce:direct"), 0);
	assert_null(choose(&t, COLL_ALLREDUCE, 64 << 20).algo);
}

static void a_dear_latency_keeps_to_one_shot(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	struct tuner t = tuner_of(&shape, host, 8, 1, &costs);
	assert_false(choose(&t, COLL_ALLREDUCE, 64).two_shot);
	assert_true(choose(&t, COLL_ALLREDUCE, 1 << 20).two_shot);
	t.direct_cost.alpha = 1;
	assert_int_equal(tuner_allow(&t, "allreduce:direct"), 0);
	assert_false(choose(&t, COLL_ALLREDUCE, 1 << 20).two_shot);
}

/* ---- sockets --------------------------------------------------------------------------------------------------------- */

/* Those of a plan: one for each peer on another host and lane. */
static int sockets_of(const struct plan *p, const struct shape *shape)
{
	int sockets = 0;
	for (int i = 0; i < p->nlinks; i++) {
		const struct plan_link *a = &p->links[i];
		bool known = shape->host[a->peer] == shape->host[p->rank];
		for (int k = 0; k < i; k++)
			known |= p->links[k].peer == a->peer && p->links[k].lane == a->lane;
		sockets += !known;
	}
	return sockets;
}

static int peers_of(const struct plan *p, const struct shape *shape)
{
	int peers = 0;
	for (int i = 0; i < p->nlinks; i++) {
		bool known = shape->host[p->links[i].peer] == shape->host[p->rank];
		for (int k = 0; k < i; k++)
			known |= p->links[k].peer == p->links[i].peer;
		peers += !known;
	}
	return peers;
}

static void no_plan_takes_more_sockets_than_the_model_says(void **state)
{
	static const struct {
		int n, hosts;
	} shapes[] = {{2, 2},  {3, 3},  {5, 5},   {8, 8},   {8, 4},  {13, 13},
	              {12, 3}, {16, 2}, {31, 31}, {33, 33}, {40, 8}, {64, 32}};
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	for (size_t i = 0; i < 2 * sizeof(shapes) / sizeof(shapes[0]); i++) {
		int n = shapes[i / 2].n, hosts = shapes[i / 2].hosts;
		struct tuner t = tuner_of(&shape, host, n, hosts, &costs);
		for (int r = 0; i % 2 && r < n; r++) /* not host by host, too */
			host[r] = r % hosts;
		for (int a = 0; algo_table[a]; a++)
			for (int k = 0; k < COLL_COUNT * 3; k++) {
				struct plan_args args = {(enum coll)(k / 3), 0, shape.nranks, 0, 1 << k % 3, &shape};
				if (!algo_serves(algo_table[a], &args))
					continue;
				int limit = model_sockets(&t, algo_table[a], args.coll, args.channels),
				    most = model_peers(&t, algo_table[a], args.coll, args.channels);
				for (; args.rank < shape.nranks && algo_serves(algo_table[a], &args); args.rank++) {
					struct plan *p = algo_plan(algo_table[a], &args);
					assert_non_null(p);
					int sockets = sockets_of(p, &shape), peers = peers_of(p, &shape);
					plan_free(p);
					if (sockets > limit)
						flunk("%s:%s, %d ranks, %d hosts, %d channels: rank %d has %d "
						      "sockets, limit %d",
						      coll_name(args.coll), algo_table[a]->name, shape.nranks,
						      shape.nhosts, args.channels, args.rank, sockets, limit);
					if (peers > most)
						flunk("%s:%s, %d ranks, %d hosts, %d channels: rank %d has %d "
						      "peers, limit %d",
						      coll_name(args.coll), algo_table[a]->name, shape.nranks,
						      shape.nhosts, args.channels, args.rank, peers, most);
				}
			}
	}
}

static void few_sockets_mean_fewer_channels(void **state)
{
	struct costs costs;
	struct shape shape;
	int host[MOST_RANKS];
	(void)state;
	costs_priors(&costs);
	struct tuner t = tuner_of(&shape, host, 8, 8, &costs);
	assert_int_equal(tuner_allow(&t, "allreduce:ring"), 0);
	assert_int_equal(choose(&t, COLL_ALLREDUCE, 64 << 20).channels, 4);
	t.sockets = 5;
	assert_int_equal(choose(&t, COLL_ALLREDUCE, 64 << 20).channels, 2);
	t.channels = 64;
	assert_int_equal(choose(&t, COLL_ALLREDUCE, 64 << 20).channels, 2);
	/* an algorithm that has not sockets enough is left to those that have */
	t = tuner_of(&shape, host, 64, 64, &costs);
	assert_int_equal(tuner_allow(&t, "allgather:pairwise,ring"), 0);
	assert_string_equal(choose(&t, COLL_ALLGATHER, 64).algo->name, "pairwise");
	t.sockets = 62;
	assert_string_equal(choose(&t, COLL_ALLGATHER, 64).algo->name, "ring");
	t.sockets = 0;
	t.peers = 10; /* a mesh of 64 needs 63 */
	assert_string_equal(choose(&t, COLL_ALLGATHER, 64).algo->name, "ring");
	/* where there is no other, it is tried */
	assert_string_equal(choose(&t, COLL_ALLTOALL, 64).algo->name, "pairwise");
}

/* ---- ranks ----------------------------------------------------------------------------------------------------------- */

static char table[256];

static void only_rank_0_has_a_table(int rank, void *arg)
{
	(void)arg;
	setenv("TUTTI_TUNE_FILE", rank == 0 ? table : "none", 1);
}

/* Latencies of half a second, on whatever links there are, stand in nobody's priors. */
static int predicts_by_the_table(struct tutti_comm *c, void *arg)
{
	char text[256];
	(void)arg;
	struct tutti_comm *half;
	RANK_OK(tutti_comm_split(c, tutti_comm_rank(c) % 2, 0, &half));
	for (int i = 0; i < 2; i++) {
		RANK_OK(tutti_comm_explain(i ? half : c, "allreduce", 1, TUTTI_F32, TUTTI_SUM, text, sizeof(text)));
		const char *at = strstr(text, "predicted ");
		RANK_CHECK(at && strtod(at + strlen("predicted "), NULL) >= 500000);
	}
	return tutti_comm_destroy(half);
}

static void all_ranks_choose_by_the_table_of_rank_0(void **state)
{
	static const char *const tcp[] = {"TUTTI_TRANSPORT=tcp", NULL};
	static const struct ranks worlds[] = {
	        {.n = 4, .start = RANKS_BY_ENV},
	        {.n = 4, .start = RANKS_BY_OOB},
	        {.n = 4, .start = RANKS_BY_ID, .env = tcp},
	        {.n = 4, .threads = true},
	};
	(void)state;
	snprintf(table, sizeof(table), "%s",
	         file_in_folder("slow",
	                        "tutti-tune 1\ninproc 500000000 1 1\nshm 500000000 1 1\nloopback 500000000 1 1\n"
	                        "network 500000000 1 1\ndirect-inproc 500000000 1\ndirect-shm 500000000 1\n"));
	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
		struct ranks how = worlds[i];
		how.before = only_rank_0_has_a_table;
		if (ranks_run(&how, predicts_by_the_table, NULL))
			flunk("world %zu", i);
	}
}

/* ---- tutti-info --tune ----------------------------------------------------------------------------------------------- */

static char programs[512]; /* the folder */

/* Runs a line with `table` as the file; 0 is the good end. Its words are in the file "said". */
static int run_line(const char *line)
{
	char all[1500];
	snprintf(all, sizeof(all), "cd %s && TUTTI_TUNE_FILE=%s timeout 300 %s >%s/said 2>&1", programs, table, line,
	         folder);
	return system(all);
}

/* One run by ranks, one by a process alone on top of a damaged table: both leave one that has all but the network. */
static void measuring_leaves_a_table(void **state)
{
	static const char *const lines[] = {"./tutti-run -n 2 ./tutti-info --tune", "./tutti-info --tune"};
	struct costs c;
	(void)state;
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			snprintf(table, sizeof(table), "%s/new/folder/table", folder);
		else
			snprintf(table, sizeof(table), "%s", file_in_folder("torn", "tutti-tune 1\nshm 1"));
		if (run_line(lines[i]) != 0)
			flunk("%s failed", lines[i]);
		costs_priors(&c);
		if (costs_read(&c, table) != TUTTI_OK)
			flunk("%s: %s", lines[i], fail_text());
		assert_true(c.measured == ((1u << COST_ROWS) - 1 - (1u << (COST_ROW_LINK + COST_NETWORK))));
	}
	/* what can't be measured here stays as it was */
	snprintf(table, sizeof(table), "%s", file_in_folder("kept", "tutti-tune 1\nnetwork 7000 7 700\n"));
	assert_int_equal(run_line(lines[1]), 0);
	costs_priors(&c);
	assert_int_equal(costs_read(&c, table), TUTTI_OK);
	assert_ns(c.link[COST_NETWORK].alpha, 7000);
	assert_true(c.measured == (1u << COST_ROWS) - 1);
}

static int make_folder(void **state)
{
	(void)state;
	ssize_t n = readlink("/proc/self/exe", programs, sizeof(programs) - 5);
	if (n < 0 || !mkdtemp(folder))
		return -1;
	programs[n] = '\0';
	for (int up = 0; up < 3; up++)
		*strrchr(programs, '/') = '\0';
	strcat(programs, "/bin");
	return 0;
}

static int remove_folder(void **state)
{
	char line[300];
	(void)state;
	snprintf(line, sizeof(line), "rm -rf '%s'", folder);
	return system(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(a_table_replaces_the_rows_that_it_has, fresh),
	        cmocka_unit_test_setup(damage_is_named_with_its_line, fresh),
	        cmocka_unit_test_setup(what_is_printed_is_read, fresh),
	        cmocka_unit_test_setup(which_file, fresh),
	        cmocka_unit_test_setup(a_table_that_cannot_be_used_is_a_warning, fresh),
	        cmocka_unit_test_setup(lists_of_algorithms, fresh),
	        cmocka_unit_test_setup(choices_are_kept_in_order, fresh),
	        cmocka_unit_test_setup(what_is_preset_is_chosen, fresh),
	        cmocka_unit_test_setup(fewer_bytes_keep_prices_in_order, fresh),
	        cmocka_unit_test_setup(rounding_makes_no_other_choice, fresh),
	        cmocka_unit_test_setup(long_streams_meet, fresh),
	        cmocka_unit_test_setup(unmeasured_memory_is_for_the_direct_tier, fresh),
	        cmocka_unit_test_setup(a_longer_latency_moves_halving_to_longer_messages, fresh),
	        cmocka_unit_test_setup(long_messages_go_round_a_ring, fresh),
	        cmocka_unit_test_setup(a_dear_direct_tier_leaves_long_messages_to_plans, fresh),
	        cmocka_unit_test_setup(a_dear_latency_keeps_to_one_shot, fresh),
	        cmocka_unit_test_setup(no_plan_takes_more_sockets_than_the_model_says, fresh),
	        cmocka_unit_test_setup(few_sockets_mean_fewer_channels, fresh),
	        cmocka_unit_test_setup(all_ranks_choose_by_the_table_of_rank_0, fresh),
	        cmocka_unit_test_setup(measuring_leaves_a_table, fresh),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
