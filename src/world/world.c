/* SPDX-License-Identifier: MIT */
/*
 * How a world comes up, on all ranks alike:
 *
 *   door opens · transports open and give addresses · bootstrap, or the caller's all-gather: contacts of all
 *   contacts are compared · who is on one host is proved, and gathered where names leave it open
 *   transports attach · second all-gather: fabrics, so all know who reaches whom by what;
 *   what all must reckon with alike: rank 0's costs of links and its topology, the fewest descriptors that a rank has left
 *   hosts and ways are derived · control plane connects · third all-gather: all are up, or all fail · bootstrap closes
 */
#include "world.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../os/os.h"
#include "../topo/believe.h"
#include "../util/clock.h"
#include "../util/cpus.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"
#include "../util/secret.h"
#include "../util/service.h"

/* ---- what transports may ask for ------------------------------------------------------------------------------------ */

static struct hello hello_of(const struct world *w, enum hello_kind kind, uint64_t tag)
{
	return (struct hello){kind, w->rank, tag};
}

#define SILENCE_NS UINT64_C(5000000000) /* of a host that is dialled: three attempts of the kernel */

static int env_dial(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit, int *fd)
{
	struct world *w = env->world;
	struct hello h = hello_of(w, HELLO_DATA, tag);
	struct session session;
	bool silent;
	int rc = door_reach(w->door, &w->contacts[peer], &h, SILENCE_NS, limit, &silent, &session);
	*fd = session_plain(&session);
	if (rc == TUTTI_EPEER && silent)
		control_silent(w->control, peer, fail_text());
	return rc;
}

static int env_dial_sealed(const struct transport_env *env, int peer, uint64_t tag, struct net_limit limit,
                           struct session *session)
{
	struct world *w = env->world;
	struct hello h = hello_of(w, HELLO_DATA, tag);
	return door_dial(w->door, &w->contacts[peer], &h, false, limit, session);
}

static struct session env_take_sealed(const struct transport_env *env, int peer, uint64_t tag)
{
	struct world *w = env->world;
	return door_take(w->door, HELLO_DATA, peer, tag);
}

static int env_take(const struct transport_env *env, int peer, uint64_t tag)
{
	struct world *w = env->world;
	struct session session = door_take(w->door, HELLO_DATA, peer, tag);
	return session_plain(&session);
}

static void env_forget(const struct transport_env *env, uint64_t tag, uint64_t mask)
{
	struct world *w = env->world;
	door_forget(w->door, HELLO_DATA, tag, mask);
}

static int env_give(const struct transport_env *env, uint64_t tag, int fd)
{
	struct world *w = env->world;
	return door_give(w->door, tag, fd);
}

static int env_ask(const struct transport_env *env, int peer, uint64_t tag, int *fd)
{
	struct world *w = env->world;
	return door_ask(w->door, &w->contacts[peer], tag, w->limit, fd);
}

static void env_silent(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;
	control_silent(w->control, peer, how);
}

static void env_lost(const struct transport_env *env, int peer, const char *how)
{
	struct world *w = env->world;
	control_lost(w->control, peer, how);
}

/* ---- transports ------------------------------------------------------------------------------------------------------ */

static void unusable(struct world_transport *x)
{
	x->usable = false;
	snprintf(x->reason, sizeof(x->reason), "%s", fail_text());
	log_debug("transport %s: %s", x->t->name, x->reason);
}

/* The same for all worlds of this process, and no other's: a forked child draws its own. */
static uint64_t process_number(void)
{
	static uint64_t number;
	static unsigned forks;
	service_lock();
	if (!number || forks != service_forks) {
		auth_random(&number, sizeof(number));
		forks = service_forks;
	}
	uint64_t drawn = number;
	service_unlock();
	return drawn;
}

