/* SPDX-License-Identifier: MIT */
/*
 * The transformer over ranks: the same tokens at every number of ranks, shares, transport and overlap, logits within the
 * stated error of a reference in doubles, the same bits on all ranks. And what it is made of: cuts, headers that lie.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../perf/transformer/checkpoint.h"
#include "../../perf/transformer/reference.h"
#include "../../perf/transformer/run.h"
#include "../ranks.h"

/* ---- cuts -------------------------------------------------------------------------------------------------------- */

static void check_cut(int total, int unit, const double *shares, int n)
{
	double all = 0;
	int at = 0;

	for (int r = 0; r < n; r++)
		all += shares ? shares[r] : 1;
	for (int r = 0; r < n; r++) {
		struct span s = cut(total, unit, shares, n, r);
		double due = total * (shares ? shares[r] : 1) / all;

		assert_int_equal(s.begin, at);
		assert_true(s.end >= s.begin && (s.end % unit == 0 || s.end == total));
		assert_true(fabs(span_size(s) - due) <= 2 * unit);
		at = s.end;
	}
	assert_int_equal(at, total);
}

static void test_cuts(void **unused)
{
	static const double shares[][8] = {
	        {2, 1, 1, 5, 0.5, 0, 3, 1}, {0, 0, 1, 0, 0, 0, 0, 9}, {1e-3, 1e3, 1, 1, 1, 1, 1, 1}};

	(void)unused;
	for (int total = 1; total < 200; total += 7)
		for (int unit = 1; unit <= 16; unit *= 4)
			for (int n = 1; n <= 8; n++)
				check_cut(total, unit, NULL, n);
	for (int s = 0; s < 3; s++)
		for (int n = 4 - (s == 2) * 2; n <= 8; n++) {
			check_cut(32, 1, shares[s], n);
			check_cut(14336, 16, shares[s], n);
		}
}

/* ---- headers ----------------------------------------------------------------------------------------------------- */

#define F32_2X3 "\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]"

static const struct {
	const char *header;
	uint64_t data; /* bytes behind it */
	const char *words;
} headers[] = {
        {"{\"a\":{" F32_2X3 "}}", 24, NULL},
        {"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{" F32_2X3 "}}   ", 24, NULL},
        {"{\"a\":{" F32_2X3 "}}", 23, "cut off"},
        {"{\"a\":{" F32_2X3 "}}", 25, "belong to no tensor"},
        {"{\"a\":{" F32_2X3 "},\"a\":{" F32_2X3 "}}", 24, "duplicate"},
        {"{\"a\":{" F32_2X3 "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[20,24]}}", 24, "overlap"},
        {"{\"a\":{" F32_2X3 "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[28,32]}}", 32, "hole"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, NULL},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[6],\"data_offsets\":[0,3]}}", 3, NULL},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[6],\"data_offsets\":[0,3]}}", 4, "belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[-6],\"data_offsets\":[0,3]}}", 3, "not a size"},
        {"{\"a\":{\"dtype\":7,\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,24]}}", 24, "does not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-6],\"data_offsets\":[0,24]}}", 24, "not a size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6.0],\"data_offsets\":[0,24]}}", 24, "not a size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":6,\"data_offsets\":[0,24]}}", 24, "no \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "not a size"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[24,0]}}", 24, "beyond the end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,9223372036854775807]}}", 24, "beyond the end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,9223372036854775808]}}", 24, "not JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0]}}", 24, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6]}}", 24, "data_offsets"},
        {"{\"a\":[]}", 0, "not an object"},
        {"{\"\xe9\":{" F32_2X3 "}}", 24, "not JSON"},
        {"{\"a\":{" F32_2X3 "}", 24, "not JSON"},
        {"[]", 0, "not a JSON object"},
        {"", 0, "not JSON"},
};

static void test_headers(void **unused)
{
	unsigned char file[512];

	(void)unused;
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		size_t length = strlen(headers[i].header);
		struct problem p = {0};
		struct header h;

		memset(file, 0, sizeof(file));
		file[0] = (unsigned char)length;
		file[1] = (unsigned char)(length >> 8);
		memcpy(file + 8, headers[i].header, length);
		if (header_parse(&h, file, 8 + length, 8 + length + headers[i].data, "file", &p) == 0) {
			assert_null(headers[i].words);
			assert_int_equal(h.n, 1);
			assert_string_equal(h.tensor[0].name, "a");
			header_free(&h);
		} else if (!headers[i].words || !strstr(p.text, headers[i].words)) {
			fail_msg("%s: \"%s\" does not speak of \"%s\"", headers[i].header, p.text, headers[i].words);
		}
	}
}

