/* SPDX-License-Identifier: MIT */
/*
 * libibverbs, found at run time, so that one binary serves machines with and without it. What verbs.h defines inline
 * (posting, polling, arming) goes through the context's own table and needs no symbol.
 */
#ifndef TUTTI_VERBS_LIB_H
#define TUTTI_VERBS_LIB_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define VERBS_LIB "libibverbs.so.1"

/* X(result, name without "ibv_", arguments) */
#define VERBS_CALLS(X)                                                                                                 \
	X(struct ibv_device **, get_device_list, (int *n))                                                             \
	X(void, free_device_list, (struct ibv_device * *list))                                                         \
	X(const char *, get_device_name, (struct ibv_device *))                                                        \
	X(struct ibv_context *, open_device, (struct ibv_device *))                                                    \
	X(int, close_device, (struct ibv_context *))                                                                   \
	X(int, query_device, (struct ibv_context *, struct ibv_device_attr *))                                         \
	X(int, query_gid, (struct ibv_context *, uint8_t port, int index, union ibv_gid *))                            \
	X(int, query_pkey, (struct ibv_context *, uint8_t port, int index, __be16 *))                                  \
	X(struct ibv_pd *, alloc_pd, (struct ibv_context *))                                                           \
	X(int, dealloc_pd, (struct ibv_pd *))                                                                          \
	X(int, dereg_mr, (struct ibv_mr *))                                                                            \
	X(struct ibv_comp_channel *, create_comp_channel, (struct ibv_context *))                                      \
	X(int, destroy_comp_channel, (struct ibv_comp_channel *))                                                      \
	X(struct ibv_cq *, create_cq, (struct ibv_context *, int cqe, void *, struct ibv_comp_channel *, int vector))  \
	X(int, destroy_cq, (struct ibv_cq *))                                                                          \
	X(int, get_cq_event, (struct ibv_comp_channel *, struct ibv_cq **, void **))                                   \
	X(void, ack_cq_events, (struct ibv_cq *, unsigned))                                                            \
	X(struct ibv_qp *, create_qp, (struct ibv_pd *, struct ibv_qp_init_attr *))                                    \
	X(int, modify_qp, (struct ibv_qp *, struct ibv_qp_attr *, int mask))                                           \
	X(int, destroy_qp, (struct ibv_qp *))                                                                          \
	X(int, get_async_event, (struct ibv_context *, struct ibv_async_event *))                                      \
	X(void, ack_async_event, (struct ibv_async_event *))                                                           \
	X(const char *, wc_status_str, (enum ibv_wc_status))                                                           \
	X(const char *, event_type_str, (enum ibv_event_type))

struct verbs_lib {
	void *handle;
#define VERBS_FIELD(result, name, args) result(*name) args;
	VERBS_CALLS(VERBS_FIELD)
#undef VERBS_FIELD
	/* these two are macros in verbs.h */
	int (*query_port)(struct ibv_context *, uint8_t port, struct ibv_port_attr *);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int access);
	/* absent from old libraries: NULL */
	int (*query_gid_ex)(struct ibv_context *, uint32_t port, uint32_t index, struct ibv_gid_entry *, uint32_t flags,
	                    size_t bytes);
	ssize_t (*query_gid_table)(struct ibv_context *, struct ibv_gid_entry *, size_t max, uint32_t flags,
	                           size_t bytes);
};

/** Loads the library of that name (NULL: VERBS_LIB). EUNSUPPORTED with what to install when it is not there. */
int verbs_load(struct verbs_lib *lib, const char *name);
/** Safe on one that was not loaded. */
void verbs_unload(struct verbs_lib *lib);
/** Store a function's address in *to; NULL if the library does not have it. */
bool lib_find(void *handle, const char *name, void *to);

#endif
