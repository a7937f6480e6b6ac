/* SPDX-License-Identifier: MIT */
/*
 * Texts that users write: TUTTI_ALGO, TUTTI_TRANSPORT, sizes. Each is refused with a message or understood; what is
 * understood leaves a tuner that chooses or says why not.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/transport.h"
#include "../../src/tuner/tuner.h"
#include "../../src/util/error.h"
#include "../../src/util/param.h"

static void algorithms(const char *text)
{
	int host[5] = {0, 0, 1, 1, 1};
	struct shape shape = {.nranks = 5, .nhosts = 2, .host = host};
	struct tuner t = {.shape = &shape, .slot = 65536};
	struct costs costs;
	costs_priors(&costs);
	tuner_prices(&t, &costs, COST_SHM, COST_NETWORK);
	if (tuner_allow(&t, text) != TUTTI_OK) {
		if (!fail_text()[0])
			abort();
		return;
	}
	for (int c = 0; c < COLL_COUNT; c++) {
		struct query q = {(enum coll)c, 4096, 4, 0, true, true};
		struct choice choice;
		if (tuner_choose(&t, &q, &choice) == TUTTI_OK && (!choice.algo || !(choice.algo->colls >> c & 1)))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	int64_t n;
	bool allowed;
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	algorithms(text);
	for (int i = 0; transport_table[i]; i++)
		(void)transport_allowed(text, transport_table[i], &allowed);
	(void)parse_size(text, &n);
	free(text);
	return 0;
}
