/*
 * The contract of src/os/os.h, held against the file of this system: each test is a sentence of the header. What a system
 * may lack is skipped where it says that it lacks it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/os/os.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS   UINT64_C(1000000)
#define LONG (30000 * MS) /* longer than anything takes that works */

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void test_clock(void **state)
{
	uint64_t first = os_clock_ns(), last = first, least = UINT64_MAX;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t now = os_clock_ns();
		assert_true(now >= last);
		if (now > last && now - last < least)
			least = now - last;
		last = now;
	}
	assert_true(last > first);
	assert_true(least < 1000);
}

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

static void test_sleep_ends(void **state)
{
	_Atomic uint32_t word = 1;
	uint64_t begin = os_clock_ns();

	(void)state;
	os_sleep_on(&word, 2, LONG, OS_PROCESS); /* it holds another value */
	os_sleep_on(&word, 2, LONG, OS_HOST);
	assert_true(os_clock_ns() - begin < LONG);
	for (int reach = OS_PROCESS; reach <= OS_HOST; reach++) {
		begin = os_clock_ns();
		for (int i = 0; i < 1000 && os_clock_ns() - begin < 2 * MS; i++)
			os_sleep_on(&word, 1, 2 * MS, (enum os_reach)reach);
		assert_true(os_clock_ns() - begin >= 2 * MS); /* a sleep that always returns at once is none */
	}
	os_wake(&word, OS_PROCESS);
	os_wake(&word, OS_HOST);
}

struct turns {
	_Atomic uint32_t *word;
	enum os_reach reach;
	uint32_t me, n;
};

/* Two sides count up in turn, the one at even numbers, the other one at odd ones, and sleep until it is their turn. */
static void *take_turns(void *arg)
{
	struct turns *t = arg;

	for (uint32_t at; (at = atomic_load_explicit(t->word, memory_order_acquire)) < t->n;) {
		if (at % 2 != t->me) {
			os_sleep_on(t->word, at, LONG, t->reach);
			continue;
		}
		atomic_store_explicit(t->word, at + 1, memory_order_release);
		os_wake(t->word, t->reach);
	}
	return NULL;
}

static void test_no_wake_is_lost(void **state)
{
	_Atomic uint32_t word = 0;
	struct turns a = {&word, OS_PROCESS, 0, 5000}, b = {&word, OS_PROCESS, 1, 5000};
	uint64_t begin = os_clock_ns();
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, take_turns, &b), 0);
	take_turns(&a);
	pthread_join(thread, NULL);
	assert_true(os_clock_ns() - begin < LONG);
}

static void *sleep_until_set(void *arg)
{
	_Atomic uint32_t *word = arg;

	while (!atomic_load_explicit(word, memory_order_acquire))
		os_sleep_on(word, 0, LONG, OS_PROCESS);
	return NULL;
}

static void test_wakes_all(void **state)
{
	_Atomic uint32_t word = 0;
	pthread_t thread[8];
	uint64_t begin = os_clock_ns();

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleep_until_set, &word), 0);
	os_sleep_on(&word, 0, 20 * MS, OS_PROCESS);
	atomic_store_explicit(&word, 1, memory_order_release);
	os_wake(&word, OS_PROCESS);
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	assert_true(os_clock_ns() - begin < LONG);
}

static void test_preemptions(void **state)
{
	long before = os_preemptions();

	(void)state;
	assert_true(before >= 0);
	assert_true(os_preemptions() >= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_clock),           cmocka_unit_test(test_sleep_ends),
	        cmocka_unit_test(test_no_wake_is_lost), cmocka_unit_test(test_wakes_all),
	        cmocka_unit_test(test_preemptions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
