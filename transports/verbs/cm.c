/* SPDX-License-Identifier: MIT */
/* See cm.h. */
#include "cm.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "port.h"
#include "qp.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>

#define CM_LIB "librdmacm.so.1"
#define STEP_MS                                                                                                        \
	5000 /* for finding an address, and a route; the connection itself has rdma_cm's own bound, about a minute */
#define BACKLOG 1024

/* X(result, name without "rdma_", arguments) */
#define CM_CALLS(X)                                                                                                    \
	X(struct rdma_event_channel *, create_event_channel, (void))                                                   \
	X(void, destroy_event_channel, (struct rdma_event_channel *))                                                  \
	X(int, create_id, (struct rdma_event_channel *, struct rdma_cm_id **, void *context, enum rdma_port_space))    \
	X(int, destroy_id, (struct rdma_cm_id *))                                                                      \
	X(int, bind_addr, (struct rdma_cm_id *, struct sockaddr *))                                                    \
	X(int, listen, (struct rdma_cm_id *, int backlog))                                                             \
	X(__be16, get_src_port, (struct rdma_cm_id *))                                                                 \
	X(int, resolve_addr, (struct rdma_cm_id *, struct sockaddr * from, struct sockaddr * to, int ms))              \
	X(int, resolve_route, (struct rdma_cm_id *, int ms))                                                           \
	X(int, connect, (struct rdma_cm_id *, struct rdma_conn_param *))                                               \
	X(int, establish, (struct rdma_cm_id *))                                                                       \
	X(int, accept, (struct rdma_cm_id *, struct rdma_conn_param *))                                                \
	X(int, reject, (struct rdma_cm_id *, const void *, uint8_t bytes))                                             \
	X(int, init_qp_attr, (struct rdma_cm_id *, struct ibv_qp_attr *, int *mask))                                   \
	X(int, get_cm_event, (struct rdma_event_channel *, struct rdma_cm_event **))                                   \
	X(int, ack_cm_event, (struct rdma_cm_event *))                                                                 \
	X(const char *, event_str, (enum rdma_cm_event_type))

struct cm {
	struct device *device;
	void *handle; /* NULL: the calls are in the library of the verbs */
#define CM_FIELD(result, name, args) result(*name) args;
	CM_CALLS(CM_FIELD)
#undef CM_FIELD
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener;
	struct cm_place place;
	struct pair *expected; /* whose peers are to connect to us */
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static union address address_of(const struct cm_place *place)
{
	union address a;

	memset(&a, 0, sizeof(a));
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)place->address)) {
		a.v4.sin_family = AF_INET;
		a.v4.sin_port = place->port;
		memcpy(&a.v4.sin_addr, place->address + 12, 4);
	} else {
		a.v6.sin6_family = AF_INET6;
		a.v6.sin6_port = place->port;
		memcpy(&a.v6.sin6_addr, place->address, 16);
	}
	return a;
}

static void place_at(struct cm_place *place, const struct sockaddr *sa)
{
	memset(place->address, 0, sizeof(place->address));
	if (sa->sa_family == AF_INET6) {
		memcpy(place->address, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	} else {
		place->address[10] = place->address[11] = 0xff;
		memcpy(place->address + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	}
}

static const char *address_text(const struct cm_place *place, char buf[INET6_ADDRSTRLEN])
{
	bool v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)place->address);

	inet_ntop(v4 ? AF_INET : AF_INET6, place->address + (v4 ? 12 : 0), buf, INET6_ADDRSTRLEN);
	return buf;
}

/* Listens where cm->place says, if that address is one of our device's port. */
static bool listen_here(struct cm *cm)
{
	const struct device *d = cm->device;
	union address a = address_of(&cm->place);
	struct rdma_cm_id *id = NULL;

	if (cm->create_id(cm->channel, &id, NULL, RDMA_PS_TCP) != 0)
		return false;
	if (cm->bind_addr(id, &a.any) == 0 && id->verbs && id->port_num == d->port &&
	    strcmp(d->lib.get_device_name(id->verbs->device), d->lib.get_device_name(d->context->device)) == 0 &&
	    cm->listen(id, BACKLOG) == 0) {
		cm->listener = id;
		cm->place.port = cm->get_src_port(id);
		return true;
	}
	cm->destroy_id(id);
	return false;
}

