/* SPDX-License-Identifier: MIT */
/* JSON documents; see doc.h. A recursive descent over a copy of the text, in which strings are decoded where they stand. */
#include "doc.h"
#include "error.h"
#include "printable.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_CHARS 128

struct parser {
	struct doc *d;
	char *p, *end, *line_start; /* *end is a NUL */
	uint32_t line, values, indexed;
};

/* ---- faults of the text ------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static bool bad(struct parser *s, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	s->d->rc = fail(TUTTI_EINVAL, "%s:%u:%zu: %s", s->d->name, s->line, (size_t)(s->p - s->line_start) + 1, what);
	return false;
}

/* Something else stands where `what` should. */
static bool expected(struct parser *s, const char *what)
{
	unsigned char c = (unsigned char)*s->p;

	if (s->p == s->end)
		return bad(s, "expected %s, but the text ends", what);
	return c > ' ' && c < 0x7f ? bad(s, "expected %s, not '%c'", what, c)
	                           : bad(s, "expected %s, not the byte 0x%02x", what, c);
}

/* ---- scalars ----------------------------------------------------------------------------------------------------- */

static void skip_space(struct parser *s)
{
	for (; *s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n'; s->p++)
		if (*s->p == '\n') {
			s->line++;
			s->line_start = s->p + 1;
		}
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *p)
{
	while (is_digit(*p))
		p++;
	return p;
}

/* The end of the number at p, and whether it has neither fraction nor exponent; NULL: there is none. */
static const char *number_end(const char *p, bool *plain)
{
	const char *digits = p + (*p == '-');

	*plain = true;
	if (!is_digit(*digits))
		return NULL;
	p = *digits == '0' ? digits + 1 : skip_digits(digits);
	if (*p == '.') {
		if (!is_digit(p[1]))
			return NULL;
		*plain = false;
		p = skip_digits(p + 1);
	}
	if (*p == 'e' || *p == 'E') {
		p += p[1] == '+' || p[1] == '-' ? 2 : 1;
		if (!is_digit(*p))
			return NULL;
		*plain = false;
		p = skip_digits(p);
	}
	return p;
}

/* strtod takes the decimal point of the application's locale, and printf writes it. */
static double real_of(const char *text, size_t len)
{
	char here[NUMBER_CHARS + 16], half[16];
	const char *point = memchr(text, '.', len);
	size_t whole = point ? (size_t)(point - text) : len, n;

	n = (size_t)snprintf(half, sizeof(half), "%.1f", 0.5) - 2; /* between 0 and 5 */
	memcpy(here, text, whole);
	if (point) {
		memcpy(here + whole, half + 1, n);
		memcpy(here + whole + n, point + 1, len - whole - 1);
		len += n - 1;
	}
	here[len] = '\0';
	return strtod(here, NULL);
}

/* False: it does not fit. */
static bool whole_of(const char *text, size_t len, int64_t *out)
{
	bool minus = *text == '-';
	int64_t v = 0;

	for (size_t i = minus; i < len; i++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_sub_overflow(v, text[i] - '0', &v)) /* downwards: there is one more */
			return false;
	return !__builtin_mul_overflow(v, minus ? 1 : -1, out);
}

static bool parse_number(struct parser *s, struct doc_value *v)
{
	bool plain;
	const char *end = number_end(s->p, &plain);
	size_t len = end ? (size_t)(end - s->p) : 0;

	if (!end)
		return bad(s, "expected a number such as -12, 0.5 or 1e-6");
	if (len > NUMBER_CHARS)
		return bad(s, "a number has more than %d characters", NUMBER_CHARS);
	v->type = plain && whole_of(s->p, len, &v->whole) ? DOC_WHOLE : DOC_REAL;
	if (v->type == DOC_REAL && isinf(v->real = real_of(s->p, len)))
		return bad(s, "a number is too large for a double");
	s->p += len;
	return true;
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(struct parser *s, unsigned *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		int digit = hex_value(*s->p);

		if (digit < 0)
			return expected(s, "four hexadecimal digits after \\u");
		*out = *out << 4 | (unsigned)digit;
	}
	return true;
}

static char *put_utf8(char *to, unsigned c)
{
	static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
	unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

	*to++ = (char)(lead[more] | c >> 6 * more);
	while (more--)
		*to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
	return to;
}

/* Behind "\u"; a character beyond 16 bits is two of them, a high and a low surrogate. */
static bool parse_unicode(struct parser *s, char **to)
{
	unsigned c, low = 0;

	if (!parse_hex(s, &c))
		return false;
	if (c == 0)
		return bad(s, "\\u0000 in a string is not supported");
	if (c >= 0xd800 && c < 0xdc00) {
		if (s->p[0] == '\\' && s->p[1] == 'u') {
			s->p += 2;
			if (!parse_hex(s, &low))
				return false;
		}
		if (low < 0xdc00 || low > 0xdfff)
			return bad(s, "a high surrogate \\u%04x is not followed by a low one", c);
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c >= 0xdc00 && c < 0xe000) {
		return bad(s, "a low surrogate \\u%04x does not follow a high one", c);
	}
	*to = put_utf8(*to, c);
	return true;
}

static bool parse_escape(struct parser *s, char **to)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *at = *++s->p ? strchr(letters, *s->p) : NULL;

	if (at) {
		*(*to)++ = meant[at - letters];
	} else if (*s->p != 'u') {
		return expected(s, "one of \"\\/bfnrtu after a backslash");
	}
	s->p++;
	return at || parse_unicode(s, to);
}

