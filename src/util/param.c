/* SPDX-License-Identifier: MIT */
/*
 * The environment: reads every variable of PARAM_TABLE, checks it against its rule, and warns of TUTTI_ variables that
 * don't exist. Nothing else in the library reads TUTTI_ variables.
 */
#include "param.h"
#include "../os/os.h"
#include "error.h"
#include "log.h"
#include "secret.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
enum param_id {
#define PARAM_ID(field, var, type, dflt, equal, doc) ID_##field,
	PARAM_TABLE(PARAM_ID)
	PARAM_COUNT
};
/* clang-format on */

enum param_type { T_str, T_int, T_num, T_flag };

/* clang-format off */
static const struct param {
	const char *variable;
	enum param_type type;
	const char *type_name, *dflt;
	bool equal;
	const char *doc;
	size_t offset;
} table[] = {
#define PARAM_ROW(field, var, type, dflt, equal, doc) \
	{ var, T_##type, #type, dflt, equal, doc, offsetof(struct params, field) },
	PARAM_TABLE(PARAM_ROW)
};
/* clang-format on */

/* What a value that somebody set must be; the defaults stand outside (a rank of -1 means that none was given). */
static const struct rule {
	int64_t min, max; /* of an int; max 0: no limit */
	bool power;
	bool chosen;       /* 0 stands for what the library chooses */
	double most;       /* of a num, which is always above 0 */
	const char *words; /* of a str */
} rules[PARAM_COUNT] = {
        [ID_rank] = {.max = INT32_MAX},
        [ID_size] = {.min = 1, .max = INT32_MAX},
        [ID_root_fd] = {.max = INT32_MAX},
        [ID_local_rank] = {.max = INT32_MAX},
        [ID_channels] = {.max = 64},
        [ID_timeout] = {.most = 1e9},
        [ID_start_timeout] = {.most = 1e9},
        [ID_wait] = {.words = "auto spin yield sleep"},
        [ID_wire] = {.words = "bf16 q8"},
        [ID_isa] = {.words = "c avx2 avx512 neon"},
        [ID_slot] = {.min = 64, .max = 1 << 30, .chosen = true},
        [ID_slots] = {.min = 2, .max = 1 << 16, .power = true, .chosen = true},
        [ID_direct_max] = {.max = 1 << 30},
        [ID_verbs_mode] = {.words = "auto write send uc"},
        [ID_verbs_connect] = {.words = "auto exchange cm"},
        [ID_verbs_gid] = {.max = UINT16_MAX},
        [ID_libfabric_mode] = {.words = "auto write message"},
        [ID_log] = {.words = "error warn info debug"},
};

bool parse_size(const char *text, int64_t *out)
{
	static const char suffixes[] = "KMGT";
	int64_t value = 0;
	const char *s = text, *suffix;

	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *s - '0', &value))
			return false;
	if (s == text)
		return false;
	if (*s) {
		suffix = strchr(suffixes, toupper((unsigned char)*s));
		if (!suffix || s[1])
			return false;
		if (__builtin_mul_overflow(value, INT64_C(1) << (10 * (suffix - suffixes + 1)), &value))
			return false;
	}
	*out = value;
	return true;
}

static bool parse_int(const char *text, int64_t *out)
{
	bool minus = *text == '-';

	if (!parse_size(text + minus, out))
		return false;
	if (minus)
		*out = -*out;
	return true;
}

/* Not strtod, whose decimal point depends on the application's locale. */
bool parse_decimal(const char *text, double *out)
{
	double value = 0, scale = 1;
	const char *s = text;
	int digits = 0;

	for (; *s >= '0' && *s <= '9'; s++, digits++)
		value = value * 10 + (*s - '0');
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, digits++)
			value += (*s - '0') * (scale /= 10);
	*out = value;
	return digits > 0 && digits < 300 && *s == '\0';
}

static bool is_word_of(const char *text, const char *words)
{
	size_t n = strlen(text);

	for (const char *w = words; *w; w += strspn(w, " ")) {
		size_t len = strcspn(w, " ");
		if (len == n && memcmp(w, text, n) == 0)
			return true;
		w += len;
	}
	return false;
}

static bool is_plain(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			return false;
	return true;
}

