/* SPDX-License-Identifier: MIT */
/* libfabric, found at run time. Only these few are symbols of the library; the rest are inline calls through its objects. */
#ifndef TUTTI_LIBFABRIC_LOAD_H
#define TUTTI_LIBFABRIC_LOAD_H

#include <rdma/fabric.h>

/** What of libfabric's interface is used: all that 1.11 (2020) had. */
#define FABRIC_API FI_VERSION(1, 11)

struct fabric_calls {
	int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
	               const struct fi_info *hints, struct fi_info **info);
	void (*freeinfo)(struct fi_info *info);
	struct fi_info *(*dupinfo)(const struct fi_info *info); /* of NULL: an empty one */
	int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **fabric, void *context);
	const char *(*strerror)(int errnum); /* of a positive number */
	uint32_t (*version)(void);
};

/**
 * Loads the library, once a process (the first `path` counts; NULL: the system's); it stays, for its providers may have
 * threads. EUNSUPPORTED says what is missing.
 */
int fabric_load(const struct fabric_calls **out, const char *path);

#endif
