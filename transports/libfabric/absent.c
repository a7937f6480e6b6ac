/* SPDX-License-Identifier: MIT */
/* In the place of this folder where libfabric's headers were missing at build time, and on macOS: says so. */
#include "../../src/transport.h"
#include "../../src/util/error.h"

static int absent_open(const struct transport_env *env, void **ctx)
{
	(void)env;
	*ctx = NULL;
	return fail(TUTTI_EUNSUPPORTED, "built without it: on macOS, or rdma/fabric.h was missing (Debian: libfabric-dev)");
}

static void absent_close(void *ctx)
{
	(void)ctx;
}

const struct transport transport_libfabric = {
        .name = "libfabric",
        .what = "fabrics through libfabric (not in this build)",
        .open = absent_open,
        .close = absent_close,
};
