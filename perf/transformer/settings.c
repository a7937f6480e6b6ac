/* SPDX-License-Identifier: MIT */
/* Options of tutti-transformer: see settings.h. */
#include "settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/cli/cli.h"

/* X: field, letter, word, kind, argument, default (NULL: zero), help */
#define SETTINGS(X)                                                                                                    \
	X(make, 0, "make", TEXT, "PRESET", NULL, "write a random model to DIR and exit: tiny, small, 1b or 8b-layer")  \
	X(set, 0, "set", TEXT, "NAME=N,...", NULL,                                                                     \
	  "with --make: change hidden, mlp, layers, heads, kv_heads, head_dim, vocab, positions, tied, *_bias")        \
	X(type, 0, "type", TEXT, "TYPE", "bf16", "with --make: type of the weights, bf16 or f32 (bf16)")               \
	X(files, 0, "files", INT, "N", "1", "with --make: number of weight files, with an index (1)")                  \
	X(seed, 0, "seed", INT, "N", "1", "with --make: seed of the random weights (1)")                               \
	X(tokens, 'p', "tokens", TEXT, "ID,...", "1,2,3,4,5,6,7,8", "the prompt, as token ids (1 to 8)")               \
	X(generate, 'n', "generate", INT, "N", "16", "tokens to decode per sequence (16)")                             \
	X(shares, 's', "shares", TEXT, "N,...", NULL,                                                                  \
	  "each rank's share of heads, columns and vocabulary, in any unit (equal shares)")                            \
	X(ranks, 't', "ranks", INT, "N", "1",                                                                          \
	  "ranks as threads of this process (1: rank and size come from the launcher)")                                \
	X(threads, 0, "threads", INT, "N", "1", "threads per rank for the large products of a prefill (1)")            \
	X(pieces, 0, "pieces", INT, "N", "1",                                                                          \
	  "split large steps into N pieces; a piece's all-reduce overlaps the next piece (1: no split)")               \
	X(plain, 0, "plain", SWITCH, NULL, NULL, "use plain loops instead of OpenBLAS for all products")               \
	X(timeout, 'T', "timeout", REAL, "SECONDS", "0", "deadline of a collective (the library's default)")           \
	X(check, 0, "check", SWITCH, NULL, NULL,                                                                       \
	  "compare all logits with a reference in double precision, and the ranks' bits with each other")              \
	X(bench, 0, "bench", SWITCH, NULL, NULL, "measure prefill and decoding, and where the time goes")              \
	X(prompt, 0, "prompt", INT, "N", "512", "with --bench: prompt tokens per sequence (512)")                      \
	X(batch, 'b', "batch", INT, "N", "1", "with --bench: sequences decoded together (1)")                          \
	X(rounds, 'r', "rounds", INT, "N", "3", "with --bench: rounds; figures are medians over them (3)")             \
	X(single, 0, "single", INT, "0|1", "1",                                                                        \
	  "with --bench: also measure rank 0 alone with the whole model, alternating (1)")                             \
	X(pretend, 0, "pretend", SWITCH, NULL, NULL,                                                                   \
	  "with --bench: sleep for as long as products take a lone rank, for ranks that share cores")                  \
	X(json, 'J', "json", TEXT, "FILE", NULL, "with --bench: also write the figures as JSON")                       \
	X(help, 'h', "help", SWITCH, NULL, NULL, "print this help")                                                    \
	X(man, 0, "man", SWITCH, NULL, NULL, "print the manual page")

enum kind { INT, REAL, TEXT, SWITCH };

#define ID_OF(field, letter, word, kind, arg, preset, help) ID_##field,
enum { ID_NONE, SETTINGS(ID_OF) ID_END };

static const struct row {
	enum kind kind;
	size_t offset, size;
	const char *preset;
} rows[] = {
#define ROW_OF(field, letter, word, kind, arg, preset, help)                                                           \
	{kind, offsetof(struct settings, field), sizeof(((struct settings *)0)->field), preset},
        SETTINGS(ROW_OF)};

static const struct cli_option cli_options[] = {
#define CLI_OF(field, letter, word, kind, arg, preset, help) {ID_##field, letter, word, arg, help},
        SETTINGS(CLI_OF){0},
};