static void test_lengths_of_headers(void **unused)
{
	static const uint64_t lengths[] = {UINT64_C(1) << 63, UINT64_MAX, (UINT64_C(100) << 20) + 1, 9, UINT64_MAX - 7};

	(void)unused;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		unsigned char file[16] = {0};
		struct problem p = {0};
		struct header h;

		for (int k = 0; k < 8; k++)
			file[k] = (unsigned char)(lengths[i] >> (8 * k));
		assert_int_equal(header_parse(&h, file, 16, 16, "file", &p), -1);
		assert_non_null(strstr(p.text, "should have"));
	}
	for (uint64_t size = 0; size < 8; size++) {
		struct problem p = {0};
		struct header h;

		assert_int_equal(header_parse(&h, "1234567", size, size, "file", &p), -1);
		assert_non_null(strstr(p.text, "shorter"));
	}
}

/* ---- models over ranks ------------------------------------------------------------------------------------------- */

enum { PROMPT = 40, MORE = 10, ALL = PROMPT + MORE };

/* A checkpoint, and what comes of it in doubles. */
struct model {
	char dir[64];
	struct config config;
	int tokens[ALL];
	double *logits; /* of all tokens but the last */
};

static struct model models[2];

static int make_model(struct model *m, const char *changes, enum element type, int files)
{
	struct problem p = {0};
	struct checkpoint from;
	double *row;

	strcpy(m->dir, "/tmp/test_transformer_XXXXXX");
	if (!mkdtemp(m->dir) || !preset("tiny", &m->config) || preset_change(&m->config, changes, &p) != 0 ||
	    checkpoint_make(&m->config, type, files, 5, m->dir, &p) != 0 || checkpoint_open(&from, m->dir, &p) != 0) {
		print_error("%s: %s\n", m->dir, p.text);
		return -1;
	}
	m->logits = calloc((size_t)ALL * m->config.vocab, sizeof(double));
	for (int i = 0; i < PROMPT; i++)
		m->tokens[i] = (i * 37 + 11) % m->config.vocab;
	for (int n = PROMPT; n < ALL; n++) {
		reference_logits(&from, &m->config, m->tokens, n, m->logits, &p);
		row = m->logits + (size_t)(n - 1) * m->config.vocab;
		for (int k = 0; k < m->config.vocab; k++)
			m->tokens[n] = row[k] > row[m->tokens[n]] ? k : m->tokens[n];
	}
	checkpoint_close(&from);
	return p.text[0] ? -1 : 0;
}

static int make_models(void **unused)
{
	(void)unused;
	return make_model(&models[0], "attention_bias=1,mlp_bias=1,layers=2", ELEMENT_F32, 3) ||
	       make_model(&models[1], "layers=2,tied=1,vocab=301", ELEMENT_BF16, 1);
}

static int remove_models(void **unused)
{
	char command[sizeof(models[0].dir) + 16];
	int rc = 0;

	(void)unused;
	for (int i = 0; i < 2; i++) {
		snprintf(command, sizeof(command), "rm -rf %.63s", models[i].dir);
		rc |= system(command);
		free(models[i].logits);
	}
	return rc;
}

/* One world's way. */
struct way {
	const struct model *m;
	const double *shares;
	int pieces;
};

static int check_logits(struct decoder *d, const struct model *m)
{
	size_t vocab = (size_t)m->config.vocab, n = (ALL - 1) * vocab;
	float *mine = malloc(n * 4), *first = malloc(n * 4);
	struct token t[ALL];
	double worst = 0, largest = 0;

	if (!mine || !first)
		return ranks_fail("out of memory");
	for (int i = 0; i < ALL; i++)
		t[i] = (struct token){m->tokens[i], 1, i};
	RANK_OK(decoder_step(d, t, ALL - 1));
	for (int i = 0; i < ALL - 1; i++)
		RANK_OK(decoder_logits(d, i, mine + i * vocab));
	RANK_OK(tutti_broadcast(mine, first, n, TUTTI_F32, 0, d->comm, NULL));
	if (memcmp(mine, first, n * 4) != 0)
		return ranks_fail("logits have other bits than rank 0's");
	for (size_t i = 0; i < n; i++) {
		worst = fmax(worst, fabs(mine[i] - m->logits[i]));
		largest = fmax(largest, fabs(m->logits[i]));
		if (!isfinite(mine[i]) || !isfinite(m->logits[i]))
			return ranks_fail("logit %zu is %g, the reference's %g", i, (double)mine[i], m->logits[i]);
	}
	free(mine);
	free(first);
	return worst <= CHECK_LIMIT * largest ? 0 : ranks_fail("error %g of %g", worst, largest);
}

