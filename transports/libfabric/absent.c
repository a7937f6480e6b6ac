/* In the place of this folder where libfabric's headers were missing at build time: says so. */
#include "../../src/transport.h"
#include "../../src/util/error.h"

#include <string.h>

static int absent_open(const struct transport_env *env, void **ctx)
{
	(void)env;
	*ctx = NULL;
	return fail(TUTTI_EUNSUPPORTED, "built without it: rdma/fabric.h was missing (Debian: libfabric-dev)");
}

static void absent_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	(void)ctx;
	memset(blob, 0, CONTACT_BLOB);
}

static int absent_attach(void *ctx)
{
	(void)ctx;
	return TUTTI_EUNSUPPORTED;
}

static uint64_t absent_fabric(void *ctx)
{
	(void)ctx;
	return 0;
}

static int absent_connect(void *ctx, const struct link_spec *spec, struct link *link)
{
	(void)ctx;
	(void)spec;
	(void)link;
	return TUTTI_EUNSUPPORTED;
}

static void absent_end(void *ctx, struct link *link)
{
	(void)ctx;
	(void)link;
}

static void absent_close(void *ctx)
{
	(void)ctx;
}

const struct transport transport_libfabric = {
        .name = "libfabric",
        .what = "fabrics through libfabric (not in this build)",
        .open = absent_open,
        .address = absent_address,
        .attach = absent_attach,
        .fabric = absent_fabric,
        .connect = absent_connect,
        .disconnect = absent_end,
        .close = absent_close,
};
