/* SPDX-License-Identifier: MIT */
/*
 * Many requests at once: what it takes to post them and to wait for them grows as their number does, and no faster. Counted
 * in instructions of the thread that does it, which a parent follows step by step, so that no load of the machine matters.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tutti.h"

#define MOST 65536

static struct tutti_request *req[MOST];
static float in[MOST], out[MOST];
static struct tutti_comm *comm[2]; /* both ranks are this thread's */

/* ---- what is counted --------------------------------------------------------------------------------------------- */

/* What goes before, and what is counted, with n requests. */
struct work {
	int (*before)(int n), (*counted)(int n);
};

static int post(int from, int n)
{
	int rc = TUTTI_OK;
	for (int i = from; i < n && !rc; i++)
		rc = tutti_recv(&out[i], 1, TUTTI_F32, 1, comm[0], &req[i]);
	return rc;
}

static int post_all_but_8(int n)
{
	return post(0, n - 8);
}

static int post_last_8(int n)
{
	return post(n - 8, n);
}

static int post_all(int n)
{
	return post(0, n);
}

static int look_often(int n)
{
	int done = 0, rc = TUTTI_OK;
	for (int i = 0; i < 16 && !rc && !done; i++)
		rc = tutti_test(&req[n - 1], &done);
	return rc ? rc : done;
}

/* To oneself: the only messages whose end does not depend on when another rank runs. */
static int group(int n)
{
	int rc = tutti_group_begin();
	for (int i = 0; i < n && !rc; i++)
		rc = tutti_recv(&out[i], 1, TUTTI_F32, 0, comm[0], NULL);
	for (int i = 0; i < n && !rc; i++) {
		in[i] = (float)i;
		rc = tutti_send(&in[i], 1, TUTTI_F32, 0, comm[0], NULL);
	}
	return rc;
}

static int end_group(int n)
{
	int rc = tutti_group_end();
	for (int i = 0; i < n && !rc; i++)
		rc = out[i] != (float)i;
	return rc;
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

static void traced(const struct work *work, int n)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(77);
	if (tutti_comm_create_threads(comm, 2, NULL) != TUTTI_OK || work->before(n) != TUTTI_OK)
		_exit(1);
	raise(SIGUSR1); /* from here */
	int rc = work->counted(n);
	raise(SIGUSR2); /* to here */
	_exit(rc != TUTTI_OK);
}

/* Instructions between the child's two signals; 0: it has failed. */
static long steps(const struct work *work, int n)
{
	long count = 0;
	int status;
	bool counting = false;
	pid_t child = fork();
	if (child == 0)
		traced(work, n);
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status);
		bool mark = sig == SIGUSR1 || sig == SIGUSR2;
		counting = sig == SIGUSR1 || (counting && !mark);
		count += counting;
		ptrace(counting ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL,
		       (void *)(intptr_t)(mark || sig == SIGTRAP ? 0 : sig));
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: this system lets no process be traced\n");
		skip();
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? count : 0;
}

/*
 * At most `times` as many instructions with `many` requests as with `few`, and half of that again. Reading the clock takes
 * more of them when it ticks meanwhile, as it does while each is a stop.
 */
static void compare(const struct work *work, int few, int many, int times)
{
	long a = steps(work, few), b = steps(work, many);
	print_message("%d requests: %ld instructions, %d requests: %ld\n", few, a, many, b);
	assert_true(a > 0 && b > 0);
	assert_true(2 * b < 3 * times * a);
}

static void posting_takes_as_long_with_many_open(void **state)
{
	(void)state;
	compare(&(struct work){post_all_but_8, post_last_8}, 64, MOST, 6);
}

static void a_look_takes_as_long_with_many_open(void **state)
{
	(void)state;
	compare(&(struct work){post_all, look_often}, 16, MOST, 6);
}

static void waiting_for_all_is_linear(void **state)
{
	(void)state;
	compare(&(struct work){group, end_group}, 8, 64, 8);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(posting_takes_as_long_with_many_open),
	        cmocka_unit_test(a_look_takes_as_long_with_many_open),
	        cmocka_unit_test(waiting_for_all_is_linear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