static int run_model(struct tutti_comm *c, void *arg)
{
	const struct way *way = arg;
	const struct model *m = way->m;
	struct problem p = {0};
	struct weights w;
	struct decoder d = {0};
	int got[MORE], rc;

	compute_open(&d.compute, 1, &p);
	p.text[0] = '\0';
	if (weights_load(&w, m->dir, way->shares, tutti_comm_size(c), tutti_comm_rank(c), &p) != 0 ||
	    decoder_open(&d, &w, c, way->shares, 2, ALL, ALL, &p) != 0)
		return ranks_fail("%s", p.text);
	decoder_overlap(&d, way->pieces);
	RANK_OK(greedy(&d, m->tokens, PROMPT, MORE, got));
	for (int i = 0; i < MORE; i++)
		if (got[i] != m->tokens[PROMPT + i])
			return ranks_fail("token %d is %d, not %d", i, got[i], m->tokens[PROMPT + i]);
	rc = check_logits(&d, m);
	decoder_close(&d);
	compute_close(&d.compute);
	weights_free(&w);
	return rc;
}

static void over(const char *transport, int n, const double *shares)
{
	char name[64];
	const char *env[] = {name, "TUTTI_TIMEOUT=60", NULL};
	struct ranks how = {.n = n, .threads = strcmp(transport, "inproc") == 0, .env = env, .seconds = 120};

	snprintf(name, sizeof(name), "TUTTI_TRANSPORT=%s", transport);
	for (int m = 0; m < 2; m++)
		for (int pieces = 1; pieces <= 3; pieces += 2) {
			struct way way = {&models[m], shares, pieces};

			if (ranks_run(&how, run_model, &way) != 0)
				fail_msg("model %d over %s, %d ranks, %s shares, %d pieces", m, transport, n,
				         shares ? "uneven" : "equal", pieces);
		}
}

static void over_all_sizes(const char *transport)
{
	static const int sizes[] = {1, 2, 3, 4, 8};
	static const double shares[][8] = {{1}, {5, 2}, {2, 1, 1}, {1, 0, 3, 2}, {1, 2, 1, 1, 3, 1, 2, 1}};

	for (int i = 0; i < 5; i++) {
		over(transport, sizes[i], NULL);
		if (sizes[i] > 1)
			over(transport, sizes[i], shares[i]);
	}
}

static void test_model_over_shm(void **unused)
{
	(void)unused;
	over_all_sizes("shm");
}

static void test_model_over_tcp(void **unused)
{
	(void)unused;
	over_all_sizes("tcp");
}

static void test_model_over_threads(void **unused)
{
	(void)unused;
	over_all_sizes("inproc");
}

/* Several sequences in one step do not see each other. */
static int run_batch(struct tutti_comm *c, void *arg)
{
	const struct model *m = ((struct way *)arg)->m;
	struct problem p = {0};
	struct weights w;
	struct decoder d = {.compute = {.loops = loops_best(), .few = 1 << 20}};
	struct token t[3];
	int next[3];

	if (weights_load(&w, m->dir, NULL, tutti_comm_size(c), tutti_comm_rank(c), &p) != 0 ||
	    decoder_open(&d, &w, c, NULL, 3, ALL, 3, &p) != 0)
		return ranks_fail("%s", p.text);
	for (int i = 0; i < ALL - 1; i++) { /* sequence s is s tokens behind; the first ones are all alike */
		for (int s = 0; s < 3; s++) {
			int at = i - s > 0 ? i - s : 0;

			t[s] = (struct token){m->tokens[at], s, at};
		}
		RANK_OK(decoder_step(&d, t, 3));
		RANK_OK(decoder_choose(&d, 0, 3, next));
		for (int s = 0; s < 3; s++)
			if (t[s].position >= PROMPT - 1 && next[s] != m->tokens[t[s].position + 1])
				return ranks_fail("sequence %d, token %d is %d, not %d", s, t[s].position + 1, next[s],
				                  m->tokens[t[s].position + 1]);
	}
	decoder_close(&d);
	weights_free(&w);
	return 0;
}

static void test_batch(void **unused)
{
	struct ranks how = {.n = 3, .threads = true, .seconds = 60};
	struct way way = {&models[0], NULL, 1};

	(void)unused;
	assert_int_equal(ranks_run(&how, run_batch, &way), 0);
}

/* All ranks together hold the model once, except norms, and key-value heads whose group is split. */
static void test_memory(void **unused)
{
	struct problem p = {0};
	struct weights one, part;

	(void)unused;
	assert_int_equal(weights_load(&one, models[1].dir, NULL, 1, 0, &p), 0);
	for (int r = 0; r < 4; r++) {
		assert_int_equal(weights_load(&part, models[1].dir, NULL, 4, r, &p), 0);
		if ((double)part.bytes > 0.27 * (double)one.bytes)
			fail_msg("rank %d of 4 has %zu bytes of %zu", r, part.bytes, one.bytes);
		weights_free(&part);
	}
	weights_free(&one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cuts),
	        cmocka_unit_test(test_headers),
	        cmocka_unit_test(test_lengths_of_headers),
	        cmocka_unit_test(test_model_over_shm),
	        cmocka_unit_test(test_model_over_tcp),
	        cmocka_unit_test(test_model_over_threads),
	        cmocka_unit_test(test_batch),
	        cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, make_models, remove_models);
}
