/* SPDX-License-Identifier: MIT */
/* Machines: from hwloc's descriptions and from made-up file systems; the speed of their memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include "../../src/util/error.h"
#include "../../tools/machine/machine.h"
#include "../../tools/machine/system.h"
#include "../../tools/topo/memory.h"

#include <ftw.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/tutti-machine-XXXXXX";

/* ---- what another rank says -------------------------------------------------------------------------------------- */

/* A machine of two packages, as another process might send it with one thing wrong. */
static struct machine *sent(size_t *bytes)
{
	struct machine *m;
	struct machine_source two = {.synthetic = "package:2 core:2 pu:1"};
	assert_int_equal(machine_discover(&two, &m), TUTTI_OK);
	m->ndevices = 1;
	*bytes = machine_bytes(m);
	return m;
}

/* The first node below the host that has others in it. */
static uint32_t inner(const struct machine *m)
{
	uint32_t i = 1;
	while (m->node[i].end == i + 1)
		i++;
	return i;
}

#define UNBELIEVABLE(wrong)                                                                                            \
	do {                                                                                                           \
		size_t bytes;                                                                                          \
		struct machine *m = sent(&bytes);                                                                      \
		assert_true(machine_believe(m, bytes));                                                                \
		wrong;                                                                                                 \
		assert_false(machine_believe(m, bytes));                                                               \
		free(m);                                                                                               \
	} while (0)

