/* SPDX-License-Identifier: MIT */
/* tutti-topo itself, alone and under tutti-run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char bin[PATH_MAX];

/* ---- the program ------------------------------------------------------------------------------------------------- */

static char output[1 << 20];

/*
 * Runs tutti-topo through a shell: after settings of the environment, under tutti-run with the options of `launch` unless
 * that is NULL. Its status; `output` gets what it says.
 */
static int shell(const char *environment, const char *launch, const char *arguments)
{
	char line[6 * PATH_MAX], launcher[3 * PATH_MAX] = "";
	if (launch)
		snprintf(launcher, sizeof(launcher), "%s/tutti-run %s", bin, launch);
	snprintf(line, sizeof(line), "%s timeout 180 %s %s/tutti-topo %s 2>&1", environment, launcher, bin, arguments);
	FILE *f = popen(line, "r");
	assert_non_null(f);
	size_t n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = '\0';
	int status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define assert_output(part) expect_output(part, __LINE__)

static void expect_output(const char *part, int line)
{
	if (strstr(output, part))
		return;
	print_error("no \"%s\" in: %s\n", part, output);
	_fail(__FILE__, line);
}

static json_t *json_output(void)
{
	json_error_t error;
	const char *text = strchr(output, '{'); /* before it: what is going on */
	json_t *o = text ? json_loads(text, 0, &error) : NULL;
	if (!text)
		print_error("no JSON: %s\n", output);
	else if (!o)
		print_error("%s at line %d of: %s\n", error.text, error.line, output);
	assert_non_null(o);
	assert_int_equal(json_integer_value(json_object_get(o, "format")), 1);
	return o;
}

static void test_alone(void **state)
{
	(void)state;
	assert_int_equal(shell("", NULL, ""), 0);
	assert_output("this process may use ");
	assert_null(strstr(output, "pairs"));
	assert_int_equal(shell("", NULL, "--json -"), 0);
	json_t *o = json_output(), *host = json_array_get(json_object_get(o, "hosts"), 0);
	assert_int_equal(json_integer_value(json_object_get(o, "size")), 1);
	assert_null(json_object_get(o, "transport"));
	assert_string_equal(json_string_value(json_object_get(json_object_get(host, "tree"), "type")), "host");
	assert_true(json_integer_value(json_object_get(host, "threads")) > 0);
	assert_true(json_array_size(json_object_get(host, "memory_GBps")) > 0);
	json_decref(o);
	assert_int_equal(shell("", NULL, "--no-measure --json -"), 0);
	o = json_output();
	assert_null(json_object_get(json_array_get(json_object_get(o, "hosts"), 0), "memory_GBps"));
	json_decref(o);
}

static void test_equal_siblings_are_one_line(void **state)
{
	(void)state;
	assert_int_equal(shell("HWLOC_SYNTHETIC='package:2 [numa(memory=16GiB)] l3:4(size=32MiB) l2:8(size=1MiB) "
	                       "core:1 pu:2'",
	                       NULL, ""),
	                 0);
	assert_output("  2 x package, memory 16 GiB\n    4 x L3 32 MiB\n      8 x L2 1 MiB, core, 2 x thread\n");
	assert_output("64 of 64 cores, 128 of 128 threads: 0-127");
	assert_output("not by the machine itself");
}

static void test_without_sys(void **state)
{
	(void)state;
	assert_int_equal(shell("HWLOC_FSROOT=/nonexistent", NULL, ""), 0);
	assert_output("/sys is missing");
	assert_output("hwloc lists no devices");
}

/* n * n cells: null to oneself, else a text or a number above 0. */
static void assert_matrix(json_t *rows, size_t n)
{
	assert_int_equal(json_array_size(rows), n);
	for (size_t i = 0; i < n; i++) {
		json_t *row = json_array_get(rows, i);
		assert_int_equal(json_array_size(row), n);
		for (size_t j = 0; j < n; j++) {
			json_t *cell = json_array_get(row, j);
			if (i == j)
				assert_true(json_is_null(cell));
			else
				assert_true(json_is_string(cell) || json_number_value(cell) > 0);
		}
	}
}

static double cell(json_t *rows, size_t i, size_t j)
{
	return json_number_value(json_array_get(json_array_get(rows, i), j));
}

static void test_all_pairs_are_measured(void **state)
{
	(void)state;
	assert_int_equal(shell("", "-n 3", "--json -"), 0);
	json_t *o = json_output(), *latency = json_object_get(o, "latency_us"), *ring = json_object_get(o, "ring");
	assert_matrix(json_object_get(o, "transport"), 3);
	assert_matrix(latency, 3);
	assert_matrix(json_object_get(o, "bandwidth_GBps"), 3);
	assert_true(cell(latency, 1, 2) == cell(latency, 2, 1));
	assert_int_equal(json_array_size(json_object_get(o, "ranks")), 3);
	assert_int_equal(json_array_size(json_object_get(ring, "order")), 3);
	assert_true(json_number_value(json_object_get(ring, "slowest_GBps")) > 0);
	assert_null(json_object_get(o, "at_once")); /* there is one pair at a time anyway */
	json_decref(o);
}

static void test_alone_and_at_once(void **state)
{
	static const char *const keys[] = {"latency_us", "latency_p99_us", "bandwidth_GBps", "bandwidth_p10_GBps"};
	(void)state;
	assert_int_equal(shell("", "-n 4", "--json -"), 0);
	json_t *o = json_output();
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_matrix(json_object_get(o, keys[i]), 4);
		assert_matrix(json_object_get(json_object_get(o, "at_once"), keys[i]), 4);
	}
	json_decref(o);
}

