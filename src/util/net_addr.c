/* SPDX-License-Identifier: MIT */
/*
 * Addresses, names, interfaces: see net.h. The resolver has no limit of its own, so it runs on a thread that is left alone
 * when ours has passed.
 */
#include "../os/os.h"
#include "clock.h"
#include "error.h"
#include "log.h"
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define MS UINT64_C(1000000)

/* ---- addresses --------------------------------------------------------------------------------------------------- */

socklen_t net_to_sockaddr(const struct net_addr *a, struct sockaddr_storage *s)
{
	memset(s, 0, sizeof(*s));
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)s;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)s;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	in6->sin6_scope_id = a->scope;
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

bool net_from_sockaddr(const struct sockaddr *s, struct net_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (s->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)s;
		a->family = 4;
		a->port = ntohs(in->sin_port);
		memcpy(a->ip, &in->sin_addr, 4);
		return true;
	}
	if (s->sa_family != AF_INET6)
		return false;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)s;
	bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
	a->family = mapped ? 4 : 6;
	a->port = ntohs(in6->sin6_port);
	a->scope = in6->sin6_scope_id;
	memcpy(a->ip, (const uint8_t *)&in6->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
	return true;
}

char *net_text(const struct net_addr *a, char buf[NET_TEXT])
{
	char ip[INET6_ADDRSTRLEN];

	if (a->family != 4 && a->family != 6)
		return strcpy(buf, "(none)");
	inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->ip, ip, sizeof(ip));
	snprintf(buf, NET_TEXT, a->family == 4 ? "%s:%u" : "[%s]:%u", ip, a->port);
	return buf;
}

bool net_is_loopback(const struct net_addr *a)
{
	static const uint8_t one[16] = {[15] = 1};

	return a->family == 4 ? a->ip[0] == 127 : a->family == 6 && memcmp(a->ip, one, 16) == 0;
}

bool net_is_any(const struct net_addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, a->family == 4 ? 4 : 16) == 0;
}