static void test_what_is_sent_is_checked(void **state)
{
	size_t all;
	struct machine *whole = sent(&all);
	(void)state;
	memset(whole->cpu, 'x', sizeof(whole->cpu));
	memcpy(whole->name, "a\033[2Jb", 7);
	assert_true(machine_believe(whole, all));
	assert_int_equal(strnlen(whole->cpu, sizeof(whole->cpu)), sizeof(whole->cpu) - 1);
	assert_string_equal(whole->name, "a\\x1b[2Jb");
	free(whole);
	UNBELIEVABLE(bytes--);
	UNBELIEVABLE(bytes = sizeof(*m) - 1);
	UNBELIEVABLE(m->nnodes++);
	UNBELIEVABLE(m->nnodes = 0);
	UNBELIEVABLE(m->nnodes = UINT32_MAX);
	UNBELIEVABLE(m->ndevices = MACHINE_DEVICES + 1);
	UNBELIEVABLE(m->device[0].near = m->nnodes);
	UNBELIEVABLE(m->node[0].end--);
	UNBELIEVABLE(m->node[0].level = MACHINE_CORE);
	UNBELIEVABLE(m->node[1].level = MACHINE_HOST);
	UNBELIEVABLE(m->node[1].level = MACHINE_LEVELS);
	UNBELIEVABLE(m->node[1].end = 1);
	UNBELIEVABLE(m->node[1].end = m->nnodes + 1);
	UNBELIEVABLE(m->node[inner(m) + 1].end = m->node[inner(m)].end + 1);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

#define PATH_CAP 256

/* The name below our folder; path is the caller's, so that two can be held at a time. */
static const char *path_in(const char *name, char path[PATH_CAP])
{
	snprintf(path, PATH_CAP, "%s/%s", dir, name);
	return path;
}

/* Writes a file and the directories above it. */
static void put(const char *name, const char *text)
{
	char path[PATH_CAP];
	path_in(name, path);
	for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		mkdir(path, 0700);
	}
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* ---- machines ---------------------------------------------------------------------------------------------------- */

static struct machine *synthetic(const char *text)
{
	struct machine_source source = {.synthetic = text};
	struct machine *m;
	assert_int_equal(machine_discover(&source, &m), TUTTI_OK);
	return m;
}

/* The tree's promises: preorder, ends that nest, leaves where there must be some, counts that agree. */
static void assert_sound(const struct machine *m)
{
	uint32_t seen[MACHINE_LEVELS] = {0};
	assert_true(m->nnodes > 0);
	assert_int_equal(m->node[0].level, MACHINE_HOST);
	assert_int_equal(m->node[0].end, m->nnodes);
	for (uint32_t i = 0; i < m->nnodes; i++) {
		const struct machine_node *n = &m->node[i];
		assert_true(n->level < MACHINE_LEVELS);
		assert_in_range(n->end, i + 1, m->nnodes);
		for (uint32_t k = i + 1; k < n->end; k++)
			assert_true(m->node[k].end <= n->end);
		if (n->level == MACHINE_MEMORY || n->level == MACHINE_THREAD)
			assert_int_equal(n->end, i + 1);
		seen[n->level]++;
	}
	assert_int_equal(seen[MACHINE_HOST], 1);
	assert_int_equal(seen[MACHINE_PACKAGE], m->packages);
	assert_int_equal(seen[MACHINE_CORE], m->cores);
	assert_int_equal(seen[MACHINE_THREAD], m->threads);
	for (uint32_t i = 0; i < m->ndevices; i++)
		assert_true(m->device[i].near < m->nnodes && m->device[i].name[0]);
}

static void test_two_packages(void **state)
{
	struct machine *m = synthetic("package:2 [numa(memory=64GB)] l3:2(size=32MB) l2:4(size=1MB) core:1 pu:2");
	(void)state;
	assert_sound(m);
	assert_int_equal(m->packages, 2);
	assert_int_equal(m->cores, 16);
	assert_int_equal(m->threads, 32);
	assert_int_equal(m->kinds, 1);
	assert_true(m->unknown & MACHINE_FOREIGN);
	assert_int_equal(cpus_count(&m->may), 32);
	/* host, then a package with its memory first */
	assert_int_equal(m->node[1].level, MACHINE_PACKAGE);
	assert_int_equal(m->node[2].level, MACHINE_MEMORY);
	assert_true(m->node[2].bytes == UINT64_C(64000000000));
	assert_true(m->memory == UINT64_C(128000000000));
	assert_int_equal(m->node[3].level, MACHINE_CACHE);
	assert_int_equal(m->node[3].depth, 3);
	assert_true(m->node[3].bytes == 32000000);
	assert_int_equal(m->node[4].depth, 2);
	/* siblings */
	assert_true(machine_alike(m, 1, m->node[1].end));
	assert_true(machine_alike(m, 3, m->node[3].end));
	assert_false(machine_alike(m, 1, 3));
	free(m);
}

static void test_siblings_that_differ(void **state)
{
	struct machine *m = synthetic("package:2 [numa(memory=64GB)] core:2 pu:1");
	uint32_t first = 1, second = m->node[1].end;
	(void)state;
	assert_true(machine_alike(m, first, second));
	m->node[second + 1].bytes -= m->node[second + 1].bytes / 100;
	assert_true(machine_alike(m, first, second)); /* what a kernel keeps for itself */
	m->node[second + 1].bytes /= 2;
	assert_false(machine_alike(m, first, second));
	m->node[second + 1].bytes = m->node[first + 1].bytes;
	m->node[second + 2].kind = 1;
	assert_false(machine_alike(m, first, second));
	free(m);
}

static void test_cores_of_threads(void **state)
{
	struct machine *m = synthetic("core:4 pu:2");
	struct cpus cpus = {{0}}, cores;
	(void)state;
	assert_int_equal(machine_cores(m, &cpus, NULL), 0);
	cpus_add(&cpus, 2);
	cpus_add(&cpus, 3);
	assert_int_equal(machine_cores(m, &cpus, &cores), 1);
	assert_true(cpus_has(&cores, 1));
	cpus_add(&cpus, 7);
	assert_int_equal(machine_cores(m, &cpus, &cores), 2);
	assert_true(cpus_has(&cores, 3));
	assert_int_equal(machine_cores(m, &m->may, NULL), 4);
	free(m);
}

static void test_nonsense_is_refused(void **state)
{
	char path[PATH_CAP];
	struct machine_source text = {.synthetic = "no such: machine"}, file = {.xml = path_in("absent.xml", path)};
	struct machine *m;
	(void)state;
	assert_int_equal(machine_discover(&text, &m), TUTTI_EINVAL);
	assert_null(m);
	assert_non_null(strstr(fail_text(), "no such: machine"));
	assert_int_equal(machine_discover(&file, &m), TUTTI_EINVAL);
	assert_null(m);
	put("broken.xml", "<?xml version=\"1.0\"?><topology version=\"2.0\"><object type=\"Ma");
	file.xml = path_in("broken.xml", path);
	assert_int_equal(machine_discover(&file, &m), TUTTI_EINVAL);
	assert_null(m);
}

/* Big enough to need more than one word in a set, and cut off nowhere. */
static void test_many_threads(void **state)
{
	struct machine *m = synthetic("package:4 numa:2 core:64 pu:2");
	char list[64];
	(void)state;
	assert_sound(m);
	assert_int_equal(m->threads, 1024);
	assert_string_equal(cpus_text(&m->may, list, sizeof(list)), "0-1023");
	free(m);
}

static hwloc_topology_t with_devices(void)
{
	hwloc_topology_t t;
	assert_int_equal(hwloc_topology_init(&t), 0);
	assert_int_equal(hwloc_topology_set_synthetic(t, "package:2 [numa(memory=8GB)] core:2 pu:1"), 0);
	assert_int_equal(hwloc_topology_load(t), 0);
	return t;
}

/* The export of hwloc is read back unchanged. */
static void test_xml(void **state)
{
	hwloc_topology_t t = with_devices();
	struct machine *want = synthetic("package:2 [numa(memory=8GB)] core:2 pu:1"), *got;
	char path[PATH_CAP];
	struct machine_source source = {.xml = path_in("machine.xml", path)};
	(void)state;
	hwloc_obj_add_info(hwloc_get_root_obj(t), "HostName", "far-away");
	hwloc_obj_add_info(hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0), "CPUModel", "Abacus 3");
	assert_int_equal(hwloc_topology_export_xml(t, source.xml, 0), 0);
	assert_int_equal(machine_discover(&source, &got), TUTTI_OK);
	assert_sound(got);
	assert_string_equal(got->name, "far-away");
	assert_string_equal(got->cpu, "Abacus 3");
	assert_int_equal(got->nnodes, want->nnodes);
	assert_memory_equal(got->node, want->node, want->nnodes * sizeof(want->node[0]));
	free(want);
	free(got);
	hwloc_topology_destroy(t);
}