/* The decoded text is never longer than the encoded one. */
static bool parse_string(struct parser *s, const char **text, uint32_t *len)
{
	char *to = ++s->p;

	for (*text = to; *s->p != '"';) {
		size_t n = utf8_bytes(s->p);

		if (s->p == s->end)
			return bad(s, "a string has no end");
		if ((unsigned char)*s->p < 0x20)
			return bad(s, "a control character in a string must be written as \\u%04x", *s->p);
		if (!n)
			return bad(s, "a string holds a byte that is not UTF-8: 0x%02x", (unsigned char)*s->p);
		if (*s->p == '\\') {
			if (!parse_escape(s, &to))
				return false;
			continue;
		}
		memmove(to, s->p, n);
		to += n;
		s->p += n;
	}
	s->p++;
	*to = '\0';
	*len = (uint32_t)(to - *text);
	return true;
}

static bool parse_word(struct parser *s, struct doc_value *v)
{
	static const struct {
		const char *text;
		enum doc_type type;
	} words[] = {{"null", DOC_NULL}, {"false", DOC_FALSE}, {"true", DOC_TRUE}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t len = strlen(words[i].text);

		if (strncmp(s->p, words[i].text, len) == 0) {
			v->type = words[i].type;
			s->p += len;
			return true;
		}
	}
	return expected(s, "a value");
}

/* ---- arrays and objects ------------------------------------------------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
	const struct doc_value *x = *(const struct doc_value *const *)a, *y = *(const struct doc_value *const *)b;
	int order = strcmp(x->key, y->key);

	return order ? order : (x > y) - (x < y);
}

/* All that is inside v stands behind it. */
static bool finish(struct parser *s, struct doc_value *v)
{
	const struct doc_value *twice = NULL, *c = v + 1;

	v->inside = s->d->index + s->indexed;
	s->indexed += v->count;
	for (uint32_t i = 0; i < v->count; i++, c += c->values)
		v->inside[i] = c;
	if (v->type == DOC_OBJECT && v->count)
		qsort(v->inside, v->count, sizeof(v->inside[0]), by_key);
	for (uint32_t i = 1; v->type == DOC_OBJECT && i < v->count; i++)
		if (strcmp(v->inside[i - 1]->key, v->inside[i]->key) == 0 && (!twice || v->inside[i] < twice))
			twice = v->inside[i];
	if (twice)
		s->d->rc = fail(TUTTI_EINVAL, "%s:%u: the key \"%.64s\" stands twice in an object", s->d->name,
		                twice->line, twice->key);
	return !twice;
}

static bool parse_value(struct parser *s, const char *key, uint32_t place, int depth);

static bool parse_member(struct parser *s, uint32_t place, int depth)
{
	const char *key;
	uint32_t len;

	if (*s->p != '"')
		return expected(s, "a key in quotes");
	if (!parse_string(s, &key, &len))
		return false;
	skip_space(s);
	if (*s->p != ':')
		return expected(s, "':' after a key");
	s->p++;
	return parse_value(s, key, place, depth);
}