static int open_transports(struct world *w, const struct auth_key *key, const char *allowed, struct contact *me)
{
	uint64_t process = process_number();
	for (int i = 0; transport_table[i]; i++) {
		struct world_transport *x = &w->transport[w->ntransports++];
		bool ok;
		int rc = transport_allowed(allowed, transport_table[i], &ok);
		if (rc)
			return rc;
		x->t = transport_table[i];
		x->env = (struct transport_env){
		        .rank = w->rank,
		        .nranks = w->nranks,
		        .index = i,
		        .params = &w->params,
		        .process = process,
		        .loopback_only = key->open,
		        .named = ok && allowed && *allowed && *allowed != '^',
		        .world = w,
		        .dial = env_dial,
		        .take = env_take,
		        .forget = env_forget,
		        .dial_sealed = env_dial_sealed,
		        .take_sealed = env_take_sealed,
		        .give = env_give,
		        .ask = env_ask,
		        .lost = env_lost,
		        .silent = env_silent,
		};
		if (!(x->fabric = calloc((size_t)w->nranks, sizeof(*x->fabric))))
			return fail(TUTTI_ENOMEM, "out of memory");
		if (!ok)
			snprintf(x->reason, sizeof(x->reason), "not allowed by TUTTI_TRANSPORT=%s", allowed);
		else if (w->params.encrypt && !x->t->encrypts && x->env.named)
			return fail(
			        TUTTI_EUNSUPPORTED,
			        "TUTTI_ENCRYPT=1 forbids the transport %s, which does not encrypt: leave it out of TUTTI_TRANSPORT=%s",
			        x->t->name, allowed);
		else if (w->params.encrypt && !x->t->encrypts)
			snprintf(x->reason, sizeof(x->reason), "does not encrypt, and TUTTI_ENCRYPT=1 is set");
		else if (!(x->usable = x->t->open(&x->env, &x->ctx) == TUTTI_OK))
			unusable(x);
		if (x->usable)
			x->t->address(x->ctx, me->transport[i]);
	}
	return TUTTI_OK;
}

static void attach_transports(struct world *w)
{
	for (int i = 0; i < w->ntransports; i++) {
		struct world_transport *x = &w->transport[i];
		x->env.contacts = w->contacts;
		if (x->usable && x->t->attach(x->ctx) != TUTTI_OK)
			unusable(x);
	}
}

/* What this rank has said it knows better than those who passed it on. */
static int gather_all(const struct world *w, const struct tutti_oob *gather, const void *mine, void *all, size_t bytes)
{
	int rc = gather->allgather(gather->ctx, mine, all, bytes);
	if (rc == 0)
		memcpy((char *)all + (size_t)w->rank * bytes, mine, bytes);
	if (gather->allgather == bootstrap_allgather || rc == 0)
		return rc;
	return fail(TUTTI_ESYSTEM, "the caller's all-gather failed (it returned %d)", rc);
}

/* What the second all-gather carries. No holes. */
struct facts {
	uint64_t fabric[WORLD_TRANSPORTS];
	uint64_t files;   /* descriptors that this rank may still open */
	uint64_t peers;   /* that its poorest transport can connect it to */
	int64_t believes; /* rank 0: BELIEVES when it has read TUTTI_TOPO_FILE, 0 when there is none, else a status */
	struct costs costs;
};

static bool same_hint(const struct world *w, int a, int b)
{
	const struct contact *x = &w->contacts[a], *y = &w->contacts[b];
	return memcmp(x->host_hint, y->host_hint, sizeof(x->host_hint)) == 0;
}

static int lowest_of_hint(const struct world *w, int rank)
{
	int r = 0;
	while (!same_hint(w, r, rank))
		r++;
	return r;
}

/* Are there two ranks that may be on one host? The same answer on all. */
static bool some_may_be_near(const struct world *w)
{
	for (int r = 0; r < w->nranks; r++)
		if (lowest_of_hint(w, r) != r)
			return true;
	return false;
}

/* The lowest rank whose local socket this rank reaches, of those that say they are on its host. */
static int lowest_near(const struct world *w)
{
	char why[1000];
	int r = 0;
	snprintf(why, sizeof(why), "%s", fail_text());
	while (r < w->rank && !(same_hint(w, r, w->rank) && door_is_near(w->door, &w->contacts[r], w->limit)))
		r++;
	(void)fail(TUTTI_OK, "%s", why);
	return r;
}

/*
 * A host's name, boot id and namespaces only say who may be on one host: hosts that were cloned, and containers, have the same.
 * Ranks are on one host when they reach the same lowest rank by its local socket. All others get another hint, on all ranks.
 */