/* Two memories, one network card at the second; a port adapter at the host. */
static const char devices_xml[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
        "<topology version=\"2.0\">\n"
        "<object type=\"Machine\" os_index=\"0\" cpuset=\"0x3\" complete_cpuset=\"0x3\" allowed_cpuset=\"0x2\""
        " nodeset=\"0x3\" complete_nodeset=\"0x3\" allowed_nodeset=\"0x3\" gp_index=\"1\">\n"
        "<object type=\"Package\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" nodeset=\"0x1\""
        " complete_nodeset=\"0x1\" gp_index=\"2\">\n"
        "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" nodeset=\"0x1\""
        " complete_nodeset=\"0x1\" gp_index=\"3\" local_memory=\"4096\"/>\n"
        "<object type=\"PU\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" nodeset=\"0x1\""
        " complete_nodeset=\"0x1\" gp_index=\"4\"/>\n"
        "</object>\n"
        "<object type=\"Package\" os_index=\"1\" cpuset=\"0x2\" complete_cpuset=\"0x2\" nodeset=\"0x2\""
        " complete_nodeset=\"0x2\" gp_index=\"5\">\n"
        "<object type=\"NUMANode\" os_index=\"1\" cpuset=\"0x2\" complete_cpuset=\"0x2\" nodeset=\"0x2\""
        " complete_nodeset=\"0x2\" gp_index=\"6\" local_memory=\"4096\"/>\n"
        "<object type=\"PU\" os_index=\"1\" cpuset=\"0x2\" complete_cpuset=\"0x2\" nodeset=\"0x2\""
        " complete_nodeset=\"0x2\" gp_index=\"7\"/>\n"
        "<object type=\"Bridge\" gp_index=\"8\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[80-81]\">\n"
        "<object type=\"PCIDev\" gp_index=\"9\" pci_busid=\"0000:81:00.0\""
        " pci_type=\"0200 [0001:0002] [0000:0000] 01\" pci_link_speed=\"15.75\">\n"
        "<object type=\"OSDev\" gp_index=\"10\" name=\"fast0\" osdev_type=\"2\">\n"
        "<info name=\"Address\" value=\"02:00:00:00:00:0a\"/></object>\n"
        "<object type=\"OSDev\" gp_index=\"11\" name=\"verbs0\" osdev_type=\"3\">\n"
        "<info name=\"NodeGUID\" value=\"0200:0000:0000:000a\"/></object>\n"
        "</object></object></object></object></topology>\n";

static void test_devices(void **state)
{
	char path[PATH_CAP], list[16];
	struct machine_source source = {.xml = path_in("devices.xml", path)};
	struct machine *m;
	(void)state;
	put("devices.xml", devices_xml);
	assert_int_equal(machine_discover(&source, &m), TUTTI_OK);
	assert_sound(m);
	assert_string_equal(cpus_text(&m->may, list, sizeof(list)), "1"); /* what is not allowed exists, but no more */
	assert_int_equal(m->threads, 2);
	assert_int_equal(m->ndevices, 2);
	assert_string_equal(m->device[0].name, "fast0");
	assert_string_equal(m->device[0].address, "02:00:00:00:00:0a");
	assert_string_equal(m->device[0].bus, "0000:81:00.0");
	assert_int_equal(m->device[0].kind, MACHINE_NETWORK);
	assert_int_equal(m->node[m->device[0].near].level, MACHINE_PACKAGE);
	assert_int_equal(m->node[m->device[0].near].os, 1);
	assert_string_equal(m->device[1].name, "verbs0");
	assert_int_equal(m->device[1].kind, MACHINE_RDMA);
	assert_int_equal(m->device[1].port, 1);
	assert_false(m->unknown & MACHINE_NO_IO);
	free(m);
}

/* ---- made-up systems --------------------------------------------------------------------------------------------- */

static struct machine *below(const char *root, const struct machine_source *source)
{
	struct machine *m;
	setenv("HWLOC_FSROOT", root, 1);
	int rc = machine_discover(source, &m);
	unsetenv("HWLOC_FSROOT");
	assert_int_equal(rc, TUTTI_OK);
	assert_sound(m);
	return m;
}

static void test_state_of_devices(void **state)
{
	char path[PATH_CAP], root[PATH_CAP];
	struct machine_source source = {.xml = path_in("devices.xml", path)};
	(void)state;
	put("devices.xml", devices_xml);
	put("devs/sys/class/net/fast0/address", "02:00:00:00:00:0b\n");
	put("devs/sys/class/net/fast0/operstate", "up\n");
	put("devs/sys/class/net/fast0/speed", "25000\n");
	put("devs/sys/class/infiniband/verbs0/node_guid", "0200:0000:0000:000b\n");
	put("devs/sys/class/infiniband/verbs0/ports/1/state", "4: ACTIVE\n");
	put("devs/sys/class/infiniband/verbs0/ports/1/rate", "100 Gb/sec (4X EDR)\n");
	put("devs/sys/class/infiniband/verbs0/ports/1/link_layer", "InfiniBand\n");
	put("devs/sys/class/infiniband/verbs0/ports/2/state", "1: DOWN\n");
	put("devs/sys/class/infiniband/soft0/ports/1/state", "4: ACTIVE\n");
	struct machine *m = below(path_in("devs", root), &source);
	assert_int_equal(m->ndevices, 4);
	assert_string_equal(m->device[0].address, "02:00:00:00:00:0b");
	assert_int_equal(m->device[0].state, MACHINE_UP);
	assert_int_equal(m->device[0].mbps, 25000);
	assert_int_equal(m->device[1].port, 1);
	assert_int_equal(m->device[1].mbps, 100000);
	assert_int_equal(m->device[1].state, MACHINE_UP);
	assert_string_equal(m->device[1].layer, "InfiniBand");
	assert_string_equal(m->device[2].name, "verbs0");
	assert_int_equal(m->device[2].port, 2);
	assert_int_equal(m->device[2].state, MACHINE_DOWN);
	assert_int_equal(m->device[2].mbps, 0);
	assert_string_equal(m->device[3].name, "soft0"); /* hwloc shows none of that name */
	assert_int_equal(m->device[3].near, 0);
	assert_false(m->unknown & MACHINE_NO_SYS);
	free(m);
	/* speeds that drivers do not say */
	put("devs/sys/class/net/fast0/speed", "-1\n");
	put("devs/sys/class/net/fast0/operstate", "lowerlayerdown\n");
	m = below(path_in("devs", root), &source);
	assert_int_equal(m->device[0].mbps, 0);
	assert_int_equal(m->device[0].state, MACHINE_DOWN);
	free(m);
}

static double quota_below(const char *root)
{
	static const struct machine_source any = {.synthetic = "core:2 pu:1"};
	char path[PATH_CAP];
	struct machine *m = below(path_in(root, path), &any);
	double quota = m->quota;
	free(m);
	return quota;
}

static void test_limits_of_control_groups(void **state)
{
	(void)state;
	put("two/proc/self/cgroup", "0::/job/step\n");
	put("two/sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
	assert_true(quota_below("two") == 0);
	put("two/sys/fs/cgroup/job/cpu.max", "250000 100000\n");
	assert_true(quota_below("two") == 2.5);
	put("two/sys/fs/cgroup/job/step/cpu.max", "150000 100000\n");
	assert_true(quota_below("two") == 1.5);
	put("two/sys/fs/cgroup/cpu.max", "50000 100000\n"); /* a container's own, above what it is named after */
	assert_true(quota_below("two") == 0.5);

	put("one/proc/self/cgroup", "7:memory:/a\n4:cpu,cpuacct:/job\n0::/\n");
	put("one/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
	put("one/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
	assert_true(quota_below("one") == 0);
	put("one/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
	assert_true(quota_below("one") == 3);

	put("odd/proc/self/cgroup", "\n::\n0:\n0::\nx:cpu\n1:cpuset:/\n0::/a\n");
	put("odd/sys/fs/cgroup/a/cpu.max", "5 0\n");
	assert_true(quota_below("odd") == 0);
}

static void test_memory_that_is_free(void **state)
{
	char root[PATH_CAP];
	(void)state;
	put("free/proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n");
	assert_true(system_free_memory(path_in("free", root)) == 4096000);
	put("free/proc/self/cgroup", "0::/job/step\n");
	put("free/sys/fs/cgroup/job/step/memory.max", "max\n");
	assert_true(system_free_memory(path_in("free", root)) == 4096000);
	put("free/sys/fs/cgroup/job/memory.max", "3000000\n");
	put("free/sys/fs/cgroup/job/memory.current", "1000000\n");
	assert_true(system_free_memory(path_in("free", root)) == 2000000);
	put("free/sys/fs/cgroup/job/memory.current", "3000001\n");
	assert_true(system_free_memory(path_in("free", root)) == 1);
	put("free1/proc/self/cgroup", "7:memory:/a\n0::/\n");
	put("free1/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n");
	put("free1/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "2000\n");
	assert_true(system_free_memory(path_in("free1", root)) == 3000);
	assert_true(system_free_memory("/nonexistent") == 0);
	assert_true(system_free_memory("") > 0);
}

static void test_nothing_below_the_root(void **state)
{
	char path[PATH_CAP];
	struct machine *m = below("/nonexistent", NULL);
	(void)state;
	assert_true(m->threads > 0);
	assert_true(m->unknown & MACHINE_NO_IO);
	assert_true(m->unknown & MACHINE_NO_SYS);
	free(m);
	put("empty/placeholder", "");
	free(below(path_in("empty", path), NULL));
}

static void test_components_that_are_missing(void **state)
{
	static const char *const only[] = {"no_os,stop", "linux,stop", "x86,stop", "-linux", "-pci"};
	(void)state;
	for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++) {
		struct machine *m;
		setenv("HWLOC_COMPONENTS", only[i], 1);
		int rc = machine_discover(NULL, &m);
		unsetenv("HWLOC_COMPONENTS");
		if (rc == TUTTI_OK)
			assert_sound(m);
		else
			assert_true(fail_text()[0]);
		free(m);
	}
}

static void test_this_machine(void **state)
{
	struct machine *m;
	struct cpus may;
	(void)state;
	assert_int_equal(machine_discover(NULL, &m), TUTTI_OK);
	assert_sound(m);
	assert_true(cpus_allowed(&may));
	assert_memory_equal(&m->may, &may, sizeof(may));
	assert_in_range(machine_cores(m, &may, NULL), 1, m->threads);
	assert_true(m->threads >= (uint32_t)cpus_count(&may));
	assert_true(m->name[0] && m->arch[0]);
	free(m);
}

static void test_sets_of_processors(void **state)
{
	struct cpus a = {{0}}, b = {{0}};
	char text[64];
	(void)state;
	assert_string_equal(cpus_text(&a, text, sizeof(text)), "");
	cpus_add(&a, 0);
	for (unsigned i = 62; i < 67; i++)
		cpus_add(&a, i);
	cpus_add(&a, CPUS_MAX - 1);
	cpus_add(&a, CPUS_MAX); /* no such number */
	assert_string_equal(cpus_text(&a, text, sizeof(text)), "0,62-66,4095");
	assert_int_equal(cpus_count(&a), 7);
	assert_false(cpus_overlap(&a, &b));
	cpus_add(&b, 64);
	assert_true(cpus_overlap(&a, &b));
	assert_string_equal(cpus_text(&a, text, 6), "0,62-");
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static uint32_t memory_of(const struct machine *m, int os)
{
	uint32_t i = 0;
	while (i < m->nnodes && (m->node[i].level != MACHINE_MEMORY || m->node[i].os != os))
		i++;
	assert_true(i < m->nnodes);
	return i;
}

/* One thread of each core that is near and allowed; of its core's the first that is allowed. */
static void test_threads_near_a_memory(void **state)
{
	struct machine *m = synthetic("package:2 [numa(memory=8GB)] l3:2(size=32MB) core:2 pu:2");
	struct cpus some;
	int thread[8];
	(void)state;
	assert_int_equal(memory_threads(m, memory_of(m, 0), &m->may, 8, thread), 4);
	assert_memory_equal(thread, ((int[]){0, 2, 4, 6}), 4 * sizeof(int));
	assert_int_equal(memory_threads(m, memory_of(m, 1), &m->may, 8, thread), 4);
	assert_memory_equal(thread, ((int[]){8, 10, 12, 14}), 4 * sizeof(int));
	assert_int_equal(memory_threads(m, memory_of(m, 1), &m->may, 3, thread), 3);
	assert_true(cpus_parse(&some, "3,6-9"));
	assert_int_equal(memory_threads(m, memory_of(m, 0), &some, 8, thread), 2);
	assert_memory_equal(thread, ((int[]){3, 6}), 2 * sizeof(int));
	assert_true(cpus_parse(&some, "0"));
	assert_int_equal(memory_threads(m, memory_of(m, 1), &some, 8, thread), 0);
	free(m);
	m = synthetic("core:2 pu:1"); /* hwloc gives each machine a memory */
	assert_int_equal(memory_threads(m, memory_of(m, 0), &m->may, 8, thread), 2);
	free(m);
}

static void test_streams_are_beyond_the_caches(void **state)
{
	struct machine *m = synthetic("package:2 [numa(memory=8GB)] l3:2(size=64MB) l2:2(size=1MB) core:1 pu:1");
	static const int threads[] = {0, 1, 2, 3};
	const uint64_t plenty = UINT64_C(1) << 40;
	(void)state;
	/* both of its package's; one; the other package's count for nothing */
	assert_in_range(memory_bytes(m, threads, 4, plenty), 512000000, 530000000);
	assert_in_range(memory_bytes(m, threads, 2, plenty), 256000000, 270000000);
	/* no more than an eighth of what is free, and nothing where the caches would hold half of that */
	assert_in_range(memory_bytes(m, threads, 2, UINT64_C(8) * 200000000), 150000000, 200000000);
	assert_int_equal(memory_bytes(m, threads, 2, UINT64_C(8) * 120000000), 0);
	assert_int_equal(memory_bytes(m, threads, 2, 1), 0);
	free(m);
	m = synthetic("core:2 pu:1");
	assert_in_range(memory_bytes(m, threads, 1, plenty), 64 << 20, 128 << 20);
	free(m);
}

static void expect_speeds(const struct machine *m, const struct cpus *may, int most)
{
	struct memory_speed *v;
	int n;
	assert_int_equal(memory_measure(m, may, 1, &v, &n), TUTTI_OK);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		assert_int_equal(m->node[v[i].node].level, MACHINE_MEMORY);
		assert_in_range(v[i].cores, 0, most);
		if (!v[i].cores)
			continue; /* a machine with little memory */
		/* what no memory has would be a cache, or a clock that was misread */
		assert_true(v[i].core_read > 1e7 && v[i].core_read < 1e12);
		assert_true(v[i].core_copy > 1e7 && v[i].core_copy < 1e12);
		assert_true(v[i].read > 1e7 && v[i].copy > 1e7);
	}
	free(v);
}

static void test_memory_is_measured(void **state)
{
	struct machine *m;
	struct cpus may = {{0}};
	int cores, n;
	(void)state;
	assert_int_equal(machine_discover(NULL, &m), TUTTI_OK);
	cores = machine_cores(m, &m->may, NULL);
	expect_speeds(m, &m->may, cores);
	for (unsigned i = 0; !cpus_count(&may); i++)
		if (cpus_has(&m->may, i))
			cpus_add(&may, i);
	expect_speeds(m, &may, 1);
	m->quota = 1.9; /* the time of two cores isn't there */
	expect_speeds(m, &m->may, 1);
	free(m);
	/* a machine that isn't this one */
	struct memory_speed *v;
	m = synthetic("core:2 pu:1");
	assert_int_equal(memory_measure(m, &m->may, 1, &v, &n), TUTTI_OK);
	assert_int_equal(n, 0);
	free(v);
	free(m);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* An argument is a pattern of names. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_two_packages),
	        cmocka_unit_test(test_what_is_sent_is_checked),
	        cmocka_unit_test(test_siblings_that_differ),
	        cmocka_unit_test(test_cores_of_threads),
	        cmocka_unit_test(test_nonsense_is_refused),
	        cmocka_unit_test(test_many_threads),
	        cmocka_unit_test(test_xml),
	        cmocka_unit_test(test_devices),
	        cmocka_unit_test(test_state_of_devices),
	        cmocka_unit_test(test_limits_of_control_groups),
	        cmocka_unit_test(test_memory_that_is_free),
	        cmocka_unit_test(test_nothing_below_the_root),
	        cmocka_unit_test(test_components_that_are_missing),
	        cmocka_unit_test(test_this_machine),
	        cmocka_unit_test(test_sets_of_processors),
	        cmocka_unit_test(test_threads_near_a_memory),
	        cmocka_unit_test(test_streams_are_beyond_the_caches),
	        cmocka_unit_test(test_memory_is_measured),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, make_folder, clean);
}
