/* SPDX-License-Identifier: MIT */
/* A host as hwloc and the system's files describe it; see machine.h. */
#include "machine.h"
#include "../../src/util/error.h"
#include "../../src/util/net.h"
#include "../../src/util/printable.h"
#include "system.h"

#include <arpa/inet.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

_Static_assert(sizeof(struct machine_node) == 24 && sizeof(struct machine_device) == 232, "no holes: sent raw");

struct visit {
	hwloc_topology_t topo;
	struct machine *m;
	const char *root; /* of the file system that describes the machine; NULL: none does */
};

static void copy(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%.*s", (int)cap - 1, from ? from : "");
}

/* Without blanks around it, and one where there are several: makers pad the names of processors. */
static void copy_trimmed(char *to, size_t cap, const char *from)
{
	size_t n = 0;
	for (; from && *from && n + 1 < cap; from++)
		if (*from != ' ' || (n && to[n - 1] != ' '))
			to[n++] = *from;
	n -= n && to[n - 1] == ' ';
	to[n] = '\0';
}

/* ---- the tree ---------------------------------------------------------------------------------------------------- */

static bool level_of(const struct hwloc_obj *obj, enum machine_level *level)
{
	if (hwloc_obj_type_is_dcache(obj->type)) {
		*level = MACHINE_CACHE;
		return true;
	}
	switch (obj->type) {
	case HWLOC_OBJ_MACHINE:
		*level = MACHINE_HOST;
		return true;
	case HWLOC_OBJ_PACKAGE:
		*level = MACHINE_PACKAGE;
		return true;
	case HWLOC_OBJ_DIE:
	case HWLOC_OBJ_GROUP:
		*level = MACHINE_GROUP;
		return true;
	case HWLOC_OBJ_NUMANODE:
		*level = MACHINE_MEMORY;
		return true;
	case HWLOC_OBJ_CORE:
		*level = MACHINE_CORE;
		return true;
	case HWLOC_OBJ_PU:
		*level = MACHINE_THREAD;
		return true;
	default:
		return false; /* instruction caches, caches of memories: their children take their place */
	}
}

static uint16_t kind_of(const struct visit *s, const struct hwloc_obj *core)
{
	int kind = hwloc_cpukinds_get_by_cpuset(s->topo, core->cpuset, 0);
	return kind > 0 ? (uint16_t)kind : 0;
}

static void count(struct machine *m, const struct machine_node *node)
{
	m->packages += node->level == MACHINE_PACKAGE;
	m->cores += node->level == MACHINE_CORE;
	m->threads += node->level == MACHINE_THREAD;
}

/* Adds obj and what is below it. Its userdata remembers its node, for the devices. */
static void add_tree(struct visit *s, hwloc_obj_t obj)
{
	struct machine *m = s->m;
	enum machine_level level;
	bool kept = level_of(obj, &level);
	struct machine_node *node = &m->node[m->nnodes];

	obj->userdata = (void *)(uintptr_t)(kept ? m->nnodes : m->nnodes - 1);
	if (kept) {
		m->nnodes++;
		*node = (struct machine_node){.level = (uint8_t)level,
		                              .os = obj->os_index == HWLOC_UNKNOWN_INDEX ? -1 : (int32_t)obj->os_index};
		if (level == MACHINE_CACHE) {
			node->depth = (uint8_t)obj->attr->cache.depth;
			node->bytes = obj->attr->cache.size;
		} else if (level == MACHINE_MEMORY) {
			node->bytes = obj->attr->numanode.local_memory;
		} else if (level == MACHINE_CORE) {
			node->kind = kind_of(s, obj);
		}
		count(m, node);
	}
	for (hwloc_obj_t child = obj->memory_first_child; child; child = child->next_sibling)
		add_tree(s, child);
	for (hwloc_obj_t child = obj->first_child; child; child = child->next_sibling)
		add_tree(s, child);
	if (kept)
		node->end = m->nnodes;
}

static size_t objects(hwloc_topology_t topo)
{
	int n = hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_NUMANODE);
	for (int depth = 0; depth < hwloc_topology_get_depth(topo); depth++)
		n += (int)hwloc_get_nbobjs_by_depth(topo, depth);
	return (size_t)n;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static struct machine_device *device_of(struct machine *m, const char *name)
{
	for (uint32_t i = 0; i < m->ndevices; i++)
		if (strcmp(m->device[i].name, name) == 0)
			return &m->device[i];
	return NULL;
}

/* Returns where it stands now; NULL: there is no room. */
static struct machine_device *add_device(struct visit *s, const struct machine_device *d)
{
	struct machine *m = s->m;
	if (m->ndevices == MACHINE_DEVICES) {
		m->unknown |= MACHINE_MORE_DEVICES;
		return NULL;
	}
	struct machine_device *mine = &m->device[m->ndevices++];
	*mine = *d;
	if (s->root)
		system_fill_device(s->root, mine);
	return mine;
}

