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

void job_pack(struct buf *b, const struct job *job)
{
	const int numbers[] = {job->size,     job->first, job->count, job->everywhere,
	                       job->cwd_must, job->input, job->nenv,  job->argc};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		buf_add_u32(b, (uint32_t)numbers[i]);
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

bool job_unpack(struct job *job, const char *data, size_t len)
{
	int numbers[8];
	char *at, *end;

	memset(job, 0, sizeof(*job));
	if (len < sizeof(numbers))
		return false;
	for (int i = 0; i < 8; i++)
		numbers[i] = (int)get_u32(data + 4 * i);
	job->text = at = must(malloc(len));
	memcpy(at, data, len);
	end = at + len;
	at += sizeof(numbers);
	job->size = numbers[0];
	job->first = numbers[1];
	job->count = numbers[2];
	job->everywhere = numbers[3] != 0;
	job->cwd_must = numbers[4] != 0;
	job->input = numbers[5];
	job->nenv = numbers[6];
	job->argc = numbers[7];
	job->bind = take_string(&at, end);
	job->secret = job->bind ? take_string(&at, end) : NULL;
	job->cwd = job->secret ? take_string(&at, end) : NULL;
	job->env = job->cwd ? take_strings(&at, end, job->nenv) : NULL;
	job->argv = job->env ? take_strings(&at, end, job->argc) : NULL;
	return job->argv && at == end && job->argc > 0 && job->count > 0 && job->first >= 0 &&
	       job->count <= job->size && job->first <= job->size - job->count;
}

void job_free(struct job *job)
{
	free(job->env);
	free(job->argv);
	free(job->text);
	memset(job, 0, sizeof(*job));
}
