/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints in the safetensors format: a file is eight bytes of length, a JSON header of that length, which names
 * each tensor with type, shape and place, and the tensors' bytes. A checkpoint is model.safetensors, or several files
 * that model.safetensors.index.json lists. Files are mapped, never read as a whole: unused parts stay on the disk.
 *
 * Every value in a file is compared with the size of the file before it is used.
 */
#ifndef TRANSFORMER_SAFETENSORS_H
#define TRANSFORMER_SAFETENSORS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

#define TENSOR_DIMS 8

struct tensor {
	const char *name, *type; /* type as in the file: "F32", "BF16", ... */
	unsigned element;        /* bytes of an element; 0: of a type that is not known here, nobody can use it */
	bool used;               /* somebody asked for it by checkpoint_use */
	int dims;
	uint64_t shape[TENSOR_DIMS];
	uint64_t begin, end; /* bytes of its data, from the end of the header */
	int file;
};

/** The tensors of one header, in the order of their data. */
struct header {
	json_t *json; /* what names and types point into */
	struct tensor *tensor;
	size_t n;
};

/**
 * Reads the header of a file of `size` bytes, of which `bytes` are at `at` (all of the header, or the file is cut off).
 * `name` is for messages. Everything is checked: shapes against bytes (where the type is known), bytes against the file,
 * overlaps, holes.
 */
int header_parse(struct header *h, const void *at, uint64_t bytes, uint64_t size, const char *name, struct problem *p);
void header_free(struct header *h);

struct mapped_file {
	char *path;
	const unsigned char *at;
	uint64_t size, data; /* data: where the tensors' bytes begin */
	struct header header;
};

struct checkpoint {
	struct mapped_file *file;
	int files;
};

/** Opens dir/model.safetensors, or what dir/model.safetensors.index.json lists. */
int checkpoint_open(struct checkpoint *c, const char *dir, struct problem *p);
void checkpoint_close(struct checkpoint *c);

/** A tensor by its name; NULL: there is none. */
const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name);
/** The same, and notes that it is used. */
const struct tensor *checkpoint_use(struct checkpoint *c, const char *name);
/** Tensor number i of all files, in no particular order; NULL past the last. */
const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i);
/** Where its bytes are, in no particular alignment. */
const unsigned char *checkpoint_data(const struct checkpoint *c, const struct tensor *t);
/** The pages of the files that were looked at may go: what was needed has been copied. */
void checkpoint_let_go(const struct checkpoint *c);

#endif