static int prove_hosts(struct world *w, const struct tutti_oob *gather)
{
	size_t n = (size_t)w->nranks;
	if (!some_may_be_near(w))
		return TUTTI_OK;
	int mine = lowest_near(w), *near = calloc(n, sizeof(*near)), *said = calloc(n, sizeof(*said));
	int rc = near && said ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	int gathered = near ? gather_all(w, gather, &mine, near, sizeof(mine)) : TUTTI_OK;
	rc = rc ? rc : gathered;
	for (int r = 0; !rc && r < w->nranks; r++)
		said[r] = lowest_of_hint(w, r);
	for (int r = 0; !rc && r < w->nranks; r++) {
		uint32_t other = (uint32_t)near[r] + 1, word;
		uint8_t *hint = w->contacts[r].host_hint;
		if (near[r] == said[r])
			continue;
		memcpy(&word, hint, sizeof(word));
		word ^= other;
		memcpy(hint, &word, sizeof(word));
		if (r == w->rank)
			log_info("rank %d: the host of rank %d has the same name or boot id, and is another one", r,
			         said[r]);
	}
	if (!rc)
		door_set_hint(w->door, w->contacts[w->rank].host_hint);
	free(near);
	free(said);
	return rc;
}

/* The control plane's hosts: ranks that reach each other by local socket, whether or not they share memory. */
static void number_near(struct world *w)
{
	int nhosts = 0;
	for (int r = 0; r < w->nranks; r++) {
		w->near[r] = -1;
		for (int q = 0; q < r && w->near[r] < 0; q++)
			if (same_hint(w, q, r))
				w->near[r] = w->near[q];
		if (w->near[r] < 0)
			w->near[r] = nhosts++;
	}
}

/* A failure that another rank reports, as a status that there is. */
static int status_of(int64_t reported)
{
	return reported > TUTTI_OK && reported <= TUTTI_EUNSUPPORTED ? (int)reported : TUTTI_EPEER;
}

/* ---- a topology that is believed ------------------------------------------------------------------------------------- */

#define BELIEVES (-1)

/* Rank 0 reads the file: BELIEVES, 0 when none is named, or a status. */
static int read_places(struct world *w)
{
	size_t n = (size_t)w->nranks;
	const char *path = w->params.topo_file;
	if (w->rank || n < 2 || !path || !path[0])
		return 0;
	const char **name = calloc(n, sizeof(*name));
	w->place = calloc(n, sizeof(*w->place));
	int rc = name && w->place ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
	for (size_t r = 0; !rc && r < n; r++)
		name[r] = w->contacts[r].host;
	rc = rc ? rc : believe(path, w->nranks, name, w->near, w->place);
	free(name);
	return rc ? rc : BELIEVES;
}

/* What rank 0 has read becomes everybody's. */
static int share_places(struct world *w, const struct tutti_oob *gather, int64_t believes)
{
	size_t n = (size_t)w->nranks;
	char who[160];
	if (!believes)
		return TUTTI_OK;
	if (believes != BELIEVES)
		return w->rank == 0 ? (int)believes
		                    : fail(status_of(believes), "%s can't use its TUTTI_TOPO_FILE; it knows more",
		                           contact_text(&w->contacts[0], who, sizeof(who)));
	int *all = calloc(n * n, sizeof(*all));
	if (!w->place)
		w->place = calloc(n, sizeof(*w->place));
	int rc = all && w->place ? gather_all(w, gather, w->place, all, n * sizeof(*all))
	                         : fail(TUTTI_ENOMEM, "out of memory");
	if (!rc)
		memcpy(w->place, all, n * sizeof(*all));
	free(all);
	return rc;
}

/* ---- facts ----------------------------------------------------------------------------------------------------------- */

/* Of what the process has left, its ranks (threads) have equal parts. */
static uint64_t files_left(const struct world *w)
{
	struct rlimit limit;
	const struct contact *me = &w->contacts[w->rank];
	uint64_t used = os_open_files(), ranks = 0;
	for (int r = 0; r < w->nranks; r++)
		ranks += w->contacts[r].pid == me->pid &&
		         memcmp(w->contacts[r].host_hint, me->host_hint, sizeof(me->host_hint)) == 0;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return INT32_MAX;
	return limit.rlim_cur > used ? (limit.rlim_cur - used) / ranks : 0;
}

