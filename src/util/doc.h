/* SPDX-License-Identifier: MIT */
/*
 * JSON documents (RFC 8259) from users and launchers: read as a whole, then queried for fields. An error is reported
 * once, with the document's name, the line and the field. The first error sticks and later queries return nothing, so a
 * reader queries everything and checks `rc` once.
 *
 * A document is bounded: DOC_BYTES of text, DOC_DEPTH levels, and memory that is known before it is parsed, 48 bytes for each
 * value besides the text. It is stricter than the RFC asks: no key twice in an object, no \u0000, no numbers beyond a double.
 */
#ifndef TUTTI_DOC_H
#define TUTTI_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define DOC_BYTES ((size_t)1 << 29)
#define DOC_DEPTH 256

enum doc_type { DOC_NULL, DOC_FALSE, DOC_TRUE, DOC_WHOLE, DOC_REAL, DOC_TEXT, DOC_ARRAY, DOC_OBJECT };

/** Values stand in one array in the order of the text, each before what is inside it. */
struct doc_value {
	enum doc_type type;
	uint32_t line;   /* where it begins, from 1 */
	uint32_t values; /* it and all that is inside it: v + v->values is what follows */
	uint32_t count;  /* elements, members, or bytes of a text */
	uint32_t place;  /* among the elements or members that it is one of, from 0 */
	const char *key; /* of a member; NULL: not a member */
	union {
		int64_t whole; /* a number without fraction and exponent that fits */
		double real;   /* any other number */
		const char *text;
		const struct doc_value **inside; /* elements in order; members sorted by key */
	};
};

struct doc {
	const char *name;             /* of the file, for messages; the caller's */
	const struct doc_value *root; /* NULL: it could not be read */
	int rc;                       /* TUTTI_OK, or the status of the fault; its text is the thread's message */
	struct doc_value *value;
	const struct doc_value **index;
	char *text; /* decoded in place: what texts and keys point to */
};

/** Reads a text. TUTTI_OK, EINVAL, ENOMEM, also in d->rc. doc_close in any case. */
int doc_parse(struct doc *d, const char *name, const char *text, size_t len);
/** The same of a file that is open, and stays so; also ESYSTEM. */
int doc_read(struct doc *d, const char *name, FILE *f);
void doc_close(struct doc *d);

/** All of a file with a NUL behind it, for free() in any case; up to DOC_BYTES. TUTTI_OK, EINVAL, ENOMEM, ESYSTEM. */
int doc_load(FILE *f, const char *name, char **text, size_t *len);

/** Faults value v, or its member `key` (NULL: v itself), which need not be there: "NAME:LINE: hosts[2].gbit: ...". */
int doc_fault(struct doc *d, const struct doc_value *v, const char *key, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

/** The member of an object, the element of an array; NULL: it has none, or is something else, or NULL. */
const struct doc_value *doc_member(const struct doc_value *object, const char *key);
const struct doc_value *doc_element(const struct doc_value *array, size_t i);
/** For loops over elements and members, in the order of the text: (c = doc_first(v); c; c = doc_next(v, c)). */
const struct doc_value *doc_first(const struct doc_value *v);
const struct doc_value *doc_next(const struct doc_value *v, const struct doc_value *c);
/** Elements or members; 0 for anything else, and NULL. */
size_t doc_count(const struct doc_value *v);
/** A number; NaN for anything else, and NULL. */
double doc_real(const struct doc_value *v);
/** A whole number within bounds? */
bool doc_is_whole(const struct doc_value *v, int64_t least, int64_t most);

/** Members of an object, which must be of that kind; one that is absent or null gives the default where there is one. */
const struct doc_value *doc_array(struct doc *d, const struct doc_value *o, const char *key, size_t least, size_t most);
const struct doc_value *doc_object(struct doc *d, const struct doc_value *o, const char *key);
const char *doc_text(struct doc *d, const struct doc_value *o, const char *key, const char *otherwise);
int64_t doc_int(struct doc *d, const struct doc_value *o, const char *key, int64_t least, int64_t most,
                const int64_t *otherwise);
/** Above 0. */
double doc_number(struct doc *d, const struct doc_value *o, const char *key, double otherwise);

#endif
