/* SPDX-License-Identifier: MIT */
/* Finding libibverbs; see lib.h. */
#include "lib.h"
#include "../../src/util/error.h"

#include <dlfcn.h>
#include <string.h>

/* A symbol's address is an object pointer to dlsym and a function pointer to us: POSIX says that they are the same. */
bool lib_find(void *handle, const char *name, void *to)
{
	void *at = dlsym(handle, name);

	memcpy(to, &at, sizeof(at));
	return at != NULL;
}

int verbs_load(struct verbs_lib *lib, const char *name)
{
	const char *missing = NULL;
	int (*fork_init)(void);

	memset(lib, 0, sizeof(*lib));
	if (!name)
		name = VERBS_LIB;
	lib->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); /* providers do not like to be unloaded */
	if (!lib->handle)
		return fail(TUTTI_EUNSUPPORTED, "%s cannot be loaded (%s): install libibverbs1 and ibverbs-providers",
		            name, dlerror());
#define FIND(result, call, args)                                                                                       \
	if (!lib_find(lib->handle, "ibv_" #call, &lib->call))                                                          \
		missing = "ibv_" #call;
	VERBS_CALLS(FIND)
	FIND(, query_port, )
	FIND(, reg_mr, )
#undef FIND
	(void)lib_find(lib->handle, "_ibv_query_gid_ex", &lib->query_gid_ex);
	(void)lib_find(lib->handle, "_ibv_query_gid_table", &lib->query_gid_table);
	if (missing) {
		verbs_unload(lib);
		return fail(TUTTI_EUNSUPPORTED, "%s has no %s: this build needs another version of libibverbs", name,
		            missing);
	}
	if (lib_find(lib->handle, "ibv_fork_init", &fork_init))
		(void)fork_init(); /* refused when the application used verbs before: then it has decided */
	return TUTTI_OK;
}

void verbs_unload(struct verbs_lib *lib)
{
	if (lib->handle)
		dlclose(lib->handle);
	lib->handle = NULL;
}
