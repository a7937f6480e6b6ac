/* SPDX-License-Identifier: MIT */
/* Files of /sys and /proc; see system.h. What can't be read stays unknown. */
#include "system.h"
#include "../../src/os/os.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_CAP 1024

static bool __attribute__((format(printf, 2, 0))) path_of(char path[PATH_CAP], const char *fmt, va_list args)
{
	int n = vsnprintf(path, PATH_CAP, fmt, args);
	return n > 0 && n < PATH_CAP;
}

static FILE *__attribute__((format(printf, 1, 0))) open_file(const char *fmt, va_list args)
{
	char path[PATH_CAP];
	return path_of(path, fmt, args) ? fopen(path, "re") : NULL;
}

/* The first line of a file, without its end. */
static bool __attribute__((format(printf, 3, 4))) read_line(char *line, size_t cap, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	FILE *f = open_file(fmt, args);
	va_end(args);
	bool ok = f && fgets(line, (int)cap, f);
	if (f)
		fclose(f);
	if (!ok)
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return ok;
}

static DIR *__attribute__((format(printf, 1, 2))) open_dir(const char *fmt, ...)
{
	char path[PATH_CAP];
	va_list args;
	va_start(args, fmt);
	DIR *dir = path_of(path, fmt, args) ? opendir(path) : NULL;
	va_end(args);
	return dir;
}

