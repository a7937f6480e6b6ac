/* SPDX-License-Identifier: MIT */
/*
 * Every TUTTI_ environment variable, in one table (param.c) from which parsing, `tutti-info --params`, the man page,
 * the must-be-equal comparison of the bootstrap and the tests are made.
 */
#ifndef TUTTI_PARAM_H
#define TUTTI_PARAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * X(field, VARIABLE, type, default, equal, doc)
 *   type   str: const char * or NULL; int: int64_t (K, M, G suffixes for sizes); num: double; flag: bool (0/1)
 *   equal  1: must be the same on all ranks; compared at start-up
 */
#define PARAM_TABLE(X)                                                                                                 \
	X(rank, "TUTTI_RANK", int, "-1", 0, "this process's rank: 0 to TUTTI_SIZE - 1")                                \
	X(size, "TUTTI_SIZE", int, "0", 0, "number of ranks in the job")                                               \
	X(root, "TUTTI_ROOT", str, "", 0, "host:port where rank 0 listens; [v6]:port for IPv6")                        \
	X(root_fd, "TUTTI_ROOT_FD", int, "-1", 0, "rank 0's listening socket, inherited (set by tutti-run)")           \
	X(join_fd, "TUTTI_JOIN_FD", str, "", 0,                                                                        \
	  "socket:inode by which ranks tell tutti-run that they join (set by tutti-run)")                              \
	X(local_rank, "TUTTI_LOCAL_RANK", int, "-1", 0, "index of this rank on its host (set by tutti-run)")           \
	X(secret, "TUTTI_SECRET", str, "", 0, "the job's shared secret, as text")                                      \
	X(encrypt, "TUTTI_ENCRYPT", flag, "0", 1,                                                                      \
	  "1: encrypt data between hosts; 0: authenticate connections, do not protect data")                           \
	X(secret_file, "TUTTI_SECRET_FILE", str, "", 0,                                                                \
	  "file with the secret, mode 0600; default: ~/.config/tutti/secret if the launcher has none")                 \
	X(transport, "TUTTI_TRANSPORT", str, "", 1,                                                                    \
	  "transports to use (\"shm,tcp\") or to exclude (\"^shm\"); of these, the nearest that works")                \
	X(algo, "TUTTI_ALGO", str, "", 1, "algorithms per collective: \"allreduce:ring;allgather:^tree\"")             \
	X(channels, "TUTTI_CHANNELS", int, "0", 1, "parallel channels per collective; 0: chosen by the library")       \
	X(reproducible, "TUTTI_REPRODUCIBLE", flag, "0", 1,                                                            \
	  "1: results depend only on the inputs and the number of ranks")                                              \
	X(iface, "TUTTI_IFACE", str, "", 0,                                                                            \
	  "network interfaces, comma-separated: name, prefix* or CIDR; a leading ^ excludes them")                     \
	X(host, "TUTTI_HOST", str, "", 0,                                                                              \
	  "name of this host, used to group ranks; default: from machine and network namespace")                       \
	X(libfabric_lib, "TUTTI_LIBFABRIC_LIB", str, "", 0, "library to load; default: libfabric.so.1")                \
	X(libfabric_provider, "TUTTI_LIBFABRIC_PROVIDER", str, "", 0,                                                  \
	  "libfabric provider, as in fi_info (\"efa\", \"tcp;ofi_rxm\"), or none; default: one with its own fabric")   \
	X(libfabric_mode, "TUTTI_LIBFABRIC_MODE", str, "auto", 1,                                                      \
	  "how data travels over libfabric: write, message, or auto (write if supported)")                             \
	X(timeout, "TUTTI_TIMEOUT", num, "600", 0, "seconds without progress after which a collective fails")          \
	X(start_timeout, "TUTTI_START_TIMEOUT", num, "60", 0, "seconds after which start-up fails")                    \
	X(wait, "TUTTI_WAIT", str, "auto", 0, "how a rank waits: auto, spin, yield (between polls) or sleep")          \
	X(isa, "TUTTI_ISA", str, "", 0, "highest instruction set for the kernels: c, avx2, avx512, neon")              \
	X(wire, "TUTTI_WIRE", str, "", 1,                                                                              \
	  "bf16 or q8: send sums of f32 (q8: also bf16) rounded between hosts; same bits on all ranks")                \
	X(slot, "TUTTI_SLOT", int, "0", 1,                                                                             \
	  "payload bytes of a link's slot; 0: chosen for the transports in use, 60K to 256K")                          \
	X(slots, "TUTTI_SLOTS", int, "0", 1,                                                                           \
	  "slots of a link, a power of two, at least 2; 0: chosen for the transports in use, 4 or 8")                  \
	X(direct_max, "TUTTI_DIRECT", int, "256K", 1, "bytes of each rank's shared buffer for the direct tier")        \
	X(log, "TUTTI_LOG", str, "warn", 0, "log level: error, warn, info or debug")                                   \
	X(verbs_device, "TUTTI_VERBS_DEVICE", str, "", 0,                                                              \
	  "RDMA device or device:port for verbs; channels are spread over several, the rails")                         \
	X(verbs_mode, "TUTTI_VERBS_MODE", str, "auto", 1,                                                              \
	  "auto; write (RC, RDMA WRITE with immediate); send (RC, SEND and RECV); uc (UC, SEND and RECV)")             \
	X(verbs_connect, "TUTTI_VERBS_CONNECT", str, "auto", 1,                                                        \
	  "how queue pairs are connected: exchange (bootstrap), cm (rdma_cm), auto (cm if required)")                  \
	X(verbs_gid, "TUTTI_VERBS_GID", int, "-1", 0, "index of the port's GID; default: chosen by type and address")  \
	X(verbs_qp, "TUTTI_VERBS_QP", str, "", 0,                                                                      \
	  "queue pairs: mtu=BYTES,pkey=INDEX,sl=LEVEL,tc=CLASS,timeout=EXPONENT,retry=COUNT,rnr=COUNT")                \
	X(verbs_lib, "TUTTI_VERBS_LIB", str, "", 0, "library to load; default: libibverbs.so.1")                       \
	X(flight, "TUTTI_FLIGHT", str, "", 0,                                                                          \
	  "file for each rank's last calls, written at the end and on errors; %r: rank")                               \
	X(tune_file, "TUTTI_TUNE_FILE", str, "", 0,                                                                    \
	  "cost table, read by rank 0 for all ranks; none: no table; default: that of tutti-info --tune")              \
	X(topo_file, "TUTTI_TOPO_FILE", str, "", 0,                                                                    \
	  "file of tutti-topo --json, read by rank 0 for all ranks: the order of ranks in rings")