static const struct cli cli = {
        .name = "tutti-transformer",
        .usage = "DIR [options]",
        .what = "A Llama-style decoder with tensor parallelism over Tutti. "
                "Each rank loads its heads and columns of the checkpoint in DIR (config.json and safetensors) and decodes greedily. "
                "One all-reduce follows each half of a layer. "
                "Run it under tutti-run or any launcher that Tutti supports, or with -t to run ranks as threads.",
        .options = cli_options,
        .more = "Supports models of type llama, mistral, qwen2 and qwen3. "
                "Weights are f32, bf16 or f16; activations are f32. "
                "Large products use OpenBLAS if libopenblas.so.0 can be loaded.\n"
                "Exit status: 0 on success, 1 if something failed or a check did not hold, 2 if the command line is wrong.",
};

static int complain(const char *what, const char *arg)
{
	fprintf(stderr, "tutti-transformer: %s: %s (try --help)\n", what, arg);
	return -1;
}

static int read_value(const struct row *r, const char *text, struct settings *s)
{
	void *field = (char *)s + r->offset;
	char *end;
	long v;

	switch (r->kind) {
	case SWITCH:
		*(bool *)field = true;
		return 0;
	case TEXT:
		*(const char **)field = text;
		return 0;
	case REAL:
		*(double *)field = strtod(text, &end);
		return end == text || *end || !(*(double *)field >= 0 && *(double *)field < 1e9) ? -1 : 0;
	default:
		errno = 0;
		v = strtol(text, &end, 10);
		if (end == text || *end || errno || v < 0 || v > 1 << 24)
			return -1;
		if (r->size == sizeof(bool))
			*(bool *)field = v != 0;
		else
			*(int *)field = (int)v;
		return 0;
	}
}

int settings_list(const char *text, int *to, int n, int limit)
{
	int count = 0;
	char *end;

	for (;; text = end + 1) {
		long v = strtol(text, &end, 10);

		if (end == text || v < 0 || v >= limit || count == n)
			return -1;
		to[count++] = (int)v;
		if (!*end)
			return count;
		if (*end != ',')
			return -1;
	}
}

static int read_shares(struct settings *s)
{
	double all = 0;
	char *end;

	for (const char *at = s->shares; at; at = *end ? end + 1 : NULL) {
		double v = strtod(at, &end);

		if (end == at || (*end && *end != ',') || !(v >= 0 && v < 1e9) || s->nshares == RANKS_LIMIT)
			return complain("--shares", "expected numbers, one for each rank, as in 2,1,1");
		s->share[s->nshares++] = v;
		all += v;
	}
	return s->shares && all <= 0 ? complain("--shares", "all shares are zero") : 0;
}

static int check(struct settings *s)
{
	if (s->help || s->man)
		return 0;
	if (!s->dir)
		return complain("which checkpoint", "no directory given");
	if (strcmp(s->type, "bf16") != 0 && strcmp(s->type, "f32") != 0)
		return complain("--type: expected bf16 or f32", s->type);
	if (s->batch < 1 || s->rounds < 1 || s->prompt < 1 || s->generate < 1 || s->files < 1 || s->ranks < 1 ||
	    s->threads < 1 || s->pieces < 1)
		return complain("numbers of tokens, sequences, rounds, files, ranks, threads, pieces",
		                "must be at least 1");
	if (s->ranks > RANKS_LIMIT)
		return complain("-t", "at most 256 ranks");
	return read_shares(s);
}

int settings_parse(struct settings *s, int argc, char **argv)
{
	const char *value;
	int at = 1, id;

	*s = (struct settings){0};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (rows[i].preset)
			read_value(&rows[i], rows[i].preset, s);
	while ((id = cli_next(&cli, argc, argv, &at, &value)) != CLI_END) {
		if (id == CLI_BAD || (id == CLI_WORD && s->dir))
			return id == CLI_BAD ? -1 : complain("only one checkpoint is allowed", value);
		if (id == CLI_WORD)
			s->dir = value;
		else if (read_value(&rows[id - 1], value, s) != 0)
			return complain("a bad value", argv[at - 1]);
	}
	return check(s);
}

void settings_help(FILE *f)
{
	cli_help(&cli, f);
}

void settings_man(FILE *f)
{
	cli_man(&cli, f);
}
