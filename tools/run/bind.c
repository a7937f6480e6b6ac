/* SPDX-License-Identifier: MIT */
/* Binding through hwloc; see bind.h. Logical order is order of nearness, so neighbours share caches. */
#include "bind.h"

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct binding {
	hwloc_topology_t topo;
	hwloc_bitmap_t *set;
	int n;
};

bool bind_known(const char *how)
{
	return strcmp(how, "core") == 0 || strcmp(how, "numa") == 0 || strcmp(how, "none") == 0;
}

/* The i-th processor set of a level, less what this process may not use; false when nothing is left of it. */
static bool usable(hwloc_topology_t topo, hwloc_obj_type_t level, int i, hwloc_const_bitmap_t mine, hwloc_bitmap_t out)
{
	hwloc_obj_t obj = hwloc_get_obj_by_type(topo, level, (unsigned)i);

	hwloc_bitmap_and(out, obj->cpuset, mine);
	return !hwloc_bitmap_iszero(out);
}

/* All units of a level that this process may use, as sets; returns their number. */
static int units_of(hwloc_topology_t topo, hwloc_obj_type_t level, hwloc_const_bitmap_t mine, hwloc_bitmap_t *unit)
{
	int total = hwloc_get_nbobjs_by_type(topo, level), n = 0;

	for (int i = 0; i < total; i++) {
		unit[n] = hwloc_bitmap_alloc();
		if (unit[n] && usable(topo, level, i, mine, unit[n]))
			n++;
		else
			hwloc_bitmap_free(unit[n]);
	}
	return n;
}

static hwloc_obj_type_t level_of(hwloc_topology_t topo, const char *how)
{
	if (strcmp(how, "numa") == 0)
		return HWLOC_OBJ_NUMANODE;
	return hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

/* Ranks in order get units in order: a rank has units/n of them, or several ranks one unit. */
static void divide(struct binding *b, hwloc_bitmap_t *unit, int units)
{
	for (int i = 0; i < b->n; i++) {
		int from = (int)((long)i * units / b->n), to = (int)((long)(i + 1) * units / b->n);
		b->set[i] = hwloc_bitmap_alloc();
		for (int u = from; b->set[i] && (u < to || u == from); u++)
			hwloc_bitmap_or(b->set[i], b->set[i], unit[u]);
	}
}

struct binding *bind_plan(const char *how, int n)
{
	struct binding *b = strcmp(how, "none") == 0 ? NULL : calloc(1, sizeof(*b));
	hwloc_bitmap_t mine = hwloc_bitmap_alloc(), *unit = NULL;
	hwloc_obj_type_t level;
	int units = 0;

	if (!b || !mine || hwloc_topology_init(&b->topo) < 0)
		goto none;
	if (hwloc_topology_load(b->topo) < 0 || hwloc_get_cpubind(b->topo, mine, HWLOC_CPUBIND_PROCESS) < 0)
		goto loaded;
	level = level_of(b->topo, how);
	unit = calloc((size_t)hwloc_get_nbobjs_by_type(b->topo, level) + 1, sizeof(hwloc_bitmap_t));
	b->set = calloc((size_t)n, sizeof(hwloc_bitmap_t));
	b->n = n;
	if (!unit || !b->set)
		goto loaded;
	units = units_of(b->topo, level, mine, unit);
	if (units == 0 || (level != HWLOC_OBJ_NUMANODE && n > units))
		goto loaded;
	divide(b, unit, units);
	goto out;
loaded:
	hwloc_topology_destroy(b->topo);
	free(b->set);
none:
	free(b);
	b = NULL;
out:
	for (int i = 0; i < units; i++)
		hwloc_bitmap_free(unit[i]);
	free(unit);
	hwloc_bitmap_free(mine);
	return b;
}

void bind_apply(const struct binding *b, int i)
{
	if (b && b->set[i])
		hwloc_set_cpubind(b->topo, b->set[i], HWLOC_CPUBIND_PROCESS);
}

const char *bind_text(const struct binding *b, int i, char *buf, size_t cap)
{
	if (b && b->set[i])
		hwloc_bitmap_list_snprintf(buf, cap, b->set[i]);
	else
		snprintf(buf, cap, "all");
	return buf;
}

void bind_free(struct binding *b)
{
	if (!b)
		return;
	for (int i = 0; i < b->n; i++)
		hwloc_bitmap_free(b->set[i]);
	hwloc_topology_destroy(b->topo);
	free(b->set);
	free(b);
}
