/* SPDX-License-Identifier: MIT */
/*
 * What a communicator takes from a file of tutti-topo --json, which TUTTI_TOPO_FILE names: the order in which its ranks
 * stand in rings. Everything else it finds out by itself.
 */
#ifndef TUTTI_BELIEVE_H
#define TUTTI_BELIEVE_H

#include "../util/doc.h"

/** The file's job: hosts by name, the host of each rank, and the ranks' places in the ring. */
struct believed {
	int nhosts, nranks;
	char (*name)[64];
	int *host;  /* rank -> host */
	int *place; /* rank -> place in the ring; NULL: the file has no ring */
};

/** Reads these fields of a document. d->rc; believed_free in any case. */
int believed_read(struct believed *b, struct doc *d);
void believed_free(struct believed *b);

/**
 * The places of a job's ranks in the ring of a file: place[r] for n ranks, of which r is on a host called name[r];
 * ranks with equal near[r] (0 .. n - 1, numbered by lowest rank) are on one host. Hosts are found by name, those of the
 * same name in the order in which the file has them; the k-th rank of a host takes the place of the file's k-th one,
 * and further ranks follow the last. EINVAL: the file can't be read, has no ring, or has no such host.
 */
int believe(const char *path, int n, const char *const *name, const int *near, int *place);

#endif
