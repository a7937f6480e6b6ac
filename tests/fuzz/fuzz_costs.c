/* SPDX-License-Identifier: MIT */
/*
 * Tables of costs. A text is refused with its name and line, and nothing changes; or it is understood, and what is printed
 * of it is understood again.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/tuner/costs.h"
#include "../../src/util/error.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void print_and_parse(struct costs *c)
{
	char text[4096];
	struct costs back;
	struct cost_row row;
	FILE *f = fmemopen(text, sizeof(text), "w");
	must(f);
	costs_print(c, f);
	size_t len = (size_t)ftell(f);
	fclose(f);
	costs_priors(&back);
	must(costs_parse(&back, text, len, "printed") == TUTTI_OK && back.measured == c->measured);
	must(back.nchoices == c->nchoices && memcmp(back.choice, c->choice, sizeof(c->choice)) == 0);
	for (int i = 0; cost_row(i, &row); i++)
		for (int k = 0; k < row.values; k++) {
			double was = cost_values(c, i)[k], is = cost_values(&back, i)[k];
			must(was > 0 && was <= 1 && fabs(was - is) <= was / 2);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct costs c, priors;
	costs_priors(&priors);
	c = priors;
	if (costs_parse(&c, (const char *)data, size, "table") == TUTTI_OK)
		print_and_parse(&c);
	else
		must(strncmp(fail_text(), "table:", 6) == 0 && memcmp(&c, &priors, sizeof(c)) == 0);
	return 0;
}