/* A plan gets half of what is left to the poorest: other collectives and communicators come after it. */
static int sockets_of(const struct facts *all, size_t n)
{
	uint64_t least = INT32_MAX;
	for (size_t r = 0; r < n; r++)
		least = all[r].files < least ? all[r].files : least;
	return least < 4 ? 1 : (int)(least / 2);
}

static uint64_t peers_of(const struct world *w)
{
	uint64_t least = INT32_MAX;
	for (int i = 0; i < w->ntransports; i++) {
		const struct world_transport *x = &w->transport[i];
		int n = x->usable && x->t->peers ? x->t->peers(x->ctx) : 0;
		least = n > 0 && (uint64_t)n < least ? (uint64_t)n : least;
	}
	return least;
}

static int gather_facts(struct world *w, const struct tutti_oob *gather)
{
	size_t n = (size_t)w->nranks;
	char who[160];
	struct facts mine = {.files = files_left(w), .peers = peers_of(w)}, *all = calloc(n, sizeof(*all));
	if (!all)
		return fail(TUTTI_ENOMEM, "out of memory");
	for (int i = 0; i < w->ntransports; i++)
		mine.fabric[i] = w->transport[i].usable ? w->transport[i].t->fabric(w->transport[i].ctx) : 0;
	if (w->rank == 0 && n > 1)
		costs_load(&mine.costs, w->params.tune_file);
	mine.believes = read_places(w);
	int rc = gather_all(w, gather, &mine, all, sizeof(mine));
	for (int i = 0; i < w->ntransports && !rc; i++)
		for (size_t r = 0; r < n; r++)
			w->transport[i].fabric[r] = all[r].fabric[i];
	w->costs = all[0].costs;
	w->sockets = sockets_of(all, n);
	w->peers = INT32_MAX;
	for (size_t r = 0; r < n; r++)
		w->peers = all[r].peers < (uint64_t)w->peers ? (int)all[r].peers : w->peers;
	int64_t believes = all[0].believes;
	free(all);
	if (!rc && n > 1 && !costs_plausible(&w->costs))
		rc = fail(TUTTI_EMISMATCH, "%s sent a table of costs that can't be one: is it the same version?",
		          contact_text(&w->contacts[0], who, sizeof(who)));
	return rc ? rc : share_places(w, gather, believes);
}

/* ---- hosts and ways -------------------------------------------------------------------------------------------------- */

static bool same_fabric(const struct world_transport *x, int a, int b)
{
	return x->fabric[a] && x->fabric[a] == x->fabric[b];
}

/* Two ranks share a host when they stand on the same fabric of a transport that shares memory. */
static bool share_memory(const struct world *w, int a, int b)
{
	for (int i = 0; i < w->ntransports; i++)
		if (w->transport[i].t->segment && same_fabric(&w->transport[i], a, b))
			return true;
	return a == b;
}

static void derive_hosts(struct world *w)
{
	int nhosts = 0;
	for (int r = 0; r < w->nranks; r++) {
		w->host[r] = -1;
		for (int q = 0; q < r && w->host[r] < 0; q++)
			if (share_memory(w, q, r))
				w->host[r] = w->host[q];
		if (w->host[r] < 0)
			w->host[r] = nhosts++;
	}
}

/* By which two hosts' ranks reach each other: the first transport of the table on whose fabric both stand; -1: by none. */
static int way_between(const struct world *w, int a, int b)
{
	for (int i = 0; i < w->ntransports; i++)
		if (same_fabric(&w->transport[i], a, b))
			return i;
	return -1;
}

/*
 * The same on all ranks: of the rings that suit ways between machines the one with the largest slots, or, where there is
 * no such way, between hosts of one.
 */
static void size_slots(struct world *w)
{
	struct ring_size here = {0}, far = {0}, ring;
	for (int a = 0; a < w->nranks; a++)
		for (int b = 0; b < a; b++) {
			int way = w->host[a] == w->host[b] ? -1 : way_between(w, a, b);
			if (way < 0)
				continue;
			bool cable = w->near[a] != w->near[b];
			struct ring_size *most = cable ? &far : &here;
			ring = transport_ring(w->transport[way].t, cable);
			*most = ring.payload > most->payload ? ring : *most;
		}
	ring = far.payload ? far : here.payload ? here : transport_ring(NULL, false);
	if (!w->params.slot)
		w->params.slot = ring.payload;
	if (!w->params.slots)
		w->params.slots = ring.nslots;
}

