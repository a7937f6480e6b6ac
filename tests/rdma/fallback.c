/* SPDX-License-Identifier: MIT */
/*
 * A job that outlives its network: all-reduces until one fails, or the time is up; then the same processes, less the one
 * that was killed, make a new communicator over TCP and use it. Each rank says what it saw, a line a time:
 *   rank R: running as PID     the first call is done
 *   rank R: status S: TEXT     the call that failed; S 0: the time was up
 *   rank R: again as A of N    a right result over TCP
 *   fallback SECONDS DIRECTORY DOOMED     DIRECTORY: empty, seen by all ranks; DOOMED: the rank that gets killed, or -1
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tutti.h"

#define COUNT ((size_t)1 << 18)

static int rank, doomed;

/* An all-gather by files, for the second communicator. */
struct files {
	const char *directory;
	int rank, n, round;
};

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static const char *file_of(const struct files *f, int r, const char *end, char name[512])
{
	snprintf(name, 512, "%s/%d.%d%s", f->directory, f->round, r, end);
	return name;
}

static int publish(const struct files *f, const void *data, size_t bytes)
{
	char draft[512], final[512];
	int fd = open(file_of(f, f->rank, ".new", draft), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int rc = write(fd, data, bytes) == (ssize_t)bytes ? 0 : -1;
	close(fd);
	return rc ? rc : rename(draft, file_of(f, f->rank, "", final));
}

static int collect(const struct files *f, int r, void *data, size_t bytes)
{
	char name[512];
	int fd;
	for (int i = 0; (fd = open(file_of(f, r, "", name), O_RDONLY | O_CLOEXEC)) < 0; i++) {
		if (i == 3000)
			return -1;
		pause_ms(10);
	}
	int rc = read(fd, data, bytes) == (ssize_t)bytes ? 0 : -1;
	close(fd);
	return rc;
}

static int allgather(void *ctx, const void *in, void *out, size_t bytes)
{
	struct files *f = ctx;
	int rc = publish(f, in, bytes);
	for (int r = 0; r < f->n && rc == 0; r++)
		rc = collect(f, r, (char *)out + (size_t)r * bytes, bytes);
	f->round++;
	return rc;
}

/* The first float counts the ranks whose time is up: all leave after the same call. */
static int use(struct tutti_comm *c, double seconds)
{
	time_t end = time(NULL) + (time_t)seconds;
	float *x = calloc(COUNT, sizeof(*x));
	int rc = x ? TUTTI_OK : TUTTI_ENOMEM;
	for (int i = 0; rc == TUTTI_OK && x[0] == 0; i++) {
		x[0] = time(NULL) >= end;
		rc = tutti_allreduce(x, x, COUNT, TUTTI_F32, TUTTI_SUM, c, NULL);
		if (i == 0 && rc == TUTTI_OK)
			printf("rank %d: running as %d\n", rank, (int)getpid());
	}
	free(x);
	return rc;
}

static int again(const char *directory, int n)
{
	struct files f = {
	        .directory = directory, .rank = rank - (doomed >= 0 && rank > doomed), .n = n - (doomed >= 0)};
	struct tutti_config config = TUTTI_CONFIG_INIT;
	struct tutti_comm *c;
	int one = 1, sum = 0, rc;
	config.transport = "tcp";
	config.oob.ctx = &f;
	config.oob.allgather = allgather;
	rc = tutti_comm_create(&c, f.n, NULL, f.rank, &config);
	if (rc == TUTTI_OK) {
		rc = tutti_allreduce(&one, &sum, 1, TUTTI_I32, TUTTI_SUM, c, NULL);
		(void)tutti_comm_destroy(c);
	}
	if (rc == TUTTI_OK && sum == f.n)
		printf("rank %d: again as %d of %d\n", rank, f.rank, f.n);
	else
		printf("rank %d: not again: sum %d, status %d: %s\n", rank, sum, rc, tutti_last_error(NULL));
	return rc || sum != f.n;
}

int main(int argc, char **argv)
{
	struct tutti_comm *c;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 4)
		return 2;
	doomed = atoi(argv[3]);
	int rc = tutti_comm_from_env(&c, NULL);
	if (rc) {
		printf("no communicator: status %d: %s\n", rc, tutti_last_error(NULL));
		return 1;
	}
	rank = tutti_comm_rank(c);
	int n = tutti_comm_size(c);
	rc = use(c, atof(argv[1]));
	printf("rank %d: status %d: %s\n", rank, rc, rc ? tutti_last_error(c) : "the time is up");
	(void)tutti_comm_destroy(c);
	return again(argv[2], n);
}