/* The GID is an address, on RoCE; else rdma_cm knows which of this machine's addresses are the device's. */
static int find_address(struct cm *cm)
{
	const struct device *d = cm->device;
	struct ifaddrs *all = NULL;

	if (d->has_gid && d->attr.link_layer == IBV_LINK_LAYER_ETHERNET && !gid_is_link_local(&d->gid)) {
		memcpy(cm->place.address, d->gid.raw, 16);
		if (listen_here(cm))
			return TUTTI_OK;
	}
	if (getifaddrs(&all) != 0)
		return fail_errno("list this machine's addresses");
	for (struct ifaddrs *i = all; i && !cm->listener; i = i->ifa_next) {
		int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
		if (i->ifa_flags & IFF_LOOPBACK || (family != AF_INET && family != AF_INET6))
			continue;
		place_at(&cm->place, i->ifa_addr);
		if (family == AF_INET || !IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)cm->place.address))
			(void)listen_here(cm);
	}
	freeifaddrs(all);
	return cm->listener ? TUTTI_OK
	                    : fail(TUTTI_EUNSUPPORTED,
	                           "rdma_cm finds no IP address of this device: give its network interface one");
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int load(struct cm *cm)
{
	void *from = cm->device->lib.handle;
	const char *missing = NULL;

	if (!dlsym(from, "rdma_create_id")) {
		from = cm->handle = dlopen(CM_LIB, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
		if (!from)
			return fail(TUTTI_EUNSUPPORTED, CM_LIB " cannot be loaded (%s): install librdmacm1", dlerror());
	}
#define FIND(result, call, args)                                                                                       \
	if (!lib_find(from, "rdma_" #call, &cm->call))                                                                 \
		missing = "rdma_" #call;
	CM_CALLS(FIND)
#undef FIND
	return missing ? fail(TUTTI_EUNSUPPORTED, CM_LIB " has no %s: it is too old", missing) : TUTTI_OK;
}

int cm_open(struct cm **out, struct device *d)
{
	struct cm *cm = calloc(1, sizeof(*cm));
	int rc;

	*out = cm;
	if (!cm)
		return fail(TUTTI_ENOMEM, "out of memory");
	cm->device = d;
	rc = load(cm);
	if (rc != TUTTI_OK)
		return rc;
	cm->channel = cm->create_event_channel();
	if (!cm->channel)
		return fail_errno("open rdma_cm (is /dev/infiniband/rdma_cm there? modprobe rdma_ucm)");
	if (fcntl(cm->channel->fd, F_SETFL, O_NONBLOCK) < 0)
		return fail_errno("set up rdma_cm's events");
	return find_address(cm);
}

void cm_close(struct cm *cm)
{
	if (cm->listener)
		cm->destroy_id(cm->listener);
	if (cm->channel)
		cm->destroy_event_channel(cm->channel);
	if (cm->handle)
		dlclose(cm->handle);
	free(cm);
}

int cm_fd(const struct cm *cm)
{
	return cm->channel->fd;
}

/* ---- connecting -------------------------------------------------------------------------------------------------- */

struct cm_place cm_expect(struct cm *cm, struct pair *p)
{
	p->place = cm->place;
	auth_random(p->place.ask, CM_TOKEN);
	auth_random(p->place.answer, CM_TOKEN);
	p->next_expected = cm->expected;
	cm->expected = p;
	return p->place;
}

static void expect_no_more(struct cm *cm, struct pair *p)
{
	for (struct pair **at = &cm->expected; *at; at = &(*at)->next_expected)
		if (*at == p) {
			*at = p->next_expected;
			return;
		}
}

void cm_forget(struct cm *cm, struct pair *p)
{
	expect_no_more(cm, p);
	if (p->cm_id)
		cm->destroy_id(p->cm_id);
	p->cm_id = NULL;
}

static int in_vain(const struct cm *cm, const struct pair *p, const char *what)
{
	char text[INET6_ADDRSTRLEN];

	return fail_errno("%s: rdma_cm: %s rank %d (the listener is at %s)", cm->device->name, what, p->peer,
	                  address_text(&p->place, text));
}

int cm_connect(struct cm *cm, struct pair *p, const struct cm_place *place)
{
	struct cm_place any_port = cm->place;
	union address from, to = address_of(place);

	any_port.port = 0;
	from = address_of(&any_port);
	expect_no_more(cm, p); /* it is we who connect */
	p->place = *place;
	if (cm->create_id(cm->channel, &p->cm_id, p, RDMA_PS_TCP) != 0 ||
	    cm->resolve_addr(p->cm_id, &from.any, &to.any, STEP_MS) != 0)
		return in_vain(cm, p, "look for");
	return TUTTI_OK;
}

static struct rdma_conn_param terms_of(const struct pair *p, const uint8_t *token)
{
	const struct verbs_knobs *k = &p->device->knobs;

	return (struct rdma_conn_param){.private_data = token,
	                                .private_data_len = CM_TOKEN,
	                                .retry_count = (uint8_t)k->retry,
	                                .rnr_retry_count = (uint8_t)k->rnr,
	                                .qp_num = p->qp->qp_num};
}

static bool shows(const struct rdma_cm_event *e, const uint8_t *token)
{
	const struct rdma_conn_param *c = &e->param.conn;

	return c->private_data && c->private_data_len >= CM_TOKEN && auth_equal(c->private_data, token);
}

/* With iWARP the kernel does this. */
static int bring_up(struct cm *cm, struct pair *p)
{
	static const enum ibv_qp_state states[] = {IBV_QPS_RTR, IBV_QPS_RTS};

	for (int i = 0; i < 2 && !p->device->iwarp; i++) {
		struct ibv_qp_attr attr = {.qp_state = states[i]};
		int mask = 0;
		if (cm->init_qp_attr(p->cm_id, &attr, &mask) != 0 || qp_set(p, &attr, mask) != 0)
			return in_vain(cm, p, "connect a queue pair with");
	}
	return TUTTI_OK;
}

static void requested(struct cm *cm, struct rdma_cm_event *e)
{
	struct pair *p = cm->expected;
	struct rdma_conn_param terms;
	int rc;

	while (p && !shows(e, p->place.ask))
		p = p->next_expected;
	if (!p) {
		log_warn("%s: refused a connection request without a token of this world", cm->device->name);
		(void)cm->reject(e->id, NULL, 0);
		cm->destroy_id(e->id);
		return;
	}
	expect_no_more(cm, p);
	p->cm_id = e->id;
	p->cm_id->context = p;
	terms = terms_of(p, p->place.answer);
	rc = bring_up(cm, p);
	if (rc == TUTTI_OK && cm->accept(p->cm_id, &terms) != 0)
		rc = in_vain(cm, p, "accept the connection of");
	if (rc != TUTTI_OK)
		pair_break(p);
}

/* Whom we have asked has answered. */
static int answered(struct cm *cm, struct pair *p, const struct rdma_cm_event *e)
{
	int rc;

	if (!shows(e, p->place.answer))
		return fail(TUTTI_EPEER, "%s: a process other than rank %d answered over rdma_cm", cm->device->name,
		            p->peer);
	if (e->event == RDMA_CM_EVENT_ESTABLISHED)
		return TUTTI_OK;
	rc = bring_up(cm, p);
	if (rc == TUTTI_OK && cm->establish(p->cm_id) != 0)
		rc = in_vain(cm, p, "connect to");
	return rc;
}

static int went_wrong(const struct cm *cm, const struct pair *p, const struct rdma_cm_event *e)
{
	char text[INET6_ADDRSTRLEN];

	return fail(
	        TUTTI_EPEER,
	        "%s: rdma_cm can't connect to rank %d at %s: %s (status %d); can this device's address ping that one? Or set TUTTI_VERBS_CONNECT=exchange",
	        cm->device->name, p->peer, address_text(&p->place, text), cm->event_str(e->event), e->status);
}

static void happened(struct cm *cm, struct rdma_cm_event *e)
{
	struct pair *p = e->id->context;
	struct rdma_conn_param terms;
	bool joined = false;
	int rc = TUTTI_OK;

	switch (e->event) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		requested(cm, e);
		return;
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		rc = cm->resolve_route(e->id, STEP_MS) == 0 ? TUTTI_OK : in_vain(cm, p, "find a route to");
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		terms = terms_of(p, p->place.ask);
		rc = cm->connect(e->id, &terms) == 0 ? TUTTI_OK : in_vain(cm, p, "connect to");
		break;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
	case RDMA_CM_EVENT_ESTABLISHED: /* also: the peer has heard that we accepted */
		rc = p->env->rank < p->peer ? answered(cm, p, e) : TUTTI_OK;
		joined = rc == TUTTI_OK;
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		rc = went_wrong(cm, p, e);
		break;
	default: /* how a connection ends, its socket and its completions say */
		log_debug("%s: %s", cm->device->name, cm->event_str(e->event));
	}
	if (rc != TUTTI_OK)
		pair_break(p);
	else if (joined)
		pair_joined(p);
}

/* An event is acknowledged before anything is done: an id that has others can't be destroyed. */
void cm_look(struct cm *cm)
{
	struct rdma_cm_event *e;

	while (cm->get_cm_event(cm->channel, &e) == 0) {
		struct rdma_cm_event copy = *e;
		uint8_t token[CM_TOKEN];
		if (e->param.conn.private_data && e->param.conn.private_data_len >= CM_TOKEN)
			copy.param.conn.private_data = memcpy(token, e->param.conn.private_data, CM_TOKEN);
		else
			copy.param.conn.private_data = NULL;
		cm->ack_cm_event(e);
		happened(cm, &copy);
	}
}
