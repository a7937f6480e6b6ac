/* SPDX-License-Identifier: MIT */
/*
 * What links and memory cost: the numbers that the cost model (model.h) puts into its formulas. Priors stand in for what
 * nobody has measured; `tutti-info --tune` measures, and writes a table, one a host. Rank 0's is sent to all ranks.
 *
 * The table is text. Empty lines and what follows a # don't count; the first line that does is "tutti-tune 1", each
 * other one a name of a row and its values in nanoseconds. A row that is missing keeps its prior.
 *
 * Or a line says what is to be chosen, where somebody knows better than formulas do (tutti-topo --choose, a simulation of that
 * cluster): "choose allreduce 8 4 65536 doubling", on 8 ranks of 4 hosts, up to 65536 bytes; * for bytes: all that are left.
 */
#ifndef TUTTI_COSTS_H
#define TUTTI_COSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of two prices. Those of libm are calls, for whose sake alone the library would load it. */
static inline double smaller(double a, double b)
{
	return a < b ? a : b;
}

static inline double larger(double a, double b)
{
	return a > b ? a : b;
}

/** Kinds of links, the cheapest first. */
enum cost_link {
	COST_INPROC,   /* between threads of a process */
	COST_SHM,      /* between processes that share memory */
	COST_LOOPBACK, /* sockets within a machine */
	COST_NETWORK,  /* between machines */
	COST_LINKS,
};
#define COST_MEMORIES (COST_SHM + 1)

/** Seconds of a round of messages; of a byte; of each further message that a rank handles in the same round. */
struct link_cost {
	double alpha, beta, gap;
};

/** The direct tier: seconds until all have seen what all have shown; of a byte read from a peer. */
struct direct_cost {
	double alpha, beta;
};

/** Rows of the table, and bits of `measured`: of a kind of link, of the direct tier over a kind of memory, ... */
enum {
	COST_ROW_LINK,
	COST_ROW_DIRECT = COST_LINKS,
	COST_ROW_COPY = COST_ROW_DIRECT + COST_MEMORIES,
	COST_ROW_REDUCE,
	COST_ROWS
};

/** Calls of a collective (enum coll) on so many ranks of so many hosts, of up to `bytes`: a place of algo_table. */
struct cost_choice {
	uint64_t bytes; /* of the larger buffer */
	uint32_t ranks;
	uint16_t hosts;
	uint8_t coll, algo;
};
#define COST_CHOICES 24

/** No pointers and no holes: sent as it is. */
struct costs {
	struct link_cost link[COST_LINKS];
	struct direct_cost direct[COST_MEMORIES];
	double copy, reduce; /* seconds of a byte within a rank's own memory */
	uint64_t measured;   /* bit i: row i was measured */
	struct cost_choice choice[COST_CHOICES];
	uint64_t nchoices;
};

/** One row of the table, for programs that print it; false at the end. */
struct cost_row {
	const char *name, *what;
	int values;
};
bool cost_row(int i, struct cost_row *row);
double *cost_values(struct costs *c, int i);

void costs_priors(struct costs *c);
/** Rows of a text of `len` bytes replace those of *c. EINVAL names `name` and the line, and *c stays as it was. */
int costs_parse(struct costs *c, const char *text, size_t len, const char *name);
/** The same for a file; ESYSTEM when it can't be read. */
int costs_read(struct costs *c, const char *path);
/** May what rank 0 sent be used: costs within a table's bounds, choices that name collectives and algorithms that there are? */
bool costs_plausible(const struct costs *c);
/** One more choice, for larger calls than those before it. EINVAL: there are too many. */
int costs_choose(struct costs *c, struct cost_choice choice);
/** Forgets the choices for that one's collective, ranks and hosts. */
void costs_forget(struct costs *c, const struct cost_choice *like);
/** The measured rows and the choices, as a table. */
void costs_print(const struct costs *c, FILE *f);
/**
 * The file that `tune_file` (TUTTI_TUNE_FILE) means: itself; by default tutti/tune-HOSTNAME in the user's cache. False:
 * no table is wanted, or there is no home directory.
 */
bool costs_path(const char *tune_file, char *buf, size_t cap);
/** Priors, or the table where there is one. One that can't be used is a warning. */
void costs_load(struct costs *c, const char *tune_file);

#endif
