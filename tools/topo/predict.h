/* How long a collective would take on a described cluster, by each algorithm: tutti-topo --predict. */
#ifndef TUTTI_TOPO_PREDICT_H
#define TUTTI_TOPO_PREDICT_H

#include <stddef.h>

struct predict {
	const char *coll, *cluster; /* a name; a file */
	size_t min, max;            /* bytes of the larger buffer */
	double factor;
	const char *json; /* file, - for the standard output in place of the table, NULL: none */
};

/** Prints the table. A status; EINVAL names what is wrong. */
int predict_print(const struct predict *p);

#endif
