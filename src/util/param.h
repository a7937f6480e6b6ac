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
#define PARAM_TABLE(X)                                                                                                                                     \
	X(rank, "TUTTI_RANK", int, "-1", 0, "this process's rank, 0 to TUTTI_SIZE - 1")                                                                    \
	X(size, "TUTTI_SIZE", int, "0", 0, "number of ranks in the job")                                                                                   \
	X(root, "TUTTI_ROOT", str, "", 0, "host:port of rank 0's rendezvous; [v6]:port for IPv6")                                                          \
	X(root_fd, "TUTTI_ROOT_FD", int, "-1", 0, "rank 0's listening socket, inherited (set by tutti-run)")                                               \
	X(join_fd, "TUTTI_JOIN_FD", str, "", 0, "socket:inode at which tutti-run hears that a rank joins (set by it)")                                     \
	X(local_rank, "TUTTI_LOCAL_RANK", int, "-1", 0, "index of this rank on its host (set by tutti-run)")                                               \
	X(secret, "TUTTI_SECRET", str, "", 0, "the job's shared secret, as text")                                                                          \
	X(encrypt, "TUTTI_ENCRYPT", flag, "0", 1,                                                                                                          \
	  "1: data between hosts is encrypted; 0: its connections prove the secret, their bytes are not protected")                                        \
	X(secret_file, "TUTTI_SECRET_FILE", str, "", 0,                                                                                                    \
	  "file that holds the secret, mode 0600; default ~/.config/tutti/secret where a launcher carries none")                                           \
	X(transport, "TUTTI_TRANSPORT", str, "", 1,                                                                                                        \
	  "transports allowed: \"shm,tcp\"; or forbidden: \"^shm\"; the nearest that reaches a rank is used")                                              \
	X(algo, "TUTTI_ALGO", str, "", 1, "algorithms per collective: \"allreduce:ring;allgather:^tree\"")                                                 \
	X(channels, "TUTTI_CHANNELS", int, "0", 1, "parallel channels per collective; 0: chosen")                                                          \
	X(reproducible, "TUTTI_REPRODUCIBLE", flag, "0", 1, "1: results depend on inputs and number of ranks alone")                                       \
	X(iface, "TUTTI_IFACE", str, "", 0, "network interfaces: name, prefix*, CIDR, comma-separated; ^ excludes")                                        \
	X(host, "TUTTI_HOST", str, "", 0,                                                                                                                  \
	  "name of this host for grouping ranks; default: the machine and its network namespace")                                                          \
	X(libfabric_lib, "TUTTI_LIBFABRIC_LIB", str, "", 0, "the library to load; default: libfabric.so.1")                                                \
	X(libfabric_provider, "TUTTI_LIBFABRIC_PROVIDER", str, "", 0,                                                                                      \
	  "provider of libfabric, as fi_info prints it: \"efa\", \"tcp;ofi_rxm\"; none: no libfabric on this host; default: one with a fabric of its own") \
	X(libfabric_mode, "TUTTI_LIBFABRIC_MODE", str, "auto", 1,                                                                                          \
	  "how slots travel over libfabric: write, message, or auto: writes where the provider has them")                                                  \
	X(timeout, "TUTTI_TIMEOUT", num, "600", 0, "seconds that a rank waits in one collective")                                                          \
	X(start_timeout, "TUTTI_START_TIMEOUT", num, "60", 0, "seconds that start-up may take")                                                            \
	X(wait, "TUTTI_WAIT", str, "auto", 0, "auto, spin, yield (at each look) or sleep")                                                                 \
	X(isa, "TUTTI_ISA", str, "", 0, "limit of the instruction set of kernels: c, avx2, avx512, neon")                                                  \
	X(wire, "TUTTI_WIRE", str, "", 1,                                                                                                                  \
	  "bf16 or q8: sums of f32 (q8: and bf16) go so between hosts, rounded; all ranks get the same bits")                                              \
	X(slot, "TUTTI_SLOT", int, "0", 1,                                                                                                                 \
	  "payload bytes of a link's slot; 0: what suits the transports in use, 60K to 256K")                                                              \
	X(slots, "TUTTI_SLOTS", int, "0", 1,                                                                                                               \
	  "slots of a link, a power of two, at least 2; 0: what suits the transports in use, 4 or 8")                                                      \
	X(direct_max, "TUTTI_DIRECT", int, "256K", 1, "bytes of a rank's shared buffer of the direct tier")                                                \
	X(log, "TUTTI_LOG", str, "warn", 0, "error, warn, info or debug")                                                                                  \
	X(verbs_device, "TUTTI_VERBS_DEVICE", str, "", 0,                                                                                                  \
	  "RDMA device, or device:port, for the verbs transport; several: rails, channels are spread over them")                                           \
	X(verbs_mode, "TUTTI_VERBS_MODE", str, "auto", 1,                                                                                                  \
	  "auto; write (RC, RDMA WRITE with immediate); send (RC, SEND and RECV); uc (UC, SEND and RECV)")                                                 \
	X(verbs_connect, "TUTTI_VERBS_CONNECT", str, "auto", 1,                                                                                            \
	  "how RDMA connections are made: exchange (over the bootstrap), cm (rdma_cm), auto: cm where it must be")                                         \
	X(verbs_gid, "TUTTI_VERBS_GID", int, "-1", 0, "index of the port's GID; default: chosen by type and address")                                      \
	X(verbs_qp, "TUTTI_VERBS_QP", str, "", 0,                                                                                                          \
	  "of RDMA connections: mtu=BYTES,pkey=INDEX,sl=LEVEL,tc=CLASS,timeout=EXPONENT,retry=COUNT,rnr=COUNT")                                            \
	X(verbs_lib, "TUTTI_VERBS_LIB", str, "", 0, "the library to load; default: libibverbs.so.1")                                                       \
	X(flight, "TUTTI_FLIGHT", str, "", 0,                                                                                                              \
	  "file that receives each rank's last operations, at the end and on error; %r: rank")                                                             \
	X(tune_file, "TUTTI_TUNE_FILE", str, "", 0,                                                                                                        \
	  "table of measured costs, rank 0's for all; none: ignore it; default: that of tutti-info --tune")                                                \
	X(topo_file, "TUTTI_TOPO_FILE", str, "", 0,                                                                                                        \
	  "file of tutti-topo --json, rank 0's for all: rings go through the ranks in its order")

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
 * Reads the environment into *p; an empty value counts as unset. TUTTI_LOG takes effect here. A malformed value is TUTTI_EINVAL naming variable, value and what is allowed. An
 * unknown TUTTI_ variable is a warning with the nearest name. Strings belong to p: free with params_free.
 */
int params_read(struct params *p);
void params_free(struct params *p);
/** The secret's text has served; it is wiped. */
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
