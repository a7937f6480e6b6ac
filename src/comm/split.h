/* SPDX-License-Identifier: MIT */
/* Communicators made of others: tutti_comm_split, tutti_comm_shrink. */
#ifndef TUTTI_SPLIT_H
#define TUTTI_SPLIT_H

struct tutti_comm;

int comm_split(struct tutti_comm *c, int color, int key, struct tutti_comm **out);
int comm_shrink(struct tutti_comm *c, struct tutti_comm **out);

#endif
