/* SPDX-License-Identifier: MIT */
/* Layouts: the pieces of a vector meet without gap or overlap, whatever the way it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/plan/layout.h"

static void shares_cover_the_whole(void **state)
{
	(void)state;
	for (size_t len = 0; len < 70; len++) {
		for (int n = 1; n <= 20; n++) {
			size_t at = 0;
			for (int b = 0; b < n; b++) {
				struct span s = span_share(len, n, b);
				assert_int_equal(s.at, at);
				assert_true(s.len == len / (size_t)n || s.len == len / (size_t)n + 1);
				at += s.len;
			}
			assert_int_equal(at, len);
		}
	}
}

static void shares_of_huge_vectors(void **state)
{
	(void)state;
	size_t len = SIZE_MAX / 2;
	struct span last = span_share(len, 1000, 999);
	assert_int_equal(last.at + last.len, len);
}

static void whole_vector(void **state)
{
	(void)state;
	struct layout l = {.nblocks = 8, .parts = 1, .out = {.kind = LAYOUT_WHOLE, .count = 5}};
	size_t at = 0;
	for (int b = 0; b < 8; b++) {
		struct span s = layout_span(&l, &l.out, b);
		assert_int_equal(s.at, at);
		assert_int_equal(s.len, b < 5);
		at += s.len;
	}
}

static void equal_parts(void **state)
{
	(void)state;
	struct layout l = {.nblocks = 12,
	                   .parts = 3,
	                   .in = {.kind = LAYOUT_OWN, .own = 2, .count = 10},
	                   .out = {.kind = LAYOUT_RANKS, .count = 10}};
	size_t at = 0;
	for (int b = 0; b < 12; b++) {
		struct span s = layout_span(&l, &l.out, b);
		assert_int_equal(s.at, at);
		at += s.len;
	}
	assert_int_equal(at, 40);
	for (int part = 0; part < 3; part++) {
		struct span out = layout_span(&l, &l.out, 6 + part), in = layout_span(&l, &l.in, 6 + part);
		assert_int_equal(in.at, out.at - 20);
		assert_int_equal(in.len, out.len);
	}
}

static void uneven_parts_with_places(void **state)
{
	(void)state;
	const size_t counts[] = {4, 0, 7}, displs[] = {20, 3, 5};
	struct layout l = {.nblocks = 6,
	                   .parts = 2,
	                   .out = {.kind = LAYOUT_RANKS, .counts = counts, .displs = displs},
	                   .in = {.kind = LAYOUT_OWN, .own = 2, .counts = counts}};
	for (int rank = 0; rank < 3; rank++) {
		struct span x = layout_span(&l, &l.out, 2 * rank), y = layout_span(&l, &l.out, 2 * rank + 1);
		assert_int_equal(x.at, counts[rank] ? displs[rank] : 0); /* of an empty part it does not count */
		assert_int_equal(x.at + x.len, y.at);
		assert_int_equal(x.len + y.len, counts[rank]);
	}
	assert_int_equal(layout_span(&l, &l.in, 4).at, 0);
	assert_int_equal(layout_span(&l, &l.in, 5).at, 4);
	assert_int_equal(layout_span(&l, &l.in, 5).len, 3);
}

static void chunks_cover_a_block(void **state)
{
	(void)state;
	for (size_t len = 0; len < 40; len++) {
		for (size_t chunk = 1; chunk < 12; chunk++) {
			size_t sum = 0, c = 0;
			for (; chunk_len(len, chunk, c); c++) {
				assert_true(chunk_len(len, chunk, c) <= chunk);
				sum += chunk_len(len, chunk, c);
			}
			assert_int_equal(sum, len);
			assert_int_equal(chunk_len(len, chunk, c + 5), 0);
		}
	}
}

static void block_sets_wrap(void **state)
{
	(void)state;
	struct plan p = {.nblocks = 7};
	assert_int_equal(block_at(&p, blocks(5, 1, 4), 1), 6);
	assert_int_equal(block_at(&p, blocks(5, 1, 4), 3), 1);
	assert_int_equal(block_at(&p, blocks(1, -2, 3), 2), 4);
	assert_int_equal(block_at(&p, blocks(6, 4, 3), 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(shares_cover_the_whole),
	        cmocka_unit_test(shares_of_huge_vectors),
	        cmocka_unit_test(whole_vector),
	        cmocka_unit_test(equal_parts),
	        cmocka_unit_test(uneven_parts_with_places),
	        cmocka_unit_test(chunks_cover_a_block),
	        cmocka_unit_test(block_sets_wrap),
	};
	return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
