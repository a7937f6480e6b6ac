/* SPDX-License-Identifier: MIT */
/* Sealed frames of a stream, see cover.h. */
#include "cover.h"
#include "../../src/os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME (SEAL_MOST + SEAL_EXTRA)

struct cover {
	struct seal *seal;
	/* out: one frame, which carries `carried` bytes; `sent` of its `made` bytes have gone. made 0: none */
	size_t carried, made, sent;
	/* in: sealed bytes that came, and what has been opened, from `first` to `last` */
	size_t came, first, last;
	bool ended;
	uint8_t out[FRAME], in[2 * FRAME], plain[SEAL_MOST];
};

struct cover *cover_new(struct seal *seal)
{
	struct cover *c = malloc(sizeof(*c));

	if (!c) {
		seal_free(seal);
		return NULL;
	}
	c->seal = seal;
	c->carried = c->made = c->sent = c->came = c->first = c->last = 0;
	c->ended = false;
	return c;
}

void cover_free(struct cover *c)
{
	if (c)
		seal_free(c->seal);
	free(c);
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

/* Bytes from `at` on, as they stand in iov. */
static size_t gather(const struct iovec *iov, size_t n, size_t at, uint8_t *to, size_t cap)
{
	size_t got = 0;

	for (size_t i = 0; i < n && got < cap; i++) {
		size_t part = iov[i].iov_len;
		if (at >= part) {
			at -= part;
			continue;
		}
		part = part - at < cap - got ? part - at : cap - got;
		memcpy(to + got, (const uint8_t *)iov[i].iov_base + at, part);
		got += part;
		at = 0;
	}
	return got;
}

/* True when all of the frame has gone. */
static bool push(struct cover *c, int fd)
{
	while (c->sent < c->made) {
		ssize_t n = send(fd, c->out + c->sent, c->made - c->sent, OS_NO_SIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return false;
		c->sent += (size_t)n;
	}
	return true;
}

ssize_t cover_send(struct cover *c, int fd, const struct iovec *iov, size_t n)
{
	uint8_t plain[SEAL_MOST];
	size_t gone = 0;

	for (;;) {
		if (c->made == 0) {
			c->carried = gather(iov, n, gone, plain, sizeof(plain));
			if (c->carried == 0)
				return (ssize_t)gone;
			seal_shut(c->seal, plain, c->carried, c->out);
			c->made = c->carried + SEAL_EXTRA;
			c->sent = 0;
		}
		if (!push(c, fd))
			return gone ? (ssize_t)gone : -1;
		gone += c->carried;
		c->made = 0;
	}
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

/* The next frame's bytes into plain, which is empty: 1; 0: it has not come; -1: it does not open. */
static int open_next(struct cover *c)
{
	size_t n;
	int len = seal_open(c->seal, c->in, c->came, c->plain, sizeof(c->plain), &n);

	if (len <= 0)
		return len;
	c->came -= (size_t)len;
	memmove(c->in, c->in + len, c->came);
	c->first = 0;
	c->last = n;
	return 1;
}

/* At least one byte more in plain, or -1, or 0 at the end. An end of file within a frame is one that was cut. */
static ssize_t more(struct cover *c, int fd)
{
	for (;;) {
		int rc = open_next(c);
		ssize_t n;

		if (rc < 0 || (rc == 0 && c->ended && c->came > 0)) {
			errno = EBADMSG;
			return -1;
		}
		if (rc > 0 && c->last > 0)
			return 1;
		if (rc > 0)
			continue;
		if (c->ended)
			return 0;
		n = recv(fd, c->in + c->came, sizeof(c->in) - c->came, MSG_DONTWAIT);
		if (n < 0)
			return -1;
		c->ended = n == 0;
		c->came += (size_t)n;
	}
}

ssize_t cover_receive(struct cover *c, int fd, const struct iovec *iov, size_t n)
{
	size_t got = 0;

	for (size_t i = 0; i < n; i++) {
		for (size_t at = 0; at < iov[i].iov_len;) {
			size_t part = iov[i].iov_len - at;
			ssize_t rc = c->first < c->last ? 1 : more(c, fd);
			if (rc <= 0)
				return got || rc == 0 ? (ssize_t)got : -1;
			part = c->last - c->first < part ? c->last - c->first : part;
			memcpy((uint8_t *)iov[i].iov_base + at, c->plain + c->first, part);
			c->first += part;
			at += part;
			got += part;
		}
	}
	return (ssize_t)got;
}

bool cover_holds(const struct cover *c)
{
	return c->first < c->last || c->came > 0;
}