static bool is_in(const json_t *pairs, size_t i, size_t j)
{
	for (size_t k = 0; k < json_array_size(pairs); k++) {
		const json_t *p = json_array_get(pairs, k);
		if (json_integer_value(json_array_get(p, 0)) == (json_int_t)i &&
		    json_integer_value(json_array_get(p, 1)) == (json_int_t)j)
			return true;
	}
	return false;
}

/*
 * Twenty ranks on ten hosts, more than all meet: those that are 1, 2, 4, ... apart were measured at once, a few of each
 * class alone, and the others have figures that the measured ones of their hosts or class allow.
 */
static void test_some_stand_for_all(void **state)
{
	(void)state;
	assert_int_equal(
	        shell("", "-n 20 --bind none sh -c 'TUTTI_HOST=h$((TUTTI_RANK / 2)) exec \"$@\"' sh", "--json -"), 0);
	json_t *o = json_output(), *busy = json_object_get(o, "at_once"), *alone = json_object_get(o, "measured"),
	       *met = json_object_get(busy, "measured");
	assert_matrix(json_object_get(o, "latency_us"), 20);
	assert_matrix(json_object_get(o, "bandwidth_p10_GBps"), 20);
	assert_matrix(json_object_get(busy, "bandwidth_GBps"), 20);
	assert_matrix(json_object_get(busy, "latency_p99_us"), 20);
	for (size_t i = 0; i < 20; i++)
		for (size_t apart = 1; i + apart < 20; apart *= 2)
			assert_true(is_in(met, i, i + apart));
	assert_int_equal(json_array_size(json_object_get(o, "groups")), 10);
	/* inside a host, the first, one in the middle and the last; across hosts the first of all, at least */
	assert_true(is_in(alone, 0, 1) && is_in(alone, 8, 9) && is_in(alone, 18, 19));
	assert_in_range(json_array_size(alone), 4, 130);
	json_decref(o);
}

