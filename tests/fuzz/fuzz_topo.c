/* SPDX-License-Identifier: MIT */
/*
 * Files of tutti-topo. One is refused with its name and what is wrong; or it is understood, and what is written of it is
 * understood again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/util/error.h"
#include "../../tools/topo/draw.h"
#include "../../tools/topo/json.h"
#include "../../tools/topo/load.h"

#define MOST_RANKS 64 /* planning for more takes long */

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Two campaigns may run at once. */
static void draw(const struct survey *s, const char *kind)
{
	char path[64];
	snprintf(path, sizeof(path), "/tmp/tutti-fuzz-topo-%d.%s", (int)getpid(), kind);
	must(draw_write(s, path) == TUTTI_OK);
	unlink(path);
}

static void use(const struct survey *s, const char *path)
{
	struct advice a = {0};
	struct survey again;
	must(advise_survey(&a, s) == TUTTI_OK);
	must(json_write(s, &a, path) == TUTTI_OK);
	advice_free(&a);
	must(load_survey(&again, path) == TUTTI_OK && again.n == s->n);
	survey_free(&again);
	draw(s, "dot");
	draw(s, "svg");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[40];
	struct survey s;
	int fd = memfd_create("topo", 0);
	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (size && data[0] == '<') /* hwloc's own reader */
		must(close(fd) == 0);
	else if (load_survey(&s, path) != TUTTI_OK)
		must(strstr(fail_text(), path) || strstr(fail_text(), "out of memory"));
	else if (s.n <= MOST_RANKS)
		use(&s, path);
	if (!(size && data[0] == '<')) {
		survey_free(&s);
		close(fd);
	}
	return 0;
}
