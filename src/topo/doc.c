/* JSON with faults named; see doc.h. */
#include "doc.h"
#include "../util/error.h"

#include <stdio.h>
#include <string.h>

static int take(struct doc *d, const char *name, json_t *root, const json_error_t *error)
{
	*d = (struct doc){.name = name, .root = root};
	if (!root)
		d->rc = error->line < 0 ? fail(TUTTI_ESYSTEM, "%s", error->text)
		                        : fail(TUTTI_EINVAL, "%s:%d: %s", name, error->line, error->text);
	else if (!json_is_object(root))
		d->rc = fail(TUTTI_EINVAL, "%s:1: an object is expected", name);
	return d->rc;
}

int doc_open(struct doc *d, const char *path)
{
	json_error_t error;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	return take(d, path, root, &error);
}

int doc_read(struct doc *d, const char *path, FILE *f)
{
	json_error_t error;
	json_t *root = json_loadf(f, JSON_REJECT_DUPLICATES, &error);
	return take(d, path, root, &error);
}

int doc_parse(struct doc *d, const char *name, const char *text, size_t len)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	return take(d, name, root, &error);
}

void doc_close(struct doc *d)
{
	json_decref(d->root);
	d->root = NULL;
}

int doc_fault(struct doc *d, const char *key, const char *what)
{
	if (!d->rc)
		d->rc = fail(TUTTI_EINVAL, "%s: %s%s%s: expected %s", d->name, d->at, d->at[0] && key[0] ? "." : "",
		             key, what);
	return d->rc;
}

size_t doc_enter(struct doc *d, const char *key, int i)
{
	size_t before = strlen(d->at), room = sizeof(d->at) - before;
	const char *dot = before ? "." : "";
	if (i < 0)
		snprintf(d->at + before, room, "%s%s", dot, key);
	else
		snprintf(d->at + before, room, "%s%s[%d]", dot, key, i);
	return before;
}

void doc_leave(struct doc *d, size_t before)
{
	d->at[before] = '\0';
}

static const json_t *field(const struct doc *d, const json_t *o, const char *key)
{
	const json_t *v = d->rc ? NULL : json_object_get(o, key);
	return json_is_null(v) ? NULL : v;
}

const json_t *doc_array(struct doc *d, const json_t *o, const char *key, size_t least, size_t most)
{
	const json_t *v = field(d, o, key);
	char what[80];
	if (json_is_array(v) && json_array_size(v) >= least && json_array_size(v) <= most)
		return v;
	snprintf(what, sizeof(what), least == most ? "an array of %zu" : "an array of %zu to %zu", least, most);
	doc_fault(d, key, what);
	return NULL;
}

const char *doc_text(struct doc *d, const json_t *o, const char *key, const char *otherwise)
{
	const json_t *v = field(d, o, key);
	if (json_is_string(v))
		return json_string_value(v);
	if (v || !otherwise)
		doc_fault(d, key, "a text");
	return otherwise ? otherwise : "";
}

int64_t doc_int(struct doc *d, const json_t *o, const char *key, int64_t least, int64_t most, const int64_t *otherwise)
{
	const json_t *v = field(d, o, key);
	char what[80];
	if (!v && otherwise)
		return *otherwise;
	if (json_is_integer(v) && json_integer_value(v) >= least && json_integer_value(v) <= most)
		return json_integer_value(v);
	snprintf(what, sizeof(what), "a whole number from %lld to %lld", (long long)least, (long long)most);
	doc_fault(d, key, what);
	return least;
}

double doc_number(struct doc *d, const json_t *o, const char *key, double otherwise)
{
	const json_t *v = field(d, o, key);
	if (!v)
		return otherwise;
	if (json_is_number(v) && json_number_value(v) > 1e-9 && json_number_value(v) < 1e12)
		return json_number_value(v);
	doc_fault(d, key, "a number above 0");
	return otherwise;
}

const json_t *doc_object(struct doc *d, const json_t *o, const char *key)
{
	const json_t *v = field(d, o, key);
	if (!json_is_object(v))
		doc_fault(d, key, "an object");
	return json_is_object(v) ? v : NULL;
}
