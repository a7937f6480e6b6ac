/* SPDX-License-Identifier: MIT */
/* The objects and calls of the imaginary device; see imaginary.h. */
#include "card.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT  __attribute__((visibility("default")))
#define TICK_US 300 /* a card that nobody calls moves by itself so often */

static struct imaginary *sea;

static void find_sea(void)
{
	const char *path = getenv("IMAGINARY_RDMA");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *p = MAP_FAILED;
	if (fd >= 0 && ftruncate(fd, sizeof(*sea)) == 0)
		p = mmap(NULL, sizeof(*sea), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	sea = p == MAP_FAILED ? NULL : p;
}

struct imaginary *imaginary_sea(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, find_sea);
	return sea;
}

static void raise_to(_Atomic uint64_t *most, int n)
{
	uint64_t was = atomic_load(most);
	while (was < (uint64_t)n && !atomic_compare_exchange_weak(most, &was, (uint64_t)n))
		;
}

/* ---- device ------------------------------------------------------------------------------------------------------ */

static struct ibv_device devices[IMAGINARY_DEVICES];

struct ibv_device *imaginary_device(int index)
{
	return &devices[index];
}

/* Others may be reading it: written only when it is another. */
static struct ibv_device *named_device(int i)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool iwarp = sea->knobs.iwarp;
	struct ibv_device d = {.node_type = iwarp ? IBV_NODE_RNIC : IBV_NODE_CA,
	                       .transport_type = iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB};
	snprintf(d.name, sizeof(d.name), "imaginary%d", i);
	snprintf(d.ibdev_path, sizeof(d.ibdev_path), "%s/%s", sea->knobs.sysfs, d.name);
	pthread_mutex_lock(&lock);
	if (strcmp(devices[i].ibdev_path, d.ibdev_path) != 0 || devices[i].node_type != d.node_type)
		devices[i] = d;
	pthread_mutex_unlock(&lock);
	return &devices[i];
}

EXPORT struct ibv_device **ibv_get_device_list(int *n)
{
	struct ibv_device **list = calloc(IMAGINARY_DEVICES + 1, sizeof(struct ibv_device *));
	const struct imaginary *s = imaginary_sea();
	int count = list && s ? or_plenty(s->knobs.devices, 2) : 0;
	for (int i = 0; i < count; i++)
		list[i] = named_device(i);
	if (n)
		*n = count;
	return list;
}

EXPORT void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

EXPORT const char *ibv_get_device_name(struct ibv_device *d)
{
	return d->name;
}

static void *run_card(void *arg)
{
	struct card *c = arg;
	for (bool stop = false; !stop;) {
		usleep(TICK_US);
		pthread_mutex_lock(&c->lock);
		card_look(c);
		c->by_itself = true;
		while (card_move(c))
			;
		c->by_itself = false;
		stop = c->stop;
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static struct card *cards;
static pthread_mutex_t cards_lock = PTHREAD_MUTEX_INITIALIZER;

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
static int req_notify_cq(struct ibv_cq *cq, int solicited_only);
static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

EXPORT struct ibv_context *ibv_open_device(struct ibv_device *d)
{
	struct card *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->sea = imaginary_sea();
	c->number = atomic_fetch_add(&c->sea->counts.cards, 1) % IMAGINARY_CARDS;
	c->device = (uint32_t)(d - devices);
	pthread_mutex_init(&c->lock, NULL);
	if (pipe2(c->async, O_CLOEXEC) != 0 || pthread_create(&c->thread, NULL, run_card, c) != 0) {
		free(c);
		return NULL;
	}
	struct ibv_context *ctx = &c->verbs.context;
	ctx->device = d;
	ctx->async_fd = c->async[0];
	ctx->ops.poll_cq = poll_cq;
	ctx->ops.req_notify_cq = req_notify_cq;
	ctx->ops.post_send = post_send;
	ctx->ops.post_recv = post_recv;
	pthread_mutex_lock(&cards_lock);
	c->next = cards;
	cards = c;
	pthread_mutex_unlock(&cards_lock);
	return ctx;
}

EXPORT int ibv_close_device(struct ibv_context *ctx)
{
	struct card *c = card_of(ctx);
	if (c->nqps || c->nmrs || c->npds || c->ncqs || c->nchannels)
		broken_rule("it is closed while there are objects of it");
	pthread_mutex_lock(&cards_lock);
	for (struct card **at = &cards; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	pthread_mutex_unlock(&cards_lock);
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	close(c->async[0]);
	close(c->async[1]);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return 0;
}

EXPORT int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *a)
{
	const struct imaginary_knobs *k = &card_of(ctx)->sea->knobs;
	*a = (struct ibv_device_attr){.max_qp = or_plenty(k->max_qp, 1000),
	                              .max_qp_wr = or_plenty(k->max_wr, 4095),
	                              .max_sge = 1,
	                              .max_cq = 16,
	                              .max_cqe = or_plenty(k->max_cqe, 65536),
	                              .max_mr = or_plenty(k->max_mr, 1000),
	                              .max_pd = 11,
	                              .phys_port_cnt = 1};
	return 0;
}

/* ---- domains and memory ------------------------------------------------------------------------------------------ */

EXPORT struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));
	if (pd) {
		pd->context = ctx;
		card_of(ctx)->npds++;
	}
	return pd;
}

