/* SPDX-License-Identifier: MIT */
/* MPI, as a peer: Open MPI and MPICH each build this with their own wrapper. Their errors end the job. */
#include "backend.h"

#include <mpi.h>

static int run(int (*each)(void))
{
	MPI_Init(NULL, NULL);
	int rc = each();
	if (rc)
		MPI_Abort(MPI_COMM_WORLD, rc);
	MPI_Finalize();
	return 0;
}

static int rank(void)
{
	int r;
	MPI_Comm_rank(MPI_COMM_WORLD, &r);
	return r;
}

static int size(void)
{
	int n;
	MPI_Comm_size(MPI_COMM_WORLD, &n);
	return n;
}

static void barrier(void)
{
	MPI_Barrier(MPI_COMM_WORLD);
}

static void allreduce(const void *in, void *out, size_t count, enum element e)
{
	(void)e;
	MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void allgather(const void *in, void *out, size_t count, enum element e)
{
	(void)e;
	MPI_Allgather(in, (int)count, MPI_FLOAT, out, (int)count, MPI_FLOAT, MPI_COMM_WORLD);
}

static void reduce_scatter(const void *in, void *out, size_t count, enum element e)
{
	(void)e;
	MPI_Reduce_scatter_block(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

const struct backend backend = {
        .elements = 1u << F32,
        .run = run,
        .rank = rank,
        .size = size,
        .barrier = barrier,
        .allreduce = allreduce,
        .allgather = allgather,
        .reduce_scatter = reduce_scatter,
};
