/* SPDX-License-Identifier: MIT */
/*
 * libfabric: fabrics for which it has a provider: EFA, Slingshot, Omni-Path, InfiniBand, and for tests its emulations over
 * sockets and shared memory. One reliable, unconnected endpoint for each rank of a world; links are ends in registered
 * memory (wire.h) that ranks tell each other over an authenticated side channel (channel.h).
 */
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"
#include "../../src/util/log.h"
#include "state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFER_BYTES                                                                                                    \
	16384 /* from here on the provider reads the caller's memory cheaper than a copy into a slot is made */

#define SLOT_HERE (256 << 10) /* a provider's own handshake for long messages is paid by slot */

static void fabric_close(void *ctx)
{
	struct fabric *f = ctx;
	bool moved = false;

	if (!f)
		return;
	if (f->name) {
		(void)fabric_drain(f, &moved); /* what is left unread would make the end of a connection a reset */
		peers_close(f);
	}
	endpoint_close(&f->e);
	for (uint32_t i = 0; i < f->nwires; i++)
		if (f->wires[i]) {
			f->wires[i]->cell.region = NULL;
			wire_free(f->wires[i]);
		}
	choices_free(&f->choices, f->fi);
	fd_close(f->queue);
	free(f->wires);
	free(f->peers);
	free(f);
}

/* ---- coming up --------------------------------------------------------------------------------------------------- */

static struct choice_rules rules_of(const struct transport_env *env)
{
	static const char *const modes[] = {"auto", "write", "message"};
	const struct params *p = env->params;
	struct choice_rules r = {.provider = p->libfabric_provider,
	                         .iface = p->iface,
	                         .loopback_only = env->loopback_only,
	                         .any = env->named,
	                         .bytes = sizeof(struct slot) + (p->slot ? (size_t)p->slot : SLOT_HERE)};

	for (int i = 0; i < 3; i++)
		if (strcmp(p->libfabric_mode, modes[i]) == 0)
			r.mode = (enum fabric_mode)i;
	return r;
}

static int fabric_open(const struct transport_env *env, void **ctx)
{
	struct fabric *f = calloc(1, sizeof(*f));
	struct choice_rules rules = rules_of(env);
	int rc;

	if (!f)
		return fail(TUTTI_ENOMEM, "out of memory");
	*ctx = f;
	f->env = env;
	f->queue = -1;
	rc = choices_worth_a_look(&rules);
	if (rc == TUTTI_OK && rules.provider && strcmp(rules.provider, "none") == 0)
		return fail(TUTTI_EUNSUPPORTED, "TUTTI_LIBFABRIC_PROVIDER=none");
	if (rc == TUTTI_OK)
		rc = fabric_load(&f->fi, env->params->libfabric_lib);
	if (rc == TUTTI_OK)
		rc = choices_find(&f->choices, f->fi, &rules);
	if (rc != TUTTI_OK && rules.provider)
		log_warn("rank %d: TUTTI_LIBFABRIC_PROVIDER=%s: %s", env->rank, rules.provider, fail_text());
	return rc;
}

static void fabric_address(void *ctx, uint8_t blob[CONTACT_BLOB])
{
	choices_write(&((struct fabric *)ctx)->choices, blob);
}

/* Without a secret all ranks are on this machine, whatever TUTTI_HOST calls it. */
static bool is_here(const void *arg, int rank)
{
	const struct transport_env *env = arg;
	const struct contact *c = env->contacts;

	return env->loopback_only || memcmp(c[rank].host_hint, c[env->rank].host_hint, sizeof(c->host_hint)) == 0;
}

static uint32_t name_here(const struct transport_env *env, const struct choice *choice)
{
	uint32_t hint = 0;

	if (choice->local && !env->loopback_only)
		memcpy(&hint, env->contacts[env->rank].host_hint, sizeof(hint));
	return (choice->name ^ hint) ? choice->name ^ hint : 1;
}

static int open_queue(struct fabric *f)
{
	const int wait_fd = f->e.wait_fd;

	f->queue = fd_keep(os_queue_open());
	if (f->queue < 0 || (wait_fd >= 0 && os_queue_watch(f->queue, wait_fd, 0, OS_READ, (uint32_t)f->env->rank) < 0))
		return fail_errno("create a queue of events");
	return TUTTI_OK;
}