static void add_ports(struct visit *s, struct machine_device *d)
{
	int ports = s->root ? system_ports(s->root, d->name) : 1;
	for (d->port = 1; d->port <= ports; d->port++)
		add_device(s, d);
}

/* From version 3 on a device has several types at a time. */
static bool is_a(hwloc_obj_t osdev, unsigned type)
{
#if HWLOC_API_VERSION >= 0x00030000
	return (osdev->attr->osdev.types & type) != 0;
#else
	return osdev->attr->osdev.type == type;
#endif
}

static void add_hwloc_device(struct visit *s, hwloc_obj_t obj)
{
	hwloc_obj_t pci = hwloc_get_ancestor_obj_by_type(s->topo, HWLOC_OBJ_PCI_DEVICE, obj);
	bool rdma = is_a(obj, HWLOC_OBJ_OSDEV_OPENFABRICS);
	struct machine_device d = {.kind = rdma ? MACHINE_RDMA : MACHINE_NETWORK};
	copy(d.name, sizeof(d.name), obj->name);
	copy(d.address, sizeof(d.address), hwloc_obj_get_info_by_name(obj, rdma ? "NodeGUID" : "Address"));
	d.near = (uint32_t)(uintptr_t)hwloc_get_non_io_ancestor_obj(s->topo, obj)->userdata;
	if (pci)
		snprintf(d.bus, sizeof(d.bus), "%04x:%02x:%02x.%x", (unsigned)pci->attr->pcidev.domain,
		         pci->attr->pcidev.bus, pci->attr->pcidev.dev, pci->attr->pcidev.func);
	if (rdma)
		add_ports(s, &d);
	else
		add_device(s, &d);
}

/* RDMA devices that hwloc does not show: those made of software, or all where it has no I/O support. */
static void add_rdma(struct visit *s)
{
	char name[MACHINE_DEVICES][32];
	int n = s->root ? system_rdma(s->root, name, MACHINE_DEVICES) : 0;
	for (int i = 0; i < n; i++) {
		struct machine_device d = {.kind = MACHINE_RDMA};
		if (device_of(s->m, name[i]))
			continue;
		copy(d.name, sizeof(d.name), name[i]);
		add_ports(s, &d);
	}
}

static void set_ip(struct machine_device *d, const struct net_addr *a)
{
	inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->ip, d->ip, sizeof(d->ip));
}

/* Addresses of interfaces, and those that hwloc does not show: of virtual machines and containers, bridges, tunnels. */
static void add_interfaces(struct visit *s)
{
	struct net_iface *all = calloc(NET_IFACES, sizeof(*all));
	int n = 0;
	if (!all || net_list(all, NET_IFACES, &n) != TUTTI_OK)
		n = 0;
	for (int i = 0; i < n; i++) {
		struct machine_device *d = device_of(s->m, all[i].name), fresh = {.kind = MACHINE_NETWORK};
		if (net_is_loopback(&all[i].addr) || net_is_link_local(&all[i].addr))
			continue;
		copy(fresh.name, sizeof(fresh.name), all[i].name);
		if (!d)
			d = add_device(s, &fresh);
		if (d && !d->ip[0])
			set_ip(d, &all[i].addr);
	}
	free(all);
}

static void add_devices(struct visit *s)
{
	struct machine *m = s->m;
	hwloc_obj_t obj = NULL;
	while ((obj = hwloc_get_next_osdev(s->topo, obj)))
		if (is_a(obj, HWLOC_OBJ_OSDEV_NETWORK) || is_a(obj, HWLOC_OBJ_OSDEV_OPENFABRICS))
			add_hwloc_device(s, obj);
	if (hwloc_get_nbobjs_by_type(s->topo, HWLOC_OBJ_OS_DEVICE) == 0)
		m->unknown |= MACHINE_NO_IO;
	if (s->root && !system_has_sys(s->root))
		m->unknown |= MACHINE_NO_SYS;
	add_rdma(s);
	if (!(m->unknown & MACHINE_FOREIGN))
		add_interfaces(s);
}

/* ---- the host ---------------------------------------------------------------------------------------------------- */

