/* SPDX-License-Identifier: MIT */
/*
 * tutti-run's parsers on arbitrary bytes: lists of hosts, host files, and the messages to an agent. Accepted input must
 * be sound: names that no shell takes apart, slots within their limits, a job whose ranks lie within its size.
 *   clang -fsanitize=fuzzer,address -D_GNU_SOURCE -Iinclude tests/fuzz/fuzz_run.c tools/run/[hw]*.c <library>
 */
#include "../../tools/run/hosts.h"
#include "../../tools/run/wire.h"

#include <stdlib.h>
#include <string.h>

static void check_hosts(const struct hosts *h)
{
	for (int i = 0; i < h->n; i++) {
		const struct host *host = &h->host[i];
		if (!host->name[0] || host->name[0] == '-' || strpbrk(host->name, " \t\n'\"`$;|&<>()\\*?"))
			abort();
		if (host->slots < 1 || host->slots > HOST_SLOTS_MAX)
			abort();
	}
}

static void try_job(const char *data, size_t len)
{
	struct job job;
	bool ok = job_unpack(&job, data, len);

	if (ok && (job.count < 1 || job.count > job.size || !job.argv[0]))
		abort();
	for (int i = 0; ok && i < job.count; i++)
		if (job.rank[i] < 0 || job.rank[i] >= job.size || (i && job.rank[i] <= job.rank[i - 1]))
			abort();
	job_free(&job);
}

static void try_frames(const char *data, size_t len)
{
	struct buf b = {0};
	struct frame f;
	size_t at = 0;

	buf_add(&b, data, len);
	while (frame_next(&b, &at, &f) > 0)
		if (f.data < b.data || f.len > FRAME_MAX || f.data + f.len > b.data + b.len)
			abort();
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hosts list = {0}, file = {0};
	char *text = malloc(size + 1), *bytes = malloc(size ? size : 1); /* exact, so that reading beyond is seen */

	if (text && bytes) {
		memcpy(text, data, size);
		text[size] = '\0';
		memcpy(bytes, data, size);
		if (hosts_add_list(&list, text) == 0)
			check_hosts(&list);
		if (hosts_add_file(&file, "hosts", bytes, size) == 0)
			check_hosts(&file);
		try_job(bytes, size);
		try_frames(bytes, size);
	}
	hosts_free(&list);
	hosts_free(&file);
	free(text);
	free(bytes);
	return 0;
}