bool net_is_link_local(const struct net_addr *a)
{
	if (a->family == 4)
		return a->ip[0] == 169 && a->ip[1] == 254;
	return a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
	int whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, (size_t)whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool net_is_near(const struct net_iface *i, const struct net_addr *a)
{
	return i->addr.family == a->family && same_bits(i->addr.ip, a->ip, i->prefix);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

int net_split(const char *host_port, char host[NET_HOST], uint16_t *port)
{
	const char *colon = strrchr(host_port, ':'), *first = host_port;
	char *end = NULL;
	unsigned long value;
	size_t len;

	if (!colon)
		return fail(TUTTI_EINVAL, "\"%s\" is not host:port", host_port);
	len = (size_t)(colon - host_port);
	if (len >= 2 && first[0] == '[' && colon[-1] == ']') {
		first++;
		len -= 2;
	} else if (memchr(host_port, ':', len)) {
		return fail(TUTTI_EINVAL, "\"%s\": write an IPv6 address as [address]:port", host_port);
	}
	if (len == 0 || len >= NET_HOST)
		return fail(TUTTI_EINVAL, "\"%s\" has no host before its port", host_port);
	value = colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
	if (value < 1 || value > 65535 || *end)
		return fail(TUTTI_EINVAL, "\"%s\": the port must be a number from 1 to 65535", host_port);
	memcpy(host, first, len);
	host[len] = '\0';
	*port = (uint16_t)value;
	return TUTTI_OK;
}

/*
 * One look-up. getaddrinfo can't be given a deadline, so it runs in a thread of its own; the last of the two to release
 * it, the thread or the waiting caller, frees it.
 */
struct lookup {
	pthread_mutex_t lock;
	_Atomic uint32_t done; /* set with the lock held; the waiting caller sleeps on it */
	bool abandoned;
	int error;
	char host[NET_HOST];
	struct addrinfo *found;
};

static void lookup_free(struct lookup *l)
{
	if (l->found)
		freeaddrinfo(l->found);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void *lookup_run(void *arg)
{
	struct lookup *l = arg;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	int error = getaddrinfo(l->host, NULL, &hints, &found);
	bool abandoned;

	pthread_mutex_lock(&l->lock);
	l->error = error;
	l->found = error ? NULL : found;
	atomic_store_explicit(&l->done, 1, memory_order_relaxed);
	abandoned = l->abandoned;
	os_wake(&l->done, OS_PROCESS);
	pthread_mutex_unlock(&l->lock);
	if (abandoned)
		lookup_free(l);
	return NULL;
}

static int lookup_start(struct lookup *l)
{
	sigset_t all, old;
	pthread_t thread;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, NULL, lookup_run, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		errno = error;
		return fail_errno("can't start a thread to look up %s", l->host);
	}
	pthread_detach(thread);
	return TUTTI_OK;
}

/* Waits for the look-up in ticks, so that the limit's word is seen. True when it is done; else it frees itself. */
static bool lookup_wait(struct lookup *l, struct net_limit limit)
{
	uint64_t now;
	bool done;

	while (!atomic_load_explicit(&l->done, memory_order_relaxed) && (now = now_ns()) < limit.deadline &&
	       !net_stopped(limit)) {
		uint64_t left = limit.deadline - now;
		os_sleep_on(&l->done, 0, left < NET_STOP_MS * MS ? left : NET_STOP_MS * MS, OS_PROCESS);
	}
	pthread_mutex_lock(&l->lock);
	done = atomic_load_explicit(&l->done, memory_order_relaxed);
	l->abandoned = !done;
	pthread_mutex_unlock(&l->lock);
	return done;
}

/* *error: the resolver's, or EAI_AGAIN when the limit passed first. */
static int look_up(const char *host, struct net_limit limit, struct net_addr *out, int cap, int *n, int *error)
{
	struct lookup *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return fail(TUTTI_ENOMEM, "no memory to look up %s", host);
	snprintf(l->host, sizeof(l->host), "%s", host);
	pthread_mutex_init(&l->lock, NULL);
	rc = lookup_start(l);
	if (rc != TUTTI_OK) {
		lookup_free(l);
		return rc;
	}
	*n = 0;
	*error = EAI_AGAIN;
	if (!lookup_wait(l, limit))
		return TUTTI_OK;
	*error = l->error;
	for (struct addrinfo *ai = l->found; ai && *n < cap; ai = ai->ai_next)
		*n += net_from_sockaddr(ai->ai_addr, &out[*n]);
	lookup_free(l);
	return TUTTI_OK;
}

static bool parse_ip(const char *text, struct net_addr *out)
{
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, out->ip) == 1)
		out->family = 4;
	else if (inet_pton(AF_INET6, text, out->ip) == 1)
		out->family = 6;
	return out->family != 0;
}

/* RFC 6761, 6.3: localhost and the names below it are the loopback addresses, whatever files and servers say. */
static bool is_localhost(const char *host)
{
	static const char name[] = "localhost";
	size_t len = strlen(host), own = sizeof(name) - 1;

	len -= len && host[len - 1] == '.';
	return len >= own && strncasecmp(host + len - own, name, own) == 0 &&
	       (len == own || host[len - own - 1] == '.');
}

static int loopbacks(struct net_addr *out, int cap)
{
	static const struct net_addr both[] = {{.family = 4, .ip = {127, 0, 0, 1}}, {.family = 6, .ip = {[15] = 1}}};
	int n = 0;

	for (; n < cap && n < 2; n++)
		out[n] = both[n];
	return n;
}

