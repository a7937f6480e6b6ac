/* SPDX-License-Identifier: MIT */
/* A stranger's first program: sums its rank over all ranks. */
#include <stdio.h>
#include <tutti.h>

int main(void)
{
	struct tutti_config cfg = TUTTI_CONFIG_INIT;
	struct tutti_comm *comm = NULL;
	cfg.name = "consumer";
	if (tutti_comm_from_env(&comm, &cfg) != TUTTI_OK) {
		fprintf(stderr, "%s\n", tutti_last_error(NULL));
		return 1;
	}
	int n = tutti_comm_size(comm);
	float mine = (float)tutti_comm_rank(comm), sum = -1;
	int rc = tutti_allreduce(&mine, &sum, 1, TUTTI_F32, TUTTI_SUM, comm, NULL);
	if (rc)
		fprintf(stderr, "%s\n", tutti_last_error(comm));
	tutti_comm_destroy(comm);
	return rc || n < 2 || sum != (float)(n * (n - 1) / 2);
}
