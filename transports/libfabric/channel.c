/* SPDX-License-Identifier: MIT */
/* See channel.h. */
#include "channel.h"
#include "../../src/os/os.h"
#include "../../src/util/error.h"
#include "../../src/util/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void channel_open(struct channel *c, int fd)
{
	*c = (struct channel){.fd = fd};
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS;
}

void channel_flush(struct channel *c)
{
	ssize_t n;

	if (c->fd < 0 || !c->nout)
		return;
	n = send(c->fd, c->out, c->nout, MSG_DONTWAIT | OS_NO_SIGNAL);
	if (n < 0 && !would_block()) {
		c->nout = 0; /* what the other side said before may still be heard */
		return;
	}
	if (n > 0) {
		c->nout -= (size_t)n;
		memmove(c->out, c->out + n, c->nout);
	}
}

int channel_say(struct channel *c, const struct record *r)
{
	if (c->nout + sizeof(*r) > c->outcap) {
		size_t cap = c->outcap ? 2 * c->outcap : 8 * sizeof(*r);
		uint8_t *more = realloc(c->out, cap);
		if (!more)
			return fail(TUTTI_ENOMEM, "out of memory");
		c->out = more;
		c->outcap = cap;
	}
	memcpy(c->out + c->nout, r, sizeof(*r));
	c->nout += sizeof(*r);
	channel_flush(c);
	return TUTTI_OK;
}

bool channel_hear(struct channel *c, struct record *r)
{
	ssize_t n;

	if (c->fd < 0 || c->ended)
		return false;
	n = recv(c->fd, c->in + c->nin, sizeof(c->in) - c->nin, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && !would_block()))
		c->ended = true;
	if (n > 0)
		c->nin += (size_t)n;
	if (c->nin < sizeof(c->in))
		return false;
	memcpy(r, c->in, sizeof(*r));
	c->nin = 0;
	return true;
}

void channel_close(struct channel *c)
{
	if (c->fd >= 0)
		fd_close(c->fd);
	free(c->out);
	*c = (struct channel){.fd = -1};
}
