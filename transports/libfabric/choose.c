/* SPDX-License-Identifier: MIT */
/* See choose.h. */
#include "choose.h"
#include "../../src/util/error.h"
#include "../../src/util/net.h"

#include <dirent.h>
#include <netinet/in.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Providers that drive a network of their own; for verbs, sockets and shared memory Tutti has transports of its own. */
static const char *const real[] = {"efa", "psm3", "psm2", "cxi", "opx"};

static bool is_provider(const struct fi_info *i, const char *name)
{
	size_t n = strlen(name);
	const char *prov = i->fabric_attr->prov_name;

	return strncmp(prov, name, n) == 0 && (prov[n] == '\0' || prov[n] == ';');
}

static bool is_real(const struct fi_info *i)
{
	for (size_t k = 0; k < sizeof(real) / sizeof(real[0]); k++)
		if (is_provider(i, real[k]))
			return true;
	return false;
}

static bool has_entries(const char *path)
{
	int n = 0;
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n > 0;
}

/* Loading libfabric takes a fifth of a second and pulls in a dozen libraries: not where there is nothing to find. */
int choices_worth_a_look(const struct choice_rules *rules)
{
	if (rules->provider || rules->any || has_entries("/sys/class/infiniband") || has_entries("/sys/class/cxi") ||
	    has_entries("/sys/class/hfi1"))
		return TUTTI_OK;
	return fail(TUTTI_EUNSUPPORTED,
	            "no fabric device on this machine (TUTTI_LIBFABRIC_PROVIDER names a provider that needs none)");
}

/* ---- asking libfabric -------------------------------------------------------------------------------------------- */

static struct fi_info *hints_of(const struct fabric_calls *fi, const struct choice_rules *rules, enum fabric_mode mode)
{
	struct fi_info *h = fi->dupinfo(NULL);

	if (!h)
		return NULL;
	h->ep_attr->type = FI_EP_RDM;
	h->caps = mode == FABRIC_WRITE ? FI_RMA | FI_WRITE | FI_REMOTE_WRITE : FI_TAGGED | FI_SEND | FI_RECV;
	h->mode = FI_CONTEXT | FI_CONTEXT2;
	h->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
	h->domain_attr->control_progress = h->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	h->domain_attr->threading = FI_THREAD_DOMAIN;
	h->domain_attr->av_type = FI_AV_TABLE;
	h->domain_attr->cq_data_size = mode == FABRIC_WRITE ? sizeof(uint32_t) : 0;
	h->fabric_attr->prov_name = rules->provider ? strdup(rules->provider) : NULL;
	return h;
}

static int ask(struct choices *c, const struct fabric_calls *fi, const struct choice_rules *rules,
               enum fabric_mode mode)
{
	struct fi_info *h = hints_of(fi, rules, mode);
	int rc;

	if (!h)
		return -FI_ENOMEM;
	rc = fi->getinfo(FABRIC_API, NULL, NULL, 0, h, &c->info[mode == FABRIC_MESSAGE]);
	fi->freeinfo(h);
	return rc;
}

/* ---- what may be used -------------------------------------------------------------------------------------------- */

static bool address_of(const struct fi_info *i, struct net_addr *a)
{
	*a = (struct net_addr){0};
	if (!i->src_addr)
		return false;
	if (i->addr_format == FI_SOCKADDR_IN) {
		a->family = 4;
		memcpy(a->ip, &((const struct sockaddr_in *)i->src_addr)->sin_addr, 4);
	} else if (i->addr_format == FI_SOCKADDR_IN6) {
		a->family = 6;
		memcpy(a->ip, &((const struct sockaddr_in6 *)i->src_addr)->sin6_addr, 16);
	}
	return a->family != 0;
}

#define ELSEWHERE (-2)

/*
 * In which turn an entry is looked at: first, as -1, those of fabrics with addresses of their own; then IP addresses as
 * TUTTI_IFACE ranks them, best first; after the n of them GIDs, which an RDMA card's port on Ethernet can't resolve.
 */
static int turn_of(const struct fi_info *i, const struct net_addr *allowed, int n)
{
	struct net_addr a;

	if (!address_of(i, &a))
		return i->addr_format == FI_SOCKADDR_IB ? n : -1;
	for (int k = 0; k < n && !net_is_link_local(&a); k++)
		if (allowed[k].family == a.family && memcmp(allowed[k].ip, a.ip, sizeof(a.ip)) == 0)
			return k;
	return ELSEWHERE;
}

static uint32_t hash(uint32_t h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * 16777619u;
	return h;
}

/* libfabric's own statement of which endpoints reach each other: the name of the fabric. */
static uint32_t name_of(const struct fi_info *i, enum fabric_mode mode)
{
	uint32_t words[] = {i->ep_attr->protocol, i->ep_attr->protocol_version, i->addr_format, (uint32_t)mode};
	uint32_t h = hash(2166136261u, words, sizeof(words));

	h = hash(h, i->fabric_attr->prov_name, strlen(i->fabric_attr->prov_name) + 1);
	h = hash(h, i->fabric_attr->name, strlen(i->fabric_attr->name) + 1);
	return h ? h : 1;
}

static void add(struct choices *c, const struct fi_info *i, enum fabric_mode mode, bool local)
{
	struct choice x = {i, mode, name_of(i, mode), local};

	for (int k = 0; k < c->n; k++)
		if (c->list[k].name == x.name)
			return;
	if (c->n < CHOICES)
		c->list[c->n++] = x;
}