static bool parse_inside(struct parser *s, struct doc_value *v, int depth)
{
	bool object = v->type == DOC_OBJECT;
	char close = object ? '}' : ']';

	if (depth == DOC_DEPTH)
		return bad(s, "arrays and objects are nested deeper than %d levels", DOC_DEPTH);
	s->p++;
	skip_space(s);
	for (bool more = *s->p != close; more; v->count++) {
		skip_space(s);
		if (object ? !parse_member(s, v->count, depth + 1) : !parse_value(s, NULL, v->count, depth + 1))
			return false;
		skip_space(s);
		more = *s->p == ',';
		if (!more && *s->p != close)
			return expected(s, object ? "',' or '}'" : "',' or ']'");
		s->p += more;
	}
	s->p++;
	return finish(s, v);
}

static bool parse_value(struct parser *s, const char *key, uint32_t place, int depth)
{
	struct doc_value *v;
	bool ok;

	skip_space(s);
	v = &s->d->value[s->values++];
	*v = (struct doc_value){.line = s->line, .key = key, .place = place};
	if (*s->p == '{' || *s->p == '[') {
		v->type = *s->p == '{' ? DOC_OBJECT : DOC_ARRAY;
		ok = parse_inside(s, v, depth);
	} else if (*s->p == '"') {
		v->type = DOC_TEXT;
		ok = parse_string(s, &v->text, &v->count);
	} else {
		ok = *s->p == '-' || is_digit(*s->p) ? parse_number(s, v) : parse_word(s, v);
	}
	v->values = (uint32_t)(s->d->value + s->values - v);
	return ok;
}

/* ---- documents --------------------------------------------------------------------------------------------------- */

/* A value is the first of the text, or stands behind one of these. */
static size_t most_values(const char *text, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	return n;
}

/* Takes the text, which has a NUL behind it. */
static int parse(struct doc *d, char *text, size_t len)
{
	struct parser s = {.d = d, .p = text, .end = text + len, .line_start = text, .line = 1};
	size_t most = most_values(text, len);

	d->text = text;
	d->value = malloc(most * sizeof(d->value[0]));
	d->index = malloc(most * sizeof(d->index[0]));
	if (!d->value || !d->index)
		return d->rc = fail(TUTTI_ENOMEM, "%s: out of memory for its %zu bytes", d->name, len);
	if (!parse_value(&s, NULL, 0, 0))
		return d->rc;
	skip_space(&s);
	if (s.p != s.end) {
		bad(&s, "something follows the end of the document");
		return d->rc;
	}
	d->root = d->value;
	return TUTTI_OK;
}

static int too_large(const char *name)
{
	return fail(TUTTI_EINVAL, "%s: it is larger than %zu MiB", name, DOC_BYTES >> 20);
}

int doc_parse(struct doc *d, const char *name, const char *text, size_t len)
{
	char *copy = NULL;

	*d = (struct doc){.name = name};
	if (len > DOC_BYTES)
		return d->rc = too_large(name);
	if (!(copy = malloc(len + 1)))
		return d->rc = fail(TUTTI_ENOMEM, "%s: out of memory for its %zu bytes", name, len);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return parse(d, copy, len);
}

int doc_load(FILE *f, const char *name, char **text, size_t *len)
{
	size_t cap = 0, n = 0;

	*text = NULL;
	*len = 0;
	do {
		*len += n;
		if (cap - *len < 2) {
			char *grown = realloc(*text, cap = 2 * cap + 4096);

			if (!grown)
				return fail(TUTTI_ENOMEM, "%s: out of memory for its text", name);
			*text = grown;
		}
		n = fread(*text + *len, 1, cap - 1 - *len, f);
	} while (n && *len <= DOC_BYTES);
	(*text)[*len] = '\0';
	if (ferror(f))
		return fail_errno("can't read %s", name);
	return *len > DOC_BYTES ? too_large(name) : TUTTI_OK;
}

int doc_read(struct doc *d, const char *name, FILE *f)
{
	char *text;
	size_t len;

	*d = (struct doc){.name = name};
	d->rc = doc_load(f, name, &text, &len);
	if (d->rc) {
		free(text);
		return d->rc;
	}
	return parse(d, text, len);
}

void doc_close(struct doc *d)
{
	free(d->value);
	free(d->index);
	free(d->text);
	d->root = d->value = NULL;
	d->index = NULL;
	d->text = NULL;
}

/* ---- faults of what it says -------------------------------------------------------------------------------------- */

static void append(char *path, size_t cap, const char *key, uint32_t place)
{
	size_t used = strlen(path);

	if (key)
		snprintf(path + used, cap - used, "%s%.64s", used ? "." : "", key);
	else
		snprintf(path + used, cap - used, "[%u]", place);
}

