/* What a library must offer to be compared: three collectives on floats. Failures end the program. */
#ifndef BACKEND_H
#define BACKEND_H

#include <stddef.h>

const char *backend_name(void);
void backend_start(int *argc, char ***argv);
void backend_stop(void);
int backend_rank(void);
int backend_size(void);
void backend_barrier(void);
/** count: as in the library's own call: elements of the vector, or of one rank's part. */
void backend_allreduce(const float *in, float *out, size_t count);
void backend_allgather(const float *in, float *out, size_t count);
void backend_reduce_scatter(const float *in, float *out, size_t count);

#endif
