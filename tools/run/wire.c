/* SPDX-License-Identifier: MIT */
/* Buffers, frames and the packed job; see wire.h. Numbers travel with the lowest byte first. */
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER    12
#define READ_SIZE 65536

static void *must(void *memory)
{
	if (!memory) {
		static const char message[] = "tutti-run: out of memory\n";
		ssize_t n = write(STDERR_FILENO, message, sizeof(message) - 1);
		_exit(n < 0 ? 2 : 1);
	}
	return memory;
}

static void reserve(struct buf *b, size_t more)
{
	if (b->cap - b->len >= more)
		return;
	b->cap = (b->len + more) * 2;
	b->data = must(realloc(b->data, b->cap));
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	reserve(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_u32(unsigned char to[4], uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t get_u32(const char *from)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value |= (uint32_t)(unsigned char)from[i] << (8 * i);
	return value;
}

void buf_add_u32(struct buf *b, uint32_t value)
{
	unsigned char bytes[4];

	put_u32(bytes, value);
	buf_add(b, bytes, sizeof(bytes));
}

void buf_drop(struct buf *b, size_t len)
{
	b->len -= len;
	if (b->len)
		memmove(b->data, b->data + len, b->len);
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

ssize_t buf_fill(struct buf *b, int fd)
{
	ssize_t n;

	reserve(b, READ_SIZE);
	do
		n = read(fd, b->data + b->len, READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		b->len += (size_t)n;
	return n;
}

bool buf_flush(struct buf *b, int fd)
{
	size_t done = 0;
	bool ok = true;

	while (done < b->len) {
		ssize_t n = write(fd, b->data + done, b->len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ok = errno == EAGAIN;
			break;
		}
		done += (size_t)n;
	}
	buf_drop(b, done);
	return ok;
}

void frame_add(struct buf *b, enum frame_kind kind, int rank, const void *data, size_t len)
{
	buf_add_u32(b, kind);
	buf_add_u32(b, (uint32_t)rank);
	buf_add_u32(b, (uint32_t)len);
	buf_add(b, data, len);
}

void frame_add_u32(struct buf *b, enum frame_kind kind, int rank, uint32_t value)
{
	unsigned char bytes[4];

	put_u32(bytes, value);
	frame_add(b, kind, rank, bytes, sizeof(bytes));
}

int frame_next(const struct buf *b, size_t *at, struct frame *f)
{
	const char *header = b->data + *at;
	size_t left = b->len - *at;

	if (left < HEADER)
		return 0;
	*f = (struct frame){get_u32(header), get_u32(header + 4), get_u32(header + 8), header + HEADER};
	if (f->kind < FRAME_JOB || f->kind > FRAME_FAILED || f->len > FRAME_MAX)
		return -1;
	if (left - HEADER < f->len)
		return 0;
	*at += HEADER + f->len;
	return 1;
}

uint32_t frame_u32(const struct frame *f)
{
	return f->len >= 4 ? get_u32(f->data) : 0;
}

/* ---- the job ----------------------------------------------------------------------------------------------------- */

static void add_string(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s) + 1);
}

#define JOB_NUMBERS 7

void job_pack(struct buf *b, const struct job *job)
{
	const int numbers[JOB_NUMBERS] = {job->size,  job->count, job->everywhere, job->cwd_must,
	                                  job->input, job->nenv,  job->argc};

	for (int i = 0; i < JOB_NUMBERS; i++)
		buf_add_u32(b, (uint32_t)numbers[i]);
	for (int i = 0; i < job->count; i++)
		buf_add_u32(b, (uint32_t)job->rank[i]);
	add_string(b, job->bind);
	add_string(b, job->secret);
	add_string(b, job->cwd);
	for (int i = 0; i < job->nenv; i++)
		add_string(b, job->env[i]);
	for (int i = 0; i < job->argc; i++)
		add_string(b, job->argv[i]);
}

/* The next string of [*at, end), or NULL when it doesn't end there. */
static char *take_string(char **at, const char *end)
{
	char *s = *at, *nul = memchr(s, '\0', (size_t)(end - s));

	if (nul)
		*at = nul + 1;
	return nul ? s : NULL;
}

static char **take_strings(char **at, const char *end, int n)
{
	char **list;

	if (n < 0 || n > end - *at)
		return NULL;
	list = must(calloc((size_t)n + 1, sizeof(*list)));
	for (int i = 0; i < n; i++) {
		list[i] = take_string(at, end);
		if (!list[i]) {
			free(list);
			return NULL;
		}
	}
	return list;
}

static void take_numbers(struct job *job, const char *data)
{
	job->size = (int)get_u32(data);
	job->count = (int)get_u32(data + 4);
	job->everywhere = get_u32(data + 8) != 0;
	job->cwd_must = get_u32(data + 12) != 0;
	job->input = (int)get_u32(data + 16);
	job->nenv = (int)get_u32(data + 20);
	job->argc = (int)get_u32(data + 24);
}

static bool take_ranks(struct job *job, char **at, const char *end)
{
	if (job->count < 1 || job->count > job->size || job->count > (end - *at) / 4)
		return false;
	job->rank = must(calloc((size_t)job->count, sizeof(*job->rank)));
	for (int i = 0; i < job->count; i++, *at += 4) {
		job->rank[i] = (int)get_u32(*at);
		if (job->rank[i] <= (i ? job->rank[i - 1] : -1) || job->rank[i] >= job->size)
			return false;
	}
	return true;
}

bool job_unpack(struct job *job, const char *data, size_t len)
{
	char *at, *end;

	memset(job, 0, sizeof(*job));
	if (len < 4 * JOB_NUMBERS)
		return false;
	take_numbers(job, data);
	job->text = at = must(malloc(len));
	memcpy(at, data, len);
	end = at + len;
	at += 4 * JOB_NUMBERS;
	if (!take_ranks(job, &at, end))
		return false;
	job->bind = take_string(&at, end);
	job->secret = job->bind ? take_string(&at, end) : NULL;
	job->cwd = job->secret ? take_string(&at, end) : NULL;
	job->env = job->cwd ? take_strings(&at, end, job->nenv) : NULL;
	job->argv = job->env ? take_strings(&at, end, job->argc) : NULL;
	return job->argv && at == end && job->argc > 0;
}

void job_free(struct job *job)
{
	free(job->env);
	free(job->argv);
	free(job->rank);
	free(job->text);
	memset(job, 0, sizeof(*job));
}