static int fabric_attach(void *ctx)
{
	struct fabric *f = ctx;
	const struct transport_env *env = f->env;
	bool spin = strcmp(env->params->wait, "spin") == 0 || strcmp(env->params->wait, "yield") == 0;
	const struct choice *choice = choices_common(&f->choices, env->contacts, env->nranks, env->index, is_here, env);
	int rc = TUTTI_OK;

	f->peers = calloc((size_t)env->nranks, sizeof(*f->peers));
	if (!choice || !f->peers)
		rc = fail(TUTTI_ENOMEM, "out of memory");
	for (int r = 0; r < env->nranks && f->peers; r++)
		f->peers[r].channel.fd = -1;
	if (rc == TUTTI_OK)
		rc = endpoint_open(&f->e, f->fi, choice, env->nranks, spin);
	if (rc == TUTTI_OK)
		rc = open_queue(f);
	if (rc == TUTTI_OK)
		rc = fabric_open_credits(f);
	if (rc != TUTTI_OK)
		return rc;
	f->name = name_here(env, choice);
	log_debug("rank %d: %s, by %s", env->rank, f->e.what, f->e.mode == FABRIC_WRITE ? "remote writes" : "messages");
	return TUTTI_OK;
}

static uint64_t fabric_fabric(void *ctx)
{
	return ((struct fabric *)ctx)->name;
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

/* A number that no wire has. */
static int place_for(struct fabric *f, uint32_t *index)
{
	struct wire **more;
	uint32_t cap = f->capacity ? 2 * f->capacity : 16;

	fabric_tidy(f);
	for (*index = 0; *index < f->nwires && f->wires[*index]; ++*index)
		;
	if (*index < f->capacity)
		return TUTTI_OK;
	if (cap > WIRES_MAX)
		return fail(TUTTI_EUNSUPPORTED, "more than %u links of one rank over libfabric", WIRES_MAX);
	more = realloc(f->wires, cap * sizeof(struct wire *));
	if (!more)
		return fail(TUTTI_ENOMEM, "out of memory");
	f->wires = more;
	f->capacity = cap;
	return TUTTI_OK;
}

static uint64_t pair_of(const struct fabric *f, const struct link_spec *spec)
{
	struct link_spec pair = *spec;

	pair.outgoing = f->env->rank < spec->peer;
	return link_tag(&pair, f->env->rank);
}

static void pair_up(struct fabric *f, struct wire *w)
{
	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *m = f->wires[i];

		if (!m || m->ended || m->pair != w->pair || m->outgoing == w->outgoing)
			continue;
		m->mirror = w;
		w->mirror = m;
	}
}

static int make_wire(struct fabric *f, const struct link_spec *spec, struct wire **out)
{
	uint32_t index, nslots = spec->nslots < WIRE_SLOTS ? spec->nslots : WIRE_SLOTS;
	int rc = place_for(f, &index);

	if (rc == TUTTI_OK)
		rc = wire_create(out, &f->e, spec->peer, spec->outgoing, link_tag(spec, f->env->rank), pair_of(f, spec),
		                 spec->payload, nslots, index);
	if (rc != TUTTI_OK)
		return rc;
	(*out)->comm = spec->comm;
	(*out)->message = spec->lane < 0;
	f->wires[index] = *out;
	f->nwires = index < f->nwires ? f->nwires : index + 1;
	pair_up(f, *out);
	return TUTTI_OK;
}

/* Receives are posted before the sender hears of the slots. */
static int offer(struct fabric *f, struct wire *w)
{
	struct record r = wire_offer(&f->e, w);
	int rc = w->outgoing ? 0 : wire_arm(&f->e, w);

	if (rc != 0)
		return endpoint_fail(&f->e, "post a receive", rc);
	if (!w->outgoing && f->e.mode == FABRIC_MESSAGE && w->armed <= w->mask)
		return LINK_PENDING;
	w->offered = true;
	rc = channel_say(&f->peers[w->peer].channel, &r);
	return rc ? rc : peer_recall(f, w);
}

static bool has_left(const struct fabric *f, uint64_t comm)
{
	for (unsigned i = 0; i < LEFT_COMMS && i < f->nleft; i++)
		if (f->left[i] == comm)
			return true;
	return false;
}

int fabric_offer_rest(struct fabric *f)
{
	int rc = TUTTI_OK;

	for (uint32_t i = 0; i < f->nwires && f->unoffered && rc == TUTTI_OK; i++) {
		struct wire *w = f->wires[i];
		if (!w || w->offered || w->ended || !w->met)
			continue;
		rc = offer(f, w);
		f->unoffered -= rc == TUTTI_OK;
	}
	return rc == LINK_PENDING ? TUTTI_OK : rc;
}

