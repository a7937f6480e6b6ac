/* SPDX-License-Identifier: MIT */
/* A crew does each byte of each job exactly once, and nothing of a job after it is done. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/engine/crew.h"

#define HELPERS 3
#define MOST    (1u << 20)

struct place {
	struct crew crew;
	pthread_t helper[HELPERS];
	_Atomic bool over;
	_Atomic int helped; /* slices that helpers took */
	uint8_t times[MOST];
};

static struct place place;

static void *help(void *unused)
{
	(void)unused;
	while (!atomic_load(&place.over))
		if (crew_help(&place.crew))
			(void)atomic_fetch_add(&place.helped, 1);
	return NULL;
}

static int assemble(void **state)
{
	(void)state;
	memset(&place, 0, sizeof(place));
	for (int i = 0; i < HELPERS; i++) {
		crew_enter(&place.crew);
		if (pthread_create(&place.helper[i], NULL, help, NULL) != 0)
			return -1;
	}
	crew_enter(&place.crew);
	return 0;
}

static int dismiss(void **state)
{
	(void)state;
	atomic_store(&place.over, true);
	for (int i = 0; i < HELPERS; i++)
		pthread_join(place.helper[i], NULL);
	return 0;
}

/* A plain increment: two threads at one byte would be seen by the thread sanitizer, and usually also by the sum. */
static void count_bytes(const void *job, size_t from, size_t end)
{
	uint8_t *times = *(uint8_t *const *)job;
	for (size_t i = from; i < end; i++)
		times[i]++;
}

static void each_byte_once(void **state)
{
	static const size_t sizes[] = {0,     1,        4096,  CREW_LEAST - 1, CREW_LEAST, CREW_LEAST + 1,
	                               65537, 3u << 16, 99999, MOST - 1,       MOST};
	uint8_t *times = place.times;
	(void)state;
	for (int round = 0; round < 200; round++) {
		size_t bytes = sizes[(size_t)round % (sizeof(sizes) / sizeof(*sizes))];
		memset(times, 0, MOST);
		crew_do(&place.crew, bytes, count_bytes, &times);
		for (size_t i = 0; i < MOST; i++)
			if (times[i] != (i < bytes))
				fail_msg("%zu bytes: byte %zu done %d times", bytes, i, times[i]);
	}
}

/* Helpers do take their part: waited for, so it says nothing of how fast. */
static void sleep_a_little(const void *job, size_t from, size_t end)
{
	(void)job;
	(void)from;
	(void)end;
	for (volatile int i = 0; i < 20000; i++)
		;
}

static void helpers_help(void **state)
{
	(void)state;
	for (int round = 0; round < 100000 && !atomic_load(&place.helped); round++)
		crew_do(&place.crew, MOST, sleep_a_little, NULL);
	assert_true(atomic_load(&place.helped) > 0);
}

static void copies(void **state)
{
	uint8_t *from = malloc(MOST), *to = malloc(MOST);
	(void)state;
	for (size_t i = 0; i < MOST; i++)
		from[i] = (uint8_t)(i * 2654435761u >> 13);
	for (size_t bytes = MOST - 5; bytes > 16; bytes = bytes * 2 / 3) {
		memset(to, 0xa5, MOST);
		crew_copy(&place.crew, to + 3, from + 1, bytes);
		assert_memory_equal(to + 3, from + 1, bytes);
		assert_true(to[2] == 0xa5 && to[bytes + 3] == 0xa5);
	}
	free(from);
	free(to);
}

static void alone_it_is_done_in_one_go(void **state)
{
	uint8_t *times = place.times;
	struct crew nobody = {0};
	(void)state;
	memset(times, 0, MOST);
	crew_do(NULL, MOST, count_bytes, &times);
	crew_do(&nobody, MOST, count_bytes, &times);
	for (size_t i = 0; i < MOST; i++)
		assert_int_equal(times[i], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(alone_it_is_done_in_one_go),
	        cmocka_unit_test_setup_teardown(each_byte_once, assemble, dismiss),
	        cmocka_unit_test_setup_teardown(helpers_help, assemble, dismiss),
	        cmocka_unit_test_setup_teardown(copies, assemble, dismiss),
	};
	return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