/* "hosts[2].devices[0]": the way down from the root to v. */
static void path_to(const struct doc *d, const struct doc_value *v, char *path, size_t cap)
{
	path[0] = '\0';
	for (const struct doc_value *at = d->root; at != v;) {
		const struct doc_value *c = at + 1;

		while (v >= c + c->values)
			c += c->values;
		append(path, cap, c->key, c->place);
		at = c;
	}
}

int doc_fault(struct doc *d, const struct doc_value *v, const char *key, const char *fmt, ...)
{
	const struct doc_value *at = v ? v : d->root, *member = key ? doc_member(at, key) : NULL;
	char path[256] = "", what[256];
	va_list ap;

	if (d->rc)
		return d->rc;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	path_to(d, member ? member : at, path, sizeof(path));
	if (key && !member)
		append(path, sizeof(path), key, 0);
	return d->rc = fail(TUTTI_EINVAL, "%s:%u: %s%s%s", d->name, (member ? member : at)->line, path,
	                    path[0] ? ": " : "", what);
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

size_t doc_count(const struct doc_value *v)
{
	return v && (v->type == DOC_ARRAY || v->type == DOC_OBJECT) ? v->count : 0;
}

const struct doc_value *doc_member(const struct doc_value *object, const char *key)
{
	size_t low = 0, high = object && object->type == DOC_OBJECT ? object->count : 0;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = strcmp(key, object->inside[mid]->key);

		if (order == 0)
			return object->inside[mid];
		low = order > 0 ? mid + 1 : low;
		high = order > 0 ? high : mid;
	}
	return NULL;
}

const struct doc_value *doc_element(const struct doc_value *array, size_t i)
{
	return array && array->type == DOC_ARRAY && i < array->count ? array->inside[i] : NULL;
}

const struct doc_value *doc_first(const struct doc_value *v)
{
	return doc_count(v) ? v + 1 : NULL;
}

const struct doc_value *doc_next(const struct doc_value *v, const struct doc_value *c)
{
	return c->place + 1 < v->count ? c + c->values : NULL;
}

double doc_real(const struct doc_value *v)
{
	if (!v || (v->type != DOC_WHOLE && v->type != DOC_REAL))
		return NAN;
	return v->type == DOC_WHOLE ? (double)v->whole : v->real;
}

bool doc_is_whole(const struct doc_value *v, int64_t least, int64_t most)
{
	return v && v->type == DOC_WHOLE && v->whole >= least && v->whole <= most;
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static const struct doc_value *field(const struct doc *d, const struct doc_value *o, const char *key)
{
	const struct doc_value *v = d->rc ? NULL : doc_member(o, key);

	return v && v->type == DOC_NULL ? NULL : v;
}

const struct doc_value *doc_array(struct doc *d, const struct doc_value *o, const char *key, size_t least, size_t most)
{
	const struct doc_value *v = field(d, o, key);

	if (v && v->type == DOC_ARRAY && v->count >= least && v->count <= most)
		return v;
	if (least == most)
		doc_fault(d, o, key, "expected an array of %zu", least);
	else
		doc_fault(d, o, key, "expected an array of %zu to %zu", least, most);
	return NULL;
}

const struct doc_value *doc_object(struct doc *d, const struct doc_value *o, const char *key)
{
	const struct doc_value *v = field(d, o, key);

	if (v && v->type == DOC_OBJECT)
		return v;
	doc_fault(d, o, key, "expected an object");
	return NULL;
}

const char *doc_text(struct doc *d, const struct doc_value *o, const char *key, const char *otherwise)
{
	const struct doc_value *v = field(d, o, key);

	if (v && v->type == DOC_TEXT)
		return v->text;
	if (v || !otherwise)
		doc_fault(d, o, key, "expected a text");
	return otherwise ? otherwise : "";
}

int64_t doc_int(struct doc *d, const struct doc_value *o, const char *key, int64_t least, int64_t most,
                const int64_t *otherwise)
{
	const struct doc_value *v = field(d, o, key);

	if (!v && otherwise)
		return *otherwise;
	if (doc_is_whole(v, least, most))
		return v->whole;
	doc_fault(d, o, key, "expected a whole number from %lld to %lld", (long long)least, (long long)most);
	return least;
}

double doc_number(struct doc *d, const struct doc_value *o, const char *key, double otherwise)
{
	const struct doc_value *v = field(d, o, key);
	double x = doc_real(v);

	if (!v)
		return otherwise;
	if (x > 1e-9 && x < 1e12)
		return x;
	doc_fault(d, o, key, "expected a number above 0");
	return otherwise;
}
