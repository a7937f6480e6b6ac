/* SPDX-License-Identifier: MIT */
/* Checkpoints: see safetensors.h. */
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX (UINT64_C(100) << 20) /* the limit of the format's reference implementation */

static const struct {
	const char *name;
	unsigned size;
} types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
             {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8}};

static unsigned type_size(const char *name)
{
	for (size_t i = 0; name && i < sizeof(types) / sizeof(*types); i++)
		if (strcmp(types[i].name, name) == 0)
			return types[i].size;
	return 0;
}

/* ---- one header -------------------------------------------------------------------------------------------------- */

/* A whole number that is not negative. */
static bool get_size(const json_t *v, uint64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return false;
	*out = (uint64_t)json_integer_value(v);
	return true;
}

/* The bytes that it has by its shape: 0 where the type is not known. */
static const char *read_shape(struct tensor *t, const json_t *shape, uint64_t *bytes)
{
	if (!json_is_array(shape))
		return "no \"shape\"";
	if (json_array_size(shape) > TENSOR_DIMS)
		return "too many dimensions";
	t->dims = (int)json_array_size(shape);
	*bytes = t->element;
	for (int i = 0; i < t->dims; i++)
		if (!get_size(json_array_get(shape, (size_t)i), &t->shape[i]) ||
		    __builtin_mul_overflow(*bytes, t->shape[i], bytes))
			return "a dimension that is not a size";
	return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_tensor(struct tensor *t, const json_t *v, uint64_t data)
{
	const json_t *offsets = json_object_get(v, "data_offsets");
	uint64_t bytes;
	const char *wrong;

	t->type = json_string_value(json_object_get(v, "dtype"));
	if (!t->type)
		return "no \"dtype\"";
	t->element = type_size(t->type);
	wrong = read_shape(t, json_object_get(v, "shape"), &bytes);
	if (wrong)
		return wrong;
	if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
	    !get_size(json_array_get(offsets, 0), &t->begin) || !get_size(json_array_get(offsets, 1), &t->end))
		return "no \"data_offsets\" of two sizes";
	if (t->begin > t->end || t->end > data)
		return "data beyond the end of the file (is it cut off?)";
	if (t->element && t->end - t->begin != bytes)
		return "a shape that does not fit its bytes";
	return NULL;
}