/* The transport whose memory holds all ranks of this host: where they are threads of several processes, not inproc. */
static int home_of(const struct world *w)
{
	for (int i = 0; i < w->ntransports; i++) {
		const struct world_transport *x = &w->transport[i];
		bool all = x->t->segment && x->fabric[w->rank];
		for (int r = 0; r < w->nranks && all; r++)
			all = w->host[r] != w->host[w->rank] || same_fabric(x, r, w->rank);
		if (all)
			return i;
	}
	return -1;
}

/*
 * Inside a host all go through its memory, so that one bell wakes a rank; else by the first transport of the table on whose
 * fabric both stand.
 */
static int derive_ways(struct world *w)
{
	int home = home_of(w);
	const int *local = NULL;
	char who[160];
	if (home >= 0)
		w->segment = w->transport[home].t->segment(w->transport[home].ctx, &local);
	for (int r = 0; r < w->nranks; r++) {
		bool near = w->segment && w->host[r] == w->host[w->rank];
		if (near && local[r] < 0)
			return fail(TUTTI_EPEER,
			            "%s says that it shares memory with rank %d, and does not: is it the same version?",
			            contact_text(&w->contacts[r], who, sizeof(who)), w->rank);
		w->local[r] = near ? local[r] : -1;
		w->via[r] = near && r != w->rank ? home : -1;
		if (w->via[r] < 0 && r != w->rank)
			w->via[r] = way_between(w, r, w->rank);
	}
	return TUTTI_OK;
}

enum cost_link world_link(const struct world *w, int a, int b)
{
	for (int i = 0; i < w->ntransports; i++)
		if (w->transport[i].t->segment && same_fabric(&w->transport[i], a, b))
			return strcmp(w->transport[i].t->name, "inproc") == 0 ? COST_INPROC : COST_SHM;
	return w->near[a] == w->near[b] ? COST_LOOPBACK : COST_NETWORK;
}

static int start_control(struct world *w)
{
	struct control_config cfg = {w->rank, w->nranks, w->contacts, w->near, w->door};
	return control_open(&w->control, &cfg, w->limit);
}

/* More ranks of this host than cores that they may use? Ranks bound elsewhere count against their own cores: unknown here. */
static bool is_crowded(const struct world *w)
{
	struct cpus set;
	int near = 0;
	for (int r = 0; r < w->nranks; r++)
		near += w->near[r] == w->near[w->rank];
	if (!cpus_allowed(&set))
		return near > sysconf(_SC_NPROCESSORS_ONLN);
	int cores = cpus_count(&set);
	if (cores == 1) /* bound by a launcher: one each, unless there are more ranks than cores in all */
		return near > sysconf(_SC_NPROCESSORS_ONLN);
	return near > cores;
}

static int start_waiting(struct world *w)
{
	static const char *const names[] = {"auto", "spin", "yield", "sleep"};
	for (int i = 0; i < 4; i++)
		if (strcmp(w->params.wait, names[i]) == 0)
			w->wait.mode = (enum wait_mode)i;
	w->wait.crowded = w->wait.mode == WAIT_YIELD || (is_crowded(w) && w->wait.mode != WAIT_SPIN);
	w->wait.bell = w->segment ? segment_bell(w->segment, w->local[w->rank]) : &w->lonely_bell;
	w->wait.queue = -1;
	bool memory = false;
	for (int r = 0; r < w->nranks; r++) {
		if (w->via[r] < 0 || r == w->rank)
			continue;
		struct world_transport *x = &w->transport[w->via[r]];
		memory |= x->t->segment != NULL;
		int fd = x->t->sleep_fd ? x->t->sleep_fd(x->ctx) : -1;
		w->wait.polled |= x->t->pump && fd < 0;
		if (fd < 0)
			continue;
		if (w->wait.queue < 0 && (w->wait.queue = fd_keep(os_queue_open())) < 0)
			return fail_errno("create a queue of events");
		(void)os_queue_watch(w->wait.queue, fd, 0, OS_READ, 0); /* the second time: EEXIST */
	}
	w->wait.mixed = memory;
	for (int i = 0; i < w->ntransports; i++)
		for (int r = 0; r < w->nranks && w->transport[i].t->pump; r++)
			if (w->via[r] == i) {
				w->pump[w->npumps++] = &w->transport[i];
				break;
			}
	return TUTTI_OK;
}

