/* SPDX-License-Identifier: MIT */
/*
 * Under an MPI launcher, both ways in: the launcher's environment, and MPI's own all-gather in place of the rendezvous.
 * Links MPI; each distribution's wrapper builds its own.
 */
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <tutti.h>

static int mpi_allgather(void *ctx, const void *in, void *out, size_t bytes)
{
	return MPI_Allgather(in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, *(MPI_Comm *)ctx) != MPI_SUCCESS;
}

static int use(struct tutti_comm *comm, int rank, int size)
{
	double mine[100], sum[100];
	for (int i = 0; i < 100; i++)
		mine[i] = rank + i;
	int rc = tutti_comm_size(comm) != size || tutti_comm_rank(comm) != rank;
	rc |= tutti_allreduce(mine, sum, 100, TUTTI_F64, TUTTI_SUM, comm, NULL);
	for (int i = 0; i < 100; i++)
		rc |= sum[i] != size * (size - 1) / 2 + i * size;
	if (rc)
		fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error(comm));
	return rc;
}

int main(int argc, char **argv)
{
	MPI_Init(&argc, &argv);
	int rank, size, rc;
	MPI_Comm world = MPI_COMM_WORLD;
	MPI_Comm_rank(world, &rank);
	MPI_Comm_size(world, &size);
	struct tutti_config cfg = TUTTI_CONFIG_INIT;
	struct tutti_comm *comm = NULL;
	if (argc > 1 && strcmp(argv[1], "oob") == 0) {
		cfg.oob = (struct tutti_oob){&world, mpi_allgather};
		rc = tutti_comm_create(&comm, size, NULL, rank, &cfg);
	} else {
		rc = tutti_comm_from_env(&comm, &cfg);
	}
	if (rc)
		fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error(NULL));
	else
		rc = use(comm, rank, size);
	if (comm)
		tutti_comm_destroy(comm);
	MPI_Finalize();
	return rc != 0;
}