EXPORT int ibv_dealloc_pd(struct ibv_pd *pd)
{
	if (card_of(pd->context)->nmrs || card_of(pd->context)->nqps)
		broken_rule("a protection domain ends before what is in it");
	card_of(pd->context)->npds--;
	free(pd);
	return 0;
}

#undef ibv_reg_mr
EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct card *c = card_of(pd->context);
	const struct imaginary_knobs *k = &c->sea->knobs;
	struct ibv_mr *mr = calloc(1, sizeof(*mr));
	uint32_t key = 1;
	pthread_mutex_lock(&c->lock);
	while (key < CARD_MRS && c->mrs[key])
		key++;
	if (!mr || key == CARD_MRS || c->nmrs == or_plenty(k->max_mr, 1000) ||
	    (k->max_pinned && c->pinned + (int64_t)length > k->max_pinned)) {
		pthread_mutex_unlock(&c->lock);
		free(mr);
		errno = ENOMEM;
		return NULL;
	}
	*mr = (struct ibv_mr){.context = pd->context,
	                      .pd = pd,
	                      .addr = addr,
	                      .length = length,
	                      .handle = (uint32_t)access,
	                      .lkey = key,
	                      .rkey = key};
	c->mrs[key] = mr;
	c->pinned += (int64_t)length;
	raise_to(&c->sea->counts.most_mrs, ++c->nmrs);
	pthread_mutex_unlock(&c->lock);
	return mr;
}

EXPORT int ibv_dereg_mr(struct ibv_mr *mr)
{
	struct card *c = card_of(mr->context);
	pthread_mutex_lock(&c->lock);
	c->mrs[mr->lkey] = NULL;
	c->pinned -= (int64_t)mr->length;
	c->nmrs--;
	pthread_mutex_unlock(&c->lock);
	free(mr);
	return 0;
}

/* ---- completion queues ------------------------------------------------------------------------------------------- */

EXPORT struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	struct channel *ch = card_of(ctx)->sea->knobs.no_channel ? NULL : calloc(1, sizeof(*ch));
	int ends[2];
	if (!ch || pipe2(ends, O_CLOEXEC) != 0) {
		free(ch);
		errno = EOPNOTSUPP;
		return NULL;
	}
	ch->channel.context = ctx;
	ch->channel.fd = ends[0];
	ch->in = ends[1];
	card_of(ctx)->nchannels++;
	return &ch->channel;
}

EXPORT int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	struct channel *ch = (struct channel *)channel;
	if (card_of(channel->context)->ncqs)
		broken_rule("a completion channel ends before its queue");
	card_of(channel->context)->nchannels--;
	close(channel->fd);
	close(ch->in);
	free(ch);
	return 0;
}

EXPORT struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *cq_context, struct ibv_comp_channel *ch,
                                    int vector)
{
	struct card *c = card_of(ctx);
	struct queue *q = calloc(1, sizeof(*q));
	(void)vector;
	if (!q || cqe < 1 || cqe > or_plenty(c->sea->knobs.max_cqe, 65536)) {
		free(q);
		errno = EINVAL;
		return NULL;
	}
	q->cq = (struct ibv_cq){.context = ctx, .channel = ch, .cq_context = cq_context, .cqe = cqe};
	q->card = c;
	q->wc = calloc((size_t)cqe, sizeof(*q->wc));
	q->slots = calloc((size_t)cqe, sizeof(*q->slots));
	q->of = calloc((size_t)cqe, sizeof(struct pair *));
	c->ncqs++;
	return &q->cq;
}