/* Running out of memory is not an error yet: the receive will report it. */
int fabric_expect(struct fabric *f, int peer, const struct record *r)
{
	struct link_spec spec = {
	        .comm = r->messages, .peer = peer, .lane = -1, .payload = r->payload, .nslots = r->nslots};
	bool plausible = r->nslots && !(r->nslots & (r->nslots - 1)) && r->nslots <= WIRE_SLOTS &&
	                 r->payload <= 1u << 30 && link_tag(&spec, f->env->rank) == r->tag;
	struct wire *w;
	int rc;

	if (!plausible)
		return fail(TUTTI_EPEER, "rank %d offers a link of another kind: does it run the same version?", peer);
	if (has_left(f, r->messages) || make_wire(f, &spec, &w) != TUTTI_OK)
		return TUTTI_OK;
	rc = wire_meet(w, r, f->peers[peer].addr);
	rc = rc ? rc : offer(f, w);
	f->unoffered += rc == LINK_PENDING;
	return rc == LINK_PENDING ? TUTTI_OK : rc;
}

static void describe(struct fabric *f, struct wire *w, struct link *link)
{
	bool refers = !f->e.registers && f->e.iov >= 2;

	*link = (struct link){
	        .slots = (uint8_t *)w->ring->first,
	        .stride = w->stride,
	        .mask = w->mask,
	        .payload = w->payload,
	        .outgoing = w->outgoing,
	        .ready = true,
	        .credit = &w->ring->credit,
	        .reach = REACH_NONE,
	        .refer_any = refers ? REFER_BYTES : REFER_NEVER,
	        .refer_window = REFER_NEVER,
	        .peer = w->peer,
	        .tag = w->tag,
	        .wire = w,
	};
}

static bool is_in_use(const struct wire *w)
{
	return !w->ended;
}

static int fabric_connect(void *ctx, const struct link_spec *spec, struct net_limit limit, struct link *link)
{
	struct fabric *f = ctx;
	struct wire *w = fabric_find(f, spec->peer, link_tag(spec, f->env->rank), spec->outgoing, is_in_use);
	const struct peer *p = &f->peers[spec->peer];
	int rc = peer_greet(f, spec->peer, limit);
	bool moved = false;

	if (rc == TUTTI_OK && !w)
		rc = make_wire(f, spec, &w);
	if (rc == TUTTI_OK && !w->offered) {
		bool rest = w->met;
		rc = offer(f, w);
		f->unoffered -= rest && rc == TUTTI_OK;
	}
	if (rc == TUTTI_OK)
		rc = fabric_drain(f, &moved);
	if (rc == TUTTI_OK && !w->met) /* one that has left may have done its part before */
		rc = p->lost || p->left ? fail(TUTTI_EPEER, "rank %d %s", spec->peer, p->lost ? p->how : "has left")
		                        : LINK_PENDING;
	if (rc != TUTTI_OK)
		return rc;
	w->attached = true;
	describe(f, w, link);
	return TUTTI_OK;
}

static void end(struct fabric *f, struct wire *w)
{
	if (w->mirror)
		w->mirror->mirror = NULL;
	w->mirror = NULL;
	w->ended = true;
	f->ended++;
}

/* Ends that no link came to use: of calls that were still open, or of messages that nobody receives. */
static void fabric_left(void *ctx, uint64_t comm)
{
	struct fabric *f = ctx;

	f->left[f->nleft++ % LEFT_COMMS] = comm;
	for (uint32_t i = 0; i < f->nwires; i++) {
		struct wire *w = f->wires[i];
		if (!w || w->comm != comm || w->attached || w->ended)
			continue;
		f->unoffered -= w->met && !w->offered;
		end(f, w);
	}
	fabric_tidy(f);
}

static void fabric_disconnect(void *ctx, struct link *link)
{
	struct fabric *f = ctx;

	if (link->wire) {
		end(f, link->wire);
		fabric_tidy(f);
	}
	link->wire = NULL;
	link->ready = false;
}

static int fabric_pump_(void *ctx)
{
	return fabric_pump(ctx);
}

static int fabric_sleep_fd(void *ctx)
{
	const struct fabric *f = ctx;

	return f->e.wait_fd >= 0 ? f->queue : -1;
}

const struct transport transport_libfabric = {
        .name = "libfabric",
        .ring = {SLOT_HERE, 4},
        .what = "fabrics through libfabric: EFA, Slingshot, Omni-Path, InfiniBand; any provider that TUTTI_LIBFABRIC_PROVIDER names",
        .open = fabric_open,
        .address = fabric_address,
        .attach = fabric_attach,
        .fabric = fabric_fabric,
        .connect = fabric_connect,
        .pump = fabric_pump_,
        .sleep_fd = fabric_sleep_fd,
        .disconnect = fabric_disconnect,
        .left = fabric_left,
        .close = fabric_close,
};