static void add_names(struct visit *s)
{
	hwloc_obj_t root = hwloc_get_root_obj(s->topo), package = hwloc_get_obj_by_type(s->topo, HWLOC_OBJ_PACKAGE, 0);
	const char *cpu = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
	struct utsname u;
	bool here = !(s->m->unknown & MACHINE_FOREIGN) && uname(&u) == 0;
	copy(s->m->name, sizeof(s->m->name), here ? u.nodename : hwloc_obj_get_info_by_name(root, "HostName"));
	copy(s->m->arch, sizeof(s->m->arch), here ? u.machine : hwloc_obj_get_info_by_name(root, "Architecture"));
	copy_trimmed(s->m->cpu, sizeof(s->m->cpu), cpu ? cpu : hwloc_obj_get_info_by_name(root, "CPUModel"));
}

static void add_limits(struct visit *s)
{
	struct machine *m = s->m;
	hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(s->topo);
	struct cpus mine;
	bool asked = !(m->unknown & MACHINE_FOREIGN) && cpus_allowed(&mine);
	int i;

	if (!asked && !(m->unknown & MACHINE_FOREIGN))
		m->unknown |= MACHINE_NO_AFFINITY;
	for (i = hwloc_bitmap_first(allowed); i >= 0; i = hwloc_bitmap_next(allowed, i))
		if (!asked || cpus_has(&mine, (unsigned)i))
			cpus_add(&m->may, (unsigned)i);
	m->quota = s->root ? system_quota(s->root) : 0;
}

/*
 * Components of hwloc that look, some of them slowly, for devices which say nothing about processors and networks; and
 * the one that reads PCI through a library of its own, which leaks: /sys shows the same.
 */
static const char *const unwanted[] = {"cuda", "nvml", "rsmi", "levelzero", "opencl", "gl", "pci"};

/* What the file says of its own format: <topology version="3.0">; 0: nothing. */
static unsigned xml_version(const struct machine_source *from)
{
	static const char tag[] = "<topology version=\"";
	char head[4096];
	const char *text = from->text, *at;
	if (!text) {
		FILE *f = fopen(from->xml, "re");
		head[f ? fread(head, 1, sizeof(head) - 1, f) : 0] = '\0';
		if (f)
			fclose(f);
		text = head;
	}
	at = strstr(text, tag);
	return at ? (unsigned)strtoul(at + sizeof(tag) - 1, NULL, 10) : 0;
}

static int cant_read(const struct machine_source *from)
{
	unsigned ours = hwloc_get_api_version(), version = xml_version(from);
	if (version > ours >> 16)
		return fail(
		        TUTTI_EINVAL,
		        "%s: exported by hwloc %u, which hwloc %u.%u of this program can't read: export it with 'lstopo --export-xml-flags v2'",
		        from->xml, version, ours >> 16, ours >> 8 & 0xff);
	return fail(TUTTI_EINVAL, "%s: unreadable, or not a file exported by hwloc (lstopo FILE.xml)", from->xml);
}