EXPORT int ibv_destroy_cq(struct ibv_cq *cq)
{
	struct queue *q = (struct queue *)cq;
	for (struct pair *p = q->card->pairs; p; p = p->next)
		if (p->cq == q)
			return EBUSY;
	if (q->acked != q->taken)
		broken_rule(
		        "a completion queue ends with events that nobody acknowledged: a real library waits for ever");
	q->card->ncqs--;
	free(q->wc);
	free(q->slots);
	free(q->of);
	free(q);
	return 0;
}

EXPORT int ibv_get_cq_event(struct ibv_comp_channel *ch, struct ibv_cq **cq, void **cq_context)
{
	ssize_t n = read(ch->fd, cq, sizeof(*cq));
	if (n != (ssize_t)sizeof(*cq))
		return -1;
	*cq_context = (*cq)->cq_context;
	((struct queue *)*cq)->taken++;
	return 0;
}

EXPORT void ibv_ack_cq_events(struct ibv_cq *cq, unsigned n)
{
	((struct queue *)cq)->acked += n;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	struct queue *q = (struct queue *)cq;
	(void)solicited_only;
	pthread_mutex_lock(&q->card->lock);
	q->armed = true;
	pthread_mutex_unlock(&q->card->lock);
	return 0;
}

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	struct queue *q = (struct queue *)cq;
	int got = 0;
	pthread_mutex_lock(&q->card->lock);
	if (q->head == q->tail)
		(void)card_move(q->card);
	for (; got < n && q->tail < q->head; q->tail++) {
		uint64_t at = q->tail % (uint64_t)q->cq.cqe;
		struct pair *p = q->of[at];
		wc[got++] = q->wc[at];
		if (p && q->slots[at] != UINT32_MAX)
			p->freed += (uint32_t)(q->slots[at] + 1 - (uint32_t)p->freed);
	}
	if (q->overrun)
		got = -1;
	pthread_mutex_unlock(&q->card->lock);
	return got;
}

/* ---- queue pairs ------------------------------------------------------------------------------------------------- */

static struct imaginary_port *take_port(struct card *c, uint32_t *number)
{
	uint32_t generation = atomic_fetch_add(&c->sea->generation, 1) + 1;
	for (uint32_t i = 0; i < IMAGINARY_QPS; i++) {
		struct imaginary_port *p = &c->sea->ports[i];
		uint32_t free_ = 0;
		*number = (generation << 10 | i) & 0xffffff;
		if (!atomic_compare_exchange_strong(&p->number, &free_, *number))
			continue;
		atomic_store(&p->pid, getpid());
		p->card = c->number;
		p->device = c->device;
		atomic_store(&p->head, 0);
		atomic_store(&p->tail, 0);
		return p;
	}
	return NULL;
}

static bool too_many(const struct card *c, const struct ibv_qp_init_attr *a)
{
	const struct imaginary_knobs *k = &c->sea->knobs;
	uint32_t wr = (uint32_t)or_plenty(k->max_wr, 4095);
	return c->nqps >= or_plenty(k->max_qp, 1000) || a->cap.max_send_wr > wr || a->cap.max_recv_wr > wr ||
	       a->cap.max_send_sge > 1 || a->cap.max_recv_sge > 1 || a->cap.max_inline_data > 220;
}

