/* MPI, as a peer: Open MPI and MPICH build this with their own wrappers; -DNAME says which. */
#include "backend.h"

#include <mpi.h>

const char *backend_name(void)
{
	return NAME;
}

void backend_start(int *argc, char ***argv)
{
	MPI_Init(argc, argv);
}
void backend_stop(void)
{
	MPI_Finalize();
}

int backend_rank(void)
{
	int r;
	MPI_Comm_rank(MPI_COMM_WORLD, &r);
	return r;
}

int backend_size(void)
{
	int n;
	MPI_Comm_size(MPI_COMM_WORLD, &n);
	return n;
}

void backend_barrier(void)
{
	MPI_Barrier(MPI_COMM_WORLD);
}

void backend_allreduce(const float *in, float *out, size_t count)
{
	MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

void backend_allgather(const float *in, float *out, size_t count)
{
	MPI_Allgather(in, (int)count, MPI_FLOAT, out, (int)count, MPI_FLOAT, MPI_COMM_WORLD);
}

void backend_reduce_scatter(const float *in, float *out, size_t count)
{
	MPI_Reduce_scatter_block(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
