/* SPDX-License-Identifier: MIT */
/* Lines and sinks; see lines.h. */
#include "lines.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

void sink_add(struct sink *s, const char *data, size_t len)
{
	if (!s->error)
		buf_add(&s->queue, data, len);
}

size_t sink_waiting(const struct sink *s)
{
	return s->queue.len - s->written;
}

/* Seldom, as it moves all that waits. */
static void drop_written(struct sink *s)
{
	if (s->written * 2 < s->queue.len)
		return;
	buf_drop(&s->queue, s->written);
	s->written = 0;
}

/* How much to write at once: up to PIPE_BUF, and to the end of a line if there is one in it. */
static size_t portion(const char *data, size_t len)
{
	size_t n = len < PIPE_BUF ? len : PIPE_BUF, end = n;

	while (end > 0 && data[end - 1] != '\n')
		end--;
	return end ? end : n;
}

void sink_flush(struct sink *s)
{
	while (sink_waiting(s)) {
		struct pollfd p = {.fd = s->fd, .events = POLLOUT};
		ssize_t n;
		if (poll(&p, 1, 0) <= 0)
			break;
		n = write(s->fd, s->queue.data + s->written, portion(s->queue.data + s->written, sink_waiting(s)));
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			s->error = errno;
			s->written = s->queue.len;
		}
		if (n < 0)
			break;
		s->written += (size_t)n;
	}
	drop_written(s);
}

static void add_line(struct lines *l, struct sink *s, const char *tag, const char *rest, size_t len)
{
	sink_add(s, tag, strlen(tag));
	sink_add(s, l->part.data, l->part.len);
	sink_add(s, rest, len);
	s->held -= l->part.len;
	l->part.len = 0;
}

void lines_add(struct lines *l, struct sink *s, const char *tag, bool raw, const char *data, size_t len)
{
	const char *end = data + len, *newline;

	if (raw) {
		sink_add(s, data, len);
		return;
	}
	while ((newline = memchr(data, '\n', (size_t)(end - data)))) {
		add_line(l, s, tag, data, (size_t)(newline + 1 - data));
		data = newline + 1;
	}
	buf_add(&l->part, data, (size_t)(end - data));
	s->held += (size_t)(end - data);
	if (s->held > (s->held_max ? s->held_max : HELD_MAX)) {
		s->cut = true;
		lines_end(l, s, tag);
	}
}

void lines_end(struct lines *l, struct sink *s, const char *tag)
{
	if (l->part.len)
		add_line(l, s, tag, "\n", 1);
	buf_free(&l->part);
}
