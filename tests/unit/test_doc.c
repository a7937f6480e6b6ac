/* SPDX-License-Identifier: MIT */
/* JSON documents: what the RFC allows is read, what it forbids is refused with its place, and fields are found and faulted. */
#include "expect.h"

#include "../../src/util/doc.h"
#include "../../src/util/error.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct doc d;

static const struct doc_value *read_text(const char *text)
{
	doc_close(&d);
	assert_ok(doc_parse(&d, "f", text, strlen(text)));
	assert_non_null(d.root);
	return d.root;
}

static void refused(const char *text, size_t len, const char *why)
{
	doc_close(&d);
	assert_int_equal(doc_parse(&d, "f", text, len), TUTTI_EINVAL);
	assert_null(d.root);
	if (strncmp(fail_text(), why, strlen(why)) != 0)
		assert_string_equal(fail_text(), why);
}

static void test_scalars(void **state)
{
	(void)state;
	assert_int_equal(read_text("null")->type, DOC_NULL);
	assert_int_equal(read_text(" true ")->type, DOC_TRUE);
	assert_int_equal(read_text("\n\tfalse\r\n")->type, DOC_FALSE);
	assert_int_equal(d.root->line, 2);
	assert_true(read_text("-9223372036854775808")->whole == INT64_MIN && d.root->type == DOC_WHOLE);
	assert_true(read_text("9223372036854775807")->whole == INT64_MAX && d.root->type == DOC_WHOLE);
	assert_true(doc_real(read_text("9223372036854775808")) == 9223372036854775808.0 && d.root->type == DOC_REAL);
	assert_true(read_text("-0")->whole == 0 && d.root->type == DOC_WHOLE);
	assert_true(doc_real(read_text("0.1")) == 0.1 && doc_real(read_text("-12.5E+2")) == -1250 &&
	            doc_real(read_text("1e-400")) == 0 && doc_real(read_text("17")) == 17);
	assert_true(isnan(doc_real(read_text("\"17\""))) && isnan(doc_real(NULL)));
}

static void test_strings(void **state)
{
	(void)state;
	assert_string_equal(read_text("\"\"")->text, "");
	assert_string_equal(read_text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")->text, "\"\\/\b\f\n\r\t");
	assert_string_equal(read_text("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00!\"")->text, "A\u00e9\u20ac\U0001f600!");
	assert_int_equal(d.root->count, 1 + 2 + 3 + 4 + 1);
	assert_string_equal(read_text("\"\u00e9\u20ac\U0001f600\x7f\"")->text, "\u00e9\u20ac\U0001f600\x7f");
	refused("\"a\\u0000\"", 9, "f:1:9: \\u0000 in a string");
	refused("\"\\ud83d\"", 8, "f:1:8: a high surrogate \\ud83d is not followed");
	refused("\"\\ud83d\\u0041\"", 14, "f:1:14: a high surrogate");
	refused("\"\\ude00\"", 8, "f:1:8: a low surrogate");
	refused("\"\\u12g4\"", 8, "f:1:6: expected four hexadecimal digits after \\u, not 'g'");
	refused("\"\\x\"", 4, "f:1:3: expected one of \"\\/bfnrtu after a backslash, not 'x'");
	refused("\"a\nb\"", 5, "f:1:3: a control character in a string must be written as \\u000a");
	refused("\"\xc0\x80\"", 4, "f:1:2: a string holds a byte that is not UTF-8: 0xc0");
	refused("\"\xed\xa0\x80\"", 5, "f:1:2: a string holds a byte that is not UTF-8");
	refused("\"\xe2\x82", 3, "f:1:2: a string holds a byte that is not UTF-8");
	refused("[\"abc", 5, "f:1:6: a string has no end");
	refused("\"\\", 2, "f:1:3: expected one of");
}

