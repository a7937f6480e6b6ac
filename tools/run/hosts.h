/* SPDX-License-Identifier: MIT */
/*
 * Where ranks may run: hosts with slots, from -H, from plain host files, and from the JSON host files of MLX. Pure
 * parsing of text that is already in memory. Status and message as in util/error.h; a failed call adds nothing that
 * hosts_free does not free.
 */
#ifndef TUTTI_RUN_HOSTS_H
#define TUTTI_RUN_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#define HOST_SLOTS_MAX 4096
#define PORT_LIKE      1024 /* after a colon, this and more looks like a port */

struct host {
	char *name;    /* as the remote shell understands it: name, address, user@name */
	char *address; /* where other hosts reach it, when the file says so; else NULL */
	int slots;
};

/** Ranks fill the stretches one after the other. A host has several where a JSON file names it again. */
struct stretch {
	int host, slots;
};

/** Zero is empty. */
struct hosts {
	struct host *host;
	int n;
	struct stretch *order;
	int nstretches;
	char **env; /* NAME=VALUE, from a JSON file's "envs" */
	int nenv;
};

/** "a:2,b,[fe80::1]:4": slots after the colon, 1 when absent. A host that is named again gains slots. */
int hosts_add_list(struct hosts *hosts, const char *text);
/**
 * The text of a host file called `name` in messages: "host", "host:2" or "host slots=2" per line with # comments; or
 * JSON: {"envs": ["A=1"], "hosts": [{"ssh": "host", "ips": ["10.0.0.1"], "slots": 2}]}, or the bare list of hosts. Each
 * entry of a JSON list takes the next ranks, also when it names a host again: entry i of a list without slots is rank i.
 */
int hosts_add_file(struct hosts *hosts, const char *name, const char *text, size_t len);
void hosts_free(struct hosts *hosts);

/** The index of the host of each of n ranks, in order of the stretches; EINVAL when there are too few slots. */
int hosts_place(const struct hosts *hosts, int n, int *host_of);
int hosts_slots(const struct hosts *hosts);
/** True for localhost, the loopback addresses and this machine's own name. */
bool host_is_here(const char *name);

#endif
