/* Tutti, as one of the peers. */
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "tutti.h"

static struct tutti_comm *comm;

static void must(int rc)
{
	if (rc == TUTTI_OK)
		return;
	fprintf(stderr, "tutti: %s\n", tutti_last_error(comm));
	exit(1);
}

const char *backend_name(void)
{
	return "tutti";
}

void backend_start(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	must(tutti_comm_from_env(&comm, NULL));
}
void backend_stop(void)
{
	tutti_comm_destroy(comm);
}
int backend_rank(void)
{
	return tutti_comm_rank(comm);
}
int backend_size(void)
{
	return tutti_comm_size(comm);
}
void backend_barrier(void)
{
	must(tutti_barrier(comm, NULL));
}

void backend_allreduce(const float *in, float *out, size_t count)
{
	must(tutti_allreduce(in, out, count, TUTTI_F32, TUTTI_SUM, comm, NULL));
}
void backend_allgather(const float *in, float *out, size_t count)
{
	must(tutti_allgather(in, out, count, TUTTI_F32, comm, NULL));
}
void backend_reduce_scatter(const float *in, float *out, size_t count)
{
	must(tutti_reduce_scatter(in, out, count, TUTTI_F32, TUTTI_SUM, comm, NULL));
}
