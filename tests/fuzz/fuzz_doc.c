/* SPDX-License-Identifier: MIT */
/*
 * JSON documents: a text is refused with its name and place, or read; and jansson, a reader that was not written here, says
 * the same of it, apart from the bounds of doc.h.
 */
#include "../../src/util/doc.h"
#include "../../src/util/error.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void same(const struct doc_value *v, const json_t *j);

static void same_inside(const struct doc_value *v, const json_t *j)
{
	size_t n = 0;

	must(doc_count(v) == (json_is_array(j) ? json_array_size(j) : json_object_size(j)));
	for (const struct doc_value *c = doc_first(v); c; c = doc_next(v, c), n++) {
		must(c->place == n && c->line >= v->line && c + c->values <= v + v->values);
		must(c == (c->key ? doc_member(v, c->key) : doc_element(v, n)));
		must(!c->key == json_is_array(j));
		same(c, c->key ? json_object_get(j, c->key) : json_array_get(j, n));
	}
	must(n == doc_count(v) && !doc_element(v, n));
}

static void same(const struct doc_value *v, const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_NULL:
		must(v->type == DOC_NULL);
		break;
	case JSON_FALSE:
		must(v->type == DOC_FALSE);
		break;
	case JSON_TRUE:
		must(v->type == DOC_TRUE);
		break;
	case JSON_INTEGER:
		must(v->type == DOC_WHOLE && v->whole == json_integer_value(j));
		break;
	case JSON_REAL:
		must(v->type == DOC_REAL && !(v->real < json_real_value(j)) && !(v->real > json_real_value(j)));
		break;
	case JSON_STRING:
		must(v->type == DOC_TEXT && strcmp(v->text, json_string_value(j)) == 0 &&
		     v->count == json_string_length(j));
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		must(v->type == (json_is_array(j) ? DOC_ARRAY : DOC_OBJECT));
		same_inside(v, j);
		break;
	}
}

/* Is the text beyond the bounds of doc.h, or has it a NUL, which ends a text for jansson here and there? */
static bool is_stricter(const uint8_t *data, size_t size)
{
	return strstr(fail_text(), "nested deeper") || strstr(fail_text(), "more than 128 characters") ||
	       memchr(data, '\0', size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_error_t why;
	json_t *j = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
	struct doc d;

	if (doc_parse(&d, "text", (const char *)data, size) == TUTTI_OK) {
		must(d.root && d.root->line >= 1);
		must(j || strstr(why.text, "too big")); /* a whole number that only a double holds */
		if (j)
			same(d.root, j);
		must(doc_fault(&d, d.root + d.root->values - 1, NULL, "the last one") == TUTTI_EINVAL);
	} else {
		must(!d.root && (!j || is_stricter(data, size)));
	}
	must(strncmp(fail_text(), "text:", 5) == 0);
	doc_close(&d);
	json_decref(j);
	return 0;
}
