/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of clusters. A text is refused with its name and a line of it, and nothing is left behind; or it is
 * understood: then its numbers are in their bounds and each thing hangs on something that is there.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h"
#include "../../tools/topo/cluster_file.h"
#include "tutti.h"

static void must(int ok)
{
	if (!ok)
		abort();
}

static void look_at_switches(const struct cluster_file *f)
{
	for (int i = 0; i < f->nswitches; i++) {
		int levels = 0;
		must(f->switches[i].gbit > 0 && f->switches[i].gbit <= 1e6);
		for (int k = i; k >= 0; k = f->switches[k].above)
			must(k < f->nswitches && ++levels <= CLUSTER_LEVELS);
	}
}

static void look_at_prices(const struct cluster_file *f)
{
	must(f->ncopy >= 0 && f->ncopy <= CLUSTER_POINTS);
	for (int i = 0; i < f->ncopy; i++) {
		must(f->copy[i].ns >= 1e-6 && f->copy[i].ns <= 1e9);
		must(i == 0 || f->copy[i].bytes > f->copy[i - 1].bytes);
	}
}

static void look_at_hosts(const struct cluster_file *f)
{
	long hosts = 0, ranks = 0;
	for (int i = 0; i < f->ngroups; i++) {
		const struct host_group *g = &f->groups[i];
		must(g->count > 0 && g->ranks > 0 && g->cores >= 0 && g->at >= -1 && g->at < f->nswitches);
		must(g->out > 0 && g->out <= 1e6 && g->in > 0 && g->in <= 1e6 && g->skew >= 0 && g->skew <= 1e9);
		hosts += g->count;
		ranks += (long)g->count * g->ranks;
	}
	must(hosts == f->nhosts && ranks == f->nranks && ranks > 0 && ranks <= CLUSTER_RANKS);
}

/* "text:LINE: ..." or "text:LINE:COLUMN: ...", and the text has that many lines. */
static void look_at_complaint(const uint8_t *data, size_t size)
{
	char *end;
	size_t lines = 1;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	must(strncmp(fail_text(), "text:", 5) == 0);
	long line = strtol(fail_text() + 5, &end, 10);
	must(line >= 1 && (size_t)line <= lines && *end == ':');
	must(end[1] == ' ' || (strtol(end + 1, &end, 10) >= 1 && strncmp(end, ": ", 2) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cluster_file f;
	if (cluster_file_parse(&f, (const char *)data, size, "text") == TUTTI_OK) {
		look_at_switches(&f);
		look_at_hosts(&f);
		look_at_prices(&f);
	} else {
		must(!f.groups && !f.switches);
		look_at_complaint(data, size);
	}
	cluster_file_free(&f);
	return 0;
}