static void test_refused(void **state)
{
	static const char *const bad[][2] = {
	        {"", "f:1:1: expected a value, but the text ends"},
	        {"\n  ", "f:2:3: expected a value"},
	        {"[1,\n 2\n 3]", "f:3:2: expected ',' or ']', not '3'"},
	        {"[1,]", "f:1:4: expected a value, not ']'"},
	        {"[,1]", "f:1:2: expected a value, not ','"},
	        {"[1", "f:1:3: expected ',' or ']', but the text ends"},
	        {"{\"a\" 1}", "f:1:6: expected ':' after a key, not '1'"},
	        {"{\"a\": 1,}", "f:1:9: expected a key in quotes, not '}'"},
	        {"{a: 1}", "f:1:2: expected a key in quotes, not 'a'"},
	        {"{\"a\": 1 \"b\": 2}", "f:1:9: expected ',' or '}', not '\"'"},
	        {"{\"a\": 1]", "f:1:8: expected ',' or '}', not ']'"},
	        {"[1] []", "f:1:5: something follows the end of the document"},
	        {"{\"a\": 1,\n\"b\": 2,\n\"a\": 3}", "f:3: the key \"a\" stands twice in an object"},
	        {"{\"a\": 1, \"\\u0061\": 2}", "f:1: the key \"a\" stands twice in an object"},
	        {"nul", "f:1:1: expected a value, not 'n'"},
	        {"NaN", "f:1:1: expected a value, not 'N'"},
	        {"01", "f:1:2: something follows"},
	        {"+1", "f:1:1: expected a value, not '+'"},
	        {"-", "f:1:1: expected a number such as"},
	        {"[1.]", "f:1:2: expected a number such as"},
	        {"[1e]", "f:1:2: expected a number such as"},
	        {".5", "f:1:1: expected a value, not '.'"},
	        {"1e999", "f:1:1: a number is too large for a double"},
	        {"\xef\xbb\xbf{}", "f:1:1: expected a value, not the byte 0xef"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(bad[i][0], strlen(bad[i][0]), bad[i][1]);
	refused("[1\0]", 4, "f:1:3: expected ',' or ']', not the byte 0x00");
	refused("1\0", 2, "f:1:2: something follows");
}

static void test_bounds(void **state)
{
	enum { LEN = 4096 };
	static char text[LEN];

	(void)state;
	memset(text, '[', DOC_DEPTH);
	memset(text + DOC_DEPTH, ']', DOC_DEPTH);
	assert_int_equal(read_text(text)->values, DOC_DEPTH);
	memset(text, '[', LEN);
	refused(text, LEN, "f:1:257: arrays and objects are nested deeper than 256 levels");
	memset(text, '1', LEN);
	refused(text, LEN, "f:1:1: a number has more than 128 characters");
	text[128] = '\0';
	assert_true(doc_real(read_text(text)) > 1e127);
	/* no more of the text is looked at than there is */
	refused("[12345", 3, "f:1:4: expected ',' or ']', but the text ends");
	doc_close(&d);
	assert_ok(doc_parse(&d, "f", "12345", 3));
	assert_int_equal(d.root->whole, 123);
}

static void test_inside(void **state)
{
	const struct doc_value *v = read_text("{\"c\": [1, [2, 3], 4],\n\"a\": {}, \"b\": 7}"), *c;
	static const char *const keys[] = {"c", "a", "b"};
	size_t n = 0;

	(void)state;
	for (c = doc_first(v); c; c = doc_next(v, c), n++) {
		assert_string_equal(c->key, keys[n]);
		assert_int_equal(c->place, n);
		assert_ptr_equal(doc_member(v, keys[n]), c);
	}
	assert_int_equal(n, 3);
	assert_int_equal(doc_member(v, "b")->line, 2);
	assert_null(doc_member(v, "d"));
	assert_null(doc_member(NULL, "a"));
	assert_null(doc_element(v, 0));
	assert_null(doc_first(doc_member(v, "a")));
	c = doc_member(v, "c");
	assert_int_equal(doc_count(c), 3);
	assert_int_equal(doc_element(doc_element(c, 1), 1)->whole, 3);
	assert_int_equal(doc_element(c, 2)->whole, 4);
	assert_null(doc_element(c, 3));
	assert_int_equal(doc_count(doc_element(c, 0)), 0);
}

/* Many keys, of which one is there twice: found, and in no time. */
static void test_many_members(void **state)
{
	enum { MANY = 300000 };
	char *text = malloc(MANY * 24 + 64), *p = text, key[16];

	(void)state;
	assert_non_null(text);
	p += sprintf(p, "{");
	for (int i = 0; i < MANY; i++)
		p += sprintf(p, "\"%d\":%d,\n", i, i);
	strcpy(p, "\"x\":0}");
	read_text(text);
	for (int i = 0; i < MANY; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_int_equal(doc_member(d.root, key)->whole, i);
	}
	strcpy(p, "\"12345\":0}");
	refused(text, strlen(text), "f:300001: the key \"12345\" stands twice");
	free(text);
}

static void faulted(const char *text, const struct doc_value *v, const char *key, const char *want)
{
	assert_int_equal(doc_fault(&d, v, key, "%s", text), TUTTI_EINVAL);
	assert_string_equal(fail_text(), want);
	d.rc = TUTTI_OK;
}

static void test_faults(void **state)
{
	const struct doc_value *v = read_text("{\"hosts\": [{\"name\": \"a\"},\n {\"name\":\n 5, \"none\": null}]}");
	const struct doc_value *hosts = doc_member(v, "hosts"), *second = doc_element(hosts, 1);
	static const int64_t seven = 7;

	(void)state;
	faulted("why", v, NULL, "f:1: why");
	faulted("why", hosts, NULL, "f:1: hosts: why");
	faulted("why", second, NULL, "f:2: hosts[1]: why");
	faulted("why", second, "name", "f:3: hosts[1].name: why");
	faulted("why", second, "gbit", "f:2: hosts[1].gbit: why");
	faulted("why", NULL, "hosts", "f:1: hosts: why");
	assert_string_equal(doc_text(&d, doc_element(hosts, 0), "name", NULL), "a");
	assert_string_equal(doc_text(&d, second, "none", "nobody"), "nobody");
	assert_int_equal(doc_int(&d, second, "none", 0, 9, &seven), 7);
	assert_int_equal(doc_int(&d, second, "name", 0, 9, NULL), 5);
	assert_ok(d.rc);
	/* the first fault stays, and nothing is there from then on */
	assert_string_equal(doc_text(&d, second, "name", NULL), "");
	assert_string_equal(fail_text(), "f:3: hosts[1].name: expected a text");
	assert_null(doc_array(&d, v, "hosts", 3, 3));
	assert_int_equal(doc_int(&d, second, "name", 1, 9, NULL), 1);
	assert_string_equal(fail_text(), "f:3: hosts[1].name: expected a text");
	d.rc = TUTTI_OK;
	assert_null(doc_array(&d, v, "hosts", 3, 4));
	assert_string_equal(fail_text(), "f:1: hosts: expected an array of 3 to 4");
}

static void test_files(void **state)
{
	FILE *f = tmpfile();

	(void)state;
	assert_non_null(f);
	for (int i = 0; i < 5000; i++)
		fprintf(f, "%s%d", i ? ", " : "[", i);
	fputs("]", f);
	rewind(f);
	doc_close(&d);
	assert_ok(doc_read(&d, "f", f));
	assert_int_equal(doc_element(d.root, 4999)->whole, 4999);
	fclose(f);
	f = fopen("/proc/self/mem", "r"); /* nothing is mapped at 0 */
	assert_non_null(f);
	doc_close(&d);
	assert_int_equal(doc_read(&d, "f", f), TUTTI_ESYSTEM);
	assert_null(d.root);
	fclose(f);
}

/* The application's decimal point does not affect the document. */
static void test_locale(void **state)
{
	static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "C"};
	char half[8];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !setlocale(LC_NUMERIC, names[i]); i++)
		;
	snprintf(half, sizeof(half), "%.1f", 0.5);
	assert_true(doc_real(read_text("-12.25e1")) == -122.5);
	refused("[1,5.]", 6, "f:1:4: expected a number");
	setlocale(LC_NUMERIC, "C");
}

static int end(void **state)
{
	(void)state;
	doc_close(&d);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_scalars), cmocka_unit_test(test_strings), cmocka_unit_test(test_refused),
	        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_inside),  cmocka_unit_test(test_many_members),
	        cmocka_unit_test(test_faults),  cmocka_unit_test(test_files),   cmocka_unit_test(test_locale),
	};

	return cmocka_run_group_tests(tests, NULL, end);
}