struct params {
#define PARAM_FIELD(field, var, type, dflt, equal, doc) PARAM_C_##type field;
#define PARAM_C_str                                     const char *
#define PARAM_C_int                                     int64_t
#define PARAM_C_num                                     double
#define PARAM_C_flag                                    bool
	PARAM_TABLE(PARAM_FIELD)
#undef PARAM_FIELD
};

/**
 * Read the environment into *p. An empty value counts as unset. TUTTI_LOG takes effect here. A malformed value is
 * TUTTI_EINVAL; the text names the variable, its value and what is allowed. An unknown TUTTI_ variable is a warning that
 * names the nearest one. The strings belong to p; free them with params_free.
 */
int params_read(struct params *p);
void params_free(struct params *p);
/** Wipe the text of the secret, once the key has been derived from it. */
void params_forget_secret(struct params *p);

/**
 * Writes "NAME=value\n" for each must-be-equal variable into buf; returns the bytes needed, less the NUL. Two ranks'
 * texts are compared line by line with params_differ.
 */
size_t params_equal_text(const struct params *p, char *buf, size_t cap);
/** True when they differ: *name, *va, *vb are written (caps 64, 128, 128). */
bool params_differ(const char *a, const char *b, char *name, char *va, char *vb);

/** One row for each variable, for programs that print the table. i counts from 0; false at the end. */
struct param_row {
	const char *variable, *type, *dflt, *doc;
	bool equal;
};
bool param_row(int i, struct param_row *row);

/** "64K" -> 65536; K, M, G, T are powers of 1024; false on anything else. Shared by programs' options. */
bool parse_size(const char *text, int64_t *out);
/** Digits with an optional fraction, after a point in every locale. */
bool parse_decimal(const char *text, double *out);

#endif
