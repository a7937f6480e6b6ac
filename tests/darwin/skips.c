/* SPDX-License-Identifier: MIT */
/*
 * Which tests are not run over the imaginary Darwin. The variable DARWIN_SKIPS names a list, each line PROGRAM TEST WHY;
 * the linker leads every program's call of cmocka here (--wrap), so programs know nothing of it. A test that is left out is
 * told as skipped, with the reason; a line for a test that its program does not have is a failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown);

/* Takes the test out, * stands for all, and says why. False: there is none of that name. */
static bool take_out(struct CMUnitTest *tests, size_t *n, const char *name, const char *why)
{
	if (strcmp(name, "*") == 0) {
		while (*n)
			printf("[  SKIPPED ] %s: %s\n", tests[--*n].name, why);
		return true;
	}
	for (size_t i = 0; i < *n; i++)
		if (strcmp(tests[i].name, name) == 0) {
			printf("[  SKIPPED ] %s: %s\n", name, why);
			memmove(&tests[i], &tests[i + 1], (--*n - i) * sizeof(*tests));
			return true;
		}
	return false;
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                                   CMFixtureFunction teardown)
{
	const char *path = getenv("DARWIN_SKIPS");
	FILE *list = path ? fopen(path, "re") : NULL;
	struct CMUnitTest *left = malloc((n + 1) * sizeof(*left));
	char line[400], program[100], test[100], why[200];
	int unknown = 0, failed;

	if (!left || (path && !list)) {
		fprintf(stderr, "DARWIN_SKIPS: %s can't be read\n", path);
		return 1;
	}
	memcpy(left, tests, n * sizeof(*left));
	while (list && fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%99s %99s %199[^\n]", program, test, why) != 3 || line[0] == '#' ||
		    strcmp(program, program_invocation_short_name) != 0)
			continue;
		if (!take_out(left, &n, test, why))
			unknown +=
			        printf("[  ERROR   ] --- %s has a line for %s, which is not there\n", path, test) > 0;
	}
	if (list)
		fclose(list);
	fflush(stdout);
	failed = n ? __real__cmocka_run_group_tests(name, left, n, setup, teardown) : 0;
	free(left);
	return failed ? failed : unknown;
}