static void add_those(struct choices *c, const struct choice_rules *rules, enum fabric_mode mode,
                      const struct net_addr *allowed, int n, int turn)
{
	for (const struct fi_info *i = c->info[mode == FABRIC_MESSAGE]; i; i = i->next) {
		struct net_addr a;
		bool local = address_of(i, &a) ? net_is_loopback(&a) : is_provider(i, "shm");

		if (turn_of(i, allowed, n) != turn || i->ep_attr->max_msg_size < rules->bytes ||
		    !i->fabric_attr->name || (!local && rules->loopback_only))
			continue;
		if (rules->provider || rules->any || is_real(i))
			add(c, i, mode, local);
	}
}

static const char *provider_names(const struct fabric_calls *fi, char *buf, size_t cap)
{
	struct fi_info *all = NULL;
	size_t n = 0;

	buf[0] = '\0';
	if (fi->getinfo(FABRIC_API, NULL, NULL, FI_PROV_ATTR_ONLY, NULL, &all) != 0)
		return "none";
	for (const struct fi_info *i = all; i && n < cap; i = i->next)
		if (!strstr(buf, i->fabric_attr->prov_name))
			n += (size_t)snprintf(buf + n, cap - n, "%s%s", n ? " " : "", i->fabric_attr->prov_name);
	fi->freeinfo(all);
	return buf;
}

static int none(const struct fabric_calls *fi, const struct choice_rules *rules, bool found)
{
	char names[160];

	if (found && rules->loopback_only)
		return fail(TUTTI_EUNSUPPORTED,
		            "the job has no secret, and libfabric%s%s reaches beyond this machine: set TUTTI_SECRET",
		            rules->provider ? "'s " : "", rules->provider ? rules->provider : "");
	if (found && !rules->provider && !rules->any)
		return fail(TUTTI_EUNSUPPORTED, "no libfabric provider here has its own fabric");
	if (found)
		return fail(TUTTI_EUNSUPPORTED,
		            "libfabric's %s has no address that TUTTI_IFACE allows, or carries less than %zu bytes",
		            rules->provider ? rules->provider : "providers", rules->bytes);
	return fail(TUTTI_EUNSUPPORTED,
	            "libfabric %u.%u has no usable provider %s%s%s here; it knows: %s (see fi_info -t FI_EP_RDM)",
	            FI_MAJOR(fi->version()), FI_MINOR(fi->version()), rules->provider ? "\"" : "",
	            rules->provider ? rules->provider : "", rules->provider ? "\"" : "",
	            provider_names(fi, names, sizeof(names)));
}

int choices_find(struct choices *c, const struct fabric_calls *fi, const struct choice_rules *rules)
{
	struct net_addr allowed[NET_ADDRS];
	int n = 0, rc = net_interfaces(rules->iface, rules->loopback_only, allowed, NET_ADDRS, &n);

	*c = (struct choices){0};
	if (rc)
		return rc;
	for (enum fabric_mode mode = FABRIC_WRITE; mode <= FABRIC_MESSAGE && c->n == 0; mode++) {
		if (rules->mode != FABRIC_AUTO && rules->mode != mode)
			continue;
		if (ask(c, fi, rules, mode) != 0)
			continue;
		for (int turn = -1; turn <= n; turn++)
			add_those(c, rules, mode, allowed, n, turn);
	}
	return c->n ? TUTTI_OK : none(fi, rules, c->info[0] || c->info[1]);
}

void choices_free(struct choices *c, const struct fabric_calls *fi)
{
	for (int i = 0; i < 2; i++)
		if (c->info[i])
			fi->freeinfo(c->info[i]);
	*c = (struct choices){0};
}

/* ---- in common --------------------------------------------------------------------------------------------------- */

void choices_write(const struct choices *c, uint8_t blob[CONTACT_BLOB])
{
	memset(blob, 0, CONTACT_BLOB);
	for (int i = 0; i < c->n; i++)
		memcpy(blob + (size_t)i * sizeof(uint32_t), &c->list[i].name, sizeof(uint32_t));
}

static uint32_t listed(const struct contact *contact, int index, int k)
{
	uint32_t name;

	memcpy(&name, contact->transport[index] + (size_t)k * sizeof(name), sizeof(name));
	return name;
}

static bool lists(const struct contact *contact, int index, uint32_t name)
{
	for (int k = 0; k < CHOICES; k++)
		if (listed(contact, index, k) == name)
			return true;
	return false;
}

const struct choice *choices_common(const struct choices *c, const struct contact *contacts, int n, int index,
                                    bool (*here)(const void *arg, int rank), const void *arg)
{
	const struct choice *best = NULL;
	int most = 0;

	for (int r = 0; r < n; r++)
		for (int k = 0; k < CHOICES; k++)
			for (int i = 0; i < c->n; i++) {
				const struct choice *x = &c->list[i];
				int have = 0;

				if (x->name != listed(&contacts[r], index, k) || (x->local && !here(arg, r)))
					continue;
				for (int q = 0; q < n; q++)
					have += lists(&contacts[q], index, x->name) && (!x->local || here(arg, q));
				if (have > most) {
					most = have;
					best = x;
				}
			}
	return best;
}
