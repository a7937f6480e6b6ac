/* SPDX-License-Identifier: MIT */
/*
 * The hardware of a host: packages, memories, caches, cores and network devices, as plain data. hwloc and /sys are
 * queried once. The result is one block of memory without pointers, so it can be sent to other ranks as it is. Nothing
 * here prints, and nothing fails because a system provides little: unknown values are zero, empty, or noted in
 * `unknown`.
 */
#ifndef TUTTI_MACHINE_H
#define TUTTI_MACHINE_H

#include "../../src/util/cpus.h"

enum machine_level {
	MACHINE_HOST,
	MACHINE_PACKAGE,
	MACHINE_GROUP,  /* dies, clusters and the like */
	MACHINE_MEMORY, /* a NUMA node: a leaf beside the cores that are near it */
	MACHINE_CACHE,
	MACHINE_CORE,
	MACHINE_THREAD, /* a processor of the operating system: a leaf */
	MACHINE_LEVELS,
};

/** Nodes stand in preorder: node i's descendants are i + 1 .. end - 1, its first child i + 1, its next sibling end. */
struct machine_node {
	uint8_t level;
	uint8_t depth; /* of a cache: 1, 2, ... */
	uint16_t kind; /* of a core: 0 the thriftiest; all 0 where cores are alike */
	int32_t os;    /* number in the operating system; -1: none */
	uint32_t end;
	uint32_t pad;
	uint64_t bytes; /* of a cache or memory */
};

enum machine_device_kind { MACHINE_NETWORK, MACHINE_RDMA };
enum machine_state { MACHINE_STATE_UNKNOWN, MACHINE_DOWN, MACHINE_UP };

struct machine_device {
	char name[32];    /* eth0, mlx5_0 */
	char address[64]; /* MAC, or node GUID */
	char ip[64];      /* the first; "": none */
	char layer[24];   /* RDMA: Ethernet, InfiniBand */
	char bus[24];     /* PCI address; "": virtual, or unknown */
	uint8_t kind, state;
	uint16_t port; /* RDMA: from 1 */
	uint32_t near; /* node that it hangs on; 0: the host */
	uint64_t mbps; /* megabits a second; 0: not said */
	uint32_t mtu;  /* of a network device; 0: not said */
	uint32_t pad;
};

/* Bits of machine.unknown */
#define MACHINE_NO_IO        1u  /* hwloc sees no devices at all: it has no I/O support here, or no permission */
#define MACHINE_NO_SYS       2u  /* no /sys: addresses, speed and state of devices are unknown */
#define MACHINE_NO_AFFINITY  4u  /* where the process may run is unknown: all processors are assumed */
#define MACHINE_FOREIGN      8u  /* described by a file or a text, not the machine that this runs on */
#define MACHINE_MORE_DEVICES 16u /* than there was room for */

#define MACHINE_DEVICES 48

struct machine {
	char name[64], cpu[96], arch[32];
	uint64_t memory;
	uint32_t packages, cores, threads, kinds; /* that exist; kinds of cores: 1 where all are alike */
	uint32_t unknown;
	uint32_t ndevices, nnodes;
	uint32_t pad;
	double quota;    /* processors' worth of time that control groups allow; 0: no limit */
	struct cpus may; /* where this process may run */
	struct machine_device device[MACHINE_DEVICES];
	struct machine_node node[];
};

/** What to describe. All NULL: this machine, or what HWLOC_XMLFILE, HWLOC_SYNTHETIC, HWLOC_FSROOT say. */
struct machine_source {
	const char *synthetic; /* hwloc's notation: "package:2 core:4 pu:2" */
	const char *xml;       /* a file that hwloc exported */
	const char *text;      /* its content, with a NUL at text[len]; NULL: it is read from there */
	size_t len;
};

/** "host", "package", ... */
const char *machine_level_name(unsigned level);
/** "performance", "efficiency" or "low-power" core; NULL: cores are alike, or of more kinds than have names. */
const char *machine_kind_name(const struct machine *m, unsigned kind);

/** *out is one block for free(), of machine_bytes. source may be NULL. EINVAL: hwloc does not understand it; ENOMEM. */
int machine_discover(const struct machine_source *source, struct machine **out);
size_t machine_bytes(const struct machine *m);
/**
 * Is a block of so many bytes, which another process made, a machine? Its counts, levels and places are those of a tree then,
 * and its texts are made printable.
 */
bool machine_believe(struct machine *m, size_t bytes);

/** "io", "sys", ...: bit i of machine.unknown as a word; NULL: there is no such bit. */
const char *machine_unknown_name(unsigned i);

/** Cores (numbered in the order of nodes) of which at least one thread is in `cpus`; their number. out may be NULL. */
int machine_cores(const struct machine *m, const struct cpus *cpus, struct cpus *out);

/**
 * Are nodes a and b built alike? Numbers of the operating system do not count, nor do small differences of memory: the
 * kernel keeps some for itself, not everywhere equally much.
 */
bool machine_alike(const struct machine *m, uint32_t a, uint32_t b);

#endif