int net_resolve(const char *host_port, struct net_addr *out, int cap, int *n, struct net_limit limit)
{
	uint64_t pause = 100 * MS;
	char host[NET_HOST];
	uint16_t port;
	int error = 0, rc = net_split(host_port, host, &port);

	*n = 0;
	if (rc != TUTTI_OK)
		return rc;
	if (parse_ip(host, &out[0]))
		*n = 1;
	else if (is_localhost(host))
		*n = loopbacks(out, cap);
	while (*n == 0) {
		struct net_limit nap;
		rc = look_up(host, limit, out, cap, n, &error);
		if (rc != TUTTI_OK)
			return rc;
		if (*n > 0)
			break;
		log_debug("%s has no address yet: %s", host, gai_strerror(error));
		nap = (struct net_limit){.deadline = now_ns() + pause, .stop = limit.stop};
		if (nap.deadline > limit.deadline)
			nap.deadline = limit.deadline;
		rc = net_wait(-1, 0, nap);
		if (rc == TUTTI_EABORTED)
			return rc;
		if (now_ns() >= limit.deadline)
			return fail(TUTTI_ETIMEOUT, "could not resolve %s in time: %s; is it spelled correctly?", host,
			            gai_strerror(error));
		pause = pause < 1000 * MS ? pause * 2 : pause;
	}
	for (int i = 0; i < *n; i++)
		out[i].port = port;
	return TUTTI_OK;
}

/* ---- interfaces -------------------------------------------------------------------------------------------------- */

static int prefix_of(const struct sockaddr *mask)
{
	struct net_addr a;
	int bits = 0;

	if (!mask || !net_from_sockaddr(mask, &a))
		return 0;
	for (int i = 0; i < (a.family == 4 ? 4 : 16); i++)
		bits += __builtin_popcount(a.ip[i]);
	return bits;
}

int net_list(struct net_iface *out, int cap, int *n)
{
	struct ifaddrs *all;

	*n = 0;
	if (getifaddrs(&all) < 0)
		return fail_errno("can't list the network interfaces");
	for (struct ifaddrs *i = all; i && *n < cap; i = i->ifa_next) {
		struct net_iface *o = &out[*n];
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
			continue;
		if (!net_from_sockaddr(i->ifa_addr, &o->addr))
			continue;
		snprintf(o->name, sizeof(o->name), "%s", i->ifa_name);
		o->prefix = prefix_of(i->ifa_netmask);
		o->no_carrier = !(i->ifa_flags & IFF_RUNNING);
		++*n;
	}
	freeifaddrs(all);
	return TUTTI_OK;
}

/* Smaller is better. */
enum { RANK_ROUTED, RANK_LINK_LOCAL, RANK_VIRTUAL, RANK_NO_CARRIER, RANK_LOOPBACK };

static int rank_of(const struct net_iface *i)
{
	static const char *const virtual[] = {"docker", "virbr",  "veth", "br-", "cni",  "flannel", "cali",
	                                      "cilium", "podman", "lxc",  "lxd", "vnet", "vmnet"};

	if (net_is_loopback(&i->addr))
		return RANK_LOOPBACK;
	if (i->no_carrier)
		return RANK_NO_CARRIER;
	for (size_t v = 0; v < sizeof(virtual) / sizeof(virtual[0]); v++)
		if (strncmp(i->name, virtual[v], strlen(virtual[v])) == 0)
			return RANK_VIRTUAL;
	return net_is_link_local(&i->addr) ? RANK_LINK_LOCAL : RANK_ROUTED;
}

/* One part of a spec: a network (bits >= 0), else a name, or a prefix of names where it ended in '*'. */
struct pattern {
	char text[64];
	bool prefix;
	int bits;
	struct net_addr network;
};

static int pattern_parse(struct pattern *p, const char *text, size_t len)
{
	char ip[64], *slash, *end;

	memset(p, 0, sizeof(*p));
	p->bits = -1;
	if (len == 0 || len >= sizeof(p->text))
		return fail(TUTTI_EINVAL, "TUTTI_IFACE has an empty or too long entry: \"%.*s\"", (int)len, text);
	memcpy(p->text, text, len);
	memcpy(ip, text, len);
	ip[len] = '\0';
	slash = strchr(ip, '/');
	if (slash)
		*slash = '\0';
	if (parse_ip(ip, &p->network)) {
		int most = p->network.family == 4 ? 32 : 128;
		long bits = slash ? strtol(slash + 1, &end, 10) : most;
		if (slash && (end == slash + 1 || *end || bits < 0 || bits > most))
			return fail(TUTTI_EINVAL, "TUTTI_IFACE: \"%s\" is not a network: bits must be 0 to %d", p->text,
			            most);
		p->bits = (int)bits;
		return TUTTI_OK;
	}
	if (slash)
		return fail(TUTTI_EINVAL, "TUTTI_IFACE: \"%s\" is neither an interface nor a network", p->text);
	p->prefix = p->text[len - 1] == '*';
	if (p->prefix)
		p->text[len - 1] = '\0';
	if (strpbrk(p->text, "*^ "))
		return fail(TUTTI_EINVAL,
		            "TUTTI_IFACE: \"%.*s\" is malformed: a * may end a name, a ^ may begin the whole list",
		            (int)len, text);
	return TUTTI_OK;
}