EXPORT struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a)
{
	struct card *c = card_of(pd->context);
	struct pair *q;
	uint32_t number;
	if (a->qp_type == IBV_QPT_UC ? c->sea->knobs.iwarp : a->qp_type != IBV_QPT_RC || c->sea->knobs.uc_only) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	if (too_many(c, a)) {
		errno = ENOMEM;
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	q->port = take_port(c, &number);
	if (!q->port) {
		free(q);
		errno = ENOMEM;
		return NULL;
	}
	q->qp = (struct ibv_qp){.context = pd->context,
	                        .pd = pd,
	                        .send_cq = a->send_cq,
	                        .recv_cq = a->recv_cq,
	                        .qp_num = number,
	                        .qp_type = a->qp_type};
	q->card = c;
	q->cq = (struct queue *)a->send_cq;
	q->nwork = a->cap.max_send_wr;
	q->nreceives = a->cap.max_recv_wr;
	q->inline_max = a->cap.max_inline_data;
	q->work = calloc(q->nwork, sizeof(*q->work));
	q->receives = calloc(q->nreceives, sizeof(*q->receives));
	pthread_mutex_lock(&c->lock);
	q->next = c->pairs;
	c->pairs = q;
	raise_to(&c->sea->counts.most_qps, ++c->nqps);
	pthread_mutex_unlock(&c->lock);
	return &q->qp;
}

EXPORT int ibv_destroy_qp(struct ibv_qp *qp)
{
	struct pair *q = (struct pair *)qp;
	struct card *c = q->card;
	pthread_mutex_lock(&c->lock);
	for (struct pair **at = &c->pairs; *at; at = &(*at)->next)
		if (*at == q) {
			*at = q->next;
			break;
		}
	for (uint64_t i = q->cq->tail; i < q->cq->head; i++) /* its completions stay, its places do not */
		if (q->cq->of[i % (uint64_t)q->cq->cq.cqe] == q)
			q->cq->of[i % (uint64_t)q->cq->cq.cqe] = NULL;
	c->nqps--;
	atomic_store(&q->port->ready, 0);
	atomic_store(&q->port->number, 0);
	pthread_mutex_unlock(&c->lock);
	free(q->work);
	free(q->receives);
	free(q);
	return 0;
}

static int to_rtr(struct pair *q, const struct ibv_qp_attr *a, int mask)
{
	int want = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (q->qp.qp_type == IBV_QPT_RC)
		want |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	if (q->state != IBV_QPS_INIT || mask != (want | IBV_QP_STATE) || !a->ah_attr.is_global ||
	    a->ah_attr.grh.sgid_index >= IMAGINARY_GIDS)
		return EINVAL;
	q->dest = a->dest_qp_num;
	q->peer = &q->card->sea->ports[q->dest & 1023];
	if (atomic_load(&q->peer->number) != q->dest || q->peer->card + 1 != a->ah_attr.grh.dgid.raw[15])
		return ETIMEDOUT;
	return 0;
}

static int to_rts(struct pair *q, const struct ibv_qp_attr *a, int mask)
{
	int want = IBV_QP_SQ_PSN | IBV_QP_STATE;
	if (q->qp.qp_type == IBV_QPT_RC)
		want |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	if (q->state != IBV_QPS_RTR || mask != want)
		return EINVAL;
	q->patience_ns = (UINT64_C(4096) << a->timeout) * (a->retry_cnt + 1u);
	return 0;
}

void pair_join(uint32_t number, uint32_t other)
{
	struct imaginary_port *port = &sea->ports[number & 1023];
	struct pair *q = NULL;
	pthread_mutex_lock(&cards_lock);
	for (struct card *c = cards; c && !q; c = c->next) {
		pthread_mutex_lock(&c->lock);
		for (q = c->pairs; q && q->port != port;)
			q = q->next;
		if (q && q->state == IBV_QPS_INIT) {
			q->dest = other;
			q->peer = &sea->ports[other & 1023];
			q->patience_ns = UINT64_C(4000000000);
			q->state = IBV_QPS_RTS;
			atomic_store(&port->ready, 1);
		}
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&cards_lock);
}

EXPORT int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *a, int mask)
{
	struct pair *q = (struct pair *)qp;
	int rc = 0;
	pthread_mutex_lock(&q->card->lock);
	switch (a->qp_state) {
	case IBV_QPS_INIT:
		rc = q->state == IBV_QPS_RESET && a->port_num == 1 && a->pkey_index == 0 ? 0 : EINVAL;
		break;
	case IBV_QPS_RTR:
		rc = q->card->sea->knobs.iwarp ? EINVAL : to_rtr(q, a, mask);
		break;
	case IBV_QPS_RTS:
		rc = q->card->sea->knobs.iwarp ? EINVAL : to_rts(q, a, mask);
		break;
	case IBV_QPS_ERR:
		pair_error(q);
		break;
	default:
		rc = EINVAL;
	}
	if (!rc && a->qp_state != IBV_QPS_ERR)
		q->state = a->qp_state;
	if (!rc && a->qp_state == IBV_QPS_RTR)
		atomic_store(&q->port->ready, 1);
	pthread_mutex_unlock(&q->card->lock);
	return rc;
}

