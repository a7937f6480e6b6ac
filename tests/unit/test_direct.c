/* SPDX-License-Identifier: MIT */
/*
 * The direct tier by hand: two ranks of one process, each advanced when the test says so. Lent data is read in place,
 * data that can't be lent is copied, and revoked data never becomes a result.
 */
#include "../../src/direct/direct.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT  20000
#define BUFFER 4096

struct pair {
	struct segment *seg[2];
	struct direct *d[2];
	struct direct_call call[2];
	struct direct_run run[2];
	float in[2][COUNT], out[2][COUNT];
};

static void begin(struct pair *p, enum coll coll, bool two_shot)
{
	static const int local[2] = {0, 1};
	memset(p, 0, sizeof(*p));
	assert_int_equal(segment_create(&p->seg[0], 2, 7, NULL), TUTTI_OK);
	assert_int_equal(segment_share(&p->seg[1], p->seg[0], 1), TUTTI_OK);
	for (int r = 0; r < 2; r++) {
		assert_int_equal(direct_open(&p->d[r], p->seg[r], 1, local, 2, r, BUFFER), TUTTI_OK);
		for (int i = 0; i < COUNT; i++)
			p->in[r][i] = (float)(i + r);
		p->call[r] = (struct direct_call){.coll = coll,
		                                  .two_shot = two_shot,
		                                  .bytes = sizeof(p->in[0]),
		                                  .esize = sizeof(float),
		                                  .kernels = kernel_table(),
		                                  .two = kernel_table()->two[TUTTI_F32][TUTTI_SUM],
		                                  .many = kernel_table()->many[TUTTI_F32][TUTTI_SUM],
		                                  .dtype = TUTTI_F32,
		                                  .op = TUTTI_SUM};
		direct_cut(&p->call[r], 2, r, BUFFER);
		p->run[r] = direct_begin(&p->call[r], p->in[r], p->out[r], 5);
	}
	assert_int_equal(direct_ready(p->d[0]), TUTTI_OK);
	assert_int_equal(direct_ready(p->d[1]), TUTTI_OK);
}

static void end(struct pair *p)
{
	for (int r = 0; r < 2; r++) {
		direct_close(p->d[r]);
		segment_close(p->seg[r]);
	}
}

static enum advance go(struct pair *p, int rank)
{
	return direct_advance(p->d[rank], &p->run[rank]);
}

/* Until neither moves any more; at most as often as there can be something to do. */
static void go_both(struct pair *p)
{
	for (int i = 0; i < 1000; i++)
		(void)go(p, i % 2);
}

static void assert_summed(const struct pair *p, int rank)
{
	for (int i = 0; i < COUNT; i++)
		if (p->out[rank][i] != (float)(2 * i + 1))
			fail_msg("rank %d: element %d is %g", rank, i, (double)p->out[rank][i]);
}

static void lent_and_not(void **state)
{
	static struct pair p;
	(void)state;
	for (int two_shot = 0; two_shot < 2; two_shot++) {
		begin(&p, COLL_ALLREDUCE, two_shot);
		go_both(&p);
		for (int r = 0; r < 2; r++) {
			assert_int_equal(go(&p, r), ADVANCE_DONE);
			assert_true(p.run[r].lends_in);
			assert_int_equal(p.run[r].lends_out, two_shot);
			assert_summed(&p, r);
		}
		end(&p);
	}
}

/* A fold in one shot overwrites what others still have to read: in place, it is copied. */
static void in_place(void **state)
{
	static struct pair p;
	(void)state;
	for (int two_shot = 0; two_shot < 2; two_shot++) {
		begin(&p, COLL_ALLREDUCE, two_shot);
		for (int r = 0; r < 2; r++) {
			memcpy(p.out[r], p.in[r], sizeof(p.in[r]));
			p.run[r].in = p.run[r].out;
		}
		go_both(&p);
		for (int r = 0; r < 2; r++) {
			assert_int_equal(p.run[r].lends_in, two_shot);
			assert_summed(&p, r);
		}
		end(&p);
	}
}

/* The call does not end while the other rank may still read. */
static void lender_waits(void **state)
{
	static struct pair p;
	(void)state;
	begin(&p, COLL_ALLGATHER, false);
	for (int r = 0; r < 2; r++) {
		p.call[r].bytes = sizeof(float) * COUNT / 2;
		direct_cut(&p.call[r], 2, r, BUFFER);
	}
	(void)go(&p, 1);
	(void)go(&p, 0);
	for (int i = 0; i < 10 && p.run[1].finished < p.call[1].npieces; i++) {
		(void)go(&p, 1);
		if (p.run[0].finished < p.call[0].npieces)
			assert_int_not_equal(go(&p, 1), ADVANCE_DONE);
		(void)go(&p, 0);
	}
	go_both(&p);
	assert_int_equal(go(&p, 0), ADVANCE_DONE);
	assert_int_equal(go(&p, 1), ADVANCE_DONE);
	assert_memory_equal(p.out[0], p.out[1], sizeof(float) * COUNT);
	end(&p);
}

/* One rank's call fails after it has lent its memory: the other never reads it, and never sees an end. */
static void taken_back(void **state)
{
	static struct pair p;
	(void)state;
	for (int two_shot = 0; two_shot < 2; two_shot++)
		for (int pieces = 0; pieces < 3; pieces++) {
			begin(&p, COLL_ALLREDUCE, two_shot);
			for (int i = 0; i < pieces; i++) {
				(void)go(&p, 0);
				(void)go(&p, 1);
			}
			(void)go(&p, 0);
			direct_end(p.d[0], &p.run[0]);
			memset(p.in[0], 0x7f, sizeof(p.in[0])); /* the caller's again */
			size_t before = p.run[1].finished;
			for (int i = 0; i < 100; i++)
				assert_int_not_equal(go(&p, 1), ADVANCE_DONE);
			assert_int_equal(p.run[1].finished, before);
			end(&p);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(lent_and_not),
	        cmocka_unit_test(in_place),
	        cmocka_unit_test(lender_waits),
	        cmocka_unit_test(taken_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
