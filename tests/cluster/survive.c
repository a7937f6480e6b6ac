/* SPDX-License-Identifier: MIT */
/*
 * A job that outlives the loss of a host: all-reduces until one fails, shrinks, and goes on. Each rank says what it saw in
 * a line of its own; the status is 0 when that was an error and a right result among the survivors, or no majority.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tutti.h"

#define COUNT ((size_t)1 << 20)

static int go_on(struct tutti_comm *c, int was, int rank)
{
	struct tutti_comm *next;
	int one = 1, sum = 0, rc = tutti_comm_shrink(c, &next);
	if (rc == TUTTI_EPEER) {
		printf("rank %d of %d is alone: %s\n", rank, was, tutti_last_error(NULL));
		return 0;
	}
	if (rc == TUTTI_OK)
		rc = tutti_allreduce(&one, &sum, 1, TUTTI_I32, TUTTI_SUM, next, NULL);
	if (rc == TUTTI_OK && sum == tutti_comm_size(next))
		printf("rank %d of %d goes on as rank %d of %d\n", rank, was, tutti_comm_rank(next), sum);
	else
		printf("rank %d of %d could not go on: %s\n", rank, was, tutti_last_error(NULL));
	return rc ? rc : tutti_comm_destroy(next);
}

int main(void)
{
	struct tutti_comm *c;
	float *x = calloc(COUNT, sizeof(*x));
	int rc = x ? tutti_comm_from_env(&c, NULL) : TUTTI_ENOMEM;
	if (rc) {
		printf("no communicator: %s\n", tutti_last_error(NULL));
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (rc == TUTTI_OK)
		rc = tutti_allreduce(x, x, COUNT, TUTTI_F32, TUTTI_MAX, c, NULL);
	printf("rank %d: status %d: %s\n", tutti_comm_rank(c), rc, tutti_last_error(c));
	rc = go_on(c, tutti_comm_size(c), tutti_comm_rank(c));
	(void)tutti_comm_destroy(c);
	free(x);
	return rc != 0;
}