static bool pattern_fits(const struct pattern *p, const struct net_iface *i)
{
	if (p->bits >= 0)
		return p->network.family == i->addr.family && same_bits(p->network.ip, i->addr.ip, p->bits);
	return p->prefix ? strncmp(p->text, i->name, strlen(p->text)) == 0 : strcmp(p->text, i->name) == 0;
}

static int nothing_fits(const char *part, size_t len, const struct net_iface *all, int nall)
{
	char names[256] = "";

	for (int i = 0; i < nall; i++) {
		size_t used = strlen(names);
		if (i == 0 || strcmp(all[i].name, all[i - 1].name) != 0)
			snprintf(names + used, sizeof(names) - used, " %s", all[i].name);
	}
	return fail(TUTTI_EINVAL, "TUTTI_IFACE: no interface that is up matches \"%.*s\"; available:%s", (int)len, part,
	            names);
}

/* Marks the interfaces that a spec names. Each part of an inclusion must fit something: a misspelt name is an error. */
static int mark_named(const char *spec, bool must_fit, const struct net_iface *all, int nall, bool *named)
{
	for (const char *part = spec;; part++) {
		size_t len = strcspn(part, ",");
		struct pattern p;
		bool any = false;
		int rc = pattern_parse(&p, part, len);
		if (rc != TUTTI_OK)
			return rc;
		for (int i = 0; i < nall; i++) {
			bool fits = pattern_fits(&p, &all[i]);
			named[i] = named[i] || fits;
			any = any || fits;
		}
		if (must_fit && !any)
			return nothing_fits(part, len, all, nall);
		part += len;
		if (!*part)
			return TUTTI_OK;
	}
}

int net_choose(const struct net_iface *all, int nall, const char *spec, bool loopback_only, struct net_addr *out,
               int cap, int *n)
{
	bool named[NET_IFACES] = {false}, include, exclude;
	int last, rc;

	*n = 0;
	if (nall > NET_IFACES)
		nall = NET_IFACES;
	if (loopback_only || !spec)
		spec = "";
	exclude = spec[0] == '^';
	include = spec[0] && !exclude;
	if (spec[0]) {
		rc = mark_named(spec + exclude, include, all, nall, named);
		if (rc != TUTTI_OK)
			return rc;
	}
	last = include ? RANK_LOOPBACK : RANK_VIRTUAL;
	for (int rank = loopback_only ? RANK_LOOPBACK : 0; rank <= RANK_LOOPBACK; rank++) {
		if (!loopback_only && rank > last && *n > 0)
			break;
		for (int i = 0; i < nall && *n < cap; i++)
			if (rank_of(&all[i]) == rank && (!include || named[i]) && (!exclude || !named[i]))
				out[(*n)++] = all[i].addr;
	}
	if (exclude && *n == 0 && nall > 0)
		return fail(TUTTI_EINVAL, "TUTTI_IFACE: \"%s\" excludes every interface that is up", spec);
	return TUTTI_OK;
}

int net_interfaces(const char *spec, bool loopback_only, struct net_addr *out, int cap, int *n)
{
	struct net_iface all[NET_IFACES];
	int nall, rc = net_list(all, NET_IFACES, &nall);

	*n = 0;
	if (rc != TUTTI_OK)
		return rc;
	return net_choose(all, nall, spec, loopback_only, out, cap, n);
}
