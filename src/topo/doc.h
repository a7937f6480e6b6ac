/*
 * A JSON file whose every fault is named by line or field. The first fault sticks: what is asked for afterwards is
 * empty, so a reader asks for all that it wants and looks at `rc` once.
 */
#ifndef TUTTI_DOC_H
#define TUTTI_DOC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct doc {
	const char *name; /* of the file */
	json_t *root;     /* an object */
	char at[256];     /* the object that is read: "hosts[2].devices[0]" */
	int rc;           /* TUTTI_OK, or the status of the fault; its text is the thread's message */
};

/** TUTTI_OK, EINVAL, ESYSTEM, also in d->rc. doc_close in any case. */
int doc_open(struct doc *d, const char *path);
/** The same of a text that was read from a file of that name. */
int doc_parse(struct doc *d, const char *name, const char *text, size_t len);
/** The same of a file that is open, and stays so. */
int doc_read(struct doc *d, const char *path, FILE *f);
void doc_close(struct doc *d);

/** Says that `key` of the object that is read should be `what`; returns d->rc. */
int doc_fault(struct doc *d, const char *key, const char *what);

/** From here on, item i of array `key` is read (i < 0: the object `key`); returns what doc_leave wants. */
size_t doc_enter(struct doc *d, const char *key, int i);
void doc_leave(struct doc *d, size_t before);

/** Fields of an object; a field that is absent or null gives the default where there is one. */
const json_t *doc_array(struct doc *d, const json_t *o, const char *key, size_t least, size_t most);
const char *doc_text(struct doc *d, const json_t *o, const char *key, const char *otherwise);
/** A whole number. */
int64_t doc_int(struct doc *d, const json_t *o, const char *key, int64_t least, int64_t most, const int64_t *otherwise);
double doc_number(struct doc *d, const json_t *o, const char *key, double otherwise);
const json_t *doc_object(struct doc *d, const json_t *o, const char *key);

#endif
