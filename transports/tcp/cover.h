/* SPDX-License-Identifier: MIT */
/*
 * What covers a stream whose data is encrypted: the bytes of both directions on their way through sealed frames. It
 * replaces the system calls of the plain stream and has the same results: bytes sent or received, or -1 with errno.
 * EBADMSG: a received frame does not open.
 */
#ifndef TUTTI_TCP_COVER_H
#define TUTTI_TCP_COVER_H

#include "../../src/util/seal.h"

#include <sys/types.h>
#include <sys/uio.h>

struct cover;

/** Owns the seal from here on, also on error. NULL: no memory. */
struct cover *cover_new(struct seal *seal);
void cover_free(struct cover *c);
/**
 * Bytes that the kernel has taken in whole frames. Where it did not take a whole one, the next call must begin with the
 * same bytes again, unchanged.
 */
ssize_t cover_send(struct cover *c, int fd, const struct iovec *iov, size_t n);
/** As many as fit and are there. 0: end of file. */
ssize_t cover_receive(struct cover *c, int fd, const struct iovec *iov, size_t n);
/** Has bytes come that cover_receive has not given? */
bool cover_holds(const struct cover *c);

#endif
