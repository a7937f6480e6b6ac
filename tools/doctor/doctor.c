/* SPDX-License-Identifier: MIT */
/*
 * Looks where faults of RDMA usually lie: limits, device files, ports, addresses, bridges, libraries. It reads what the
 * kernel shows and asks the transports; it changes nothing.
 */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../src/transport.h"
#include "../../src/util/error.h"

#define ENOUGH_LOCKED (UINT64_C(64) << 20)
#define INFINIBAND    "/sys/class/infiniband"

static int faults;

static void fine(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void fine(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("  ok    ", stdout);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

static void fault(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("  FAULT ", stdout);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
	faults++;
}

/* ---- /sys ---------------------------------------------------------------------------------------------------------- */

/* The first line of a file, without its end; "" when it can't be read. */
static const char *line_of(char *buf, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));
static const char *line_of(char *buf, size_t cap, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	FILE *f = fopen(path, "re");
	if (!f || !fgets(buf, (int)cap, f))
		buf[0] = '\0';
	if (f)
		fclose(f);
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

/* Calls fn for each name in a directory; returns how many there were. */
static int each(const char *path, void (*fn)(const char *name, void *arg), void *arg)
{
	int n = 0;
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.') {
			n++;
			fn(e->d_name, arg);
		}
	if (dir)
		closedir(dir);
	return n;
}

/* ---- what can be wrong --------------------------------------------------------------------------------------------- */

static void look_at_memlock(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		fine("memory that may be locked: unlimited");
	else if (limit.rlim_cur >= ENOUGH_LOCKED)
		fine("memory that may be locked: %llu MiB", (unsigned long long)limit.rlim_cur >> 20);
	else if (geteuid() == 0)
		fine("memory that may be locked: %llu KiB, a limit that does not apply to root",
		     (unsigned long long)limit.rlim_cur >> 10);
	else
		fault("memory that may be locked: %llu KiB, too little for RDMA: set `ulimit -l unlimited`, or memlock in /etc/security/limits.conf",
		      (unsigned long long)limit.rlim_cur >> 10);
}

static void look_at_node(const char *name, void *arg)
{
	char path[PATH_MAX];
	int *nodes = arg;
	if (strncmp(name, "uverbs", 6) != 0)
		return;
	snprintf(path, sizeof(path), "/dev/infiniband/%s", name);
	++*nodes;
	if (access(path, R_OK | W_OK) == 0)
		fine("%s may be opened", path);
	else
		fault("%s: %s. Give this user access to it (group or mode by a udev rule, or the container's --device)",
		      path, strerror(errno));
}

static void look_at_gids(const char *device, const char *port)
{
	char gid[64];
	bool any = false;
	for (int i = 0; i < 256 && !any; i++) {
		line_of(gid, sizeof(gid), INFINIBAND "/%s/ports/%s/gids/%d", device, port, i);
		if (!gid[0])
			break;
		any = strspn(gid, "0:") != strlen(gid) && strncmp(gid + 20, "0000:0000:0000:0000", 19) != 0;
	}
	if (any)
		fine("%s port %s has a GID", device, port);
	else
		fault("%s port %s has no GID: give its network interface an IP address and bring it up", device, port);
}

static void look_at_port(const char *port, void *arg)
{
	const char *device = arg;
	char state[64];
	line_of(state, sizeof(state), INFINIBAND "/%s/ports/%s/state", device, port);
	if (strstr(state, "ACTIVE"))
		fine("%s port %s is active", device, port);
	else
		fault("%s port %s is in state \"%s\": check cable, switch and network interface (`rdma link`, `ip link`); InfiniBand also needs a subnet manager",
		      device, port, state);
	if (strstr(state, "ACTIVE"))
		look_at_gids(device, port);
}

static void look_at_device(const char *device, void *arg)
{
	char path[PATH_MAX];
	(void)arg;
	snprintf(path, sizeof(path), INFINIBAND "/%s/ports", device);
	each(path, look_at_port, (void *)(uintptr_t)device);
}

/* A Thunderbolt cable in a bridge is no longer a separate link, and a loop of cables forms a bridge loop. */
static void look_at_interface(const char *name, void *arg)
{
	char path[PATH_MAX], master[PATH_MAX];
	ssize_t n;
	(void)arg;
	if (strncmp(name, "thunderbolt", 11) != 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/net/%s/master", name);
	n = readlink(path, master, sizeof(master) - 1);
	master[n > 0 ? n : 0] = '\0';
	if (n > 0)
		fault("%s is part of %s: remove it (`ip link set %s nomaster`) and give it its own address", name,
		      strrchr(master, '/') ? strrchr(master, '/') + 1 : master, name);
	else
		fine("%s is not in a bridge", name);
}

static void look_at_machine(void)
{
	int devices, nodes = 0;
	printf("this machine\n");
	look_at_memlock();
	devices = each(INFINIBAND, look_at_device, NULL);
	each("/dev/infiniband", look_at_node, &nodes);
	if (!devices)
		fault("the kernel shows no RDMA device: is there a card, and is its driver loaded? Soft-RoCE over Ethernet: `rdma link add rxe0 type rxe netdev eth0`");
	else if (!nodes)
		fault("/dev/infiniband/uverbs* not found: run `modprobe ib_uverbs`; pass the devices into a container");
	each("/sys/class/net", look_at_interface, NULL);
}

/* ---- transports ---------------------------------------------------------------------------------------------------- */

struct listing {
	int lines;
	bool judge;
};

static void device_line(void *arg, const char *text)
{
	struct listing *l = arg;
	l->lines++;
	if (!l->judge)
		printf("  %s\n", text);
	else if (strstr(text, ": no, "))
		fault("%s", text);
	else
		fine("%s", text);
}

static int list_devices(bool judge)
{
	struct params params;
	if (params_read(&params) != TUTTI_OK) {
		fprintf(stderr, "tutti-info: %s\n", fail_text());
		return 1;
	}
	for (int i = 0; transport_table[i]; i++) {
		const struct transport *t = transport_table[i];
		struct listing l = {.judge = judge};
		if (!t->devices)
			continue;
		printf("%s\n", t->name);
		if (t->devices(&params, device_line, &l) != TUTTI_OK)
			judge ? fault("%s", fail_text()) : (void)printf("  none: %s\n", fail_text());
		else if (!l.lines)
			printf("  none\n");
	}
	params_free(&params);
	return 0;
}

int doctor_devices(void)
{
	return list_devices(false);
}

int doctor_examine(void)
{
	faults = 0;
	look_at_machine();
	faults += list_devices(true);
	return faults;
}