/* ---- coming up ------------------------------------------------------------------------------------------------------- */

static int agree(struct world *w)
{
	for (int r = 0; r < w->nranks; r++) {
		int rc = contact_agree(&w->contacts[w->rank], &w->contacts[r]);
		if (rc)
			return rc;
		if (w->contacts[r].rank != r)
			return fail(TUTTI_EMISMATCH, "the all-gather is not in rank order: place %d holds rank %d", r,
			            w->contacts[r].rank);
	}
	w->id = w->contacts[0].nonce;
	return TUTTI_OK;
}

/* With the caller's all-gather the job's key is rank 0's, and travels in it. */
static int common_key(const struct world *w, const struct tutti_oob *gather, struct auth_key *key)
{
	if (!gather->allgather)
		return TUTTI_OK;
	struct auth_key *all = calloc((size_t)w->nranks, sizeof(*all));
	if (!all)
		return fail(TUTTI_ENOMEM, "out of memory");
	auth_key_random(key);
	int rc = gather_all(w, gather, key, all, sizeof(*key));
	*key = all[0];
	secret_wipe(all, (size_t)w->nranks * sizeof(*all));
	free(all);
	return rc;
}

static int allocate(struct world *w)
{
	size_t n = (size_t)w->nranks;
	w->contacts = calloc(n, sizeof(*w->contacts));
	w->via = calloc(n, sizeof(int));
	w->host = calloc(n, sizeof(int));
	w->local = calloc(n, sizeof(int));
	w->near = calloc(n, sizeof(int));
	return w->contacts && w->via && w->host && w->local && w->near ? TUTTI_OK : fail(TUTTI_ENOMEM, "out of memory");
}

/*
 * All have come as far as this, or all fail: nobody leaves while others still look for it, and nobody is left waiting in the
 * caller's all-gather for one that failed. rc: this rank's own.
 */
static int all_up(const struct world *w, const struct tutti_oob *gather, int rc)
{
	char why[1000], who[160];
	int *all = calloc((size_t)w->nranks, sizeof(*all));
	if (!all)
		return fail(TUTTI_ENOMEM, "out of memory");
	snprintf(why, sizeof(why), "%s", fail_text());
	int gathered = gather_all(w, gather, &rc, all, sizeof(rc));
	for (int r = 0; r < w->nranks && !rc && !gathered; r++)
		if (all[r])
			gathered = fail(status_of(all[r]), "%s could not start: %s; it knows more",
			                contact_text(&w->contacts[r], who, sizeof(who)),
			                tutti_strerror(status_of(all[r])));
	free(all);
	return rc ? fail(rc, "%s", why) : gathered;
}

/* What the configuration names is compared among ranks as if the variable named it. */
static int override_transport(struct world *w, const char *given)
{
	char *copy = NULL;
	if (!given)
		return TUTTI_OK;
	if (given[0] && !(copy = strdup(given)))
		return fail(TUTTI_ENOMEM, "out of memory");
	free((char *)(uintptr_t)w->params.transport);
	w->params.transport = copy;
	return TUTTI_OK;
}

