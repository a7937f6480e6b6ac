/* SPDX-License-Identifier: MIT */
/* Between the files of the imaginary device: objects (imaginary.c), port (port.c), wire (wire.c), rdma_cm (cm.c). */
#ifndef TESTS_IMAGINARY_CARD_H
#define TESTS_IMAGINARY_CARD_H

#include <infiniband/verbs.h>
#include <pthread.h>

#include "imaginary.h"

#define CARD_MRS       4096
#define IMAGINARY_GIDS 5

struct queue {
	struct ibv_cq cq; /* first */
	struct card *card;
	struct ibv_wc *wc;
	uint32_t *slots; /* per entry: places of the send queue that polling it frees; UINT32_MAX: none */
	struct pair **of;
	uint64_t head, tail;
	bool armed, overrun;
	unsigned told, taken, acked; /* events */
};

struct channel {
	struct ibv_comp_channel channel; /* first */
	int in;                          /* where events are written */
};

struct work {
	struct ibv_send_wr wr;
	struct ibv_sge sge;
	uint8_t in_line[512];
	bool poisoned; /* its lkey is not one */
};

struct receive {
	uint64_t wr_id;
	struct ibv_sge sge;
	uint32_t nsge;
};

struct pair {
	struct ibv_qp qp; /* first */
	struct card *card;
	struct queue *cq;
	struct imaginary_port *port, *peer;
	uint32_t dest, peer_number;
	enum ibv_qp_state state;
	uint32_t nwork, nreceives, inline_max;
	struct work *work;
	uint64_t posted, sent, done, freed; /* of work */
	uint32_t offset;                    /* bytes of message `sent` that are out */
	struct receive *receives;
	uint64_t rposted, rdone;
	uint64_t heard;       /* messages that have come whole */
	uint64_t acknowledge; /* of them, those that the peer knows */
	uint32_t refuse;      /* a status that the peer must be told; 0: none */
	bool dropping, waiting, skipping;
	uint64_t silent_since;
	uint64_t patience_ns;
	struct pair *next;
};

struct card {
	struct verbs_context verbs; /* its context is what users see */
	struct imaginary *sea;
	pthread_mutex_t lock;
	pthread_t thread;
	bool stop, was_down;
	bool by_itself; /* it moves now because nobody has called */
	uint32_t number, device;
	struct pair *pairs;
	struct ibv_mr *mrs[CARD_MRS];
	int nqps, nmrs, npds, ncqs, nchannels;
	int64_t pinned;
	int async[2];
	struct card *next; /* of this process */
};

static inline struct card *card_of(struct ibv_context *c)
{
	return (struct card *)(void *)((uint8_t *)c - offsetof(struct card, verbs.context));
}

static inline int or_plenty(int knob, int plenty)
{
	return knob ? knob : plenty;
}

static inline bool card_is_down(const struct card *c)
{
	return atomic_load(&c->sea->knobs.down[c->number]) || atomic_load(&c->sea->knobs.device_down[c->device]);
}

/* imaginary.c */
struct imaginary *imaginary_sea(void);
struct ibv_device *imaginary_device(int index);
/** Connects a queue pair of this process with another, as a kernel does for iWARP. */
void pair_join(uint32_t number, uint32_t other);

/* wire.c; the card's lock is held */
bool card_move(struct card *c);
void card_look(struct card *c); /* port and its events */
void pair_error(struct pair *q);
void complete(struct pair *q, bool sent, uint64_t number, enum ibv_wc_status status, const struct ibv_wc *more);
bool covers(const struct card *c, uint32_t key, uint64_t at, uint64_t bytes, int access);
_Noreturn void broken_rule(const char *what);

#endif