/* The field's pointer is const for its readers; this file owns what it points to. */
static void *field_of(const struct params *p, int id)
{
	return (char *)p + table[id].offset;
}

static int malformed(int id, const char *text)
{
	const struct rule *r = &rules[id];
	const char *var = table[id].variable;

	switch (table[id].type) {
	case T_int:
		return fail(TUTTI_EINVAL,
		            "%s=%s: expected a %s from %lld to %lld%s (suffixes K, M, G and T are allowed)", var, text,
		            r->power ? "power of two" : "number", (long long)r->min,
		            (long long)(r->max ? r->max : INT64_MAX), r->chosen ? ", or 0" : "");
	case T_num:
		return fail(TUTTI_EINVAL, "%s=%s: expected a number above 0 and at most %.0f", var, text, r->most);
	case T_flag:
		return fail(TUTTI_EINVAL, "%s=%s: expected 0 or 1", var, text);
	default:
		if (r->words)
			return fail(TUTTI_EINVAL, "%s=%s: expected one of: %s", var, text, r->words);
		return fail(TUTTI_EINVAL, "%s: the value contains a control character", var);
	}
}

static int set_str(struct params *p, int id, const char *text)
{
	char *copy = NULL;

	if (!is_plain(text) || (rules[id].words && text[0] && !is_word_of(text, rules[id].words)))
		return malformed(id, text);
	if (text[0] && !(copy = strdup(text)))
		return fail(TUTTI_ENOMEM, "out of memory while reading %s", table[id].variable);
	*(char **)field_of(p, id) = copy;
	return TUTTI_OK;
}

static int set_field(struct params *p, int id, const char *text, bool is_default)
{
	const struct rule *r = &rules[id];
	int64_t i = 0;
	double d = 0;

	switch (table[id].type) {
	case T_int:
		if (!parse_int(text, &i))
			return malformed(id, text);
		if (!is_default && !(r->chosen && i == 0) &&
		    (i < r->min || (r->max && i > r->max) || (r->power && (i & (i - 1)))))
			return malformed(id, text);
		*(int64_t *)field_of(p, id) = i;
		return TUTTI_OK;
	case T_num:
		if (!parse_decimal(text, &d) || d <= 0 || d > r->most)
			return malformed(id, text);
		*(double *)field_of(p, id) = d;
		return TUTTI_OK;
	case T_flag:
		if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
			return malformed(id, text);
		*(bool *)field_of(p, id) = text[0] == '1';
		return TUTTI_OK;
	default:
		return set_str(p, id, text);
	}
}

#define NAME_MAX_BYTES 64

