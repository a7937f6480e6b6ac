/* SPDX-License-Identifier: MIT */
/* What the system's files say beyond hwloc: state of devices, limits of control groups. Parts of machine.c. */
#ifndef TUTTI_MACHINE_SYSTEM_H
#define TUTTI_MACHINE_SYSTEM_H

#include "machine.h"

/* `root` stands before /sys and /proc: "" for this system. */

bool system_has_sys(const char *root);
/** Adds address, speed and state to a device that has its name and kind. */
void system_fill_device(const char *root, struct machine_device *d);
/** Ports of an RDMA device; at least 1. */
int system_ports(const char *root, const char *name);
/** Names of the RDMA devices; returns how many were written. */
int system_rdma(const char *root, char (*name)[32], int cap);
/** The smallest limit on this process's way up the control groups, in processors; 0: none. */
double system_quota(const char *root);
/** Bytes that this process can take before the system or a control group runs out of them; 0: unknown. */
uint64_t system_free_memory(const char *root);

#endif
