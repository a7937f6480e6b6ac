/* SPDX-License-Identifier: MIT */
/* Which ways lead to a rank, see route.h. */
#include "route.h"
#include "../util/error.h"
#include "../util/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- what worked ------------------------------------------------------------------------------------------------- */

/** A host, and the address of it that answered last. */
struct path {
	struct path *next;
	uint8_t host[sizeof(((struct contact *)0)->host_hint)];
	struct net_addr at;
	bool told; /* that another address is silent */
};

struct paths {
	pthread_mutex_t lock; /* ranks that are threads dial at the same time, and so does the control plane */
	struct path *all;
};

struct paths *paths_new(void)
{
	struct paths *p = calloc(1, sizeof(*p));

	if (p)
		pthread_mutex_init(&p->lock, NULL);
	return p;
}

void paths_free(struct paths *p)
{
	if (!p)
		return;
	for (struct path *x = p->all, *next; x; x = next) {
		next = x->next;
		free(x);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static struct path *path_of(struct paths *p, const struct contact *to)
{
	struct path *x = p->all;

	while (x && memcmp(x->host, to->host_hint, sizeof(x->host)) != 0)
		x = x->next;
	return x;
}

static bool same_ip(const struct net_addr *a, const struct net_addr *b)
{
	return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* Before the first contact of rank 0 is known, its host has no hint. */
static bool is_known(const struct contact *to)
{
	static const uint8_t zero[sizeof(to->host_hint)];

	return memcmp(to->host_hint, zero, sizeof(zero)) != 0;
}

void routes_worked(const struct door_self *d, const struct contact *to, const struct route *r,
                   const struct route *instead)
{
	char who[128], silent[NET_TEXT], at[NET_TEXT];
	bool tell = false;
	struct path *x;

	if (!is_known(to))
		return;
	pthread_mutex_lock(&d->paths->lock);
	x = path_of(d->paths, to);
	if (!x && (x = calloc(1, sizeof(*x)))) {
		memcpy(x->host, to->host_hint, sizeof(x->host));
		x->next = d->paths->all;
		d->paths->all = x;
	}
	if (x) {
		tell = instead && !x->told;
		x->told |= tell;
		x->at = r->to;
	}
	pthread_mutex_unlock(&d->paths->lock);
	if (tell)
		log_warn(
		        "rank %d: %s does not answer at %s; from now on %s is tried first for that host: is a cable unplugged? TUTTI_IFACE selects networks",
		        d->rank, contact_text(to, who, sizeof(who)), net_text(&instead->to, silent),
		        net_text(&r->to, at));
}

static void best_first(const struct door_self *d, const struct contact *to, struct route *routes, int n)
{
	struct net_addr at = {.family = 0};
	struct route best;
	struct path *x;
	int i = 0;

	pthread_mutex_lock(&d->paths->lock);
	x = is_known(to) ? path_of(d->paths, to) : NULL;
	if (x)
		at = x->at;
	pthread_mutex_unlock(&d->paths->lock);
	while (i < n && !same_ip(&routes[i].to, &at))
		i++;
	if (i == 0 || i == n)
		return;
	best = routes[i];
	memmove(routes + 1, routes, (size_t)i * sizeof(*routes));
	routes[0] = best;
}

/* ---- which there are --------------------------------------------------------------------------------------------- */

/* The interfaces that may be used: all, or those of TUTTI_IFACE. */
static int own_interfaces(const struct door_self *d, struct net_iface own[NET_IFACES], int *n)
{
	struct net_addr allowed[NET_IFACES];
	int all, nallowed, rc = net_list(own, NET_IFACES, &all);

	*n = 0;
	if (rc == TUTTI_OK)
		rc = net_choose(own, all, d->iface, d->key->open, allowed, NET_IFACES, &nallowed);
	if (rc != TUTTI_OK)
		return rc;
	for (int i = 0; i < all; i++)
		for (int k = 0; k < nallowed; k++)
			if (memcmp(&own[i].addr, &allowed[k], sizeof(allowed[k])) == 0) {
				own[(*n)++] = own[i];
				break;
			}
	return TUTTI_OK;
}

static const struct net_iface *near_interface(const struct net_iface *own, int n, const struct net_addr *a)
{
	for (int i = 0; i < n; i++)
		if (net_is_near(&own[i], a))
			return &own[i];
	return NULL;
}

/* The source address: one in the same network, else any of this family that leads out; false: there is none. */
static bool choose_source(const struct net_iface *own, int n, struct route *r)
{
	const struct net_iface *best = near_interface(own, n, &r->to);

	for (int i = 0; i < n && !best; i++)
		if (own[i].addr.family == r->to.family && !net_is_link_local(&own[i].addr) &&
		    !net_is_loopback(&own[i].addr))
			best = &own[i];
	if (best)
		r->from = best->addr;
	return best;
}

/* A link-local address of IPv6 means something only together with an interface of ours: each is a route. */
static void add_link_local(const struct net_iface *own, int nown, const struct net_addr *a, struct route *routes,
                           int *n)
{
	for (int i = 0; i < nown && *n < ROUTES; i++) {
		if (own[i].addr.family != 6 || !net_is_link_local(&own[i].addr))
			continue;
		routes[*n] = (struct route){.to = *a, .from = own[i].addr};
		routes[(*n)++].to.scope = own[i].addr.scope;
	}
}

static void add_routes(const struct door_self *d, const struct contact *to, const struct net_iface *own, int nown,
                       bool near, struct route routes[ROUTES], int *n)
{
	for (uint32_t i = 0; i < to->naddrs && i < NET_ADDRS && *n < ROUTES; i++) {
		const struct net_addr *a = &to->addrs[i];
		bool scoped = a->family == 6 && net_is_link_local(a);

		if ((a->family != 4 && a->family != 6) || (!scoped && near_interface(own, nown, a)) != near)
			continue;
		if (scoped) {
			add_link_local(own, nown, a, routes, n);
			continue;
		}
		routes[*n] = (struct route){.to = *a};
		if (!d->iface[0] || d->key->open || net_is_loopback(a) || choose_source(own, nown, &routes[*n]))
			++*n;
	}
}

static int no_route(const struct door_self *d, const struct contact *to)
{
	char who[128], at[NET_TEXT];

	contact_text(to, who, sizeof(who));
	if (to->naddrs == 0)
		return fail(TUTTI_EPEER, "%s has no address that this rank can use", who);
	net_text(&to->addrs[0], at);
	if (d->iface[0])
		return fail(
		        TUTTI_EPEER,
		        "TUTTI_IFACE=%.64s allows no interface of rank %d's host that leads to %s at %s: allow one that does",
		        d->iface, d->rank, who, at);
	return fail(TUTTI_EPEER, "no interface of rank %d's host leads to %s at %s", d->rank, who, at);
}

int routes_plan(const struct door_self *d, const struct contact *to, struct route routes[ROUTES], int *n)
{
	struct net_iface own[NET_IFACES];
	int nown, rc = own_interfaces(d, own, &nown);

	*n = 0;
	if (rc != TUTTI_OK)
		return rc;
	add_routes(d, to, own, nown, true, routes, n);
	add_routes(d, to, own, nown, false, routes, n);
	best_first(d, to, routes, *n);
	return *n > 0 ? TUTTI_OK : no_route(d, to);
}
