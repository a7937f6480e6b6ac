/* SPDX-License-Identifier: MIT */
/* The library's few symbols; see load.h. */
#include "load.h"
#include "../../src/util/error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static struct fabric_calls calls;
static const char *wanted;
static char missing[300]; /* why they are not there; "" when they are */

static void *symbol(void *lib, const char *name)
{
	void *p = dlsym(lib, name);

	if (!p && !missing[0])
		snprintf(missing, sizeof(missing), "%s has no symbol %s: is it another library?", wanted, name);
	return p;
}

static void load(void)
{
	void *lib = dlopen(wanted, RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		snprintf(missing, sizeof(missing), "libfabric can't be loaded: %s (Debian: apt-get install libfabric1)",
		         dlerror());
		return;
	}
	*(void **)&calls.getinfo = symbol(lib, "fi_getinfo");
	*(void **)&calls.freeinfo = symbol(lib, "fi_freeinfo");
	*(void **)&calls.dupinfo = symbol(lib, "fi_dupinfo");
	*(void **)&calls.fabric = symbol(lib, "fi_fabric");
	*(void **)&calls.strerror = symbol(lib, "fi_strerror");
	*(void **)&calls.version = symbol(lib, "fi_version");
	if (!missing[0] && calls.version() < FABRIC_API)
		snprintf(missing, sizeof(missing), "libfabric %u.%u is too old: 1.11 or newer is needed",
		         FI_MAJOR(calls.version()), FI_MINOR(calls.version()));
}

int fabric_load(const struct fabric_calls **out, const char *path)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	if (!wanted) {
		wanted = path ? path : "libfabric.so.1";
		load();
		wanted = "";
	}
	pthread_mutex_unlock(&lock);
	*out = &calls;
	return missing[0] ? fail(TUTTI_EUNSUPPORTED, "%s", missing) : TUTTI_OK;
}