static int load(const struct machine_source *from, hwloc_topology_t topo)
{
	if (from && from->synthetic && hwloc_topology_set_synthetic(topo, from->synthetic) < 0)
		return fail(TUTTI_EINVAL, "%s: hwloc does not understand this description of a machine",
		            from->synthetic);
	if (from && from->text && hwloc_topology_set_xmlbuffer(topo, from->text, (int)from->len + 1) < 0)
		return cant_read(from);
	if (from && from->xml && !from->text && hwloc_topology_set_xml(topo, from->xml) < 0)
		return cant_read(from);
	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		hwloc_topology_set_components(topo, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, unwanted[i]);
	hwloc_topology_set_io_types_filter(topo, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	hwloc_topology_set_flags(topo, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	if (hwloc_topology_load(topo) == 0)
		return TUTTI_OK;
	if (from && from->xml && xml_version(from) > hwloc_get_api_version() >> 16)
		return cant_read(from);
	if (from && from->xml)
		return fail(TUTTI_EINVAL, "%s: hwloc can't read it as a machine", from->xml);
	return fail_errno("hwloc can't describe this machine");
}

static int describe(struct visit *s)
{
	const char *root = getenv("HWLOC_FSROOT"); /* hwloc's own variable: it and we read the same files */
	bool here = hwloc_topology_is_thissystem(s->topo);
	struct machine *m = calloc(1, sizeof(*m) + objects(s->topo) * sizeof(m->node[0]));
	if (!m)
		return fail(TUTTI_ENOMEM, "out of memory");
	s->m = m;
	s->root = root ? root : here ? "" : NULL;
	m->unknown = here ? 0 : MACHINE_FOREIGN;
	m->memory = hwloc_get_root_obj(s->topo)->total_memory;
	m->kinds = 1;
	int kinds = hwloc_cpukinds_get_nr(s->topo, 0);
	if (kinds > 1)
		m->kinds = (uint32_t)kinds;
	add_tree(s, hwloc_get_root_obj(s->topo));
	add_names(s);
	add_limits(s);
	add_devices(s);
	return TUTTI_OK;
}

int machine_discover(const struct machine_source *source, struct machine **out)
{
	struct visit s = {0};
	*out = NULL;
	if (hwloc_topology_init(&s.topo) < 0)
		return fail_errno("hwloc can't start");
	int rc = load(source, s.topo);
	if (rc == TUTTI_OK)
		rc = describe(&s);
	hwloc_topology_destroy(s.topo);
	*out = s.m;
	return rc;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

const char *machine_level_name(unsigned level)
{
	static const char *const name[MACHINE_LEVELS] = {"host",  "package", "group", "memory",
	                                                 "cache", "core",    "thread"};
	return name[level];
}

const char *machine_kind_name(const struct machine *m, unsigned kind)
{
	static const char *const name[] = {"low-power", "efficiency", "performance"};
	if (m->kinds < 2 || m->kinds > 3 || kind >= m->kinds)
		return NULL;
	return name[kind + 3 - m->kinds];
}

const char *machine_unknown_name(unsigned i)
{
	static const char *const name[] = {"io", "sys", "affinity", "foreign", "more-devices"};
	return i < sizeof(name) / sizeof(name[0]) ? name[i] : NULL;
}

size_t machine_bytes(const struct machine *m)
{
	return sizeof(*m) + m->nnodes * sizeof(m->node[0]);
}

#define MOST_DEPTH 64
#define MOST_NODES (1u << 20)

/* Preorder: each node ends within the one that it is in. */
static bool is_tree(const struct machine *m)
{
	uint32_t end[MOST_DEPTH];
	size_t depth = 0;
	for (uint32_t i = 0; i < m->nnodes; i++) {
		const struct machine_node *node = &m->node[i];
		while (depth && end[depth - 1] <= i)
			depth--;
		uint32_t within = depth ? end[depth - 1] : m->nnodes;
		if ((i > 0 && !depth) || depth == MOST_DEPTH || node->end <= i || node->end > within ||
		    node->level >= MACHINE_LEVELS || (node->level == MACHINE_HOST) != (i == 0))
			return false;
		end[depth++] = node->end;
	}
	return m->nnodes > 0;
}

static void make_printable(char *text, size_t cap)
{
	char copy[256];
	snprintf(copy, sizeof(copy), "%.*s", (int)strnlen(text, cap), text);
	printable(text, cap, copy);
}

bool machine_believe(struct machine *m, size_t bytes)
{
	if (bytes < sizeof(*m) || m->nnodes > MOST_NODES || bytes != machine_bytes(m) ||
	    m->ndevices > MACHINE_DEVICES || !is_tree(m))
		return false;
	make_printable(m->name, sizeof(m->name));
	make_printable(m->cpu, sizeof(m->cpu));
	make_printable(m->arch, sizeof(m->arch));
	for (uint32_t i = 0; i < m->ndevices; i++) {
		struct machine_device *d = &m->device[i];
		if (d->near >= m->nnodes)
			return false;
		make_printable(d->name, sizeof(d->name));
		make_printable(d->address, sizeof(d->address));
		make_printable(d->ip, sizeof(d->ip));
		make_printable(d->layer, sizeof(d->layer));
		make_printable(d->bus, sizeof(d->bus));
	}
	return true;
}

int machine_cores(const struct machine *m, const struct cpus *cpus, struct cpus *out)
{
	struct cpus cores = {{0}};
	/* where a system tells of no cores, each of its processors is taken for one */
	unsigned unit = m->cores ? MACHINE_CORE : MACHINE_THREAD, core = 0;
	for (uint32_t i = 0; i < m->nnodes; i++) {
		if (m->node[i].level != unit)
			continue;
		for (uint32_t k = i; k < m->node[i].end; k++)
			if (m->node[k].level == MACHINE_THREAD && m->node[k].os >= 0 &&
			    cpus_has(cpus, (unsigned)m->node[k].os))
				cpus_add(&cores, core);
		core++;
	}
	if (out)
		*out = cores;
	return cpus_count(&cores);
}

static bool same_size(const struct machine_node *a, const struct machine_node *b)
{
	uint64_t most = a->bytes > b->bytes ? a->bytes : b->bytes, least = a->bytes + b->bytes - most;
	return a->level == MACHINE_MEMORY ? most - least <= most / 16 : most == least;
}

bool machine_alike(const struct machine *m, uint32_t a, uint32_t b)
{
	const struct machine_node *x = &m->node[a], *y = &m->node[b];
	uint32_t n = x->end - a;
	if (n != y->end - b)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (x[i].level != y[i].level || x[i].depth != y[i].depth || x[i].kind != y[i].kind ||
		    x[i].end - a != y[i].end - b || !same_size(&x[i], &y[i]))
			return false;
	return true;
}
