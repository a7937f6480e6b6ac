/* SPDX-License-Identifier: MIT */
/* Which ports there are, and which is the best for this rank; see port.h. */
#include "port.h"

#include "../../src/util/cpus.h"
#include "../../src/util/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS_MAX 255 /* of a device */

/* "mlx5_0" names all ports of that device, "mlx5_0:1" one. */
static bool is_named(const char *name, const char *device, int port)
{
	char full[72];

	snprintf(full, sizeof(full), "%s:%d", device, port);
	return !name || strcmp(name, device) == 0 || strcmp(name, full) == 0;
}

/*
 * The device's CPUs are those of its NUMA node: sysfs lists them, as "0-3,8". Where it does not, or where the rank may run is not
 * known, all devices are equally near.
 */
static bool is_near(const struct ibv_device *device)
{
	char path[IBV_SYSFS_PATH_MAX + 32], list[4096] = "\xff"; /* a page, the most that sysfs gives; no list yet */
	struct cpus theirs, ours;
	FILE *f;

	snprintf(path, sizeof(path), "%s/device/local_cpulist", device->ibdev_path);
	f = file_open(path, "r");
	if (f && !fgets(list, sizeof(list), f))
		strcpy(list, "\xff");
	if (f)
		fclose(f);
	list[strcspn(list, "\n")] = '\0';
	return !cpus_parse(&theirs, list) || !cpus_allowed(&ours) || cpus_overlap(&ours, &theirs);
}

/* Lanes times the speed of one. */
static uint32_t speed_of(const struct ibv_port_attr *a)
{
	static const struct {
		uint8_t code;
		uint32_t value;
	} widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}},
	  speeds[] = {{1, 2500},   {2, 5000},   {4, 10000},  {8, 10000},
	              {16, 14000}, {32, 25000}, {64, 50000}, {128, 100000}};
	uint32_t width = 1, speed = 1;

	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
		width = widths[i].code == a->active_width ? widths[i].value : width;
	for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		speed = speeds[i].code == a->active_speed ? speeds[i].value : speed;
	return a->state == IBV_PORT_ACTIVE ? width * speed : 0;
}

static size_t ports_of(const struct device *d, struct ibv_device *device, const char *name, struct port *out)
{
	const char *called = d->lib.get_device_name(device);
	struct ibv_context *context = d->lib.open_device(device);
	struct ibv_device_attr limits = {.phys_port_cnt = 1};
	struct ibv_port_attr attr;
	bool near = is_near(device);
	size_t n = 0;

	if (context)
		(void)d->lib.query_device(context, &limits);
	for (int i = 1; i <= limits.phys_port_cnt; i++) {
		memset(&attr, 0, sizeof(attr));
		if (!is_named(name, called, i))
			continue;
		if (context)
			(void)d->lib.query_port(context, (uint8_t)i, &attr);
		out[n++] = (struct port){device, (uint8_t)i, near, speed_of(&attr)};
	}
	if (context)
		d->lib.close_device(context);
	return n;
}

static bool is_better(const struct port *a, const struct port *b)
{
	return a->near != b->near ? a->near : a->mbps > b->mbps;
}

struct port *ports_find(struct device *d, struct ibv_device **list, const char *name, size_t *n)
{
	struct port *all = NULL;
	size_t devices = 0, count = 0;

	while (list && list[devices])
		devices++;
	all = calloc(devices * PORTS_MAX + 1, sizeof(*all));
	for (size_t i = 0; all && i < devices; i++)
		count += ports_of(d, list[i], name, all + count);
	for (size_t i = 1; i < count; i++) /* few, and equal ones stay in their order */
		for (size_t k = i; k && is_better(&all[k], &all[k - 1]); k--) {
			struct port swap = all[k];
			all[k] = all[k - 1];
			all[k - 1] = swap;
		}
	*n = count;
	return all;
}
