/* SPDX-License-Identifier: MIT */
/* Waiting for requests, looking at them, and helping them: tutti_wait, tutti_test, tutti_work. */
#ifndef TUTTI_FINISH_H
#define TUTTI_FINISH_H

#include <stdbool.h>

struct tutti_request;

/** Blocks until all of the requests are done, and frees them; any: until one of them is, and frees none. */
int finish_wait(struct tutti_request **reqs, int n, bool any);
int finish_test(struct tutti_request **req, int *done);
/** The calling thread helps until the request is done. */
int finish_work(struct tutti_request *r);

#endif