static int come_up(struct world *w, const struct world_start *start)
{
	struct contact me;
	struct bootstrap *boot = NULL;
	struct tutti_oob gather = start->oob;
	struct auth_key key = start->key;
	int rc = common_key(w, &gather, &key);
	if (!rc)
		rc = override_transport(w, start->transport);
	if (rc)
		return rc;
	if (key.open && !gather.allgather) /* until rank 0 tells its own, nobody knows this rank's */
		auth_random(key.bytes, sizeof(key.bytes));
	struct door_config door = {w->rank, w->nranks, key, w->params.iface, start->threads};
	contact_self(&me, w->rank, w->nranks, w->params.host);
	if (params_equal_text(&w->params, me.params, sizeof(me.params)) >= sizeof(me.params))
		return fail(TUTTI_EINVAL,
		            "the TUTTI_ variables that all ranks must agree on are longer than %zu bytes together",
		            sizeof(me.params) - 1);
	rc = door_open(&w->door, &door, &me);
	if (!rc)
		rc = open_transports(w, &key, w->params.transport, &me);
	if (!rc && !gather.allgather) {
		rc = bootstrap_open(&boot, &start->root, w->rank, w->nranks, w->door, &me, &start->key, w->limit);
		gather = (struct tutti_oob){boot, bootstrap_allgather};
	}
	if (!rc)
		rc = gather_all(w, &gather, &me, w->contacts, sizeof(me));
	if (!rc)
		rc = agree(w);
	if (!rc && start->root.last)
		*start->root.last = w->id;
	if (!rc && !start->threads)
		rc = prove_hosts(w, &gather);
	if (!rc) {
		attach_transports(w);
		number_near(w);
		rc = gather_facts(w, &gather);
	}
	if (!rc) {
		derive_hosts(w);
		size_slots(w);
		rc = derive_ways(w);
		if (!rc)
			rc = start_control(w);
		if (!rc)
			rc = start_waiting(w);
		rc = all_up(w, &gather, rc);
	}
	bootstrap_close(boot);
	secret_wipe(&key, sizeof(key));
	secret_wipe(&door.key, sizeof(door.key));
	return rc;
}

int world_create(struct world **out, const struct world_start *start, struct params *params)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!w) {
		params_free(params);
		return fail(TUTTI_ENOMEM, "out of memory");
	}
	w->params = *params;
	w->rank = start->rank;
	w->nranks = start->nranks;
	atomic_init(&w->refs, 1);
	w->wait.queue = -1;
	pthread_mutex_init(&w->lock, NULL);
	progress_open(&w->progress, &w->wait);
	w->limit = (struct net_limit){now_ns() + (uint64_t)(start->seconds * 1e9), NULL};
	int rc = auth_init();
	if (!rc)
		rc = service_acquire();
	if (rc) {
		params_free(&w->params);
		free(w);
		return rc;
	}
	w->forks = service_forks;
	rc = allocate(w);
	if (!rc)
		rc = come_up(w, start);
	if (rc) {
		world_unref(w);
		return rc;
	}
	if (w->params.flight && flight_check(w->params.flight, w->rank) != TUTTI_OK) /* now, not when it is needed */
		log_warn("%s", fail_text());
	*out = w;
	return TUTTI_OK;
}

struct world *world_ref(struct world *w)
{
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

/* In a forked child what belongs to the parent is only forgotten: its threads, sockets and memory go on there. */
void world_unref(struct world *w)
{
	if (!w || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) > 1) /* R15 */
		return;
	bool forked = w->forks != service_forks;
	if (!forked) {
		progress_close(&w->progress);
		control_close(w->control);
		for (int i = 0; i < w->ntransports; i++)
			if (w->transport[i].t && w->transport[i].ctx)
				w->transport[i].t->close(w->transport[i].ctx);
		door_close(w->door);
		service_release();
	}
	for (int i = 0; i < w->ntransports; i++)
		free(w->transport[i].fabric);
	fd_close(w->wait.queue);
	params_free(&w->params);
	free(w->contacts);
	free(w->via);
	free(w->host);
	free(w->local);
	free(w->near);
	free(w->place);
	free(w);
}

int world_pump(struct world *w)
{
	int rc = TUTTI_OK;
	if (!w->npumps || pthread_mutex_trylock(&w->lock) != 0)
		return rc;
	for (int i = 0; i < w->npumps && (!rc || rc == LINK_FAULT); i++) {
		int got = w->pump[i]->t->pump(w->pump[i]->ctx);
		rc = got ? got : rc;
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

void world_look(struct world *w)
{
	if (!w->npumps || pthread_mutex_trylock(&w->lock) != 0)
		return;
	for (int i = 0; i < w->npumps; i++)
		if (w->pump[i]->t->look)
			w->pump[i]->t->look(w->pump[i]->ctx);
	pthread_mutex_unlock(&w->lock);
}

/* ---- its lock ------------------------------------------------------------------------------------------------ */

void world_lock(struct world *w)
{
	pthread_mutex_lock(&w->lock);
}

void world_unlock(struct world *w)
{
	pthread_mutex_unlock(&w->lock);
}

const char *world_via(const struct world *w, int rank)
{
	return rank == w->rank ? "self" : w->via[rank] < 0 ? "nothing" : w->transport[w->via[rank]].t->name;
}
