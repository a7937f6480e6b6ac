/* SPDX-License-Identifier: MIT */
/*
 * A strict imaginary RDMA device, for tests: a library that takes the place of libibverbs. Every context is a card of its
 * own; cards meet in a shared file that the variable IMAGINARY_RDMA names (without it there is no device). It is strict
 * where Soft-RoCE is not: limits hold, UC loses what finds no receive, the bytes of a WRITE are placed in any order, the
 * send queue has a place again only after a later completion was polled. It abandons the process, with words, where a
 * program breaks a rule that real libraries punish with a hang or a leak.
 *
 * The head of the file: what a test turns and reads.
 */
#ifndef TESTS_IMAGINARY_H
#define TESTS_IMAGINARY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define IMAGINARY_CARDS   64
#define IMAGINARY_QPS     512
#define IMAGINARY_RING    (96u << 10)
#define IMAGINARY_FRAME   4096u /* unit of the equal-frame rule */
#define IMAGINARY_DEVICES 3
#define IMAGINARY_CALLS   64
#define IMAGINARY_PRIVATE 56 /* bytes of private data of rdma_cm */

struct imaginary_knobs {
	bool uc_only, equal_frames, reorder;
	bool iwarp;                                 /* no immediates, no UC; connected by rdma_cm alone */
	bool no_channel;                            /* no completion channel, as on macOS */
	bool no_gid;                                /* the port has an empty table */
	int max_qp, max_mr, max_wr, max_cqe;        /* of a card; 0: plenty */
	int64_t max_pinned;                         /* bytes that a card may register; 0: any */
	_Atomic int64_t fail_at;                    /* the so many-th work request from now on fails; 0: none */
	int fail_status;                            /* enum ibv_wc_status */
	_Atomic int64_t lose_at;                    /* the so many-th message on UC is lost on the way */
	_Atomic int64_t vanish_at;                  /* with the so many-th work request its card falls silent */
	_Atomic uint32_t down[IMAGINARY_CARDS];     /* 1: the card's port is down */
	_Atomic uint32_t vanished[IMAGINARY_CARDS]; /* 1: the card neither sends nor hears */
	int devices;                                /* how many there are; 0: two */
	_Atomic uint32_t device_down[IMAGINARY_DEVICES];
	int speed[IMAGINARY_DEVICES]; /* as in active_speed; 0: 25 Gb/s a lane */
	char sysfs[64];               /* directory that stands for /sys/class/infiniband */
	bool no_gid_table;            /* an old library: entries are asked for one by one */
	int cm_strange;               /* 1: requests of rdma_cm show a wrong token; 2: answers do */
	int cm_event;                 /* enum rdma_cm_event_type: comes in place of each answer */
};

struct imaginary_counts {
	_Atomic uint64_t writes, sends, bytes;
	_Atomic uint64_t bare;      /* writes that bring bytes and no immediate */
	_Atomic uint64_t lost;      /* UC messages that found no receive */
	_Atomic uint64_t waited;    /* RC messages that had to wait for a receive: a real NIC would send a NAK */
	_Atomic uint64_t most_qps;  /* of a card at a time */
	_Atomic uint64_t most_mrs;  /* the same */
	_Atomic uint32_t cards;     /* opened so far */
	_Atomic uint64_t slept_for; /* completion events */
	_Atomic uint64_t asked;     /* questions for GIDs */
	_Atomic uint64_t sent[IMAGINARY_DEVICES]; /* bytes, by device */
};

struct imaginary_packet {
	uint32_t kind, bytes;
	uint64_t number; /* of the message */
	uint64_t at;     /* remote address of the message */
	uint32_t rkey, imm, total, offset;
	uint8_t opcode, with_imm, last, first;
	uint32_t status; /* of a refusal */
};

/** What others see of a queue pair: bytes that are on their way to it. One writer, one reader. */
struct imaginary_port {
	_Atomic uint32_t number; /* 0: free */
	_Atomic uint32_t ready;  /* it receives */
	_Atomic int32_t pid;
	uint32_t card, device;
	_Alignas(128) _Atomic uint64_t head;
	_Alignas(128) _Atomic uint64_t tail;
	_Alignas(128) uint8_t ring[IMAGINARY_RING];
};

/** A request to connect, by rdma_cm. */
struct imaginary_call {
	_Atomic uint32_t state;
	uint32_t qpn, answer_qpn;
	uint16_t port;
	uint8_t from[16], data[IMAGINARY_PRIVATE], answer[IMAGINARY_PRIVATE];
};

struct imaginary {
	struct imaginary_knobs knobs;
	struct imaginary_counts counts;
	_Atomic uint32_t generation;
	struct imaginary_call calls[IMAGINARY_CALLS];
	struct imaginary_port ports[IMAGINARY_QPS];
};

#endif
