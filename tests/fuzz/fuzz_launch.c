/* SPDX-License-Identifier: MIT */
/*
 * Launchers' environments from arbitrary text: the input is lines NAME=value. Either it is refused with a message, or
 * rank, size and root are sound.
 *   clang -fsanitize=fuzzer,address -D_GNU_SOURCE -Iinclude tests/fuzz/fuzz_launch.c <library>
 */
#include "../../src/launch/launch.h"
#include "../../src/util/error.h"

#include <stdlib.h>
#include <string.h>

#define LINES 64

struct lines {
	char *line[LINES];
	int n;
};

static const char *lookup(void *ctx, const char *name)
{
	const struct lines *env = ctx;
	size_t n = strlen(name);

	for (int i = 0; i < env->n; i++)
		if (strncmp(env->line[i], name, n) == 0 && env->line[i][n] == '=')
			return env->line[i] + n + 1;
	return NULL;
}

static const char *inline_json(void *ctx, const char *name)
{
	const char *v = lookup(ctx, name);
	bool is_path = v && v[0] != '[' && (strcmp(name, "MLX_HOSTFILE") == 0 || strcmp(name, "MLX_IBV_DEVICES") == 0);

	return is_path ? NULL : v;
}

static int64_t number(struct lines *env, const char *name, int64_t unset)
{
	const char *v = lookup(env, name);
	return v ? atoll(v) : unset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *next;
	struct lines env = {.n = 0};
	struct launch l;
	struct params p;
	int rc;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (next = text; next && env.n < LINES;)
		env.line[env.n++] = strsep(&next, "\n");
	p = (struct params){
	        .rank = number(&env, "TUTTI_RANK", -1),
	        .size = number(&env, "TUTTI_SIZE", 0),
	        .root_fd = number(&env, "TUTTI_ROOT_FD", -1),
	        .root = lookup(&env, "TUTTI_ROOT"),
	        .secret = "fuzz",
	};
	rc = launch_read(&l, &p, inline_json, &env);
	if (rc == TUTTI_OK) {
		bool found = l.root.naddrs > 0 || (l.root.text[0] && strrchr(l.root.text, ':'));
		if (l.rank < 0 || l.rank >= l.size || (l.size > 1 && !found) || l.root.naddrs > NET_ADDRS)
			abort();
	} else if (rc != TUTTI_EINVAL || !fail_text()[0]) {
		abort();
	}
	free(text);
	return 0;
}
