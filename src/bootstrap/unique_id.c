/* SPDX-License-Identifier: MIT */
/*
 * Unique ids: rank 0's addresses and the job's random key in 128 bytes, with a checksum because people copy them about
 * by hand. The listener waits here, unserved, until rank 0 of the same process reads the id.
 */
#include "../util/error.h"
#include "bootstrap.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x64697575u /* "uuid", in the maker's byte order */
#define ADDRS 4

struct packed {
	uint32_t magic, naddrs;
	uint8_t key[AUTH_KEY];
	struct {
		uint8_t family, zero;
		uint16_t port;
		uint8_t ip[16];
	} addr[ADDRS];
	uint64_t check;
};
_Static_assert(sizeof(struct packed) == sizeof(struct tutti_unique_id), "an id is 128 bytes");

/** Listeners of ids that were made and not read yet. */
struct kept {
	struct kept *next;
	struct tutti_unique_id id;
	int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept *all_kept;

/* FNV-1a. */
static uint64_t checksum(const struct packed *p)
{
	const uint8_t *bytes = (const uint8_t *)p;
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < offsetof(struct packed, check); i++)
		h = (h ^ bytes[i]) * 0x100000001b3u;
	return h;
}

/* One address: there and only there. Several: one listener for all, of which the id tells those that may be used. */
static int listen_for(struct net_addr *addrs, int *n, int *fd)
{
	struct net_addr any6 = {.family = 6}, any4 = {.family = 4};
	int kept = 0;
	uint16_t port;

	if (*n == 1)
		return net_listen(&addrs[0], fd);
	if (net_listen(&any6, fd) == TUTTI_OK) {
		port = any6.port;
	} else {
		int rc = net_listen(&any4, fd);
		if (rc != TUTTI_OK)
			return rc;
		port = any4.port;
	}
	for (int i = 0; i < *n; i++) {
		if (addrs[i].family == 6 && any6.port == 0)
			continue;
		addrs[kept] = addrs[i];
		addrs[kept++].port = port;
	}
	*n = kept;
	return TUTTI_OK;
}

static void pack(struct tutti_unique_id *id, const struct net_addr *addrs, int n)
{
	struct packed p = {.magic = MAGIC, .naddrs = (uint32_t)n};
	struct auth_key key;

	auth_key_random(&key);
	memcpy(p.key, key.bytes, sizeof(p.key));
	for (int i = 0; i < n; i++) {
		p.addr[i].family = addrs[i].family;
		p.addr[i].port = addrs[i].port;
		memcpy(p.addr[i].ip, addrs[i].ip, sizeof(p.addr[i].ip));
	}
	p.check = checksum(&p);
	memcpy(id->bytes, &p, sizeof(p));
}

int unique_id_make(struct tutti_unique_id *id, const char *iface)
{
	struct net_addr addrs[ADDRS];
	struct kept *k;
	int n, fd, rc = auth_init();

	if (rc == TUTTI_OK)
		rc = net_interfaces(iface, false, addrs, ADDRS, &n);
	if (rc != TUTTI_OK)
		return rc;
	if (n == 0)
		return fail(TUTTI_ESYSTEM, "no network interface is up, not even the loopback");
	k = malloc(sizeof(*k));
	if (!k)
		return fail(TUTTI_ENOMEM, "out of memory for a unique id");
	rc = listen_for(addrs, &n, &fd);
	if (rc != TUTTI_OK) {
		free(k);
		return rc;
	}
	pack(id, addrs, n);
	*k = (struct kept){.id = *id, .fd = fd};
	pthread_mutex_lock(&lock);
	k->next = all_kept;
	all_kept = k;
	pthread_mutex_unlock(&lock);
	return TUTTI_OK;
}

/* -1: this process has no listener for it (any more). */
static int take_listener(const struct tutti_unique_id *id)
{
	int fd = -1;

	pthread_mutex_lock(&lock);
	for (struct kept **at = &all_kept; *at; at = &(*at)->next) {
		struct kept *k = *at;
		if (memcmp(&k->id, id, sizeof(*id)) != 0)
			continue;
		fd = k->fd;
		*at = k->next;
		free(k);
		break;
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

static int unpack(const struct tutti_unique_id *id, struct rendezvous *root, struct auth_key *key)
{
	struct packed p;
	char text[NET_TEXT];

	memcpy(&p, id->bytes, sizeof(p));
	if (p.magic != MAGIC || p.check != checksum(&p) || p.naddrs < 1 || p.naddrs > ADDRS)
		return fail(TUTTI_EINVAL,
		            "not a valid unique id: pass on all 128 bytes that tutti_unique_id_create wrote");
	*root = (struct rendezvous){.naddrs = (int)p.naddrs, .listen_fd = -1};
	for (uint32_t i = 0; i < p.naddrs; i++) {
		struct net_addr *a = &root->addrs[i];
		if ((p.addr[i].family != 4 && p.addr[i].family != 6) || p.addr[i].port == 0)
			return fail(TUTTI_EINVAL, "the unique id contains an invalid address");
		a->family = p.addr[i].family;
		a->port = p.addr[i].port;
		memcpy(a->ip, p.addr[i].ip, sizeof(a->ip));
	}
	net_text(&root->addrs[0], text);
	if (p.naddrs == 1)
		snprintf(root->text, sizeof(root->text), "%s", text);
	else
		snprintf(root->text, sizeof(root->text), "%s or %u more", text, p.naddrs - 1);
	*key = (struct auth_key){.open = false};
	memcpy(key->bytes, p.key, sizeof(key->bytes));
	return TUTTI_OK;
}

int unique_id_read(const struct tutti_unique_id *id, int rank, struct rendezvous *root, struct auth_key *key)
{
	int rc = unpack(id, root, key);

	if (rc != TUTTI_OK || rank != 0)
		return rc;
	root->listen_fd = take_listener(id);
	if (root->listen_fd < 0)
		return fail(
		        TUTTI_EUSAGE,
		        "rank 0 must be in the process that created the unique id, and a unique id is good for one communicator");
	return TUTTI_OK;
}