bool system_has_sys(const char *root)
{
	DIR *dir = open_dir("%s/sys/class", root);
	if (dir)
		closedir(dir);
	return dir;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void fill_network(const char *root, struct machine_device *d)
{
	char line[64];
	read_line(d->address, sizeof(d->address), "%s/sys/class/net/%s/address", root, d->name);
	if (read_line(line, sizeof(line), "%s/sys/class/net/%s/operstate", root, d->name))
		d->state = strcmp(line, "up") == 0        ? MACHINE_UP
		           : strcmp(line, "unknown") == 0 ? MACHINE_STATE_UNKNOWN
		                                          : MACHINE_DOWN;
	/* -1, or an error on reading: the driver does not say */
	if (read_line(line, sizeof(line), "%s/sys/class/net/%s/speed", root, d->name) && line[0] != '-')
		d->mbps = strtoull(line, NULL, 10);
	if (read_line(line, sizeof(line), "%s/sys/class/net/%s/mtu", root, d->name))
		d->mtu = (uint32_t)strtoul(line, NULL, 10);
}

static void fill_rdma(const char *root, struct machine_device *d)
{
	char line[64];
	read_line(d->address, sizeof(d->address), "%s/sys/class/infiniband/%s/node_guid", root, d->name);
	read_line(d->layer, sizeof(d->layer), "%s/sys/class/infiniband/%s/ports/%u/link_layer", root, d->name, d->port);
	if (read_line(line, sizeof(line), "%s/sys/class/infiniband/%s/ports/%u/state", root, d->name, d->port))
		d->state = atoi(line) == 4 ? MACHINE_UP : MACHINE_DOWN; /* "4: ACTIVE" */
	if (read_line(line, sizeof(line), "%s/sys/class/infiniband/%s/ports/%u/rate", root, d->name, d->port))
		d->mbps = (uint64_t)(strtod(line, NULL) * 1000); /* "100 Gb/sec (4X EDR)" */
}

void system_fill_device(const char *root, struct machine_device *d)
{
	if (d->kind == MACHINE_RDMA)
		fill_rdma(root, d);
	else
		fill_network(root, d);
}

/* The next entry that is not hidden; NULL, with the directory closed, after the last one. */
static const char *next_entry(DIR *dir)
{
	struct dirent *e;
	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			return e->d_name;
	if (dir)
		closedir(dir);
	return NULL;
}

int system_ports(const char *root, const char *name)
{
	DIR *dir = open_dir("%s/sys/class/infiniband/%s/ports", root, name);
	int ports = 0;
	while (next_entry(dir))
		ports++;
	return ports ? ports : 1;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

int system_rdma(const char *root, char (*name)[32], int cap)
{
	DIR *dir = open_dir("%s/sys/class/infiniband", root);
	int n = 0;
	for (const char *e; (e = next_entry(dir));)
		if (n < cap && strlen(e) < sizeof(name[0]))
			strcpy(name[n++], e);
	qsort(name, (size_t)n, sizeof(name[0]), by_name);
	return n;
}

/* ---- control groups ---------------------------------------------------------------------------------------------- */

static double quota_v2(const char *dir)
{
	char line[64], *end;
	if (!read_line(line, sizeof(line), "%s/cpu.max", dir))
		return 0;
	double quota = strtod(line, &end),
	       period = strtod(end, NULL); /* "max 100000" is not a number: strtod gives 0 */
	return period > 0 ? quota / period : 0;
}

static double quota_v1(const char *dir)
{
	char quota[64], period[64];
	if (!read_line(quota, sizeof(quota), "%s/cpu.cfs_quota_us", dir) ||
	    !read_line(period, sizeof(period), "%s/cpu.cfs_period_us", dir) || strtod(period, NULL) <= 0)
		return 0;
	return strtod(quota, NULL) / strtod(period, NULL); /* -1: none */
}

static double bytes_of(const char *dir, const char *name)
{
	char line[64], *end;
	double v = read_line(line, sizeof(line), "%s/%s", dir, name) ? strtod(line, &end) : 0;
	return v > 0 ? v : 0; /* "max" */
}

/* What is left of a limit; a full group has one byte, because 0 means none. What it caches counts as taken. */
static double left_of(const char *dir, const char *limit, const char *taken)
{
	double most = bytes_of(dir, limit), left = most - bytes_of(dir, taken);
	return most <= 0 ? 0 : left > 1 ? left : 1;
}

static double memory_v2(const char *dir)
{
	return left_of(dir, "memory.max", "memory.current");
}

static double memory_v1(const char *dir)
{
	return left_of(dir, "memory.limit_in_bytes", "memory.usage_in_bytes");
}

/* What a group limits, in either version; functions give 0 where it does not. */
struct limit {
	const char *controller;
	double (*v1)(const char *dir), (*v2)(const char *dir);
};

static const struct limit cpu_limit = {"cpu", quota_v1, quota_v2}, memory_limit = {"memory", memory_v1, memory_v2};

/* The least of a group and those above it. A container often sees only the top ones, and those are its own. */
static double least_limit(const char *root, const char *mount, const char *group, double (*limit)(const char *dir))
{
	char dir[PATH_CAP];
	double least = 0;
	int n = snprintf(dir, sizeof(dir), "%s/sys/fs/cgroup%s%s%s", root, mount[0] ? "/" : "", mount, group);
	if (n < 0 || n >= PATH_CAP)
		return 0;
	for (size_t top = strlen(dir) - strlen(group);;) {
		double here = limit(dir);
		if (here > 0 && (least <= 0 || here < least))
			least = here;
		char *slash = strrchr(dir, '/');
		if (!slash || slash < dir + top)
			return least;
		*slash = '\0';
	}
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strncmp(p, word, len) == 0 && (p[len] == ',' || !p[len]))
			return true;
	return false;
}

/* Lines are NUMBER:CONTROLLERS:GROUP; without controllers it is the one tree of version 2. */
static double limit_of_line(const char *root, char *line, const struct limit *l)
{
	char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!group)
		return 0;
	controllers++;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (strcmp(group, "/") == 0)
		group++;
	if (!controllers[0])
		return least_limit(root, "", group, l->v2);
	return has_word(controllers, l->controller) ? least_limit(root, controllers, group, l->v1) : 0;
}

static double system_limit(const char *root, const struct limit *l)
{
	char line[PATH_CAP];
	double least = 0;
	int n = snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
	FILE *f = n > 0 && n < PATH_CAP ? fopen(line, "re") : NULL;
	while (f && fgets(line, sizeof(line), f)) {
		double here = limit_of_line(root, line, l);
		if (here > 0 && (least <= 0 || here < least))
			least = here;
	}
	if (f)
		fclose(f);
	return least;
}

double system_quota(const char *root)
{
	return system_limit(root, &cpu_limit);
}

static double available(const char *root)
{
	char line[PATH_CAP];
	double kib = 0;
	int n = snprintf(line, sizeof(line), "%s/proc/meminfo", root);
	FILE *f = n > 0 && n < PATH_CAP ? fopen(line, "re") : NULL;
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "MemAvailable:", 13) == 0)
			kib = strtod(line + 13, NULL);
	if (f)
		fclose(f);
	return kib * 1024;
}

uint64_t system_free_memory(const char *root)
{
	double free_bytes = available(root), limit = system_limit(root, &memory_limit);
	if (free_bytes <= 0 && !root[0])
		free_bytes = (double)os_memory_free();
	return (uint64_t)(limit > 0 && (free_bytes <= 0 || limit < free_bytes) ? limit : free_bytes);
}
