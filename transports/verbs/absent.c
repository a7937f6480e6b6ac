/* SPDX-License-Identifier: MIT */
/* In the place of this folder where it can't be built: says so. */
#include "../../src/transport.h"
#include "../../src/util/error.h"

static int absent_open(const struct transport_env *env, void **ctx)
{
	(void)env;
	*ctx = NULL;
	return fail(TUTTI_EUNSUPPORTED, "not in this build: macOS's librdma is not supported yet");
}

static void absent_close(void *ctx)
{
	(void)ctx;
}

const struct transport transport_verbs = {
        .name = "verbs",
        .what = "RDMA through libibverbs (not in this build)",
        .open = absent_open,
        .close = absent_close,
};
