/* SPDX-License-Identifier: MIT */
/*
 * The rendezvous: rank 0's listener for the others, and how they get to it. Without a secret it is a local socket named
 * after the user and the port, at which the kernel tells each side the other's user: a process of another user at the
 * port, or at the name, is not accepted.
 */
#ifndef TUTTI_RENDEZVOUS_H
#define TUTTI_RENDEZVOUS_H

#include "bootstrap.h"
#include "door.h"

/** Rank 0: has its door serve the rendezvous. root->listen_fd stays the caller's. */
int rendezvous_open(const struct rendezvous *root, struct door *door, const struct auth_key *key,
                    struct net_limit limit);
/**
 * The others: dials rank 0, again and again while its name is unknown or nobody answers, until the limit. `seconds` is
 * the limit's length, for the message.
 */
int rendezvous_dial(const struct rendezvous *root, struct door *door, const struct auth_key *key,
                    const struct hello *hello, double seconds, struct net_limit limit, struct session *session);

#endif