/* More ranks than are measured one pair at a time, and an odd one. */
static void test_pairs_at_once(void **state)
{
	(void)state;
	assert_int_equal(shell("TUTTI_TRANSPORT=tcp", "-n 9", "--json -"), 0);
	json_t *o = json_output(), *last = json_array_get(json_object_get(o, "transport"), 8);
	assert_matrix(json_object_get(o, "latency_us"), 9);
	assert_matrix(json_object_get(o, "bandwidth_GBps"), 9);
	assert_matrix(json_object_get(json_object_get(o, "at_once"), "bandwidth_GBps"), 9);
	assert_null(json_object_get(json_object_get(o, "at_once"), "measured"));
	assert_true(is_in(json_object_get(o, "measured"), 0, 1) && is_in(json_object_get(o, "measured"), 7, 8));
	assert_in_range(json_array_size(json_object_get(o, "measured")), 3, 3 + 8);
	assert_string_equal(json_string_value(json_array_get(last, 0)), "tcp");
	json_decref(o);
}

static void test_what_ranks_share(void **state)
{
	(void)state;
	assert_int_equal(shell("", "-n 3 --bind none", "--no-measure"), 0);
	assert_output("host 0, ");
	assert_output("ranks 0-2 on ");
	assert_output("cores are shared by ranks 0-2");
	assert_output("3 pairs");
	assert_null(strstr(output, "latency"));
	assert_int_equal(shell("TUTTI_TRANSPORT=tcp", "-n 2", "--no-measure"), 0);
	assert_output("no memory is shared");
	assert_output("one host, by tcp: 1 pair\n");
}

/* Ranks that say that they are on other hosts are: nothing but TCP goes between them. */
static void test_two_hosts(void **state)
{
	(void)state;
	/* sh gets the program and its options as words */
	assert_int_equal(
	        shell("", "-n 4 --bind none sh -c 'TUTTI_HOST=h$((TUTTI_RANK % 2)) exec \"$@\"' sh", "--no-measure"),
	        0);
	assert_output("host 1, ");
	assert_output("  built like host 0\n");
	assert_output(": ranks 1,3\n");
	assert_output("memory is shared by ranks 1,3\n");
	assert_output("across hosts, by tcp: 4 pairs\n");
	assert_output("shared memory, by shm: 2 pairs\n");
	assert_output("   1  tcp    -  tcp  shm\n");
}

static void test_lines_fit_with_many_ranks(void **state)
{
	(void)state;
	assert_int_equal(shell("", "-n 40 --bind none", "--no-measure"), 0);
	assert_output("780 pairs");
	for (const char *line = output; *line; line += strcspn(line, "\n"), line += *line == '\n')
		assert_true(strcspn(line, "\n") <= 120);
}

static void test_wrong_use(void **state)
{
	(void)state;
	assert_int_equal(shell("", NULL, "--no-such-option"), 2);
	assert_output("no such option: --no-such-option");
	assert_int_equal(shell("", NULL, "word"), 2);
	assert_output("unexpected word: word");
	assert_int_equal(shell("", NULL, "--json /nonexistent/file"), 1);
	assert_output("can't write /nonexistent/file: No such file");
}

static int find_programs(void **state)
{
	(void)state;
	ssize_t n = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
	if (n < 0)
		return -1;
	bin[n] = '\0';
	for (int up = 0; up < 3; up++)
		*strrchr(bin, '/') = '\0';
	strncat(bin, "/bin", sizeof(bin) - strlen(bin) - 1);
	return 0;
}

/* An argument is a pattern of names. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_alone),
	        cmocka_unit_test(test_equal_siblings_are_one_line),
	        cmocka_unit_test(test_without_sys),
	        cmocka_unit_test(test_all_pairs_are_measured),
	        cmocka_unit_test(test_alone_and_at_once),
	        cmocka_unit_test(test_pairs_at_once),
	        cmocka_unit_test(test_some_stand_for_all),
	        cmocka_unit_test(test_what_ranks_share),
	        cmocka_unit_test(test_two_hosts),
	        cmocka_unit_test(test_lines_fit_with_many_ranks),
	        cmocka_unit_test(test_wrong_use),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, find_programs, NULL);
}