/* Levenshtein's distance of two names; names beyond NAME_MAX_BYTES count as far. */
static int distance(const char *a, size_t na, const char *b, size_t nb)
{
	int row[NAME_MAX_BYTES + 1];

	if (na > NAME_MAX_BYTES || nb > NAME_MAX_BYTES)
		return NAME_MAX_BYTES;
	for (size_t j = 0; j <= nb; j++)
		row[j] = (int)j;
	for (size_t i = 1; i <= na; i++) {
		int diagonal = row[0];
		row[0] = (int)i;
		for (size_t j = 1; j <= nb; j++) {
			int best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

static void warn_if_unknown(const char *name, size_t len)
{
	int best = NAME_MAX_BYTES, nearest = -1;

	for (int id = 0; id < PARAM_COUNT; id++) {
		int d = distance(name, len, table[id].variable, strlen(table[id].variable));
		if (d == 0)
			return;
		if (d < best) {
			best = d;
			nearest = id;
		}
	}
	if (nearest >= 0)
		log_warn("unknown variable %.*s; did you mean %s? (tutti-info --params lists all)", (int)len, name,
		         table[nearest].variable);
	else
		log_warn("unknown variable %.*s (tutti-info --params lists all)", (int)len, name);
}

static void warn_of_unknown(void)
{
	for (char **e = os_environment(); e && *e; e++)
		if (strncmp(*e, "TUTTI_", 6) == 0)
			warn_if_unknown(*e, strcspn(*e, "="));
}

int params_read(struct params *p)
{
	enum tutti_log_level level;

	memset(p, 0, sizeof(*p));
	for (int id = 0; id < PARAM_COUNT; id++) {
		const char *text = getenv(table[id].variable);
		bool is_default = !text || !text[0];
		int rc = set_field(p, id, is_default ? table[id].dflt : text, is_default);
		if (rc != TUTTI_OK) {
			params_free(p);
			return rc;
		}
	}
	if (p->wire && p->reproducible) {
		params_free(p);
		return fail(
		        TUTTI_EINVAL,
		        "TUTTI_WIRE and TUTTI_REPRODUCIBLE=1 are mutually exclusive (compressed sums depend on where ranks are): unset one");
	}
	if (log_level_parse(p->log, &level))
		log_set_level(level);
	warn_of_unknown();
	return TUTTI_OK;
}

void params_forget_secret(struct params *p)
{
	if (p->secret)
		secret_wipe((char *)(uintptr_t)p->secret, strlen(p->secret));
	free((char *)(uintptr_t)p->secret);
	p->secret = NULL;
}

void params_free(struct params *p)
{
	params_forget_secret(p);
	for (int id = 0; id < PARAM_COUNT; id++)
		if (table[id].type == T_str)
			free(*(char **)field_of(p, id));
	memset(p, 0, sizeof(*p));
}

/* The value, which is a text already or is written to `number`. */
static const char *value_text(const struct params *p, int id, char number[40])
{
	const void *field = field_of(p, id);
	const char *text = number;

	switch (table[id].type) {
	case T_int:
		snprintf(number, 40, "%lld", (long long)*(const int64_t *)field);
		break;
	case T_num:
		snprintf(number, 40, "%.9g", *(const double *)field);
		break;
	case T_flag:
		snprintf(number, 40, "%d", *(const bool *)field);
		break;
	default:
		text = *(char *const *)field;
	}
	return text ? text : "";
}

size_t params_equal_text(const struct params *p, char *buf, size_t cap)
{
	char number[40];
	size_t used = 0;

	for (int id = 0; id < PARAM_COUNT; id++) {
		size_t room = used < cap ? cap - used : 0;
		if (table[id].equal)
			used += (size_t)snprintf(room ? buf + used : NULL, room, "%s=%s\n", table[id].variable,
			                         value_text(p, id, number));
	}
	return used;
}

/* The value of the line "name=..." in a text of such lines. */
static bool find_line(const char *text, const char *name, size_t len, const char **value, int *value_len)
{
	for (const char *line = text; *line; line += line[0] == '\n') {
		size_t n = strcspn(line, "\n");
		if (n > len && line[len] == '=' && memcmp(line, name, len) == 0) {
			*value = line + len + 1;
			*value_len = (int)(n - len - 1);
			return true;
		}
		line += n;
	}
	return false;
}

/* The first line of a that b lacks or has otherwise. */
static bool differ_one_way(const char *a, const char *b, char *name, char *va, char *vb)
{
	for (const char *line = a; *line; line += line[0] == '\n') {
		size_t n = strcspn(line, "\n"), len = strcspn(line, "=\n");
		const char *in_a = "", *in_b = "(unknown)";
		int na = 0, nb = (int)strlen(in_b);
		bool known = find_line(b, line, len, &in_b, &nb);

		if (len < n) {
			in_a = line + len + 1;
			na = (int)(n - len - 1);
		}
		if (!known || na != nb || memcmp(in_a, in_b, (size_t)na) != 0) {
			snprintf(name, 64, "%.*s", (int)len, line);
			snprintf(va, 128, "%.*s", na, in_a);
			snprintf(vb, 128, "%.*s", nb, in_b);
			return true;
		}
		line += n;
	}
	return false;
}

bool params_differ(const char *a, const char *b, char *name, char *va, char *vb)
{
	return differ_one_way(a, b, name, va, vb) || differ_one_way(b, a, name, vb, va);
}

bool param_row(int i, struct param_row *row)
{
	if (i < 0 || i >= PARAM_COUNT)
		return false;
	*row = (struct param_row){
	        .variable = table[i].variable,
	        .type = table[i].type_name,
	        .dflt = table[i].dflt,
	        .doc = table[i].doc,
	        .equal = table[i].equal,
	};
	return true;
}