static int by_place(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* The data of the tensors, in order, must be all that there is: no overlap, no hole. */
static int check_places(struct header *h, uint64_t data, const char *name, struct problem *p)
{
	uint64_t at = 0;

	qsort(h->tensor, h->n, sizeof(*h->tensor), by_place);
	for (size_t i = 0; i < h->n; at = h->tensor[i++].end)
		if (h->tensor[i].begin != at)
			return problem(p, "%s: %s: its data %s the tensor before it", name, h->tensor[i].name,
			               h->tensor[i].begin < at ? "overlap" : "leave a hole after");
	if (at != data)
		return problem(p, "%s: %llu bytes of data belong to no tensor", name, (unsigned long long)(data - at));
	return 0;
}

static int read_tensors(struct header *h, uint64_t data, const char *name, struct problem *p)
{
	const char *key, *wrong;
	json_t *v;

	h->tensor = calloc(json_object_size(h->json) + 1, sizeof(*h->tensor));
	if (!h->tensor)
		return problem(p, "%s: out of memory", name);
	json_object_foreach (h->json, key, v) {
		if (strcmp(key, "__metadata__") == 0)
			continue;
		h->tensor[h->n].name = key;
		wrong = json_is_object(v) ? read_tensor(&h->tensor[h->n], v, data) : "not an object";
		if (wrong)
			return problem(p, "%s: tensor %s: %s", name, key, wrong);
		h->n++;
	}
	return check_places(h, data, name, p);
}

int header_parse(struct header *h, const void *at, uint64_t bytes, uint64_t size, const char *name, struct problem *p)
{
	const unsigned char *b = at;
	uint64_t length = 0;
	json_error_t e;

	*h = (struct header){0};
	if (bytes < 8 || size < 8)
		return problem(p, "%s: shorter than the length of its header", name);
	for (int i = 7; i >= 0; i--)
		length = length << 8 | b[i];
	if (length > HEADER_MAX || length > size - 8 || length > bytes - 8)
		return problem(p, "%s: the header should have %llu bytes, but the file has %llu", name,
		               (unsigned long long)length, (unsigned long long)size);
	h->json = json_loadb((const char *)b + 8, length, JSON_REJECT_DUPLICATES, &e);
	if (!h->json)
		return problem(p, "%s: the header is not JSON: %s (byte %d)", name, e.text, e.position);
	if (json_is_object(h->json) && read_tensors(h, size - 8 - length, name, p) == 0)
		return 0;
	header_free(h);
	return problem(p, "%s: the header is not a JSON object", name);
}

void header_free(struct header *h)
{
	free(h->tensor);
	json_decref(h->json);
	*h = (struct header){0};
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int map_file(struct mapped_file *f, struct problem *p)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	struct stat s;
	void *at;

	if (fd < 0 || fstat(fd, &s) != 0) {
		problem(p, "can't open %s: %s", f->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	f->size = (uint64_t)s.st_size;
	at = f->size ? mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	close(fd);
	if (at == MAP_FAILED)
		return problem(p, "can't map %s (%llu bytes): %s", f->path, (unsigned long long)f->size,
		               f->size ? strerror(errno) : "it is empty");
	f->at = at;
	return 0;
}

static int open_file(struct checkpoint *c, const char *dir, const char *name, struct problem *p)
{
	struct mapped_file *more = realloc(c->file, (size_t)(c->files + 1) * sizeof(*more)), *f;
	uint64_t length = 0;

	if (!more)
		return problem(p, "%s: out of memory", dir);
	c->file = more;
	f = &c->file[c->files++];
	*f = (struct mapped_file){0};
	if (asprintf(&f->path, "%s/%s", dir, name) < 0) {
		f->path = NULL;
		return problem(p, "%s: out of memory", dir);
	}
	if (map_file(f, p) != 0 || header_parse(&f->header, f->at, f->size, f->size, f->path, p) != 0)
		return -1;
	for (int i = 7; i >= 0; i--)
		length = length << 8 | f->at[i];
	f->data = 8 + length;
	for (size_t i = 0; i < f->header.n; i++)
		f->header.tensor[i].file = c->files - 1;
	return 0;
}

static bool is_open(const struct checkpoint *c, const char *name)
{
	for (int i = 0; i < c->files; i++)
		if (strcmp(strrchr(c->file[i].path, '/') + 1, name) == 0)
			return true;
	return false;
}

static int open_listed(struct checkpoint *c, const char *dir, const char *path, json_t *index, struct problem *p)
{
	json_t *map = json_object_get(index, "weight_map"), *v;
	const char *tensor, *file;

	if (!json_is_object(map) || json_object_size(map) == 0)
		return problem(p, "%s: no \"weight_map\"", path);
	json_object_foreach (map, tensor, v) {
		file = json_string_value(v);
		if (!file || !*file || strchr(file, '/'))
			return problem(p, "%s: tensor %s: expected the name of a file in the same directory", path,
			               tensor);
		if (!is_open(c, file) && open_file(c, dir, file, p) != 0)
			return -1;
	}
	json_object_foreach (map, tensor, v) {
		const struct tensor *t = checkpoint_find(c, tensor);

		if (!t || strcmp(strrchr(c->file[t->file].path, '/') + 1, json_string_value(v)) != 0)
			return problem(p, "%s: tensor %s is not in %s", path, tensor, json_string_value(v));
	}
	return 0;
}

int checkpoint_open(struct checkpoint *c, const char *dir, struct problem *p)
{
	char path[PATH_MAX];
	json_error_t e;
	json_t *index;
	int rc;

	*c = (struct checkpoint){0};
	snprintf(path, sizeof(path), "%s/model.safetensors.index.json", dir);
	if (access(path, F_OK) != 0) {
		rc = open_file(c, dir, "model.safetensors", p);
	} else {
		index = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
		rc = index ? open_listed(c, dir, path, index, p) : problem(p, "%s: %s", path, e.text);
		json_decref(index);
	}
	if (rc != 0)
		checkpoint_close(c);
	return rc;
}

void checkpoint_close(struct checkpoint *c)
{
	for (int i = 0; i < c->files; i++) {
		header_free(&c->file[i].header);
		if (c->file[i].at)
			munmap((void *)c->file[i].at, c->file[i].size);
		free(c->file[i].path);
	}
	free(c->file);
	*c = (struct checkpoint){0};
}

const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name)
{
	for (int i = 0; i < c->files; i++)
		for (size_t k = 0; k < c->file[i].header.n; k++)
			if (strcmp(c->file[i].header.tensor[k].name, name) == 0)
				return &c->file[i].header.tensor[k];
	return NULL;
}

const struct tensor *checkpoint_use(struct checkpoint *c, const char *name)
{
	struct tensor *t = (struct tensor *)checkpoint_find(c, name);

	if (t)
		t->used = true;
	return t;
}

const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i)
{
	for (int f = 0; f < c->files; i -= c->file[f++].header.n)
		if (i < c->file[f].header.n)
			return &c->file[f].header.tensor[i];
	return NULL;
}

const unsigned char *checkpoint_data(const struct checkpoint *c, const struct tensor *t)
{
	return c->file[t->file].at + c->file[t->file].data + t->begin;
}

void checkpoint_let_go(const struct checkpoint *c)
{
	for (int i = 0; i < c->files; i++)
		madvise((void *)c->file[i].at, c->file[i].size, MADV_DONTNEED);
}