static int post_one(struct pair *q, const struct ibv_send_wr *wr)
{
	struct work *w = &q->work[q->posted % q->nwork];
	uint32_t bytes = wr->num_sge ? wr->sg_list[0].length : 0;
	bool uc = q->qp.qp_type == IBV_QPT_UC;
	if (q->state != IBV_QPS_RTS && q->state != IBV_QPS_ERR)
		return EINVAL;
	if (q->posted - q->freed == q->nwork)
		return ENOMEM;
	if (wr->num_sge > 1 || wr->next || (wr->send_flags & IBV_SEND_INLINE && bytes > q->inline_max) ||
	    (uc && q->card->sea->knobs.uc_only && wr->opcode != IBV_WR_SEND) ||
	    (q->card->sea->knobs.iwarp && wr->opcode != IBV_WR_SEND && wr->opcode != IBV_WR_RDMA_WRITE))
		return EINVAL;
	w->wr = *wr;
	w->poisoned = false;
	if (wr->num_sge)
		w->sge = wr->sg_list[0];
	if (wr->send_flags & IBV_SEND_INLINE)
		memcpy(w->in_line, (void *)(uintptr_t)w->sge.addr, bytes);
	else if (bytes)
		w->poisoned = !covers(q->card, w->sge.lkey, w->sge.addr, bytes, 0);
	q->posted++;
	if (q->state == IBV_QPS_ERR) {
		complete(q, true, q->done++, IBV_WC_WR_FLUSH_ERR, NULL);
		q->sent = q->done;
	}
	return 0;
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct pair *q = (struct pair *)qp;
	int rc;
	pthread_mutex_lock(&q->card->lock);
	rc = post_one(q, wr);
	if (rc)
		*bad = wr;
	(void)card_move(q->card);
	pthread_mutex_unlock(&q->card->lock);
	return rc;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct pair *q = (struct pair *)qp;
	int rc = 0;
	pthread_mutex_lock(&q->card->lock);
	if (q->state == IBV_QPS_RESET || wr->num_sge > 1 || wr->next)
		rc = EINVAL;
	else if (q->rposted - q->rdone == q->nreceives)
		rc = ENOMEM;
	if (rc) {
		*bad = wr;
	} else {
		q->receives[q->rposted++ % q->nreceives] = (struct receive){
		        wr->wr_id, wr->num_sge ? wr->sg_list[0] : (struct ibv_sge){0}, (uint32_t)wr->num_sge};
		if (q->state == IBV_QPS_ERR)
			complete(q, false, q->rdone++, IBV_WC_WR_FLUSH_ERR, NULL);
	}
	pthread_mutex_unlock(&q->card->lock);
	return rc;
}

/* ---- events and words -------------------------------------------------------------------------------------------- */

EXPORT int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *e)
{
	return read(ctx->async_fd, e, sizeof(*e)) == (ssize_t)sizeof(*e) ? 0 : -1;
}

EXPORT void ibv_ack_async_event(struct ibv_async_event *e)
{
	(void)e;
}

EXPORT const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	return status == IBV_WC_RETRY_EXC_ERR       ? "transport retry counter exceeded"
	       : status == IBV_WC_RNR_RETRY_EXC_ERR ? "RNR retry counter exceeded"
	       : status == IBV_WC_LOC_LEN_ERR       ? "local length error"
	       : status == IBV_WC_REM_ACCESS_ERR    ? "remote access error"
	       : status == IBV_WC_WR_FLUSH_ERR      ? "Work Request Flushed Error"
	                                            : "an error";
}

EXPORT const char *ibv_event_type_str(enum ibv_event_type event)
{
	return event == IBV_EVENT_PORT_ERR      ? "port error"
	       : event == IBV_EVENT_PORT_ACTIVE ? "port active"
	       : event == IBV_EVENT_CQ_ERR      ? "CQ error"
	                                        : "an event";
}
